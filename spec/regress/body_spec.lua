local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

-- Two sizes in turn, so that what a read leaves is met by the next one and used up before more
-- arrives.
app:post("/turns", function(req, res)
  local size = 10
  for _ = 1, math.huge do
    local bytes = req.body:read(size)
    if not bytes then return end
    res:write(bytes)
    res:flush()
    size = 100 - size
  end
end)

app:post("/all", function(req)
  local bytes, err = req.body:read("a")
  return bytes and tostring(#bytes) or err.code
end)

-- Where Lua cannot be suspended: the worker blocks for each piece.
app:post("/blocking", function(req)
  local bytes, err
  ;("x"):gsub("x", function() bytes, err = req.body:read("a") end)
  return bytes and tostring(#bytes) or err.code
end)

-- Reads, and has no more patience than that.
app:post("/impatient", function(req)
  local _, err = moonquay.timeout(0.01, function() return req.body:read() end)
  moonquay.sleep(1)
  return err.code
end)
return app
]]

describe("A request's body", function()
  local s

  setup(function()
    s = server.start({ app = APP, options = { "--set", "timeouts.entity_body=0.3",
      "--set", "cpu_limit=60" } })
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  it("is read as it was sent when reads give parts of a piece back", function()
    local connection = s:connect()
    local content = {}
    for i = 1, 600 do
      content[i] = string.char(33 + i % 89)
    end
    content = table.concat(content)
    connection:send("POST /turns HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    local got, head = "", nil
    for first = 1, #content, 150 do
      local piece = content:sub(first, first + 149)
      connection:send(("%x\r\n%s\r\n"):format(#piece, piece))
      head = head or connection:read_until("\r\n\r\n")
      while #got < first + #piece - 1 do -- all of a piece is back before the next one is sent
        local size = tonumber(connection:read_until("\r\n"):match("^%x+"), 16)
        got = got .. connection:receive(size)
        connection:receive(2)
      end
    end
    connection:send("0\r\n\r\n")
    assert.equal("0\r\n\r\n", connection:receive(5))
    assert.equal(content, got)
    connection:close()
  end)

  -- Bytes that do not help were taken for new ones: the worker span, and no time limit passed.
  it("can be stalled in the middle of a chunk's line, until the time for it is over", function()
    local connection = s:connect()
    connection:send("POST /all HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5")
    assert.is_true((connection:closed()))
    connection:close()
  end)

  -- The connection went on to wait for content that no read waited for any more.
  it("has no time limit any more when the read that waited for it was given up", function()
    local connection = s:connect()
    connection:send("POST /impatient HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n")
    assert.equal("timeout", connection:response().body)
    connection:close()
  end)

  it("may arrive in any number of pieces where the handler blocks for it", function()
    local connection = s:connect()
    local count = 60000
    connection:send("POST /blocking HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ = 1, count do
      connection:send("1\r\nx\r\n")
    end
    connection:send("0\r\n\r\n")
    assert.equal(tostring(count), connection:response().body)
    connection:close()
  end)
end)
