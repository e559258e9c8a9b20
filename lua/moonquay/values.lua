--- Named values in the order in which they came, names repeated or not: a query, a form, cookies.
-- values.x is the first value named x, or nil; a parameter that a client calls "all" or "get"
-- cannot take a method's place.

---@class moonquay.Values
---@field [string] any
local Values = {}

local LIST = {} -- the key of { name, value, name, value, … }: no client can send it

local methods = {}

--- Every value of a name, in order.
---@param name string
---@return any[]
function methods:all(name)
  local list, found = rawget(self, LIST), {}
  for i = 1, #list, 2 do
    if list[i] == name then
      found[#found + 1] = list[i + 1]
    end
  end
  return found
end

--- The first value of a name, also of one that is called like a method.
---@param name string
---@return any
function methods:get(name)
  local list = rawget(self, LIST)
  for i = 1, #list, 2 do
    if list[i] == name then
      return list[i + 1]
    end
  end
  return nil
end

local meta = { __name = "moonquay.Values" }

function meta:__index(name)
  return methods[name] or methods.get(self, name)
end

function meta.__newindex()
  error("these are the client's values: they cannot be changed", 2)
end

--- In order; a repeated name comes as often as it was sent.
function meta:__pairs()
  local list, i = rawget(self, LIST), -1
  return function()
    i = i + 2
    return list[i], list[i + 1]
  end
end

--- Takes the list { name, value, name, value, … }.
function Values.new(list)
  return setmetatable({ [LIST] = list }, meta)
end

return Values
