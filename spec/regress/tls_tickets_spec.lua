-- A ticket of one binding must not open another: the state of a client's certificate would go with
-- it (the class of CVE-2025-23419).
local await = require("spec.support.await")
local certs = require("spec.support.certs")
local secure = require("spec.support.secure")
local server = require("spec.support.server")

describe("a session of one TLS binding", function()
  local store, tls

  setup(function()
    store = certs.new()
    store:authority("ca")
    store:make("client", { by = "ca" })
    tls = secure.binding(store:make("a"), { name = "a.test" }) .. ";"
      .. secure.binding(store:make("b"), { name = "b.test" }) .. ";"
      .. secure.binding(store:make("c"), { name = "c.test", client_certificate = "require",
        client_authorities = store:path("ca.pem") }) .. ";"
      .. secure.binding(store:make("d"), { name = "d.test", client_certificate = "allow" })
  end)

  teardown(function()
    store:remove()
  end)

  after_each(server.stop_all)

  -- Makes short.pem, a certificate for the client's key that is valid for so many seconds from now.
  local function certify_for(seconds)
    store:write("index", "")
    store:write("ca.conf", ([[
[ca]
default_ca = here
[here]
database = DIR/index
new_certs_dir = DIR
policy = names
default_md = sha256
unique_subject = no
rand_serial = yes
[names]
commonName = supplied
]]):gsub("DIR", store:path("."):sub(1, -3)))
    local function date(from_now)
      return os.date("!%y%m%d%H%M%SZ", os.time() + from_now)
    end
    certs.openssl("ca", "-batch", "-notext", "-config", store:path("ca.conf"), "-in",
      store:path("client.csr"), "-out", store:path("short.pem"), "-cert", store:path("ca.pem"),
      "-keyfile", store:path("ca.key"), "-startdate", date(-60), "-enddate", date(seconds))
  end

  for _, version in ipairs({ "-tls1_2", "-tls1_3" }) do
    it("is not resumed in another: " .. version, function()
      local s = secure.start({ urls = "https://+:PORT", tls = tls })
      local names = { "a", "b", "c", "d" }
      local function ask(name, ...)
        return secure.ask(s, { sni = name .. ".test", version, "-cert", store:path("client.pem"),
          "-key", store:path("client.key"), ... })
      end
      for _, from in ipairs(names) do
        assert.equal(200, ask(from, "-sess_out", store:path(from)).status)
      end
      for _, from in ipairs(names) do
        for _, to in ipairs(names) do
          local seen = ask(to, "-sess_in", store:path(from))
          local what = from .. " to " .. to
          assert.equal(from == to, seen.json.resumed, what .. seen.text)
          assert.equal(to == "c" or to == "d", seen.json.certificate ~= nil, what)
        end
      end
      -- Without its certificate the client comes back to c by its own ticket alone.
      local seen = secure.ask(s, { sni = "c.test", version, "-sess_in", store:path("a") })
      assert.is_nil(seen.status)
      seen = secure.ask(s, { sni = "c.test", version, "-sess_in", store:path("c") })
      assert.equal("CN=client", seen.json.certificate.subject)
    end)

    it("ends with the certificate that its client has shown: " .. version, function()
      local s = secure.start({ urls = "https://+:PORT", tls = tls })
      certify_for(server.sanitized and 15 or 6)
      for _, name in ipairs({ "c", "d" }) do
        assert.equal(200, secure.ask(s, { sni = name .. ".test", version, "-cert",
          store:path("short.pem"), "-key", store:path("client.key"), "-sess_out",
          store:path("short" .. name) }).status)
        assert.is_true(secure.ask(s, { sni = name .. ".test", version, "-sess_in",
          store:path("short" .. name) }).json.resumed)
      end
      local function again(name)
        return secure.ask(s, { sni = name .. ".test", version, "-sess_in",
          store:path("short" .. name) })
      end
      await("the end of the session", function()
        return again("c").status == nil
      end)
      local seen = again("d").json
      assert.is_false(seen.resumed)
      assert.is_nil(seen.certificate)
    end)
  end
end)
