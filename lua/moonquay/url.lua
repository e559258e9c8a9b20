--- Percent-encoding (RFC 3986 section 2) for paths and queries.

local names_of = require("moonquay.names")

local url = {}

--- Encodes all but unreserved characters and those in `keep`.
function url.escape(text, keep)
  return (text:gsub("[^%w%-._~]", function(char)
    if keep and keep:find(char, 1, true) then
      return nil
    end
    return ("%%%02X"):format(char:byte())
  end))
end

--- "a=1&b=2" from { a = 1, b = 2 }, names in order; a list as value repeats its name.
function url.encode_query(query)
  local fields = {}
  for _, name in ipairs(names_of(query)) do
    local values = type(query[name]) == "table" and query[name] or { query[name] }
    for _, value in ipairs(values) do
      fields[#fields + 1] = url.escape(name) .. "=" .. url.escape(tostring(value))
    end
  end
  return table.concat(fields, "&")
end

--- What a route parameter holds: req.path keeps %2F, since there it would look like a slash; here
-- it is one. A target that writes percent signs as %25 is left alone: decoding twice would make two
-- targets out of one.
function url.segment_value(segment, req)
  if segment:find("%2", 1, true) and not req.target:find("%25", 1, true) then
    return (segment:gsub("%%2[Ff]", "/"))
  end
  return segment
end

return url
