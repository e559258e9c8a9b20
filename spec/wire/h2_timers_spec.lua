local h2 = require("spec.support.h2_client")
local sys = require("moonquay.probe").sys
local timed = require("spec.support.timed")

local frames = h2.frames

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local function say(text) moonquay.log.info(text .. ".") end
local function forever() return moonquay.sleep(3600) end
local short, long = { timeouts = { handler = 0.3 } }, { timeouts = { handler = 3600 } }

local function read(req)
  say("the reader waits")
  local text, err = req:text()
  say("the reader got " .. (text or err.code))
  return text and "read" or 400
end
app:any("/", function() return "ok" end)
app:get("/hold", function() say("it holds") moonquay.sleep(0.9) return "held" end)
app:post("/read", read)
app:post("/read/short/request", function(req)
  req.limits.timeouts.entity_body = 0.3
  return read(req)
end)
app:post("/read/short/route", { timeouts = { entity_body = 0.3 } }, read)
app:post("/read/long/request", function(req)
  req.limits.timeouts.entity_body = 3600
  return read(req)
end)
app:post("/read/off/route", { timeouts = { entity_body = "off" } }, read)
app:post("/read/late", function(req) moonquay.sleep(1.2) return read(req) end)

app:get("/forever", forever)
app:get("/forever/route", short, forever)
app:get("/forever/request", function(req)
  req.limits.timeouts.handler = 0.3
  forever()
end)
app:get("/forever/told", short, function(req)
  req:on_cancel(function(code) say("on_cancel got " .. code) end)
  local _, err = forever()
  say("the wait got " .. err.code)
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
app:get("/hold/route", long, function() moonquay.sleep(0.9) return "held" end)
app:get("/hold/off", { timeouts = { handler = "off" } }, function()
  moonquay.sleep(0.9)
  return "held"
end)
return app]]

local function start(...)
  return timed.start(APP, "h2.cleartext=true", ...)
end

local function stop(s)
  assert.equal(0, s:stop())
end

-- Sends pieces, 20 a second, until the server ends the connection or all are sent: true, if it did.
local function drip(client, list)
  for _, bytes in ipairs(list) do
    while client:readable(0.05) do
      if not client:frame() then
        return true
      end
    end
    if not pcall(client.send, client, bytes) then
      return true
    end
  end
  return false
end

-- That the connection goes on for so long, with whatever its client gets meanwhile.
local function assert_outlives(seconds, client)
  local since = sys.monotonic()
  while sys.monotonic() - since < seconds do
    if client:readable(math.max(0, since + seconds - sys.monotonic())) then
      assert.is_truthy(client:frame(), "the connection has ended")
    end
  end
end

describe("timeouts.header_wait over HTTP/2", function()
  after_each(timed.stop_all)

  local whole = frames.headers(1, h2.fields("/"))
  local unfinished = {
    { "runs from accept for the preface", frames.PREFACE:sub(1, 10) },
    { "runs from accept behind the preface", frames.PREFACE },
    { "runs from accept behind SETTINGS", frames.PREFACE .. frames.settings({}) },
    { "runs for a frame that is not whole", frames.PREFACE .. frames.settings({})
      .. whole:sub(1, 20) },
    { "runs for a head without its end", frames.PREFACE .. frames.settings({})
      .. frames.headers(1, h2.fields("/"), { goes_on = true }) },
    { "runs for a head without its end behind a request", frames.PREFACE .. frames.settings({})
      .. whole .. frames.headers(3, h2.fields("/"), { goes_on = true }), 1 },
    { "runs for a head without its end beside a stream", frames.PREFACE .. frames.settings({})
      .. frames.headers(1, h2.fields("/forever"))
      .. frames.headers(3, h2.fields("/"), { goes_on = true }) },
  }
  for _, case in ipairs(unfinished) do
    it(case[1] .. ", and ends the connection", function()
      local s = start("timeouts.header_wait=0.3", "timeouts.idle_connection=3600")
      local client = h2.over(s:connect(), { settings = false, acks = false,
        credit = false })
      client:send(case[2])
      if case[3] then
        assert.equal("ok", client:response(case[3]).body)
      end
      assert.equal("closed", client:rest())
      timed.assert_told(s, "Timer_HeaderWait")
      stop(s)
    end)
  end

  it("is not reset by pieces of a head", function()
    local s = start("timeouts.header_wait=0.5", "timeouts.idle_connection=3600")
    local client = h2.connect(s)
    assert.equal("ok", client:request("/").body)
    local list = { frames.headers(3, h2.fields("/"), { goes_on = true }) }
    for i = 2, 7 do
      list[i] = frames.continuation(3, { { "x", "y" } }, true)
    end
    local bytes, pieces = table.concat(list), {}
    for i = 1, #bytes do
      pieces[i] = bytes:sub(i, i)
    end
    drip(client, pieces)
    client:rest()
    timed.assert_told(s, "Timer_HeaderWait")
    stop(s)
  end)

  it("runs neither behind an answer nor for what follows a head", function()
    local s = start("timeouts.header_wait=0.4", "timeouts.idle_connection=3600")
    local idle, busy = h2.connect(s), h2.connect(s)
    assert.equal("ok", idle:request("/").body)
    local held, reads = busy:open("/hold"), busy:open("/read", { method = "POST", open = true })
    busy:data(reads, "ab")
    assert_outlives(0.6, idle)
    assert.equal("held", busy:response(held).body)
    busy:data(reads, "cd", true)
    assert.equal("read", busy:response(reads).body)
    assert.equal("ok", idle:request("/").body)
    idle:close()
    busy:close()
    stop(s)
  end)
end)

