local server = require("spec.support.server")
local wire = require("spec.support.wire")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local log = {}

local function note(text) log[#log + 1] = text end
app:get("/log", function()
  local text = table.concat(log, " ")
  log = {}
  return text
end)
app:any("/hello", function() return "hello" end)
app:any("/echo", function(req) return (assert(req.body:read("a"))) end)
app:any("/unread", function() return "unread" end)
app:post("/part", function(req)
  local part = ""
  while #part < 3 do part = part .. assert(req.body:read(3 - #part)) end
  return part
end)
app:get("/close", function(_, res)
  res.headers.connection = "close"
  return "close"
end)
app:get("/keep", function(_, res)
  res.headers.connection = "keep-alive"
  return "keep"
end)
app:post("/answer-first", function(req, res)
  res:write("early ")
  res:write((assert(req.body:read("a"))))
end)
app:post("/refuse", function() return 403, "no" end)

-- A wait that ends with the client; /log tells what each part of the handler saw.
app:get("/park", function(req, res)
  req:on_cancel(function(code) note("on_cancel:" .. code) end)
  note("parked")
  local ok, err = moonquay.sleep(60)
  note(("sleep:%s:%s"):format(tostring(ok), err and err.code))
  local again, later = moonquay.sleep(60)
  note(("again:%s:%s"):format(tostring(again), later and later.code))
  local wrote, why = res:write("x")
  note(("write:%s:%s"):format(tostring(wrote), why and why.code))
  note("cancelled:" .. tostring(req:cancelled()))
end)
app:get("/park-write", function(req, res)
  note("parked")
  local ok, err
  repeat ok, err = res:write(("x"):rep(65536)) until not ok
  note(("write:%s:%s"):format(tostring(ok), err.code))
  local again, later = res:write("y")
  note(("again:%s:%s"):format(tostring(again), later.code))
end)
app:post("/park-read", function(req)
  note("parked")
  local data, err
  repeat data, err = req.body:read() until not data
  note(("read:%s:%s"):format(tostring(data), err and err.code))
end)
app:get("/park-answer", function()
  note("parked")
  moonquay.sleep(60)
  return "still answered"
end)
-- The client has ended its side before these write.
app:get("/late-write", function(_, res)
  note("parked")
  moonquay.sleep(60)
  local ok, err = res:write("late")
  note(("late:%s:%s"):format(tostring(ok), err and err.code))
end)
app:get("/late-part", function(_, res)
  res:write("part")
  res:flush()
  moonquay.sleep(60)
  local ok, err = res:write("late")
  note(("late:%s:%s"):format(tostring(ok), err and err.code))
end)
app:get("/throw", function(_, res)
  note("parked")
  local ok, err
  repeat ok, err = pcall(res.write, res, ("x"):rep(65536)) until not ok
  note(("throw:%s:%s"):format(tostring(ok), type(err) == "table" and err.code or err))
end)
return app
]]

local function get(path, lines, version)
  return ("GET %s HTTP/%s\r\nHost: h\r\n%s\r\n"):format(path, version or "1.1", lines or "")
end

local function post(path, lines, body)
  return ("POST %s HTTP/1.1\r\nHost: h\r\n%s\r\n%s"):format(path, lines, body or "")
end

local TEXT = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%s"

