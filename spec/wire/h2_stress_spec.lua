-- Random clients of HTTP/2, with and without TLS, over the app of random handlers: the server goes
-- on as before, keeps nothing of them, and loses no request of a client that keeps the rules; also
-- when it is stopped amid them.
local await = require("spec.support.await")
local localhost = require("spec.support.localhost")
local peer = require("spec.support.peer")
local probe = require("moonquay.probe").server
local server = require("spec.support.server")

-- MOONQUAY_SEED repeats a run, MOONQUAY_STEPS makes it longer.
local SEED = tonumber(os.getenv("MOONQUAY_SEED")) or os.time()
local STEPS = tonumber(os.getenv("MOONQUAY_STEPS")) or 12000

describe("A server under random clients of HTTP/2", function()
  local store
  setup(function()
    store = localhost.new()
  end)
  teardown(function()
    store:remove()
  end)
  after_each(server.stop_all)

  local function start(seed)
    local binding = store:words()
    local words = { "--urls", "http://127.0.0.1:0," .. binding[2], "--set", binding[4],
      "--error-log", "/dev/null" }
    for _, pair in ipairs({ "h2.cleartext=true", "max_concurrent_requests=40", "cpu_limit=0.1",
      "memory_limit=8MiB", "timeouts.cancel=0.2", "timeouts.entity_body=1",
      "timeouts.header_wait=5", "timeouts.idle_connection=5", "timeouts.drain_entity_body=1",
      "timeouts.handler=0.7", "h2.max_resets=900", "h2.max_settings=900", "h2.max_pings=900",
      "h2.max_other_frames=100000", "h2.max_concurrent_streams=" .. (seed % 3 == 0 and 3 or 20),
      "h2.stream_window_bytes=" .. (seed % 2 == 0 and 1024 or 65535),
      "h2.header_table_bytes=" .. (seed % 5 == 0 and 0 or 4096), "drain=10" }) do
      table.move({ "--set", pair }, 1, 2, #words + 1, words)
    end
    local s = server.start({ path = "spec/support/stress_app.lua", options = words })
    s.tls_port = binding[2]:match("%d+$")
    return s
  end

  local function clients(s, seed)
    return peer.start({ "env", "PYTHONPATH=spec/support", "/usr/bin/python3", "-B",
      "spec/support/h2_stress.py", tostring(s.port), s.tls_port, tostring(seed), tostring(STEPS) })
  end

  -- Answers that the random ones got, that the good ones got, and that these did not get.
  local function counts(result)
    assert(result.exit == 0, result.stderr)
    local answers, got, lost = result.stdout:match("^(%d+) (%d+) (%d+)\n$")
    return tonumber(answers), tonumber(got), tonumber(lost)
  end

  it("is as before behind them (seed " .. SEED .. ")", function()
    local s = start(SEED)
    local workers = s:workers()
    local answers, got, lost = counts(clients(s, SEED):ended(120))
    assert.is_true(answers > 50 and got > 50, "hardly any request got through")
    assert.equal(0, lost)
    local tally
    local idle = pcall(await, "an idle server", function()
      tally = probe.tally_attach("/proc/" .. workers[1] .. "/fd/4")
      return tally and tally.connections == 0 and tally.requests == 0 and tally.tasks == 0
    end, 20)
    assert.same(workers, s:workers())
    assert(idle, ("connections %d, requests %d, tasks %d"):format(
      tally.connections, tally.requests, tally.tasks))
    assert.equal("ok", s:get("/ok").body)
    assert.equal(0, s:stop())
  end)

  it("stops amid them (seed " .. SEED .. ")", function()
    local s = start(SEED + 1)
    local workers = s:workers()
    local running = clients(s, SEED + 1)
    await("some requests", function()
      assert.is_nil(running:ended(0.01), "the clients ended too soon")
      local tally = probe.tally_attach("/proc/" .. workers[1] .. "/fd/4")
      return tally and tally.served > 300
    end)
    assert.same(workers, s:workers())
    assert.equal(0, s:stop())
    local _, got, lost = counts(running:ended(60))
    assert.is_true(got > 10)
    assert.equal(0, lost)
  end)
end)
