local await = require("spec.support.await")
local client = require("spec.support.client")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

-- /slow sends "a" at once and "b" some time later; /endless never ends.
local APP = [[
local moonquay = require("moonquay")
return function(req, res)
  if req.path == "/slow" or req.path == "/endless" then
    res:write("a")
    res:flush()
    moonquay.sleep(req.path == "/slow" and 0.4 or 3600)
    res:write("b")
  elseif req.path == "/block" then
    moonquay.log.info("blocked")
    io.popen("sleep 0.3"):close()
    return "blocked"
  elseif req.path == "/exit" then
    os.exit(0)
  else
    return "fast"
  end
end]]

-- A connection on which the handler of path is known to run.
local function begin(s, path)
  local connection = s:connect()
  connection:send("GET " .. path .. " HTTP/1.1\r\nHost: test\r\n\r\n")
  local head = connection:read_until("1\r\na\r\n")
  assert.truthy(head:find("^HTTP/1.1 200 "))
  return connection
end

describe("a stop", function()
  after_each(server.stop_all)

  for _, signal in ipairs({ "TERM", "INT" }) do
    it(("by SIG%s finishes running requests and ends with 0"):format(signal), function()
      local s = server.start({ app = APP, options = { "--workers", "2" } })
      local first, second = begin(s, "/slow"), begin(s, "/slow")
      s:signal(signal)
      assert.equal("1\r\nb\r\n0\r\n\r\n", first:rest())
      assert.equal("1\r\nb\r\n0\r\n\r\n", second:rest())
      assert.same({ exit = 0 }, s:wait(5))
      s:stop()
    end)
  end

  it("closes idle connections", function()
    local s = server.start({ app = APP })
    local idle = s:connect()
    assert.equal("fast", idle:get("/").body)
    s:signal("TERM")
    assert.is_true(idle:closed())
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("takes no new connections while requests still run", function()
    local s = server.start({ app = APP })
    local running = begin(s, "/endless")
    s:signal("TERM")
    await("a refused connection", function()
      local ok, connection = pcall(client.connect, s.host, s.port)
      if ok then
        connection:close()
      end
      return not ok
    end)
    assert.is_false(running:readable(0))
    assert.truthy(sys.alive(s.pid))
    s:kill()
  end)

  it("answers what was sent before it", function()
    local s = server.start({ app = APP })
    local connections = {}
    for i = 1, 20 do
      connections[i] = s:connect()
      connections[i]:send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    end
    s:signal("TERM")
    for i = 1, 20 do
      assert.equal("fast", connections[i]:response().body)
    end
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("answers also those whom a busy worker had not accepted yet", function()
    local s = server.start({ app = APP })
    local busy = s:connect()
    busy:send("GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("blocked")
    local waiting = {}
    for i = 1, 150 do -- more than are accepted in one turn
      waiting[i] = s:connect()
      waiting[i]:send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    end
    s:signal("TERM")
    assert.equal("blocked", busy:response().body)
    for i = 1, #waiting do
      assert.equal("fast", waiting[i]:response().body)
    end
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("says in its last answers that the connection closes", function()
    local s = server.start({ app = [[
      local moonquay = require("moonquay")
      return function() moonquay.log.info("begun") moonquay.sleep(0.4) return "x" end]] })
    local connection = s:connect()
    connection:send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("begun")
    s:signal("TERM")
    s:await("stopping")
    assert.equal("close", connection:response().headers.connection)
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("lasts no longer than drain", function()
    local s = server.start({ app = APP, options = { "--set", "drain=0.3" } })
    local connection = begin(s, "/endless")
    s:signal("TERM")
    assert.equal("", (connection:rest()))
    assert.same({ exit = 0 }, s:wait(5))
    assert.truthy(s:stderr():find("drain_over", 1, true), s:stderr())
    s:stop()
  end)

  it("ends a worker that is stuck in C when drain is over", function()
    local s = server.start({
      app = [[return function() package.loadlib("libc.so.6", "pause")() end]],
      options = { "--set", "drain=0", "--set", "watchdog=off" },
    })
    s:connect():send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
    local worker = s:workers()[1]
    await("the worker's wait in C", function()
      local file = io.open(("/proc/%d/syscall"):format(worker))
      local call = file and file:read("n")
      if file then
        file:close()
      end
      return call == 34 -- pause
    end)
    s:signal("TERM")
    assert.same({ exit = 0 }, s:wait(10))
    assert.truthy(s:stderr():find("stop_forced", 1, true), s:stderr())
    assert.is_false(sys.alive(worker))
    s:stop()
  end)

  for signal, status in pairs({ TERM = 143, INT = 130 }) do
    it(("is at once when SIG%s comes twice"):format(signal), function()
      local s = server.start({ app = APP, options = { "--workers", "2" } })
      local connection = begin(s, "/endless")
      local workers = s:workers()
      s:signal("TERM")
      s:await("stopping")
      s:signal(signal)
      assert.same({ exit = status }, s:wait(5))
      connection:rest()
      for _, worker in ipairs(workers) do
        assert.is_false(sys.alive(worker))
      end
    end)
  end

  it("ends background tasks", function()
    local s = server.start({ app = [[
      local moonquay = require("moonquay")
      moonquay.spawn(function()
        local _, err = moonquay.sleep(3600)
        moonquay.log.info("told to end: " .. err.code)
      end)
      moonquay.every(0.05, function() end)
      return function() return "x" end]] })
    assert.equal("x", s:get("/").body)
    s:signal("TERM")
    assert.same({ exit = 0 }, s:wait(5))
    assert.is_nil(s:stderr():find("drain_over", 1, true))
    assert.truthy(s:stderr():find("told to end: cancelled", 1, true), s:stderr())
    s:stop()
  end)

  it("can be asked for by the app: os.exit drains", function()
    local s = server.start({ app = APP, options = { "--workers", "2" } })
    local running = begin(s, "/slow")
    assert.equal(503, s:get("/exit").status)
    assert.equal("1\r\nb\r\n0\r\n\r\n", running:rest())
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("is possible while the app still loads", function()
    local s = server.start({
      app = [[local moonquay = require("moonquay")
        moonquay.log.info("loading")
        moonquay.sleep(3600)]],
      ready = false,
    })
    s:await("loading")
    s:signal("TERM")
    assert.same({ exit = 0 }, s:wait(5))
    assert.equal("", s.text.stdout)
    s:stop()
  end)

  it("is possible while a slot waits for its next worker", function()
    local s = server.start({ app = APP })
    for _, pause in ipairs({ 0, 100, 200, 400 }) do
      local worker = await("a worker", function()
        return s:workers()[1]
      end)
      sys.kill(worker, "KILL")
      s:await(("pid=%d signal=SIGKILL lived_ms=%%d+ restart_in_ms=%d\n"):format(worker, pause))
    end
    s:signal("TERM")
    assert.same({ exit = 0 }, s:wait(5))
    assert.same({}, s:workers())
    s:stop()
  end)
end)
