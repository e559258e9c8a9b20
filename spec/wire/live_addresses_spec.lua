local apps = require("spec.support.apps")
local await = require("spec.support.await")
local client = require("spec.support.client")
local live = require("spec.support.live")
local socket = require("socket")
local sys = require("moonquay.probe").sys

local URL, IP = apps.url, apps.ip
local ROOT = URL .. "/"

-- Refused at once; raises when somebody listens.
local function assert_closed(port, host)
  local tcp = host and host:find(":", 1, true) and socket.tcp6() or socket.tcp()
  tcp:settimeout(5)
  local ok, err = tcp:connect(host or IP, port)
  tcp:close()
  assert.is_nil(ok, "somebody listens at " .. port)
  assert.equal("connection refused", err)
end

local function url(port, path)
  return ("http://%s:%d%s"):format(IP, port, path or "/")
end

local function listen(prefix)
  return ("return app:listen(%q)"):format(prefix)
end

local function unlisten(prefix)
  return ("return app:unlisten(%q)"):format(prefix)
end

local function addresses_of(s)
  local list = s:everywhere("return app.addresses")
  for _, one in ipairs(list) do
    assert.same(list[1], one)
  end
  assert.same(list[1], { table.unpack(s:status().apps[1].addresses) })
  return list[1]
end

-- Which worker answers at a port.
local function pid_at(port, path)
  local connection = live.send("return", apps.connect(port), path)
  local pid = live.read(connection)
  connection:close()
  return pid
end

