local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local timed = require("spec.support.timed")

local frames = h2.frames

-- Whatever is asked of it runs the code in its field x-code.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local last = "nothing"

local function pairs_of(fields)
  local list = {}
  for name, value in pairs(fields) do
    if name ~= "x-code" then list[#list + 1] = name .. "=" .. value end
  end
  return table.concat(list, "|")
end

local function count(req)
  local bytes = 0
  while true do
    local data, err = req.body:read()
    if err then return ("%d then %s %s"):format(bytes, err.code, tostring(err.status)) end
    if not data then return ("%d"):format(bytes) end
    bytes = bytes + #data
  end
end

app:any("/told", function() return last end)
app:any("/count", function(req)
  last = "it reads"
  last = count(req)
  return last
end)
app:any("/route-less", { max_request_body_size = 5 }, count)
app:any("/route-more", { max_request_body_size = 20 }, count)
app:any("/unread", function() return "unread" end)
app:any("/echo", function(req, res)
  for chunk in req.body:chunks() do
    res:write(chunk)
    res:flush()
  end
end)
app:any("/escape", function(req, res)
  res.headers["x-mine"] = "1"
  return (assert(req.body:read("a")))
end)
app:any("/*rest", function(req, res)
  local code = req.headers["x-code"]
  local run = assert(load("local req, res, pairs_of, count = ... return " .. code, "=code"))
  return tostring(run(req, res, pairs_of, count))
end)
return app
]]

