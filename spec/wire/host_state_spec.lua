-- What a host remembers: its state file, and what of it is in force after a start.
local await = require("spec.support.await")
local certs = require("spec.support.certs")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local json = require("moonquay.core").json
local peer = require("spec.support.peer")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")
local users = require("spec.support.users")

describe("the state of a host", function()
  local dir

  before_each(function()
    dir = temp.dir()
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function start(state)
    return hosts.start({ state = dir:write("host.json", state) })
  end

  -- What a store's certificate is asked by at a port of a host.
  local function get_secure(store, port)
    local answer = peer.run({ "curl", "-s", "--cacert", store:path("site.pem"),
      ("https://localhost:%d/"):format(port) })
    return answer.stdout, answer.stderr
  end

  local function digest_of(made)
    return (certs.openssl("x509", "-noout", "-fingerprint", "-sha1", "-in", made.cert)
      :match("=([%x:]+)"):gsub(":", ""))
  end

  local function get(address, port, path)
    local connection = client.connect(address, port, { deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path))
    local response = connection:response()
    connection:close()
    return response.status == 200 and response.body or response.status
  end

  it("keeps a URL for somebody who is not there: 503, and it hides others", function()
    local port, other = ports.free(), ports.free()
    local host = start(([[{"version": 1, "urlacl": [
      {"url": "http://localhost:%d/kept/", "user": "#12345"},
      {"url": "http://localhost:%d/", "user": "#12345"}]}]]):format(port, other))
    host:app("app:get('/*rest', function() return 'here' end)", { port = port })
    assert.equal("here", get("127.0.0.1", port, "/other"))
    assert.equal("here", get("127.0.0.1", port, "/keptx"))
    assert.equal(503, get("127.0.0.1", port, "/kept"))
    assert.equal(503, get("127.0.0.1", port, "/kept/x"))
    local refused = host:app("", { port = other, ready = false })
    assert.same({ exit = 77 }, refused:wait(10))
    assert.truthy(refused:stderr():find("is reserved for user:#12345", 1, true))
  end)

  it("keeps what is for a user or group that there is not, for nobody", function()
    local port = ports.free()
    local text = ([[{"version": 1, "urlacl": [
      {"url": "http://localhost:%d/user/", "user": "no such user"},
      {"url": "http://localhost:%d/group/", "group": "no such group", "delegate": true},
      {"url": "http://localhost:%d/root/", "user": "root"}]}]]):format(port, port, port)
    local host = start(text)
    for _, who in ipairs({ "user:no such user", "group:no such group" }) do
      assert.truthy(host.server:stderr():find("holder_unknown [^\n]*" .. who))
    end
    local shown = host:http("show urlacl").urlacl
    assert.same({ 3, true, true, nil }, { #shown, shown[1].unknown, shown[2].unknown,
      shown[3].unknown })
    local refused = host:app("", { port = port, prefix = "user", ready = false })
    assert.same({ exit = 77 }, refused:wait(10))
    host:http("add urlacl http://+:8125/ root")
    assert.equal(4, #assert(json.decode(dir:read("host.json"))).urlacl)
    local new = server.run({ "http", "add", "urlacl", "http://+:8126/", "no such user",
      env = { MOONQUAY_HOST = host.socket } })
    assert.same({ 78, "moonquay: there is no user no such user\n" }, { new.status, new.stderr })
    assert.equal(0, host.server:stop())
    host = hosts.start({ state = host.state })
    assert.equal(4, #host:http("show urlacl").urlacl)
  end)

  for _, case in ipairs({
    { "no JSON", "{", "host.json: line 1: " },
    { "an unknown record", '{"version": 1,\n"urlacl": [\n{"url": "x"}]}', "host.json: line 3: " },
    { "another version", '{"version": 2}', "host.json: version 2" },
  }) do
    it("that is broken stops the start with the line: " .. case[1], function()
      local path = dir:write("host.json", case[2])
      dir:write("host.json.good", "what was right")
      local result = server.run({ "host", "--socket", dir.path .. "/s", "--state", path })
      assert.equal(78, result.status)
      assert.truthy(result.stderr:find(case[3], 1, true), result.stderr)
      assert.truthy(result.stderr:find("what was right last is in host.json.good", 1, true))
      assert.equal(1, select(2, result.stderr:gsub("\n", "\n")))
      assert.equal("what was right", dir:read("host.json.good"))
    end)
  end

  it("that was right is there once more beside it", function()
    local text = '{"version": 1, "urlacl": []}'
    assert.equal(0, start(text):stop())
    assert.equal(text, dir:read("host.json.good"))
  end)

  it("that cannot be written refuses a change and says why, and takes it later", function()
    assert(os.execute("mkdir " .. dir.path .. "/state"))
    local host = hosts.start({ state = dir.path .. "/state/host.json", workers = 1 })
    local function add()
      return server.run({ "http", "add", "urlacl", "http://+:8125/", "root",
        env = { MOONQUAY_HOST = host.socket } })
    end
    assert(os.rename(dir.path .. "/state", dir.path .. "/away"))
    local refused = add()
    assert.same({ 78, ("moonquay: %s.new: No such file or directory\n"):format(host.state) },
      { refused.status, refused.stderr })
    assert.equal(0, #host:http("show urlacl").urlacl)
    assert(os.rename(dir.path .. "/away", dir.path .. "/state"))
    assert.equal(0, add().status)
    assert.equal(1, #assert(json.decode(dir:read("state/host.json"))).urlacl)
  end)

  it("is one host's alone", function()
    local host = start('{"version": 1}')
    local second = server.run({ "host", "--socket", dir.path .. "/s2", "--state", host.state })
    assert.equal(69, second.status)
    assert.truthy(second.stderr:find("another host has this state file (--replace, "
      .. "with the same --socket, takes its place)\n", 1, true))
    assert.equal(0, host:stop())
  end)

  it("lies in the first of the directories that systemd names", function()
    local socket, names = dir.path .. "/s", { "first", "second" }
    for i, name in ipairs(names) do
      assert(os.execute(("mkdir %s/%s"):format(dir.path, name)))
      names[i] = dir.path .. "/" .. name
    end
    local host = server.start({ command = "host", bare = true, ready = false,
      options = { "--socket", socket, "--workers", "1" },
      env = { STATE_DIRECTORY = table.concat(names, ":") } })
    host:await("started [^\n]*host at")
    assert.equal(0, server.run({ "http", "add", "urlacl", "http://+:8125/", "root",
      env = { MOONQUAY_HOST = socket } }).status)
    assert.truthy(dir:read("first/host.json"))
    assert.is_nil(dir:read("second/host.json"))
    assert.equal(0, host:stop())
  end)

  it("stays where a link leads, which may lead nowhere yet", function()
    assert(os.execute(("cd %s && mkdir real && ln -s real/host.json near && ln -s $PWD/near far")
      :format(dir.path)))
    for i = 1, 2 do
      local host = hosts.start({ state = dir.path .. "/far", workers = 1 })
      local second = server.run({ "host", "--socket", dir.path .. "/s2", "--state",
        dir.path .. "/real/host.json" })
      assert.equal(69, second.status)
      host:http(("add urlacl http://+:8125/%d/ root"):format(i))
      assert.equal(i, #assert(json.decode(dir:read("real/host.json"))).urlacl)
      assert(os.execute(("test -L %s/far && test -L %s/near"):format(dir.path, dir.path)))
      assert.equal(0, host:stop())
    end
    assert(os.execute(("ln -s loop %s/loop"):format(dir.path)))
    local loop = server.run({ "host", "--socket", dir.path .. "/s",
      "--state", dir.path .. "/loop" })
    assert.same({ 78, ("moonquay: %s/loop: more than 40 links\n"):format(dir.path) },
      { loop.status, loop.stderr })
  end)

  it("is not believed when others may write it", function()
    local path = dir:write("host.json", '{"version": 1}')
    assert(os.execute("chmod 666 " .. path))
    local result = server.run({ "host", "--socket", dir.path .. "/s", "--state", path })
    assert.equal(77, result.status)
    assert.truthy(result.stderr:find("others may write it", 1, true))
  end)

  -- Each round kills the host at another moment of a row of changes.
  it("is whole after a host that was killed while it wrote", function()
    local rounds, path = server.sanitized and 8 or 25, dir.path .. "/host.json"
    local most = 0
    for round = 1, rounds do
      local host = hosts.start({ state = path, workers = 1 })
      local seen = #host:http("show urlacl").urlacl
      assert.is_true(seen >= most, seen) -- what was answered is there
      most = seen
      local writer = sys.spawn({ "sh", "-c", ([[
i=0
while [ $i -lt 200 ]; do
  "$0" http add urlacl url=http://+:%d/r%d-$i/ user=root || exit
  i=$((i + 1))
done]]):format(8000 + round, round), server.executable },
        { env = { MOONQUAY_HOST = host.socket, LD_PRELOAD = false } })
      await("some changes", function()
        local text = dir:read("host.json")
        return text and select(2, text:gsub(("/r%d%%-"):format(round), "")) > round % 5
      end)
      sys.kill(host.server.pid, "KILL")
      host.server:wait(10)
      sys.waitpid(writer, 10000)
      local text = assert(dir:read("host.json"))
      local urls = assert(json.decode(text)).urlacl
      assert.is_true(#urls > most)
      assert(json.decode(assert(dir:read("host.json.good"))))
      most = #urls
      server.stop_all()
    end
  end)

  it("says where the host listens", function()
    local port = ports.free()
    local host = start('{"version": 1, "iplisten": ["127.0.0.2"]}')
    host:app("app:get('/', function() return 'here' end)",
      { prefixes = { ("http://*:%d/"):format(port) } })
    assert.equal("here", get("127.0.0.2", port, "/"))
    assert.is_false((pcall(client.connect, "127.0.0.1", port)))
    local elsewhere = host:app("", { prefixes = { "http://10.0.0.1:8125/" }, ready = false })
    assert.same({ exit = 78 }, elsewhere:wait(10))
    assert.truthy(elsewhere:stderr():find("does not listen at the address", 1, true))
  end)

  it("may name an address that the machine does not have: warned of, others serve", function()
    local port, later = ports.free(), ports.free()
    local warning = "this machine does not have 198.51.100.%d now; it is served as soon as it has"
    local host = start('{"version": 1, "iplisten": ["198.51.100.1", "127.0.0.2"]}')
    assert.truthy(host.server:stderr():find("address_missing [^\n]*" .. warning:format(1)))
    local function app(at)
      host:app("app:get('/', function() return 'here' end)",
        { prefixes = { ("http://*:%d/"):format(at) } })
    end
    app(port)
    assert.equal("here", get("127.0.0.2", port, "/"))
    assert.same({ warning = warning:format(2) }, host:http("add iplisten 198.51.100.2"))
    assert.truthy(host.server:stderr():find("address_missing [^\n]*" .. warning:format(2)))
    assert.equal("here", get("127.0.0.2", port, "/"))
    app(later)
    assert.equal("here", get("127.0.0.2", later, "/"))
    assert.same({}, host:http("delete iplisten 198.51.100.1"))
    assert.equal("here", get("127.0.0.2", port, "/"))
    local none = server.run({ "http", "add", "iplisten", "fe80::1",
      env = { MOONQUAY_HOST = host.socket } })
    assert.equal(78, none.status)
    assert.matches("^moonquay: fe80::1: cannot listen on [^\n]+\n$", none.stderr)
    assert.equal(2, #host:http("show iplisten").iplisten)
  end)

  it("has certificates by name and by digest; one that has gone spares the others", function()
    local named, hashed = ports.free(), ports.free()
    local store = certs.new()
    local made = store:make("site", { names = { "localhost" } })
    assert(os.execute("mkdir " .. dir.path .. "/certificates"))
    dir:write("certificates/site.pem", store:read("site.pem") .. store:read("site.key"))
    local host = start(([[{"version": 1, "sslcert": [
      {"hostnameport": "localhost:%d", "cert": "%s", "key": "%s"},
      {"hostnameport": "gone.example:%d", "cert": "/nonexistent", "key": "/nonexistent"},
      {"ipport": "0.0.0.0:%d", "certhash": "%s"}]}]]):format(named, made.cert, made.key, named,
      hashed, digest_of(made)))
    assert.truthy(host.server:stderr():find("certificate_unused.*gone.example"))
    host:app("app:get('/', function(req) return req.scheme end)", { prefixes = {
      ("https://localhost:%d/"):format(named), ("https://localhost:%d/"):format(hashed) } })
    for _, port in ipairs({ named, hashed }) do
      assert.equal("https", get_secure(store, port))
    end
    store:remove()
  end)

  it("has certificates whose files come late, and shows what is missing till then", function()
    local named, hashed = ports.free(), ports.free()
    local store = certs.new()
    finally(function() store:remove() end)
    local made = store:make("site", { names = { "localhost" } })
    local cert, key = dir.path .. "/late.pem", dir.path .. "/late.key"
    local host = start(([[{"version": 1, "sslcert": [
      {"hostnameport": "localhost:%d", "cert": "%s", "key": "%s"},
      {"ipport": "0.0.0.0:%d", "certhash": "%s"}]}]]):format(named, cert, key, hashed,
      digest_of(made)))
    local function unusable()
      local all = host:http("show sslcert").sslcert
      return { all[1].unusable, all[2].unusable }
    end
    assert.matches("late.pem: cannot be read: No such file", unusable()[1], 1, true)
    assert.matches("no certificate in " .. dir.path .. "/certificates has it", unusable()[2], 1,
      true)
    host:app("app:get('/', function(req) return req.scheme end)", { prefixes = {
      ("https://localhost:%d/"):format(named), ("https://localhost:%d/"):format(hashed) } })
    dir:write("late.key", store:read("site.key"))
    dir:write("late.pem", store:read("site.pem"))
    host.server:await("certificate_used [^\n]*localhost:" .. named)
    assert.equal("https", get_secure(store, named))
    assert.is_nil(host:http("show sslcert hostnameport=localhost:" .. named).sslcert[1].unusable)
    assert(os.execute("mkdir " .. dir.path .. "/certificates"))
    dir:write("certificates/site.pem", store:read("site.pem") .. store:read("site.key"))
    host.server:await("certificate_used [^\n]*:" .. hashed)
    assert.equal("https", get_secure(store, hashed))
    assert.same({}, unusable())
    assert.equal(2, select(2, host.server:stderr():gsub("certificate_unused", "")))
    assert.is_nil(dir:read("host.json"):find("unusable", 1, true))
  end)

  if sys.geteuid() == 0 then
    it("is any user's, with ports of its own", function()
      local id = "12345"
      local open = dir.path .. "/open"
      assert(os.execute(("mkdir %s && chown %s %s"):format(open, id, open)))
      assert(sys.chmod(dir.path, "755"))
      local wrap = { "setpriv", "--reuid", id, "--regid", id, "--clear-groups" }
      local words = { "--socket", open .. "/s", "--state", open .. "/state.json", "--workers", "1" }
      local host = server.start({ command = "host", bare = true, ready = false, options = words,
        wrap = wrap })
      host:await("started [^\n]*host at")
      local file = dir:write("app.lua", "return function() return 'here' end")
      local app = server.start({ path = file, bare = true, wrap = wrap, options = { "--urls",
        "http://127.0.0.1:" .. ports.free() }, env = { MOONQUAY_HOST = open .. "/s" } })
      assert.equal("here", app:get("/").body)
      local low = server.run({ "serve", file, "--urls", "http://127.0.0.1:80", wrap = wrap,
        env = { MOONQUAY_HOST = open .. "/s" } })
      assert.equal(77, low.status, low.stderr)
      assert.truthy(low.stderr:find("127.0.0.1:80", 1, true))
      local added = server.run({ "http", "add", "urlacl", "http://+:8080/", "root", wrap = wrap,
        env = { MOONQUAY_HOST = open .. "/s" } })
      assert.equal(0, added.status, added.stderr)
    end)

    it("serves an address of its list as soon as the machine has it", function()
      -- The machine is a network of the host's own.
      local host = hosts.start({ state = dir:write("host.json",
        '{"version": 1, "iplisten": ["198.51.100.1", "2001:db8::1"]}'),
        wrap = { "unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh" } })
      host:app("app:get('/', function() return 'here' end)", { prefixes = { "http://*:8125/" } })
      for _, address in ipairs({ "198.51.100.1/32", "2001:db8::1/128" }) do
        local inside = "nsenter --net --target " .. host.server.pid .. " "
        assert(os.execute(inside .. "ip addr add " .. address .. " dev lo"))
        local url = "http://" .. address:gsub("/.*", ""):gsub("^.*:.*$", "[%0]") .. ":8125/"
        local answer = peer.run({ "sh", "-c", inside .. "curl -gsS --max-time 20 " .. url })
        assert.equal("here", answer.stdout, answer.stderr)
      end
    end)

    -- The accounts are in a file of our own, which the host alone sees in place of the machine's.
    it("is not lost when an account goes while it runs", function()
      local accounts = assert(io.open("/etc/passwd")):read("a")
      local path = dir:write("passwd", accounts .. "ghost:x:54321:54321::/:/bin/false\n")
      assert(sys.chmod(dir.path, "755"))
      assert(sys.chmod(path, "644"))
      local host = hosts.start({ state = dir:write("host.json", '{"version": 1}'), wrap = {
        "unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', path } })
      for i, user in ipairs({ "ghost", "daemon", "nobody" }) do
        host:http(("add urlacl http://+:8125/%d/ %s"):format(i, user))
      end
      dir:write("passwd", accounts)
      local refused = server.run({ "http", "add", "sslcert", "0.0.0.0:8443", "/nonexistent",
        "/nonexistent", env = { MOONQUAY_HOST = host.socket } })
      assert.equal(78, refused.status)
      assert.equal(3, #host:http("show urlacl").urlacl)
      host:http("add urlacl http://+:8125/4/ root")
      assert.equal(4, #host:http("show urlacl").urlacl)
      assert.equal(4, #assert(json.decode(dir:read("host.json"))).urlacl)
      sys.kill(host:children("registrar")[1], "KILL")
      host.server:await("registrar_died")
      local shown = await("another registrar", function()
        local ok, answer = pcall(host.http, host, "show urlacl")
        return ok and answer.urlacl
      end)
      assert.same({ 4, true, nil }, { #shown, shown[1].unknown, shown[2].unknown })
      dir:write("passwd", accounts .. "ghost:x:54321:54321::/:/bin/false\n")
      local apps = users.new(host) -- the name is there again, and counts at once
      apps:app({ uid = 54321 }, "ghost", { prefixes = { "http://+:8125/1/" } })
      apps:remove()
    end)

    it("is root's, and the workers are not", function()
      local host = start('{"version": 1}')
      for _, word in ipairs({ "worker", "registrar" }) do
        local children = host:children(word)
        assert.is_true(#children > 0)
        for _, pid in ipairs(children) do
          local status = assert(io.open("/proc/" .. pid .. "/status")):read("a")
          assert.not_equal("0", status:match("Uid:%s+(%d+)"))
          assert.truthy(status:find("NoNewPrivs:%s+1"))
        end
      end
    end)
  end
end)
