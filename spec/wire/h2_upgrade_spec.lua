local socket = require("socket")

local client = require("spec.support.client")
local h2 = require("spec.support.h2_client")
local server = require("spec.support.server")
local wire = require("spec.support.wire")

local frames = h2.frames

local APP = [[
return function(req)
  if req.path == "/large" then return ("x"):rep(1000) end
  return req.method .. " " .. req.path .. " " .. req.protocol .. " " .. req.host .. " "
    .. tostring(req.headers["x-a"]) .. " " .. req.body:read("a")
end]]

-- base64url of the payload of SETTINGS frames (RFC 7540 section 3.2.1).
local NONE, WINDOW_10, TWO = "", "AAQAAAAK", "AAMAAABkAAQAAAAK"
local UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
local SWITCHED = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

local function head(lines, line)
  return (line or "GET /a HTTP/1.1") .. "\r\nHost: test\r\n" .. lines .. "\r\n"
end

local function settings(value)
  return "HTTP2-Settings: " .. value .. "\r\n"
end

-- The address of this machine by which it would reach others; nil when it has none.
local function own_address()
  local udp = socket.udp()
  local ip = udp:setpeername("192.0.2.1", 9) and udp:getsockname()
  udp:close()
  return ip and not ip:find("^127%.") and ip ~= "0.0.0.0" and ip or nil
end

