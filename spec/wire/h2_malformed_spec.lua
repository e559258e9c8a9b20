-- Frames that break RFC 9113, each on a connection of its own, whole and byte by byte: the code of
-- GOAWAY, and the reason. What makes only a message malformed is h2_request_spec's business.
local hostile = require("spec.support.hostile")
local tls_peer = require("spec.support.tls_peer")

-- { what, frames in the words of h2_hostile.py, code }; stream: it is that of a RST_STREAM, and the
-- connection goes on; bare: without the usual beginning.
local P, F, S, C, W = "PROTOCOL_ERROR", "FRAME_SIZE_ERROR", "STREAM_CLOSED", "COMPRESSION_ERROR",
  "FLOW_CONTROL_ERROR"
local OPEN, HALF = 'post(1)', 'request(1, "/hold")'
local frames = {
  { "DATA on no stream", 'data(0, b"x")', P },
  { "DATA on a stream that has not begun", 'data(1, b"x")', P },
  { "DATA on a stream of ours", 'data(2, b"x")', P },
  { "DATA behind the end of its stream", HALF .. ' + data(1, b"x")', S },
  { "DATA that is all padding and more", OPEN .. ' + frame(DATA, PADDED, 1, b"\\x05abcd")', P },
  { "DATA without its padding's length", OPEN .. ' + frame(DATA, PADDED, 1, b"")', P },
  { "DATA that is too long", OPEN .. ' + data(1, bytes(16385))', F },
  { "DATA beyond its window", OPEN .. ' + data(1, bytes(16384)) * 4', W, stream = true },
  { "HEADERS on no stream", 'request(0)', P },
  { "HEADERS on a stream of ours", 'request(2)', P },
  { "HEADERS behind the end of its stream", HALF .. ' + request(1)', S },
  { "HEADERS that are all padding and more",
    'frame(HEADERS, PADDED | END_HEADERS, 1, b"\\x05abcd")', P },
  { "HEADERS without their padding's length", 'frame(HEADERS, PADDED | END_HEADERS, 1)', P },
  { "HEADERS without their priority", 'frame(HEADERS, HAS_PRIORITY | END_HEADERS, 1, b"abcd")', F },
  { "HEADERS that are too long", 'frame(HEADERS, END_HEADERS, 1, bytes(16385))', F },
  { "fields of HPACK's line 0", 'frame(HEADERS, END_HEADERS, 1, b"\\x80")', C },
  { "fields of a line that its table has not", 'frame(HEADERS, END_HEADERS, 1, b"\\xbe")', C },
  { "fields that are cut off", 'frame(HEADERS, END_HEADERS, 1, b"\\x00\\x05abc")', C },
  { "fields with a number without end", 'frame(HEADERS, END_HEADERS, 1, b"\\x7f" + b"\\xff" * 20)',
    C },
  { "fields with a wrong Huffman code",
    'frame(HEADERS, END_HEADERS, 1, b"\\x00\\x84\\xff\\xff\\xff\\xff\\x00")', C },
  { "fields with a table that is too large",
    'frame(HEADERS, END_HEADERS, 1, b"\\x3f\\xe2\\x1f" + fields())', C },
  { "fields with a table that changes among them",
    'frame(HEADERS, END_HEADERS, 1, fields() + b"\\x20")', C },
  { "fields of a string that is longer than 64 KiB",
    'frame(HEADERS, 0, 1, fields() + b"\\x00\\x01x\\x7f\\xf1\\xfb\\x04" + bytes(16000))'
    .. ' + frame(CONTINUATION, 0, 1, bytes(16000)) * 5', C },
  { "PRIORITY on no stream", 'frame(PRIORITY, 0, 0, bytes(5))', P },
  { "PRIORITY of four bytes", 'frame(PRIORITY, 0, 1, bytes(4))', F },
  { "RST_STREAM on no stream", 'reset(0)', P },
  { "RST_STREAM on a stream that has not begun", 'reset(1)', P },
  { "RST_STREAM of three bytes", OPEN .. ' + frame(RST_STREAM, 0, 1, bytes(3))', F },
  { "SETTINGS on a stream", 'frame(SETTINGS, 0, 1)', P },
  { "SETTINGS of five bytes", 'frame(SETTINGS, 0, 0, bytes(5))', F },
  { "SETTINGS that acknowledge and say something", 'frame(SETTINGS, ACK, 0, bytes(6))', F },
  { "SETTINGS that push neither nor not", 'settings((2, 2))', P },
  { "SETTINGS with too large a window", 'settings((4, 0x80000000))', W },
  { "SETTINGS with too small a frame", 'settings((5, 16383))', P },
  { "SETTINGS with too large a frame", 'settings((5, 0x1000000))', P },
  { "SETTINGS that acknowledge nothing", 'frame(SETTINGS, ACK) * 3', P },
  { "SETTINGS that priorities neither allow nor not", 'settings((9, 2))', P },
  { "PUSH_PROMISE", OPEN .. ' + frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + fields())', P },
  { "PING on a stream", 'frame(PING, 0, 1, bytes(8))', P },
  { "PING of seven bytes", 'frame(PING, 0, 0, bytes(7))', F },
  { "PING of nine bytes", 'frame(PING, 0, 0, bytes(9))', F },
  { "GOAWAY on a stream", 'frame(GOAWAY, 0, 1, bytes(8))', P },
  { "GOAWAY of seven bytes", 'frame(GOAWAY, 0, 0, bytes(7))', F },
  { "WINDOW_UPDATE by nothing", 'window_update(0, 0)', P },
  { "WINDOW_UPDATE of a stream by nothing", OPEN .. ' + window_update(1, 0)', P },
  { "WINDOW_UPDATE by too much", 'window_update(0, 0x7fffffff)', W },
  { "WINDOW_UPDATE of a stream that has not begun", 'window_update(1, 1)', P },
  { "WINDOW_UPDATE of three bytes", 'frame(WINDOW_UPDATE, 0, 0, bytes(3))', F },
  { "CONTINUATION on no stream", 'frame(CONTINUATION, END_HEADERS, 0, fields())', P },
  { "CONTINUATION of nothing", 'frame(CONTINUATION, END_HEADERS, 1, fields())', P },
  { "CONTINUATION of another stream",
    'frame(HEADERS, 0, 1, fields()) + frame(CONTINUATION, END_HEADERS, 3, fields())', P },
  { "CONTINUATION behind the end of its head",
    OPEN .. ' + frame(CONTINUATION, END_HEADERS, 1, literal(b"x", b"y"))', P },
  { "a head with PING in it",
    'frame(HEADERS, 0, 1, fields()) + frame(PING, 0, 0, bytes(8))', P },
  { "a head with DATA in it", 'frame(HEADERS, 0, 1, fields()) + data(1, b"x")', P },
  { "a head with another one in it", 'frame(HEADERS, 0, 1, fields()) + request(3)', P },
  { "a head with a frame of an unknown type in it",
    'frame(HEADERS, 0, 1, fields()) + frame(0x77, 0, 1, b"x")', P },
  { "PRIORITY_UPDATE on a stream", OPEN .. ' + frame(PRIORITY_UPDATE, 0, 1, u32(1))', P },
  { "PRIORITY_UPDATE of three bytes", 'frame(PRIORITY_UPDATE, 0, 0, bytes(3))', F },
  { "PRIORITY_UPDATE of no stream", 'frame(PRIORITY_UPDATE, 0, 0, u32(0) + b"u=1")', P },
  { "a frame of an unknown type that is too long", 'frame(0x77, 0, 0, bytes(16385))', F },
  { "a first frame that is not SETTINGS", 'PREFACE + frame(PING, 0, 0, bytes(8))', P, bare = true },
  { "a first frame that acknowledges SETTINGS", 'PREFACE + frame(SETTINGS, ACK)', P, bare = true },
}

