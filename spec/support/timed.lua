--- Servers whose time limits end something: started with an HTTP error log, asked what they told.
local assert = require("luassert")
local await = require("spec.support.await")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local timed = {}
local dirs = {}

local function watch(s, dir)
  s.http_log = dir
  return s
end

--- The words that set these, { "key=value", … }, and give the server an HTTP error log; and its
-- directory, for timed.watch.
function timed.words(set)
  local dir = temp.dir()
  dirs[#dirs + 1] = dir
  local words = { "--log-level", "debug", "--set", "http_error_log=" .. dir.path .. "/http.log" }
  for _, pair in ipairs(set) do
    words[#words + 1] = "--set"
    words[#words + 1] = pair
  end
  return words, dir
end

--- Lets a server that was started with timed.words be asked for what it told.
timed.watch = watch

--- Starts a server with one app, its text, and these settings.
function timed.start(app, ...)
  local words, dir = timed.words({ ... })
  return watch(server.start({ app = app, options = words }), dir)
end

function timed.stop_all()
  server.stop_all()
  for _, dir in ipairs(dirs) do
    dir:remove()
  end
  dirs = {}
end

--- How often each reason has occurred.
function timed.reasons(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout).reasons
end

local function occurrences(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

--- That a reason was told, so often (once), in the log, the HTTP error log and the counters, and no
-- other reason of a timer. status is that of the refusal; without one the connection was dropped.
function timed.assert_told(s, reason, status, times)
  times = times or 1
  local line = status and ("request_refused [^\n]*status=%d reason=%s "):format(status, reason)
    or ("%%a+_closed [^\n]*reason=%s "):format(reason) -- a connection, or a stream
  await(("%d lines of %s"):format(times, reason), function()
    return occurrences(s:stderr(), line) >= times
  end)
  assert.equal(times, occurrences(s:stderr(), line), s:stderr())
  local told = (" %s - %s -\n"):format(status or "-", reason):gsub("%-", "%%-")
  await("a line of the HTTP error log for " .. reason, function()
    return occurrences(s.http_log:read("http.log") or "", told) == times
  end)
  for name, count in pairs(timed.reasons(s)) do
    if name:find("^Timer_") then
      assert.equal(name == reason and times or 0, count, name)
    end
  end
end

--- Sends single bytes, 20 a second, until the server ends the connection, seconds have passed, or
-- they are all sent. Returns those that were not sent, and whether the server ended it.
function timed.drip(connection, bytes, seconds)
  local since, sent = sys.monotonic(), 0
  while sent < #bytes and sys.monotonic() - since < seconds do
    if connection:readable(0.05) then
      return bytes:sub(sent + 1), true
    end
    sent = sent + 1
    if not pcall(connection.send, connection, bytes:sub(sent, sent)) then
      return bytes:sub(sent), true
    end
  end
  return bytes:sub(sent + 1), false
end

--- That nothing comes on these connections, nor their end, for so long.
function timed.assert_outlive(seconds, ...)
  local since = sys.monotonic()
  for i, connection in ipairs({ ... }) do
    local left = math.max(0, since + seconds - sys.monotonic())
    assert.is_false(connection:readable(left), ("connection %d is still open"):format(i))
  end
end

--- A head with this much content to come, of which some bytes follow.
function timed.post(path, length, bytes)
  return ("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"):format(path, length,
    bytes or "")
end

--- A request without content.
function timed.request(path)
  return ("GET %s HTTP/1.1\r\nHost: h\r\n\r\n"):format(path)
end

return timed
