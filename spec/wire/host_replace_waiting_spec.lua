-- Requests that wait for an app when their host is replaced: the new host cares for them, as the
-- app can reach no other.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local peer = require("spec.support.peer")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local CLEARTEXT = { "--set", "h2.cleartext=true" }
local USER = sys.geteuid() == 0 and '"nobody"' or "nil"
local CONTENT = ("x"):rep(300000)

local APP = [[
app:get("/", function() return "ok" end)
app:post("/", function(req) return tostring(#req.body:read("a")) end)
app:get("/slow", function()
  while not io.open("GATE") do require("moonquay").sleep(0.01) end
  return "slow"
end)]]

describe("requests that wait when a host is replaced", function()
  local host, port

  before_each(function()
    host, port = hosts.start({ options = CLEARTEXT }), ports.free()
  end)

  after_each(function()
    server.stop_all()
  end)

  local function start_app(options)
    return host:app((APP:gsub("GATE", host.temp.path .. "/gate")), { port = port,
      options = options })
  end

  local function await_queued(count)
    await("them to wait", function()
      for _, queue in ipairs(host:http("show servicestate").queues) do
        if queue.queued == count then return true end
      end
      return false
    end)
  end

  -- One of each kind; the function asserts their answers.
  local function ask_all()
    local get = client.connect("127.0.0.1", port, { deadline = 30 })
    get:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    local post = client.connect("127.0.0.1", port, { deadline = 30 })
    post:send(("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"):format(#CONTENT),
      CONTENT:sub(1, 70000))
    local h2 = peer.start({ "curl", "-s", "--http2-prior-knowledge", "-m", "30",
      ("http://localhost:%d/"):format(port) })
    return function()
      local response = get:response()
      assert.same({ 200, "ok" }, { response.status, response.body })
      post:send(CONTENT:sub(70001)) -- the rest, now that it is wanted
      response = post:response()
      assert.same({ 200, tostring(#CONTENT) }, { response.status, response.body })
      assert.equal("ok", h2:ended(30).stdout)
    end
  end

  local function ask_for_app_that_left()
    start_app():stop()
    local assert_answers = ask_all()
    await_queued(3)
    return assert_answers
  end

  it("are answered by their app when it comes back, to the new one", function()
    local assert_answers = ask_for_app_that_left()
    local new = host:replacement()
    host.server:await("taken_over")
    local registrar = await("its registrar", function()
      return host.children({ server = new }, "registrar")[1]
    end)
    sys.kill(registrar, "KILL")
    new:await("registrar_died")
    start_app()
    assert_answers()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal(0, new:stop())
  end)

  it("are answered also when that one is replaced too", function()
    local assert_answers = ask_for_app_that_left()
    local second = host:replacement()
    host.server:await("taken_over")
    local third = host:replacement()
    second:await("taken_over")
    assert.is_nil(second:wait(0))
    start_app()
    assert_answers()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.same({ exit = 0 }, second:wait(20))
    assert.equal(0, third:stop())
  end)

  it("are answered when their app has room again", function()
    start_app({ "--set", "max_concurrent_requests=1" })
    local slow = client.connect("127.0.0.1", port, { deadline = 30 })
    slow:send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await("it to run", function()
      return host:http("show servicestate").queues[1].running == 1
    end)
    local assert_answers = ask_all()
    await_queued(3)
    host:replacement()
    host.server:await("taken_over")
    host.temp:write("gate", "")
    assert.equal("slow", slow:response().body)
    assert_answers()
    assert.same({ exit = 0 }, host.server:wait(20))
  end)

  it("are answered by an app that the new one starts", function()
    local file = host.temp:write("hosted.lua", ([[
local app = require("moonquay").app()
while not io.open("%s/gate") do end
%s
return app]]):format(host.temp.path, APP))
    local config = host.temp:write("conf.lua", ('return { apps = { { file = %q, user = %s, ' ..
      'start = "demand", prefix = "http://localhost:%d/" } } }'):format(file, USER, port))
    local first = host:replacement({ "--config", config, table.unpack(CLEARTEXT) })
    assert.same({ exit = 0 }, host.server:wait(20))
    local assert_answers = ask_all()
    await_queued(3)
    first:await("app_started")
    local second = host:replacement({ "--config", config, table.unpack(CLEARTEXT) })
    first:await("taken_over")
    host.temp:write("gate", "")
    assert_answers()
    assert.same({ exit = 0 }, first:wait(30))
    assert.equal(0, second:stop())
  end)

  it("are refused when nobody has come at the end of the drain", function()
    host:stop()
    host = hosts.start({ options = { "--set", "drain=1" } })
    start_app():stop()
    local get = client.connect("127.0.0.1", port, { deadline = 30 })
    get:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await_queued(1)
    host:replacement()
    local response = get:response()
    assert.equal(503, response.status)
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.truthy(host.server:stderr():find("reason=AppShutdown", 1, true))
  end)
end)
