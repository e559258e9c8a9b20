-- Clients of HTTP/2 that take their time, never read, leave half, or ask for more than there is:
-- each is bounded in time and in memory, and another client is answered meanwhile.
local hostile = require("spec.support.hostile")
local server = require("spec.support.server")

-- Freed memory is used again at once, so that what is measured is what is needed.
local SMALL = "detect_leaks=1:abort_on_error=0:exitcode=99:quarantine_size_mb=1"

describe("A client of HTTP/2 that begins slowly", function()
  local target
  setup(function()
    target = hostile.start({ "timeouts.header_wait=1", "timeouts.idle_connection=2" },
      { tls = true })
  end)
  teardown(function()
    assert.equal(0, target:stop())
    hostile.stop_all()
  end)

  -- Pieces, one every 20 ms, until the server has had enough. { what, pieces, reason }
  local slow = {
    { "says nothing", "Peer(preface=False)", "iter(())", "Timer_HeaderWait" },
    { "sends the preface byte by byte", "Peer(preface=False)",
      "bytewise(PREFACE + settings() * 20)", "Timer_HeaderWait" },
    { "sends no request", "Peer()", "iter(())", "Timer_HeaderWait" },
    { "sends SETTINGS byte by byte", "Peer()", "bytewise(settings((4, 65535)) * 9)",
      "Timer_HeaderWait" },
    { "sends PING", "Peer()", "iter([frame(PING, 0, 0, bytes(8))] * 90)", "Timer_HeaderWait" },
    { "sends a head byte by byte", "Peer()", "bytewise(request(1, more=[('x', 'y' * 999)]))",
      "Timer_HeaderWait" },
    { "sends a head without its end", "Peer()", "iter([frame(HEADERS, END_STREAM, 1, fields())])",
      "Timer_HeaderWait" },
    { "sends a second head without its end", "Peer()",
      "iter([request(1), frame(HEADERS, END_STREAM, 3, fields())])", "Timer_HeaderWait" },
    { "sends a second head byte by byte", "Peer()",
      "itertools.chain([request(1)], bytewise(request(3, more=[('x', 'y' * 999)])))",
      "Timer_HeaderWait" },
    { "sends a head without its end while another request runs", "Peer()",
      "iter([request(1, '/hold'), frame(HEADERS, END_STREAM, 3, fields())])", "Timer_HeaderWait" },
    { "sends no second request", "Peer()", "iter([request(1)])", "Timer_ConnectionIdle" },
  }
  for _, tls in ipairs({ false, true }) do
    it("is dropped when it takes longer than header_wait" .. (tls and ", over TLS" or ""),
      function()
        -- All at once, since each takes its second; the first piece of each goes at once, since
        -- others begin meanwhile.
        local script = { [[
import itertools
def bytewise(whole): return iter([whole[i:i + 1] for i in range(len(whole))])
todo, told = {}, {}
def begin(name, c, pieces):
    c.send(next(pieces, b""))
    todo[name] = c, pieces]] }
        for _, case in ipairs(slow) do
          script[#script + 1] = ("begin(%q, %s, %s)"):format(case[1], case[2], case[3])
        end
        script[#script + 1] = [[
until = time.monotonic() + SECONDS
while todo and time.monotonic() < until:
    for name, (c, pieces) in list(todo.items()):
        c.send(next(pieces, b""))
        c.poll()
        if c.ended:
            told[name] = c.told()
            del todo[name]
    select.select([], [], [], 0.02)
report(Peer(), cases=told, left=list(todo))]]
        local told = target:attack(table.concat(script, "\n"), { tls = tls })
        assert.same({}, told.left)
        local counts = {}
        for _, case in ipairs(slow) do
          target:assert_logged(told.cases[case[1]].port, case[4])
          counts[case[4]] = (counts[case[4]] or 0) + 1
        end
        for reason, count in pairs(counts) do
          assert.equal(count, told.reasons[reason], reason)
        end
        target:await_quiet()
      end)
  end
end)

