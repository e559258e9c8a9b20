-- One of two apps at one port; the other is blog.lua.
--   moonquay serve scripts/examples/one-port/shop.lua scripts/examples/one-port/blog.lua
--   curl http://localhost:5000/shop/            curl -X PUT http://localhost:5000/shop/limit/5
local port = os.getenv("PORT") or 5000

local app = require("moonquay").app({
  url_prefixes = { ("http://localhost:%d/shop/"):format(port) },
  max_connections = 1000,
})

app:get("/", function(req)
  return {
    here = app.addresses,
    base = req.path_base, -- "/shop": links begin with it
    max_connections = app.settings.max_connections,
  }
end)

-- From now on in every worker, and for nobody but this app.
app:put("/limit/:n", function(req)
  app.settings.max_connections = tonumber(req.params.n)
  return 204
end)

-- While the shop counts its stock, what comes for it gets 503; the blog goes on.
app:post("/close", function()
  app.settings.enabled = false
  return 204
end)

return app
