-- Apps behind a host that are stuck, broken or malicious: each harms its own prefixes alone.
local hostile = require("spec.support.hostile_app")

describe("behind a host, an app that", function()
  local target

  setup(function()
    target = hostile.start()
  end)

  teardown(function()
    target:stop()
    hostile.stop_all()
  end)

  it("never reads what it is asked harms no client that leaves", function()
    local told = target:attack([[
control = Control()
control.serve()
assert control.attach(max_concurrent_requests=100000) == {"ok": "1", "0:+": PREFIX}
links = control.links()
for _ in range(3):
    clients = [ask(content=b"x" * 200000) for _ in range(40)] + [ask() for _ in range(40)]
    for client in clients:
        leave(client)
tell(requests=240)]])
    assert.equal(240, told.requests)
  end)

  it("never answers gets no more than it has granted, and the places back", function()
    local told = target:attack([[
control = Control()
control.serve()
control.attach(max_concurrent_requests=8)
links = control.links()
asked = lambda: sum(len(link.asked) for link in links)
resets = lambda: sum(len(link.resets) for link in links)
seen = []
for _ in range(3):
    clients = [ask() for _ in range(40)]
    before, cancelled = asked(), resets()
    until(links, lambda: asked() >= before + 8)
    for client in clients:
        leave(client)
    until(links, lambda: resets() >= cancelled + 8)
    seen.append(asked() - before)
tell(seen=seen, resets=resets())]])
    -- Of those that wait one may get a place before its client is seen to have left.
    for _, count in ipairs(told.seen) do
      assert.is_true(count >= 8 and count <= 40, count)
    end
  end)

  it("holds many clients for ever leaves the others theirs", function()
    local told = target:attack([[
control = Control()
control.serve()
control.attach(max_concurrent_requests=100000)
links = control.links()
clients = [ask() for _ in range(400)]
until(links, lambda: sum(len(link.asked) for link in links) == 400)
for client in clients:
    leave(client)
until(links, lambda: sum(len(link.resets) for link in links) == 400)
tell(held=len(clients))]])
    assert.equal(400, told.held)
  end)

  it("refuses all that it is asked is asked a bounded number of times", function()
    local told = target:attack([[
control = Control()
control.serve()
control.attach()
links = control.links()
clients = [ask() for _ in range(20)]
def all_answered():
    for link in links:
        while link.asked:
            refused.append(link.asked[0])
            link.send(frame(RST_STREAM, 0, link.asked.pop(0), u32(7)))
    return all(is_readable(client) for client in clients)
refused = []
until(links, all_answered, clients)
tell(asked=len(refused), statuses=sorted({answered(client) for client in clients}))]])
    assert.same({ 502 }, { table.unpack(told.statuses) })
    assert.is_true(told.asked >= 20 and told.asked <= 20 * 101, told.asked)
  end)

  describe("floods", function()
    it("a client that does not read", function()
      local told = target:attack([[
control = Control()
control.serve()
control.attach()
links = control.links()
clients = [ask() for _ in range(20)]
until(links, lambda: sum(len(link.asked) for link in links) == 20)
taken = 0
for link in links:
    for stream in link.asked:
        link.send(head(stream))
        for _ in range(16): # the window of the stream, and not a byte more
            link.send(data(stream, b"x" * 16384 if _ < 15 else b"x" * (262144 - 15 * 16384)))
            taken += 1
        link.read()
assert not any(link.ended for link in links)
for link in links:
    for _ in range(2000): # far behind the window, whatever the client's socket takes
        link.send(data(link.asked[0], b"x" * 16384))
until(links, lambda: all(link.ended or link.asked[0] in link.resets for link in links))
tell(frames=taken)]])
      assert.equal(320, told.frames)
    end)

    for what, frames in pairs({
      SETTINGS = "settings((3, 100))",
      ["SETTINGS that change all windows"] = "settings((4, 1)) + settings((4, 2147483647))",
      PING = 'frame(PING, 0, 0, b"12345678")',
      WINDOW_UPDATE = "frame(WINDOW_UPDATE, 0, 0, u32(1))",
      ["unknown frames"] = 'frame(0xb9, 0, 0, b"x" * 100)',
      notes = 'frame(0xe1, 0, 1, b"close\\0001\\000")',
      ["notes that delegate"] = 'frame(0xe1, 0, 1, b"delegate\\0nowhere\\0")',
      ["notes of content that nobody has asked for"] =
        'frame(0xe1, 0, 1, b"entity_body\\00030\\0min_send\\0009\\0")',
      PRIORITY = 'frame(PRIORITY, 0, 3, bytes(5))',
    }) do
      for _, reads in ipairs({ true, false }) do
        local how = reads and "reads" or "does not read"
        it(("with %s, and %s what is said to it"):format(what, how), function()
          local told = target:attack(([[
control = Control()
control.serve()
control.attach()
links = control.links()
clients = [ask() for _ in range(10)]
flood = (%s) * 500
sent = stopped = 0
for _ in range(40):
    for link in links:
        got = link.send_some(flood) if not link.ended else None
        sent += got or 0
        stopped += got == 0
        if %s:
            link.poll()
for client in clients:
    leave(client)
tell(sent=sent)]]):format(frames, reads and "True" or "False"))
          assert.is_true(told.sent > 0)
        end)
      end
    end

    it("with notes that want answers, without end, and does not read these", function()
      local told = target:attack([[
control = Control()
control.serve()
control.attach()
links = control.links()
clients = [ask() for _ in range(10)]
until(links, lambda: sum(len(link.asked) for link in links) == 10)
link = next(link for link in links if link.asked)
flood = frame(0xe1, 0, link.asked[0], b"delegate\0nowhere\0") * 1000
rounds = 0
while rounds < 2000 and link.send_some(flood) is not None:
    rounds += 1
for client in clients:
    leave(client)
tell(ended=link.ended)]])
      assert.is_true(told.ended)
    end)

    it("with interim answers", function()
      local told = target:attack([[
control = Control()
control.serve()
control.attach()
links = control.links()
client = ask()
until(links, lambda: any(link.asked for link in links))
link = next(link for link in links if link.asked)
hint = head(link.asked[0], 103, [(b"link", b"x" * 8000)])
sent = 0
for _ in range(12000):
    if link.ended or link.resets or not link.send(hint):
        break
    sent += 1
    drain(client)
    link.poll()
tell(sent=sent, status=answered(client))]])
      assert.is_true(told.sent > 0 and told.sent < 12000, told.sent)
      assert.equal(0, told.status) -- broken off behind the interim ones
    end)
  end)

  -- Each on a link of its own, on which the app was asked something: stream 1.
  describe("breaks the rules", function()
    for what, bytes in pairs({
      ["random bytes"] = "os.urandom(100000)",
      ["HTTP/1.1"] = 'b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi"',
      ["an oversize frame"] = "frame(DATA, 0, 1, bytes(1 << 20))",
      ["a frame that announces 16 MiB"] = 'b"\\xff\\xff\\xff" + bytes(100)',
      ["the head of no stream"] = "head(99)",
      ["the head of a stream of its own"] = "head(2)",
      ["an answer on stream 0"] = "head(0)",
      ["PUSH_PROMISE"] = 'frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + fields())',
      ["CONTINUATION without an end"] =
        'frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, literal(b"a", b"b")) * 100000',
      ["empty CONTINUATION without an end"] =
        'frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 100000',
      ["a DATA frame before a head"] = "data(1, bytes(1000))",
      ["a bomb of fields"] = "frame(HEADERS, END_HEADERS, 1, "
        .. "literal(b'a', b'b' * 4000, 0x40) + b'\\xbe' * 12000) * 50",
      ["SETTINGS of a wrong length"] = "frame(SETTINGS, 0, 0, bytes(5))",
      ["a window that overflows"] = "window_update(0, 0x7fffffff) * 2",
      ["a window of nothing"] = "window_update(1, 0)",
      ["a reset of no stream"] = "reset(77)",
    }) do
      it("with " .. what, function()
        local told = target:attack(([[
control = Control()
control.serve()
control.attach()
links = control.links()
client = ask()
until(links, lambda: any(link.asked for link in links))
link = next(link for link in links if link.asked)
link.send(%s)
if not link.ended:
    link.socket.shutdown(socket.SHUT_WR)
    link.rest()
fresh = Link(control.channel()) # the next one takes over, and works
links = [other for other in links if other is not link] + [fresh]
tell(fresh=well_behaved(links, ask()), first=answered(client) if is_readable(client) else 0)]])
          :format(bytes))
        assert.equal(200, told.fresh)
      end)
    end
  end)

  -- Counted is what it is given while the good app answers so many requests. A host gives some at
  -- once, then makes pauses that grow.
  describe("is given no channels without end when it", function()
    local REQUESTS, MOST = 3000, 200
    local WORKERS_MOST = 64 + 3 * 2 * 256 -- what two workers of a host and all of an app's need

    for what, step in pairs({
      ["closes each at once"] = "control.channel().close()",
      ["breaks each"] = 'Link(control.channel()).send(b"x" * 100)',
      ["leaves each, and asks for others"] =
        "Link(control.channel()).send(frame(GOAWAY, 0, 0, u32(0, 0)) * 100); control.serve()",
      ["says that its worker was replaced"] = "control.channel().close(); control.serve()",
      ["says so of many"] = "control.channel().close(); control.serve(count % 256)",
    }) do
      it(what, function()
        local lines = target:attack(([[
control = Control()
control.serve()
control.attach()
count = 0
while True:
    %s
    count += 1
    print(count, flush=True)]]):format(step), { requests = REQUESTS })
        local given = select(2, lines:gsub("\n", "\n"))
        assert.is_true(given >= 2, lines)
        local most = what == "says so of many" and WORKERS_MOST or MOST
        assert.is_true(given <= most, given .. " channels")
      end)
    end

    it("asks for them, and does not read that they come", function()
      target:attack([[
controls = []
for i in range(20):
    controls.append(Control())
    controls[-1].serve()
    controls[-1].attach("http://localhost:%d/evil/%d/" % (PORT, i))
print("attached", flush=True)
while True:
    for control in controls:
        try:
            control.socket.setblocking(False)
            control.serve()
        except BlockingIOError:
            pass]], { requests = REQUESTS })
    end)
  end)
end)
