local timed = require("spec.support.timed")

local request, post = timed.request, timed.post

-- Each of `late` sleeps until its time is over, and then does something to its answer.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local function say(text) moonquay.log.info(text .. ".") end
local function forever() return moonquay.sleep(3600) end
local short, long = { timeouts = { handler = 0.3 } }, { timeouts = { handler = 3600 } }

app:any("/", function() return "ok" end)
app:get("/hold", function() moonquay.sleep(0.5) return "held" end)
app:get("/hold/route", long, function() moonquay.sleep(0.9) return "held" end)
app:get("/hold/off", { timeouts = { handler = "off" } }, function()
  moonquay.sleep(0.9)
  return "held"
end)
app:get("/hold/request", function(req)
  req.limits.timeouts.handler = 3600
  moonquay.sleep(0.9)
  return "held"
end)

app:get("/forever", forever)
app:get("/forever/route", short, forever)
app:group("/forever/group", short, function(group) group:get("/", forever) end)
app:get("/forever/request", function(req)
  req.limits.timeouts.handler = 0.3
  forever()
end)
app:get("/forever/told", short, function(req)
  req:on_cancel(function(code) say("on_cancel got " .. code) end)
  local _, err = forever()
  say("the wait got " .. err.code)
  local _, again = forever()
  say("the next one got " .. again.code .. " for " .. req:cancelled())
end)
app:post("/forever/reads", short, function(req)
  local _, err = req:text()
  say("the read got " .. err.code)
end)
app:get("/begun", short, function(_, res)
  res:write("begun")
  res:flush()
  local _, err = forever()
  say("the wait got " .. err.code)
  local _, again = res:write("more")
  say("the write got " .. again.code)
end)
app:get("/stubborn", short, function()
  local _ <close> = setmetatable({}, { __close = function() say("it was closed") end })
  while true do moonquay.sleep(0.01) end
end)

local late = {}
function late.returns_text() return "too late" end
function late.returns_more_than_a_buffer() return ("x"):rep(1000000) end
function late.returns_status() return 504, "too late" end
function late.returns_table() return { late = true } end
function late.returns_nil_and_error() return forever() end
function late.returns_no_answer() return function() end end
function late.writes(_, res) return res:write("too late") end
function late.writes_much(_, res) return res:write(("x"):rep(1000000)) end
function late.writes_json(_, res) return res:json({ late = true }, 504) end
function late.writes_json_of_a_size(_, res) return res:json({ ("x"):rep(100000) }) end
function late.sets_status(_, res) res.status = 504 return "too late" end
function late.sets_reason(_, res) res.reason = "Late" end
function late.sets_header(_, res) res.headers["X-Late"] = "yes" return "too late" end
function late.sets_headers(_, res) res.headers = { ["X-Late"] = "yes" } end
function late.sets_trailer(_, res) res.trailers["X-Late"] = "yes" end
function late.redirects(_, res) return res:redirect("/") end
function late.informs(_, res) return res:informational(103, { Link = "</x>" }) end
function late.aborts(req) req:abort() end
function late.raises_what_it_got() assert(forever()) end
app:get("/late/:name", { timeouts = { handler = 0.3 } }, function(req, res)
  forever()
  say(req.params.name .. " ends")
  return late[req.params.name](req, res)
end)
app:get("/fails", short, function() forever() error("of its own") end)
return app]]

local LATE = {
  "returns_text", "returns_more_than_a_buffer", "returns_status", "returns_table",
  "returns_nil_and_error", "returns_no_answer", "writes", "writes_much", "writes_json",
  "writes_json_of_a_size", "sets_status", "sets_reason", "sets_header", "sets_headers",
  "sets_trailer", "redirects", "informs", "aborts", "raises_what_it_got",
}

local function start(...)
  return timed.start(APP, ...)
end

local function stop(s)
  assert.equal(0, s:stop())
end

local function assert_overdue(connection)
  local response = connection:response()
  assert.equal(503, response.status)
  assert.equal("Service Unavailable", response.reason)
  assert.equal("close", response.headers.connection)
  assert.truthy(response.headers["retry-after"])
  assert.is_nil(response.headers["x-late"])
  assert.truthy(response.body:find("took longer than allowed", 1, true), response.body)
  assert.is_nil(response.truncated or nil)
  assert.same({ "", "closed" }, { connection:rest() })
  connection:close() -- the server would wait for it when it stops
end

