local certs = require("spec.support.certs")
local json = require("moonquay.core").json
local lfs = require("lfs")
local peer = require("spec.support.peer")
local issue = require("moonquay.probe").issue
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local DAY = 86400
local EXECUTABLE = lfs.currentdir() .. "/" .. server.executable

describe("moonquay cert", function()
  local dir -- the working directory of the command

  before_each(function()
    dir = temp.dir()
  end)

  after_each(function()
    dir:remove()
  end)

  -- The command in dir.
  local function cert(...)
    local words = { "cert", ... }
    words.cwd, words.executable = dir.path, EXECUTABLE
    return server.run(words)
  end

  local function done(...)
    local result = cert(...)
    assert.equal(0, result.status, result.stderr .. result.stdout)
    assert.equal("", result.stderr)
    return result.stdout
  end

  -- Ends with this status and one line that has these parts.
  local function refused(result, status, ...)
    assert.equal(status, result.status, result.stderr)
    assert.equal("", result.stdout)
    assert.truthy(result.stderr:find("^moonquay: [^\n]+\n$"), result.stderr)
    for _, part in ipairs({ ... }) do
      assert.truthy(result.stderr:find(part, 1, true), result.stderr)
    end
  end

  local function files(path)
    local names = sys.list(dir.path .. "/" .. (path or "certs"))
    table.sort(names)
    return names
  end

  local function mode(path)
    local output = peer.run({ "stat", "-c", "%a", dir.path .. "/" .. path }).stdout
    return (output:gsub("\n$", ""))
  end

  local function snapshot()
    local all = {}
    for _, name in ipairs(files()) do
      local path = "certs/" .. name
      all[name] = lfs.attributes(dir.path .. "/" .. path, "mode") == "file" and dir:read(path)
        or "no file"
    end
    return all
  end

  local function describe_file(path)
    return issue.describe((assert(dir:read(path), path)))
  end

  -- Replaces certs/NAME.pem and .key by a certificate of certs/ca.pem made at another time.
  local function plant(name, what)
    local pem, key = issue.certificate(what, dir:read("certs/ca.pem"), dir:read("certs/ca.key"))
    assert(pem, key)
    dir:write("certs/" .. name .. ".pem", pem)
    dir:write("certs/" .. name .. ".key", key)
  end

  describe("create", function()
    it("makes an authority and a certificate for localhost, readable by the owner", function()
      local said = done("create")
      assert.same({ "ca.key", "ca.pem", "localhost.key", "localhost.pem" }, files())
      assert.equal("700", mode("certs"))
      assert.equal("600", mode("certs/ca.key"))
      assert.equal("600", mode("certs/localhost.key"))
      assert.equal("644", mode("certs/ca.pem"))
      assert.equal("644", mode("certs/localhost.pem"))
      local leaf, authority = table.unpack(describe_file("certs/localhost.pem"))
      assert.same({ "localhost", "127.0.0.1", "::1", "*.localhost" }, leaf.names)
      assert.equal("ECDSA P-256", leaf.key_type)
      assert.equal(365 * DAY, leaf.not_after + 1 - leaf.not_before)
      assert.equal(describe_file("certs/ca.pem")[1].fingerprint, authority.fingerprint)
      for _, part in ipairs({
        "certs/ca.pem, ca.key: made, an authority for localhost, 127.0.0.0/8, ::1, until 20",
        "certs/localhost.pem, localhost.key: made, for localhost, 127.0.0.1, ::1, *.localhost, ",
        "curl --cacert certs/ca.pem https://localhost:5001/\n",
        "sudo cp certs/ca.pem /usr/local/share/ca-certificates/moonquay-"
          .. authority.fingerprint:sub(1, 8) .. ".crt\n",
        "sudo update-ca-certificates\n",
        "certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n moonquay-",
        "Firefox",
      }) do
        assert.truthy(said:find(part, 1, true), part .. " is not in:\n" .. said)
      end
    end)

    it("makes what openssl, curl and a client of Node take", function()
      done("create")
      local function path(name)
        return dir.path .. "/certs/" .. name
      end
      local result = peer.run({ "openssl", "verify", "-x509_strict", "-purpose", "sslserver",
        "-verify_hostname", "localhost", "-CAfile", path("ca.pem"), path("localhost.pem") })
      assert.equal(0, result.exit, result.stderr)
      local answer = peer.node([[
        import fs from "node:fs";
        import tls from "node:tls";
        import https from "node:https";
        import { execFile } from "node:child_process";
        const [ca, certFile, keyFile] = process.argv.slice(2);
        const cert = fs.readFileSync(certFile), key = fs.readFileSync(keyFile);
        const served = https.createServer({ cert, key }, (req, res) => res.end("served"));
        served.listen(0, "127.0.0.1", () => {
          const { port } = served.address();
          const client = tls.connect({ port, host: "127.0.0.1", servername: "localhost",
            ca: fs.readFileSync(ca) }, () => {
            process.stdout.write(client.authorized ? "authorized " : "refused ");
            client.destroy();
            execFile("curl", ["-sS", "--noproxy", "*", "--cacert", ca,
              `https://127.0.0.1:${port}/`], (error, stdout, stderr) => {
              process.stdout.write(error ? stderr : stdout);
              served.close();
            });
          });
        });]], path("ca.pem"), path("localhost.pem"), path("localhost.key"))
      assert.equal("authorized served", answer)
    end)

    it("keeps what is good, as often as it is asked", function()
      done("create")
      local before = snapshot()
      local said = done("create")
      assert.same(before, snapshot())
      assert.truthy(said:find("certs/ca.pem, ca.key: kept", 1, true), said)
      assert.truthy(said:find("certs/localhost.pem, localhost.key: kept", 1, true), said)
    end)

    local now = os.time()
    local renewals = { -- what is there, words, what is said, names behind it
      { "ends in less than 30 days", { names = { "localhost" }, days = 100, now = now - 71 * DAY },
        {}, "renewed (28 days were left)", { "localhost" } },
      { "has lived two thirds of few days", { names = { "localhost" }, days = 3,
        now = now - 2 * DAY - 3600 }, {}, "renewed (0 days were left)", { "localhost" } },
      { "has expired", { names = { "::1", "a.localhost" }, days = 1, now = now - 2 * DAY }, {},
        "renewed (0 days were left)", { "::1", "a.localhost" } },
      { "has other names", { names = { "localhost" }, now = now, days = 300 },
        { "--name", "localhost", "--name=A.localhost", "--name", "a.LOCALHOST" },
        "renewed (it had other names)", { "localhost", "a.localhost" } },
      { "has more names", { names = { "localhost", "a.localhost" }, now = now, days = 300 },
        { "--name", "localhost" }, "renewed (it had other names)", { "localhost" } },
      { "has another key than RSA", { names = { "localhost" }, now = now, days = 300 },
        { "--rsa" }, "renewed (its key was no RSA key)", { "localhost" } },
    }
    for _, case in ipairs(renewals) do
      it("renews a certificate that " .. case[1], function()
        done("create")
        local authority = dir:read("certs/ca.pem")
        -- An authority of long ago, so that it could sign then.
        local ca, ca_key = issue.authority({ now = now - 100 * DAY })
        dir:write("certs/ca.pem", ca)
        dir:write("certs/ca.key", ca_key)
        assert.not_equal(authority, ca)
        plant("localhost", case[2])
        local before = snapshot()
        local said = done("create", table.unpack(case[3]))
        assert.truthy(said:find(case[4], 1, true), said)
        local after = snapshot()
        assert.equal(before["ca.pem"], after["ca.pem"])
        assert.equal(before["ca.key"], after["ca.key"])
        assert.not_equal(before["localhost.key"], after["localhost.key"])
        local leaf = describe_file("certs/localhost.pem")[1]
        assert.same(case[5], leaf.names)
        assert.truthy(leaf.not_after > now + 360 * DAY)
        done("check", "certs/localhost.pem", "certs/localhost.key", "--authority", "certs/ca.pem")
        assert.equal("600", mode("certs/localhost.key"))
      end)
    end

    local kept = { -- what is there, words
      { "has the same names in another order", { names = { "localhost", "::1" } },
        { "--name", "localhost", "--name", "0:0:0:0:0:0:0:1" } },
      { "has names that were given once", { names = { "localhost", "a.localhost" } }, {} },
      { "has an RSA key, and nobody asks for one", { names = { "localhost" }, rsa = true }, {} },
    }
    for _, case in ipairs(kept) do
      it("keeps a certificate that " .. case[1], function()
        done("create")
        case[2].now, case[2].days = now, 300
        plant("localhost", case[2])
        local before = snapshot()
        local said = done("create", table.unpack(case[3]))
        assert.truthy(said:find("localhost.key: kept", 1, true), said)
        assert.same(before, snapshot())
      end)
    end

    local names = { -- words, file, names
      { { "--name", "Shop.localhost" }, "shop.localhost", { "shop.localhost" } },
      { { "--name", "*.localhost" }, "_.localhost", { "*.localhost" } },
      { { "--name", "[::1]" }, "::1", { "::1" } },
      { { "--name", "a.test", "--name", "10.0.0.1" }, "a.test", { "a.test", "10.0.0.1" } },
    }
    for _, case in ipairs(names) do
      it("names the files by the first name: " .. case[2], function()
        done("create", table.unpack(case[1]))
        local expected = { "ca.key", "ca.pem", case[2] .. ".key", case[2] .. ".pem" }
        table.sort(expected)
        assert.same(expected, files())
        assert.same(case[3], describe_file("certs/" .. case[2] .. ".pem")[1].names)
      end)
    end

    it("makes further certificates under one authority", function()
      done("create", "--name", "a.test", "--name", "b.test")
      local authority = dir:read("certs/ca.pem")
      done("create", "--name", "b.test", "--rsa", "--days", "7")
      done("create")
      assert.equal(authority, dir:read("certs/ca.pem"))
      assert.equal("RSA 2048", describe_file("certs/b.test.pem")[1].key_type)
      for _, name in ipairs({ "a.test", "b.test", "localhost" }) do
        done("check", "certs/" .. name .. ".pem", "certs/" .. name .. ".key", "--name", name,
          "--authority", "certs/ca.pem")
      end
    end)

    it("makes no certificate that the authority may not sign, unless by force", function()
      done("create")
      local before = snapshot()
      refused(cert("create", "--name", "a.test"), 78,
        "certs/ca.pem: this authority may not sign for a.test", "--force makes a new authority")
      assert.same(before, snapshot())
      local said = done("create", "--name", "a.test", "--force")
      assert.truthy(said:find("an authority for localhost, 127.0.0.0/8, ::1, a.test, ", 1, true),
        said)
      assert.not_equal(before["ca.pem"], dir:read("certs/ca.pem"))
      done("check", "certs/a.test.pem", "certs/a.test.key", "--authority", "certs/ca.pem")
    end)

    it("makes all anew by force, but an authority that can sign", function()
      done("create", "--name", "localhost")
      local before = snapshot()
      done("create", "--force")
      local after = snapshot()
      assert.equal(before["ca.pem"], after["ca.pem"])
      assert.equal(before["ca.key"], after["ca.key"])
      assert.not_equal(before["localhost.pem"], after["localhost.pem"])
      assert.not_equal(before["localhost.key"], after["localhost.key"])
      assert.equal(4, #describe_file("certs/localhost.pem")[1].names)
    end)

    it("makes a client's certificate", function()
      local said = done("create", "--client", "alice@example.com", "--days", "10")
      assert.same({ "alice@example.com.key", "alice@example.com.pem", "ca.key", "ca.pem" }, files())
      local one = describe_file("certs/alice@example.com.pem")[1]
      assert.is_true(one.for_clients)
      assert.is_false(one.for_servers)
      assert.equal(10 * DAY, one.not_after + 1 - one.not_before)
      assert.equal("600", mode("certs/alice@example.com.key"))
      assert.truthy(said:find("curl --cert certs/alice@example.com.pem --key ", 1, true), said)
      local result = peer.run({ "openssl", "verify", "-x509_strict", "-purpose", "sslclient",
        "-CAfile", dir.path .. "/certs/ca.pem", dir.path .. "/certs/alice@example.com.pem" })
      assert.equal(0, result.exit, result.stderr)
      local before = snapshot()
      done("create", "--client", "alice@example.com")
      assert.same(before, snapshot())
    end)

    it("asks for an authority of that host for a client that is named like one", function()
      done("create")
      refused(cert("create", "--client", "worker.test"), 78, "may not sign for worker.test")
      done("create", "--client", "worker.localhost")
      done("create", "--client", "worker.test", "--force")
      assert.same({ "worker.test" }, describe_file("certs/worker.test.pem")[1].names)
    end)

    it("uses an authority that somebody else made", function()
      local store = certs.new()
      finally(function()
        store:remove()
      end)
      store:authority("root")
      assert(os.execute(("mkdir -m 755 %s/certs"):format(dir.path)))
      dir:write("certs/ca.pem", store:read("root.pem"))
      dir:write("certs/ca.key", store:read("root.key"))
      local said = done("create", "--name", "example.com", "--days", "3")
      assert.truthy(said:find("ca.key: kept, an authority for all names, until 20", 1, true), said)
      assert.equal("755", mode("certs"))
      done("check", "certs/example.com.pem", "certs/example.com.key", "--name", "example.com",
        "--authority", "certs/ca.pem")
    end)

    it("prints commands that a shell takes, wherever the files are", function()
      local said = done("create", "--dir", "my cert's")
      local path = said:match("curl %-%-cacert (.-) https:")
      local result = peer.run({ "sh", "-c", ("cd %s && cat %s"):format(dir.path, path) })
      assert.equal(dir:read("my cert's/ca.pem"), result.stdout)
      assert.equal("700", mode("my cert's"))
    end)

    it("is not disturbed by another one at the same time", function()
      local made, pipes = {}, {}
      finally(function()
        for _, pipe in ipairs(pipes) do
          sys.close(pipe)
        end
      end)
      for i = 1, 4 do
        local pid, out, err, input = sys.spawn({ EXECUTABLE, "cert", "create",
          "--dir", dir.path .. "/certs", "--name", "n" .. i .. ".localhost" },
          { env = { LD_PRELOAD = false } })
        made[i] = assert(pid, out)
        table.move({ out, err, input }, 1, 3, #pipes + 1, pipes)
      end
      for i = 1, 4 do
        assert.equal(0, sys.waitpid(made[i], 20000).exit)
      end
      for i = 1, 4 do
        local name = ("certs/n%d.localhost"):format(i)
        done("check", name .. ".pem", name .. ".key", "--authority", "certs/ca.pem")
      end
      assert.equal(10, #files())
    end)
  end)

  -- What stands in the way: { what, how it comes there, words, parts of the error }.
  local standing = {
    { "a certificate of another authority", function()
      done("create", "--dir", "other")
      dir:write("certs/localhost.pem", dir:read("other/localhost.pem"))
      dir:write("certs/localhost.key", dir:read("other/localhost.key"))
    end, {}, { "certs/localhost.pem: is there and not signed by the authority ca.pem; --force" } },
    { "a certificate without its key", function()
      os.remove(dir.path .. "/certs/localhost.key")
    end, {}, { "certs/localhost.key: is missing beside localhost.pem; --force makes it anew" } },
    { "a key without its certificate", function()
      os.remove(dir.path .. "/certs/localhost.pem")
    end, {}, { "certs/localhost.pem: is missing beside localhost.key; --force makes it anew" } },
    { "a key of another certificate", function()
      dir:write("certs/localhost.key", dir:read("certs/ca.key"))
    end, {}, { "certs/localhost.key: ", "not the key of the certificate", "--force" } },
    { "no certificate at all", function()
      dir:write("certs/localhost.pem", "my notes\n")
    end, {}, { "certs/localhost.pem: no certificate in it", "--force makes it anew" } },
    { "more than a file of certificates can be", function()
      dir:write("certs/localhost.pem", ("x"):rep(1048577))
    end, {}, { "certs/localhost.pem: is longer than 1048576 bytes", "--force makes it anew" } },
    { "a directory where a file should be", function()
      os.remove(dir.path .. "/certs/localhost.pem")
      assert(os.execute("mkdir " .. dir.path .. "/certs/localhost.pem"))
    end, {}, { "certs/localhost.pem: is no regular file" }, stays = true },
    { "a client's certificate of that name", function()
      plant("localhost", { client = "localhost", now = os.time(), days = 100 })
    end, {}, { "certs/localhost.pem: is there and no server's certificate; --force" } },
    { "a server's certificate of a client's name", function() end, { "--client", "localhost" },
      { "certs/localhost.pem: is there and no client's certificate; --force" } },
    { "an authority without its key", function()
      os.remove(dir.path .. "/certs/ca.key")
    end, {}, { "certs/ca.key: is missing beside ca.pem; --force makes a new authority" } },
    { "an authority that is none", function()
      dir:write("certs/ca.pem", dir:read("certs/localhost.pem"))
      dir:write("certs/ca.key", dir:read("certs/localhost.key"))
    end, { "--name", "a.localhost" }, { "certs/ca.pem: it is no authority's certificate",
      "--force makes a new authority, which has to be trusted again" } },
    { "an authority that has expired", function()
      local pem, key = issue.authority({ now = os.time() - 3651 * DAY })
      dir:write("certs/ca.pem", pem)
      dir:write("certs/ca.key", key)
    end, { "--name", "a.localhost" }, { "certs/ca.pem: ", "expired on",
      "--force makes a new authority" } },
  }
  for _, case in ipairs(standing) do
    it("create leaves alone " .. case[1] .. (case.stays and "" or ", unless by force"), function()
      done("create")
      case[2]()
      local before = snapshot()
      refused(cert("create", table.unpack(case[3])), 78, table.unpack(case[4]))
      assert.same(before, snapshot())
      if case.stays then
        refused(cert("create", "--force", table.unpack(case[3])), 78, table.unpack(case[4]))
        assert.same(before, snapshot())
        return
      end
      done("create", "--force", table.unpack(case[3]))
      local stem = case[3][2] or "localhost"
      local result = cert("check", "certs/" .. stem .. ".pem", "certs/" .. stem .. ".key",
        "--authority", "certs/ca.pem", "--json")
      local found = json.decode(result.stdout).problems
      if case[3][1] == "--client" then
        assert.equal(2, #found, result.stdout) -- its purpose, twice
      else
        assert.equal(0, #found, result.stdout)
      end
    end)
  end

  it("create changes nothing when it cannot write", function()
    done("create")
    local before = snapshot()
    local wrap
    sys.chmod(dir.path, "0755")
    if sys.geteuid() == 0 then
      wrap = { "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups" }
      sys.chmod(dir.path .. "/certs", "0755")
    else
      sys.chmod(dir.path .. "/certs", "0555")
    end
    assert(os.execute(("cp %s %s/moonquay"):format(server.executable, dir.path)))
    local result = server.run({ wrap = wrap, executable = dir.path .. "/moonquay", cwd = dir.path,
      "cert", "create", "--name", "a.localhost", "--force" })
    refused(result, 77, "certs/", "Permission denied")
    sys.chmod(dir.path .. "/certs", "0755")
    assert.same(before, snapshot())
  end)

  local bad = { -- words, status, parts
    { {}, 64, { "create, show or check", "moonquay cert --help" } },
    { { "make" }, 64, { "no such command: cert make" } },
    { { "create", "--nam", "x" }, 64, { "no such option: --nam" } },
    { { "create", "--json" }, 64, { "no such option: --json" } },
    { { "create", "file" }, 64, { "one word too many: file" } },
    { { "create", "--dir" }, 64, { "wants a value: --dir" } },
    { { "create", "--dir=" }, 64, { "wants a value: --dir" } },
    { { "create", "--force=1" }, 64, { "takes no value: --force=1" } },
    { { "create", "--days", "0" }, 64, { "--days 0: must be between 1 and 825" } },
    { { "create", "--days", "826" }, 64, { "--days 826: must be between 1 and 825" } },
    { { "create", "--days", "99999999999" }, 64, { "must be between 1 and 825" } },
    { { "create", "--days", "-1" }, 64, { "--days -1: must be" } },
    { { "create", "--days", "ten" }, 64, { "--days ten: must be" } },
    { { "create", "--name", "a b" }, 64, { "--name a b: must be a host name, *.domain or an IP" } },
    { { "create", "--name", "*" }, 64, { "--name *: must be" } },
    { { "create", "--name", "a\nb" }, 64, { "--name a?b: must be" } },
    { { "create", "--name", "ca" }, 64, { "--name ca: ", "the authority's" } },
    { { "create", "--client", "../a" }, 64, { "--client ../a: must be" } },
    { { "create", "--client", "ca" }, 64, { "--client ca: ", 'not "ca"' } },
    { { "create", "--client", "a", "--name", "b" }, 64, { "--client or --name, not both" } },
    { { "create", "--dir", "no/where" }, 78, { "no/where: No such file or directory" } },
    { { "create", "--dir", "/dev/null" }, 78, { "/dev/null: Not a directory" } },
    { { "show" }, 64, { "a file is missing: moonquay cert show" } },
    { { "show", "" }, 64, { "an empty word names no file" } },
    { { "show", "a", "b" }, 64, { "one word too many: b" } },
    { { "show", "--name", "a" }, 64, { "no such option: --name" } },
    { { "show", "none.pem" }, 78, { "none.pem: No such file or directory" } },
    { { "show", "." }, 78, { ".: is no regular file" } },
    { { "show", "/dev/zero" }, 78, { "/dev/zero: is no regular file" } },
    { { "show", "/proc/self/status" }, 78, { "/proc/self/status: no certificate in it" } },
    { { "show", "--", "--json" }, 78, { "--json: No such file or directory" } },
    { { "check" }, 64, { "a file is missing: moonquay cert check" } },
    { { "check", "a", "b", "c" }, 64, { "one word too many: c" } },
    { { "check", "a", "--name", "." }, 64, { "--name .: must be" } },
    { { "check", "a", "--dir", "b" }, 64, { "no such option: --dir" } },
  }
  for _, case in ipairs(bad) do
    it(("refuses %q"):format(table.concat(case[1], " ")), function()
      refused(cert(table.unpack(case[1])), case[2], table.unpack(case[3]))
      assert.same({}, files("."))
    end)
  end

  it("refuses more names than a certificate has", function()
    local words = {}
    for i = 1, 101 do
      words[i] = ("--name=n%d.localhost"):format(i)
    end
    refused(cert("create", table.unpack(words)), 64, "--name n101.localhost: ", "at most 100 names")
    done("create", table.unpack(words, 1, 100))
    assert.equal(100, #describe_file("certs/n1.localhost.pem")[1].names)
  end)

  for _, words in ipairs({ { "--help" }, { "-h" }, { "create", "--help" }, { "show", "-h" },
    { "check", "--help" } }) do
    it("helps: " .. table.concat(words, " "), function()
      local said = done(table.unpack(words))
      for _, part in ipairs({ "moonquay cert create", "moonquay cert show", "moonquay cert check",
        "--authority FILE", "1 to 825; 365" }) do
        assert.truthy(said:find(part, 1, true), said)
      end
      for line in said:gmatch("[^\n]+") do
        assert.is_true(#line <= 80, line)
      end
      assert.same({}, files("."))
    end)
  end

  it("fails when it cannot print", function()
    done("create")
    local result = server.run({ wrap = { "sh", "-c", 'exec "$@" >/dev/full', "sh" },
      "cert", "show", dir.path .. "/certs/ca.pem" })
    refused(result, 70, "cannot print the answer: No space left on device")
  end)

  describe("show", function()
    it("tells people what the certificates say", function()
      done("create")
      local said = done("show", "certs/localhost.pem")
      local leaf, authority = table.unpack(describe_file("certs/localhost.pem"))
      local pairs_of = leaf.fingerprint:gsub("(%x%x)", "%1:"):gsub(":$", "")
      for _, part in ipairs({
        "certs/localhost.pem: certificate 1 of 2\n",
        "subject      CN=localhost,O=Moonquay development certificate\n",
        "issuer       " .. authority.subject .. "\n",
        "serial       " .. leaf.serial .. "\n",
        "names        localhost, 127.0.0.1, ::1, *.localhost\n",
        os.date("!valid        %Y-%m-%dT%H:%M:%SZ to ", leaf.not_before)
          .. os.date("!%Y-%m-%dT%H:%M:%SZ (364 days left)\n", leaf.not_after),
        "key          ECDSA P-256\n",
        "for          servers\n",
        "SHA-256      " .. pairs_of .. "\n",
        "\ncerts/localhost.pem: certificate 2 of 2\n",
        "for          an authority for the names below\n",
        "permitted    localhost, 127.0.0.0/8, ::1\n",
      }) do
        assert.truthy(said:find(part, 1, true), part .. " is not in:\n" .. said)
      end
    end)

    it("tells programs the same", function()
      done("create", "--client", "alice@example.com")
      local said = done("show", "certs/alice@example.com.pem", "--json")
      assert.truthy(said:find("^[^\n]+\n$"))
      local answer = json.decode(said)
      local one, authority = table.unpack(describe_file("certs/alice@example.com.pem"))
      assert.equal("certs/alice@example.com.pem", answer.file)
      assert.equal(2, #answer.certificates)
      local first = answer.certificates[1]
      assert.equal(one.subject, first.subject)
      assert.equal(authority.subject, first.issuer)
      assert.equal(one.serial, first.serial)
      assert.same({ "alice@example.com" }, { table.unpack(first.names) })
      assert.equal(os.date("!%Y-%m-%dT%H:%M:%SZ", one.not_before), first.not_before)
      assert.equal(os.date("!%Y-%m-%dT%H:%M:%SZ", one.not_after), first.not_after)
      assert.equal(364, first.days_left)
      assert.equal("ECDSA P-256", first.key_type)
      assert.equal(256, first.key_bits)
      assert.equal(one.fingerprint, first.fingerprint_sha256)
      assert.is_false(first.is_authority)
      assert.is_false(first.for_servers)
      assert.is_true(first.for_clients)
      local second = answer.certificates[2]
      assert.is_true(second.is_authority)
      assert.same({ "localhost", "127.0.0.0/8", "::1" }, { table.unpack(second.permitted) })
    end)

    it("tells when a certificate is not valid", function()
      local ca, key = issue.authority({ now = os.time() - 500 * DAY })
      for _, case in ipairs({ { -300 * DAY, "expired" }, { 300 * DAY, "not yet" } }) do
        dir:write("a.pem", (issue.certificate({ names = { "a.localhost" }, days = 10,
          now = os.time() + case[1] }, ca, key)))
        local said = done("show", "a.pem")
        assert.truthy(said:find(" (" .. case[2] .. ")\n", 1, true), said)
      end
    end)

    it("lets no control reach the terminal", function()
      certs.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-utf8", "-keyout", dir.path .. "/k", "-out", dir.path .. "/a\27[2J.pem",
        "-subj", "/CN=a\u{9b}b\27c\u{e4}")
      local said = done("show", "a\27[2J.pem")
      assert.is_nil(said:find("[\1-\9\11-\31\127]"), said)
      assert.is_nil(said:find("\u{9b}", 1, true), said)
      assert.truthy(said:find("CN=a?b\\1Bc\u{e4}\n", 1, true), said)
      assert.truthy(json.decode(done("show", "--json", "a\27[2J.pem")))
    end)
  end)

  describe("check", function()
    local store, now
    setup(function()
      store = certs.new()
      now = os.time()
      store:authority("root")
      store:authority("middle", { by = "root" })
      store:make("leaf", { by = "middle", names = { "a.test", "*.b.test" } })
      store:make("nameless", { by = "root" })
      store:make("weak", { by = "root", key = "rsa1024", names = { "a.test" } })
      local ca, key = issue.authority({ now = now - 100 * DAY })
      store:write("ours.pem", ca)
      store:write("old.pem", (issue.certificate({ names = { "localhost" }, days = 9,
        now = now - 50 * DAY }, ca, key)))
      store:write("client.pem", (issue.certificate({ client = "alice", now = now }, ca, key)))
      store:write("chain.pem", store:read("leaf.pem") .. store:read("middle.pem"))
      store:write("disorder.pem", store:read("middle.pem") .. store:read("leaf.pem"))
      store:write("all.pem", store:read("leaf.key") .. store:read("chain.pem"))
      store:write("open.key", store:read("leaf.key"))
      for _, name in ipairs({ "leaf.key", "root.key", "weak.key", "all.pem" }) do
        sys.chmod(store:path(name), "0600")
      end
      sys.chmod(store:path("open.key"), "0644")
    end)
    teardown(function()
      store:remove()
    end)

    -- Words that name files of the store become their paths.
    local function check(words)
      local list = {}
      for i, word in ipairs(words) do
        list[i] = word:find("%.%a%a%a$") and store:path(word) or word
      end
      return cert("check", table.unpack(list))
    end

    local right = {
      { "chain.pem" },
      { "chain.pem", "leaf.key" },
      { "chain.pem", "leaf.key", "--authority", "root.pem" },
      { "chain.pem", "leaf.key", "--name", "a.test", "--name", "x.b.test", "--name=*.b.test" },
      { "all.pem", "--authority", "root.pem" },
    }
    for _, words in ipairs(right) do
      it("has no objection to " .. table.concat(words, " "), function()
        local result = check(words)
        assert.equal(0, result.status, result.stdout .. result.stderr)
        assert.matches("^[^\n]+: all right, %d+ days left\n$", result.stdout)
        words[#words + 1] = "--json"
        result = check(words)
        words[#words] = nil
        assert.equal(0, result.status)
        local answer = json.decode(result.stdout)
        assert.equal(store:path(words[1]), answer.certificate)
        assert.equal(0, #answer.problems)
        assert.equal("integer", math.type(answer.days_left))
      end)
    end

    local wrong = { -- words, a line each
      { { "chain.pem", "root.key" }, { "root.key: it is not the key of the certificate" } },
      { { "disorder.pem", "leaf.key" }, { "disorder.pem: certificate 2 (leaf) has not signed" } },
      { { "disorder.pem", "open.key" }, { "disorder.pem: certificate 2 (leaf) has not signed",
        "open.key: everybody may read the key (mode 0644): chmod 600 " } },
      { { "chain.pem", "open.key" }, { "open.key: everybody may read the key" } },
      { { "chain.pem", "none.key" }, { "none.key: No such file or directory" } },
      { { "none.pem", "none.key" }, { "none.pem: No such file or directory",
        "none.key: No such file or directory" } },
      { { "chain.pem", "chain.pem" }, { "chain.pem: everybody may read the key",
        "chain.pem: no private key in it" } },
      { { "weak.pem", "weak.key" }, { "weak.pem: " } },
      { { "leaf.key", "leaf.key" }, { "leaf.key: no certificate in it" } },
      { { "old.pem" }, { "old.pem: the certificate (localhost) expired on " } },
      { { "old.pem", "--authority", "ours.pem" }, { "old.pem: the certificate (localhost) exp" } },
      { { "client.pem" }, { "client.pem: the certificate is not for servers but for clients" } },
      { { "nameless.pem" }, { "nameless.pem: the certificate has no alternative names" } },
      { { "root.pem" }, { "root.pem: the certificate is an authority's: browsers take none for" } },
      { { "chain.pem", "--name", "b.test", "--name", "x.y.b.test", "--name", "127.0.0.1" },
        { "chain.pem: the certificate is not for b.test",
          "chain.pem: the certificate is not for x.y.b.test",
          "chain.pem: the certificate is not for 127.0.0.1" } },
      { { "leaf.pem", "--authority", "root.pem" }, { "does not take it: unable to get local "
        .. "issuer certificate (leaf)" } },
      { { "chain.pem", "--authority", "ours.pem" }, { "does not take it: unable to get" } },
      { { "chain.pem", "--authority", "leaf.key" }, { "leaf.key: no certificate in it" } },
      { { "chain.pem", "--authority", "none.pem" }, { "none.pem: No such file" } },
    }
    for _, case in ipairs(wrong) do
      it("objects to " .. table.concat(case[1], " "), function()
        local result = check(case[1])
        assert.equal(78, result.status)
        assert.equal("", result.stderr)
        local lines = {}
        for line in result.stdout:gmatch("([^\n]*)\n") do
          lines[#lines + 1] = line
        end
        assert.equal(#case[2], #lines, result.stdout)
        for i, part in ipairs(case[2]) do
          assert.truthy(lines[i]:find(part, 1, true), part .. " is not in:\n" .. result.stdout)
        end
        local words = table.move(case[1], 1, #case[1], 2, { "--json" })
        result = check(words)
        assert.equal(78, result.status)
        assert.same(lines, { table.unpack(json.decode(result.stdout).problems) })
      end)
    end
  end)
end)
