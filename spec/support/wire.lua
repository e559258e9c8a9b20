--- Literal bytes against a server: sends them in pieces, and gives what came back as text in which
-- only the date is replaced, so that a spec can expect every byte.
local pieces = require("spec.support.pieces")

local wire = {}

--- The lines that begin every final answer.
wire.COMMON = "Date: D\r\nServer: moonquay\r\n"

--- Puts D where a Date field's value was; raises when it is not of RFC 9110 section 5.6.7.
function wire.dateless(bytes)
  return (bytes:gsub("\r\nDate: ([^\r]*)\r\n", function(date)
    assert(date:find("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$"), date)
    return "\r\nDate: D\r\n"
  end))
end

--- A whole answer with these lines behind the common ones.
function wire.answer(status, lines, body)
  return ("HTTP/1.1 %s\r\n%s%s\r\n%s"):format(status, wire.COMMON, lines, body or "")
end

--- An answer with plain text of a known length.
function wire.text(body, status)
  local lines = ("Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"):format(#body)
  return wire.answer(status or "200 OK", lines, body)
end

--- Sends bytes in pieces of size (all at once when there is none) on a connection.
function wire.send(connection, bytes, size)
  for _, piece in ipairs(pieces(bytes, size or math.max(#bytes, 1))) do
    connection:send(piece)
  end
end

--- Everything that a new connection gets for these bytes until the server closes it, and how it was
-- closed. half_close ends our side behind them.
function wire.converse(server, bytes, size, half_close)
  local connection = server:connect()
  wire.send(connection, bytes, size)
  if half_close then
    connection:half_close()
  end
  local got, how = connection:rest()
  connection:close()
  return wire.dateless(got), how
end

--- Runs it(title, check) for the bytes whole and one at a time; check gets the size of the pieces.
function wire.each_way(it, title, check)
  it(title, function()
    check(nil)
  end)
  it(title .. ", byte by byte", function()
    check(1)
  end)
end

return wire
