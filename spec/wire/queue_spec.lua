local await = require("spec.support.await")
local held = require("spec.support.held")

local send, assert_refused = held.send, held.assert_refused

local function names(prefix, count)
  local list = {}
  for i = 1, count do
    list[i] = prefix .. i
  end
  return list
end

describe("requests above max_concurrent_requests", function()
  after_each(held.stop_all)

  it("wait, and are served first come first served", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local list = { s:run("w1") }
    for i = 2, 8 do
      list[i] = s:wait("w" .. i, i - 1)
    end
    s:await_gauges({ running = 1, queued = 7 })
    s:go()
    for i = 1, 8 do
      assert.matches(("^w%d %%d+$"):format(i), list[i]:response().body)
    end
    assert.same(names("w", 8), s:begun())
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(7, s:status().apps[1].counters.enqueued)
    assert.equal(0, s:stop())
  end)

  it("keep their order when they came while the worker was busy", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local list = {}
    for i = 1, 20 do
      list[i] = s:connect()
      list[i]:get("/quick/x")
    end
    local busy = s:connect()
    busy:send("GET /block/0.3 HTTP/1.1\r\nHost: test\r\n\r\n")
    s.server:await("blocked")
    for i = 1, 20 do
      send(list[i], "w" .. i)
    end
    s:go()
    assert.equal("blocked", busy:response().body)
    for i = 1, 20 do
      assert.equal(200, list[i]:response().status)
    end
    assert.same(names("w", 20), s:begun())
    assert.equal(0, s:stop())
  end)

  it("run at once where there is room, and are not counted as waiting", function()
    local s = held.start({ max_concurrent_requests = 2 })
    s:run("a")
    s:run("b")
    assert.equal(0, s:status().apps[1].counters.enqueued)
    s:wait("c", 1)
    assert.equal(1, s:status().apps[1].counters.enqueued)
    s:go()
    assert.equal(0, s:stop())
  end)

  it("leave when their client resets", function()
    local s = held.start({ max_concurrent_requests = 1 })
    local first = s:run("first")
    local list = { s:wait("w1", 1), s:wait("w2", 2), s:wait("w3", 3) }
    list[2]:reset()
    s:await_gauges({ queued = 2, connections = 3 })
    assert.equal(1, s:reason("Client_Reset", 1))
    s:go()
    for name, connection in pairs({ first = first, w1 = list[1], w3 = list[3] }) do
      assert.matches("^" .. name .. " ", connection:response().body)
    end
    assert.same({ "first", "w1", "w3" }, s:begun())
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(1, s:status().reasons.Client_Reset)
    assert.equal(0, s:stop())
  end)

  it("leave when their client resets behind more than is read of it", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("first")
    local large = s:wait("large", 1)
    large:send(("x"):rep(150000))
    large:reset()
    s:await_gauges({ queued = 0, queued_bytes = 0, connections = 1 })
    assert.equal(1, s:reason("Client_Reset", 1))
    s:go()
    assert.equal(0, s:stop())
  end)

  it("are answered when their client only ends its side", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("first")
    local half = s:wait("half", 1)
    half:half_close()
    local whole = s:wait("whole", 2) -- what was sent before is known by then
    s:go()
    assert.matches("^half %d+$", half:response().body)
    assert.equal("", (half:rest()))
    assert.matches("^whole %d+$", whole:response().body)
    assert.equal(0, s:status().reasons.Client_Reset)
    assert.equal(0, s:stop())
  end)

  it("tell their handlers when their client has ended its side meanwhile", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("first")
    local half, whole = s:connect(), s:connect()
    half:send("GET /once HTTP/1.1\r\nHost: h\r\n\r\n")
    s:await_gauges({ queued = 1 })
    half:half_close()
    whole:send("GET /once HTTP/1.1\r\nHost: h\r\n\r\n")
    s:await_gauges({ queued = 2 })
    s:go()
    assert.equal("cancelled", half:response().body)
    assert.equal("went on", whole:response().body)
    assert.equal(0, s:stop())
  end)

  it("may bring content, which waits with them", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("first")
    local sized, chunked, late = s:connect(), s:connect(), s:connect()
    send(sized, "sized", ("s"):rep(100000))
    s:await_gauges({ queued = 1 })
    chunked:send("POST /hold/chunked HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
      ("c350\r\n%s\r\n"):format(("c"):rep(0xc350)):rep(2), "0\r\n\r\n")
    s:await_gauges({ queued = 2 })
    late:send("POST /hold/late HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n",
      "Expect: 100-continue\r\n\r\n")
    s:await_gauges({ queued = 3 })
    assert.is_false(late:readable(0)) -- nobody wants it yet
    s:go()
    assert.matches("^sized %d+ 100000$", sized:response().body)
    assert.matches("^chunked %d+ 100000$", chunked:response().body)
    assert.matches("^HTTP/1.1 100 ", late:read_until("\r\n\r\n"))
    late:send("late")
    assert.matches("^late %d+ 4$", late:response().body)
    -- All three are kept.
    for _, connection in ipairs({ sized, chunked, late }) do
      assert.matches("^again ", connection:get("/quick/again").body)
    end
    assert.equal(0, s:stop())
  end)

  it("hold those up that are pipelined behind them", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("first")
    local connection = s:connect()
    connection:send("GET /hold/w1 HTTP/1.1\r\nHost: h\r\n\r\n",
      "POST /hold/w2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
      "GET /quick/w3 HTTP/1.1\r\nHost: h\r\n\r\n")
    s:await_gauges({ running = 1, queued = 1 })
    local other = s:wait("other", 2)
    assert.equal(3, s:status().apps[1].counters.requests)
    s:go()
    assert.matches("^w1 %d+$", connection:response().body)
    assert.matches("^w2 %d+ 3$", connection:response().body)
    assert.matches("^w3 %d+$", connection:response().body)
    assert.matches("^other ", other:response().body)
    assert.same({ "first", "w1", "other", "w2" }, s:begun())
    assert.equal(0, s:stop())
  end)

  it("may be aborted by their handlers, many in one turn", function()
    local s = held.start({ max_concurrent_requests = 1, max_accepts = 1000 })
    s:run("first")
    local list = {}
    for i = 1, 150 do
      list[i] = s:connect()
      list[i]:send("GET /abort HTTP/1.1\r\nHost: h\r\n\r\n")
    end
    s:await_gauges({ queued = 150 })
    s:go("first")
    for i = 1, 150 do
      assert.equal("", (list[i]:rest()))
    end
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(150, s:status().reasons.Request_Cancelled)
    assert.equal(0, s:stop())
  end)

  it("start at once when it is raised, and wait for less when it is lowered", function()
    local s = held.start({ max_concurrent_requests = 1 })
    s:run("w1")
    for i = 2, 4 do
      s:wait("w" .. i, i - 1)
    end
    s:set("max_concurrent_requests", "3")
    s:await_gauges({ running = 3, queued = 1 })
    assert.same({ "w1", "w2", "w3" }, s:begun())
    s:set("max_concurrent_requests", "1")
    s:go("w2")
    s:await_gauges({ running = 2, queued = 1 })
    s:go("w1")
    s:await_gauges({ running = 1, queued = 1 })
    assert.same({ "w1", "w2", "w3" }, s:begun())
    s:go("w3")
    s.server:await("begun w4")
    s:await_gauges({ running = 1, queued = 0 })
    s:go()
    assert.equal(0, s:stop())
  end)
end)

