local apps = require("spec.support.apps")
local await = require("spec.support.await")
local held = require("spec.support.held")
local timed = require("spec.support.timed")

local post = timed.post

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app(SETTINGS)
local function say(text) moonquay.log.info(text .. ".") end
app:get("/", function() return "ok" end)
app:get("/hold", function() say("it holds") moonquay.sleep(0.9) return "held" end)
app:post("/ignore", function() return "ignored" end)
app:post("/read", function(req)
  say("the reader waits")
  return req:text() and "read" or 400
end)
app:put("/set/:name/:value", function(req)
  app.settings.timeouts[req.params.name] = tonumber(req.params.value) or req.params.value
  return 204
end)
return app]]

local function app(settings)
  return (APP:gsub("SETTINGS", settings or ""))
end

local function stop(s)
  assert.equal(0, s:stop())
end

local function set(connect, name, value, base)
  local connection = connect()
  local path = ("%s/set/%s/%s"):format(base or "", name, value)
  assert.equal(204, connection:request("PUT", path).status)
  connection:close()
end

-- Does what lets a handler say something, and waits until it has.
local function until_said(s, text, act)
  local function said()
    return select(2, s:stderr():gsub(text .. "%.", ""))
  end
  local before = said()
  act()
  await(text, function()
    return said() > before
  end)
end

-- What each limit ends: what begins a wait that it is for, below the path base, what ends that in
-- time, and how the limit ends it. These count from the settings at every moment.
local waits = {
  header_wait = {
    reason = "Timer_HeaderWait",
    begin = function(connection, base)
      connection:send("GET " .. base .. "/ HT")
    end,
    finish = function(connection)
      connection:send("TP/1.1\r\nHost: h\r\n\r\n")
      assert.equal("ok", connection:response().body)
    end,
  },
  idle_connection = {
    reason = "Timer_ConnectionIdle",
    begin = function(connection, base)
      assert.equal("ok", connection:get(base .. "/").body)
    end,
    finish = function(connection, base)
      assert.equal("ok", connection:get(base .. "/").body)
    end,
  },
  drain_entity_body = {
    reason = "Timer_EntityBody",
    begin = function(connection, base)
      connection:send(post(base .. "/ignore", 4, "ab"))
      assert.equal("ignored", connection:response().body)
    end,
    finish = function(connection, base)
      connection:send("cd")
      assert.equal("ok", connection:get(base .. "/").body)
    end,
  },
}

-- These a request takes with it when it begins, since it may have been given others.
local taken = {
  entity_body = {
    reason = "Timer_EntityBody",
    begin = function(connection, base, s)
      until_said(s, "the reader waits", function()
        connection:send(post(base .. "/read", 4, "ab"))
      end)
    end,
    finish = function(connection)
      connection:send("cd")
      assert.equal("read", connection:response().body)
    end,
  },
  handler = {
    reason = "Timer_Handler",
    status = 503,
    begin = function(connection, base, s)
      until_said(s, "it holds", function()
        connection:send(timed.request(base .. "/hold"))
      end)
    end,
    finish = function(connection)
      assert.equal("held", connection:response().body)
    end,
  },
}

local function assert_ended(wait, connection)
  if wait.status then
    assert.equal(wait.status, connection:response().status)
  end
  assert.equal("", (connection:rest()))
  connection:close()
end

