local http = require("moonquay.probe").http
local pieces = require("spec.support.pieces")

--- Runs check for the message whole and byte by byte.
local function each_size(text, check)
  for _, size in ipairs({ #text, 1 }) do
    check(pieces(text, math.max(size, 1)), ("in pieces of %d"):format(size))
  end
end

local function accept(text, expected, limits)
  each_size(text, function(list, how)
    local head, status, _, detail = http.read_head(list, limits)
    assert.is_table(head, ("%s: %s %s"):format(how, status, detail))
    for key, value in pairs(expected) do
      assert.same(value, head[key], how)
    end
  end)
end

local function refuse(text, status, reason, limits)
  each_size(text, function(list, how)
    local head, got_status, got_reason, detail = http.read_head(list, limits)
    assert.is_nil(head, how)
    assert.same({ status, reason }, { got_status, got_reason }, how)
    assert.is_string(detail)
  end)
end

--- A request with these field lines behind a good request line and Host.
local function with(lines, version)
  return ("GET / HTTP/%s\r\nHost: h\r\n%s\r\n"):format(version or "1.1", lines)
end

local function post(lines)
  return ("POST / HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(lines)
end

local HOST = "Host: h\r\n\r\n"

describe("h1 request line (RFC 9112 section 3)", function()
  local good = {
    { "takes origin form", "GET /a?b HTTP/1.1\r\n" .. HOST,
      { method = "GET", target = "/a?b", path = "/a", query = "b", minor = 1, form = "origin" } },
    { "takes absolute form", "GET http://x/a HTTP/1.1\r\n" .. HOST,
      { target = "http://x/a", path = "/a", host = "x", form = "absolute" } },
    { "takes authority form", "CONNECT x:1 HTTP/1.1\r\n" .. HOST,
      { authority = "x:1", form = "authority" } },
    { "takes asterisk form", "OPTIONS * HTTP/1.1\r\n" .. HOST,
      { target = "*", path = "", form = "asterisk" } },
    { "takes methods it does not know", "M-SEARCH! / HTTP/1.1\r\n" .. HOST,
      { method = "M-SEARCH!" } },
    { "takes lower case for another method", "get / HTTP/1.1\r\n" .. HOST, { method = "get" } },
    { "takes a method of 32 bytes", ("M"):rep(32) .. " / HTTP/1.1\r\n" .. HOST,
      { method = ("M"):rep(32) } },
    { "takes HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", { minor = 0 } },
    { "takes a later minor version for 1.1", "GET / HTTP/1.9\r\n" .. HOST, { minor = 1 } },
    { "skips empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n" .. HOST,
      { method = "GET", used = 4 + 16 + 11 } },
    { "leaves what follows the head", "GET / HTTP/1.1\r\n" .. HOST .. "GET /next HTTP/1.1\r\n",
      { path = "/", used = 27 } },
    { "decodes the path", "GET /a/../%41%20 HTTP/1.1\r\n" .. HOST, { path = "/A " } },
  }
  for _, case in ipairs(good) do
    it(case[1], function()
      accept(case[2], case[3])
    end)
  end

  local bad = {
    { "no method", " / HTTP/1.1", 400, "Verb" },
    { "a method that is no token", "G@T / HTTP/1.1", 400, "Verb" },
    { "a control in the method", "G\1T / HTTP/1.1", 400, "Verb" },
    { "NUL in the method", "G\0T / HTTP/1.1", 400, "Verb" },
    { "a byte from 0x80 in the method", "G\xE9T / HTTP/1.1", 400, "Verb" },
    { "a method alone", "GET", 400, "Verb" },
    { "HTAB behind the method", "GET\t/ HTTP/1.1", 400, "Verb" },
    { "a method of 33 bytes", ("M"):rep(33) .. " / HTTP/1.1", 501, "N/I" },
    { "HTTP/0.9", "GET /", 400, "BadRequest" },
    { "two blanks before the target", "GET  / HTTP/1.1", 400, "URL" },
    { "two blanks behind the target", "GET /  HTTP/1.1", 400, "URL" },
    { "a blank in the target", "GET /a b HTTP/1.1", 400, "URL" },
    { "a blank behind the version", "GET / HTTP/1.1 ", 400, "URL" },
    { "HTAB behind the target", "GET /\tHTTP/1.1", 400, "BadRequest" },
    { "no target", "GET HTTP/1.1", 400, "BadRequest" },
    { "NUL in the target", "GET /\0 HTTP/1.1", 400, "URL" },
    { "a raw byte from 0x80 in the target", "GET /\xE1 HTTP/1.1", 400, "URL" },
    { "a broken escape", "GET /% HTTP/1.1", 400, "URL" },
    { "an asterisk for GET", "GET * HTTP/1.1", 400, "URL" },
    { "origin form for CONNECT", "CONNECT / HTTP/1.1", 400, "URL" },
    { "a path above the root", "GET /../etc HTTP/1.1", 403, "Forbidden" },
    { "a lower-case version", "GET / http/1.1", 400, "BadRequest" },
    { "a version without minor", "GET / HTTP/1", 400, "BadRequest" },
    { "a version of three digits", "GET / HTTP/1.10", 400, "BadRequest" },
    { "a version of two major digits", "GET / HTTP/11.1", 400, "BadRequest" },
    { "a version with letters", "GET / HTTP/1.x", 400, "BadRequest" },
    { "another protocol", "GET / ICAP/1.0", 400, "BadRequest" },
    { "HTTP/2.0", "GET / HTTP/2.0", 505, "Version_N/S" },
    { "HTTP/0.9 by name", "GET / HTTP/0.9", 505, "Version_N/S" },
    { "a bare CR in the method", "GE\rT / HTTP/1.1", 400, "Invalid_CR/LF" },
    { "a bare CR in the target", "GET /\r HTTP/1.1", 400, "Invalid_CR/LF" },
    { "a bare CR in the version", "GET / HTTP/1.1\r", 400, "Invalid_CR/LF" },
    { "a bare CR alone", "\r", 400, "Invalid_CR/LF" },
    { "a bare LF in the target", "GET /\n HTTP/1.1", 400, "Invalid_CR/LF" },
    { "a bare LF at its end", "GET / HTTP/1.1\nHost: h", 400, "Invalid_CR/LF" },
    { "a bare LF before it", "\nGET / HTTP/1.1", 400, "Invalid_CR/LF" },
    { "a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", 400, "Verb" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      refuse(case[2] .. "\r\n" .. HOST, case[3], case[4])
    end)
  end
end)

describe("h1 field lines (RFC 9112 section 5)", function()
  it("keep order, spelling and repetition", function()
    accept("GET / HTTP/1.1\r\nhOST: h\r\nX-A: 1\r\nx-b:2\r\nX-A: 3\r\n\r\n", {
      fields = { { "hOST", "h" }, { "X-A", "1" }, { "x-b", "2" }, { "X-A", "3" } },
    })
  end)

  local values = {
    { "blanks around it are taken off", "X: \t a b\t \r\n", "a b" },
    { "it may be empty", "X:\r\n", "" },
    { "it may be blanks alone", "X: \t \r\n", "" },
    { "HTAB in it stays", "X: a\tb\r\n", "a\tb" },
    { "bytes from 0x80 stay", "X: \xE4\xFF\r\n", "\xE4\xFF" },
    { "colons in it stay", "X: a:b: c\r\n", "a:b: c" },
    { "a CR at its end belongs to the line", "X: " .. ("v"):rep(40) .. "\r\n", ("v"):rep(40) },
  }
  for _, case in ipairs(values) do
    it("have a value: " .. case[1], function()
      accept(with(case[2]), { fields = { { "Host", "h" }, { "X", case[3] } } })
    end)
  end

  local bad = {
    { "a blank before the colon", "X : a\r\n", "Header" },
    { "HTAB before the colon", "X\t: a\r\n", "Header" },
    { "no colon", "X\r\n", "Header" },
    { "no colon behind blanks", "X a\r\n", "Header" },
    { "no name", ": a\r\n", "Header" },
    { "a name that is no token", "X(a): b\r\n", "Header" },
    { "a name in quotes", '"X": b\r\n', "Header" },
    { "a byte from 0x80 in a name", "X\xE4: b\r\n", "Header" },
    { "NUL in a name", "X\0: b\r\n", "Header" },
    { "obsolete folding with a blank", "X: a\r\n b\r\n", "Header" },
    { "obsolete folding with HTAB", "X: a\r\n\tb\r\n", "Header" },
    { "obsolete folding of nothing", "X: a\r\n \r\n", "Header" },
    { "NUL in a value", "X: a\0b\r\n", "Header" },
    { "a control in a value", "X: a\1b\r\n", "Header" },
    { "DEL in a value", "X: a\x7F\r\n", "Header" },
    { "a vertical tab before a value", "X:\va\r\n", "Header" },
    { "a bare CR in a value", "X: a\rb\r\n", "Invalid_CR/LF" },
    { "a bare CR at a value's end", "X: a\r\r\n", "Invalid_CR/LF" },
    { "a bare CR in a name", "X\rY: a\r\n", "Invalid_CR/LF" },
    { "a bare CR before a name", "\rX: a\r\n", "Invalid_CR/LF" },
    { "a bare CR alone on a line", "\r\r\n", "Invalid_CR/LF" },
    { "a bare LF at the end of a line", "X: a\n", "Invalid_CR/LF" },
    { "a bare LF as the empty line", "\n", "Invalid_CR/LF" },
    { "a field line hidden behind a bare LF", "X: a\nContent-Length: 5\r\n", "Invalid_CR/LF" },
  }
  for _, case in ipairs(bad) do
    it("refuse " .. case[1], function()
      refuse(with(case[2]), 400, case[3])
    end)
  end

  it("refuse a blank before the first of them", function()
    refuse("GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400, "Header")
    refuse("GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", 400, "Header")
  end)

  it("refuse each control but HTAB, in a long value and wherever it stands", function()
    for byte = 0, 0x1F do
      for before = 0, 9 do
        local line = ("X: %s%s%s\r\n"):format(("v"):rep(before), string.char(byte), ("w"):rep(9))
        local head = http.read_head({ with(line) })
        assert.equal(byte == 9, head ~= nil, ("byte %d behind %d"):format(byte, before))
      end
    end
  end)
end)

describe("h1 Host (RFC 9112 section 3.2)", function()
  local good = {
    { "gives its value", "GET / HTTP/1.1\r\nHost: example.com:80\r\n\r\n", "example.com:80" },
    { "may be empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "" },
    { "may be an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]:5000\r\n\r\n", "[::1]:5000" },
    { "may be missing from HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", nil },
    { "counts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "h" },
    { "counts less than the absolute form", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "a" },
  }
  for _, case in ipairs(good) do
    it(case[1], function()
      accept(case[2], { host = case[3], method = "GET" })
      assert.equal(case[3], http.read_head({ case[2] }).host)
    end)
  end

  local bad = {
    { "none", "GET / HTTP/1.1\r\n\r\n" },
    { "two", "GET / HTTP/1.1\r\nHost: h\r\nX: y\r\nhost: h\r\n\r\n" },
    { "two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n" },
    { "none beside an absolute form", "GET http://a/ HTTP/1.1\r\n\r\n" },
    { "a bad one beside an absolute form", "GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n" },
    { "a path in it", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n" },
    { "userinfo in it", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n" },
    { "a scheme in it", "GET / HTTP/1.1\r\nHost: http://h\r\n\r\n" },
    { "a blank in it", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" },
    { "two names in it", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n" },
    { "a port that is none", "GET / HTTP/1.1\r\nHost: h:http\r\n\r\n" },
    { "a port that is too large", "GET / HTTP/1.1\r\nHost: h:65536\r\n\r\n" },
    { "a bad one in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n" },
  }
  for _, case in ipairs(bad) do
    it("is refused: " .. case[1], function()
      refuse(case[2], 400, "Hostname")
    end)
  end
end)

describe("h1 framing (RFC 9112 section 6)", function()
  local good = {
    { "no field: no content", "", { framing = "none", content_length = 0 } },
    { "Content-Length", "Content-Length: 5\r\n", { framing = "sized", content_length = 5 } },
    { "Content-Length of zero", "Content-Length: 0\r\n", { framing = "none", content_length = 0 } },
    { "leading zeros", "Content-Length: 00007\r\n", { framing = "sized", content_length = 7 } },
    { "2^63-1", "Content-Length: 9223372036854775807\r\n",
      { framing = "sized", content_length = math.maxinteger } },
    { "identical repetition", "Content-Length: 5\r\ncontent-length: 5\r\n",
      { framing = "sized", content_length = 5 } },
    { "chunked", "Transfer-Encoding: chunked\r\n", { framing = "chunked" } },
    { "chunked in capitals", "TRANSFER-ENCODING: \t CHUNKED \r\n", { framing = "chunked" } },
  }
  for _, case in ipairs(good) do
    it("takes " .. case[1], function()
      accept(post(case[2]), case[3])
    end)
  end

  local bad = {
    { "a sign", "Content-Length: +5\r\n", 400, "Number" },
    { "a minus sign", "Content-Length: -5\r\n", 400, "Number" },
    { "a list", "Content-Length: 5, 5\r\n", 400, "Number" },
    { "a list without blank", "Content-Length: 5,5\r\n", 400, "Number" },
    { "repetition with a difference", "Content-Length: 5\r\nContent-Length: 6\r\n", 400, "Number" },
    { "repetition in another spelling", "Content-Length: 5\r\nContent-Length: 05\r\n",
      400, "Number" },
    { "2^63", "Content-Length: 9223372036854775808\r\n", 400, "Number" },
    { "2^64", "Content-Length: 18446744073709551616\r\n", 400, "Number" },
    { "2^64 + 5", "Content-Length: 18446744073709551621\r\n", 400, "Number" },
    { "very many digits", "Content-Length: " .. ("9"):rep(400) .. "\r\n", 400, "Number" },
    { "hexadecimal digits", "Content-Length: 0x5\r\n", 400, "Number" },
    { "a fraction", "Content-Length: 5.0\r\n", 400, "Number" },
    { "no number", "Content-Length:\r\n", 400, "Number" },
    { "letters", "Content-Length: five\r\n", 400, "Number" },
    { "two numbers", "Content-Length: 5 5\r\n", 400, "Number" },
    { "both framings", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400, "BadRequest" },
    { "both framings the other way round", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
      400, "BadRequest" },
    { "both framings with length zero", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
      400, "BadRequest" },
    { "both framings with an unknown coding", "Transfer-Encoding: x\r\nContent-Length: 5\r\n",
      400, "BadRequest" },
    { "an unknown coding", "Transfer-Encoding: xchunked\r\n", 501, "N/I" },
    { "gzip", "Transfer-Encoding: gzip\r\n", 501, "N/I" },
    { "identity", "Transfer-Encoding: identity\r\n", 501, "N/I" },
    { "a coding before chunked", "Transfer-Encoding: gzip, chunked\r\n", 501, "N/I" },
    { "a coding before chunked on two lines",
      "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, "N/I" },
    { "a coding with parameters", "Transfer-Encoding: x;y=z\r\n", 501, "N/I" },
    { "a coding behind chunked", "Transfer-Encoding: chunked, gzip\r\n", 400, "Header" },
    { "a coding behind chunked on another line",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400, "Header" },
    { "chunked twice", "Transfer-Encoding: chunked, chunked\r\n", 400, "Header" },
    { "chunked on two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
      400, "Header" },
    { "an empty coding", "Transfer-Encoding:\r\n", 400, "Header" },
    { "an empty coding before chunked", "Transfer-Encoding: , chunked\r\n", 400, "Header" },
    { "an empty coding behind chunked", "Transfer-Encoding: chunked,\r\n", 400, "Header" },
    { "chunked with a parameter", "Transfer-Encoding: chunked;q=1\r\n", 400, "Header" },
    { "chunked in quotes", 'Transfer-Encoding: "chunked"\r\n', 400, "Header" },
    { "two codings without comma", "Transfer-Encoding: chunked identity\r\n", 400, "Header" },
    { "chunked behind another without comma", "Transfer-Encoding: x chunked\r\n", 400, "Header" },
    { "a vertical tab before chunked", "Transfer-Encoding: \vchunked\r\n", 400, "Header" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      refuse(post(case[2]), case[3], case[4])
    end)
  end

  it("refuses Transfer-Encoding in HTTP/1.0", function()
    refuse(with("Transfer-Encoding: chunked\r\n", "1.0"), 400, "BadRequest")
    refuse(with("Transfer-Encoding: gzip\r\n", "1.0"), 400, "BadRequest")
  end)
end)

describe("h1 persistence (RFC 9112 section 9.3)", function()
  local cases = {
    { "1.1", "", true },
    { "1.1", "Connection: close\r\n", false },
    { "1.1", "Connection: CLOSE\r\n", false },
    { "1.1", "Connection: foo , Close\r\n", false },
    { "1.1", "Connection: foo\r\nconnection: close\r\n", false },
    { "1.1", "Connection: closed\r\n", true },
    { "1.1", "Connection: close-not\r\n", true },
    { "1.1", "Connection: keep-alive\r\n", true },
    { "1.1", "Connection: keep-alive, close\r\n", false },
    { "1.0", "", false },
    { "1.0", "Connection: keep-alive\r\n", true },
    { "1.0", "Connection: Keep-Alive, x\r\n", true },
    { "1.0", "Connection: x\r\nConnection: keep-alive\r\n", true },
    { "1.0", "Connection: close, keep-alive\r\n", false },
    { "1.0", "Connection: close\r\n", false },
  }
  for _, case in ipairs(cases) do
    it(("HTTP/%s with %q: %s"):format(case[1], case[2], case[3] and "kept" or "closed"), function()
      accept(with(case[2], case[1]), { keep_alive = case[3] })
    end)
  end
end)

describe("h1 Expect (RFC 9110 section 10.1.1)", function()
  it("knows 100-continue in any case", function()
    accept(with("Expect: 100-continue\r\n"), { expect_continue = true })
    accept(with("expect: 100-Continue\r\n"), { expect_continue = true })
    accept(with(""), { expect_continue = false })
    accept(with("Expect:\r\n"), { expect_continue = false })
  end)

  it("does not count in HTTP/1.0", function()
    accept(with("Expect: 100-continue\r\n", "1.0"), { expect_continue = false })
    accept(with("Expect: else\r\n", "1.0"), { expect_continue = false })
  end)

  it("answers 417 to another expectation", function()
    refuse(with("Expect: 200-ok\r\n"), 417, "Header")
    refuse(with("Expect: 100-continue, else\r\n"), 417, "Header")
  end)
end)

describe("h1 head limits (DESIGN section 5)", function()
  local function target(bytes)
    return ("GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"):format(("x"):rep(bytes - 1))
  end
  local wide = { url_segment_max_length = 0, max_target_bytes = 100 }

  it("take a target of its limit and answer 414 beyond", function()
    accept(target(100), { method = "GET" }, wide)
    refuse(target(101), 414, "URL_Length", wide)
    refuse(target(1000), 414, "URL_Length", wide)
    refuse("GET /" .. ("x"):rep(1000), 414, "URL_Length", wide)
  end)

  it("answer 414 before the line has ended, and not a byte too early", function()
    local line = ("x"):rep(142)
    assert.same({ nil, "again", false, n = 3 }, table.pack(http.read_head({ line }, wide)))
    assert.same({ nil, "again", false, n = 3 }, table.pack(http.read_head({ line .. "\r" }, wide)))
    refuse(line .. "x", 414, "URL_Length", wide)
    refuse(line .. "\rx", 414, "URL_Length", wide)
    refuse(line .. "\r\n", 400, "Verb", wide)
  end)

  local function field(bytes, name)
    return with(("%s: %s\r\n"):format(name, ("v"):rep(bytes - #name - 2)))
  end
  local lines = { max_field_length = 50, max_authorization_length = 80 }

  it("take a field line of its limit and answer 431 beyond", function()
    accept(field(50, "X"), { method = "GET" }, lines)
    refuse(field(51, "X"), 431, "FieldLength", lines)
    refuse(field(500, "X"), 431, "FieldLength", lines)
  end)

  it("have another limit for Authorization", function()
    accept(field(80, "Authorization"), { method = "GET" }, lines)
    accept(field(80, "authORIZATION"), { method = "GET" }, lines)
    refuse(field(81, "Authorization"), 431, "FieldLength", lines)
    refuse(field(51, "Authorizations"), 431, "FieldLength", lines)
    refuse(field(51, "Authorizatio"), 431, "FieldLength", lines)
    refuse(field(51, "Proxy-Authorization"), 431, "FieldLength", lines)
  end)

  it("answer an unfinished field line as soon as it is certain", function()
    local before = "GET / HTTP/1.1\r\n"
    local full = before .. "X" .. ("v"):rep(49)
    assert.equal("again", select(2, http.read_head({ full }, lines)))
    assert.equal("again", select(2, http.read_head({ full .. "\r" }, lines)))
    refuse(full .. "v", 431, "FieldLength", lines)
    refuse(full .. "\rv", 431, "FieldLength", lines)
  end)

  it("wait for the name before they choose between two limits", function()
    local tiny = { max_field_length = 5, max_authorization_length = 40 }
    local before = "GET / HTTP/1.0\r\n"
    assert.equal("again", select(2, http.read_head({ before .. "Authorization" }, tiny)))
    accept(before .. "Authorization: abc\r\n\r\n", { minor = 0 }, tiny)
    refuse(before .. "Authorizatiox", 431, "FieldLength", tiny)
    refuse(before .. "Authorizatio:", 431, "FieldLength", tiny)
    tiny.max_request_head_bytes = #before + 10
    refuse(before .. "Authorizatiox", 431, "RequestLength", tiny)
    refuse(before .. "Authorizaxion", 431, "FieldLength", tiny)
  end)

  local head = { max_request_head_bytes = 64 }

  it("take a head of its limit and answer 431 beyond", function()
    local text = "GET / HTTP/1.0\r\nX: " .. ("v"):rep(64 - 16 - 3 - 4) .. "\r\n\r\n"
    assert.equal(64, #text)
    accept(text, { used = 64 }, head)
    refuse(text:gsub("v", "vv", 1), 431, "RequestLength", head)
    refuse(("X: y\r\n"):rep(20):gsub("^", "GET / HTTP/1.0\r\n"), 431, "RequestLength", head)
    refuse("GET /" .. ("x"):rep(100), 431, "RequestLength", head)
  end)

  it("count empty lines before the request line", function()
    local text = "GET / HTTP/1.0\r\n\r\n"
    accept(("\r\n"):rep(23) .. text, { used = 64 }, head)
    refuse(("\r\n"):rep(24) .. text, 431, "RequestLength", head)
    refuse(("\r\n"):rep(1000), 431, "RequestLength", head)
  end)

  it("answer as the limit says that is passed first", function()
    local line = "GET / HTTP/1.0\r\nX" .. ("v"):rep(100)
    local function both(field_length, head_bytes)
      return { max_field_length = field_length, max_request_head_bytes = head_bytes }
    end
    refuse(line, 431, "FieldLength", both(30, 60))
    refuse(line, 431, "RequestLength", both(60, 60))
    refuse(line, 431, "FieldLength", both(44, 60))
    refuse(line, 431, "RequestLength", both(45, 60))
    local target_line = "GET /" .. ("x"):rep(200)
    refuse(target_line, 414, "URL_Length", { max_target_bytes = 58, max_request_head_bytes = 100 })
    refuse(target_line, 431, "RequestLength",
      { max_target_bytes = 59, max_request_head_bytes = 100 })
  end)

  it("take max_fields lines and answer 431 to one more", function()
    local few = { max_fields = 3 }
    accept("GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nb: 2\r\n\r\n", { method = "GET" }, few)
    refuse("GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n", 431, "FieldLength", few)
  end)

  it("judge a limit before the syntax of its line", function()
    refuse("GET / HTTP/1.1\r\n(" .. ("\0"):rep(100) .. "\r\n\r\n", 431, "FieldLength", lines)
    refuse("GET / HTTP/1.1\r\n(\r\n" .. ("v"):rep(100) .. "\r\n\r\n", 400, "Header", lines)
  end)

  it("are generous: a thousand fields, a target and a ticket of many KiB", function()
    local many = {}
    for i = 1, 998 do
      many[i] = ("X-%d: %d\r\n"):format(i, i)
    end
    local rows = table.concat(many) .. "Authorization: " .. ("t"):rep(65000) .. "\r\n"
    local line = "GET /?" .. ("q"):rep(16000) .. " HTTP/1.1\r\n"
    local list = pieces(line .. "Host: h\r\n" .. rows .. "\r\n", 4096)
    local head_read = assert(http.read_head(list))
    assert.equal(1000, #head_read.fields)
    assert.same({ "X-998", "998" }, head_read.fields[999])
    assert.equal(65000, #head_read.fields[1000][2])
  end)
end)

describe("h1 reader that waits", function()
  it("is idle until a byte of a request came", function()
    assert.same({ nil, "again", true, n = 3 }, table.pack(http.read_head({})))
    assert.same({ nil, "again", true, n = 3 }, table.pack(http.read_head({ "\r\n" })))
    assert.same({ nil, "again", false, n = 3 }, table.pack(http.read_head({ "G" })))
    assert.same({ nil, "again", false, n = 3 }, table.pack(http.read_head({ "\r\n", "G" })))
    assert.same({ nil, "again", false, n = 3 },
      table.pack(http.read_head({ "GET / HTTP/1.1\r\n" })))
  end)

  it("wants more at each byte before the last of a head", function()
    local text = with("X: y\r\nContent-Length: 5\r\n")
    for to = 0, #text - 1 do
      assert.equal("again", select(2, http.read_head({ text:sub(1, to) })))
    end
    assert.is_table(http.read_head({ text }))
  end)
end)
