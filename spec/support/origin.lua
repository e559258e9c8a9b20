--- moonquay-request, the bytes that a host tells of each request (core/server/origin.h).
local origin = {}

local VERSIONS = { ["1.0"] = 0x80, ["1.1"] = 0x81, ["2"] = 0x82 }
local UNKNOWN = -1

-- "127.0.0.1:80" and "[::1]:80", the latter with all eight groups; "unix"; nil: not known.
local function address(text)
  if not text then return "\0" end
  if text == "unix" then return "\3" end
  local a, b, c, d, port = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+):(%d+)$")
  if a then
    return string.pack(">BBBBBI2", 1, a, b, c, d, tonumber(port))
  end
  local groups
  groups, port = text:match("^%[(.*)%]:(%d+)$")
  local bytes = groups:gsub("(%x+):?", function(group)
    return string.pack(">I2", tonumber(group, 16))
  end)
  return "\2" .. bytes .. string.pack(">I2", tonumber(port))
end

--- facts: version ("1.1"), boot, number, connection, base (bytes; false: not known), peer, local.
function origin.request(facts)
  local base = facts.base == nil and 0 or facts.base or UNKNOWN
  return string.pack(">Bi8i8i8i8", VERSIONS[facts.version or "1.1"], facts.boot or 0,
    facts.number or 1, facts.connection or 1, base) .. address(facts.peer)
    .. address(facts["local"]) .. "\xff"
end

local function read_address(text, at)
  local family = text:byte(at)
  if family == 1 then
    local a, b, c, d, port, next = string.unpack(">BBBBI2", text, at + 1)
    return ("%d.%d.%d.%d:%d"):format(a, b, c, d, port), next
  end
  assert(family == 0 or family == 3, "no spec needs IPv6 here")
  return family == 3 and "unix" or nil, at + 1
end

--- The facts of such bytes.
function origin.read(text)
  local facts = {}
  local version, at
  version, facts.boot, facts.number, facts.connection, facts.base, at =
    string.unpack(">Bi8i8i8i8", text)
  for name, number in pairs(VERSIONS) do
    facts.version = number == version and name or facts.version
  end
  facts.base = facts.base ~= UNKNOWN and facts.base
  facts.peer, at = read_address(text, at)
  facts["local"], at = read_address(text, at)
  assert(text:sub(at) == "\xff")
  return facts
end

return origin
