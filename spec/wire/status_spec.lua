local await = require("spec.support.await")
local fake = require("spec.support.fake")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

-- /body waits, in two tasks, for the content of its request; all else is answered at once.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app { watchdog = 20 }
app:get("/", function() return "hello" end)
app:get("/fails", function() error("on purpose") end)
app:post("/body", function(req)
  return select(2, moonquay.spawn(function() return req.body:read("a") end):join())
end)
return app]]

-- The command, beside the server s unless there is none.
local function status(s, ...)
  local args = table.pack("status", ...)
  args.env = s and { XDG_RUNTIME_DIR = s.runtime_dir }
  return server.run(args)
end

local function answer(s)
  local result = status(s, "--json", tostring(s.pid))
  assert.equal(0, result.status, result.stderr)
  assert.equal("", result.stderr)
  assert.truthy(result.stdout:find("^{[^\n]*}\n$"), result.stdout)
  return (assert(json.decode(result.stdout)))
end

-- The answer once check says that it is there: what connections do is seen a moment later.
local function answer_with(s, what, check)
  return await(what, function()
    local state = answer(s)
    return check(state) and state
  end)
end

local function refused(result, code, ...)
  assert.equal(code, result.status, result.stderr)
  assert.equal("", result.stdout)
  assert.truthy(result.stderr:find("^moonquay: [^\n]+\n$"), result.stderr)
  for _, part in ipairs({ ... }) do
    assert.truthy(result.stderr:find(part, 1, true), result.stderr)
  end
end

