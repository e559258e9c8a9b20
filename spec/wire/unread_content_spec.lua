local server = require("spec.support.server")
local wire = require("spec.support.wire")

local MIB = 1 << 20

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:post("/unread", function() return "unread" end)
app:post("/some", function(req)
  local left = tonumber(req.query.bytes)
  while left > 0 do left = left - #req.body:read(left) end
  return "unread"
end)
app:post("/refused", { max_request_body_size = 10 }, function(req)
  local _, err = req.body:read("a")
  return err.code
end)
app:post("/early", function(_, res)
  res:write("un")
  res:finish("read")
end)
app:get("/next", function() return "next" end)
return app
]]

local function sized(bytes)
  return ("Content-Length: %d\r\n\r\n%s"):format(bytes, ("x"):rep(bytes))
end

local function chunked(bytes, size)
  local parts = { "Transfer-Encoding: chunked\r\n\r\n" }
  for at = 1, bytes, size do
    local length = math.min(size, bytes - at + 1)
    parts[#parts + 1] = ("%x\r\n%s\r\n"):format(length, ("x"):rep(length))
  end
  return table.concat(parts) .. "0\r\n\r\n"
end

local NEXT = "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
local PLAIN = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
local CLOSE = "Connection: close\r\n"

local function text(body, lines)
  return wire.answer("200 OK", PLAIN:format(#body) .. (lines or ""), body)
end

describe("Content that a handler leaves unread (reference section 6)", function()
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  local kept, lost = text("next", CLOSE), ""
  local cases = {
    { "keeps the connection up to 1 MiB", "/unread", sized(MIB), text("unread"), kept },
    { "closes it above 1 MiB, and says so", "/unread", sized(MIB + 1), text("unread", CLOSE),
      lost },
    { "keeps it up to 1 MiB in chunks", "/unread", chunked(MIB, 5000), text("unread"), kept },
    { "closes it above 1 MiB in chunks", "/unread", chunked(MIB + 1, 5000), text("unread"), lost },
    { "keeps it behind what was read", "/some?bytes=1048577", sized(2 * MIB + 1), text("unread"),
      kept },
    { "closes it when too much is left behind what was read", "/some?bytes=1048577",
      sized(2 * MIB + 200000), text("unread"), lost },
    { "keeps it behind what was read in chunks", "/some?bytes=1048577", chunked(2 * MIB + 1, 9000),
      text("unread"), kept },
    { "keeps it when the content was refused by its length", "/refused", sized(MIB),
      text("too_large"), kept },
    { "keeps it when the content was refused as it came", "/refused", chunked(MIB, 5000),
      text("too_large"), kept },
    { "keeps it behind a streamed answer", "/early", sized(MIB),
      wire.answer("200 OK", "Transfer-Encoding: chunked\r\n",
        "2\r\nun\r\n4\r\nread\r\n0\r\n\r\n"), kept },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local head = "POST " .. case[2] .. " HTTP/1.1\r\nHost: h\r\n"
      local got, how = wire.converse(s, head .. case[3] .. NEXT, 65536)
      assert.same({ case[4] .. case[5], "closed" }, { got, how })
    end)
  end
end)
