local await = require("spec.support.await")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

-- Answers with the worker's process id; /_exit, /abort and /pause call that function of C.
local APP = [[
return function(req)
  local name = req.path:sub(2)
  if name ~= "" then
    package.loadlib("libc.so.6", name)()
  end
  local file <close> = io.open("/proc/self/stat")
  return file:read("n") .. ""
end]]

-- The sanitizer leaves deadly signals to the system here: they are what is tested.
local DEADLY = "handle_segv=0:handle_abort=0:exitcode=99"

local function start(...)
  return server.start({ app = APP, options = { ... }, env = { ASAN_OPTIONS = DEADLY } })
end

local function pid_of(s)
  local response = s:get("/")
  assert.equal(200, response.status)
  return tonumber(response.body)
end

local function has(list, value)
  for _, item in ipairs(list) do
    if item == value then
      return true
    end
  end
  return false
end

-- Asks for a path and gives up the answer: its worker will not live to send it.
local function ask(s, path)
  local connection = s:connect()
  connection:send("GET " .. path .. " HTTP/1.1\r\nHost: test\r\n\r\n")
  return connection
end

describe("a worker that is killed", function()
  after_each(server.stop_all)

  for _, signal in ipairs({ "KILL", "SEGV" }) do
    it(("by SIG%s is told of and replaced, and clients notice little"):format(signal), function()
      local s = start("--workers", "2")
      local victim = s:workers()[1]
      local broken, killed = 0, false
      for i = 1, 200 do
        if i == 50 then
          assert(sys.kill(victim, signal))
          killed = true
        end
        -- Only the one connection that the dead worker had may break.
        local ok = pcall(s.get, s, "/")
        broken = broken + (ok and 0 or 1)
      end
      assert.is_true(killed)
      assert.is_true(broken <= 1, broken .. " connections broke")
      local slot, pid = s:await("worker_died process=master slot=(%d) pid=(%d+) signal=SIG"
        .. signal .. " lived_ms=%d+ restart_in_ms=0")
      assert.equal(victim, tonumber(pid))
      assert.truthy(slot == "0" or slot == "1")
      await("two workers again", function()
        local workers = s:workers()
        return #workers == 2 and not has(workers, victim)
      end)
      assert.equal(0, s:stop())
    end)
  end

  it("leaves the connections that wait for it to its successor", function()
    local s = start()
    local victim = pid_of(s)
    assert(sys.kill(victim, "KILL"))
    -- There may be no worker now: the socket is the master's.
    local pid = pid_of(s)
    assert.not_equal(victim, pid)
    assert.equal(0, s:stop())
  end)

  it("is told of with its status when C code has ended it", function()
    local s = start("--workers", "2")
    ask(s, "/_exit"):rest()
    s:await("worker_died process=master slot=%d pid=%d+ status=%d+ ")
    assert.truthy(pid_of(s))
    assert.equal(0, s:stop())
  end)

  it("is told of with the signal when C code has aborted", function()
    local s = start("--workers", "2")
    ask(s, "/abort"):rest()
    s:await("worker_died process=master slot=%d pid=%d+ signal=SIGABRT ")
    assert.truthy(pid_of(s))
    assert.equal(0, s:stop())
  end)

  it("is replaced with growing pauses when that happens again and again", function()
    local s = start()
    for _, pause in ipairs({ 0, 100, 200, 400 }) do
      local victim = pid_of(s)
      assert(sys.kill(victim, "KILL"))
      s:await(("pid=%d signal=SIGKILL lived_ms=%%d+ restart_in_ms=%d\n"):format(victim, pause))
    end
    assert.equal(0, s:stop())
  end)
end)

describe("a worker that lived for ten seconds", function()
  after_each(server.stop_all)

  it("ends a row of early deaths", function()
    local s = start()
    for _, pause in ipairs({ 0, 100 }) do
      local victim = pid_of(s)
      assert(sys.kill(victim, "KILL"))
      s:await(("pid=%d signal=SIGKILL lived_ms=%%d+ restart_in_ms=%d\n"):format(victim, pause))
    end
    local victim, born = pid_of(s), sys.monotonic()
    await("ten seconds of life", function()
      return sys.monotonic() - born > 10.1
    end, 20)
    assert(sys.kill(victim, "KILL"))
    local lived = s:await(("pid=%d signal=SIGKILL lived_ms=(%%d+) restart_in_ms=0\n")
      :format(victim))
    assert.is_true(tonumber(lived) >= 10000)
    assert.equal(0, s:stop())
  end)
end)

describe("a slot whose worker cannot start", function()
  local dir = temp.dir()
  after_each(server.stop_all)
  teardown(function()
    dir:remove()
  end)

  it("is served by another one until it can", function()
    local flag = dir.path .. "/broken"
    local s = server.start({
      app = ("if io.open(%q) then error('broken on purpose') end\n"):format(flag) .. APP,
      options = { "--workers", "2" },
    })
    dir:write("broken", "")
    local victim, survivor = table.unpack(s:workers())
    local function descriptors()
      return #sys.list(("/proc/%d/fd"):format(survivor))
    end
    local before = descriptors()
    assert(sys.kill(victim, "KILL"))
    s:await("worker_failed process=master[^\n]*broken on purpose")
    for _ = 1, 40 do
      assert.equal(survivor, pid_of(s))
    end
    os.remove(flag)
    local successor = await("a successor that serves", function()
      local pid = pid_of(s)
      return pid ~= survivor and pid
    end, 20)
    assert.not_equal(victim, successor)
    await("the return of the socket that was lent", function()
      return descriptors() == before
    end)
    assert.equal(0, s:stop())
  end)

  it("is lent once more when the one that serves it dies too", function()
    local flag = dir.path .. "/broken"
    local s = server.start({
      app = ("if io.open(%q) then error('broken on purpose') end\n"):format(flag) .. APP,
      options = { "--workers", "3" },
    })
    dir:write("broken", "")
    local first, second, survivor = table.unpack(s:workers())
    assert(sys.kill(first, "KILL"))
    s:await("pid=" .. first .. " signal=SIGKILL")
    assert(sys.kill(second, "KILL"))
    s:await("pid=" .. second .. " signal=SIGKILL")
    for _ = 1, 40 do
      assert.equal(survivor, pid_of(s))
    end
    os.remove(flag)
    assert.equal(0, s:stop())
  end)
end)

