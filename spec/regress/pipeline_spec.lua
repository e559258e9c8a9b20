local server = require("spec.support.server")

local APP = [[
return function(req)
  return ("x"):rep(math.tointeger(req.path:sub(2)))
end
]]

describe("A connection that pipelines", function()
  after_each(server.stop_all)

  -- The answers fill the output, the requests are all here: no event asks for the rest of them.
  for _, bytes in ipairs({ 300, 2000, 40000 }) do
    for _, ending in ipairs({ "stays open", "has ended its side" }) do
      it(("gets all answers of %d bytes when it %s"):format(bytes, ending), function()
        local s = server.start({ app = APP })
        local connection = s:connect()
        connection:send(("GET /" .. bytes .. " HTTP/1.1\r\nHost: h\r\n\r\n"):rep(500))
        if ending ~= "stays open" then
          connection:half_close()
        end
        for _ = 1, 500 do
          assert.equal(bytes, #connection:response().body)
        end
        connection:close()
        assert.equal(0, s:stop())
      end)
    end
  end
end)