-- Frames that look odd and are none of these.
local harmless = {
  { "frames of unknown types, anywhere but in a head", 'frame(0x77, 255, 0, b"x") + request(1)'
    .. ' + frame(0xee, 0, 1, b"x") + frame(0x0a, 0, 3)' },
  { "settings that nobody knows", 'settings((0x7777, 0xffffffff), (0, 1)) + request(1)' },
  { "flags that mean nothing", 'frame(HEADERS, 0xd2 | END_HEADERS | END_STREAM, 1, fields())' },
  { "the reserved bit of a stream's number", 'frame(HEADERS, END_HEADERS | END_STREAM,'
    .. ' 0x80000001, fields())' },
  { "DATA of a stream that has been reset by its client", 'post(1) + reset(1) + data(1, b"x")'
    .. ' + request(3)', 3 },
  { "WINDOW_UPDATE of a stream that has been reset", 'post(1) + reset(1) + window_update(1, 1)'
    .. ' + request(3)', 3 },
  { "PRIORITY of streams in any state", 'frame(PRIORITY, 0, 7, bytes(5)) + request(9)'
    .. ' + frame(PRIORITY, 0, 7, bytes(5))', 9 },
  { "HEADERS of streams that came before and are closed by that",
    'request(5) + request(3) + request(1)', 5 },
  { "a head in pieces of a byte", 'frame(HEADERS, END_STREAM, 1, fields()[:1])'
    .. ' + frame(CONTINUATION, 0, 1, fields()[1:2]) + frame(CONTINUATION, END_HEADERS, 1,'
    .. ' fields()[2:])' },
  { "padding", 'frame(HEADERS, END_HEADERS | PADDED, 1, b"\\xff" + fields(method="POST")'
    .. ' + bytes(255)) + frame(DATA, PADDED | END_STREAM, 1, b"\\x03x" + bytes(3))' },
  { "a table of HPACK that becomes small and large again",
    'frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\\x20\\x3f\\xe1\\x1f" + fields())' },
}