describe("max_accepts", function()
  after_each(held.stop_all)

  -- /turn answers in which turn of the loop it began.
  local TURNS = held.app():gsub("return app%s*$", [[
    local turn = 0
    moonquay.spawn(function()
      while moonquay.sleep(0) do turn = turn + 1 end
    end)
    app:get("/turn", function()
      local mine = turn
      while not exists("all") do moonquay.sleep(0.01) end
      return tostring(mine)
    end)
    return app]])

  -- max_accepts, and how many of 12 waiting requests begin in one turn at most.
  local cases = { { 1, 1 }, { 5, 5 }, { 100, 12 } }
  for _, case in ipairs(cases) do
    it(("of %d takes so many at a time, and all at last"):format(case[1]), function()
      local s = held.start({ max_concurrent_requests = 1, max_accepts = case[1] }, { app = TURNS })
      s:run("first")
      local list, seen, most = {}, {}, 0
      for i = 1, 12 do
        list[i] = s:connect()
        list[i]:send("GET /turn HTTP/1.1\r\nHost: h\r\n\r\n")
      end
      s:await_gauges({ queued = 12 })
      s:set("max_concurrent_requests", "100")
      s:await_gauges({ queued = 0, running = 13 })
      s:go()
      for i = 1, 12 do
        local turn = list[i]:response().body
        seen[turn] = (seen[turn] or 0) + 1
        most = math.max(most, seen[turn])
      end
      assert.equal(case[2], most)
      assert.equal(0, s:stop())
    end)
  end

  it("of 1 answers all who wait for one handler", function()
    local s = held.start({ max_concurrent_requests = 1, max_accepts = 1 })
    s:run("first")
    local list = {}
    for i = 1, 100 do
      list[i] = s:connect()
      list[i]:send(("GET /quick/%d HTTP/1.1\r\nHost: h\r\n\r\n"):format(i))
    end
    s:await_gauges({ queued = 100 })
    s:go()
    for i = 1, 100 do
      assert.matches(("^%d %%d+$"):format(i), list[i]:response().body)
    end
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(0, s:stop())
  end)

  it("changes while it runs", function()
    local s = held.start({ max_concurrent_requests = 1, max_accepts = 1 }, { app = TURNS })
    s:run("first")
    s:set("max_accepts", "100")
    local list, turns = {}, {}
    for i = 1, 5 do
      list[i] = s:connect()
      list[i]:send("GET /turn HTTP/1.1\r\nHost: h\r\n\r\n")
    end
    s:await_gauges({ queued = 5 })
    s:set("max_concurrent_requests", "100")
    s:go()
    for i = 1, 5 do
      turns[list[i]:response().body] = true
    end
    assert.is_nil(next(turns, (next(turns)))) -- one for all
    assert.equal(0, s:stop())
  end)
end)

