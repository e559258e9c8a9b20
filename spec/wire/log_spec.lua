local await = require("spec.support.await")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local APP = [[
local moonquay = require("moonquay")
return function(req, res)
  if req.path == "/log" then
    moonquay.log.error("an error", { n = 1 })
    moonquay.log.warn("a warning")
    moonquay.log.info("some news")
    moonquay.log.debug("a detail")
  elseif req.path == "/fail" then
    error("oops")
  elseif req.method == "POST" then
    req:text()
  end
  return "hello"
end]]

-- What differs from run to run.
local function plain(text)
  return (text
    :gsub("%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0000", "TIME")
    :gsub("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ", "TIME")
    :gsub("%x%x%x%x%x%x%x%x%x%x%x%x%-%x+", "ID")
    :gsub('"duration_ms":[%d.]+', '"duration_ms":MS'))
end

local function lines_of(dir, name, count)
  return await(count .. " lines in " .. name, function()
    local text = dir:read(name) or ""
    return select(2, text:gsub("\n", "")) >= count and text
  end)
end

describe("the access log", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function start(...)
    return server.start({
      app = APP,
      options = { "--access-log", dir.path .. "/access", ... },
    })
  end

  local function requests(s)
    local connection = s:connect()
    connection:get("/a?b=%22c", { ["User-Agent"] = 'say "x"', Referer = "http://r/" })
    connection:request("POST", "/p", nil, "12345")
    connection:send("BAD\x01 / HTTP/1.1\r\n\r\n")
    assert.equal(400, connection:response().status)
    connection:close()
  end

  it("has a combined line for each request", function()
    local s = start()
    requests(s)
    assert.equal('127.0.0.1 - - [TIME] "GET /a?b=%22c HTTP/1.1" 200 5 "http://r/" '
      .. '"say \\"x\\"" ID\n'
      .. '127.0.0.1 - - [TIME] "POST /p HTTP/1.1" 200 5 "-" "-" ID\n',
      plain(lines_of(dir, "access", 3)):match("^[^\n]*\n[^\n]*\n"))
    assert.equal(0, s:stop())
    -- What was refused has its line too.
    local last = plain(dir:read("access")):match("([^\n]*)\n$")
    assert.truthy(last:match('^127%.0%.0%.1 %- %- %[TIME%] ".*" 400 %d+ "%-" "%-" ID$'), last)
  end)

  it("has a JSON line for each request", function()
    local s = start("--access-log-format", "json")
    requests(s)
    local text = plain(lines_of(dir, "access", 3))
    assert.equal('{"time":"TIME","id":"ID","client":"127.0.0.1","user":null,"method":"GET",'
      .. '"host":"test","target":"/a?b=%22c","protocol":"HTTP/1.1","status":200,'
      .. '"request_bytes":0,"response_bytes":5,"duration_ms":MS,"referer":"http://r/",'
      .. '"user_agent":"say \\"x\\"","aborted":false}\n'
      .. '{"time":"TIME","id":"ID","client":"127.0.0.1","user":null,"method":"POST",'
      .. '"host":"test","target":"/p","protocol":"HTTP/1.1","status":200,"request_bytes":5,'
      .. '"response_bytes":5,"duration_ms":MS,"referer":null,"user_agent":null,'
      .. '"aborted":false}\n', text:match("^[^\n]*\n[^\n]*\n"))
    assert.equal(0, s:stop())
  end)

  it("goes to standard error when it is -", function()
    local s = server.start({ app = APP, options = { "--access-log", "-" } })
    s:get("/there")
    s:await('"GET /there HTTP/1.1" 200 5 ')
    assert.equal(0, s:stop())
  end)

  it("is off by default where there is no terminal", function()
    local s = server.start({
      app = APP,
      bare = true,
      options = { "--urls", "http://127.0.0.1:0" },
    })
    s:get("/there")
    assert.equal(0, s:stop())
    assert.is_nil(s:stderr():find("/there", 1, true))
  end)

  it("may be named by the app", function()
    local s = server.start({
      app = ('require("moonquay").app { access_log = %q, access_log_format = "json" }\n')
        :format(dir.path .. "/own") .. APP,
      bare = true,
      options = { "--urls", "http://127.0.0.1:0", "--workers", "2" },
    })
    s:get("/there")
    assert.truthy(lines_of(dir, "own", 1):find('"target":"/there"', 1, true))
    assert.equal(0, s:stop())
  end)

  it("has the id that the error log has", function()
    local s = start()
    s:get("/fail")
    local id = s:await("request=(%x+%-%x+)")
    assert.truthy(lines_of(dir, "access", 1):find(id, 1, true))
    assert.equal(0, s:stop())
  end)
end)

