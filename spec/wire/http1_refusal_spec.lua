local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- What reaches the handler is counted, whatever it is: nothing of a refused message may be.
local APP = [[
local seen = {}
return function(req)
  if req.path == "/-" then
    local all = table.concat(seen, " ")
    seen = {}
    return all
  end
  seen[#seen + 1] = req.target
  if req.path == "/unread" then return "unread" end
  local body = req.body:read("a")
  return ("%s %d"):format(req.method, #(body or ""))
end
]]

local PAGE = "<!DOCTYPE html><title>%s</title><h1>%s</h1>" ..
  "<p>The request could not be served: %s.</p>\n"

--- The bytes of a refusal by the core.
local function refusal(status, detail)
  local page = PAGE:format(status, status, detail)
  local lines = "Content-Type: text/html; charset=us-ascii\r\nContent-Length: %d\r\n" ..
    "Connection: close\r\n"
  return wire.answer(status, lines:format(#page), page)
end

local BAD, NOT_IMPLEMENTED = "400 Bad Request", "501 Not Implemented"
local TOO_LARGE = "431 Request Header Fields Too Large"
local SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

local function get(lines, version)
  return ("GET /refused HTTP/%s\r\n%s\r\n"):format(version or "1.1", lines)
end

local function with(lines, version)
  return get("Host: h\r\n" .. lines, version)
end

local function post(lines, body)
  return ("POST /refused HTTP/1.1\r\nHost: h\r\n%s\r\n%s"):format(lines, body or "")
end

local groups = {
  { "a request line (RFC 9112 section 3)", {
    { "with a bare CR", "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", BAD, "a bare CR" },
    { "with a bare LF", "GET /refused HTTP/1.1\nHost: h\r\n\r\n", BAD, "a bare LF" },
    { "with NUL", "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", BAD, "a byte that must be escaped" },
    { "with a control in the method", "G\1T / HTTP/1.1\r\nHost: h\r\n\r\n", BAD,
      "a malformed method" },
    { "with a method that is no token", "G(T / HTTP/1.1\r\nHost: h\r\n\r\n", BAD,
      "a malformed method" },
    { "with a method of 33 bytes", ("M"):rep(33) .. " / HTTP/1.1\r\nHost: h\r\n\r\n",
      NOT_IMPLEMENTED, "a method longer than any there is" },
    { "of HTTP/0.9", "GET /\r\n\r\n", BAD, "a request line without version" },
    { "of HTTP/2", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "505 HTTP Version Not Supported",
      "a major version other than 1" },
    { "of HTTP/2 by its preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD,
      "an asterisk is a target for OPTIONS alone" },
    { "of another protocol", "GET / FTP/1.1\r\nHost: h\r\n\r\n", BAD, "a malformed version" },
    { "that is a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03\r\n", BAD,
      "a malformed method" },
    { "with a target above the root", "GET /a/../../b HTTP/1.1\r\nHost: h\r\n\r\n", "403 Forbidden",
      "dot segments that lead above the root" },
    { "with a target of another scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD,
      "neither a path nor an http or https URL" },
  } },
  { "a field line (RFC 9112 section 5)", {
    { "with a bare CR", with("X: a\rb\r\n"), BAD, "a bare CR" },
    { "with a bare LF", with("X: a\nContent-Length: 36\r\n"), BAD, "a bare LF" },
    { "with NUL", with("X: a\0b\r\n"), BAD, "a control character in a field value" },
    { "with another control", with("X: a\27b\r\n"), BAD, "a control character in a field value" },
    { "that is folded", with("X: a\r\n b\r\n"), BAD, "a field line that begins with a blank" },
    { "that is folded by a tab", with("X: a\r\n\tb\r\n"), BAD,
      "a field line that begins with a blank" },
    { "with a blank before the colon", with("Content-Length : 36\r\n"), BAD,
      "a blank before the colon" },
    { "with a tab before the colon", with("Transfer-Encoding\t: chunked\r\n"), BAD,
      "a blank before the colon" },
    { "with a name that is no token", with("X[]: a\r\n"), BAD, "a field name that is no token" },
    { "without a colon", with("X\r\n"), BAD, "a field name that is no token" },
    { "without a name", with(": a\r\n"), BAD, "a field name that is no token" },
    { "with an unknown expectation", with("Expect: tea\r\n"), "417 Expectation Failed",
      "an unknown expectation" },
  } },
  { "Host (RFC 9112 section 3.2)", {
    { "that is missing", get(""), BAD, "no Host field" },
    { "that is missing beside an absolute target", "GET http://h/ HTTP/1.1\r\n\r\n", BAD,
      "no Host field" },
    { "that is there twice", get("Host: h\r\nHost: h\r\n"), BAD, "more than one Host field" },
    { "with a path", get("Host: h/x\r\n"), BAD, "a malformed Host" },
    { "with a port that is none", get("Host: h:99999\r\n"), BAD, "a malformed Host" },
    { "that is bad in HTTP/1.0", get("Host: a b\r\n", "1.0"), BAD, "a malformed Host" },
  } },
  { "framing (RFC 9112 section 6)", {
    { "by a signed length", post("Content-Length: +36\r\n"), BAD,
      "a Content-Length that is no plain number" },
    { "by a negative length", post("Content-Length: -1\r\n"), BAD,
      "a Content-Length that is no plain number" },
    { "by a list of lengths", post("Content-Length: 0, 0\r\n"), BAD,
      "a Content-Length that is no plain number" },
    { "by lengths that differ", post("Content-Length: 0\r\nContent-Length: 36\r\n"), BAD,
      "two Content-Length fields that differ" },
    { "by a length of 2^63", post("Content-Length: 9223372036854775808\r\n"), BAD,
      "a Content-Length above 2^63-1" },
    { "by length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
      "0\r\n\r\n"), BAD, "Content-Length with Transfer-Encoding" },
    { "by coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 41\r\n",
      "0\r\n\r\n"), BAD, "Content-Length with Transfer-Encoding" },
    { "by an unknown coding", post("Transfer-Encoding: xchunked\r\n"), NOT_IMPLEMENTED,
      "an unknown transfer coding" },
    { "by identity", post("Transfer-Encoding: identity\r\n"), NOT_IMPLEMENTED,
      "an unknown transfer coding" },
    { "by a coding before chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
      NOT_IMPLEMENTED, "an unknown transfer coding" },
    { "by a coding behind chunked", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), BAD,
      "a transfer coding behind chunked" },
    { "by chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
      "0\r\n\r\n"), BAD, "a transfer coding behind chunked" },
    { "by chunked with a vertical tab", post("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), BAD,
      "a control character in a field value" },
    { "by a coding in HTTP/1.0",
      "POST /refused HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", BAD,
      "Transfer-Encoding in HTTP/1.0" },
  } },
  { "a limit (DESIGN section 5)", {
    { "of the target's bytes", ("GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"):format(("a"):rep(100)),
      "414 URI Too Long", "a target longer than max_target_bytes", { max_target_bytes = 100 } },
    { "of a target without end", "GET /" .. ("a"):rep(400), "414 URI Too Long",
      "a request line longer than max_target_bytes allows", { max_target_bytes = 100 } },
    { "of a field's bytes", with("X: " .. ("a"):rep(98) .. "\r\n"), TOO_LARGE,
      "a field line longer than its limit", { max_field_length = 100 } },
    { "of the head's bytes", with(("X: " .. ("a"):rep(57) .. "\r\n"):rep(4)), TOO_LARGE,
      "fields longer than max_request_head_bytes", { max_request_head_bytes = 256 } },
    { "of fields", with("X: a\r\nX: b\r\nX: c\r\n"), TOO_LARGE,
      "more field lines than max_fields", { max_fields = 3 } },
    { "of a segment's characters", "GET /abc/abcd HTTP/1.1\r\nHost: h\r\n\r\n", BAD,
      "a path segment longer than url_segment_max_length", { url_segment_max_length = 3 } },
    { "of segments", "GET /a/b/c HTTP/1.1\r\nHost: h\r\n\r\n", BAD,
      "more path segments than url_segment_max_count", { url_segment_max_count = 2 } },
  } },
}

local allowed = {
  { "a target of max_target_bytes", "GET /" .. ("a"):rep(99), "", { max_target_bytes = 100 } },
  { "a field of max_field_length", "GET /a", "X: " .. ("a"):rep(97) .. "\r\n",
    { max_field_length = 100 } },
  { "an Authorization field above max_field_length", "GET /a",
    "Authorization: " .. ("a"):rep(300) .. "\r\n", { max_field_length = 100 } },
  { "a head of max_request_head_bytes", "GET /a", ("X: " .. ("a"):rep(95) .. "\r\n"):rep(2) ..
    "X: " .. ("a"):rep(256 - 30 - 200 - 5) .. "\r\n", { max_request_head_bytes = 256 } },
  { "as many fields as max_fields", "GET /a", "X: a\r\nX: b\r\n", { max_fields = 3 } },
  { "a segment of url_segment_max_length characters", "GET /%C3%A4%C3%B6%C3%BC/abc", "",
    { url_segment_max_length = 3 } },
  { "as many segments as url_segment_max_count", "GET /a/b/", "", { url_segment_max_count = 2 } },
  { "a long segment when there is no limit", "GET /" .. ("a"):rep(5000), "",
    { url_segment_max_length = 0 } },
}

local servers = {}

--- The one server of these limits.
local function server_with(limits)
  local key, value = next(limits or {})
  local name = key and key .. "=" .. value or ""
  if not servers[name] then
    servers[name] = server.start({ app = APP, options = key and { "--set", name } })
  end
  return servers[name]
end

local function seen(s)
  return s:get("/-").body
end

teardown(function()
  for name, s in pairs(servers) do
    s:stop()
    servers[name] = nil
  end
end)

for _, group in ipairs(groups) do
  describe("The server refuses " .. group[1], function()
    for _, case in ipairs(group[2]) do
      local expected = refusal(case[3], case[4])
      wire.each_way(it, case[1], function(size)
        local s = server_with(case[5])
        local got, how = wire.converse(s, case[2] .. SMUGGLED, size)
        assert.equal(expected, got)
        assert.equal("closed", how)
        assert.equal("", seen(s))
      end)
    end
  end)
end

describe("The server takes", function()
  for _, case in ipairs(allowed) do
    it(case[1], function()
      local got = wire.converse(server_with(case[4]),
        ("%s HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(case[2], case[3]), nil, true)
      assert.equal(wire.text("GET 0"), got)
    end)
  end
end)

describe("Chunked content that is malformed (RFC 9112 section 7.1)", function()
  local HEAD = "POST /chunked HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
  local cases = {
    { "a size that is no number", "x\r\n" },
    { "a size with a sign", "+5\r\nhello\r\n0\r\n\r\n" },
    { "a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n" },
    { "an empty size", "\r\n0\r\n\r\n" },
    { "a size above 2^63-1", "8000000000000000\r\n" },
    { "a size above 2^64", "10000000000000005\r\nhello\r\n0\r\n\r\n" },
    { "a bare LF behind the size", "5\nhello\r\n0\r\n\r\n" },
    { "a bare CR behind the size", "5\rhello\r\n0\r\n\r\n" },
    { "a blank behind the size", "5 \r\nhello\r\n0\r\n\r\n" },
    { "no line end behind the data", "5\r\nhelloX0\r\n\r\n" },
    { "a bare LF behind the data", "5\r\nhello\n0\r\n\r\n" },
    { "data longer than its size", "4\r\nhello\r\n0\r\n\r\n" },
    { "an extension without a name", "5;\r\nhello\r\n0\r\n\r\n" },
    { "an extension with a bare LF", "5;a=\"\nb\"\r\nhello\r\n0\r\n\r\n" },
    { "too many bytes of extensions", (("1;" .. ("x"):rep(4000) .. "\r\na\r\n"):rep(5)) ..
      "0\r\n\r\n" },
    { "a folded trailer", "0\r\nX: a\r\n b\r\n\r\n" },
    { "Content-Length as a trailer", "0\r\nContent-Length: 36\r\n\r\n" },
    { "Transfer-Encoding as a trailer", "0\r\nTransfer-Encoding: chunked\r\n\r\n" },
    { "Host as a trailer", "0\r\nHost: h\r\n\r\n" },
    { "a bare LF as the last line", "0\r\n\n" },
  }
  for _, case in ipairs(cases) do
    wire.each_way(it, ("never ends in a next request: %s"):format(case[1]), function(size)
      local s = server_with()
      local got, how = wire.converse(s, HEAD .. case[2] .. SMUGGLED, size)
      -- The handler was already running: it saw the failure of its read and answered.
      assert.equal(wire.answer("200 OK", "Content-Type: text/plain; charset=utf-8\r\n" ..
        "Content-Length: 6\r\nConnection: close\r\n", "POST 0"), got)
      assert.equal("closed", how)
      assert.equal("/chunked", seen(s))
    end)
  end
end)

describe("Chunked content that is malformed and that no handler reads", function()
  wire.each_way(it, "ends the connection behind the answer", function(size)
    local s = server_with()
    local got, how = wire.converse(s, "POST /unread HTTP/1.1\r\nHost: h\r\n" ..
      "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n" .. SMUGGLED, size)
    assert.equal(wire.text("unread"), got)
    assert.equal("closed", how)
    assert.equal("/unread", seen(s))
  end)
end)

describe("A client that is refused while it sends", function()
  it("can read the answer to a broken head behind which it has much to send", function()
    local connection = server_with():connect()
    connection:send("GET / HTTP/1.1\r\n\r\n")
    connection:send(("x"):rep(4 << 20))
    assert.equal(refusal(BAD, "no Host field"), wire.dateless((connection:rest())))
    connection:close()
  end)

  it("can read the answer to a length that is too large", function()
    local s = server.start({
      app = [[return function(req) return #assert(req.body:read("a")) end]],
      options = { "--set", "max_request_body_size=10" },
    })
    local connection = s:connect()
    connection:send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n")
    connection:send(("x"):rep(4 << 20))
    local response = connection:response()
    assert.equal(413, response.status)
    assert.equal("close", response.headers.connection)
    assert.is_true(connection:closed())
    assert.equal("closed", connection.ended)
    connection:close()
    s:stop()
  end)

  it("can read the answer to chunks that are malformed", function()
    local connection = server_with():connect()
    connection:send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n")
    connection:send(("x"):rep(4 << 20))
    assert.equal(200, connection:response().status)
    assert.is_true(connection:closed())
    assert.equal("closed", connection.ended)
    connection:close()
    seen(server_with())
  end)
end)
