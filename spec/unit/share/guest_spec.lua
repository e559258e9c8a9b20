-- The app's side of a channel: what its handler sees of what a host says.
local client = require("moonquay.probe").h2_client
local guest = require("moonquay.probe").guest
local host = require("moonquay.probe").share.host({}) -- reads and writes descriptors
local certs = require("spec.support.certs")
local origin = require("spec.support.origin")

local function request(facts)
  return { "moonquay-request", origin.request(facts) }
end

local REQUEST = request({ boot = 0x123456789abc, number = 0x1f, base = 4, connection = 77,
  peer = "192.0.2.1:4711", ["local"] = "[2001:db8:0:0:0:0:0:1]:443" })
local GOOD = REQUEST[2]

-- A channel to a new guest.
local function channel(app)
  local self = { app = app or guest.guest() }
  self.session = client.client({ consume = true })
  self.fd = self.app:channel()
  return self
end

local function turn(self)
  for _ = 1, 3 do
    host:write(self.fd, self.session:send())
    self.app:turn()
    local bytes = host:read(self.fd)
    if bytes and bytes ~= "" then
      assert(self.session:receive(bytes))
    end
  end
end

-- The answer to a request with these reserved fields: its status, and what the handler saw.
local function ask(self, call)
  call.path = call.path or "/app/x"
  self.session:call(call)
  turn(self)
  local status, seen = nil, {}
  for _, event in ipairs(self.session:events()) do
    if event[1] == "head" then
      status = event.status
      seen.server = event.fields
    elseif event[1] == "data" then
      for key, value in event.bytes:gmatch("(%w+)=([^\n]*)\n") do
        seen[key] = value
      end
    elseif event[1] == "closed" then
      seen.code = event.code
    end
  end
  return status, seen
end

