--- What a handler's return values mean. The rules are four: nothing, what was done with res stands;
-- a string is the body; a table is JSON; a status comes first, then the body (string, table or a
-- function that returns the next piece), then a table of headers. What fits none of them is an
-- error at once, and so is returning a value after writing to res.

local reply = {}

-- Error texts name no place: the handler is no longer on the stack, and the log says which route it
-- was.
local function misuse(text, ...)
  error(text:format(...), 0)
end

local function set_headers(res, headers)
  if type(headers) ~= "table" then
    misuse("the third value a handler returns is a table of headers, not a %s", type(headers))
  end
  for name, value in pairs(headers) do
    res.headers[name] = value
  end
end

-- Ends early and silently when the client has left: there is nobody to answer.
local function stream(res, next_piece)
  for piece in next_piece do
    if type(piece) ~= "string" then
      misuse("a streamed body is made of strings, not of a %s", type(piece))
    end
    local ok, err = res:write(piece)
    if not ok then
      return nil, err
    end
  end
  return res:finish()
end

local function send(res, body)
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
    return stream(res, body)
  end
  misuse("a handler returns nothing, a string, a table, or a status with them; this one a %s", kind)
end

--- Answers with what a handler returned; waits while the client is slow.
function reply.respond(_, res, first, ...)
  local count = select("#", ...)
  if first == nil and ... ~= nil then
    error((...), 0) -- the handler passed on the `nil, err` of a call that failed
  elseif first == nil then
    return res:finish()
  elseif res.started then
    misuse("the handler wrote to res and returned a %s as well: do one or the other", type(first))
  elseif math.type(first) ~= "integer" then
    if count > 0 and ... ~= nil then
      misuse("with more than a body a handler returns the status first, not a %s", type(first))
    end
    return send(res, first)
  end
  local body, headers, extra = ...
  if extra ~= nil then
    misuse("a handler returns a status, a body and headers, nothing after them")
  end
  res.status = first
  if headers ~= nil then
    set_headers(res, headers)
  end
  return send(res, body)
end

return reply
