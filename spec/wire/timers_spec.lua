local server = require("spec.support.server")
local timed = require("spec.support.timed")

local request, post = timed.request, timed.post

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local function say(text) moonquay.log.info(text .. ".") end

local function read(req)
  say("the reader waits")
  local text, err = req:text()
  say("the reader got " .. (text or err.code))
  return text and "read" or 400
end
local function short(req) req.limits.timeouts.entity_body = 0.3 return read(req) end
local function long(req) req.limits.timeouts.entity_body = 3600 return read(req) end

app:any("/", function() return "ok" end)
app:get("/hold", function() say("it holds") moonquay.sleep(0.9) return "held" end)
app:post("/ignore", function() return "ignored" end)
app:post("/read", read)
app:post("/read/short/request", short)
app:post("/read/short/route", { timeouts = { entity_body = 0.3 } }, read)
app:post("/read/long/request", long)
app:post("/read/long/route", { timeouts = { entity_body = 3600 } }, read)
app:post("/read/off/route", { timeouts = { entity_body = "off" } }, read)
app:post("/read/late", function(req) moonquay.sleep(1.2) return read(req) end)
app:post("/read/early", function(req) read(req) moonquay.sleep(0.9) return "late" end)
return app]]

local function start(...)
  return timed.start(APP, ...)
end

local function stop(s)
  assert.equal(0, s:stop())
end

describe("timeouts.header_wait (reference section 13)", function()
  after_each(timed.stop_all)

  -- Each: what a connection sends at once, and the bytes of an answer to it.
  local unfinished = {
    { "runs from accept", "", 0 },
    { "runs from accept also when some has come", "GET / HT", 0 },
    { "runs from the first byte of a later request", request("/") .. "G", 1 },
    { "runs for a request behind another", request("/") .. "GET / HTTP/1.1\r\nHost:", 1 },
  }
  for _, case in ipairs(unfinished) do
    it(case[1] .. ", and ends without an answer", function()
      local s = start("timeouts.header_wait=0.3", "timeouts.idle_connection=3600")
      local connection = s:connect()
      connection:send(case[2])
      for _ = 1, case[3] do
        assert.equal("ok", connection:response().body)
      end
      assert.is_true(connection:closed())
      timed.assert_told(s, "Timer_HeaderWait")
      stop(s)
    end)
  end

  it("runs before the PROXY header of a trusted proxy, too", function()
    local s = start("timeouts.header_wait=0.3", "trusted_proxies=127.0.0.1")
    assert.is_true(s:connect():closed())
    timed.assert_told(s, "Timer_HeaderWait")
    stop(s)
  end)

  local head = "GET / HTTP/1.1\r\nHost: h\r\nX: " .. ("x"):rep(1000)
  for name, first in pairs({ ["the first"] = false, ["a later"] = true }) do
    it(("is not reset by bytes of %s head"):format(name), function()
      local s = start("timeouts.header_wait=0.5", "timeouts.idle_connection=3600")
      local connection = s:connect()
      if first then
        assert.equal("ok", connection:get("/").body)
      end
      local _, ended = timed.drip(connection, head, 15)
      assert.is_true(ended, "while it sends")
      timed.assert_told(s, "Timer_HeaderWait")
      stop(s)
    end)
  end

  it("does not run while nothing has come behind an answer, nor for what follows a head", function()
    local s = start("timeouts.header_wait=0.5", "timeouts.idle_connection=3600")
    local idle, busy, reads = s:connect(), s:connect(), s:connect()
    assert.equal("ok", idle:get("/").body)
    busy:send(request("/hold"))
    reads:send(post("/read", 4, "ab"))
    timed.assert_outlive(0.7, busy, idle, reads)
    assert.equal("held", busy:response().body)
    assert.equal("ok", idle:get("/").body)
    reads:send("cd")
    assert.equal("read", reads:response().body)
    stop(s)
  end)
end)

