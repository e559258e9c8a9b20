local socket = require("socket")

local await = require("spec.support.await")
local client = require("spec.support.client")
local json = require("moonquay.probe").form.json
local peer = require("spec.support.peer")
local pieces = require("spec.support.pieces")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")
local wire = require("spec.support.wire")

local APP = [[
local checks = {}
return function(req)
  if req.path == "/check" then
    checks[#checks + 1] = req.client.ip .. " " .. req.peer.ip
    return "checked"
  elseif req.path == "/checks" then
    return table.concat(checks, ",")
  end
  return {
    client = req.client.ip, port = req.client.port, peer = req.peer.ip,
    scheme = req.scheme, host = req.host, path = req.path,
  }
end
]]

local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"
local IP4 = string.pack(">c4c4I2I2", "\192\0\2\1", "\10\0\0\2", 56324, 443)
local IP6 = string.pack(">c16c16I2I2", "\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\1",
  "\xfd" .. ("\0"):rep(14) .. "\2", 4711, 443)

local function v1(line)
  return "PROXY " .. line .. "\r\n"
end

local function v2(command, family, block)
  return SIGNATURE .. string.pack(">BBs2", command, family, block)
end

local function get(lines, path)
  return ("GET %s HTTP/1.1\r\nHost: h.example\r\n%s\r\n"):format(path or "/", lines or "")
end

local function start(trusted, ...)
  return server.start({ app = APP, options = { "--set", "trusted_proxies=" .. trusted, ... } })
end

-- What the app says of a request over a new connection; the bytes go out in pieces of size.
local function seen(s, bytes, size)
  local connection = s:connect()
  wire.send(connection, bytes, size)
  local response = connection:response()
  connection:close()
  assert.equal(200, response.status, response.body)
  return json.decode(response.body)
end

-- Sends pieces until the server has closed, which may be before the last.
local function send_some(connection, bytes, size)
  for _, piece in ipairs(pieces(bytes, size or #bytes)) do
    if not pcall(connection.send, connection, piece) then
      break
    end
  end
end

local function says(address, port, scheme, host)
  return { client = address, port = port, scheme = scheme or "http", host = host or "h.example" }
end

-- Compares what the expectation names; the peer is always the socket's.
local function assert_seen(expected, got)
  expected.peer = expected.peer or "127.0.0.1"
  for name, value in pairs(expected) do
    assert.equal(value, got[name], name)
  end
end

describe("A trusted peer", function()
  local s
  setup(function()
    s = start("127.0.0.1")
  end)
  teardown(function()
    s:stop()
  end)

  describe("with a PROXY header", function()
    local headers = {
      { "of version 1 for IPv4", v1("TCP4 192.0.2.1 10.0.0.2 56324 443"), "192.0.2.1", 56324 },
      { "of version 1 for IPv6", v1("TCP6 2001:db8::1 fd00::2 4711 443"), "2001:db8::1", 4711 },
      { "of version 1 for nobody known", v1("UNKNOWN"), "127.0.0.1" },
      { "of version 1 for nobody known, with addresses", v1("UNKNOWN ::1 ::1 1 2"), "127.0.0.1" },
      { "of version 2 for IPv4", v2(0x21, 0x11, IP4), "192.0.2.1", 56324 },
      { "of version 2 for IPv6", v2(0x21, 0x21, IP6), "2001:db8::1", 4711 },
      { "of version 2 with vectors", v2(0x21, 0x11, IP4 .. "\1\0\2h2\4\0\1\0"),
        "192.0.2.1", 56324 },
      { "of version 2 as long as allowed",
        v2(0x21, 0x11, IP4 .. string.pack(">Bs2", 4, ("\0"):rep(4096 - 12 - 3))),
        "192.0.2.1", 56324 },
      { "of version 2 for itself", v2(0x20, 0x00, ""), "127.0.0.1" },
      { "of version 2 for itself, with addresses", v2(0x20, 0x11, IP4), "127.0.0.1" },
    }
    for _, case in ipairs(headers) do
      wire.each_way(it, "is told from the client: " .. case[1], function(size)
        assert_seen(says(case[3], case[4]), seen(s, case[2] .. get(), size))
      end)
    end

    it("may send it and nothing else for a while", function()
      local connection = s:connect()
      connection:send(v1("TCP4 192.0.2.1 10.0.0.2 56324 443"))
      assert.equal("checked", s:get("/check").body) -- the server has had a turn meanwhile
      connection:send(get())
      assert_seen(says("192.0.2.1", 56324), json.decode(connection:response().body))
      connection:close()
    end)

    it("speaks for the same client in every request of the connection", function()
      local connection = s:connect()
      connection:send(v2(0x21, 0x11, IP4), get(), get(), get())
      for _ = 1, 3 do
        assert_seen(says("192.0.2.1", 56324), json.decode(connection:response().body))
      end
      connection:close()
    end)

    wire.each_way(it, "may have requests close behind it", function(size)
      local connection = s:connect()
      wire.send(connection, v1("TCP4 192.0.2.1 10.0.0.2 56324 443") .. get(nil, "/a")
        .. get(nil, "/b"), size)
      for _, path in ipairs({ "/a", "/b" }) do
        local seen_now = json.decode(connection:response().body)
        assert_seen(says("192.0.2.1", 56324), seen_now)
        assert.equal(path, seen_now.path)
      end
      connection:close()
    end)

    it("may leave without a request", function()
      local connection = s:connect()
      connection:send(v2(0x20, 0x00, ""))
      connection:half_close()
      assert.is_true((connection:closed()))
      connection:close()
    end)

    it("sends no second one", function()
      for _, header in ipairs({ v1("UNKNOWN"), v2(0x20, 0x00, "") }) do
        local got = wire.converse(s, header .. header .. get())
        assert.matches("^HTTP/1.1 400 ", got)
      end
    end)

    it("is believed only as far as the client that it named", function()
      local header = v1("TCP4 192.0.2.1 10.0.0.2 56324 443")
      assert_seen(says("192.0.2.1", 56324),
        seen(s, header .. get("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n")))
      assert_seen(says("192.0.2.1", 56324),
        seen(s, header .. get("X-Forwarded-For: 6.6.6.6\r\nForwarded: for=7.7.7.7\r\n")))
    end)

    it("passes on what a trusted client says", function()
      local header = v1("TCP4 127.0.0.1 10.0.0.2 56324 443")
      assert_seen(says("192.0.2.7", nil, "https"),
        seen(s, header .. get("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n")))
    end)
  end)

  describe("without a PROXY header", function()
    wire.each_way(it, "is its own client", function(size)
      assert_seen(says("127.0.0.1"), seen(s, get(), size))
    end)

    wire.each_way(it, "may begin with empty lines", function(size)
      assert_seen(says("127.0.0.1"), seen(s, "\r\n\r\n" .. get(), size))
    end)

    wire.each_way(it, "may begin as PROXY does", function(size)
      local connection = s:connect()
      wire.send(connection, "PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n", size)
      assert.equal(200, connection:response().status)
      connection:close()
    end)
  end)

  local malformed = {
    { "another protocol", v1("UDP4 1.2.3.4 5.6.7.8 1 2"),
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "an address of another family", v1("TCP4 ::1 5.6.7.8 1 2"),
      "a PROXY v1 address that is none of its family" },
    { "a port above 65535", v1("TCP4 1.2.3.4 5.6.7.8 1 65536"),
      "a malformed port in a PROXY v1 line" },
    { "a line too long", "PROXY UNKNOWN " .. ("x"):rep(200),
      "a PROXY v1 line longer than 107 bytes" },
    { "a bare LF", "PROXY UNKNOWN\n", "a byte in a PROXY v1 line that is no printable ASCII" },
    { "another version", v2(0x31, 0x11, IP4),
      "a PROXY version other than 2 behind the signature of 2" },
    { "another command", v2(0x2F, 0x11, IP4), "a PROXY v2 command other than LOCAL and PROXY" },
    { "no room for its addresses", v2(0x21, 0x21, IP4),
      "a PROXY v2 header shorter than its addresses" },
    { "a vector cut short", v2(0x21, 0x11, IP4 .. "\1\0\3h2"),
      "a PROXY v2 vector longer than its header" },
    { "a wrong checksum", v2(0x21, 0x11, IP4 .. "\3\0\4\0\0\0\0"),
      "a PROXY v2 header whose checksum is wrong" },
    { "more than is allowed", SIGNATURE .. "\x21\x11\xff\xff",
      "a PROXY v2 header longer than 4112 bytes" },
  }
  for _, case in ipairs(malformed) do
    local title = "is dropped, with a line that says why, for a PROXY header with " .. case[1]
    wire.each_way(it, title, function(size)
      local own = start("127.0.0.1")
      local connection = own:connect()
      send_some(connection, case[2], size)
      assert.equal("", (connection:rest()))
      connection:close()
      own:await((case[3]:gsub("%p", "%%%0")))
      own:stop()
    end)
  end

  describe("with fields of proxies", function()
    local rows = {
      { "Forwarded: for=192.0.2.7", "192.0.2.7" },
      { 'Forwarded: for="192.0.2.7:4711";proto=https;host="shop.example:8443"', "192.0.2.7", 4711,
        "https", "shop.example:8443" },
      { 'Forwarded: for="[2001:db8::7]:4711";proto=HTTPS', "2001:db8::7", 4711, "https" },
      { "Forwarded: for=6.6.6.6;proto=https, for=192.0.2.7;proto=http", "192.0.2.7", nil, "http" },
      { "Forwarded: for=192.0.2.7;proto=https, for=127.0.0.1;proto=http", "192.0.2.7", nil,
        "https" },
      { "Forwarded: for=192.0.2.7\r\nForwarded: for=127.0.0.1", "192.0.2.7" },
      { "Forwarded: for=_hidden;proto=https", "127.0.0.1", nil, "https" },
      { "Forwarded: for=unknown", "127.0.0.1" },
      { "X-Forwarded-For: 192.0.2.7", "192.0.2.7" },
      { "X-Forwarded-For: 6.6.6.6, 192.0.2.7:4711, 127.0.0.1", "192.0.2.7", 4711 },
      { "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 2001:db8::7", "2001:db8::7" },
      { "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example",
        "192.0.2.7", nil, "https", "shop.example" },
      { "X-Forwarded-Proto: http, https", "127.0.0.1", nil, "https" },
      { "X-Forwarded-Host: evil, shop.example", "127.0.0.1", nil, "http", "shop.example" },
    }
    for _, row in ipairs(rows) do
      it("speaks for another: " .. row[1]:gsub("\r\n", " | "), function()
        assert_seen(says(row[2], row[3], row[4], row[5]), seen(s, get(row[1] .. "\r\n")))
      end)
    end

    it("speaks for another in each request anew", function()
      local connection = s:connect()
      connection:send(get("X-Forwarded-For: 192.0.2.7\r\n"), get(),
        get("X-Forwarded-For: 192.0.2.8\r\nX-Forwarded-Proto: https\r\n"), get())
      for _, expected in ipairs({ says("192.0.2.7"), says("127.0.0.1"),
        says("192.0.2.8", nil, "https"), says("127.0.0.1") }) do
        assert_seen(expected, json.decode(connection:response().body))
      end
      connection:close()
    end)

    local bad = {
      { "Forwarded: for=192.0.2.7\r\nX-Forwarded-Proto: https",
        "both Forwarded and X-Forwarded fields" },
      { "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7",
        "both Forwarded and X-Forwarded fields" },
      { "Forwarded: proto=https\r\nX-Forwarded-Host: shop.example",
        "both Forwarded and X-Forwarded fields" },
      { "X-Forwarded-For:\r\nForwarded: for=192.0.2.7", "both Forwarded and X-Forwarded fields" },
      { "Forwarded: for", "an element of Forwarded that is no name=value" },
      { 'Forwarded: for="6.6.6.6, for=192.0.2.7', "a malformed value in Forwarded" },
      { "Forwarded: for=localhost", "a malformed node in Forwarded" },
      { "X-Forwarded-For: localhost", "a malformed address in X-Forwarded-For" },
      { "X-Forwarded-Proto: ftp", "X-Forwarded-Proto is neither http nor https" },
      { "X-Forwarded-Host: a/b", "a malformed X-Forwarded-Host" },
      { "X-Forwarded-For: " .. ("10.0.0.1,"):rep(33), "more than 32 hops of proxies" },
    }
    for _, row in ipairs(bad) do
      it("is refused: " .. row[1]:sub(1, 40), function()
        local got, how = wire.converse(s, get(row[1] .. "\r\n") .. get())
        assert.matches("^HTTP/1.1 400 Bad Request\r\n", got)
        assert.is_truthy(got:find(row[2], 1, true), got)
        assert.is_nil(got:find("HTTP/1.1 200", 1, true))
        assert.equal("closed", how)
        s:await((row[2]:gsub("%p", "%%%0")) .. "[^\n]* status=400 reason=Header ")
      end)
    end
  end)
end)

describe("A peer that is not trusted", function()
  local s
  setup(function()
    s = start("10.0.0.0/8")
  end)
  teardown(function()
    s:stop()
  end)

  it("is its own client", function()
    assert_seen(says("127.0.0.1"), seen(s, get()))
  end)

  for title, header in pairs({
    ["of version 1"] = v1("TCP4 10.0.0.1 10.0.0.2 56324 443"),
    ["of version 2"] = v2(0x21, 0x11, IP4),
    ["of version 2 for itself"] = v2(0x20, 0x00, ""),
  }) do
    wire.each_way(it, "is refused with a PROXY header " .. title, function(size)
      local connection = s:connect()
      send_some(connection, header, size)
      local response = connection:response()
      assert.equal(400, response.status)
      assert.equal("", (connection:rest()))
      connection:close()
    end)
  end

  for _, lines in ipairs({ "Forwarded: for=192.0.2.7;proto=https;host=x",
    "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: x",
    "Forwarded: \"", "X-Forwarded-For: x", "X-Forwarded-Proto: ftp",
    "Forwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7" }) do
    it("speaks for nobody else: " .. lines:gsub("\r\n", " | "), function()
      assert_seen(says("127.0.0.1"), seen(s, get(lines .. "\r\n")))
    end)
  end
end)

describe("A proxy", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local header = v1("TCP4 192.0.2.1 10.0.0.2 56324 443")
  local cases = {
    { "in its header", header .. get("", "/base/"), header .. get("", "/none"),
      "192.0.2.1", "192.0.2.1 56324 10.0.0.2 443" },
    { "in a field", get("X-Forwarded-For: 192.0.2.7:81\r\n", "/base/"),
      get("X-Forwarded-For: 192.0.2.7:81\r\n", "/none"), "192.0.2.7",
      "192.0.2.7 81 127.0.0.1 PORT" },
    { "in both", header:gsub("192.0.2.1", "127.0.0.9") .. get("Forwarded: for=192.0.2.7\r\n",
      "/base/"), header:gsub("192.0.2.1", "127.0.0.9") .. get("Forwarded: for=192.0.2.7\r\n",
      "/none"), "192.0.2.7", "192.0.2.7 - 10.0.0.2 443" },
  }
  for _, case in ipairs(cases) do
    it("is in no log where the client is, named " .. case[1], function()
      local s = start("127.0.0.0/8", "--access-log", dir.path .. "/access.log", "--set",
        "http_error_log=" .. dir.path .. "/http.log", "--urls", "http://127.0.0.1:0/base")
      for i, status in ipairs({ 200, 404 }) do
        local connection = s:connect()
        connection:send(case[i + 1])
        assert.equal(status, connection:response().status)
        connection:close()
      end
      local port = s.port
      s:await("request_refused [^\n]* peer=" .. case[4]:gsub("%p", "%%%0"))
      assert.equal(0, s:stop())
      local count = 0
      for ip, target in dir:read("access.log"):gmatch("([^ \n]+) %- [^\n]-\"GET ([^ ]+)") do
        assert.equal(case[4], ip)
        assert.equal(count == 0 and "/base/" or "/none", target)
        count = count + 1
      end
      assert.equal(2, count)
      local line = dir:read("http.log"):match("\n(%d[^\n]*)\n$")
      assert.equal((case[5]:gsub("PORT", port)), line:match("^%S+ %S+ (%S+ %S+ %S+ %S+) HTTP/1.1"))
    end)
  end

  for title, bytes in pairs({
    ["sends nothing"] = "",
    ["stops inside a header of version 1"] = header:sub(1, -2),
    ["stops inside a header of version 2"] = v2(0x21, 0x11, IP4):sub(1, -2),
    ["stops inside the signature of version 2"] = SIGNATURE:sub(1, 11),
    ["stops behind its header"] = header,
    ["stops inside the head of a request"] = header .. "GET / HTTP/1.1\r\n",
  }) do
    it("is dropped after timeouts.header_wait when it " .. title, function()
      local s = start("127.0.0.1", "--log-level", "debug", "--set", "timeouts.header_wait=0.2",
        "--set", "http_error_log=" .. dir.path .. "/http.log")
      local connection = s:connect()
      connection:send(bytes)
      assert.is_true((connection:closed()))
      s:await("connection_closed [^\n]*reason=Timer_HeaderWait ")
      assert.equal(0, s:stop())
      local client_ip = bytes:sub(1, #header) == header and "192.0.2.1" or "127.0.0.1"
      local line = dir:read("http.log"):match("\n(%d[^\n]*)\n$")
      assert.equal(client_ip, line:match("^%S+ %S+ (%S+) "))
      assert.truthy(line:find(" - - Timer_HeaderWait ", 1, true), line)
    end)
  end

  describe("is served by its own connection's address, not by what its header says:", function()
    for title, row in pairs({
      ["any address"] = { header, "127.0.0.1", "/any/", 200 },
      ["any address, another one"] = { header, "127.0.0.3", "/any/", 200 },
      ["any address of the family"] = { v1("TCP6 2001:db8::1 fd00::2 4711 443"), "127.0.0.1",
        "/any/", 200 },
      ["any address, for itself"] = { v1("UNKNOWN"), "127.0.0.1", "/any/", 200 },
      ["one address"] = { header, "127.0.0.2", "/two/", 200 },
      ["one address, with its name in the header"] =
        { v1("TCP4 192.0.2.1 127.0.0.2 56324 443"), "127.0.0.1", "/two/", 404 },
    }) do
      it(title, function()
        local listener = assert(socket.bind("127.0.0.1", 0))
        local _, port = listener:getsockname()
        listener:close()
        local s = start("127.0.0.0/8", "--urls",
          ("http://0.0.0.0:%d/any, http://127.0.0.2:%d/two"):format(port, port))
        local connection = client.connect(row[2], s.port)
        connection:send(row[1], get("", row[3]))
        assert.equal(row[4], connection:response().status)
        connection:close()
        assert.equal(0, s:stop())
      end)
    end
  end)
end)

describe("Trust", function()
  after_each(function()
    server.stop_all()
  end)

  it("is nobody's by default", function()
    local s = server.start({ app = APP })
    assert_seen(says("127.0.0.1"), seen(s, get("X-Forwarded-For: 192.0.2.7\r\n")))
    assert.matches("^HTTP/1.1 400 ", (wire.converse(s, v1("UNKNOWN"))))
  end)

  it("is a network's", function()
    local s = start("10.0.0.0/8, 127.0.0.0/8")
    assert_seen(says("192.0.2.7"), seen(s, get("X-Forwarded-For: 192.0.2.7, 127.1.2.3\r\n")))
  end)

  for value, message in pairs({
    ["localhost"] = "'localhost' is no address",
    ["10.0.0.1/8"] = "the network is 10.0.0.0/8",
    ["10.0.0.0/33"] = "allowed are 0 to 32",
  }) do
    it("is refused at start for " .. value, function()
      local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--urls",
        "http://127.0.0.1:0", "--set", "trusted_proxies=" .. value })
      assert.equal(78, result.status, result.stderr)
      assert.is_truthy(result.stderr:find("trusted_proxies", 1, true), result.stderr)
      assert.is_truthy(result.stderr:find(message, 1, true), result.stderr)
    end)
  end
end)

-- %s: addresses to listen on, then of the server behind.
local HAPROXY = [[
global
  maxconn 100
defaults
  timeout connect 10s
  timeout client 30s
  timeout server 30s

listen fields
  mode http
  bind %s
  option forwardfor
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host shop.example
  server app %s

listen v1
  mode tcp
  bind %s
  server app %s send-proxy

listen v2
  mode tcp
  bind %s
  server app %s send-proxy-v2

listen v2-checked
  mode tcp
  bind %s
  server app %s send-proxy-v2 proxy-v2-options crc32c,unique-id

listen v2-fields
  mode http
  bind %s
  option httpchk GET /check
  http-request set-header X-Forwarded-Proto https
  server app %s send-proxy-v2 check inter 100ms
]]
local LISTENS = { "fields", "v1", "v2", "v2-checked", "v2-fields" }

describe("HAProxy", function()
  local s, dir, pid, ports
  local outputs, held = {}, {}

  -- A port that stays ours until HAProxy, which is of the same user, has joined us on it. A socket
  -- that does not listen gets no connections.
  local function hold_port()
    local tcp = assert(socket.tcp4())
    assert(tcp:setoption("reuseport", true))
    assert(tcp:bind("127.0.0.1", 0))
    held[#held + 1] = tcp
    return tonumber((select(2, tcp:getsockname())))
  end

  setup(function()
    s = start("127.0.0.1")
    dir, ports = temp.dir(), {}
    local words = {}
    for _, name in ipairs(LISTENS) do
      ports[name] = hold_port()
      words[#words + 1] = "127.0.0.1:" .. ports[name]
      words[#words + 1] = "127.0.0.1:" .. s.port
    end
    local path = dir:write("haproxy.cfg", HAPROXY:format(table.unpack(words)))
    -- Debian has it where a plain user does not look.
    local env = { LD_PRELOAD = false, PATH = os.getenv("PATH") .. ":/usr/sbin" }
    local out, err, input
    pid, out, err, input = sys.spawn({ "haproxy", "-db", "-f", path }, { env = env })
    assert(pid, out)
    sys.close(input)
    outputs = { out, err }
    await("HAProxy", function()
      local status = sys.waitpid(pid, 0)
      if status then
        pid = nil
        error("HAProxy ended: " .. (sys.read(err, 65536, 0) or ""), 0)
      end
      local connected, connection = pcall(client.connect, "127.0.0.1", ports["v2-fields"])
      if connected then
        connection:close()
      end
      return connected
    end)
  end)

  teardown(function()
    if pid then
      sys.kill(pid, "KILL")
      sys.waitpid(pid, 10000)
    end
    for _, pipe in ipairs(outputs) do
      sys.close(pipe)
    end
    for _, tcp in ipairs(held) do
      tcp:close()
    end
    if dir then
      dir:remove()
      s:stop()
    end
  end)

  -- Two requests of curl, from another address than HAProxy's, over one connection.
  local function curl(name)
    local url = ("http://127.0.0.1:%d/"):format(ports[name])
    local result = peer.run({ "curl", "-q", "-sS", "--max-time", "15", "--interface", "127.0.0.2",
      "-w", "\n%{num_connects} %{local_port}\n", url .. "a", url .. "b" })
    assert.same({ 0, "" }, { result.exit, result.stderr })
    local first, port, second = result.stdout:match("^(%b{})\n1 (%d+)\n(%b{})\n0 %d+\n$")
    assert(first, result.stdout)
    return json.decode(first), json.decode(second), tonumber(port), url:match("//(.-)/")
  end

  it("says with X-Forwarded fields whom it serves", function()
    local first, second = curl("fields")
    for _, got in ipairs({ first, second }) do
      assert_seen(says("127.0.0.2", nil, "https", "shop.example"), got)
    end
    assert.same({ "/a", "/b" }, { first.path, second.path })
  end)

  for name, title in pairs({
    ["v1"] = "PROXY version 1",
    ["v2"] = "PROXY version 2",
    ["v2-checked"] = "PROXY version 2 and a checksum",
  }) do
    it("says with " .. title .. " whom it serves", function()
      local first, second, port, host = curl(name)
      for _, got in ipairs({ first, second }) do
        assert_seen(says("127.0.0.2", port, "http", host), got)
      end
      assert.same({ "/a", "/b" }, { first.path, second.path })
    end)
  end

  it("is believed in its header, and its client in no field", function()
    local first, _, port, host = curl("v2-fields")
    assert_seen(says("127.0.0.2", port, "http", host), first)
  end)

  it("checks the server for itself", function()
    await("a check", function()
      return s:get("/checks").body:find("127.0.0.1 127.0.0.1", 1, true)
    end)
    assert.is_nil(s:get("/checks").body:find("127.0.0.2", 1, true))
  end)
end)
