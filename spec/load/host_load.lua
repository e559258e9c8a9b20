-- What clients wait while apps and the host are replaced, asserted at ten times the issue's 100 ms.
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local server = require("spec.support.server")

local FIGURE_MS, CLIENTS = 100, 20
local QUEUE = { "--set", "request_queue_name=shop", "--set", "request_queue_mode=create_or_attach" }
local APP = 'app:get("/", function() return "ok" end)'

local function judge(what, counts)
  local answers = counts.answers["200"]
  print(("%s: %d answers to %d clients, the slowest after %.1f ms"):format(what, answers, CLIENTS,
    counts.longest_ms))
  assert.same({ ["200"] = answers }, counts.answers)
  assert.same({ 0, 0 }, { counts.broken, counts.refused })
  assert.is_true(counts.longest_ms < 10 * FIGURE_MS)
end

describe("on the release build", function()
  local host

  before_each(function()
    host = hosts.start()
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  it("a rolling deploy delays no request (100 ms)", function()
    local current = host:app(APP, { options = QUEUE })
    local clients = load.start({ port = current.port, clients = CLIENTS })
    for _ = 1, 5 do
      clients:await(2000)
      local fresh = host:app(APP, { port = current.port, options = QUEUE })
      assert.equal(0, current:stop())
      current = fresh
    end
    judge("five rolling deploys", clients:await(2000))
  end)

  it("a host that is replaced delays no request (100 ms)", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS })
    local old = host.server
    for _ = 1, 3 do
      clients:await(2000)
      local fresh = server.start({ command = "host", bare = true, ready = false, options = {
        "--socket", host.socket, "--state", host.state, "--workers", "2", "--replace" } })
      fresh:await("started [^\n]*host at")
      old:wait(20)
      old = fresh
    end
    judge("three hosts in a row", clients:await(2000))
  end)

  it("an app behind a host beside one that never answers is not held up (100 ms)", function()
    local app = host:app(APP)
    local stuck = host:app([[
app:get("/", function() while true do require("moonquay").sleep(1000) end end)]],
      { prefix = "stuck", port = app.port })
    local victims = load.start({ port = stuck.port, path = "/stuck/", clients = 600 })
    local clients = load.start({ port = app.port, clients = CLIENTS })
    judge("beside 600 requests that hang", clients:await(5000))
    victims:stop()
  end)
end)