local function text(body, lines)
  return wire.answer("200 OK", TEXT:format(#body, lines or ""), body)
end

local CLOSE, KEEP = "Connection: close\r\n", "Connection: keep-alive\r\n"

--- Asks the server again and again until its log has matched a pattern; the whole log.
local function await_log(s, pattern)
  local seen = ""
  local connection = s:connect()
  local until_time = os.time() + (server.sanitized and 30 or 10)
  repeat
    seen = seen .. " " .. connection:get("/log").body
    assert(os.time() < until_time, ("no %q in %q"):format(pattern, seen))
  until seen:find(pattern)
  connection:close()
  return seen:match("^%s*(.*)$"):gsub("%s+", " "):gsub(" $", "")
end

describe("A connection (RFC 9112 section 9.3)", function()
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    s:stop()
  end)

  local kept = {
    { "is kept by HTTP/1.1", get("/hello"), text("hello") },
    { "is kept by HTTP/1.1 with keep-alive", get("/hello", KEEP), text("hello") },
    { "is kept by HTTP/1.1 with tokens that are none of ours",
      get("/hello", "Connection: x-close, closed\r\n"), text("hello") },
    { "is kept by HTTP/1.0 that asks for it", get("/hello", KEEP, "1.0"), text("hello", KEEP) },
    { "is kept by HTTP/1.0 that asks for it among other tokens",
      get("/hello", "Connection: x, Keep-ALIVE\r\n", "1.0"), text("hello", KEEP) },
    { "is kept when the handler says keep-alive", get("/keep"), text("keep") },
    { "is kept behind a 404", get("/none"), nil },
    { "is kept when the handler did not read the content",
      post("/unread", "Content-Length: 5\r\n", "abcde"), text("unread") },
    { "is kept when the handler read part of the content",
      post("/part", "Content-Length: 5\r\n", "abcde"), text("abc") },
    { "is kept when the handler did not read chunks and trailers",
      post("/unread", "Transfer-Encoding: chunked\r\n", "5\r\nabcde\r\n0\r\nX: y\r\n\r\n"),
      text("unread") },
    { "is kept when much is unread, up to the bound",
      post("/unread", "Content-Length: 1048576\r\n", ("x"):rep(1048576)), text("unread") },
  }
  for _, case in ipairs(kept) do
    it(case[1], function()
      for _, size in ipairs({ #case[2], #case[2] < 1000 and 1 or 4096 }) do
        local connection = s:connect()
        wire.send(connection, case[2], size)
        if case[3] then
          local answer = wire.dateless(connection:read_until("\r\n\r\n"))
          answer = answer .. connection:receive(#case[3] - #answer)
          assert.equal(case[3], answer)
        else
          connection:response()
        end
        assert.equal("hello", connection:get("/hello").body)
        connection:close()
      end
    end)
  end

  local ended = {
    { "ends when HTTP/1.1 asks for it", get("/hello", CLOSE), text("hello", CLOSE) },
    { "ends when HTTP/1.1 asks for it in any case, among other tokens",
      get("/hello", "Connection: keep-alive, CLOSE\r\n"), text("hello", CLOSE) },
    { "ends when HTTP/1.1 asks for it in a second field",
      get("/hello", "Connection: x\r\nConnection: close\r\n"), text("hello", CLOSE) },
    { "ends with HTTP/1.0", get("/hello", nil, "1.0"), text("hello", CLOSE) },
    { "ends with HTTP/1.0 that says both",
      get("/hello", "Connection: keep-alive, close\r\n", "1.0"), text("hello", CLOSE) },
    { "ends when the handler says so", get("/close"), text("close", CLOSE) },
    { "ends when the content that nobody read is longer than the bound",
      post("/unread", "Content-Length: 1048577\r\n", ("x"):rep(1048577)), text("unread", CLOSE) },
    { "ends when the content that nobody read goes on beyond the bound",
      post("/unread", "Transfer-Encoding: chunked\r\n", ("10000\r\n" .. ("x"):rep(65536) ..
        "\r\n"):rep(40) .. "0\r\n\r\n"), text("unread") },
  }
  for _, case in ipairs(ended) do
    it(case[1], function()
      local next_request = get("/hello")
      local got, how = wire.converse(s, case[2] .. next_request)
      assert.same({ case[3], "closed" }, { got, how })
      -- Who asked for the end sends nothing behind it; who did not, may, and must not be reset.
      local asked = case[2]:find("[^-]CLOSE\r") or case[2]:find("close\r") or case[2]:find("/1.0\r")
      got, how = wire.converse(s, asked and case[2] or case[2] .. next_request,
        #case[2] < 1000 and 1 or 4096)
      assert.same({ case[3], "closed" }, { got, how })
    end)
  end

  it("may answer before the content is there", function()
    local connection = s:connect()
    connection:send(post("/answer-first", "Content-Length: 4\r\n"))
    assert.matches("\r\n\r\n6\r\nearly \r\n$", connection:read_until("early \r\n"))
    connection:send("late")
    assert.equal("4\r\nlate\r\n0\r\n\r\n", connection:receive(14))
    assert.equal("hello", connection:get("/hello").body)
    connection:close()
  end)

  it("is cut behind the answer to an early refusal of a large upload, which can be read", function()
    local connection = s:connect()
    connection:send(post("/refuse", "Content-Length: 8388608\r\n"))
    connection:send(("x"):rep(8388608))
    local response = connection:response()
    assert.same({ 403, "no", "close" },
      { response.status, response.body, response.headers.connection })
    assert.is_true(connection:closed())
    assert.equal("closed", connection.ended)
    connection:close()
  end)

  describe("whose client ends its side", function()
    for _, case in ipairs({
      { "behind a request still gives the answer", get("/hello"), text("hello") },
      { "behind content still gives the answer", post("/echo", "Content-Length: 3\r\n", "abc"),
        text("abc") },
      { "behind chunks still gives the answer",
        post("/echo", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), text("abc") },
      { "without a request ends", "", "" },
      { "within a head ends", "GET / HTTP/1.1\r\nHost: h\r\nX: ", "" },
    }) do
      wire.each_way(it, case[1], function(size)
        assert.equal(case[3], (wire.converse(s, case[2], size, true)))
      end)
    end

    it("while the handler waits still gives the answer", function()
      local connection = s:connect()
      connection:send(get("/park-answer"))
      await_log(s, "parked")
      connection:half_close()
      assert.equal(text("still answered", CLOSE), wire.dateless((connection:rest())))
      connection:close()
    end)

    for _, path in ipairs({ "/late-write", "/late-part" }) do
      it("never takes an answer for complete that was written too late: " .. path, function()
        local connection = s:connect()
        connection:send(get(path))
        if path == "/late-part" then
          connection:read_until("part\r\n")
        else
          await_log(s, "parked")
        end
        connection:half_close()
        assert.equal("", (connection:rest()))
        assert.equal("late:nil:closed", await_log(s, "late:"))
        connection:close()
      end)
    end

    it("within the content fails the read", function()
      local connection = s:connect()
      connection:send(post("/park-read", "Content-Length: 10\r\n", "abc"))
      await_log(s, "parked")
      connection:half_close()
      assert.equal("read:nil:closed", await_log(s, "read:"))
      connection:close()
    end)
  end)
end)

describe("A client that leaves (DESIGN section 8)", function()
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    s:stop()
  end)

  local ways = { FIN = "close", RST = "reset" }
  for way, method in pairs(ways) do
    it(("by %s cancels a handler that waits"):format(way), function()
      local connection = s:connect()
      connection:send(get("/park"))
      await_log(s, "parked")
      connection[method](connection)
      local code = way == "FIN" and "closed" or "reset"
      local seen = await_log(s, "cancelled:")
      assert.matches("on_cancel:" .. code, seen)
      assert.matches("sleep:nil:" .. code, seen)
      assert.matches("again:nil:" .. code, seen)
      assert.matches("write:nil:" .. code, seen)
      assert.matches("cancelled:" .. code, seen)
    end)

    it(("by %s ends the wait of a write"):format(way), function()
      local connection = s:connect()
      connection:send(get("/park-write"))
      connection:receive(1000)
      connection[method](connection)
      local seen = await_log(s, "again:")
      assert.matches("write:nil:%l+", seen)
      assert.matches("again:nil:%l+", seen)
    end)

    it(("by %s ends the wait of a read"):format(way), function()
      local connection = s:connect()
      connection:send(post("/park-read", "Content-Length: 10\r\n", "abc"))
      await_log(s, "parked")
      connection[method](connection)
      assert.matches("read:nil:" .. (way == "FIN" and "closed" or "reset"), await_log(s, "read:"))
    end)
  end

  it("makes a write raise with throw_write_errors", function()
    local throwing = server.start({ app = APP, options = { "--set", "throw_write_errors=true" } })
    local connection = throwing:connect()
    connection:send(get("/throw"))
    connection:receive(1000)
    connection:reset()
    assert.matches("throw:false:%l+", await_log(throwing, "throw:"))
    throwing:stop()
  end)
end)

describe("A time limit (reference section 13)", function()
  local OFF = {
    ["timeouts.header_wait"] = "off", ["timeouts.idle_connection"] = "off",
    ["timeouts.entity_body"] = "off", ["timeouts.drain_entity_body"] = "off",
  }

  --- A server with one limit that is short; the others are off, so that none ends it instead.
  local function limited(name, seconds)
    local options = { "--set", "log_level=debug" }
    for key, value in pairs(OFF) do
      options[#options + 1] = "--set"
      options[#options + 1] = key .. "=" .. (key == name and seconds or value)
    end
    return server.start({ app = APP, options = options })
  end

  local cases = {
    { "header_wait ends a new connection that says nothing", "header_wait", "",
      "Timer_HeaderWait", "closed" },
    { "header_wait ends a head that is not complete", "header_wait",
      "GET / HTTP/1.1\r\nHost: h\r\n", "Timer_HeaderWait", "closed" },
    { "header_wait ends the head of a later request", "header_wait",
      get("/hello") .. "GET / HTTP/1.1\r\n", "Timer_HeaderWait", "closed", text("hello") },
    { "idle_connection ends a connection between requests", "idle_connection",
      get("/hello"), "Timer_ConnectionIdle", "closed", text("hello") },
    { "entity_body ends content that stops", "entity_body",
      post("/park-read", "Content-Length: 10\r\n", "abc"), "Timer_EntityBody", "reset" },
    { "drain_entity_body ends unread content that stops", "drain_entity_body",
      post("/unread", "Content-Length: 10\r\n", "abc"), "Timer_EntityBody", "reset",
      text("unread") },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local s = limited("timeouts." .. case[2], 0.05)
      local got, how = wire.converse(s, case[3])
      assert.same({ case[6] or "", case[5] }, { got, how })
      s:await("connection_closed.-reason=" .. case[4])
      s:stop()
    end)
  end

  it("entity_body fails the read that waits", function()
    local s = limited("timeouts.entity_body", 0.05)
    wire.converse(s, post("/park-read", "Content-Length: 10\r\n", "abc"))
    assert.matches("read:nil:timeout", await_log(s, "read:"))
    s:stop()
  end)

  it("of a header does not count while the handler works", function()
    local s = limited("timeouts.header_wait", 0.05)
    local connection = s:connect()
    connection:send(post("/echo", "Content-Length: 2\r\n", "a"))
    -- Another connection that says nothing lives as long as the limit: then that time has passed.
    assert.is_true(s:connect():closed())
    connection:send("b")
    assert.equal("ab", connection:response().body)
    connection:close()
    s:stop()
  end)
end)
