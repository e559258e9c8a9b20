-- Bodies of any size in constant memory, at the pace of whoever is slower.
--   curl -T big.iso http://localhost:5000/count
--   curl -T big.iso http://localhost:5000/echo >copy.iso
--   curl -F 'photo=@cat.jpg' -F 'title=A cat' http://localhost:5000/form
--   curl 'http://localhost:5000/zeros?bytes=1000000000' >/dev/null
local moonquay = require("moonquay")

local app = moonquay.app()
local unlimited = { max_request_body_size = moonquay.UNLIMITED }

app:put("/count", unlimited, function(req)
  local bytes = 0
  for chunk in req.body:chunks() do
    bytes = bytes + #chunk
  end
  return { bytes = bytes }
end)

app:put("/echo", unlimited, function(req, res)
  assert(req.body:pipe(res))
end)

-- Each part is read while it arrives; one that nobody reads is skipped.
app:post("/form", { max_request_body_size = "1GB" }, function(req)
  local fields = {}
  for part in assert(req:multipart()) do
    if part.filename then
      local bytes = 0
      for chunk in part:chunks() do
        bytes = bytes + #chunk
      end
      fields[part.name] = { filename = part.filename, type = part.type, bytes = bytes }
    else
      fields[part.name] = assert(part:text(4096))
    end
  end
  return fields
end)

-- A function as body: it is asked for the next piece when the client has room for it.
app:get("/zeros", function(req)
  local left = math.tointeger(tonumber(req.query.bytes)) or 0
  local piece = ("\0"):rep(65536)
  return 200, function()
    if left <= 0 then
      return nil
    end
    local part = left < #piece and piece:sub(1, left) or piece
    left = left - #part
    return part
  end, { ["content-type"] = "application/octet-stream" }
end)

return app
