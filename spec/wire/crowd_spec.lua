-- Limits in a crowd: 5,000 idle and 200 slow connections, and a normal client that is answered all
-- the while, also as they come and as they end.
local await = require("spec.support.await")
local crowd = require("spec.support.crowd")
local held = require("spec.support.held")
local temp = require("spec.support.temp")

local IDLE, SLOW = 5000, 200
local KEPT = 20 -- connections of the normal client
local OVER = 30 -- that come when there is no place

local function keep(s)
  local kept = {}
  for i = 1, KEPT do
    kept[i] = s:connect()
  end
  return kept
end

local function assert_served(kept)
  for i = 1, KEPT do
    local response = kept[i]:get("/")
    assert.equal(200, response.status, i)
    assert.equal("ok", response.body)
  end
end

-- Waits until check says so; meanwhile the normal client asks.
local function served_until(kept, what, check)
  await(what, function()
    assert_served(kept)
    return check()
  end, 20)
end

local function connections(s)
  local sum = 0
  for _, worker in ipairs(s:status().workers) do
    sum = sum + worker.connections
  end
  return sum
end

-- The crowd is there, and so many connections are open.
local function served_while_it_comes(s, kept, many)
  served_until(kept, "the crowd", function()
    return many:is_there()
  end)
  served_until(kept, "all connections", function()
    return connections(s) == IDLE + SLOW + KEPT
  end)
end

-- The crowd goes, and with it what it held.
local function served_when_it_is_gone(s, kept, many)
  many:stop()
  served_until(kept, "the crowd's end", function()
    return connections(s) == KEPT
  end)
end

local function assert_reset(s)
  for _ = 1, OVER do
    assert.same({ "", "reset" }, { s:knock():rest() })
  end
end

-- Two workers, and no timer that ends a slow one unless it is set here.
local function start(set, options)
  set["timeouts.header_wait"] = set["timeouts.header_wait"] or 3600
  set["timeouts.entity_body"] = set["timeouts.entity_body"] or 3600
  options = options or { app = crowd.APP, options = {} }
  table.insert(options.options, "--workers")
  table.insert(options.options, "2")
  return held.start(set, options)
end

describe("In a crowd of 5,000 idle and 200 slow connections", function()
  after_each(function()
    crowd.stop_all()
    held.stop_all()
  end)

  it("server.max_connections is kept, exactly", function()
    local s = start({ ["server.max_connections"] = IDLE + SLOW + KEPT })
    local kept = keep(s)
    assert_served(kept)
    local many = crowd.start(s.server.port, IDLE, SLOW)
    served_while_it_comes(s, kept, many)
    s:await_gauges({ connections = IDLE + SLOW + KEPT - many.heads,
      running = many.bodies + many.unread, queued = 0 })
    assert_reset(s)
    assert_served(kept)
    assert.equal(OVER, s:reason("Connections_Refused", OVER))
    assert.equal(IDLE + SLOW + KEPT, connections(s))
    assert.equal(0, many:gone())
    served_when_it_is_gone(s, kept, many)
    s:await_gauges({ connections = KEPT, running = 0 })
    assert.equal(200, s:connect():get("/").status)
    assert.equal(OVER, s:status().reasons.Connections_Refused)
    assert.equal(0, s:stop())
  end)

  it("an app's max_connections is kept, exactly", function()
    local joined = IDLE + KEPT + SLOW // 3 + (SLOW + 1) // 3 -- a head that is not there does not
    local s = start({ max_connections = joined })
    local kept = keep(s)
    assert_served(kept)
    local many = crowd.start(s.server.port, IDLE, SLOW)
    served_while_it_comes(s, kept, many)
    s:await_gauges({ connections = joined })
    for _ = 1, OVER do
      local more = s:connect()
      held.assert_refused(more:send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), "limited")
      more:close()
    end
    assert_served(kept)
    s:assert_told("ConnLimit", OVER)
    s:await_gauges({ connections = joined })
    assert.equal(0, many:gone())
    served_when_it_is_gone(s, kept, many)
    s:await_gauges({ connections = KEPT })
    assert.equal(200, s:connect():get("/").status)
    assert.equal(OVER, s:status().reasons.ConnLimit)
    assert.equal(0, s:stop())
  end)

  it("an app's queue is kept, exactly, and no other app waits", function()
    local RUNNING, QUEUED = 20, 40 -- of each worker; of both
    local dir = temp.dir()
    local s = start({}, { app = crowd.APP, options = { dir:write("slow.lua", ([[
      local app = require("moonquay").app({ url_prefixes = "http://127.0.0.1:0/slow/",
        max_concurrent_requests = %d, request_queue_limit = %d, http_503_verbosity = "basic" })
      ]]):format(RUNNING, QUEUED) .. crowd.HANDLERS .. "return app") } })
    dir:remove()
    local slow_port = tonumber(s.server.text.stdout:match("http://127%.0%.0%.1:(%d+)/slow/"))
    local kept = keep(s)
    assert_served(kept)
    local idle = crowd.start(s.server.port, IDLE, 0)
    local slow = crowd.start(slow_port, 0, SLOW, "/slow")
    local refused = slow.bodies + slow.unread - 2 * RUNNING - QUEUED
    served_until(kept, "the crowds", function()
      return idle:is_there() and slow:is_there()
        and connections(s) == IDLE + KEPT + SLOW - refused
    end)
    s:await_gauges({ running = 2 * RUNNING, queued = QUEUED,
      connections = 2 * RUNNING + QUEUED }, 2)
    s:await_gauges({ running = 0, queued = 0, connections = IDLE + KEPT }, 1)
    assert.equal(refused, s:reason("QueueFull", refused))
    assert.equal(refused, s:status().apps[2].counters.refused)
    assert_served(kept)
    assert.equal(0, idle:gone())
    idle:stop()
    served_when_it_is_gone(s, kept, slow)
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0, connections = 0 }, 2)
    local connection = s.server:connect()
    assert.equal(200, connection:get("/").status)
    connection:close()
    assert.equal(0, s:stop())
  end)

  it("slow ones end at their timers, exactly, and leave their places", function()
    local s = start({ ["server.max_connections"] = IDLE + SLOW + KEPT,
      ["timeouts.header_wait"] = 5, ["timeouts.entity_body"] = 0.3 })
    local kept = keep(s)
    assert_served(kept)
    local many = crowd.start(s.server.port, IDLE, SLOW)
    local left = IDLE + KEPT + many.unread
    served_until(kept, "the end of the slow ones", function()
      return many:is_there() and many:gone() == many.heads + many.bodies
        and connections(s) == left
    end)
    s:await_gauges({ connections = left, running = many.unread })
    local reasons = s:status().reasons
    assert.equal(many.heads, reasons.Timer_HeaderWait)
    assert.equal(many.bodies, reasons.Timer_EntityBody)
    assert.equal(0, reasons.Connections_Refused)
    local fresh = {}
    for i = 1, many.heads + many.bodies do
      fresh[i] = s:connect()
      assert.equal(200, fresh[i]:get("/").status)
    end
    assert_reset(s)
    assert_served(kept)
    assert.equal(OVER, s:reason("Connections_Refused", OVER))
    assert.equal(IDLE + SLOW + KEPT, connections(s))
    for _, connection in ipairs(fresh) do
      connection:close()
    end
    served_when_it_is_gone(s, kept, many)
    assert.equal(0, s:stop())
  end)
end)
