local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys
local json = require("moonquay.core").json

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

app:get("/fail", function() moonquay.fail(404, "No such order.") end)
app:get("/fail/bare", function() moonquay.fail(403) end)
app:get("/fail/members", function()
  moonquay.fail(409, "Sold out", { detail = "Only <1> left.", type = "/problems/stock", left = 1 })
end)
app:get("/fail/inside", function()
  moonquay.all(function() moonquay.sleep(0) moonquay.fail(422, "inner") end, function()
    moonquay.sleep(3600)
  end)
end)
app:get("/fail/wrong", function() moonquay.fail(200, "x") end)
app:get("/res", function(_, res) return res:error(410, "Gone away.") end)
app:get("/bug", function(_, res)
  res.headers["x-secret"] = "half-made"
  res.status = 201
  local nothing
  return nothing.field
end)
app:get("/table", function() error({ any = "thing" }) end)
app:get("/foreign", function() error({ status = 404, message = "of another server" }) end)
app:get("/nil", function() error(nil) end)
app:get("/started", function(_, res)
  res.headers["content-length"] = 10
  res:write("half")
  res:flush()
  error("broke off")
end)
app:get("/started/chunked", function(_, res)
  res:write("half")
  res:flush()
  error("broke off")
end)
app:get("/deep", function()
  local function innermost() error("deep down") end
  local run = coroutine.wrap(function() moonquay.sleep(0) innermost() end)
  pcall(function() end)
  run()
end)
app:get("/task", function()
  local function inside() error("in a task") end
  local task = moonquay.spawn(function() inside() end)
  return assert(task:join())
end)
app:get("/iterator", function()
  return 200, function() error("no first piece") end
end)
app:get("/assert", function() assert(nil, "asserted") end)
app:get("/order", function()
  moonquay.fail(409, "Full", { zebra = 1, apple = { 2 }, instance = "/i", detail = "d", type = "/t",
    middle = "m", beta = false })
end)
app:get("/unnamed", function() moonquay.fail(409, "Full", { "no name" }) end)

local known = moonquay.app()
known:get("/known", function() error({ known = true }) end)
known:get("/other", function() error("other") end)
known:get("/status", function() moonquay.fail(404, "not here") end)
known:get("/sets", function() error({ sets = true }) end)
known:get("/both", function() error({ both = true }) end)
known:get("/again", function() error({ again = true }) end)
known:on_error(function(req, res, err, traceback)
  if type(err) ~= "table" then return nil end
  if err.known then
    local traced = type(traceback) == "string" and traceback:find("app.lua", 1, true)
    return 418, ("known %s %s %s"):format(res.status, req.path, tostring(traced ~= nil))
  elseif err.status then
    return err.status, "mine: " .. err.message
  elseif err.sets then
    res.headers["x-set"] = "yes"
  elseif err.again then
    error("again")
  elseif err.both then
    res:write("written")
    return "and returned"
  end
end)
app:mount("/k", known)
local bare = moonquay.app()
bare:get("/other", function() error("other") end)
app:mount("/b", bare)
app:on_error(function(req, _, err)
  if tostring(err):find("other", 1, true) then return 502, "outer " .. req.path end
end)

local seen = {}
app:get("/seen", function() return moonquay.json.array({ table.unpack(seen) }) end)
local tail = moonquay.app()
tail:after(function(req, res)
  moonquay.sleep(0)
  seen[#seen + 1] = ("%s %d %s"):format(req.target, res.status, tostring(req.ctx.mark))
end)
tail:get("/ok", function(req) req.ctx.mark = 1 return "ok" end)
tail:get("/bug", function(req) req.ctx.mark = 2 error("bug") end)
app:mount("/tail", tail)
return app
]]

local function start(...)
  return server.start({ app = APP, options = { ... } })
end

