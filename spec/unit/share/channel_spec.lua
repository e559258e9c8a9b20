-- An app behind a host, in one process: what its handlers and its clients see must be what they see
-- without the host.
local core = require("moonquay.core")
local moonquay = require("moonquay")
local test = require("moonquay.test")

local function new_app()
  local app = moonquay.app()

  app:get("/hello", function() return "hello" end)
  app:any("/seen", function(req)
    local names = {}
    for name, value in pairs(req.headers) do
      names[#names + 1] = name .. "=" .. value
    end
    table.sort(names)
    return {
      method = req.method, path = req.path, base = req.path_base, raw = req.raw_target,
      query = req.query_string, host = req.host, scheme = req.scheme, protocol = req.protocol,
      client = req.client_address, port = req.local_port, local_address = req.local_address,
      is_tls = req.tls ~= nil, fields = names, has_body = req.body and req.body:read("a") or "",
    }
  end)
  app:post("/echo", function(req, res)
    for chunk in req.body:chunks() do
      assert(res:write(chunk))
    end
  end)
  app:get("/large", function() return ("x"):rep(3000000) end)
  app:get("/none", function() return 204 end)
  app:get("/status", function(_, res)
    res.headers["x-one"] = "1"
    res.headers["x-two"] = { "a", "b" }
    return 418, "teapot"
  end)
  app:get("/trailers", function(_, res)
    res.headers.trailer = "x-sum"
    res:write("content")
    res.trailers["x-sum"] = "42"
  end)
  app:post("/their-trailers", function(req)
    local body = req.body:read("a")
    return body .. " " .. tostring(req.body:trailers()["x-sum"])
  end)
  app:get("/hints", function(_, res)
    res:informational(103, { link = "</a.css>" })
    return "final"
  end)
  app:get("/close", function(_, res)
    res:close_connection()
    return "bye"
  end)
  app:get("/error", function() error("on purpose") end)
  app:post("/small", { max_request_body_size = 10 }, function(req)
    return (assert(req.body:read("a")))
  end)
  app:post("/unread", function() return 403, "not read" end)
  app:get("/abort", function(req, res)
    res:write("part")
    res:flush()
    req:abort()
  end)
  app:get("/mirror", function(req, res)
    for name, value in pairs(req.headers) do
      if name:lower():find("^x%-") then
        res.headers[name] = value
      end
    end
    return tostring(#(req.query_string or ""))
  end)
  app:get("/part", function(_, res)
    res.headers["content-length"] = "10"
    res:write("01234")
  end)
  return app
end

-- The connection's last request: its answer ends it.
local LAST = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

-- Names of fields are in lower case behind a host, as over HTTP/2.
local function same_names(text)
  return (text:gsub("\n([%w-]+): ", function(name) return "\n" .. name:lower() .. ": " end)
    :gsub("date: [^\r]*", "date: now"):gsub("000000000000%-%x+", "ID")
    :gsub('"([%w-]+)=', function(name) return '"' .. name:lower() .. "=" end))
end

-- How content is cut into chunks says nothing.
local function join_chunks(text)
  local before
  repeat
    before = text
    text = text:gsub("\r\n(%x+)\r\n([^\r]+)\r\n(%x+)\r\n([^\r]+)\r\n", function(a, one, b, two)
      if #one ~= tonumber(a, 16) or #two ~= tonumber(b, 16) then return end
      return ("\r\n%x\r\n%s\r\n"):format(#one + #two, one .. two)
    end)
  until text == before
  return text
end

-- All bytes that come back for these, until the connection ends.
local function raw(client, ...)
  local connection = client.server:connect()
  local got = {}
  for _, piece in ipairs({ ... }) do
    assert(connection:send(piece))
  end
  while true do
    local bytes, err = connection:receive(10)
    if not bytes then
      got[#got + 1] = "<" .. err.code .. ">"
      break
    end
    got[#got + 1] = bytes
  end
  connection:close()
  return join_chunks(same_names(table.concat(got)))
end

local REQUESTS = {
  hello = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
  ["two in a row"] = ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"):rep(2),
  ["HTTP/1.0 without a host"] = "GET /seen HTTP/1.0\r\n\r\n",
  ["a target with a query"] =
    "GET /seen?a=b%20c&d HTTP/1.1\r\nHost: a.example:80\r\nX-Y: z\r\n\r\n",
  ["an absolute target"] = "GET http://b/seen?x HTTP/1.1\r\nHost: a\r\n\r\n",
  ["a request with sized content"] =
    "POST /seen HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
  ["chunked content"] = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n",
  ["their trailers"] = "POST /their-trailers HTTP/1.1\r\nHost: a\r\n"
    .. "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
  ["Expect"] = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
    .. "Expect: 100-continue\r\n\r\nhi",
  ["our trailers"] = "GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
  ["hints"] = "GET /hints HTTP/1.1\r\nHost: a\r\n\r\n",
  ["the last answer of a connection"] = ("GET /close HTTP/1.1\r\nHost: a\r\n\r\n"):rep(2),
  ["HEAD"] = "HEAD /large HTTP/1.1\r\nHost: a\r\n\r\n",
  ["no content"] = "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
  ["another status"] = "GET /status HTTP/1.1\r\nHost: a\r\n\r\n",
  ["no route"] = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
  ["another method"] = "PUT /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
  ["content above the limit"] =
    "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
  ["content that is not read"] =
    "POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
  ["an answer that is broken off"] = "GET /part HTTP/1.1\r\nHost: a\r\n\r\n",
  ["forged fields"] = "GET /seen HTTP/1.1\r\nHost: a\r\nMoonquay-Request: x - 1 - - 2\r\n"
    .. "moonquay-tls: TLSv1.3 a b c d 1\r\nMOONQUAY-other: y\r\n\r\n",
  ["malformed content"] =
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}

-- Heads as large as settings allow by default: a target, fields, all of it, how many fields.
local function head_with(target, sizes)
  local lines = { ("GET %s HTTP/1.1\r\nHost: a\r\n"):format(target) }
  for i, size in ipairs(sizes) do
    local name = ("X-%d: "):format(i)
    lines[#lines + 1] = name .. ("%c"):format(97 + i % 26):rep(size - #name) .. "\r\n"
  end
  lines[#lines + 1] = "\r\n"
  return table.concat(lines)
end

local function times(count, size)
  local sizes = {}
  for i = 1, count do sizes[i] = size end
  return sizes
end

REQUESTS["the longest target"] = head_with("/mirror?" .. ("q"):rep(16384 - 8), { 10 })
REQUESTS["the longest field"] = head_with("/mirror", { 16384 })
REQUESTS["a target that is too long"] = head_with("/mirror?" .. ("q"):rep(16384 - 7), { 10 })
REQUESTS["a field that is too long"] = head_with("/mirror", { 16385 + 6 })
REQUESTS["the most fields"] = head_with("/mirror", times(990, 20))
REQUESTS["the largest head"] = head_with("/mirror?" .. ("q"):rep(16000), times(7, 16200))
REQUESTS["a head that is too large"] = head_with("/mirror?" .. ("q"):rep(16000), times(8, 16200))

describe("an app behind a host", function()
  local app = new_app()
  local plain, shared = test.client(app), test.client(app, { shared = true })

  for name, request in pairs(REQUESTS) do
    it("answers as without it: " .. name, function()
      local expected = raw(plain, request .. LAST)
      assert.equal(expected, raw(shared, request .. LAST))
      assert.truthy(expected:find("HTTP/1.1 ") or expected:find("^<%l+>$"))
      if name:find("^the longest") or name:find("^the largest") or name:find("^the most") then
        assert.truthy(expected:find("^HTTP/1.1 200 "))
      end
    end)
  end

  -- What a client of tests sees; the link to the app is renewed every hundred requests.
  it("answers 5,000 requests in a row, and large ones", function()
    for i = 1, 5000 do
      assert.equal(200, shared:get("/hello").status, "request " .. i)
    end
    assert.equal(3000000, #shared:get("/large").body)
    local content = ("0123456789"):rep(100000)
    assert.equal(content, shared:post("/echo", { body = content }).body)
  end)

  it("keeps credentials from its handlers, unless it asks for them", function()
    local function fields_seen()
      local client = test.client(new_app(), { shared = true })
      return table.concat(client:get("/seen", { headers = { authorization = "Basic abc" } })
        :json().fields, ","):lower()
    end
    assert.is_nil(fields_seen():find("authorization", 1, true))
  end)

  it("has its handler learn that the client has left", function()
    local left, started = core.event(), core.event()
    local watched = moonquay.app()
    watched:get("/wait", function(req)
      req:on_cancel(function() left:set() end)
      started:set()
      moonquay.sleep(60)
    end)
    local connection = test.client(watched, { shared = true }).server:connect()
    assert(connection:send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert.is_true(started:wait(10))
    connection:close()
    assert.is_true(left:wait(10))
  end)
end)
