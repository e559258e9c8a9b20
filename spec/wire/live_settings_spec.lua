local apps = require("spec.support.apps")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local live = require("spec.support.live")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

-- A value that is no key's default: as it is assigned, as it is read, as status has it.
local VALUES = {
  drain = { "12.5", 12.5, "12.5" },
  watchdog = { "77", 77, "77" },
  log_level = { "'debug'", "debug", "debug" },
  max_field_length = { "'20KiB'", 20480, "20480" },
  max_request_head_bytes = { "70000", 70000, "70000" },
  max_target_bytes = { "9000", 9000, "9000" },
  max_fields = { "999", 999, "999" },
  url_segment_max_length = { "0", 0, "0" },
  url_segment_max_count = { "16383", 16383, "16383" },
  ["server.max_connections"] = { "5000", 5000, "5000" },
  ["authentication.schemes"] = { "{ 'basic', 'ntlm' }", "basic,ntlm", "basic,ntlm" },
  ["authentication.allow_anonymous"] = { "false", false, "false", back = "true" },
  enabled = { "false", false, "false", back = "true" },
  enable_response_caching = { "false", false, "false" },
  compression = { "false", false, "false" },
  throw_write_errors = { "true", true, "true" },
  max_request_body_size = { "'1MiB'", 1048576, "1048576" },
  allow_synchronous_io = { "false", false, "false" },
  max_accepts = { "3", 3, "3" },
  max_concurrent_requests = { "100", 100, "100" },
  max_connections = { "4000", 4000, "4000" },
  request_queue_limit = { "12", 12, "12" },
  request_queue_limit_bytes = { "'128KiB'", 131072, "131072" },
  http_503_verbosity = { "'full'", "full", "full" },
  ["timeouts.header_wait"] = { "50", 50, "50" },
  ["timeouts.idle_connection"] = { "'off'", "off", "off" },
  ["timeouts.entity_body"] = { "60.25", 60.25, "60.25" },
  ["timeouts.drain_entity_body"] = { "61", 61, "61" },
  ["timeouts.request_queue"] = { "62", 62, "62" },
  ["timeouts.min_send_bytes_per_second"] = { "200", 200, "200" },
  ["timeouts.handler"] = { "600", 600, "600" },
  ["timeouts.cancel"] = { "4", 4, "4" },
  cpu_limit = { "5", 5, "5" },
  server_header = { "false", false, "" },
}

local function options()
  return json.decode(server.run({ "options", "--json" }).stdout)
end

local function assign(key, value)
  return ("app.settings.%s = %s"):format(key, value)
end

local function in_status(state, row)
  return (row.scope == "server" and state or state.apps[1]).settings[row.key]
end

