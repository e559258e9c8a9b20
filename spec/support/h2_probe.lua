--- A session of the probe with what specs want of it: bytes in pieces, frames with their fields
-- decoded, events whose content is joined however it was split.
local h2 = require("moonquay.probe").h2
local frames = require("spec.support.h2_frames")
local pieces = require("spec.support.pieces")

local Peer = {}
Peer.__index = Peer

local h2_probe = {}

--- A session whose begin was not sent yet; script(session, event) runs inside each event.
function h2_probe.new(options, script)
  return setmetatable({
    session = h2.session(options, script), inflater = h2.inflater(), rest = "", now = 0,
  }, Peer)
end

--- A session that has got a preface and sent its own.
function h2_probe.open(options, script)
  local peer = h2_probe.new(options, script)
  assert(peer.session:receive(frames.PREFACE .. frames.settings({}), peer.now))
  peer:frames()
  return peer
end

--- Gives the session bytes in pieces of size (all at once without one): true, or nil, reason and
-- detail of the first failure.
function Peer:feed(bytes, size)
  for _, piece in ipairs(pieces(bytes, size or math.max(#bytes, 1))) do
    local ok, reason, detail = self.session:receive(piece, self.now)
    if not ok then return nil, reason, detail end
  end
  return true
end

local function decode(self, list)
  local block
  for _, frame in ipairs(list) do
    if frame.type == "HEADERS" or frame.type == "CONTINUATION" then
      block = (frame.type == "HEADERS" and "" or block) .. frame.payload
      if frame.flags & frames.END_HEADERS ~= 0 then
        frame.fields = self.inflater:fields(block)
      end
    end
  end
  return list
end

--- The frames that the session sends now; at most that many bytes, and the frame that is under way.
function Peer:frames(most)
  local list, rest = frames.parse(self.session:send(most))
  assert(rest == "", "a frame that is not whole")
  return decode(self, list)
end

--- Those of one type.
function Peer:frames_of(kind)
  local list = {}
  for _, frame in ipairs(self:frames()) do
    if frame.type == kind then list[#list + 1] = frame end
  end
  return list
end

--- Frames as short texts: "HEADERS 1", "RST_STREAM 1 CANCEL", "GOAWAY 3 NO_ERROR", with " ." when
-- they end their stream.
function h2_probe.describe(list)
  local texts = {}
  for i, frame in ipairs(list) do
    local text = ("%s %d"):format(frame.type, frame.last or frame.id)
    if frame.code then text = text .. " " .. frame.code end
    if (frame.type == "HEADERS" or frame.type == "DATA") and frame.flags & 1 ~= 0 then
      text = text .. " ."
    end
    if (frame.type == "SETTINGS" or frame.type == "PING") and frame.flags & 1 ~= 0 then
      text = text .. " ACK"
    end
    texts[i] = text
  end
  return texts
end

function Peer:sent()
  return h2_probe.describe(self:frames())
end

--- Events since the last call; neighbouring data of a stream are one, pulls are left out.
function Peer:events()
  local list = {}
  for _, event in ipairs(self.session:events()) do
    local last = list[#list]
    assert(event[1] ~= "error", event.message)
    if event[1] == "data" and last and last[1] == "data" and last[2] == event[2] then
      last.bytes = last.bytes .. event.bytes
    elseif event[1] ~= "pull" then
      list[#list + 1] = event
    end
  end
  return list
end

--- Events as short texts: "head 1", "data 1 hello", "ended 1", "closed 1 0".
function Peer:happened()
  local texts = {}
  for i, event in ipairs(self:events()) do
    local more = event.bytes or event.code
    if event[1] == "head" then more = event.status end
    texts[i] = ("%s %d%s"):format(event[1], event[2], more and " " .. more or "")
  end
  return texts
end

--- Runs check(peer, feed) for bytes whole and one at a time; feed(bytes) gives them to the peer.
function h2_probe.each_way(options, script, check)
  for _, size in ipairs({ false, 1 }) do
    local peer = h2_probe.open(options, script)
    check(peer, function(bytes)
      return peer:feed(bytes, size or nil)
    end, size and "byte by byte" or "whole")
  end
end

return h2_probe
