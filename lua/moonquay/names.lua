--- The names of a table in order, for whatever is written from one and must come out the same each
-- time.

--- A sorted list of the keys of a table of named values.
---@param named table<string, any>
---@return string[]
local function names_of(named)
  local names = {}
  for name in pairs(named) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

return names_of