describe("timeouts.request_queue", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it(("ends the wait by http_503_verbosity=%s"):format(verbosity), function()
      local s = held.start({
        max_concurrent_requests = 1, ["timeouts.request_queue"] = 0.2,
        http_503_verbosity = verbosity,
      })
      local first = s:run("first")
      local waiting = s:hold("w")
      assert_refused(waiting, verbosity, "no handler was free in time")
      s:assert_told("Timer_ReqQueue", 1)
      s:await_gauges({ running = 1, queued = 0, queued_bytes = 0 })
      s:go()
      assert.matches("^first ", first:response().body)
      assert.same({ "first" }, s:begun())
      assert.equal(0, s:stop())
    end)
  end

  it("ends each wait that is longer when it is lowered", function()
    local s = held.start({ max_concurrent_requests = 1, ["timeouts.request_queue"] = "off" })
    s:run("first")
    local list = { s:wait("w1", 1), s:wait("w2", 2) }
    s:set("timeouts.request_queue", "0.01")
    for i = 1, 2 do
      assert_refused(list[i], "limited")
    end
    s:assert_told("Timer_ReqQueue", 2)
    s:go()
    assert.equal(0, s:stop())
  end)

  it("does not concern requests that run", function()
    local s = held.start({ max_concurrent_requests = 1, ["timeouts.request_queue"] = 0.1 })
    local first = s:run("first")
    for _ = 1, 3 do -- each ends after it
      assert.equal(503, s:hold("w"):response().status)
    end
    assert.is_false(first:readable(0))
    s:go()
    assert.matches("^first ", first:response().body)
    assert.equal(0, s:stop())
  end)
end)

