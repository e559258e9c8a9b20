local client = require("spec.support.client")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local HELLO = [[return function() return "hello" end]]

-- A port that was free a moment ago, for those that must name one.
local function can_connect(host, port)
  local ok, connection = pcall(client.connect, host, port)
  if ok then
    connection:close()
  end
  return ok
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

describe("a start", function()
  local dir = temp.dir()
  after_each(server.stop_all)
  teardown(function()
    dir:remove()
  end)

  it("prints the address that it serves, and that one answers", function()
    local s = server.start({ app = HELLO })
    assert.truthy(s.text.stdout:match("^moonquay: serving %S+/app.lua on http://127.0.0.1:%d+/ "
      .. "with 1 worker %(Ctrl%-C stops%)\n$"), s.text.stdout)
    assert.equal("hello", s:get("/").body)
    assert.equal(0, s:stop())
  end)

  it("starts the workers that it was asked for", function()
    local s = server.start({ app = HELLO, options = { "--workers", "3" } })
    assert.equal(3, #s:workers())
    assert.truthy(s.text.stdout:find("with 3 workers", 1, true))
    assert.equal(0, s:stop())
  end)

  it("serves a name and a path, and no other", function()
    local s = server.start({ app = HELLO, options = { "--urls", "http://Web.localhost:0/Shop" } })
    assert.truthy(s.text.stdout:find(" on http://web.localhost:" .. s.port .. "/Shop/ ", 1, true),
      s.text.stdout)
    for _, case in ipairs({
      { "web.localhost", "/shop/x", 200 }, { "WEB.localhost", "/SHOP", 200 },
      { "web.localhost", "/", 404 }, { "localhost", "/shop/x", 400 }, { "", "/shop/x", 400 },
    }) do
      local connection = s:connect({ host = "127.0.0.1" })
      connection:send(("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n"):format(case[2], case[1]))
      assert.equal(case[3], connection:response().status, case[1] .. case[2])
      connection:close()
    end
    assert.equal(0, s:stop())
  end)

  it("serves localhost on both loopback families and one port", function()
    local s = server.start({ app = HELLO, options = { "--urls", "http://localhost:0" } })
    for _, host in ipairs({ "127.0.0.1", "::1" }) do
      local connection = s:connect({ host = host })
      connection:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal("hello", connection:response().body)
      connection:close()
    end
    assert.equal(400, s:get("/").status, "another host is none of ours")
    assert.equal(0, s:stop())
  end)

  it("serves an IPv6 literal on that address only", function()
    local s = server.start({ app = HELLO, options = { "--urls", "http://[::1]:0" } })
    assert.equal("::1", s.host)
    assert.equal("hello", s:get("/").body)
    assert.is_false(can_connect("127.0.0.1", s.port))
    assert.equal(0, s:stop())
  end)

  for _, any in ipairs({ "+", "*" }) do
    it(("serves %s on every address of both families"):format(any), function()
      local s = server.start({ app = HELLO, options = { "--urls", "http://" .. any .. ":0/" } })
      for _, host in ipairs({ "127.0.0.1", "127.0.0.2", "::1" }) do
        local connection = s:connect({ host = host })
        assert.equal("hello", connection:get("/").body)
        connection:close()
      end
      assert.equal(0, s:stop())
    end)
  end

  it("serves several addresses", function()
    local s = server.start({
      app = HELLO,
      options = { "--urls", "http://127.0.0.1:0, http://127.0.0.2:0", "--workers", "2" },
    })
    local second = s.text.stdout:match("http://127.0.0.2:(%d+)/ with")
    assert.truthy(second, s.text.stdout)
    assert.equal("hello", s:get("/").body)
    local other = client.connect("127.0.0.2", tonumber(second))
    assert.equal("hello", other:get("/").body)
    other:close()
    assert.equal(0, s:stop())
  end)

  it("takes app.lua of the working directory when no app is named", function()
    local here = temp.dir()
    here:write("app.lua", HELLO)
    local s = server.start({
      bare = true,
      executable = io.popen("pwd"):read("l") .. "/" .. server.executable,
      options = { "--urls=http://127.0.0.1:0" },
      cwd = here.path,
    })
    assert.equal("hello", s:get("/").body)
    assert.truthy(s.text.stdout:find("serving app.lua on", 1, true))
    assert.equal(0, s:stop())
    here:remove()
  end)

  it("reads MOONQUAY_URLS, which the command line beats", function()
    local s = server.start({
      app = HELLO,
      bare = true,
      env = { MOONQUAY_URLS = "http://127.0.0.3:0" },
    })
    assert.equal("127.0.0.3", s.host)
    assert.equal(0, s:stop())
    s = server.start({ app = HELLO, env = { MOONQUAY_URLS = "http://127.0.0.3:0" } })
    assert.equal("127.0.0.1", s.host)
    assert.equal(0, s:stop())
  end)

  it("does what the app asks for, unless the command line says otherwise", function()
    local app = [[
      local moonquay = require("moonquay")
      local app = moonquay.app { urls = "http://127.0.0.4:0", workers = 2,
                                 timeouts = { cancel = 5 } }
      app:get("/", function() return "app" end)
      return app]]
    local s = server.start({ app = app, bare = true })
    assert.equal("127.0.0.4", s.host)
    assert.equal(2, #s:workers())
    assert.equal("app", s:get("/").body)
    assert.equal(0, s:stop())
    s = server.start({ app = app })
    assert.equal("127.0.0.1", s.host)
    assert.equal(1, #s:workers())
    assert.equal(0, s:stop())
  end)

  local ASKS = [[
    local app = require("moonquay").app(%s)
    app:get("/", function() return "app" end)
    return app]]

  it("reads moonquay.conf.lua of the working directory, which everything else beats", function()
    local here = temp.dir()
    local executable = io.popen("pwd"):read("l") .. "/" .. server.executable
    here:write("moonquay.conf.lua", [[return {
      urls = { "http://127.0.0.5:0" }, workers = 2, server_header = false }]])
    here:write("plain.lua", ASKS:format("{}"))
    here:write("asks.lua", ASKS:format('{ urls = "http://127.0.0.4:0", server_header = "x" }'))
    local cases = {
      { "plain.lua", {}, nil, "127.0.0.5", 2, nil },
      { "asks.lua", {}, nil, "127.0.0.4", 2, "x" },
      { "asks.lua", {}, "http://127.0.0.3:0", "127.0.0.3", 2, "x" },
      { "asks.lua", { "--urls", "http://127.0.0.2:0", "--set", "server_header=false", "--workers",
        "1" }, "http://127.0.0.3:0", "127.0.0.2", 1, nil },
    }
    for _, case in ipairs(cases) do
      local s = server.start({ bare = true, executable = executable, cwd = here.path,
        options = { case[1], table.unpack(case[2]) }, env = { MOONQUAY_URLS = case[3] } })
      assert.equal(case[4], s.host)
      assert.equal(case[5], #s:workers())
      assert.equal(case[6], s:get("/").headers.server)
      assert.equal(0, s:stop())
    end
    here:remove()
  end)

  it("reads the file that --config names, else MOONQUAY_CONFIG's", function()
    local one = dir:write("one.lua", 'return { urls = "http://127.0.0.6:0" }')
    local two = dir:write("two.lua", 'return { urls = "http://127.0.0.7:0" }')
    local s = server.start({ app = HELLO, bare = true, env = { MOONQUAY_CONFIG = one } })
    assert.equal("127.0.0.6", s.host)
    assert.equal(0, s:stop())
    s = server.start({ app = HELLO, bare = true, env = { MOONQUAY_CONFIG = one },
      options = { "--config=" .. two } })
    assert.equal("127.0.0.7", s.host)
    assert.equal(0, s:stop())
  end)

  it("applies a limit of the whole server that the app asks for", function()
    local s = server.start({ app = [[
      local app = require("moonquay").app { max_target_bytes = 16 }
      app:any("/*rest", function() return "short" end)
      return app]] })
    assert.equal("short", s:get("/123456789012345").body)
    assert.equal(414, s:get("/1234567890123456").status)
    assert.equal(0, s:stop())
  end)

  it("as root runs the workers as --user says", function()
    if sys.geteuid() ~= 0 then
      pending("needs root")
      return
    end
    sys.chmod(dir.path, "0755")
    local s = server.start({
      path = dir:write("user.lua", [[return function()
        local status = io.open("/proc/self/status"):read("a")
        return status:match("Uid:%s+(%d+%s+%d+%s+%d+)") .. " " .. status:match("Gid:%s+(%d+)")
          .. " [" .. status:match("Groups:([^\n]*)"):match("^%s*(.-)%s*$") .. "] "
          .. status:match("NoNewPrivs:%s+(%d)")
      end]]),
      options = { "--user", "nobody" },
      wrap = { "setpriv", "--groups", "4,24" }, -- root's other groups are left too
    })
    assert.equal("65534\t65534\t65534 65534 [] 1", s:get("/").body)
    assert.is_nil(s:stderr():find("running_as_root", 1, true))
    assert.equal(0, s:stop())
  end)

  it("takes all descriptors that the hard limit allows", function()
    local s = server.start({
      app = [[return function()
        return io.open("/proc/self/limits"):read("a"):match("Max open files%s+(%d+%s+%d+)")
      end]],
      wrap = { "prlimit", "--nofile=100:300" },
    })
    assert.equal("300 300", (s:get("/").body:gsub("%s+", " ")))
    assert.equal(0, s:stop())
  end)

  it("leaves a worker no descriptor that it does not need", function()
    local s = server.start({ app = HELLO, options = { "--workers", "2" } })
    local fds = assert(sys.list(("/proc/%d/fd"):format(s:workers()[1])))
    -- 0 to 2, channel, segment, loop (epoll and wake-up), CPU clock, one listener; and 16 that the
    -- channel keeps for sockets and files to come
    assert.is_true(#fds <= 10 + 16, table.concat(fds, " "))
    assert.equal(0, s:stop())
  end)
end)

describe("a start on a terminal", function()
  local dir = temp.dir()
  local s
  after_each(function()
    if s then
      for _, pid in ipairs(sys.children(s.pid)) do
        sys.kill(pid, "KILL") -- script gives it a session of its own
      end
    end
    server.stop_all()
  end)
  teardown(function()
    dir:remove()
  end)

  local cases = {
    { "shows sources and logs requests", "", development = true, log = true },
    { "shows no sources when nobody can type", "</dev/null", development = false, log = true },
    { "does neither when errors go elsewhere", "2>" .. dir.path .. "/errors", development = false,
      log = false },
    { "shows no sources with --no-dev", "", development = false, log = true,
      options = { "--no-dev" } },
    { "logs no requests with --access-log off", "", development = true, log = false,
      options = { "--access-log", "off" } },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      s = server.start({
        app = 'return function() error("oops of mine") end',
        bare = true,
        wrap = { "sh", "-c", ('exec script -qec "exec $* %s" /dev/null'):format(case[2]), "sh" },
        options = { "--urls", "http://127.0.0.1:0", "--workers", "1",
          table.unpack(case.options or {}) },
      })
      local response = s:get("/broken")
      assert.equal(500, response.status)
      assert.equal(case.development, response.body:find("oops of mine", 1, true) ~= nil)
      assert(sys.kill(sys.children(s.pid)[1], "TERM"))
      assert.truthy(s:wait(15))
      assert.equal(0, s:stop())
      local written = s.text.stdout .. s.text.stderr .. (dir:read("errors") or "")
      assert.truthy(written:find("oops of mine", 1, true), written)
      assert.equal(case.log, written:find('"GET /broken HTTP/1.1" 500', 1, true) ~= nil, written)
    end)
  end
end)

describe("a start without an address (reference section 2.6)", function()
  -- What holds the default port makes it visible without being able to serve it.
  local holder = socket.bind("127.0.0.1", 5000)
  teardown(function()
    if holder then
      holder:close()
    end
  end)

  local path = "scripts/examples/hello/app.lua"
  local cases = {
    { "says nothing", { "serve", path } },
    { "gives an empty --urls", { "serve", path, "--urls", "" } },
    { "gives a --urls of separators alone", { "serve", path, "--urls", " , " } },
    { "gives empty urls by --set", { "serve", path, "--set", "urls=" } },
    { "gives an empty --urls behind MOONQUAY_URLS",
      { "serve", path, "--urls=", env = { MOONQUAY_URLS = "http://127.0.0.1:0" } } },
    { "leaves MOONQUAY_URLS empty", { "serve", path, env = { MOONQUAY_URLS = "" } } },
  }
  for _, case in ipairs(cases) do
    it(("serves the default where one %s"):format(case[1]), function()
      assert_refused(server.run(case[2]), 69,
        "moonquay: http://localhost:5000/: the port 5000 is in use")
    end)
  end
end)

describe("a start on a port in use (exit 69)", function()
  after_each(server.stop_all)

  it("names the port and who has it", function()
    local listener = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--urls",
      "http://127.0.0.1:" .. port })
    assert_refused(result, 69, "http://127.0.0.1:" .. port .. "/: the port " .. port
      .. " is in use", "process " .. sys.getpid())
    listener:close()
  end)

  it("is refused also when the other is a Moonquay of the same user", function()
    local s = server.start({ app = HELLO, options = { "--workers", "2" } })
    local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--urls",
      "http://127.0.0.1:" .. s.port })
    assert_refused(result, 69, "the port " .. s.port .. " is in use", "moonquay, process ")
    assert.equal("hello", s:get("/").body)
    assert.equal(0, s:stop())
  end)

  it("is refused when only one family of localhost is taken, and leaves the other free", function()
    local listener = assert(socket.tcp6())
    assert(listener:bind("::1", 0))
    assert(listener:listen(1))
    local _, port = listener:getsockname()
    local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--urls",
      "http://localhost:" .. port })
    assert_refused(result, 69, "http://localhost:" .. port, "in use", "[::1]:" .. port)
    listener:close()
    local free = assert(socket.bind("127.0.0.1", port))
    free:close()
  end)

  it("can use the port as soon as the other has stopped", function()
    local s = server.start({ app = HELLO })
    assert.equal("hello", s:get("/").body)
    local port = s.port
    assert.equal(0, s:stop())
    s = server.start({ app = HELLO, options = { "--urls", "http://127.0.0.1:" .. port } })
    assert.equal("hello", s:get("/").body)
    assert.equal(0, s:stop())
  end)
