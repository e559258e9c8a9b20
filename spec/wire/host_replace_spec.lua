-- moonquay host --replace: a new host takes the place of the one that runs, under load.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local CLIENTS = server.sanitized and 15 or 60

local APP = [[
app:get("/", function() return "ok" end)
app:get("/slow", function(_, res)
  res:write("begun ")
  while not io.open("GATE") do require("moonquay").sleep(0.01) end
  res:write("done")
end)]]

describe("moonquay host --replace", function()
  local host

  before_each(function()
    host = hosts.start()
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  -- Another host, at the same place.
  local function replace(options, ready)
    local words = { "--socket", host.socket, "--state", host.state, "--workers", "2", "--no-dev",
      "--replace" }
    table.move(options or {}, 1, #(options or {}), #words + 1, words)
    local fresh = server.start({ command = "host", bare = true, ready = false, options = words })
    if ready ~= false then
      fresh:await("started [^\n]*host at")
    end
    return fresh
  end

  local function only_answers(counts)
    assert.equal(0, counts.broken)
    assert.equal(0, counts.refused)
    assert.same({ ["200"] = counts.answers["200"] }, counts.answers)
  end

  local function get(port, path)
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path or "/"))
    local response = connection:response()
    connection:close()
    return response.body
  end

  it("is not noticed by clients, with kept connections and fresh ones", function()
    local app = host:app(APP)
    local kept = load.start({ port = app.port, clients = CLIENTS })
    local fresh = load.start({ port = app.port, clients = CLIENTS // 3, fresh = true })
    local old = host.server
    for _ = 1, 3 do
      kept:await(200)
      local new = replace()
      assert.same({ exit = 0 }, old:wait(20))
      old = new
      only_answers(kept:await(300))
      only_answers(fresh:await(100))
    end
    kept:stop()
    fresh:stop()
    assert.equal("ok", get(app.port))
    assert.equal(0, old:stop())
    assert.is_nil(io.open(host.socket)) -- the last one takes it away
  end)

  it("lets an answer that was begun go on to its end", function()
    local gate = host.temp.path .. "/gate"
    local app = host:app((APP:gsub("GATE", gate)))
    local connection = client.connect("127.0.0.1", app.port, { deadline = 30 })
    connection:send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection:read_until("begun")
    local new = replace()
    host.server:await("taken_over")
    assert.equal("ok", get(app.port))
    host.temp:write("gate", "")
    assert.truthy(connection:rest():find("done.*\r\n0\r\n\r\n$"))
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal(0, new:stop())
  end)

  it("keeps prefixes, queues and reservations", function()
    host:http("add urlacl url=http://localhost:8123/kept/ user=#12345")
    local app = host:app(APP, { options = { "--set", "request_queue_name=shop" } })
    local new = replace()
    assert.same({ exit = 0 }, host.server:wait(20))
    app:await("host_found")
    local second = host:app("", { port = app.port, ready = false })
    assert.same({ exit = 69 }, second:wait(10))
    assert.equal("http://localhost:8123/kept/", host:http("show urlacl").urlacl[1].url)
    assert.equal("shop", host:http("show servicestate").queues[1].queue)
    local member = host:app(APP, { port = app.port, options = { "--set", "request_queue_name=shop",
      "--set", "request_queue_mode=create_or_attach" } })
    assert.equal(0, app:stop())
    assert.equal("ok", get(app.port))
    assert.equal(0, member:stop())
    assert.equal(0, new:stop())
  end)

  it("may have more workers; fewer it has not", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS, fresh = true })
    clients:await(100)
    local new = replace({ "--workers", "4" })
    assert.same({ exit = 0 }, host.server:wait(20))
    only_answers(clients:await(200))
    local last = replace({ "--workers", "1" })
    last:await("workers_kept")
    assert.same({ exit = 0 }, new:wait(20))
    only_answers(clients:await(200))
  end)

  it("changes nothing when the new one cannot start", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS })
    for _, case in ipairs({ { "--workers", "none" }, { "--user", "no-such-user" },
      { "--set", "tls=certificate=/nonexistent key=/nonexistent" } }) do
      local new = replace(case, false)
      assert.equal(78, new:wait(20).exit)
      assert.equal(1, select(2, new:stderr():gsub("moonquay:", "")), new:stderr())
    end
    only_answers(clients:await(200))
    assert.is_nil(host.server:wait(0))
    -- A program that comes now is served, and the place can still be taken.
    local other = host:app(APP, { prefix = "other", port = app.port })
    assert.equal("ok", get(app.port, "/other/"))
    other:stop()
    replace()
    assert.same({ exit = 0 }, host.server:wait(20))
    only_answers(clients:await(200))
  end)

  it("changes nothing when the new one is killed on its way", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS })
    for _ = 1, 3 do
      local new = replace(nil, false)
      host.server:await("takeover_asked")
      new:signal("KILL")
      new:wait(10)
      await("the registrar", function()
        return #host:children("registrar") == 1 or host.server:stderr():find("taken_over")
      end)
      only_answers(clients:await(100))
    end
    assert.is_nil(host.server:wait(0))
  end)

  it("says when there is nobody, or somebody else's host", function()
    local words = { "host", "--socket", host.temp.path .. "/none", "--state",
      host.temp.path .. "/other.json", "--replace" }
    local result = server.run(words)
    assert.equal(69, result.status)
    assert.truthy(result.stderr:find("no host that could be replaced answers", 1, true))
    if sys.geteuid() == 0 then
      words[3], words[5] = host.socket, "/tmp/none.json"
      words.wrap = { "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups" }
      result = server.run(words)
      assert.equal(69, result.status)
      assert.truthy(result.stderr:find("Permission denied", 1, true))
    end
  end)
end)
