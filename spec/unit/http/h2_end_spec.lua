local frames = require("spec.support.h2_frames")
local h2_probe = require("spec.support.h2_probe")

local NOTICE = "GOAWAY 2147483647 NO_ERROR"

local function answer(peer, id)
  peer.session:respond(id, { no_content = true })
end

--- The text of the PING that the session sends, and all that it sends.
local function ping_of(peer)
  local sent, text = peer:frames(), nil
  for _, frame in ipairs(sent) do
    if frame.type == "PING" then text = frame.payload end
  end
  return text, h2_probe.describe(sent)
end

describe("h2 shutting down (RFC 9113 section 6.8)", function()
  it("soon: notice, PING, and the last stream when that is answered", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.request(1)))
      peer.session:shut_down(true)
      peer.session:shut_down(true)
      answer(peer, 1)
      local text, sent = ping_of(peer)
      assert.same({ NOTICE, "PING 0", "HEADERS 1 ." }, sent, how)
      assert.same({}, peer:sent())
      assert(feed(frames.request(3) .. frames.ping("not this", true)))
      assert.same({}, peer:sent(), how)
      assert(feed(frames.ping(text, true)))
      assert.same({ "GOAWAY 3 NO_ERROR" }, peer:sent(), how)
      assert(feed(frames.request(5))) -- on its way: the peer knows that nothing was done with it
      answer(peer, 3)
      assert.is_false(peer.session:state().over)
      assert.same({ "HEADERS 3 ." }, peer:sent(), how)
      assert.same({ "head 1", "closed 1 0", "head 3", "closed 3 0" }, peer:happened(), how)
      assert.is_true(peer.session:state().over)
      assert(feed(frames.request(7)))
      assert.same({}, peer:sent())
      assert(feed("whatever"))
    end)
  end)

  it("not soon: notice, and the last stream 200 streams later", function()
    local peer = h2_probe.open()
    peer.session:shut_down()
    peer.session:shut_down(false)
    assert.same({ NOTICE }, peer:sent())
    for id = 1, 397, 2 do
      assert(peer:feed(frames.request(id)))
      answer(peer, id)
      assert.same({ ("HEADERS %d ."):format(id) }, peer:sent())
    end
    assert(peer:feed(frames.request(399)))
    answer(peer, 399)
    assert.same({ "GOAWAY 399 NO_ERROR", "HEADERS 399 ." }, peer:sent())
    assert.is_true(peer.session:state().over)
  end)

  it("soon behind not soon", function()
    local peer = h2_probe.open()
    peer.session:shut_down()
    assert.same({ NOTICE }, peer:sent())
    peer.session:shut_down(true)
    local text, sent = ping_of(peer)
    assert.same({ "PING 0" }, sent)
    assert(peer:feed(frames.ping(text, true)))
    assert.same({ "GOAWAY 0 NO_ERROR" }, peer:sent())
    assert.is_true(peer.session:state().over)
    peer.session:shut_down(true)
    assert.same({}, peer:sent())
  end)

  it("names a last stream once", function()
    local peer = h2_probe.open({ max_concurrent_streams = 1000 })
    peer.session:shut_down(true)
    local text = ping_of(peer)
    local list = {}
    for id = 1, 399, 2 do
      list[#list + 1] = frames.request(id)
    end
    assert(peer:feed(table.concat(list)))
    assert.same({ "GOAWAY 399 NO_ERROR" }, peer:sent())
    assert(peer:feed(frames.ping(text, true)))
    assert.same({}, peer:sent())
  end)

  it("lets no stream begin behind the last, also while that has not left", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.request(1)))
      peer.session:shut_down(true)
      local list = { frames.ping(ping_of(peer), true) }
      for id = 3, 501, 2 do
        list[#list + 1] = frames.request(id)
      end
      assert(feed(table.concat(list)))
      assert.same({ "head 1" }, peer:happened(), how)
      local sent = peer:sent()
      assert.equal("GOAWAY 1 NO_ERROR", sent[1], how)
      for i = 2, #sent do
        assert.matches("^RST_STREAM %d+ REFUSED_STREAM$", sent[i])
      end
      answer(peer, 1)
      assert.same({ "HEADERS 1 ." }, peer:sent(), how)
      assert.is_true(peer.session:state().over, how)
    end)
  end)

  it("refused streams count as taken", function()
    local peer = h2_probe.open({ refuse = true })
    assert(peer:feed(frames.request(1)))
    peer.session:shut_down(true)
    local text, sent = ping_of(peer)
    assert.same({ "RST_STREAM 1 REFUSED_STREAM", NOTICE, "PING 0" }, sent)
    assert(peer:feed(frames.ping(text, true)))
    assert.same({ "GOAWAY 1 NO_ERROR" }, peer:sent())
  end)
end)

