-- Messages over TLS: large ones both ways, in awkward pieces, and how connections end.
local certs = require("spec.support.certs")
local h2 = require("spec.support.h2_frames")
local secure = require("spec.support.secure")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local tls_peer = require("spec.support.tls_peer")

local WAYS = { ["our BIO"] = {}, ["a socket BIO"] = { MOONQUAY_TLS_SOCKET_BIO = "1" } }

-- Answers with the content as it comes; with n bytes; in n pieces; without a length; broken off.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app {}
app:post("/echo", function(req, res)
  res.headers["Content-Length"] = req.headers["content-length"]
  for piece in req.body:chunks() do
    assert(res:write(piece))
  end
end)
app:post("/whole", function(req) return assert(req.body:read("a", 1 << 26)) end)
app:get("/bytes", function(req)
  return (("0123456789abcdef"):rep(tonumber(req.query.n) // 16))
end)
app:get("/pieces", function(req, res)
  for i = 1, tonumber(req.query.n) do
    assert(res:write(("%05d"):format(i)))
    if i % 100 == 0 then res:flush() end
  end
end)
app:get("/break", function(req, res)
  res:write("some")
  res:flush()
  req:abort()
end)
app:get("/small", function(req) return { ip = req.client.ip, peer = req.peer.ip,
  version = req.tls.version, scheme = req.scheme } end)
app:get("/last", function(_, res) res:close_connection() return "last" end)
app:post("/blocking", function(req)
  local text = {}
  table.sort({ 1, 2 }, function(a, b)
    text[#text + 1] = req.body:read("a", 1 << 26)
    return a < b
  end)
  return table.concat(text)
end)
return app]]

local LIMITS = { "max_request_body_size=64MiB", "cpu_limit=off" }

describe("a message over TLS", function()
  local store, tls

  setup(function()
    store = certs.new()
    tls = secure.binding(store:make("a", { names = { "a.test" } }))
  end)

  teardown(function()
    store:remove()
  end)

  after_each(server.stop_all)

  local function start(env, more)
    return secure.start({ app = APP, tls = tls, env = env, set = table.move(more or {}, 1,
      #(more or {}), #LIMITS + 1, table.move(LIMITS, 1, #LIMITS, 1, {})) })
  end

  local function post(path, length)
    return { { text = ("POST %s HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n"
      .. "Connection: close\r\n\r\n"):format(path, length) }, { fill = length } }
  end

  local function versions(version)
    return { servername = "a.test", minVersion = version, maxVersion = version }
  end

  for way, env in pairs(WAYS) do
    describe("with " .. way, function()
      -- { bytes of content, bytes that pass at a time (nil: as they come) }
      local sizes = { { 0 }, { 1 }, { 16384 }, { 16385, 1 }, { 30000, 7 }, { 300000, 1021 },
        { 1 << 20, 5000 }, { 20 << 20 } }
      for _, path in ipairs({ "/echo", "/whole" }) do
        it("arrives as it was sent: " .. path, function()
          local s = start(env)
          for _, size in ipairs(sizes) do
            for _, version in ipairs({ "TLSv1.2", "TLSv1.3" }) do
              local seen = tls_peer({ port = s.port, pieces = size[2], send = post(path, size[1]),
                tls = versions(version) })
              local what = ("%d bytes, by %s, %s"):format(size[1], size[2], version)
              assert.equal(1, seen.answers, what)
              assert.equal(size[1], seen.body_length, what)
              assert.equal(size[1] > 0 and seen.sent or seen.received, seen.received, what)
              assert.is_true(seen.ended, what)
            end
          end
          assert.equal(0, s:stop())
        end)
      end

      it("waits for a client that does not read", function()
        local s = start(env)
        local seen = tls_peer({ port = s.port, slow = true,
          send = { { text = secure.request("/bytes?n=" .. (32 << 20)) } } })
        assert.equal(32 << 20, seen.body_length)
        assert.is_true(seen.ended)
      end)

      it("is one of many that come at once", function()
        local s = start(env)
        local small = "GET /bytes?n=160 HTTP/1.1\r\nHost: a.test\r\n\r\n"
        for _, pieces in ipairs({ false, 1000 }) do
          local seen = tls_peer({ port = s.port, pieces = pieces or nil,
            send = { { text = small, times = 2000 }, { text = secure.request("/bytes?n=160") } } })
          assert.equal(2001, seen.answers)
          assert.is_true(seen.ended)
        end
      end)

      it("is written piece by piece", function()
        local s = start(env)
        local seen = tls_peer({ port = s.port,
          send = { { text = secure.request("/pieces?n=20000") } } })
        assert.equal(1, seen.answers)
        assert.is_true(seen.ended)
        assert.is_true(seen.body_length > 100000)
      end)

      it("is seen to be broken off", function()
        local s = start(env)
        local seen = secure.ask(s, { sni = "a.test", request = secure.request("/break") })
        assert.equal(200, seen.status)
        assert.truthy(seen.text:find("read:errno=104", 1, true), seen.text) -- ECONNRESET
      end)

      it("is read where a handler cannot wait", function()
        local s = start(env)
        for _, pieces in ipairs({ false, 3000 }) do
          local seen = tls_peer({ port = s.port, pieces = pieces or nil,
            send = post("/blocking", 200000) })
          assert.equal(200000, seen.body_length, seen.body)
          assert.equal(seen.sent, seen.received)
        end
      end)

      it("ends with the connection's own end", function()
        local s = start(env)
        -- By the request, by its version, and by the client, which gets its answer all the same.
        -- The last one's client may be sending on, and is waited for.
        local closing = { secure.request("/small"), "GET /small HTTP/1.0\r\n\r\n",
          "GET /last HTTP/1.1\r\nHost: a.test\r\n\r\n" }
        for _, request in ipairs(closing) do
          local seen = secure.ask(s, { sni = "a.test", request = request })
          assert.equal(200, seen.status)
          assert.is_nil(seen.text:find("unexpected eof", 1, true), seen.text)
        end
        local session = secure.open(s, { sni = "a.test" })
        session:send("GET /small HTTP/1.1\r\nHost: a.test\r\n\r\n"):read_until("}")
        session:close()
        s:await("connection_closed [^\n]*reason=peer_closed")
        assert.equal(0, s:stop())
      end)

      it("is answered on a kept connection while the server stops", function()
        local s = start(env)
        local session = secure.open(s, { sni = "a.test" })
        session:send("GET /small HTTP/1.1\r\nHost: a.test\r\n\r\n"):read_until("}")
        s:signal("TERM")
        assert.is_nil(session:ended():find("unexpected eof", 1, true))
        assert.same({ exit = 0 }, s:wait(15))
        assert.equal(0, s:stop())
      end)
    end)
  end

  describe("behind a PROXY header", function()
    local V1 = "PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n"
    local V2 = "\13\10\13\10\0\13\10QUIT\10\33\17\0\12\192\0\2\9\192\0\2\1\19\136\1\187"
    local LOCAL = "\13\10\13\10\0\13\10QUIT\10\32\0\0\0"
    local cases = {
      { "version 1", V1, "192.0.2.7" }, { "version 2", V2, "192.0.2.9" },
      { "of a proxy's own", LOCAL, "127.0.0.1" }, { "that is not there", "", "127.0.0.1" },
    }
    for _, case in ipairs(cases) do
      it("has the client's address: " .. case[1], function()
        local s = start(nil, { "trusted_proxies=127.0.0.1" })
        for _, way in ipairs({ { joined = true }, { joined = false }, { pieces = 1 } }) do
          local seen = tls_peer({ port = s.port, prefix = case[2], joined = way.joined,
            pieces = way.pieces, send = { { text = secure.request("/small") } } })
          assert.equal(1, seen.answers)
          assert.truthy(seen.body:find(('"ip":"%s"'):format(case[3]), 1, true), seen.body)
          assert.truthy(seen.body:find('"scheme":"https"', 1, true))
        end
      end)
    end

    it("has it over HTTP/2, too", function()
      local s = start(nil, { "trusted_proxies=127.0.0.1" })
      local request = h2.PREFACE .. h2.settings({}) .. h2.request(1, { [":scheme"] = "https",
        [":path"] = "/small" }) .. h2.goaway(0, "NO_ERROR")
      for _, case in ipairs(cases) do
        for _, way in ipairs({ { joined = true }, { joined = false }, { pieces = 1 } }) do
          local seen = tls_peer({ port = s.port, prefix = case[2], joined = way.joined,
            pieces = way.pieces, send = { { text = request } },
            tls = { ALPNProtocols = { "h2", "http/1.1" } } })
          assert.equal("h2", seen.alpn, case[1])
          assert.truthy(seen.head:find(('"ip":"%s"'):format(case[3]), 1, true), seen.head)
          assert.truthy(seen.head:find('"scheme":"https"', 1, true), case[1])
        end
      end
    end)

    it("goes on where nobody is trusted as what it is, no TLS", function()
      local s = start()
      local connection = s:connect()
      connection:send(V1)
      connection:rest()
      secure.await_counter(s, "tls_failed", 1)
    end)

    it("is awaited before the handshake", function()
      local s = start(nil, { "trusted_proxies=127.0.0.1" })
      local connection = s:connect()
      connection:send("PROXY TCP4 nonsense\r\n")
      assert.is_true(connection:closed())
      assert.equal(0, secure.counters(s).tls_failed)
      assert.equal(1, select(2, secure.counters(s)).ProxyHeader)
    end)
  end)

  it("leaves no descriptor and no worker behind when clients break off", function()
    local s = start()
    local worker = s:workers()[1]
    local function descriptors()
      return #sys.list(("/proc/%d/fd"):format(worker))
    end
    local before = descriptors()
    for _ = 1, 20 do
      local session = secure.open(s, { sni = "a.test" })
      session:send("GET /bytes?n=" .. (8 << 20) .. " HTTP/1.1\r\nHost: a.test\r\n\r\n")
      session:read_until("Content%-Length")
      session:close()
    end
    require("spec.support.await")("the descriptors of before", function()
      return descriptors() == before
    end)
    assert.equal(worker, s:workers()[1])
    assert.equal(0, s:stop())
  end)
end)