describe("A client of HTTP/2", function()
  local target
  setup(function()
    target = hostile.start({ "max_concurrent_requests=2000" }, { tls = true,
      env = server.sanitized and { ASAN_OPTIONS = SMALL } or nil })
  end)
  teardown(function()
    assert.equal(0, target:stop())
    hostile.stop_all()
  end)

  for _, tls in ipairs({ false, true }) do
    describe(tls and "over TLS" or "without TLS", function()
      it("that opens too many streams is refused those, and served the others", function()
        local told = target:attack([[
c = Peer()
c.send(b"".join(request(i, "/hold") for i in ids(130)))
c.answers(*ids(30, 201))
c.send(request(261))
c.answers(261)
print("refused", flush=True)
c.answers(*ids(100))
c.send(request(263))
c.answers(263)
report(c)]], { tls = tls, beside = function(text)
          if text:find("refused", 1, true) then
            target:post("/release")
          end
        end })
        assert.same({ REFUSED_STREAM = 31 }, told.resets)
        assert.same({ ["200"] = 101 }, told.statuses)
        assert.equal(31, told.reasons.H2_Streams)
        target:assert_logged(told.port, "H2_Streams")
        assert.same({ {}, "open" }, { told.goaways, told.ended })
        target:post("/hold-again")
      end)

      it("that resets its streams waits for their handlers", function()
        local told = target:attack([[
c = Peer()
c.send(b"".join(request(i, "/hold") for i in ids(100)))
c.settle()
c.send(b"".join(reset(i) for i in ids(100)), b"".join(request(i) for i in ids(50, 201)))
c.settle()
c.send(b"".join(request(i) for i in ids(50, 301)))
c.answers(*ids(50, 301))
report(c)]], { tls = tls })
        -- In the same write no handler has ended yet; a moment later all have.
        assert.same({ REFUSED_STREAM = 50 }, told.resets)
        assert.same({ ["200"] = 50 }, told.statuses)
        assert.equal(50, told.reasons.H2_Streams)
      end)

      local long = {
        { "a field", 431, "FieldLength", 'fields(more=[("x", "y" * 20000)])' },
        { "a name", 431, "FieldLength", 'fields(more=[("y" * 20000, "x")])' },
        { "many fields", 431, "FieldLength", 'fields(more=[("x", "y")] * 1100)' },
        { "all fields", 431, "RequestLength",
          'fields() + literal(b"x", b"y" * 4000, 0x40) + b"\\xbe" * 40' },
        { "a path", 414, "URL_Length", 'fields("/" + "x" * 17000)' },
      }
      for _, case in ipairs(long) do
        it(("gets %d when too long is: %s"):format(case[2], case[1]), function()
          local told = target:attack(([[
c = Peer()
block = %s
parts = [block[i:i + 16000] for i in range(0, len(block), 16000)]
c.send(frame(HEADERS, END_STREAM | (END_HEADERS if len(parts) == 1 else 0), 1, parts[0]))
for i, part in enumerate(parts[1:], 2):
    c.send(frame(CONTINUATION, END_HEADERS if i == len(parts) else 0, 1, part))
c.answers(1)
c.send(request(3))
c.answers(3)
report(c)]]):format(case[4]), { tls = tls })
          assert.same({ [tostring(case[2])] = 1, ["200"] = 1 }, told.statuses)
          assert.equal(1, told.reasons[case[3]])
          target:assert_logged(told.port, case[3])
        end)
      end

      it("may send its session in pieces of a byte", function()
        local told = target:attack([[
c = Peer(preface=False)
c.slowly([PREFACE, settings((4, 70000)), request(1), post(3, "/read"), frame(0x77, 0, 0, b"x"),
          data(3, b"hello"), frame(PRIORITY_UPDATE, 0, 0, u32(5) + b"u=0"),
          frame(HEADERS, 0, 5, fields()[:9]), frame(CONTINUATION, END_HEADERS, 5, fields()[9:]),
          data(5, b"", True), window_update(0, 1000), request(7, "/hold"), reset(7),
          frame(PING, 0, 0, bytes(8)), frame(DATA, END_STREAM | PADDED, 3, b"\x02you\0\0")])
c.answers(1, 3, 5)
report(c)]], { tls = tls })
        assert.same({ ["200"] = 3 }, told.statuses)
        assert.same({ {}, "open" }, { told.goaways, told.ended })
      end)

      it("that ends its side gets what it has asked for", function()
        local told = target:attack([[
c = Peer()
c.send(b"".join(request(i) for i in ids(20)))
c.half_close()
c.rest()
report(c)]], { tls = tls })
        assert.same({ ["200"] = 20 }, told.statuses)
        assert.equal("closed", told.ended)
      end)

      it("that ends its side while handlers run is told so, and they are", function()
        target:begun()
        local told = target:attack([[
c = Peer()
c.send(b"".join(request(i, "/hold") for i in ids(20)))
c.settle()
c.half_close()
c.rest()
report(c)]], { tls = tls })
        assert.equal("closed", told.ended)
        assert.equal(20, (target:begun()))
        target:await_quiet()
      end)

      it("that ends its side in the middle of anything is let go", function()
        for _, pieces in ipairs({ "PREFACE[:9]", "PREFACE", "PREFACE + settings()[:5]",
          "PREFACE + settings() + request(1)[:20]", "PREFACE + settings() + post(1, '/read')",
          "PREFACE + settings() + post(1, '/read') + data(1, b'xy')[:10]",
          "PREFACE + settings() + frame(HEADERS, 0, 1, fields())" }) do
          local told = target:attack(([[
c = Peer(preface=False)
c.send(%s)
c.half_close()
c.rest()
report(c)]]):format(pieces), { tls = tls })
          assert.equal("closed", told.ended, pieces)
        end
        target:await_quiet()
      end)
    end)
  end

  -- Ten clients at a time. What one may make the worker keep is bounded: for each of its 100
  -- streams what the handler may write ahead (64 KiB), frames that wait, what the socket holds. It
  -- asks for a hundred times as much.
  local unread = {
    { "downloads with windows of all sizes", [[
c = Peer(reads=False, receive_buffer=4096, first=[(4, 0x7fffffff)])
c.send(window_update(0, 0x70000000))
c.send(b"".join(request(i, "/large") for i in ids(100)))]] },
    { "answers", [[
c = Peer(reads=False, receive_buffer=4096)
try: c.each(request(i, "/large") + reset(i) for i in ids(190))
except TimeoutError: pass]] },
    { "refusals", [[
c = Peer(reads=False, receive_buffer=4096)
c.send(b"".join(request(i, "/hold") for i in ids(290)))]] },
    { "errors", [[
c = Peer(reads=False, receive_buffer=4096)
c.each(request(i, more=[("x", "y")] * 1100) for i in ids(100))]] },
    { "answers to PING and SETTINGS", [[
c = Peer(reads=False, receive_buffer=4096)
c.send(frame(PING, 0, 0, bytes(8)) * 99 + settings() * 18)]] },
  }
  for _, case in ipairs(unread) do
    it("that never reads its " .. case[1] .. " needs little memory", function()
      local one = case[2]:gsub("\n", "\n    ")
      local before, most = target:memory(), 0
      local told = target:attack(([[
kept = []
for _ in range(10):
    %s
    kept.append(c)
other = Peer()
for i in ids(100):
    other.send(request(i))
    other.answers(i)
report(other)]]):format(one), { beside = function()
        most = math.max(most, target:memory())
      end })
      assert.equal("open", told.ended)
      assert.is_true(most - before < 100 << 20, ("%d MiB more"):format((most - before) >> 20))
      target:await_quiet()
    end)
  end
end)
