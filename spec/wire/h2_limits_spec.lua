local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local held = require("spec.support.held")
local server = require("spec.support.server")
local timed = require("spec.support.timed")

local frames = h2.frames

local function start(set)
  set = set or {}
  set["h2.cleartext"] = true
  return held.start(set)
end

local function hold(client, s, name, more)
  local id = client:open("/hold/" .. name, more)
  s.server:await("begun " .. name .. "%.")
  return id
end

describe("h2.max_concurrent_streams", function()
  after_each(held.stop_all)

  it("is told, and kept: more streams are refused, before and after SETTINGS are known", function()
    local s = start({ ["h2.max_concurrent_streams"] = 3 })
    local client = h2.connect(s, { acks = false })
    local ids = {}
    for i = 1, 3 do
      ids[i] = hold(client, s, "n" .. i)
    end
    assert.equal("REFUSED_STREAM", client:request("/quick/x").reset)
    client:send(frames.settings())
    client:settle()
    assert.equal(3, client.settings.MAX_CONCURRENT_STREAMS)
    assert.equal("REFUSED_STREAM", client:request("/quick/x").reset)
    assert.equal("REFUSED_STREAM",
      client:request("/quick/x", { method = "POST", body = "x" }).reset)
    s:go("n2")
    assert.matches("^n2 ", client:response(ids[2]).body)
    assert.matches("^x ", client:request("/quick/x").body)
    s:go()
    assert.matches("^n1 ", client:response(ids[1]).body)
    assert.matches("^n3 ", client:response(ids[3]).body)
    assert.is_nil(client.goaways)
    client:close()
    assert.equal(0, s:stop())
  end)

  it("counts those that wait for a handler", function()
    local s = start({ ["h2.max_concurrent_streams"] = 3, max_concurrent_requests = 1 })
    local client = h2.connect(s)
    hold(client, s, "n1")
    for _ = 1, 2 do
      client:open("/quick/x")
    end
    s:await_gauges({ queued = 2 })
    assert.equal("REFUSED_STREAM", client:request("/quick/x").reset)
    client:close()
    assert.equal(0, s:stop())
  end)

  it("counts those that are not answered yet, though they are sent as a whole", function()
    local s = start({ ["h2.max_concurrent_streams"] = 10 })
    local client = h2.connect(s)
    local list = {}
    for i = 1, 13 do
      list[i] = frames.request(2 * i - 1, { [":path"] = "/hold/x" })
    end
    client:send(table.concat(list))
    client.next_id = 27
    for i = 11, 13 do
      assert.equal("REFUSED_STREAM", client:response(2 * i - 1).reset)
    end
    s:await_gauges({ running = 10 })
    s:go()
    for i = 1, 10 do
      assert.equal(200, client:response(2 * i - 1).status)
    end
    client:close()
    assert.equal(0, s:stop())
  end)

  it("counts handlers that go on after their stream was reset", function()
    local s = timed.start([[
local moonquay = require("moonquay")
local app, go = moonquay.app(), false
app:get("/stubborn", function(req)
  while not go do moonquay.sleep(0.01) end
  moonquay.log.info("ended.")
end)
app:get("/go", function() go = true return "gone" end)
return app]], "h2.cleartext=true", "h2.max_concurrent_streams=5")
    local client, other = h2.connect(s), h2.connect(s)
    for _ = 1, 5 do
      local id = client:open("/stubborn")
      client:settle():send(frames.rst_stream(id, "CANCEL"))
    end
    assert.equal("REFUSED_STREAM", client:request("/go").reset)
    timed.assert_told(s, "Connection_Dropped", nil, 5)
    assert.equal("gone", other:request("/go").body)
    s:await("ended%..*ended%..*ended%..*ended%..*ended%.")
    await("room", function()
      return client:request("/go").body == "gone"
    end)
    client:close()
    other:close()
    assert.equal(0, s:stop())
    timed.stop_all()
  end)

  it("refuses 1,000 at once, and their connection is served behind them", function()
    local s = start({ ["h2.max_resets"] = 900 })
    local client = h2.connect(s)
    for _ = 1, 100 do
      client:open("/hold/x")
    end
    for i = 1, 800 do
      assert.equal("REFUSED_STREAM", client:request("/quick/x").reset, i)
    end
    s:go()
    for id = 1, 199, 2 do
      assert.equal(200, client:response(id).status)
    end
    assert.matches("^x ", client:request("/quick/x").body)
    client:close()
    assert.equal(0, s:stop())
  end)
end)

