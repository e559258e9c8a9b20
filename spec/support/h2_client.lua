--- A raw HTTP/2 client (RFC 9113): sends literal frames, and files what comes by its stream.
-- SETTINGS and PING are acknowledged, and content is credited, unless it is told not to. Every wait
-- ends under the deadline of spec.support.client and raises when that passes.
local frames = require("spec.support.h2_frames")
local h2 = require("moonquay.probe").h2
local sys = require("moonquay.probe").sys

local h2_client = { frames = frames }
local Client = {}
Client.__index = Client

--- Goes on over a connection of spec.support.client. options.settings: those of our SETTINGS frame;
-- false: no preface is sent. options.window: bytes that the connection's window gets beside its
-- 65535. options.credit = false: content is credited by the spec alone. options.acks = false:
-- neither is SETTINGS or PING acknowledged.
function h2_client.over(connection, options)
  options = options or {}
  local self = setmetatable({
    connection = connection, inflater = h2.inflater(), next_id = 1, streams = {}, log = {},
    credit = options.credit ~= false, acks = options.acks ~= false, pongs = 0, deadline =
    connection.deadline,
  }, Client)
  if options.settings ~= false then
    local window = options.window and frames.window_update(0, options.window) or ""
    self:send(frames.PREFACE, frames.settings(options.settings or {}), window)
  end
  return self
end

--- Connects to a server of spec.support.server (or anything with connect).
function h2_client.connect(server, options)
  return h2_client.over(server:connect(options), options)
end

function Client:send(...)
  self.connection:send(...)
  return self
end

local function stream_of(self, id)
  local stream = self.streams[id]
  if not stream then
    stream = { id = id, interim = {}, body = "", pieces = {}, trailers = {}, credit = 0, used = 0 }
    self.streams[id] = stream
  end
  return stream
end

local function read_fields(list)
  local fields = {}
  for _, field in ipairs(list) do
    local name, value = field[1], field[2]
    fields[name] = fields[name] and fields[name] .. ", " .. value or value
  end
  return fields
end

local function take_section(stream, list)
  local fields = read_fields(list)
  local status = tonumber(fields[":status"])
  if stream.status then
    stream.trailers, stream.trailer_list = fields, list
  elseif status < 200 then
    table.insert(stream.interim, { status = status, headers = fields, header_list = list })
  else
    stream.status, stream.headers, stream.header_list = status, fields, list
  end
end

local takers = {}

function takers.CONTINUATION(self, frame)
  self.block = self.block .. frame.payload
  if frame.flags & frames.END_HEADERS ~= 0 then
    local stream = stream_of(self, frame.id)
    take_section(stream, self.inflater:fields(self.block))
    stream.finished = self.block_ends
  end
end

function takers.HEADERS(self, frame)
  self.block, self.block_ends = "", frame.flags & frames.END_STREAM ~= 0
  takers.CONTINUATION(self, frame)
end

