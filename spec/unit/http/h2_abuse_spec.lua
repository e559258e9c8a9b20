local frames = require("spec.support.h2_frames")
local h2_probe = require("spec.support.h2_probe")

local WINDOW_MS = 10000

local function post(id)
  return frames.request(id, { [":method"] = "POST" }, { open = true })
end

--- The last frame that a session sends, described.
local function last_sent(peer)
  local sent = peer:sent()
  return sent[#sent]
end

-- { what, limit, frame(i), what comes first, reason, other options, how many the preface has used }
local floods = {
  { "RST_STREAM", "max_resets", function(i)
    return post(2 * i - 1) .. frames.rst_stream(2 * i - 1, "CANCEL")
  end, "", "H2_Resets" },
  { "RST_STREAM of streams that are gone", "max_resets", function()
    return frames.rst_stream(1, "CANCEL")
  end, post(1), "H2_Resets" },
  { "streams above the limit", "max_resets", function(i)
    return frames.request(2 * i + 99)
  end, "", "H2_Resets", { max_concurrent_streams = 0 } },
  { "malformed heads", "max_resets", function(i)
    return frames.request(2 * i - 1, { { "X", "upper" } })
  end, "", "H2_Resets" },
  { "malformed trailers", "max_resets", function(i)
    return post(2 * i - 1) .. frames.headers(2 * i - 1, { { "host", "h" } })
  end, "", "H2_Resets" },
  { "content beyond its length", "max_resets", function(i)
    return frames.request(2 * i - 1, { { "content-length", "1" } }, { open = true })
      .. frames.data(2 * i - 1, "xy")
  end, "", "H2_Resets" },
  { "content short of its length", "max_resets", function(i)
    return frames.request(2 * i - 1, { { "content-length", "9" } }, { open = true })
      .. frames.data(2 * i - 1, "xy", true)
  end, "", "H2_Resets" },
  { "windows of streams that overflow", "max_resets", function(i)
    return post(2 * i - 1) .. frames.window_update(2 * i - 1, 0x7fffffff)
  end, "", "H2_Resets" },
  { "SETTINGS", "max_settings", function()
    return frames.settings({ INITIAL_WINDOW_SIZE = 5 })
  end, "", "H2_Settings", nil, 1 },
  { "empty SETTINGS", "max_settings", function()
    return frames.settings({})
  end, "", "H2_Settings", nil, 1 },
  { "PING", "max_pings", function(i)
    return frames.ping(("%08d"):format(i))
  end, "", "H2_Pings" },
  { "PING that answers nothing", "max_pings", function(i)
    return frames.ping(("%08d"):format(i), true)
  end, "", "H2_Pings" },
  { "empty DATA", "max_empty_frames", function()
    return frames.data(1, "")
  end, post(1), "H2_EmptyFrames" },
  { "DATA of padding alone", "max_empty_frames", function()
    return frames.frame("DATA", frames.PADDED, 1, "\5\0\0\0\0\0")
  end, post(1), "H2_EmptyFrames" },
  { "empty DATA of streams that are gone", "max_empty_frames", function()
    return frames.data(1, "")
  end, post(1) .. frames.rst_stream(1, 8), "H2_EmptyFrames" },
  { "empty HEADERS", "max_empty_frames", function(i)
    return frames.frame("HEADERS", frames.PADDED | frames.PRIORITY_FLAG, 2 * i - 1,
      "\1\0\0\0\0\16\0") .. frames.request(2 * i - 1):gsub("^(...)\1\5", "%1\9\4")
  end, "", "H2_EmptyFrames" },
  { "empty CONTINUATION", "max_empty_frames", function(i)
    return frames.request(2 * i - 1, nil, { goes_on = true })
      .. frames.frame("CONTINUATION", frames.END_HEADERS, 2 * i - 1)
  end, "", "H2_EmptyFrames" },
  { "PRIORITY", "max_other_frames", function(i)
    return frames.frame("PRIORITY", 0, 2 * i - 1, "\0\0\0\0\16")
  end, "", "H2_OtherFrames" },
  { "PRIORITY_UPDATE", "max_other_frames", function(i)
    return frames.priority_update(2 * i - 1, "u=1")
  end, "", "H2_OtherFrames" },
  { "frames of unknown types", "max_other_frames", function(i)
    return frames.frame(0x20 + i % 0x80, 0, i, "what is this")
  end, "", "H2_OtherFrames" },
}

describe("h2 floods", function()
  for _, flood in ipairs(floods) do
    local what, limit, frame, start, reason, more, used = table.unpack(flood, 1, 7)
    local function options(number)
      local all = { [limit] = number }
      for key, value in pairs(more or {}) do
        all[key] = value
      end
      return all
    end

    it(("of %s end the session above %s"):format(what, limit), function()
      h2_probe.each_way(options(5), nil, function(peer, feed, how)
        assert(feed(start))
        for i = 1, 5 - (used or 0) do
          assert(feed(frame(i)), how)
        end
        local ok, got, detail = feed(frame(6))
        assert.same({ nil, reason }, { ok, got }, how)
        assert.is_string(detail)
        assert.matches("^GOAWAY %d+ ENHANCE_YOUR_CALM$", last_sent(peer), 1, how)
        assert.is_true(peer.session:state().over)
      end)
    end)

    it(("of %s end it at once, however much comes together"):format(what), function()
      local list = { start }
      for i = 1, 5000 do
        list[i + 1] = frame(i)
      end
      local peer = h2_probe.open(options(5))
      local ok, got = peer:feed(table.concat(list))
      assert.same({ nil, reason }, { ok, got })
      local begun = 0
      for _, event in ipairs(peer:events()) do
        if event[1] == "head" then begun = begun + 1 end
      end
      assert.is_true(begun <= 6, begun)
      local bytes = peer.session:send()
      assert.is_true(#bytes < 1000, #bytes)
    end)

    it(("of %s may come slowly"):format(what), function()
      local peer = h2_probe.open(options(5))
      assert(peer:feed(start))
      peer:frames()
      for i = 1, 100 do
        peer.now = peer.now + WINDOW_MS / 4
        assert(peer:feed(frame(i)), i)
        peer:frames()
      end
    end)
  end

  it("are counted over the half window before, and no longer", function()
    local peer = h2_probe.open({ max_pings = 4 })
    local function ping(at)
      peer.now = at
      return (peer:feed(frames.ping("12345678")))
    end
    assert.is_true(ping(0) and ping(4999) and ping(4999))
    assert.is_true(ping(5000))
    assert.is_true(ping(10000) and ping(10001) and ping(14999)) -- beside that of 5000
    assert.is_nil(ping(14999))

    peer = h2_probe.open({ max_pings = 4 })
    assert.is_true(ping(4999) and ping(4999) and ping(4999) and ping(4999))
    assert.is_nil(ping(9998))

    peer = h2_probe.open({ max_pings = 4 })
    for _ = 1, 4 do
      assert.is_true(ping(0))
    end
    for _ = 1, 4 do
      assert.is_true(ping(WINDOW_MS))
    end
  end)
end)

describe("h2 CONTINUATION", function()
  local function head(id, frames_behind)
    local list = { frames.request(id, nil, { goes_on = true }) }
    for i = 1, frames_behind do
      list[i + 1] = frames.continuation(id, { { "x", "y" } }, i < frames_behind)
    end
    return table.concat(list)
  end

  it("ends the session above max_continuations, counted for each head", function()
    h2_probe.each_way({ max_continuations = 3 }, nil, function(peer, feed, how)
      assert(feed(head(1, 3) .. head(3, 3)))
      assert.same({ "head 1", "head 3" }, peer:happened(), how)
      local ok, reason = feed(head(5, 4))
      assert.same({ nil, "H2_Continuations" }, { ok, reason }, how)
      assert.equal("GOAWAY 5 ENHANCE_YOUR_CALM", last_sent(peer), how)
      assert.same({}, peer:happened())
    end)
  end)

  it("is counted in heads that are refused, too", function()
    h2_probe.each_way({ max_continuations = 3, max_concurrent_streams = 0 }, nil,
      function(_, feed, how)
        assert(feed(head(1, 3)))
        local ok, reason = feed(head(3, 4))
        assert.same({ nil, "H2_Continuations" }, { ok, reason }, how)
      end)
  end)
end)

describe("h2 WINDOW_UPDATE", function()
  it("is free as an answer to what we sent, and counted beyond that", function()
    h2_probe.each_way({ max_other_frames = 3, stream_window_bytes = 1 << 20 }, nil,
      function(peer, feed, how)
        assert(feed(frames.settings({ INITIAL_WINDOW_SIZE = 1 << 20 }) .. frames.request(1)))
        peer:frames()
        peer.session:respond(1, { content = ("x"):rep(65000), more = true })
        assert.same({ "HEADERS 1", "DATA 1", "DATA 1", "DATA 1", "DATA 1" }, peer:sent(), how)
        -- SETTINGS, WINDOW_UPDATE, two acknowledgements of SETTINGS, HEADERS; DATA counts twice.
        for _ = 1, 5 + 2 * 4 + 3 do
          assert(feed(frames.window_update(1, 1)))
        end
        local ok, reason = feed(frames.window_update(1, 1))
        assert.same({ nil, "H2_OtherFrames" }, { ok, reason }, how)
      end)
  end)
end)

describe("h2 memory", function()
  -- Lines that are one byte on the wire and a long field when decoded.
  local function bomb(id, references, options)
    local start = frames.block({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" },
      { ":authority", "h" } })
    return frames.headers(id, start .. frames.indexed_literal("x-bomb", ("b"):rep(4000))
      .. frames.reference(62):rep(references), options)
  end

  it("is not spent on a head whose lines refer to a long one: 431, then the end", function()
    local limits = { max_request_head_bytes = 16384, max_field_length = 8000 }
    h2_probe.each_way(limits, nil, function(peer, feed, how)
      assert(feed(bomb(1, 10)))
      local event = peer:events()[1]
      assert.same({ 431, "RequestLength" }, { event.status, event.reason }, how)
      assert.is_true(event.bytes <= 16384)
      assert.is_true(#event.fields <= 4)

      local ok, reason = feed(bomb(3, 20))
      assert.same({ nil, "RequestLength" }, { ok, reason }, how)
      assert.equal("GOAWAY 3 ENHANCE_YOUR_CALM", last_sent(peer), how)
    end)
  end)

  it("is not spent on trailers like that", function()
    local limits = { max_request_head_bytes = 16384, max_field_length = 8000 }
    h2_probe.each_way(limits, nil, function(peer, feed, how)
      assert(feed(post(1)))
      assert(feed(frames.headers(1, frames.indexed_literal("x-bomb", ("b"):rep(4000))
        .. frames.reference(62):rep(5000))))
      assert.same({ "RST_STREAM 1 ENHANCE_YOUR_CALM" }, peer:sent(), how)
    end)
  end)

  -- What is queued for a peer that sends this and reads nothing.
  local unread = {
    { "heads of streams that it resets", function(id)
      return frames.request(id) .. frames.rst_stream(id, "CANCEL")
    end },
    { "answers to PING", function() return frames.ping("12345678") end },
    { "resets that it provokes", function(id)
      return frames.request(id, { { "X", "upper" } })
    end },
  }
  for _, case in ipairs(unread) do
    it(("is not spent on %s and does not read"):format(case[1]), function()
      local peer = h2_probe.open(
        { max_concurrent_streams = 1000, max_resets = 100, max_pings = 100 },
        function(session, event)
          if event[1] == "head" then session:respond(event[2], { content = "hello" }) end
        end)
      local ok, reason, id, rounds = true, nil, 1, 0
      while ok and rounds < 1000 do
        peer.now, rounds = peer.now + WINDOW_MS, rounds + 1
        for _ = 1, 50 do
          ok, reason = peer:feed(case[2](id))
          id = id + 2
          if not ok then break end
        end
      end
      assert.is_nil(ok)
      assert.matches("^H2_", reason)
      assert.matches("ENHANCE_YOUR_CALM", last_sent(peer))
    end)
  end

  it("of refused streams is bounded by max_resets", function()
    local peer = h2_probe.open({ max_concurrent_streams = 1, max_resets = 50 })
    local list = {}
    for id = 1, 20001, 2 do
      list[#list + 1] = frames.request(id)
    end
    local ok, reason = peer:feed(table.concat(list))
    assert.same({ nil, "H2_Resets" }, { ok, reason })
    assert.same({ "GOAWAY 103 ENHANCE_YOUR_CALM" }, peer:sent())
  end)

  it("counts streams that our reset ends for a window that SETTINGS made overflow", function()
    local peer = h2_probe.open({ max_resets = 5 })
    for id = 1, 13, 2 do
      assert(peer:feed(frames.request(id) .. frames.window_update(id, 0x7fffffff - 65535)))
    end
    assert(peer:feed(frames.settings({ INITIAL_WINDOW_SIZE = 65536 })))
    assert.matches("ENHANCE_YOUR_CALM", last_sent(peer))
    assert.same({ nil, "H2_Resets" }, { (peer:feed("x")), (select(2, peer:feed("x"))) })
    assert.equal("H2_Resets", (peer.session:trouble()))
  end)
end)