describe("h2 termination", function()
  it("ends the session at once with a code, and finishes nothing", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.request(1)))
    peer.session:respond(1, { content = "hello" })
    peer.session:terminate(2)
    peer.session:shut_down(true)
    assert.is_true(peer:feed(frames.request(3)))
    assert.same({ "GOAWAY 1 INTERNAL_ERROR" }, peer:sent())
    assert.same({ "head 1" }, peer:happened())
    assert.is_true(peer.session:state().over)
    assert.is_nil(peer.session:trouble())
  end)

  it("may come from inside an event", function()
    for _, name in ipairs({ "head", "data", "ended", "closed", "pull" }) do
      local peer = h2_probe.open({}, function(session, event)
        if event[1] == name then session:terminate(11) end
      end)
      assert(peer:feed(frames.request(1, {}, { open = true }) .. frames.data(1, "x")))
      peer.session:respond(1, { content = "hello" })
      peer:feed(frames.data(1, "", true))
      local sent = peer:sent()
      if name == "closed" then peer:frames() end
      assert.equal("GOAWAY 1 ENHANCE_YOUR_CALM", sent[#sent], name)
      assert.is_true(peer.session:state().over, name)
    end
  end)
end)

describe("h2 GOAWAY of the peer", function()
  it("lets streams finish, then the session is over", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.request(1) .. frames.goaway(0, "NO_ERROR", "bye")))
      assert.is_false(peer.session:state().over, how)
      peer.session:respond(1, { content = "hello" })
      assert.same({ "HEADERS 1", "DATA 1 ." }, peer:sent(), how)
      assert.is_true(peer.session:state().over, how)
      assert(feed(frames.ping("12345678")))
      assert.same({}, peer:sent(), how)
      assert.is_nil(peer.session:trouble())
    end)
  end)

  it("without streams ends it", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.goaway(0, "PROTOCOL_ERROR", ("x"):rep(1000)) .. frames.request(1)))
      assert.is_true(peer.session:state().over, how)
      assert.same({}, peer:happened(), how)
      assert.same({}, peer:sent(), how)
    end)
  end)

  it("may come again, within the limit on other frames", function()
    local peer = h2_probe.open({ max_other_frames = 3 })
    assert(peer:feed(frames.request(1)))
    for _ = 1, 3 do
      assert(peer:feed(frames.goaway(0, 0)))
    end
    assert.is_nil(peer:feed(frames.goaway(0, 0)))
    assert.equal("H2_OtherFrames", (peer.session:trouble()))
  end)
end)

describe("h2 upgrade from HTTP/1.1 (RFC 7540 section 3.2)", function()
  local function base64url(bytes)
    local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return (bytes:gsub("..?.?", function(group)
      local a, b, c = group:byte(1, 3)
      local bits = a << 16 | (b or 0) << 8 | (c or 0)
      local text = ""
      for i = 0, #group do
        local digit = bits >> (18 - 6 * i) & 63
        text = text .. digits:sub(digit + 1, digit + 1)
      end
      return text
    end))
  end

  local function settings(values)
    return base64url(frames.settings(values):sub(10))
  end

  it("answers on stream 1 with the settings of the request", function()
    for _, size in ipairs({ 1000, 1 }) do
      local peer = h2_probe.new()
      assert.is_true(peer.session:upgrade(settings({ INITIAL_WINDOW_SIZE = 5, ENABLE_PUSH = 0 })))
      assert.same({ wants_send = true, over = false, streams = 1 }, peer.session:state())
      peer.session:respond(1, { content = "hello world" })
      local sent = peer:frames()
      assert.same({ "SETTINGS 0", "WINDOW_UPDATE 0", "HEADERS 1", "DATA 1" },
        h2_probe.describe(sent))
      assert.equal("hello", sent[4].payload)
      assert.equal(100, sent[1].values.MAX_CONCURRENT_STREAMS)
      assert(peer:feed(frames.PREFACE .. frames.settings({}) .. frames.window_update(1, 100)
        .. frames.request(3), size))
      assert.same({ "SETTINGS 0 ACK", "DATA 1 ." }, peer:sent())
      assert.same({ "head 3", "closed 1 0" }, peer:happened())
    end
  end)

  it("of a HEAD request, with a length and no content", function()
    local peer = h2_probe.new()
    assert.is_true(peer.session:upgrade("", "HEAD"))
    peer.session:respond(1, { length = 5, no_content = true })
    local sent = peer:sent()
    assert.equal("HEADERS 1 .", sent[#sent])
  end)

  it("takes settings of any length", function()
    for entries = 0, 32 do
      local values = {}
      for i = 1, entries do
        values[0x100 + i] = i
      end
      assert.is_true(h2_probe.new().session:upgrade(settings(values)), entries)
    end
  end)

  local bad = {
    { "a byte that is no digit", "AA*A" },
    { "padding", "AAQAAP__AA==" },
    { "digits of base64", "AAQAAP//" },
    { "one digit too many", "AAQAAP__A" },
    { "half an entry", base64url("\0\4\0") },
    { "too many entries", settings((function()
      local values = {}
      for i = 1, 33 do values[0x100 + i] = i end
      return values
    end)()) },
    { "a value that is not allowed", settings({ INITIAL_WINDOW_SIZE = 1 << 31 }) },
    { "NUL", "AAQ\0" },
  }
  for _, case in ipairs(bad) do
    it("refuses settings with " .. case[1], function()
      assert.is_false(h2_probe.new().session:upgrade(case[2]))
    end)
  end
end)
