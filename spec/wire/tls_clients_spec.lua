-- Client certificates: what each mode asks, what a handler sees, asking after the handshake, 421.
local certs = require("spec.support.certs")
local json = require("moonquay.core").json
local peer = require("spec.support.peer")
local secure = require("spec.support.secure")
local timed = require("spec.support.timed")
local tls_peer = require("spec.support.tls_peer")

describe("a client's certificate", function()
  local store
  local made = {}

  setup(function()
    store = certs.new()
    store:authority("ca")
    store:authority("stranger")
    made.server = store:make("server", { by = "ca", names = { "a.test" } })
    made.alice = store:make("alice", { by = "ca", names = { "alice.test", "b.test" },
      ips = { "192.0.2.1", "2001:db8::1" } })
    made.mallory = store:make("mallory", { by = "stranger" })
    made.late = store:make("late", { by = "ca", days = -1 })
  end)

  teardown(function()
    store:remove()
  end)

  after_each(timed.stop_all)

  local function binding(mode, more)
    local keys = { client_certificate = mode }
    if mode ~= "none" then
      keys.client_authorities = store:path("ca.pem")
    end
    for key, value in pairs(more or {}) do
      keys[key] = value
    end
    return secure.binding(made.server, keys)
  end

  local function words(who, ...)
    local list = { sni = "a.test", ... }
    if who then
      table.move({ "-cert", made[who].cert, "-key", made[who].key }, 1, 4, #list + 1, list)
    end
    return list
  end

  -- { mode, who, verification (false: no certificate is seen, nil: the handshake is refused) }
  local modes = {
    { "none", false, false }, { "none", "alice", false }, { "none", "mallory", false },
    { "allow", false, false }, { "allow", "alice", "ok" },
    { "allow", "mallory", "unable to verify the first certificate" },
    { "allow", "late", "certificate has expired" },
    { "require", "alice", "ok" }, { "require", false, nil }, { "require", "mallory", nil },
    { "require", "late", nil },
    { "delay", false, false }, { "delay", "alice", false },
  }
  for _, mode in ipairs({ "none", "allow", "require", "delay" }) do
    it("is asked for by the mode " .. mode, function()
      local s = secure.start({ tls = binding(mode) })
      for _, case in ipairs(modes) do
        for _, version in ipairs(case[1] == mode and { "-tls1_2", "-tls1_3" } or {}) do
          local seen = secure.ask(s, words(case[2], version))
          local what = ("%s %s %s: %s"):format(mode, case[2], version, seen.text)
          if case[3] == nil then
            assert.is_nil(seen.status, what)
            assert.truthy(seen.number, what) -- an alert, not just an end
          else
            assert.equal(200, seen.status, what)
            local certificate = seen.json.certificate
            assert.equal(case[3], certificate and certificate.verification or false, what)
            assert.equal(case[3] == "ok", certificate ~= nil and certificate.verified, what)
          end
          assert.equal(mode == "allow" or mode == "require",
            seen.text:find("Acceptable client certificate CA names\nCN = ca", 1, true) ~= nil, what)
        end
      end
    end)
  end

  it("is told to the handler whole", function()
    local s = secure.start({ tls = binding("allow") })
    local function x509(...)
      return certs.openssl("x509", "-in", made.alice.cert, "-noout", ...)
    end
    for _, version in ipairs({ "-tls1_2", "-tls1_3" }) do
      local seen = secure.ask(s, words("alice", version, "-sess_out", store:path("s")))
      local certificate = seen.json.certificate
      assert.equal("CN=alice", certificate.subject)
      assert.equal("CN=ca", certificate.issuer)
      assert.equal(x509("-serial"):match("=(%x+)"):lower(), certificate.serial)
      assert.equal(x509("-fingerprint", "-sha256"):match("=([%x:]+)"):gsub(":", ""):lower(),
        certificate.fingerprint)
      assert.same({ dns = { "alice.test", "b.test" }, ip = { "192.0.2.1", "2001:db8::1" } },
        certificate.names)
      assert.equal(30 * 86400, certificate.not_after - certificate.not_before)
      -- A resumed session knows it still.
      seen = secure.ask(s, { sni = "a.test", version, "-sess_in", store:path("s") })
      assert.is_true(seen.json.resumed)
      assert.same(certificate, seen.json.certificate)
    end
  end)

  it("is told without names that some readers would cut", function()
    local s = secure.start({ tls = binding("allow") })
    -- dNSName "a.test", NUL, ".b" and dNSName "good" (RFC 5280 section 4.2.1.6)
    store:write("cut.ext", "subjectAltName=DER:30:11:82:09:61:2e:74:65:73:74:00:2e:62:82:04:67:6f:"
      .. "6f:64\n")
    certs.openssl("x509", "-req", "-in", store:path("alice.csr"), "-out", store:path("cut.pem"),
      "-extfile", store:path("cut.ext"), "-CA", store:path("ca.pem"), "-CAkey",
      store:path("ca.key"), "-CAcreateserial")
    local seen = secure.ask(s, { sni = "a.test", "-cert", store:path("cut.pem"), "-key",
      made.alice.key })
    assert.same({ dns = { "good" } }, seen.json.certificate.names)
  end)

  it("is shown by curl and by Node", function()
    local s = secure.start({ tls = binding("require") })
    local result = peer.run({ "curl", "-sS", "--cacert", store:path("ca.pem"),
        "--cert",
      made.alice.cert, "--key", made.alice.key, "--connect-to", "a.test:443:127.0.0.1:" .. s.port,
      "https://a.test/" })
    assert.truthy(result.stdout:find('"subject":"CN=alice"', 1, true), result.stderr)
    local seen = tls_peer({ port = s.port, send = { { text = secure.request() } },
      tls = { servername = "a.test", cert = store:read("alice.pem"),
        key = store:read("alice.key") } })
    assert.truthy(seen.body:find('"verified":true', 1, true), seen.body)
    result = peer.run({ "curl", "-sS", "--cacert", store:path("ca.pem"), "--connect-to",
      "a.test:443:127.0.0.1:" .. s.port, "https://a.test/" })
    assert.equal(56, result.exit, result.stderr) -- an alert while it waited for the answer
  end)

  it("that is refused is counted, and told at level debug", function()
    local s = secure.start({ tls = binding("require") })
    secure.ask(s, words("mallory"))
    s:await('tls_failed [^\n]*message="unable to get local issuer certificate"')
    secure.ask(s, words(false))
    s:await('tls_failed [^\n]*message="peer did not return a certificate"')
    secure.await_counter(s, "tls_failed", 2)
    assert.equal(0, secure.counters(s).tls_handshakes)
  end)

  describe("asked for by a handler", function()
    local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app {}
local function answer(certificate, err)
  return { subject = certificate and certificate.subject,
    verification = certificate and certificate.verification, code = err and err.code,
    message = err and err.message }
end
app:get("/", function(req)
  local first = req.tls.client_certificate
  local result = answer(req.tls:request_certificate())
  result.first = first and first.subject
  result.field = req.tls.client_certificate and req.tls.client_certificate.subject
  return result
end)
app:post("/", function(req)
  local result = answer(req.tls:request_certificate())
  result.body = req.body:read("a")
  result.later = answer(req.tls:request_certificate())
  return result
end)
app:get("/twice", function(req)
  local function ask() return answer(req.tls:request_certificate()) end
  return { moonquay.all(ask, ask) }
end)
app:get("/short", function(req)
  req.limits.timeouts.entity_body = 0.2
  return answer(req.tls:request_certificate())
end)
app:get("/bytes", function() return ("x"):rep(3 << 20) end)
app:get("/sorted", function(req)
  local ok, err = pcall(table.sort, { 1, 2 }, function() req.tls:request_certificate() end)
  return { ok = ok, message = err }
end)
return app]]

    local WAYS = { ["our BIO"] = {}, ["a socket BIO"] = { MOONQUAY_TLS_SOCKET_BIO = "1" } }
    for way, env in pairs(WAYS) do
      it("comes after the handshake, with " .. way, function()
        local s = secure.start({ app = APP, tls = binding("delay"), env = env })
        -- { who, what the handler gets }
        for _, case in ipairs({
          { "alice", { subject = "CN=alice", field = "CN=alice", verification = "ok" } },
          { "mallory", { subject = "CN=mallory", field = "CN=mallory",
            verification = "unable to verify the first certificate" } },
          { false, {} },
        }) do
          local seen = secure.ask(s, words(case[1], "-enable_pha"))
          assert.same(case[2], seen.json, seen.text)
        end
        -- On a kept connection the second request has it at once.
        local session = secure.open(s, words("alice", "-enable_pha"))
        session:send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert.is_nil(session:read_until("}"):find('"first"', 1, true))
        session:send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert.truthy(session:read_until("}"):find('"first":"CN=alice"', 1, true))
        session:close()
      end)
    end

    it("comes from curl too", function()
      local s = secure.start({ app = APP, tls = binding("delay") })
      local result = peer.run({ "curl", "-sS", "--http1.1", "--cacert", store:path("ca.pem"),
        "--cert",
        made.alice.cert, "--key", made.alice.key, "--connect-to",
        "a.test:443:127.0.0.1:" .. s.port, "https://a.test/" })
      assert.truthy(result.stdout:find('"subject":"CN=alice"', 1, true),
        result.stdout .. result.stderr)
    end)

    it("cannot come where the connection cannot ask", function()
      local s = secure.start({ app = APP, tls = binding("delay") })
      local cannot = "the connection cannot ask now: that takes HTTP/1.1 over TLS 1.3 and a client "
        .. "that knows it"
      for _, options in ipairs({ words("alice", "-tls1_2", "-enable_pha"), words("alice") }) do
        assert.same({ code = "unsupported", message = cannot }, secure.ask(s, options).json)
      end
      assert.equal(0, s:stop())
      for _, mode in ipairs({ "none", "allow" }) do
        s = secure.start({ app = APP, tls = binding(mode) })
        assert.same({ code = "state", message = "the binding's client_certificate is not "
          .. "\"delay\", or another task asks already" },
          secure.ask(s, words(false, "-enable_pha")).json)
        assert.equal(0, s:stop())
      end
    end)

    it("comes behind the request's body", function()
      local s = secure.start({ app = APP, tls = binding("delay") })
      local options = words("alice", "-enable_pha")
      options.request = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n"
        .. "Connection: close\r\n\r\nbody"
      local seen = secure.ask(s, options).json
      assert.same({ code = "state", message = "the request's body must be read before",
        body = "body", later = { subject = "CN=alice", verification = "ok" } }, seen)
    end)

    it("is asked for by one task at a time", function()
      local s = secure.start({ app = APP, tls = binding("delay") })
      local options = words("alice", "-enable_pha")
      options.request = secure.request("/twice")
      local text = secure.ask(s, options).text
      assert.truthy(text:find('"subject":"CN=alice"', 1, true), text)
      assert.truthy(text:find('"code":"state"', 1, true), text)
    end)

    it("is not asked for where the handler cannot wait", function()
      local s = secure.start({ app = APP, tls = binding("delay") })
      local options = words("alice", "-enable_pha")
      options.request = secure.request("/sorted")
      local seen = secure.ask(s, options).json
      assert.is_false(seen.ok)
      assert.truthy(seen.message:find("table.sort", 1, true) or seen.message:find("sort", 1, true))
    end)

    it("is awaited for a bounded time: Timer_SslRenegotiation", function()
      local list, dir = timed.words({})
      local s = timed.watch(secure.start({ app = APP, tls = binding("delay"), options = list }),
        dir)
      -- A client that can answer, but stands still: nobody reads what it has read before.
      local session = secure.open(s, words("alice", "-enable_pha"))
      session:send("GET /bytes HTTP/1.1\r\nHost: a.test\r\n\r\n"
        .. "GET /short HTTP/1.1\r\nHost: a.test\r\n\r\n")
      timed.assert_told(s, "Timer_SslRenegotiation")
      session:close()
      assert.equal(0, s:stop())
    end)
  end)

  describe("that a host needs", function()
    it("is not had by way of another: 421", function()
      local more = { name = "a.test" }
      local s = secure.start({ urls = "https://+:PORT", tls = table.concat({
        binding("none", more), binding("require", { name = "b.test" }),
        binding("none", { name = "c.test" }), binding("allow", { name = "*.d.test" }) }, ";"),
        set = { "http_error_log=-" } })
      local function status(sni, host)
        local options = words("alice")
        options.sni = sni
        options.request = secure.request("/", host)
        return secure.ask(s, options).status
      end
      local cases = {
        { "a.test", "a.test", 200 }, { "a.test", "A.Test:443", 200 }, { "a.test", "c.test", 200 },
        { "a.test", "b.test", 421 }, { "a.test", "B.TEST:443", 421 }, { "a.test", "b.test.", 421 },
        { "a.test", "x.d.test", 421 }, { "a.test", "d.test", 200 }, { "a.test", "other", 200 },
        { "a.test", "[::1]:443", 200 }, { "b.test", "a.test", 421 }, { "b.test", "b.test", 200 },
        { "x.d.test", "y.d.test", 200 }, { "x.d.test", "b.test", 421 },
      }
      local refused = 0
      for _, case in ipairs(cases) do
        assert.equal(case[3], status(case[1], case[2]), case[1] .. " and " .. case[2])
        refused = refused + (case[3] == 421 and 1 or 0)
      end
      s:await("request_refused [^\n]*status=421 reason=Misdirected")
      s:await(" 421 %- Misdirected %-\n")
      assert.equal(refused, select(2, secure.counters(s)).Misdirected)
    end)

    it("is not had by way of another's stream either: 421, and the others go on", function()
      local s = secure.start({ urls = "https://+:PORT", tls = table.concat({
        binding("none", { name = "a.test" }), binding("require", { name = "b.test" }),
        binding("none", { name = "c.test" }), binding("allow", { name = "*.d.test" }) }, ";") })
      -- As a browser does that finds one certificate good for several hosts (RFC 9113 s. 9.1.1).
      local statuses = json.decode(peer.node([[
import http2 from "node:http2";
const session = http2.connect("https://127.0.0.1:" + process.argv[2],
  { servername: "a.test", rejectUnauthorized: false });
const ask = (authority) => new Promise((done) => {
  const stream = session.request({ ":authority": authority, ":method": "POST" });
  stream.on("response", (headers) => { stream.resume(); done(headers[":status"]); });
  stream.end("content");
});
const statuses = [];
for (const host of ["a.test", "b.test", "c.test", "x.d.test", "B.TEST:443", "a.test:443"])
  statuses.push(await ask(host));
statuses.push(await Promise.all(["b.test", "a.test", "b.test", "c.test"].map(ask)));
process.stdout.write(JSON.stringify(statuses));
session.close();
]], tostring(s.port)))
      assert.same({ 200, 421, 200, 421, 421, 200, { 421, 200, 421, 200 } }, statuses)
      assert.equal(1, secure.counters(s).tls_handshakes)
      assert.equal(5, select(2, secure.counters(s)).Misdirected)
      -- What may be done over it after that: a connection of its own, with the certificate.
      local result = peer.run({ "curl", "-qsSk", "--http2", "--cert", made.alice.cert, "--key",
        made.alice.key, "--connect-to", "::127.0.0.1:" .. s.port, "https://b.test/" })
      assert.equal("CN=alice", json.decode(result.stdout).certificate.subject)
    end)
  end)
end)
