local await = require("spec.support.await")
local held = require("spec.support.held")

local assert_refused = held.assert_refused

local function quick(connection, path)
  return connection:send(("GET %s HTTP/1.1\r\nHost: test\r\n\r\n"):format(path or "/quick/x"))
end

-- Whether a connection of its own gets an answer; it is closed.
local function admits(s, path)
  local connection = s.server:connect()
  local status = connection:get(path or "/quick/x").status
  connection:close()
  return status == 200
end

-- A kept connection that counts.
local function join(s, number)
  local connection = s:connect()
  assert.equal(200, connection:get("/quick/x").status)
  if number then
    s:await_gauges({ connections = number })
  end
  return connection
end

describe("max_connections", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it(("is kept, and told by http_503_verbosity=%s"):format(verbosity), function()
      local s = held.start({ max_connections = 2, http_503_verbosity = verbosity })
      local list = { join(s), join(s) }
      for _ = 1, 2 do
        assert_refused(quick(s:connect()), verbosity, "too many connections to the app")
      end
      s:assert_told("ConnLimit", 2)
      s:await_gauges({ connections = 2 })
      for i = 1, 2 do -- those who were there go on
        assert.equal(200, list[i]:get("/quick/x").status)
      end
      assert.same({ requests = 6, enqueued = 0, refused = 2 }, s:status().apps[1].counters)
      assert.equal(0, s:stop())
    end)
  end

  it("is exact in a burst over two workers, again and again", function()
    local s = held.start({ max_connections = 10 }, { options = { "--workers", "2" } })
    for round = 1, 5 do
      local list, admitted = {}, 0
      for i = 1, 40 do
        list[i] = s.server:connect()
      end
      for i = 1, 40 do
        held.send(list[i], "r" .. round)
      end
      assert.equal(30 * round, s:reason("ConnLimit", 30 * round))
      s:await_gauges({ connections = 10, running = 10 })
      s:go("r" .. round)
      for i = 1, 40 do
        local status = list[i]:response().status
        admitted = admitted + (status == 200 and 1 or 0)
        list[i]:close()
      end
      assert.equal(10, admitted)
      s:await_gauges({ connections = 0, running = 0 })
    end
    s:assert_told("ConnLimit", 150)
    assert.equal(0, s:stop())
  end)

  it("counts idle connections until they close, and none that sent nothing", function()
    local s = held.start({ max_connections = 2 })
    local silent = s:connect()
    local list = { join(s, 1), join(s, 2) }
    assert.is_false(admits(s))
    list[1]:close()
    s:await_gauges({ connections = 1 })
    assert.equal(200, silent:get("/quick/x").status)
    s:await_gauges({ connections = 2 })
    assert.is_false(admits(s))
    list[2]:reset()
    s:await_gauges({ connections = 1 })
    list[3] = s:connect()
    assert.equal("close", list[3]:get("/quick/x", { Connection = "close" }).headers.connection)
    assert.is_true(list[3]:closed())
    list[3]:close()
    s:await_gauges({ connections = 1 })
    assert.equal(2, s:reason("ConnLimit", 2))
    assert.equal(0, s:stop())
  end)

  it("counts a connection once, whatever it asks for", function()
    local s = held.start({ max_connections = 1 })
    local connection = join(s, 1)
    for _ = 1, 5 do
      assert.equal(200, connection:get("/quick/x").status)
    end
    quick(connection)
    quick(connection)
    assert.equal(200, connection:response().status)
    assert.equal(200, connection:response().status)
    s:await_gauges({ connections = 1 })
    assert.equal(0, s:stop())
  end)

  it("leaves the connections alone that are there when it is lowered", function()
    local s = held.start({ max_connections = 3 })
    local list = { join(s, 1), join(s, 2), join(s, 3) }
    s:set("max_connections", "1")
    for i = 1, 3 do
      assert.equal(200, list[i]:get("/quick/x").status)
    end
    assert.is_false(admits(s))
    list[1]:close()
    list[2]:close()
    s:await_gauges({ connections = 1 })
    assert.is_false(admits(s))
    list[3]:close()
    s:await_gauges({ connections = 0 })
    assert.is_true(admits(s))
    assert.equal(0, s:stop())
  end)

  it("admits at once when it is raised", function()
    local s = held.start({ max_connections = 1 })
    join(s, 1)
    assert.is_false(admits(s))
    s:set("max_connections", "3")
    join(s, 2)
    join(s, 3)
    assert.is_false(admits(s))
    assert.equal(0, s:stop())
  end)

  it("counts those that came before it was set", function()
    local s = held.start({})
    local list = { join(s, 1), join(s, 2) }
    s:set("max_connections", "2")
    assert.is_false(admits(s))
    list[1]:close()
    s:await_gauges({ connections = 1 })
    assert.is_true(admits(s))
    assert.equal(0, s:stop())
  end)

  local NONE = { "-1", "'unlimited'", "require('moonquay').UNLIMITED", "'none'", "nil" }
  for _, none in ipairs(NONE) do
    it("has no limit as " .. none, function()
      local s = held.start({ max_connections = 0 })
      assert.is_false(admits(s))
      s:set("max_connections", none)
      for i = 1, 20 do
        join(s, i)
      end
      s:set("max_connections", "0")
      assert.is_false(admits(s))
      s:await_gauges({ connections = 20 })
      assert.equal(0, s:stop())
    end)
  end

  it("has exactly the places again that a killed worker held", function()
    local s = held.start({}, { options = { "--workers", "2" } })
    local by_pid, a, b = s:connections_of_both(3)
    s:set("max_connections", "6")
    s:await_gauges({ connections = 6 })
    assert.is_false(admits(s))
    for round = 1, 3 do
      s:kill_worker(a)
      for _, connection in ipairs(by_pid[a]) do
        assert.equal("", (connection:rest()))
      end
      s:await_gauges({ connections = 3 })
      -- Which worker has them does not matter, but the next to be killed has some of its own.
      local pids = await("a new worker", function()
        local pids = s.server:workers()
        return #pids == 2 and s:status().workers[1].state == "serving" and
          s:status().workers[2].state == "serving" and pids
      end)
      local next_a = pids[1] == b and pids[2] or pids[1]
      by_pid[next_a] = {}
      await("its connections", function()
        local connection = s:connect()
        local pid = tonumber(connection:get("/quick/x").body:match("x (%d+)$"))
        if pid == next_a then
          table.insert(by_pid[next_a], connection)
        else
          connection:close()
          s:await_gauges({ connections = 3 + #by_pid[next_a] })
        end
        return #by_pid[next_a] == 3
      end)
      s:await_gauges({ connections = 6 })
      for _ = 1, 4 do
        assert.is_false(admits(s))
      end
      assert.equal(1 + 4 * round, s:reason("ConnLimit", 1 + 4 * round))
      a = next_a
    end
    for _, connection in ipairs(by_pid[b]) do
      assert.equal("x " .. b, connection:get("/quick/x").body)
    end
    s:stop()
  end)

  describe("of two apps", function()
    local s, port

    before_each(function()
      local dir = require("spec.support.temp").dir()
      s = held.start({}, { options = { dir:write("b.lua",
        held.app("b", "url_prefixes = 'http://127.0.0.1:0/b/', max_connections = 1")) } })
      dir:remove()
      port = tonumber(s.server.text.stdout:match("http://127.0.0.1:(%d+)/b/"))
      s:set("listen", ("'http://127.0.0.1:%d/a/'"):format(port))
      s.server.port = port
    end)

    it("is counted for each that a connection has used", function()
      local first = s:connect()
      assert.matches("^x ", first:get("/a/quick/x").body)
      s:await_gauges({ connections = 1 }, 1)
      s:await_gauges({ connections = 0 }, 2)
      assert.equal(200, first:get("/b/quick/x").status)
      s:await_gauges({ connections = 1 }, 1)
      s:await_gauges({ connections = 1 }, 2)
      local second = s:connect()
      assert.equal(200, second:get("/a/quick/x").status)
      s:await_gauges({ connections = 2 }, 1)
      assert_refused(quick(second, "/b/quick/x"), "limited")
      s:assert_told("ConnLimit", 1)
      second:close()
      s:await_gauges({ connections = 1 }, 1)
      assert.equal(200, first:get("/a/quick/x").status)
      assert.equal(200, first:get("/b/quick/x").status)
      first:close()
      s:await_gauges({ connections = 0 }, 1)
      s:await_gauges({ connections = 0 }, 2)
      assert.is_true(admits(s, "/b/quick/x"))
      local apps = s:status().apps
      assert.equal(0, apps[1].counters.refused)
      assert.equal(1, apps[2].counters.refused)
      assert.equal(0, s:stop())
    end)

    it("is full for one and not for the other, as are their queues", function()
      s:set("max_connections", "'none'", "b")
      s:set("max_concurrent_requests", "1", "b")
      s:set("request_queue_limit", "1", "b")
      local list = {}
      for i = 1, 2 do
        list[i] = quick(s:connect(), "/b/hold/w" .. i)
        s:await_gauges({ running = 1, queued = i - 1 }, 2)
      end
      assert_refused(quick(s:connect(), "/b/hold/x"), "limited")
      assert.equal(200, s:connect():get("/a/quick/x").status)
      s:await_gauges({ running = 0, queued = 0 }, 1)
      s:go()
      for i = 1, 2 do
        assert.matches("^w" .. i, list[i]:response().body)
      end
      assert.equal(0, s:stop())
    end)
  end)
end)

describe("server.max_connections", function()
  after_each(held.stop_all)

  local function connections(s)
    local sum = 0
    for _, worker in ipairs(s:status().workers) do
      sum = sum + worker.connections
    end
    return sum
  end

  local function await_connections(s, count)
    await(count .. " connections", function()
      return connections(s) == count
    end)
  end

  it("resets what is above it without a word", function()
    local s = held.start({ ["server.max_connections"] = 2, http_503_verbosity = "full" })
    local list = { s:connect(), s:connect() }
    await_connections(s, 2)
    local third = s:knock()
    assert.same({ "", "reset" }, { third:rest() })
    assert.equal(1, s:reason("Connections_Refused", 1))
    s.server:await("connection_refused [^\n]*reason=Connections_Refused peer=127%.0%.0%.1:%d+\n")
    assert.is_nil(s:stderr():find("request_refused", 1, true))
    assert.equal(200, list[2]:get("/quick/x").status)
    list[1]:close()
    await_connections(s, 1)
    assert.equal(200, s:connect():get("/quick/x").status)
    assert.equal(0, s:stop())
  end)

  it("is exact in a burst over two workers, again and again", function()
    local s = held.start({ ["server.max_connections"] = 10 }, { options = { "--workers", "2" } })
    for round = 1, 5 do
      local list, refused = {}, 0
      for i = 1, 40 do
        list[i] = s:knock()
      end
      assert.equal(30 * round, s:reason("Connections_Refused", 30 * round))
      await_connections(s, 10)
      for i = 1, 40 do
        if list[i]:readable(0) then
          assert.equal("", (list[i]:rest()))
          refused = refused + 1
        else
          assert.equal(200, list[i]:get("/quick/x").status)
        end
        list[i]:close()
      end
      assert.equal(30, refused)
      await_connections(s, 0)
    end
    assert.equal(0, s:stop())
  end)

  it("has exactly the places again that a killed worker held", function()
    local s = held.start({}, { options = { "--workers", "2" } })
    local by_pid, a, b = s:connections_of_both(3)
    s:set("server.max_connections", "6")
    await_connections(s, 6)
    s:kill_worker(a)
    await_connections(s, 3)
    local list, refused = {}, 0
    for i = 1, 10 do
      list[i] = s:knock()
    end
    assert.equal(7, s:reason("Connections_Refused", 7))
    await_connections(s, 6)
    for i = 1, 10 do
      refused = refused + (list[i]:readable(0) and 1 or 0)
    end
    assert.equal(7, refused)
    assert.equal("x " .. b, by_pid[b][1]:get("/quick/x").body)
    s:stop()
  end)

  it("changes while it runs", function()
    local s = held.start({ ["server.max_connections"] = 1 })
    local first = join(s)
    assert.same({ "", "reset" }, { s:knock():rest() })
    s:set("server.max_connections", "3")
    local second, third = join(s), join(s)
    assert.same({ "", "reset" }, { s:knock():rest() })
    s:set("server.max_connections", "1")
    for _, connection in ipairs({ first, second, third }) do
      assert.equal(200, connection:get("/quick/x").status)
    end
    first:close()
    second:close()
    await_connections(s, 1)
    assert.same({ "", "reset" }, { s:knock():rest() })
    s:set("server.max_connections", "'unlimited'")
    for _ = 1, 5 do
      join(s)
    end
    s:set("server.max_connections", "-1")
    join(s)
    assert.equal(3, s:reason("Connections_Refused", 3))
    assert.equal(0, s:stop())
  end)
end)

describe("an app with enabled = false", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it(("is told by http_503_verbosity=%s, and can come back"):format(verbosity), function()
      local s = held.start({ http_503_verbosity = verbosity })
      local running = s:run("r")
      s:set("enabled", "false")
      assert.equal("disabled", s:status().apps[1].state)
      assert_refused(quick(s:connect()), verbosity, "the app is disabled")
      s:assert_told("Disabled", 1)
      s:set("enabled", "true")
      assert.is_true(admits(s))
      s:go()
      assert.matches("^r ", running:response().body) -- it was let in before
      assert.equal(1, s:status().reasons.Disabled)
      assert.equal(0, s:stop())
    end)
  end
end)

describe("an app with authentication.allow_anonymous = false", function()
  after_each(held.stop_all)

  for _, verbosity in ipairs(held.verbosities) do
    it("answers 401, also with http_503_verbosity=" .. verbosity, function()
      local s = held.start({
        ["authentication.allow_anonymous"] = false, http_503_verbosity = verbosity,
      })
      assert.equal(401, quick(s:connect()):response().status)
      s:assert_told("AuthRequired", 1, 401)
      assert.is_nil(s:stderr():find("status=503", 1, true))
      s:set("authentication.allow_anonymous", "true")
      assert.is_true(admits(s))
      assert.equal(0, s:stop())
    end)
  end
end)

-- All are reached at the same time; each answers until it is lifted (reference section 18.1).
describe("limits that are all reached", function()
  after_each(held.stop_all)

  it("answer in the order of the reference", function()
    local s = held.start({ max_concurrent_requests = 1, request_queue_limit = 1 })
    local first, second = s:run("first"), s:wait("second", 1)
    s:set("max_connections", "2")
    s:set("authentication.allow_anonymous", "false")
    s:set("enabled", "false")
    s:set("server.max_connections", "2")

    local function seen(text)
      local connection = s:connect()
      connection:send(text or "GET /quick/x HTTP/1.1\r\nHost: h\r\n\r\n")
      local status = connection:response().status
      connection:close()
      s:await_gauges({ connections = 2 })
      return status
    end

    assert.same({ "", "reset" }, { s:knock():rest() })
    s:set("server.max_connections", "'unlimited'")
    assert.equal(400, seen("GET /quick/x HTTP/1.1\r\nHost: h h\r\n\r\n"))
    assert.equal(503, seen())
    assert.equal(1, s:reason("Disabled", 1))
    s:set("enabled", "true")
    assert.equal(503, seen())
    assert.equal(1, s:reason("ConnLimit", 1))
    s:set("max_connections", "3")
    assert.equal(401, seen())
    assert.equal(1, s:reason("AuthRequired", 1))
    s:set("authentication.allow_anonymous", "true")
    assert.equal(503, seen())
    assert.equal(1, s:reason("QueueFull", 1))
    local reasons = s:status().reasons
    for name, count in pairs({ Connections_Refused = 1, Hostname = 1, Disabled = 1, ConnLimit = 1,
      AuthRequired = 1, QueueFull = 1, Client_Reset = 0, AppOffline = 0, AppShutdown = 0 }) do
      assert.equal(count, reasons[name], name)
    end
    s:go()
    assert.matches("^first ", first:response().body)
    assert.matches("^second ", second:response().body)
    assert.equal(0, s:stop())
  end)
end)

describe("limits of a head", function()
  after_each(held.stop_all)

  local LINE, HEAD = "GET /quick/x HTTP/1.1\r\n", "GET /quick/x HTTP/1.1\r\nHost: h\r\n"
  -- What has come, the limit that is lowered, what comes then; the reason, 414 or 431.
  local cases = {
    { "head, below what has come", HEAD .. ("X: " .. ("a"):rep(95) .. "\r\n"):rep(10),
      "max_request_head_bytes", "256", "\r\n", "RequestLength", 431 },
    { "head, in the middle of a line", HEAD .. "X: " .. ("a"):rep(500), "max_request_head_bytes",
      "256", "a\r\n\r\n", "RequestLength", 431 },
    { "head, in empty lines before it", ("\r\n"):rep(300), "max_request_head_bytes", "256", HEAD ..
      "\r\n", "RequestLength", 431 },
    { "field", HEAD .. "X: " .. ("a"):rep(500), "max_field_length", "64", "a\r\n\r\n",
      "FieldLength", 431 },
    { "number of fields", HEAD .. "X: a\r\nX: a\r\n", "max_fields", "2", "X: a\r\n\r\n",
      "FieldLength", 431 },
    { "target", "GET /" .. ("a"):rep(500), "max_target_bytes", "16", " HTTP/1.1\r\n\r\n",
      "URL_Length", 414 },
  }
  for _, case in ipairs(cases) do
    it(("hold for one that is on its way: a lower one of the %s"):format(case[1]), function()
      local s = held.start({})
      local connection = s:connect()
      connection:send(case[2])
      s:set(case[3], case[4])
      pcall(connection.send, connection, case[5])
      assert.equal(case[7], connection:response().status)
      s:assert_told(case[6], 1, case[7])
      assert.equal(0, s:stop())
    end)
  end

  it("hold for the next request when they are raised", function()
    local s = held.start({ max_fields = 2 })
    local text = LINE .. "Host: h\r\nX: a\r\nX: b\r\n\r\n"
    assert.equal(431, s:connect():send(text):response().status)
    s:set("max_fields", "3")
    assert.equal(200, s:connect():send(text):response().status)
    s:assert_told("FieldLength", 1, 431)
    assert.equal(0, s:stop())
  end)
end)
