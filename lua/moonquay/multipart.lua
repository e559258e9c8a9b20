--- multipart/form-data as a stream of parts (RFC 7578). Nothing is held but the piece at hand and
-- nothing goes to disk unless part:save says so; a part that was not read is skipped.

local core = require("moonquay.core")

local multipart = {}

local LIMITS = { max_part_head_bytes = 16384, max_parts = 1000 }
local PIECE_BYTES = 65536

---@class moonquay.Part
---@field name? string
---@field filename? string as the client sent it: never use it as a path
---@field type? string
---@field headers table<string, string> names in lower case
local Part = {}
Part.__index = Part
Part.__name = "moonquay.Part"

-- The next event of the stream; feeds the reader from the body until it has one. Raises nothing.
local function next_event(stream)
  while not stream.events[stream.at] do
    local piece, err = stream.body:read(PIECE_BYTES)
    if err then
      return nil, err
    end
    local events
    events, err = stream.reader:feed(piece)
    if not events then
      return nil, err
    elseif not piece and not events[1] then
      return nil, core.fail("closed", "the form ends before its last part", { status = 400 })
    end
    stream.events, stream.at = events, 1
  end
  local event = stream.events[stream.at]
  stream.at = stream.at + 1
  return event
end

--- Up to n bytes of the part (65536), at least one; nil at its end; nil and an error.
---@async
---@param n? integer
---@return string? bytes
---@return moonquay.Error? err
function Part:read(n)
  n = n or PIECE_BYTES
  while self.held == "" do
    if self.ended then
      return nil
    end
    local event, err = next_event(self.stream)
    if not event then
      self.ended = true
      return nil, err
    elseif event[1] == "data" then
      self.held = event[2]
    else
      self.ended = true
    end
  end
  local piece = self.held:sub(1, n)
  self.held = self.held:sub(n + 1)
  return piece
end

--- Iterates over the part's pieces; raises the error of a read.
---@async
---@param n? integer
---@return fun(): string?
function Part:chunks(n)
  return function()
    local piece, err = self:read(n)
    if err then
      error(err, 0)
    end
    return piece
  end
end

--- The whole part as a string of at most max bytes (1 MiB); beyond that nil and an error of status
-- 413.
---@async
---@param max? integer
---@return string? text
---@return moonquay.Error? err
function Part:text(max)
  max = max or 1048576
  local pieces, total = {}, 0
  while true do
    local piece, err = self:read()
    if err then
      return nil, err
    elseif not piece then
      return table.concat(pieces)
    end
    total = total + #piece
    if total > max then
      local text = ("a part of more than %d bytes"):format(max)
      return nil, core.fail("too_large", text, { status = 413, op = "text" })
    end
    pieces[#pieces + 1] = piece
  end
end

-- Writes the part to an open file; the number of bytes, or nil and an error.
local function write_to(part, file)
  local total = 0
  while true do
    local piece, err = part:read()
    if err then
      return nil, err
    elseif not piece then
      return total
    end
    local ok, reason = file:write(piece)
    if not ok then
      return nil, core.fail("io", reason, { op = "save" })
    end
    total = total + #piece
  end
end

--- Writes the part to a file; the number of bytes. A file that could not be written whole is
-- removed.
---@async
---@param path string
---@return integer? bytes
---@return moonquay.Error? err
function Part:save(path)
  local file, reason = io.open(path, "wb")
  if not file then
    return nil, core.fail("io", reason, { op = "save" })
  end
  local complete = false
  local _ <close> = setmetatable({}, {
    __close = function()
      file:close()
      if not complete then
        os.remove(path)
      end
    end,
  })
  local total, err = write_to(self, file)
  local ok, flush_reason = file:flush()
  if total and not ok then
    total, err = nil, core.fail("io", flush_reason, { op = "save" })
  end
  complete = total ~= nil
  return total, err
end

-- Reads what the handler left of the part before.
local function skip(part)
  while part and not part.ended do
    local _, err = part:read()
    if err then
      return err
    end
  end
  if part then
    part.held = ""
  end
end

local function new_part(stream, event)
  return setmetatable({
    name = event.name,
    filename = event.filename,
    type = event.type,
    headers = event.headers,
    stream = stream,
    held = "",
    ended = false,
  }, Part)
end

--- The parts of a request's body: an iterator, which raises the error of a read; or nil and an
-- error of status 415 when the body is no multipart form.
function multipart.parts(req)
  local content_type = req.headers["content-type"] or ""
  local reader, err = core.multipart(content_type, LIMITS)
  if not reader then
    return nil, core.fail("unsupported", err.message, { status = 415 })
  end
  local stream = { body = req.body, reader = reader, events = {}, at = 1 }
  local part
  return function()
    local event
    err = skip(part)
    if not err then
      event, err = next_event(stream)
    end
    if err then
      error(err, 0)
    end
    part = event[1] == "part" and new_part(stream, event) or nil
    return part
  end
end

return multipart
