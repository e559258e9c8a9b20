--- Frames of HTTP/2 as bytes and back (RFC 9113 section 4), with field blocks of plain literals
-- (RFC 7541 section 6.2.2), which every decoder takes and no table remembers.
local frames = {}

frames.PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

frames.TYPES = {
  DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PUSH_PROMISE = 5, PING = 6,
  GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9, PRIORITY_UPDATE = 16,
}

frames.END_STREAM, frames.ACK, frames.END_HEADERS, frames.PADDED, frames.PRIORITY_FLAG =
  0x1, 0x1, 0x4, 0x8, 0x20

frames.SETTINGS = {
  HEADER_TABLE_SIZE = 1, ENABLE_PUSH = 2, MAX_CONCURRENT_STREAMS = 3, INITIAL_WINDOW_SIZE = 4,
  MAX_FRAME_SIZE = 5, MAX_HEADER_LIST_SIZE = 6, ENABLE_CONNECT_PROTOCOL = 8,
  NO_RFC7540_PRIORITIES = 9,
}

frames.CODES = {
  NO_ERROR = 0, PROTOCOL_ERROR = 1, INTERNAL_ERROR = 2, FLOW_CONTROL_ERROR = 3,
  SETTINGS_TIMEOUT = 4, STREAM_CLOSED = 5, FRAME_SIZE_ERROR = 6, REFUSED_STREAM = 7, CANCEL = 8,
  COMPRESSION_ERROR = 9, CONNECT_ERROR = 10, ENHANCE_YOUR_CALM = 11, INADEQUATE_SECURITY = 12,
  HTTP_1_1_REQUIRED = 13,
}

local NAMES = {}
for name, number in pairs(frames.TYPES) do
  NAMES[number] = name
end

--- A frame; kind is a name or a number.
function frames.frame(kind, flags, id, payload)
  payload = payload or ""
  return string.pack(">I3BBI4", #payload, frames.TYPES[kind] or kind, flags or 0, id or 0)
    .. payload
end

--- A number in HPACK's form, behind the bits of first (RFC 7541 section 5.1).
function frames.integer(number, bits, first)
  local most = (1 << bits) - 1
  if number < most then return string.char(first | number) end
  local bytes = { string.char(first | most) }
  number = number - most
  while number >= 128 do
    bytes[#bytes + 1] = string.char(number % 128 | 128)
    number = number // 128
  end
  bytes[#bytes + 1] = string.char(number)
  return table.concat(bytes)
end

local function literal_string(text)
  return frames.integer(#text, 7, 0) .. text
end

--- A field block of literals that are not indexed.
function frames.block(fields)
  local lines = {}
  for i, field in ipairs(fields) do
    lines[i] = "\0" .. literal_string(field[1]) .. literal_string(field[2])
  end
  return table.concat(lines)
end

--- A line that enters the dynamic table (RFC 7541 section 6.2.1).
function frames.indexed_literal(name, value)
  return "\x40" .. literal_string(name) .. literal_string(value)
end

--- A reference to a table's line; 62 is the newest of the dynamic one.
function frames.reference(index)
  return frames.integer(index, 7, 0x80)
end

--- HEADERS with all fields of the list (or a block); END_HEADERS and END_STREAM unless told not to.
function frames.headers(id, fields, options)
  options = options or {}
  local flags = (options.open and 0 or frames.END_STREAM)
    | (options.goes_on and 0 or frames.END_HEADERS)
  local block = type(fields) == "string" and fields or frames.block(fields)
  return frames.frame("HEADERS", flags, id, block)
end

--- A whole request without content: GET of path unless fields say otherwise.
function frames.request(id, more, options)
  local fields = { { ":method", "GET" }, { ":scheme", "http" }, { ":path", "/" },
    { ":authority", "h" } }
  for i = 1, 4 do
    if more and more[fields[i][1]] then
      fields[i] = { fields[i][1], more[fields[i][1]] }
    end
  end
  table.move(more or {}, 1, #(more or {}), 5, fields)
  return frames.headers(id, fields, options)
end

function frames.continuation(id, fields, goes_on)
  local block = type(fields) == "string" and fields or frames.block(fields)
  return frames.frame("CONTINUATION", goes_on and 0 or frames.END_HEADERS, id, block)
end

function frames.data(id, bytes, ends)
  return frames.frame("DATA", ends and frames.END_STREAM or 0, id, bytes)
end

--- SETTINGS of { NAME = number } in the order of the numbers; nil: the acknowledgement.
function frames.settings(values)
  if not values then return frames.frame("SETTINGS", frames.ACK) end
  local entries = {}
  for name, value in pairs(values) do
    entries[#entries + 1] = string.pack(">I2I4", frames.SETTINGS[name] or name, value)
  end
  table.sort(entries)
  return frames.frame("SETTINGS", 0, 0, table.concat(entries))
end

function frames.ping(text, is_ack)
  return frames.frame("PING", is_ack and frames.ACK or 0, 0, text)
end

function frames.rst_stream(id, code)
  return frames.frame("RST_STREAM", 0, id, string.pack(">I4", frames.CODES[code] or code))
end

function frames.goaway(last, code, text)
  return frames.frame("GOAWAY", 0, 0,
    string.pack(">I4I4", last, frames.CODES[code] or code) .. (text or ""))
end

function frames.window_update(id, bytes)
  return frames.frame("WINDOW_UPDATE", 0, id, string.pack(">I4", bytes))
end

function frames.priority_update(id, value)
  return frames.frame("PRIORITY_UPDATE", 0, 0, string.pack(">I4", id) .. value)
end

local function code_name(number)
  for name, code in pairs(frames.CODES) do
    if code == number then return name end
  end
  return number
end

local readers = {
  RST_STREAM = function(frame, payload)
    frame.code = code_name((string.unpack(">I4", payload)))
  end,
  GOAWAY = function(frame, payload)
    local last, code, at = string.unpack(">I4I4", payload)
    frame.last, frame.code, frame.text = last, code_name(code), payload:sub(at)
  end,
  WINDOW_UPDATE = function(frame, payload)
    frame.bytes = string.unpack(">I4", payload)
  end,
  SETTINGS = function(frame, payload)
    frame.values = {}
    for at = 1, #payload, 6 do
      local id, value = string.unpack(">I2I4", payload, at)
      for name, number in pairs(frames.SETTINGS) do
        if number == id then frame.values[name] = value end
      end
    end
  end,
}

--- The frames at the front of bytes as a list of { type=, flags=, id=, payload=, and what the type
-- has }, and the bytes behind the last whole one.
function frames.parse(bytes)
  local list, at = {}, 1
  while #bytes - at + 1 >= 9 do
    local length, kind, flags, id, payload_at = string.unpack(">I3BBI4", bytes, at)
    if #bytes - payload_at + 1 < length then break end
    local payload = bytes:sub(payload_at, payload_at + length - 1)
    local frame = { type = NAMES[kind] or kind, flags = flags, id = id, payload = payload }
    if readers[frame.type] then readers[frame.type](frame, payload) end
    list[#list + 1] = frame
    at = payload_at + length
  end
  return list, bytes:sub(at)
end

return frames