describe("timeouts.idle_connection over HTTP/2", function()
  after_each(timed.stop_all)

  it("runs behind the last answer, and says goodbye", function()
    local s = start("timeouts.idle_connection=0.4")
    local client = h2.connect(s)
    local held = client:open("/hold") -- longer
    assert.equal("ok", client:request("/").body)
    assert.equal("held", client:response(held).body)
    assert.equal("closed", client:rest())
    assert.same({ 3, "NO_ERROR" }, { client.goaways[1].last, client.goaways[1].code })
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  it("runs behind a stream that was reset", function()
    local s = start("timeouts.idle_connection=0.3")
    local client = h2.connect(s)
    local id = client:open("/forever")
    client:settle():send(frames.rst_stream(id, "CANCEL"))
    assert.equal("closed", client:rest())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  it("runs neither before the first request nor while a stream is open", function()
    local s = start("timeouts.idle_connection=0.3")
    local fresh, busy = h2.connect(s), h2.connect(s)
    local id = busy:open("/read", { method = "POST", open = true })
    busy:data(id, "ab")
    assert_outlives(0.7, fresh)
    assert_outlives(0, busy)
    busy:data(id, "cd", true)
    assert.equal("read", busy:response(id).body)
    assert.equal("ok", fresh:request("/").body)
    stop(s)
  end)

  it("begins again with any byte, and with each answer", function()
    local s = start("timeouts.idle_connection=1")
    local client = h2.connect(s)
    assert.equal("ok", client:request("/").body)
    for _ = 1, 5 do
      assert_outlives(0.4, client)
      client:send(frames.ping("12345678"))
    end
    assert.equal("ok", client:request("/").body)
    assert.equal("closed", client:rest())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)
end)

describe("timeouts.entity_body over HTTP/2", function()
  after_each(timed.stop_all)

  local silent = {
    { "by the setting", "/read", "ab", setting = "timeouts.entity_body=0.3" },
    { "by the setting, of a declared length", "/read", "ab", setting = "timeouts.entity_body=0.3",
      { "content-length", "5" } },
    { "by the setting, before the first byte", "/read", setting = "timeouts.entity_body=0.3" },
    { "by the request", "/read/short/request", "ab" },
    { "by the route", "/read/short/route", "ab" },
  }
  for _, case in ipairs(silent) do
    it("fails the read and resets the stream that sends nothing for so long: " .. case[1],
      function()
        local s = start(case.setting)
        local client = h2.connect(s)
        local other = client:open("/read/off/route", { method = "POST", open = true })
        local id = client:open(case[2], { method = "POST", open = true, case[4] })
        if case[3] then
          client:data(id, case[3])
        end
        assert.equal("CANCEL", client:response(id).reset)
        assert.is_nil(client:stream(id).status)
        s:await("the reader got timeout%.")
        timed.assert_told(s, "Timer_EntityBody")
        client:data(other, "x", true)
        assert.equal("read", client:response(other).body)
        client:close()
        stop(s)
      end)
  end

  for _, path in ipairs({ "/read/long/request", "/read/off/route" }) do
    it("is longer for a request of " .. path, function()
      local s = start("timeouts.entity_body=0.3")
      local client = h2.connect(s)
      local id = client:open(path, { method = "POST", open = true })
      client:data(id, "ab")
      assert_outlives(0.9, client)
      client:data(id, "cd", true)
      assert.equal("read", client:response(id).body)
      client:close()
      stop(s)
    end)
  end

  it("is reset by each arrival, on its stream alone", function()
    local s = start("timeouts.entity_body=1")
    local client = h2.connect(s)
    local silent_id = client:open("/read", { method = "POST", open = true })
    local id = client:open("/read", { method = "POST", open = true })
    local list = {}
    for i = 1, 40 do
      list[i] = frames.data(id, "x", i == 40)
    end
    assert.is_false(drip(client, list))
    assert.equal("read", client:response(id).body)
    assert.equal("CANCEL", client:response(silent_id).reset)
    timed.assert_told(s, "Timer_EntityBody")
    client:close()
    stop(s)
  end)

  it("runs from when the handler waits for content", function()
    local s = start("timeouts.entity_body=0.6")
    local client = h2.connect(s)
    local id = client:open("/read/late", { method = "POST", open = true })
    s:await("the reader waits%.")
    client:data(id, "cd", true)
    assert.equal("read", client:response(id).body)
    client:close()
    stop(s)
  end)
end)

describe("timeouts.request_queue over HTTP/2", function()
  after_each(timed.stop_all)

  for _, verbosity in ipairs({ "basic", "limited", "full" }) do
    it("ends the wait of a stream as http_503_verbosity has it: " .. verbosity, function()
      local s = start("timeouts.request_queue=0.3", "max_concurrent_requests=1",
        "http_503_verbosity=" .. verbosity)
      local client = h2.connect(s)
      local first = client:open("/hold")
      s:await("it holds%.")
      local response = client:request("/")
      assert.equal(verbosity == "basic" and "REFUSED_STREAM" or nil, response.reset)
      assert.equal(verbosity ~= "basic" and 503 or nil, response.status)
      assert.equal(verbosity == "full",
        response.body:find("no handler was free in time", 1, true) ~= nil)
      assert.equal("held", client:response(first).body)
      timed.assert_told(s, "Timer_ReqQueue", 503)
      assert.equal("ok", client:request("/").body)
      client:close()
      stop(s)
    end)
  end
end)

describe("timeouts.handler over HTTP/2", function()
  after_each(timed.stop_all)

  local rows = {
    { "the setting", "/forever", "timeouts.handler=0.3" },
    { "the route", "/forever/route" },
    { "the request", "/forever/request" },
    { "the request, though the setting is longer", "/forever/request", "timeouts.handler=3600" },
  }
  for _, row in ipairs(rows) do
    it("is told by 503, and the connection goes on: " .. row[1], function()
      local s = start(row[3])
      local client = h2.connect(s)
      local response = client:request(row[2])
      assert.equal(503, response.status)
      assert.is_truthy(response.headers["retry-after"])
      assert.is_nil(response.headers.connection)
      assert.truthy(response.body:find("took longer than allowed", 1, true), response.body)
      timed.assert_told(s, "Timer_Handler", 503)
      assert.equal("ok", client:request("/").body)
      assert.is_nil(client.goaways)
      client:close()
      stop(s)
    end)
  end

  it("cancels the handler, its waits and reads", function()
    local s = start()
    local client = h2.connect(s)
    assert.equal(503, client:request("/forever/told").status)
    s:await("on_cancel got timeout%..*the wait got timeout%.")
    local id = client:open("/forever/reads", { method = "POST", open = true })
    assert.equal(503, client:response(id).status)
    s:await("the read got timeout%.")
    client:close()
    stop(s)
  end)

  it("breaks off an answer that has begun, and no other", function()
    local s = start()
    local client = h2.connect(s)
    local other = client:open("/hold/off")
    local response = client:request("/begun")
    assert.same({ 200, "begun", "INTERNAL_ERROR" },
      { response.status, response.body, response.reset })
    s:await("the wait got timeout%..*the write got timeout%.")
    timed.assert_told(s, "Timer_Handler")
    assert.equal("held", client:response(other).body)
    client:close()
    stop(s)
  end)

  for _, path in ipairs({ "/hold/route", "/hold/off" }) do
    it("is longer for a request of " .. path, function()
      local s = start("timeouts.handler=0.3")
      local client = h2.connect(s)
      assert.equal("held", client:request(path).body)
      client:close()
      stop(s)
    end)
  end
end)

describe("A time limit that is off", function()
  after_each(timed.stop_all)

  it("ends nothing over HTTP/2", function()
    local off = {}
    for i, name in ipairs({ "header_wait", "idle_connection", "entity_body", "request_queue",
      "handler" }) do
      off[i] = "timeouts." .. name .. "=off"
    end
    off[#off + 1] = "max_concurrent_requests=2"
    local s = start(table.unpack(off))
    local fresh, idle, busy = h2.connect(s), h2.connect(s), h2.connect(s)
    assert.equal("ok", idle:request("/").body)
    local reads = busy:open("/read", { method = "POST", open = true })
    busy:data(reads, "ab")
    local holds = busy:open("/hold")
    s:await("it holds%.")
    local waits = busy:open("/")
    assert_outlives(0.5, fresh)
    assert_outlives(0, idle)
    busy:data(reads, "cd", true)
    assert.equal("read", busy:response(reads).body)
    assert.equal("held", busy:response(holds).body)
    assert.equal("ok", busy:response(waits).body)
    assert.equal("ok", idle:request("/").body)
    assert.equal("ok", fresh:request("/").body)
    for name, count in pairs(timed.reasons(s)) do
      assert.equal(0, count, name)
    end
    stop(s)
  end)
end)
