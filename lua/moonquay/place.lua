--- Where handlers were written, for messages about what they returned: a handler that has returned
-- is on no stack.

local mount_point = require("moonquay.mount_point")

local place = {}

local function of_function(fn)
  local info = debug.getinfo(fn, "S")
  return ("%s:%d"):format(info.short_src, info.linedefined)
end

--- "file:line" of the handler that an app, or a function, has for a method and a path; else nil.
function place.of(app, method, path)
  if type(app) == "function" then
    return of_function(app)
  elseif type(app) ~= "table" or not app.tree then
    return nil
  end
  local route = app.tree:match(method, path)
  if not route then
    return type(app.missing) == "function" and of_function(app.missing) or nil
  elseif route.inner then
    local _, rest = mount_point.split(path, route.segments)
    return place.of(route.inner, method, rest)
  end
  return type(route.handler) == "function" and of_function(route.handler) or route.place
end

return place
