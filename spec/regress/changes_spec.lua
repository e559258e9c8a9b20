local await = require("spec.support.await")
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
app:get("/long/:key", function(req)
  local key, value = req.params.key, ("x"):rep(17 << 20)
  if key == "listen" then -- app:listen looks at it first
    return tostring((require("moonquay.core").ask(key, "url_prefixes", value)))
  end
  local ok = pcall(function()
    if key == "key" then app.settings[value] = 1 else app.settings[key] = value end
  end)
  return ok and "set" or "nil"
end)
app:post("/last", function(req)
  moonquay.log.info("the last one runs")
  assert(req.body:read("a")) -- which comes when the server stops
  local ok, err = pcall(function() app.settings.max_accepts = 99 end)
  local list = { tostring(err), app.settings.max_accepts }
  for _, name in ipairs({ "listen", "unlisten" }) do
    local _, wrong = app[name](app, app.addresses[1])
    list[#list + 1] = tostring(wrong)
  end
  return table.concat(list, "\n")
end)
app:get("/ports", function()
  for i = 1, 100 do
    local ok, err = app:listen("http://127.0.0.1:0/")
    if not ok then return i .. " " .. err.message end
  end
  return "no end"
end)
app:get("/many", function()
  local tasks, set = {}, 0
  for i = 1, 5000 do
    tasks[i] = moonquay.spawn(function()
      app.settings.max_accepts = i
      set = set + 1
    end)
  end
  for i = 1, #tasks do
    local ok, err = tasks[i]:join()
    assert(ok or tostring(err) == "too many changes at once", err)
  end
  return set > 0 and app.settings.max_accepts > 0 and "some" or "none"
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

describe("What an app changes and cannot", function()
  local s

  before_each(function()
    s = server.start({ app = APP })
  end)

  after_each(server.stop_all)

  -- The worker and the master that have been asked still serve.
  local function stop()
    assert.equal("set", s:get("/set?max_accepts=7").body)
    assert.is_nil(s:stderr():find("worker_"))
    assert.equal(0, s:stop())
  end

  for _, key in ipairs({ "key", "server_header", "listen" }) do
    it("is refused at once when it is longer than any message: " .. key, function()
      assert.equal("nil", s:get("/long/" .. key).body)
      stop()
    end)
  end

  it("is refused when too much waits for an answer", function()
    assert.equal("some", s:get("/many").body)
    stop()
  end)
end)

describe("An address that the server listens to", function()
  after_each(server.stop_all)

  it("takes no descriptor that a worker will need", function()
    local s = server.start({
      app = APP, options = { "--workers", "2" },
      wrap = { "sh", "-c", 'ulimit -n 120; exec "$@"', "sh" },
    })
    local refused = s:get("/ports").body
    assert.truthy(refused:find("^26 http://127.0.0.1:0/: more than 26 socket addresses "), refused)
    assert(sys.kill(s:workers()[1], "KILL"))
    s:await("worker_died")
    await("two workers again", function() return #s:workers() == 2 end)
    assert.equal("set", s:get("/set?max_accepts=7").body)
    assert.is_nil(s:stderr():find("spawn_failed"))
    assert.equal(0, s:stop())
  end)
end)

describe("A server that stops", function()
  after_each(server.stop_all)

  it("changes nothing any more, and says so", function()
    local s = server.start({ app = APP, options = { "--set", "max_accepts=7" } })
    local connection = s:connect()
    connection:send("POST /last HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
    s:await("the last one runs")
    s:signal("TERM")
    s:await("stopping")
    connection:send("x")
    local stopping = "the server is stopping"
    assert.equal(table.concat({ stopping, 7, stopping, stopping }, "\n"),
      connection:response().body)
    assert.same({ exit = 0 }, s:wait(10))
  end)
end)
