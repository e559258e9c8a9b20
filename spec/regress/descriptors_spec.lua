local await = require("spec.support.await")
local client = require("spec.support.client")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local APP = [[
local app = require("moonquay").app()
app:get("/", function() return "ok" end)
app:get("/listen/:count", function(req)
  for i = 1, tonumber(req.params.count) do
    assert(app:listen(("http://127.0.0.1:0/%d/"):format(i)))
  end
  return "listens"
end)
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

  it("goes on without a socket when too many come", function()
    local s = server.start({ app = APP, wrap = { "prlimit", "--nofile=100:100" } })
    local workers = s:workers()
    local kept, crowd = s:connect(), {}
    assert.equal("ok", kept:get("/").body)
    for i = 1, 120 do
      crowd[i] = s:connect()
    end
    s:await("accept_failed")
    assert.equal("listens", kept:get("/listen/30").body)
    s:await("socket_lost [^\n]*no descriptor is left for 127.0.0.1 port %d+")
    for i = 1, #crowd do
      crowd[i]:close()
    end
    assert.equal("ok", kept:get("/").body)
    local prefix = kept:get("/listen").body -- there are descriptors again
    local other = client.connect("127.0.0.1", tonumber(prefix:match(":(%d+)/new/$")))
    assert.equal(200, other:get("/new/").status)
    other:close()
    assert.same(workers, s:workers())
    assert.equal(0, s:stop())
  end)

  it("survives that another one ends and its sockets come", function()
    local s = server.start({ app = APP, options = { "--workers", "2" },
      wrap = { "prlimit", "--nofile=150:150" } })
    assert.equal("listens", s:get("/listen/18").body)
    local crowd = {}
    for i = 1, 300 do
      crowd[i] = s:connect()
    end
    s:await("accept_failed process=worker%-0")
    s:await("accept_failed process=worker%-1")
    local victim, other = table.unpack(s:workers())
    assert(sys.kill(victim, "KILL"))
    s:await("worker_died [^\n]*pid=" .. victim)
    await("two workers again", function() return #s:workers() == 2 end)
    for i = 1, #crowd do
      crowd[i]:close()
    end
    assert.equal("ok", s:get("/").body)
    assert.is_nil(s:stderr():find("worker_died [^\n]*pid=" .. other))
    assert.equal(0, s:stop())
  end)
end)
