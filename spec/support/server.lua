--- Servers under test: the real executable with a small app, on a port that the kernel chooses.
-- What was started dies with the interpreter (probe.sys) and with server.stop_all.
local client = require("spec.support.client")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local BUILD = os.getenv("MOONQUAY_BUILD") or "release"
local SANITIZED = BUILD == "asan"
local SLOWER = SANITIZED and 3 or 1 -- deadlines only; nothing waits for them to pass
local START_SECONDS, STOP_SECONDS = 10 * SLOWER, 15 * SLOWER

local server = {
  build = BUILD,
  sanitized = SANITIZED,
  executable = "build/" .. BUILD .. "/bin/moonquay",
}
local Server = {}
Server.__index = Server
local running = {}

local function environment(extra, runtime_dir)
  local env = {
    XDG_RUNTIME_DIR = runtime_dir, -- one of its own, so that servers do not meet each other
    LD_PRELOAD = false, -- the interpreter's, when it runs the sanitized probe
    MOONQUAY_URLS = false,
    MOONQUAY_CONFIG = false,
    MOONQUAY_HOST = false,
    ASAN_OPTIONS = "detect_leaks=1:abort_on_error=0:exitcode=99",
    UBSAN_OPTIONS = "print_stacktrace=1",
  }
  for name, value in pairs(extra or {}) do
    env[name] = value
  end
  return env
end

local function assert_no_report(text)
  for _, sign in ipairs({ "ERROR: %a+Sanitizer", "runtime error:" }) do
    if text:find(sign) then
      error("the sanitizer reports:\n" .. text, 0)
    end
  end
end