describe("Upgrade: h2c (RFC 7540 section 3.2)", function()
  local s
  setup(function()
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- A client that goes on behind the answer of 101.
  local function upgrade(bytes, options, behind)
    local connection = s:connect()
    connection:send(bytes, behind or "")
    assert.equal(SWITCHED, connection:receive(#SWITCHED))
    local over = h2.over(connection, options)
    over.next_id = 3
    return over
  end

  local switches = {
    { "with no settings", head(UPGRADE .. settings(NONE)), "GET /a HTTP/2 test nil " },
    { "with one setting", head(UPGRADE .. settings("AAMAAABk")), "GET /a HTTP/2 test nil " },
    { "with an unknown setting", head(UPGRADE .. settings("__8AAABk")),
      "GET /a HTTP/2 test nil " },
    { "with fields, in any case", head("X-A: b\r\nupgrade: H2C\r\nconnection: http2-settings, "
      .. "UPGRADE\r\nhttp2-settings: " .. TWO .. "\r\n", "DELETE /a?b HTTP/1.1"),
      "DELETE /a " },
    { "among others", head("Connection: upgrade\r\nConnection: HTTP2-Settings\r\n"
      .. "Upgrade: websocket, h2c\r\n" .. settings(NONE)), "GET /a HTTP/2 test nil " },
    { "of a request with a length of nothing", head(UPGRADE .. settings(NONE)
      .. "Content-Length: 0\r\n", "POST /a HTTP/1.1"), "POST /a HTTP/2 test nil " },
    { "in absolute form", head(UPGRADE .. settings(NONE), "GET http://test/a HTTP/1.1"),
      "GET /a HTTP/2 test nil " },
  }
  for _, case in ipairs(switches) do
    for _, size in ipairs({ false, 1 }) do
      it(("switches, and answers on stream 1, %s, %s"):format(case[1],
        size and "byte by byte" or "whole"), function()
        local connection = s:connect()
        wire.send(connection, case[2], size or nil)
        assert.equal(SWITCHED, connection:receive(#SWITCHED))
        local over = h2.over(connection)
        over.next_id = 3
        local response = over:response(1)
        assert.equal(200, response.status)
        assert.equal(case[3], response.body:sub(1, #case[3]))
        assert.equal("GET /b HTTP/2 test nil ", over:request("/b").body)
        over:close()
      end)
    end
  end

  it("answers HEAD without content", function()
    local over = upgrade(head(UPGRADE .. settings(NONE), "HEAD /large HTTP/1.1"))
    local response = over:response(1)
    assert.same({ 200, "1000", "", true },
      { response.status, response.headers["content-length"], response.body, response.finished })
    over:close()
  end)

  it("answers before the client says anything more", function()
    local connection = s:connect()
    connection:send(head(UPGRADE .. settings(NONE)))
    assert.equal(SWITCHED, connection:receive(#SWITCHED))
    local over = h2.over(connection, { settings = false, acks = false, credit = false })
    assert.equal("GET /a HTTP/2 test nil ", over:response(1).body)
    over:close()
  end)

  it("goes on with a preface that came along", function()
    local over = upgrade(head(UPGRADE .. settings(NONE)), { settings = false },
      frames.PREFACE .. frames.settings({}) .. frames.headers(3, h2.fields("/b")))
    assert.equal("GET /a HTTP/2 test nil ", over:response(1).body)
    assert.equal("GET /b HTTP/2 test nil ", over:response(3).body)
    over:close()
  end)

  it("has the settings of its field", function()
    local connection = s:connect()
    connection:send(head(UPGRADE .. settings(WINDOW_10), "GET /large HTTP/1.1"))
    assert.equal(SWITCHED, connection:receive(#SWITCHED))
    local over = h2.over(connection, { settings = false, credit = false })
    over:send(frames.PREFACE, frames.settings({ INITIAL_WINDOW_SIZE = 10 }))
    over:body(1, 10)
    over:settle()
    assert.equal(10, #over:stream(1).body)
    over:send(frames.window_update(1, 990))
    assert.equal(1000, #over:response(1).body)
    over:close()
  end)

  it("may come behind other requests", function()
    local connection = s:connect()
    assert.equal("GET /x HTTP/1.1 test nil ", connection:get("/x").body)
    connection:send(head(UPGRADE .. settings(NONE)))
    assert.equal(SWITCHED, connection:receive(#SWITCHED))
    local over = h2.over(connection)
    assert.equal("GET /a HTTP/2 test nil ", over:response(1).body)
    over:close()
  end)

  it("ends with what is no preface", function()
    local over = upgrade(head(UPGRADE .. settings(NONE)), { settings = false },
      head("", "GET /b HTTP/1.1"))
    over:rest()
    assert.equal("PROTOCOL_ERROR", over.goaways[1].code)
    over:close()
  end)

  -- Each is answered over HTTP/1.1, and so is the next.
  local plain = {
    { "two HTTP2-Settings", head(UPGRADE .. settings(NONE) .. settings(NONE)) },
    { "no HTTP2-Settings", head(UPGRADE) },
    { "settings that are not base64url", head(UPGRADE .. settings("AAMA+ABk")) },
    { "settings with padding", head(UPGRADE .. settings("AAMAAABkAA==")) },
    { "settings of a wrong length", head(UPGRADE .. settings("AAMAAAA")) },
    { "settings with blanks", head(UPGRADE .. settings("AAMA AABk")) },
    { "settings with a value that is not allowed", head(UPGRADE .. settings("AASAAAAA")) },
    { "too many settings", head(UPGRADE .. settings(("AAMAAABk"):rep(40))) },
    { "no Upgrade in Connection", head("Connection: HTTP2-Settings\r\nUpgrade: h2c\r\n"
      .. settings(NONE)) },
    { "no HTTP2-Settings in Connection", head("Connection: Upgrade\r\nUpgrade: h2c\r\n"
      .. settings(NONE)) },
    { "no Upgrade field", head("Connection: Upgrade, HTTP2-Settings\r\n" .. settings(NONE)) },
    { "h2, which needs TLS", head("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2\r\n"
      .. settings(NONE)) },
    { "content", head(UPGRADE .. settings(NONE) .. "Content-Length: 3\r\n", "POST /a HTTP/1.1")
      .. "abc", "POST /a HTTP/1.1 test nil abc" },
    { "content in chunks", head(UPGRADE .. settings(NONE) .. "Transfer-Encoding: chunked\r\n",
      "POST /a HTTP/1.1") .. "3\r\nabc\r\n0\r\n\r\n", "POST /a HTTP/1.1 test nil abc" },
  }
  for _, case in ipairs(plain) do
    wire.each_way(it, "is not heard with " .. case[1], function(size)
      local connection = s:connect()
      wire.send(connection, case[2], size)
      assert.equal(case[3] or "GET /a HTTP/1.1 test nil ", connection:response().body)
      assert.equal("GET /b HTTP/1.1 test nil ", connection:get("/b").body)
      connection:close()
    end)
  end

  it("is not heard of HTTP/1.0", function()
    local connection = s:connect()
    connection:send(head(UPGRADE .. settings(NONE), "GET /a HTTP/1.0"))
    assert.equal("GET /a HTTP/1.0 test nil ", connection:response().body)
    connection:close()
  end)
end)

describe("Prior knowledge of HTTP/2 (RFC 9113 section 3.3)", function()
  local s
  setup(function()
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  for size = 1, 24, 5 do
    it(("is known by the preface, in pieces of %d"):format(size), function()
      local over = h2.over(s:connect(), { settings = false })
      wire.send(over, frames.PREFACE .. frames.settings({}) .. frames.headers(1, h2.fields("/a")),
        size)
      assert.equal("GET /a HTTP/2 test nil ", over:response(1).body)
      over:close()
    end)
  end

  -- What begins like the preface and is none is a malformed message of HTTP/1.1.
  local others = {
    { "another version", "PRI * HTTP/2.1\r\n\r\n", 400 },
    { "a preface whose end is wrong", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", 400 },
    { "a method that begins so", "PRINT /a HTTP/1.1\r\nHost: test\r\n\r\n", 200 },
    { "a method that is so", "PRI /a HTTP/1.1\r\nHost: test\r\n\r\n", 200 },
  }
  for _, case in ipairs(others) do
    wire.each_way(it, ("is not meant by %s: %d"):format(case[1], case[3]), function(size)
      local connection = s:connect()
      wire.send(connection, case[2], size)
      assert.equal(case[3], connection:response().status)
      connection:close()
    end)
  end

  it("is not meant behind a request: 400", function()
    local connection = s:connect()
    assert.equal(200, connection:get("/a").status)
    connection:send(frames.PREFACE)
    assert.equal(400, connection:response().status)
    assert.equal("", (connection:rest()))
    connection:close()
  end)

  it("must be followed by SETTINGS", function()
    local over = h2.over(s:connect(), { settings = false })
    over:send(frames.PREFACE, frames.headers(1, h2.fields("/a")))
    over:rest()
    assert.equal("PROTOCOL_ERROR", over.goaways[1].code)
    over:close()
  end)
end)

-- Where HTTP/2 is not offered both ways to it mean nothing.
local function assert_without(connect)
  local connection = connect()
  connection:send(head(UPGRADE .. settings(NONE)))
  assert.equal("GET /a HTTP/1.1 test nil ", connection:response().body)
  assert.equal("GET /b HTTP/1.1 test nil ", connection:get("/b").body)
  connection:close()
  for _, size in ipairs({ #frames.PREFACE, 1 }) do
    connection = connect()
    pcall(wire.send, connection, frames.PREFACE, size)
    local response = connection:response()
    assert.equal(400, response.status)
    assert.equal("close", response.headers.connection)
    connection:close()
  end
end

describe("HTTP/2 without TLS", function()
  it("is off by default", function()
    local s = server.start({ app = APP })
    assert_without(function()
      return s:connect()
    end)
    assert.equal(0, s:stop())
  end)

  it("is off for who does not come over the loopback interface", function()
    local ip = own_address()
    if not ip then
      pending("this machine has no other address")
      return
    end
    local s = server.start({ app = APP, options = { "--set", "h2.cleartext=true", "--urls",
      "http://*:0" } })
    assert_without(function()
      return client.connect(ip, s.port)
    end)
    local over = h2.connect(s)
    assert.equal("GET /a HTTP/2 test nil ", over:request("/a").body)
    over:close()
    assert.equal(0, s:stop())
  end)
end)
