local core = require("moonquay.core")
local moonquay = require("moonquay")
local test = require("moonquay.test")

describe("A server inside the process", function()
  local settings = moonquay.app().settings -- of the state: of all its apps

  after_each(function()
    settings.max_concurrent_requests, settings.request_queue_limit = 512, 1000
  end)

  it("starts what waits when a change of settings makes room", function()
    local app, held, answered, go = moonquay.app(), core.event(), core.event(), core.event()
    app:get("/hold", function()
      held:set()
      go:wait()
    end)
    app:get("/quick", function() return "quick" end)
    settings.max_concurrent_requests, settings.request_queue_limit = 1, 1
    local client, seen = test.client(app), {}
    local holder = core.spawn(client.get, client, "/hold")
    assert(held:wait(10))
    local function get()
      local response = client:get("/quick")
      seen[#seen + 1] = response.status
      answered:set()
    end
    local tasks = { core.spawn(get), core.spawn(get) }
    assert(answered:wait(10)) -- one is refused, for the other waits
    settings.max_concurrent_requests = 2
    for _, task in ipairs(tasks) do
      assert(task:join(10))
    end
    assert.same({ 503, 200 }, seen)
    go:set()
    assert(holder:join(10))
  end)

  it("refuses connections once the collector has ended it", function()
    local server = core.server(print)
    getmetatable(server).__gc(server)
    assert.has_error(function() server:connect() end, "the server is closed")
  end)
end)
