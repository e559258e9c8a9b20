--- The content of a request as pieces, lines, LTN12 source, or poured into something else: what
-- can be said in terms of body:read, which waits for the client without blocking others.

local core = require("moonquay.core")

local Body = {}

local MAX_LINE_BYTES = 65536

--- Iterates over the pieces as they come, of at most n bytes each. Raises the error of a read.
function Body.chunks(body, n)
  return function()
    local piece, err = body:read(n)
    if err then
      error(err, 0)
    end
    return piece
  end
end

-- The next line of text from a position, without its end, and where the one after it begins.
local function cut_line(text, from)
  local stop = text:find("\n", from, true)
  if not stop then
    return nil, from
  end
  local last = text:byte(stop - 1) == 13 and stop > from and stop - 2 or stop - 1
  return text:sub(from, last), stop + 1
end

--- Iterates over lines ended by LF or CRLF, which are not part of what is returned. A line of more
-- than max bytes (65536) raises an error of status 413: it bounds what one line can make the server
-- hold.
function Body.lines(body, max)
  max = max or MAX_LINE_BYTES
  local held, from = "", 1
  return function()
    while true do
      local line
      line, from = cut_line(held, from)
      if not line then
        held, from = held:sub(from), 1
        if #held <= max then
          local piece, err = body:read()
          if err then
            error(err, 0)
          elseif not piece then
            line, held = held ~= "" and held or nil, ""
            return line
          end
          held = held .. piece
        end
      end
      if #(line or held) > max and (line or not held:find("\n", 1, true)) then
        local text = ("a line of more than %d bytes"):format(max)
        error(core.fail("too_large", text, { status = 413, op = "lines" }), 0)
      elseif line then
        return line
      end
    end
  end
end

-- A function(piece | nil) → true | nil, err from an LTN12 sink or an object with a write method.
local function sink_of(target)
  if type(target) == "function" then
    return target
  end
  return function(piece)
    if piece then
      return target:write(piece)
    end
    return true
  end
end

--- Pours the body into an LTN12 sink, or an object with a write method such as res or a file, at
-- the pace of the slower of both. The number of bytes, or nil and the error of either side.
function Body.pipe(body, target)
  local sink, total = sink_of(target), 0
  while true do
    local piece, err = body:read()
    if err then
      return nil, err
    end
    local ok, sink_err = sink(piece)
    if not ok then
      return nil, sink_err or core.fail("closed", "the sink takes no more", { op = "pipe" })
    elseif not piece then
      return total
    end
    total = total + #piece
  end
end

--- An LTN12 source: a function that returns the next piece, nil at the end, or nil and an error.
function Body.source(body)
  return function()
    return body:read()
  end
end

return Body
