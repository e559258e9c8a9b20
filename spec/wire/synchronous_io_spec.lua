local server = require("spec.support.server")
local wire = require("spec.support.wire")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local PIECE = ("x"):rep(65536)

-- Where Lua cannot be suspended.
local places = {
  ["table.sort"] = function(fn) table.sort({ 1, 2 }, function() fn() return false end) end,
  ["string.gsub"] = function(fn) ("x"):gsub("x", function() fn() end) end,
  ["tostring"] = function(fn)
    tostring(setmetatable({}, { __tostring = function() fn() return "" end }))
  end,
}
-- What a read gives in such a place, once, in words.
local function read_in(req)
  local told
  places[req.query.place](function()
    if told then return end
    local results = table.pack(pcall(req.body.read, req.body, "a"))
    local err = results[3]
    told = table.concat({ tostring(results[1]), tostring(results[2]), err and err.code }, " ")
  end)
  return told
end

app:get("/ok", function() return "ok" end)
app:post("/read", read_in)
app:post("/read/route/true", { allow_synchronous_io = true }, read_in)
app:post("/read/route/false", { allow_synchronous_io = false }, read_in)
app:group("/group", { allow_synchronous_io = false }, function(group)
  group:post("/read", read_in)
  group:post("/read/true", { allow_synchronous_io = true }, read_in)
end)
for _, allowed in ipairs({ true, false }) do
  app:post("/read/request/" .. tostring(allowed), function(req)
    req.limits.allow_synchronous_io = allowed
    return read_in(req)
  end)
  app:post("/read/both/" .. tostring(allowed), { allow_synchronous_io = not allowed }, function(req)
    req.limits.allow_synchronous_io = allowed
    return read_in(req)
  end)
end
app:post("/elsewhere", function(req)
  req.limits.allow_synchronous_io = false
  local function read() return req.body:read("a") end
  return (select(2, pcall(coroutine.wrap(read))))
end)

app:post("/twice", function(req)
  return read_in(req) .. ", " .. read_in(req)
end)
app:get("/write", function(req, res)
  local ok, err
  places[req.query.place](function()
    for _ = 1, tonumber(req.query.pieces) do
      ok, err = res:write(PIECE)
      if not ok then break end
    end
  end)
  moonquay.log.info(("wrote %s %s"):format(ok, err and err.code))
end)
app:get("/forbidden/:call", { allow_synchronous_io = false }, function(req, res)
  local calls = {
    write = function() res:write("x") end,
    flush = function() res:flush() end,
    finish = function() res:finish("x") end,
    json = function() res:json({}) end,
  }
  local ok, message
  ;("x"):gsub("x", function() ok, message = pcall(calls[req.params.call]) end)
  return tostring(ok) .. " " .. message
end)
app:post("/then-sleeps", function(req)
  local told = read_in(req)
  moonquay.sleep(0.5)
  return told
end)
return app
]]

local PLACES = { "table.sort", "string.gsub", "tostring" }

local function start(...)
  return server.start({ app = APP, options = { "--set", "log_level=info", ... } })
end

-- The client sends its content when it is asked to, which is when the handler reads.
local function post(s, path, place)
  local connection = s:connect()
  connection:send(("POST %s?place=%s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
    .. "Content-Length: 4\r\n\r\n"):format(path, place))
  local first = connection:read_until("\r\n\r\n")
  if first:find("^HTTP/1.1 100 ") then
    connection:send("body")
  else
    connection.buffer = first .. connection.buffer
  end
  local body = connection:response().body
  connection:close()
  return body
end

