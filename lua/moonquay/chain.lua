--- A handler behind its middleware, as one function. Composed once for a route; a request costs one
-- closure for each middleware and none without.

local core = require("moonquay.core")

local chain = {}

-- Middleware that forgets "return next()" answers 200 with nothing, which is hard to see.
local function watched(middleware, rest)
  local info = debug.getinfo(middleware, "S")
  local place = ("%s:%d"):format(info.short_src, info.linedefined)
  local told = false
  return function(req, res)
    local dropped = false
    local function after(...)
      if select("#", ...) == 0 and dropped and not res.started and not told then
        told = true
        core.log("warn", ("middleware at %s dropped what next() returned"):format(place))
      end
      return ...
    end
    local function pass(...)
      dropped = select("#", ...) > 0
      return ...
    end
    return after(middleware(req, res, function()
      return pass(rest(req, res))
    end))
  end
end

local function linked(middleware, rest)
  return function(req, res)
    return middleware(req, res, function()
      return rest(req, res)
    end)
  end
end

--- A function(req, res) that runs the middleware of the list in order, handler last. The function
-- `next` that each gets returns what the rest returned.
function chain.compose(middleware, handler)
  local rest = handler
  for i = #middleware, 1, -1 do
    local link = middleware[i]
    if core.development and type(link) == "function" then
      rest = watched(link, rest)
    else
      rest = linked(link, rest)
    end
  end
  return rest
end

return chain
