--- Servers under attack: scripts of spec/support/h2_hostile.py as the peer, and beside it a normal
-- client, which is to be answered all the while.
local assert = require("luassert")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local localhost = require("spec.support.localhost")
local peer = require("spec.support.peer")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local hostile = {}
local Target = {}
Target.__index = Target
local running = {}

--- The app of these servers. /quick answers, /hold when it is released, /stay goes on until then
-- when it is cancelled, /read counts content, /large is longer than any window, /begun says how
-- many handlers have begun since it was asked.
hostile.APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local begun, running, released = 0, 0, false

local function count()
  begun, running = begun + 1, running + 1
  return setmetatable({}, { __close = function() running = running - 1 end })
end

app:any("/ok", function() return "ok" end)
app:any("/quick", function()
  local _ <close> = count()
  return "quick"
end)
app:any("/hold", function()
  local _ <close> = count()
  while not released do
    if not moonquay.sleep(0.01) then return "cancelled" end
  end
  return "held"
end)
app:any("/stay", function()
  local _ <close> = count()
  local _ <close> = setmetatable({}, { __close = function()
    while not released do moonquay.sleep(0.01) end
  end })
  while moonquay.sleep(0.01) do end
end)
app:any("/read", function(req)
  local _ <close> = count()
  local length = 0
  for chunk in req.body:chunks() do length = length + #chunk end
  return tostring(length)
end)
local piece = ("x"):rep(65536)
app:any("/large", function(_, res)
  local _ <close> = count()
  for _ = 1, 160 do
    if not res:write(piece) then return end
  end
end)
app:post("/release", function() released = true return 204 end)
app:post("/hold-again", function() released = false return 204 end)
app:post("/begun", function()
  local result = { begun = begun, running = running }
  begun = 0
  return result
end)
return app
]]

--- Starts a server with one worker that takes HTTP/2 without TLS, and with tls = true also over it.
-- set: { "key=value", … }.
function hostile.start(set, options)
  options = options or {}
  local dir = temp.dir()
  local words = { "--log-level", "debug", "--set", "h2.cleartext=true", "--set",
    "http_error_log=" .. dir.path .. "/http.log" }
  for _, pair in ipairs(set or {}) do
    table.move({ "--set", pair }, 1, 2, #words + 1, words)
  end
  local self = setmetatable({ dir = dir }, Target)
  if options.tls then
    self.store = localhost.new()
    local binding = self.store:words()
    self.tls_port = tonumber(binding[2]:match("%d+$"))
    binding[2] = "http://127.0.0.1:0," .. binding[2]
    table.move(binding, 1, #binding, #words + 1, words)
  end
  self.server = server.start({ app = hostile.APP, options = words, env = options.env })
  self.worker = self.server:workers()[1]
  running[#running + 1] = self
  return self
end

--- Ends it in good order.
function Target:stop()
  local status = self.server:stop()
  self.dir:remove()
  if self.store then
    self.store:remove()
  end
  return status
end

--- For teardown.
function hostile.stop_all()
  for _, self in ipairs(running) do
    if self.client then
      self.client:kill()
    end
  end
  server.stop_all()
  for _, self in ipairs(running) do
    self.dir:remove()
    if self.store then
      self.store:remove()
    end
  end
  running = {}
end

--- What `moonquay status --json` says now.
function Target:status()
  local result = server.run({ "status", "--json", tostring(self.server.pid),
    env = { XDG_RUNTIME_DIR = self.server.runtime_dir } })
  assert(result.status == 0, result.stderr)
  return assert(json.decode(result.stdout))
end

--- Bytes of memory that the worker has now.
function Target:memory()
  for line in io.lines(("/proc/%d/status"):format(self.worker)) do
    local kib = line:match("^VmRSS:%s+(%d+) kB")
    if kib then
      return tonumber(kib) * 1024
    end
  end
  error("no VmRSS")
end

--- Lets all handlers of /hold and /stay that run go on to their end.
function Target:release()
  self:post("/release")
  self:await_quiet()
  self:post("/hold-again")
end

function Target:post(path)
  local connection = self.server:connect()
  local response = connection:post(path, "")
  connection:close()
  return response
end

--- Handlers that have begun since the last call, and those that run.
function Target:begun()
  local seen = json.decode(self:post("/begun").body)
  return seen.begun, seen.running
end

--- Waits until no handler runs.
function Target:await_quiet()
  await("the end of all handlers", function()
    return select(2, self:begun()) == 0
  end)
end

local function start_client(self, script, options)
  self.client = peer.start({ "env", "PYTHONPATH=spec/support", "/usr/bin/python3", "-B", "-c",
    "from h2_hostile import *\n" .. script,
    tostring(options.tls and self.tls_port or self.server.port), options.tls and "tls" or "clear" })
end

--- Runs a script of h2_hostile.py to its end; its report. Meanwhile and afterwards a normal client
-- gets an answer to each of its requests, from the same worker. Fields that are added: served
-- (requests of that client meanwhile), reasons (those that were counted meanwhile, by name).
-- options.tls: over TLS. options.beside: called again and again meanwhile, with the output so far.
function Target:attack(script, options)
  options = options or {}
  local before = self:status().reasons
  local normal = self.server:connect()
  start_client(self, script, options)
  local served, result = 0
  repeat
    assert.equal(200, normal:get("/ok").status)
    served = served + 1
    if options.beside then
      options.beside(self.client.text[self.client.out])
    end
    result = self.client:ended(0.001)
  until result
  assert(result.exit == 0, result.stderr)
  assert.equal(200, normal:get("/ok").status)
  normal:close()
  assert.equal(200, self.server:get("/ok").status)
  assert.same({ self.worker }, self.server:workers())
  local told = assert(json.decode(result.stdout:match("[^\n]*$")), result.stdout)
  told.served, told.reasons = served, {}
  for name, count in pairs(self:status().reasons) do
    if count ~= before[name] then
      told.reasons[name] = count - before[name]
    end
  end
  return told
end

--- That the HTTP error log has a line for a connection of this port with this reason.
function Target:assert_logged(port, reason)
  local line = ("\n%S+ %S+ 127%.0%.0%.1 PORT [^\n]* REASON %-"):gsub("PORT", tostring(port))
    :gsub("REASON", (reason:gsub("%-", "%%-")))
  await(("a line %s for port %d"):format(reason, port), function()
    return ("\n" .. (self.dir:read("http.log") or "")):find(line)
  end)
end

return hostile
