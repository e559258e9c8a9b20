--- What a route may say about itself beside its path and handler. Checked when the route is
-- defined, so that a wrong name or value stops the start and not the first request.

local names_of = require("moonquay.names")
local size = require("moonquay.size")

local route_options = {}

local function boolean(value)
  if type(value) ~= "boolean" then
    return nil, "must be true or false"
  end
  return value
end

-- Each key: how its value is checked, and which field of req.limits it sets for the request.
local keys = {
  name = {
    check = function(value)
      if type(value) ~= "string" or value == "" then
        return nil, "must be a text"
      end
      return value
    end,
  },
  max_request_body_size = { check = size.parse, limit = "max_request_body_size" },
  allow_synchronous_io = { check = boolean, limit = "allow_synchronous_io" },
}

--- A checked copy of options over those inherited from a group; raises a text without a place.
function route_options.check(options, inherited)
  local checked = {}
  for key, value in pairs(inherited or {}) do
    checked[key] = value
  end
  for key, value in pairs(options or {}) do
    local row = keys[key]
    if not row then
      local known = table.concat(names_of(keys), ", ")
      error(("unknown route option %q; there are %s"):format(tostring(key), known), 0)
    end
    local result, reason = row.check(value)
    if result == nil then
      error(("route option %s = %s: %s"):format(key, tostring(value), reason), 0)
    end
    checked[key] = result
  end
  return checked
end

--- A handler that sets the limits which the options name and then runs the rest; rest itself when
-- they name none.
function route_options.apply(options, rest)
  local names, values = {}, {}
  for key, value in pairs(options) do
    if keys[key].limit then
      names[#names + 1] = keys[key].limit
      values[#values + 1] = value
    end
  end
  if #names == 0 then
    return rest
  end
  return function(req, res)
    local limits = req.limits
    for i = 1, #names do
      limits[names[i]] = values[i]
    end
    return rest(req, res)
  end
end

return route_options
