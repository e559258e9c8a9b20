local server = require("spec.support.server")

describe("req", function()
  local s
  lazy_setup(function()
    s = server.start({
      app = [[
local moonquay = require("moonquay")
local app = moonquay.app()

-- Whatever stands behind the path "/eval/" is not decoded: the code comes as a field.
app:any("/*rest", function(req, res)
  local code = req.headers["x-code"]
  local run = assert(load("local req, res, moonquay = ... return " .. code, "=code"))
  local value = run(req, res, moonquay)
  return tostring(value)
end)
return app
]],
    })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local function ask(code, path, headers, method)
    local connection = s:connect()
    local line = ("%s %s HTTP/1.1\r\n"):format(method or "GET", path or "/")
    local lines = { line, "Host: example.org:81\r\n" }
    lines[#lines + 1] = "X-Code: " .. code .. "\r\n"
    for _, header in ipairs(headers or {}) do
      lines[#lines + 1] = header .. "\r\n"
    end
    connection:send(table.concat(lines), "\r\n")
    local response = connection:response()
    local _, port = connection.tcp:getsockname()
    connection:close()
    assert.equal(200, response.status, response.body)
    return response.body, port
  end

  local cases = {
    { "gives the method", "req.method", "QUERY", method = "QUERY" },
    { "gives the raw target", "req.target", "/a%20b/../c?x=%31", path = "/a%20b/../c?x=%31" },
    { "gives the decoded path", "req.path", "/c%2Fd e", path = "/a/../c%2Fd%20e?x" },
    { "has no path base of its own", "req.path_base", "" },
    { "gives the query string raw", "req.query_string", "x=%31&y", path = "/?x=%31&y" },
    { "gives an empty query string", "req.query_string", "" },
    { "decodes the query", "req.query.name", "a b&c", path = "/?name=a+b%26c" },
    { "gives the first of a repeated parameter", "req.query.a", "1", path = "/?a=1&a=2" },
    {
      "lists a repeated parameter",
      "table.concat(req.query:all('a'), ' ')",
      "1 2",
      path = "/?a=1&a=2",
    },
    { "has nil for what is not in the query", "req.query.b", "nil", path = "/?a=1" },
    { "keeps its methods", "req.query:all('all')[1]", "x", path = "/?all=x" },
    { "gives the host", "req.host", "example.org:81" },
    { "gives the scheme", "req.scheme", "http" },
    { "gives the protocol", "req.protocol", "HTTP/1.1" },
    { "has a table of its own", "(function() req.ctx.a = 1 return req.ctx.a end)()", "1" },
    { "has no user", "req.user", "nil" },
    { "takes a user for its own use", "(function() req.user = 'u' return req.user end)()", "u" },
    {
      "finds headers in any case",
      "req.headers['x-one'] .. req.headers['X-ONE']",
      "vv",
      headers = { "X-One: v" },
    },
    {
      "joins the values of a repeated header",
      "req.headers['x-one']",
      "a, b",
      headers = { "X-One: a", "x-one: b" },
    },
    {
      "lists the values of a repeated header",
      "#req.headers:all('x-one') .. req.headers:all('x-one')[2]",
      "2b",
      headers = { "X-One: a", "x-one: b" },
    },
    { "has nil for a header that was not sent", "req.headers['x-none']", "nil" },
    {
      "iterates over headers in order",
      "(function() local t = {} for n, v in pairs(req.headers) do "
        .. "t[#t + 1] = n .. '=' .. v end return table.concat(t, ' ', 3) end)()",
      "B=1 A=2 b=3",
      headers = { "B: 1", "A: 2", "b: 3" },
    },
    {
      "reads cookies",
      "req.cookies.a .. req.cookies.b .. tostring(req.cookies.c)",
      "12nil",
      headers = { "Cookie: a=1; b=2" },
    },
    { "has no cookies without the field", "req.cookies.a", "nil" },
    { "gives the client's address", "req.client.ip .. ' ' .. req.peer.ip", "127.0.0.1 127.0.0.1" },
    { "gives its own address", "req.server.ip", "127.0.0.1" },
    { "is not cancelled", "req:cancelled()", "false" },
    { "has a body that is at its end", "req.body:read()", "nil" },
    { "has no limit to read without a body", "req.limits.max_request_body_size", "nil" },
    { "is not read-only without a body", "req.limits.read_only", "false" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[3], (ask(case[2], case.path, case.headers, case.method)))
    end)
  end

  it("gives the ports of both ends", function()
    local text, port = ask("req.client.port .. ' ' .. req.peer.port .. ' ' .. req.server.port")
    assert.equal(("%d %d %d"):format(port, port, s.port), text)
  end)

  it("has an id of its own, and one for its connection", function()
    local connection = s:connect()
    local headers = { ["X-Code"] = "req.id .. ' ' .. req.connection_id" }
    local id1, of1 = connection:get("/", headers).body:match("^(%S+) (%S+)$")
    local id2, of2 = connection:get("/", headers).body:match("^(%S+) (%S+)$")
    connection:close()
    local id3, of3 = ask(headers["X-Code"]):match("^(%S+) (%S+)$")
    assert.not_equal(id1, id2)
    assert.not_equal(id1, id3)
    assert.equal(of1, of2)
    assert.not_equal(of1, of3)
  end)

  it("tells what cannot be set", function()
    assert.is_truthy(ask("select(2, pcall(function() req.id = 1 end))"):find("req.ctx", 1, true))
  end)

  it("knows HTTP/1.0", function()
    local connection = s:connect()
    connection:send("GET / HTTP/1.0\r\nHost: a\r\nX-Code: req.protocol\r\n\r\n")
    local response = connection:response()
    connection:close()
    assert.equal("HTTP/1.0", response.body)
  end)
end)

describe("req after its end", function()
  it("raises for whoever kept it", function()
    local s = server.start({
      app = [[
local kept
return function(req)
  if not kept then
    kept = req
    return "kept"
  end
  local ok, message = pcall(function() return kept.method end)
  return tostring(ok) .. " " .. message
end
]],
    })
    local connection = s:connect()
    assert.equal("kept", connection:get("/").body)
    assert.matches("^false .*request %d+ has ended", connection:get("/").body)
    connection:close()
    assert.equal(0, s:stop())
  end)
end)

describe("the limits that req.body and req:form() have by themselves", function()
  local s
  lazy_setup(function()
    s = server.start({ app = [[
local app = require("moonquay").app()
app:post("/form", function(req)
  local form, err = req:form()
  if not form then
    return err.status, ("%s %s: %s"):format(err.code, tostring(err.op), err.message)
  end
  local count = 0
  for _ in pairs(form) do count = count + 1 end
  return tostring(count)
end)
app:post("/lines", function(req)
  local longest = 0
  local ok, err = pcall(function()
    for line in req.body:lines() do longest = math.max(longest, #line) end
  end)
  return ok and 200 or err.status, ok and tostring(longest) or err.code .. " " .. err.op
end)
return app
]] })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local function urlencoded(count)
    return "application/x-www-form-urlencoded", ("a=1&"):rep(count - 1) .. "a=1"
  end
  local function multipart(count)
    local part = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n"
    return "multipart/form-data; boundary=b", part:rep(count) .. "--b--\r\n"
  end
  local function lines(bytes)
    return "text/plain", "short\n" .. ("x"):rep(bytes) .. "\nshort"
  end
  local too_many = "too_large form: a form of more than 1000 fields"
  local cases = {
    { "take a form of 1000 fields", "/form", urlencoded, 1000, 200, "1000" },
    { "refuse a form of 1001 fields", "/form", urlencoded, 1001, 413, too_many },
    { "take a multipart form of 1000 fields", "/form", multipart, 1000, 200, "1000" },
    { "refuse a multipart form of 1001 fields", "/form", multipart, 1001, 413 },
    { "take a line of 65536 bytes", "/lines", lines, 65536, 200, "65536" },
    { "refuse a line of 65537 bytes", "/lines", lines, 65537, 413, "too_large lines" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local kind, content = case[3](case[4])
      local connection = s:connect()
      connection:send(("POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\n"):format(case[2], kind),
        ("Content-Length: %d\r\n\r\n"):format(#content), content)
      local response = connection:response()
      connection:close()
      assert.equal(case[5], response.status, response.body)
      assert.equal(case[6] or response.body, response.body)
    end)
  end
end)
