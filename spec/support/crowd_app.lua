-- What a crowd asks for.
local app = require("moonquay").app()

app:get("/", function()
  return "ok"
end)

app:post("/read", function(req)
  return tostring(#assert(req:text()))
end)

app:get("/endless", function(_, res)
  local piece = ("x"):rep(65536)
  repeat
    local ok = res:write(piece)
  until not ok
end)

return app
