--- Sizes in bytes as people write them: 1048576, "10MB" (powers of 1000), "10MiB" (of 1024).

local size = {}

--- Stands for "no limit" wherever a size limit is expected.
size.UNLIMITED = "unlimited"

local units = { [""] = 1, B = 1 }
for power, letter in ipairs({ "K", "M", "G", "T" }) do
  units[letter .. "B"] = 1000 ^ power
  units[letter .. "IB"] = 1024 ^ power
end

--- The number of bytes, or size.UNLIMITED, or nil and what was expected.
function size.parse(value)
  if value == size.UNLIMITED then
    return value
  end
  local number, unit = value, ""
  if type(value) == "string" then
    number, unit = value:match("^(%d+%.?%d*) ?(%a*)$")
    number = tonumber(number)
  end
  local factor = type(unit) == "string" and units[unit:upper()]
  local bytes = type(number) == "number" and factor and math.tointeger(number * factor)
  if not bytes or bytes < 0 then
    return nil, 'must be bytes, a text such as "10MB" or "10MiB", or moonquay.UNLIMITED'
  end
  return bytes
end

return size
