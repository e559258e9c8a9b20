local frames = require("spec.support.h2_frames")
local h2_probe = require("spec.support.h2_probe")

local function post(id, more)
  return frames.request(id, { [":method"] = "POST", table.unpack(more or {}) }, { open = true })
end

--- What a connection gets that ends with this trouble, for bytes behind the preface or not.
local function fail(bytes, code, reason, options, last)
  h2_probe.each_way(options, nil, function(peer, feed, how)
    local ok, got_reason, detail = feed(bytes)
    assert.same({ reason }, { not ok and got_reason or "none" }, how)
    assert.is_string(detail)
    assert.same({ nil, got_reason, detail }, { peer:feed(frames.request(99)) }, how)
    local list = peer:frames()
    local goaway = list[#list]
    assert.same({ "GOAWAY", code }, { goaway and goaway.type, goaway and goaway.code }, how)
    assert.equal(last or 0, goaway.last)
    assert.is_true(peer.session:state().over, how)
    assert.same({}, peer:sent(), how)
  end)
end

describe("h2 preface (RFC 9113 section 3.4)", function()
  it("is answered by our SETTINGS and the connection's window, whatever came first", function()
    local peer = h2_probe.new({ max_concurrent_streams = 7, stream_window_bytes = 70000,
      header_table_bytes = 1000, max_request_head_bytes = 5000 })
    local sent = peer:frames()
    assert.same({ "SETTINGS 0", "WINDOW_UPDATE 0" }, h2_probe.describe(sent))
    assert.same({ MAX_CONCURRENT_STREAMS = 7, INITIAL_WINDOW_SIZE = 70000,
      HEADER_TABLE_SIZE = 1000, MAX_HEADER_LIST_SIZE = 5000, NO_RFC7540_PRIORITIES = 1 },
      sent[1].values)
    assert.equal((1 << 20) - 65535, sent[2].bytes)
    assert(peer:feed(frames.PREFACE .. frames.settings({}) .. frames.settings()))
    assert.same({ "SETTINGS 0 ACK" }, peer:sent())
    assert.same({ wants_send = false, over = false, streams = 0 }, peer.session:state())
  end)

  it("opens a window for the connection that is no smaller than a stream's", function()
    local sent = h2_probe.new({ stream_window_bytes = 3 << 20 }):frames()
    assert.equal((3 << 20) - 65535, sent[2].bytes)
  end)

  local bad = {
    { "another protocol", "GET / HTTP/1.1\r\n\r\n" },
    { "a preface with a wrong byte", (frames.PREFACE:gsub("SM", "SN")) },
    { "a preface that begins late", "\n" .. frames.PREFACE },
  }
  for _, case in ipairs(bad) do
    for _, size in ipairs({ #case[2], 1 }) do
      it(("refuses %s, in pieces of %d"):format(case[1], size), function()
        local peer = h2_probe.new()
        local ok, reason = peer:feed(case[2], size)
        assert.same({ nil, "H2_Preface" }, { ok, reason })
        assert.same({ "SETTINGS 0", "GOAWAY 0 PROTOCOL_ERROR" }, peer:sent())
        assert.is_true(peer.session:state().over)
      end)
    end
  end

  it("must be followed by SETTINGS", function()
    for _, size in ipairs({ 100, 1 }) do
      local peer = h2_probe.new()
      local ok, reason = peer:feed(frames.PREFACE .. frames.ping("12345678"), size)
      assert.same({ nil, "H2_Protocol" }, { ok, reason })
      local sent = peer:sent()
      assert.equal("GOAWAY 0 PROTOCOL_ERROR", sent[#sent])
    end
  end)
end)

describe("h2 content (RFC 9113 section 8.1)", function()
  it("is given as it comes, and ends", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.data(1, "hello ") .. frames.data(1, "world", true)))
      local events = peer:events()
      assert.same({ "head", "data", "ended" }, { events[1][1], events[2][1], events[3][1] }, how)
      assert.is_false(events[1].ended)
      assert.equal("hello world", events[2].bytes)
      assert.same({ {}, 11 }, { events[3].trailers, events[3].content_bytes })
    end)
  end)

  it("may end in an empty frame, and have padding", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.frame("DATA", frames.PADDED, 1, "\3hello\0\0\0")
        .. frames.data(1, "", true)))
      assert.same({ "head 1", "data 1 hello", "ended 1" }, peer:happened(), how)
    end)
  end)

  it("belongs to its stream, whichever comes between", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. post(3) .. frames.data(3, "c") .. frames.data(1, "a")
        .. frames.data(3, "d", true) .. frames.data(1, "b", true)))
      assert.same({ "head 1", "head 3", "data 3 c", "data 1 a", "data 3 d", "ended 3", "data 1 b",
        "ended 1" }, peer:happened(), how)
    end)
  end)

  it("has trailers, without those that may not be any", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.data(1, "x") .. frames.headers(1,
        { { "x-sum", "1" }, { "authorization", "z" }, { "x-b", "" }, { "cookie", "c" } })))
      local events = peer:events()
      assert.same({ { "x-sum", "1" }, { "x-b", "" } }, events[3].trailers, how)
      assert.equal("ended", events[3][1])
    end)
  end)

  it("may be trailers alone", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.headers(1, { { "x", "y" } })))
      assert.same({ "head 1", "ended 1" }, peer:happened(), how)
    end)
  end)

  -- { what, bytes behind a head with Content-Length: 5, what happened before the reset }
  local wrong = {
    { "less than Content-Length", frames.data(1, "abcd", true), { "head 1", "data 1 abcd" } },
    { "nothing of its Content-Length", frames.data(1, "", true), { "head 1" } },
    { "trailers before Content-Length is reached", frames.headers(1, { { "x", "y" } }),
      { "head 1" } },
    { "Host among the trailers", frames.data(1, "abcde") .. frames.headers(1, { { "host", "h" } }),
      { "head 1", "data 1 abcde" } },
    { "Content-Length among the trailers",
      frames.data(1, "abcde") .. frames.headers(1, { { "content-length", "5" } }),
      { "head 1", "data 1 abcde" } },
    { "a pseudo-field among the trailers",
      frames.data(1, "abcde") .. frames.headers(1, { { ":path", "/" } }),
      { "head 1", "data 1 abcde" } },
    { "trailers that do not end it",
      frames.data(1, "abcde") .. frames.headers(1, { { "x", "y" } }, { open = true }),
      { "head 1", "data 1 abcde" } },
  }
  for _, case in ipairs(wrong) do
    it("resets the stream for " .. case[1], function()
      h2_probe.each_way(nil, nil, function(peer, feed, how)
        assert(feed(post(1, { { "content-length", "5" } }) .. case[2]))
        assert.same(case[3], peer:happened(), how)
        assert.same({ "RST_STREAM 1 PROTOCOL_ERROR" }, peer:sent(), how)
        assert.same({ "closed 1 1" }, peer:happened(), how)
      end)
    end)
  end

  it("resets the stream for more than Content-Length, and gives nothing of that frame", function()
    for _, frame in ipairs({ frames.data(1, "ef"), frames.data(1, "ef", true),
      frames.frame("DATA", frames.PADDED, 1, "\2ef\0\0") }) do
      h2_probe.each_way(nil, nil, function(peer, feed, how)
        assert(feed(post(1, { { "content-length", "5" } }) .. frames.data(1, "abcd") .. frame))
        assert.same({ "head 1", "data 1 abcd" }, peer:happened(), how)
        assert.same({ "RST_STREAM 1 PROTOCOL_ERROR" }, peer:sent(), how)
      end)
    end
  end)

  it("may have padding beyond Content-Length", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1, { { "content-length", "5" } })
        .. frames.frame("DATA", frames.PADDED | frames.END_STREAM, 1, "\4hello\0\0\0\0")))
      assert.same({ "head 1", "data 1 hello", "ended 1" }, peer:happened(), how)
    end)
  end)

  it("takes Host among trailers for a fault also when only :authority named the host", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.headers(1, { { "host", "h" } })))
      assert.same({ "RST_STREAM 1 PROTOCOL_ERROR" }, peer:sent(), how)
    end)
  end)

  local limits = {
    { "a line", { max_field_length = 50 }, { { "x", ("v"):rep(48) } } },
    { "their number", { max_fields = 2 }, { { "x", "" }, { "te", "trailers" }, { "y", "" } } },
    { "their bytes", { max_request_head_bytes = 200 }, { { "x", ("v"):rep(168) } } },
  }
  for _, case in ipairs(limits) do
    it(("resets the stream for trailers above the limit on %s"):format(case[1]), function()
      h2_probe.each_way(case[2], nil, function(peer, feed, how)
        assert(feed(post(1) .. frames.headers(1, case[3])))
        assert.same({ "RST_STREAM 1 ENHANCE_YOUR_CALM" }, peer:sent(), how)
        assert.same({ "head 1", "closed 1 11" }, peer:happened(), how)
      end)
    end)
  end