function takers.DATA(self, frame)
  local stream = stream_of(self, frame.id)
  stream.body = stream.body .. frame.payload
  stream.pieces[#stream.pieces + 1] = #frame.payload
  stream.finished = frame.flags & frames.END_STREAM ~= 0
  if self.credit and #frame.payload > 0 and not self.connection.half_closed then
    self:send(frames.window_update(0, #frame.payload))
    if frame.flags & frames.END_STREAM == 0 then
      self:send(frames.window_update(frame.id, #frame.payload))
    end
  end
end

function takers.RST_STREAM(self, frame)
  stream_of(self, frame.id).reset = frame.code
end

function takers.WINDOW_UPDATE(self, frame)
  local stream = stream_of(self, frame.id)
  stream.credit = stream.credit + frame.bytes
end

function takers.SETTINGS(self, frame)
  if frame.flags & frames.ACK ~= 0 then
    self.acknowledged = true
    return
  end
  self.settings = frame.values
  if self.acks and not self.connection.half_closed then
    self:send(frames.settings())
  end
end

function takers.PING(self, frame)
  if frame.flags & frames.ACK ~= 0 then
    self.pongs = self.pongs + 1
    return
  end
  self.asked = frame.payload
  if self.acks and not self.connection.half_closed then
    self:send(frames.ping(frame.payload, true))
  end
end

function takers.GOAWAY(self, frame)
  self.goaways = self.goaways or {}
  table.insert(self.goaways, frame)
end

-- A frame as a short text: "HEADERS 1", "RST_STREAM 1 CANCEL", "GOAWAY 3 NO_ERROR"; with " ." when
-- it ends its stream.
local function describe(frame)
  local text = ("%s %d"):format(frame.type, frame.last or frame.id)
  if frame.code then
    text = text .. " " .. frame.code
  end
  local ends = frame.flags & frames.END_STREAM ~= 0
  if (frame.type == "HEADERS" or frame.type == "DATA") and ends then
    text = text .. " ."
  elseif (frame.type == "SETTINGS" or frame.type == "PING") and ends then
    text = text .. " ACK"
  end
  return text
end

--- Reads one frame, files it and returns it; nil when the server has ended the connection: then
-- self.ended says how, "closed" or "reset".
function Client:frame()
  if self.ended then
    return nil
  end
  local head, err = self.connection:receive(9)
  if #head < 9 then
    self.ended, self.cut = err, #head > 0
    return nil
  end
  local payload = self.connection:receive((string.unpack(">I3", head)))
  local list, rest = frames.parse(head .. payload)
  local frame = list[1]
  if not frame then
    self.ended, self.cut = "closed", #rest > 0
    return nil
  end
  self.log[#self.log + 1] = describe(frame)
  if takers[frame.type] then
    takers[frame.type](self, frame)
  end
  return frame
end

--- Reads frames until check() is truthy, which it returns; raises when the connection ends before
-- that, with what was awaited.
function Client:await(what, check)
  local until_time = sys.monotonic() + self.deadline
  while true do
    local result = check()
    if result then
      return result
    end
    if not self:frame() then
      error(("%s: the connection was %s; frames: %s"):format(what, self.ended,
        table.concat(self.log, ", ")), 2)
    end
    if sys.monotonic() > until_time then
      error("in vain awaited: " .. what, 2)
    end
  end
end

--- Reads frames until the server ends the connection; how: "closed" or "reset".
function Client:rest()
  while self:frame() do
    -- filed
  end
  return self.ended
end

--- Waits until the server has taken all that was sent, and what it sent for it has come: two round
-- trips, since its answer to a PING overtakes others.
function Client:settle()
  for _ = 1, 2 do
    local pongs = self.pongs
    self:send(frames.ping("settled?"))
    self:await("the answer to a PING", function()
      return self.pongs > pongs
    end)
  end
  return self
end

--- The fields of a request without content; more: method, path, scheme, authority (false: none) in
-- place of GET, /, http and "test", and a list of others.
function h2_client.fields(path, more)
  more = more or {}
  local list = {}
  for _, name in ipairs({ "method", "scheme", "path", "authority" }) do
    local value = more[name]
    if value == nil then
      value = ({ method = "GET", scheme = "http", path = path, authority = "test" })[name]
    end
    if value then
      list[#list + 1] = { ":" .. name, value }
    end
  end
  return table.move(more, 1, #more, #list + 1, list)
end

--- The number of the next stream.
function Client:id()
  local id = self.next_id
  self.next_id = id + 2
  return id
end

-- HEADERS, and CONTINUATION for what does not fit into the first.
local function head(id, fields, ends)
  local block = fields.block or frames.block(fields)
  local list = {}
  local flags = ends and frames.END_STREAM or 0
  for at = 1, math.max(#block, 1), 16384 do
    local last = at + 16383 >= #block and frames.END_HEADERS or 0
    local piece = block:sub(at, at + 16383)
    list[#list + 1] = at == 1 and frames.frame("HEADERS", flags | last, id, piece)
      or frames.frame("CONTINUATION", last, id, piece)
  end
  return table.concat(list)
end

--- A whole request, or its head alone when more.open; the id of its stream. path: a text, or the
-- list of all fields, or { block = bytes } of HPACK. more.body: content; more.trailers: fields.
function Client:open(path, more)
  more = more or {}
  local id = self:id()
  local fields = type(path) == "table" and path or h2_client.fields(path, more)
  local bare = not more.body and not more.trailers
  self:send(head(id, fields, bare and not more.open))
  if more.body then
    self:data(id, more.body, not more.open and not more.trailers)
  end
  if more.trailers then
    self:send(head(id, more.trailers, true))
  end
  return id
end

--- Content, in frames of at most 16384 bytes, whether the windows allow it or not; the last ends
-- the stream when ends.
function Client:data(id, bytes, ends)
  local list = {}
  for _, of in ipairs({ 0, id }) do
    local window = stream_of(self, of)
    window.used = window.used + #bytes
  end
  for at = 1, math.max(#bytes, 1), 16384 do
    list[#list + 1] = frames.data(id, bytes:sub(at, at + 16383), ends and at + 16383 >= #bytes)
  end
  return self:send(table.concat(list))
end

--- How much content the server would take now on a stream.
function Client:room(id)
  local whole, stream = stream_of(self, 0), stream_of(self, id)
  local most = self.settings and self.settings.INITIAL_WINDOW_SIZE or 65535
  return math.min(65535 + whole.credit - whole.used, most + stream.credit - stream.used)
end

--- Content, as fast as the windows allow.
function Client:upload(id, bytes, ends)
  local at = 1
  repeat
    local room = self:await("room to send in", function()
      return (self:room(id) > 0 or bytes == "") and self:room(id)
    end)
    local piece = bytes:sub(at, at + room - 1)
    at = at + #piece
    self:data(id, piece, ends and at > #bytes)
  until at > #bytes
end

--- Trailers, with which the request ends.
function Client:trailers(id, fields)
  return self:send(head(id, fields, true))
end

--- Waits until the stream has ended: .finished, or .reset with the name (or number) of the code, or
-- .lost with how the connection ended. The rest is as spec.support.client has it: status, headers,
-- header_list, body, trailers, interim; and pieces, the lengths of its DATA frames.
function Client:response(id)
  local stream = stream_of(self, id)
  while not stream.finished and not stream.reset do
    if not self:frame() then
      stream.lost = self.ended
      break
    end
  end
  return stream
end

--- Waits until the stream has got this much content, or an error of spec.support.client.
function Client:body(id, bytes)
  local stream = stream_of(self, id)
  self:await(("%d bytes of content"):format(bytes), function()
    return #stream.body >= bytes
  end)
  return stream
end

--- Waits for the final head of a stream.
function Client:head(id)
  local stream = stream_of(self, id)
  self:await("a head", function()
    return stream.status
  end)
  return stream
end

--- What has come on a stream so far.
function Client:stream(id)
  return stream_of(self, id)
end

function Client:request(path, more)
  return self:response(self:open(path, more))
end

--- What the server has sent, each frame a short text, since the last call.
function Client:sent()
  local list = self.log
  self.log = {}
  return list
end

function Client:readable(seconds)
  return self.connection:readable(seconds)
end

function Client:half_close()
  self.connection:half_close()
end

function Client:reset()
  self.connection:reset()
end

function Client:close()
  self.connection:close()
end

return h2_client
