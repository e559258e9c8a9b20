local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

app:post("/all", function(req) return assert(req.body:read("a")) end)
app:post("/text", function(req) return assert(req:text(5)) end)
app:post("/sizes", function(req)
  local sizes = {}
  for chunk in req.body:chunks(3) do sizes[#sizes + 1] = #chunk end
  return table.concat(sizes, "+") .. " " .. tostring(req.body.done)
end)
app:post("/lines", function(req)
  local lines = {}
  for line in req.body:lines(8) do lines[#lines + 1] = "[" .. line .. "]" end
  return table.concat(lines)
end)
app:post("/save", function(req)
  local bytes, err = req.body:save(req.query.path)
  return bytes and tostring(bytes) or err.code
end)
app:post("/pipe", function(req, res)
  local bytes = assert(req.body:pipe(res))
  res.trailers["x-bytes"] = tostring(bytes)
end)
app:post("/sink", function(req)
  local pieces = {}
  assert(req.body:pipe(function(piece)
    pieces[#pieces + 1] = piece or "end"
    return true
  end))
  return table.concat(pieces, "")
end)
app:post("/full", function(req)
  local bytes, err = req.body:pipe(function() return nil, "full" end)
  return tostring(bytes) .. " " .. tostring(err)
end)
app:post("/source", function(req)
  local source, text = req.body:source(), ""
  for piece in source do text = text .. piece end
  return text
end)
app:post("/trailers", function(req)
  local before = req.body:trailers()
  req.body:read("a")
  return tostring(before) .. " " .. tostring((req.body:trailers() or {})["x-sum"])
end)
app:post("/json", function(req) return { got = assert(req:json()) } end)
app:post("/form", function(req)
  local form = assert(req:form(100))
  local lines = {}
  for name, value in pairs(form) do
    if type(value) == "table" then
      value = ("%s|%s|%s"):format(value.filename, tostring(value.type), value.content)
    end
    lines[#lines + 1] = name .. "=" .. value
  end
  return table.concat(lines, "\n")
end)
app:post("/parts", function(req)
  local seen = {}
  for part in assert(req:multipart()) do
    local text = part.name == "skip" and "skipped" or part:read(3)
    while part.name == "f" and #text < 3 do text = text .. part:read(3 - #text) end
    if part.name == "all" then
      for piece in part:chunks() do text = text .. piece end
    end
    seen[#seen + 1] = ("%s:%s:%s:%s"):format(part.name, tostring(part.filename),
      tostring(part.headers["x-part"]), text)
  end
  return table.concat(seen, "\n")
end)
app:post("/part-save", function(req)
  for part in assert(req:multipart()) do
    local bytes, err = part:save(req.query.path)
    return tostring(bytes) .. " " .. tostring(err and err.code)
  end
end)

-- Limits (30 bytes for all of these).
local function ten() return { max_request_body_size = 10 } end
app:post("/limit/all", ten(), function(req) return assert(req.body:read("a")) end)
app:post("/limit/chunks", ten(), function(req)
  local n = 0
  for chunk in req.body:chunks() do n = n + #chunk end
  return tostring(n)
end)
app:post("/limit/lines", ten(), function(req)
  for _ in req.body:lines() do end
end)
app:post("/limit/unread", ten(), function() return "unread" end)
app:post("/limit/caught", ten(), function(req)
  local ok, err = req.body:read("a")
  local _, again = req.body:read("a")
  return 200, ("%s %s %d %s"):format(tostring(ok), err.code, err.status, again.code)
end)
app:post("/limit/raised", ten(), function(req)
  req.limits.max_request_body_size = "1MB"
  return tostring(#req.body:read("a"))
end)
app:post("/limit/late", ten(), function(req)
  local before = req.limits.read_only
  req.body:read(1)
  local ok, message = pcall(function() req.limits.max_request_body_size = 20 end)
  local after = req.limits.read_only
  return ("%s %s %s %s"):format(tostring(before), tostring(after), tostring(ok), message)
end)
app:post("/limit/after413", ten(), function(req)
  req.body:read("a")
  local before = req.limits.read_only
  req.limits.max_request_body_size = moonquay.UNLIMITED
  return tostring(before) .. " " .. tostring(#req.body:read("a"))
end)
app:post("/limit/headers", ten(), function(req, res)
  res.headers["x-mine"] = "1"
  return assert(req.body:read("a"))
end)
for name, value in pairs({ negative = -1, text = "many", float = 1.5 }) do
  app:post("/limit/" .. name, function(req)
    return tostring(pcall(function() req.limits.max_request_body_size = value end))
  end)
end
return app
]]

describe("the body of a request", function()
  local s, dir
  lazy_setup(function()
    dir = temp.dir()
    s = server.start({ app = APP })
  end)
  lazy_teardown(function()
    dir:remove()
    assert.equal(0, s:stop())
  end)

  -- Sends the body whole, in one chunk, and byte by byte as chunks of one.
  local function post(path, body, fields, framing)
    local connection = s:connect()
    local head = { ("POST %s HTTP/1.1\r\nHost: a\r\n"):format(path) }
    for name, value in pairs(fields or {}) do
      head[#head + 1] = ("%s: %s\r\n"):format(name, value)
    end
    if framing == "sized" then
      connection:send(table.concat(head), "Content-Length: ", tostring(#body), "\r\n\r\n", body)
    else
      local size = framing == "one chunk" and math.max(#body, 1) or 1
      local pieces = { table.concat(head), "Transfer-Encoding: chunked\r\n\r\n" }
      for at = 1, #body, size do
        local piece = body:sub(at, at + size - 1)
        pieces[#pieces + 1] = ("%x\r\n%s\r\n"):format(#piece, piece)
      end
      pieces[#pieces + 1] = "0\r\nX-Sum: 7\r\n\r\n"
      connection:send(table.concat(pieces))
    end
    local response = connection:response()
    local after = connection:post("/all", "next")
    connection:close()
    assert.equal("next", after.body) -- whatever the handler left, the connection goes on
    return response
  end

  local part = "--b\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n%s\r\n"
  local form = part:format("a", "", "1")
    .. part:format("f", "; filename=\"x.txt\"\r\nContent-Type: text/x\r\nX-Part: p", "file")
    .. part:format("skip", "", ("s"):rep(30))
    .. part:format("all", "", "abcdefgh")
    .. "--b--\r\n"
  local multipart = { ["Content-Type"] = "multipart/form-data; boundary=b" }
  local urlencoded = { ["Content-Type"] = "application/x-www-form-urlencoded" }
  local json = { ["Content-Type"] = "application/json" }
  local problem_json = { ["Content-Type"] = "application/problem+json; charset=utf-8" }

  local cases = {
    { "is read whole", "/all", "some text", body = "some text" },
    { "is empty", "/all", "", body = "" },
    { "is read as text up to a size", "/text", "12345", body = "12345" },
    { "is refused as text above that size", "/text", "123456", status = 413 },
    { "comes in lines", "/lines", "a\nbc\r\n\nd", body = "[a][bc][][d]" },
    { "keeps a carriage return inside a line", "/lines", "a\rb\n", body = "[a\rb]" },
    { "takes lines of the longest size", "/lines", "12345678\n87654321",
      body = "[12345678][87654321]" },
    { "refuses longer lines", "/lines", "123456789\n1", status = 413 },
    { "refuses a longer last line", "/lines", "123456789", status = 413 },
    { "is poured into the response", "/pipe", "flow", body = "flow", trailer = "4" },
    { "is poured into a sink", "/sink", "flow", body = "flowend" },
    { "tells that a sink is full", "/full", "flow", body = "nil full" },
    { "is an LTN12 source", "/source", "flow", body = "flow" },
    { "is read as JSON", "/json", '{"a":[1,2.0]}', json, body = '{"got":{"a":[1,2.0]}}' },
    { "is read as JSON of any kind", "/json", "1", problem_json, body = '{"got":1}' },
    { "is no JSON", "/json", "{", json, status = 400 },
    { "is no JSON by its type", "/json", "1", urlencoded, status = 415 },
    { "is JSON null", "/json", "null", json, body = '{"got":null}' },
    { "is read as a form", "/form", "a=1&b=x+%26&a=2", urlencoded, body = "a=1\nb=x &\na=2" },
    { "is refused as a form above a size", "/form", ("a=1&"):rep(26), urlencoded, status = 413 },
    { "is read as a multipart form", "/form", form, multipart,
      body = "a=1\nf=x.txt|text/x|file\nskip=" .. ("s"):rep(30) .. "\nall=abcdefgh" },
    { "is no form by its type", "/form", "a=1", json, status = 415 },
    { "comes in parts", "/parts", form, multipart,
      body = "a:nil:nil:1\nf:x.txt:p:fil\nskip:nil:nil:skipped\nall:nil:nil:abcdefgh" },
    { "is not in parts by its type", "/parts", form, urlencoded, status = 415 },
    { "ends before its last part", "/parts", form:sub(1, -8), multipart, status = 400 },
    { "has a part above the form's size", "/form",
      part:format("a", "", ("x"):rep(101)) .. "--b--\r\n", multipart, status = 413 },
    { "within the limit", "/limit/all", "1234567890", body = "1234567890" },
    { "above the limit: 413 when the error escapes", "/limit/all", "12345678901", status = 413 },
    { "above the limit: 413 from an iterator", "/limit/chunks", "12345678901", status = 413 },
    { "above the limit: 413 from lines", "/limit/lines", "12345678901", status = 413 },
    { "above the limit and never read", "/limit/unread", "12345678901", body = "unread" },
    { "above the limit, the error caught", "/limit/caught", "12345678901",
      body = "nil too_large 413 too_large" },
    { "above a limit that was raised before", "/limit/raised", "12345678901", body = "11" },
    { "above the limit: headers are dropped", "/limit/headers", "12345678901", status = 413 },
    { "refuses a negative limit", "/limit/negative", "x", body = "false" },
    { "refuses a limit that is no size", "/limit/text", "x", body = "false" },
    { "refuses half a byte", "/limit/float", "x", body = "false" },
  }
  for _, case in ipairs(cases) do
    for _, framing in ipairs({ "sized", "one chunk", "bytewise" }) do
      it(("%s (%s)"):format(case[1], framing), function()
        local response = post(case[2], case[3], case[4], framing)
        assert.equal(case.status or 200, response.status, response.body)
        if case.body then
          assert.equal(case.body, response.body)
        end
        assert.is_nil(response.headers["x-mine"])
        assert.equal(case.trailer, response.trailers["x-bytes"])
      end)
    end
  end

  it("comes in chunks of at most the size asked for", function()
    local response = post("/sizes", "12345678", nil, "sized")
    local total = 0
    for size in response.body:gmatch("%d+") do
      assert.is_true(tonumber(size) <= 3)
      total = total + tonumber(size)
    end
    assert.equal(8, total)
    assert.matches(" true$", response.body)
  end)

  it("has its trailers after its end", function()
    assert.equal("nil 7", post("/trailers", "abc", nil, "bytewise").body)
    assert.equal("nil nil", post("/trailers", "abc", nil, "sized").body)
  end)

  it("is saved to a file", function()
    assert.equal("4", post("/save?path=" .. dir.path .. "/saved", "data", nil, "sized").body)
    assert.equal("data", dir:read("saved"))
  end)

  it("tells that it cannot be saved", function()
    assert.equal("not_found", post("/save?path=/no/such/dir", "data", nil, "sized").body)
  end)

  it("has parts that are saved to a file", function()
    local path = "/part-save?path=" .. dir.path .. "/part"
    assert.equal("1 nil", post(path, form, multipart, "bytewise").body)
    assert.equal("1", dir:read("part"))
  end)

  it("leaves no file of a part that broke off", function()
    local path = "/part-save?path=" .. dir.path .. "/broken"
    local broken = part:format("a", "", "data"):sub(1, -4)
    assert.equal("nil invalid", post(path, broken, multipart, "sized").body)
    assert.is_nil(dir:read("broken"))
  end)

  it("makes its limit read-only when reading starts, and says where", function()
    local body = post("/limit/late", "1234", nil, "sized").body
    assert.matches("^false true false .*read%-only: body reading started at .*app.lua:%d+", body)
  end)

  it("leaves the limit changeable when the declared length was refused", function()
    assert.equal("false 11", post("/limit/after413", "12345678901", nil, "sized").body)
  end)

  it("is asked for at the first read only (Expect: 100-continue)", function()
    local connection = s:connect()
    local head = "POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"
    connection:send(head:format("/limit/all"))
    local refused = connection:response()
    assert.equal(413, refused.status)
    assert.equal(0, #refused.interim)
    connection:close()
    connection = s:connect()
    connection:send(head:format("/all"))
    assert.equal("HTTP/1.1 100 Continue\r\n\r\n", connection:receive(25))
    connection:send("hello world")
    assert.equal("hello world", connection:response().body)
    connection:close()
  end)
end)
