local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

-- Answers /set?key=value… by changing these settings, one after the other, with what is wrong.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/set", function(req)
  for key, value in pairs(req.query) do
    local ok, err = pcall(function() app.settings[key] = tonumber(value) or value end)
    if not ok then return tostring(err) end
  end
  return "set"
end)
app:get("/pid", function()
  local file <close> = io.open("/proc/self/stat")
  return file:read("n") .. ""
end)
return app]]

describe("A watchdog that is set while the server runs", function()
  after_each(server.stop_all)

  for _, query in ipairs({ "watchdog=0.5", "watchdog=off&watchdog=0.5" }) do
    it("ends workers that stand still and no others: " .. query, function()
      local s = server.start({ app = APP, options = { "--workers", "2" } })
      assert.equal("set", s:get("/set?" .. query).body)
      local still, idle = table.unpack(s:workers())
      assert(sys.kill(still, "STOP"))
      s:await("worker_stuck [^\n]*pid=" .. still)
      s:await("worker_died [^\n]*pid=" .. still)
      assert.truthy(sys.kill(idle, "CONT"))
      assert.equal(0, s:stop())
      for pid in s.text.stderr:gmatch("worker_stuck [^\n]*pid=(%d+)") do
        assert.equal(still, tonumber(pid))
      end
    end)
  end
end)
