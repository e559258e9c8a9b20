-- moonquay host --replace: a new host takes the place of the one that runs, under load.
local await = require("spec.support.await")
local certs = require("spec.support.certs")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local load = require("spec.support.load")
local peer = require("spec.support.peer")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local CLIENTS = server.sanitized and 15 or 60

local APP = [[
app:get("/", function() return "ok" end)
app:get("/slow", function(_, res)
  res:write("begun ")
  while not io.open("GATE") do require("moonquay").sleep(0.01) end
  res:write("done")
end)]]

describe("moonquay host --replace", function()
  local host

  before_each(function()
    host = hosts.start()
  end)

  after_each(function()
    load.stop_all()
    server.stop_all()
  end)

  local function get(port, path)
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path or "/"))
    local response = connection:response()
    connection:close()
    return response.body
  end

  it("is not noticed by clients, with kept connections and fresh ones", function()
    local app = host:app(APP)
    local kept = load.start({ port = app.port, clients = CLIENTS })
    local fresh = load.start({ port = app.port, clients = CLIENTS // 3, fresh = true })
    local old = host.server
    for _ = 1, 3 do
      kept:await(200)
      local new = host:replacement()
      assert.same({ exit = 0 }, old:wait(20))
      old = new
      load.assert_only_answers(kept:await(300))
      load.assert_only_answers(fresh:await(100))
    end
    kept:stop()
    fresh:stop()
    assert.equal("ok", get(app.port))
    assert.equal(0, old:stop())
    assert.is_nil(io.open(host.socket)) -- the last one takes it away
  end)

  it("lets an answer that was begun go on to its end", function()
    local gate = host.temp.path .. "/gate"
    local app = host:app((APP:gsub("GATE", gate)))
    local connection = client.connect("127.0.0.1", app.port, { deadline = 30 })
    connection:send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection:read_until("begun")
    local new = host:replacement()
    host.server:await("taken_over")
    assert.equal("ok", get(app.port))
    host.temp:write("gate", "")
    assert.truthy(connection:rest():find("done.*\r\n0\r\n\r\n$"))
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal(0, new:stop())
  end)

  it("keeps prefixes, queues and reservations", function()
    host:http("add urlacl url=http://localhost:8123/kept/ user=#12345")
    local app = host:app(APP, { options = { "--set", "request_queue_name=shop" } })
    local new = host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    app:await("host_found")
    local second = host:app("", { port = app.port, ready = false })
    assert.same({ exit = 69 }, second:wait(10))
    assert.equal("http://localhost:8123/kept/", host:http("show urlacl").urlacl[1].url)
    assert.equal("shop", host:http("show servicestate").queues[1].queue)
    local member = host:app(APP, { port = app.port, options = { "--set", "request_queue_name=shop",
      "--set", "request_queue_mode=create_or_attach" } })
    assert.equal(0, app:stop())
    assert.equal("ok", get(app.port))
    assert.equal(0, member:stop())
    assert.equal(0, new:stop())
  end)

  it("may have more workers; fewer it has not", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS, fresh = true })
    clients:await(100)
    local new = host:replacement({ "--workers", "4" })
    assert.same({ exit = 0 }, host.server:wait(20))
    load.assert_only_answers(clients:await(200))
    local last = host:replacement({ "--workers", "1" })
    last:await("workers_kept")
    assert.same({ exit = 0 }, new:wait(20))
    load.assert_only_answers(clients:await(200))
  end)

  it("changes nothing when the new one cannot start", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS })
    for _, case in ipairs({ { "--workers", "none" }, { "--user", "no-such-user" },
      { "--set", "tls=certificate=/nonexistent key=/nonexistent" } }) do
      local new = host:replacement(case, false)
      assert.equal(78, new:wait(20).exit)
      assert.equal(1, select(2, new:stderr():gsub("moonquay:", "")), new:stderr())
    end
    load.assert_only_answers(clients:await(200))
    assert.is_nil(host.server:wait(0))
    -- A program that comes now is served, and the place can still be taken.
    local other = host:app(APP, { prefix = "other", port = app.port })
    assert.equal("ok", get(app.port, "/other/"))
    other:stop()
    host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    load.assert_only_answers(clients:await(200))
  end)

  it("changes nothing when the new one is killed on its way", function()
    local app = host:app(APP)
    local clients = load.start({ port = app.port, clients = CLIENTS })
    for _ = 1, 3 do
      local new = host:replacement(nil, false)
      host.server:await("takeover_asked")
      new:signal("KILL")
      new:wait(10)
      await("the registrar", function()
        return #host:children("registrar") == 1 or host.server:stderr():find("taken_over")
      end)
      load.assert_only_answers(clients:await(100))
    end
    assert.is_nil(host.server:wait(0))
  end)

  -- Everything is as it was: programs are heard, commands are done, and the place can be taken.
  local function assert_unchanged(app)
    local other = host:app(APP, { prefix = "other", port = app.port })
    assert.equal("ok", get(app.port, "/other/"))
    assert.equal(0, other:stop())
    host:http("add urlacl url=http://localhost:8123/kept/ user=root")
    assert.is_nil(host.server:wait(0))
    host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal("ok", get(app.port))
    assert.equal(1, #host:http("show urlacl").urlacl)
  end

  it("changes nothing when the new one fails late", function()
    local app = host:app(APP)
    local config = host.temp:write("conf.lua",
      'return { apps = { { file = "/a.lua", user = "no-such-user" } } }')
    local new = host:replacement({ "--config", config }, false)
    assert.equal(78, new:wait(20).exit)
    host.server:await("takeover_failed")
    assert_unchanged(app)
  end)

  it("changes nothing when the new one is told to stop on its way", function()
    local app = host:app(APP)
    local new = host:replacement({ "--set", "watchdog=off" }, false)
    host.server:await("takeover_asked")
    new:signal("STOP")
    new:signal("TERM")
    new:signal("CONT")
    new:wait(20)
    if host.server:stderr():find("taken_over") then
      return -- it was there before the signal
    end
    await("the end of it", function()
      return host.server:stderr():find("takeover_failed")
    end)
    assert_unchanged(app)
  end)

  it("ends with the old one when that is told to stop on its way", function()
    host:app(APP)
    local new = host:replacement(nil, false)
    host.server:await("takeover_asked")
    host.server:signal("TERM")
    local old, fresh = host.server:wait(20), new:wait(1)
    assert.same({ exit = 0 }, old)
    if not fresh then -- it had taken over before
      assert.equal(0, new:stop())
    else
      assert.equal(69, fresh.exit)
    end
  end)

  it("is not kept from it by somebody who says nothing", function()
    local app = host:app(APP)
    local silent = assert(sys.spawn({ "python3", "-c", ([[
import socket, time
held = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for i in range(3)]
for one in held:
    one.connect("%s.takeover")
print("there", flush=True)
time.sleep(60)]]):format(host.socket) }, { env = { LD_PRELOAD = false } }))
    await("it", function()
      return select(2, assert(io.open("/proc/net/unix")):read("a")
        :gsub(host.socket:gsub("%p", "%%%0") .. "%.takeover", "")) > 1
    end)
    host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal("ok", get(app.port))
    sys.kill(silent, "KILL")
    sys.waitpid(silent, 10000)
  end)

  it("lets sessions of TLS go on", function()
    local store = certs.new()
    local made, port = store:make("site", { names = { "localhost" } }), ports.free()
    host:http(("add sslcert hostnameport=localhost:%d cert=%s key=%s"):format(port, made.cert,
      made.key))
    host:app(APP, { prefixes = { ("https://localhost:%d/"):format(port) } })
    local ticket = store:path("ticket")
    local function resumed(which)
      local result = peer.run({ "openssl", "s_client", "-connect", "localhost:" .. port,
        "-servername", "localhost", which, ticket, "-ign_eof" },
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
      return result.stdout .. result.stderr
    end
    assert.truthy(resumed("-sess_out"):find("New, TLSv1.3", 1, true))
    host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.truthy(resumed("-sess_in"):find("Reused, TLSv1.3", 1, true))
    store:remove()
  end)

  it("has the state file of the one that runs, whether it is told so or not", function()
    host:http("add urlacl url=http://localhost:8123/kept/ user=#12345")
    local words = { "host", "--socket", host.socket, "--workers", "2", "--no-dev", "--replace" }
    local wrong = { table.unpack(words) }
    table.move({ "--state", host.temp.path .. "/other.json" }, 1, 2, #wrong + 1, wrong)
    local result = server.run(wrong)
    assert.equal(78, result.status)
    assert.equal(("moonquay: --replace: --state=%s/other.json: the host that runs has %s\n"):format(
      host.temp.path, host.state), result.stderr)
    table.remove(words, 1)
    local new = server.start({ command = "host", bare = true, ready = false, options = words })
    new:await("started [^\n]*host at")
    assert.same({ exit = 0 }, host.server:wait(20))
    host:http("add urlacl url=http://localhost:8124/new/ user=#12345")
    assert.equal(2, #host:http("show urlacl").urlacl)
    assert.truthy(assert(io.open(host.state)):read("a"):find("8124/new/", 1, true))
  end)

  it("takes a link for the file that it leads to, also while there is none yet", function()
    host:stop()
    local links = temp.dir()
    local link = links.path .. "/state.json"
    assert(os.execute(("ln -s %s/real.json %s"):format(links.path, link)))
    host = hosts.start({ state = link })
    local new = host:replacement()
    assert.same({ exit = 0 }, host.server:wait(20))
    assert.equal(0, new:stop())
    links:remove()
  end)

  it("is not kept up by one that says nothing any more; others are told", function()
    local silent = assert(sys.spawn({ "python3", "-c", ([[
import socket, struct, time
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.connect("%s.takeover")
one.send(struct.pack("<HHII", 0x4d51, 3, 2, 1))
time.sleep(60)]]):format(host.socket) }, { env = { LD_PRELOAD = false } }))
    host.server:await("takeover_asked")
    local other = host:replacement(nil, false)
    assert.same({ exit = 69 }, other:wait(10))
    assert.truthy(other:stderr():find("refuses: it is busy with", 1, true), other:stderr())
    -- This waits until there is a registrar again.
    assert.equal(0, #host:http("show urlacl").urlacl)
    assert.truthy(host.server:stderr():find("the new host is silent: this one goes on", 1, true))
    sys.kill(silent, "KILL")
    sys.waitpid(silent, 10000)
  end)

  it("says when there is nobody, or somebody else's host", function()
    local words = { "host", "--socket", host.temp.path .. "/none", "--state",
      host.temp.path .. "/other.json", "--replace" }
    local result = server.run(words)
    assert.equal(69, result.status)
    assert.truthy(result.stderr:find("no host that could be replaced answers", 1, true))
    if sys.geteuid() == 0 then
      words[3], words[5] = host.socket, "/tmp/none.json"
      words.wrap = { "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups" }
      result = server.run(words)
      assert.equal(69, result.status)
      assert.truthy(result.stderr:find("Permission denied", 1, true))
    end
  end)
end)
