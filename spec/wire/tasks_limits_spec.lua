local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()

app:get("/ok", function() return "ok" end)

-- ---- code that never ends

local function spin() while true do end end
local function spin_in_pcall() while true do pcall(spin) end end
local function spin_in_coroutines() while true do coroutine.resume(coroutine.create(spin)) end end
local function spin_in_wraps() while true do pcall(coroutine.wrap(spin)) end end
local function spin_in_xpcall() while true do xpcall(spin, debug.traceback) end end
local spins = {
  loop = spin,
  pcall = spin_in_pcall,
  xpcall = spin_in_xpcall,
  coroutine = function() coroutine.wrap(spin)() end,
  coroutines = spin_in_coroutines,
  wraps = spin_in_wraps,
}
-- The same where Lua cannot be suspended.
local function with(metamethod, fn) return setmetatable({}, { [metamethod] = fn }) end
local places = {
  handler = function(fn) fn() end,
  sort = function(fn) table.sort({ 1, 2, 3, 4 }, fn) end,
  gsub = function(fn) return (("x"):gsub("x", fn)) end,
  tostring = function(fn) return tostring(with("__tostring", fn)) end,
  index = function(fn) return with("__index", fn).x end,
  concat = function(fn) return with("__concat", fn) .. "x" end,
  close = function(fn) local _ <close> = with("__close", fn) end,
  close_failed = function(fn) local _ <close> = with("__close", fn) error("failed") end,
  coroutine = function(fn) coroutine.wrap(function() table.sort({ 1, 2, 3 }, fn) end)() end,
  loaded = function(fn) load(function() fn() end) end,
  required = function(fn) package.preload.spins = fn require("spins") end,
  task = function(fn) local _, err = core.spawn(fn):join() error(err) end,
}
app:get("/spin/:place/:kind", function(req)
  places[req.params.place](spins[req.params.kind])
  return "came back"
end)
app:get("/spin/closes", function()
  local _ <close> = with("__close", function() core.log("info", "cleaned up") end)
  spin()
end)
app:get("/spin/closes/again", function()
  local _ <close> = with("__close", spin_in_pcall)
  spin()
end)
app:get("/stuck", function() return (("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40))) end)

-- ---- code that takes memory

local grow = {
  tables = function() local t = {} while true do t[#t + 1] = {} end end,
  strings = function() local t = {} while true do t[#t + 1] = ("x"):rep(100000) .. #t end end,
  one_string = function() local s = "x" while true do s = s .. s end end,
  coroutines = function() local t = {} while true do t[#t + 1] = coroutine.create(print) end end,
  waiting = function()
    while true do core.spawn(core.sleep, 3600) core.sleep(0) end
  end,
  closures = function()
    local last
    while true do local before = last last = function() return before end end
  end,
}
app:get("/grow/:kind", function(req) grow[req.params.kind]() end)
app:get("/grow/:kind/caught", function(req)
  return tostring(select(2, pcall(grow[req.params.kind])))
end)

-- ---- atomicity

local a, b, torn = 0, 0, 0
local function step()
  if a ~= b then torn = torn + 1 end
  a = a + 1
  local sum = 0
  for i = 1, 3000000 do sum = sum + i % 7 end -- several interruptions long
  b = b + 1
end
app:get("/atomic", function()
  local function work() for _ = 1, 3 do step() core.sleep(0) end end
  local first, second = core.spawn(work), core.spawn(work)
  first:join() second:join()
  return ("%d %d %d"):format(a, b, torn)
end)
app:get("/until", function(req)
  core.log("info", "spins until " .. req.query_string)
  local file
  repeat file = io.open(req.query_string) until file
  file:close()
  return "seen"
end)
app:get("/atomic/step", function() step() return ("%d"):format(torn) end)
return app
]]

local function start(...)
  return server.start({ app = APP, options = { ... } })
end

describe("A handler that never ends (DESIGN section 8)", function()
  local s, worker

  setup(function()
    s = start("--set", "cpu_limit=0.05", "--set", "log_level=info")
    worker = s:workers()[1]
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  local kinds = { "loop", "pcall", "xpcall", "coroutine", "coroutines", "wraps" }
  local places = { "handler", "sort", "gsub", "tostring", "index", "concat", "close",
    "close_failed", "coroutine", "loaded", "required", "task" }
  for _, place in ipairs(places) do
    it("fails alone, in " .. place, function()
      for _, kind in ipairs(kinds) do
        local response = s:get("/spin/" .. place .. "/" .. kind)
        -- load, resume and the like make the error a result.
        assert.truthy(response.status == 500 or response.body == "came back",
          kind .. ": " .. response.status)
      end
      -- The threads that they ran in are used again.
      assert.equal(500, s:get("/spin/handler/loop").status)
      assert.same({ worker }, s:workers())
    end)
  end

  it("says for how long it ran, and where", function()
    assert.equal(500, s:get("/spin/handler/loop").status)
    s:await("ran %d+ ms without waiting %(cpu_limit%)[^\n]*app.lua:%d+: in ")
  end)

  it("has a time of its own for what cleans up", function()
    assert.equal(500, s:get("/spin/closes").status)
    s:await("cleaned up")
    assert.equal(500, s:get("/spin/closes/again").status)
    assert.equal("ok", s:get("/ok").body)
  end)
end)

describe("A C function that never ends", function()
  after_each(server.stop_all)

  it("costs its worker, which is replaced", function()
    local s = start("--set", "watchdog=1")
    local connection = s:connect()
    connection:send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("worker_stuck")
    s:await("worker_died[^\n]*SIGKILL")
    assert.is_true((connection:closed()))
    connection:close()
    assert.equal("ok", s:get("/ok").body)
    s:stop()
  end)
end)

describe("A handler above memory_limit", function()
  local s, worker

  setup(function()
    s = start("--set", "memory_limit=6MiB", "--set", "cpu_limit=20")
    worker = s:workers()[1]
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  local kinds = { "tables", "strings", "one_string", "coroutines", "waiting", "closures" }
  for _, kind in ipairs(kinds) do
    it("loses its request, not its worker: " .. kind, function()
      assert.equal(500, s:get("/grow/" .. kind).status)
      assert.equal("ok", s:get("/ok").body)
      assert.truthy(s:get("/grow/" .. kind .. "/caught").body:find("memory", 1, true))
      assert.equal("ok", s:get("/ok").body)
      assert.same({ worker }, s:workers())
    end)
  end

  it("is reported as that", function()
    s:get("/grow/tables")
    s:await("memory_limit[^\n]*target=/grow/tables")
  end)
end)

describe("Between two waits", function()
  local s

  setup(function()
    s = start("--set", "log_level=info", "--set", "cpu_limit=20")
  end)

  teardown(function()
    s:stop()
    server.stop_all()
  end)

  -- Both count; whoever runs in the middle of the other's step sees that the counters differ.
  it("no other task runs, although the loop turns", function()
    local others = {}
    for i = 1, 4 do
      others[i] = s:connect()
      others[i]:send("GET /atomic/step HTTP/1.1\r\nHost: test\r\n\r\n")
    end
    local a, b, torn = s:get("/atomic").body:match("(%d+) (%d+) (%d+)")
    assert.equal(a, b)
    assert.equal("0", torn)
    for _, connection in ipairs(others) do
      assert.equal("0", connection:response().body)
      connection:close()
    end
  end)

  -- Refusals are answered by the core. The handler sees no more of it than the file made after it.
  it("the loop turns for what needs no Lua", function()
    local sign = s.temp.path .. "/sign"
    local busy = s:connect()
    busy:send("GET /until?" .. sign .. " HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("spins until")
    local refused = s:connect()
    refused:send("GET / HTTP/9.9\r\n\r\n")
    assert.equal(505, refused:response().status)
    refused:close()
    s.temp:write("sign", "")
    assert.equal("seen", busy:response().body)
    busy:close()
  end)
end)