for setting, allowed in pairs({ ["true"] = true, ["false"] = false }) do
  describe(("allow_synchronous_io = %s (DESIGN section 5):"):format(setting), function()
    local s
    setup(function()
      s = start("--set", "allow_synchronous_io=" .. setting, "--set", "cpu_limit=20")
    end)
    teardown(function()
      assert.equal(0, s:stop())
    end)

    local cases = {
      { "as it is set", "/read", allowed },
      { "on a route that allows it", "/read/route/true", true },
      { "on a route that forbids it", "/read/route/false", false },
      { "in a group that forbids it", "/group/read", false },
      { "on a route that allows it in such a group", "/group/read/true", true },
      { "for a request that allows it", "/read/request/true", true },
      { "for a request that forbids it", "/read/request/false", false },
      { "for a request that allows it, on a route that does not", "/read/both/true", true },
      { "for a request that forbids it, on a route that does not", "/read/both/false", false },
    }
    for _, case in ipairs(cases) do
      for _, place in ipairs(PLACES) do
        local does = case[3] and "waits" or "raises, and says why"
        it(("a read inside %s %s %s"):format(place, does, case[1]), function()
          local told = post(s, case[2], place)
          if case[3] then
            assert.equal("true body", told)
          else
            assert.matches("^false cannot wait inside [^\n]*" .. place:match("%w+$")
              .. ", and allow_synchronous_io is false: ", told)
          end
        end)
      end
    end

    it("a read waits wherever Lua can be suspended", function()
      assert.equal("body", post(s, "/elsewhere", ""))
    end)

    it("a read that would find its content is no exception", function()
      local response = s:connect():post("/read?place=string.gsub", "body")
      assert.matches(allowed and "^true body$" or "^false cannot wait inside string.gsub",
        response.body)
    end)

    for _, call in ipairs({ "write", "flush", "finish", "json" }) do
      it(("res:%s raises where it is forbidden, and another answer is possible"):format(call),
        function()
          local told = s:get("/forbidden/" .. call).body
          assert.matches("^false .*inside string.gsub, and allow_synchronous_io is false: ", told)
        end)
    end
  end)
end

describe("Synchronous I/O", function()
  local s, worker
  setup(function()
    s = start("--set", "cpu_limit=0.2", "--set", "timeouts.entity_body=0.3")
    worker = s:workers()[1]
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- None of this may cost the worker, or hold it.
  after_each(function()
    assert.equal("ok", s:get("/ok").body)
    assert.same({ worker }, s:workers())
  end)

  local function send(path, place)
    local connection = s:connect()
    connection:send(("POST %s?place=%s HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"):format(
      path, place))
    return connection
  end

  for _, place in ipairs(PLACES) do
    it("waits for no longer than cpu_limit for a client that sends nothing: " .. place, function()
      local connection = send("/read", place)
      assert.equal("true nil timeout", connection:response().body)
      connection:send("late") -- drained
      assert.equal("ok", connection:get("/ok").body)
      connection:close()
    end)

    it("waits for no longer than cpu_limit for a client that reads nothing: " .. place, function()
      local connection = s:connect()
      connection:send(("GET /write?pieces=1000&place=%s HTTP/1.1\r\nHost: h\r\n\r\n"):format(place))
      s:await("wrote nil timeout")
      s.text.stderr = s.text.stderr:gsub("wrote nil timeout", "")
      -- A piece is missing: that must not look like the whole.
      assert.equal("reset", select(2, connection:rest()))
      connection:close()
    end)

    it("writes as a client reads: " .. place, function()
      local got = wire.converse(s,
        ("GET /write?pieces=8&place=%s HTTP/1.0\r\n\r\n"):format(place))
      assert.equal(8 * 65536, #got:match("\r\n\r\n(x*)$"))
    end)
  end

  it("has cpu_limit for all waits of a request together", function()
    local connection = send("/twice", "string.gsub")
    assert.equal("true nil timeout, true nil timeout", connection:response().body)
    connection:close()
  end)

  it("leaves no time limit behind for content that nobody waits for", function()
    local connection = send("/then-sleeps", "string.gsub")
    assert.equal("true nil timeout", connection:response().body)
    connection:close()
  end)
end)