describe("request_queue_limit", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it(("is kept, and told by http_503_verbosity=%s"):format(verbosity), function()
      local s = held.start({
        max_concurrent_requests = 1, request_queue_limit = 2, http_503_verbosity = verbosity,
      })
      local list = { s:run("a"), s:wait("b", 1), s:wait("c", 2) }
      assert_refused(s:hold("d"), verbosity, "too many requests wait for the app")
      assert_refused(s:hold("e"), verbosity, "too many requests wait for the app")
      s:assert_told("QueueFull", 2)
      s:await_gauges({ running = 1, queued = 2 })
      s:go()
      for i, name in ipairs({ "a", "b", "c" }) do
        assert.matches("^" .. name .. " ", list[i]:response().body)
      end
      local counters = s:status().apps[1].counters
      assert.same({ requests = 5, enqueued = 2, refused = 2 }, counters)
      assert.equal(0, s:stop())
    end)
  end

  it("leaves the answers before the refused request alone, also when that is a reset", function()
    local s = held.start({
      max_concurrent_requests = 1, request_queue_limit = 2, http_503_verbosity = "basic",
    })
    s:run("first")
    local connection = s:wait("w1", 1)
    connection:send("GET /hold/w2 HTTP/1.1\r\nHost: h\r\n\r\n")
    s:wait("other", 2)
    s:go("first")
    s.server:await("begun w1")
    s:wait("third", 2)
    s:set("request_queue_limit", "1")
    s:go("w1")
    assert.matches("^w1 ", connection:response().body)
    assert.same({ "", "reset" }, { connection:rest() })
    s:assert_told("QueueFull", 1)
    s:go()
    assert.equal(0, s:stop())
  end)

  it("changes while requests wait", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit = 2 })
    s:run("a")
    local list = { s:wait("b", 1), s:wait("c", 2) }
    assert.equal(503, s:hold("x"):response().status)
    s:set("request_queue_limit", "3")
    list[3] = s:wait("d", 3)
    assert.equal(503, s:hold("x"):response().status)
    s:set("request_queue_limit", "1")
    s:await_gauges({ queued = 3 }) -- who waits goes on waiting
    assert.equal(503, s:hold("x"):response().status)
    s:go("a")
    s:go("b")
    s.server:await("begun c")
    s:await_gauges({ queued = 1 })
    assert.equal(503, s:hold("x"):response().status)
    s:go("c")
    s.server:await("begun d")
    list[4] = s:wait("e", 1)
    s:go()
    for i, name in ipairs({ "b", "c", "d", "e" }) do
      assert.matches("^" .. name .. " ", list[i]:response().body)
    end
    assert.equal(4, s:reason("QueueFull", 4))
    assert.equal(0, s:stop())
  end)

  -- Of two workers: one request runs in each, two wait in each.
  local function fill_both(s, extra)
    local by_pid, a, b = s:connections_of_both(3 + extra)
    local queued = 0
    for i, pid in ipairs({ a, b }) do
      s:run("r" .. i, by_pid[pid][1])
      for n = 2, 3 do
        queued = queued + 1
        s:wait(("w%d_%d"):format(i, n), queued, by_pid[pid][n])
      end
    end
    s:await_gauges({ running = 2, queued = 4 })
    return by_pid, a, b
  end

  it("counts those of all workers", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit = 4 },
      { options = { "--workers", "2" } })
    local by_pid, a, b = fill_both(s, 4)
    for _, pid in ipairs({ a, b }) do
      assert.equal(503, send(by_pid[pid][4], "x"):response().status)
    end
    s:go("r1")
    s:await_gauges({ queued = 3, running = 2 })
    s:wait("more", 4, by_pid[b][5]) -- the place is free in the other worker
    for _, pid in ipairs({ a, b }) do
      assert.equal(503, send(by_pid[pid][6], "x"):response().status)
    end
    s:assert_told("QueueFull", 4)
    s:go()
    for n, name in ipairs({ "r1", "w1_2", "w1_3" }) do
      assert.equal(("%s %d"):format(name, a), by_pid[a][n]:response().body)
    end
    for n, name in pairs({ "r2", "w2_2", "w2_3", nil, "more" }) do
      assert.equal(("%s %d"):format(name, b), by_pid[b][n]:response().body)
    end
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(0, s:stop())
  end)

  it("has exactly the places again that a killed worker held", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit = 4 },
      { options = { "--workers", "2" } })
    local by_pid, a, b = fill_both(s, 4)
    s:kill_worker(a)
    s:await_gauges({ running = 1, queued = 2, connections = 7 })
    for n = 1, 3 do
      assert.equal("", (by_pid[a][n]:rest()))
    end
    s:wait("w4", 3, by_pid[b][4])
    s:wait("w5", 4, by_pid[b][5])
    for n = 6, 7 do
      assert.equal(503, send(by_pid[b][n], "x"):response().status)
      by_pid[b][n]:close()
    end
    assert.equal(2, s:reason("QueueFull", 2))
    s:await_gauges({ running = 1, queued = 4, connections = 5 })
    s:go()
    for n, name in ipairs({ "r2", "w2_2", "w2_3", "w4", "w5" }) do
      assert.equal(("%s %d"):format(name, b), by_pid[b][n]:response().body)
    end
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0, connections = 5 })
    s:stop()
  end)
end)

