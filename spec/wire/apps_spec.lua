local await = require("spec.support.await")
local client = require("spec.support.client")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

-- Says what it is, which worker runs it, and what it has seen: a global, a loaded module and a
-- method of a library that every app could change for itself alone.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app { SETTINGS }
local pid = io.open("/proc/self/stat"):read("n")
string.seen = (string.seen or "") .. "NAME"
package.loaded.seen = (package.loaded.seen or "") .. "NAME"
app:get("/", function(req)
  count = (count or 0) + 1
  return { name = "NAME", pid = pid, count = count, string = string.seen,
           module = require("seen"), base = req.path_base, addresses = app.addresses,
           max_connections = app.settings.max_connections }
end)
app:post("/set/:key/:value", function(req)
  app.settings[req.params.key] = tonumber(req.params.value)
  return {}
end)
app:post("/call/:name", function(req)
  local result, err = app[req.params.name](app, req.body:read("a"))
  return { result = result, err = err and err.message }
end)
return app]]

local function free_port()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  listener:close()
  return tonumber(port)
end

local dir
local function write(name, settings)
  return dir:write(name .. ".lua", (APP:gsub("NAME", name):gsub("SETTINGS", settings)))
end

-- Without a value is a GET.
local function ask(s, path, content)
  local connection = client.connect("127.0.0.1", s.port)
  local response = connection:request(content and "POST" or "GET", path, nil, content)
  connection:close()
  return response.status == 200 and json.decode(response.body) or {}, response
end

-- An answer of the app at path from every worker, by pid.
local function ask_all(s, path, workers)
  local seen, count = {}, 0
  await("an answer of every worker", function()
    local ok, answer = pcall(ask, s, path)
    if ok and answer.pid and not seen[answer.pid] then
      seen[answer.pid] = answer
      count = count + 1
    end
    return count == workers
  end)
  return seen
end

local function state(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout)
end

