-- What a handshake agrees on and refuses, and what becomes of those that fail.
local certs = require("spec.support.certs")
local client = require("spec.support.client")
local secure = require("spec.support.secure")
local server = require("spec.support.server")
local timed = require("spec.support.timed")
local tls_peer = require("spec.support.tls_peer")

-- Both ways to the socket: ours, and OpenSSL's, which the kernel's TLS needs.
local WAYS = { ["our BIO"] = {}, ["a socket BIO"] = { MOONQUAY_TLS_SOCKET_BIO = "1" } }

describe("a TLS handshake", function()
  local store, tls

  setup(function()
    store = certs.new()
    tls = secure.binding(store:make("a", { names = { "a.test" } }))
  end)

  teardown(function()
    store:remove()
  end)

  after_each(timed.stop_all)

  -- { words of s_client, what the handler sees, or the number of the alert }
  local offers = {
    { {}, { version = "TLSv1.3", cipher = "TLS_AES_128_GCM_SHA256", group = "X25519",
      sni = "a.test", resumed = false, scheme = "https", client = "127.0.0.1" } },
    { { "-tls1_2" }, { version = "TLSv1.2", cipher = "ECDHE-ECDSA-AES128-GCM-SHA256",
      group = "X25519" } },
    { { "-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256" },
      { cipher = "TLS_AES_128_GCM_SHA256" } },
    { { "-ciphersuites", "TLS_AES_256_GCM_SHA384" }, { cipher = "TLS_AES_256_GCM_SHA384" } },
    { { "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256" },
      { cipher = "TLS_CHACHA20_POLY1305_SHA256" } },
    { { "-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256" },
      { cipher = "TLS_AES_256_GCM_SHA384" } },
    { { "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256" },
      { cipher = "ECDHE-ECDSA-AES128-GCM-SHA256" } },
    { { "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256" },
      { cipher = "ECDHE-ECDSA-CHACHA20-POLY1305" } },
    { { "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA" }, 40 },
    { { "-tls1_2", "-cipher", "AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256" }, 40 },
    { { "-groups", "P-256" }, { group = "P-256" } },
    { { "-groups", "P-384" }, { group = "P-384" } },
    { { "-tls1_2", "-groups", "P-384:P-256" }, { group = "P-256" } },
    { { "-groups", "P-521" }, 40 },
    { { "-alpn", "http/1.1" }, { alpn = "http/1.1" } },
    { { "-alpn", "spdy/3,http/1.1" }, { alpn = "http/1.1" } },
    { { "-alpn", "spdy/3,imap" }, 120 }, -- no_application_protocol
  }

  for way, env in pairs(WAYS) do
    it("takes the best of what is offered, with " .. way, function()
      local s = secure.start({ tls = tls, env = env })
      for _, case in ipairs(offers) do
        local options = table.move(case[1], 1, #case[1], 1, { sni = "a.test" })
        local seen = secure.ask(s, options)
        local what = table.concat(case[1], " ")
        if type(case[2]) == "number" then
          assert.equal(case[2], seen.number, what .. seen.text)
        else
          assert.truthy(seen.json, what .. seen.text)
          for name, value in pairs(case[2]) do
            assert.equal(value, seen.json[name], what)
          end
          assert.is_nil(seen.text:find("unexpected eof", 1, true), "no close_notify")
        end
      end
    end)
  end

  it("names no host and no protocol that the client has not", function()
    local s = secure.start({ tls = tls })
    local seen = secure.ask(s, {}).json
    assert.is_nil(seen.sni)
    assert.is_nil(seen.alpn)
    assert.is_nil(seen.certificate)
  end)

  it("has no compression, no early data and no renegotiation", function()
    local s = secure.start({ tls = tls })
    local seen = secure.ask(s, { sni = "a.test", "-tls1_2" })
    assert.truthy(seen.text:find("Compression: NONE", 1, true))
    seen = secure.ask(s, { sni = "a.test" })
    assert.truthy(seen.text:find("Max Early Data: 0", 1, true), seen.text)
    seen = tls_peer({ port = s.port, renegotiate = true,
      tls = { servername = "a.test", maxVersion = "TLSv1.2" } })
    assert.equal("ERR_SSL_NO_RENEGOTIATION", seen.error)
    assert.is_nil(seen.renegotiated)
    assert.equal(200, secure.ask(s, { sni = "a.test" }).status)
  end)

  it("gives one ticket, in the write of the first answer", function()
    local s = secure.start({ tls = tls })
    local seen = secure.ask(s, { sni = "a.test" })
    assert.equal(1, select(2, seen.text:gsub("Post%-Handshake New Session Ticket arrived", "")))
  end)

  it("comes in any pieces", function()
    local s = secure.start({ tls = tls })
    for _, version in ipairs({ "TLSv1.2", "TLSv1.3" }) do
      local seen = tls_peer({ port = s.port, pieces = 1, tls = { servername = "a.test",
        minVersion = version, maxVersion = version },
        send = { { text = secure.request() } } })
      assert.equal(version, seen.protocol)
      assert.equal(1, seen.answers)
      assert.is_true(seen.ended)
    end
  end)

  it("is nothing that a request without TLS knows", function()
    local s = server.start({ app = secure.FACTS })
    assert.equal('{"tls":false}', s:get("/").body)
  end)

  describe("that fails", function()
    -- The first flight of a client, as far as a server cares.
    local HELLO = "\22\3\1\2\0\1\0\1\252\3\3" .. ("\0"):rep(32)
    local garbage = {
      { "a request without TLS", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" },
      { "a proxy's request", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n" },
      { "zeros", ("\0"):rep(600) },
      { "the bytes of another protocol", "SSH-2.0-OpenSSH_9.2\r\n" .. ("x"):rep(200) },
      { "a hello of SSL 2", "\128\46\1\0\2" .. ("\1"):rep(60) },
      { "a record that is too long", "\22\3\1\255\255" .. ("\1"):rep(20000) },
      { "a message that is too long", "\22\3\1\64\0\1\255\255\255\3\3" .. ("\0"):rep(16380) },
      { "an alert first", "\21\3\1\0\2\2\40" },
      { "application data first", "\23\3\3\0\16" .. ("a"):rep(16) },
      { "a Finished first", "\22\3\3\0\16\20\0\0\12" .. ("f"):rep(12) },
      { "a hello with broken extensions",
        "\22\3\1\0\59\1\0\0\55\3\3" .. ("r"):rep(32)
          .. "\0\0\2\19\1\1\0\0\12\0\0\0\8\0\9\0\0\1a.." },
      { "half a hello, then the end", HELLO, true },
      { "a byte, then the end", "\22", true },
    }
    for way, env in pairs(WAYS) do
      it("leaves the worker alive and is counted, with " .. way, function()
        local s = secure.start({ tls = tls, env = env })
        local worker = s:workers()[1]
        for number, case in ipairs(garbage) do
          local connection = s:connect()
          connection:send(case[2])
          if case[3] then
            connection:half_close()
          end
          local answer = connection:rest()
          assert.is_true(#answer <= 7, case[1]) -- an alert, or nothing
          connection:close()
          secure.await_counter(s, "tls_failed", number)
        end
        local counters, reasons = secure.counters(s)
        assert.equal(0, counters.tls_handshakes)
        assert.equal(#garbage, reasons.TLS_Handshake)
        s:await('tls_failed [^\n]*message="http request"')
        s:await('tls_failed [^\n]*message="the peer left during the handshake"')
        assert.equal(200, secure.ask(s, { sni = "a.test" }).status)
        assert.equal(worker, s:workers()[1])
      end)
    end

    it("is no handshake where nothing was said", function()
      local s = secure.start({ tls = tls })
      for _ = 1, 3 do
        s:connect():close()
      end
      assert.equal(200, secure.ask(s, { sni = "a.test" }).status)
      local connection = s:connect()
      connection:half_close()
      assert.is_true(connection:closed())
      assert.equal(0, secure.counters(s).tls_failed)
    end)

    it("is over after timeouts.header_wait", function()
      for _, bytes in ipairs({ "", HELLO }) do
        local words, dir = timed.words({ "timeouts.header_wait=0.3" })
        local s = timed.watch(secure.start({ tls = tls, options = words }), dir)
        local connection = client.connect("127.0.0.1", s.port)
        connection:send(bytes)
        assert.is_true(connection:closed())
        timed.assert_told(s, "Timer_HeaderWait")
        assert.equal(0, s:stop())
      end
    end)

    it("does not keep a server from stopping", function()
      local s = secure.start({ tls = tls })
      local open = {}
      for i, bytes in ipairs({ "", HELLO, "GET / HTTP/1.1\r\n\r\n" }) do
        open[i] = s:connect()
        open[i]:send(bytes)
      end
      secure.await_counter(s, "tls_failed", 1)
      assert.equal(0, s:stop())
    end)
  end)

  it("is counted", function()
    local s = secure.start({ tls = tls })
    for _ = 1, 3 do
      secure.ask(s, { sni = "a.test" })
    end
    local counters = secure.counters(s)
    assert.equal(3, counters.tls_handshakes)
    assert.equal(0, counters.tls_resumed)
    assert.equal(0, counters.tls_failed)
    assert.equal(0, s:stop())
  end)
end)
