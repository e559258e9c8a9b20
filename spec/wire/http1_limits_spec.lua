local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- 10 bytes for all; routes and handlers that say otherwise are named so.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

local function count(req)
  local bytes = 0
  while true do
    local data, err = req.body:read()
    if err then return ("%d then %s %s"):format(bytes, err.code, tostring(err.status)) end
    if not data then return ("%d"):format(bytes) end
    bytes = bytes + #data
  end
end

app:any("/escape", function(req, res)
  res.headers["x-mine"] = "1"
  return (assert(req.body:read("a")))
end)
app:any("/caught", function(req) return count(req) end)
app:any("/again", function(req) return count(req) .. "; " .. count(req) .. "; " .. count(req) end)
app:any("/unread", function() return "unread" end)
app:any("/route-more", { max_request_body_size = 20 }, count)
app:any("/route-less", { max_request_body_size = 5 }, count)
app:any("/route-none", { max_request_body_size = moonquay.UNLIMITED }, count)
app:any("/more", function(req)
  req.limits.max_request_body_size = 20
  return count(req)
end)
app:any("/less", function(req)
  req.limits.max_request_body_size = "5B"
  return count(req)
end)
app:any("/none", function(req)
  req.limits.max_request_body_size = moonquay.UNLIMITED
  return count(req)
end)
app:any("/zero", function(req)
  req.limits.max_request_body_size = 0
  return count(req)
end)
app:any("/negative", function(req)
  local ok, message = pcall(function() req.limits.max_request_body_size = -1 end)
  return tostring(ok) .. " " .. message:match(": (.*)$")
end)
app:any("/late", function(req)
  local before = tostring(req.limits.read_only)
  assert(req.body:read(1))
  local ok, message = pcall(function() req.limits.max_request_body_size = 20 end)
  return ("%s %s %s %s"):format(before, tostring(req.limits.read_only), tostring(ok),
    message)
end)
app:any("/raised-after", function(req)
  local first = count(req)
  local read_only = tostring(req.limits.read_only)
  req.limits.max_request_body_size = 20
  return first .. "; " .. read_only .. "; " .. count(req)
end)
app:any("/seen", function(req)
  local size = req.limits.max_request_body_size
  local ok = pcall(function() req.limits.max_request_body_size = 20 end)
  return ("%s %s %s"):format(tostring(size), tostring(req.limits.read_only), tostring(ok))
end)
return app
]]

--- The line of the app on which a text stands first.
local function line_of(text)
  local _, ends = APP:sub(1, (assert(APP:find(text, 1, true)))):gsub("\n", "")
  return ends + 1
end

local READ_ONLY = ("false true false app.lua:%d: limits.max_request_body_size is read-only: " ..
  "body reading started at app.lua:%d"):format(line_of("req.body:read(1)") + 1,
  line_of("req.body:read(1)"))

local FIVE, TEN, MORE, TWENTY = ("5"):rep(5), ("t"):rep(10), ("e"):rep(11), ("w"):rep(20)

local function sized(path, body, lines)
  return ("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n%s"):format(path, #body,
    lines or "", body)
end