describe("a request through a channel", function()
  it("is what the client sent to the host", function()
    local status, seen = ask(channel(), { path = "/app/x%20y?q", authority = "example.com",
      fields = { { "x-a", "b" } }, more = { REQUEST } })
    assert.equal(200, status)
    local expected = {
      id = "123456789abc-1f", protocol = "HTTP/1.1", target = "/app/x%20y?q", base = "/app",
      path = "/x y", scheme = "http", host = "example.com", peer = "192.0.2.1:4711",
      client = "192.0.2.1:4711", ["local"] = "[2001:db8::1]:443", connection = "77", fields = "1",
    }
    for key, value in pairs(expected) do
      assert.equal(value, seen[key], key)
    end
    assert.is_nil(seen.version)
  end)

  it("brings no date and no name of a server: the host adds them", function()
    local _, seen = ask(channel(), { more = { REQUEST } })
    for _, field in ipairs(seen.server) do
      assert.is_nil(({ date = true, server = true })[field[1]], field[1])
    end
  end)

  for text, protocol in pairs({ ["1.0"] = "HTTP/1.0", ["1.1"] = "HTTP/1.1", ["2"] = "HTTP/2" }) do
    it("has the client's version: " .. protocol, function()
      local _, seen = ask(channel(), { more = { request({ version = text }) } })
      assert.equal(protocol, seen.protocol)
      assert.equal("-", seen.peer)
    end)
  end

  it("has what trusted proxies said", function()
    local _, seen = ask(channel(), { authority = "inner", more = { REQUEST,
      { "moonquay-client", "198.51.100.7:0 https shop.example" } } })
    assert.equal("198.51.100.7:0", seen.client)
    assert.equal("https", seen.scheme)
    assert.equal("shop.example", seen.host)
    assert.equal("192.0.2.1:4711", seen.peer)
    _, seen = ask(channel(), { authority = "inner", more = { REQUEST,
      { "moonquay-client", "198.51.100.7:0 - -" } } })
    assert.equal("http", seen.scheme)
    assert.equal("inner", seen.host)
  end)

  it("has the target as it was, where :path cannot carry it", function()
    local _, seen = ask(channel(), { path = "/", more = { { "moonquay-target", "http://h/app/z" },
      REQUEST } })
    assert.equal("http://h/app/z", seen.target)
    assert.equal("/z", seen.path)
  end)

  it("looks for its path base among the app's own prefixes when the host knows none", function()
    local more = { request({ base = false, peer = "127.0.0.1:1", ["local"] = "127.0.0.1:80" }) }
    local _, seen = ask(channel(), { path = "/app/x", authority = "own", more = more })
    assert.same({ "/app", "/x" }, { seen.base, seen.path })
    _, seen = ask(channel(), { path = "/app/x", authority = "other", more = more })
    assert.same({ "", "/app/x" }, { seen.base, seen.path })
  end)

  it("has the facts of the client's TLS", function()
    local _, seen = ask(channel(), { more = { REQUEST,
      { "moonquay-tls", "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 shop.example h2 1" } } })
    assert.equal("https", seen.scheme)
    assert.same({ "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", "shop.example", "h2", "yes" },
      { seen.version, seen.cipher, seen.group, seen.sni, seen.alpn, seen.resumed })
    assert.is_nil(seen.subject)
    _, seen = ask(channel(), { more = { REQUEST, { "moonquay-tls", "TLSv1.2 C - - - 0" } } })
    assert.same({ "", "", "", "no" }, { seen.group, seen.sni, seen.alpn, seen.resumed })
  end)

  it("has the client's certificate, and what the host thinks of it", function()
    local store = certs.new()
    store:make("c", {})
    local der = store:read("c.pem"):match("CERTIFICATE%-+\n(.-)\n%-%-"):gsub("\n", "")
    store:remove()
    for verification, verified in pairs({ ok = "yes", ["certificate%20has%20expired"] = "no" }) do
      local _, seen = ask(channel(), { more = { REQUEST, { "moonquay-tls", "TLSv1.3 C - - - 0" },
        { "moonquay-certificate", verification .. " " .. der } } })
      assert.truthy(seen.subject:find("CN="))
      assert.equal((verification:gsub("%%20", " ")), seen.verification)
      assert.equal(verified, seen.verified)
    end
  end)

  -- What no host says.
  for name, more in pairs({
    ["without what it must have"] = {},
    ["with nothing to say"] = { { "moonquay-request", "" } },
    ["with words"] = { { "moonquay-request", "abc-1 4 77 192.0.2.1:4711 - 1.1" } },
    ["with too many bytes"] = { { "moonquay-request", GOOD .. "\xff" } },
    ["with another end"] = { { "moonquay-request", GOOD:sub(1, -2) .. "\xfe" } },
    ["with a base behind the path"] = { request({ base = 99 }) },
    ["with an address of no family"] = { { "moonquay-request", GOOD:sub(1, 33) .. "\4\0\xff" } },
    ["of an unknown version"] = { { "moonquay-request", "\x83" .. GOOD:sub(2) } },
    ["without a mark"] = { { "moonquay-request", "\1" .. GOOD:sub(2) } },
    ["with a name of tomorrow"] = { REQUEST, { "moonquay-more", "x" } },
    ["with half a client"] = { REQUEST, { "moonquay-client", "1.2.3.4:5" } },
    ["with half of TLS"] = { REQUEST, { "moonquay-tls", "TLSv1.3" } },
    ["with a certificate that is none"] = { REQUEST, { "moonquay-tls", "T C - - - 0" },
      { "moonquay-certificate", "ok !!!!" } },
    ["with a broken target"] = { REQUEST, { "moonquay-target", "http://" } },
  }) do
    it("is refused " .. name, function()
      assert.equal(502, (ask(channel(), { more = more })))
    end)
  end

  it("is refused wherever its bytes are cut off", function()
    for len = 0, #GOOD - 1 do
      assert.equal(502, (ask(channel(), { more = { { "moonquay-request", GOOD:sub(1, len) } } })),
        len)
    end
  end)

  it("has facts of any bytes", function()
    local _, seen = ask(channel(), { more = { request({ boot = 0x0a0d00202009, base = 0,
      number = 0x20200a0d, peer = "32.9.10.13:2570", ["local"] = "0.0.0.32:8224" }) } })
    assert.same({ "0a0d00202009-20200a0d", "32.9.10.13:2570", "0.0.0.32:8224" },
      { seen.id, seen.peer, seen["local"] })
  end)

  it("from a socket without addresses says so", function()
    local _, seen = ask(channel(), { more = { request({ peer = "unix" }) } })
    assert.same({ "unix", "-" }, { seen.peer, seen["local"] })
  end)
end)

describe("a channel", function()
  it("is no client's connection", function()
    local self = channel()
    assert.equal(200, (ask(self, { more = { REQUEST } })))
    assert.same({ channels = 1, clients = 0, drained = false }, self.app:state())
  end)

  it("ends when the host does", function()
    local self = channel()
    ask(self, { more = { REQUEST } })
    host:close(self.fd)
    self.app:turn()
    assert.equal(0, self.app:state().channels)
  end)

  -- What is on its way is not lost: the host hears of the end before it is one.
  it("says that the app leaves, and serves what was on its way", function()
    local self = channel()
    ask(self, { more = { REQUEST } })
    self.app:drain()
    self.app:turn()
    assert.is_false(self.app:state().drained)
    assert.equal(200, (ask(self, { method = "DELETE", more = { REQUEST } })))
    assert.is_false(self.session:state().room) -- the host begins nothing new
    host:close(self.fd)
    self.app:turn()
    assert.is_true(self.app:state().drained)
  end)
end)
