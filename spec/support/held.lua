--- A server whose handlers go on when they are told to, whichever worker has them: told by files in
-- a directory of its own, which also bring settings to the app while all its handlers are taken.
local assert = require("luassert")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local held = { verbosities = { "basic", "limited", "full" } }
local started = {}
local Held = setmetatable({}, {
  __index = function(_, name) -- what a server can is done by it
    return function(self, ...)
      return self.server[name](self.server, ...)
    end
  end,
})
Held.__index = Held

-- /hold/NAME answers "NAME PID", and the length of its content, once it is let go; each begin is a
-- line of the log. /quick/NAME answers at once, /block/SECONDS with the worker standing still,
-- /once after a wait of a turn, which says whether the client was there.
local APP = [[
local moonquay = require("moonquay")
local dir, name = os.getenv("HELD_DIR"), "NAME"
local pid = io.open("/proc/self/stat"):read("n")
local app = moonquay.app { SETTINGS }

local function exists(file)
  local handle = io.open(dir .. "/" .. file)
  return handle and handle:close()
end

app:any("/hold/:name", function(req)
  moonquay.log.info("begun " .. req.params.name .. ".")
  local body = req.body:read("a")
  while not exists("all") and not exists("go-" .. req.params.name) do
    if not moonquay.sleep(0.01) then return "cancelled" end
  end
  return req.params.name .. " " .. pid .. (body and body ~= "" and " " .. #body or "")
end)
app:any("/quick/*rest", function(req) return req.params.rest .. " " .. pid end)
app:any("/block/:seconds", function(req)
  moonquay.log.info("blocked")
  io.popen("sleep " .. req.params.seconds):close()
  return "blocked"
end)
app:any("/once", function() return moonquay.sleep(0) and "went on" or "cancelled" end)
app:any("/abort", function(req) req:abort() end)

moonquay.every(0.01, function()
  local mine = ("%s/set-%s-%d"):format(dir, name, pid)
  if not os.rename(dir .. "/set-" .. name, mine) then return end
  local file = io.open(mine)
  local key, value = file:read("l", "a")
  file:close()
  local ok, err = pcall(function()
    value = load("return " .. value)()
    if key == "listen" then
      assert(app:listen(value))
    else
      app.settings[key] = value
    end
  end)
  os.rename(mine, mine .. "-read")
  file = io.open(dir .. "/told", "w")
  file:write(tostring(ok and "" or err))
  file:close()
  os.rename(dir .. "/told", dir .. "/done-" .. name)
end)
return app
]]

--- The text of the app; name is what settings are brought to ("app"), settings those that it has
-- from the beginning.
function held.app(name, settings)
  return (APP:gsub("NAME", name or "app", 1):gsub("SETTINGS", settings or "", 1))
end

--- Starts it. set: settings, key = value, as --set has them; otherwise as server.start. Info lines
-- are in the log.
function held.start(set, options)
  options = options or {}
  local dir = temp.dir()
  local words = {}
  for key, value in pairs(set or {}) do
    words[#words + 1] = "--set"
    words[#words + 1] = key .. "=" .. tostring(value)
  end
  table.move(options.options or {}, 1, #(options.options or {}), #words + 1, words)
  local s = server.start({
    app = options.app or held.app(),
    options = words,
    env = { HELD_DIR = dir.path },
  })
  local self = setmetatable({ server = s, dir = dir, kept = {}, stopping = false }, Held)
  started[#started + 1] = self
  return self
end

--- What `moonquay status --json` says now.
function Held:status()
  local result = server.run({
    "status", "--json", tostring(self.server.pid),
    env = { XDG_RUNTIME_DIR = self.server.runtime_dir },
  })
  assert(result.status == 0, result.stderr)
  return assert(json.decode(result.stdout))
end

--- Waits until the app's gauges are these: connections, running, queued, queued_bytes.
function Held:await_gauges(expected, index)
  local seen
  local ok = pcall(await, "gauges", function()
    seen = self:status().apps[index or 1]
    for name, value in pairs(expected) do
      if seen[name] ~= value then
        return false
      end
    end
    return true
  end)
  if not ok then
    local list = {}
    for name, value in pairs(expected) do
      list[#list + 1] = ("%s = %d, not %d"):format(name, seen[name], value)
    end
    error(table.concat(list, "; "), 2)
  end
end

--- How often a reason has occurred; waits until it has at least so often.
function Held:reason(name, count)
  return await(("%d times %s"):format(count, name), function()
    local seen = self:status().reasons[name]
    return seen >= count and seen
  end)
end

--- Assigns app.settings[key] = value, an expression of Lua, and waits until it holds everywhere.
-- With the key "listen" the app listens to value.
function Held:set(key, value, app)
  app = app or "app"
  self.dir:write("new", key .. "\n" .. value)
  assert(os.rename(self.dir.path .. "/new", self.dir.path .. "/set-" .. app))
  local done = "done-" .. app
  local text = await("the setting of " .. key, function()
    return self.dir:read(done)
  end)
  os.remove(self.dir.path .. "/" .. done)
  assert(text == "", text)
end

--- A connection that lives as long as the server, also when the spec forgets it.
function Held:connect(options)
  local connection = self.server:connect(options)
  self.kept[#self.kept + 1] = connection
  return connection
end

--- The same where the server may reset it at once, which a client can meet while it connects.
function Held:knock()
  local ok, connection = pcall(self.connect, self)
  if ok then
    return connection
  end
  assert.matches(": closed$", connection)
  return {
    readable = function()
      return true
    end,
    rest = function()
      return "", "reset"
    end,
    close = function() end,
  }
end

--- Kept connections, count to each of the two workers, by the worker's process id; and the two ids.
function Held:connections_of_both(count)
  local by_pid, pids = {}, self.server:workers()
  assert(#pids == 2)
  for _, pid in ipairs(pids) do
    by_pid[pid] = {}
  end
  await("connections to both workers", function()
    local connection = self:connect()
    local list = by_pid[tonumber(connection:get("/quick/x").body:match("x (%d+)$"))]
    if #list < count then
      list[#list + 1] = connection
    else
      connection:close()
    end
    return #by_pid[pids[1]] == count and #by_pid[pids[2]] == count
  end)
  return by_pid, pids[1], pids[2]
end

--- Sends a request for this name on a connection; content, if any, behind it.
function held.send(connection, name, content)
  return connection:send(("%s /hold/%s HTTP/1.1\r\nHost: test\r\n%s\r\n%s"):format(
    content and "POST" or "GET", name,
    content and ("Content-Length: %d\r\n"):format(#content) or "", content or ""))
end

--- A connection with a request for this name on it.
function Held:hold(name, options)
  return held.send(self:connect(options), name)
end

--- The same, once its handler runs; on a connection that is given or a new one.
function Held:run(name, connection)
  connection = connection and held.send(connection, name) or self:hold(name)
  self.server:await("begun " .. name .. "%.")
  return connection
end

--- The same, once it waits, as the number-th one.
function Held:wait(name, number, connection)
  connection = connection and held.send(connection, name) or self:hold(name)
  self:await_gauges({ queued = number })
  return connection
end

--- Lets the request of this name go on; without a name all.
function Held:go(name)
  self.dir:write(name and "go-" .. name or "all", "")
end

--- Names in the order in which their handlers began.
function Held:begun()
  local names = {}
  for name in self.server:stderr():gmatch("begun ([%w_]+)%.") do
    names[#names + 1] = name
  end
  return names
end

--- What http_503_verbosity makes of a refusal was the end of the connection; detail is what only
-- the full one says.
function held.assert_refused(connection, verbosity, detail)
  if verbosity == "basic" then
    assert.same({ "", "reset" }, { connection:rest() })
    return
  end
  local response = connection:response()
  assert.equal(503, response.status)
  assert.equal("1", response.headers["retry-after"])
  assert.equal("close", response.headers.connection)
  local told = detail and response.body:find(detail, 1, true) ~= nil
  assert.equal(verbosity == "full", told or false, response.body)
  assert.truthy(response.body:find("Service Unavailable", 1, true))
  assert.is_true(connection:closed())
end

--- A refusal is counted and told in the log, so often, under its reason.
function Held:assert_told(reason, count, status)
  local line = ("request_refused [^\n]*status=%d reason=%s "):format(status or 503, reason)
  assert.equal(count, self:reason(reason, count))
  local lines = 0
  await(("%d lines of %s"):format(count, reason), function()
    lines = select(2, self.server:stderr():gsub(line, ""))
    return lines >= count
  end)
  assert.equal(count, lines)
end

--- Kills a worker and waits until the master has seen it.
function Held:kill_worker(pid)
  assert(sys.kill(pid, "KILL"))
  self.server:await(("worker_died [^\n]*pid=%d "):format(pid))
end

--- SIGTERM, without waiting for the end.
function Held:term()
  self.server:signal("TERM")
  self.server:await("stopping")
  self.stopping = true
end

--- Ends the server in good order, without the clients: one that stays would be waited for.
function Held:stop()
  for _, connection in ipairs(self.kept) do
    connection:close()
  end
  if self.stopping then
    self.server:wait(20) -- a second signal would end it at once
  end
  local status = self.server:stop()
  self.dir:remove()
  return status
end

--- Ends all; for after_each.
function held.stop_all()
  server.stop_all()
  for _, self in ipairs(started) do
    self.dir:remove()
  end
  started = {}
end

return held
