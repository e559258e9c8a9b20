-- How late time limits end (reference section 13): 250 ms at 1 s and 1 % above, asserted at ten
-- times that; never early.
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/", function() return "ok" end)
app:post("/read", function(req) return req:text() or 400 end)
app:get("/long", function() moonquay.sleep(3600) end)
return app]]

-- Each: what begins the time on a connection; it ends with the connection or an answer.
local timers = {
  header_wait = function(connection) connection:send("GET / HT") end,
  idle_connection = function(connection) connection:get("/") end,
  entity_body = function(connection)
    connection:send("POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
  end,
  handler = function(connection) connection:send("GET /long HTTP/1.1\r\nHost: h\r\n\r\n") end,
}

describe("on the release build", function()
  after_each(server.stop_all)

  for _, row in ipairs({ { 1, 0.250 }, { 5, 0.050 }, { 30, 0.300 } }) do
    local seconds, late = table.unpack(row)
    it(("time limits of %d s end at most %d ms late"):format(seconds, late * 1000), function()
      local waits, servers = {}, {}
      for name, begin in pairs(timers) do
        local s = server.start({ app = APP, options = { "--set",
          ("timeouts.%s=%d"):format(name, seconds) } })
        servers[#servers + 1] = s
        local connection = s:connect({ deadline = seconds + 10 })
        local began = sys.monotonic()
        begin(connection)
        waits[#waits + 1] = { name = name, connection = connection, began = began }
      end
      for _, wait in ipairs(waits) do
        wait.connection:rest()
        wait.late = sys.monotonic() - wait.began - seconds
        print(("timeouts.%s of %d s: %.0f ms late"):format(wait.name, seconds, wait.late * 1000))
      end
      for _, wait in ipairs(waits) do
        assert.is_true(wait.late > -0.002, wait.name)
        assert.is_true(wait.late < 10 * late, wait.name)
      end
      for _, s in ipairs(servers) do
        s:kill()
      end
    end)
  end
end)
