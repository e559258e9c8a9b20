local http = require("moonquay.probe").http
local pieces = require("spec.support.pieces")

local CHUNKED = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

local function each_size(text, check)
  for _, size in ipairs({ #text, 1 }) do
    check(pieces(text, size), ("in pieces of %d"):format(size))
  end
end

local function accept(text, content, trailers, used, limits)
  each_size(text, function(list, how)
    local got, got_trailers, got_used, detail = http.read_content(list, limits)
    assert.equal(content, got, ("%s: %s"):format(how, detail))
    assert.same(trailers or {}, got_trailers, how)
    assert.equal(used or #text, got_used, how)
  end)
end

local function refuse(text, status, reason, limits)
  each_size(text, function(list, how)
    local got, got_status, got_reason, detail = http.read_content(list, limits)
    assert.is_nil(got, how)
    assert.same({ status, reason }, { got_status, got_reason }, how)
    assert.is_string(detail)
  end)
end

describe("h1 sized content (RFC 9112 section 6.2)", function()
  local head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"

  it("ends after its length and leaves the rest", function()
    accept(head:format(5) .. "hello", "hello")
    accept(head:format(5) .. "helloGET", "hello", {}, #head:format(5) + 5)
    accept(head:format(0) .. "GET", "", {}, #head:format(0))
    accept("POST / HTTP/1.1\r\nHost: h\r\n\r\nGET", "", {}, 28)
  end)

  it("waits for its last byte", function()
    assert.same({ nil, "again", n = 2 },
      table.pack(http.read_content({ head:format(5) .. "hell" })))
  end)

  it("is not looked at", function()
    local bytes = "\0\r\n\n\r0\r\n\r\n\xFF"
    accept(head:format(#bytes) .. bytes, bytes)
  end)
end)

describe("h1 chunked content (RFC 9112 section 7.1)", function()
  local good = {
    { "no chunk", "0\r\n\r\n", "" },
    { "one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello" },
    { "several chunks", "5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", "hello world" },
    { "hexadecimal sizes in either case", "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
      "01234567890123456789a" },
    { "leading zeros", "0000000000000005\r\nhello\r\n0000\r\n\r\n", "hello" },
    { "line ends in the data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n" },
    { "a name as extension", "5;a\r\nhello\r\n0;b\r\n\r\n", "hello" },
    { "a token as value", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "hello" },
    { "a quoted value with escapes", '5;a="b;\\"\\\\ \t=\xE4";c\r\nhello\r\n0\r\n\r\n', "hello" },
    { "an empty quoted value", '5;a=""\r\nhello\r\n0\r\n\r\n', "hello" },
    { "blanks around semicolon and equals sign", "5 \t; a = b ;c\r\nhello\r\n0\r\n\r\n", "hello" },
  }
  for _, case in ipairs(good) do
    it("takes " .. case[1], function()
      accept(CHUNKED .. case[2], case[3])
      accept(CHUNKED .. case[2] .. "GET /", case[3], {}, #CHUNKED + #case[2])
    end)
  end

  local bad = {
    { "no size", "\r\nhello\r\n", "Number" },
    { "a size that is no number", "x\r\n", "Number" },
    { "a sign", "+5\r\nhello\r\n", "Number" },
    { "a minus sign", "-5\r\nhello\r\n", "Number" },
    { "0x before the digits", "0x5\r\nhello\r\n", "BadRequest" },
    { "a blank before the size", " 5\r\nhello\r\n", "Number" },
    { "a blank behind the size", "5 \r\nhello\r\n", "BadRequest" },
    { "letters behind the size", "5g\r\nhello\r\n", "BadRequest" },
    { "an underscore in the size", "1_0\r\n", "BadRequest" },
    { "a size of 2^63", "8000000000000000\r\n", "Number" },
    { "a size of 2^64", "10000000000000000\r\n", "Number" },
    { "17 digits, though the first are zeros", "00000000000000005\r\nhello\r\n", "Number" },
    { "a size that wraps to 5", "10000000000000005\r\nhello\r\n", "Number" },
    { "an extension without name", "5;\r\nhello\r\n", "BadRequest" },
    { "an extension without value", "5;a=\r\nhello\r\n", "BadRequest" },
    { "an extension without semicolon", "5 a\r\nhello\r\n", "BadRequest" },
    { "two semicolons", "5;;a\r\nhello\r\n", "BadRequest" },
    { "a blank behind an extension", "5;a \r\nhello\r\n", "BadRequest" },
    { "an open quote", '5;a="b\r\nhello\r\n', "BadRequest" },
    { "an escaped closing quote", '5;a="b\\"\r\nhello\r\n', "BadRequest" },
    { "a backslash at the end", '5;a="b\\\r\nhello\r\n', "BadRequest" },
    { "text behind a quoted value", '5;a="b"c\r\nhello\r\n', "BadRequest" },
    { "a control in an extension", "5;a\1\r\nhello\r\n", "BadRequest" },
    { "NUL in a quoted value", '5;a="\0"\r\nhello\r\n', "BadRequest" },
    { "an extension that is no token", "5;(\r\nhello\r\n", "BadRequest" },
    { "a bare LF behind the size", "5\nhello\r\n0\r\n\r\n", "Invalid_CR/LF" },
    { "a bare LF in an extension", "5;a\nb\r\nhello\r\n", "Invalid_CR/LF" },
    { "a bare CR in an extension", "5;a\rb\r\nhello\r\n", "Invalid_CR/LF" },
    { "a bare CR in a quoted value", '5;a="\r"\r\nhello\r\n', "Invalid_CR/LF" },
    { "a bare CR behind the size", "5\r\r\nhello\r\n", "Invalid_CR/LF" },
    { "a bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "Invalid_CR/LF" },
    { "a bare CR behind the data", "5\r\nhello\r0\r\n\r\n", "Invalid_CR/LF" },
    { "more data than its size", "5\r\nhellox\r\n0\r\n\r\n", "Invalid_CR/LF" },
    { "less data than its size", "5\r\nhell\r\n0\r\n\r\n", "Invalid_CR/LF" },
    { "a bare LF behind the last chunk", "0\n\r\n", "Invalid_CR/LF" },
    { "a bare LF as the last line", "0\r\n\n", "Invalid_CR/LF" },
    { "a bare CR in the last line", "0\r\n\r\r\n", "Invalid_CR/LF" },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      refuse(CHUNKED .. case[2], 400, case[3])
    end)
  end

  it("takes a size of 2^63-1 and waits for the data", function()
    assert.same({ nil, "again", n = 2 },
      table.pack(http.read_content({ CHUNKED .. "7fffffffffffffff\r\nhello" })))
  end)

  it("wants more at each byte before the last", function()
    local text = CHUNKED .. "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"
    for to = #CHUNKED, #text - 1 do
      assert.equal("again", select(2, http.read_content({ text:sub(1, to) })))
    end
  end)

  it("takes a chunk line of 4096 bytes and refuses a longer one, ended or not", function()
    local line = "5;" .. ("a"):rep(4094)
    accept(CHUNKED .. line .. "\r\nhello\r\n0\r\n\r\n", "hello")
    refuse(CHUNKED .. line .. "a\r\nhello\r\n0\r\n\r\n", 400, "BadRequest")
    refuse(CHUNKED .. line .. "a", 400, "BadRequest")
    assert.equal("again", select(2, http.read_content({ CHUNKED .. line .. "\r" })))
  end)

  it("takes 16 KiB of extensions in a message and no more", function()
    local chunk = "1;" .. ("a"):rep(1023) .. "\r\nx\r\n"
    accept(CHUNKED .. chunk:rep(16) .. "0\r\n\r\n", ("x"):rep(16))
    refuse(CHUNKED .. chunk:rep(16) .. "0;a\r\n\r\n", 400, "BadRequest")
  end)
end)

describe("h1 trailers (RFC 9112 section 7.1.2)", function()
  local function message(lines)
    return CHUNKED .. "2\r\nok\r\n0\r\n" .. lines .. "\r\n"
  end

  it("keep order and spelling", function()
    accept(message("X-A: 1\r\nx-b:\t2 \r\nX-A:\r\n"), "ok",
      { { "X-A", "1" }, { "x-b", "2" }, { "X-A", "" } })
  end)

  local bad = {
    { "Transfer-Encoding", "Transfer-Encoding: chunked\r\n", "Header" },
    { "Content-Length", "content-length: 5\r\n", "Header" },
    { "Host", "HOST: h\r\n", "Header" },
    { "a blank before the colon", "X : y\r\n", "Header" },
    { "obsolete folding", "X: y\r\n z\r\n", "Header" },
    { "no colon", "X\r\n", "Header" },
    { "NUL in a value", "X: \0\r\n", "Header" },
    { "a bare CR", "X: a\rb\r\n", "Invalid_CR/LF" },
    { "a bare LF", "X: a\n", "Invalid_CR/LF" },
    { "a request", "GET / HTTP/1.1\r\n", "Header" },
  }
  for _, case in ipairs(bad) do
    it("refuse " .. case[1], function()
      refuse(message(case[2]), 400, case[3])
      local got, status = http.read_content({ message(case[2]) }, nil, true)
      assert.same({ nil, 400, n = 2 }, { got, status, n = 2 })
    end)
  end

  it("drop what must not act from there", function()
    accept(message("Authorization: x\r\nX: y\r\nCookie: a=b\r\nContent-Encoding: gzip\r\n" ..
      "Trailer: X\r\nTE: trailers\r\nConnection: close\r\n"), "ok", { { "X", "y" } })
  end)

  it("are checked and dropped when nobody wants them", function()
    local content, trailers = http.read_content({ message("X: y\r\n") }, nil, true)
    assert.equal("ok", content)
    assert.is_nil(trailers)
  end)

  it("have the limits of fields", function()
    local limits = { max_field_length = 30, max_authorization_length = 40, max_fields = 3,
      max_request_head_bytes = 100 }
    local line = "X: " .. ("v"):rep(27)
    accept(message(line .. "\r\n"), "ok", { { "X", ("v"):rep(27) } }, nil, limits)
    refuse(message(line .. "v\r\n"), 431, "FieldLength", limits)
    refuse(CHUNKED .. "0\r\n" .. line .. "v", 431, "FieldLength", limits)
    accept(message(("X: y\r\n"):rep(3)), "ok", { { "X", "y" }, { "X", "y" }, { "X", "y" } }, nil,
      limits)
    refuse(message(("X: y\r\n"):rep(4)), 431, "FieldLength", limits)
    refuse(message(("TE: y\r\n"):rep(4)), 431, "FieldLength", limits)
    local three = "X: " .. ("v"):rep(26) .. "\r\n"
    limits.max_request_head_bytes = 95
    accept(message(three:rep(3)), "ok",
      { { "X", ("v"):rep(26) }, { "X", ("v"):rep(26) }, { "X", ("v"):rep(26) } }, nil, limits)
    limits.max_request_head_bytes = 94
    refuse(message(three:rep(3)), 431, "RequestLength", limits)
  end)
end)
