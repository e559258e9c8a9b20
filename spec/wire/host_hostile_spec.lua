-- Apps behind a host that are stuck, broken or malicious: each harms its own prefixes alone.
local hostile = require("spec.support.hostile_app")

describe("behind a host, an app that", function()
  local target

  setup(function()
    target = hostile.start()
  end)

  teardown(function()
    target:assert_well()
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
end)
