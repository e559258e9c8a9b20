local server = require("spec.support.server")
local wire = require("spec.support.wire")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

-- What came: method, target, host, path and content.
local function tell(req)
  local body = assert(req.body:read("a"))
  return table.concat({ req.method, req.target, req.host or "-", req.path, body }, " ")
end
app:any("/told/*rest", tell)
app:post("/trailers", function(req)
  local body = assert(req.body:read("a"))
  local list = {}
  for name, value in pairs(req.body:trailers()) do list[#list + 1] = name .. "=" .. value end
  table.sort(list)
  return body .. "|" .. table.concat(list, ",")
end)

app:get("/written", function(_, res)
  assert(res:write("one,"))
  assert(res:write(""))
  assert(res:write("two"))
end)
app:get("/flushed", function(_, res)
  assert(res:flush())
  return nil
end)
app:get("/empty-write", function(_, res) assert(res:write("")) end)
app:get("/trailing", function(_, res)
  res.headers.trailer = "x-sum"
  assert(res:write("data"))
  res.trailers["x-sum"] = "42"
end)
app:get("/hints", function(_, res)
  assert(res:informational(103, { link = "</a.css>; rel=preload" }))
  assert(res:informational(102))
  return "done"
end)
app:get("/nothing", function() end)
app:get("/status/:status", function(req, res)
  res.status = tonumber(req.params.status)
end)
app:get("/body/:status", function(req) return tonumber(req.params.status), "content" end)
app:get("/written/:status", function(req, res)
  res.status = tonumber(req.params.status)
  assert(res:write("con"))
  assert(res:write("tent"))
end)
app:get("/reason", function(_, res)
  res.status, res.reason = 200, "Fine by me"
  return ""
end)
app:get("/fields", function(_, res)
  res.headers["x-b"] = { "1", "2" }
  res.headers["X-A"] = "\xE4"
  res.headers["set-cookie"] = { "a=1", "b=2" }
  res.headers["x-none"] = ""
  return ""
end)
app:get("/own", function(_, res)
  res.headers.date = "Thu, 01 Jan 1970 00:00:00 GMT"
  res.headers.server = "mine"
  return ""
end)
app:get("/close", function(_, res)
  res.headers.connection = "close"
  return ""
end)
app:head("/head", function(_, res)
  res.headers["content-length"] = "1000000"
end)

-- Content-Length that the handler declares; what happened is told by /happened.
local happened
local function declared(length, pieces, caught)
  return function(_, res)
    res.headers["content-length"] = length
    for _, piece in ipairs(pieces) do
      local ok, message = pcall(res.write, res, piece)
      if not ok then
        happened = tostring(message):match("more content.*") or message
        if not caught then error(message, 0) end
      end
    end
  end
end
app:get("/declared/exact", declared("6", { "abc", "def" }))
app:get("/declared/blanks", declared(" 6 ", { "abcdef" }))
app:get("/declared/returned", function(_, res)
  res.headers["Content-LENGTH"] = "3"
  return "abc"
end)
app:get("/declared/none", declared("20", {}))
app:get("/declared/few", declared("20", { "abcde" }))
app:get("/declared/first-too-long", declared("3", { "abcd" }))
app:get("/declared/first-too-long-caught", function(_, res)
  res.headers["content-length"] = "3"
  local ok = pcall(res.write, res, "abcd")
  res.headers["content-length"] = nil
  return tostring(ok)
end)
app:get("/declared/second-too-long", declared("10", { "abcde", "fghijk" }))
app:get("/declared/second-too-long-caught", declared("10", { "abcde", "fghijk" }, true))
app:get("/declared/beyond", declared("10", { "abcdefghij", "klmnopqrs" }))
app:get("/declared/beyond-caught", declared("10", { "abcdefghij", "klmnopqrs" }, true))
app:get("/declared/empty-behind", declared("3", { "abc", "", "" }))
app:get("/declared/returned-too-long", function(_, res)
  res.headers["content-length"] = "3"
  return "abcdef"
end)
app:get("/happened", function()
  local last = happened
  happened = nil
  return last or "nothing"
end)
return app
]]