end)

describe("h2 flow control (RFC 9113 section 5.2)", function()
  local function credit(peer)
    local bytes = { [0] = 0, 0 }
    for _, frame in ipairs(peer:frames_of("WINDOW_UPDATE")) do
      bytes[frame.id] = bytes[frame.id] + frame.bytes
    end
    return bytes
  end

  it("credits a stream for what was consumed alone", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.settings() .. post(1)))
    for _ = 1, 3 do
      assert(peer:feed(frames.data(1, ("x"):rep(16384))))
    end
    assert.equal(0, credit(peer)[1])
    peer.session:consumed(1, 32766)
    assert.equal(0, credit(peer)[1])
    peer.session:consumed(1, 1)
    assert.equal(32767, credit(peer)[1])
  end)

  it("resets a stream whose window is overrun", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.settings() .. post(1) .. post(3)))
      for _ = 1, 3 do
        assert(feed(frames.data(1, ("x"):rep(16384))))
      end
      assert(feed(frames.data(1, ("x"):rep(16383))))
      assert.same({}, peer:sent(), how)
      assert(feed(frames.data(1, "x") .. frames.data(3, "x")))
      assert.same({ "RST_STREAM 1 FLOW_CONTROL_ERROR" }, peer:sent(), how)
    end)
  end)

  it("credits the connection for all that came, also of streams that are gone", function()
    local peer = h2_probe.open({ stream_window_bytes = 65535 })
    assert(peer:feed(frames.settings()))
    local sent, credited = 0, 0
    for stream = 1, 79, 2 do
      assert(peer:feed(post(stream)))
      for _ = 1, 3 do
        assert(peer:feed(frames.data(stream, ("x"):rep(16384))))
        sent = sent + 16384
      end
      if stream % 4 == 1 then
        assert(peer:feed(frames.rst_stream(stream, "CANCEL")))
      else
        peer.session:reset(stream, 8)
      end
      assert(peer:feed(frames.data(stream, ("x"):rep(16384)))) -- was on its way
      sent = sent + 16384
      credited = credited + credit(peer)[0]
    end
    assert.is_true(sent > 2 << 20)
    assert.is_true(sent - credited <= 1 << 19, sent - credited)
    assert.equal(0, peer.session:state().streams)
  end)

  it("credits padding at once", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.settings() .. post(1)))
    for _ = 1, 150 do
      assert(peer:feed(frames.frame("DATA", frames.PADDED, 1, "\xFFx" .. ("\0"):rep(255))))
    end
    assert.is_true(credit(peer)[1] > 32767)
  end)

  it("asks for nothing more of a stream whose content has ended", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.settings() .. post(1) .. frames.data(1, ("x"):rep(16384))
      .. frames.data(1, ("x"):rep(16384)) .. frames.data(1, ("x"):rep(16384), true)))
    peer.session:consumed(1, 49152)
    assert.same({}, peer:sent())
  end)

  it("ends a connection whose window is overrun", function()
    for _, size in ipairs({ 100, 16393 }) do
      local peer = h2_probe.open({ stream_window_bytes = 1 << 20 })
      assert(peer:feed(frames.settings() .. post(1) .. post(3)))
      local bytes, ok, reason = 0, true, nil
      while ok and bytes < 4 << 20 do
        bytes = bytes + 16384
        ok, reason = peer:feed(frames.data(bytes // 16384 % 2 * 2 + 1, ("x"):rep(16384)), size)
      end
      -- The window, and the half of it whose credit we did not send yet.
      assert.same({ nil, "H2_Protocol" }, { ok, reason })
      assert.is_true(bytes <= (3 << 19) + 16384, bytes)
      assert.same({ "GOAWAY 3 FLOW_CONTROL_ERROR" }, peer:sent())
    end
  end)
end)

describe("h2 streams", function()
  it("above the limit are refused, also when our SETTINGS were acknowledged", function()
    h2_probe.each_way({ max_concurrent_streams = 2 }, nil, function(peer, feed, how)
      assert(feed(frames.settings() .. frames.request(1) .. post(3) .. frames.request(5)
        .. post(7) .. frames.data(7, "x", true)))
      assert.same({ "head 1", "head 3" }, peer:happened(), how)
      assert.same({ "RST_STREAM 5 REFUSED_STREAM", "RST_STREAM 7 REFUSED_STREAM" },
        peer:sent(), how)
      assert.equal(2, peer.session:state().streams)
      assert.equal(2, peer.session:refused())
      peer.session:respond(1, { no_content = true })
      assert.same({ "HEADERS 1 ." }, peer:sent(), how)
      assert(feed(frames.request(9)))
      assert.same({ "closed 1 0", "head 9" }, peer:happened(), how)
    end)
  end)

  it("are refused as the owner likes", function()
    h2_probe.each_way({ refuse = true }, nil, function(peer, feed, how)
      assert(feed(frames.request(1)))
      peer.session:refuse(false)
      assert(feed(frames.request(3)))
      assert.same({ "head 3" }, peer:happened(), how)
      assert.same({ "RST_STREAM 1 REFUSED_STREAM" }, peer:sent(), how)
      assert.equal(1, peer.session:refused())
    end)
  end)

  it("keep HPACK's table right when they are refused", function()
    h2_probe.each_way({ max_concurrent_streams = 1 }, nil, function(peer, feed, how)
      local start = frames.block({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" },
        { ":authority", "h" } })
      assert(feed(frames.request(1)))
      assert(feed(frames.headers(3, start .. frames.indexed_literal("x-a", "kept"))))
      peer.session:respond(1, { no_content = true })
      peer:frames()
      assert(feed(frames.headers(5, start .. frames.reference(62))))
      local events = peer:events()
      assert.same({ { "x-a", "kept" } }, events[#events].fields, how)
    end)
  end)

  it("are closed by the peer's reset", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(post(1) .. frames.data(1, "x") .. frames.rst_stream(1, "CANCEL")
        .. frames.data(1, "y") .. frames.headers(1, { { "x", "y" } })))
      assert.same({ "head 1", "data 1 x", "closed 1 8" }, peer:happened(), how)
      peer.session:respond(1, { no_content = true })
      peer.session:content(1, "x", true)
      peer.session:consumed(1, 1)
      peer.session:inform(1, 103, {})
      peer.session:reset(1, 8)
      assert.same({}, peer:sent(), how)
    end)
  end)

  it("are closed in the middle of a head, too", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      local block = frames.block({ { ":method", "GET" }, { ":scheme", "http" } })
      assert(feed(frames.frame("HEADERS", 1, 1, block)))
      peer.session:reset(1, 8)
      assert.same({ "RST_STREAM 1 CANCEL" }, peer:sent(), how)
      assert(feed(frames.continuation(1, { { ":path", "/" }, { ":authority", "h" } })
        .. frames.request(3)))
      assert.same({ "closed 1 8", "head 3" }, peer:happened(), how)
    end)
  end)
end)

