local await = require("spec.support.await")
local server = require("spec.support.server")
local wire = require("spec.support.wire")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()
local PIECE = ("x"):rep(65536)
local notes, gate = {}, core.event()
local function note(...) notes[#notes + 1] = table.concat({ ... }, " ") end
local function told(what, result, err)
  note(what, tostring(result), err and err.code or nil)
  return result
end

app:get("/notes", function()
  if notes[#notes] ~= "ended" then return 204 end
  local text = table.concat(notes, ", ", 1, #notes - 1)
  notes = {}
  return text
end)
-- Until /go was asked for, which waits for who holds.
local held = false
local function hold()
  held = true
  gate:wait()
  gate:clear()
  held = false
end
app:get("/go", function()
  while not held do moonquay.sleep(0.001) end
  gate:set()
end)
local function run(path, fn)
  app:any(path, function(req, res)
    local _ <close> = setmetatable({}, { __close = function()
      res:after(function() note("ended") end)
    end })
    return fn(req, res)
  end)
end
app:get("/hello", function() return "hello" end)

run("/before", function(req, res)
  req:on_cancel(function(code) note("on_cancel", code) end)
  note(tostring(req:cancelled()))
  req:abort()
  note(req:cancelled(), tostring(res.finished))
  told("write", res:write("x"))
  told("again", res:write("x"))
  told("finish", res:finish())
  return "x"
end)
run("/started", function(req, res)
  req:on_cancel(function(code) note("on_cancel", code) end)
  res:write("part")
  res:flush()
  hold()
  req:abort()
  told("write", res:write("x"))
end)
run("/throw", function(req, res)
  req:abort()
  for _ = 1, 2 do
    local ok, err = pcall(res.write, res, "x")
    note(tostring(ok), err.code)
  end
end)
run("/twice", function(req)
  req:on_cancel(function() note("on_cancel") end)
  req:abort()
  req:abort()
  moonquay.sleep(0)
  req:abort()
end)
run("/finished", function(req, res)
  req:on_cancel(function() note("on_cancel") end)
  res:finish("whole")
  req:abort()
  note(tostring(req:cancelled()))
end)
run("/behind", function(req, res)
  res:after(function() req:abort() end)
  return "whole"
end)
run("/waits", function(req)
  req:abort()
  told("sleep", moonquay.sleep(60))
  told("read", req.body:read())
end)
run("/from-on-cancel", function(req)
  req:on_cancel(function() req:abort() note("on_cancel") end)
  req:abort()
  moonquay.sleep(0)
end)
run("/reads", function(req)
  local reader = moonquay.spawn(function()
    note("first", req.body:read())
    told("pending", req.body:read())
    told("later", req.body:read())
  end)
  hold()
  req:abort()
  while not reader.done do moonquay.sleep(0) end
end)
run("/reads/background", function(req)
  moonquay.background(function() told("pending", req.body:read()) note("ended") end)
  hold()
  req:abort()
  moonquay.sleep(0)
end)
run("/writes", function(req, res)
  local writer = moonquay.spawn(function()
    while told("", res:write(PIECE)) do notes[#notes] = nil end
  end)
  hold()
  req:abort()
  writer:join()
end)
run("/other-task", function(req, res)
  local task = moonquay.spawn(function() req:abort() end)
  task:join()
  told("write", res:write("x"))
end)
run("/functions", function(req, res)
  res:on_completed(function() note("on_completed", tostring(res.finished)) end)
  res:after(function() note("after", req.path) end)
  req:abort()
end)
run("/asked-late", function(req)
  req:abort()
  req:on_cancel(function(code) note("on_cancel", code) end)
  moonquay.sleep(0)
end)
run("/leaves/late", function(req)
  while not req:cancelled() do moonquay.sleep(0.001) end
  req:on_cancel(function(code) note("on_cancel", code) end)
  moonquay.sleep(0)
end)
run("/leaves", function(req)
  req:on_cancel(function(code) note("on_cancel", code) end)
  moonquay.log.info("waits " .. req.connection_id)
  moonquay.sleep(60)
end)
run("/sync", function(req)
  req:on_cancel(function(code) note("on_cancel", code) end)
  local read
  ;("x"):gsub("x", function() read = table.pack(req.body:read("a")) end)
  told("read", table.unpack(read, 1, 2))
  moonquay.sleep(60)
end)
-- The answer is complete; what comes of its connection is seen in the log.
local function answered(req, res)
  res:finish(tostring(req.connection_id))
  hold()
  note(tostring(req:cancelled()))
end
run("/answered", function(req, res)
  req:on_cancel(function(code) note("on_cancel", code) end)
  answered(req, res)
end)
run("/answered/late", function(req, res)
  res:finish(tostring(req.connection_id))
  hold()
  req:on_cancel(function(code) note("on_cancel", code) end)
  note(tostring(req:cancelled()))
end)

-- ---- handler errors
app:get("/fails", function(_, res)
  res.status = 201
  res.headers["x-gone"] = "a"
  res.trailers["x-gone"] = "b"
  error("on purpose")
end)
for _, status in ipairs({ 400, 413, 418 }) do
  app:get("/fails/" .. status, function(_, res)
    res.headers["x-gone"] = "a"
    moonquay.fail(status)
  end)
end
app:get("/fails/started", function(_, res)
  res:write("part")
  res:flush()
  hold()
  error("on purpose")
end)
app:get("/fails/sized", function(_, res)
  res.headers["content-length"] = 10
  res:write("part")
  error("on purpose")
end)
app:get("/exits", function() os.exit() end)
app:get("/holds", function()
  moonquay.log.info("holds")
  moonquay.sleep(0.3)
  return "held"
end)
return app
]]

local function get(path, lines)
  return ("GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(path, lines or "")
end

local function start(...)
  return server.start({ app = APP, options = { "--set", "log_level=debug", ... } })
end

describe("An abort (reference section 8.6)", function()
  local s
  setup(function()
    s = start()
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  local function visit(path, lines, body)
    local connection = s:connect()
    connection:send(get(path, lines), body or "")
    return connection
  end

  local function notes(of)
    local connection = (of or s):connect()
    local text = await("the end of the handler", function()
      local response = connection:get("/notes")
      return response.status == 200 and response.body
    end)
    connection:close()
    return text
  end

  it("before the start resets the connection, and nothing is sent", function()
    assert.same({ "", "reset" }, { visit("/before"):rest() })
    assert.equal("false, closed true, on_cancel closed, write nil closed, again nil closed, "
      .. "finish nil closed", notes())
  end)

  it("after the start resets the connection behind what was sent", function()
    local connection = visit("/started")
    connection:read_until("4\r\npart\r\n")
    s:get("/go")
    assert.same({ "", "reset" }, { connection:rest() })
    assert.equal("on_cancel closed, write nil closed", notes())
  end)

  it("leaves the server as it is", function()
    assert.equal("reset", select(2, visit("/functions"):rest()))
    notes()
    assert.equal("hello", s:get("/hello").body)
  end)

  it("drops requests that were sent behind", function()
    local connection = s:connect()
    connection:send(get("/functions"), get("/hello"))
    assert.same({ "", "reset" }, { connection:rest() })
    notes()
  end)

  it("is harmless when it comes twice, and is told once", function()
    assert.same({ "", "reset" }, { visit("/twice"):rest() })
    assert.equal("on_cancel", notes())
  end)

  for path, seen in pairs({ ["/finished"] = "false", ["/behind"] = "" }) do
    it(("does nothing when the answer is complete: %s"):format(path), function()
      local got, how = wire.converse(s, get(path) .. get("/hello", "Connection: close\r\n"))
      assert.matches("\r\n\r\nwholeHTTP/1.1 200 OK\r\n.*\r\n\r\nhello$", got)
      assert.equal("closed", how)
      assert.equal(seen, notes())
    end)
  end

  it("ends the waits of its handler, as when the client leaves, and the handler goes on", function()
    visit("/waits", "Content-Length: 3\r\n", "ab"):rest()
    assert.equal("sleep nil closed, read nil closed", notes())
  end)

  it("may come from the function that is told of it", function()
    visit("/from-on-cancel"):rest()
    assert.equal("on_cancel", notes())
  end)

  it("fails the pending read of another task, and later ones", function()
    local connection = visit("/reads", "Content-Length: 9\r\n", "abc")
    s:get("/go")
    assert.same({ "", "reset" }, { connection:rest() })
    assert.equal("first abc, pending nil closed, later nil closed", notes())
  end)

  it("fails the pending read of a task that is not the request's", function()
    local connection = visit("/reads/background", "Content-Length: 9\r\n")
    s:get("/go")
    connection:rest()
    assert.matches("pending nil closed", notes())
  end)

  it("fails the pending write of another task", function()
    local connection = visit("/writes")
    connection:receive(1000)
    s:get("/go")
    assert.equal("reset", select(2, connection:rest()))
    assert.equal(" nil closed", notes())
  end)

  it("may come from another task of the request", function()
    assert.same({ "", "reset" }, { visit("/other-task"):rest() })
    assert.equal("write nil closed", notes())
  end)

  it("lets the functions behind the answer run", function()
    visit("/functions"):rest()
    assert.equal("on_completed true, after /functions", notes())
  end)

  it("is logged as Request_Cancelled", function()
    visit("/functions"):rest()
    notes()
    s:await("debug connection_closed [^\n]*reason=Request_Cancelled ")
  end)

  it("makes writes raise with throw_write_errors", function()
    local throwing = start("--set", "throw_write_errors=true")
    local connection = throwing:connect()
    connection:send(get("/throw"))
    assert.same({ "", "reset" }, { connection:rest() })
    assert.equal("false closed, false closed", notes(throwing))
    assert.equal(0, throwing:stop())
  end)

  describe("and the cancel signal (req:on_cancel): it", function()
    it("fires when the client resets", function()
      local connection = visit("/leaves")
      s:await("waits %d+")
      connection:reset()
      assert.equal("on_cancel reset", notes())
    end)

    it("fires when the client ends its side (ours: the reference waits for a reset)", function()
      local connection = visit("/leaves")
      connection:half_close()
      assert.equal("on_cancel closed", notes())
      connection:close()
    end)

    it("fires when the client ends its side while a read blocks the worker", function()
      local connection = visit("/sync", "Content-Length: 9\r\n", "abc")
      connection:half_close()
      assert.equal("read nil closed, on_cancel closed", notes())
      connection:close()
    end)

    it("fires at once when it is asked for after the abort", function()
      visit("/asked-late"):rest()
      assert.equal("on_cancel closed", notes())
    end)

    it("fires at once when it is asked for after the client has left", function()
      visit("/leaves/late"):reset()
      assert.equal("on_cancel reset", notes())
    end)

    local complete = {
      { "asked for after the whole answer was sent", "/answered/late", "" },
      { "asked for before, when the client leaves with its answer (ours)", "/answered", "" },
      { "asked for before, when the server closes behind the answer (ours)", "/answered",
        "Connection: close\r\n" },
    }
    for _, case in ipairs(complete) do
      it("never fires: " .. case[1], function()
        local connection = visit(case[2], case[3])
        local id = connection:response().body
        connection:close()
        s:await(("connection_closed [^\n]*connection=%s "):format(id))
        s:get("/go")
        assert.equal("false", notes())
      end)
    end
  end)
end)

describe("A handler that fails (reference section 8.7)", function()
  local s
  setup(function()
    s = start()
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- Each time the server survives, and serves the next request.
  after_each(function()
    assert.equal("hello", s:get("/hello").body)
  end)

  for path, status in pairs({ ["/fails"] = 500, ["/fails/400"] = 400, ["/fails/413"] = 413,
    ["/fails/418"] = 418 }) do
    it(("before the start is answered by %d without its headers and trailers"):format(status),
      function()
        local connection = s:connect()
        local response = connection:get(path)
        assert.equal(status, response.status)
        assert.is_nil(response.headers["x-gone"])
        assert.same({}, response.trailers)
        -- Ours: the answer says what is wrong (RFC 9457); the reference's is empty.
        assert.equal("application/problem+json", response.headers["content-type"])
        assert.equal(tostring(#response.body), response.headers["content-length"])
        assert.equal("hello", connection:get("/hello").body)
        connection:close()
      end)
  end

  it("after the start has its connection reset", function()
    local connection = s:connect()
    connection:send(get("/fails/started"))
    connection:read_until("4\r\npart\r\n")
    s:get("/go")
    assert.same({ "", "reset" }, { connection:rest() })
  end)

  it("after the start of an answer of known length has its connection reset", function()
    assert.equal("reset", select(2, wire.converse(s, get("/fails/sized"))))
  end)
end)

describe("A server that stops (reference section 8.7)", function()
  it("answers 503 to a request whose handler stops it", function()
    local s = start()
    assert.equal(503, s:get("/exits").status)
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)

  it("serves a request that got in, and closes (ours: the reference answers 503)", function()
    local s = start()
    local holds, idle, other = s:connect(), s:connect(), s:connect()
    assert.equal("hello", idle:get("/hello").body)
    holds:send(get("/holds"))
    s:await("holds")
    assert.is_false(other:readable(0))
    s:signal("TERM")
    await("that the worker knows", function() -- a kept connection that was active gets an answer
      return idle:get("/hello").headers.connection == "close"
    end)
    assert.is_true((idle:closed()))
    other:send(get("/hello"))
    local response = other:response()
    assert.same({ 200, "hello", "close" },
      { response.status, response.body, response.headers.connection })
    assert.equal("held", holds:response().body)
    assert.same({ exit = 0 }, s:wait(5))
    s:stop()
  end)
end)
