--- Cuts a text into pieces of size bytes; the last may be shorter.
local function pieces(text, size)
  local list = {}
  for from = 1, #text, size do
    list[#list + 1] = text:sub(from, from + size - 1)
  end
  return list
end

return pieces