describe("Requests above max_concurrent_requests, over HTTP/2,", function()
  after_each(held.stop_all)

  it("wait, each for itself, and are served first come first served", function()
    local s = start({ max_concurrent_requests = 1 })
    local one, two = h2.connect(s), h2.connect(s)
    local ids = { hold(one, s, "w1") }
    for i = 2, 8 do
      ids[i] = (i % 2 == 1 and one or two):open("/hold/w" .. i)
      s:await_gauges({ running = 1, queued = i - 1 })
    end
    s:go()
    for i = 1, 8 do
      assert.matches("^w" .. i .. " ", (i % 2 == 1 and one or two):response(ids[i]).body)
    end
    assert.same({ "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8" }, s:begun())
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    one:close()
    two:close()
    assert.equal(0, s:stop())
  end)

  it("may bring content, which waits with them", function()
    local s = start({ max_concurrent_requests = 1 })
    local client = h2.connect(s)
    local first = hold(client, s, "first")
    local id = client:open("/hold/content", { method = "POST", open = true })
    client:data(id, ("x"):rep(65535))
    s:await_gauges({ queued = 1 })
    client:settle()
    assert.equal(0, client:stream(id).credit)
    s:go()
    assert.equal(200, client:response(first).status)
    client:upload(id, ("y"):rep(100000), true)
    assert.matches(" 165535$", client:response(id).body)
    client:close()
    assert.equal(0, s:stop())
  end)

  it("count for request_queue_limit_bytes with the window of their content", function()
    local s = start({ max_concurrent_requests = 1, request_queue_limit_bytes = 100000 })
    local client = h2.connect(s)
    hold(client, s, "first")
    client:open("/hold/with", { method = "POST", open = true })
    client:open("/hold/without")
    s:await_gauges({ queued = 2 })
    assert.equal(503, client:response(client:open("/hold/more", { method = "POST",
      open = true })).status)
    s:assert_told("QueueFull", 1)
    s:go()
    client:close()
    assert.equal(0, s:stop())
  end)

  it("leave when their stream is reset", function()
    local s = start({ max_concurrent_requests = 1 })
    local client = h2.connect(s)
    local ids = { hold(client, s, "first") }
    for i, name in ipairs({ "w1", "w2", "w3" }) do
      ids[i + 1] = client:open("/hold/" .. name)
      s:await_gauges({ queued = i })
    end
    client:send(frames.rst_stream(ids[3], "CANCEL"))
    s:await_gauges({ queued = 2 })
    assert.equal(1, s:reason("Client_Reset", 1))
    s:go()
    for _, id in ipairs({ ids[1], ids[2], ids[4] }) do
      assert.equal(200, client:response(id).status)
    end
    assert.same({ "first", "w1", "w3" }, s:begun())
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    client:close()
    assert.equal(0, s:stop())
  end)

  it("leave when their connection is reset", function()
    local s = start({ max_concurrent_requests = 1 })
    local client, other = h2.connect(s), h2.connect(s)
    local first = hold(other, s, "first")
    client:open("/hold/w1")
    client:open("/hold/w2")
    s:await_gauges({ queued = 2 })
    client:reset()
    s:await_gauges({ queued = 0, queued_bytes = 0 })
    assert.equal(2, s:reason("Client_Reset", 2))
    s:go()
    assert.equal(200, other:response(first).status)
    other:close()
    assert.equal(0, s:stop())
  end)

  it("are answered when their client only ends its side, and their handlers know", function()
    local s = start({ max_concurrent_requests = 1 })
    local client, other = h2.connect(s), h2.connect(s)
    hold(other, s, "first")
    local half = client:open("/hold/half")
    s:await_gauges({ queued = 1 })
    local once = client:open("/once")
    s:await_gauges({ queued = 2 })
    client:settle():half_close()
    local whole = other:open("/once") -- what was sent before is known by then
    s:await_gauges({ queued = 3 })
    s:go()
    assert.matches("^half ", client:response(half).body)
    assert.equal("cancelled", client:response(once).body)
    assert.equal("closed", client:rest())
    assert.equal("went on", other:response(whole).body)
    assert.equal(0, s:status().reasons.Client_Reset)
    other:close()
    assert.equal(0, s:stop())
  end)

  for _, verbosity in ipairs(held.verbosities) do
    it("are refused above request_queue_limit, each for itself: " .. verbosity, function()
      local s = start({ max_concurrent_requests = 1, request_queue_limit = 1,
        http_503_verbosity = verbosity })
      local client = h2.connect(s)
      local first = hold(client, s, "first")
      local second = client:open("/hold/second")
      s:await_gauges({ queued = 1 })
      for _ = 1, 2 do
        local response = client:request("/quick/x")
        if verbosity == "basic" then
          assert.equal("REFUSED_STREAM", response.reset)
        else
          assert.equal(503, response.status)
          assert.equal("1", response.headers["retry-after"])
          assert.is_nil(response.headers.connection)
          assert.equal(verbosity == "full",
            response.body:find("too many requests wait", 1, true) ~= nil)
        end
      end
      s:assert_told("QueueFull", 2)
      s:go()
      assert.equal(200, client:response(first).status)
      assert.equal(200, client:response(second).status)
      client:close()
      assert.equal(0, s:stop())
    end)

    it("are refused above max_connections: " .. verbosity, function()
      local s = start({ max_connections = 1, http_503_verbosity = verbosity })
      local first, second = h2.connect(s), h2.connect(s)
      assert.equal(200, first:request("/quick/x").status)
      s:await_gauges({ connections = 1 })
      for _ = 1, 2 do
        local response = second:request("/quick/x")
        assert.equal(verbosity == "basic" and "REFUSED_STREAM" or nil, response.reset)
        assert.equal(verbosity ~= "basic" and 503 or nil, response.status)
      end
      s:assert_told("ConnLimit", 2)
      assert.equal(200, first:request("/quick/x").status)
      first:close()
      s:await_gauges({ connections = 0 })
      assert.equal(200, second:request("/quick/x").status)
      second:close()
      assert.equal(0, s:stop())
    end)
  end
end)

