local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:any("/", function() return "ok" end)
app:post("/read", function(req)
  local text, err = req:text()
  moonquay.log.info("the reader got " .. (text and #text or err.code))
  return text and "read" or 400
end)
app:post("/read-limited", function(req)
  req.limits.timeouts.entity_body = 0.3
  local text, err = req:text()
  moonquay.log.info("the limited reader got " .. (text and #text or err.code))
  return "read"
end)
app:post("/ignore", function() return "ignored" end)
app:get("/long", { timeouts = { handler = 0.3 } }, function()
  local _, err = moonquay.sleep(3600)
  moonquay.log.info("the sleeper got " .. err.code)
  return "too late"
end)
app:get("/long-by-itself", function(req)
  req.limits.timeouts.handler = 0.3
  moonquay.sleep(3600)
end)
app:get("/long-stream", { timeouts = { handler = 0.3 } }, function(_, res)
  res:write("begun")
  res:flush()
  moonquay.sleep(3600)
end)
app:get("/stubborn", { timeouts = { handler = 0.3 } }, function()
  while true do moonquay.sleep(0.01) end
end)
app:get("/hold", function() moonquay.sleep(0.8) return "held" end)
app:put("/set/:key/:value", function(req)
  app.settings[req.params.key] = tonumber(req.params.value) or req.params.value
  return 204
end)
return app]]

local function start(...)
  local options = { "--log-level", "debug" }
  for _, pair in ipairs({ ... }) do
    options[#options + 1] = "--set"
    options[#options + 1] = pair
  end
  return server.start({ app = APP, options = options })
end

local function await_drop(s, reason)
  s:await("connection_closed [^\n]*reason=" .. reason .. " ")
end

local function count(s, reason)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir or server.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout).reasons[reason]
end

-- Sends a byte now and then, each well within a limit of 0.4 s, until it has lasted for several.
local function send_slowly(connection, bytes, seconds)
  local since, at = sys.monotonic(), 0
  await("slow bytes", function()
    at = at + 1
    connection:send(bytes:sub(at, at))
    sys.poll({}, 100)
    return sys.monotonic() - since > seconds
  end, seconds + 10)
  return bytes:sub(at + 1)
end

describe("timeouts.header_wait (reference section 13)", function()
  after_each(server.stop_all)

  it("runs from accept, and ends without an answer", function()
    local s = start("timeouts.header_wait=0.3")
    assert.is_true(s:connect():closed())
    await_drop(s, "Timer_HeaderWait")
    assert.equal(1, count(s, "Timer_HeaderWait"))
    assert.equal(0, s:stop())
  end)

  it("is not reset by bytes of the head", function()
    local s = start("timeouts.header_wait=0.5")
    local connection = s:connect()
    local head = "GET / HTTP/1.1\r\nHost: h\r\nX: " .. ("x"):rep(200)
    local ok = pcall(send_slowly, connection, head, 4)
    await_drop(s, "Timer_HeaderWait")
    assert(not ok or connection:closed())
    assert.equal(0, s:stop())
  end)

  it("runs from the first byte of a later request, whatever idle_connection is", function()
    local s = start("timeouts.header_wait=0.3", "timeouts.idle_connection=3600")
    local connection = s:connect()
    assert.equal("ok", connection:get("/").body)
    connection:send("G")
    assert.is_true(connection:closed())
    await_drop(s, "Timer_HeaderWait")
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.idle_connection (reference section 13)", function()
  after_each(server.stop_all)

  it("runs behind an answer", function()
    local s = start("timeouts.idle_connection=0.3")
    local connection = s:connect()
    assert.equal("ok", connection:get("/").body)
    assert.is_true(connection:closed())
    await_drop(s, "Timer_ConnectionIdle")
    assert.equal(1, count(s, "Timer_ConnectionIdle"))
    assert.equal(0, s:stop())
  end)

  it("does not run while a request does", function()
    local s = start("timeouts.idle_connection=0.3")
    assert.equal("held", s:get("/hold").body)
    assert.equal(0, s:stop())
  end)

  it("counts for connections that exist when it is changed", function()
    local s = start("timeouts.idle_connection=3600")
    local idle = s:connect()
    assert.equal("ok", idle:get("/").body)
    assert.equal(204, s:connect():request("PUT", "/set/timeouts.idle_connection/0.3").status)
    assert.is_true(idle:closed())
    await_drop(s, "Timer_ConnectionIdle")
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.entity_body (reference section 13)", function()
  after_each(server.stop_all)

  for path, got in pairs({ ["/read"] = "the reader got timeout",
    ["/read-limited"] = "the limited reader got timeout" }) do
    it("drops who sends nothing for so long while " .. path .. " reads", function()
      local s = start(path == "/read" and "timeouts.entity_body=0.3" or "drain=1")
      local connection = s:connect()
      connection:send("POST " .. path .. " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
      s:await(got)
      await_drop(s, "Timer_EntityBody")
      local bytes = connection:rest()
      assert.equal("", bytes)
      assert.equal(1, count(s, "Timer_EntityBody"))
      assert.equal(0, s:stop())
    end)
  end

  it("is reset by each arrival", function()
    local s = start("timeouts.entity_body=0.5")
    local connection, body = s:connect(), ("x"):rep(100)
    connection:send("POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    connection:send(send_slowly(connection, body, 1.5))
    assert.equal("read", connection:response().body)
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.drain_entity_body (reference section 13)", function()
  after_each(server.stop_all)

  it("is the whole time for unread content, not reset by arrivals", function()
    local s = start("timeouts.drain_entity_body=0.5", "timeouts.entity_body=3600")
    local connection = s:connect()
    connection:send("POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")
    assert.equal("ignored", connection:response().body)
    pcall(send_slowly, connection, ("x"):rep(900), 4)
    await_drop(s, "Timer_EntityBody")
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.request_queue (reference section 13)", function()
  after_each(server.stop_all)

  it("ends the wait by 503", function()
    local s = start("timeouts.request_queue=0.3", "max_concurrent_requests=1")
    local first = s:connect()
    first:send("GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
    first:send("") -- the first has the handler when the second's head is read
    local second = s:connect()
    second:send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    local answers = { first:response().status, second:response().status }
    table.sort(answers)
    assert.equal(200, answers[1])
    assert.truthy(answers[2] == 503, "both were answered")
    s:await("request_refused [^\n]*reason=Timer_ReqQueue")
    assert.equal(1, count(s, "Timer_ReqQueue"))
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.handler", function()
  after_each(server.stop_all)

  it("answers 503 for a handler that has not begun to, whose waits end", function()
    local s = start()
    local response = s:get("/long")
    assert.equal(503, response.status)
    assert.equal("close", response.headers.connection)
    s:await("the sleeper got timeout")
    s:await("request_refused [^\n]*status=503 reason=Timer_Handler")
    assert.equal(1, count(s, "Timer_Handler"))
    assert.is_nil(s:stderr():find("handler_failed", 1, true), "what it returns then is nobody's")
    assert.equal(503, s:get("/long-by-itself").status)
    assert.equal(0, s:stop())
  end)

  it("breaks an answer off that has begun", function()
    local s = start()
    local connection = s:connect()
    connection:send("GET /long-stream HTTP/1.1\r\nHost: h\r\n\r\n")
    connection:read_until("begun\r\n")
    local _, how = connection:rest()
    assert.equal("reset", how)
    await_drop(s, "Timer_Handler")
    assert.equal(0, s:stop())
  end)

  it("ends a handler that goes on after timeouts.cancel", function()
    local s = start("timeouts.cancel=0.3")
    assert.equal(503, s:get("/stubborn").status)
    s:await("task_closed")
    assert.equal("ok", s:get("/").body)
    assert.equal(0, s:stop())
  end)

  it("does not touch quick ones, and is off by default", function()
    local s = start()
    assert.equal("held", s:get("/hold").body)
    assert.equal(204, s:connect():request("PUT", "/set/timeouts.handler/0.3").status)
    assert.equal(503, s:get("/hold").status)
    assert.equal("ok", s:get("/").body)
    assert.equal(204, s:connect():request("PUT", "/set/timeouts.handler/off").status)
    assert.equal("held", s:get("/hold").body)
    assert.equal(0, s:stop())
  end)
end)
