local await = require("spec.support.await")
local held = require("spec.support.held")

local assert_refused = held.assert_refused

describe("a stop (reference section 20)", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it(("ends those who wait by http_503_verbosity=%s and lets those who run finish"):format(
      verbosity), function()
      local s = held.start({ max_concurrent_requests = 2, http_503_verbosity = verbosity })
      local running = { s:run("r1"), s:run("r2") }
      local waiting = { s:wait("w1", 1), s:wait("w2", 2), s:wait("w3", 3) }
      s:term()
      for i = 1, 3 do
        assert_refused(waiting[i], verbosity, "the server is stopping")
      end
      s:assert_told("AppShutdown", 3)
      s:await_gauges({ running = 2, queued = 0, queued_bytes = 0 })
      assert.equal("stopping", s:status().state)
      for i = 1, 2 do
        assert.is_false(running[i]:readable(0))
      end
      s:go()
      for i = 1, 2 do
        local response = running[i]:response()
        assert.matches(("^r%d "):format(i), response.body)
        assert.equal("close", response.headers.connection)
        assert.is_true(running[i]:closed())
      end
      assert.same({ "r1", "r2" }, s:begun())
      assert.same({ exit = 0 }, s.server:wait(10))
      assert.is_nil(s:stderr():find("drain_over", 1, true))
      assert.equal(0, s:stop())
    end)
  end

  it("concerns the queues of all workers", function()
    local s = held.start({ max_concurrent_requests = 1 }, { options = { "--workers", "2" } })
    local by_pid, a, b = s:connections_of_both(3)
    for i, pid in ipairs({ a, b }) do
      s:run("r" .. i, by_pid[pid][1])
      s:wait("w", 2 * i - 1, by_pid[pid][2])
      s:wait("w", 2 * i, by_pid[pid][3])
    end
    s:term()
    for _, pid in ipairs({ a, b }) do
      assert_refused(by_pid[pid][2], "limited")
      assert_refused(by_pid[pid][3], "limited")
    end
    s:assert_told("AppShutdown", 4)
    s:go()
    assert.equal("r1 " .. a, by_pid[a][1]:response().body)
    assert.equal("r2 " .. b, by_pid[b][1]:response().body)
    assert.same({ exit = 0 }, s.server:wait(10))
    assert.equal(0, s:stop())
  end)

  it("answers one that waits with content, whatever of it has come", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local first = s:run("first")
    local whole, part, expecting = s:connect(), s:connect(), s:connect()
    held.send(whole, "whole", ("w"):rep(50000))
    part:send("POST /hold/part HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
    expecting:send("POST /hold/late HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n",
      "Expect: 100-continue\r\n\r\n")
    s:await_gauges({ queued = 3 })
    s:term()
    for _, connection in ipairs({ whole, part, expecting }) do
      local response = connection:response()
      assert.equal(503, response.status)
      assert.equal(0, #response.interim)
      assert.is_true(connection:closed())
      connection:close()
    end
    s:assert_told("AppShutdown", 3)
    s:go()
    assert.matches("^first ", first:response().body)
    assert.equal(0, s:stop())
  end)

  it("answers no request behind one that waited or ran", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local running, waiting = s:run("r"), s:wait("w", 1)
    for _, connection in ipairs({ running, waiting }) do
      connection:send("GET /hold/late HTTP/1.1\r\nHost: h\r\n\r\n")
    end
    s:wait("last", 2) -- what was sent before is known by then
    s:term()
    assert_refused(waiting, "limited")
    s:go()
    local response = running:response()
    assert.matches("^r ", response.body)
    assert.equal("close", response.headers.connection)
    assert.is_true(running:closed())
    assert.same({ "r" }, s:begun())
    running:close()
    waiting:close()
    assert.equal(0, s:stop())
  end)

  it("refuses a request that comes later and would have to wait", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local running, waiting, late = s:run("r"), s:hold("w"), s:connect()
    s:await_gauges({ queued = 1 })
    await("its connection", function()
      return s:status().workers[1].connections == 3
    end)
    s:term()
    assert_refused(waiting, "limited") -- from here on the worker stops
    held.send(late, "late")
    assert_refused(late, "limited")
    s:assert_told("AppShutdown", 2)
    s:go()
    assert.matches("^r ", running:response().body)
    assert.same({ "r" }, s:begun())
    assert.equal(0, s:stop())
  end)

  it("cuts what runs when drain is over, and says why", function()
    local dir = require("spec.support.temp").dir()
    local s = held.start({
      max_concurrent_requests = 1, drain = 0.3, http_error_log = dir.path .. "/http_error.log",
    })
    local running, waiting = s:run("r"), s:wait("w", 1)
    s:term()
    assert_refused(waiting, "limited")
    assert.same({ "", "reset" }, { running:rest() })
    assert.same({ exit = 0 }, s.server:wait(10))
    assert.truthy(s:stderr():find("drain_over", 1, true))
    local lines = {}
    for _, name in ipairs(require("moonquay.probe").sys.list(dir.path)) do
      for path, status in dir:read(name):gmatch("GET (/hold/%w+) %- (%S+) %- AppShutdown") do
        lines[path] = status
      end
    end
    assert.same({ ["/hold/w"] = "503", ["/hold/r"] = "-" }, lines)
    assert.equal(0, s:stop())
    dir:remove()
  end)

  it("does not wait for the drain time for clients that keep their side open", function()
    local s = held.start({ drain = 4, enabled = false })
    local refused = {}
    for i = 1, 3 do
      refused[i] = s:connect()
      refused[i]:send("GET /quick/x HTTP/1.1\r\nHost: h\r\n\r\n")
      assert_refused(refused[i], "limited")
    end
    s:term()
    assert.same({ exit = 0 }, s.server:wait(10))
    assert.is_nil(s:stderr():find("drain_over", 1, true))
    assert.equal(0, s:stop())
  end)

  it("keeps the places of connections exact to its end", function()
    local s = held.start({ max_connections = 2, max_concurrent_requests = 1 })
    local running, waiting = s:run("r"), s:wait("w", 1)
    s:term()
    assert_refused(waiting, "limited")
    waiting:close()
    s:await_gauges({ connections = 1, running = 1, queued = 0 })
    s:go()
    assert.matches("^r ", running:response().body)
    assert.equal(0, s:stop())
  end)
end)