describe("A request over HTTP/2", function()
  local s, client
  setup(function()
    s = timed.start(APP, "h2.cleartext=true", "max_request_body_size=10", "max_fields=100",
      "url_segment_max_length=50", "max_request_head_bytes=20000")
  end)
  teardown(function()
    s:stop()
  end)
  before_each(function()
    client = h2.connect(s)
  end)
  after_each(function()
    client:close()
  end)

  local function ask(code, more)
    more = more or {}
    local list = table.move(more, 1, #more, 1, { method = more.method, body = more.body,
      trailers = more.trailers, authority = more.authority })
    list[#list + 1] = { "x-code", code }
    local response = client:request(more.path or "/", list)
    assert.equal(200, response.status, response.reset or response.body)
    return response.body
  end

  describe("shows its handler (RFC 9113 section 8.3)", function()
    local cases = {
      { "the method", "req.method", "QUERY", method = "QUERY" },
      { "the raw target", "req.target", "/a%20b/../c?x=%31", path = "/a%20b/../c?x=%31" },
      { "the decoded path", "req.path", "/c%2Fd e", path = "/a/../c%2Fd%20e?x" },
      { "the query", "req.query_string .. ' ' .. req.query.name", "name=a+b%26c a b&c",
        path = "/?name=a+b%26c" },
      { "the host", "req.host", "example.org:81", authority = "example.org:81" },
      { "the host that the Host field says", "req.host", "other", authority = false,
        { "host", "other" } },
      { "the host that both say", "req.host .. req.headers.host", "testTEST", { "host", "TEST" } },
      { "an address as host", "req.host", "[::1]:80", authority = "[::1]:80" },
      { "a Host field where :authority was", "req.headers.host", "test" },
      { "the scheme", "req.scheme", "http" },
      { "the protocol", "req.protocol", "HTTP/2" },
      { "no pseudo-field", "pairs_of(req.headers)", "accept=a|host=test", { "accept", "a" } },
      { "headers in order, and in any case", "req.headers['X-A'] .. ' ' .. pairs_of(req.headers)",
        "1, 3 x-a=1|b=2|x-a=3|host=test", { "x-a", "1" }, { "b", "2" }, { "x-a", "3" } },
      { "an empty header", "'<' .. req.headers['x-a'] .. '>'", "<>", { "x-a", "" } },
      { "bytes as they came", "req.headers['x-a']", "caf\xe9", { "x-a", "caf\xe9" } },
      { "the fields of Cookie in one (section 8.2.3)",
        "#req.headers:all('cookie') .. req.headers.cookie .. req.cookies.b", "1a=1; b=2; c=32",
        { "cookie", "a=1" }, { "cookie", "b=2" }, { "x", "y" }, { "cookie", "c=3" } },
      { "the only Cookie as it came", "req.headers.cookie", "a=1; b=2", { "cookie", "a=1; b=2" } },
      { "the addresses", "req.client.ip .. ' ' .. req.peer.ip .. ' ' .. req.server.ip",
        "127.0.0.1 127.0.0.1 127.0.0.1" },
      { "TE: trailers (section 8.2.2)", "req.headers.te", "trailers", { "te", "trailers" } },
      { "a priority", "req.headers.priority", "u=1, i", { "priority", "u=1, i" } },
      { "a body that is at its end", "req.body:read()", "nil" },
      { "no limit without a body", "req.limits.max_request_body_size", "nil" },
      { "that nobody has left", "req:cancelled()", "false" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local more = table.move(case, 4, #case, 1, { method = case.method, path = case.path,
          authority = case.authority })
        assert.equal(case[3], ask(case[2], more))
      end)
    end

    it("the ports of both ends", function()
      local _, port = client.connection.tcp:getsockname()
      assert.equal(("%d %d"):format(port, s.port),
        ask("math.tointeger(req.client.port) .. ' ' .. req.server.port"))
    end)

    it("an id of its own, and that of its connection", function()
      local other = h2.connect(s)
      local one, of_one = ask("req.id .. ' ' .. req.connection_id"):match("^(%S+) (%S+)$")
      local two, of_two = ask("req.id .. ' ' .. req.connection_id"):match("^(%S+) (%S+)$")
      local third = other:request("/", { { "x-code", "req.connection_id" } }).body
      other:close()
      assert.not_equal(one, two)
      assert.equal(of_one, of_two)
      assert.not_equal(of_one, third)
    end)

    it("fields that come from HPACK's table, and in Huffman's code", function()
      local block = "\x82\x86\x84" .. "\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"
        .. frames.block({ { "x-code", "req.method .. req.host .. req.path" } })
      assert.equal("GETwww.example.com/", client:request({ block = block }).body)
      -- The authority was added to the table, where it is the newest line.
      block = "\x82\x86\x84" .. frames.reference(62)
        .. frames.block({ { "x-code", "req.host" } })
      assert.equal("www.example.com", client:request({ block = block }).body)
    end)

    it("many at once, each its own", function()
      local ids, expected, got = {}, {}, {}
      for i = 1, 100 do
        ids[i] = client:open("/" .. i, { { "x-code", "req.path" } })
        expected[i] = "/" .. i
      end
      for i, id in ipairs(ids) do
        got[i] = client:response(id).body
      end
      assert.same(expected, got)
    end)
  end)

  -- What the handler of /count has come to.
  local function assert_told(expected)
    local told
    pcall(await, "the end of the handler", function()
      told = client:request("/told").body
      return told ~= "it reads"
    end)
    assert.equal(expected, told)
  end

  describe("with content", function()
    local READ = "req.body:read('a')"
    local cases = {
      { "is read whole", READ, "abc", body = "abc" },
      { "is read whole, of a declared length", READ .. " .. req.headers['content-length']",
        "abc3", body = "abc", { "content-length", "3" } },
      { "may be empty", "count(req)", "0", body = "" },
      { "may be empty, of a declared length", "count(req)", "0", body = "",
        { "content-length", "0" } },
      { "may have a length of zero and no DATA", "count(req)", "0", { "content-length", "0" } },
      { "shows no length that nobody has declared", "req.headers['content-length']", "nil",
        body = "abc" },
      { "shows no transfer coding", "req.headers['transfer-encoding']", "nil", body = "abc" },
      { "has trailers behind it", READ .. " .. req.body:trailers()['x-sum']", "abc7", body = "abc",
        trailers = { { "x-sum", "7" } } },
      { "has trailers behind a declared length", READ .. " .. req.body:trailers()['x-sum']",
        "abc7", body = "abc", trailers = { { "x-sum", "7" } }, { "content-length", "3" } },
      { "may consist of trailers", "'<' .. req.body:read('a') .. req.body:trailers()['x-sum']",
        "<7", trailers = { { "x-sum", "7" } } },
      { "has no trailer that belongs into the head", READ ..
        " .. tostring(req.body:trailers().authorization) .. req.body:trailers()['x-b']", "abcnil2",
        body = "abc", trailers = { { "authorization", "x" }, { "x-b", "2" } } },
      { "has a limit that can be seen", "req.limits.max_request_body_size", "10", body = "abc" },
      { "of GET is read likewise", READ, "abc", body = "abc", method = "GET" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local more = table.move(case, 4, #case, 1, { method = case.method or "POST",
          body = case.body, trailers = case.trailers })
        assert.equal(case[3], ask(case[2], more))
      end)
    end

    it("is read as it comes", function()
      local id = client:open("/echo", { method = "POST", open = true })
      client:data(id, "one")
      assert.equal("one", client:body(id, 3).body)
      client:data(id, "two", true)
      assert.equal("onetwo", client:response(id).body)
    end)

    it("may be padded, in many frames, some of them empty", function()
      local id = client:open("/", { method = "POST", open = true, { "x-code", READ } })
      local padded = frames.frame("DATA", frames.PADDED, id, "\3ab\0\0\0")
      client:send(padded, frames.data(id, ""), padded, frames.data(id, "c"),
        frames.data(id, "", true))
      assert.equal("ababc", client:response(id).body)
    end)

    -- What is declared, what is sent, and whether the end comes with it.
    local broken = {
      { "more than was declared", "3", "abcd", true },
      { "more than was declared, before its end", "3", "abcd", false },
      { "less than was declared", "5", "abcd", true },
      { "nothing where something was declared", "5", "", true },
    }
    for _, case in ipairs(broken) do
      it("is cut off, and its read fails: " .. case[1], function()
        local id = client:open("/count", { method = "POST", open = true,
          { "content-length", case[2] } })
        client:settle()
        client:data(id, case[3], case[4])
        assert.equal("PROTOCOL_ERROR", client:response(id).reset)
        assert_told("0 then reset nil")
      end)
    end

    it("whose length is declared by a head that ends the stream is cut off", function()
      assert.equal("PROTOCOL_ERROR",
        client:request("/count", { { "content-length", "3" } }).reset)
      assert.equal("unread", client:request("/unread").body)
    end)

    it("has its read fail when the client resets the stream", function()
      local id = client:open("/count", { method = "POST", open = true })
      client:data(id, "abc")
      client:settle():send(frames.rst_stream(id, "CANCEL"))
      assert_told("3 then reset nil")
    end)
  end)

  describe("with too much content (reference section 5)", function()
    local MORE = ("e"):rep(11)
    local cases = {
      { "is read up to the limit", "/count", ("t"):rep(10), "10", "10" },
      { "fails the read of what is larger", "/count", MORE, "0 then too_large 413",
        "0 then too_large 413" },
      { "means nothing to a handler that does not read", "/unread", MORE, "unread", "unread" },
      { "is smaller for a route that says so", "/route-less", ("t"):rep(10),
        "0 then too_large 413", "0 then too_large 413" },
      { "is larger for a route that says so", "/route-more", MORE, "11", "11" },
      { "is larger for a request that says so", [[(function()
        req.limits.max_request_body_size = 20
        return count(req)
      end)()]], MORE, "11", "11" },
      { "can be raised after it has refused a declared length", [[(function()
        local first = count(req)
        req.limits.max_request_body_size = 20
        return first .. "; " .. count(req)
      end)()]], MORE, "0 then too_large 413; 11", nil },
      { "is read-only once reading has started", [[(function()
        req.body:read(1)
        return tostring(req.limits.read_only) ..
          tostring(pcall(function() req.limits.max_request_body_size = 20 end))
      end)()]], "abc", "truefalse", "truefalse" },
    }
    for _, case in ipairs(cases) do
      for framing, expected in pairs({ sized = case[4], unsized = case[5] }) do
        it(("%s (%s)"):format(case[1], framing), function()
          local path, code = case[2], nil
          if path:sub(1, 1) ~= "/" then
            path, code = "/", path:gsub("\n%s*", " ")
          end
          local more = { method = "POST", body = case[3] }
          more[1] = code and { "x-code", code }
          more[#more + 1] = framing == "sized" and { "content-length", tostring(#case[3]) } or nil
          assert.equal(expected, client:request(path, more).body)
        end)
      end
    end

    for _, length in ipairs({ { "content-length", "11" }, false }) do
      it(("is 413 when nobody catches the error (%s)"):format(length and "sized" or "unsized"),
        function()
          local response = client:request("/escape", { method = "POST", body = MORE,
            length or nil })
          assert.equal(413, response.status)
          assert.is_nil(response.headers["x-mine"])
          assert.equal("unread", client:request("/unread").body)
        end)
    end

    it("may be read in part, while it is below the limit", function()
      local id = client:open("/count", { method = "POST", open = true })
      client:data(id, "abcde")
      client:settle():data(id, "fghij")
      client:settle():data(id, "k", true)
      assert.equal("10 then too_large 413", client:response(id).body)
    end)
  end)

  describe("that expects 100 (RFC 9110 section 10.1.1)", function()
    local EXPECT = { "expect", "100-continue" }

    for _, length in ipairs({ { "content-length", "3" }, false }) do
      local sized = length and " (sized)" or " (unsized)"
      it("gets it at the first read" .. sized, function()
        local id = client:open("/count", { method = "POST", open = true, EXPECT, length or nil })
        client:await("100", function()
          return client:stream(id).interim[1]
        end)
        assert.same({ { { ":status", "100" } } }, { client:stream(id).interim[1].header_list })
        client:data(id, "abc", true)
        assert.equal("3", client:response(id).body)
        assert.equal(1, #client:stream(id).interim)
      end)

      it("gets none when content came along" .. sized, function()
        local id = client:id()
        client:send(frames.headers(id, h2.fields("/count", { method = "POST", EXPECT,
          length or nil }), { open = true }), frames.data(id, "abc", true))
        local response = client:response(id)
        assert.same({ "3", {} }, { response.body, response.interim })
      end)
    end

    it("gets the answer alone of a handler that does not read, and may send the rest", function()
      local id = client:open("/unread", { method = "POST", open = true, EXPECT })
      local response = client:response(id)
      assert.same({ "unread", {} }, { response.body, response.interim })
      assert.equal("unread", client:request("/unread").body)
    end)

    it("gets 413 for a length that is too large, and no 100", function()
      local id = client:open("/escape", { method = "POST", open = true, EXPECT,
        { "content-length", "11" } })
      local response = client:response(id)
      assert.same({ 413, {} }, { response.status, response.interim })
    end)

    it("gets none without content", function()
      local response = client:request("/count", { method = "POST", EXPECT })
      assert.same({ "0", {} }, { response.body, response.interim })
    end)

    it("of something else gets 417", function()
      assert.equal(417, client:request("/unread", { { "expect", "more" } }).status)
      assert.equal("unread", client:request("/unread").body)
    end)
  end)

  -- Each is told in the log, in the HTTP error log and the counters, and harms nobody else.
  describe("that is refused", function()
    local LONG = ("x"):rep(16000)
    local few, many = {}, {}
    for i = 1, 101 do
      many[i] = { "x", "y" }
      few[i] = i > 1 and many[i] or nil
    end
    table.remove(few, 1)

    local function told(reason, status, stream, target)
      await("a line of the HTTP error log", function()
        return (s.http_log:read("http.log") or ""):find((" HTTP/2 %s %s %d - %s -\n"):format(
          target, stream, status, reason), 1, true)
      end)
    end

    local cases = {
      { "with 431 for a long field", 431, "FieldLength", { { "x", LONG .. ("x"):rep(400) } } },
      { "with 431 for a long name", 431, "FieldLength", { { LONG .. ("x"):rep(400), "x" } } },
      { "with 431 for many fields", 431, "FieldLength", many },
      { "with 431 for a long head", 431, "RequestLength", { { "x", LONG }, { "y", LONG } } },
      { "with 431 for a head far too long", 431, "RequestLength",
        { { "a", LONG }, { "b", LONG }, { "c", LONG }, { "d", LONG } } },
      { "with 414 for a long target", 414, "URL_Length", path = "/" .. ("x"):rep(17000) },
      { "with 400 for a long segment", 400, "URL", path = "/" .. ("x"):rep(51) },
      { "with 400 for a target that is none", 400, "URL", path = "/%zz" },
      { "with 400 for an encoded NUL", 400, "URL", path = "/a%00" },
      { "with 403 above the root", 403, "Forbidden", path = "/a/../../b" },
      { "with 400 for another scheme", 400, "URL", scheme = "ftp" },
      { "with 400 for a Host that differs", 400, "Hostname", { { "host", "other" } } },
      { "with 400 for a user in :authority", 400, "Hostname", authority = "me@test" },
    }
    for _, case in ipairs(cases) do
      it(case[1] .. ", and the connection goes on", function()
        local before = timed.reasons(s)[case[3]]
        local more = table.move(case[4] or {}, 1, #(case[4] or {}), 1, {
          authority = case.authority, scheme = case.scheme })
        local id = client:open(case.path or "/refused", more)
        local response = client:response(id)
        assert.equal(case[2], response.status)
        assert.equal("text/html; charset=us-ascii", response.headers["content-type"])
        assert.equal(tostring(#response.body), response.headers["content-length"])
        assert.is_nil(response.headers.connection)
        assert.equal("unread", client:request("/unread").body)
        assert.equal(before + 1, timed.reasons(s)[case[3]])
        if case[2] ~= 414 then
          told(case[3], case[2], id, "GET " .. (case.path or "/refused"))
        end
        assert.is_nil(client.goaways)
      end)
    end

    it("by none of the limits when it keeps them", function()
      local path = "/" .. ("x"):rep(50)
      few[#few] = { "x-code", "req.path" }
      assert.equal(path, client:request(path, few).body)
      assert.equal("16000", ask("#req.headers.x", { { "x", LONG } }))
    end)

    it("while it sends content, and the content is dropped", function()
      local id = client:open("/refused", { method = "POST", open = true, { "host", "other" } })
      client:data(id, ("x"):rep(10000), true)
      assert.equal(400, client:response(id).status)
      assert.equal("unread", client:request("/unread").body)
    end)

    it("with 404 where no prefix has the path, and with 400 where none has the host", function()
      local other = timed.start(APP, "h2.cleartext=true", "urls=http://localhost:0/base")
      local connection = h2.connect(other)
      local function of(path, authority)
        return connection:request(path, { authority = authority }).status
      end
      assert.same({ 404, 400, 404, 500 }, { of("/nowhere", "localhost"), of("/base/unread", "x"),
        of("/bases", "localhost"), of("/base/x", "localhost") })
      timed.assert_told(other, "NotFound", 404, 2)
      timed.assert_told(other, "Hostname", 400)
      assert.equal(0, other:stop())
    end)
  end)

  -- RFC 9113 section 8.1.1: a stream error each, whatever else the connection carries.
  describe("that is malformed", function()
    local function raw(...)
      return { ... }
    end
    local METHOD, SCHEME, PATH, AUTHORITY = { ":method", "GET" }, { ":scheme", "http" },
      { ":path", "/" }, { ":authority", "test" }
    local cases = {
      { "without :method", raw(SCHEME, PATH, AUTHORITY) },
      { "without :scheme", raw(METHOD, PATH, AUTHORITY) },
      { "without :path", raw(METHOD, SCHEME, AUTHORITY) },
      { "with an empty :path", raw(METHOD, SCHEME, { ":path", "" }, AUTHORITY) },
      { "without :authority and Host", raw(METHOD, SCHEME, PATH) },
      { "with :method twice", raw(METHOD, METHOD, SCHEME, PATH, AUTHORITY) },
      { "with :path twice", raw(METHOD, SCHEME, PATH, PATH, AUTHORITY) },
      { "with :authority twice", raw(METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY) },
      { "with a pseudo-field of responses", raw(METHOD, SCHEME, PATH, AUTHORITY,
        { ":status", "200" }) },
      { "with an unknown pseudo-field", raw(METHOD, SCHEME, PATH, AUTHORITY, { ":what", "x" }) },
      { "with :protocol", raw({ ":method", "CONNECT" }, SCHEME, PATH, AUTHORITY,
        { ":protocol", "websocket" }) },
      { "with a pseudo-field behind others", raw(METHOD, SCHEME, PATH, { "a", "b" }, AUTHORITY) },
      { "of CONNECT with :path", raw({ ":method", "CONNECT" }, PATH, AUTHORITY) },
      { "of CONNECT without :authority", raw({ ":method", "CONNECT" }) },
      { "with a control in :path", raw(METHOD, SCHEME, { ":path", "/a\1b" }, AUTHORITY) },
      { "with a blank in :path", raw(METHOD, SCHEME, { ":path", "/a b" }, AUTHORITY) },
      { "with a :path that is none", raw(METHOD, SCHEME, { ":path", "*" }, AUTHORITY) },
      { "with a slash in :authority", raw(METHOD, SCHEME, PATH, { ":authority", "a/b" }) },
      { "with a blank in Host", raw(METHOD, SCHEME, PATH, { "host", "a b" }) },
      { "with two Hosts", raw(METHOD, SCHEME, PATH, { "host", "a" }, { "host", "a" }) },
      { "with a name in upper case", raw(METHOD, SCHEME, PATH, AUTHORITY, { "X-Code", "1" }) },
      { "with a blank in a name", raw(METHOD, SCHEME, PATH, AUTHORITY, { "x code", "1" }) },
      { "with an empty name", raw(METHOD, SCHEME, PATH, AUTHORITY, { "", "1" }) },
      { "with a line end in a value", raw(METHOD, SCHEME, PATH, AUTHORITY, { "x", "1\r\ny: 2" }) },
      { "with a NUL in a value", raw(METHOD, SCHEME, PATH, AUTHORITY, { "x", "1\0" }) },
      { "with a method that is none", raw({ ":method", "G T" }, SCHEME, PATH, AUTHORITY) },
      { "with Connection", raw(METHOD, SCHEME, PATH, AUTHORITY, { "connection", "close" }) },
      { "with Keep-Alive", raw(METHOD, SCHEME, PATH, AUTHORITY, { "keep-alive", "5" }) },
      { "with Proxy-Connection", raw(METHOD, SCHEME, PATH, AUTHORITY,
        { "proxy-connection", "close" }) },
      { "with Transfer-Encoding", raw(METHOD, SCHEME, PATH, AUTHORITY,
        { "transfer-encoding", "chunked" }) },
      { "with Upgrade", raw(METHOD, SCHEME, PATH, AUTHORITY, { "upgrade", "websocket" }) },
      { "with TE of more than trailers", raw(METHOD, SCHEME, PATH, AUTHORITY,
        { "te", "trailers, gzip" }) },
      { "with a Content-Length that is none", raw(METHOD, SCHEME, PATH, AUTHORITY,
        { "content-length", "1x" }) },
      { "with two lengths", raw(METHOD, SCHEME, PATH, AUTHORITY, { "content-length", "0" },
        { "content-length", "1" }) },
    }
    for _, case in ipairs(cases) do
      it(case[1] .. " is reset, has a reason, and harms no other", function()
        local before = timed.reasons(s).H2_Protocol
        local good = client:open("/unread", { method = "POST", open = true })
        local id = client:open(case[2])
        assert.equal("PROTOCOL_ERROR", client:response(id).reset)
        client:data(good, "x", true)
        assert.equal("unread", client:response(good).body)
        assert.equal(before + 1, timed.reasons(s).H2_Protocol)
        await("a line of the HTTP error log", function()
          return (s.http_log:read("http.log") or ""):find((" %d - - H2_Protocol -\n"):format(id),
            1, true)
        end)
        assert.is_nil(client.goaways)
      end)
    end

    -- Trailers have rules of their own (sections 8.1 and 8.3).
    local trailers = {
      { "a pseudo-field", { { ":path", "/" } }, "PROTOCOL_ERROR" },
      { "a name in upper case", { { "X", "1" } }, "PROTOCOL_ERROR" },
      { "Connection", { { "connection", "close" } }, "PROTOCOL_ERROR" },
      { "Content-Length", { { "content-length", "3" } }, "PROTOCOL_ERROR" },
      { "too many bytes", { { "x", ("x"):rep(17000) } }, "ENHANCE_YOUR_CALM" },
    }
    for _, case in ipairs(trailers) do
      it(("by its trailers (%s) is reset, and its read fails"):format(case[1]), function()
        local id = client:open("/count", { method = "POST", open = true })
        client:data(id, "abc")
        client:settle():trailers(id, case[2])
        assert.equal(case[3], client:response(id).reset)
        assert_told("3 then reset nil")
      end)
    end

    it("by trailers that do not end the stream is reset, and its read fails", function()
      local id = client:open("/count", { method = "POST", open = true })
      client:settle():send(frames.headers(id, { { "x", "y" } }, { open = true }))
      assert.equal("PROTOCOL_ERROR", client:response(id).reset)
      assert_told("0 then reset nil")
    end)
  end)

  it("of CONNECT is as over HTTP/1.1: its authority is the host, and it has no path", function()
    local code = "req.method .. ' ' .. req.host .. ' ' .. req.target .. ' <' .. req.path .. '>'"
    local function over_1()
      local connection = s:connect()
      connection:send("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nX-Code: " .. code .. "\r\n\r\n")
      local response = connection:response()
      connection:close()
      return { response.status, response.body }
    end
    local response = client:request({ { ":method", "CONNECT" }, { ":authority", "h:443" },
      { "x-code", code } })
    assert.same(over_1(), { response.status, response.body })
  end)

  it("of OPTIONS may ask for all of the server", function()
    assert.equal(204, client:request("*", { method = "OPTIONS" }).status)
  end)
end)