describe("A time limit that is changed at run time", function()
  after_each(function()
    held.stop_all()
    timed.stop_all()
  end)

  local function start(...)
    local s = timed.start(app(), ...)
    return s, function()
      return s:connect()
    end
  end

  for name, wait in pairs(waits) do
    for _, from in ipairs({ "3600", "off" }) do
      it(("counts for who waits when it is lowered: %s, from %s"):format(name, from), function()
        local s, connect = start(("timeouts.%s=%s"):format(name, from))
        local connection = connect()
        wait.begin(connection, "")
        set(connect, name, 0.3)
        assert_ended(wait, connection)
        timed.assert_told(s, wait.reason)
        stop(s)
      end)
    end
  end

  it("counts when it is lowered below what has been waited for", function()
    local s, connect = start("timeouts.idle_connection=3600")
    local connection = connect()
    assert.equal("ok", connection:get("/").body)
    timed.assert_outlive(0.5, connection)
    set(connect, "idle_connection", 0.1)
    assert.is_true(connection:closed())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  for _, to in ipairs({ 3600, "off" }) do
    it("counts for who waits when it is raised to " .. to, function()
      local all, list, by_name = {}, {}, {}
      for name in pairs(waits) do
        all[#all + 1] = ("timeouts.%s=1.5"):format(name)
      end
      local s, connect = start(table.unpack(all))
      for name, wait in pairs(waits) do
        local connection = connect()
        list[#list + 1], by_name[name] = connection, connection
        wait.begin(connection, "")
      end
      for name in pairs(waits) do
        set(connect, name, to)
      end
      timed.assert_outlive(2, table.unpack(list))
      for name, wait in pairs(waits) do
        wait.finish(by_name[name], "")
      end
      for name, count in pairs(timed.reasons(s)) do
        assert.equal(0, count, name)
      end
      stop(s)
    end)
  end

  it("counts for who waits in the queue when it is raised", function()
    local s = held.start({ max_concurrent_requests = 1, ["timeouts.request_queue"] = 1.5 })
    local first = s:run("first")
    local waiting = s:wait("w", 1)
    s:set("timeouts.request_queue", "3600")
    timed.assert_outlive(2, waiting)
    s:go()
    assert.matches("^first ", first:response().body)
    assert.matches("^w ", waiting:response().body)
    stop(s)
  end)

  for name, wait in pairs(taken) do
    it(("counts for the next request of a connection that is there: %s"):format(name), function()
      local s, connect = start(("timeouts.%s=3600"):format(name))
      local kept, other, last = connect(), connect(), connect()
      wait.begin(kept, "", s)
      set(connect, name, 0.3)
      wait.begin(other, "", s)
      assert_ended(wait, other)
      timed.assert_told(s, wait.reason, wait.status)
      wait.finish(kept) -- it began before
      wait.begin(kept, "", s)
      set(connect, name, 3600)
      wait.begin(last, "", s)
      assert_ended(wait, kept)
      timed.assert_told(s, wait.reason, wait.status, 2)
      wait.finish(last)
      stop(s)
    end)
  end
end)

describe("The time limits of several apps in one server", function()
  after_each(function()
    apps.stop_all()
    timed.stop_all()
  end)

  local SETTINGS = "{ url_prefixes = { \"URL/%s/\" }, timeouts = { %s = %g } }"

  -- Apps by their names, with one limit each; own is the server's, of its configuration file.
  local function start(timeout, by_app, own)
    local words, dir = timed.words({})
    local files = {}
    for name, limit in pairs(by_app) do
      files[#files + 1] = name .. ".lua"
      files[#files + 1] = app(SETTINGS:format(name, timeout, limit))
    end
    words[#words + 1] = "--config"
    words[#words + 1] = dir:write("moonquay.conf.lua",
      ("return { timeouts = { %s = %g } }"):format(timeout, own or 120))
    return timed.watch(apps.start(files, words), dir)
  end

  local function on(base)
    local connection = apps.connect()
    assert.equal("ok", connection:get(base .. "/").body)
    return connection
  end

  for _, group in ipairs({ waits, taken }) do
    for name, wait in pairs(group) do
      it(("hold for their own connections: %s"):format(name), function()
        local s = start(name, { short = 0.3, long = 3600 })
        local short, long = on("/short"), on("/long")
        wait.begin(long, "/long", s)
        wait.begin(short, "/short", s)
        assert_ended(wait, short)
        assert.is_false(long:readable(0))
        timed.assert_told(s, wait.reason, wait.status)
        wait.finish(long, "/long")
        stop(s)
      end)
    end
  end

  it("are those of the latest request's app", function()
    local s = start("idle_connection", { short = 0.3, long = 3600 })
    local connection = on("/short")
    assert.equal("ok", connection:get("/long/").body)
    timed.assert_outlive(0.7, connection)
    assert.equal("ok", connection:get("/short/").body)
    assert.is_true(connection:closed())
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)

  it("hold after the first request; before that the server's own", function()
    local s = start("header_wait", { one = 3600, two = 3600 }, 0.3)
    local kept = on("/one")
    kept:send("GET /one/ HT")
    local fresh = apps.connect()
    fresh:send("GET /one/ HT")
    assert.is_true(fresh:closed())
    timed.assert_told(s, "Timer_HeaderWait")
    timed.assert_outlive(0.5, kept)
    kept:send("TP/1.1\r\nHost: h\r\n\r\n")
    assert.equal("ok", kept:response().body)
    stop(s)
  end)

  it("do not hold before the first request", function()
    local s = start("header_wait", { one = 0.3, two = 0.3 }, 3600)
    local fresh = apps.connect()
    fresh:send("GET /one/ HT")
    local kept = on("/one")
    kept:send("GET /one/ HT")
    assert.is_true(kept:closed())
    timed.assert_outlive(0.5, fresh)
    fresh:send("TP/1.1\r\nHost: h\r\n\r\n")
    assert.equal("ok", fresh:response().body)
    stop(s)
  end)

  it("hold before the first request where the app is the only one", function()
    local s = start("header_wait", { one = 0.3 }, 3600)
    local fresh = apps.connect()
    assert.is_true(fresh:closed())
    timed.assert_told(s, "Timer_HeaderWait")
    stop(s)
  end)

  it("are changed for one alone", function()
    local s = start("idle_connection", { one = 3600, two = 3600 })
    local one, two = on("/one"), on("/two")
    set(apps.connect, "idle_connection", 0.3, "/one")
    assert.is_true(one:closed())
    timed.assert_outlive(0.5, two)
    assert.equal("ok", two:get("/two/").body)
    timed.assert_told(s, "Timer_ConnectionIdle")
    stop(s)
  end)
end)