-- Waits up to seconds for output and keeps it. False when nothing came or both pipes have ended.
local function drain(self, seconds)
  local open, names = {}, {}
  for name, pipe in pairs(self.pipes) do
    open[#open + 1] = pipe
    names[pipe] = name
  end
  local ready = sys.poll(open, math.ceil(seconds * 1000))
  for _, pipe in ipairs(ready) do
    local name = names[pipe]
    local text = sys.read(pipe, 65536, 0)
    if text == nil or text == "" then
      sys.close(pipe)
      self.pipes[name] = nil
    else
      self.text[name] = self.text[name] .. text
    end
  end
  return #ready > 0
end

local function drain_all(self)
  while next(self.pipes) and drain(self, 0) do
    -- again, until there is nothing
  end
end

-- Takes dir, a temporary directory.
local function spawn(argv, options, dir)
  local env = environment(options.env, dir.path)
  local pid, out, err, input = sys.spawn(argv, { env = env, cwd = options.cwd })
  assert(pid, out)
  sys.close(input)
  local self = setmetatable({
    pid = pid,
    temp = dir,
    runtime_dir = env.XDG_RUNTIME_DIR,
    pipes = { stdout = out, stderr = err },
    text = { stdout = "", stderr = "" },
  }, Server)
  running[self] = true
  return self
end

-- Frees what the launcher holds for a process that has ended.
local function forget(self)
  for name, pipe in pairs(self.pipes) do
    sys.close(pipe)
    self.pipes[name] = nil
  end
  self.temp:remove()
  running[self] = nil
end

--- Ends a server at once, with its group.
function Server:kill()
  sys.kill(-self.pid, "KILL")
  if not self.status then
    self.status = sys.waitpid(self.pid, STOP_SECONDS * 1000)
  end
  forget(self)
end

--- Ends whatever is still running; for after_each.
function server.stop_all()
  for self in pairs(running) do
    self:kill()
  end
end

local function matches(self, name, pattern, seconds)
  local until_time = sys.monotonic() + seconds
  while not self.text[name]:find(pattern) do
    local left = until_time - sys.monotonic()
    if left <= 0 or not self.pipes[name] then
      return nil
    end
    drain(self, left)
  end
  return self.text[name]:match(pattern)
end

--- Waits until standard error matches a pattern and returns the captures; raises at the deadline.
function Server:await(pattern, seconds)
  seconds = (seconds or 10) * SLOWER
  local found = table.pack(matches(self, "stderr", pattern, seconds))
  if found[1] == nil then
    error(("no %q within %g s in:\n%s"):format(pattern, seconds, self.text.stderr), 2)
  end
  return table.unpack(found, 1, found.n)
end

--- What was written to standard error so far.
function Server:stderr()
  drain_all(self)
  return self.text.stderr
end

--- Waits for the end of the master: { exit = n } or { signal = "SIGKILL" }, nil when it goes on.
-- The pipes hold a megabyte each, so that a server does not wait for us meanwhile.
function Server:wait(seconds)
  if not self.status then
    self.status = sys.waitpid(self.pid, math.ceil(seconds * SLOWER * 1000))
    drain_all(self)
  end
  return self.status
end

function Server:signal(name)
  assert(sys.kill(self.pid, name))
end

--- SIGTERM, then waits: the exit status. Raises when the server does not end, ended by a signal, or
-- a sanitizer found something.
function Server:stop()
  if not self.status then
    self:signal("TERM")
  end
  local status = self:wait(STOP_SECONDS)
  if not status then
    self:kill()
    error("the server did not stop; standard error:\n" .. self.text.stderr, 2)
  end
  forget(self)
  assert_no_report(self.text.stderr)
  if not status.exit then
    error("the server ended by " .. status.signal .. ":\n" .. self.text.stderr, 2)
  end
  return status.exit
end

--- Process ids of the workers that live now.
function Server:workers()
  return sys.children(self.pid)
end

--- A connection; options as in client.connect, and options.host for another address.
function Server:connect(options)
  return client.connect(options and options.host or self.host, self.port, options)
end

--- One request on a connection of its own.
function Server:get(path, headers)
  local connection = self:connect()
  local response = connection:get(path, headers)
  connection:close()
  return response
end

--- Starts a server and waits until it serves.
-- options: app (the text of a file) or path; options (words of the command line, later ones win);
-- env; cwd; ready = false to not wait; wrap (words before the command); bare = true for no words
-- but options, on the default address and as many workers as there are CPUs; command in place of
-- "serve".
function server.start(options)
  local dir = temp.dir()
  local path = options.path or options.app and dir:write("app.lua", options.app)
  local argv = {}
  local function add(words)
    table.move(words, 1, #words, #argv + 1, argv)
  end
  add(options.wrap or {})
  add({ options.executable or server.executable, options.command or "serve", path })
  if not options.bare then
    add({ "--urls", "http://127.0.0.1:0", "--workers", "1", "--no-dev", "--access-log", "off" })
  end
  add(options.options or {})
  local self = spawn(argv, options, dir)
  if options.ready ~= false then
    local host, port = matches(self, "stdout", "serving .- on https?://([^/%s]+):(%d+)",
      START_SECONDS)
    if not host then
      local status = self:wait(1)
      self:kill()
      error(("the server did not start (%s); standard error:\n%s"):format(
        status and (status.exit or status.signal) or "it still runs", self.text.stderr), 2)
    end
    self.host = host:match("^%[?(%x*[.:][%x.:]*)%]?$") or "127.0.0.1"
    self.port = tonumber(port)
  end
  return self
end

--- Runs the command with these words to its end: { status = or signal =, stdout =, stderr = };
-- left_behind is true when a process that it started still runs.
-- args.env, args.cwd, args.wrap (words before the command), args.seconds.
function server.run(args)
  local argv = table.move(args.wrap or {}, 1, #(args.wrap or {}), 1, {})
  argv[#argv + 1] = args.executable or server.executable
  table.move(args, 1, #args, #argv + 1, argv)
  local self = spawn(argv, args, temp.dir())
  local status = self:wait(args.seconds or 10)
  if not status then
    self:kill()
    error("it did not end; standard error:\n" .. self.text.stderr, 2)
  end
  local left_behind = sys.kill(-self.pid, "CONT") ~= nil
  forget(self)
  assert_no_report(self.text.stderr)
  return {
    left_behind = left_behind,
    status = status.exit,
    signal = status.signal,
    stdout = self.text.stdout,
    stderr = self.text.stderr,
  }
end

return server
