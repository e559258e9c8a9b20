-- Clients of HTTP/2 that do too much of something (RFC 9113 section 10.5): what they are told, what
-- the logs say and count, and that nobody else is harmed. The limits are the defaults.
local hostile = require("spec.support.hostile")

-- { what, script, reason }; begun: so many handlers at most; resets: this code, until the limit.
local floods = {
  { "rapid reset in one write", [[
c = Peer()
c.send(b"".join(request(i) + reset(i) for i in ids(5000)))]],
    "H2_Resets" },
  { "rapid reset, each in a write of its own", [[
c = Peer()
c.each(request(i, "/hold") + reset(i) for i in ids(5000))]],
    "H2_Resets", begun = 200 },
  { "rapid reset behind the handlers' beginning", [[
c = Peer()
for i in ids(5000):
    if not c.send(request(i, "/hold")) or not c.send(reset(i)): break
    c.poll()]],
    "H2_Resets", begun = 200 },
  { "resets of a stream that has ended", [[
c = Peer()
c.send(request(1))
c.answers(1).send(reset(1) * 5000)]],
    "H2_Resets", begun = 1 },
  { "windows of streams that overflow", [[
c = Peer()
c.provoke(lambda i: post(i, "/read") + window_update(i, 0x7fffffff))]],
    "H2_Resets", resets = "FLOW_CONTROL_ERROR", begun = 200 },
  { "content beyond its length", [[
c = Peer()
c.provoke(lambda i: post(i, "/read", more=[("content-length", "1")]) + data(i, b"xy"))]],
    "H2_Resets", resets = "PROTOCOL_ERROR", begun = 200 },
  { "content short of its length", [[
c = Peer()
c.provoke(lambda i: post(i, "/read", more=[("content-length", "9")]) + data(i, b"xy", True))]],
    "H2_Resets", resets = "PROTOCOL_ERROR", begun = 200 },
  { "trailers that do not end their stream", [[
c = Peer()
c.provoke(lambda i: post(i, "/read") + frame(HEADERS, END_HEADERS, i, literal(b"x", b"y")))]],
    "H2_Resets", resets = "PROTOCOL_ERROR", begun = 200 },
  { "trailers with pseudo-fields", [[
c = Peer()
ends = END_HEADERS | END_STREAM
c.provoke(lambda i: post(i, "/read") + frame(HEADERS, ends, i, literal(b":path", b"/")))]],
    "H2_Resets", resets = "PROTOCOL_ERROR", begun = 200 },
  { "malformed heads", [[
c = Peer()
c.provoke(lambda i: request(i, more=[("Upper", "case")]))]],
    "H2_Resets", resets = "PROTOCOL_ERROR" },
  { "streams above the limit", [[
c = Peer()
c.send(b"".join(post(i, "/read") for i in ids(100)))
c.settle()
c.provoke(request, 201)]],
    "H2_Resets", resets = "REFUSED_STREAM", begun = 100 },
  { "CONTINUATION", [[
c = Peer()
c.send(frame(HEADERS, END_STREAM, 1, fields()) + frame(CONTINUATION, 0, 1, literal(b"x", b"y"))
       * 5000)]],
    "H2_Continuations" },
  { "empty CONTINUATION", [[
c = Peer()
c.send(frame(HEADERS, END_STREAM, 1, fields()) + frame(CONTINUATION, 0, 1) * 5000)]],
    "H2_Continuations" },
  { "CONTINUATION of a stream that is refused", [[
c = Peer()
c.send(b"".join(post(i, "/read") for i in ids(100)))
c.settle()
c.send(frame(HEADERS, END_STREAM, 201, fields()) + frame(CONTINUATION, 0, 201) * 5000)]],
    "H2_Continuations", begun = 100 },
  { "a head without end", [[
c = Peer()
c.send(frame(HEADERS, END_STREAM, 1, fields()),
       frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 16000)) * 5000)]],
    "H2_Continuations" },
  { "HPACK: a long line that short ones refer to", [[
c = Peer()
c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields() + literal(b"x", b"b" * 4000, 0x40)
             + b"\xbe" * 12000))]],
    "RequestLength" },
  { "SETTINGS", [[
c = Peer()
c.send(settings((4, 65535)) * 5000)]],
    "H2_Settings" },
  { "empty SETTINGS", [[
c = Peer()
c.send(settings() * 5000)]],
    "H2_Settings" },
  { "SETTINGS that change all windows", [[
c = Peer()
c.send(b"".join(request(i, "/large") for i in ids(100)))
c.each(settings((4, i * 1000)) for i in range(5000))]],
    "H2_Settings", begun = 100 },
  { "SETTINGS with many entries", [[
c = Peer()
c.send(settings(*[(4, 65535)] * 2000))]],
    "H2_Protocol" },
  { "PING", [[
c = Peer()
c.send(frame(PING, 0, 0, b"12345678") * 5000)]],
    "H2_Pings" },
  { "PING whose answers nobody reads", [[
c = Peer(reads=False)
c.each(frame(PING, 0, 0, b"12345678") for _ in range(5000))]],
    "H2_Pings" },
  { "PING that answers nothing", [[
c = Peer()
c.send(frame(PING, ACK, 0, b"12345678") * 5000)]],
    "H2_Pings" },
  { "empty DATA", [[
c = Peer()
c.send(post(1, "/read") + data(1) * 5000)]],
    "H2_EmptyFrames", begun = 1 },
  { "DATA of padding alone", [[
c = Peer()
c.send(post(1, "/read") + frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 5000)]],
    "H2_EmptyFrames", begun = 1 },
  { "empty DATA of a stream that has ended", [[
c = Peer()
c.send(post(1, "/read") + data(1, b"", True))
c.answers(1)
c.send(data(1) * 5000)]],
    "H2_EmptyFrames", begun = 1 },
  { "empty HEADERS", [[
c = Peer()
c.each(frame(HEADERS, 0, i) + frame(CONTINUATION, END_HEADERS, i, fields("/quick", "POST"))
       + data(i, b"", True) for i in ids(5000))]],
    "H2_EmptyFrames", begun = 100 },
  { "WINDOW_UPDATE of the connection", [[
c = Peer()
c.send(window_update(0, 1) * 5000)]],
    "H2_OtherFrames" },
  { "WINDOW_UPDATE of a stream", [[
c = Peer()
c.send(request(1, "/hold") + window_update(1, 1) * 5000)]],
    "H2_OtherFrames", begun = 1 },
  { "WINDOW_UPDATE that lets out a byte each", [[
c = Peer(first=[(4, 0)])
c.send(request(1, "/large"))
c.each(window_update(1, 1) * 100 for _ in range(5000))]],
    "H2_OtherFrames", begun = 1 },
  { "PRIORITY", [[
c = Peer()
c.send(b"".join(frame(PRIORITY, 0, i, u32(0) + b"\x10") for i in ids(5000)))]],
    "H2_OtherFrames" },
  { "PRIORITY of a stream on itself", [[
c = Peer()
c.send(post(1, "/hold") + frame(PRIORITY, 0, 1, u32(1) + b"\x10") * 5000)]],
    "H2_OtherFrames", begun = 1 },
  { "PRIORITY_UPDATE", [[
c = Peer()
c.send(b"".join(frame(PRIORITY_UPDATE, 0, 0, u32(i) + b"u=1,i") for i in ids(5000)))]],
    "H2_OtherFrames" },
  { "frames of unknown types", [[
c = Peer()
c.send(b"".join(frame(0x20 + i % 200, i % 256, i, b"what is this") for i in range(5000)))]],
    "H2_OtherFrames" },
  { "long frames of an unknown type", [[
c = Peer()
c.each(frame(0x77, 0, 0, bytes(16384)) for _ in range(5000))]],
    "H2_OtherFrames" },
}

describe("A client of HTTP/2 that floods the server", function()
  local target
  setup(function()
    target = hostile.start(nil, { tls = true })
  end)
  teardown(function()
    assert.equal(0, target:stop())
    hostile.stop_all()
  end)

  for way, tls in pairs({ ["without TLS"] = false, ["over TLS"] = true }) do
    for _, flood in ipairs(floods) do
      local what, script, reason = table.unpack(flood, 1, 3)

      it(("%s: %s"):format(way, what), function()
        target:begun()
        local told = target:attack(script .. "\nc.rest()\nreport(c)", { tls = tls })
        assert.same({ "ENHANCE_YOUR_CALM" }, told.goaways)
        assert.not_equal("open", told.ended)
        if flood.resets then
          assert.same({ [flood.resets] = 200 }, told.resets)
        end
        assert.equal(1, told.reasons[reason])
        target:assert_logged(told.port, reason)
        target.server:await(("session_ended [^\n]*reason=%s peer=127%%.0%%.0%%.1:%d "):format(
          reason, told.port))
        assert.is_true(told.served > 0)
        assert.is_true(target:begun() <= (flood.begun or 0))
        target:await_quiet()
      end)
    end
  end
end)
