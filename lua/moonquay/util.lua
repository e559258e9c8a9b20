--- Forms of library functions that may wait inside the function they are given, where Lua's own
-- cannot.

local html = require("moonquay.html")

local util = { escape_html = html.escape }

local function replacement(repl, whole, captures)
  local key = captures[1] == nil and whole or captures[1]
  local value
  if type(repl) == "table" then
    value = repl[key]
  elseif captures[1] == nil then
    value = repl(whole)
  else
    value = repl(table.unpack(captures, 1, captures.n))
  end
  if value == nil or value == false then
    return whole
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error(("invalid replacement value (a %s)"):format(type(value)), 3)
  end
  return value
end

--- string.gsub whose function may wait.
---@async
---@param s string
---@param pattern string
---@param repl string|table|function
---@param limit? integer
---@return string
---@return integer count
function util.gsub(s, pattern, repl, limit)
  if type(repl) == "string" or type(repl) == "number" then
    return s:gsub(pattern, repl, limit)
  end
  local anchored = pattern:sub(1, 1) == "^"
  local pieces, at, count, last_end = {}, 1, 0, nil
  while not limit or count < limit do
    local found = table.pack(s:find(pattern, at))
    local first, last = found[1], found[2]
    if first and (last >= first or first ~= last_end) then
      pieces[#pieces + 1] = s:sub(at, first - 1)
      local captures = { n = found.n - 2, table.unpack(found, 3, found.n) }
      pieces[#pieces + 1] = replacement(repl, s:sub(first, last), captures)
      count, at = count + 1, last + 1
      last_end = at
    elseif first and at <= #s then -- nothing, right behind the match before: one character on
      pieces[#pieces + 1] = s:sub(at, at)
      at = at + 1
    else
      break
    end
    if anchored then
      break
    end
  end
  pieces[#pieces + 1] = s:sub(at)
  return table.concat(pieces), count
end

-- Merges the sorted runs from[low..middle] and from[middle+1..high] into to.
local function merge(from, to, low, middle, high, less)
  local left, right = low, middle + 1
  for at = low, high do
    if right > high or left <= middle and not less(from[right], from[left]) then
      to[at] = from[left]
      left = left + 1
    else
      to[at] = from[right]
      right = right + 1
    end
  end
end

--- Sorts a list in place; stable, and less may wait.
---@async
---@generic T
---@param list T[]
---@param less? fun(a: T, b: T): boolean
---@return T[] list
function util.sort(list, less)
  less = less or function(a, b)
    return a < b
  end
  local count, width = #list, 1
  local from, to = table.move(list, 1, count, 1, {}), {}
  while width < count do
    for low = 1, count, 2 * width do
      local middle = math.min(low + width - 1, count)
      merge(from, to, low, middle, math.min(low + 2 * width - 1, count), less)
    end
    from, to, width = to, from, 2 * width
  end
  return table.move(from, 1, count, 1, list)
end

return util
