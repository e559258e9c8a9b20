-- A normal client is answered within 100 ms (asserted at ten times that) while 5,000 connections
-- are idle and 200 slow, and while the slow ones end at their timers.
local crowd = require("spec.support.crowd")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local ASKED = 2000

describe("on the release build", function()
  after_each(server.stop_all)

  it("a crowd does not hold a normal client up (100 ms)", function()
    local s = server.start({ path = "spec/support/crowd_app.lua", options = {
      "--workers", "2", "--set", "timeouts.header_wait=2", "--set", "timeouts.entity_body=2",
      "--set", "timeouts.idle_connection=3600" } })
    local many = crowd.start(s.port, 5000, 200)
    local times, connection = {}, s:connect()
    for i = 1, ASKED do
      local began = sys.monotonic()
      if i % 20 == 0 then
        connection:close()
        connection = s:connect()
      end
      assert.equal("ok", connection:get("/").body)
      times[i] = sys.monotonic() - began
      sys.poll({}, 2)
    end
    table.sort(times)
    print(("beside 5,000 idle and 200 slow connections, %d of which ended meanwhile: "
      .. "median %.2f ms, p99 %.2f ms, most %.2f ms"):format(many:gone(),
      times[ASKED // 2] * 1000, times[ASKED * 99 // 100] * 1000, times[ASKED] * 1000))
    assert.is_true(times[ASKED] < 10 * 0.100)
    many:stop()
    assert.equal(0, s:stop())
  end)
end)
