-- A host and apps that are attached to it, each a process of its own.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local APP = [[
app:get("/hello", function(req) return "hello from " .. req.path_base end)
app:post("/echo", function(req) return req.body:read("a") end)
app:get("/pid", function()
  for line in io.lines("/proc/self/status") do
    local pid = line:match("^Pid:%s*(%d+)")
    if pid then return pid end
  end
end)
]]

describe("a host", function()
  local host

  before_each(function()
    host = hosts.start()
  end)

  after_each(function()
    server.stop_all()
  end)

  local function body(app, path)
    local connection = app:connect({ deadline = 30 })
    connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path))
    local response = connection:response()
    connection:close()
    return response.status == 200 and response.body or response.status
  end

  it("serves an app that is a process of its own", function()
    local app = host:app(APP, { prefix = "shop" })
    assert.equal("hello from /shop", body(app, "/shop/hello"))
    assert.equal(404, body(app, "/other"))
    local connection = app:connect()
    local content = ("x"):rep(100000)
    connection:send("POST /shop/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
      content)
    assert.equal(content, connection:response().body)
    assert.equal(0, app:stop())
    assert.equal(0, host:stop())
  end)

  it("and its app sleep while nobody asks for anything", function()
    local app = host:app(APP)
    local connection = app:connect()
    connection:send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.equal(200, connection:response().status) -- and stays, with its time limits
    local pids, before = {}, {}
    for _, of in ipairs({ host.server, app }) do
      for _, pid in ipairs(of:workers()) do
        pids[#pids + 1] = pid
      end
    end
    local function wakes(pid)
      local file <close> = assert(io.open(("/proc/%d/status"):format(pid)))
      return tonumber(file:read("a"):match("\nvoluntary_ctxt_switches:%s*(%d+)"))
    end
    for i, pid in ipairs(pids) do
      before[i] = wakes(pid)
    end
    sys.poll({}, 1000)
    for i, pid in ipairs(pids) do
      assert.truthy(wakes(pid) - before[i] < 10, "worker " .. i)
    end
    connection:close()
  end)

  it("shares a port between processes", function()
    local shop = host:app(APP, { prefix = "shop" })
    local blog = host:app(APP, { prefix = "blog", port = shop.port })
    assert.equal(shop.port, blog.port)
    assert.equal("hello from /shop", body(shop, "/shop/hello"))
    assert.equal("hello from /blog", body(shop, "/blog/hello"))
    local other = host:app(APP, { prefix = "shop", port = shop.port, ready = false })
    assert.same({ exit = 69 }, other:wait(10))
    assert.truthy(other:stderr():find("another app has this prefix", 1, true))
    assert.equal("hello from /shop", body(shop, "/shop/hello"))
  end)

  it("opens a port with the first prefix on it, and closes it with the last", function()
    local shop = host:app(APP, { prefix = "shop", options = { "--unregister" } })
    local blog = host:app(APP, { prefix = "blog", port = shop.port, options = { "--unregister" } })
    shop:stop()
    assert.equal("hello from /blog", body(blog, "/blog/hello"))
    blog:stop()
    await("a closed port", function()
      return not pcall(client.connect, "127.0.0.1", shop.port)
    end)
  end)

  it("has one queue limit for all its workers, and says no as the app wants it", function()
    local app = host:app([[
app:get("/", function() while true do require("moonquay").sleep(1000) end end)]],
      { options = { "--set", "max_concurrent_requests=1", "--set", "request_queue_limit=3", "--set",
        "http_503_verbosity=full" } })
    local waiting, refused = {}, 0
    for i = 1, 10 do
      waiting[i] = app:connect({ deadline = 30 })
      waiting[i]:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      await("request " .. i, function()
        local queue = host:http("show servicestate").queues[1]
        if waiting[i]:readable(0) then
          local response = waiting[i]:response()
          assert.equal(503, response.status)
          assert.truthy(response.body:find("too many requests wait", 1, true))
          refused = refused + 1
          return true
        end
        return queue.running + queue.queued == i
      end)
    end
    assert.equal(6, refused)
  end)

  it("has machine-wide options, which hold for all apps", function()
    host:stop()
    host = hosts.start({ options = { "--set", "max_field_length=100" } })
    local app = host:app(APP)
    local connection = app:connect()
    connection:send("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " .. ("x"):rep(200) .. "\r\n\r\n")
    assert.equal(431, connection:response().status)
  end)

  it("lets requests wait for an app that is started again", function()
    local app = host:app(APP)
    assert.equal("hello from ", body(app, "/hello"))
    local port = app.port
    assert.equal(0, app:stop())
    local waiting = {}
    for i = 1, 5 do
      waiting[i] = client.connect("127.0.0.1", port, { deadline = 30 })
      waiting[i]:send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    end
    host:app(APP, { port = port })
    for i = 1, 5 do
      assert.equal(200, waiting[i]:response().status)
    end
  end)

  it("replaces its registrar, and apps come back by themselves", function()
    local app = host:app(APP)
    local registrar = host:children("registrar")[1]
    sys.kill(registrar, "KILL")
    host.server:await("registrar_died")
    app:await("host_found")
    assert.equal("hello from ", body(app, "/hello"))
    assert.not_equal(registrar, host:children("registrar")[1])
    local other = host:app(APP, { prefix = "new", port = app.port })
    assert.equal("hello from /new", body(other, "/new/hello"))
  end)

  it("replaces its workers, and apps are connected without their doing", function()
    local app = host:app(APP)
    for _, worker in ipairs(host:children("worker")) do
      sys.kill(worker, "KILL")
    end
    await("two new workers", function()
      return select(2, host.server:stderr():gsub("worker_died", "")) == 2
        and #host:children("worker") == 2
    end)
    for _ = 1, 10 do
      assert.equal("hello from ", body(app, "/hello"))
    end
  end)

  it("serves an app whose worker was replaced", function()
    local app = host:app(APP)
    local before = body(app, "/pid")
    sys.kill(tonumber(before), "KILL")
    local after = body(app, "/pid") -- it waits for the next one
    assert.not_equal(before, after)
    assert.truthy(tonumber(after))
  end)

  describe("lets an app behind it change at run time", function()
    local CHANGING = [[
app:get("/set/:key", function(req)
  local ok, err = pcall(function() app.settings[req.params.key] = req.query.to end)
  return ok and "ok" or tostring(err)
end)
app:get("/get/:key", function(req) return tostring(app.settings[req.params.key]) end)
app:get("/addresses", function() return table.concat(app.addresses, " ") end)
app:get("/:op", function(req)
  local ok, err = app[req.params.op](app, req.query.prefix)
  return ok or tostring(err)
end)]]

    it("settings, its own and those that the host applies", function()
      local app = host:app(CHANGING, { workers = 2 })
      assert.equal("ok", body(app, "/set/max_request_body_size?to=5"))
      assert.equal("ok", body(app, "/set/server_header?to=quay"))
      assert.equal("quay", body(app, "/get/server_header"))
      local connection = app:connect()
      connection:send("GET /get/server_header HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal("quay", connection:response().headers["server"])
      assert.truthy(body(app, "/set/server_header?to=a%00b"):find("server_header", 1, true))
      assert.equal("ok", body(app, "/set/enabled?to=false"))
      assert.equal(503, body(app, "/get/enabled"))
    end)

    it("prefixes, which it has again after a registrar's death", function()
      local app = host:app(CHANGING, { prefix = "a", workers = 2 })
      local new = ("http://localhost:%d/b/"):format(app.port)
      assert.equal(new, body(app, "/a/listen?prefix=" .. new))
      for _ = 1, 4 do
        assert.equal("http://localhost:" .. app.port .. "/a/ " .. new, body(app, "/b/addresses"))
      end
      local other = host:app("", { prefix = "b", port = app.port, ready = false })
      assert.same({ exit = 69 }, other:wait(10))
      sys.kill(host:children("registrar")[1], "KILL")
      app:await("host_found")
      assert.truthy(body(app, "/b/addresses"):find(new, 1, true))
      assert.equal(new, body(app, "/b/unlisten?prefix=" .. new))
      assert.equal(404, body(app, "/b/addresses"))
      assert.equal("http://localhost:" .. app.port .. "/a/", body(app, "/a/addresses"))
      assert.equal(0, app:stop())
      host:app(APP, { prefix = "b", port = app.port })
    end)

    if sys.geteuid() == 0 then
      it("nothing that it may not have", function()
        local app = host:app(CHANGING, { wrap = { "setpriv", "--reuid", "12345", "--regid", "12345",
          "--clear-groups" } })
        assert.truthy(body(app, "/listen?prefix=http://localhost:80/")
          :find("user 12345 may not register it", 1, true))
      end)
    end
  end)

  it("serves an app whose settings say so, with one worker if nobody says how many", function()
    local where = { XDG_RUNTIME_DIR = host.temp.path } -- the usual place for its socket
    local usual = server.start({ command = "host", bare = true, ready = false, env = where,
      options = { "--workers", "1", "--state", host.temp.path .. "/usual.json" } })
    usual:await("started [^\n]*host at")
    local app = server.start({ bare = true, options = { "--no-dev" }, env = where, app = [[
local app = require("moonquay").app({ url_prefixes = { "http://localhost:0/" }, share = true })
app:get("/", function() return "here" end)
return app]] })
    assert.equal("here", body(app, "/"))
    assert.equal(1, #app:workers())
  end)

  it("forgets what is not to outlive its process", function()
    local app = host:app(APP, { options = { "--unregister" } })
    local port = app.port
    host:app(APP, { prefix = "other", port = port })
    assert.equal(0, app:stop())
    local connection = client.connect("127.0.0.1", port, { deadline = 30 })
    connection:send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.equal(404, connection:response().status)
  end)

  it("leaves a file alone that lies where its socket should be", function()
    local path = host.temp:write("file", "precious")
    local second = server.run({ "host", "--socket", path })
    assert.equal(78, second.status)
    assert.truthy(second.stderr:find("is there and is no socket", 1, true))
    assert.equal("precious", assert(io.open(path)):read("a"))
  end)

  it("keeps its socket from a second one", function()
    local second = server.run({ "host", "--socket", host.socket })
    assert.equal(69, second.status)
    assert.truthy(second.stderr:find("another host listens there (--replace takes its place)\n",
      1, true))
  end)
end)

describe("moonquay host and serve --share", function()
  after_each(server.stop_all)

  for name, case in pairs({
    ["a host takes no app"] = { { "host", "app.lua" }, 64, "a host takes no app: app.lua" },
    ["a registrar is nobody's to start"] = { { "registrar" }, 64, "by moonquay host only" },
  }) do
    it(name, function()
      local result = server.run(case[1])
      assert.equal(case[2], result.status)
      assert.truthy(result.stderr:find(case[3], 1, true), result.stderr)
    end)
  end

  it("say when there is no host", function()
    local app = server.start({ app = "return function() end", bare = true, ready = false,
      options = { "--share" }, env = { MOONQUAY_HOST = "/nonexistent/host.sock" } })
    assert.same({ exit = 69 }, app:wait(10))
    assert.truthy(app:stderr():find("no host answers at /nonexistent/host.sock", 1, true))
  end)
end)