end)

describe("a bad start", function()
  local dir = temp.dir()
  teardown(function()
    dir:remove()
  end)

  local hello = dir:write("hello.lua", HELLO)
  local wrong = dir:write("wrong.conf.lua", "return {\n  workers = 0,\n}")
  local broken = dir:write("broken.conf.lua", "return {")
  local bad_urls = dir:write("urls.conf.lua", 'return { urls = "ftp://x" }')
  local function serve(...)
    return { "serve", hello, "--urls", "http://127.0.0.1:0", ... }
  end

  local words = {
    { "without a command", {}, 64, "what shall it do?" },
    { "with another command", { "dance" }, 64, "no such command: dance" },
    { "with another option", serve("--fast"), 64, "no such option: --fast" },
    { "with an option that lacks its value", serve("--workers"), 64, "wants a value: --workers" },
    { "with a value for a switch", serve("--dev=1"), 64, "takes no value: --dev=1" },
    { "with an app named twice", serve("other.lua", "other.lua"), 64,
      "the same app is named twice: other.lua" },
    { "with two names of an app", serve(dir.path .. "/./hello.lua"), 64,
      "the same app is named twice: " .. dir.path .. "/./hello.lua" },
    { "with an app too many",
      { "serve", hello, wrap = { "sh", "-c", 'exec "$0" "$@" $(seq -f app-%g.lua 64)' } }, 64,
      "a server has at most 64 apps, app-64.lua is one more" },
    { "without the file behind --config", { "serve", hello, "--config" }, 64,
      "wants a file: --config" },
    { "without the file that --config names", serve("--config", dir.path .. "/none.lua"), 66,
      "moonquay: " .. dir.path .. "/none.lua: No such file or directory\n" },
    { "without the file that MOONQUAY_CONFIG names",
      { "serve", hello, env = { MOONQUAY_CONFIG = dir.path .. "/none.lua" } }, 66,
      "/none.lua: No such file" },
    { "with a wrong value in the configuration file", serve("--config", wrong), 78,
      "moonquay: " .. wrong .. ":2: workers=0: must be between 1 and 1024\n" },
    { "with a broken configuration file", serve("--config", broken), 65,
      "moonquay: " .. broken .. ":1: " },
    { "with bad urls in the configuration file", { "serve", hello, "--config", bad_urls }, 78,
      "moonquay: " .. bad_urls .. ":1: urls: ftp://x: the scheme must be http or https\n" },
    { "with --set and no pair", serve("--set", "workers"), 64, "--set wants key=value" },
    { "with a word too many", { "version", "x" }, 64, "one word too many: x" },
    { "with a value out of range", serve("--workers", "0"), 78,
      "moonquay: --workers=0: must be between 1 and 1024\n" },
    { "with a value out of range by --set", serve("--set", "workers=0"), 78,
      "moonquay: --set workers=0: must be between 1 and 1024\n" },
    { "with too long a MOONQUAY_URLS",
      { "serve", hello, env = { MOONQUAY_URLS = ("x"):rep(1024) } }, 78,
      "moonquay: MOONQUAY_URLS=x" },
    { "with a bad MOONQUAY_URLS", { "serve", hello, env = { MOONQUAY_URLS = "ftp://x" } }, 78,
      "moonquay: MOONQUAY_URLS: ftp://x: the scheme must be http or https\n" },
    { "with a bad --urls behind a good MOONQUAY_URLS",
      { "serve", hello, "--urls", "ftp://x", env = { MOONQUAY_URLS = "http://localhost:0" } }, 78,
      "moonquay: --urls: ftp://x: the scheme must be http or https\n" },
    { "with bad urls by --set", { "serve", hello, "--set", "urls=ftp://x" }, 78,
      "moonquay: --set urls: ftp://x: the scheme must be http or https\n" },
    { "with an unknown setting", serve("--set=wrokers=1"), 78, "did you mean workers?" },
    { "with https and no certificate", serve("--urls", "https://localhost"), 78,
      "--urls: https://localhost:443/: no certificate is for it" },
    { "with another scheme", serve("--urls", "localhost:80"), 78,
      "localhost:80: a prefix is scheme://host:port/path/" },
    { "with an odd name as host", serve("--urls", "http://exa_mple!.org:80"), 78,
      "moonquay: --urls: http://exa_mple!.org:80: " },
    { "with a bare IPv6 address", serve("--urls", "http://::1:80"), 78, "needs brackets" },
    { "with dot segments in a path", serve("--urls", "http://localhost:0/a/../b"), 78,
      "moonquay: --urls: http://localhost:0/a/../b: " },
    { "with a bad port", serve("--urls", "http://localhost:65536"), 78,
      "the port must be between 1 and 65535" },
    { "with no port behind the colon", serve("--urls", "http://localhost:"), 78, "the port" },
    { "with no host", serve("--urls", "http://:80"), 78, "the host is missing" },
    { "with an unknown user", serve("--user", "nobody-of-this-name"), 78,
      "nobody-of-this-name: there is no such user" },
    { "without the app", { "serve", dir.path .. "/none.lua" }, 66, "/none.lua" },
    { "with an empty name of the app", { "serve", "", cwd = "scripts/examples/hello" }, 66,
      'moonquay: the app "" names no file' },
    { "without any app", { "serve", cwd = "/" }, 66, "no app was named" },
    { "with an error log that cannot be written", serve("--error-log", dir.path .. "/no/log"), 73,
      dir.path .. "/no/log: No such file or directory" },
    { "with an access log that cannot be written", serve("--access-log", dir.path), 73,
      dir.path .. ": Is a directory" },
  }
  for _, case in ipairs(words) do
    it(("%s ends with %d"):format(case[1], case[3]), function()
      local given = case[2]
      local args = table.move(given, 1, #given, 1,
        { cwd = given.cwd, env = given.env, wrap = given.wrap })
      if args.cwd then
        args.executable = io.popen("pwd"):read("l") .. "/" .. server.executable
      end
      assert_refused(server.run(args), case[3], case[4])
    end)
  end

  local apps = {
    { "has a syntax error", "return function(\n  if\nend", ":2:" },
    { "fails", "local x\nlocal y = x.z", ":2:" },
    { "raises a table", "error({})", "app.lua" },
    { "returns nothing", "local x = 1", "app.lua" },
    { "returns a number", "return 42", "app.lua" },
    { "returns an empty table", "return {}", "app.lua" },
    { "ends the process", 'package.loadlib("libc.so.6", "_exit")()',
      "ended with status ", " while it loaded the app" },
    { "breaks the process", 'package.loadlib("libc.so.6", "abort")()',
      "ended with SIGABRT while it loaded the app" },
    { "catches the refusal of a setting and fails of something else",
      'pcall(require("moonquay").app, { workers = 0 })\nerror("other")', "app.lua:2: other\n" },
  }
  for _, case in ipairs(apps) do
    it(("with an app that %s ends with 65"):format(case[1]), function()
      local path = dir:write("app.lua", case[2])
      assert_refused(server.run({ "serve", path, "--urls", "http://127.0.0.1:0" }), 65,
        path, table.unpack(case, 3))
    end)
  end

  local settings = {
    { "does not exist", "{ wrokers = 1 }", ":1: wrokers: no such option, did you mean workers?\n" },
    { "is out of range", "{\n  workers = 0 }", ":1: workers=0: must be between 1 and 1024\n" },
    { "is out of range in a group", "{ timeouts = { cancel = -1 } }",
      ":1: timeouts.cancel=-1: must be between " },
    { "is of another type", "{ workers = print }",
      ":1: workers=(a function): must be between 1 and 1024\n" },
    { "is text of another type", "{ urls = print }", ":1: urls=(a function): must be printable" },
    { "is no URL", '{ urls = "ftp://x" }',
      ":1: urls: ftp://x: the scheme must be http or https\n" },
  }
  for _, case in ipairs(settings) do
    it(("with an app that asks for what %s ends with 78"):format(case[1]), function()
      local path = dir:write("app.lua", 'local app = require("moonquay").app ' .. case[2]
        .. "\nreturn app")
      assert_refused(server.run({ "serve", path }), 78, "moonquay: " .. path .. case[3])
    end)
  end

  it("with an app that asks for more than fits into a message ends with 78", function()
    local path = dir:write("app.lua", [[
      local moonquay = require("moonquay")
      while true do
        moonquay.app({ url_prefixes = { "http://localhost/" .. ("x"):rep(2000) } })
      end]])
    assert_refused(server.run({ "serve", path }), 78, "moonquay: " .. path
      .. ":3: url_prefixes: the settings of an app take more than 4194304 bytes\n")
  end)

  it("with an app that passes the refusal of a setting on ends with 78", function()
    local path = dir:write("app.lua", [[
      local ok, why = pcall(require("moonquay").app, { workers = 0 })
      if not ok then error(why, 0) end]])
    assert_refused(server.run({ "serve", path }), 78, "workers=0: must be between 1 and 1024\n")
  end)

  it("with an app that never waits nor ends while it loads ends with 65", function()
    local path = dir:write("app.lua", 'string.find(("a"):rep(64), ("a*"):rep(64) .. "b")')
    local result = server.run({ "serve", path, "--urls", "http://127.0.0.1:0", "--set",
      "watchdog=0.5" })
    assert_refused(result, 65, path .. ":", "watchdog")
  end)

  it("with too few descriptors ends with 71 and says how many", function()
    local result = server.run({
      wrap = { "prlimit", "--nofile=60:60" },
      "serve", hello, "--urls", "http://127.0.0.1:0", "--workers", "4",
    })
    assert_refused(result, 71, "4 workers", "60 are allowed")
  end)

  it("without permission for the port ends with 77", function()
    -- A network of its own, where a port below 1024 needs a privilege whatever this machine says.
    if sys.geteuid() ~= 0 then
      pending("needs root")
      return
    end
    local place = temp.dir()
    sys.chmod(place.path, "0755")
    assert(os.execute(("d=%s; mkdir -p $d/bin $d/share/lua && cp %s $d/bin/ && "
      .. "cp -r lua $d/share/lua/5.4"):format(place.path, server.executable)))
    local app = place:write("hello.lua", HELLO)
    local result = server.run({
      executable = place.path .. "/bin/moonquay",
      wrap = {
        "unshare", "--net", "--", "sh", "-c", "ip link set lo up 2>/dev/null; "
          .. "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start; "
          .. 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"', "sh",
      },
      "serve", app, "--urls", "http://127.0.0.1:80",
    })
    assert_refused(result, 77, "no permission to listen on port 80")
    place:remove()
  end)

  it("that names a user without being root ends with 77", function()
    if sys.geteuid() ~= 0 then
      pending("needs root")
      return
    end
    local place = temp.dir()
    sys.chmod(place.path, "0755")
    assert(os.execute(("cp %s %s/moonquay"):format(server.executable, place.path)))
    local result = server.run({
      executable = place.path .. "/moonquay",
      wrap = { "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups" },
      "serve", "/app.lua", "--user", "root",
    })
    assert_refused(result, 77, "only root can start workers as another user")
    place:remove()
  end)

  it("frees the port that it had opened", function()
    -- The first URL can be opened, the second not.
    local taken = assert(socket.bind("127.0.0.2", 0))
    local _, port = taken:getsockname()
    local first = ports.free()
    local result = server.run({ "serve", hello, "--urls",
      ("http://127.0.0.1:%d,http://127.0.0.2:%d"):format(first, port) })
    assert_refused(result, 69, "http://127.0.0.2:" .. port)
    assert(socket.bind("127.0.0.1", first)):close()
    taken:close()
  end)
end)