local s
setup(function()
  s = server.start({ app = APP })
end)
teardown(function()
  s:stop()
end)

local function request(line, lines)
  return ("%s\r\nHost: h\r\n%s\r\n"):format(line, lines or "")
end

--- The bytes of one answer, on a connection whose client ends its side behind the request.
local function answer(bytes, size)
  return (wire.converse(s, bytes, size, true))
end

local HELLO = ("Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n")

--- Runs each { title, request bytes, answer bytes } whole and byte by byte.
local function run(cases)
  for _, case in ipairs(cases) do
    wire.each_way(it, case[1], function(size)
      assert.equal(case[3], answer(case[2], size))
    end)
  end
end

describe("A request target (RFC 9112 section 3.2)", function()
  run({
    { "in origin form gives path and query", request("GET /told/a%20b?q=1 HTTP/1.1"),
      wire.text("GET /told/a%20b?q=1 h /told/a b ") },
    { "in absolute form brings its own host",
      request("GET http://other:81/told/x?y HTTP/1.1"),
      wire.text("GET http://other:81/told/x?y other:81 /told/x ") },
    { "in asterisk form asks for the server", request("OPTIONS * HTTP/1.1"),
      wire.answer("204 No Content", "allow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n") },
    { "is decoded once and freed of dot segments", request("GET /told/%2e/x/../%2541 HTTP/1.1"),
      wire.text("GET /told/%2e/x/../%2541 h /told/%41 ") },
    { "may follow empty lines", "\r\n\r\n" .. request("GET /told/a HTTP/1.1"),
      wire.text("GET /told/a h /told/a ") },
  })

  it("in authority form is parsed, and no app answers it", function()
    local status = answer("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n"):match("^HTTP/1.1 (%d+)")
    assert.is_truthy(({ ["404"] = true, ["405"] = true, ["501"] = true })[status], status)
  end)
end)

describe("Host (RFC 9112 section 3.2)", function()
  run({
    { "may be empty", "GET /told/a HTTP/1.1\r\nHost:\r\n\r\n", wire.text("GET /told/a  /told/a ") },
    { "may be an IPv6 address", "GET /told/a HTTP/1.1\r\nhOST: [::1]:80\r\n\r\n",
      wire.text("GET /told/a [::1]:80 /told/a ") },
  })
  it("may be missing from HTTP/1.0", function()
    assert.matches("GET /told/a %S* ?/told/a $", answer("GET /told/a HTTP/1.0\r\n\r\n"))
  end)
end)

describe("A method (RFC 9110 section 9)", function()
  run({
    { "that nobody knows reaches the app", request("BREW /told/a HTTP/1.1"),
      wire.text("BREW /told/a h /told/a ") },
    { "in lower case is another method", request("get /told/a HTTP/1.1"),
      wire.text("get /told/a h /told/a ") },
    { "GET may have content", request("GET /told/a HTTP/1.1", "Content-Length: 3\r\n") .. "abc",
      wire.text("GET /told/a h /told/a abc") },
    { "POST without length has none", request("POST /told/a HTTP/1.1"),
      wire.text("POST /told/a h /told/a ") },
    { "POST with length zero has none", request("POST /told/a HTTP/1.1", "Content-Length: 0\r\n"),
      wire.text("POST /told/a h /told/a ") },
  })
  it("that has no route here is 405", function()
    local got = answer(request("BREW /nothing HTTP/1.1"))
    assert.matches("^HTTP/1.1 405 Method Not Allowed\r\n", got)
    assert.matches("\r\nallow: GET, HEAD, OPTIONS\r\n", got)
  end)
end)

