--- Other people's clients, each in a process of its own, under a deadline.
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local DEADLINE = os.getenv("MOONQUAY_BUILD") == "asan" and 60 or 20

local peer = {}

local Peer = {}
Peer.__index = Peer

--- Starts a command; input is written to its standard input, which is then closed. Until its end it
-- is to be asked for that with peer:ended.
function peer.start(argv, input)
  -- LD_PRELOAD belongs to this interpreter alone; a user's own configuration does not count.
  local env = { LD_PRELOAD = false, NODE_OPTIONS = false, CURL_HOME = "/nonexistent",
    http_proxy = false, HTTP_PROXY = false, all_proxy = false, ALL_PROXY = false }
  local pid, out, err, stdin = sys.spawn(argv, { env = env })
  assert(pid, out)
  return setmetatable({
    pid = pid, name = argv[1], out = out, err = err, stdin = stdin, input = input or "",
    written = 0, open = { out, err }, text = { [out] = "", [err] = "" },
    until_time = sys.monotonic() + DEADLINE,
  }, Peer)
end

local function write_some(self)
  if self.written < #self.input then
    self.written = self.written + (sys.write(self.stdin, self.input:sub(self.written + 1)) or 0)
  end
  if self.stdin and self.written == #self.input then
    sys.close(self.stdin)
    self.stdin = nil
  end
end

local function read_some(self, seconds)
  local until_looked = self.stdin and math.min(seconds, 0.005) or seconds
  for _, pipe in ipairs(sys.poll(self.open, math.ceil(until_looked * 1000))) do
    local piece = sys.read(pipe, 65536, 0)
    if piece == nil or piece == "" then
      sys.close(pipe)
      table.remove(self.open, self.open[1] == pipe and 1 or 2)
    else
      self.text[pipe] = self.text[pipe] .. piece
    end
  end
end

--- Hears what it says, for at most so many seconds (0). At its end { exit = or signal =, stdout =,
-- stderr = }, before that nil; raises at the deadline.
function Peer:ended(seconds)
  if self.result then
    return self.result
  end
  local until_time = sys.monotonic() + (seconds or 0)
  repeat
    local left = self.until_time - sys.monotonic()
    if left <= 0 then
      self:kill()
      error(("%s did not end; standard error: %s"):format(self.name, self.text[self.err]), 2)
    end
    write_some(self)
    read_some(self, math.max(0, math.min(left, until_time - sys.monotonic())))
  until #self.open == 0 or sys.monotonic() >= until_time
  if #self.open > 0 then
    return nil
  end
  local status = assert(sys.waitpid(self.pid, DEADLINE * 1000))
  self.result = { exit = status.exit, signal = status.signal, stdout = self.text[self.out],
    stderr = self.text[self.err] }
  return self.result
end

--- Ends it, and what it has started.
function Peer:kill()
  if not self.result then
    sys.kill(-self.pid, "KILL")
    sys.waitpid(self.pid, DEADLINE * 1000)
    self.result = { signal = "SIGKILL", stdout = "", stderr = "" }
  end
end

--- Runs a command to its end and returns { exit =, stdout =, stderr = }.
function peer.run(argv, input)
  return peer.start(argv, input):ended(2 * DEADLINE)
end

--- Runs a Node script (a module) with arguments and returns its standard output; raises when it
-- fails.
function peer.node(script, ...)
  local dir = temp.dir()
  local result = peer.run({ "node", dir:write("peer.mjs", script), ... })
  dir:remove()
  if result.exit ~= 0 then
    error(("node: %s\n%s"):format(tostring(result.exit or result.signal), result.stderr), 2)
  end
  return result.stdout
end

return peer
