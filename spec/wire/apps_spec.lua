local apps = require("spec.support.apps")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local get = apps.get

-- An app at /NAME/ with these settings, whose handlers stand in between.
local function app_at(name, settings, handlers)
  return ([[
local moonquay = require("moonquay")
local app = moonquay.app({ url_prefixes = "URL/%s/", %s })
local pid = io.open("/proc/self/stat"):read("n")
app:any("/who", function() return "%s " .. pid end)
%s
return app]]):format(name, settings or "", name, handlers or "")
end

local function status_of(s)
  local result = server.run({
    "status", "--json", tostring(s.pid), env = { XDG_RUNTIME_DIR = s.runtime_dir },
  })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout)
end

-- The one line that a bad start is told in.
local function assert_refused(result, status, ...)
  assert.equal(status, result.status, result.stderr)
  assert.equal("", result.stdout)
  assert.truthy(result.stderr:match("^moonquay: [^\n]+\n$"), "not one line: " .. result.stderr)
  for _, part in ipairs({ ... }) do
    assert.truthy(result.stderr:find(part, 1, true), result.stderr)
  end
  assert.is_false(result.left_behind, "a process was left behind")
end

describe("apps of one server", function()
  after_each(apps.stop_all)

  it("have prefixes of their own, the longest of which counts", function()
    local seen = [[app:any("/*rest", function(req)
      return "%s " .. req.path_base .. " " .. req.path
    end)]]
    local s = apps.start({
      "a.lua", app_at("", "", seen:format("a")):gsub("URL//", "URL/"),
      "b.lua", app_at("b", "", seen:format("b")),
      "c.lua", app_at("b/c", "", seen:format("c")),
    })
    assert.truthy(s.text.stdout:find("on " .. apps.url .. "/, " .. apps.url .. "/b/, " .. apps.url
      .. "/b/c/ with 1 worker", 1, true), s.text.stdout)
    for target, body in pairs({
      ["/x"] = "a  /x", ["/bc"] = "a  /bc", ["/b/x"] = "b /b /x", ["/b"] = "b /b ",
      ["/b/cc"] = "b /b /cc", ["/b/c/x"] = "c /b/c /x",
    }) do
      assert.equal(body, get(target).body)
    end
    assert.equal(0, s:stop())
  end)

  it("have options of their own", function()
    local length = [[app:post("/length", function(req) return tostring(#assert(req:text())) end)]]
    local s = apps.start({
      "a.lua", app_at("a", "server_header = 'first', max_request_body_size = 4", length),
      "b.lua", app_at("b", "server_header = false, max_request_body_size = 8", length),
    })
    local connection = apps.connect()
    for _, case in ipairs({
      { "a", 4, 200, "first" }, { "b", 8, 200 }, { "b", 5, 200 }, { "a", 5, 413, "first" },
    }) do
      local response = connection:post(("/%s/length"):format(case[1]), ("x"):rep(case[2]))
      assert.equal(case[3], response.status)
      assert.equal(case[4], response.headers.server)
    end
    connection = apps.connect()
    assert.equal(413, connection:post("/b/length", ("x"):rep(9)).status)
    local state = status_of(s)
    assert.equal("4", state.apps[1].settings.max_request_body_size)
    assert.equal("8", state.apps[2].settings.max_request_body_size)
    assert.same({ apps.url .. "/b/" }, { table.unpack(state.apps[2].addresses) })
    assert.equal(0, s:stop())
  end)

  it("take the command line's options all", function()
    local s = apps.start({
      "a.lua", app_at("a", "server_header = 'first'"), "b.lua", app_at("b"),
    }, { "--set", "server_header=given" })
    assert.equal("given", get("/a/who").headers.server)
    assert.equal("given", get("/b/who").headers.server)
    assert.equal(0, s:stop())
  end)

  it("have a Lua state each: globals, modules and loaded libraries are not shared", function()
    local traces = [[
      mark = (mark or "") .. "%s"
      string.mark = (string.mark or "") .. "%s"
      package.loaded.mark = (package.loaded.mark or "") .. "%s"
      app:get("/marks", function()
        mark = mark .. "."
        return table.concat({ mark, string.mark, require("mark") }, " ")
      end)]]
    local s = apps.start({
      "a.lua", app_at("a", "", traces:gsub("%%s", "a")),
      "b.lua", app_at("b", "", traces:gsub("%%s", "b")),
    })
    assert.equal("a. a a", get("/a/marks").body)
    assert.equal("a.. a a", get("/a/marks").body)
    assert.equal("b. b b", get("/b/marks").body)
    assert.equal(0, s:stop())
  end)

  it("can be sixty-four, and each gets its own requests", function()
    local files = {}
    for i = 1, 64 do
      files[2 * i - 1] = ("app-%d.lua"):format(i)
      files[2 * i] = app_at("n" .. i)
    end
    local s, paths = apps.start(files)
    local connection = apps.connect()
    for i = 1, 64 do
      assert.matches("^n" .. i .. " %d+$", connection:get(("/n%d/who"):format(i)).body)
    end
    local state = status_of(s)
    assert.equal(64, #state.apps)
    for i = 1, 64 do
      assert.equal(paths[i], state.apps[i].name)
      assert.same({ ("%s/n%d/"):format(apps.url, i) }, { table.unpack(state.apps[i].addresses) })
      assert.equal(1, state.apps[i].counters.requests)
    end
    assert.equal(0, s:stop())
  end)

  it("cannot be sixty-five (exit 64)", function()
    local files = {}
    for i = 1, 65 do
      files[2 * i - 1] = ("app-%d.lua"):format(i)
      files[2 * i] = app_at("n" .. i)
    end
    local result, paths = apps.run(files)
    assert_refused(result, 64, "a server has at most 64 apps, " .. paths[65] .. " is one more")
  end)

  it("cannot be one file twice, whatever it is called (exit 64)", function()
    local paths, dir = apps.write({ "a.lua", app_at("a") })
    for _, other in ipairs({ paths[1], dir.path .. "/./a.lua" }) do
      assert_refused(server.run({ "serve", paths[1], other }), 64,
        "the same app is named twice: " .. other)
    end
  end)
end)

describe("a prefix that is named twice (exit 78)", function()
  after_each(apps.stop_all)

  local function app(prefixes)
    return ("return require('moonquay').app({ url_prefixes = { %s } })"):format(prefixes)
  end

  for _, case in ipairs({
    { "in the same words", '"URL/x/"', '"URL/x/"', apps.url .. "/x/" },
    { "in other words", '"URL/X/"', '"HTTP://IP:8601/x"', apps.url .. "/x/" },
    { "behind others", '"URL/a/", "URL/b/"', '"URL/c/", "URL/b/"', apps.url .. "/b/" },
  }) do
    it(("by two apps, %s, is told with both"):format(case[1]), function()
      local result, paths = apps.run({ "a.lua", app(case[2]), "b.lua", app(case[3]) })
      assert_refused(result, 78, case[4]:lower(), paths[1] .. " and " .. paths[2]
        .. " name this prefix")
    end)

    it(("by one app, %s, is told with its name, once"):format(case[1]), function()
      local result, paths = apps.run({
        "z.lua", app('"URL/z/"'), "a.lua", app(case[2] .. ", " .. case[3]),
      })
      assert_refused(result, 78, "moonquay: " .. paths[2] .. " names the prefix " .. case[4]:lower()
        .. " twice\n")
    end)
  end

  it("by the default, since neither app has one, is told with both", function()
    local result, paths = apps.run({ "a.lua", app(""), "b.lua", app("") }, { "--workers", "1" })
    if result.status ~= 69 then -- 69: somebody else has the port, which is seen first
      assert_refused(result, 78, "http://localhost:5000/", paths[1] .. " and " .. paths[2])
    end
  end)

  it("by --urls, which are each app's, is told with both", function()
    local result, paths = apps.run({ "a.lua", app(""), "b.lua", app("") }, { "--urls", apps.url })
    assert_refused(result, 78, apps.url .. "/", paths[1] .. " and " .. paths[2])
  end)

  it("by app:listen at load, is told with both", function()
    local listens = [[
      local app = require("moonquay").app()
      app:listen("URL/x/")
      return app]]
    local result, paths = apps.run({ "a.lua", app('"URL/x/"'), "b.lua", listens })
    assert_refused(result, 78, apps.url .. "/x/", paths[1] .. " and " .. paths[2])
  end)
end)

describe("an option of the whole server", function()
  after_each(apps.stop_all)

  for _, case in ipairs({
    { "workers", "2", "3" }, { "log_level", "'info'", "'debug'" }, { "max_fields", "10", "11" },
    { "watchdog", "'off'", "10" },
  }) do
    local key, one, other = table.unpack(case)
    it(("that two apps want different, %s, is an error that names both places (exit 78)"):format(
      key), function()
      local function files(second)
        return {
          "a.lua", app_at("a", ("\n%s = %s"):format(key, one)), "b.lua", app_at("b"),
          "c.lua", "\n\n" .. app_at("c", ("%s = %s"):format(key, second)),
        }
      end
      local result, paths = apps.run(files(other), { "--no-dev" })
      assert_refused(result, 78, ("moonquay: %s is one for all apps: %s:2 says %s, and %s:4 says "
        .. "%s\n"):format(key, paths[1], one:gsub("'", ""), paths[3], (other:gsub("'", ""))))
      local s = apps.start(files(one))
      assert.matches("^c ", get("/c/who").body)
      assert.equal(0, s:stop())
    end)
  end

  it("that one app alone names holds for all", function()
    local s = apps.start({ "a.lua", app_at("a"), "b.lua", app_at("b", "max_target_bytes = 20") })
    assert.equal(414, get("/a/who?" .. ("x"):rep(20)).status)
    assert.equal(0, s:stop())
  end)
end)

describe("an app among several that cannot be served", function()
  after_each(apps.stop_all)

  for _, case in ipairs({
    { "does not parse", "local x =\n= 1", 65, ":2: " },
    { "raises", "\n\nerror('no luck')", 65, ":3: no luck" },
    { "returns nothing", "", 65, ": the file returned nothing" },
    { "wants what there is not", "local app = require('moonquay').app({ nonsense = 1 })", 78,
      ":1: nonsense: no such option" },
    { "ends the worker", "package.loadlib('libc.so.6', '_exit')()", 65,
      ": the worker ended with status " },
    { "has a prefix of a scheme that there is not",
      "local app = require('moonquay').app({ url_prefixes = 'ftp://x' })", 78,
      ":1: url_prefixes: ftp://x: the scheme must be http or https" },
  }) do
    for place = 1, 3 do
      it(("since it %s is named, as number %d"):format(case[1], place), function()
        local files = { "a.lua", app_at("a"), "b.lua", app_at("b"), "c.lua", app_at("c") }
        files[2 * place] = case[2]
        local result, paths = apps.run(files, { "--workers", "2", "--no-dev" })
        assert_refused(result, case[3], "moonquay: " .. paths[place] .. case[4])
      end)
    end
  end

  it("since there is no such file is named (exit 66)", function()
    local paths, dir = apps.write({ "a.lua", app_at("a") })
    assert_refused(server.run({ "serve", paths[1], dir.path .. "/none.lua" }), 66,
      "moonquay: " .. dir.path .. "/none.lua")
  end)

  it("since its port is taken leaves none open (exit 69)", function()
    local s = apps.start({ "a.lua", app_at("a") })
    local result = apps.run({
      "b.lua", "return require('moonquay').app({ url_prefixes = 'http://IP:8602/b' })",
      "c.lua", app_at("c"),
    })
    assert_refused(result, 69, apps.url .. "/c/: the port 8601 is in use")
    assert.has_error(function()
      apps.connect(8602)
    end)
    assert.equal(0, s:stop())
  end)
end)

describe("a worker with several apps", function()
  after_each(apps.stop_all)

  local function pid_of(name)
    local response = get(("/%s/who"):format(name))
    assert.equal(200, response.status)
    return tonumber(response.body:match("^" .. name .. " (%d+)$"))
  end

  for _, workers in ipairs({ 1, 2 }) do
    it(("that is killed, one of %d, serves all of them again"):format(workers), function()
      local s = apps.start({ "a.lua", app_at("a"), "b.lua", app_at("b"), "c.lua", app_at("c") },
        { "--workers", tostring(workers) })
      local victim = pid_of("a")
      assert(sys.kill(victim, "KILL"))
      s:await(("worker_died [^\n]*pid=%d signal=SIGKILL"):format(victim))
      for _, name in ipairs({ "a", "b", "c" }) do
        await(name .. " served by the successor", function()
          local pid = pid_of(name)
          assert.not_equal(victim, pid)
          local has_all = #s:workers() == workers
          return has_all and status_of(s).workers[workers].state == "serving"
        end)
      end
      for _, app in ipairs(status_of(s).apps) do
        assert.equal("serving", app.state)
        assert.equal(0, app.running)
      end
      assert.equal(0, s:stop())
    end)
  end

  it("that one app crashes serves all of them again", function()
    local crash = [[app:get("/crash", function() package.loadlib("libc.so.6", "_exit")() end)]]
    local s = apps.start({ "a.lua", app_at("a", "", crash), "b.lua", app_at("b") })
    local before = pid_of("b")
    local connection = apps.connect()
    connection:send("GET /a/crash HTTP/1.1\r\nHost: test\r\n\r\n")
    assert.is_true(connection:closed())
    s:await("worker_died ")
    assert.not_equal(before, pid_of("b"))
    assert.equal(pid_of("a"), pid_of("b"))
    assert.equal(0, s:stop())
  end)

  -- Computes until the other app has been asked, or its limit ends it.
  local function spins_until(file)
    return ([[
      app:get("/spin", function()
        while not io.open("%s") do end
        return "seen"
      end)
      app:get("/seen", function() io.open("%s", "w"):close() return "told" end)
      app:get("/compute/:ms", function(req)
        local till = moonquay.now() + req.params.ms / 1000
        while moonquay.now() < till do end
        return "computed"
      end)]]):format(file, file)
  end

  it("serves one while a handler of another computes", function()
    local _, dir = apps.write({})
    local handlers = spins_until(dir.path .. "/seen")
    local s = apps.start({
      "a.lua", app_at("a", "cpu_limit = 60", handlers), "b.lua", app_at("b", "", handlers),
    })
    local spinning = apps.connect()
    spinning:send("GET /a/spin HTTP/1.1\r\nHost: test\r\n\r\n")
    await("the handler's begin", function()
      return status_of(s).apps[1].running == 1
    end)
    assert.equal("told", get("/b/seen").body)
    assert.equal("seen", spinning:response().body)
    assert.equal(0, s:stop())
  end)

  it("ends what passes its app's cpu_limit, not what another app computes", function()
    local handlers = spins_until("/nonexistent/file")
    local s = apps.start({
      "a.lua", app_at("a", "cpu_limit = 0.05", handlers),
      "b.lua", app_at("b", "cpu_limit = 60", handlers),
    })
    local slow = apps.connect()
    slow:send("GET /b/compute/300 HTTP/1.1\r\nHost: test\r\n\r\n")
    assert.equal(500, get("/a/spin").status)
    assert.equal("computed", slow:response().body)
    assert.equal("computed", get("/b/compute/300").body)
    assert.equal(500, get("/a/spin").status)
    assert.matches("^a ", get("/a/who").body)
    s:await("cpu_limit")
    assert.equal(0, s:stop())
  end)

  it("holds each to its own memory_limit", function()
    local takes = [[app:get("/take/:mib", function(req)
      return tostring(#("x"):rep(tonumber(req.params.mib) << 20))
    end)]]
    local s = apps.start({
      "a.lua", app_at("a", "memory_limit = '8MiB'", takes),
      "b.lua", app_at("b", "memory_limit = '64MiB'", takes),
    })
    for _ = 1, 3 do
      assert.equal(500, get("/a/take/16").status)
      assert.equal(tostring(16 << 20), get("/b/take/16").body)
      assert.equal("1048576", get("/a/take/1").body)
    end
    assert.equal(500, get("/b/take/128").status)
    assert.equal(0, s:stop())
  end)
end)

describe("os.exit of one app", function()
  after_each(apps.stop_all)

  it("ends the whole server in good order: what runs in the others is answered", function()
    local _, dir = apps.write({})
    local waits = ([[app:get("/wait", function()
      while not io.open("%s/go") do moonquay.sleep(0.01) end
      return "waited"
    end)]]):format(dir.path)
    local s = apps.start({
      "a.lua", app_at("a", "", waits),
      "b.lua", app_at("b", "", [[app:get("/exit", function() os.exit(3) end)]]),
    }, { "--workers", "2" })
    local waiting = {}
    for i = 1, 8 do -- some in each worker
      waiting[i] = apps.connect()
      waiting[i]:send("GET /a/wait HTTP/1.1\r\nHost: test\r\n\r\n")
    end
    await("all of them", function()
      return status_of(s).apps[1].running == 8
    end)
    assert.equal(503, get("/b/exit").status)
    s:await("stopping")
    dir:write("go", "")
    for i = 1, 8 do
      assert.equal("waited", waiting[i]:response().body)
      assert.is_true(waiting[i]:closed())
    end
    assert.same({ exit = 0 }, s:wait(20))
    assert.equal(0, s:stop())
  end)

  it("while it is loaded fails the start and names the app", function()
    local result, paths = apps.run({ "a.lua", app_at("a"), "b.lua", "os.exit(0)" })
    assert_refused(result, 65, paths[2])
  end)
end)
