-- A normal client is answered within 100 ms (asserted at ten times that) while 5,000 idle and 200
-- slow connections come, stay up to a limit, and the slow ones end at their timers.
local crowd = require("spec.support.crowd")
local held = require("spec.support.held")
local sys = require("moonquay.probe").sys

local IDLE, SLOW, ASKED = 5000, 200, 2000
local FIGURE = 0.100

-- Asks at least so often and until the slow ones have ended: the seconds that each answer took,
-- sorted. Every twentieth is on a connection of its own.
local function ask(s, many)
  local times, connection = {}, s.server:connect()
  while #times < ASKED or not many:is_there() or many:gone() < many.heads + many.bodies do
    local began = sys.monotonic()
    if #times % 20 == 0 then
      connection:close()
      connection = s.server:connect()
    end
    assert.equal(200, connection:get("/").status)
    times[#times + 1] = sys.monotonic() - began
    sys.poll({}, 2)
  end
  connection:close()
  table.sort(times)
  return times
end

describe("on the release build", function()
  after_each(function()
    crowd.stop_all()
    held.stop_all()
  end)

  it("a crowd does not hold a normal client up (100 ms)", function()
    local s = held.start({ ["server.max_connections"] = IDLE + SLOW + 2,
      max_connections = IDLE + SLOW + 2, request_queue_limit = 100,
      ["timeouts.header_wait"] = 2, ["timeouts.entity_body"] = 0.3 },
      { app = crowd.APP, options = { "--workers", "2" } })
    local many = crowd.start(s.server.port, IDLE, SLOW)
    local times = ask(s, many)
    local reasons = s:status().reasons
    print(("%d requests beside 5,000 idle and 200 slow connections, %d of which ended meanwhile: "
      .. "median %.2f ms, p99 %.2f ms, most %.2f ms"):format(#times, many:gone(),
      times[(#times + 1) // 2] * 1000, times[math.ceil(#times * 0.99)] * 1000,
      times[#times] * 1000))
    assert.equal(many.heads, reasons.Timer_HeaderWait)
    assert.equal(many.bodies, reasons.Timer_EntityBody)
    assert.equal(0, reasons.Connections_Refused + reasons.ConnLimit + reasons.QueueFull)
    assert.is_true(times[#times] < 10 * FIGURE)
    many:stop()
    assert.equal(0, s:stop())
  end)
end)
