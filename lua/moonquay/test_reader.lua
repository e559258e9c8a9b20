--- Reads one HTTP/1.1 response of a server that is trusted to write it well: the test client's
-- side.

local core = require("moonquay.core")
local Values = require("moonquay.values")

local test_reader = {}

---@class moonquay.TestResponse
---@field status integer
---@field reason string
---@field headers moonquay.Headers names in any case; :all(name) lists the values
---@field body string
---@field cookies table<string, string> of Set-Cookie
---@field trailers table<string, string> names in lower case
---@field interim moonquay.TestResponse[] 1xx responses before
---@field aborted boolean the connection broke before the end of the body
local Response = {}
Response.__index = Response
Response.__name = "moonquay.TestResponse"

--- The body read as JSON; raises when it is none.
---@return any
function Response:json()
  local value, err = core.json.decode(self.body)
  if value == nil then
    error(("the body is no JSON: %s: %q"):format(err.message, self.body), 2)
  end
  return value
end

-- Fields in order, found in any case, values of one name joined as a recipient may (RFC 9110
-- s.5.3).
local headers_meta = {
  __name = "moonquay.Headers",
  __index = function(headers, name)
    local values = headers.list:all(tostring(name):lower())
    return values[1] and table.concat(values, ", ")
  end,
  __pairs = function(headers)
    return pairs(headers.list)
  end,
}

local function new_headers(list)
  local values = Values.new(list)
  return setmetatable({
    list = values,
    all = function(_, name)
      return values:all(name:lower())
    end,
  }, headers_meta)
end

-- More bytes, or nil when the connection has ended; raises when nothing comes for too long.
local function fill(stream)
  local bytes, err = stream.connection:receive(stream.deadline)
  if bytes then
    stream.held = stream.held .. bytes
    return true
  elseif err.code == "timeout" then
    error(("no answer within %g s"):format(stream.deadline), 0)
  end
  return nil
end

local function read_line(stream)
  local stop
  repeat
    stop = stream.held:find("\r\n", 1, true)
  until stop or not fill(stream)
  if not stop then
    return nil
  end
  local line = stream.held:sub(1, stop - 1)
  stream.held = stream.held:sub(stop + 2)
  return line
end

-- Exactly count bytes, or those that came before the end and false.
local function read_bytes(stream, count)
  while #stream.held < count and fill(stream) do
    -- until there are enough
  end
  local bytes = stream.held:sub(1, count)
  stream.held = stream.held:sub(count + 1)
  return bytes, #bytes == count
end

-- A list { name, value, … } with names in lower case; nil when the connection ends in between.
local function read_fields(stream)
  local list = {}
  for line in read_line, stream do
    if line == "" then
      return list
    end
    local name, value = line:match("^([^:]+):%s*(.-)%s*$")
    list[#list + 1], list[#list + 2] = name:lower(), value
  end
end

local function read_head(stream)
  local line = read_line(stream)
  local status, reason = (line or ""):match("^HTTP/1%.%d (%d%d%d) ?(.*)$")
  local list = status and read_fields(stream)
  if not list then
    return nil
  end
  return setmetatable({
    status = tonumber(status),
    reason = reason,
    headers = new_headers(list),
    body = "",
    trailers = {},
    interim = {},
    cookies = {},
    aborted = false,
  }, Response)
end

-- The pieces and the trailers; nil as trailers when the connection ends before.
local function read_chunked(stream)
  local pieces = {}
  for line in read_line, stream do
    local size = tonumber(line:match("^%x+"), 16)
    if size == 0 then
      return table.concat(pieces), read_fields(stream)
    end
    local piece, whole = read_bytes(stream, size)
    pieces[#pieces + 1] = piece
    if not whole then
      break
    end
    read_bytes(stream, 2)
  end
  return table.concat(pieces), nil
end

local function read_body(stream, response)
  local length = tonumber(response.headers["content-length"])
  if response.headers["transfer-encoding"] then
    local trailers
    response.body, trailers = read_chunked(stream)
    response.aborted = trailers == nil
    for i = 1, #(trailers or {}), 2 do
      response.trailers[trailers[i]] = trailers[i + 1]
    end
  elseif length then
    local whole
    response.body, whole = read_bytes(stream, length)
    response.aborted = not whole
  else
    response.body = read_bytes(stream, math.huge)
  end
end

--- The final response with the interim ones before it; nil when the connection ended without one.
function test_reader.read(connection, method, deadline)
  local stream = { connection = connection, deadline = deadline, held = "" }
  local interim, response = {}, read_head(stream)
  while response and response.status < 200 do
    interim[#interim + 1] = response
    response = read_head(stream)
  end
  if not response then
    return nil
  end
  response.interim = interim
  local status = response.status
  if method ~= "HEAD" and status ~= 204 and status ~= 304 then
    read_body(stream, response)
  end
  for _, text in ipairs(response.headers:all("set-cookie")) do
    local name, value = text:match("^([^=]+)=([^;]*)")
    response.cookies[name] = value
  end
  return response
end

return test_reader
