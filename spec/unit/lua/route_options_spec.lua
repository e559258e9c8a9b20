local client = require("moonquay.test").client
local moonquay = require("moonquay")
local route_options = require("moonquay.route_options")

local function refusal(options)
  local ok, message = pcall(route_options.check, options)
  assert.is_false(ok)
  return message
end

describe("route options", function()
  it("are checked copies, with dotted names, over those of the group", function()
    local group = route_options.check({ timeouts = { handler = 5 }, max_request_body_size = "1KB" })
    assert.same({ ["timeouts.handler"] = 5, max_request_body_size = 1000 }, group)
    assert.same({
      ["timeouts.handler"] = 5,
      ["timeouts.entity_body"] = 0.25,
      max_request_body_size = "unlimited",
      allow_synchronous_io = false,
      min_send_bytes_per_second = "off",
      name = "x",
    }, route_options.check({
      timeouts = { entity_body = 0.25 },
      max_request_body_size = moonquay.UNLIMITED,
      allow_synchronous_io = false,
      min_send_bytes_per_second = "off",
      name = "x",
    }, group))
    assert.same({ ["timeouts.handler"] = 5, max_request_body_size = 1000 }, group)
  end)

  local known = "there are name, allow_synchronous_io, max_request_body_size, "
    .. "min_send_bytes_per_second, timeouts.entity_body, timeouts.handler"
  local seconds = "must be between 0.001 and 86400 seconds, or off"
  local bad = {
    { { nam = "x" }, 'unknown route option "nam"; ' .. known },
    { { workers = 2 }, 'unknown route option "workers"; ' .. known },
    { { timeouts = { cancel = 1 } }, 'unknown route option "timeouts.cancel"; ' .. known },
    { { timeouts = 5 }, "route option timeouts: must be a table, not a number" },
    { { [1] = 5 }, 'unknown route option "1"; ' .. known },
    { { name = "" }, "route option name=: must be a text" },
    { { timeouts = { handler = 0 } }, "route option timeouts.handler=0: " .. seconds },
    { { timeouts = { entity_body = "never" } },
      "route option timeouts.entity_body=never: " .. seconds },
    { { max_request_body_size = "big" },
      "route option max_request_body_size=big: must be at least 0, or unlimited" },
    { { max_request_body_size = {} },
      "route option max_request_body_size=(a table): must be at least 0, or unlimited" },
    { { allow_synchronous_io = 1 },
      "route option allow_synchronous_io=(a number): must be true or false" },
    { { min_send_bytes_per_second = 0 },
      "route option timeouts.min_send_bytes_per_second=0: must be between 1 and 4294967294, "
        .. "or off" },
  }
  for _, case in ipairs(bad) do
    it("say: " .. case[2], function()
      assert.equal(case[2], refusal(case[1]))
    end)
  end

  it("leave a handler alone that they do not limit", function()
    assert.equal(print, route_options.apply({ name = "x" }, print))
  end)
end)

-- What a handler reads of req.limits, as one text.
local function limits_of(req)
  local limits = req.limits
  return table.concat({
    tostring(limits.allow_synchronous_io),
    tostring(limits.min_send_bytes_per_second),
    tostring(limits.timeouts.entity_body),
    tostring(limits.timeouts.handler),
  }, " ")
end

describe("req.limits", function()
  local app = moonquay.app()
  app:get("/plain", limits_of)
  app:get("/route", {
    allow_synchronous_io = false,
    min_send_bytes_per_second = 9,
    timeouts = { entity_body = 2.5, handler = 7 },
  }, limits_of)
  app:group("/g", { timeouts = { handler = 3 } }, function(group)
    group:get("/a", { timeouts = { entity_body = "off" } }, limits_of)
  end)
  app:post("/set", function(req)
    local parts = assert(req:json())
    local ok, message = pcall(function()
      local target = parts.timeouts and req.limits.timeouts or req.limits
      target[parts.name] = parts.value
    end)
    return ok and limits_of(req) or message:match("limits.*")
  end)
  app:post("/kept", function(req)
    local timeouts = req.limits.timeouts
    timeouts.handler = 60
    return tostring(req.limits.timeouts.handler) .. " " .. tostring(timeouts.nothing)
  end)
  local requests = client(app)

  local reads = {
    { "are the app's settings", "/plain", "true 150 120 off" },
    { "are what the route says", "/route", "false 9 2.5 7" },
    { "are what group and route say", "/g/a", "true 150 off 3" },
  }
  for _, case in ipairs(reads) do
    it(case[1], function()
      assert.equal(case[3], requests:get(case[2]).body)
    end)
  end

  it("are the same behind a table that was kept", function()
    assert.equal("60 nil", requests:post("/kept").body)
  end)

  local seconds = "must be between 0.001 and 86400 seconds, or off"
  local sets = {
    { "min_send_bytes_per_second", 1, false, "true 1 120 off" },
    { "min_send_bytes_per_second", "off", false, "true off 120 off" },
    { "handler", 0.5, true, "true 150 120 0.5" },
    { "handler", "off", true, "true 150 120 off" },
    { "entity_body", "3", true, "true 150 3 off" },
    { "allow_synchronous_io", false, false, "false 150 120 off" },
    { "min_send_bytes_per_second", -1, false,
      "limits: timeouts.min_send_bytes_per_second=-1: must be between 1 and 4294967294, or off" },
    { "handler", 0, true, "limits: timeouts.handler=0: " .. seconds },
    { "handler", true, true, "limits: timeouts.handler=(a boolean): " .. seconds },
    { "entity_body", "soon", true, "limits: timeouts.entity_body=soon: " .. seconds },
    { "cancel", 1, true,
      "limits.timeouts.cancel cannot be set for one request: there are entity_body and handler" },
    { "read_only", true, false,
      "limits.read_only cannot be set: there are max_request_body_size, allow_synchronous_io, "
        .. "min_send_bytes_per_second and, in limits.timeouts, entity_body and handler" },
  }
  for _, case in ipairs(sets) do
    it(("take %s%s = %s or say what it must be"):format(case[3] and "timeouts." or "", case[1],
      tostring(case[2])), function()
      local body = { name = case[1], value = case[2], timeouts = case[3] }
      assert.equal(case[4], requests:post("/set", { json = body }).body)
    end)
  end
end)
