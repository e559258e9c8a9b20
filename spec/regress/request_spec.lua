local await = require("spec.support.await")
local core = require("moonquay.core")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()

app:get("/ok", function() return "ok" end)

-- One at a time (max_concurrent_requests is 1): the others wait in the queue until it is opened.
local gate = core.event()
app:get("/hold", function() core.log("info", "holds") gate:wait() gate:clear() return "held" end)
core.spawn(function() while core.sleep(0.01) do
  local file = io.open(os.getenv("GATE"))
  if file then file:close() os.remove(os.getenv("GATE")) gate:set() end
end end)
local visits = 0
app:get("/visit", function() visits = visits + 1 return "visited" end)
app:get("/visits", function() return tostring(visits) end)

app:post("/detached", function(req)
  core.spawn_detached(function()
    local ok, err = pcall(function() repeat until not req.body:read() end)
    core.log("info", "the reader ends")
  end)
  core.sleep(0)
  core.log("info", "the reader reads")
  core.sleep(3600)
end)

app:post("/drip", function(req)
  local bytes, err
  ;("x"):gsub("x", function() bytes, err = req.body:read("a") end)
  return err and err.code or "all read"
end)

app:get("/json", function(req, res)
  local text = ("x"):rep(1 << 20)
  local ok, err = pcall(res.json, res, { text, text, text, text, text, text, text, text })
  return tostring(err)
end)
app:get("/json/encode", function(req, res)
  local text = ("x"):rep(1 << 20)
  local ok, err = pcall(core.json.encode, { text, text, text, text, text, text, text, text })
  return tostring(err)
end)
return app
]]

describe("A request", function()
  after_each(server.stop_all)

  local function start(...)
    return server.start({ app = APP, env = { GATE = "/nonexistent" },
      options = { "--set", "log_level=info", ... } })
  end

  it("whose client left while it was queued is not run", function()
    local dir = temp.dir()
    local s = server.start({ app = APP, env = { GATE = dir.path .. "/gate" }, options = {
      "--set", "log_level=info", "--set", "max_concurrent_requests=1" } })
    local first, last = s:connect(), s:connect()
    first:send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n")
    s:await("holds")
    local leaving = {}
    for i = 1, 20 do
      leaving[i] = s:connect()
      leaving[i]:send("GET /visit HTTP/1.1\r\nHost: test\r\n\r\n")
    end
    last:send("GET /visits HTTP/1.1\r\nHost: test\r\n\r\n")
    for i = 1, 20 do
      leaving[i]:reset()
    end
    local refused = s:connect()
    refused:send("GET / HTTP/9.9\r\n\r\n")
    assert.equal(505, refused:response().status) -- the resets were sent before this
    dir:write("gate", "")
    assert.equal("held", first:response().body)
    assert.equal("0", last:response().body)
    assert.equal("ok", s:get("/ok").body)
    s:stop()
    dir:remove()
  end)

  it("that another task reads tells it that the client left", function()
    local s = start()
    local connection = s:connect()
    connection:send("POST /detached HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc")
    s:await("the reader reads")
    connection:reset()
    s:await("the reader ends")
    s:stop()
  end)

  it("does not hold up its worker for longer than cpu_limit, however slowly content comes",
    function()
      local s = start("--set", "cpu_limit=0.2")
      local connection = s:connect()
      connection:send("POST /drip HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n")
      await("an answer while content still comes", function()
        connection:send("x")
        return connection:readable(0.02)
      end)
      assert.equal("timeout", connection:response().body)
      connection:close()
      s:stop()
    end)

  -- The sanitized build tells at the end what was lost.
  it("loses no memory when its JSON does not fit", function()
    local s = start("--set", "memory_limit=6MiB")
    assert.truthy(s:get("/json").body:find("memory", 1, true))
    assert.truthy(s:get("/json/encode").body:find("memory", 1, true))
    s:stop()
  end)
end)

describe("What is left of a request", function()
  it("is not taken for a request of another server in the same state", function()
    local kept
    local function send(handler)
      local server_in_state = core.server(handler)
      local connection = server_in_state:connect()
      connection:send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
      repeat
        local bytes = connection:receive(5)
      until not bytes
      connection:close()
      return server_in_state
    end
    local first = send(function(req) kept = req return "first" end)
    local ok, err
    local second = send(function()
      ok, err = pcall(function() return kept.path end)
      return "second"
    end)
    assert.is_false(ok)
    assert.truthy(tostring(err):find("has ended", 1, true))
    assert.is_not.equal(first, second)
  end)
end)