local CANCELS = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:any("/waits", function(req, res)
  req:on_cancel(function(code) moonquay.log.info("on_cancel " .. code .. ".") end)
  if req.query.begun then
    res:write("begun")
    res:flush()
  end
  moonquay.log.info("it waits.")
  local _, err = moonquay.sleep(60)
  moonquay.log.info("the wait got " .. err.code .. ".")
  return "more"
end)
app:any("/reads", function(req)
  moonquay.log.info("it waits.")
  local _, err = req.body:read("a")
  moonquay.log.info("the read got " .. err.code .. ".")
end)
app:get("/gate", function() return "open" end)
return app]]

describe("Cancellation over HTTP/2", function()
  after_each(timed.stop_all)

  -- How a client leaves, and what its handler is told.
  local ways = {
    { "RST_STREAM", "reset", function(client, id)
      client:send(frames.rst_stream(id, "CANCEL"))
    end, stays = true },
    { "RST_STREAM without an error", "reset", function(client, id)
      client:send(frames.rst_stream(id, "NO_ERROR"))
    end, stays = true },
    { "GOAWAY and the end", "closed", function(client)
      client:send(frames.goaway(0, "NO_ERROR"))
      client:settle():half_close()
    end },
    { "the end", "closed", function(client)
      client:half_close()
    end },
    { "a reset of the connection", "reset", function(client)
      client:reset()
    end, gone = true },
  }
  for _, way in ipairs(ways) do
    for path, told in pairs({ ["/waits"] = "on_cancel CODE%..*the wait got CODE%.",
      ["/waits?begun=1"] = "on_cancel CODE%..*the wait got CODE%.",
      ["/reads"] = "the read got CODE%." }) do
      it(("by %s: %s"):format(way[1], path), function()
        local s = timed.start(CANCELS, "h2.cleartext=true")
        local client = h2.connect(s)
        local id = client:open(path, { method = "POST", open = path == "/reads" })
        s:await("it waits%.")
        client:settle()
        way[3](client, id)
        s:await(told:gsub("CODE", way[2]))
        if way.stays then
          assert.equal("open", client:request("/gate").body)
        elseif not way.gone then
          assert.equal("closed", client:rest()) -- what it still said was sent
        end
        if way[2] == "reset" then
          timed.assert_told(s, "Connection_Dropped")
        else
          assert.equal(0, timed.reasons(s).Connection_Dropped)
        end
        client:close()
        assert.equal(0, s:stop())
      end)
    end
  end

  it("is not a GOAWAY alone: what runs goes on, and then the connection ends", function()
    local s = held.start({ ["h2.cleartext"] = true })
    local client = h2.connect(s)
    local id = hold(client, s, "n1")
    client:send(frames.goaway(0, "NO_ERROR"))
    client:settle()
    s:go()
    assert.matches("^n1 ", client:response(id).body)
    assert.equal("closed", client:rest())
    client:close()
    assert.equal(0, s:stop())
    held.stop_all()
  end)

  it("of many streams by one reset tells each", function()
    local s = timed.start(CANCELS, "h2.cleartext=true")
    local client = h2.connect(s)
    for _ = 1, 20 do
      client:open("/waits")
    end
    client:settle():reset()
    s:await(("on_cancel reset%..*"):rep(20))
    timed.assert_told(s, "Connection_Dropped", nil, 20)
    assert.equal(0, s:stop())
  end)

  it("of a request in one read with its head reaches no handler, and is told", function()
    local s = timed.start(CANCELS, "h2.cleartext=true")
    local client = h2.connect(s)
    client:settle()
    client:send(frames.request(1, { [":path"] = "/waits" }) .. frames.rst_stream(1, "CANCEL"))
    client.next_id = 3
    assert.equal("open", client:request("/gate").body)
    timed.assert_told(s, "Client_Reset")
    assert.is_nil(s:stderr():find("it waits", 1, true))
    client:close()
    assert.equal(0, s:stop())
  end)
end)