describe("h2 connection errors (RFC 9113 section 5.4.1)", function()
  local GET = frames.request(1)
  local cases = {
    { "a frame that is too long", frames.frame("PING", 0, 0, ("x"):rep(16385)),
      "FRAME_SIZE_ERROR" },
    { "DATA on the connection", frames.data(0, "x"), "PROTOCOL_ERROR" },
    { "DATA on an idle stream", frames.data(1, "x"), "PROTOCOL_ERROR" },
    { "DATA behind the end", GET .. frames.data(1, "x"), "STREAM_CLOSED", 1 },
    { "DATA with more padding than room", post(1) .. frames.frame("DATA", 8, 1, "\6abcde"),
      "PROTOCOL_ERROR", 1 },
    { "HEADERS on the connection", frames.request(0), "PROTOCOL_ERROR" },
    { "HEADERS on a stream of ours", frames.request(2), "PROTOCOL_ERROR" },
    { "HEADERS behind the end", GET .. frames.headers(1, { { "x", "y" } }), "STREAM_CLOSED", 1 },
    { "a field block that is malformed", frames.headers(1, "\xFF\xFF\xFF\xFF\xFF\xFF"),
      "COMPRESSION_ERROR", 1 },
    { "a reference to no line of the table", frames.headers(1, frames.reference(90)),
      "COMPRESSION_ERROR", 1 },
    { "CONTINUATION without HEADERS", frames.continuation(1, {}), "PROTOCOL_ERROR" },
    { "CONTINUATION of another stream",
      frames.request(1, nil, { goes_on = true }) .. frames.continuation(3, {}),
      "PROTOCOL_ERROR", 1 },
    { "another frame inside a head",
      frames.request(1, nil, { goes_on = true }) .. frames.ping("12345678"), "PROTOCOL_ERROR", 1 },
    { "an unknown frame inside a head",
      frames.request(1, nil, { goes_on = true }) .. frames.frame(0x77, 0, 0), "PROTOCOL_ERROR", 1 },
    { "PRIORITY_UPDATE inside a head", frames.request(1, nil, { goes_on = true })
      .. frames.priority_update(1, "u=1"), "PROTOCOL_ERROR", 1 },
    { "PUSH_PROMISE of a client", frames.frame("PUSH_PROMISE", 4, 1, "\0\0\0\2"),
      "PROTOCOL_ERROR" },
    { "RST_STREAM on the connection", frames.rst_stream(0, 8), "PROTOCOL_ERROR" },
    { "RST_STREAM of an idle stream", frames.rst_stream(1, 8), "PROTOCOL_ERROR" },
    { "RST_STREAM of a wrong size", GET .. frames.frame("RST_STREAM", 0, 1, "abc"),
      "FRAME_SIZE_ERROR", 1 },
    { "SETTINGS on a stream", frames.frame("SETTINGS", 0, 1), "PROTOCOL_ERROR" },
    { "SETTINGS of a wrong size", frames.frame("SETTINGS", 0, 0, "abcde"), "FRAME_SIZE_ERROR" },
    { "an acknowledgement with settings", frames.frame("SETTINGS", 1, 0, "\0\1\0\0\0\0"),
      "FRAME_SIZE_ERROR" },
    { "an acknowledgement too many", frames.settings() .. frames.settings(), "PROTOCOL_ERROR" },
    { "a window that is too large", frames.settings({ INITIAL_WINDOW_SIZE = 1 << 31 }),
      "FLOW_CONTROL_ERROR" },
    { "a frame size that is too small", frames.settings({ MAX_FRAME_SIZE = 16383 }),
      "PROTOCOL_ERROR" },
    { "ENABLE_PUSH that is no boolean", frames.settings({ ENABLE_PUSH = 2 }), "PROTOCOL_ERROR" },
    { "PING on a stream", frames.frame("PING", 0, 1, "12345678"), "PROTOCOL_ERROR" },
    { "PING of a wrong size", frames.ping("1234567"), "FRAME_SIZE_ERROR" },
    { "GOAWAY on a stream", frames.frame("GOAWAY", 0, 1, "\0\0\0\0\0\0\0\0"), "PROTOCOL_ERROR" },
    { "GOAWAY of a wrong size", frames.frame("GOAWAY", 0, 0, "\0\0\0\0"), "FRAME_SIZE_ERROR" },
    { "WINDOW_UPDATE of an idle stream", frames.window_update(1, 1), "PROTOCOL_ERROR" },
    { "WINDOW_UPDATE of nothing", frames.window_update(0, 0), "PROTOCOL_ERROR" },
    { "WINDOW_UPDATE of nothing on a stream", GET .. frames.window_update(1, 0),
      "PROTOCOL_ERROR", 1 },
    { "a window above 2^31-1", frames.window_update(0, 0x7fffffff), "FLOW_CONTROL_ERROR" },
    { "PRIORITY of a wrong size", frames.frame("PRIORITY", 0, 1, "abcd"), "FRAME_SIZE_ERROR" },
    { "PRIORITY_UPDATE on a stream", frames.frame("PRIORITY_UPDATE", 0, 1, "\0\0\0\1u=1"),
      "PROTOCOL_ERROR" },
    { "PRIORITY_UPDATE of the connection", frames.priority_update(0, "u=1"), "PROTOCOL_ERROR" },
    { "PRIORITY_UPDATE of a stream of ours", frames.priority_update(2, "u=1"), "PROTOCOL_ERROR" },
    { "PRIORITY_UPDATE without a stream", frames.frame("PRIORITY_UPDATE", 0, 0, "abc"),
      "FRAME_SIZE_ERROR" },
  }
  for _, case in ipairs(cases) do
    it("end it for " .. case[1], function()
      fail(case[2], case[3], "H2_Protocol", nil, case[4])
    end)
  end

  it("leave what was sent before as it is, and end the rest", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.request(1) .. frames.request(3)))
    peer.session:respond(1, { content = "hello" })
    assert.same({ "HEADERS 1", "DATA 1 ." }, peer:sent())
    peer.session:respond(3, { content = "hello" })
    assert.is_nil(peer:feed(frames.ping("1")))
    assert.same({ "GOAWAY 3 FRAME_SIZE_ERROR" }, peer:sent())
    assert.same({ "head 1", "head 3", "closed 1 0" }, peer:happened())
  end)

  it("do not come from what a peer may do", function()
    h2_probe.each_way(nil, nil, function(peer, feed, how)
      assert(feed(frames.frame(0x77, 0xFF, 5, "unknown") .. frames.frame(0xEE, 0, 0, "unknown")
        .. frames.frame(0xEE, 0, 0) .. frames.frame("PRIORITY", 0, 7, "\0\0\0\0\16")
        .. frames.settings({ [0x99] = 5 }) .. frames.ping("12345678", true)
        .. frames.request(1) .. frames.rst_stream(1, 8) .. frames.rst_stream(1, 8)
        .. frames.window_update(1, 1) .. frames.data(1, "late") .. frames.request(3)))
      assert.same({ "head 1", "closed 1 8", "head 3" }, peer:happened(), how)
      assert.same({ "SETTINGS 0 ACK" }, peer:sent(), how)
    end)
  end)
end)