local function serve(files, options)
  local words = { "--no-dev", "--access-log", "off", "--workers", "1" }
  table.move(options or {}, 1, #(options or {}), #words + 1, words)
  table.move(files, 2, #files, #words + 1, words)
  return server.start({ path = files[1], bare = true, options = words })
end

-- Apps a and b below /a/ and /b/ of one port.
local function start_two(options)
  local port = free_port()
  local one = ("url_prefixes = 'http://127.0.0.1:%d/%s/', max_connections = %d")
  return serve({ write("a", one:format(port, "a", 11)), write("b", one:format(port, "b", 12)) },
    options), port
end

local function assert_refused(code, parts, words)
  local result = server.run(words)
  assert.equal(code, result.status, result.stderr)
  for _, part in ipairs(parts) do
    assert.truthy(result.stderr:find(part, 1, true), part .. " is not in " .. result.stderr)
  end
  assert.equal("", result.stdout)
  assert.is_false(result.left_behind)
end

describe("Apps of one server (reference section 2.4)", function()
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  it("have globals, libraries and modules of their own", function()
    local s = start_two()
    for turn = 1, 2 do
      for _, name in ipairs({ "a", "b" }) do
        local answer = ask(s, "/" .. name .. "/")
        assert.same({ name, turn, name, name },
          { answer.name, answer.count, answer.string, answer.module })
      end
    end
    assert.equal(0, s:stop())
  end)

  it("have addresses and settings of their own, as status tells", function()
    local s, port = start_two()
    for i, name in ipairs({ "a", "b" }) do
      local prefix = ("http://127.0.0.1:%d/%s/"):format(port, name)
      local answer = ask(s, "/" .. name .. "/")
      assert.equal("/" .. name, answer.base)
      assert.same({ prefix }, answer.addresses)
      assert.equal(10 + i, answer.max_connections)
      assert.equal(tostring(10 + i), state(s).apps[i].settings.max_connections)
    end
    assert.equal(404, select(2, ask(s, "/")).status)
    assert.equal(0, s:stop())
  end)

  it("share one worker, and each has its requests counted", function()
    local s = start_two()
    assert.equal(ask(s, "/a/").pid, ask(s, "/b/").pid)
    ask(s, "/b/")
    await("the counters", function()
      local apps = state(s).apps
      return apps[1].counters.requests == 1 and apps[2].counters.requests == 2
    end)
    assert.equal(0, s:stop())
  end)

  it("have from the command line what is for all", function()
    local s = start_two({ "--set", "max_connections=77" })
    assert.equal(77, ask(s, "/a/").max_connections)
    assert.equal(77, ask(s, "/b/").max_connections)
    assert.equal(0, s:stop())
  end)

  it("change their own settings alone", function()
    local s = start_two({ "--workers", "2" })
    assert.equal(200, select(2, ask(s, "/b/set/max_connections/99", "")).status)
    for name, value in pairs({ a = 11, b = 99 }) do
      for _, answer in pairs(ask_all(s, "/" .. name .. "/", 2)) do
        assert.equal(value, answer.max_connections)
      end
    end
    assert.equal(0, s:stop())
  end)

  it("neither take nor give away a prefix of another", function()
    local s, port = start_two()
    local theirs = ("http://127.0.0.1:%d/B/"):format(port)
    local answer = ask(s, "/a/call/listen", theirs)
    assert.is_nil(answer.result)
    assert.matches("both .*b%.lua and .*a%.lua name this prefix", answer.err)
    answer = ask(s, "/a/call/unlisten", theirs)
    assert.is_nil(answer.result)
    assert.matches("is no prefix of .*a%.lua", answer.err)
    assert.equal("b", ask(s, "/b/").name)
    assert.equal(0, s:stop())
  end)

  it("leave the port to the other when they unlisten, and a prefix to who takes it", function()
    local s, port = start_two({ "--workers", "2" })
    local prefix = ("http://127.0.0.1:%d/%s/"):format(port, "a")
    assert.equal(prefix, ask(s, "/a/call/unlisten", prefix).result)
    assert.equal(404, select(2, ask(s, "/a/")).status)
    assert.equal(prefix, ask(s, "/b/call/listen", prefix).result)
    for _, answer in pairs(ask_all(s, "/a/", 2)) do
      assert.equal("b", answer.name)
      assert.equal(2, #answer.addresses)
    end
    assert.equal(0, s:stop())
  end)

  it("serve again after the worker was killed, as they were changed", function()
    local s, port = start_two()
    local added = ("http://127.0.0.1:%d/added/"):format(port)
    assert.equal(200, select(2, ask(s, "/a/set/max_connections/33", "")).status)
    assert.equal(added, ask(s, "/b/call/listen", added).result)
    local before = ask(s, "/a/").pid
    sys.kill(before, "KILL")
    local seen = {}
    for _, path in ipairs({ "/a/", "/b/", "/added/" }) do
      seen[path] = await("another worker", function()
        local ok, answer = pcall(ask, s, path)
        return ok and answer.pid and answer.pid ~= before and answer
      end)
    end
    assert.equal(33, seen["/a/"].max_connections)
    assert.equal(12, seen["/b/"].max_connections)
    assert.equal("b", seen["/added/"].name)
    assert.equal(1, seen["/a/"].count)
    assert.equal(0, s:stop())
  end)
end)

describe("Apps that cannot be served together", function()
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  for _, case in ipairs({
    { "letter for letter", "http://127.0.0.1:PORT/x/", "http://127.0.0.1:PORT/x/" },
    { "in another case", "http://LocalHost:PORT/x/", "http://localhost:PORT/X" },
    { "both with a wildcard", "http://+:PORT", "http://+:PORT/" },
    { "behind one that is free", "http://127.0.0.1:PORT/y,http://127.0.0.1:PORT/x",
      "http://127.0.0.1:PORT/z,http://127.0.0.1:PORT/x" },
  }) do
    it("name the same prefix, " .. case[1] .. ": 78 and both files", function()
      local port = free_port()
      local files = {}
      for i, name in ipairs({ "one", "two" }) do
        files[i] = write(name, ("url_prefixes = %q"):format((case[i + 1]:gsub("PORT", port))))
      end
      assert_refused(78, { ("both %s and %s name this prefix"):format(files[1], files[2]) },
        { "serve", files[1], files[2] })
    end)
  end

  it("take one prefix from --urls: 78 and both files", function()
    local one, two = write("one", ""), write("two", "")
    assert_refused(78, { ("both %s and %s name this prefix"):format(one, two) },
      { "serve", one, two, "--urls", ("http://127.0.0.1:%d/"):format(free_port()) })
  end)

  for _, case in ipairs({
    { "workers", "1", "2" },
    { "drain", "5", "6" },
    { "max_fields", "100", "101" },
    { "log_level", "'info'", "'warn'" },
    { "development", "true", "false" },
  }) do
    it(("differ in %s, which is the server's: 78 and both places"):format(case[1]), function()
      local setting = "\n  %s = %s"
      local one = write("one", setting:format(case[1], case[2]))
      local two = write("two", "\n" .. setting:format(case[1], case[3]))
      local function says(value)
        return " says " .. value:gsub("'", "")
      end
      assert_refused(78, { case[1] .. " is one for all apps: ", one .. ":2" .. says(case[2]),
        two .. ":2" .. says(case[3]) }, { "serve", one, two })
    end)
  end

  it("are served when they say the same of the server, however it is written", function()
    local files = {}
    for i, value in ipairs({ "65536", "'64KiB'", "65536.0" }) do
      files[i] = write("app" .. i, ("max_target_bytes = %s, url_prefixes = 'http://127.0.0.1:0/'")
        :format(value))
    end
    local s = serve(files)
    assert.equal("65536", state(s).settings.max_target_bytes)
    assert.equal(3, #state(s).apps)
    assert.equal(0, s:stop())
  end)

  for _, case in ipairs({
    { "does not compile", "return (", 65, "BAD:1:" },
    { "fails as it is loaded", "\nerror('no luck')", 65, "BAD:2: no luck" },
    { "returns no app", "return 7", 65, "BAD" },
    { "has a wrong setting", "local app = require('moonquay').app { max_accepts = 0 }", 78,
      "BAD:1: max_accepts=0" },
    { "has a wrong prefix", "local app = require('moonquay').app { url_prefixes = 'http:/x' }", 78,
      "BAD:1: url_prefixes: http:/x: " },
  }) do
    for _, place in ipairs({ "first", "last" }) do
      it(("have one, the %s, that %s: it is named"):format(place, case[1]), function()
        local good = write("good", "url_prefixes = 'http://127.0.0.1:0/'")
        local bad = dir:write("bad.lua", case[2])
        local words = place == "first" and { "serve", bad, good } or { "serve", good, bad }
        assert_refused(case[3], { (case[4]:gsub("BAD", bad)) }, words)
      end)
    end
  end

  it("have one that is not there: it is named", function()
    local good = write("good", "url_prefixes = 'http://127.0.0.1:0/'")
    assert_refused(66, { dir.path .. "/none.lua" }, { "serve", good, dir.path .. "/none.lua" })
  end)
end)
