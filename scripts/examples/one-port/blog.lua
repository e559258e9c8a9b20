-- The other app of shop.lua's port: everything that nobody else has a longer prefix for.
local port = os.getenv("PORT") or 5000

local app = require("moonquay").app({
  url_prefixes = { ("http://localhost:%d/"):format(port) },
})

app:get("/", function()
  return "the blog\n"
end)

-- A port of its own for an hour, say, or one for each tenant: no restart.
app:post("/preview", function()
  return { assert(app:listen("http://localhost:0/preview/")) }
end)

app:get("/draft", function(req)
  return "a draft, seen at " .. req.path_base .. "\n"
end)

return app
