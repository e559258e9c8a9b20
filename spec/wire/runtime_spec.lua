local await = require("spec.support.await")
local client = require("spec.support.client")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

-- Each answer says which worker gave it.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({ max_connections = 100 })
local file <close> = io.open("/proc/self/stat")
local pid = file:read("n")
app:get("/get/:key", function(req)
  return { pid = pid, value = app.settings[req.params.key], addresses = app.addresses }
end)
app:get("/get/:group/:key", function(req)
  return { pid = pid, value = app.settings[req.params.group][req.params.key] }
end)
app:post("/set/:key", function(req)
  app.settings[req.params.key] = req:json().value
  return { pid = pid }
end)
app:post("/call/:name", function(req)
  local result, err = app[req.params.name](app, req:json().prefix)
  return { result = result, err = err and err.message }
end)
local function base(req)
  return ("[%s] %s"):format(req.path_base, req.path)
end
app:get("/deep/base", base)
app:get("/base", base)
app:on_error(function(_, _, err)
  return 500, { err = tostring(err) }
end)
return app]]

local function call(s, method, path, value)
  local connection = s:connect()
  local body = value and json.encode(value)
  local response = connection:request(method, path,
    body and { ["Content-Type"] = "application/json" }, body)
  connection:close()
  return json.decode(response.body), response.status
end

-- Asks until every worker has answered: their answers.
local function ask_all(s, path)
  local seen, count = {}, 0
  await("an answer of both workers", function()
    local answer = call(s, "GET", path)
    if not seen[answer.pid] then
      seen[answer.pid] = answer
      count = count + 1
    end
    return count == 2
  end)
  return seen
end

local function assert_everywhere(s, key, value)
  for _, answer in pairs(ask_all(s, "/get/" .. key)) do
    assert.same(value, answer.value)
  end
end

local function status(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir or server.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout)
end

local function refused(port)
  local ok, connection = pcall(client.connect, "127.0.0.1", port)
  if ok then
    connection:close()
  end
  return not ok
end

