local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()

local function raising(tostring)
  error(setmetatable({}, { __tostring = tostring }))
end
local function spin() while true do end end
local function results(...)
  local all = table.pack(...)
  for i = 1, all.n do all[i] = tostring(all[i]) end
  return table.concat(all, " ")
end

app:get("/ok", function() return "ok" end)

-- Uses memory up to the limit again and again, each time with another distance to the next refusal.
app:get("/memory/:what", function(req)
  local what = {
    spawn = function() core.spawn(math.abs, 1) end,
    sleep = function() coroutine.wrap(core.sleep)(0) end,
    resume = function() coroutine.resume(coroutine.create(core.sleep), 0) end,
    event = function() core.event():wait(0) end,
    header = function() return req.headers.host .. req.peer.ip end,
  }
  local step = what[req.params.what]
  for round = 1, 20 do
    pcall(function()
      local kept = {}
      for i = 1, math.huge do kept[i] = ("x"):rep(2000 - i % 7 * 100 - round * 16) step() end
    end)
  end
  return "went on"
end)

app:get("/text/waits", function() raising(function() core.sleep(0.01) return "text" end) end)
app:get("/text/raises", function() raising(function() error("no text") end) end)
app:get("/text/none", function() raising(function() end) end)
app:get("/text/spins", function() raising(spin) end)
app:get("/cancel/raises", function(req)
  req:on_cancel(function() raising(function() error("no text") end) end)
  core.log("info", "waits to be cancelled")
  core.sleep(3600)
end)

app:get("/thread/parked", function()
  local me, done = coroutine.running(), nil
  core.spawn(function()
    done = results(coroutine.resume(me)) .. "; " .. results(pcall(coroutine.close, me))
  end)
  core.sleep(0.01)
  return done
end)
local kept
app:get("/thread/keep", function() kept = kept or coroutine.running() return "kept" end)
app:get("/thread/kept", function()
  core.sleep(0)
  local first, second = core.spawn(math.abs, 1), core.spawn(math.abs, 2)
  local refused = results(coroutine.resume(kept)) .. "; " .. results(pcall(coroutine.close, kept))
  return refused .. "; " .. results(first:join()) .. " " .. results(second:join())
end)

-- Cancelled, it goes on; closed, it leaves the coroutines in which it waits.
app:get("/closes", function()
  local order = {}
  local function closing(name)
    return setmetatable({}, { __close = function() order[#order + 1] = name end })
  end
  local task = core.spawn(function()
    local _ <close> = closing("outer")
    for _ in coroutine.wrap(function()
      local _ <close> = closing("middle")
      coroutine.resume(coroutine.create(function()
        local _ <close> = closing("inner")
        while true do core.sleep(3600) end
      end))
    end) do end
  end)
  core.sleep(0)
  task:cancel()
  task:join()
  return table.concat(order, " ")
end)

app:get("/gc/waits", function()
  local said
  setmetatable({}, { __gc = function() said = results(pcall(core.sleep, 0.01)) end })
  collectgarbage()
  return said
end)
return app
]]

describe("A task", function()
  local s, worker

  setup(function()
    s = server.start({ app = APP, options = {
      "--set", "memory_limit=3MiB", "--set", "cpu_limit=1", "--set", "log_level=info",
      "--set", "timeouts.cancel=0.1",
    } })
    worker = s:workers()[1]
  end)

  -- None of this may cost the worker.
  after_each(function()
    assert.equal("ok", s:get("/ok").body)
    assert.same({ worker }, s:workers())
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  for _, what in ipairs({ "spawn", "sleep", "resume", "event", "header" }) do
    it("goes on when memory ends wherever it does: " .. what, function()
      assert.equal("went on", s:get("/memory/" .. what).body)
    end)
  end

  it("cannot wait in the text of its error", function()
    assert.equal(500, s:get("/text/waits").status)
    s:await("handler_failed[^\n]*cannot wait inside")
  end)

  it("may fail with an error that has no text", function()
    assert.equal(500, s:get("/text/raises").status)
    s:await("handler_failed[^\n]*no text[^\n]*target=/text/raises")
    assert.equal(500, s:get("/text/none").status)
    s:await("handler_failed[^\n]*__tostring[^\n]*target=/text/none")
  end)

  it("may fail with an error whose text never ends", function()
    assert.equal(500, s:get("/text/spins").status)
    s:await("handler_failed[^\n]*cpu_limit[^\n]*target=/text/spins")
  end)

  it("of a function for leaving clients may fail with an error that has no text", function()
    local connection = s:connect()
    connection:send("GET /cancel/raises HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("waits to be cancelled")
    connection:close()
    s:await("on_cancel_failed[^\n]*no text")
  end)

  it("is resumed and closed by nobody else while it waits", function()
    assert.equal("false cannot resume a task; false cannot close a task",
      s:get("/thread/parked").body)
  end)

  it("is resumed and closed by nobody else before it runs in a used thread", function()
    s:get("/thread/keep")
    assert.equal("false cannot resume a task; false cannot close a task; true 1 true 2",
      s:get("/thread/kept").body)
  end)

  it("that is closed closes the coroutines in which it waits", function()
    assert.equal("inner middle outer", s:get("/closes").body)
  end)

  it("cannot wait in a finalizer", function()
    assert.truthy(s:get("/gc/waits").body:find("^false .*cannot wait inside"))
  end)
end)

describe("An app whose loading fails", function()
  after_each(server.stop_all)

  it("is told of also when its error has no text", function()
    local s = server.start({ ready = false, app = [[
      error(setmetatable({}, { __tostring = function() error("no text") end }))
    ]] })
    local status = s:wait(5)
    assert.equal(65, status and status.exit)
    assert.truthy(s:stderr():find("no text"))
  end)
end)
