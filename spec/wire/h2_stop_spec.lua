local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local held = require("spec.support.held")
local temp = require("spec.support.temp")

local frames = h2.frames

local function start(set, options)
  set = set or {}
  set["h2.cleartext"] = true
  return held.start(set, options)
end

-- A request of this name, once its handler runs.
local function run(client, s, name)
  local id = client:open("/hold/" .. name)
  s.server:await("begun " .. name .. "%.")
  return id
end

local function assert_ended(s)
  assert.same({ exit = 0 }, s.server:wait(10))
  assert.is_nil(s:stderr():find("drain_over", 1, true))
  assert.equal(0, s:stop())
end

describe("A stop of HTTP/2 connections (reference section 20)", function()
  after_each(held.stop_all)

  it("says GOAWAY twice, and lets what runs end", function()
    local s = start()
    local client = h2.connect(s)
    local first, second = run(client, s, "r1"), run(client, s, "r2")
    client:settle():sent()
    s:term()
    client:await("GOAWAY", function()
      return client.goaways and client.goaways[2]
    end)
    assert.same({ "GOAWAY 2147483647 NO_ERROR", "PING 0", "GOAWAY 3 NO_ERROR" }, client:sent())
    assert.equal("stopping", s:status().state)
    s:go()
    assert.matches("^r1 ", client:response(first).body)
    assert.matches("^r2 ", client:response(second).body)
    assert.equal("closed", client:rest())
    client:close()
    assert_ended(s)
  end)

  it("serves what comes before the second GOAWAY, and nothing behind it", function()
    local s = start()
    local client = h2.connect(s, { acks = false })
    client:send(frames.settings())
    local first = run(client, s, "r1")
    s:term()
    client:await("GOAWAY", function()
      return client.goaways
    end)
    assert.matches("^between ", client:request("/quick/between").body)
    assert.equal(1, #client.goaways)
    client:await("PING", function()
      return client.asked
    end)
    client:send(frames.ping(client.asked, true))
    client:await("the second GOAWAY", function()
      return client.goaways[2]
    end)
    assert.equal(3, client.goaways[2].last)
    local late = client:open("/quick/late")
    s:go()
    assert.matches("^r1 ", client:response(first).body)
    assert.equal("closed", client:rest())
    assert.is_nil(client:stream(late).status)
    assert.same({ "r1" }, s:begun())
    client:close()
    assert_ended(s)
  end)

  it("closes an idle connection at once, also one that answers nothing", function()
    local s = start()
    local client, mute, fresh = h2.connect(s), h2.connect(s, { acks = false }), h2.connect(s)
    assert.equal(200, client:request("/quick/x").status)
    assert.equal(200, mute:request("/quick/x").status)
    fresh:settle()
    s:term()
    for _, one in ipairs({ client, fresh, mute }) do
      assert.equal("closed", one:rest())
      assert.equal(2147483647, one.goaways[1].last)
      one:close()
    end
    assert_ended(s)
  end)

  it("answers what was sent before it", function()
    local s = start()
    local clients, ids = {}, {}
    for i = 1, 20 do
      clients[i] = h2.connect(s)
      ids[i] = clients[i]:open("/quick/x")
    end
    s:term()
    for i = 1, 20 do
      assert.equal(200, clients[i]:response(ids[i]).status)
      assert.equal("closed", clients[i]:rest())
      clients[i]:close()
    end
    assert_ended(s)
  end)

  for _, verbosity in ipairs(held.verbosities) do
    it("ends those who wait by http_503_verbosity=" .. verbosity, function()
      local s = start({ max_concurrent_requests = 1, http_503_verbosity = verbosity })
      local client = h2.connect(s)
      local first = run(client, s, "r1")
      local waiting = { client:open("/hold/w1"), client:open("/hold/w2") }
      s:await_gauges({ queued = 2 })
      s:term()
      for _, id in ipairs(waiting) do
        local response = client:response(id)
        assert.equal(verbosity == "basic" and "REFUSED_STREAM" or nil, response.reset)
        assert.equal(verbosity ~= "basic" and 503 or nil, response.status)
        assert.equal(verbosity == "full",
          response.body:find("the server is stopping", 1, true) ~= nil)
      end
      s:assert_told("AppShutdown", 2)
      s:go()
      assert.matches("^r1 ", client:response(first).body)
      assert.equal("closed", client:rest())
      client:close()
      assert_ended(s)
    end)
  end

  it("lets uploads and downloads that run come to their end", function()
    local s = start()
    local client = h2.connect(s)
    local id = client:open("/hold/upload", { method = "POST", open = true })
    s.server:await("begun upload%.")
    s:term()
    client:await("GOAWAY", function()
      return client.goaways
    end)
    client:upload(id, ("x"):rep(300000), true)
    s:go()
    assert.matches(" 300000$", client:response(id).body)
    assert.equal("closed", client:rest())
    client:close()
    assert_ended(s)
  end)

  it("cuts what runs when drain is over, and says why for each", function()
    local dir = temp.dir()
    local s = start({ drain = 0.3, http_error_log = dir.path .. "/http_error.log" })
    local client = h2.connect(s)
    local ids = { run(client, s, "r1"), run(client, s, "r2") }
    client:settle()
    s:term()
    assert.equal("reset", client:rest())
    for _, id in ipairs(ids) do
      assert.is_nil(client:stream(id).status)
    end
    assert.same({ exit = 0 }, s.server:wait(10))
    assert.truthy(s:stderr():find("drain_over", 1, true))
    local log = dir:read("http_error.log")
    for i, id in ipairs(ids) do
      assert.truthy(log:find((" HTTP/2 GET /hold/r%d %d - - AppShutdown -\n"):format(i, id), 1,
        true), log)
    end
    client:close()
    assert.equal(0, s:stop())
    dir:remove()
  end)

  it("does not wait for the drain time for a client that keeps its side open", function()
    local s = start({ drain = 20 })
    local client = h2.connect(s, { credit = false })
    assert.equal(200, client:request("/quick/x").status)
    s:term()
    assert.same({ exit = 0 }, s.server:wait(15))
    assert.is_nil(s:stderr():find("drain_over", 1, true))
    client:close()
    assert.equal(0, s:stop())
  end)
end)

describe("A worker that dies", function()
  after_each(held.stop_all)

  it("takes its HTTP/2 connections with it, and the next one serves", function()
    local s = start()
    local client = h2.connect(s)
    local id = run(client, s, "r1")
    client:settle()
    s:kill_worker(s.server:workers()[1])
    assert.is_truthy(client:response(id).lost)
    client:close()
    client = await("the next worker", function()
      local ok, next_client = pcall(h2.connect, s)
      return ok and next_client
    end)
    assert.equal(200, client:request("/quick/x").status)
    s:await_gauges({ running = 0, connections = 1 })
    client:close()
    assert.equal(0, s:stop())
  end)
end)