describe("an error answer", function()
  local s
  lazy_setup(function()
    s = start("--no-dev")
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local cases = {
    { "/fail", 404, title = "Not Found", detail = "No such order." },
    { "/fail/bare", 403, title = "Forbidden" },
    {
      "/fail/members",
      409,
      title = "Sold out",
      detail = "Only <1> left.",
      type = "/problems/stock",
      left = 1,
    },
    { "/fail/inside", 422, title = "Unprocessable Content", detail = "inner" },
    { "/fail/wrong", 500, title = "Internal Server Error" },
    { "/res", 410, title = "Gone", detail = "Gone away." },
    { "/bug", 500, title = "Internal Server Error" },
    { "/table", 500, title = "Internal Server Error" },
    { "/foreign", 500, title = "Internal Server Error" },
    { "/nil", 500, title = "Internal Server Error" },
    { "/deep", 500, title = "Internal Server Error" },
    { "/task", 500, title = "Internal Server Error" },
    { "/iterator", 500, title = "Internal Server Error" },
    { "/assert", 500, title = "Internal Server Error" },
    { "/none", 404, title = "Not Found" },
  }
  for _, case in ipairs(cases) do
    it(("of %s is problem details (RFC 9457)"):format(case[1]), function()
      local response = s:get(case[1])
      assert.equal(case[2], response.status)
      assert.equal("application/problem+json", response.headers["content-type"])
      local problem = json.decode(response.body)
      assert.is_string(problem.request_id)
      problem.request_id = nil
      local expected = { status = case[2] }
      for name, value in pairs(case) do
        if type(name) == "string" then
          expected[name] = value
        end
      end
      assert.same(expected, problem)
    end)
  end

  it("has its members in order: those of RFC 9457, the id, and the app's own by name", function()
    local body = s:get("/order").body
    local id = json.decode(body).request_id
    assert.equal('{"type":"/t","title":"Full","status":409,"detail":"d","instance":"/i",'
      .. '"request_id":"' .. id .. '","apple":[2],"beta":false,"middle":"m","zebra":1}', body)
  end)

  it("is 500 when a member has no name", function()
    assert.equal(500, s:get("/unnamed").status)
    s:await("a member of a problem is named by a string, not by a number")
  end)

  local accepts = {
    { "text/html", true },
    { "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true },
    { "text/*", true },
    { "application/json, text/html;q=0.5", false },
    { "text/html;q=0", false },
    { "*/*", false },
    { "application/json", false },
    { "nonsense", false },
  }
  for _, case in ipairs(accepts) do
    it(("is %s for Accept: %s"):format(case[2] and "a page" or "JSON", case[1]), function()
      local response = s:get("/fail/members", { Accept = case[1] })
      assert.equal(409, response.status)
      local html = response.headers["content-type"] == "text/html; charset=utf-8"
      assert.equal(case[2], html)
      if html then
        assert.is_truthy(response.body:find("Only &lt;1&gt; left.", 1, true))
        assert.is_nil(response.body:find("<1>", 1, true))
      end
    end)
  end

  it("drops what the handler had set", function()
    local response = s:get("/bug")
    assert.is_nil(response.headers["x-secret"])
  end)

  it("tells nothing of the cause", function()
    for _, path in ipairs({ "/bug", "/deep", "/table", "/foreign" }) do
      local response = s:get(path, { Accept = "text/html" })
      assert.is_nil(response.body:find("app.lua", 1, true))
      assert.is_nil(response.body:find("another server", 1, true))
    end
  end)

  it("leaves the connection open", function()
    local connection = s:connect()
    assert.equal(500, connection:get("/bug").status)
    assert.equal(404, connection:get("/fail").status)
    connection:close()
  end)

  it("has its traceback and id in the log", function()
    local id = json.decode(s:get("/deep").body).request_id
    assert.is_truthy(s:await("deep down[^\n]*" .. id:gsub("%p", "%%%0") .. "[^\n]*innermost"))
  end)

  it("has the traceback of the task in which it arose in the log", function()
    local id = json.decode(s:get("/task").body).request_id
    assert.is_truthy(s:await(id:gsub("%p", "%%%0") .. "[^\n]*in [^\n]*'inside'"))
  end)

  it("is not logged when the handler chose it", function()
    local id = json.decode(s:get("/fail").body).request_id
    s:get("/bug") -- whose line comes later
    assert.is_nil(s:stderr():find(id, 1, true))
  end)

  for _, path in ipairs({ "/started", "/started/chunked" }) do
    it(("breaks the connection off when the response had started: %s"):format(path), function()
      local connection = s:connect()
      connection:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
      local text = connection:rest()
      connection:close()
      assert.matches("^HTTP/1.1 200 OK", text)
      assert.matches("half", text)
      assert.is_nil(text:find("\r\n0\r\n", 1, true))
      s:await("broke off")
    end)
  end
end)

describe("on_error", function()
  local s
  lazy_setup(function()
    s = start("--no-dev")
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  it("answers what it knows, with the error's status preset", function()
    local response = s:get("/k/known")
    assert.equal(418, response.status)
    assert.equal("known 500 /known true", response.body)
  end)

  it("sees the errors of moonquay.fail too", function()
    local response = s:get("/k/status")
    assert.equal(404, response.status)
    assert.equal("mine: not here", response.body)
  end)

  it("may answer through res alone", function()
    local response = s:get("/k/sets")
    assert.equal(500, response.status)
    assert.equal("yes", response.headers["x-set"])
    assert.equal("", response.body)
  end)

  it("leaves the rest to the app outside", function()
    local response = s:get("/k/other")
    assert.equal(502, response.status)
    assert.equal("outer /k/other", response.body)
  end)

  it("is the outer app's when the inner has none", function()
    assert.equal("outer /b/other", s:get("/b/other").body)
  end)

  it("that writes and returns is in error, as any handler", function()
    local connection = s:connect()
    assert.is_false(pcall(connection.get, connection, "/k/both"))
    connection:close()
    s:await("wrote to res and returned a string as well")
  end)

  it("that fails itself ends in a plain 500", function()
    assert.equal(500, s:get("/k/again").status)
    s:await("again")
  end)
end)

describe("after", function()
  it("runs when the response was sent, also after an error, with ctx and status", function()
    local s = start("--no-dev")
    local connection = s:connect()
    assert.equal("ok", connection:get("/tail/ok").body)
    assert.equal(500, connection:get("/tail/bug").status)
    -- Its own wait is over before the loop has taken the next request.
    local seen
    repeat
      seen = json.decode(connection:get("/seen").body)
    until #seen == 2
    connection:close()
    assert.same({ "/tail/ok 200 1", "/tail/bug 500 2" }, { seen[1], seen[2] })
    assert.equal(0, s:stop())
  end)
end)

describe("the development page", function()
  local s
  lazy_setup(function()
    s = start("--dev")
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  it("shows message, source lines and frames to this machine", function()
    local body = s:get("/deep", { Accept = "text/html" }).body
    assert.is_truthy(body:find("deep down", 1, true))
    assert.is_truthy(body:find("innermost() error(&quot;deep down&quot;) end", 1, true))
    assert.is_truthy(body:find("<mark>", 1, true))
    assert.is_truthy(body:find("Traceback", 1, true))
  end)

  it("is JSON with the traceback for who wants no HTML", function()
    local problem = json.decode(s:get("/bug").body)
    assert.equal(500, problem.status)
    assert.matches("app.lua:%d+:", problem.detail)
    assert.matches("app.lua", problem.traceback)
  end)

  it("escapes what it shows", function()
    local body = s:get("/bug?%3Cb%3E", { Accept = "text/html", Cookie = "sid=hidden" }).body
    assert.is_nil(body:find("<b>", 1, true))
    assert.is_nil(body:find("hidden", 1, true))
  end)

  it("leaves answers that were meant alone", function()
    assert.equal("No such order.", json.decode(s:get("/fail").body).detail)
  end)

  local proxies = {
    { "Forwarded", "for=192.0.2.1" },
    { "X-Forwarded-For", "192.0.2.1" },
    { "X-Forwarded-For", "" },
    { "Via", "1.1 proxy" },
  }
  for _, case in ipairs(proxies) do
    it(("is not for a request that a proxy passed on, with %s: %s"):format(case[1], case[2]),
      function()
        for _, accept in ipairs({ "text/html", "application/json" }) do
          local response = s:get("/bug", { Accept = accept, [case[1]] = case[2] })
          assert.equal(500, response.status)
          assert.is_nil(response.body:find("app.lua", 1, true))
          assert.is_nil(response.body:find("nothing", 1, true))
        end
      end)
  end
end)

local function run(command, ...)
  local pipe = assert(io.popen((command .. " 2>&1"):format(...)))
  local text = pipe:read("a")
  return pipe:close() and text or nil, text
end

-- One request by a process of its own.
local ASK = [[
local connection = require("socket").tcp()
connection:settimeout(10)
assert(connection:connect("%s", %d))
connection:send("GET %s HTTP/1.0\r\nHost: a\r\nAccept: %s\r\n\r\n")
io.write((connection:receive("*a")))]]

local function ask(machine, port, path, accept)
  local chunk = ASK:format(machine.address, port, path, accept)
  return run("%s lua5.4 -e '%s'", machine.prefix, chunk)
end

-- Another machine, as far as the server can tell: a network namespace behind a pair of interfaces.
-- Nil without the right to make one.
local function namespace()
  local pid = sys.getpid()
  local machine = {
    name = ("moonquay%d"):format(pid),
    address = ("169.254.%d.%d"):format(16 + pid // 64 % 200, 1 + pid % 64 * 4),
  }
  local theirs = machine.address:gsub("%d+$", function(last) return math.tointeger(last + 1) end)
  machine.prefix = "ip netns exec " .. machine.name
  function machine.remove()
    run("ip netns del %s", machine.name) -- and with it the pair
  end
  if not run("ip netns add %s", machine.name) then
    return nil
  end
  local words = {
    { "link add mqh%d type veth peer name mqn%d netns %s", pid, pid, machine.name },
    { "addr add %s/30 dev mqh%d", machine.address, pid },
    { "link set mqh%d up", pid },
    { "-n %s addr add %s/30 dev mqn%d", machine.name, theirs, pid },
    { "-n %s link set mqn%d up", machine.name, pid },
  }
  for _, line in ipairs(words) do
    if not run("ip " .. line[1], table.unpack(line, 2)) then
      machine.remove()
      return nil
    end
  end
  return machine
end

-- This machine by its address in the network, which is the peer's as well then. Nil without one.
local function outside()
  local udp = socket.udp()
  local ok = udp:setpeername("192.0.2.1", 9) -- looks up a route and sends nothing
  local address = ok and udp:getsockname()
  udp:close()
  return address and { address = address, prefix = "", remove = function() end } or nil
end

describe("the development page, asked for by another machine,", function()
  it("is the plain answer without message and sources", function()
    local machine = namespace() or outside()
    if not machine then
      return pending("needs a network, or the right to make a network namespace")
    end
    finally(machine.remove)
    local s = start("--dev", "--urls", "http://0.0.0.0:0")
    for _, accept in ipairs({ "text/html", "application/json" }) do
      local body = ask(machine, s.port, "/bug", accept)
      assert.is_truthy(body and body:find("Internal Server Error", 1, true))
      assert.is_nil(body:find("app.lua", 1, true))
      assert.is_nil(body:find("nothing", 1, true))
    end
    assert.is_truthy(s:get("/bug").body:find("app.lua", 1, true)) -- it is the machine, not the page
    assert.equal(0, s:stop())
  end)
end)

-- The message of a mistake names the app's line, not the library's.
describe("a mistake in an app", function()
  local lines = {
    'local moonquay = require("moonquay")',
    "local app = moonquay.app()",
    "local function sort()",
    "  local list = { 2, 1 }",
    "  table.sort(list, function(a, b)",
    "    moonquay.sleep(0)", -- 6
    "    return a < b",
    "  end)",
    "end",
    "local function text(mistake)",
    "  return (select(2, pcall(mistake)))",
    "end",
    'app:get("/sleep", function() return text(sort) end)',
    'app:get("/sleep/text", function() return text(function()',
    '  moonquay.sleep("a")', -- 15
    "end) end)",
    'app:get("/spawn", function() return text(function()',
    "  moonquay.spawn(1)", -- 18
    "end) end)",
    'app:get("/background", function() return text(function()',
    "  moonquay.background(1)", -- 21
    "end) end)",
    'app:get("/cookie", function(_, res) return text(function()',
    '  res:cookie("a", "x\\r\\n")', -- 24
    "end) end)",
    'app:get("/cookie/name", function(_, res) return text(function()',
    '  res:cookie("a\\r", "x")', -- 27
    "end) end)",
    'app:get("/cookie/option", function(_, res) return text(function()',
    '  res:cookie("a", "x", { max_age = "soon" })', -- 30
    "end) end)",
    'app:get("/cookie/unknown", function(_, res) return text(function()',
    '  res:cookie("a", "x", { httponly = true })', -- 33
    "end) end)",
    'app:get("/cookie/nil", function(_, res) return text(function()',
    '  res:cookie("a")', -- 36
    "end) end)",
    'app:get("/number", function()', -- 38
    "  return 5.5",
    "end)",
    'app:get("/twice", function()', -- 41
    '  return "a", 5',
    "end)",
    "local inner = moonquay.app()",
    'inner:get("/thing/:id", function()', -- 45
    "  return 404.5",
    "end)",
    'app:mount("/inner", inner)',
    "local function plain() return true end", -- 49
    'app:mount("/plain", plain)',
    "app:not_found(function() return true end)", -- 51
    "return app",
  }
  local s
  lazy_setup(function()
    s = server.start({ app = table.concat(lines, "\n") })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local raised = {
    { "/sleep", 6, "cannot wait inside table.sort" },
    { "/sleep/text", 15, "bad argument #1 to 'sleep'" },
    { "/spawn", 18, "bad argument #1 to 'spawn'" },
    { "/background", 21, "bad argument #1 to 'background'" },
    {
      "/cookie",
      24,
      "cookie a: its value holds a byte that no cookie may hold (control, space, quote, comma, "
        .. "semicolon, backslash, or none of ASCII)",
    },
    { "/cookie/name", 27, "cookie names are made of letters, digits and !#$%&'*+-.^_`|~" },
    { "/cookie/option", 30, "cookie option max_age must be a whole number of seconds" },
    { "/cookie/unknown", 33, "cookie options do not include httponly" },
    { "/cookie/nil", 36, "cookie names and values must be strings" },
  }
  for _, case in ipairs(raised) do
    it(("is told with its line at %s"):format(case[1]), function()
      local body = s:get(case[1]).body
      local line, message = body:match("app.lua:(%d+): (.*)$")
      assert.equal(tostring(case[2]), line, body)
      assert.equal(case[3], message:sub(1, #case[3]))
    end)
  end

  local returned = {
    { "/number", 38, "a number that a handler returns first is a status (200 to 999), not 5.5" },
    { "/twice", 41, "with more than a body a handler returns the status first, not a string" },
    { "/inner/thing/7", 45, "a number that a handler returns first is a status" },
    { "/plain/x", 49, "a handler returns nothing, a string, a table, or a status" },
    { "/plain", 49, "a handler returns nothing, a string, a table, or a status" },
    { "/none", 51, "a handler returns nothing, a string, a table, or a status" },
  }
  for _, case in ipairs(returned) do
    it(("in what a handler returns names it and the request: %s"):format(case[1]), function()
      assert.equal(500, s:get(case[1]).status)
      local expected = ("GET %s (its handler is at %%s/app.lua:%d): %s"):format(case[1], case[2],
        case[3])
      local line = s:await("GET " .. case[1] .. " %(its[^\n]*")
      assert.is_truthy(s:stderr():find(expected:format(s.temp.path), 1, true), line)
    end)
  end
end)