-- What a peer does too often ends its connection alone; the counts of the settings are small here.
describe("Abuse of HTTP/2", function()
  local s
  setup(function()
    s = timed.start(CANCELS, "h2.cleartext=true", "h2.max_resets=5", "h2.max_settings=5",
      "h2.max_pings=5", "h2.max_empty_frames=5", "h2.max_other_frames=5", "h2.max_continuations=2")
  end)
  teardown(function()
    assert.equal(0, s:stop())
    timed.stop_all()
  end)

  local function request(id)
    return frames.request(id, { [":path"] = "/gate" })
  end
  local cases = {
    { "resets of the client", "H2_Resets", function(i)
      return request(2 * i - 1) .. frames.rst_stream(2 * i - 1, "CANCEL")
    end },
    { "resets that it provokes", "H2_Resets", function(i)
      return frames.request(2 * i - 1, { [":path"] = "/waits" })
        .. frames.window_update(2 * i - 1, 0x7fffffff)
    end },
    { "resets of what is malformed", "H2_Resets", function(i)
      return frames.request(2 * i - 1, { { "X", "y" } })
    end },
    { "SETTINGS", "H2_Settings", function()
      return frames.settings({})
    end },
    { "PING", "H2_Pings", function()
      return frames.ping("12345678")
    end },
    { "empty DATA", "H2_EmptyFrames", function(i)
      return (i == 1 and frames.request(1, { [":path"] = "/reads", [":method"] = "POST" },
        { open = true }) or "") .. frames.data(1, "")
    end },
    { "WINDOW_UPDATE", "H2_OtherFrames", function()
      return frames.window_update(0, 1):rep(20)
    end },
    { "PRIORITY", "H2_OtherFrames", function()
      return frames.frame("PRIORITY", 0, 1, "\0\0\0\0\1")
    end },
    { "PRIORITY_UPDATE", "H2_OtherFrames", function()
      return frames.priority_update(1, "u=1")
    end },
    { "frames of no known type", "H2_OtherFrames", function()
      return frames.frame(0x42, 0, 0, "x")
    end },
    { "CONTINUATION", "H2_Continuations", function(i)
      return i == 1 and frames.headers(1, h2.fields("/gate"), { goes_on = true })
        or frames.continuation(1, { { "x", "y" } }, true)
    end },
    { "what is not HTTP/2", "H2_Protocol", function()
      return frames.data(0, "x")
    end, code = "PROTOCOL_ERROR" },
  }
  for _, case in ipairs(cases) do
    it(("by too many %s ends its connection with a reason, and no other"):format(case[1]),
      function()
        local normal, hostile = h2.connect(s), h2.connect(s)
        assert.equal("open", normal:request("/gate").body)
        hostile:settle()
        local before = timed.reasons(s)[case[2]]
        local list = {}
        for i = 1, 40 do
          list[i] = case[3](i)
        end
        pcall(hostile.send, hostile, table.concat(list))
        hostile:rest()
        assert.is_truthy(hostile.goaways)
        assert.equal(case.code or "ENHANCE_YOUR_CALM", hostile.goaways[#hostile.goaways].code)
        s:await(("session_ended [^\n]*reason=%s "):format(case[2]))
        assert.equal(before + 1, timed.reasons(s)[case[2]])
        local _, port = hostile.connection.tcp:getsockname()
        await("a line of the HTTP error log", function()
          return (s.http_log:read("http.log") or ""):find((" 127.0.0.1 %d [^\n]* %s %%-\n"):format(
            port, case[2]))
        end)
        assert.equal("open", normal:request("/gate").body)
        normal:close()
        hostile:close()
      end)
  end
end)

describe("The PROXY protocol before HTTP/2", function()
  local s
  setup(function()
    s = server.start({ app = [[
return function(req)
  return table.concat({ req.client.ip, math.tointeger(req.client.port), req.peer.ip, req.scheme,
    req.host, req.protocol }, " ")
end]], options = { "--set", "h2.cleartext=true", "--set", "trusted_proxies=127.0.0.1" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  local V1 = "PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n"
  local V2 = "\r\n\r\n\0\r\nQUIT\n" .. string.pack(">BBs2", 0x21, 0x11,
    string.pack(">c4c4I2I2", "\192\0\2\1", "\127\0\0\1", 4711, 80))
  local PLAIN = "127.0.0.1 %d 127.0.0.1 http test HTTP/2"
  local cases = {
    { "version 1", V1, "192.0.2.1 4711 127.0.0.1 http test HTTP/2" },
    { "version 2", V2, "192.0.2.1 4711 127.0.0.1 http test HTTP/2" },
    { "none", "", PLAIN },
  }
  for _, case in ipairs(cases) do
    for _, size in ipairs({ false, 1 }) do
      it(("%s, %s"):format(case[1], size and "byte by byte" or "whole"), function()
        local connection = s:connect()
        local _, port = connection.tcp:getsockname()
        local client = h2.over(connection, { settings = false })
        local bytes = case[2] .. frames.PREFACE .. frames.settings({}) .. frames.headers(1,
          h2.fields("/"))
        for at = 1, #bytes, size or #bytes do
          client:send(bytes:sub(at, at + (size or #bytes) - 1))
        end
        assert.equal(case[3]:format(port), client:response(1).body)
        client:close()
      end)
    end
  end

  it("leaves Forwarded of who it names unheard, and hears that of a proxy without it", function()
    local forwarded = { { "forwarded", "for=203.0.113.9;proto=https;host=away" } }
    local client = h2.connect(s)
    assert.equal("203.0.113.9 0 127.0.0.1 https away HTTP/2", client:request("/", forwarded).body)
    assert.equal("203.0.113.7 0 127.0.0.1 http test HTTP/2",
      client:request("/", { { "x-forwarded-for", "203.0.113.7" } }).body)
    assert.equal(400, client:request("/", { { "forwarded", "for=" } }).status)
    client:close()
    client = h2.over(s:connect():send(V1))
    assert.matches("^192.0.2.1 4711 127.0.0.1 http test ", client:request("/", forwarded).body)
    client:close()
  end)

  it("that is none closes the connection without an answer", function()
    local connection = s:connect()
    connection:send("PROXY TCP9 1.2.3.4 5.6.7.8 1 2\r\n", frames.PREFACE)
    assert.equal("", (connection:rest()))
    connection:close()
  end)
end)
