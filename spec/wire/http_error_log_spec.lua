local lfs = require("lfs")

local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/", function() return "ok" end)
app:post("/read", function(req) return assert(req:text(5)) end)
app:get("/abort", function(req) req:abort() end)
app:get("/wait", function() moonquay.log.info("waiting") moonquay.sleep(3600) end)
app:put("/enabled/:v", function(req) app.settings.enabled = req.params.v == "true" return 204 end)
return app]]

local FIELDS = "#Fields: date time c-ip c-port s-ip s-port cs-version cs-method cs-uri streamid "
  .. "sc-status s-siteid s-reason s-queuename"

-- The lines of a log as tables of fields; the comment lines apart.
local function read_log(dir, name)
  local lines, comments = {}, {}
  for line in (dir:read(name) or ""):gmatch("([^\n]*)\n") do
    if line:sub(1, 1) == "#" then
      comments[#comments + 1] = line
    else
      local fields = {}
      for field in line:gmatch("%S+") do
        fields[#fields + 1] = field
      end
      assert.equal(14, #fields, line)
      lines[#lines + 1] = fields
    end
  end
  return lines, comments
end

local function status(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout)
end

local function await_line(dir, reason)
  return await("a line " .. reason, function()
    for _, fields in ipairs(read_log(dir, "http.log")) do
      if fields[13] == reason then
        return fields
      end
    end
  end)
end

describe("The HTTP error log (reference section 18.1)", function()
  local dir, s
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function start(...)
    local words = { "--set", "http_error_log=" .. dir.path .. "/http.log", ... }
    s = server.start({ app = APP, options = words })
    return s
  end

  local refusals = {
    { "NotFound", "404", "GET", "/nowhere", "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n",
      "http://127.0.0.1:0/base" },
    { "Hostname", "400", "GET", "/", "GET / HTTP/1.1\r\n\r\n" },
    { "FieldLength", "431", "GET", "/", "GET / HTTP/1.1\r\nHost: h\r\nX: " .. ("x"):rep(17000) },
    { "URL_Length", "414", "-", "-", "GET /" .. ("x"):rep(17000) },
    { "Version_N/S", "505", "GET", "/", "GET / HTTP/2.0\r\n\r\n" },
    { "N/I", "501", "-", "-", ("X"):rep(40) .. " / HTTP/1.1\r\n\r\n" },
    { "URL", "400", "GET", "-", "GET nowhere HTTP/1.1\r\n\r\n" },
    { "Verb", "400", "-", "-", "G(T / HTTP/1.1\r\n\r\n" },
    { "Header", "400", "GET", "/", "GET / HTTP/1.1\r\nHost: h\r\nX Y: z\r\n\r\n" },
    { "Invalid_CR/LF", "400", "GET", "/", "GET / HTTP/1.1\r\nHost: h\n\r\n" },
    { "Number", "400", "POST", "/read",
      "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: five\r\n\r\n" },
    { "BadRequest", "400", "POST", "/read", "POST /read HTTP/1.1\r\nHost: h\r\n"
      .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" },
    { "RequestLength", "431", "GET", "/",
      "GET / HTTP/1.1\r\nHost: h\r\n" .. ("X: " .. ("y"):rep(14000) .. "\r\n"):rep(10) },
    { "Forbidden", "403", "GET", "/a/../../b?c",
      "GET /a/../../b?c HTTP/1.1\r\nHost: h\r\n\r\n" },
  }
  for _, case in ipairs(refusals) do
    it(("has a line for %s"):format(case[1]), function()
      start("--urls", case[6] or "http://127.0.0.1:0")
      local connection = s:connect()
      connection:send(case[5])
      assert.equal(tonumber(case[2]), connection:response().status)
      local _, from = connection.tcp:getsockname()
      connection:close()
      local fields = await_line(dir, case[1])
      assert.matches("^%d%d%d%d%-%d%d%-%d%d$", fields[1])
      assert.matches("^%d%d:%d%d:%d%d$", fields[2])
      assert.equal("127.0.0.1", fields[3])
      assert.equal(from, fields[4])
      assert.equal("127.0.0.1", fields[5])
      assert.equal(s.port, tonumber(fields[6]))
      assert.equal(case[3], fields[8])
      if case[4] ~= "-" then
        assert.equal(case[4], fields[9])
      end
      assert.equal("-", fields[10])
      assert.equal(case[2], fields[11])
      assert.equal("-", fields[12])
      local _, comments = read_log(dir, "http.log")
      assert.equal(4, #comments)
      assert.equal(FIELDS, comments[4])
      assert.equal(1, status(s).reasons[case[1]])
      assert.equal(0, s:stop())
    end)
  end

  it("has a line for what is dropped, without a status", function()
    start("--set", "timeouts.header_wait=0.3", "--set", "timeouts.idle_connection=0.3",
      "--set", "timeouts.entity_body=0.3")
    local silent = s:connect()
    assert.equal("-", await_line(dir, "Timer_HeaderWait")[11])
    silent:close()
    local idle = s:connect()
    assert.equal("ok", idle:get("/").body)
    assert.equal("-", await_line(dir, "Timer_ConnectionIdle")[8])
    idle:close()
    local aborted = s:connect()
    aborted:send("GET /abort HTTP/1.1\r\nHost: h\r\n\r\n")
    assert.equal("/abort", await_line(dir, "Request_Cancelled")[9])
    aborted:close()
    local stuck = s:connect()
    stuck:send("POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nfour")
    assert.equal("/read", await_line(dir, "Timer_EntityBody")[9])
    stuck:close()
    local gone = s:connect()
    gone:send("GET /wait?a=b HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\n\r\n")
    s:await("waiting")
    gone:reset()
    assert.equal("/wait?a=b", await_line(dir, "Connection_Dropped")[9])
    assert.is_nil(dir:read("http.log"):find("c2VjcmV0", 1, true), "a secret")
    assert.equal(0, s:stop())
  end)

  it("has a line for an app that is disabled, by its queue's name", function()
    start("--set", "request_queue_name=shop queue")
    assert.equal(204, s:connect():request("PUT", "/enabled/false").status)
    assert.equal(503, s:get("/").status)
    local fields = await_line(dir, "Disabled")
    assert.equal("shop+queue", fields[14])
    assert.equal(0, s:stop())
  end)

  it("has a line for a PROXY header that is none, without a request", function()
    start("--set", "trusted_proxies=127.0.0.1")
    local connection = s:connect()
    connection:send("PROXY TCP9 1.2.3.4 5.6.7.8 1 2\r\n")
    assert.is_true((connection:closed()))
    local line = table.concat(await_line(dir, "ProxyHeader"), " ", 3)
    assert.matches("^127%.0%.0%.1 %d+ 127%.0%.0%.1 %d+ %- %- %- %- %- %- ProxyHeader %-$", line)
    assert.equal(0, s:stop())
  end)

  it("has addresses of IPv6", function()
    start("--urls", "http://[::1]:0/base")
    assert.equal(404, s:get("/nowhere").status)
    local fields = await_line(dir, "NotFound")
    assert.same({ "::1", "::1", tostring(s.port) }, { fields[3], fields[5], fields[6] })
    assert.equal(0, s:stop())
  end)

  -- What goes out as a target, and how the log has it: whole lines, and no secret.
  for target, shown in pairs({
    ["/a\1b\127c"] = "/a+b+c",
    ["/a\tb"] = "/a+b",
    ["/caf\xE9?\xC2\x85\xE2\x80\xA8#"] = "/caf+?++" .. "+++#",
    ["http://me:s3cret@h/x"] = "http://+@h/x",
    ["http://me:s3c@ret@h/x"] = "http://+@h/x",
    ["me:s3cret@h"] = "+@h",
  }) do
    it(("shows %q as %s"):format(target, shown), function()
      start()
      local connection = s:connect()
      connection:send("GET ", target, " HTTP/1.1\r\nHost: h\r\n",
        "Authorization: Basic s3cret\r\nProxy-Authorization: Basic s3cret\r\n",
        "Cookie: s3cret\r\n\r\n")
      assert.equal(400, connection:response().status)
      connection:close()
      assert.equal(shown, await_line(dir, "URL")[9])
      local text = s:stderr()
      assert.equal(0, s:stop())
      for _, where in ipairs({ dir:read("http.log"), text }) do
        assert.is_nil(where:find("s3c", 1, true), where)
      end
    end)
  end

  it("gets whole lines from several workers at once", function()
    start("--urls", "http://127.0.0.1:0/base", "--workers", "2")
    local most = 300
    for i = 1, most, 20 do
      local open = {}
      for j = i, i + 19 do
        open[j] = s:connect():send(("GET /%d?%s HTTP/1.1\r\nHost: h\r\n\r\n"):format(j,
          ("x"):rep(j * 10)))
      end
      for _, connection in pairs(open) do
        assert.equal(404, connection:response().status)
        connection:close()
      end
    end
    assert.equal(0, s:stop())
    local seen, lines = {}, read_log(dir, "http.log")
    for _, fields in ipairs(lines) do
      local number, rest = fields[9]:match("^/(%d+)%?(x*)$")
      assert.equal(tonumber(number) * 10, #rest)
      assert.is_nil(seen[number])
      seen[number] = true
    end
    assert.equal(most, #lines)
  end)

  -- A line of 4 KiB and more; 16 of them fill a file.
  local function refuse_numbered(first, last)
    for i = first, last do
      assert.equal(404, s:get(("/n?%05d%s"):format(i, ("x"):rep(4080))).status)
    end
  end

  local function numbers(...)
    local list = {}
    for _, name in ipairs({ ... }) do
      local lines, comments = read_log(dir, name)
      assert.equal(4, #comments, name)
      for _, fields in ipairs(lines) do
        assert.equal(4088, #fields[9])
        list[#list + 1] = tonumber(fields[9]:sub(4, 8))
      end
    end
    return list
  end

  it("is moved away at its size, and no line is lost or cut", function()
    start("--set", "http_error_log_max_bytes=64KiB", "--set", "http_error_log_keep=2",
      "--workers", "2", "--urls", "http://127.0.0.1:0/base")
    local count = 0
    local function fill_until(name)
      await(name, function()
        count = count + 1
        refuse_numbered(count, count)
        return dir:read(name)
      end, 30)
    end
    fill_until("http.log.1")
    fill_until("http.log.2")
    assert.is_true(count >= 30, count .. " lines")
    assert.equal(0, s:stop())
    local list = numbers("http.log.2", "http.log.1", "http.log")
    table.sort(list)
    assert.equal(count, #list)
    for i, number in ipairs(list) do
      assert.equal(i, number)
    end
    for _, name in ipairs({ "http.log.1", "http.log.2" }) do
      assert.is_true(#dir:read(name) >= 65536, name)
    end
  end)

  it("is kept so many times and no more", function()
    start("--set", "http_error_log_max_bytes=64KiB", "--set", "http_error_log_keep=2",
      "--workers", "2", "--urls", "http://127.0.0.1:0/base")
    local count = 0
    await("a third file to be gone", function()
      count = count + 1
      refuse_numbered(count, count)
      return dir:read("http.log.2") and numbers("http.log.2")[1] > 20
    end, 60)
    assert.equal(0, s:stop())
    assert.is_nil(dir:read("http.log.3"))
    local list = numbers("http.log.2", "http.log.1", "http.log")
    table.sort(list)
    assert.equal(count, list[#list])
    for i, number in ipairs(list) do
      assert.equal(count - #list + i, number)
    end
  end)

  it("that cannot be moved grows on, and somebody is told", function()
    assert(lfs.mkdir(dir.path .. "/http.log.1"))
    dir:write("http.log.1/in_the_way", "")
    start("--set", "http_error_log_max_bytes=64KiB", "--set", "http_error_log_keep=1",
      "--urls", "http://127.0.0.1:0/base")
    refuse_numbered(1, 40)
    s:await("error rotate_failed [^\n]*http%.log%.1[^\n]*the log grows on")
    refuse_numbered(41, 60)
    assert.equal(0, s:stop())
    local list = numbers("http.log")
    assert.equal(60, #list)
    assert.equal(60, list[60])
  end)

  it("may be off, also as it is by default", function()
    for _, words in ipairs({ { "--set", "http_error_log=off" }, {} }) do
      s = server.start({ app = APP, cwd = dir.path, executable = lfs.currentdir() .. "/"
        .. server.executable, options = table.move({ "--urls", "http://127.0.0.1:0/base" }, 1, 2,
        #words + 1, words) })
      assert.equal(404, s:get("/nowhere").status)
      assert.equal(1, status(s).reasons.NotFound)
      local text = s:stderr()
      assert.equal(0, s:stop())
      assert.is_nil(text:find(" - 404 - NotFound ", 1, true))
      assert.is_nil(dir:read("off"))
    end
  end)

  it("is opened again by SIGUSR1", function()
    start("--urls", "http://127.0.0.1:0/base")
    assert.equal(404, s:get("/one").status)
    await_line(dir, "NotFound")
    assert(os.rename(dir.path .. "/http.log", dir.path .. "/old.log"))
    s:signal("USR1")
    s:await("reopened")
    await("a line in the new file", function()
      assert.equal(404, s:get("/two").status)
      sys.poll({}, 20)
      return #read_log(dir, "http.log") > 0
    end)
    assert.equal("/two", read_log(dir, "http.log")[1][9])
    assert.equal(0, s:stop())
  end)

  it("goes to standard error as -", function()
    s = server.start({ app = APP, options = { "--set", "http_error_log=-", "--urls",
      "http://127.0.0.1:0/base" } })
    assert.equal(404, s:get("/nowhere").status)
    s:await("HTTP/1.1 GET /nowhere %- 404 %- NotFound %-\n")
    assert.equal(0, s:stop())
  end)

  it("that cannot be written ends the start with 73", function()
    local result = server.run({ "serve", dir:write("app.lua", APP), "--urls",
      "http://127.0.0.1:0", "--set", "http_error_log=" .. dir.path .. "/no/log" })
    assert.equal(73, result.status, result.stderr)
    assert.truthy(result.stderr:find("/no/log", 1, true), result.stderr)
  end)
end)