describe("the error log", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local levels = {
    { "error", { "an error" }, { "a warning", "some news", "a detail" } },
    { "warn", { "an error", "a warning" }, { "some news", "a detail" } },
    { "info", { "an error", "a warning", "some news" }, { "a detail" } },
    { "debug", { "an error", "a warning", "some news", "a detail" }, {} },
  }
  for _, case in ipairs(levels) do
    it("keeps what --log-level " .. case[1] .. " asks for", function()
      local s = server.start({ app = APP, options = { "--log-level", case[1] } })
      assert.equal("hello", s:get("/log").body)
      assert.equal(0, s:stop())
      for _, text in ipairs(case[2]) do
        assert.truthy(s:stderr():find(text, 1, true), text)
      end
      for _, text in ipairs(case[3]) do
        assert.is_nil(s:stderr():find(text, 1, true), text)
      end
    end)
  end

  it("goes to a file, from the master and the workers", function()
    local s = server.start({ app = APP, options = { "--error-log", dir.path .. "/errors" } })
    s:get("/log")
    assert.equal(0, s:stop())
    local text = dir:read("errors")
    assert.truthy(text:find(" info started process=master app=", 1, true), text)
    assert.truthy(text:find('process=worker-0 message="an error"', 1, true), text)
    assert.truthy(text:find(" info stopped process=master\n", 1, true), text)
    assert.equal("", s:stderr())
  end)

  it("has one JSON object a line", function()
    local s = server.start({
      app = APP,
      options = { "--error-log", dir.path .. "/errors", "--error-log-format", "json" },
    })
    s:get("/log")
    assert.equal(0, s:stop())
    local count = 0
    for line in dir:read("errors"):gmatch("[^\n]+") do
      assert.truthy(line:match('^{"time":"[^"]+","level":"%a+","event":"%a+[%a_]*".*}$'), line)
      count = count + 1
    end
    assert.is_true(count >= 5)
    assert.truthy(dir:read("errors"):find('"process":"worker-0","message":"an error"', 1, true))
  end)

  it("takes what the app says while it loads", function()
    local s = server.start({
      app = 'require("moonquay").log.info("loading")\n' .. APP,
      options = { "--error-log", dir.path .. "/errors" },
    })
    assert.equal(0, s:stop())
    assert.truthy(dir:read("errors"):find("message=loading", 1, true))
  end)

  it("says that SIGHUP does nothing yet", function()
    local s = server.start({ app = APP })
    s:signal("HUP")
    s:await("warn hup_ignored")
    assert.equal("hello", s:get("/").body)
    assert.equal(0, s:stop())
  end)
end)

describe("SIGUSR1", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  it("opens both logs again in all processes", function()
    local s = server.start({
      app = APP,
      options = { "--workers", "2", "--error-log", dir.path .. "/errors", "--access-log",
        dir.path .. "/access" },
    })
    s:get("/before")
    lines_of(dir, "access", 1)
    os.rename(dir.path .. "/errors", dir.path .. "/errors.1")
    os.rename(dir.path .. "/access", dir.path .. "/access.1")
    s:signal("USR1")
    await("the new error log", function()
      return (dir:read("errors") or ""):find("info reopened", 1, true)
    end)
    -- Each worker must come to write to the new files.
    for worker = 0, 1 do
      await("lines of worker " .. worker, function()
        s:get("/log")
        return dir:read("errors"):find("process=worker-" .. worker, 1, true)
      end)
    end
    local old_access, old_errors = dir:read("access.1"), dir:read("errors.1")
    for _ = 1, 20 do
      s:get("/after")
    end
    assert.equal(0, s:stop())
    assert.equal(old_access, dir:read("access.1"))
    assert.equal(old_errors, dir:read("errors.1"))
    assert.truthy(old_access:find("/before", 1, true))
    assert.equal(20, select(2, dir:read("access"):gsub("/after", "")))
  end)

  it("leaves no descriptor of the old files", function()
    local s = server.start({
      app = APP,
      options = { "--error-log", dir.path .. "/errors", "--access-log", dir.path .. "/access" },
    })
    local worker = s:workers()[1]
    local function descriptors()
      return #sys.list(("/proc/%d/fd"):format(s.pid)), #sys.list(("/proc/%d/fd"):format(worker))
    end
    s:get("/")
    local master_before, worker_before = descriptors()
    for i = 1, 3 do
      s:signal("USR1")
      await("reopening " .. i, function()
        return select(2, dir:read("errors"):gsub("info reopened", "")) == i
      end)
    end
    await("as many descriptors as before", function()
      s:get("/")
      local master_after, worker_after = descriptors()
      return master_after == master_before and worker_after == worker_before
    end)
    assert.equal(0, s:stop())
  end)

  it("keeps the old files when the new ones cannot be opened", function()
    local s = server.start({
      app = APP,
      options = { "--error-log", dir.path .. "/errors", "--access-log", dir.path .. "/access" },
    })
    os.rename(dir.path .. "/access", dir.path .. "/access.1")
    assert(os.execute("mkdir " .. dir.path .. "/access"))
    s:signal("USR1")
    await("the reason in the old log", function()
      return dir:read("errors"):find("error reopen_failed", 1, true)
    end)
    s:get("/kept")
    assert.equal(0, s:stop())
    assert.truthy(dir:read("access.1"):find("/kept", 1, true))
  end)
end)
