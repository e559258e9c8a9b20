-- A request queue of a host is one for all its workers.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local server = require("spec.support.server")

local ONE_PLACE = { "--set", "max_concurrent_requests=1" }

describe("a queue of a host with several workers", function()
  local host

  before_each(function()
    host = hosts.start({ workers = 3 })
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  local function queued()
    return host:http("show servicestate").queues[1].queued
  end

  local function running()
    return host:http("show servicestate").queues[1].running
  end

  it("is served in the order of arrival, whichever worker has the request", function()
    local gate = host.temp.path .. "/gate"
    local app = host:app(([[
local count = 0
app:get("/", function()
  count = count + 1
  local number = count
  while not io.open("%s") do require("moonquay").sleep(0.01) end
  return tostring(number)
end)]]):format(gate), { options = ONE_PLACE })
    local waiting = {}
    for i = 1, 12 do
      waiting[i] = client.connect("127.0.0.1", app.port, { deadline = 30 })
      waiting[i]:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      await("request " .. i, function()
        return queued() == i - 1 and running() == 1
      end)
    end
    host.temp:write("gate", "")
    for i = 1, 12 do
      assert.equal(tostring(i), waiting[i]:response().body)
    end
  end)

  it("may be attached to by a process that brings nothing, and is gone with its maker", function()
    local words = { "--set", "request_queue_name=shop" }
    local attach = { "--set", "request_queue_name=shop", "--set", "request_queue_mode=attach" }
    local APP = 'app:get("/x", function(req) return "%s " .. req.path_base end)'
    local early = host:app(APP:format("early"), { options = attach, ready = false })
    assert.same({ exit = 78 }, early:wait(10))
    assert.truthy(early:stderr():find('there is no request queue "shop"', 1, true))
    local maker = host:app(APP:format("maker"), { prefix = "shop",
      options = { "--unregister", table.unpack(words) } })
    local other = host:app(APP:format("other"), { prefix = "shop", port = maker.port,
      options = attach, ready = false })
    other:await("started ")
    local seen = {}
    await("answers of both", function()
      local connection = maker:connect({ deadline = 30 })
      connection:send("GET /shop/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
      seen[connection:response().body] = true
      connection:close()
      return seen["maker /shop"] and seen["other /shop"]
    end)
    assert.equal(0, maker:stop())
    await("a closed port", function() -- what it has brought goes with it
      return not pcall(client.connect, "127.0.0.1", maker.port)
    end)
    assert.equal(0, other:stop())
  end)

  it("gives each place that becomes free to somebody, whichever worker had it", function()
    local app = host:app([[
local running = 0
app:get("/", function()
  running = running + 1
  require("moonquay").sleep(0.001)
  local now = running
  running = running - 1
  return now <= 2 and "ok" or "too many"
end)]], { options = { "--set", "max_concurrent_requests=2" } })
    local clients = load.start({ port = app.port, clients = 60 })
    local counts = clients:await(1000)
    assert.same({ ["200"] = counts.answers["200"] }, counts.answers)
    assert.is_nil(counts.bodies["too many"])
    clients:stop()
    await("nothing left", function()
      return queued() == 0 and running() == 0
    end)
  end)
end)
