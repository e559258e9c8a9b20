local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")

-- /hold occupies the only place until its client leaves; the others come off the queue then.
local APP = [[
local core = require("moonquay.core")
return function(req)
  if req.path == "/hold" then
    core.event():wait()
  elseif req.path == "/abort" then
    req:abort()
  end
  return "ok"
end]]

local function start(...)
  return server.start({ app = APP, options = { "--set", "max_concurrent_requests=1", ... } })
end

local function send(s, path)
  local connection = s:connect()
  connection:send("GET " .. path .. " HTTP/1.1\r\nHost: h\r\n\r\n")
  return connection
end

local function await_gauge(s, name, count)
  await(("%s = %d"):format(name, count), function()
    local result = server.run({
      "status", "--json", tostring(s.pid), env = { XDG_RUNTIME_DIR = s.runtime_dir },
    })
    return json.decode(result.stdout).apps[1][name] == count
  end)
end

describe("A request that comes off the queue", function()
  after_each(server.stop_all)

  it("may be aborted by its handler at once, also when many are", function()
    local s = start()
    local holder = send(s, "/hold")
    await_gauge(s, "running", 1)
    local waiting = {}
    for i = 1, 100 do -- more than the server keeps free exchanges for
      waiting[i] = send(s, "/abort")
    end
    await_gauge(s, "queued", #waiting)
    holder:close()
    for _, connection in ipairs(waiting) do
      assert.equal("", (connection:rest()))
    end
    assert.equal("ok", s:get("/").body)
    assert.is_nil(s:stderr():find("worker_died"))
    assert.equal(0, s:stop())
  end)
end)
