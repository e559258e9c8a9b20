-- Apps come, go and die behind a host, under constant load: nobody sees anything but answers.
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local CLIENTS = server.sanitized and 50 or 200

local function app_of(name)
  return ('app:get("/", function() return "%s" end)\n'):format(name) ..
    'app:post("/", function(req) return tostring(#req:text()) end)\n'
end

local QUEUE = { "--set", "request_queue_name=shop", "--set", "request_queue_mode=create_or_attach" }

describe("an app behind a host, under load,", function()
  local host

  before_each(function()
    host = hosts.start()
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  it("is replaced by the next one on its queue", function()
    local old = host:app(app_of("old"), { options = QUEUE })
    local clients = load.start({ port = old.port, clients = CLIENTS })
    clients:await(500)
    local fresh = host:app(app_of("fresh"), { port = old.port, options = QUEUE })
    clients:await(500)
    assert.equal(0, old:stop())
    local before = clients:await(500).bodies -- those that were on their way have come
    local after = clients:await(500)
    assert.equal(before.old, after.bodies.old)
    assert.is_true(after.bodies.fresh > before.fresh)
    load.assert_only_answers(after)
    clients:stop()
    assert.equal(0, fresh:stop())
  end)

  it("is replaced many times, requests with content too", function()
    local current = host:app(app_of("a"), { options = QUEUE })
    local clients = load.start({ port = current.port, clients = CLIENTS, method = "POST" })
    for _ = 1, 4 do
      clients:await(200)
      local fresh = host:app(app_of("b"), { port = current.port, options = QUEUE })
      assert.equal(0, current:stop())
      current = fresh
    end
    load.assert_only_answers(clients:await(200))
  end)

  it("may be away for a while", function()
    local app = host:app(app_of("old"))
    local clients = load.start({ port = app.port, clients = CLIENTS })
    clients:await(500)
    assert.equal(0, app:stop())
    clients:await_stall()
    host:app(app_of("fresh"), { port = app.port })
    local counts = clients:await(1000)
    assert.is_true(counts.bodies.fresh >= CLIENTS)
    load.assert_only_answers(counts)
  end)

  it("keeps its prefixes and clients when the registrar dies", function()
    local app = host:app(app_of("a"))
    local clients = load.start({ port = app.port, clients = CLIENTS })
    clients:await(500)
    sys.kill(host:children("registrar")[1], "KILL")
    host.server:await("registrar_died")
    app:await("host_found")
    load.assert_only_answers(clients:await(1000))
  end)

  -- The process ids of the app's workers.
  local function kill_workers(app)
    for _, pid in ipairs(app:workers()) do
      sys.kill(pid, "KILL")
    end
  end

  it("may lose its worker: what is safe goes once to the next one", function()
    local app = host:app(app_of("a"))
    local clients = load.start({ port = app.port, clients = CLIENTS })
    clients:await(500)
    kill_workers(app)
    app:await("worker_died")
    load.assert_only_answers(clients:await(1000))
  end)

  it("may lose its worker: what may have been done is 502, and nothing else is lost", function()
    local app = host:app(app_of("a"))
    local clients = load.start({ port = app.port, clients = CLIENTS, method = "POST" })
    clients:await(500)
    kill_workers(app)
    app:await("worker_died")
    local counts = clients:await(1000)
    assert.equal(0, counts.broken)
    assert.is_true((counts.answers["502"] or 0) <= CLIENTS)
    counts.answers["502"] = nil
    load.assert_only_answers(counts)
  end)

  it("may be killed, all of it, and be started again", function()
    local app = host:app(app_of("a"))
    local clients = load.start({ port = app.port, clients = CLIENTS })
    clients:await(500)
    sys.kill(app.pid, "KILL") -- its workers go with it
    host.server:await("app_left")
    clients:await_stall()
    host:app(app_of("b"), { port = app.port })
    load.assert_only_answers(clients:await(1000))
  end)

  it("loses a worker of the host, and with it that worker's connections alone", function()
    local app = host:app(app_of("a"))
    local clients = load.start({ port = app.port, clients = CLIENTS })
    clients:await(500)
    sys.kill(host:children("worker")[1], "KILL")
    host.server:await("worker_died")
    local counts = clients:await(1000)
    assert.equal(0, counts.refused)
    assert.is_true(counts.broken < CLIENTS)
    local after = clients:await(1000)
    assert.equal(counts.broken, after.broken)
    assert.same({ ["200"] = after.answers["200"] }, after.answers)
  end)
end)

describe("an answer that an app behind a host had begun", function()
  after_each(server.stop_all)

  it("is broken off when the app is killed, with the reason in the log", function()
    local host = hosts.start({ options = { "--set", "http_error_log=-" } })
    local app = host:app([[
app:get("/", function(_, res)
  res:write("begun")
  require("moonquay").sleep(1000)
end)]])
    local connection = app:connect({ deadline = 30 })
    connection:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection:read_until("begun")
    sys.kill(app.pid, "KILL")
    local rest = connection:rest()
    assert.is_nil(rest:find("\r\n0\r\n", 1, true))
    host.server:await("Connection_Abandoned_By_ReqQueue")
  end)
end)
