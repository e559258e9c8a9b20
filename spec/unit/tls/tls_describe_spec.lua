local certs = require("spec.support.certs")
local issue = require("moonquay.probe").issue

describe("tls_describe", function()
  local store, now

  -- A certificate that openssl makes, signed by itself, with these lines of extensions.
  local function make(subject, lines, ...)
    local path = store:path("made.pem")
    certs.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes",
      "-keyout", store:path("made.key"), "-out", path, "-utf8", "-days", "10", "-subj", subject,
      "-config", store:write("made.conf", "[req]\ndistinguished_name=dn\nx509_extensions=x\n"
        .. "[dn]\n[x]\n" .. lines .. "\n"), ...)
    return store:read("made.pem"), path
  end

  setup(function()
    store = certs.new()
    now = os.time()
  end)

  teardown(function()
    store:remove()
  end)

  it("tells what openssl tells", function()
    local text, path = make("/O=Example/CN=\u{e4}.example", "subjectAltName=DNS:a.example",
      "-set_serial", "0x0123456789abcdef")
    local one = issue.describe(text)[1]
    local function said(word, ...)
      return certs.openssl("x509", "-in", path, "-noout", word, ...):match("=(.-)\n$")
    end
    assert.equal("CN=\u{e4}.example,O=Example", one.subject)
    assert.equal(one.subject, one.issuer)
    assert.equal(said("-serial"):lower(), one.serial)
    assert.equal(said("-fingerprint", "-sha256"):gsub(":", ""):lower(), one.fingerprint)
    assert.equal("ECDSA P-384", one.key_type)
    assert.equal(384, one.key_bits)
    assert.equal(10 * 86400, one.not_after - one.not_before)
    assert.is_true(one.not_before >= now)
    assert.same({ "a.example" }, one.names)
    assert.same({}, one.permitted)
  end)

  it("knows the kinds of names", function()
    local one = issue.describe((make("/CN=x", "subjectAltName=DNS:*.example,IP:192.0.2.1,"
      .. "IP:2001:db8::1,email:a@example.com,URI:https://example.com/a,RID:1.2.3")))[1]
    assert.same({ "*.example", "192.0.2.1", "2001:db8::1", "a@example.com",
      "URI:https://example.com/a", "Registered ID:1.2.3" }, one.names)
  end)

  it("passes no name off as one of another kind", function()
    local one = issue.describe((make("/CN=x", "subjectAltName=@names\n[names]\nDNS.1=127.0.0.1\n"
      .. "DNS.2=a@example.com\nDNS.3=URI:x\nemail.1=localhost\nDNS.4=::1")))[1]
    assert.same({ "DNS:127.0.0.1", "DNS:a@example.com", "DNS:URI:x", "email:localhost", "DNS:::1" },
      one.names)
  end)

  it("lets no control through a name, nor through a subject", function()
    local one = issue.describe((make("/CN=a\nb\27[2J\127", "subjectAltName=DNS:FORMAT:x")))[1]
    assert.is_nil(one.subject:find("[%z\1-\31\127]"), one.subject)
    local der = "subjectAltName=DER:30:08:82:06:61:00:0A:1B:5C:62" -- a NUL LF ESC \ b
    assert.same({ "a\\00\\0a\\1b\\5cb" }, issue.describe((make("/CN=x", der)))[1].names)
  end)

  it("tells ranges of permitted addresses", function()
    local one = issue.describe((make("/CN=x", "basicConstraints=CA:TRUE\nnameConstraints="
      .. "permitted;IP:10.0.0.0/255.0.0.0,permitted;IP:192.0.2.1/255.255.255.255,"
      .. "permitted;IP:2001:db8::/ffff:ffff::,permitted;DNS:.example,excluded;DNS:b.example")))[1]
    assert.same({ "10.0.0.0/8", "192.0.2.1", "2001:db8::/32", ".example" }, one.permitted)
  end)

  local purposes = { -- extensions, is_authority, for_servers, for_clients
    { "basicConstraints=CA:TRUE", true, false, false },
    { "basicConstraints=CA:FALSE", false, true, true },
    { "extendedKeyUsage=serverAuth", false, true, false },
    { "extendedKeyUsage=clientAuth", false, false, true },
    { "extendedKeyUsage=clientAuth,serverAuth", false, true, true },
    { "extendedKeyUsage=codeSigning", false, false, false },
    { "extendedKeyUsage=anyExtendedKeyUsage", false, true, true },
  }
  for _, case in ipairs(purposes) do
    it("knows the purpose of " .. case[1], function()
      local one = issue.describe((make("/CN=x", case[1])))[1]
      assert.same({ case[2], case[3], case[4] },
        { one.is_authority, one.for_servers, one.for_clients })
    end)
  end

  it("takes all certificates of a file in its order", function()
    local first, second = make("/CN=first", ""), make("/CN=second", "")
    local list = issue.describe("text\n" .. second .. store:read("made.key") .. "\r\n" .. first)
    assert.equal(2, #list)
    assert.equal("CN=second", list[1].subject)
    assert.equal("CN=first", list[2].subject)
  end)

  local wrong = {
    { "nothing", "", "no certificate in it" },
    { "no PEM", "\0\1\2", "no certificate in it" },
    { "a broken certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
      "certificate 1 is broken" },
  }
  for _, case in ipairs(wrong) do
    it("refuses " .. case[1], function()
      local list, why, code = issue.describe(case[2])
      assert.is_nil(list)
      assert.matches(case[3], why, 1, true)
      assert.equal("invalid", code)
    end)
  end
end)
