local server = require("spec.support.server")

describe("the router", function()
  local s
  lazy_setup(function()
    s = server.start({
      app = [[
local moonquay = require("moonquay")
local app = moonquay.app()

local function trail(mark)
  return function(req, res, next)
    req.ctx.trail = (req.ctx.trail or "") .. mark
    return next()
  end
end
local function show(name)
  return function(req)
    local params, names = {}, {}
    for key in pairs(req.params) do names[#names + 1] = key end
    table.sort(names)
    for i, key in ipairs(names) do params[i] = key .. "=" .. req.params[key] end
    return name .. "(" .. table.concat(params, ",") .. ")" .. (req.ctx.trail or "")
  end
end

app:get("/", show("root"))
app:get("/wild/*rest", show("wild"))
app:get("/p/:id", { name = "p" }, show("param"))
app:get("/p/exact", show("exact"))
app:put("/p/exact", show("put exact"))
app:any("/any", show("any"))
app:get("/any", show("get any"))
app:options("/own", function(_, res) res.headers["x-own"] = "yes" return 200, "mine" end)
app:get("/own", show("own"))
app:head("/head", function(_, res) res.headers["x-head"] = "own" end)
app:get("/head", show("get head"))
app:route("REPORT", "/p/:id", show("report"))
app:get("/link", function(req)
  local first = app:url("p", { id = "a/b c" }, { q = "1&2" })
  return first .. " " .. app:url("files", { rest = "x/y z" })
end)
app:get("/files/*rest", { name = "files" }, show("files"))
app:post("/small", { max_request_body_size = 4 }, function(req)
  return assert(req:text())
end)
app:post("/grown", { max_request_body_size = 4 }, function(req)
  return assert(req:text())
end)

app:use(trail("1"))
app:use(function(req, res, next)
  if req.path == "/grown" then req.limits.max_request_body_size = "10KB" end
  if req.query_string == "stop" then return 403, "stopped" end
  return next()
end)

app:group("/g", { max_request_body_size = 8 }, function(group)
  group:use(trail("g"))
  group:get("/x", show("gx"))
  group:post("/x", function(req) return assert(req:text()) end)
  group:group("/:inner", function(inner)
    inner:use(trail("i"))
    inner:get("/y", show("iy"))
  end)
end)

local shop = moonquay.app()
shop:get("/", function(req) return req.path_base .. "|" .. req.path end)
shop:get("/items/:item", function(req)
  local city = tostring(req.params.city)
  return req.path_base .. "|" .. req.path .. "|" .. city .. "|" .. req.params.item
end)
shop:use(trail("s"))
shop:not_found(function(req) return "no " .. req.path .. " in the shop" .. req.ctx.trail end)
app:mount("/shop", shop)
app:mount("/in/:city", shop)
app:get("/shop/exact", show("outer"))
app:mount("/raw", function(req) return req.path_base .. "|" .. req.path end)
app:use(function(req, res, next)
  local before = req.path
  local function after(...)
    res.headers["x-path-kept"] = tostring(req.path == before and req.path_base == "")
    return ...
  end
  return after(next())
end)
return app
]],
    })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local found = {
    { "GET", "/", "root()1" },
    { "GET", "/?stop", "stopped", 403 },
    { "GET", "/p/7", "param(id=7)1" },
    { "GET", "/p/a%2Fb", "param(id=a/b)1" },
    { "GET", "/p/a%252Fb", "param(id=a%2Fb)1" },
    { "GET", "/p/%C3%A9", "param(id=é)1" },
    { "GET", "/p/exact", "exact()1" },
    { "PUT", "/p/exact", "put exact()1" },
    { "REPORT", "/p/exact", "report(id=exact)1" },
    { "GET", "/wild/", "wild(rest=)1" },
    { "GET", "/wild/a/b", "wild(rest=a/b)1" },
    { "GET", "/any", "get any()1" },
    { "PATCH", "/any", "any()1" },
    { "BREW", "/any", "any()1" },
    { "GET", "/link", "/p/a%2Fb%20c?q=1%262 /files/x/y%20z" },
    { "GET", "/g/x", "gx()1g" },
    { "GET", "/g/z/y", "iy(inner=z)1gi" },
    { "GET", "/shop", "/shop|/" },
    { "GET", "/shop/", "/shop|/" },
    { "GET", "/shop/items/3", "/shop|/items/3|nil|3" },
    { "GET", "/in/rome/items/3", "/in/rome|/items/3|rome|3" },
    { "GET", "/in/rome", "/in/rome|/" },
    { "GET", "/shop/exact", "outer()1" },
    { "GET", "/shop/none", "no /none in the shop1s", 404 },
    { "DELETE", "/raw/a//b", "/raw|/a//b" },
    { "OPTIONS", "/own", "mine", 200 },
  }
  for _, case in ipairs(found) do
    it(("answers %s %s with %s"):format(case[1], case[2], case[3]), function()
      local connection = s:connect()
      local response = connection:request(case[1], case[2])
      connection:close()
      assert.equal(case[3], response.body)
      assert.equal(case[4] or 200, response.status)
    end)
  end

  for _, path in ipairs({ "/none", "/p", "/p/", "/p/1/2", "/wild", "//", "/P/exact" }) do
    it("has no route for " .. path, function()
      assert.equal(404, s:get(path).status)
    end)
  end

  local methods = {
    { "DELETE", "/p/exact", 405, "GET, HEAD, OPTIONS, PUT, REPORT" },
    { "POST", "/", 405, "GET, HEAD, OPTIONS" },
    { "get", "/", 405, "GET, HEAD, OPTIONS" },
    { "OPTIONS", "/p/7", 204, "GET, HEAD, OPTIONS, REPORT" },
    { "OPTIONS", "/head", 204, "GET, HEAD, OPTIONS" },
    { "OPTIONS", "*", 204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, REPORT" },
  }
  for _, case in ipairs(methods) do
    it(("tells the methods of %s %s (RFC 9110 section 10.2.1)"):format(case[1], case[2]), function()
      local connection = s:connect()
      local response = connection:request(case[1], case[2])
      connection:close()
      assert.equal(case[3], response.status)
      assert.equal(case[4], response.headers.allow)
    end)
  end

  it("answers HEAD by the route of GET, without content", function()
    local connection = s:connect()
    local head = connection:request("HEAD", "/p/7")
    local get = connection:get("/p/7")
    connection:close()
    assert.equal(200, head.status)
    assert.equal("", head.body)
    assert.equal(get.headers["content-length"], head.headers["content-length"])
  end)

  it("prefers a HEAD route of its own", function()
    local connection = s:connect()
    assert.equal("own", connection:request("HEAD", "/head").headers["x-head"])
    assert.equal("get head()1", connection:get("/head").body)
    connection:close()
  end)

  it("puts the path together again behind a mount", function()
    assert.equal("true", s:get("/shop/items/3").headers["x-path-kept"])
  end)

  local limits = {
    { "/small", "1234", 200 },
    { "/small", "12345", 413 },
    { "/g/x", "12345678", 200 },
    { "/g/x", "123456789", 413 },
    { "/grown", "12345", 200 },
  }
  for _, case in ipairs(limits) do
    it(("answers %d bytes to %s with %d"):format(#case[2], case[1], case[3]), function()
      local connection = s:connect()
      assert.equal(case[3], connection:post(case[1], case[2]).status)
      connection:close()
    end)
  end
end)

describe("an app that is wrong", function()
  local client = require("moonquay.test").client

  local function message_of(wrong)
    return select(2, pcall(wrong))
  end

  local function load_app(text)
    return pcall(function()
      return client(assert(load("local app = require('moonquay').app()\n" .. text, "=app.lua"))())
    end)
  end

  local cases = {
    { "app:get('/a', f)", "app.lua:2: the handler of /a must be a function, not a nil" },
    { "app:get('a', print)", "app.lua:2: a path begins with '/'" },
    { "app:get('/a', { nam = 'x' }, print)", 'app.lua:2: unknown route option "nam"; there are' },
    {
      "app:get('/a', { max_request_body_size = 'big' }, print)",
      "app.lua:2: route option max_request_body_size=big: must be at least 0",
    },
    { "app:get('/a', { allow_synchronous_io = 1 }, print)", "must be true or false" },
    { "app:get('/a', 7, print)", "app.lua:2: the options of /a must be a table" },
    {
      "app:get('/a/:x', print)\napp:get('/a/:y', print)",
      "app.lua:3: GET /a/:y is defined twice: here and at app.lua:2",
    },
    {
      "app:any('/a', print)\napp:mount('/a', print)",
      "app.lua:3: any method of /a is defined twice: here and at app.lua:2",
    },
    {
      "app:get('/a', { name = 'n' }, print)\napp:get('/b', { name = 'n' }, print)",
      'app.lua:3: the route name "n" is used twice: here and at app.lua:2',
    },
    { "app:group('/g/', print)", "app.lua:2: the prefix \"/g/\" ends with '/'" },
    { "app:group('/g', { name = 'x' })", "app.lua:2: a group has no name" },
    { "app:on_error(7)", "app.lua:2: app:on_error needs a function, not a number" },
    { "app:not_found()", "app.lua:2: app:not_found needs a function, not a nil" },
    { "app:use(7)", "app.lua:2: middleware must be a function, not a number" },
    { "app:mount('/x', {})", "app.lua:2: what is mounted must be an app or a function" },
    { "app:route('A B', '/', print)", "app.lua:2: A B is no method" },
    { "return 7", "the file returned a number: return a function" },
    { "return nil", "the file returned nothing: return a function" },
  }
  for _, case in ipairs(cases) do
    it(("is told at load: %s"):format(case[1]:gsub("\n", "; ")), function()
      local ok, message = load_app(case[1])
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find(case[2], 1, true), message)
    end)
  end

  it("cannot be changed once it serves", function()
    local app = require("moonquay").app()
    app:get("/", function()
      return "hi"
    end)
    assert.equal("hi", client(app):get("/").body)
    assert.matches("router_spec.lua:%d+: app:get after the first request", message_of(function()
      app:get("/late", print)
    end))
    for _, name in ipairs({ "after", "not_found", "on_error" }) do
      assert.matches("app:" .. name .. " after the first request", message_of(function()
        app[name](app, print)
      end))
    end
  end)

  it("raises for a route that has no such name or lacks a parameter", function()
    local app = require("moonquay").app()
    app:get("/a/:id", { name = "a" }, print)
    assert.matches('router_spec.lua:%d+: no route is named "b"', message_of(function()
      app:url("b")
    end))
    local lacks = 'router_spec.lua:%d+: the route "a" needs the parameter "id"'
    assert.matches(lacks, message_of(function()
      app:url("a", {})
    end))
  end)
end)
