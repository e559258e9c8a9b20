-- What a client sees when something goes wrong, and who decides it.
--   curl -i http://localhost:5000/orders/7               404, problem details
--   curl -i -H 'accept: text/html' http://localhost:5000/orders/7    the same as a page
--   curl -i http://localhost:5000/bug                    500; the log has the traceback
--   curl -i http://localhost:5000/teapot                 the app's own answer
local moonquay = require("moonquay")

local app = moonquay.app()

-- A failed operation is nil and an error; assert raises it, and an error of the client's making
-- (bad JSON, a body that is too large) carries the status that answers it.
app:post("/sum", { max_request_body_size = "1KB" }, function(req)
  local sum = 0
  for _, number in ipairs(assert(req:json())) do
    sum = sum + number
  end
  return { sum = sum }
end)

app:get("/orders/:id", function(req)
  moonquay.fail(404, "No such order.", { order = req.params.id })
end)

app:get("/bug", function(req)
  return "The length is " .. #req.ctx.nothing
end)

app:get("/teapot", function()
  error({ teapot = true })
end)

-- Asked before the default answer. It leaves alone what it does not know.
app:on_error(function(_, _, err)
  if type(err) == "table" and err.teapot then
    return 418, "I am a teapot.\n"
  end
end)

app:after(function(req, res)
  moonquay.log.debug("answered", { path = req.path, status = res.status })
end)

return app
