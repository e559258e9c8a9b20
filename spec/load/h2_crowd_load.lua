-- A normal client of HTTP/2 is answered within 100 ms (asserted at ten times that), one request
-- after the other, by the one worker that others flood at the same time.
local h2_client = require("spec.support.h2_client")
local hostile = require("spec.support.hostile")
local sys = require("moonquay.probe").sys

local SECONDS, MOST = 2, 2000 -- of each flood, and connections
local FIGURE = 0.100

-- What each connection of the flood does until the server ends it.
local floods = {
  { "rapid reset", 'c.send(b"".join(request(i) + reset(i) for i in ids(5000)))' },
  { "rapid reset of handlers that run", [[
for i in ids(5000):
    if not c.send(request(i, "/hold")) or not c.send(reset(i)): break
    c.poll()]] },
  { "resets that it provokes",
    'c.provoke(lambda i: post(i, "/read", more=[("content-length", "1")]) + data(i, b"xy"))' },
  { "streams above the limit", 'c.send(b"".join(request(i, "/hold") for i in ids(5000)))' },
  { "CONTINUATION", [[
c.send(frame(HEADERS, END_STREAM, 1, fields()),
       frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 16000)) * 100)]] },
  { "HPACK", [[
bomb = literal(b"x", b"b" * 4000, 0x40) + b"\xbe" * 120
c.each(frame(HEADERS, END_HEADERS | END_STREAM, i, fields() + bomb) for i in ids(100))
c.send(frame(HEADERS, END_HEADERS | END_STREAM, 201, fields() + b"\xbe" * 12000))]] },
  { "SETTINGS", [[
c.send(b"".join(request(i, "/large") for i in ids(100)))
c.each(settings((4, i * 1000)) for i in range(100))]] },
  { "PING", 'c.send(frame(PING, 0, 0, bytes(8)) * 5000)' },
  { "empty DATA", 'c.send(post(1, "/read") + data(1) * 5000)' },
  { "WINDOW_UPDATE", 'c.send(window_update(0, 1) * 5000)' },
  { "PRIORITY_UPDATE",
    'c.send(b"".join(frame(PRIORITY_UPDATE, 0, 0, u32(i) + b"u=1") for i in ids(5000)))' },
  { "long frames of an unknown type", 'c.send(frame(0x77, 0, 0, bytes(16384)) * 1100)' },
  { "downloads that nobody reads", [[
c = Peer(reads=False, receive_buffer=4096, first=[(4, 0x7fffffff)])
c.send(window_update(0, 0x70000000))
c.send(b"".join(request(i, "/large") for i in ids(100)))
kept.append(c)
continue]], most = 4 },
  { "requests for downloads, as many as there may be",
    [[
c.send(window_update(0, 0x70000000))
c.send(b"".join(request(i, "/large") for i in ids(100)))
c.answers(*ids(100))
continue]] },
  { "requests, as many as there may be", [[
for _ in range(20):
    if c.ended: break
    first = 1 + 200 * _
    c.send(b"".join(request(i) for i in ids(100, first)))
    c.answers(*ids(100, first))
continue]] },
}

local function flood_with(one, most)
  return ([[
kept, count, until = [], 0, time.monotonic() + %g
while time.monotonic() < until:
    if count == %d:
        select.select([], [], [], max(0, until - time.monotonic()))
        continue
    c = Peer(first=[(4, 0x7fffffff)])
    count += 1
    %s
    c.rest()
    c.socket.close()
report(Peer(), count=count)]]):format(SECONDS, most or MOST, (one:gsub("\n", "\n    ")))
end

local function percentile(times, part)
  return times[math.max(1, math.ceil(#times * part))] * 1000
end

describe("On the release build, a normal client of HTTP/2 is answered beside", function()
  local target
  setup(function()
    -- Nobody reads here what would be told of each flood.
    target = hostile.start({ "error_log=/dev/null" }, { tls = true })
  end)
  teardown(function()
    assert.equal(0, target:stop())
    hostile.stop_all()
  end)

  for _, tls in ipairs({ false, true }) do
    for _, flood in ipairs(floods) do
      local what = (tls and "over TLS: " or "without TLS: ") .. flood[1]

      it(what, function()
        local client = h2_client.connect(target.server, { window = 1 << 30 })
        local times = {}
        local told = target:attack(flood_with(flood[2], flood.most), { tls = tls,
          beside = function()
            local began = sys.monotonic()
            assert.equal(200, client:request("/ok").status)
            times[#times + 1] = sys.monotonic() - began
          end })
        client:close()
        table.sort(times)
        print(("%-62s %5d connections, %5d requests: median %6.2f ms, p99 %6.2f ms, most %6.2f ms")
          :format(what, told.count, #times, percentile(times, 0.5), percentile(times, 0.99),
          times[#times] * 1000))
        assert.is_true(told.count > 0 and #times > 10)
        assert.is_true(times[#times] < 10 * FIGURE)
        target:release()
      end)
    end
  end
end)