describe("A setting of a running app", function()
  local s
  before_each(function()
    s = server.start({ app = APP, options = { "--workers", "2" } })
  end)
  after_each(server.stop_all)

  it("is changed in every worker, and holds when the assignment is done", function()
    for _, row in ipairs({
      { "max_connections", 7, "7" }, { "max_accepts", 3, "3" }, { "enabled", true, "true" },
      { "http_503_verbosity", "full", "full" }, { "max_request_body_size", "1MiB", "1048576" },
      { "request_queue_limit", 5, "5" }, { "server_header", "quay", "quay" },
      { "timeouts.handler", 2.5, "2.5" }, { "timeouts.handler", "off", "off" },
      { "timeouts.min_send_bytes_per_second", 99, "99" }, { "max_connections", -1, "unlimited" },
    }) do
      local _, code = call(s, "POST", "/set/" .. row[1], { value = row[2] })
      assert.equal(200, code, row[1])
      local shown = math.type(tonumber(row[3])) and tonumber(row[3]) or row[3]
      assert_everywhere(s, row[1], row[3] == "true" or shown)
      assert.equal(row[3], status(s).apps[1].settings[row[1]])
    end
    assert.equal("quay", s:get("/get/max_accepts").headers.server)
    assert.equal(0, s:stop())
  end)

  it("of the server is changed for all", function()
    assert.equal(200, select(2, call(s, "POST", "/set/max_fields", { value = 5 })))
    assert_everywhere(s, "max_fields", 5)
    assert.equal("5", status(s).settings.max_fields)
    assert.equal(0, s:stop())
  end)

  it("raises with key, value, range and place when it is wrong, and changes nothing", function()
    local answer, code = call(s, "POST", "/set/max_connections", { value = -2 })
    assert.equal(500, code)
    assert.matches("app.lua:12: max_connections=%-2: must be ", answer.err)
    assert_everywhere(s, "max_connections", 100)
    answer = call(s, "POST", "/set/wrokers", { value = 1 })
    assert.matches("app.lua:12: wrokers: no such option", answer.err)
    assert.equal(0, s:stop())
  end)

  it("raises with the range that it has", function()
    for _, case in ipairs({
      { "max_accepts", 0, "max_accepts=0: must be between 1 and 1000000" },
      { "max_accepts", "many", "max_accepts=many: " },
      { "http_503_verbosity", "loud", "http_503_verbosity=loud: .*basic.*limited.*full" },
      { "enabled", "perhaps", "enabled=perhaps: " },
      { "timeouts.handler", -1, "timeouts.handler=%-1: " },
      { "max_field_length", 1, "max_field_length=1: " },
    }) do
      local before = call(s, "GET", "/get/" .. case[1]).value
      local answer, code = call(s, "POST", "/set/" .. case[1], { value = case[2] })
      assert.equal(500, code)
      assert.matches("app.lua:12: " .. case[3], answer.err)
      assert_everywhere(s, case[1], before)
    end
    assert.equal(0, s:stop())
  end)

  it("that is read at the start raises, and stays as it was", function()
    for key, value in pairs({ memory_limit = "64MiB", workers = 3, urls = "http://127.0.0.1:0/",
      url_prefixes = "http://127.0.0.1:0/", development = true, access_log = "-" }) do
      local before = call(s, "GET", "/get/" .. key).value
      local answer, code = call(s, "POST", "/set/" .. key, { value = value })
      assert.equal(500, code)
      assert.matches("app.lua:12: " .. key .. " can only be set before the start", answer.err)
      assert_everywhere(s, key, before)
    end
    assert.equal(2, #s:workers())
    assert.equal(0, s:stop())
  end)

  it("is in force in a worker that is born later, and so are its addresses", function()
    assert.equal(200, select(2, call(s, "POST", "/set/max_connections", { value = 8 })))
    local added = call(s, "POST", "/call/listen", { prefix = "http://127.0.0.1:0/new/" }).result
    local before = s:workers()
    sys.kill(before[1], "KILL")
    await("another worker", function()
      local now = s:workers()
      return #now == 2 and now[1] ~= before[1] and now[2] ~= before[1]
    end)
    for _, answer in pairs(ask_all(s, "/get/max_connections")) do
      assert.equal(8, answer.value)
      assert.equal(added, answer.addresses[2])
    end
    assert.equal(0, s:stop())
  end)

  it("returns also while a worker dies again and again", function()
    for value = 1, 10 do
      sys.kill(s:workers()[1], "KILL")
      await("an answer", function()
        local ok, _, code = pcall(call, s, "POST", "/set/max_connections", { value = value })
        return ok and code == 200
      end, 30)
    end
    await("two workers", function()
      return #s:workers() == 2
    end, 20)
    assert_everywhere(s, "max_connections", 10)
    assert.equal(0, s:stop())
  end)
end)

describe("An address of a running app (reference section 2.4)", function()
  local s
  before_each(function()
    s = server.start({ app = APP, options = { "--workers", "2" } })
  end)
  after_each(server.stop_all)

  local function listen(prefix)
    return call(s, "POST", "/call/listen", { prefix = prefix })
  end
  local function unlisten(prefix)
    return call(s, "POST", "/call/unlisten", { prefix = prefix })
  end
  local function bases(port)
    local connection = client.connect("127.0.0.1", port)
    local answer = connection:get("/new/get/max_accepts")
    connection:close()
    return answer.status
  end

  it("opens its port with the first prefix and closes it with the last", function()
    local first = listen("http://127.0.0.1:0/new/").result
    local port = tonumber(first:match("^http://127.0.0.1:(%d+)/new/$"))
    assert.equal(200, bases(port))
    local second = ("http://127.0.0.1:%d/other/"):format(port)
    assert.equal(second, listen(second).result)
    assert.equal(first, unlisten(first).result)
    assert.equal(404, bases(port))
    assert.equal(second, unlisten(second).result)
    await("a closed port", function()
      return refused(port)
    end)
    assert.equal(first, listen(first).result)
    assert.equal(200, bases(port))
    for _, answer in pairs(ask_all(s, "/get/max_accepts")) do
      assert.same({ ("http://127.0.0.1:%d/"):format(s.port), first }, answer.addresses)
    end
    assert.equal(0, s:stop())
  end)

  it("is served by every worker, and by none when it is gone", function()
    local prefix = listen("http://127.0.0.1:0/new/").result
    local there = setmetatable({ port = tonumber(prefix:match(":(%d+)/")) }, {
      __index = { connect = function(self)
        return client.connect("127.0.0.1", self.port)
      end },
    })
    for _, answer in pairs(ask_all(there, "/new/get/max_accepts")) do
      assert.equal(prefix, answer.addresses[2])
    end
    assert.equal(prefix, unlisten(prefix).result)
    await("a closed port", function()
      return refused(there.port)
    end)
    for _, answer in pairs(ask_all(s, "/get/max_accepts")) do
      assert.same({ ("http://127.0.0.1:%d/"):format(s.port) }, answer.addresses)
    end
    assert.matches("is no prefix of ", unlisten(prefix).err)
    assert.equal(0, s:stop())
  end)

  it("can be listened to again right after, again and again, without a break", function()
    local prefix = listen("http://127.0.0.1:0/new/").result
    local port = tonumber(prefix:match(":(%d+)/"))
    for _ = 1, 20 do
      assert.equal(prefix, unlisten(prefix).result)
      local answer = listen(prefix)
      assert.equal(prefix, answer.result, answer.err)
      assert.equal(200, bases(port))
    end
    assert.equal(0, s:stop())
  end)

  it("changes the base of requests on a connection that is there already", function()
    local connection = s:connect()
    local function base()
      return connection:get("/deep/base").body
    end
    local deep = ("http://127.0.0.1:%d/deep/"):format(s.port)
    assert.equal("[] /deep/base", base())
    assert.equal(deep, listen(deep).result)
    assert.equal("[/deep] /base", base())
    assert.equal(deep, unlisten(deep).result)
    assert.equal("[] /deep/base", base())
    assert.equal(0, s:stop())
  end)

  it("warns of a top-level wildcard", function()
    local prefix = listen("http://*:0/wild/").result
    assert.matches("^http://%*:%d+/wild/$", prefix)
    s:await("warn wildcard_prefix [^\n]*http://%*:%d+/wild/ takes")
    assert.equal(0, s:stop())
  end)

  it("cannot be https", function()
    local answer = listen("https://127.0.0.1:44444/")
    assert.is_nil(answer.result)
    assert.matches("https", answer.err)
    assert.equal(0, s:stop())
  end)

  it("is none when somebody has it: nil and why", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    local answer = listen(("http://127.0.0.1:%d/"):format(port))
    assert.is_nil(answer.result)
    assert.matches("is in use", answer.err)
    listener:close()
    answer = listen(("http://127.0.0.1:%d/"):format(s.port))
    assert.is_nil(answer.result)
    assert.matches("app.lua names the prefix .* twice", answer.err)
    answer = unlisten("http://127.0.0.1:1/")
    assert.matches("is no prefix of ", answer.err)
    answer = listen("ftp://x")
    assert.matches("the scheme must be http or https", answer.err)
    assert.equal(0, s:stop())
  end)
end)

describe("Several apps in one server", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function app(name, settings, handler)
    return dir:write(name .. ".lua", ([[
      local app = require("moonquay").app(%s)
      app:get("/", %s)
      return app]]):format(settings, handler or ("function() return %q end"):format(name)))
  end

  local function refuse(status_code, parts, ...)
    local result = server.run({ "serve", ... })
    assert.equal(status_code, result.status, result.stderr)
    for _, part in ipairs(parts) do
      assert.truthy(result.stderr:find(part, 1, true), result.stderr)
    end
  end

  it("have globals, settings and limits of their own", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    listener:close()
    local prefix = "{ url_prefixes = 'http://127.0.0.1:" .. port .. "/%s/', server_header = '%s',"
      .. " cpu_limit = 0.2 }"
    local count = "function() n = (n or 0) + 1 return tostring(n) end"
    local two = server.start({ path = app("a", prefix:format("a", "one"), count), bare = true,
      options = { app("b", prefix:format("b", "two"), count), app("spin",
        prefix:format("spin", "s"), "function() while true do end end"), "--workers", "1",
        "--no-dev" } })
    assert.equal("1", two:get("/a/").body)
    assert.equal("2", two:get("/a/").body)
    assert.equal("1", two:get("/b/").body)
    assert.equal("two", two:get("/b/").headers.server)
    local spinning = two:connect()
    spinning:send("GET /spin/ HTTP/1.1\r\nHost: h\r\n\r\n")
    assert.equal("3", two:get("/a/").body)
    assert.equal(500, spinning:response().status)
    sys.kill(two:workers()[1], "KILL")
    await("both again", function()
      local ok, a = pcall(two.get, two, "/a/")
      local ok2, b = pcall(two.get, two, "/b/")
      return ok and ok2 and a.body == "1" and b.body == "1"
    end)
    assert.equal(0, two:stop())
  end)

  it("do not share a prefix: both are named", function()
    local one = app("one", '{ url_prefixes = "http://127.0.0.1:5999/x" }')
    local two = app("two", '{ url_prefixes = "http://127.0.0.1:5999/X/" }')
    refuse(78, { "http://127.0.0.1:5999/X/: both ", one, two }, one, two)
  end)

  it("agree on what is for the whole server: both places are named", function()
    local one, two = app("one", "{ workers = 1 }"), app("two", "{ workers = 2 }")
    refuse(78, { "workers is one for all apps: ", one .. ":1 says 1", two .. ":1 says 2" },
      one, two)
  end)

  it("are named when one is broken", function()
    local good, broken = app("good", "{}"), dir:write("broken.lua", "return (")
    refuse(65, { broken .. ":1:" }, good, broken)
  end)
end)
