-- Files of bindings that change while the server runs, and stapled OCSP answers.
local await = require("spec.support.await")
local certs = require("spec.support.certs")
local peer = require("spec.support.peer")
local secure = require("spec.support.secure")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

describe("a file of a TLS binding", function()
  local store

  before_each(function()
    store = certs.new()
  end)

  after_each(function()
    server.stop_all()
    store:remove()
  end)

  local function copy(from, to)
    store:write(to, store:read(from))
  end

  -- The certificate and key of one made before become those that are served.
  local function put(name)
    copy(name .. ".pem", "served.pem")
    copy(name .. ".key", "served.key")
  end

  local function served(more)
    return secure.binding({ cert = store:path("served.pem"), key = store:path("served.key") }, more)
  end

  local function shown(s, sni)
    return secure.ask(s, { sni = sni or "a.test" }).leaf
  end

  -- The log is ahead of the workers, which are told behind it.
  local function await_shown(s, name, sni, times)
    await(("%s for %s"):format(name, sni or "a.test"), function()
      for _ = 1, times or 1 do
        if shown(s, sni) ~= name then
          return false
        end
      end
      return true
    end)
  end

  it("is taken up, and open connections stay", function()
    for _, name in ipairs({ "old", "new" }) do
      store:make(name, { names = { "a.test" } })
    end
    put("old")
    local s = secure.start({ tls = served(), options = { "--workers", "2" } })
    local workers = table.concat(s:workers(), " ")
    local session = secure.open(s, { sni = "a.test" })
    local request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    session:send(request):read_until("}")
    assert.equal("old", secure.ask(s, { sni = "a.test", "-sess_out", store:path("s") }).leaf)
    put("new")
    s:await("info certificate_changed [^\n]*tls: binding 1: certificate=[^\n]*served.pem")
    await_shown(s, "new", nil, 8) -- both workers
    session:send(request):read_until("}")
    session:close()
    -- A new certificate is no reason to begin anew.
    assert.is_true(secure.ask(s, { sni = "a.test", "-sess_in", store:path("s") }).json.resumed)
    assert.equal(workers, table.concat(s:workers(), " "))
    sys.kill(s:workers()[1], "KILL")
    s:await("worker_died")
    await("both workers", function()
      return #s:workers() == 2 and shown(s) == "new"
    end)
    assert.equal(0, s:stop())
  end)

  it("is taken up while thousands of requests run, and harms none of them", function()
    for _, name in ipairs({ "old", "new" }) do
      store:make(name, { names = { "a.test" } })
    end
    put("old")
    local s = secure.start({ tls = served(), options = { "--workers", "2" } })
    local workers = table.concat(s:workers(), " ")
    local url = ("https://127.0.0.1:%d/"):format(s.port)
    for i, name in ipairs({ "new", "old" }) do
      put(name)
      await("the certificate " .. name, function()
        local is_taken = select(2, s:stderr():gsub("certificate_changed", "")) == i
        -- New connections all the time, each with some requests, and once more when it is.
        local result = peer.run({ "h2load", "-n", "2000", "-c", "100", "-m", "10", url })
        assert.matches("2000 done, 2000 succeeded, 0 failed, 0 errored", result.stdout, 1, true)
        return is_taken
      end)
      await_shown(s, name)
    end
    assert.equal(workers, table.concat(s:workers(), " "))
    assert.equal(0, s:stop())
  end)

  it("may be a link that leads elsewhere from now on", function()
    for _, name in ipairs({ "old", "new" }) do
      store:make(name, { names = { "a.test" } })
    end
    local function link(name)
      for _, kind in ipairs({ "pem", "key" }) do
        local to = store:path("live." .. kind)
        os.remove(to)
        assert.equal(0, peer.run({ "ln", "-s", ("%s.%s"):format(name, kind), to }).exit)
      end
    end
    link("old")
    local s = secure.start({ tls = secure.binding({ cert = store:path("live.pem"),
      key = store:path("live.key") }) })
    assert.equal("old", shown(s))
    link("new")
    s:await("certificate_changed")
    await_shown(s, "new")
    assert.is_nil(s:stderr():find("certificate_kept", 1, true))
  end)

  it("that is wrong keeps what was read before, and no other from its new one", function()
    -- { name of the binding, what happens to its files, the reason in the log }
    local cases = {
      { "a", function() copy("new.pem", "a.pem") end,
        "key=[^\n]*/a.key: it is not the key of the certificate %(new%)" },
      { "b", function() store:write("b.pem", "nothing\n") end,
        "certificate=[^\n]*/b.pem: no certificate in it" },
      { "c", function() store:write("c.pem", store:read("new.pem"):sub(1, 200)) end,
        "certificate=[^\n]*/c.pem: certificate 1 is broken: " },
      { "d", function() os.remove(store:path("d.key")) end,
        "key=[^\n]*/d.key: cannot be read: No such file or directory" },
    }
    local texts = {}
    store:make("new", { names = { "a.test" } })
    for i, name in ipairs({ "a", "b", "c", "d", "good" }) do
      texts[i] = secure.binding({ cert = store:make(name).cert, key = store:path(name .. ".key") },
        { name = name .. ".test" })
    end
    local s = secure.start({ urls = "https://+:PORT", tls = table.concat(texts, ";") })
    for _, case in ipairs(cases) do
      case[2]()
    end
    copy("new.pem", "good.pem")
    copy("new.key", "good.key")
    for i, case in ipairs(cases) do
      s:await(("error certificate_kept [^\n]*tls: binding %d: %s[^\n]*; what was read before stays "
        .. "in use"):format(i, case[3]))
    end
    s:await("certificate_changed [^\n]*tls: binding 5")
    await_shown(s, "new", "good.test")
    for _, case in ipairs(cases) do
      assert.equal(case[1], shown(s, case[1] .. ".test"))
      copy("new.pem", case[1] .. ".pem")
      copy("new.key", case[1] .. ".key")
    end
    for i, case in ipairs(cases) do
      s:await(("certificate_changed [^\n]*tls: binding %d"):format(i))
      await_shown(s, "new", case[1] .. ".test")
    end
    assert.equal(#cases, select(2, s:stderr():gsub("certificate_kept", "")))
  end)

  it("that would be too much with all others keeps what was read before", function()
    store:make("a", { names = { "a.test" } })
    local short = store:read("a.pem")
    local texts, large = {}, short .. ("\n"):rep(500 << 10)
    for i = 1, 40 do -- 20 MiB when all have grown
      store:write(i .. ".pem", short)
      texts[i] = secure.binding({ cert = store:path(i .. ".pem"), key = store:path("a.key") },
        { name = i .. ".test" })
    end
    local s = secure.start({ urls = "https://+:PORT", tls = table.concat(texts, ";") })
    for i = 1, 40 do
      store:write(i .. ".pem", large)
    end
    s:await("certificate_changed [^\n]*tls: binding 1:")
    s:await("certificate_kept [^\n]*tls: binding 40: with its files those of all bindings take "
      .. "more than 12 MiB")
    for _, name in ipairs({ "1.test", "40.test" }) do
      assert.equal("a", shown(s, name))
    end
    assert.is_nil(s:stderr():find("worker_died", 1, true))
    assert.equal(0, s:stop())
  end)

  it("that goes on changing is left alone until it has come to rest", function()
    for _, name in ipairs({ "old", "new", "b", "b2" }) do
      store:make(name, { names = { "a.test" } })
    end
    put("old")
    copy("b.pem", "other.pem")
    copy("b.key", "other.key")
    local s = secure.start({ urls = "https://+:PORT", tls = served() .. ";"
      .. secure.binding({ cert = store:path("other.pem"), key = store:path("other.key") },
        { name = "b.test" }) })
    copy("b2.pem", "other.pem")
    copy("b2.key", "other.key")
    local written = 0
    await("two looks", function()
      written = written + 1 -- the new certificate; its key is still to come
      store:write("served.pem", store:read("new.pem") .. ("\n"):rep(written))
      return s:stderr():find("certificate_changed [^\n]*tls: binding 2")
    end)
    assert.is_nil(s:stderr():find("certificate_kept", 1, true), s:stderr())
    assert.equal("old", shown(s))
    copy("new.key", "served.key")
    s:await("certificate_changed [^\n]*tls: binding 1")
    await_shown(s, "new")
    assert.is_nil(s:stderr():find("certificate_kept", 1, true), s:stderr())
  end)

  it("that is only touched changes nothing", function()
    store:make("old", { names = { "a.test" } })
    store:make("b", { names = { "b.test" } })
    put("old")
    copy("b.pem", "other.pem")
    copy("b.key", "other.key")
    local s = secure.start({ urls = "https://+:PORT", tls = served() .. ";"
      .. secure.binding({ cert = store:path("other.pem"), key = store:path("other.key") },
        { name = "b.test" }) })
    put("old") -- the same again
    store:make("b2", { names = { "b.test" } })
    copy("b2.pem", "other.pem")
    copy("b2.key", "other.key")
    s:await("certificate_changed [^\n]*tls: binding 2")
    assert.is_nil(s:stderr():find("certificate_changed [^\n]*tls: binding 1"))
  end)

  describe("with an OCSP answer", function()
    -- An answer of the authority about a certificate, DER, which is fresh for so many minutes; it
    -- names the certificate by this digest.
    local function answer(name, minutes, status, digest, whose)
      local cert = store:path((whose or "leaf") .. ".pem")
      local serial = certs.openssl("x509", "-in", cert, "-noout", "-serial")
        :match("=(%x+)")
      local line = status == "revoked" and "R\t400101000000Z\t260101000000Z"
        or "V\t400101000000Z\t"
      store:write("index", ("%s\t%s\tunknown\t/CN=leaf\n"):format(line, serial))
      certs.openssl("ocsp", "-" .. (digest or "sha1"), "-issuer", store:path("ca.pem"), "-cert",
        cert, "-reqout", store:path("request"))
      certs.openssl("ocsp", "-index", store:path("index"), "-rsigner", store:path("ca.pem"),
        "-rkey", store:path("ca.key"), "-CA", store:path("ca.pem"), "-reqin", store:path("request"),
        "-nmin", tostring(minutes), "-respout", store:path(name))
    end

    before_each(function()
      store:authority("ca")
      store:make("leaf", { by = "ca", names = { "a.test" } })
      store:make("rsa", { by = "ca", key = "rsa", names = { "a.test" } })
      store:write("full.pem", store:read("leaf.pem") .. store:read("ca.pem"))
    end)

    local function binding(ocsp)
      return secure.binding({ cert = store:path("full.pem"), key = store:path("leaf.key") },
        { ocsp = store:path(ocsp) })
    end

    local function stapled(s, ...)
      local text = secure.ask(s, { sni = "a.test", "-status", "-CAfile", store:path("ca.pem"),
        ... }).text
      assert.truthy(text:find("OCSP response:", 1, true), text)
      return text:find("OCSP Response Status: successful", 1, true) ~= nil
        and text:find("Cert Status: good", 1, true) ~= nil
    end

    it("staples it for who asks, in each version", function()
      answer("good", 600)
      local s = secure.start({ tls = binding("good") })
      assert.is_true(stapled(s, "-tls1_2"))
      assert.is_true(stapled(s, "-tls1_3"))
      local result = peer.run({ "curl", "-sS", "--cert-status", "--cacert", store:path("ca.pem"),
        "--connect-to", "a.test:443:127.0.0.1:" .. s.port, "https://a.test/" })
      assert.equal(0, result.exit, result.stderr)
      assert.is_nil(secure.ask(s, { sni = "a.test" }).text:find("OCSP Response Status", 1, true))
    end)

    it("staples it whatever digest names the certificate in it", function()
      answer("good", 600, nil, "sha256")
      assert.is_true(stapled(secure.start({ tls = binding("good") })))
    end)

    it("staples the one of the certificate that the client is shown", function()
      answer("good", 600)
      answer("goodrsa", 600, nil, nil, "rsa")
      store:write("fullrsa.pem", store:read("rsa.pem") .. store:read("ca.pem"))
      local s = secure.start({ tls = binding("good") .. (" certificate=%s key=%s ocsp=%s"):format(
        store:path("fullrsa.pem"), store:path("rsa.key"), store:path("goodrsa")) })
      for name, words in pairs({ leaf = {}, rsa = { "-sigalgs", "rsa_pss_rsae_sha256" } }) do
        local seen = secure.ask(s, { sni = "a.test", "-status", "-CAfile", store:path("ca.pem"),
          table.unpack(words) })
        assert.equal(name, seen.leaf)
        local serial = certs.openssl("x509", "-in", store:path(name .. ".pem"), "-noout", "-serial")
        assert.equal(serial:match("=(%x+)"), seen.text:match("Serial Number: (%x+)"))
      end
    end)

    it("staples it to its own certificate alone", function()
      answer("good", 600)
      store:write("none", "")
      local s = secure.start({ tls = binding("good") .. "; "
        .. secure.binding({ cert = store:path("rsa.pem"), key = store:path("rsa.key") },
          { name = "b.test" }), urls = "https://+:PORT" })
      assert.is_true(stapled(s))
      local text = secure.ask(s, { sni = "b.test", "-status" }).text
      assert.truthy(text:find("OCSP response: no response sent", 1, true), text)
    end)

    it("staples none that is out of date", function()
      answer("old", 600)
      -- Its last time is the one until which it counts; the server does not judge signatures.
      store:write("old", (store:read("old"):gsub("(.*\24\15)%d%d%d%d", "%12020")))
      local s = secure.start({ tls = binding("old") })
      assert.is_false(stapled(s))
      answer("old", 601)
      await("the answer", function()
        return stapled(s)
      end)
    end)

    it("refuses one that is about another certificate, or not good", function()
      answer("good", 600)
      answer("revoked", 600, "revoked")
      local cases = {
        { secure.binding({ cert = store:path("full.pem"), key = store:path("leaf.key") },
          { ocsp = store:path("revoked") }), "the OCSP answer does not call the certificate good" },
      }
      store:write("rsafull.pem", store:read("rsa.pem") .. store:read("ca.pem"))
      cases[2] = { secure.binding({ cert = store:path("rsafull.pem"), key = store:path("rsa.key") },
        { ocsp = store:path("good") }), "the OCSP answer is about another certificate" }
      for _, case in ipairs(cases) do
        local result = server.run({ "serve", store:write("app.lua", secure.FACTS), "--urls",
          "https://127.0.0.1:1", "--set", "tls=" .. case[1] })
        assert.equal(78, result.status)
        assert.truthy(result.stderr:find(case[2], 1, true), result.stderr)
      end
    end)
  end)
end)
