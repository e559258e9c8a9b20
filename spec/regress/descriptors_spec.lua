local await = require("spec.support.await")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
local app = require("moonquay").app()
app:get("/", function() return "ok" end)
app:get("/listen", function()
  local prefix, err = app:listen("http://127.0.0.1:0/new/")
  return prefix or tostring(err)
end)
return app]]

describe("A worker whose descriptors are all connections", function()
  local dir
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  it("still gets sockets and log files from the master", function()
    local s = server.start({ app = APP, wrap = { "prlimit", "--nofile=100:100" },
      options = { "--error-log", dir.path .. "/error.log" } })
    local workers = s:workers()
    local kept, crowd = s:connect(), {}
    assert.equal("ok", kept:get("/").body)
    for i = 1, 120 do
      crowd[i] = s:connect()
    end
    await("a worker without a descriptor left", function()
      return (dir:read("error.log") or ""):find("accept_failed", 1, true)
    end)
    assert.matches("^http://127.0.0.1:%d+/new/$", kept:get("/listen").body)
    assert(os.rename(dir.path .. "/error.log", dir.path .. "/old.log"))
    s:signal("USR1")
    await("the new log", function()
      return (dir:read("error.log") or ""):find("reopened", 1, true)
    end)
    assert.equal("ok", kept:get("/").body)
    assert.same(workers, s:workers())
    for i = 1, #crowd do
      crowd[i]:close()
    end
    assert.equal(0, s:stop())
  end)
end)
