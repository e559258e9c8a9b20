-- moonquay http, run as a program beside a real host.
local await = require("spec.support.await")
local client = require("spec.support.client")
local fake = require("spec.support.fake")
local hosts = require("spec.support.host")
local json = require("moonquay.core").json
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local US, STRANGER = sys.geteuid(), 12345
local SETPRIV = { "setpriv", "--reuid", tostring(STRANGER), "--regid", tostring(STRANGER),
  "--clear-groups" }

describe("moonquay http", function()
  local host

  before_each(function()
    host = hosts.start({ workers = 1 })
  end)

  after_each(function()
    server.stop_all()
  end)

  local function run(line, options)
    local words = { "http", env = { MOONQUAY_HOST = host.socket } }
    for word in line:gmatch("%S+") do
      words[#words + 1] = word
    end
    for key, value in pairs(options or {}) do
      words[key] = value
    end
    return server.run(words)
  end

  local function good(line, options)
    local result = run(line, options)
    assert.equal(0, result.status, result.stderr)
    assert.equal("", result.stderr)
    return result.stdout
  end

  local function refused(code, why, line, options)
    local result = run(line, options)
    assert.equal(code, result.status, result.stderr)
    assert.equal("", result.stdout)
    assert.truthy(result.stderr:find("^moonquay: [^\n]+\n$"), result.stderr)
    assert.truthy(result.stderr:find(why, 1, true), result.stderr)
  end

  local function document(line)
    local text = good(line .. " --json")
    assert.truthy(text:find("^{[^\n]*}\n$"), text)
    return (assert(json.decode(text)))
  end

  it("reserves, shows and releases a URL", function()
    local url = "http://+:8123/shop/"
    assert.equal("done\n", good("add urlacl url=" .. url .. " user=#12345 delegate=yes"))
    assert.same({ url = url, user = "#12345", listen = true, delegate = true },
      document("show urlacl").urlacl[1])
    assert.equal("Reserved URLs:\n    url      : " .. url .. "\n    user     : #12345\n"
      .. "    listen   : yes\n    delegate : yes\n", good("show urlacl"))
    refused(78, "is reserved for user:#12345 already", "add urlacl " .. url .. " root")
    assert.same({}, document("delete urlacl " .. url))
    assert.equal("Reserved URLs: none\n", good("show urlacl"))
    refused(78, url .. " is not reserved", "delete urlacl " .. url)
  end)

  it("takes words in any case, options anywhere, arguments without names", function()
    assert.same({}, document("ADD UrlAcl http://+:8123/A/ #7"))
    assert.equal("#7", document("--json show URLACL URL=http://+:8123/a/").urlacl[1].user)
    assert.equal(1, #json.decode(good("show --json --socket " .. host.socket .. " urlacl",
      { env = { MOONQUAY_HOST = "/nonexistent" } })).urlacl)
    good("show urlacl --socket=" .. host.socket, { env = {} })
  end)

  it("is obeyed at once, and after a restart", function()
    local port = ports.free()
    good(("add urlacl http://localhost:%d/kept/ #4711"):format(port))
    local app = host:app("", { port = port, prefix = "kept", ready = false })
    assert.same({ exit = 77 }, app:wait(10))
    assert.truthy(app:stderr():find("is reserved for user:#4711", 1, true))
    local state = temp.dir()
    finally(function() state:remove() end)
    local path = state:write("host.json", host.temp:read("host.json"))
    assert.equal(0, host:stop())
    host = hosts.start({ workers = 1, state = path })
    assert.equal("#4711", document("show urlacl").urlacl[1].user)
    good(("delete urlacl http://localhost:%d/kept/"):format(port))
    host:app("app:get('/', function() return 'here' end)", { port = port, prefix = "kept" })
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send("GET /kept/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.equal("here", connection:response().body)
  end)

  it("sets addresses and time limits", function()
    good("add iplisten 127.0.0.1")
    assert.equal("Addresses to listen at:\n    127.0.0.1\n", good("show iplisten"))
    refused(78, "in the list already", "add iplisten 127.0.0.1")
    good("delete iplisten ipaddress=127.0.0.1")
    assert.matches("^warning : this machine does not have 198.51.100.9 now[^\n]+\ndone\n$",
      good("add iplisten 198.51.100.9"))
    good("delete iplisten 198.51.100.9")
    good("add timeout timeouttype=headerwaittimeout value=0x1e")
    assert.equal(30, document("show timeout").timeout.headerwaittimeout)
    assert.equal("Time limits in seconds:\n    idleconnectiontimeout : not set\n"
      .. "    headerwaittimeout     : 30\n", good("show timeout"))
    good("delete timeout headerwaittimeout")
    refused(78, "headerwaittimeout is not set", "delete timeout headerwaittimeout")
  end)

  it("binds certificates, whose files must be right", function()
    local certs = require("spec.support.certs")
    local made = certs.new():make("site", { names = { "localhost" } })
    local place = "hostnameport=localhost:8443"
    good(("add sslcert %s cert=%s key=%s appid={01234567-89ab-cdef-0123-456789abcdef}"):format(
      place, made.cert, made.key))
    assert.equal(made.cert, document("show sslcert " .. place).sslcert[1].cert)
    good(("update sslcert %s %s %s min_version=1.3"):format(place, made.cert, made.key))
    local record = document("show sslcert").sslcert[1]
    assert.same({ "1.3", nil }, { record.min_version, record.appid })
    refused(78, "moonquay: 0.0.0.0:8443: certificate=/nonexistent: cannot be read: No such file",
      "add sslcert 0.0.0.0:8443 /nonexistent /nonexistent")
    local hash = ("0123456789"):rep(4)
    refused(78, "[::]:8443: certhash=" .. hash .. ": no certificate in ",
      "add sslcert [::]:8443 certhash=" .. hash)
    assert.equal(1, #document("show sslcert").sslcert)
    good("delete sslcert " .. place)
    refused(78, "has no certificate", "show sslcert " .. place)
  end)

  it("prints what opens the ports in use, and runs nothing", function()
    assert.equal("# no port is in use that other machines could reach\n", good("show firewall"))
    local port = ports.free()
    host:app("", { prefixes = { ("http://+:%d/"):format(port), "http://localhost:0/" } })
    assert.equal(([[
# nftables
nft add rule inet filter input tcp dport %d accept

# ufw
ufw allow proto tcp to any port %d

# firewalld
firewall-cmd --permanent --add-port=%d/tcp
firewall-cmd --reload
]]):format(port, port, port), good("show firewall"))
    local open = document("show firewall").ports
    assert.same({ { port = port, scheme = "http", address = "0.0.0.0" } }, { table.unpack(open) })
  end)

  it("shows sessions, groups, queues and their processes", function()
    local app = host:app([[app:get("/wait", function() require("moonquay").sleep(30) end)]],
      { prefix = "shop" })
    local held = app:connect()
    held:send("GET /shop/wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    local url = ("http://localhost:%d/shop/"):format(app.port)
    local state = await("a running request", function()
      local seen = document("show servicestate")
      return seen.queues[1].running == 1 and seen
    end)
    assert.same({ app.pid, US }, { state.sessions[1].process, state.sessions[1].uid })
    local group = state.sessions[1].groups[1]
    assert.same({ url }, { table.unpack(group.urls) })
    assert.same({ "120", "unnamed", 1 }, { group.timeouts.header_wait, group.queue,
      group.connections })
    assert.equal(app.pid, state.queues[1].processes[1].process)
    assert.equal("1000", state.queues[1].request_queue_limit)
    state = document("show servicestate requestq no")
    assert.is_nil(state.sessions)
    assert.same({ url }, { table.unpack(state.queues[1].groups[1].urls) })
    assert.is_nil(state.queues[1].request_queue_limit)
    assert.is_nil(state.queues[1].groups[1].timeouts)
    for _, part in ipairs({ "^Sessions:\n", "\n    process : " .. app.pid .. "\n",
      "\n        URLs:\n            " .. url .. "\n", "\nRequest queues:\n",
      "\n    running +: 1\n" }) do
      assert.truthy(good("show servicestate"):find(part), part)
    end
    held:close()
    app:kill()
    await("no session", function()
      return #document("show servicestate").sessions == 0
    end)
    assert.equal(0, #document("show servicestate").queues[1].processes)
  end)

  it("has what waits for the logs written", function()
    host:stop()
    host = hosts.start({ workers = 2, options = { "--access-log", "-" } })
    local app = host:app("app:get('/x', function() return 'x' end)")
    local connection = app:connect()
    for i = 1, 5 do
      connection:send(("GET /x?%d HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(i))
      assert.equal(200, connection:response().status)
      assert.equal("done\n", good("flush logbuffer"))
      assert.truthy(host.server:stderr():find("/x?" .. i .. " ", 1, true))
    end
  end)

  it("says in one line what is wrong, before it asks a host", function()
    host.socket = "/nonexistent/host.sock"
    refused(64, "a command is missing: there are add, update, delete, show, flush; "
      .. "moonquay http --help shows how\n", "")
    refused(64, "add urlac: there are urlacl", "add urlac")
    refused(64, "url= is missing; moonquay http add urlacl --help shows how\n", "add urlacl")
    refused(64, "ends with a slash", "add urlacl http://+:80 root")
    refused(64, "user= or group=", "add urlacl http://+:80/ sddl=D:(A;;GX;;;WD)")
    refused(64, "no such option: --jason", "show urlacl --jason")
    refused(64, "wants a path: --socket", "show urlacl --socket")
    refused(64, "wants a path: --socket", "show urlacl --socket=")
    refused(64, "one word too many: x", "show firewall x")
    refused(64, "one word too many: x", ("x "):rep(65))
    refused(69, "no host answers at /nonexistent/host.sock", "show urlacl")
    refused(69, "no host answers at /nonexistent/x", "show urlacl --socket /nonexistent/x")
  end)

  it("finds the host of its user by itself", function()
    local shared = temp.dir()
    finally(function() shared:remove() end)
    local mine = server.start({ command = "host", bare = true, ready = false,
      env = { XDG_RUNTIME_DIR = shared.path },
      options = { "--workers", "1", "--no-dev", "--state", shared.path .. "/state.json" } })
    mine:await("started [^\n]*host at")
    assert.equal("Reserved URLs: none\n",
      good("show urlacl", { env = { XDG_RUNTIME_DIR = shared.path } }))
    assert.equal(0, mine:stop())
  end)

  it("does not write half an answer as if it were one", function()
    local result = run("show urlacl", { wrap = { "sh", "-c", 'exec "$@" >/dev/full', "sh" } })
    assert.equal(70, result.status)
    assert.truthy(result.stderr:find("cannot print the answer", 1, true))
  end)

  it("helps", function()
    assert.truthy(good("--help"):find("moonquay http add urlacl\n", 1, true))
    local one = good("add sslcert -h")
    assert.truthy(one:find("^moonquay http add sslcert\n"))
    assert.is_nil(one:find("urlacl", 1, true))
    assert.equal(good("--help"), good("help"))
    assert.equal(one, good("Help add sslcert"))
    assert.truthy(server.run({ "help" }).stdout:find("moonquay http COMMAND", 1, true))
  end)

  if US == 0 then
    describe("of another user", function()
      local shared

      before_each(function()
        shared = temp.dir()
        sys.chmod(shared.path, "0755")
        assert(os.execute(("cp %s %s/moonquay"):format(server.executable, shared.path)))
        sys.chmod(host.temp.path, "0711")
      end)

      after_each(function()
        shared:remove()
      end)

      local function as_stranger()
        return { wrap = SETPRIV, executable = shared.path .. "/moonquay" }
      end

      it("sees what everybody may see", function()
        for _, what in ipairs({ "urlacl", "iplisten", "timeout", "firewall" }) do
          good("show " .. what, as_stranger())
        end
      end)

      it("changes nothing, and is told what that takes", function()
        for _, line in ipairs({ "add urlacl http://+:80/ root", "delete urlacl http://+:80/",
          "add iplisten ::", "add timeout headerwaittimeout 5", "show sslcert",
          "add sslcert 0.0.0.0:443 /a /b", "show servicestate", "flush logbuffer" }) do
          refused(77, "user 12345 may not", line, as_stranger())
        end
        assert.equal("Reserved URLs: none\n", good("show urlacl"))
      end)

      it("reserves below what it holds with delegate=yes", function()
        good("add urlacl http://+:8123/shop/ #12345 delegate=yes")
        good("add urlacl http://+:8123/shop/a/ #4711", as_stranger())
        refused(77, "may not reserve it", "add urlacl http://+:8123/ #12345", as_stranger())
        refused(77, "may not release it", "delete urlacl http://+:8123/shop/", as_stranger())
        good("delete urlacl http://+:8123/shop/a/", as_stranger())
      end)
    end)
  end
end)

-- A program that is no host: answers the first command with these bytes.
describe("moonquay http, of an answer", function()
  local FAKE = [[
import os, socket, struct, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind(sys.argv[1])
server.listen(1)
print("ready", flush=True)
client, _ = server.accept()
header = struct.unpack("<HHII", client.recv(40000)[:12])
assert header[2] == 8, header
text = sys.argv[2].encode().decode("unicode_escape").encode("latin-1")
if text != b"nothing":
    client.send(struct.pack("<HHII", 0x4d51, header[1], 6, header[3]) + text)
]]
  local dir, count

  before_each(function()
    dir, count = temp.dir(), 0
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function told(text, ...)
    count = count + 1
    local path = ("%s/fake%d.sock"):format(dir.path, count)
    finally(fake.start({ "/usr/bin/python3", dir:write("fake.py", FAKE), path, text }))
    return server.run({ "http", "--socket", path, ... })
  end

  local cases = {
    { "that is no pairs", [[ok]], 70 },
    { "that says nothing", [[x\0y\0]], 70 },
    { "that is no JSON", [[ok\0{\0]], 70 },
    { "that is no object", [[ok\0[1]\0]], 70 },
    { "that refuses without a code", [[wrong\0no\0]], 70 },
    { "with a code that would look well", [[wrong\0no\0code\0000\0]], 70 },
    { "with its own code", [[wrong\0no\0code\00075\0]], 75 },
    { "that does not come", "nothing", 69 },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. (" ends with %d"):format(case[3]), function()
      local result = told(case[2], "show", "urlacl")
      assert.equal(case[3], result.status, result.stderr)
      assert.equal("", result.stdout)
      assert.truthy(result.stderr:find("^moonquay: [^\n]+\n$"), result.stderr)
    end)
  end

  it("lets no control reach the terminal", function()
    local result = told([[ok\0{"urlacl":[{"url":"a\\u001b[2Jb\\u009bc\\nd"}]}\0]], "show", "urlacl")
    assert.equal("Reserved URLs:\n    url : a?[2Jb?c?d\n", result.stdout)
    result = told([[wrong\0a\x1b[2Jb\nc\0code\00077\0]], "show", "urlacl")
    assert.equal("moonquay: a?[2Jb?c\n", result.stderr)
  end)

  it("builds no command for a shell of what is no address", function()
    for _, port in ipairs({ [[{"port":80,"address":"1.2.3.4; reboot"}]], [[{"port":80}]],
      [[{"port":"80","address":"0.0.0.0"}]], [[{"port":65536,"address":"0.0.0.0"}]] }) do
      local result = told([[ok\0{"ports":[]] .. port .. [[]}\0]], "show", "firewall")
      assert.equal(70, result.status)
      assert.equal("", result.stdout)
    end
    local result = told([[ok\0{"ports":[{"port":443,"address":"2001:db8::1"}]}\0]], "show",
      "firewall")
    assert.truthy(result.stdout:find("ip6 daddr 2001:db8::1 tcp dport 443 accept\n", 1, true))
    assert.truthy(result.stdout:find('family="ipv6" destination address="2001:db8::1"', 1, true))
  end)
end)
