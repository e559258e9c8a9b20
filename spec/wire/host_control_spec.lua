-- Programs that flood a host's control socket, of another user where the specs run as root:
-- everybody may connect. Other programs are heard, and other apps served.
local hostile = require("spec.support.hostile_app")

describe("a program that floods a host's control socket", function()
  local target

  setup(function()
    target = hostile.start()
  end)

  teardown(function()
    target:stop()
    hostile.stop_all()
  end)

  local function beside()
    target:command()
  end

  it("with connections that it keeps", function()
    target.events.control_refused = 0
    local told = target:attack([[
kept = []
for i in range(3000):
    one = Control()
    one.socket.setblocking(False)
    kept.append(one)
    if i % 100 == 0:
        time.sleep(0)
held = 0
for one in kept:
    one.socket.settimeout(SECONDS)
    held += one.say(COMMAND, 1, [("verb", "show"), ("noun", "urlacl")]) and one.reply() is not None
tell(held=held)]], { beside = beside })
    assert.is_true(told.held >= 100 and told.held <= 128, told.held)
    assert.is_true(target.events.control_refused < 500, target.events.control_refused)
  end)

  it("with connections that say nothing, or what is no message", function()
    target.events.control_closed = 0
    target:attack([[
silent = [Control() for _ in range(50)]
for i in range(5000):
    one = Control()
    one.send((b"", b"x", bytes(100), os.urandom(40000), message(99), message(REPLY),
              message(COMMAND, version=9))[i % 7])
    one.socket.close()
tell(done=all(one.ended() for one in silent))]], { beside = beside })
    assert.is_true(target.events.control_closed < 500, target.events.control_closed)
  end)

  it("with messages that never end", function()
    local told = target:attack([[
piece = message(PIECE, 0, bytes(32768))
kept = []
for _ in range(120):
    one = Control()
    one.say(COMMAND, 1, [("verb", "show"), ("noun", "urlacl")])
    one.reply()
    kept.append(one)
    for _ in range(100):
        if not one.send(piece):
            break
for one in kept:
    one.ended()
tell(done=True)]], { beside = beside })
    assert.is_true(told.done)
  end)

  it("with descriptors of whatever there is, thousands of them", function()
    local told = target:attack([[
fds = (devices() * 50)[:250]
one = Control()
one.attach()
one.serve()
one.links()
answers = 0
for i in range(300):
    one.send(message(COMMAND, i, texts([("verb", "show"), ("noun", "urlacl")])), fds)
    answers += one.reply() is not None
one.send(message(WORKER, 0, texts([("serves", 1)])), fds)
many = [Control() for _ in range(50)]
for other in many:
    for _ in range(3):
        other.send(message(PIECE, 0, bytes(32768)), fds)
tell(answers=answers)]], { beside = beside })
    assert.equal(300, told.answers)
  end)

  it("with attaches for its log alone", function()
    target.events.app_attached, target.events.app_left = 0, 0
    local told = target:attack([[
one = Control()
attached = 0
for i in range(3000):
    attached += one.attach() is not None
    one.say(DETACH, 1, [("keep", 0)])
tell(attached=attached)]], { beside = beside })
    local lines = target.events.app_attached + target.events.app_left
    assert.equal(3000, told.attached)
    assert.is_true(lines > 0 and lines < 3000, lines)
  end)

  it("with more prefixes and ports than one app can want", function()
    local told = target:attack([[
answers = []
def wish(count, prefix):
    one = Control()
    answers.append(one.attach(*[prefix % i for i in range(count)]))
    one.say(DETACH, 1, [("keep", 0)])
    one.socket.close()
wish(60000, PREFIX + "%d/")
wish(60000, "http://localhost:%d/")
wish(30000, "http://localhost:1" + "%04d/")
tell(answers=[list(answer or {""})[0] for answer in answers])]],
      { beside = beside })
    assert.same({ "wrong", "wrong", "wrong" }, { table.unpack(told.answers) })
  end)

  for what, step in pairs({
    ["commands whose answers it does not read"] =
      'one.say(COMMAND, 1, [("verb", "show"), ("noun", "urlacl")])',
    ["commands that are none"] = "one.send(message(COMMAND, 1, os.urandom(1000)))",
    ["changes of apps that it has not"] = 'one.say(ASK, 1, [("app", 5), ("op", "listen")])',
    ["changes"] =
      'one.say(ASK, 1, [("app", 0), ("op", "set"), ("key", "max_concurrent_requests"), '
      .. '("value", str(count % 100 + 1)), ("place", "")])',
    ["prefixes that come and go"] =
      'one.say(ASK, 1, [("app", 0), ("op", ("listen", "unlisten")[count % 2]), ("key", ""), '
      .. '("value", PREFIX + "x/"), ("place", "")])',
    ["attaches that are refused"] = "one.say(ATTACH, 1, [('version', 2)])",
    ["attaches and detaches"] =
      "one.say(DETACH, 1, [('keep', 0)]) and one.say(ATTACH, 1, [('version', 1), "
      .. "('0:name', 'x'), ('0:+', PREFIX)])",
    ["empty messages"] = "one.send(message(ATTACH))",
  }) do
    for _, reads in ipairs({ true, false }) do
      it(("with %s, %s reading"):format(what, reads and "and" or "not"), function()
        local lines = target:attack(([[
one = Control()
one.attach()
count = 0
print(count, flush=True)
while True:
    one.socket.settimeout(SECONDS)
    try:
        one.socket.setblocking(False)
        before = one.socket
        if %s:
            one.socket.setblocking(True)
        if not %s:
            one = Control()
            one.attach()
        while %s and select.select([one.socket], [], [], 0)[0] and one.hear():
            pass
    except BlockingIOError:
        pass
    count += 1]]):format(reads and "True" or "False", step, reads and "True" or "False"),
          { requests = 500, beside = beside })
        assert.truthy(lines:find("^0\n"))
      end)
    end
  end
end)