describe("request_queue_limit_bytes", function()
  after_each(held.stop_all)

  -- 16 KiB for content that may come, and the head.
  local POST, GET = 16384 + #"POST /hold/b HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n",
    #"GET /hold/b HTTP/1.1\r\nHost: test\r\n\r\n"

  it("counts heads, and room for content", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit_bytes = "64KiB" })
    s:run("a")
    local list = {}
    for i = 1, 3 do
      list[i] = send(s:connect(), "b", "1")
      s:await_gauges({ queued = i, queued_bytes = i * POST })
    end
    assert.equal(503, send(s:connect(), "x", "1"):response().status)
    s:assert_told("QueueFull", 1)
    list[4] = s:wait("b", 4) -- smaller: it fits
    s:await_gauges({ queued_bytes = 3 * POST + GET })
    s:set("request_queue_limit_bytes", "'128KiB'")
    for i = 5, 7 do
      list[i] = send(s:connect(), "b", "1")
      s:await_gauges({ queued = i })
    end
    list[2]:reset()
    s:await_gauges({ queued = 6, queued_bytes = 5 * POST + GET })
    s:go()
    for i, connection in ipairs(list) do
      if i ~= 2 then
        assert.matches("^b ", connection:response().body)
      end
    end
    s:await_gauges({ queued = 0, queued_bytes = 0 })
    assert.equal(0, s:stop())
  end)

  it("counts those of all workers, and no longer a killed one's", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit_bytes = "64KiB" },
      { options = { "--workers", "2" } })
    local by_pid, a, b = s:connections_of_both(6)
    s:run("r1", by_pid[a][1])
    s:run("r2", by_pid[b][1])
    send(by_pid[a][2], "b", "1")
    s:await_gauges({ queued_bytes = POST })
    send(by_pid[b][2], "b", "1")
    s:await_gauges({ queued_bytes = 2 * POST })
    send(by_pid[a][3], "b", "1")
    s:await_gauges({ queued_bytes = 3 * POST })
    for _, pid in ipairs({ a, b }) do
      assert.equal(503, send(by_pid[pid][4], "x", "1"):response().status)
    end
    s:kill_worker(a)
    s:await_gauges({ queued_bytes = POST, queued = 1 })
    send(by_pid[b][5], "b", "1")
    s:await_gauges({ queued_bytes = 2 * POST })
    send(by_pid[b][6], "b", "1")
    s:await_gauges({ queued_bytes = 3 * POST, queued = 3 })
    s:go()
    for _, n in ipairs({ 1, 2, 5, 6 }) do
      assert.equal(200, by_pid[b][n]:response().status)
    end
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    s:stop()
  end)
end)

describe("a burst beyond every limit", function()
  after_each(held.stop_all)

  -- The number that a request's id ends with: they are given as requests come.
  local function number_of(line)
    return tonumber(line:match(" request=%x+%-(%x+)"), 16)
  end

  local function numbers(s, pattern)
    local list = {}
    for line in s:stderr():gmatch("[^\n]+") do
      if line:find(pattern) then
        list[#list + 1] = number_of(line)
      end
    end
    return list
  end

  it("is refused in order while those who were admitted finish in order", function()
    local s = held.start({ max_concurrent_requests = 4, request_queue_limit = 50 })
    local list = {}
    for i = 1, 400 do
      list[i] = s:connect()
    end
    for i = 1, 400 do
      send(list[i], "w" .. i)
    end
    s:await_gauges({ running = 4, queued = 50 })
    assert.equal(346, s:reason("QueueFull", 346))
    s:go()
    local statuses = { [200] = 0, [503] = 0 }
    for i = 1, 400 do
      local status = list[i]:response().status
      statuses[status] = statuses[status] + 1
    end
    assert.same({ [200] = 54, [503] = 346 }, statuses)
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    await("all lines", function()
      return #numbers(s, "request_refused .*reason=QueueFull") == 346
    end)
    local begun = numbers(s, "begun w")
    local refused = numbers(s, "request_refused .*reason=QueueFull")
    assert.equal(54, #begun)
    for _, order in ipairs({ begun, refused }) do
      for i = 2, #order do
        assert.is_true(order[i - 1] < order[i], i)
      end
    end
    assert.is_true(begun[54] < refused[1])
    assert.equal(0, s:stop())
  end)

  it("is refused exactly, whichever worker it comes to", function()
    local s = held.start({ max_concurrent_requests = 4, request_queue_limit = 10 },
      { options = { "--workers", "2" } })
    local by_pid, a, b = s:connections_of_both(40)
    local list = table.move(by_pid[b], 1, 40, 41, by_pid[a])
    for i = 1, 80 do
      send(list[i % 2 * 40 + (i + 1) // 2], "w" .. i)
    end
    assert.equal(62, s:reason("QueueFull", 62))
    s:await_gauges({ running = 8, queued = 10 })
    s:go()
    local served = 0
    for i = 1, 80 do
      served = served + (list[i]:response().status == 200 and 1 or 0)
    end
    assert.equal(18, served)
    s:await_gauges({ running = 0, queued = 0, queued_bytes = 0 })
    assert.equal(62, s:status().reasons.QueueFull)
    assert.equal(0, s:stop())
  end)
end)