describe("timeouts.handler", function()
  after_each(timed.stop_all)

  local rows = {
    { "the setting", "/forever", "timeouts.handler=0.3" },
    { "the route", "/forever/route" },
    { "the route, though the setting is longer", "/forever/route", "timeouts.handler=3600" },
    { "the group", "/forever/group/" },
    { "the request", "/forever/request" },
    { "the request, though the setting is longer", "/forever/request", "timeouts.handler=3600" },
  }
  for _, row in ipairs(rows) do
    it("answers by 503 for one that has not begun to: by " .. row[1], function()
      local s = start(row[3])
      local connection = s:connect()
      connection:send(request(row[2]))
      assert_overdue(connection)
      timed.assert_told(s, "Timer_Handler", 503)
      assert.equal("ok", s:get("/").body)
      stop(s)
    end)
  end

  for _, path in ipairs({ "/hold/route", "/hold/off", "/hold/request" }) do
    it("is longer for " .. path, function()
      local s = start("timeouts.handler=0.3")
      assert.equal("held", s:get(path).body)
      stop(s)
    end)
  end

  it("is off by default, and touches no quick one", function()
    local s, limited = start(), start("timeouts.handler=3")
    assert.equal("held", s:get("/hold").body)
    local kept = limited:connect()
    for _ = 1, 3 do
      assert.equal("held", kept:get("/hold").body)
    end
    assert.equal(0, timed.reasons(limited).Timer_Handler)
    stop(s)
    stop(limited)
  end)

  it("begins again with each request of a connection", function()
    local s = start("timeouts.handler=1")
    local kept = s:connect()
    for _ = 1, 4 do
      assert.equal("held", kept:get("/hold").body)
    end
    stop(s)
  end)

  it("does not run while the request waits for its handler", function()
    local s = start("timeouts.handler=1.2", "max_concurrent_requests=1")
    local list = {}
    for i = 1, 4 do
      list[i] = s:connect()
      list[i]:send(request("/hold"))
    end
    for i = 1, 4 do
      assert.equal("held", list[i]:response().body)
    end
    stop(s)
  end)

  it("ends the waits of the handler, and runs its on_cancel", function()
    local s = start()
    local connection = s:connect()
    connection:send(request("/forever/told"))
    assert_overdue(connection)
    s:await("on_cancel got timeout%.")
    s:await("the wait got timeout%.")
    s:await("the next one got timeout for timeout%.")
    stop(s)
  end)

  it("ends a read of content that is still to come", function()
    local s = start()
    local connection = s:connect()
    connection:send(post("/forever/reads", 5, "ab"))
    assert.equal(503, connection:response().status)
    s:await("the read got timeout%.")
    timed.assert_told(s, "Timer_Handler", 503)
    stop(s)
  end)

  it("breaks an answer off that has begun", function()
    local s = start()
    local connection = s:connect()
    connection:send(request("/begun"))
    connection:read_until("begun\r\n")
    assert.same({ "", "reset" }, { connection:rest() })
    s:await("the wait got timeout%.")
    s:await("the write got timeout%.")
    timed.assert_told(s, "Timer_Handler")
    assert.is_nil(s:stderr():find("handler_failed", 1, true), s:stderr())
    stop(s)
  end)

  it("closes a handler that goes on after timeouts.cancel", function()
    local s = start("timeouts.cancel=0.3")
    local connection = s:connect()
    connection:send(request("/stubborn"))
    assert_overdue(connection)
    s:await("it was closed%.")
    s:await("handler_closed [^\n]*its time was over")
    s:await("task_closed")
    assert.equal("ok", s:get("/").body)
    stop(s)
  end)

  it("leaves one that goes on alone when timeouts.cancel is off", function()
    local s = start("timeouts.cancel=off", "drain=0")
    local connection = s:connect()
    connection:send(request("/stubborn"))
    assert_overdue(connection)
    timed.assert_told(s, "Timer_Handler", 503)
    assert.equal("held", s:get("/hold").body)
    assert.is_nil(s:stderr():find("it was closed.", 1, true))
    stop(s)
  end)
end)

describe("A handler whose time is over", function()
  local s

  lazy_setup(function()
    s = start()
  end)
  lazy_teardown(timed.stop_all)

  -- All at the same time: each waits for its own end.
  it("changes nothing of the answer that the server gave, and makes no mistake", function()
    local connections = {}
    for _, name in ipairs(LATE) do
      connections[name] = s:connect()
      connections[name]:send(request("/late/" .. name))
    end
    for _, name in ipairs(LATE) do
      assert_overdue(connections[name])
      s:await(name .. " ends%.")
    end
    timed.assert_told(s, "Timer_Handler", 503, #LATE)
    assert.equal("ok", s:get("/").body)
    for _, event in ipairs({ "handler_failed", "response_", "Request_Cancelled" }) do
      assert.is_nil(s:stderr():find(" error " .. event, 1, true), s:stderr())
    end
  end)

  it("that fails for a reason of its own is told so", function()
    assert.equal(503, s:get("/fails").status)
    s:await("error handler_failed [^\n]*of its own[^\n]*target=/fails ")
    assert.equal("ok", s:get("/").body)
  end)
end)