describe("the command", function()
  it("prints its settings from the table that checks them", function()
    local result = server.run({ "options" })
    assert.equal(0, result.status)
    local probe = require("moonquay.probe").settings
    local keys = {}
    for line in result.stdout:gmatch("\n([^\n]+)") do
      keys[#keys + 1] = line:match("^(%S+)")
    end
    assert.same(probe.keys(), keys)
    assert.matches("^KEY +DEFAULT +TYPE +SCOPE +CHANGES +MEANING; VALUES\n", result.stdout)
    assert.matches("\nworkers +CPUs +number +server +start +[^\n]*between 1 and 1024\n",
      result.stdout)
  end)

  it("prints its version", function()
    local result = server.run({ "version" })
    assert.equal(0, result.status)
    assert.truthy(result.stdout:match("^moonquay %d+%.%d+%.%d+\n$"), result.stdout)
  end)

  for _, words in ipairs({ { "help" }, { "--help" }, { "serve", "--help" } }) do
    it("explains itself: " .. table.concat(words, " "), function()
      local result = server.run(words)
      assert.equal(0, result.status)
      assert.truthy(result.stdout:find("moonquay serve", 1, true))
      assert.equal("", result.stderr)
    end)
  end

  it("does not start a worker by hand", function()
    local result = server.run({ "worker" })
    assert.equal(64, result.status)
    assert.truthy(result.stderr:find("moonquay serve only", 1, true))
  end)
end)
