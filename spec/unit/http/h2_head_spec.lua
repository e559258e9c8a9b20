local frames = require("spec.support.h2_frames")
local h2_probe = require("spec.support.h2_probe")

local function accept(request, expected, options)
  h2_probe.each_way(options, nil, function(peer, feed, how)
    assert(feed(request))
    local event = peer:events()[1]
    assert.equal("head", event and event[1], how)
    assert.is_nil(event.status, event.detail)
    for key, value in pairs(expected) do
      assert.same(value, event[key], ("%s: %s"):format(how, key))
    end
  end)
end

local function refuse(request, status, reason, options)
  h2_probe.each_way(options, nil, function(peer, feed, how)
    assert(feed(request))
    local events = peer:events()
    assert.same({ "head", 1, status, reason },
      { events[1][1], events[1][2], events[1].status, events[1].reason }, how)
    assert.is_string(events[1].detail)
    assert.equal(1, #events, how)
    assert.same({}, peer:sent(), how)
  end)
end

-- Malformed (RFC 9113 section 8.1.1): the stream is reset, nothing else happens.
local function reset(request, code)
  h2_probe.each_way(nil, nil, function(peer, feed, how)
    assert(feed(request))
    assert.same({}, peer:happened(), how)
    assert.same({ "RST_STREAM 1 " .. (code or "PROTOCOL_ERROR") }, peer:sent(), how)
    assert.same({ "closed 1 " .. frames.CODES[code or "PROTOCOL_ERROR"] }, peer:happened(), how)
    assert(feed(frames.request(3)))
    assert.same({ "head 3" }, peer:happened(), how)
  end)
end

local function with(...)
  return frames.request(1, { ... })
end

describe("h2 request (RFC 9113 section 8.3)", function()
  local good = {
    { "says what HTTP/1.1 says", frames.request(1, { [":method"] = "DELETE", [":path"] = "/a?b" }),
      { method = "DELETE", target = "/a?b", path = "/a", query = "b", form = "origin", host = "h",
        version = "HTTP/2", major = 2, minor = 0, keep_alive = true, framing = "none",
        ended = true, fields = {}, scheme = "http", authority = "h" } },
    { "has a decoded path", frames.request(1, { [":path"] = "/a/../%41%20" }), { path = "/A " } },
    { "may ask for all of the server",
      frames.request(1, { [":method"] = "OPTIONS", [":path"] = "*" }),
      { form = "asterisk", target = "*", path = "" } },
    { "takes methods it does not know", frames.request(1, { [":method"] = "M-SEARCH!" }),
      { method = "M-SEARCH!" } },
    { "takes a method of 32 bytes", frames.request(1, { [":method"] = ("M"):rep(32) }),
      { method = ("M"):rep(32) } },
    { "takes either scheme, in any case", frames.request(1, { [":scheme"] = "HTTPS" }),
      { scheme = "HTTPS", form = "origin" } },
    { "is CONNECT with an authority alone",
      frames.headers(1, { { ":method", "CONNECT" }, { ":authority", "x:443" } }),
      { form = "authority", target = "x:443", host = "x:443", method = "CONNECT" } },
    { "may name its host in Host", frames.headers(1,
      { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" }, { "host", "x:80" } }),
      { host = "x:80", fields = { { "host", "x:80" } } } },
    { "may name its host twice, in any case",
      frames.request(1, { [":authority"] = "Example.com", { "host", "eXample.com" } }),
      { host = "Example.com" } },
    { "may be for an IPv6 address", frames.request(1, { [":authority"] = "[::1]:5000" }),
      { host = "[::1]:5000" } },
    { "takes pseudo-fields in any order", frames.headers(1,
      { { ":path", "/" }, { ":authority", "h" }, { ":scheme", "http" }, { ":method", "GET" } }),
      { method = "GET", path = "/" } },
    { "keeps the order and repetition of fields",
      with({ "x-b", "1" }, { "accept", "*/*" }, { "x-a", "" }, { "x-b", "2" }),
      { fields = { { "x-b", "1" }, { "accept", "*/*" }, { "x-a", "" }, { "x-b", "2" } } } },
    { "keeps crumbs of Cookie as lines", with({ "cookie", "a=b" }, { "cookie", "c=d" }),
      { fields = { { "cookie", "a=b" }, { "cookie", "c=d" } } } },
    { "keeps HTAB and bytes from 0x80 in values", with({ "x", "a\tb\xE4\xFF" }),
      { fields = { { "x", "a\tb\xE4\xFF" } } } },
    { "takes TE: trailers", with({ "te", "trailers" }), { fields = { { "te", "trailers" } } } },
    { "may expect 100 (Continue)", with({ "expect", "100-Continue" }),
      { expect_continue = true } },
    { "is counted as the RFC counts", frames.request(1, { { "x", "yz" } }),
      { bytes = 7 + 3 + 7 + 4 + 5 + 1 + 10 + 1 + 1 + 2 + 5 * 32 } },
  }
  for _, case in ipairs(good) do
    it(case[1], function()
      accept(case[2], case[3])
    end)
  end

  it("comes in any number of frames, with padding and old priorities", function()
    local block = frames.block({ { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/a" },
      { ":authority", "h" }, { "x", "y" } })
    local expected = { path = "/a", fields = { { "x", "y" } } }
    accept(frames.frame("HEADERS", 1, 1, block:sub(1, 10)) ..
      frames.continuation(1, block:sub(11, 12), true) .. frames.continuation(1, block:sub(13)),
      expected)
    accept(frames.frame("HEADERS", 1 | 4 | frames.PADDED | frames.PRIORITY_FLAG, 1,
      "\3" .. "\0\0\0\0\16" .. block .. "\0\0\0"), expected)
  end)

  local framings = {
    { "nothing, ended", with(), "none", 0 },
    { "Content-Length of zero, ended", with({ "content-length", "0" }), "none", 0 },
    { "nothing", frames.request(1, {}, { open = true }), "unsized", 0 },
    { "Content-Length of zero", frames.request(1, { { "content-length", "0" } }, { open = true }),
      "unsized", 0 },
    { "Content-Length", frames.request(1, { { "content-length", "007" } }, { open = true }),
      "sized", 7 },
    { "a length of 2^63-1",
      frames.request(1, { { "content-length", "9223372036854775807" } }, { open = true }),
      "sized", math.maxinteger },
  }
  for _, case in ipairs(framings) do
    it(("has content by %s: %s"):format(case[1], case[3]), function()
      accept(case[2], { framing = case[3], content_length = case[4] })
    end)
  end

  local refused = {
    { "a method of 33 bytes", frames.request(1, { [":method"] = ("M"):rep(33) }), 501, "N/I" },
    { "a path above the root", frames.request(1, { [":path"] = "/../etc" }), 403, "Forbidden" },
    { "a broken escape", frames.request(1, { [":path"] = "/%" }), 400, "URL" },
    { "a byte from 0x80 in the path", frames.request(1, { [":path"] = "/\xE1" }), 400, "URL" },
    { "a fragment", frames.request(1, { [":path"] = "/a#b" }), 400, "URL" },
    { "another scheme", frames.request(1, { [":scheme"] = "ftp" }), 400, "URL" },
    { "a URL for a path, in another scheme",
      frames.request(1, { [":scheme"] = "x", [":path"] = "http://h/" }), 400, "URL" },
    { "CONNECT without a port",
      frames.headers(1, { { ":method", "CONNECT" }, { ":authority", "x" } }), 400, "URL" },
    { "userinfo in :authority", frames.request(1, { [":authority"] = "u@h" }), 400, "Hostname" },
    { "a port that is too large", frames.request(1, { [":authority"] = "h:65536" }),
      400, "Hostname" },
    { "two names in Host", frames.headers(1, { { ":method", "GET" }, { ":scheme", "http" },
      { ":path", "/" }, { "host", "a,b:" .. ("1"):rep(6) } }), 400, "Hostname" },
    { "a Host that differs from :authority", with({ "host", "other" }), 400, "Hostname" },
    { "a Host with another port", with({ "host", "h:80" }), 400, "Hostname" },
    { "an unknown expectation", with({ "expect", "more" }), 417, "Header" },
  }
  for _, case in ipairs(refused) do
    it("is refused for " .. case[1], function()
      refuse(case[2], case[3], case[4])
    end)
  end

  local malformed = {
    { "no :method", frames.headers(1,
      { { ":scheme", "http" }, { ":path", "/" }, { ":authority", "h" } }) },
    { "no :scheme", frames.headers(1,
      { { ":method", "GET" }, { ":path", "/" }, { ":authority", "h" } }) },
    { "no :path", frames.headers(1,
      { { ":method", "GET" }, { ":scheme", "http" }, { ":authority", "h" } }) },
    { "neither :authority nor Host", frames.headers(1,
      { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" } }) },
    { "an empty :path", frames.request(1, { [":path"] = "" }) },
    { "an empty :authority", frames.request(1, { [":authority"] = "" }) },
    { "an empty Host", with({ "host", "" }) },
    { "two Host fields", with({ "host", "h" }, { "host", "h" }) },
    { "a URL for a path", frames.request(1, { [":path"] = "http://h/" }) },
    { "an asterisk for GET", frames.request(1, { [":path"] = "*" }) },
    { "a blank in the path", frames.request(1, { [":path"] = "/a b" }) },
    { "a method that is no token", frames.request(1, { [":method"] = "G T" }) },
    { "a path in :authority", frames.request(1, { [":authority"] = "h/x" }) },
    { "a pseudo-field twice", with({ ":path", "/" }) },
    { "a pseudo-field behind others", frames.headers(1, { { ":method", "GET" },
      { ":scheme", "http" }, { ":path", "/" }, { "x", "y" }, { ":authority", "h" } }) },
    { "an unknown pseudo-field", with({ ":version", "2" }) },
    { ":status", frames.headers(1, { { ":status", "200" } }) },
    { ":protocol, which we did not allow", frames.headers(1, { { ":method", "CONNECT" },
      { ":protocol", "websocket" }, { ":scheme", "http" }, { ":path", "/" },
      { ":authority", "h" } }) },
    { "CONNECT with a path", frames.request(1, { [":method"] = "CONNECT" }) },
    { "an upper-case name", with({ "X", "y" }) },
    { "an empty name", with({ "", "y" }) },
    { "a name that is no token", with({ "x y", "z" }) },
    { "a colon in a name", with({ "x:y", "z" }) },
    { "NUL in a value", with({ "x", "a\0b" }) },
    { "CR in a value", with({ "x", "a\rb" }) },
    { "LF in a value", with({ "x", "a\nb" }) },
    { "another control in a value", with({ "x", "a\1b" }) },
    { "DEL in a value", with({ "x", "a\x7F" }) },
    { "a blank before a value", with({ "x", " a" }) },
    { "a blank behind a value", with({ "x", "a " }) },
    { "HTAB behind a value", with({ "x", "a\t" }) },
    { "Connection", with({ "connection", "close" }) },
    { "Keep-Alive", with({ "keep-alive", "1" }) },
    { "Proxy-Connection", with({ "proxy-connection", "close" }) },
    { "Transfer-Encoding", with({ "transfer-encoding", "chunked" }) },
    { "Upgrade", with({ "upgrade", "websocket" }) },
    { "TE of something else", with({ "te", "gzip" }) },
    { "TE of more than trailers", with({ "te", "trailers, gzip" }) },
    { "Content-Length that is no number", with({ "content-length", "x" }) },
    { "Content-Length with a sign", with({ "content-length", "+5" }) },
    { "an empty Content-Length", with({ "content-length", "" }) },
    { "Content-Length of 2^63", with({ "content-length", "9223372036854775808" }) },
    { "two Content-Length fields", frames.request(1,
      { { "content-length", "5" }, { "content-length", "5" } }, { open = true }) },
    { "Content-Length without content", with({ "content-length", "5" }) },
  }
  for _, case in ipairs(malformed) do
    it("is malformed with " .. case[1], function()
      reset(case[2])
    end)
  end

  it("is malformed with any control but HTAB in a value", function()
    for byte = 0, 0x1F do
      local peer = h2_probe.open()
      assert(peer:feed(with({ "x", "a" .. string.char(byte) .. "b" })))
      assert.same(byte == 9 and { "head 1" } or {}, peer:happened(), byte)
    end
  end)
end)

describe("h2 limits on a head", function()
  local LIMITS = {
    max_request_head_bytes = 600, max_target_bytes = 40, max_field_length = 50,
    max_authorization_length = 70, max_fields = 5, url_segment_max_length = 20,
  }
  local BASE = 7 + 3 + 7 + 4 + 5 + 1 + 10 + 1 + 4 * 32 -- of a request without fields

  local function line(name, length)
    return { name, ("v"):rep(length - #name - 2) }
  end

  local fields5 = {}
  for i = 1, 5 do
    fields5[i] = { "x", "y" }
  end

  -- { what, request that is just taken, request that is one byte or line too long, status, reason }
  local cases = {
    { "a target", frames.request(1, { [":path"] = "/" .. ("a/"):rep(19) .. "b" }),
      frames.request(1, { [":path"] = "/" .. ("a/"):rep(19) .. "bc" }), 414, "URL_Length" },
    { "a segment", frames.request(1, { [":path"] = "/" .. ("a"):rep(20) }),
      frames.request(1, { [":path"] = "/" .. ("a"):rep(21) }), 400, "URL" },
    { "a field line", with(line("x", 50)), with(line("x", 51)), 431, "FieldLength" },
    { "Authorization", with(line("authorization", 70)), with(line("authorization", 71)),
      431, "FieldLength" },
    { "an authority", frames.request(1, { [":authority"] = ("a"):rep(38) }),
      frames.request(1, { [":authority"] = ("a"):rep(39) }), 431, "FieldLength" },
    { "the number of fields", frames.request(1, fields5),
      frames.request(1, { { "z", "y" }, table.unpack(fields5) }), 431, "FieldLength" },
  }
  for _, case in ipairs(cases) do
    it(("take %s as long as its limit, and nothing longer"):format(case[1]), function()
      accept(case[2], {}, LIMITS)
      refuse(case[3], case[4], case[5], LIMITS)
    end)
  end

  it("take a head as long as its limit, and nothing longer", function()
    local left = 600 - BASE - 5 * 32
    local function head(bytes)
      local list = {}
      for i = 1, 5 do
        local length = math.min(bytes, 60)
        list[i] = { "x", ("v"):rep(length - 1) }
        bytes = bytes - length
      end
      return frames.request(1, list)
    end
    accept(head(left), { bytes = 600 }, { max_request_head_bytes = 600 })
    refuse(head(left + 1), 431, "RequestLength", { max_request_head_bytes = 600 })
  end)

  it("take a path that is longer than a field line may be", function()
    local path = "/" .. ("a/"):rep(40)
    accept(frames.request(1, { [":path"] = path }), { path = path }, { max_field_length = 50 })
  end)

  it("refuse once, with the first fault, and keep nothing of what follows", function()
    h2_probe.each_way(LIMITS, nil, function(peer, feed, how)
      assert(feed(frames.request(1, { [":path"] = "/x", { "a", "b" }, line("x", 51),
        { "expect", "more" }, { "c", "d" } })))
      local event = peer:events()[1]
      assert.same({ "FieldLength", "GET", "/x", { { "a", "b" } } },
        { event.reason, event.method, event.target, event.fields }, how)
    end)
  end)

  it("drop and credit the content of a refused head", function()
    h2_probe.each_way({ max_field_length = 50, stream_window_bytes = 65535 }, nil,
      function(peer, feed, how)
        assert(feed(frames.request(1, { line("x", 51) }, { open = true })))
        for _ = 1, 3 do
          assert(feed(frames.data(1, ("x"):rep(16384))))
        end
        assert.same({ "head 1 431" }, peer:happened(), how)
        local credit = 0
        for _, frame in ipairs(peer:frames_of("WINDOW_UPDATE")) do
          if frame.id == 1 then credit = credit + frame.bytes end
        end
        assert.is_true(credit >= 32767, how)
        assert(feed(frames.data(1, "", true)))
        assert.same({}, peer:happened(), how)
        peer.session:respond(1, { status = 431, no_content = true })
        assert.same({ "HEADERS 1 ." }, peer:sent(), how)
        assert.same({ "closed 1 0" }, peer:happened(), how)
      end)
  end)

  it("drop the trailers of a refused head", function()
    h2_probe.each_way({ max_field_length = 50 }, nil, function(peer, feed, how)
      assert(feed(frames.request(1, { line("x", 51) }, { open = true })
        .. frames.headers(1, { line("y", 60), { "host", "z" } })))
      assert.same({ "head 1 431" }, peer:happened(), how)
      assert.same({}, peer:sent(), how)
    end)
  end)
end)
