--- A raw HTTP/1.1 client: sends literal bytes, reads bytes, and reads one response by its framing.
-- Every operation ends under a deadline and raises when it passes, so that a spec cannot hang.
local socket = require("socket")

local DEADLINE = os.getenv("MOONQUAY_BUILD") == "asan" and 15 or 5

local client = {}
local Client = {}
Client.__index = Client

--- Connects; options.deadline is the number of seconds that each operation may take.
function client.connect(host, port, options)
  local deadline = options and options.deadline or DEADLINE
  local tcp = host:find(":", 1, true) and socket.tcp6() or socket.tcp()
  tcp:settimeout(deadline)
  local ok, err = tcp:connect(host, port)
  if not ok then
    tcp:close()
    error(("connect to %s port %s: %s"):format(host, port, err), 2)
  end
  tcp:setoption("tcp-nodelay", true)
  return setmetatable({ tcp = tcp, buffer = "", deadline = deadline }, Client)
end

local function expired(self, doing)
  local seen = #self.buffer > 300 and self.buffer:sub(1, 300) .. "…" or self.buffer
  error(("%s: nothing for %g s; received so far: %q"):format(doing, self.deadline, seen), 0)
end

--- Sends all of the bytes.
function Client:send(...)
  local bytes = table.concat({ ... })
  self.tcp:settimeout(self.deadline)
  local sent, err = self.tcp:send(bytes)
  if not sent then
    error("send: " .. err, 2)
  end
  return self
end

--- Sends as much as the socket takes without waiting for longer than seconds; returns how much.
function Client:send_some(bytes, seconds)
  self.tcp:settimeout(seconds)
  local sent, err, partial = self.tcp:send(bytes)
  if not sent and err ~= "timeout" then
    return partial, err
  end
  return sent or partial
end

-- LuaSocket says "closed" for both ends that a connection can have. A socket that was reset has no
-- peer any more; neither has one that both sides have ended.
local function how_ended(self, err)
  if err == "closed" and not self.half_closed and not self.tcp:getpeername() then
    return "reset"
  end
  return err
end

-- Adds what the socket has to the buffer. true, or nil and how the server ended the connection.
local function fill(self, doing, until_time)
  if self.ended then
    return nil, self.ended
  end
  local left = until_time - socket.gettime()
  if left <= 0 or #socket.select({ self.tcp }, nil, left) == 0 then
    expired(self, doing)
  end
  self.tcp:settimeout(0)
  local bytes, err, partial = self.tcp:receive(65536)
  bytes = bytes or partial
  if #bytes == 0 and err ~= "timeout" then
    self.ended = how_ended(self, err)
    return nil, self.ended
  end
  self.buffer = self.buffer .. bytes
  return true
end

local function take(self, count)
  local bytes = self.buffer:sub(1, count)
  self.buffer = self.buffer:sub(count + 1)
  return bytes
end

--- Exactly count bytes; fewer, with the reason as second result, when the server ends before.
function Client:receive(count)
  local until_time = socket.gettime() + self.deadline
  while #self.buffer < count do
    local ok, err = fill(self, "receive", until_time)
    if not ok then
      return take(self, count), err
    end
  end
  return take(self, count)
end

--- Bytes up to and with the first match of a Lua pattern; raises when the server ends before.
function Client:read_until(pattern)
  local until_time = socket.gettime() + self.deadline
  while true do
    local _, last = self.buffer:find(pattern)
    if last then
      return take(self, last)
    end
    local ok, err = fill(self, "read_until " .. pattern, until_time)
    if not ok then
      error(("read_until %q: %s; received: %q"):format(pattern, err, self.buffer), 2)
    end
  end
end

--- Everything until the server ends the connection; the second result is how: "closed", or "reset"
-- when it was broken (known only while our own side is open).
function Client:rest()
  local until_time = socket.gettime() + self.deadline
  while fill(self, "rest", until_time) do
    until_time = socket.gettime() + self.deadline
  end
  return take(self, #self.buffer), self.ended
end

--- True when the server ends the connection and sends nothing more before that.
function Client:closed()
  local bytes = self:rest()
  return bytes == "", bytes
end

--- True when the server has sent something or ended the connection within seconds.
function Client:readable(seconds)
  return #self.buffer > 0 or #socket.select({ self.tcp }, nil, seconds) > 0
end

local function read_fields(self)
  local fields, list = {}, {}
  while true do
    local line = self:read_until("\r\n"):sub(1, -3)
    if line == "" then
      return fields, list
    end
    local name, value = line:match("^([^%s:]+):[ \t]*(.-)[ \t]*$")
    assert(name, "not a field line: " .. line)
    list[#list + 1] = { name, value }
    name = name:lower()
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
end

local function read_chunked(self)
  local parts = {}
  while true do
    local line = self:read_until("\r\n")
    local size = tonumber(line:match("^(%x+)[;\r]"), 16)
    assert(size, "not a chunk's size: " .. line)
    if size == 0 then
      return table.concat(parts), (read_fields(self))
    end
    parts[#parts + 1] = assert(self:receive(size))
    assert(self:receive(2) == "\r\n", "no line end behind a chunk")
  end
end

local function read_head(self)
  local line = self:read_until("\r\n")
  local version, status, reason = line:match("^(HTTP/1%.%d) (%d%d%d) ([^\r]*)\r\n$")
  assert(version, "not a status line: " .. line)
  local headers, list = read_fields(self)
  return {
    version = version,
    status = tonumber(status),
    reason = reason,
    headers = headers,
    header_list = list,
    body = "",
    trailers = {},
  }
end

--- Reads one final response and the interim ones before it (response.interim). options.head: the
-- request was HEAD, so that there is no content whatever the fields say. A body that ended before
-- its declared length is response.body with response.truncated = true.
function Client:response(options)
  local interim = {}
  local response = read_head(self)
  while response.status < 200 and response.status ~= 101 do
    interim[#interim + 1] = response
    response = read_head(self)
  end
  response.interim = interim
  local length = response.headers["content-length"]
  local without = response.status < 200 or response.status == 204 or response.status == 304
  if without or options and options.head then
    return response
  end
  if response.headers["transfer-encoding"] then
    response.body, response.trailers = read_chunked(self)
  elseif length then
    response.body = self:receive(tonumber(length))
    response.truncated = #response.body < tonumber(length)
  else
    response.body = self:rest()
  end
  return response
end

--- Sends a request with Host and the given fields and returns its response.
function Client:request(method, path, headers, body)
  local lines = { ("%s %s HTTP/1.1\r\nHost: test\r\n"):format(method, path) }
  for name, value in pairs(headers or {}) do
    lines[#lines + 1] = ("%s: %s\r\n"):format(name, value)
  end
  if body then
    lines[#lines + 1] = ("Content-Length: %d\r\n"):format(#body)
  end
  lines[#lines + 1] = "\r\n"
  lines[#lines + 1] = body
  self:send(table.concat(lines))
  return self:response({ head = method == "HEAD" })
end

function Client:get(path, headers)
  return self:request("GET", path, headers)
end

function Client:post(path, body, headers)
  return self:request("POST", path, headers, body)
end

--- Ends our side; the server's answer can still be read.
function Client:half_close()
  self.half_closed = true
  self.tcp:shutdown("send")
end

--- Breaks the connection: the server sees a reset.
function Client:reset()
  self.tcp:setoption("linger", { on = true, timeout = 0 })
  self.tcp:close()
end

function Client:close()
  self.tcp:close()
end

return client
