local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/", function() return "ok" end)
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
      for field in (line .. " "):gmatch("(.-) ") do -- one blank, so that two are an empty field
        assert.is_truthy(field:find("^%g"), line)
        fields[#fields + 1] = field
      end
      assert.equal(14, #fields, line)
      lines[#lines + 1] = fields
    end
  end
  return lines, comments
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

  -- How often a reason was counted, as `moonquay status` says.
  local function reason_count(reason)
    local status = server.run({ "status", "--json", tostring(s.pid),
      env = { XDG_RUNTIME_DIR = s.runtime_dir } })
    assert.equal(0, status.status, status.stderr)
    return json.decode(status.stdout).reasons[reason]
  end

  -- { reason, status, version, method, target, bytes, the app's address }
  local refusals = {
    { "NotFound", "404", "HTTP/1.1", "GET", "/no?a=b", "GET /no?a=b HTTP/1.1\r\nHost: h\r\n\r\n",
      "http://127.0.0.1:0/base" },
    { "NotFound", "404", "HTTP/1.0", "GET", "/no", "GET /no HTTP/1.0\r\n\r\n",
      "http://127.0.0.1:0/base" },
    { "Hostname", "400", "HTTP/1.1", "GET", "/", "GET / HTTP/1.1\r\n\r\n" },
    { "FieldLength", "431", "HTTP/1.1", "GET", "/",
      "GET / HTTP/1.1\r\nHost: h\r\nX: " .. ("x"):rep(17000) },
    { "URL_Length", "414", "-", "-", "-", "GET /" .. ("x"):rep(17000) },
    { "URL_Length", "414", "HTTP/1.1", "GET", "/" .. ("x"):rep(4095),
      "GET /" .. ("x"):rep(16384) .. " HTTP/1.1\r\n" },
    { "Version_N/S", "505", "HTTP/?.?", "GET", "/", "GET / HTTP/2.0\r\n\r\n" },
    { "BadRequest", "400", "HTTP/?.?", "GET", "/", "GET / HTTP/1.x\r\n\r\n" },
    { "BadRequest", "400", "-", "GET", "-", "GET /\r\n\r\n" },
    { "N/I", "501", "-", "-", "-", ("X"):rep(40) .. " / HTTP/1.1\r\n\r\n" },
    { "Verb", "400", "-", "-", "-", "G\1T / HTTP/1.1\r\n\r\n" },
    { "URL", "400", "HTTP/1.1", "GET", "nowhere", "GET nowhere HTTP/1.1\r\n\r\n" },
    { "URL", "400", "HTTP/1.1", "GET", "/a+b+c++d", "GET /a\1b\tc\xC2\x85d HTTP/1.1\r\n\r\n" },
    { "URL", "400", "HTTP/1.1", "GET", "/a+b", "GET /a b HTTP/1.1\r\n\r\n" },
    { "URL", "400", "HTTP/1.1", "GET", "http://+@h/+", "GET http://u:p@h/\1 HTTP/1.1\r\n\r\n" },
  }
  for _, case in ipairs(refusals) do
    local title = ("has a line for %s: %q"):format(case[1], case[6]:sub(1, 30))
    it(title, function()
      start("--urls", case[7] or "http://127.0.0.1:0")
      local connection = s:connect()
      connection:send(case[6])
      assert.equal(tonumber(case[2]), connection:response().status)
      local _, client_port = connection.tcp:getsockname()
      local fields = await_line(dir, case[1])
      assert.matches("^%d%d%d%d%-%d%d%-%d%d$", fields[1])
      assert.matches("^%d%d:%d%d:%d%d$", fields[2])
      assert.same({ "127.0.0.1", client_port, "127.0.0.1", tostring(s.port), case[3], case[4],
        case[5], "-", case[2], "-", case[1], "-" }, table.move(fields, 3, 14, 1, {}))
      local lines, comments = read_log(dir, "http.log")
      assert.equal(1, #lines)
      assert.equal(4, #comments)
      assert.matches("^#Software: Moonquay ", comments[1])
      assert.equal("#Version: 1.0", comments[2])
      assert.matches("^#Date: %d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$", comments[3])
      assert.equal(FIELDS, comments[4])
      assert.equal(1, reason_count(case[1]))
      connection:close()
      assert.equal(0, s:stop())
    end)
  end

  it("has a line for what is dropped, without a status", function()
    start("--set", "timeouts.header_wait=0.3", "--set", "timeouts.idle_connection=0.3")
    local function assert_dropped(reason, version, method, target)
      local fields = await_line(dir, reason)
      assert.same({ version, method, target, "-", "-", "-", reason, "-" },
        table.move(fields, 7, 14, 1, {}))
      assert.equal(1, reason_count(reason))
    end
    local slow = s:connect()
    assert_dropped("Timer_HeaderWait", "-", "-", "-")
    assert.is_true((slow:closed()))
    local idle = s:connect()
    assert.equal("ok", idle:get("/").body)
    assert_dropped("Timer_ConnectionIdle", "-", "-", "-")
    assert.is_true((idle:closed()))
    local aborted = s:connect()
    aborted:send("GET /abort HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\n\r\n")
    assert_dropped("Request_Cancelled", "HTTP/1.1", "GET", "/abort")
    assert.equal("", (aborted:rest()))
    local gone = s:connect()
    gone:send("GET /wait?a=b HTTP/1.1\r\nHost: h\r\nAuthorization: Basic c2VjcmV0\r\n\r\n")
    s:await("waiting")
    gone:reset()
    assert_dropped("Connection_Dropped", "HTTP/1.1", "GET", "/wait?a=b")
    local text = dir:read("http.log")
    for _, secret in ipairs({ "c2VjcmV0", "Authorization", "Basic" }) do
      assert.is_nil(text:find(secret, 1, true), secret)
    end
    assert.equal(4, #read_log(dir, "http.log"))
    assert.equal(0, s:stop())
  end)

  it("has a line for an app that is disabled, by its queue's name", function()
    start("--set", "request_queue_name=shop queue")
    assert.equal(204, s:connect():request("PUT", "/enabled/false").status)
    assert.equal(503, s:get("/").status)
    local fields = await_line(dir, "Disabled")
    assert.same({ "HTTP/1.1", "GET", "/", "-", "503", "-", "Disabled", "shop+queue" },
      table.move(fields, 7, 14, 1, {}))
    assert.equal(1, reason_count("Disabled"))
    assert.equal(0, s:stop())
  end)

  it("is moved away at its size, and so many old ones are kept", function()
    start("--set", "http_error_log_max_bytes=64KiB", "--set", "http_error_log_keep=2",
      "--workers", "2", "--set", "max_target_bytes=4096", "--urls", "http://127.0.0.1:0/base")
    local path = "/" .. ("x/"):rep(100) .. ("y"):rep(200) .. ("/z"):rep(100)
    await("three files", function()
      for _ = 1, 20 do
        assert.equal(404, s:get(path).status)
      end
      return dir:read("http.log.2")
    end, 60)
    for _ = 1, 300 do
      assert.equal(404, s:get(path).status)
    end
    assert.equal(0, s:stop())
    assert.is_nil(dir:read("http.log.3"))
    for _, name in ipairs({ "http.log", "http.log.1", "http.log.2" }) do
      local lines, comments = read_log(dir, name)
      assert.equal(4, #comments, name)
      assert.equal(FIELDS, comments[4])
      assert.equal("#", dir:read(name):sub(1, 1))
      for _, fields in ipairs(lines) do
        assert.equal(path, fields[9])
        assert.equal("NotFound", fields[13])
      end
    end
    assert.is_true(#dir:read("http.log.1") >= 65536)
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
      return #read_log(dir, "http.log") > 0
    end)
    assert.equal("/two", read_log(dir, "http.log")[1][9])
    assert.equal(4, #select(2, read_log(dir, "http.log")))
    assert.equal("/one", read_log(dir, "old.log")[1][9])
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
