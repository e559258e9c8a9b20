local certs = require("spec.support.certs")
local tls = require("moonquay.probe").tls

describe("tls_cert", function()
  local store, now
  local text = {} -- by file name

  setup(function()
    store = certs.new()
    store:authority("root")
    store:authority("middle", { by = "root" })
    store:make("leaf", { by = "middle", names = { "a.test", "*.b.test" }, ips = { "127.0.0.1" } })
    store:make("other", { by = "root", names = { "other.test" } })
    store:make("old", { by = "root", days = -1 })
    store:make("rsa", { key = "rsa" })
    store:make("p384", { key = "p384" })
    store:make("p224", { key = "p224" })
    store:make("ed25519", { key = "ed25519" })
    for _, name in ipairs({ "root", "middle", "leaf", "other", "old", "rsa", "p384", "p224",
      "ed25519" }) do
      text[name] = store:read(name .. ".pem")
      text[name .. ".key"] = store:read(name .. ".key")
    end
    certs.openssl("pkey", "-in", store:path("leaf.key"), "-aes128", "-passout", "pass:secret",
      "-out", store:path("locked.key"))
    text["locked.key"] = store:read("locked.key")
    text.der = certs.openssl("x509", "-in", store:path("leaf.pem"), "-outform", "DER")
    now = os.time()
    text.parameters = certs.openssl("ecparam", "-name", "prime256v1")
  end)

  teardown(function()
    store:remove()
  end)

  local types = { leaf = "ECDSA P-256", p384 = "ECDSA P-384", rsa = "RSA 2048",
    ed25519 = "Ed25519" }
  for name, key_type in pairs(types) do
    it("takes a key of type " .. key_type, function()
      local cert = assert(tls.cert(text[name], text[name .. ".key"], now))
      assert.equal(key_type, cert.key_type)
      assert.is_nil(cert.warning)
    end)
  end

  it("knows how long it is valid", function()
    local cert = assert(tls.cert(text.leaf, text["leaf.key"], now))
    assert.equal(30 * 86400, cert.not_after - cert.not_before)
    assert.is_true(cert.not_before <= now + 5 and cert.not_before > now - 600)
  end)

  it("takes the key and the chain from one file, among other blocks", function()
    local all = "a line of text\n" .. text.parameters .. text["leaf.key"] .. text.leaf .. "\r\n"
      .. text.middle
    assert(tls.cert(all, all, now))
  end)

  it("takes a chain with its root", function()
    assert(tls.cert(text.leaf .. text.middle .. text.root, text["leaf.key"], now))
  end)

  local names = { ["a.test"] = true, ["A.Test"] = true, ["x.b.test"] = true, ["*.b.test"] = true,
    ["127.0.0.1"] = true, ["b.test"] = false, ["x.y.b.test"] = false, ["c.test"] = false,
    ["127.0.0.2"] = false, [""] = false }
  for host, covers in pairs(names) do
    it(("%s %q"):format(covers and "is for" or "is not for", host), function()
      assert.equal(covers, assert(tls.cert(text.leaf, text["leaf.key"], now, host)).covers)
    end)
  end

  describe("warns of", function()
    local function warning(certificate, key, when)
      return assert(tls.cert(text[certificate], text[key .. ".key"], when)).warning
    end

    it("a certificate that has expired", function()
      local cert = assert(tls.cert(text.old, text["old.key"], now))
      assert.equal("the certificate (old) expired on "
        .. os.date("!%Y-%m-%d %H:%M:%S UTC", cert.not_after), cert.warning)
    end)

    it("one that is not yet valid", function()
      local cert = assert(tls.cert(text.leaf, text["leaf.key"], 0))
      assert.equal("the certificate (leaf) is not valid before "
        .. os.date("!%Y-%m-%d %H:%M:%S UTC", cert.not_before), cert.warning)
    end)

    it("nothing at both ends of its time", function()
      local cert = assert(tls.cert(text.leaf, text["leaf.key"], now))
      assert.is_nil(warning("leaf", "leaf", cert.not_before))
      assert.is_nil(warning("leaf", "leaf", cert.not_after))
      assert.truthy(warning("leaf", "leaf", cert.not_before - 1))
      assert.truthy(warning("leaf", "leaf", cert.not_after + 1))
    end)

    it("one of the chain", function()
      store:authority("tired", { by = "root", days = -1 })
      local leaf = store:make("young", { by = "tired" })
      local chain = store:read("young.chain")
      local cert = assert(tls.cert(chain, store:read("young.key"), os.time()))
      assert.truthy(leaf.chain and cert.warning:find("the certificate (tired) expired", 1, true))
    end)
  end)

  local function broken(pem)
    return (pem:gsub("\n(....)", "\nAAAA", 1))
  end

  local wrong = {
    { "an empty text", function() return "", text["leaf.key"] end,
      'no certificate in it (PEM, "BEGIN CERTIFICATE")' },
    { "DER", function() return text.der, text["leaf.key"] end,
      'no certificate in it (PEM, "BEGIN CERTIFICATE")' },
    { "a key for a certificate", function() return text["leaf.key"], text["leaf.key"] end,
      'no certificate in it (PEM, "BEGIN CERTIFICATE")' },
    { "a broken certificate", function() return broken(text.leaf), text["leaf.key"] end,
      "certificate 1 is broken: " },
    { "a broken one behind a good one",
      function() return text.leaf .. broken(text.middle), text["leaf.key"] end,
      "certificate 2 is broken: " },
    { "a text that ends inside a certificate",
      function() return text.leaf:sub(1, 200), text["leaf.key"] end,
      "certificate 1 is broken: " },
    { "a chain that begins with the issuer",
      function() return text.middle .. text.leaf, text["leaf.key"] end,
      "certificate 2 (leaf) has not signed certificate 1 (middle); the order is the server's, "
        .. "then each one's issuer" },
    { "a chain with a gap", function() return text.leaf .. text.root, text["leaf.key"] end,
      "certificate 2 (root) has not signed certificate 1 (leaf)" },
    { "too many certificates",
      function() return text.root:rep(17), text["root.key"] end, "more than 16 certificates" },
    { "an empty key", function() return text.leaf, "" end,
      'no private key in it (PEM, "BEGIN PRIVATE KEY")' },
    { "a certificate for a key", function() return text.leaf, text.leaf end,
      'no private key in it (PEM, "BEGIN PRIVATE KEY")' },
    { "a broken key", function() return text.leaf, broken(text["leaf.key"]) end,
      "the private key is broken: " },
    { "an encrypted key", function() return text.leaf, text["locked.key"] end,
      "the key is encrypted; a server needs it without a passphrase" },
    { "the key of another certificate", function() return text.leaf, text["other.key"] end,
      "it is not the key of the certificate (leaf)" },
    { "a key of another kind", function() return text.leaf, text["rsa.key"] end,
      "it is not the key of the certificate (leaf)" },
    { "a curve that clients do not know", function() return text.p224, text["p224.key"] end,
      "a key of a kind that is not served: RSA, ECDSA (P-256, P-384, P-521) or Ed25519 are" },
  }
  for _, case in ipairs(wrong) do
    it("refuses " .. case[1], function()
      local certificate, key = case[2]()
      local cert, message, code = tls.cert(certificate, key, now)
      assert.is_nil(cert)
      assert.equal(case[3], message:sub(1, #case[3]))
      assert.is_nil(message:find("\n", 1, true))
      assert.equal(78, code)
    end)
  end

  it("refuses an issuer of the same name that has another key", function()
    local twin = certs.new()
    twin:authority("middle")
    local cert, message = tls.cert(text.leaf .. twin:read("middle.pem"), text["leaf.key"], now)
    twin:remove()
    assert.is_nil(cert)
    local expected = "certificate 2 (middle) has not signed certificate 1 (leaf)"
    assert.equal(expected, message:sub(1, #expected))
  end)
end)