describe("the watchdog", function()
  after_each(server.stop_all)

  local stuck = {
    { "waits in C", "/pause" },
    { "computes in C", "/spin",
      app = [[return function(req)
        if req.path == "/spin" then string.find(("a"):rep(64), ("a*"):rep(64) .. "b") end
        return io.open("/proc/self/stat"):read("n") .. ""
      end]] },
  }
  for _, case in ipairs(stuck) do
    it(("replaces a worker that %s and never returns"):format(case[1]), function()
      local s = server.start({
        app = case.app or APP,
        options = { "--workers", "2", "--set", "watchdog=0.5" },
      })
      local connection = ask(s, case[2])
      local pid, silent, requests = s:await("worker_stuck process=master message=[^\n]+ slot=%d "
        .. "pid=(%d+) silent_ms=(%d+) requests=(%d+)")
      assert.is_true(tonumber(silent) >= 500)
      assert.equal("1", requests)
      s:await("worker_died process=master slot=%d pid=" .. pid .. " signal=SIGKILL")
      connection:rest()
      assert.not_equal(tonumber(pid), pid_of(s))
      assert.equal(0, s:stop())
    end)
  end

  it("forgives silence while the master was stopped too", function()
    local s = start("--workers", "2", "--set", "watchdog=2")
    local workers = s:workers()
    assert(sys.kill(-s.pid, "STOP"))
    local stopped = sys.monotonic()
    await("a silence that is too long", function()
      return sys.monotonic() - stopped > 2.1
    end)
    -- The master looks while its workers cannot give a sign of life yet.
    s:signal("HUP")
    s:signal("CONT")
    s:await("hup_ignored")
    assert(sys.kill(-s.pid, "CONT"))
    assert.truthy(has(workers, pid_of(s)))
    assert.same(workers, s:workers())
    assert.equal(0, s:stop())
    assert.is_nil(s:stderr():find("worker_stuck", 1, true))
  end)

  it("leaves alone a worker that only waits", function()
    local s = server.start({
      app = [[local moonquay = require("moonquay")
        return function(req)
          moonquay.sleep(1.5)
          return io.open("/proc/self/stat"):read("n") .. ""
        end]],
      options = { "--set", "watchdog=0.5" },
    })
    assert.equal(s:workers()[1], pid_of(s))
    assert.is_nil(s:stderr():find("worker_stuck", 1, true))
    assert.equal(0, s:stop())
  end)

  it("leaves alone a worker whose app waits while it loads", function()
    local s = server.start({
      app = 'require("moonquay").sleep(1.2)\n' .. APP,
      options = { "--set", "watchdog=0.5" },
    })
    assert.truthy(pid_of(s))
    assert.equal(0, s:stop())
  end)
end)

describe("a worker", function()
  after_each(server.stop_all)

  it("ends with its master, also when it is stuck", function()
    local s = start("--workers", "2")
    local workers = s:workers()
    ask(s, "/pause")
    sys.kill(s.pid, "KILL")
    assert.same({ signal = "SIGKILL" }, s:wait(5))
    await("the end of both workers", function()
      return not sys.alive(workers[1]) and not sys.alive(workers[2])
    end)
  end)

  it("leaves signals that are sent to the whole group to its master", function()
    local s = start()
    local worker = pid_of(s)
    for _, signal in ipairs({ "INT", "TERM", "HUP", "USR1", "PIPE" }) do
      assert(sys.kill(worker, signal))
    end
    assert.equal(worker, pid_of(s))
    assert.equal(0, s:stop())
  end)

  it("gives the programs that it starts default signals and no descriptors", function()
    local s = server.start({ app = [[return function()
      local pipe = io.popen("grep SigIgn /proc/self/status; ls /proc/self/fd | tr '\n' ' '")
      return pipe:read("a")
    end]] })
    local body = s:get("/").body
    local ignored, fds = body:match("SigIgn:%s+(%x+)\n([%d ]+)$")
    assert.equal(0, tonumber(ignored, 16) & 0x7fffffff) -- above are the C library's own
    assert.equal("0 1 2 3 ", fds) -- 3 is the directory that ls reads
    assert.equal(0, s:stop())
  end)

  it("waits and serves on when descriptors run out", function()
    local s = server.start({ app = APP, wrap = { "prlimit", "--nofile=90:90" } })
    local connections = {}
    for i = 1, 120 do
      connections[i] = s:connect()
    end
    s:await("error accept_failed process=worker%-0 message=[^\n]*Too many open files")
    for _, connection in ipairs(connections) do
      connection:close()
    end
    assert.truthy(pid_of(s))
    assert.equal(1, select(2, s:stderr():gsub("accept_failed", "")))
    assert.equal(0, s:stop())
  end)
end)