-- All cases of a list, in one run of the client: what it tells of each, by its name.
local function run(target, list, rest, options)
  local script = { "told = {}" }
  for _, case in ipairs(list) do
    for _, how in ipairs({ "c.send(pieces)", "c.slowly([pieces])" }) do
      script[#script + 1] = ("c = Peer(preface=%s)\npieces = %s\n%s"):format(
        case.bare and "False" or "True", case[2], how)
      script[#script + 1] = ("try: %s\nexcept TimeoutError: pass"):format(rest(case))
      script[#script + 1] = ("told.setdefault(%q, []).append(c.told())"):format(case[1])
      script[#script + 1] = "c.socket.close()"
    end
  end
  script[#script + 1] = "report(c, cases=told)"
  return target:attack(table.concat(script, "\n"), options)
end

describe("A client of HTTP/2", function()
  for way, tls in pairs({ ["without TLS"] = false, ["over TLS"] = true }) do
    describe(way, function()
      local target, told, odd
      setup(function()
        target = hostile.start({ "max_concurrent_requests=1000" }, { tls = tls })
        told = run(target, frames, function(case)
          return case.stream and "c.answers(1)" or "c.rest()"
        end, { tls = tls })
        odd = run(target, harmless, function(case)
          return ("c.answers(%d).settle()"):format(case[3] or 1)
        end, { tls = tls })
      end)
      teardown(function()
        target.server:get("/release")
        assert.equal(0, target:stop())
        hostile.stop_all()
      end)

      for _, case in ipairs(frames) do
        it("that sends " .. case[1] .. " is told so", function()
          for i, how in ipairs({ "whole", "byte by byte" }) do
            local seen = told.cases[case[1]][i]
            if case.stream then
              assert.same({ ["1"] = case[3] }, seen.codes, how)
              assert.equal("open", seen.ended, how)
            else
              assert.same({ case[3] }, seen.goaways, how)
              assert.not_equal("open", seen.ended, how)
            end
            target:assert_logged(seen.port, "H2_Protocol")
          end
        end)
      end

      it("is counted for each of these", function()
        assert.equal(2 * #frames, told.reasons.H2_Protocol)
      end)

      for _, case in ipairs(harmless) do
        it("that sends " .. case[1] .. " is answered", function()
          for i, how in ipairs({ "whole", "byte by byte" }) do
            local seen = odd.cases[case[1]][i]
            assert.same({ {}, "open", 1 }, { seen.goaways, seen.ended, seen.statuses["200"] }, how)
          end
        end)
      end
    end)
  end

  describe("that begins wrongly", function()
    local target
    setup(function()
      target = hostile.start(nil, { tls = true })
    end)
    teardown(function()
      assert.equal(0, target:stop())
      hostile.stop_all()
    end)

    -- Without TLS this is a client of HTTP/1.1 until all of the preface is there.
    local beginnings = {
      { "half of a preface", 'PREFACE[:14] + b"\\r\\n\\r\\nGET / HTTP/1.1\\r\\n"' },
      { "the preface with another end", 'PREFACE[:-1] + b"\\r"' },
      { "a request of HTTP/1.1", 'b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n"' },
      { "zeros", "bytes(1000)" },
      { "frames without a preface", "settings() + request(1)" },
    }
    for _, case in ipairs(beginnings) do
      it("over TLS, with " .. case[1] .. ", is told so", function()
        local list = { { case[1], case[2], bare = true } }
        local told = run(target, list, function() return "c.rest()" end, { tls = true })
        for _, seen in ipairs(told.cases[case[1]]) do
          assert.same({ "PROTOCOL_ERROR" }, seen.goaways)
          target:assert_logged(seen.port, "H2_Preface")
        end
        assert.equal(2, told.reasons.H2_Preface)
      end)
    end
  end)

  describe("whose TLS", function()
    local target
    setup(function()
      target = hostile.start(nil, { tls = true })
    end)
    teardown(function()
      assert.equal(0, target:stop())
      hostile.stop_all()
    end)

    -- Behind a handshake and a stream whose handler runs: bytes that are no records.
    for what, bytes in pairs({
      ["goes over to plain bytes"] = 'b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n"',
      ["has a record that was changed"] = 'b"\\x17\\x03\\x03\\x00\\x40" + bytes(64)',
      ["has a record that is too long"] = 'b"\\x17\\x03\\x03\\xff\\xff" + bytes(65535)',
      ["has a record of an unknown type"] = 'b"\\x99\\x03\\x03\\x00\\x01a"',
      ["begins again"] = 'b"\\x16\\x03\\x01\\x00\\x04\\x01\\x00\\x00\\x00"',
    }) do
      it(what .. " loses its connection", function()
        local told = target:attack(([[
c = Peer()
c.send(request(1, "/hold"))
c.settle()
os.write(c.socket.fileno(), %s)
raw = socket.socket(fileno=os.dup(c.socket.fileno()))
raw.settimeout(SECONDS)
try:
    while raw.recv(65536): pass
except ConnectionResetError: pass
report(c)]]):format(bytes), { tls = true })
        assert.equal(1, told.reasons.Connection_Dropped)
        target:await_quiet()
      end)
    end

    it("asks for another handshake gets none", function()
      local seen = tls_peer({ port = target.tls_port, renegotiate = true,
        tls = { servername = "localhost", maxVersion = "TLSv1.2", ALPNProtocols = { "h2" } } })
      assert.same({ "TLSv1.2", "h2" }, { seen.protocol, seen.alpn })
      assert.equal("ERR_SSL_NO_RENEGOTIATION", seen.error)
      assert.is_nil(seen.renegotiated)
    end)
  end)
end)
