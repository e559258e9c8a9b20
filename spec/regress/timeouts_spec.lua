local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()
local function read(req)
  local _, err = req.body:read("a")
  core.log("info", "the reader got " .. err.code)
end
app:post("/request", function(req)
  req.limits.timeouts.entity_body = 1
  return read(req)
end)
app:post("/route", { timeouts = { entity_body = 1 } }, read)
return app]]

describe("timeouts.entity_body of one request, shorter than every setting", function()
  local s

  lazy_setup(function()
    s = server.start({ app = APP }) -- 120 s
  end)

  lazy_teardown(server.stop_all)

  for _, where in ipairs({ "request", "route" }) do
    it("ends a wait for content, set by the " .. where, function()
      local connection = s:connect()
      connection:send("POST /", where, " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
      s:await("the reader got timeout")
      s.text.stderr = ""
      assert.equal("reset", (select(2, connection:rest())))
    end)
  end
end)
