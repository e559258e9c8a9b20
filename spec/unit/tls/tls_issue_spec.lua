local certs = require("spec.support.certs")
local peer = require("spec.support.peer")
local issue = require("moonquay.probe").issue
local tls = require("moonquay.probe").tls

local DAY, HOUR = 86400, 3600
local LOCAL = { "localhost", "127.0.0.1", "::1", "*.localhost" }

describe("tls_issue", function()
  local store, now, authority, authority_key

  -- A certificate and key in files: store:path(name .. ".pem").
  local function make(name, what)
    what.now = what.now or now
    local cert, key = issue.certificate(what, authority, authority_key)
    assert(cert, key)
    store:write(name .. ".pem", cert)
    store:write(name .. ".key", key)
    return cert, key
  end

  local function verify(name, ...)
    local words = { "openssl", "verify", "-x509_strict", "-CAfile", store:path("ca.pem") }
    table.move({ ... }, 1, select("#", ...), #words + 1, words)
    words[#words + 1] = store:path(name .. ".pem")
    return peer.run(words)
  end

  local function text_of(name)
    return certs.openssl("x509", "-in", store:path(name .. ".pem"), "-noout", "-text")
  end

  -- Of an extension: "critical" or "", and its value, blanks made one.
  local function extension(text, title)
    local critical, value = text:match("X509v3 " .. title .. ": (%a*) *\n( +[^X]-)\n +%f[XS]%u")
    assert.truthy(value, title .. " is not in\n" .. text)
    return critical, (value:gsub("%s+", " "):gsub("^ ", ""))
  end

  setup(function()
    store = certs.new()
    now = os.time()
    authority, authority_key = assert(issue.authority({ now = now }))
    store:write("ca.pem", authority)
    store:write("ca.key", authority_key)
    make("local", { names = LOCAL, days = 825 })
    make("rsa", { names = LOCAL, rsa = true })
    make("alice", { client = "alice" })
  end)

  teardown(function()
    store:remove()
  end)

  describe("the authority", function()
    it("signs certificates, for localhost alone, and no further authority", function()
      local text = text_of("ca")
      local wanted = {
        { "Basic Constraints", "critical", "CA:TRUE, pathlen:0" },
        { "Key Usage", "critical", "Certificate Sign" },
        { "Name Constraints", "critical", "Permitted: DNS:localhost IP:127.0.0.0/255.0.0.0 "
          .. "IP:0:0:0:0:0:0:0:1/FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF" },
      }
      for _, row in ipairs(wanted) do
        local critical, value = extension(text, row[1])
        assert.equal(row[2], critical)
        assert.equal(row[3], value)
      end
      assert.truthy(text:find("Version: 3 ", 1, true))
      assert.truthy(text:find("NIST CURVE: P%-256"))
      assert.equal(0, verify("ca").exit)
    end)

    it("is valid for ten years, from an hour ago", function()
      local one = issue.describe(authority)[1]
      assert.equal(now - HOUR, one.not_before)
      assert.equal(now - HOUR + 3650 * DAY - 1, one.not_after)
    end)

    it("has a name that no other one has", function()
      local one, other = issue.describe(authority)[1], issue.authority({ now = now })
      assert.equal(one.subject, one.issuer)
      assert.matches("^CN=Moonquay development authority %x%x%x%x%x%x,O=Moonquay$", one.subject)
      assert.not_equal(one.subject, issue.describe(other)[1].subject)
    end)

    it("can have an RSA key, and sign with it", function()
      local cert, key = assert(issue.authority({ now = now, rsa = true }))
      assert.equal("RSA 2048", issue.describe(cert)[1].key_type)
      local leaf = assert(issue.certificate({ names = LOCAL, now = now }, cert, key))
      assert.is_true(issue.verify(leaf, cert, now))
    end)
  end)

  local permits = { -- { the authority's further names, { what it signs for }, { what not } }
    { {}, { "localhost", "a.localhost", "a.b.localhost", "*.localhost", "127.0.0.1",
      "127.255.0.9", "::1" },
      { "xlocalhost", "localhost.test", "example.com", "*.com", "126.255.255.255", "128.0.0.0",
        "10.0.0.1", "::2", "::", "fe80::1" } },
    { { "example.test", "*.wild.test", "10.1.2.3", "2001:db8::5", "x.localhost" },
      { "localhost", "example.test", "a.example.test", "wild.test", "*.wild.test", "10.1.2.3",
        "2001:db8::5" },
      { "test", "*.test", "2.example", "xexample.test", "10.1.2.4", "2001:db8::6" } },
  }
  for _, row in ipairs(permits) do
    local others, rights, wrongs = table.unpack(row)
    local who = #others > 0 and "with " .. table.concat(others, ", ") or "of localhost"

    describe("an authority " .. who, function()
      local cert, key
      setup(function()
        cert, key = assert(issue.authority({ now = now, names = others }))
        store:write("this.pem", cert)
      end)

      for _, name in ipairs(rights) do
        it("signs for " .. name .. ", which openssl takes", function()
          local leaf = assert(issue.certificate({ now = now, names = { name } }, cert, key))
          local result = peer.run({ "openssl", "verify", "-x509_strict", "-purpose", "sslserver",
            "-CAfile", store:path("this.pem"), store:write("leaf.pem", leaf) })
          assert.equal(0, result.exit, result.stderr)
        end)
      end

      for _, name in ipairs(wrongs) do
        it("does not sign for " .. name, function()
          local leaf, why, code = issue.certificate({ now = now, names = { "localhost", name } },
            cert, key)
          assert.is_nil(leaf)
          assert.equal("this authority may not sign for " .. name, why)
          assert.equal("permission", code)
        end)
      end
    end)
  end

  it("is held to its names by who verifies, not by itself alone", function()
    -- The same authority key signs by another hand.
    local request, leaf = store:path("evil.csr"), store:path("evil.pem")
    certs.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
      "-keyout", store:path("evil.key"), "-out", request, "-subj", "/CN=example.com")
    certs.openssl("x509", "-req", "-in", request, "-CA", store:path("ca.pem"), "-CAkey",
      store:path("ca.key"), "-out", leaf, "-extfile",
      store:write("evil.ext", "subjectAltName=DNS:example.com\n"))
    local result = verify("evil")
    assert.not_equal(0, result.exit)
    assert.matches("permitted subtree violation", result.stderr, 1, true)
    local ok, why = issue.verify(store:read("evil.pem"), authority, os.time())
    assert.is_nil(ok)
    assert.equal("permitted subtree violation (example.com)", why)
  end)

  describe("a server's certificate", function()
    it("has its names, its purpose, and key identifiers", function()
      local text = text_of("local")
      local wanted = {
        { "Basic Constraints", "critical", "CA:FALSE" },
        { "Key Usage", "critical", "Digital Signature" },
        { "Extended Key Usage", "", "TLS Web Server Authentication" },
        { "Subject Alternative Name", "", "DNS:localhost, IP Address:127.0.0.1, "
          .. "IP Address:0:0:0:0:0:0:0:1, DNS:*.localhost" },
      }
      for _, row in ipairs(wanted) do
        local critical, value = extension(text, row[1])
        assert.equal(row[2], critical)
        assert.equal(row[3], value)
      end
      local _, own = extension(text_of("ca"), "Subject Key Identifier")
      local _, issuers = extension(text, "Authority Key Identifier")
      assert.equal(own, issuers)
      assert.matches("Subject: O = Moonquay development certificate, CN = localhost", text, 1, true)
    end)

    for _, name in ipairs({ "local", "rsa" }) do
      it("is taken by openssl, for its names only: " .. name, function()
        local cases = {
          { true, "-verify_hostname", "localhost" }, { true, "-verify_ip", "127.0.0.1" },
          { true, "-verify_ip", "::1" }, { false, "-verify_hostname", "example.com" },
          { false, "-verify_ip", "127.0.0.2" },
        }
        for _, case in ipairs(cases) do
          local result = verify(name, "-purpose", "sslserver", case[2], case[3])
          assert.equal(case[1], result.exit == 0, case[3] .. ": " .. result.stderr)
        end
        assert.not_equal(0, verify(name, "-purpose", "sslclient").exit)
      end)
    end

    it("is a pair with its key, the authority behind it", function()
      for name, key_type in pairs({ ["local"] = "ECDSA P-256", rsa = "RSA 2048" }) do
        local text = store:read(name .. ".pem")
        local cert = assert(tls.cert(text, store:read(name .. ".key"), now, "localhost"))
        assert.equal(key_type, cert.key_type)
        assert.is_true(cert.covers)
        local list = issue.describe(text)
        assert.equal(2, #list)
        assert.equal(issue.describe(authority)[1].fingerprint, list[2].fingerprint)
      end
    end)

    it("with an RSA key may take part in key transport too", function()
      local _, usage = extension(text_of("rsa"), "Key Usage")
      assert.equal("Digital Signature, Key Encipherment", usage)
    end)

    local lengths = { 1, 365, 825 }
    for _, days in ipairs(lengths) do
      it(("for %d days is valid for exactly these"):format(days), function()
        local one = issue.describe((make("days", { names = LOCAL, days = days })))[1]
        assert.equal(now - HOUR, one.not_before)
        assert.equal(days * DAY, one.not_after + 1 - one.not_before)
      end)
    end

    it("ends with the authority at the latest", function()
      local later = now + 3600 * DAY
      local list = issue.describe((make("late", { names = LOCAL, days = 365, now = later })))
      assert.equal(later - HOUR, list[1].not_before)
      assert.equal(list[2].not_after, list[1].not_after)
    end)

    it("has a random serial of 20 bytes", function()
      local seen = {}
      for _ = 1, 30 do
        local serial = issue.describe((make("serial", { names = { "localhost" } })))[1].serial
        assert.matches("^[4567]%x+$", serial)
        assert.equal(40, #serial)
        assert.is_nil(seen[serial])
        seen[serial] = true
      end
    end)

    it("has a key of its own", function()
      local _, one = make("key", { names = LOCAL })
      local _, other = make("key", { names = LOCAL })
      assert.not_equal(one, other)
    end)

    it("without a host name has no common name, which would pass for one", function()
      local one = issue.describe((make("ip", { names = { "127.0.0.1" } })))[1]
      assert.equal("O=Moonquay development certificate", one.subject)
      assert.equal(0, verify("ip", "-verify_ip", "127.0.0.1").exit)
    end)

    it("can have names longer than a common name", function()
      local name = ("a"):rep(63) .. "." .. ("b"):rep(63) .. ".localhost"
      local one = issue.describe((make("long", { names = { name } })))[1]
      assert.equal("O=Moonquay development certificate", one.subject)
      assert.same({ name }, one.names)
      assert.equal(0, verify("long", "-verify_hostname", name).exit)
    end)
  end)

  describe("a client's certificate", function()
    local clients = { -- name, alternative names
      { "alice", {} },
      { "Alice B. Carol", {} },
      { "alice@example.com", { "alice@example.com" } },
      { "alice@localhost", { "alice@localhost" } },
      { "worker.localhost", { "worker.localhost" } },
      { "a_b-c+d", {} },
    }
    for _, case in ipairs(clients) do
      it("is for clients only: " .. case[1], function()
        local one = issue.describe((make("client", { client = case[1] })))[1]
        assert.matches("^CN=[^=]*,O=Moonquay development client$", one.subject)
        assert.same(case[2], one.names)
        assert.is_true(one.for_clients)
        assert.is_false(one.for_servers)
        local result = verify("client", "-purpose", "sslclient")
        assert.equal(0, result.exit, result.stderr)
        assert.not_equal(0, verify("client", "-purpose", "sslserver").exit)
      end)
    end

    it("is not signed for a host that is not the authority's", function()
      local cert, why, code = issue.certificate({ client = "alice.example", now = now }, authority,
        authority_key)
      assert.is_nil(cert)
      assert.equal("this authority may not sign for alice.example", why)
      assert.equal("permission", code)
    end)
  end)

  describe("an authority that is none", function()
    it("signs nothing", function()
      local cert, why, code = issue.certificate({ names = LOCAL, now = now },
        store:read("local.pem"), store:read("local.key"))
      assert.is_nil(cert)
      assert.equal("it is no authority's certificate", why)
      assert.equal("invalid", code)
    end)

    it("because it has expired, or is not valid yet", function()
      for _, case in ipairs({ { 3651 * DAY, "expired on" }, { -2 * HOUR, "not valid before" } }) do
        local cert, why, code = issue.certificate({ names = LOCAL, now = now + case[1] },
          authority, authority_key)
        assert.is_nil(cert)
        assert.matches(case[2], why, 1, true)
        assert.equal("invalid", code)
      end
    end)
  end)

  it("tells the certificates of an authority from another one's", function()
    local other = assert(issue.authority({ now = now }))
    assert.is_true(issue.is_of(store:read("local.pem"), authority))
    assert.is_false(issue.is_of(store:read("local.pem"), other))
    assert.is_false(issue.is_of(other, authority))
  end)

  local names = { -- what somebody writes, canonical or false
    { "LocalHost", "localhost" }, { "*.LOCALHOST", "*.localhost" },
    { "a-b.c_d.test", "a-b.c_d.test" },
    { "127.0.0.1", "127.0.0.1" }, { "[::1]", "::1" }, { "0:0:0:0:0:0:0:1", "::1" },
    { "2001:DB8::A", "2001:db8::a" }, { "::ffff:10.0.0.1", "10.0.0.1" }, { "1a.2b", "1a.2b" },
    { ("a"):rep(63), ("a"):rep(63) }, { ("a."):rep(126) .. "b", ("a."):rep(126) .. "b" },
    { "", false }, { ".", false }, { "*", false }, { "*.", false }, { "a.", false },
    { ".a", false }, { "a..b", false }, { "-a", false }, { "a-", false }, { "a.*.b", false },
    { "*a.b", false }, { "**.a", false }, { "1.2.3", false }, { "1.2.3.4.5", false },
    { "256.0.0.1", false }, { "a b", false }, { "a,DNS:b", false }, { "a\n", false },
    { "http://a", false }, { "a:80", false }, { "\u{e4}.test", false }, { "a/b", false },
    { "127.0.0.0/8", false }, { ("a"):rep(64), false }, { ("a."):rep(127) .. "b", false },
  }
  for _, case in ipairs(names) do
    it(("takes %q as a name: %s"):format(case[1], case[2]), function()
      assert.equal(case[2] or nil, issue.name(case[1]))
    end)
  end

  local clients = {
    { "a", true }, { "A b.c_d@e+f-g", true }, { "9", true }, { ("x"):rep(64), true },
    { "", false }, { " a", false }, { "a ", false }, { ".a", false }, { "../a", false },
    { "a/b", false }, { "-a", false }, { "@a", false }, { "a\nb", false }, { "a=b", false },
    { "a,b", false }, { "\u{e4}", false }, { ("x"):rep(65), false },
  }
  for _, case in ipairs(clients) do
    it(("takes %q as a client: %s"):format(case[1], case[2]), function()
      assert.equal(case[2], issue.client(case[1]))
    end)
  end
end)
