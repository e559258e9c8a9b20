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
  local function start(row, text)
    local file = dir:write("app.lua", text or APP)
    local config = dir:write("conf.lua", ('return { apps = { { file = "%s", user = %s, %s } } }')
      :format(file, USER and ("%q"):format(USER) or "nil", row:gsub("PORT", tostring(port))))
    return hosts.start({ workers = 2, options = { "--config", config } })
  end

  local function ask(path, status)
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path or "/"))
    local response = connection:response()
    connection:close()
    assert.equal(status or 200, response.status)
    return response.body
  end

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

  local cases = {
    { '{ prefix = "http://localhost:1/" }', "app 1: file: is missing" },
    { '{ file = "app.lua" }', "must be an absolute path" },
    { '{ file = "/a.lua", start = "demand" }', "prefix: is missing, for start=demand" },
    { '{ file = "/a.lua", idle = 5 }', "idle: counts for start=demand only" },
    { '{ file = "/a.lua", start = "soon" }', "must be always or demand" },
    { '{ file = "/a.lua", prefix = "http://localhost:0/" }', "a URL prefix with a port" },
    { '{ file = "/a.lua", workers = 0 }', "between 1 and 1024" },
    { '{ file = "/a.lua", set = "workrs=1" }', "KEY=VALUE, a setting" },
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
