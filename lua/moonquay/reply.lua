--- What a handler's return values mean. The rules are four: nothing, what was done with res stands;
-- a string is the body; a table is JSON; a status comes first, then the body (string, table or a
-- function that returns the next piece), then a table of headers. What fits none of them is an
-- error at once, and so is returning a value after writing to res.

local reply = {}

local find_place

--- Takes the function that knows where the handler of a method and a path was written (or nil).
function reply.find_place_by(finder)
  find_place = finder
end

-- The handler is no longer on the stack: the text names the request, and its handler where the app
-- knows it.
local function misuse(req, text, ...)
  local method, path = req.method, tostring(req.path_base) .. tostring(req.path)
  local place = find_place and find_place(method, path)
  local handler = place and (" (its handler is at %s)"):format(place) or ""
  error(("%s %s%s: %s"):format(method, path, handler, text:format(...)), 0)
end

local function set_headers(req, res, headers)
  if type(headers) ~= "table" then
    misuse(req, "the third value a handler returns is a table of headers, not a %s", type(headers))
  end
  for name, value in pairs(headers) do
    res.headers[name] = value
  end
end

-- Ends early and silently when the client has left: there is nobody to answer.
local function stream(req, res, next_piece)
  for piece in next_piece do
    if type(piece) ~= "string" then
      misuse(req, "a streamed body is made of strings, not of a %s", type(piece))
    end
    local ok, err = res:write(piece)
    if not ok then
      return nil, err
    end
  end
  return res:finish()
end

local function send(req, res, body)
  local kind = type(body)
  if body == nil then
    return res:finish()
  elseif kind == "string" then
    if not res.headers["content-type"] then
      res.headers["content-type"] = "text/plain; charset=utf-8"
    end
    return res:finish(body)
  elseif kind == "table" then
    return res:json(body)
  elseif kind == "function" then
    return stream(req, res, body)
  end
  misuse(req, "a handler returns nothing, a string, a table, or a status with them, not a %s", kind)
end

local function is_status(value)
  return math.type(value) == "integer" and value >= 200 and value <= 999
end

--- Answers with what a handler returned; waits while the client is slow.
function reply.respond(req, res, first, ...)
  local count = select("#", ...)
  if first == nil and ... ~= nil then
    error((...), 0) -- the handler passed on the `nil, err` of a call that failed
  elseif first == nil then
    return res:finish()
  elseif res.started then
    misuse(req, "the handler wrote to res and returned a %s as well: do one or the other",
      type(first))
  elseif type(first) == "number" and not is_status(first) then
    misuse(req, "a number that a handler returns first is a status (200 to 999), not %s", first)
  elseif type(first) ~= "number" then
    if count > 0 and ... ~= nil then
      misuse(req, "with more than a body a handler returns the status first, not a %s",
        type(first))
    end
    return send(req, res, first)
  end
  local body, headers, extra = ...
  if extra ~= nil then
    misuse(req, "a handler returns a status, a body and headers, nothing after them")
  end
  res.status = first
  if headers ~= nil then
    set_headers(req, res, headers)
  end
  return send(req, res, body)
end

return reply