local function hold_request(s)
  local connection = s:connect()
  connection:send("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
  return connection
end

describe("moonquay status --json", function()
  after_each(server.stop_all)

  it("tells who serves, the settings in force, and the workers", function()
    local s = server.start({
      app = APP,
      options = { "--workers", "2", "--set", "drain=7.5", "--error-log-format", "json" },
    })
    local state = answer(s)
    assert.equal(s.pid, state.pid)
    assert.equal("serving", state.state)
    assert.equal("integer", math.type(state.uptime_seconds))
    assert.equal("moonquay " .. state.version .. "\n", server.run({ "version" }).stdout)

    local settings = state.settings
    assert.equal("7.5", settings.drain) -- the command line
    assert.equal("20", settings.watchdog) -- the app
    assert.equal("json", settings.error_log_format)
    assert.equal("2", settings.workers)
    assert.equal("http://127.0.0.1:0", settings.urls)
    assert.equal("false", settings.development)

    assert.equal(1, #state.apps)
    local app = state.apps[1]
    assert.equal("serving", app.state)
    assert.truthy(app.name:find("/app%.lua$"))
    assert.same({ "http://127.0.0.1:" .. s.port .. "/" }, { table.unpack(app.addresses) })
    assert.equal(0, app.connections)
    assert.equal(0, app.running)

    local pids = {}
    for index, worker in ipairs(state.workers) do
      assert.equal(index - 1, worker.slot)
      assert.equal("serving", worker.state)
      assert.equal(0, worker.requests)
      assert.equal(0, worker.restarts)
      assert.is_true(worker.lua_bytes > 10000)
      pids[index] = worker.pid
    end
    table.sort(pids)
    assert.same(s:workers(), pids)
    assert.equal(0, s:stop())
  end)

  it("counts what has happened and what goes on", function()
    local s = server.start({ app = APP, options = { "--workers", "2" } })
    for name, count in pairs(answer(s).counters) do
      assert.equal(0, count, name)
    end
    for _ = 1, 3 do
      s:get("/")
    end
    s:get("/fails")
    local bad = s:connect()
    bad:send("GET / HTTP/1.1\r\n\r\n")
    bad:rest()
    bad:close()
    local held = hold_request(s)
    local state = answer_with(s, "a running request alone", function(seen)
      return seen.apps[1].connections == 1 and seen.apps[1].running == 1
    end)
    assert.equal(6, state.counters.connections)
    assert.equal(5, state.counters.requests) -- the refused one did not become one
    assert.equal(1, state.counters.refused)
    assert.equal(1, state.counters.handler_errors)
    local first, second = table.unpack(state.workers)
    assert.equal(1, first.requests + second.requests)
    assert.equal(1, first.connections + second.connections)
    assert.equal(2, first.tasks + second.tasks)

    held:close()
    state = answer_with(s, "no request", function(seen)
      return seen.apps[1].connections == 0 and seen.apps[1].running == 0
    end)
    assert.equal(5, state.counters.requests)
    assert.equal(1, state.counters.cancelled)
    assert.equal(0, s:stop())
  end)

  it("shows that a worker was replaced", function()
    local s = server.start({ app = APP, options = { "--workers", "2" } })
    local victim = answer(s).workers[2].pid
    assert(sys.kill(victim, "KILL"))
    local state = answer_with(s, "the successor", function(seen)
      return seen.workers[2].restarts == 1 and seen.workers[2].state == "serving"
    end)
    assert.not_equal(victim, state.workers[2].pid)
    assert.equal(0, state.workers[1].restarts)
    assert.equal(1, state.counters.restarts)
    assert.equal(0, s:stop())
  end)

  it("shows a start that is not over", function()
    local dir = temp.dir()
    local s = server.start({
      ready = false,
      options = { "--workers", "2" },
      -- All but the first worker to load it wait for a file.
      app = ([[
        local moonquay, dir = require("moonquay"), %q
        if io.open(dir .. "/first") then
          while not io.open(dir .. "/go") do moonquay.sleep(0.01) end
        end
        assert(io.open(dir .. "/first", "w")):close()
        return function() return "hello" end]]):format(dir.path),
    })
    await("the control socket", function()
      return status(s, tostring(s.pid)).status == 0
    end)
    local state = answer(s)
    assert.equal("starting", state.state)
    assert.equal("loading", state.workers[2].state)
    dir:write("go", "")
    answer_with(s, "the end of the start", function(seen)
      return seen.state == "serving" and seen.workers[2].state == "serving"
    end)
    assert.equal(0, s:stop())
    dir:remove()
  end)

  it("shows a stop that waits for a request", function()
    local s = server.start({ app = APP })
    local held = hold_request(s)
    answer_with(s, "a running request", function(seen)
      return seen.apps[1].running == 1
    end)
    s:signal("TERM")
    local state = answer_with(s, "the stop", function(seen)
      return seen.state == "stopping"
    end)
    assert.equal(1, state.apps[1].running)
    held:send("last")
    assert.equal("last", held:response().body)
    assert.equal(0, s:wait(10).exit)
    assert.equal(0, s:stop())
  end)
end)

describe("moonquay status for people", function()
  after_each(server.stop_all)

  it("has the server, its app, its workers and its counters", function()
    local s = server.start({ app = APP, options = { "--workers", "2" } })
    for _ = 1, 7 do
      s:get("/")
    end
    local held = hold_request(s)
    answer_with(s, "a running request alone", function(seen)
      return seen.apps[1].connections == 1 and seen.apps[1].running == 1
    end)
    local result = status(s)
    assert.equal(0, result.status, result.stderr)
    local first, second = table.unpack(s:workers())
    for _, part in ipairs({
      "^moonquay [%d.]+, pid " .. s.pid .. ", serving, up %d+ s\n",
      "\napp /[^\n]*/app%.lua: serving\n",
      "\n  addresses    http://127%.0%.0%.1:" .. s.port .. "/\n",
      "\n  connections  1\n",
      "\n  requests     1 running, 0 queued %(0 bytes%)\n",
      "\nWORKER +PID +STATE +CONNECTIONS +REQUESTS +TASKS +LUA BYTES +RESTARTS\n",
      "\n +[01] +" .. first .. "  serving +[01] +[01] +%d+ +%d+ +0\n",
      "\n +[01] +" .. second .. "  serving +[01] +[01] +%d+ +%d+ +0\n",
      "\ncounters\n",
      "\n +8  requests\n",
      "\n +0  refused\n",
    }) do
      assert.truthy(result.stdout:find(part), part .. " is not in:\n" .. result.stdout)
    end
    held:close()
    assert.equal(0, s:stop())
  end)
end)

-- A program that is no server of ours: answers the first client with a text, or never, or without
-- an end.
local FAKE = [[
local listening = require("socket.unix").stream()
local path, text = ...
assert(listening:bind(path) and listening:listen(1))
io.stdout:write("ready\n")
io.stdout:flush()
local client = assert(listening:accept())
assert(client:receive("*l") == "status")
if text == "never" then
  client:receive("*l")
end
while text == "drip" and client:send(" ") do
  client:settimeout(0.1)
  client:receive("*l")
end
client:send(text)
client:close()]]

describe("moonquay status, of an answer", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    dir:remove()
  end)

  -- The command's result, asked of a fake that says text.
  local function told(text, ...)
    local path = dir.path .. "/fake.sock"
    finally(fake.start({ "lua5.4", dir:write("fake.lua", FAKE), path, text }))
    return server.run({ "status", "--socket", path, ... })
  end

  it("prints it as it is with --json", function()
    local text = '{ "a" : [1,2] , "more": "\\u001b" }'
    local result = told(text, "--json")
    assert.equal(0, result.status, result.stderr)
    assert.equal(text, result.stdout)
  end)

  it("shows queued requests, and those reasons that have occurred", function()
    local result = told([[{"version":"9","pid":1,"state":"serving","uptime_seconds":90061,
      "apps":[{"name":"a","state":"serving","addresses":["http://a","http://b"],"connections":4,
               "running":5,"queued":6,"queued_bytes":70},
              {"name":"b","state":"loading","addresses":[]}],
      "reasons":{"QueueFull":3,"ConnLimit":0}}]])
    assert.equal(0, result.status, result.stderr)
    for _, part in ipairs({
      "moonquay 9, pid 1, serving, up 1 d 1 h\n",
      "app a: serving\n",
      "addresses    http://a, http://b\n",
      "5 running, 6 queued (70 bytes)\n",
      "app b: loading\n",
      "reasons\n             3  QueueFull\n",
    }) do
      assert.truthy(result.stdout:find(part, 1, true), result.stdout)
    end
    assert.is_nil(result.stdout:find("ConnLimit", 1, true))
  end)

  local uptimes = {
    { 59, "59 s" }, { 61, "1 min 1 s" }, { 7320, "2 h 2 min" }, { 86400, "1 d 0 h" },
  }
  for _, case in ipairs(uptimes) do
    it(("calls %d seconds %s"):format(case[1], case[2]), function()
      local result = told(('{"uptime_seconds":%d}'):format(case[1]))
      assert.equal(0, result.status, result.stderr)
      assert.truthy(result.stdout:find(", up " .. case[2] .. "\n", 1, true), result.stdout)
    end)
  end

  it("lets no control reach the terminal", function()
    local result = told([[{"apps":[{"name":"a\u001b[2Jb\u009bc\u007fd\u00e9"}],
      "counters":{"x\ny":1}}]])
    assert.truthy(result.stdout:find("app a?[2Jb?c?d\u{e9}: -\n", 1, true), result.stdout)
    assert.truthy(result.stdout:find("1  x?y\n", 1, true), result.stdout)
  end)

  local wrong = {
    { "none", "", 69, "gives no answer" },
    { "half of one", '{"version":"9","apps":[', 70, "no JSON" },
    { "none in time", "never", 69, "does not answer within 5 s", slow = true },
    { "no end of it in time", "drip", 69, "does not answer within 5 s", slow = true },
  }
  for _, case in ipairs(wrong) do
    for _, words in ipairs(case.slow and { {} } or { {}, { "--json" } }) do
      it(("fails when there is %s (%s)"):format(case[1], words[1] or "table"), function()
        refused(told(case[2], words[1]), case[3], case[4])
      end)
    end
  end

  it("fails when it cannot print it", function()
    local s = server.start({ app = APP })
    local result = server.run({
      wrap = { "sh", "-c", 'exec "$@" >/dev/full', "sh" },
      env = { XDG_RUNTIME_DIR = s.runtime_dir },
      "status", tostring(s.pid),
    })
    refused(result, 70, "cannot print the answer: No space left on device")
    assert.equal(0, s:stop())
  end)
end)

describe("moonquay status looks for a server", function()
  local shared
  before_each(function()
    shared = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    shared:remove()
  end)

  local function start()
    return server.start({ app = APP, env = { XDG_RUNTIME_DIR = shared.path } })
  end

  it("and ends with 69 when there is none", function()
    local wrap
    if sys.geteuid() == 0 then -- a user who has no server, whatever runs on this machine
      local user = tostring(100000 + sys.getpid())
      wrap = { "setpriv", "--reuid", user, "--regid", user, "--clear-groups" }
    end
    sys.chmod(shared.path, "0755")
    assert(os.execute(("cp %s %s/moonquay"):format(server.executable, shared.path)))
    for _, words in ipairs({ { "status" }, { "status", "--json" } }) do
      words.wrap, words.executable = wrap, shared.path .. "/moonquay"
      refused(server.run(words), 69, "no server of this user runs")
    end
  end)

  it("and takes the only one", function()
    local s = start()
    local result = status(s, "--json")
    assert.equal(0, result.status, result.stderr)
    assert.equal(s.pid, json.decode(result.stdout).pid)
    assert.equal(0, s:stop())
  end)

  it("and ends with 64 and their process ids when there are two", function()
    local one, two = start(), start()
    refused(status(one), 64, "several servers run", " " .. one.pid, " " .. two.pid)
    assert.equal(one.pid, answer(one).pid)
    assert.equal(two.pid, answer(two).pid)
    assert.equal(0, one:stop())
    local result = status(two, "--json")
    assert.equal(two.pid, json.decode(result.stdout).pid)
    assert.equal(0, two:stop())
  end)

  it("and passes over what dead ones left", function()
    local dead = start()
    dead:signal("KILL")
    dead:wait(10)
    local path = ("%s/moonquay/%d.sock"):format(shared.path, dead.pid)
    assert.equal(1, #sys.list(shared.path .. "/moonquay"))
    refused(status(dead, tostring(dead.pid)), 69, "process id " .. dead.pid)
    refused(status(dead, "--socket", path), 69, "no server at " .. path, "Connection refused")
    local s = start()
    assert.equal(s.pid, json.decode(status(s, "--json").stdout).pid)
    assert.equal(0, s:stop())
  end)

  it("behind the socket that is named", function()
    local s = start()
    local path = ("%s/moonquay/%d.sock"):format(shared.path, s.pid)
    for _, words in ipairs({ { "--socket", path }, { "--socket=" .. path } }) do
      local result = status(nil, "--json", table.unpack(words))
      assert.equal(0, result.status, result.stderr)
      assert.equal(s.pid, json.decode(result.stdout).pid)
    end
    assert.equal(0, s:stop())
    refused(status(nil, "--socket", path), 69, path, "No such file")
    refused(status(nil, "--socket", ("/x"):rep(60)), 69, "File name too long")
  end)

  local usage = {
    { { "1x" }, "no process id: 1x" },
    { { "0" }, "no process id: 0" },
    { { "" }, "no process id: " },
    { { "99999999999999999999" }, "no process id: 9999" },
    { { "1", "2" }, "one process id only, what is this: 2" },
    { { "--nonsense" }, "no such option: --nonsense" },
    { { "--socket" }, "wants a value: --socket" },
    { { "--socket=" }, "wants a value: --socket" },
    { { "--socket", "/x", "1" }, "not both" },
  }
  for _, case in ipairs(usage) do
    it(("and refuses the words %q"):format(table.concat(case[1], " ")), function()
      refused(status(nil, table.unpack(case[1])), 64, case[2], "moonquay status [--json]")
    end)
  end
end)
