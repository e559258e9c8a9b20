local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- Between two waits a handler is atomic, so these tables need no care.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local started, released = {}, false

app:get("/n/:n", function(req) return req.params.n end)
-- Waits until another connection says so: no time is involved.
app:get("/wait", function()
  started[#started + 1] = "wait"
  while not released do moonquay.sleep(0.001) end
  return "waited"
end)
app:get("/wait-anyway", function()
  local _, err = moonquay.sleep(60)
  return "left " .. tostring(err and err.code)
end)
app:get("/mark/:n", function(req)
  started[#started + 1] = req.params.n
  return req.params.n
end)
app:get("/release", function()
  released = true
  return table.concat(started, " ")
end)
app:get("/reset", function()
  started, released = {}, false
  return ""
end)
app:any("/echo", function(req) return (req.body:read("a")) end)
app:any("/unread", function() return "unread" end)
app:get("/chunks", function(_, res)
  res:write("a")
  moonquay.sleep(0)
  res:write("b")
end)
app:get("/close", function(_, res)
  res.headers.connection = "close"
  return "close"
end)
local answered = 0
app:get("/large", function()
  answered = answered + 1
  return ("x"):rep(50000)
end)
app:get("/answered", function() return tostring(answered) end)
return app
]]

local function get(path, lines)
  return ("GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(path, lines or "")
end

local function rss_kib(pid)
  local file = assert(io.open(("/proc/%d/status"):format(pid)))
  local text = file:read("a")
  file:close()
  return tonumber(text:match("VmRSS:%s*(%d+) kB"))
end

local EVIL = get("/n/evil")

local LAST = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" ..
  "Connection: close\r\n"

local function last(body)
  return wire.answer("200 OK", LAST:format(#body), body)
end

describe("Pipelined requests (RFC 9112 section 9.3.2)", function()
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    s:stop()
  end)

  local cases = {
    { "are answered in order", get("/n/1") .. get("/n/2") .. get("/n/3"),
      wire.text("1") .. wire.text("2") .. wire.text("3") },
    { "may have content",
      "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" ..
      "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n" ..
      get("/n/3"),
      wire.text("abc") .. wire.text("de") .. wire.text("3") },
    { "may have content that nobody reads and that looks like requests",
      "POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: " .. #EVIL .. "\r\n\r\n" ..
      EVIL .. "POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" ..
      ("%x\r\n%s\r\n0\r\n\r\n"):format(#EVIL, EVIL) .. get("/n/3"),
      wire.text("unread") .. wire.text("unread") .. wire.text("3") },
    { "may be separated by empty lines", get("/n/1") .. "\r\n\r\n" .. get("/n/2"),
      wire.text("1") .. wire.text("2") },
    { "end behind the one that asks for it",
      get("/n/0") .. get("/n/1", "Connection: close\r\n"), wire.text("0") .. last("1") },
    { "end behind the answer that says so", get("/close") .. get("/n/2"),
      wire.answer("200 OK", LAST:format(5), "close") },
    { "end behind the one that is refused",
      get("/n/1") .. "GET / HTTP/1.1\r\n\r\n" .. EVIL },
  }
  for _, case in ipairs(cases) do
    wire.each_way(it, case[1], function(size)
      local got = wire.converse(s, case[2], size, true)
      if case[3] then
        assert.equal(case[3], got)
      else
        assert.equal(wire.text("1"), got:sub(1, #wire.text("1")))
        assert.equal(2, select(2, got:gsub("HTTP/1.1 ", "")))
        assert.matches("HTTP/1.1 400 ", got)
      end
    end)
  end

  it("wait for the one before, whose handler waits", function()
    s:get("/reset")
    local connection = s:connect()
    connection:send(get("/wait"), get("/mark/2"), get("/mark/3"))
    local other = s:connect()
    repeat
      local order = other:get("/n/x").body
      assert.equal("x", order)
    until not connection:readable(0)
    assert.equal("wait", other:get("/release").body)
    assert.same({ "waited", "2", "3" }, {
      connection:response().body, connection:response().body, connection:response().body,
    })
    assert.equal("wait 2 3", other:get("/release").body)
    connection:close()
    other:close()
  end)

  it("are not taken behind the one that asks for the end", function()
    local got = wire.converse(s, get("/n/1", "Connection: close\r\n") .. EVIL)
    assert.equal(last("1"), got)
  end)

  it("are answered in order when the first answer takes several turns", function()
    local connection = s:connect()
    connection:send(get("/chunks"), get("/n/2"))
    local expected = wire.answer("200 OK", "Transfer-Encoding: chunked\r\n",
      "1\r\na\r\n1\r\nb\r\n0\r\n\r\n") .. wire.text("2")
    local dated = #expected - 2 * #"D" + 2 * #"Thu, 01 Jan 1970 00:00:00 GMT"
    assert.equal(expected, wire.dateless(connection:receive(dated)))
    connection:close()
  end)

  it("are answered when the client has ended its side while the first one waits", function()
    s:get("/reset")
    local connection = s:connect()
    connection:send(get("/wait-anyway"), get("/n/2"), get("/n/3"))
    connection:half_close()
    assert.same({ "left closed", "2", "3" }, {
      connection:response().body, connection:response().body, connection:response().body,
    })
    connection:close()
  end)

  it("may be a thousand", function()
    local connection = s:connect()
    local requests, answers = {}, {}
    for n = 1, 1000 do
      requests[n], answers[n] = get("/n/" .. n), wire.text(tostring(n))
    end
    connection:send(table.concat(requests))
    connection:half_close()
    -- The last one says close when the server has met the client's end by then.
    local received, closes = wire.dateless((connection:rest()))
      :gsub("Connection: close\r\n(\r\n1000)$", "%1")
    assert.is_true(closes <= 1)
    assert.equal(table.concat(answers), received)
    connection:close()
  end)

  it("are not taken while their answers are not read, and memory is bounded", function()
    local worker = s:workers()[1]
    local before = rss_kib(worker)
    local connection = s:connect()
    local batch = get("/large"):rep(1000)
    local sent, taken = 0
    -- 50 KB of answer for 40 bytes of request: the server must stop taking them.
    repeat
      taken = connection:send_some(batch, 0.2)
      sent = sent + taken
    until taken < #batch or sent > 64 << 20
    assert.is_true(sent < 64 << 20, "the server took everything")
    local answered = tonumber(s:get("/answered").body)
    assert.is_true(answered * 50000 < 32 << 20, answered .. " were answered to nobody")
    assert.is_true(rss_kib(worker) - before < (server.sanitized and 65536 or 8192))
    -- It goes on when they are read.
    connection:receive(8 << 20)
    assert.is_true(tonumber(s:get("/answered").body) > answered)
    connection:close()
  end)
end)
