-- How late time limits end (reference section 13): 250 ms at 1 s and 1 % above, asserted at ten
-- times that; never early.
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/", function() return "ok" end)
app:post("/read", function(req) return req:text() or 400 end)
app:post("/ignore", function() return "ignored" end)
app:get("/long", function() moonquay.log.info("it is long.") moonquay.sleep(3600) end)
return app]]

local function post(path)
  return ("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"):format(path)
end

-- Each: what begins the time on a connection; it ends with the connection or an answer.
local timers = {
  { "header_wait", function(connection) connection:send("GET / HT") end },
  { "idle_connection", function(connection) connection:get("/") end },
  { "entity_body", function(connection) connection:send(post("/read")) end },
  { "drain_entity_body", function(connection)
    connection:send(post("/ignore"))
    connection:response()
  end },
  { "handler", function(connection) connection:send("GET /long HTTP/1.1\r\nHost: h\r\n\r\n") end },
  { "request_queue", function(connection) connection:send("GET / HTTP/1.1\r\nHost: h\r\n\r\n") end,
    "max_concurrent_requests=1" },
}
local EACH = 10 -- connections, at different moments between the ticks of the wheel

local function start(name, seconds, setting)
  local limit = ("timeouts.%s=%d"):format(name, seconds)
  local s = server.start({ app = APP, options = { "--set", limit, "--log-level", "info",
    "--set", setting or limit } })
  if setting then -- the only handler is taken
    s.holder = s:connect()
    s.holder:send("GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
    s:await("it is long%.")
  end
  return s
end

describe("on the release build", function()
  after_each(server.stop_all)

  for _, row in ipairs({ { 1, 0.250 }, { 5, 0.050 }, { 30, 0.300 } }) do
    local seconds, late = table.unpack(row)
    it(("time limits of %d s end at most %d ms late"):format(seconds, late * 1000), function()
      local servers, waits = {}, {}
      for i, timer in ipairs(timers) do
        servers[i] = start(timer[1], seconds, timer[3])
      end
      for _ = 1, EACH do
        for i, timer in ipairs(timers) do
          local connection = servers[i]:connect({ deadline = seconds + 10 })
          local began = sys.monotonic()
          timer[2](connection)
          waits[#waits + 1] = { name = timer[1], connection = connection, began = began }
          sys.poll({}, 1)
        end
      end
      local least, most = {}, {}
      for _, wait in ipairs(waits) do -- they end in about the order in which they began
        wait.connection:rest()
        local by = sys.monotonic() - wait.began - seconds
        least[wait.name] = math.min(by, least[wait.name] or by)
        most[wait.name] = math.max(by, most[wait.name] or by)
      end
      for _, timer in ipairs(timers) do
        local name = timer[1]
        print(("timeouts.%s of %d s: %.0f to %.0f ms late"):format(name, seconds,
          least[name] * 1000, most[name] * 1000))
      end
      for _, timer in ipairs(timers) do
        assert.is_true(least[timer[1]] > -0.002, timer[1])
        assert.is_true(most[timer[1]] < 10 * late, timer[1])
      end
      for _, s in ipairs(servers) do
        s:kill()
      end
    end)
  end
end)