describe("a setting of a running app", function()
  local s
  lazy_setup(function()
    s = live.start()
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
    live.stop_all()
  end)

  it("is one of those that this spec knows, where it can change at any time", function()
    local known, listed = {}, {}
    for key in pairs(VALUES) do
      known[#known + 1] = key
    end
    for _, row in ipairs(options()) do
      if row.changes ~= "start" then
        listed[#listed + 1] = row.key
      end
    end
    table.sort(known)
    table.sort(listed)
    assert.same(listed, known)
  end)

  for _, row in ipairs(options()) do
    local value = VALUES[row.key]
    if value then
      it(("holds in both workers and the master when its assignment is done: %s"):format(row.key),
        function()
          -- What refuses requests is undone by the handler that has asked for it.
          local code = ("%s local seen = app.settings.%s "):format(assign(row.key, value[1]),
            row.key)
          if not value.back then
            assert.same({ true, value[2] }, { s:run_in(1, code .. "return seen") })
            assert.same({ true, value[2] }, { s:run_in(2, "return app.settings." .. row.key) })
            assert.equal(value[3], in_status(s:status(), row))
            return
          end
          local _, dir = apps.write({})
          local connections, pids = s:workers()
          live.send(([[%s
            io.open("%s/set", "w"):close()
            while not io.open("%s/back") do moonquay.sleep(0.01) end
            %s return seen]]):format(code, dir.path, dir.path, assign(row.key, value.back)),
            connections[pids[1]])
          await("the assignment", function()
            return dir:read("set")
          end)
          local other = live.send("return 1", connections[pids[2]])
          assert.truthy(({ [401] = true, [503] = true })[other:response().status])
          s.kept[pids[2]] = nil -- a refusal ends its connection
          assert.equal(value[3], in_status(s:status(), row))
          dir:write("back", "")
          assert.same({ pids[1], true, value[2] }, { live.read(connections[pids[1]]) })
          assert.same({ true, true }, { s:run_in(2, "return app.settings." .. row.key) })
        end)
    end
  end

  for _, row in ipairs(options()) do
    if row.changes == "start" then
      it(("that is read at the start raises and changes nothing: %s"):format(row.key), function()
        local before = in_status(s:status(), row)
        local value = row.type == "number" and "7" or row.type == "boolean" and "true"
          or row.type == "bytes" and "'8MiB'" or ("%q"):format(row.default)
        local ok, message = s:run_in(1, "\n" .. assign(row.key, value))
        assert.is_false(ok)
        assert.equal(("chunk:2: %s can only be set before the start"):format(row.key), message)
        assert.equal(before, in_status(s:status(), row))
      end)
    end
  end

  local wrong = {
    { "max_connections", "-2", "max_connections=-2: must be between 0 and 1000000000, unlimited "
      .. "or none" },
    { "max_connections", "'many'", "max_connections=many: must be between 0" },
    { "max_connections", "true", "max_connections=(a boolean): must be between 0" },
    { "max_connections", "{ 1 }", "max_connections=(a list): must be between 0" },
    { "max_connections", "print", "max_connections=(a function): must be between 0" },
    { "max_accepts", "1.5", "max_accepts=1.5: must be between 1 and 1000000" },
    { "max_accepts", "nil", "max_accepts=nil: must be between 1 and 1000000" },
    { "timeouts.cancel", "0", "timeouts.cancel=0: must be between 0.001 and 86400 seconds, or "
      .. "off" },
    { "timeouts.cancel", "nil", "timeouts.cancel=nil: must be between 0.001" },
    { "timeouts.cancl", "1", "timeouts.cancl: no such option, did you mean timeouts.cancel?" },
    { "max_request_body_size", "-1", "max_request_body_size=-1: must be at least 0, or unlimited" },
    { "log_level", "'loud'", "log_level=loud: must be error, warn, info or debug" },
    { "compression", "'yes'", "compression=yes: must be true or false" },
    { "compression", "1", "compression=(a number): must be true or false" },
    { "server_header", "true", "server_header=(a boolean): must be printable text of at most" },
    { "server_header", "nil", "server_header=nil: must be printable text of at most" },
    { "server_header", "'a\\r\\nb'", "server_header=a??b: must be printable text of at most" },
    { "http_503_verbosity", "nil", "http_503_verbosity=nil: must be basic, limited or full" },
    { "authentication.schemes", "{ 'basic', 'digest' }", "authentication.schemes: digest: must be "
      .. "one or more of basic, ntlm, negotiate, kerberos and certificate" },
    { "max_fields", "0", "max_fields=0: must be between 1 and 65535" },
    { "wrokers", "1", "wrokers: no such option, did you mean workers?" },
    { "memory_limit", "'1KB'", "memory_limit=1KB: must be at least 1MiB, or unlimited" },
  }
  for _, case in ipairs(wrong) do
    it(("that is wrong raises with all that helps and changes nothing: %s = %s"):format(case[1],
      case[2]), function()
      local before = s:status()
      local ok, message = s:run_in(1, "\n\n" .. assign(case[1], case[2]))
      assert.is_false(ok)
      assert.equal("chunk:3: " .. case[3], message:sub(1, #case[3] + 9))
      local now = s:status()
      assert.same(before.settings, now.settings)
      assert.same(before.apps[1].settings, now.apps[1].settings)
    end)
  end

  it("that is wrong in a group leaves the others of the group alone", function()
    local before = s:status().apps[1].settings
    for _, group in ipairs({
      "timeouts = { cancel = 5, handler = -1 }", "timeouts = { cancel = 5, zzz = 1 }",
      "timeouts = { cancel = 5, handler = {} }", "authentication = { 'kerberos', 'digest' }",
      "authentication = { schemes = 'basic', realm = 'x' }",
    }) do
      local ok, message = s:run_in(1, "app.settings." .. group)
      assert.is_false(ok)
      assert.matches("^chunk:1: ", message)
      assert.same(before, s:status().apps[1].settings)
      assert.same({ 4 }, { select(2, s:run_in(2, "return app.settings.timeouts.cancel")) })
    end
  end)

  it("is no secret of its group: whole groups can be assigned, and kept in a variable", function()
    assert.is_true((s:run_in(1, [[
      app.settings.timeouts = { entity_body = 33, handler = "off" }
      local timeouts = app.settings.timeouts
      timeouts.header_wait = 34
      app.settings.timeouts = {}]])))
    assert.same({ true, 33, "off", 34 }, { s:run_in(2, [[
      local timeouts = app.settings.timeouts
      return timeouts.entity_body, timeouts.handler, timeouts.header_wait]]) })
  end)

  it("is read as what it is: number, boolean, text, or nil where there is none", function()
    assert.is_true((s:run_in(1, [[
      app.settings.max_connections = nil
      app.settings.max_request_body_size = moonquay.UNLIMITED
      app.settings.server_header = "5"]])))
    assert.same({ true, "nil", "unlimited", "string 5", "boolean true", "integer 2" }, {
      s:run_in(2, [[
        local settings = app.settings
        local header = settings.server_header
        return tostring(settings.max_connections), settings.max_request_body_size,
          type(header) .. " " .. header,
          type(settings.prefer_urls == false) .. " " .. tostring(not settings.prefer_urls),
          math.type(settings.workers) .. " " .. settings.workers]]),
    })
    assert.equal("none", s:status().apps[1].settings.max_connections)
  end)

  it("that there is not cannot be read either", function()
    local ok, message = s:run_in(1, "\nreturn app.settings.nonsense")
    assert.is_false(ok)
    assert.matches("^chunk:2: .*nonsense", message)
  end)

  it("takes -1 for max_connections: no limit", function()
    for _, key in ipairs({ "max_connections", "server.max_connections" }) do
      assert.is_true((s:run_in(1, assign(key, "-1"))))
      assert.same({ true, "unlimited" }, { s:run_in(2, "return app.settings." .. key) })
    end
    assert.equal("unlimited", s:status().apps[1].settings.max_connections)
    assert.equal("unlimited", s:status().settings["server.max_connections"])
  end)

  it("is the last of two that change it at once, the same one everywhere", function()
    local connections, pids = s:workers()
    for round = 1, 50 do
      for number, pid in ipairs(pids) do
        live.send(assign("request_queue_limit", 2 * round + number), connections[pid])
      end
      for _, pid in ipairs(pids) do
        assert.is_true(select(2, live.read(connections[pid])))
      end
      local one, other = table.unpack(s:everywhere("return app.settings.request_queue_limit"))
      assert.equal(one, other)
      assert.is_true(one == 2 * round + 1 or one == 2 * round + 2)
    end
  end)

  it("can be changed a thousand times by each worker at once, and by many tasks", function()
    local connections, pids = s:workers()
    for _, pid in ipairs(pids) do
      live.send([[
        local tasks, wrong = {}, 0
        for task = 1, 100 do
          tasks[task] = moonquay.spawn(function()
            for i = 1, 10 do app.settings.max_accepts = 10 * task + i end
          end)
        end
        for _, task in ipairs(tasks) do
          if not task:join() then wrong = wrong + 1 end
        end
        return wrong]], connections[pid])
    end
    for _, pid in ipairs(pids) do
      assert.same({ pid, true, 0 }, { live.read(connections[pid]) })
    end
    local one, other = table.unpack(s:everywhere("return app.settings.max_accepts"))
    assert.equal(one, other)
  end)

  it("cannot be assigned where a coroutine cannot wait, and says so", function()
    local ok, message = s:run_in(1, [[
      table.sort({ 2, 1 }, function(a, b)
        app.settings.max_accepts = 9
        return a < b
      end)]])
    assert.is_false(ok)
    assert.matches("wait", message)
    assert.same({ true, true }, { s:run_in(2, "return app.settings.max_accepts ~= 9") })
  end)

  it("is told in the log with who changed what", function()
    assert.is_true((s:run_in(1, assign("max_fields", 77))))
    s.server:await("changed process=master app=%S+/app.lua change=set key=max_fields value=77\n")
  end)
end)

describe("a setting before the start", function()
  after_each(live.stop_all)

  it("is assigned in the app's file as in moonquay.app", function()
    local s = live.start({ "app.lua", live.app(nil, [[
      app.settings.max_connections = -1
      app.settings.memory_limit = "100MiB"
      app.settings.timeouts.entity_body = 31
      app.settings.timeouts = { handler = 32 }
      app.settings.max_fields = 33
      app.settings.authentication = { allow_anonymous = true, principals = { "a", "b" } }
      loaded.body = app.settings.timeouts.entity_body
      loaded.addresses = tostring(app.addresses)
      loaded.limit = app.settings.max_connections]]) })
    for number = 1, 2 do
      assert.same({ true, "unlimited", 31, 32, 33, "a,b", 31, "nil", "unlimited" },
        { s:run_in(number, [[
          local settings = app.settings
          return settings.max_connections, settings.timeouts.entity_body,
            settings.timeouts.handler, settings.max_fields, settings.authentication.principals,
            loaded.body, loaded.addresses, loaded.limit]]) })
    end
    assert.equal("104857600", s:status().apps[1].settings.memory_limit)
    assert.equal("33", s:status().settings.max_fields)
    assert.equal(0, s:stop())
  end)

  it("loses against the command line, and is changed at run time all the same", function()
    local s = live.start({ "app.lua", live.app(nil, "app.settings.max_accepts = 5") },
      { "--set", "max_accepts=6" })
    assert.same({ 6, 6 }, s:everywhere("return app.settings.max_accepts"))
    assert.is_true((s:run_in(2, assign("max_accepts", 7))))
    assert.same({ 7, 7 }, s:everywhere("return app.settings.max_accepts"))
    assert.equal(0, s:stop())
  end)

  for _, case in ipairs({
    { "max_connections = -2", "max_connections=-2: must be between 0 and 1000000000, unlimited or "
      .. "none\n" },
    { "timeouts.handler = 0", "timeouts.handler=0: must be between 0.001 and 86400 seconds, or "
      .. "off\n" },
    { "timeouts = { handler = 1, cancel = 0 }", "timeouts.cancel=0: must be between" },
    { "server_header = nil", "server_header=nil: must be printable text" },
    { "wrokers = 1", "wrokers: no such option, did you mean workers?\n" },
  }) do
    it(("that is wrong ends the start with its place (exit 78): %s"):format(case[1]), function()
      local result, paths = apps.run({ "a.lua", [[
        local app = require("moonquay").app()
        app.settings.]] .. case[1] .. "\nreturn app" })
      assert.equal(78, result.status, result.stderr)
      assert.truthy(result.stderr:find(("moonquay: %s:2: %s"):format(paths[1], case[2]), 1, true),
        result.stderr)
    end)
  end

  for _, value in ipairs({ "-1", "unlimited" }) do
    it(("lifts max_connections by %s, wherever it is given"):format(value), function()
      local s = live.start(nil, { "--set", "max_connections=" .. value, "--set",
        "server.max_connections=" .. value })
      assert.same({ "unlimited", "unlimited" }, s:everywhere("return app.settings.max_connections"))
      assert.equal("unlimited", s:status().settings["server.max_connections"])
      assert.equal(0, s:stop())
    end)
  end
end)

describe("settings of a running server with several apps", function()
  after_each(live.stop_all)

  it("are an app's own, or the server's for all", function()
    local s = live.start({ "a.lua", live.app("URL/"), "b.lua", live.app("URL/b/") })
    assert.is_true((live.run(assign("max_accepts", 21), "/b/")))
    assert.is_true((live.run(assign("max_fields", 22), "/b/")))
    local state = s:status()
    assert.not_equal("21", state.apps[1].settings.max_accepts)
    assert.equal("21", state.apps[2].settings.max_accepts)
    assert.equal("22", state.settings.max_fields)
    assert.same({ true, true, 22 }, { s:run_in(1,
      "return app.settings.max_accepts ~= 21, app.settings.max_fields") })
    assert.same({ true, 21, 22 }, { live.run(
      "return app.settings.max_accepts, app.settings.max_fields", "/b/") })
    assert.equal(0, s:stop())
  end)
end)

describe("a change while workers die", function()
  after_each(live.stop_all)

  -- Kills a worker and waits until another one serves in its place.
  local function kill(s, pid)
    assert(sys.kill(pid, "KILL"))
    s.server:await(("worker_died [^\n]*pid=%d "):format(pid))
  end

  it("holds in those that are born later, with changes that came before and after", function()
    local s = live.start()
    local _, pids = s:workers()
    assert.is_true((s:run_in(1, [[
      app.settings.max_accepts = 31
      app.settings.timeouts.handler = 32
      app.settings.max_fields = 33
      app.settings.server_header = "changed"]])))
    kill(s, pids[1])
    assert.is_true((live.run(assign("max_concurrent_requests", 34))))
    kill(s, pids[2])
    local expected = { 31, 32, 33, 34, "changed" }
    for number = 1, 2 do
      local _, now = s:workers()
      assert.is_true(now[number] ~= pids[1] and now[number] ~= pids[2])
      assert.same({ true, table.unpack(expected) }, { s:run_in(number, [[
        local settings = app.settings
        return settings.max_accepts, settings.timeouts.handler, settings.max_fields,
          settings.max_concurrent_requests, settings.server_header]]) })
    end
    assert.equal("changed", apps.get("/").headers.server)
    assert.equal(0, s:stop())
  end)

  it("comes back each time, however often the other one dies", function()
    local s = live.start(nil, { "--log-level", "warn" }) -- thousands of lines are not read
    local connections, pids = s:workers()
    local _, dir = apps.write({})
    local asking = live.send(([[
      local count = 0
      while not io.open("%s/enough") do
        count = count + 1
        app.settings.max_accepts = 1 + count %% 1000
        app.settings.max_fields = 1 + count %% 1000
        local prefix = assert(app:listen("URL/p" .. count .. "/"))
        assert(app:unlisten(prefix))
      end
      return count]]):format(dir.path):gsub("URL", apps.url), connections[pids[1]])
    local victim = pids[2]
    for _ = 1, 5 do
      kill(s, victim)
      victim = await("a successor", function()
        for _, pid in ipairs(s.server:workers()) do
          if pid ~= pids[1] then
            return pid
          end
        end
      end)
    end
    dir:write("enough", "")
    local pid, ok, count = live.read(asking)
    assert.equal(pids[1], pid)
    assert.is_true(ok, count)
    assert.is_true(count > 5)
    local now = s:everywhere("return app.settings.max_accepts")
    assert.same({ 1 + count % 1000, 1 + count % 1000 }, now)
    assert.same({ { apps.url .. "/" }, { apps.url .. "/" } },
      s:everywhere("return app.addresses"))
    assert.equal(0, s:stop())
  end)

  it("is made although the worker that asked for it dies, or its client has left", function()
    local s = live.start()
    local connections, pids = s:workers()
    -- The other worker does not take what it is told: the answer has to wait.
    assert(sys.kill(pids[2], "STOP"))
    live.send(assign("max_accepts", 41), connections[pids[1]])
    await("the change in the master", function()
      return s:status().apps[1].settings.max_accepts == "41"
    end)
    assert.is_false(connections[pids[1]]:readable(0))
    kill(s, pids[1])
    assert.is_true(connections[pids[1]]:closed())
    assert(sys.kill(pids[2], "CONT"))
    assert.same({ 41, 41 }, s:everywhere("return app.settings.max_accepts"))
    -- A later question with the same number, of another generation, gets its own answer.
    assert.is_true((s:run_in(1, assign("max_accepts", 42))))
    assert.same({ 42, 42 }, s:everywhere("return app.settings.max_accepts"))
    assert.equal(0, s:stop())
  end)

  it("is made, and the asker told, when its client leaves meanwhile", function()
    local s = live.start()
    local connections, pids = s:workers()
    assert(sys.kill(pids[2], "STOP"))
    local _, dir = apps.write({})
    live.send(([[
      local ok, err = pcall(function() app.settings.max_accepts = 43 end)
      local file = io.open("%s/new", "w")
      file:write(tostring(ok), " ", tostring(type(err) == "table" and err.code or err))
      file:close()
      os.rename("%s/new", "%s/told")]]):format(dir.path, dir.path, dir.path),
      connections[pids[1]])
    await("the change in the master", function()
      return s:status().apps[1].settings.max_accepts == "43"
    end)
    connections[pids[1]]:close()
    s.kept[pids[1]] = nil
    assert.equal("false closed", await("the end of the wait", function()
      return dir:read("told")
    end))
    assert(sys.kill(pids[2], "CONT"))
    assert.same({ 43, 43 }, s:everywhere("return app.settings.max_accepts"))
    assert.is_true((s:run_in(1, assign("max_accepts", 44))))
    assert.same({ 44, 44 }, s:everywhere("return app.settings.max_accepts"))
    assert.equal(0, s:stop())
  end)

  it("of the watchdog does not end one that has nothing to do", function()
    local s = live.start(nil, { "--set", "watchdog=86400" })
    local connections, pids = s:workers()
    -- One that never had a connection has no reason to wake for longer than is allowed then.
    kill(s, pids[2])
    local idle = await("another worker", function()
      for _, worker in ipairs(s:status().workers) do
        if worker.pid ~= pids[1] and worker.state == "serving" then
          return worker.pid
        end
      end
    end)
    connections[pids[1]].deadline = 30
    live.send("moonquay.sleep(3) app.settings.watchdog = 1.5 return moonquay.sleep(2.2)",
      connections[pids[1]])
    assert.same({ pids[1], true, true }, { live.read(connections[pids[1]]) })
    assert.falsy(s.server:stderr():find("worker_stuck", 1, true))
    assert(sys.kill(idle, "STOP"))
    s.server:await("worker_stuck [^\n]*pid=" .. idle)
    assert.equal(0, s:stop())
  end)

  it("is refused while the server stops, and the asker told", function()
    local s = live.start()
    local connections, pids = s:workers()
    local _, dir = apps.write({})
    live.send(([[
      io.open("%s/begun", "w"):close()
      while not io.open("%s/go") do moonquay.sleep(0.01) end
      local ok, err = pcall(function() app.settings.max_accepts = 45 end)
      local _, listens = app:listen("http://127.0.0.1:0/")
      return ok, tostring(err), listens.message]]):format(dir.path, dir.path),
      connections[pids[1]])
    await("the handler", function()
      return dir:read("begun")
    end)
    s.server:signal("TERM")
    s.server:await("stopping")
    dir:write("go", "")
    assert.same({ pids[1], true, false, "the server is stopping", "the server is stopping" },
      { live.read(connections[pids[1]]) })
    assert.same({ exit = 0 }, s.server:wait(20))
    assert.equal(0, s:stop())
  end)
end)
