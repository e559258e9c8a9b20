--- What a route may say about itself beside its path and handler: a name, and limits for its
-- requests. Checked when the route is defined, by the table of the server's own settings, so that a
-- wrong name or value stops the start and not the first request.

local core = require("moonquay.core")
local names_of = require("moonquay.names")

local route_options = {}

-- Each limit: the setting that it is for one request. Those with a dot stand in a table of that
-- name, in the options and in req.limits.
local limits = {
  max_request_body_size = "max_request_body_size",
  allow_synchronous_io = "allow_synchronous_io",
  min_send_bytes_per_second = "timeouts.min_send_bytes_per_second",
  ["timeouts.entity_body"] = "timeouts.entity_body",
  ["timeouts.handler"] = "timeouts.handler",
}

local function check_name(value)
  if type(value) ~= "string" or value == "" then
    error(("route option name=%s: must be a text"):format(tostring(value)), 0)
  end
  return value
end

local function known()
  local names = names_of(limits)
  table.insert(names, 1, "name")
  return table.concat(names, ", ")
end

local function check_limit(key, value)
  local setting = limits[key]
  if not setting then
    error(("unknown route option %q; there are %s"):format(key, known()), 0)
  end
  local result, message = core.check_option(setting, value)
  if result == nil then
    error("route option " .. message, 0)
  end
  return result
end

local function check_timeouts(checked, timeouts)
  if type(timeouts) ~= "table" then
    error(("route option timeouts: must be a table, not a %s"):format(type(timeouts)), 0)
  end
  for key, value in pairs(timeouts) do
    local name = "timeouts." .. tostring(key)
    checked[name] = check_limit(name, value)
  end
end

--- A checked copy of options over those inherited from a group, with dotted names; raises a text
-- without a place.
function route_options.check(options, inherited)
  local checked = {}
  for key, value in pairs(inherited or {}) do
    checked[key] = value
  end
  for key, value in pairs(options or {}) do
    if key == "name" then
      checked.name = check_name(value)
    elseif key == "timeouts" then
      check_timeouts(checked, value)
    else
      checked[key] = check_limit(tostring(key), value)
    end
  end
  return checked
end

-- The limits that options name: { in req.limits }, { in its timeouts }, each key and value in turn.
local function split(options)
  local own, timeouts = {}, {}
  for _, key in ipairs(names_of(options)) do
    if limits[key] then
      local name = key:match("^timeouts%.(.*)")
      local list = name and timeouts or own
      list[#list + 1], list[#list + 2] = name or key, options[key]
    end
  end
  return own, timeouts
end

local function set(target, list)
  for i = 1, #list, 2 do
    target[list[i]] = list[i + 1]
  end
end

--- A handler that sets the limits which the options name and then runs the rest; rest itself when
-- they name none.
function route_options.apply(options, rest)
  local own, timeouts = split(options)
  if #own + #timeouts == 0 then
    return rest
  end
  return function(req, res)
    local of_request = req.limits
    set(of_request, own)
    if #timeouts > 0 then
      set(of_request.timeouts, timeouts)
    end
    return rest(req, res)
  end
end

return route_options
