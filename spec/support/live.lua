--- A running server of two workers, or more apps, whose Lua states a spec can tell what to do.
local apps = require("spec.support.apps")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")

local live = {}
local Live = {}
Live.__index = Live

-- POST /run runs a chunk in the app's state, with app and moonquay, and answers what it returns or
-- raises as a Lua table; what the app found at load is in LOADED.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({ url_prefixes = "%s" })
local pid = io.open("/proc/self/stat"):read("n")
local loaded = {}
%s

local function shown(value)
  if type(value) ~= "table" then return ("%%q"):format(value) end
  local parts = {}
  for key, item in pairs(value) do
    parts[#parts + 1] = ("[%%q] = %%s"):format(key, shown(item))
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

app:post("/run", function(req)
  local chunk = assert(load("local app, moonquay, loaded, req = ... " .. req:text(), "=chunk"))
  local results = table.pack(pcall(chunk, app, moonquay, loaded, req))
  results[2] = results[1] and results[2] or results[2] ~= false and results[2]
  if not results[1] then results[2] = tostring(results[2]) end
  for i = 1, results.n do
    results[i] = shown(results[i])
  end
  return ("return %%d, %%s"):format(pid, table.concat(results, ", "))
end)
return app]]

--- The text of an app at these prefixes. more stands between app and its routes.
function live.app(prefixes, more)
  return (APP:format(prefixes or "URL/", (more or ""):gsub("%%", "%%%%")))
end

--- Starts a server with these files (apps.start), one app at URL/ when there are none, and as many
-- workers as set says, two by default.
function live.start(files, words, workers)
  local all = { "--workers", tostring(workers or 2) }
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  local s = apps.start(files or { "app.lua", live.app() }, all)
  return setmetatable({ server = s, kept = {}, count = workers or 2 }, Live)
end

local function post(path, code)
  return "POST " .. path .. "run HTTP/1.1\r\nHost: test\r\nContent-Length: " .. #code .. "\r\n\r\n"
    .. code
end

--- Sends code to whichever worker takes the connection, or on one that is given.
function live.send(code, connection, path)
  connection = connection or apps.connect()
  connection:send(post(path or "/", code))
  return connection
end

local function read(connection)
  local response = connection:response()
  if response.status ~= 200 then
    error(("status %d: %s"):format(response.status, response.body), 0)
  end
  return assert(load(response.body))()
end

--- What the code on that connection has come to: the worker's process id, whether it did not raise,
-- and what it returned, or what it raised as a text.
function live.read(connection)
  return read(connection)
end

--- Runs code somewhere, on a connection of its own: whether it did not raise, and its results.
function live.run(code, path)
  local connection = live.send(code, nil, path)
  local results = table.pack(read(connection))
  connection:close()
  return table.unpack(results, 2, results.n)
end

--- Connections to all workers, by the worker's process id, and the ids in a list; connections that
-- there are already are used when their worker lives.
function Live:workers()
  local found, pids
  await("connections to all workers", function()
    found, pids = {}, self.server:workers()
    for _, pid in ipairs(pids) do
      found[pid] = self.kept[pid]
    end
    self.kept = found
    local connection = apps.connect()
    local ok, pid = pcall(read, live.send("return", connection))
    if ok and not found[pid] then
      found[pid] = connection
    else
      connection:close()
    end
    for _, one in ipairs(pids) do
      if not found[one] then
        return false
      end
    end
    return #pids == self.count
  end, 20)
  return found, pids
end

--- Runs code in one of the workers, the number-th: as live.run.
function Live:run_in(number, code)
  local connections, pids = self:workers()
  local results = table.pack(read(live.send(code, connections[pids[number]])))
  assert(results[1] == pids[number])
  return table.unpack(results, 2, results.n)
end

--- Runs code that returns one value in every worker: the values, in a list.
function Live:everywhere(code)
  local values = {}
  for number = 1, self.count do
    local ok, value = self:run_in(number, code)
    assert(ok, value)
    values[number] = value == nil and "nil" or value
  end
  return values
end

--- What `moonquay status --json` says now.
function Live:status()
  local result = server.run({
    "status", "--json", tostring(self.server.pid),
    env = { XDG_RUNTIME_DIR = self.server.runtime_dir },
  })
  assert(result.status == 0, result.stderr)
  return assert(json.decode(result.stdout))
end

--- Ends the server in good order.
function Live:stop()
  for _, connection in pairs(self.kept) do
    connection:close()
  end
  return self.server:stop()
end

live.stop_all = apps.stop_all

return live
