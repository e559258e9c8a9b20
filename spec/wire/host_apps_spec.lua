-- Apps that a host starts itself, from its configuration.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local USER = sys.geteuid() == 0 and "nobody" or nil

local APP = [[
local app = require("moonquay").app()
app:get("/", function() return "here" end)
app:get("/who", function()
  local status = io.open("/proc/self/status"):read("a")
  return status:match("PPid:%s*(%d+)") .. " " .. status:match("Uid:%s*(%d+)")
end)
return app]]

local NAMED = [[
local app = require("moonquay").app()
app:get("/", function() return os.getenv("NAME") end)
return app]]

describe("an app of a host's configuration", function()
  local dir, port

  before_each(function()
    dir, port = temp.dir(), ports.free()
    assert(sys.chmod(dir.path, "755"))
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  -- A host with one app; row: its other words.
  local function start(row, text, env)
    local file = dir:write("app.lua", text or APP)
    local config = dir:write("conf.lua", ('return { apps = { { file = "%s", user = %s, %s } } }')
      :format(file, USER and ("%q"):format(USER) or "nil", row:gsub("PORT", tostring(port))))
    return hosts.start({ workers = 2, options = { "--config", config }, env = env })
  end

  -- Replaces the host by one with this configuration.
  local function replace(host, text, ready)
    local app = ("file = %q, user = %s"):format(dir.path .. "/app.lua",
      USER and ("%q"):format(USER) or "nil")
    local config = dir:write("next.lua", (text:gsub("PORT", tostring(port)):gsub("APP", app)))
    return host:replacement({ "--config", config }, ready)
  end

  local function ask(path, status)
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path or "/"))
    local response = connection:response()
    connection:close()
    assert.equal(status or 200, response.status)
    return response.body
  end

  if USER then
    it("may have what the configuration gives its user, reserved or not", function()
      for _, start_word in ipairs({ "always", "demand" }) do
        port = ports.free()
        local host = start(('prefix = "http://127.0.0.1:PORT/", start = "%s"'):format(start_word))
        assert.equal("here", ask())
        assert.is_nil(host.server:stderr():find("app_ended", 1, true), host.server:stderr())
        -- It is its user's alone, and nobody else's; others are where they were.
        local thief = { "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups" }
        for _, prefix in ipairs({ "http://127.0.0.1:%d/", "http://127.0.0.1:%d/more/" }) do
          assert.same({ exit = 77 }, host:app("", { prefixes = { prefix:format(port) },
            ready = false, wrap = thief }):wait(10))
        end
        assert.equal(0, host:stop())
      end
    end)
  end

  it("sees what its row says, and nothing of the host's own", function()
    local host = start('prefix = "http://localhost:PORT/", env = { "ANSWER=4 2", "PATH=/own" }', [[
local app = require("moonquay").app()
app:get("/", function()
  local stat = io.open("/proc/self/stat"):read("a")
  local words = { io.open("/proc/self/environ"):read("a"):gsub("\0", "\n") }
  return words[1] .. "SESSION=" .. stat:match("%) %S %d+ %d+ (%d+)") .. "\nTTY=" ..
    stat:match("%) %S %d+ %d+ %d+ (%S+)") .. "\n"
end)
return app]], { NOTIFY_SOCKET = "@none", SECRET = "1", LC_ALL = "C.UTF-8" })
    local said = "\n" .. ask()
    for name, value in pairs({ ANSWER = "4 2", PATH = "/own", LC_ALL = "C.UTF-8", TTY = "0",
      MOONQUAY_HOST = host.socket, USER = USER or false }) do
      if value then
        assert.truthy(said:find("\n" .. name .. "=" .. value .. "\n", 1, true), said)
      end
    end
    assert.equal(1, select(2, said:gsub("\nPATH=", "")), said)
    assert.is_nil(said:find("NOTIFY_SOCKET", 1, true))
    assert.is_nil(said:find("SECRET", 1, true))
    assert.not_equal(tostring(host.server.pid), said:match("SESSION=(%d+)"))
    assert.equal(0, host:stop())
  end)

  it("rests when it has ended by itself and nobody waits", function()
    local host = start('prefix = "http://localhost:PORT/", start = "demand", idle = "off"')
    local first = tonumber(ask("/who"):match("%d+"))
    sys.kill(first, "TERM")
    host.server:await("app_ended")
    local second = tonumber(ask("/who"):match("%d+"))
    assert.not_equal(first, second)
    assert.equal(2, select(2, host.server:stderr():gsub("app_started", "")))
    assert.is_nil(host.server:stderr():find("error app_ended", 1, true))
  end)

  local function is_away(pid)
    return function() return not sys.alive(pid) end
  end

  it("is started with the host, as its user, and ends with it", function()
    local host = start('prefix = "http://localhost:PORT/"')
    await("the app", function()
      return #host:http("show servicestate").sessions == 1
    end)
    local pid, uid = ask("/who"):match("(%d+) (%d+)")
    assert.equal(USER and "65534" or tostring(sys.geteuid()), uid)
    assert.equal(0, host:stop())
    assert.is_false(sys.alive(tonumber(pid)))
  end)

  it("is started again when it ends, and requests wait for it", function()
    local host = start('prefix = "http://localhost:PORT/"')
    await("the app", function()
      return #host:http("show servicestate").sessions == 1
    end)
    local before = ask("/who"):match("%d+")
    sys.kill(tonumber(before), "KILL")
    host.server:await("app_ended")
    assert.not_equal(before, ask("/who"):match("%d+"))
  end)

  it("waits for its first request, and is stopped when it has nothing to do", function()
    local host = start('prefix = "http://localhost:PORT/", start = "demand", idle = 0.5')
    assert.equal(0, #host:http("show servicestate").sessions)
    local first = tonumber(ask("/who"):match("%d+"))
    host.server:await("app_idle")
    await("its end", is_away(first))
    local second = tonumber(ask("/who"):match("%d+"))
    assert.not_equal(first, second)
    host.server:await("app_idle.*app_idle")
    await("its end", is_away(second))
    -- Nobody has asked since: it rests.
    assert.equal(2, select(2, host.server:stderr():gsub("app_started", "")))
    assert.equal("here", ask())
    assert.equal(0, host:stop())
  end)

  it("keeps its place on demand from others, and after a crash and a registrar's death", function()
    local host = start('prefix = "http://localhost:PORT/", start = "demand", idle = "off"')
    local other = host:app("", { port = port, ready = false })
    assert.same({ exit = 69 }, other:wait(10))
    local first = tonumber(ask("/who"):match("%d+"))
    sys.kill(first, "KILL")
    host.server:await("app_ended")
    sys.kill(host:children("registrar")[1], "KILL")
    host.server:await("registrar_died")
    assert.not_equal(first, tonumber(ask("/who"):match("%d+")))
  end)

  it("that cannot be loaded is tried again, with pauses, while somebody waits", function()
    local host = start('prefix = "http://localhost:PORT/", start = "demand", ' ..
      'set = { "timeouts.request_queue=1" }', "syntax error")
    ask("/", 503)
    assert.truthy(host.server:stderr():find("app_ended.*status 65"))
    local starts = select(2, host.server:stderr():gsub("app_started", ""))
    assert.is_true(starts <= 6, starts) -- 0.1 s, 0.2 s, 0.4 s …
  end)

  it("may have several rows, each with prefixes and a process of its own", function()
    local row = '{ file = %q, user = %s, env = "NAME=%s", prefix = "http://localhost:%d/%s/" }'
    local file, rows = dir:write("app.lua", NAMED), {}
    for i, name in ipairs({ "a", "b" }) do
      rows[i] = row:format(file, USER and ("%q"):format(USER) or "nil", name, port, name)
    end
    local host = hosts.start({ options = { "--config", dir:write("conf.lua",
      ("return { apps = { %s } }"):format(table.concat(rows, ", "))) } })
    assert.equal("a", ask("/a/"))
    assert.equal("b", ask("/b/"))
    assert.equal(0, host:stop())
  end)

  it("may not have a prefix of another row", function()
    local row = ('{ file = %q, user = %s, prefix = "http://localhost:%d/" }'):format(
      dir:write("app.lua", APP), USER and ("%q"):format(USER) or "nil", port)
    local config = dir:write("conf.lua", ("return { apps = { %s, %s } }"):format(row, row))
    local result = server.run({ "host", "--config", config, "--socket", dir.path .. "/s",
      "--state", dir.path .. "/state" })
    assert.equal(78, result.status, result.stderr)
    assert.truthy(result.stderr:find("app.lua: both have http://", 1, true), result.stderr)
  end)

  describe("whose host is replaced", function()
    it("is forgotten like an app that has left when the new one does not name it", function()
      local host = start('prefix = "http://localhost:PORT/", start = "demand"',
        (APP:gsub("%(%)", "({ registration_grace = 0.1 })", 1)))
      assert.equal("here", ask())
      host:app("", { prefix = "other", port = port }) -- so that the port stays
      local new = replace(host, "return { apps = {} }")
      assert.same({ exit = 0 }, host.server:wait(30))
      new:await("app_forgotten")
      await("nobody's", function() return (pcall(ask, "/", 404)) end)
      assert.equal(0, new:stop())
    end)

    if USER then
      it("cannot have what an app of another user has by itself", function()
        local host = start('prefix = "http://localhost:PORT/a/"')
        host:app("", { prefix = "b", port = port })
        local new = replace(host, 'return { apps = { { APP, prefix = ' ..
          '"http://localhost:PORT/b/" } } }', false)
        assert.same({ exit = 69 }, new:wait(30))
        assert.truthy(new:stderr():find("app.lua: an app of user 0 has http://localhost:", 1, true))
        assert.equal("here", ask("/a/"))
        assert.equal(0, host:stop())
      end)
    end

    it("has the prefixes of its row then", function()
      local host = start('prefix = { "http://localhost:PORT/a/", "http://localhost:PORT/b/" }, ' ..
        'start = "demand"')
      assert.equal("here", ask("/a/"))
      local new = replace(host, 'return { apps = { { APP, start = "demand", prefix = { ' ..
        '"http://localhost:PORT/c/", "http://localhost:PORT/b/" } } } }')
      assert.same({ exit = 0 }, host.server:wait(30))
      assert.equal("here", ask("/c/"))
      assert.equal("here", ask("/b/"))
      ask("/a/", 404)
      assert.equal(0, new:stop())
    end)

    it("may get prefixes of another row then", function()
      local host = start('env = "NAME=a", prefix = "http://localhost:PORT/a/" }, { file = "' ..
        dir.path .. '/app.lua", user = ' .. (USER and ("%q"):format(USER) or "nil") ..
        ', env = "NAME=b", start = "demand", prefix = "http://localhost:PORT/b/"', NAMED)
      assert.equal("a", ask("/a/"))
      assert.equal("b", ask("/b/"))
      local new = replace(host, 'return { apps = { ' ..
        '{ APP, env = "NAME=one", prefix = { "http://localhost:PORT/a/", ' ..
        '"http://localhost:PORT/b/" } }, { APP, env = "NAME=two", start = "demand", ' ..
        'prefix = "http://localhost:PORT/c/" } } }')
      assert.same({ exit = 0 }, host.server:wait(30))
      for path, name in pairs({ ["/a/"] = "one", ["/b/"] = "one", ["/c/"] = "two" }) do
        assert.equal(name, ask(path))
      end
      assert.equal(0, new:stop())
    end)

    local ROW = 'return { apps = { { APP, prefix = "http://localhost:PORT/" } } }'

    -- Has the host drain until the function is called that this returns.
    local function keep_draining(host)
      local gate = dir.path .. "/gate"
      local app = host:app(([[
app:get("/", function(_, res)
  res:write("begun ")
  while not io.open(%q) do require("moonquay").sleep(0.01) end
  res:write("done")
end)]]):format(gate))
      local slow = app:connect({ deadline = 30 })
      slow:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      slow:read_until("begun")
      return function()
        assert.is_nil(host.server:wait(0))
        dir:write("gate", "")
        slow:rest()
        assert.same({ exit = 0 }, host.server:wait(30))
      end
    end

    local function await_other_than(pid)
      await("the next one", function() -- the old one may have accepted some more, which end there
        local answered, said = pcall(ask, "/who")
        return answered and tonumber(said:match("%d+")) ~= pid
      end)
    end

    it("is started by the new one when it ends while the old one still drains", function()
      local host = start('prefix = "http://localhost:PORT/"')
      local drain = keep_draining(host)
      local first = tonumber(ask("/who"):match("%d+"))
      local new = replace(host, ROW)
      host.server:await("taken_over")
      sys.kill(first, "KILL")
      await_other_than(first)
      drain()
      assert.equal(0, new:stop())
    end)

    it("is started when the old one has ended, whoever wants to replace the new one", function()
      local text = APP:gsub("%(%)", ('({ url_prefixes = "http://localhost:%d/" })'):format(port), 1)
      local host = start("", text)
      local drain = keep_draining(host)
      await("the app", function() return (pcall(ask)) end)
      local first = tonumber(ask("/who"):match("%d+"))
      local new = replace(host, "return { apps = { { APP } } }")
      host.server:await("taken_over")
      local none = host:replacement({ "--set", "tls=certificate=/nonexistent key=/nonexistent" },
        false)
      assert.same({ exit = 78 }, none:wait(20))
      drain()
      await_other_than(first)
      assert.equal(0, new:stop())
    end)
  end)

  local cases = {
    { '{ prefix = "http://localhost:1/" }', "app 1: file: is missing" },
    { '{ file = "app.lua" }', "must be an absolute path" },
    { '{ file = "/a.lua", start = "demand" }', "prefix: is missing, for start=demand" },
    { '{ file = "/a.lua", idle = 5 }', "idle: counts for start=demand only" },
    { '{ file = "/a.lua", start = "soon" }', "must be always or demand" },
    { '{ file = "/a.lua", prefix = "http://localhost:0/" }', "a URL prefix with a port" },
    { '{ file = "/a.lua", workers = 0 }', "between 1 and 1024" },
    { '{ file = "/a.lua", set = "workrs=1" }', "KEY=VALUE, a setting" },
    { '{ file = "/a.lua", env = "=1" }', "NAME=VALUE" },
    { '{ file = "/a.lua", user = "no-such-user" }', "there is none" },
    { '{ file = "/a.lua", what = 1 }', "no such key" },
  }
  if USER then
    cases[#cases + 1] = { '{ file = "/a.lua" }', "user= is missing" }
  end
  for _, case in ipairs(cases) do
    it("is refused: " .. case[1], function()
      local config = dir:write("conf.lua", ("return { apps = { %s } }"):format(case[1]))
      local result = server.run({ "host", "--config", config, "--socket", dir.path .. "/s",
        "--state", dir.path .. "/state" })
      assert.equal(78, result.status, result.stderr)
      assert.truthy(result.stderr:find(case[2], 1, true), result.stderr)
      assert.equal(1, select(2, result.stderr:gsub("\n", "")))
    end)
  end
end)