describe("app:listen and app:unlisten", function()
  local s
  before_each(function()
    s = live.start()
  end)
  after_each(function()
    if s then
      assert.equal(0, s:stop())
    end
    live.stop_all()
  end)

  for number = 1, 2 do
    it(("asked for in worker %d, hold in all when they return"):format(number), function()
      assert.same({ true, URL .. "/new/" }, { s:run_in(number, listen(URL .. "/new")) })
      assert.same({ ROOT, URL .. "/new/" }, addresses_of(s))
      for _ = 1, 2 do
        for pid, connection in pairs((s:workers())) do
          assert.same({ pid, true, "/new" }, { live.read(live.send("return req.path_base",
            connection, "/new/")) })
        end
      end
      assert.same({ true, URL .. "/new/" }, { s:run_in(3 - number, unlisten(URL .. "/NEW/")) })
      assert.same({ ROOT }, addresses_of(s))
      for _, connection in pairs((s:workers())) do
        connection:send("GET /new/run HTTP/1.1\r\nHost: test\r\n\r\n")
        assert.equal(404, connection:response().status)
      end
    end)
  end

  it("open a port with the first prefix and close it with the last", function()
    assert_closed(8610)
    assert.same({ true, url(8610, "/a/") }, { s:run_in(1, listen(url(8610, "/a"))) })
    local seen = {}
    await("both workers at the new port", function()
      seen[pid_at(8610, "/a/")] = true
      local _, pids = s:workers()
      return seen[pids[1]] and seen[pids[2]]
    end)
    assert.is_true((s:run_in(2, listen(url(8610, "/b/")))))
    assert.same({ ROOT, url(8610, "/a/"), url(8610, "/b/") }, addresses_of(s))
    assert.is_true((s:run_in(2, unlisten(url(8610, "/a/")))))
    assert.equal(404, apps.get("/a/x", 8610).status)
    assert.truthy(pid_at(8610, "/b/"))
    assert.is_true((s:run_in(1, unlisten(url(8610, "/b/")))))
    assert_closed(8610)
    assert.same({ ROOT }, addresses_of(s))
  end)

  it("leave alone what has begun at a port that is closed", function()
    local _, dir = apps.write({})
    assert.is_true((s:run_in(1, listen(url(8610)))))
    local running = live.send(([[
      io.open("%s/begun", "w"):close()
      while not io.open("%s/go") do moonquay.sleep(0.01) end
      return "went on"]]):format(dir.path, dir.path), apps.connect(8610))
    await("the handler", function()
      return dir:read("begun")
    end)
    assert.is_true((live.run(unlisten(url(8610)))))
    assert_closed(8610)
    dir:write("go", "")
    assert.equal("went on", select(3, live.read(running)))
    running:send("GET /run HTTP/1.1\r\nHost: test\r\n\r\n")
    assert.equal(400, running:response().status, "no prefix has this port any more")
  end)

  it("can close the port that the request has come by", function()
    assert.is_true((s:run_in(1, listen(url(8610)))))
    local connection = live.send(unlisten(url(8610)), apps.connect(8610))
    assert.same({ true, url(8610) }, { select(2, live.read(connection)) })
    assert_closed(8610)
    assert.same({ ROOT }, addresses_of(s))
  end)

  it("can take all prefixes away and bring one back", function()
    local _, dir = apps.write({})
    local connections, pids = s:workers()
    live.send(([[
      app:unlisten("%s")
      io.open("%s/none", "w"):close()
      while not io.open("%s/go") do moonquay.sleep(0.01) end
      local none = #app.addresses
      app:listen("%s")
      return none]]):format(ROOT, dir.path, dir.path, ROOT), connections[pids[1]])
    await("no prefix", function()
      return dir:read("none")
    end)
    assert_closed(apps.port)
    assert.same({}, { table.unpack(s:status().apps[1].addresses) })
    dir:write("go", "")
    assert.same({ pids[1], true, 0 }, { live.read(connections[pids[1]]) })
    assert.same({ ROOT }, addresses_of(s))
  end)

  it("resolve port 0 and return what it is", function()
    local ok, first = s:run_in(1, listen(("http://%s:0/zero"):format(IP)))
    assert.is_true(ok)
    local port = tonumber(first:match("^http://" .. IP .. ":(%d+)/zero/$"))
    assert.is_true(port > 0, first)
    assert.truthy(pid_at(port, "/zero/"))
    local _, second = s:run_in(2, listen(("http://%s:0/zero"):format(IP)))
    assert.not_equal(first, second)
    assert.same({ ROOT, first, second }, addresses_of(s))
    assert.is_true((s:run_in(2, unlisten(first))))
    assert_closed(port)
    local none, err = select(2, s:run_in(1, unlisten(("http://%s:0/zero/"):format(IP))))
    assert.is_nil(none, "port 0 is none of the addresses")
    assert.matches("is no prefix of ", err.message)
    assert.same({ ROOT, second }, addresses_of(s))
  end)

  it("serve a name at a port of its own, on both families of the loopback", function()
    local _, prefix = s:run_in(1, listen("http://localhost:0/"))
    local port = tonumber(prefix:match("^http://localhost:(%d+)/$"))
    for _, host in ipairs({ "127.0.0.1", "::1" }) do
      local connection = client.connect(host, port)
      connection:send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal(404, connection:response().status)
      connection:close()
    end
    assert.is_true((s:run_in(2, unlisten(prefix))))
    assert_closed(port, "127.0.0.1")
    assert_closed(port, "::1")
  end)

  it("give nil and an error for a port that somebody has, and change nothing", function()
    local listener = assert(socket.bind(IP, 8611))
    local ok, none, err = s:run_in(1, listen(url(8611)))
    assert.is_true(ok)
    assert.is_nil(none)
    assert.equal("invalid", err.code)
    assert.truthy(err.message:find(url(8611) .. ": the port 8611 is in use", 1, true), err.message)
    assert.matches(" by %S+, process " .. sys.getpid(), err.message)
    assert.same({ ROOT }, addresses_of(s))
    listener:close()
    assert.same({ true, url(8611) }, { s:run_in(1, listen(url(8611))) })
  end)

  it("give nil and an error for a name of whose families one is taken, and keep none", function()
    local listener = assert(socket.tcp6())
    assert(listener:bind("::1", 0))
    assert(listener:listen(1))
    local _, port = listener:getsockname()
    local prefix = ("http://localhost:%d/"):format(port)
    local none, err = select(2, s:run_in(1, listen(prefix)))
    assert.is_nil(none)
    assert.truthy(err.message:find(prefix .. ": the port " .. port .. " is in use", 1, true))
    assert_closed(port, "127.0.0.1")
    listener:close()
    assert.same({ true, prefix }, { s:run_in(1, listen(prefix)) })
  end)

  local refused = {
    { "listen", ROOT, "/app.lua names the prefix " .. ROOT .. " twice" },
    { "listen", URL:upper(), "/app.lua names the prefix " .. ROOT .. " twice" },
    { "listen", ("https://%s:8612/"):format(IP), ": no certificate is for it: " },
    { "unlisten", URL .. "/other/", URL .. "/other/ is no prefix of " },
    { "unlisten", url(8612), url(8612) .. " is no prefix of " },
  }
  for _, case in ipairs(refused) do
    it(("give nil and an error: %s %s"):format(case[1], case[2]:gsub("%d+%.%d+%.%d+%.%d+", "IP")),
      function()
        local ok, none, err = s:run_in(1, ("return app:%s(%q)"):format(case[1], case[2]))
        assert.is_true(ok)
        assert.is_nil(none)
        assert.truthy(err.message:find(case[3], 1, true), err.message)
        assert.same({ ROOT }, addresses_of(s))
      end)
  end

  local misuse = {
    { '"ftp://x"', "the scheme must be http or https" }, { '""', "" }, { '"x"', "scheme://" },
    { '"http://x:70000/"', "the port" }, { "nil", "string expected" }, { "{}", "string expected" },
    { '"http://x/a/../b"', "" }, { '("http://x/" .. ("a"):rep(1 << 20))', "" },
    { '"http://x/a\\0b"', "" },
  }
  for _, name in ipairs({ "listen", "unlisten" }) do
    for _, case in ipairs(misuse) do
      it(("raise for what is no prefix, with its place: %s %s"):format(name, case[1]), function()
        local ok, message = s:run_in(1, ("\nlocal x = app:%s(%s)"):format(name, case[1]))
        assert.is_false(ok)
        assert.truthy(message:find(case[2], 1, true), message)
        assert.matches(case[2] == "string expected" and "" or "^chunk:2: ", message)
        assert.is_true(#message < 2000)
        assert.same({ ROOT }, addresses_of(s))
      end)
    end
  end

  it("can follow each other at once, fifty times, each time to be used", function()
    for _ = 1, 50 do
      assert.same({ true, url(8613) }, { s:run_in(1, listen(url(8613))) })
      assert.truthy(pid_at(8613))
      assert.same({ true, url(8613) }, { s:run_in(2, unlisten(url(8613))) })
      assert_closed(8613)
    end
    assert.same({ true, true, true, "served" }, { s:run_in(1, ([[
      local gone, back
      for _ = 1, 50 do
        back = app:listen("URL")
        gone = app:unlisten("URL")
      end
      return gone == "URL", (app:listen("URL")) == back, "served"]]):gsub("URL", url(8613))) })
    assert.truthy(pid_at(8613))
    assert.same({ ROOT, url(8613) }, addresses_of(s))
  end)

  it("can be asked for a thousand times in a row, and every prefix is served", function()
    local ok, count = s:run_in(1, ([[
      for i = 1, 1000 do
        local prefix, err = app:listen("URL/n" .. i)
        if prefix ~= "URL/n" .. i .. "/" then return i .. ": " .. tostring(err or prefix) end
      end
      return #app.addresses]]):gsub("URL", URL))
    assert.same({ true, 1001 }, { ok, count })
    assert.equal(1001, #addresses_of(s))
    for _, connection in pairs((s:workers())) do
      for _, i in ipairs({ 1, 500, 1000 }) do
        assert.equal("/n" .. i, select(3, live.read(live.send("return req.path_base", connection,
          ("/n%d/"):format(i)))))
      end
    end
    ok, count = s:run_in(2, ([[
      for i = 1, 1000 do
        assert(app:unlisten("URL/n" .. i))
      end
      return #app.addresses]]):gsub("URL", URL))
    assert.same({ true, 1 }, { ok, count })
    assert.same({ ROOT }, addresses_of(s))
  end)

  it("open and close a thousand ports in a row", function()
    local ok, wrong = s:run_in(1, ([[
      for i = 1, 1000 do
        local prefix = assert(app:listen("http://IP:0/"))
        if app:unlisten(prefix) ~= prefix then return i end
      end
      return "none"]]):gsub("IP", IP))
    assert.same({ true, "none" }, { ok, wrong })
    assert.same({ ROOT }, addresses_of(s))
  end)

  it("open no more than 512 sockets a worker, and tell who wants more", function()
    local ok, count, message = s:run_in(1, ([[
      for i = 1, 600 do
        local prefix, err = app:listen("http://IP:0/")
        if not prefix then return i, err.message end
      end]]):gsub("IP", IP))
    assert.same({ true, 512 }, { ok, count })
    assert.matches("more than 512 socket addresses", message)
    local addresses = addresses_of(s)
    assert.equal(512, #addresses)
    assert.truthy(pid_at(tonumber(addresses[512]:match(":(%d+)/$"))))
    assert.is_true((s:run_in(2, unlisten(addresses[512]))))
    assert.is_true((s:run_in(2, listen(("http://%s:0/"):format(IP)))))
  end)

  it("come back each, in both workers at once and from many tasks", function()
    local connections, pids = s:workers()
    for number, pid in ipairs(pids) do
      live.send(([[
        local tasks, wrong = {}, {}
        for task = 1, 40 do
          tasks[task] = moonquay.spawn(function()
            for _ = 1, 5 do
              local prefix = ("URL:%%d/t%%d/"):format(8620 + task %% 4, task + 100 * NUMBER)
              assert(app:listen(prefix) == prefix)
              assert(app:unlisten(prefix) == prefix)
            end
            assert(app:listen(("URL:8620/t%%d/"):format(task + 100 * NUMBER)))
          end)
        end
        for _, task in ipairs(tasks) do
          local ok, err = task:join()
          if not ok then wrong[#wrong + 1] = tostring(err) end
        end
        return wrong]]):gsub("%%%%", "%%"):gsub("URL:", ("http://%s:"):format(IP)):gsub("NUMBER",
        tostring(number)), connections[pid])
    end
    for _, pid in ipairs(pids) do
      assert.same({ pid, true, {} }, { live.read(connections[pid]) })
    end
    assert.equal(81, #addresses_of(s))
    for port = 8621, 8623 do
      assert_closed(port)
    end
    assert.truthy(pid_at(8620, "/t140/"))
    assert.truthy(pid_at(8620, "/t240/"))
  end)

  it("close a port at once, whatever other changes go on meanwhile", function()
    local connections, pids = s:workers()
    local _, dir = apps.write({})
    live.send(([[
      local tasks = {}
      for task = 1, 20 do
        tasks[task] = moonquay.spawn(function()
          while not io.open("%s/enough") do app.settings.max_accepts = task end
        end)
      end
      for _, task in ipairs(tasks) do task:join() end]]):format(dir.path), connections[pids[1]])
    for _ = 1, 50 do
      local asking = live.send(listen(url(8614)), connections[pids[2]])
      assert.is_true(select(2, live.read(asking)))
      assert.truthy(pid_at(8614))
      assert.is_true(select(2, live.read(live.send(unlisten(url(8614)), asking))))
      assert_closed(8614)
    end
    dir:write("enough", "")
    assert.same({ pids[1], true }, { live.read(connections[pids[1]]) })
  end)

  it("are made when the client leaves meanwhile, and the asker hears of that", function()
    local connections, pids = s:workers()
    local _, dir = apps.write({})
    assert(sys.kill(pids[2], "STOP"))
    live.send(([[
      local prefix, err = app:listen("%s")
      local file = io.open("%s/new", "w")
      file:write(tostring(prefix), " ", err and err.code or "no error")
      file:close()
      os.rename("%s/new", "%s/told")]]):format(url(8610), dir.path, dir.path, dir.path),
      connections[pids[1]])
    await("the new port", function()
      return #s:status().apps[1].addresses == 2
    end)
    connections[pids[1]]:close()
    s.kept[pids[1]] = nil
    assert.equal("nil closed", await("the end of the wait", function()
      return dir:read("told")
    end))
    assert(sys.kill(pids[2], "CONT"))
    assert.same({ ROOT, url(8610) }, addresses_of(s))
    assert.same({ true, url(8610) }, { s:run_in(1, unlisten(url(8610))) })
    assert_closed(8610)
  end)

  it("hold in workers that are born later", function()
    local _, pids = s:workers()
    assert.is_true((s:run_in(1, listen(url(8610, "/x/")))))
    assert.is_true((s:run_in(1, listen(URL .. "/y/"))))
    assert.is_true((s:run_in(1, unlisten(ROOT))))
    assert.is_true((live.run(listen(ROOT), "/y/")))
    local expected = { url(8610, "/x/"), URL .. "/y/", ROOT }
    for _, pid in ipairs(pids) do
      assert(sys.kill(pid, "KILL"))
      s.server:await(("worker_died [^\n]*pid=%d "):format(pid))
    end
    assert.same(expected, addresses_of(s))
    local seen = {}
    await("both successors at the other port", function()
      seen[pid_at(8610, "/x/")] = true
      local _, now = s:workers()
      return seen[now[1]] and seen[now[2]]
    end)
    assert.is_nil(seen[pids[1]] or seen[pids[2]])
    assert.is_true((s:run_in(1, unlisten(url(8610, "/x/")))))
    assert_closed(8610)
  end)

  it("hold for the sockets of a worker that is not there at the moment", function()
    local _, pids = s:workers()
    -- Once too often in a row, so that its successor comes after a while.
    for _ = 1, 3 do
      local victim = await("the other worker", function()
        for _, pid in ipairs(s.server:workers()) do
          if pid ~= pids[1] then
            return pid
          end
        end
      end)
      assert(sys.kill(victim, "KILL"))
      s.server:await(("worker_died [^\n]*pid=%d "):format(victim))
    end
    assert.same({ pids[1] }, s.server:workers())
    assert.is_true((live.run(listen(url(8610)))))
    for _ = 1, 20 do -- whichever socket they come to
      assert.truthy(pid_at(8610))
    end
    assert.is_true((live.run(unlisten(url(8610)))))
    assert_closed(8610)
    assert.same({ ROOT }, addresses_of(s))
  end)
end)

describe("addresses of an app", function()
  after_each(live.stop_all)

  it("are those of the command line, of url_prefixes and of app:listen at load", function()
    local s = live.start({ "app.lua", live.app(nil, ([[
      loaded.first = app:listen("URL/first")
      loaded.second = app:listen("HTTP://IP:0/second/")
      loaded.addresses = type(app.addresses)]])) })
    local addresses = addresses_of(s)
    assert.equal(3, #addresses)
    assert.equal(ROOT, addresses[1])
    assert.equal(URL .. "/first/", addresses[2])
    local port = tonumber(addresses[3]:match("^http://" .. IP .. ":(%d+)/second/$"))
    assert.is_true(port > 0, addresses[3])
    assert.truthy(pid_at(port, "/second/"))
    assert.same({ true, URL .. "/first/", ("http://%s:0/second/"):format(IP), "nil" },
      { s:run_in(2, "return loaded.first, loaded.second, loaded.addresses") })
    assert.equal(0, s:stop())
  end)

  it("are a copy: what a handler does to the list changes nothing", function()
    local s = live.start()
    assert.is_true((s:run_in(1, "app.addresses[1] = nil")))
    assert.same({ ROOT }, addresses_of(s))
    assert.equal(0, s:stop())
  end)

  for _, case in ipairs({
    { 'app:listen("ftp://x")', 65, ":3: ftp://x: the scheme must be http or https" },
    { 'app:listen("URL/")', 78, " names the prefix " .. ROOT .. " twice" },
    { 'app:listen("http://x/a,b/")', 65, ":3: a prefix with a comma" },
  }) do
    it(("that are wrong at load end the start: %s"):format(case[1]), function()
      local result, paths = apps.run({ "a.lua",
        'local app = require("moonquay").app({ url_prefixes = "URL/" })\n\n' .. case[1]
          .. "\nreturn app" })
      assert.equal(case[2], result.status, result.stderr)
      assert.truthy(result.stderr:find("moonquay: " .. paths[1] .. case[3], 1, true),
        result.stderr)
    end)
  end

  it("go from one app to another only when the first has let go", function()
    local s = live.start({ "a.lua", live.app("URL/"), "b.lua", live.app("URL/b/") })
    local _, none, err = live.run(listen(URL .. "/b/"))
    assert.is_nil(none)
    assert.matches("^" .. URL:gsub("%p", "%%%0") .. "/b/: both %S+/b.lua and %S+/a.lua name this "
      .. "prefix$", err.message)
    none, err = select(2, live.run(unlisten(URL .. "/b/")))
    assert.is_nil(none)
    assert.matches("/b/ is no prefix of %S+/a.lua$", err.message)
    assert.same({ true, URL .. "/b/" }, { live.run(unlisten(URL .. "/b/"), "/b/") })
    assert.same({ true, URL .. "/b/" }, { live.run(listen(URL .. "/b/")) })
    assert.same({ true, "/b" }, { live.run("return req.path_base", "/b/") })
    assert.same({ ROOT, URL .. "/b/" }, addresses_of(s))
    assert.equal(0, s:stop())
  end)

  it("share a port between apps, which is closed with the last prefix of all", function()
    local s = live.start({ "a.lua", live.app("URL/"), "b.lua", live.app("URL/b/") })
    assert.is_true((live.run(listen(url(8615, "/a/")))))
    assert.is_true((live.run(listen(url(8615, "/b/")), "/b/")))
    assert.is_true((live.run(unlisten(url(8615, "/a/")))))
    assert.truthy(pid_at(8615, "/b/"))
    assert.is_true((live.run(unlisten(url(8615, "/b/")), "/b/")))
    assert_closed(8615)
    assert.equal(0, s:stop())
  end)
end)
