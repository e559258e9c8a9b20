-- Apps, hosts and registrars that are replaced, stopped, started and killed in any order: clients
-- see nothing but answers.
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local ROUNDS = server.sanitized and 2 or 4
local CLIENTS = server.sanitized and 5 or 15

local APP = [[
app:get("/", function() return "ok" end)
app:post("/", function(req) return tostring(#req.body:read("a")) end)]]

describe("what changes behind clients", function()
  local host, port, apps, old

  before_each(function()
    host, port, apps, old = hosts.start(), ports.free(), {}, {}
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  local function start(name)
    apps[name] = host:app(APP, { port = port, prefix = name, options = { "--set",
      "request_queue_name=" .. name, "--set", "request_queue_mode=create_or_attach" } })
  end

  -- The one before ends when what it serves has ended.
  local function replace()
    old[#old + 1] = host.server
    host.server = host:replacement()
  end

  local changes = {
    replace = replace,
    ["kill registrar"] = function()
      local pid = host:children("registrar")[1] -- none: it has only begun
      if pid then sys.kill(pid, "KILL") end
    end,
    roll = function()
      local before = apps.rolled
      start("rolled")
      assert.equal(0, before:stop())
    end,
    restart = function()
      assert.equal(0, apps.away:stop())
      start("away")
    end,
    ["replace without app"] = function()
      assert.equal(0, apps.away:stop())
      replace()
      start("away")
    end,
  }

  it("is not seen by them", function()
    local names, done, clients = {}, {}, {}
    math.randomseed(os.time())
    for name in pairs(changes) do
      for _ = 1, ROUNDS do
        table.insert(names, math.random(#names + 1), name)
      end
    end
    for _, name in ipairs({ "rolled", "away" }) do
      start(name)
      for _, method in ipairs({ "GET", "POST" }) do
        clients[#clients + 1] = load.start({ port = port, path = "/" .. name .. "/",
          method = method, clients = CLIENTS, fresh = method == "POST" })
      end
    end
    for _, name in ipairs(names) do
      done[#done + 1] = name
      changes[name]()
      for _, each in ipairs(clients) do
        local fine, why = pcall(load.assert_only_answers, each:await(10))
        assert(fine, ("after %s: %s"):format(table.concat(done, ", "), tostring(why)))
      end
    end
    for _, each in ipairs(clients) do
      each:stop()
    end
    for _, each in ipairs(old) do
      assert.same({ exit = 0 }, each:wait(30))
    end
    assert.equal(0, host.server:stop())
  end)
end)
