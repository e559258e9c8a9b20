local server = require("spec.support.server")
local json = require("moonquay.core").json

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()

-- What happened, for handlers that end before or after their answer; "/events" tells it.
local events = {}
local function note(text) events[#events + 1] = text end
app:get("/events", function() return moonquay.json.array({ table.unpack(events) }) end)

local function closing(text)
  return setmetatable({}, { __close = function() note(text) end })
end

-- Each waits until the other has come: done only if both run at the same time.
local function meeting()
  local a, b = core.event(), core.event()
  return function(...) a:set() assert(b:wait()) return "a", ... end,
    function(...) b:set() assert(a:wait()) return "b", ... end
end

app:get("/sleep", function()
  local order = {}
  local late = moonquay.spawn(function() moonquay.sleep(0.02) order[#order + 1] = "late" end)
  local soon = moonquay.spawn(function() moonquay.sleep(0.01) order[#order + 1] = "soon" end)
  late:join() soon:join()
  return table.concat(order, " ") .. " " .. tostring(moonquay.sleep(0))
end)
app:get("/sleep/wrong", function()
  return tostring(pcall(moonquay.sleep, -1)) .. tostring(pcall(moonquay.sleep, "x"))
    .. tostring(pcall(moonquay.sleep, 0 / 0))
end)

app:get("/spawn", function()
  local first, second = meeting()
  local task = moonquay.spawn(first, 1, nil, 3)
  local before = task.done
  second()
  local results = table.pack(task:join())
  return { before, task.done, results.n, results[1], results[2], results[3], results[5] }
end)
app:get("/spawn/error", function()
  local task = moonquay.spawn(function() error("mine") end)
  local ok, err = task:join()
  return { tostring(ok), err.message, err.traceback:find("app.lua", 1, true) ~= nil }
end)
app:get("/spawn/object", function()
  local object = { any = 1 }
  local task = moonquay.spawn(function() error(object) end)
  return { select(2, task:join()) == object, object.any }
end)
app:get("/spawn/timeout", function()
  local task = moonquay.spawn(function() return moonquay.sleep(3600) end)
  local ok, err = task:join(0.01)
  local still = not task.done
  task:cancel()
  local ended, result, reason = task:join()
  return { tostring(ok), err.code, still, ended, tostring(result), reason.code }
end)
app:get("/spawn/scope", function()
  do
    local task <close> = moonquay.spawn(function()
      local _ <close> = closing("scope closed")
      note("scope " .. select(2, moonquay.sleep(3600)).code)
    end)
    moonquay.sleep(0)
  end
  return events[#events]
end)
app:get("/spawn/orphan", function()
  moonquay.spawn(function()
    note("orphan " .. select(2, moonquay.sleep(3600)).code)
  end)
  moonquay.sleep(0)
  return "left"
end)

app:get("/all", function()
  return { moonquay.all(meeting()) }
end)
app:get("/all/order", function()
  return { moonquay.all(function() moonquay.sleep(0.02) return 1, "dropped" end,
    function() return 2 end, function() moonquay.sleep(0.01) return 3 end) }
end)
app:get("/all/nil", function()
  return { select("#", moonquay.all(function() end, function() end)), select("#", moonquay.all()) }
end)
app:get("/all/error", function()
  local ok, err = pcall(moonquay.all, function()
    local _ <close> = closing("sibling closed")
    note("sibling " .. select(2, moonquay.sleep(3600)).code)
  end, function() moonquay.sleep(0) error("first") end)
  return { ok, err.message, table.unpack(events, #events - 1) }
end)
app:get("/all/wrong", function() return { pcall(moonquay.all, print, 7) } end)

app:get("/timeout", function()
  local a, b = moonquay.timeout(3600, function(x) moonquay.sleep(0) return x, 2 end, 1)
  return { a, b }
end)
app:get("/timeout/passed", function()
  local value, err = moonquay.timeout(0.01, function()
    note("timed " .. select(2, moonquay.sleep(3600)).code)
    return "too late"
  end)
  return { tostring(value), err.code, events[#events] }
end)
app:get("/timeout/error", function()
  local ok, err = pcall(moonquay.timeout, 3600, function() error("inside") end)
  return { ok, err.message }
end)

app:get("/every", function(_, res)
  for tick in moonquay.every(0.001) do
    res:write(tostring(tick))
    if tick == 3 then break end
  end
end)
app:get("/every/endless", function(req, res)
  for tick in moonquay.every(0.001) do
    res:write(tostring(tick))
    res:flush()
  end
  note("every ended " .. tostring(req:cancelled()))
end)
app:get("/every/wrong", function() return tostring(pcall(moonquay.every, 0)) end)
local runs, inside, overlapped = 0, 0, false
moonquay.every(0.001, function()
  inside = inside + 1
  overlapped = overlapped or inside > 1
  runs = runs + 1
  moonquay.sleep(0.003)
  inside = inside - 1
  if runs == 1 then error("the first run fails") end
end)
app:get("/every/runs", function() return { runs, overlapped } end)

app:get("/background", function()
  moonquay.background(function(text)
    moonquay.sleep(0.01)
    note(text)
    error("in the background")
  end, "background done")
  return "answered"
end)

app:get("/cancel", function(req, res)
  req:on_cancel(function(code)
    moonquay.sleep(0)
    note("on_cancel " .. code)
  end)
  local _ <close> = closing("handler closed")
  local read, read_error = nil, nil
  moonquay.all(function()
    local ok, err = moonquay.sleep(3600)
    note(("wait %s %s"):format(tostring(ok), err.code))
  end)
  local again, err = moonquay.sleep(3600)
  note(("again %s %s"):format(tostring(again), err.code))
  local ok, write_error = res:write("nobody")
  note(("write %s %s"):format(tostring(ok), write_error.code))
end)
app:post("/cancel/read", function(req)
  local piece, err
  repeat piece, err = req.body:read() until not piece
  note(("read %s"):format(err.code))
end)
app:get("/cancel/throw", function(req, res)
  moonquay.sleep(3600)
  local ok, err = pcall(res.write, res, "nobody")
  note(("throw %s %s"):format(tostring(ok), tostring(type(err) == "table" and err.code)))
end)

-- Waits in odd places.
local function pause() assert(moonquay.sleep(0)) return 7 end
local places = {
  pcall = function() return select(2, pcall(pause)) end,
  ["pcall that fails"] = function()
    return select(2, pcall(function() pause() error(7, 0) end))
  end,
  xpcall = function() return select(2, xpcall(pause, debug.traceback)) end,
  error_in_xpcall = function()
    return select(2, xpcall(function() pause() error("x") end, function() return 7 end))
  end,
  __index = function() return setmetatable({}, { __index = pause }).any end,
  __newindex = function()
    local value
    setmetatable({}, { __newindex = function() value = pause() end }).any = 1
    return value
  end,
  __call = function() return setmetatable({}, { __call = pause })() end,
  __add = function() return setmetatable({}, { __add = pause }) + 1 end,
  __concat = function() return setmetatable({}, { __concat = pause }) .. "x" end,
  __len = function() return #setmetatable({}, { __len = pause }) end,
  __eq = function()
    local meta = { __eq = pause }
    return setmetatable({}, meta) == setmetatable({}, meta) and 7
  end,
  __lt = function()
    local meta = { __lt = pause }
    return setmetatable({}, meta) < setmetatable({}, meta) and 7
  end,
  __pairs = function()
    local meta = { __pairs = function() return pause, nil, nil end }
    for value in pairs(setmetatable({}, meta)) do return value end
  end,
  __close = function()
    local value
    do local _ <close> = setmetatable({}, { __close = function() value = pause() end }) end
    return value
  end,
  iterator = function() for value in pause do return value end end,
  wrap = function() return coroutine.wrap(pause)() end,
  resume = function() return select(2, coroutine.resume(coroutine.create(pause))) end,
  generator = function()
    local sum = 0
    for value in coroutine.wrap(function()
      for i = 1, 3 do pause() coroutine.yield(i) pause() end
    end) do sum = sum + value end
    return sum + 1
  end,
  nested = function()
    return coroutine.wrap(function()
      return coroutine.wrap(function() return select(2, pcall(coroutine.wrap(pause))) end)()
    end)()
  end,
  ["util.gsub"] = function() return (moonquay.util.gsub("x", "x", pause)) + 0 end,
  ["util.sort"] = function()
    return moonquay.util.sort({ 8, 7 }, function(a, b) pause() return a < b end)[1]
  end,
  dofile = function(dir) return dofile(dir .. "/waiting.lua") end,
  require = function() return require("waiting") end,
}
app:get("/wait/:place", function(req)
  return tostring(places[req.params.place](req.query.dir))
end)
app:get("/places", function()
  local list = {}
  for name in pairs(places) do list[#list + 1] = name end
  return list
end)

-- Where nobody can wait.
local barred = {
  sort = function(f) table.sort({ 2, 1 }, function(a, b) f() return a < b end) end,
  gsub = function(f) return ("x"):gsub("x", function() f() end) end,
  tostring = function(f) return tostring(setmetatable({}, { __tostring = f })) end,
  load = function(f) return assert(load(f)) end,
}
app:get("/barred/:place", function(req)
  local ok, message = pcall(barred[req.params.place], pause)
  return tostring(ok) .. " " .. tostring(message)
end)
local function io_in_sort(req)
  local text
  local ok, message = pcall(table.sort, { 2, 1 }, function(a, b)
    text = text or assert(req.body:read("a"))
    return a < b
  end)
  return tostring(ok) .. " " .. tostring(ok and text or message)
end
app:post("/sync/allowed", io_in_sort)
app:post("/sync/forbidden", { allow_synchronous_io = false }, io_in_sort)
return app
]]

describe("tasks", function()
  local s
  lazy_setup(function()
    s = server.start({ app = APP })
    s.temp:write("waiting.lua", 'assert(require("moonquay").sleep(0))\nreturn 7\n')
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local function events()
    return json.decode(s:get("/events").body)
  end

  -- Asks again until the app has noted a text.
  local function await_event(text)
    local connection = s:connect()
    local seen
    local until_time = os.time() + 20
    repeat
      seen = json.decode(connection:get("/events").body)
      for _, event in ipairs(seen) do
        if event == text then
          return connection:close()
        end
      end
    until os.time() > until_time
    error(("no %q among: %s"):format(text, table.concat(seen, ", ")), 2)
  end

  local cases = {
    { "wake in the order of their times", "/sleep", "soon late true" },
    { "refuse times that are none", "/sleep/wrong", "falsefalsefalse" },
    { "run at the same time and give all results", "/spawn", '[false,true,5,true,"a",1,3]' },
    { "give their error to who joins", "/spawn/object", "[true,1]" },
    {
      "are joined for a time, cancelled, and joined again",
      "/spawn/timeout",
      '["nil","timeout",true,true,"nil","cancelled"]',
    },
    { "end with their scope", "/spawn/scope", "scope closed" },
    { "run together in all", "/all", '["a","b"]' },
    { "give their first results in order in all", "/all/order", "[1,2,3]" },
    { "give nil for nothing in all", "/all/nil", "[2,0]" },
    { "have their results through timeout", "/timeout", "[1,2]" },
    { "are cancelled by timeout", "/timeout/passed", '["nil","timeout","timed cancelled"]' },
    { "tick by every", "/every", "123" },
    { "refuse an every that is no time", "/every/wrong", "false" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local response = s:get(case[2])
      assert.equal(200, response.status, response.body)
      assert.equal(case[3], response.body)
    end)
  end

  it("carry message and traceback in the error of a string", function()
    local seen = json.decode(s:get("/spawn/error").body)
    assert.equal("nil", seen[1])
    assert.matches("app.lua:%d+: mine$", seen[2])
    assert.is_true(seen[3])
  end)

  it("end with the task that spawned them", function()
    assert.equal("left", s:get("/spawn/orphan").body)
    await_event("orphan cancelled")
  end)

  it("are cancelled by the first error in all, which is raised when they have ended", function()
    local seen = json.decode(s:get("/all/error").body)
    assert.is_false(seen[1])
    assert.matches("first$", seen[2])
    assert.same({ "sibling cancelled", "sibling closed" }, { seen[3], seen[4] })
  end)

  it("raise the error of a function in timeout", function()
    local seen = json.decode(s:get("/timeout/error").body)
    assert.is_false(seen[1])
    assert.matches("inside$", seen[2])
  end)

  it("must be functions in all", function()
    local seen = json.decode(s:get("/all/wrong").body)
    assert.is_false(seen[1])
    assert.matches("argument 2 of all must be a function, not a number", seen[2])
  end)

  it("of every never overlap and survive an error, which is logged", function()
    local connection = s:connect()
    local seen
    repeat
      seen = json.decode(connection:get("/every/runs").body)
    until seen[1] >= 3
    connection:close()
    assert.is_false(seen[2])
    s:await("the first run fails[^\n]*app.lua")
  end)

  it("in the background outlive the request, and their error is logged", function()
    assert.equal("answered", s:get("/background").body)
    await_event("background done")
    s:await("in the background")
  end)

  it("learn that the client left", function()
    local connection = s:connect()
    connection:send("GET /cancel HTTP/1.1\r\nHost: a\r\n\r\n")
    connection:send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n") -- pipelined: not answered any more
    connection:reset()
    await_event("handler closed")
    await_event("on_cancel reset")
    local wanted = { "wait nil reset", "again nil reset", "write nil reset", "handler closed" }
    local at = 1
    for _, event in ipairs(events()) do
      at = event == wanted[at] and at + 1 or at
    end
    assert.equal(#wanted + 1, at, table.concat(events(), ", "))
  end)

  it("end their iteration when the client left", function()
    local connection = s:connect()
    connection:send("GET /every/endless HTTP/1.1\r\nHost: a\r\n\r\n")
    connection:read_until("12") -- two ticks came, as chunks or together
    connection:reset()
    await_event("every ended reset")
  end)

  it("that read learn that the client left", function()
    local connection = s:connect()
    connection:send("POST /cancel/read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    connection:reset()
    await_event("read reset")
  end)

  it("wait wherever Lua code calls them", function()
    local connection = s:connect()
    local places = json.decode(connection:get("/places").body)
    assert.is_true(#places > 20)
    for _, place in ipairs(places) do
      local path = ("/wait/%s?dir=%s"):format(place:gsub(" ", "%%20"), s.temp.path)
      local response = connection:get(path)
      assert.equal(place .. ": 7", place .. ": " .. response.body:gsub("^true$", "7"))
    end
    connection:close()
  end)

  for _, place in ipairs({ "sort", "gsub", "tostring", "load" }) do
    it(("cannot wait inside %s, which the error names"):format(place), function()
      local body = s:get("/barred/" .. place).body
      assert.matches("^false ", body)
      assert.matches("cannot wait inside [^\n]*" .. place, body)
    end)
  end

  it("may block for a body where they cannot wait, if they are allowed to", function()
    local connection = s:connect()
    connection:send("POST /sync/allowed HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    connection:send("body")
    assert.equal("true body", connection:response().body)
    connection:close()
  end)

  it("are told to wait elsewhere for a body, if they are not allowed to block", function()
    local connection = s:connect()
    connection:send("POST /sync/forbidden HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
    local response = connection:response()
    connection:close()
    assert.matches("^false .*sort.*allow_synchronous_io is false", response.body)
  end)
end)

describe("throw_write_errors", function()
  it("raises what a write would return", function()
    local s = server.start({ app = APP, options = { "--set", "throw_write_errors=true" } })
    local connection = s:connect()
    connection:send("GET /cancel/throw HTTP/1.1\r\nHost: a\r\n\r\n")
    connection:reset()
    local seen
    repeat
      seen = s:get("/events").body
    until seen ~= "[]"
    assert.equal('["throw false reset"]', seen)
    assert.equal(0, s:stop())
  end)
end)

describe("a stop of the server", function()
  local app = [[
local moonquay = require("moonquay")
local app = moonquay.app()
moonquay.every(0.001, function() end)
moonquay.spawn(function()
  local _, err = moonquay.sleep(3600)
  moonquay.log.info("own task " .. err.code)
end)
app:post("/work", function()
  moonquay.background(function()
    moonquay.log.info("work begun")
    assert(moonquay.sleep(0.2))
    moonquay.log.info("work done")
  end)
  return 202
end)
return app
]]

  it("waits for background work and ends the app's own tasks", function()
    local s = server.start({ app = app })
    local connection = s:connect()
    assert.equal(202, connection:post("/work", "").status)
    s:await("work begun")
    assert.equal(0, s:stop())
    assert.matches("work done", s:stderr())
    assert.matches("own task cancelled", s:stderr())
  end)
end)