describe("timeouts.idle_connection (reference section 13)", function()
  after_each(timed.stop_all)

  it("runs behind an answer", function()
    local s = start("timeouts.idle_connection=0.3")
    local connection = s:connect()
    assert.equal("ok", connection:get("/").body)
    assert.is_true(connection:closed())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  it("ends the connection with the shorter time before the one with the longer", function()
    local short, long = start("timeouts.idle_connection=0.3"), start("timeouts.idle_connection=3")
    local a, b = short:connect(), long:connect()
    assert.equal("ok", b:get("/").body)
    assert.equal("ok", a:get("/").body)
    assert.is_true(a:closed())
    assert.is_false(b:readable(0))
    assert.is_true(b:closed())
    timed.assert_told(long, "Timer_ConnectionIdle")
    stop(short)
    stop(long)
  end)

  it("runs neither before the first request nor while one runs", function()
    local s = start("timeouts.idle_connection=0.3")
    local fresh, busy, reads = s:connect(), s:connect(), s:connect()
    busy:send(request("/hold"))
    reads:send(post("/read", 4, "ab"))
    timed.assert_outlive(0.7, fresh, busy, reads)
    assert.equal("held", busy:response().body)
    reads:send("cd")
    assert.equal("read", reads:response().body)
    fresh:send(request("/"))
    assert.equal("ok", fresh:response().body)
    stop(s)
  end)

  it("is ended by any byte, from which header_wait counts", function()
    local s = start("timeouts.idle_connection=0.5")
    local connection = s:connect()
    assert.equal("ok", connection:get("/").body)
    connection:send("G")
    timed.assert_outlive(1, connection)
    connection:send(request("/"):sub(2))
    assert.equal("ok", connection:response().body)
    assert.is_true(connection:closed())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  it("begins again with each answer", function()
    local s = start("timeouts.idle_connection=1")
    local connection = s:connect()
    for _ = 1, 5 do
      assert.equal("ok", connection:get("/").body)
      timed.assert_outlive(0.4, connection)
    end
    assert.is_true(connection:closed())
    stop(s)
  end)
end)

describe("timeouts.entity_body (reference section 13)", function()
  after_each(timed.stop_all)

  local chunked = "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
  local silent = {
    { "by the setting", post("/read", 5, "ab"), "timeouts.entity_body=0.3" },
    { "by the setting, chunked", chunked, "timeouts.entity_body=0.3" },
    { "by the setting, before the first byte", post("/read", 5), "timeouts.entity_body=0.3" },
    { "by the request", post("/read/short/request", 5, "ab") },
    { "by the route", post("/read/short/route", 5, "ab") },
  }
  for _, case in ipairs(silent) do
    it("fails the read and drops who sends nothing for so long: " .. case[1], function()
      local s = start(case[3])
      local connection = s:connect()
      connection:send(case[2])
      assert.same({ "", "reset" }, { connection:rest() })
      s:await("the reader got timeout%.")
      timed.assert_told(s, "Timer_EntityBody")
      stop(s)
    end)
  end

  for _, path in ipairs({ "/long/request", "/long/route", "/off/route" }) do
    it("is longer for a request of /read" .. path, function()
      local s = start("timeouts.entity_body=0.3")
      local connection = s:connect()
      connection:send(post("/read" .. path, 4, "ab"))
      timed.assert_outlive(0.9, connection)
      connection:send("cd")
      assert.equal("read", connection:response().body)
      stop(s)
    end)
  end

  it("is reset by each arrival", function()
    local s = start("timeouts.entity_body=1")
    local connection = s:connect()
    connection:send(post("/read", 200))
    local rest, ended = timed.drip(connection, ("x"):rep(200), 3)
    assert.is_false(ended)
    connection:send(rest)
    assert.equal("read", connection:response().body)
    stop(s)
  end)

  it("runs from when the handler waits for content, until it has all", function()
    local s = start("timeouts.entity_body=0.6")
    local late, early = s:connect(), s:connect()
    late:send(post("/read/late", 2))
    early:send(post("/read/early", 2))
    early:send("ab")
    s:await("the reader got ab%.")
    s:await("the reader waits.*the reader waits%.")
    late:send("cd")
    assert.equal("read", late:response().body)
    assert.equal("late", early:response().body)
    stop(s)
  end)
end)

describe("timeouts.drain_entity_body (reference section 13)", function()
  after_each(timed.stop_all)

  it("is the whole time for unread content, not reset by arrivals", function()
    local s = start("timeouts.drain_entity_body=0.5", "timeouts.entity_body=3600")
    local connection = s:connect()
    connection:send(post("/ignore", 1000))
    assert.equal("ignored", connection:response().body)
    local _, ended = timed.drip(connection, ("x"):rep(1000), 15)
    assert.is_true(ended, "while it sends")
    timed.assert_told(s, "Timer_EntityBody")
    stop(s)
  end)

  it("counts in place of entity_body", function()
    local s = start("timeouts.drain_entity_body=3600", "timeouts.entity_body=0.3")
    local connection = s:connect()
    connection:send(post("/ignore", 4, "ab"))
    assert.equal("ignored", connection:response().body)
    timed.assert_outlive(0.9, connection)
    connection:send("cd")
    assert.equal("ok", connection:get("/").body)
    stop(s)
  end)
end)

describe("timeouts.request_queue (reference section 13)", function()
  after_each(timed.stop_all)

  it("ends the wait by 503", function()
    local s = start("timeouts.request_queue=0.3", "max_concurrent_requests=1")
    local first, second = s:connect(), s:connect()
    first:send(request("/hold"))
    s:await("it holds%.")
    second:send(request("/"))
    assert.equal(503, second:response().status)
    assert.equal("held", first:response().body)
    timed.assert_told(s, "Timer_ReqQueue", 503)
    stop(s)
  end)
end)

describe("A time limit that is off", function()
  after_each(timed.stop_all)

  it("ends nothing", function()
    local off = {}
    for i, name in ipairs({ "header_wait", "idle_connection", "entity_body", "drain_entity_body",
      "request_queue", "handler" }) do
      off[i] = "timeouts." .. name .. "=off"
    end
    off[#off + 1] = "max_concurrent_requests=2"
    local s = start(table.unpack(off))
    local fresh, idle, reads, unread = s:connect(), s:connect(), s:connect(), s:connect()
    assert.equal("ok", idle:get("/").body)
    unread:send(post("/ignore", 4, "ab"))
    assert.equal("ignored", unread:response().body)
    reads:send(post("/read", 4, "ab"))
    s:await("the reader waits%.")
    local holds, waits = s:connect(), s:connect()
    holds:send(request("/hold"))
    s:await("it holds%.")
    waits:send(request("/"))
    timed.assert_outlive(0.5, waits, fresh, idle, reads, unread, holds)
    reads:send("cd")
    assert.equal("read", reads:response().body)
    assert.equal("held", holds:response().body)
    assert.equal("ok", waits:response().body)
    unread:send("cd")
    assert.equal("ok", unread:get("/").body)
    assert.equal("ok", fresh:get("/").body)
    for name, count in pairs(timed.reasons(s)) do
      assert.equal(0, count, name)
    end
    stop(s)
  end)

  it("is handler alone by default; the others have HTTP.sys's values", function()
    local s = server.start({ app = APP })
    local result = server.run({ "status", "--json", tostring(s.pid),
      env = { XDG_RUNTIME_DIR = s.runtime_dir } })
    local settings = require("moonquay.core").json.decode(result.stdout).apps[1].settings
    for _, name in ipairs({ "header_wait", "idle_connection", "entity_body", "drain_entity_body",
      "request_queue" }) do
      assert.equal("120", settings["timeouts." .. name], name)
    end
    assert.equal("150", settings["timeouts.min_send_bytes_per_second"])
    assert.equal("off", settings["timeouts.handler"])
    stop(s)
  end)
end)
