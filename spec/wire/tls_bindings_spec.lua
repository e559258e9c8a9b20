-- Which binding a connection gets, and what a start refuses (DESIGN section 6).
local certs = require("spec.support.certs")
local ports = require("spec.support.ports")
local secure = require("spec.support.secure")
local server = require("spec.support.server")

describe("a TLS binding", function()
  local store
  local made = {}

  setup(function()
    store = certs.new()
    for _, name in ipairs({ "exact", "wild", "any", "local", "localport", "localname", "port",
      "other" }) do
      made[name] = store:make(name, { names = { "a.test" } })
    end
    made.rsa = store:make("rsa", { key = "rsa", names = { "a.test" } })
  end)

  teardown(function()
    store:remove()
  end)

  after_each(server.stop_all)

  describe("is chosen", function()
    local all = {
      exact = { name = "a.test" },
      wild = { name = "*.test" },
      any = {},
      ["local"] = { address = "127.0.0.2" },
      localport = { address = "127.0.0.3", port = "PORT" },
      localname = { address = "127.0.0.3", name = "a.test" },
      port = { name = "p.test", port = "PORT" },
      other = { name = "p.test" },
    }

    local function start(...)
      local texts = {}
      for _, name in ipairs({ ... }) do
        texts[#texts + 1] = secure.binding(made[name], all[name])
      end
      return secure.start({ urls = "https://+:PORT", tls = table.concat(texts, "; ") })
    end

    -- { which are there, address, name asked for, which is shown (nil: none) }
    local sets = {
      { { "any", "wild", "exact", "local", "localport", "localname", "port", "other" }, {
        { "127.0.0.1", "a.test", "exact" },
        { "127.0.0.1", "A.Test", "exact" },
        { "127.0.0.1", "b.test", "wild" },
        { "127.0.0.1", "x.b.test", "any" },
        { "127.0.0.1", "test", "any" },
        { "127.0.0.1", nil, "any" },
        { "127.0.0.1", "p.test", "port" },
        { "127.0.0.2", "a.test", "local" },
        { "127.0.0.2", nil, "local" },
        { "127.0.0.3", "a.test", "localname" },
        { "127.0.0.3", "b.test", "localport" },
        { "127.0.0.3", nil, "localport" },
      } },
      { { "exact", "wild", "local" }, {
        { "127.0.0.1", "a.test", "exact" },
        { "127.0.0.1", "a.a.test", nil },
        { "127.0.0.1", "test", nil },
        { "127.0.0.1", "a.test.b", nil },
        { "127.0.0.1", nil, nil },
        { "127.0.0.2", "a.a.test", "local" },
      } },
    }
    for number, set in ipairs(sets) do
      it(("by address, name, wildcard, any, in this order (%d)"):format(number), function()
        local s = start(table.unpack(set[1]))
        for _, case in ipairs(set[2]) do
          local seen = secure.ask(s, { address = case[1], sni = case[2] })
          local what = ("%s at %s"):format(case[2], case[1])
          assert.equal(case[3], seen.leaf, what)
          if not case[3] then
            assert.equal(112, seen.number, what .. ": " .. seen.text) -- unrecognized_name
          end
        end
      end)
    end

    it("in the order of rank, not of the setting", function()
      for _, order in ipairs({ { "exact", "any" }, { "any", "exact" } }) do
        local s = start(table.unpack(order))
        assert.equal("exact", secure.ask(s, { sni = "a.test" }).leaf)
        assert.equal(0, s:stop())
      end
    end)
  end)

  it("that restricts the port is not for another", function()
    local other = ports.free()
    local s = secure.start({ urls = ("https://127.0.0.1:PORT,https://127.0.0.1:%d"):format(other),
      tls = secure.binding(made.exact, { port = "PORT" }) .. "; "
        .. secure.binding(made.other, { port = tostring(other), name = "b.test" }) .. "; "
        .. secure.binding(made.any, { address = "127.0.0.1", name = "c.test" }) .. "; "
        .. secure.binding(made.port, { port = tostring(other), address = "127.0.0.1" }) })
    assert.equal("exact", secure.ask(s, { sni = "x.test" }).leaf)
    assert.equal("any", secure.ask(s, { sni = "c.test" }).leaf)
    s.port = other
    assert.equal("port", secure.ask(s, { sni = "x.test" }).leaf)
  end)

  it("without a fit tells the client, is counted and told at level debug", function()
    local s = secure.start({ tls = secure.binding(made.exact, { name = "a.test" }),
      urls = "https://a.test:PORT" })
    assert.equal(112, secure.ask(s, { sni = "b.test" }).number)
    s:await('tls_failed [^\n]*message="no binding of the setting tls fits"')
    s:await("connection_closed [^\n]*reason=tls_handshake")
    secure.await_counter(s, "tls_failed", 1)
    local _, reasons = secure.counters(s)
    assert.equal(1, reasons.TLS_Handshake)
    assert.equal(200, secure.ask(s, { sni = "a.test" }).status)
  end)

  it("has versions of its own", function()
    local s = secure.start({ urls = "https://+:PORT", tls = table.concat({
      secure.binding(made.exact, { name = "old.test", max_version = "1.2" }),
      secure.binding(made.wild, { name = "new.test", min_version = "1.3" }),
      secure.binding(made.any) }, ";") })
    local cases = {
      { "old.test", nil, "TLSv1.2" }, { "old.test", "-tls1_2", "TLSv1.2" },
      { "old.test", "-tls1_3", nil }, { "new.test", nil, "TLSv1.3" },
      { "new.test", "-tls1_3", "TLSv1.3" }, { "new.test", "-tls1_2", nil },
      { "both.test", nil, "TLSv1.3" }, { "both.test", "-tls1_2", "TLSv1.2" },
      { "both.test", "-tls1_1", nil },
    }
    for _, case in ipairs(cases) do
      local options = { sni = case[1], case[2] }
      if case[2] == "-tls1_1" then
        table.move({ "-cipher", "DEFAULT@SECLEVEL=0" }, 1, 2, 2, options)
      end
      local seen = secure.ask(s, options)
      local what = ("%s %s"):format(case[1], case[2])
      assert.equal(case[3], seen.json and seen.json.version, what .. seen.text)
      if not case[3] then
        assert.equal(70, seen.number, what) -- protocol_version
      end
    end
  end)

  it("has certificates for keys of several kinds", function()
    local s = secure.start({ tls = ("certificate=%s key=%s certificate=%s key=%s"):format(
      made.rsa.cert, made.rsa.key, made.exact.cert, made.exact.key) })
    for _, version in ipairs({ "-tls1_2", "-tls1_3" }) do
      assert.equal("exact", secure.ask(s, { sni = "a.test", version }).leaf)
      assert.equal("rsa", secure.ask(s, { sni = "a.test", version, "-sigalgs",
        "rsa_pss_rsae_sha256:RSA+SHA256" }).leaf)
    end
  end)

  describe("of an app's own setting", function()
    local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app {
  tls = { { certificate = { %q }, key = %q, name = "a.test" } },
  url_prefixes = { "https://a.test:%d/" },
}
app:get("/listen", function(req)
  return { result = app:listen(req.query.prefix) or false,
    err = select(2, app:listen(req.query.prefix)).message }
end)
app:get("/", function(req) return { host = req.host, addresses = app.addresses } end)
return app]]

    it("serves its prefix, and one that is opened later", function()
      local port, more = ports.free(), ports.free()
      local s = server.start({ app = APP:format(made.exact.cert, made.exact.key, port), bare = true,
        options = { "--workers", "1", "--no-dev", "--access-log", "off" } })
      s.port = port
      local function ask(path, host)
        return secure.ask(s, { sni = "a.test",
          request = secure.request(path, host or "a.test:" .. port) })
      end
      assert.same({ ("https://a.test:%d/"):format(port) }, ask("/").json.addresses)
      local prefix = ("https://a.test:%d/x/"):format(more)
      assert.equal(prefix, ask("/listen?prefix=" .. prefix).json.result)
      local refused = ask(("/listen?prefix=https://b.test:%d/"):format(more)).json
      assert.is_false(refused.result)
      assert.equal(("https://b.test:%d/: no certificate is for it: the setting tls has no binding "
        .. "that fits (name, address, port)"):format(more), refused.err)
      s.port = more
      assert.equal(200, ask("/x/", "a.test").status)
      assert.equal(404, ask("/", "a.test").status)
    end)
  end)

  it("comes from each of several apps, once when several name it", function()
    local text = [[return require("moonquay").app({ tls = { { certificate = %q, key = %q },
      { name = %q, certificate = %q, key = %q } }, url_prefixes = "https://%s:%d/" })]]
    local port = ports.free()
    local function app(name, host)
      return store:write(name .. ".lua", text:format(made.any.cert, made.any.key, host,
        made[name].cert, made[name].key, host, port))
    end
    local s = server.start({ path = app("exact", "a.test"), bare = true,
      options = { app("other", "b.test"), "--workers", "1" } })
    s.port = port
    assert.equal("exact", secure.ask(s, { sni = "a.test" }).leaf)
    assert.equal("other", secure.ask(s, { sni = "b.test" }).leaf)
    assert.equal("any", secure.ask(s, { sni = "c.test" }).leaf)
  end)

  describe("makes a start fail", function()
    -- { what, tls, message behind "moonquay: ", urls }; {name} is the path of a file
    local cases = {
      { "without the certificate's file", "certificate={none} key={exact.key}",
        "tls: binding 1: certificate={none}: cannot be read: No such file or directory" },
      { "without the key's file, in the second binding",
        "certificate={any.pem} key={any.key};certificate={exact.pem} key={none} name=b",
        "tls: binding 2: key={none}: cannot be read: No such file or directory" },
      { "with a folder", "certificate={} key={exact.key}",
        "tls: binding 1: certificate={}: cannot be read: it is no file" },
      { "with an empty file", "certificate={empty} key={exact.key}",
        "tls: binding 1: certificate={empty}: is empty" },
      { "with a key for a certificate", "certificate={exact.key} key={exact.key}",
        'tls: binding 1: certificate={exact.key}: no certificate in it '
          .. '(PEM, "BEGIN CERTIFICATE")' },
      { "with DER", "certificate={der} key={exact.key}",
        "tls: binding 1: certificate={der}: no text in it (PEM)" },
      { "with another certificate's key", "certificate={exact.pem} key={any.key}",
        "tls: binding 1: key={any.key}: it is not the key of the certificate (exact)" },
      { "with a key that is too short", "certificate={weak.pem} key={weak.key}",
        "tls: binding 1: certificate={weak.pem}: ee key too small" },
      { "with two certificates for one kind of key",
        "certificate={exact.pem} key={exact.key} certificate={any.pem} key={any.key}",
        "tls: binding 1: certificate={any.pem}: another certificate of the binding has the same "
          .. "kind of key" },
      { "with what is no OCSP answer",
        "certificate={exact.pem} key={exact.key} ocsp={exact.key}",
        "tls: binding 1: ocsp={exact.key}: no OCSP answer in it (DER)" },
      { "with authorities that are none",
        "certificate={exact.pem} key={exact.key} client_certificate=allow "
          .. "client_authorities={exact.key}",
        'tls: binding 1: client_authorities={exact.key}: no certificate in it '
          .. '(PEM, "BEGIN CERTIFICATE")' },
      { "beside another for the same connections",
        "certificate={exact.pem} key={exact.key} name=A.test address=0.0.0.0;"
          .. "certificate={any.pem} key={any.key} name=a.Test",
        "tls: binding 2: is for the same name, address and port as binding 1" },
      { "with a file that is too large", "certificate={large} key={exact.key}",
        "tls: binding 1: certificate={large}: is larger than 512 KiB" },
      { "with a key of the setting that is none", "certificate={exact.pem}",
        "--set tls: binding 1: key: is missing" },
      { "when it is not for the prefix's name",
        "certificate={exact.pem} key={exact.key} name=a.test",
        "--urls: https://b.test:PORT/: no certificate is for it: the setting tls has no "
          .. "binding that fits (name, address, port)", "https://b.test:PORT" },
      { "when it is not for the prefix's port", "certificate={exact.pem} key={exact.key} port=1",
        "--urls: https://+:PORT/: no certificate is for it", "https://+:PORT" },
      { "when it is for a name and the prefix for an address",
        "certificate={exact.pem} key={exact.key} name=a.test",
        "--urls: https://127.0.0.1:PORT/: no certificate is for it" },
      { "when it is for another address", "certificate={exact.pem} key={exact.key} "
          .. "address=127.0.0.2", "--urls: https://127.0.0.1:PORT/: no certificate is for it" },
      { "when there is none", "", "--urls: https://127.0.0.1:PORT/: no certificate is for it" },
      { "with ticket keys of another size", "certificate={exact.pem} key={exact.key}",
        "session_tickets.keys={short}: 81 bytes: must be 1 to 8 keys of 80 bytes each, the one "
          .. "that seals first", nil, "session_tickets.keys={short}" },
      { "with more ticket keys than it keeps", "certificate={exact.pem} key={exact.key}",
        "session_tickets.keys={nine}: 720 bytes: must be 1 to 8 keys of 80 bytes each, the one "
          .. "that seals first", nil, "session_tickets.keys={nine}" },
      { "without a ticket key", "certificate={exact.pem} key={exact.key}",
        "session_tickets.keys={empty}: 0 bytes: must be 1 to 8 keys", nil,
        "session_tickets.keys={empty}" },
      { "without the file of ticket keys", "certificate={exact.pem} key={exact.key}",
        "session_tickets.keys={none}: cannot be read: No such file or directory", nil,
        "session_tickets.keys={none}" },
    }

    setup(function()
      store:make("weak", { key = "rsa1024" })
      store:write("empty", "")
      store:write("short", ("x"):rep(81))
      store:write("nine", ("x"):rep(9 * 80))
      store:write("large", ("x"):rep((512 << 10) + 1))
      store:write("der", certs.openssl("x509", "-in", made.exact.cert, "-outform", "DER"))
    end)

    for _, case in ipairs(cases) do
      it(case[1], function()
        local port = ports.free()
        local function fill(text)
          return (text:gsub("{(.-)}", function(name)
            return store:path(name)
          end):gsub("PORT", port))
        end
        local words = { "serve", store:write("app.lua", secure.FACTS), "--workers", "1", "--urls",
          fill(case[4] or "https://127.0.0.1:PORT"), "--set", "tls=" .. fill(case[2]) }
        if case[5] then
          table.move({ "--set", fill(case[5]) }, 1, 2, #words + 1, words)
        end
        local result = server.run(words)
        assert.equal(78, result.status, result.stderr)
        local message = result.stderr:match("^moonquay: ([^\n]+)\n$")
        assert.truthy(message, "not one line: " .. result.stderr)
        local start = fill(case[3])
        assert.equal(start, message:sub(1, #start))
        assert.is_false(result.left_behind)
      end)
    end

    it("with more in its files than a worker can be told", function()
      local padded = store:write("padded", store:read("any.pem") .. ("\n"):rep(500 << 10))
      local texts = {}
      for i = 1, 25 do
        texts[i] = secure.binding({ cert = padded, key = made.any.key }, { name = i .. ".test" })
      end
      local result = server.run({ "serve", store:write("app.lua", secure.FACTS), "--urls",
        "https://1.test:" .. ports.free(), "--set", "tls=" .. table.concat(texts, ";") })
      assert.equal(78, result.status)
      assert.matches("\nmoonquay: tls: binding 25: with its files those of all bindings take more "
        .. "than 12 MiB\n$", result.stderr)
    end)

    it("when two apps want different ones for the same connections", function()
      local text = [[return require("moonquay").app { tls = { { certificate = %q, key = %q } },
        url_prefixes = "https://127.0.0.1:%d/%s/" }]]
      local port = ports.free()
      local one = store:write("one.lua", text:format(made.exact.cert, made.exact.key, port, "a"))
      local two = store:write("two.lua", text:format(made.any.cert, made.any.key, port, "b"))
      local result = server.run({ "serve", one, two })
      assert.equal(78, result.status)
      assert.equal("moonquay: tls: binding 2: is for the same name, address and port as "
        .. "binding 1\n", result.stderr)
    end)
  end)

  it("warns of what clients and neighbours will see", function()
    store:make("old", { days = -1, names = { "b.test" } })
    local sys = require("moonquay.probe").sys
    sys.chmod(made.exact.key, "644")
    local s = secure.start({ urls = "https://+:PORT", tls = table.concat({
      secure.binding({ cert = store:path("old.pem"), key = store:path("old.key") },
        { name = "b.test" }),
      secure.binding(made.exact, { name = "c.test" }) }, ";") })
    s:await("warn certificate_time [^\n]*tls: binding 1: certificate=[^\n]*old.pem: the "
      .. "certificate %(old%) expired on %d")
    s:await("warn certificate_name [^\n]*tls: binding 2: certificate=[^\n]*exact.chain: the "
      .. "certificate is not for c.test, the name of the binding")
    s:await("warn key_readable [^\n]*tls: binding 2: key=[^\n]*exact.key: everybody on this "
      .. "machine can read the key")
    sys.chmod(made.exact.key, "600")
    assert.is_nil(s:stderr():find("key_readable [^\n]*old.key"))
    assert.equal("old", secure.ask(s, { sni = "b.test" }).leaf)
  end)
end)
