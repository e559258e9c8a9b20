local server = require("spec.support.server")

local APP = [[
local core = require("moonquay.core")
return function(req, res)
  req:on_cancel(function(code) core.log("info", "told " .. req.path .. " " .. code) end)
  core.log("info", "handles " .. req.path)
  core.sleep(3600)
  return "cancelled"
end
]]

-- More than is read ahead of a handler that does not ask for it: the end lies behind unread bytes.
describe("A connection that is not read", function()
  local s

  setup(function()
    s = server.start({ app = APP, options = { "--set", "log_level=info" } })
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  local function upload(path)
    local connection = s:connect()
    connection:send("POST " .. path .. " HTTP/1.1\r\nHost: test\r\nContent-Length: 60000\r\n\r\n")
    s:await("handles " .. path)
    connection:send(("x"):rep(60000))
    return connection
  end

  it("is known to be reset all the same", function()
    upload("/reset"):reset()
    s:await("told /reset ")
  end)

  it("is known to be ended all the same, and still gets its answer", function()
    local connection = upload("/end")
    connection:half_close()
    s:await("told /end closed")
    assert.equal("cancelled", connection:response().body)
    connection:close()
  end)
end)
