--- A host with a good app and a bad one: scripts of spec/support/app_hostile.py are the bad one.
-- Meanwhile the clients of the good one are to be answered, by the same processes, whose memory and
-- descriptors stay below a bound.
local assert = require("luassert")
local await = require("spec.support.await")
local hosts = require("spec.support.host")
local json = require("moonquay.core").json
local peer = require("spec.support.peer")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local hostile_app = {}
local Target = {}
Target.__index = Target

--- Words before the command of another user.
hostile_app.STRANGER = 12345
hostile_app.SETPRIV = { "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups" }

--- By so much a process of the host may grow while it is attacked: an app's links and answers that
-- are on their way have their windows (256 KiB a stream, 1 MiB a link), a program its texts.
hostile_app.MOST_BYTES = (server.sanitized and 96 or 32) << 20
--- So many descriptors may stay behind: a link's that is about to be freed.
hostile_app.MOST_DESCRIPTORS = 16

-- A copy of the scripts that every user may read, as the host's socket is everybody's.
local function readable_scripts(host)
  local dir = temp.dir()
  for _, name in ipairs({ "app_hostile.py", "h2_hostile.py" }) do
    local file = assert(io.open("spec/support/" .. name))
    dir:write(name, file:read("a"))
    file:close()
    sys.chmod(dir.path .. "/" .. name, "0644")
  end
  sys.chmod(dir.path, "0755")
  sys.chmod(host.temp.path, "0711")
  return dir
end

--- Starts both. options: workers (2), options (words) of the host; app: more handlers of the good
-- one.
function hostile_app.start(options)
  options = options or {}
  local self = setmetatable({ events = {} }, Target)
  self.host = hosts.start({ workers = options.workers, options = options.options,
    env = server.sanitized and {
      ASAN_OPTIONS = "detect_leaks=1:abort_on_error=0:exitcode=99:quarantine_size_mb=4" } })
  self.app = self.host:app([[app:get("/", function() return "good" end)]] .. "\n"
    .. (options.app or ""), { prefix = "good" })
  self.scripts = readable_scripts(self.host)
  self.client = self.app:connect({ deadline = 30 })
  for _ = 1, 500 do -- what grows once has grown
    self:good()
  end
  self.processes = self:pids()
  return self
end

--- One request to the good app.
function Target:good()
  self.client:send("GET /good/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
  local response = self.client:response()
  assert.same({ 200, "good" }, { response.status, response.body })
end

--- Reads the host's log, so that it need not wait for us, and counts its events.
function Target:read_log()
  local text = self.host.server:stderr()
  self.host.server.text.stderr = ""
  for _, sign in ipairs({ "registrar_died", "worker_died", "Sanitizer", "runtime error:",
    "internal error" }) do
    assert.is_nil(text:find(sign, 1, true), text:sub(-3000))
  end
  for event in text:gmatch(" (%l+_%l[%l_]*) process=") do
    self.events[event] = (self.events[event] or 0) + 1
  end
end

--- The processes of the host by name.
function Target:pids()
  local pids = { master = self.host.server.pid, registrar = self.host:children("registrar")[1] }
  local workers = self.host:children("worker")
  table.sort(workers)
  for i, pid in ipairs(workers) do
    pids["worker " .. i] = pid
  end
  return pids
end

local function resident_bytes(pid)
  for line in io.lines(("/proc/%d/status"):format(pid)) do
    local kib = line:match("^VmRSS:%s+(%d+) kB")
    if kib then
      return tonumber(kib) * 1024
    end
  end
  error("no VmRSS of " .. pid)
end

local function descriptors(pid)
  local list = assert(io.popen(("ls /proc/%d/fd | wc -l"):format(pid)))
  local count = tonumber(list:read("a"))
  list:close()
  return count
end

local function each(pids, measure)
  local seen = {}
  for name, pid in pairs(pids) do
    seen[name] = measure(pid)
  end
  return seen
end

-- How much each has grown at most since `before`.
local function note_growth(self, most, before)
  for name, pid in pairs(self.processes) do
    most[name] = math.max(most[name] or 0, resident_bytes(pid) - before[name])
  end
end

local function assert_bounded(most)
  for name, bytes in pairs(most) do
    assert(bytes <= hostile_app.MOST_BYTES, ("the %s has grown by %d bytes"):format(name, bytes))
  end
end

-- Scripts are another user's where we may say so.
local function start_script(self, script)
  local argv = sys.geteuid() == 0 and { table.unpack(hostile_app.SETPRIV) } or {}
  for _, word in ipairs({ "env", "PYTHONPATH=" .. self.scripts.path, "/usr/bin/python3", "-B", "-c",
    "from app_hostile import *\n" .. script, tostring(self.app.port), "clear",
    self.host.socket }) do
    argv[#argv + 1] = word
  end
  return peer.start(argv)
end

--- Runs a script to its end, and returns what it has told.
-- options.requests: the script goes on without end, and is ended when the good app has answered so
-- many requests: then its lines are returned. options.beside: called now and then meanwhile.
function Target:attack(script, options)
  options = options or {}
  local bytes = each(self.processes, resident_bytes)
  local before = each(self.processes, descriptors)
  local most, served = {}, 0
  local bad = start_script(self, script)
  local result
  repeat
    self:good()
    served = served + 1
    note_growth(self, most, bytes)
    self:read_log()
    if options.beside and served % 100 == 1 then
      options.beside()
    end
    result = bad:ended(0)
    -- Not before it has begun, which it says.
  until result or options.requests and served >= options.requests and bad.text[bad.out] ~= ""
  local told = bad.text[bad.out]
  if not result then
    bad:kill()
  else
    assert(result.exit == 0, result.stderr)
    told = assert(json.decode(result.stdout:match("([^\n]*)\n$")), result.stdout)
  end
  self:good()
  assert.same(self.processes, self:pids())
  assert_bounded(most)
  for name, pid in pairs(self.processes) do
    await("the descriptors of the bad app to be closed by the " .. name, function()
      return descriptors(pid) <= before[name] + hostile_app.MOST_DESCRIPTORS
    end)
  end
  return told
end

--- Ends both, in good order.
function Target:stop()
  self:read_log()
  self.client:close()
  self.scripts:remove()
  assert.equal(0, self.app:stop())
  assert.equal(0, self.host:stop())
end

--- That another user's command is answered.
function Target:command()
  local result = server.run({ "http", "show", "urlacl",
    env = { MOONQUAY_HOST = self.host.socket } })
  assert.equal(0, result.status, result.stderr)
end

--- For teardown.
function hostile_app.stop_all()
  server.stop_all()
end

return hostile_app
