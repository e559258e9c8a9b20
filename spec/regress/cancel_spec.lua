local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
local core = require("moonquay.core")
local function says(text)
  return setmetatable({}, { __close = function() core.log("info", text) end })
end
local function ever()
  while true do core.sleep(3600) end
end

local handlers = {}
function handlers.goes_on()
  local _ <close> = says("closes the handler's")
  pcall(function()
    local _ <close> = says("closes what pcall called")
    ever()
  end)
end
function handlers.with_coroutine()
  coroutine.wrap(function()
    local _ <close> = says("closes the coroutine's")
    ever()
  end)()
end
function handlers.with_child()
  core.spawn(function()
    local _ <close> = says("closes the child's")
    ever()
  end)
  ever()
end
function handlers.heeds()
  local _ <close> = says("closes by itself")
  local _, err = core.sleep(3600)
  core.log("info", "left with " .. err.code)
end
function handlers.answers_late(res)
  core.sleep(3600)
  res.status = 504
  res.reason = "Late"
  res.headers["X-Late"] = "yes"
  res.headers = { ["X-Late"] = "yes" }
  local _, err = res:json({ late = true })
  core.log("info", "the late answer got " .. err.code)
  return "too late"
end

return function(req, res)
  local handler = handlers[req.path:sub(2)]
  if handler then
    core.log("info", "handles " .. req.path)
    return handler(res)
  end
  return "ok"
end
]]

describe("A handler whose client left", function()
  local dir, s

  before_each(function()
    dir = temp.dir()
    s = server.start({ app = APP, options = {
      "--set", "timeouts.cancel=0.3", "--log-level", "info", "--access-log", dir.path .. "/access",
    } })
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  local function visit(path)
    local connection = s:connect()
    connection:send("GET " .. path .. " HTTP/1.1\r\nHost: h\r\n\r\n")
    s:await("handles " .. path)
    connection:reset()
  end

  -- The server still answers, and ends without waiting for what it has closed.
  local function stop()
    assert.equal("ok", s:get("/").body)
    assert.equal(0, s:stop())
  end

  local closes = {
    { "goes_on", "closes what pcall called", "closes the handler's" },
    { "with_coroutine", "closes the coroutine's" },
    { "with_child", "closes the child's" },
  }
  for _, case in ipairs(closes) do
    it("is closed after timeouts.cancel when it " .. case[1], function()
      visit("/" .. case[1])
      s:await("warn task_closed [^\n]*went on after timeouts.cancel")
      local id = s:await("handler_closed [^\n]*request=(%x+%-%x+)")
      for i = 2, #case do
        s:await(case[i])
      end
      stop()
      local line = dir:read("access"):match("[^\n]*" .. id:gsub("%-", "%%-") .. "[^\n]*")
      assert.matches('" 000 0 "%-" "%-" %x+%-%x+ aborted$', line)
    end)
  end

  it("closes its variables from the inside out, once each", function()
    visit("/goes_on")
    s:await("handler_closed")
    stop()
    local inner = s:stderr():find("closes what pcall called", 1, true)
    local outer = s:stderr():find("closes the handler's", 1, true)
    assert.is_true(inner < outer)
    assert.is_nil(s:stderr():find("closes what pcall called", inner + 1, true))
    assert.is_nil(s:stderr():find("closes the handler's", outer + 1, true))
  end)

  it("is not closed when it ends in time", function()
    visit("/heeds")
    s:await("left with reset")
    s:await("closes by itself")
    visit("/goes_on") -- cancelled later, so its end shows that the other one's time is over
    s:await("handler_closed")
    stop()
    assert.equal(1, select(2, s:stderr():gsub("task_closed", "")))
    assert.equal(1, select(2, s:stderr():gsub("handler_closed", "")))
  end)

  it("makes no mistake when it still answers", function()
    visit("/answers_late")
    s:await("the late answer got reset")
    stop()
    assert.is_nil(s:stderr():find("handler_failed", 1, true), s:stderr())
    assert.matches('" 000 0 "%-" "%-" %x+%-%x+ aborted\n', dir:read("access"))
  end)
end)
