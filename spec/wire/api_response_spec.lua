local server = require("spec.support.server")

-- Each case is a handler's source text; one server has them all, at "/1", "/2" ….
local s
local groups, sources = {}, {}

local function app_text()
  local lines = { 'local moonquay = require("moonquay")', "local app = moonquay.app()" }
  for i, source in ipairs(sources) do
    lines[#lines + 1] = ('app:any("/%d", function(req, res) %s\nend)'):format(i, source)
  end
  lines[#lines + 1] = "return app"
  return table.concat(lines, "\n")
end

local function about(noun, define)
  groups[#groups + 1] = { noun = noun }
  define()
end

local function answers(title, source, expected)
  sources[#sources + 1] = source
  table.insert(groups[#groups], { title, "/" .. #sources, expected })
end

local function check(title, path, expected)
  it(title, function()
    local connection = s:connect()
    local ok, response = pcall(connection.request, connection, expected.method or "GET", path)
    connection:close()
    assert.equal(not expected.cut, ok)
    if expected.cut then
      return expected.check()
    end
    assert.equal(expected.status or 200, response.status, response.body)
    if expected.body then
      assert.equal(expected.body, response.body)
    end
    if expected.matches then
      assert.matches(expected.matches, response.body)
    end
    for name, value in pairs(expected.headers or {}) do
      assert.equal(value or nil, response.headers[name], name)
    end
    if expected.check then
      expected.check(response)
    end
  end)
end

about("what a handler returns", function()
  answers("nothing: what was done with res", "res.status = 202", {
    status = 202,
    body = "",
    headers = { ["content-length"] = "0", ["content-type"] = false },
  })
  answers("a string: the body, as text", "return 'hi'", {
    body = "hi",
    headers = { ["content-type"] = "text/plain; charset=utf-8", ["content-length"] = "2" },
  })
  answers("a string: of the type that res has", [[
    res.headers["content-type"] = "text/css"
    return "a{}"]], { headers = { ["content-type"] = "text/css" } })
  answers("a table: JSON", "return { a = 1 }", {
    body = '{"a":1}',
    headers = { ["content-type"] = "application/json" },
  })
  answers("a status", "return 204", { status = 204, headers = { ["content-length"] = false } })
  answers("a status and a string", "return 404, 'no'", { status = 404, body = "no" })
  answers("a status and a table", "return 201, { 1 }", { status = 201, body = "[1]" })
  answers("a status and nothing", "return 202, nil", { status = 202, body = "" })
  answers("a status, a body, headers", "return 200, 'x', { ['x-a'] = { '1', '2' }, b = 3 }", {
    body = "x",
    headers = { ["x-a"] = "1, 2", b = "3" },
  })
  answers("a status, nothing, headers", "return 303, nil, { location = '/' }", {
    status = 303,
    headers = { location = "/" },
  })
  answers("a status, a table, headers", "return 200, {}, { ['content-type'] = 'application/x' }", {
    body = "{}",
    headers = { ["content-type"] = "application/x" },
  })
  answers("a status and a function: piece after piece", [[
    local n = 0
    return 200, function() n = n + 1 return n < 4 and ("%d,"):format(n) or nil end]], {
    body = "1,2,3,",
    headers = { ["transfer-encoding"] = "chunked" },
  })
  answers("a function alone", [[
    return coroutine.wrap(function()
      coroutine.yield("a") moonquay.sleep(0) coroutine.yield("b")
    end)]], { body = "ab" })
  answers("a big string in one piece", "return ('x'):rep(300000)", {
    headers = { ["content-length"] = "300000" },
    check = function(response)
      assert.equal(300000, #response.body)
    end,
  })

  local wrong = {
    { "true", "a boolean" },
    { "7.5", "status" },
    { "99", "status" },
    { "'text', { a = 1 }", "returns the status first" },
    { "200, 'text', 'headers'", "a table of headers" },
    { "200, 'text', {}, 'more'", "nothing after them" },
    { "200, function() return 7 end", "made of strings" },
    { "{ print }", "function" },
  }
  for _, case in ipairs(wrong) do
    answers(("is an error when it is %s"):format(case[1]), "return " .. case[1], {
      status = 500,
      check = function()
        s:await(case[2])
      end,
    })
  end
  answers("raises the error of nil and an error", "return nil, 'the reason'", {
    status = 500,
    check = function()
      s:await("the reason")
    end,
  })
  answers("is an error beside what was written", [[
    res:write("a")
    res:flush()
    return "b"]], {
    cut = true,
    check = function()
      s:await("wrote to res")
    end,
  })
end)

about("res", function()
  answers("sets, adds, lists and removes headers", [[
    res.headers["X-A"] = "1"
    res.headers:add("x-a", 2)
    local list = table.concat(res.headers:all("x-A"), "+")
    res.headers["x-b"] = "b"
    res.headers["x-b"] = nil
    res.headers["x-c"] = { "1", "2" }
    res.headers:remove("x-c")
    return list .. " " .. res.headers["x-a"] .. " " .. tostring(res.headers["x-b"])]], {
    body = "1+2 1, 2 nil",
    headers = { ["x-a"] = "1, 2", ["x-b"] = false, ["x-c"] = false },
  })
  answers("takes a string piece by piece", "res:write('a') res:write('b') res:finish('c')", {
    body = "abc",
    headers = { ["transfer-encoding"] = "chunked" },
  })
  answers("keeps a declared length", "res.headers['content-length'] = 2 res:write('ab')", {
    body = "ab",
    headers = { ["content-length"] = "2", ["transfer-encoding"] = false },
  })
  answers("writes JSON with a status", "res:json({ a = 1.0 }, 201)", {
    status = 201,
    body = '{"a":1.0}',
  })
  answers("writes HTML", "return res:html('<p>', 404)", {
    status = 404,
    body = "<p>",
    headers = { ["content-type"] = "text/html; charset=utf-8" },
  })
  answers("redirects with 303", "return res:redirect('/a?b=c#d')", {
    status = 303,
    headers = { location = "/a?b=c#d", ["content-length"] = "0" },
  })
  answers("redirects with another status", "return res:redirect('https://a.b/', 308)", {
    status = 308,
    headers = { location = "https://a.b/" },
  })
  local targets = { "", "/a b", "/é", "/\\\\evil", "javascript:x", "Data:x", "/a\\r\\nb: c" }
  for _, target in ipairs(targets) do
    answers(("refuses to redirect to %q"):format(target), ([[
      local ok, message = pcall(res.redirect, res, "%s")
      return tostring(ok) .. tostring(res.headers.location) .. type(message)]]):format(target), {
      body = "falsenilstring",
    })
  end
  answers("refuses a status that is no redirect", [[
    return tostring(pcall(res.redirect, res, "/", 200))]], { body = "false" })
  answers("sets cookies", [[
    res:cookie("a", "1")
    res:cookie("b", "x.y", { path = "/", http_only = true, secure = true, same_site = "lax" })]], {
    check = function(response)
      local cookies = {}
      for _, line in ipairs(response.header_list) do
        if line[1]:lower() == "set-cookie" then
          cookies[#cookies + 1] = line[2]
        end
      end
      assert.equal(2, #cookies)
      assert.equal("a=1", cookies[1])
      assert.matches("^b=", cookies[2])
      for _, attribute in ipairs({ "Path=/", "HttpOnly", "Secure", "SameSite=Lax" }) do
        assert.is_truthy(cookies[2]:find("; " .. attribute, 1, true), attribute)
      end
    end,
  })
  answers("sends interim responses", [[
    res:informational(103, { link = "</a.css>; rel=preload" })
    return "final"]], {
    body = "final",
    check = function(response)
      assert.equal(103, response.interim[1].status)
      assert.equal("</a.css>; rel=preload", response.interim[1].headers.link)
    end,
  })
  answers("sends trailers", [[
    res:write("a")
    res.trailers["x-sum"] = "1"]], {
    body = "a",
    check = function(response)
      assert.equal("1", response.trailers["x-sum"])
    end,
  })
  answers("tells whether it started", [[
    local before = res.started
    res:write(tostring(before))
    res:write(tostring(res.started))]], { body = "falsetrue" })
  answers("goes on after the end", [[
    res:finish("done")
    req.ctx.late = true]], { body = "done" })

  local injections = {
    "res.headers['x-a'] = 'a\\r\\nb: c'",
    "res.headers['x-a'] = 'a\\0'",
    "res.headers['x-a'] = 'a\\nb'",
    "res.headers['x a'] = 'a'",
    "res.headers['x-a: b\\r\\nc'] = 'a'",
    "res.headers:add('x-a', 'a\\rb')",
    "res.headers['x-a'] = { 'ok', 'a\\nb' }",
    "res:cookie('a', '1\\r\\nx: y')",
    "res:cookie('a\\r\\nx', '1')",
    "res:cookie('a', '1', { path = '/\\r\\nx: y' })",
    "res.trailers['x-a'] = 'a\\nb'",
    "res:informational(103, { link = 'a\\r\\nb: c' })",
    "res.status = 99",
    "res.status = 'ok'",
    "res.body = 'x'",
    "res.headers['transfer-encoding'] = 'chunked'",
  }
  for _, code in ipairs(injections) do
    answers("refuses " .. code, ([[
      local ok = pcall(function() %s end)
      return tostring(ok)]]):format(code), { body = "false" })
  end

  for what, code in pairs({
    status = "res.status = 404",
    headers = "res.headers['x-a'] = 'b'",
    cookies = "res:cookie('a', 'b')",
    interim = "res:informational(103)",
  }) do
    answers(("names the place of the start when %s come too late"):format(what), ([[
      res:write("x ")
      local ok, message = pcall(function() %s end)
      res:write(message)]]):format(code), { matches = "the response started at .*app.lua:%d+" })
  end
end)

describe("the response", function()
  lazy_setup(function()
    s = server.start({ app = app_text() })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)
  for _, group in ipairs(groups) do
    describe(group.noun, function()
      for _, case in ipairs(group) do
        check(table.unpack(case))
      end
    end)
  end
end)