describe("HEAD (RFC 9110 section 9.3.2)", function()
  run({
    { "is answered by GET's route with GET's length", request("HEAD /reason HTTP/1.1"),
      wire.answer("200 Fine by me", HELLO:format(0)) },
    { "has the length of a returned string", request("HEAD /told/a HTTP/1.1"),
      wire.answer("200 OK", HELLO:format(#"HEAD /told/a h /told/a ")) },
    { "has no content when the handler writes", request("HEAD /written HTTP/1.1"),
      wire.answer("200 OK", "") },
    { "may promise a length that it never writes", request("HEAD /head HTTP/1.1"),
      wire.answer("200 OK", "Content-Length: 1000000\r\n") },
    { "keeps the length that GET declares", request("HEAD /declared/exact HTTP/1.1"),
      wire.answer("200 OK", "Content-Length: 6\r\n") },
    { "has the length of nothing when GET gives nothing", request("HEAD /nothing HTTP/1.1"),
      wire.answer("200 OK", "Content-Length: 0\r\n") },
  })
  it("leaves the connection usable", function()
    local connection = s:connect()
    connection:send(request("HEAD /written HTTP/1.1"), request("HEAD /head HTTP/1.1"))
    connection:send(request("GET /told/a HTTP/1.1"))
    connection:half_close()
    local got = wire.dateless((connection:rest()))
    assert.equal(wire.answer("200 OK", "") .. wire.answer("200 OK", "Content-Length: 1000000\r\n")
      .. wire.text("GET /told/a h /told/a "), got)
    connection:close()
  end)
end)

describe("Chunked content of a request (RFC 9112 section 7.1)", function()
  local function chunked(path, bytes)
    return request(("POST %s HTTP/1.1"):format(path), "Transfer-Encoding: chunked\r\n") .. bytes
  end
  run({
    { "is joined", chunked("/told/c", "3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n"),
      wire.text("POST /told/c h /told/c abc0123456789") },
    { "may be empty", chunked("/told/c", "0\r\n\r\n"), wire.text("POST /told/c h /told/c ") },
    { "may hold extensions, which mean nothing",
      chunked("/told/c", "1;a;b=c ; d=\"e;\\\"f\"\r\nx\r\n0;last\r\n\r\n"),
      wire.text("POST /told/c h /told/c x") },
    { "may look like chunks inside", chunked("/told/c", "7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n"),
      wire.text("POST /told/c h /told/c 0\r\n\r\n\r\n") },
    { "ends in trailers", chunked("/trailers", "2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-b:  2 \r\n\r\n"),
      wire.text("hi|x-b=2,x-sum=1") },
    { "has no trailers that would act",
      chunked("/trailers", "0\r\nCookie: a\r\nX-Sum: 1\r\nAuthorization: b\r\n\r\n"),
      wire.text("|x-sum=1") },
    { "comes with a coding in any case",
      request("POST /told/c HTTP/1.1", "TRANSFER-encoding:\tChunked\r\n") .. "1\r\nx\r\n0\r\n\r\n",
      wire.text("POST /told/c h /told/c x") },
    { "is followed by the next request",
      chunked("/told/c", "1\r\nx\r\n0\r\n\r\n") .. request("GET /told/n HTTP/1.1"),
      wire.text("POST /told/c h /told/c x") .. wire.text("GET /told/n h /told/n ") },
  })

  it("is the same wherever it is cut in two", function()
    local bytes = chunked("/trailers", "3;e=\"x\"\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n")
    local connection = s:connect()
    for cut = 1, #bytes - 1 do
      connection:send(bytes:sub(1, cut))
      connection:send(bytes:sub(cut + 1))
      assert.equal("abcd|x-sum=1", connection:response().body)
    end
    connection:close()
  end)
end)

describe("An answer's framing (reference section 8.3)", function()
  run({
    { "is chunked when the length is unknown", request("GET /written HTTP/1.1"),
      wire.answer("200 OK", "Transfer-Encoding: chunked\r\n",
        "4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\n") },
    { "is chunked when it was flushed first", request("GET /flushed HTTP/1.1"),
      wire.answer("200 OK", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n") },
    { "is chunked when nothing was written first", request("GET /empty-write HTTP/1.1"),
      wire.answer("200 OK", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n") },
    { "ends in the trailers that were set", request("GET /trailing HTTP/1.1"),
      wire.answer("200 OK", "trailer: x-sum\r\nTransfer-Encoding: chunked\r\n",
        "4\r\ndata\r\n0\r\nx-sum: 42\r\n\r\n") },
    { "is the connection's end for HTTP/1.0", "GET /written HTTP/1.0\r\n\r\n",
      wire.answer("200 OK", "Connection: close\r\n", "one,two") },
    { "is the connection's end for HTTP/1.0 with keep-alive",
      "GET /written HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
      wire.answer("200 OK", "Connection: close\r\n", "one,two") },
    { "drops trailers for HTTP/1.0", "GET /trailing HTTP/1.0\r\n\r\n",
      wire.answer("200 OK", "trailer: x-sum\r\nConnection: close\r\n", "data") },
    { "is a length of zero when the handler did nothing", request("GET /nothing HTTP/1.1"),
      wire.answer("200 OK", "Content-Length: 0\r\n") },
    { "is none for 204", request("GET /status/204 HTTP/1.1"), wire.answer("204 No Content", "") },
    { "is none for 304", request("GET /status/304 HTTP/1.1"), wire.answer("304 Not Modified", "") },
    { "drops content of 204", request("GET /written/204 HTTP/1.1"),
      wire.answer("204 No Content", "") },
    { "drops content of 304", request("GET /written/304 HTTP/1.1"),
      wire.answer("304 Not Modified", "") },
    { "drops content returned with 204", request("GET /body/204 HTTP/1.1"),
      wire.answer("204 No Content", "Content-Type: text/plain; charset=utf-8\r\n") },
  })
  it("of 204 and 304 leaves the connection in step", function()
    local got = answer(request("GET /written/204 HTTP/1.1") .. request("GET /written/304 HTTP/1.1")
      .. request("GET /nothing HTTP/1.1"))
    assert.equal(wire.answer("204 No Content", "") .. wire.answer("304 Not Modified", "") ..
      wire.answer("200 OK", "Content-Length: 0\r\n"), got)
  end)
end)

describe("A status (reference section 8.2)", function()
  run({
    { "has its standard phrase", request("GET /status/410 HTTP/1.1"),
      wire.answer("410 Gone", "Content-Length: 0\r\n") },
    { "that nobody knows has an empty phrase", request("GET /status/799 HTTP/1.1"),
      wire.answer("799 ", "Content-Length: 0\r\n") },
    { "may be 999", request("GET /status/999 HTTP/1.1"),
      wire.answer("999 ", "Content-Length: 0\r\n") },
    { "has the phrase that the handler gave", request("GET /reason HTTP/1.1"),
      wire.answer("200 Fine by me", HELLO:format(0)) },
    { "line is HTTP/1.1 for HTTP/1.0 too", "GET /nothing HTTP/1.0\r\n\r\n",
      wire.answer("200 OK", "Content-Length: 0\r\nConnection: close\r\n") },
  })
  for _, status in ipairs({ "101", "199", "1000" }) do
    it(("of %s is refused to the handler"):format(status), function()
      assert.matches("^HTTP/1.1 500 ", answer(request(("GET /status/%s HTTP/1.1"):format(status))))
    end)
  end
end)

describe("The fields of an answer", function()
  run({
    { "are one line a value, in order, spelt as they were set", request("GET /fields HTTP/1.1"),
      wire.answer("200 OK", "x-b: 1\r\nx-b: 2\r\nX-A: \xE4\r\nset-cookie: a=1\r\n" ..
        "set-cookie: b=2\r\nx-none: \r\n" .. HELLO:format(0)) },
  })
  it("may replace Date and Server", function()
    local connection = s:connect()
    connection:send(request("GET /own HTTP/1.1"))
    connection:half_close()
    assert.equal("HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: mine\r\n" ..
      HELLO:format(0) .. "\r\n", (connection:rest()))
    connection:close()
  end)
  for _, word in ipairs({ "false", "off" }) do
    it(("name no server with server_header=%s"):format(word), function()
      local quiet = server.start({ app = APP, options = { "--set", "server_header=" .. word } })
      local got = wire.converse(quiet, request("GET /nothing HTTP/1.1"), nil, true)
      assert.equal("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n\r\n", got)
      quiet:stop()
    end)
  end
  it("name the server as server_header says", function()
    local named = server.start({ app = APP, options = { "--set", "server_header=quay/1" } })
    assert.equal("quay/1", named:get("/nothing").headers.server)
    named:stop()
  end)
end)

describe("Interim responses (RFC 9110 section 15.2)", function()
  local FINAL = wire.text("done")
  run({
    { "come before the final one", request("GET /hints HTTP/1.1"),
      "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n" ..
      "HTTP/1.1 102 Processing\r\n\r\n" .. FINAL },
    { "are not sent to HTTP/1.0", "GET /hints HTTP/1.0\r\n\r\n",
      wire.answer("200 OK", HELLO:format(4) .. "Connection: close\r\n", "done") },
  })
end)

describe("A Content-Length that the handler declares (reference section 8.4)", function()
  local function declared(name)
    local got, how = wire.converse(s, request(("GET /declared/%s HTTP/1.1"):format(name),
      "Connection: close\r\n"))
    return got, how, s:get("/happened").body
  end
  local SIZED = "Content-Length: %d\r\nConnection: close\r\n"
  local TYPED = "Content-Type: text/plain; charset=utf-8\r\n"
  local RAISED = "more content than the Content-Length header says"

  local whole = {
    { "is kept", "exact", SIZED:format(6), "abcdef", "nothing" },
    { "may stand between blanks", "blanks", SIZED:format(6), "abcdef", "nothing" },
    { "may be spelt in any way", "returned", TYPED .. SIZED:format(3), "abc", "nothing" },
    { "is complete when more is refused", "beyond-caught", SIZED:format(10), "abcdefghij", RAISED },
    { "is complete when more is refused and the handler fails", "beyond", SIZED:format(10),
      "abcdefghij", RAISED },
    { "may be followed by writes of nothing", "empty-behind", SIZED:format(3), "abc", "nothing" },
    { "leaves the response unstarted when the first write is too long", "first-too-long-caught",
      TYPED .. SIZED:format(5), "false", "nothing" },
  }
  for _, case in ipairs(whole) do
    it(case[1], function()
      local got, how, told = declared(case[2])
      assert.same({ wire.answer("200 OK", case[3], case[4]), "closed", case[5] },
        { got, how, told })
    end)
  end

  for _, name in ipairs({ "none", "few", "second-too-long", "second-too-long-caught" }) do
    it(("breaks the connection when it is not reached: %s"):format(name), function()
      local connection = s:connect()
      connection:send(request(("GET /declared/%s HTTP/1.1"):format(name)))
      local _, how = connection:rest()
      assert.equal("reset", how)
      connection:close()
      assert.equal(name:find("second") and RAISED or "nothing", s:get("/happened").body)
      s:await(name == "second-too-long" and "handler_failed.-/declared/second%-too%-long " or
        "fewer bytes were written")
    end)
  end

  for _, name in ipairs({ "first-too-long", "returned-too-long" }) do
    it(("is a 500 when all that comes is too long: %s"):format(name), function()
      local got, how = declared(name)
      assert.matches("^HTTP/1.1 500 Internal Server Error\r\n", got)
      assert.equal("closed", how)
    end)
  end
end)
