local client = require("spec.support.client")
local crowd = require("spec.support.crowd")
local json = require("moonquay.core").json
local server = require("spec.support.server")

local IDLE, SLOW = 5000, 200
local KEPT = 20 -- connections of the normal client
local LIMIT = IDLE + SLOW + KEPT

local function status(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir or server.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout)
end

describe("A crowd of 5,000 idle and 200 slow connections", function()
  after_each(server.stop_all)

  it("keeps to the limit, exactly, and out of nobody's way", function()
    local s = server.start({ path = "spec/support/crowd_app.lua", options = {
      "--workers", "2", "--set", "server.max_connections=" .. LIMIT,
      "--set", "timeouts.header_wait=3600", "--set", "timeouts.entity_body=3600" } })
    local kept = {}
    for i = 1, KEPT do
      kept[i] = s:connect()
      assert.equal("ok", kept[i]:get("/").body)
    end
    local many = crowd.start(s.port, IDLE, SLOW)
    assert.equal(LIMIT, status(s).apps[1].connections
      + math.ceil(SLOW / 3), "all but those without a whole head have joined the app")
    for round = 1, 10 do
      for i = 1, KEPT do
        assert.equal("ok", kept[i]:get("/").body, round)
      end
    end
    for _ = 1, 30 do -- one above the limit is refused without a byte
      local ok, more = pcall(client.connect, s.host, s.port)
      assert.is_true(not ok or more:closed())
    end
    local now = status(s)
    assert.equal(30, now.reasons.Connections_Refused)
    assert.equal(LIMIT, now.workers[1].connections + now.workers[2].connections)
    assert.equal(0, many:gone())
    many:stop()
    for i = 1, KEPT do
      assert.equal("ok", kept[i]:get("/").body)
    end
    local fresh = s:get("/")
    assert.equal("ok", fresh.body)
    assert.equal(0, s:stop())
  end)
end)