local function chunked(path, body, lines)
  return ("POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n%s\r\n"):format(path,
    lines or "") .. ("%x\r\n%s\r\n0\r\n\r\n"):format(#body, body)
end

describe("max_request_body_size (reference section 5)", function()
  local s
  setup(function()
    s = server.start({ app = APP, options = { "--set", "max_request_body_size=10" } })
  end)
  teardown(function()
    s:stop()
  end)

  -- Title, path, content, the answer to sized content, the answer to chunked content.
  local cases = {
    { "lets content of just that size pass", "/caught", TEN, "10", "10" },
    { "fails the read of what is larger", "/caught", MORE, "0 then too_large 413",
      "0 then too_large 413" },
    { "fails every further read too", "/again", MORE,
      "0 then too_large 413; 0 then too_large 413; 0 then too_large 413",
      "0 then too_large 413; 0 then too_large 413; 0 then too_large 413" },
    { "means nothing to a handler that does not read", "/unread", TWENTY, "unread", "unread" },
    { "is larger for a route that says so", "/route-more", TWENTY, "20", "20" },
    { "holds for that route too", "/route-more", TWENTY .. "x", "0 then too_large 413",
      "0 then too_large 413" },
    { "is smaller for a route that says so", "/route-less", TEN, "0 then too_large 413",
      "0 then too_large 413" },
    { "is lifted for a route that says so", "/route-none", TWENTY, "20", "20" },
    { "is larger for a request that says so", "/more", TWENTY, "20", "20" },
    { "is smaller for a request that says so", "/less", TEN, "0 then too_large 413",
      "0 then too_large 413" },
    { "allows what is equal for a request that says so", "/less", FIVE, "5", "5" },
    { "is lifted for a request that says so", "/none", TWENTY, "20", "20" },
    { "may be zero", "/zero", FIVE, "0 then too_large 413", "0 then too_large 413" },
    { "may not be negative", "/negative", FIVE,
      "false limits.max_request_body_size must be a number of bytes from 0 on, a size such as " ..
      "\"10MB\", or moonquay.UNLIMITED, not -1",
      "false limits.max_request_body_size must be a number of bytes from 0 on, a size such as " ..
      "\"10MB\", or moonquay.UNLIMITED, not -1" },
    { "is read-only once reading has started, and says where that was", "/late", FIVE,
      READ_ONLY, READ_ONLY },
    { "may be raised after it refused a declared length", "/raised-after", TWENTY,
      "0 then too_large 413; false; 20", nil },
    { "can be seen and set before", "/seen", FIVE, "10 false true", "10 false true" },
  }
  for _, case in ipairs(cases) do
    for framing, make in pairs({ sized = sized, chunked = chunked }) do
      local expected = case[framing == "sized" and 4 or 5]
      local function check(size)
        local connection = s:connect()
        wire.send(connection, make(case[2], case[3]), size)
        local response = connection:response()
        assert.equal(expected, (response.body:gsub("%S*/app%.lua:", "app.lua:")))
        -- The connection goes on, in step, whatever was refused or not read.
        assert.equal("unread", connection:get("/unread").body)
        connection:close()
      end
      if expected then
        -- Of chunked content those bytes are counted first that come first.
        if framing == "sized" or not expected:find("^0 then") then
          wire.each_way(it, ("%s (%s)"):format(case[1], framing), check)
        else
          it(("%s (%s)"):format(case[1], framing), check)
        end
      end
    end
  end

  it("counts chunks one by one: those under the limit can be read", function()
    local connection = s:connect()
    connection:send("POST /caught HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection:send("5\r\nabcde\r\n5\r\nfghij\r\n1\r\nk\r\n0\r\n\r\n")
    assert.equal("10 then too_large 413", connection:response().body)
    assert.equal("unread", connection:get("/unread").body)
    connection:close()
  end)

  for framing, make in pairs({ sized = sized, chunked = chunked }) do
    wire.each_way(it, ("is 413 when nobody catches the error (%s)"):format(framing), function(size)
      local connection = s:connect()
      wire.send(connection, make("/escape", MORE), size)
      local response = connection:response()
      assert.equal("Content Too Large", response.reason)
      assert.equal(413, response.status)
      assert.is_nil(response.headers["x-mine"])
      assert.is_nil(response.headers.connection)
      assert.equal("unread", connection:get("/unread").body)
      connection:close()
    end)

    it(("is 413 and the end for who asks for the end (%s)"):format(framing), function()
      local connection = s:connect()
      connection:send(make("/escape", MORE, "Connection: close\r\n"))
      local response = connection:response()
      assert.same({ 413, "close" }, { response.status, response.headers.connection })
      assert.is_true(connection:closed())
      connection:close()
    end)
  end

  it("does not concern a request without content", function()
    assert.equal("nil false true", s:get("/seen").body)
    assert.equal("0", s:get("/zero").body)
  end)

  it("may be unlimited for all", function()
    local free = server.start({
      app = APP, options = { "--set", "max_request_body_size=unlimited" },
    })
    local connection = free:connect()
    assert.equal("unlimited false true", connection:post("/seen", TEN).body)
    assert.equal("40000000", connection:post("/caught", ("x"):rep(40000000)).body)
    connection:close()
    free:stop()
  end)

  it("is 30,000,000 by default", function()
    local plain = server.start({ app = APP })
    local connection = plain:connect()
    assert.equal("30000000 false true", connection:post("/seen", TEN).body)
    assert.equal("0 then too_large 413", connection:post("/caught", ("x"):rep(30000001)).body)
    connection:close()
    plain:stop()
  end)
end)

describe("Expect: 100-continue (RFC 9110 section 10.1.1)", function()
  local CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"
  local EXPECT = "Expect: 100-continue\r\n"
  local s
  setup(function()
    s = server.start({ app = APP, options = { "--set", "max_request_body_size=10" } })
  end)
  teardown(function()
    s:stop()
  end)

  local function head(path, length, version)
    return ("POST %s HTTP/%s\r\nHost: h\r\n%sContent-Length: %d\r\n\r\n"):format(path,
      version or "1.1", EXPECT, length)
  end

  for framing, make in pairs({ sized = sized, chunked = chunked }) do
    it(("is answered by 100 at the first read (%s)"):format(framing), function()
      local connection = s:connect()
      local before, after = make("/caught", TEN, EXPECT):match("^(.-\r\n\r\n)(.*)$")
      connection:send(before)
      assert.equal(CONTINUE, connection:receive(#CONTINUE))
      connection:send(after)
      local response = connection:response()
      assert.same({ 200, "10" }, { response.status, response.body })
      assert.same({}, response.interim)
      assert.equal("unread", connection:get("/unread").body)
      connection:close()
    end)

    it(("is not answered by 100 when the content came along (%s)"):format(framing), function()
      local connection = s:connect()
      connection:send(make("/caught", TEN, EXPECT))
      local response = connection:response()
      assert.same({ "10", {} }, { response.body, response.interim })
      connection:close()
    end)
  end

  it("is answered without 100 when nobody reads, and the connection ends", function()
    local got, how = wire.converse(s, head("/unread", 10))
    assert.same({ wire.answer("200 OK", "Content-Type: text/plain; charset=utf-8\r\n" ..
      "Content-Length: 6\r\nConnection: close\r\n", "unread"), "closed" }, { got, how })
  end)

  it("is answered by 413 without 100, and the connection ends", function()
    local connection = s:connect()
    connection:send(head("/escape", 11))
    local response = connection:response()
    assert.same({ 413, "close", {} },
      { response.status, response.headers.connection, response.interim })
    assert.is_true(connection:closed())
    connection:close()
  end)

  it("is answered when the case differs and the list is long", function()
    local connection = s:connect()
    connection:send("POST /caught HTTP/1.1\r\nHost: h\r\nExpect: , 100-CONTINUE ,\r\n" ..
      "Content-Length: 1\r\n\r\n")
    assert.equal(CONTINUE, connection:receive(#CONTINUE))
    connection:send("x")
    assert.equal("1", connection:response().body)
    connection:close()
  end)

  it("is not answered for HTTP/1.0", function()
    local connection = s:connect()
    connection:send(head("/caught", 2, "1.0"))
    connection:send("ab")
    local response = connection:response()
    assert.same({ "2", {} }, { response.body, response.interim })
    connection:close()
  end)

  it("without content means nothing", function()
    local connection = s:connect()
    connection:send("GET /unread HTTP/1.1\r\nHost: h\r\n" .. EXPECT .. "\r\n")
    local response = connection:response()
    assert.same({ "unread", {} }, { response.body, response.interim })
    connection:close()
  end)
end)
