--- Hosts under test and apps that are attached to them, each a process of its own.
local json = require("moonquay.core").json
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local host = {}
local Host = {}
Host.__index = Host

--- Starts a host and waits until it serves. options: workers (2), options (words), state (path of
-- its file; one of its own), env, wrap (words before it).
function host.start(options)
  options = options or {}
  local self = setmetatable({ temp = temp.dir(), apps = 0 }, Host)
  assert(sys.chmod(self.temp.path, "755")) -- for apps of other users
  self.socket = self.temp.path .. "/host.sock"
  self.state = options.state or self.temp.path .. "/host.json"
  local words = { "--socket", self.socket, "--state", self.state, "--workers",
    tostring(options.workers or 2), "--no-dev" }
  table.move(options.options or {}, 1, #(options.options or {}), #words + 1, words)
  self.server = server.start({ command = "host", bare = true, ready = false, options = words,
    env = options.env, wrap = options.wrap })
  self.server:await("started [^\n]*host at")
  return self
end

--- Attaches an app: text makes handlers of `app`, which is at http://localhost:PORT/PREFIX/; port 0
-- (default) is any; or at those of options.prefixes. options.options: words of the command line;
-- options.wrap: words before it.
-- Returns its server; with ready = false before it serves.
function Host:app(text, options)
  options = options or {}
  local prefixes = options.prefixes or { ("http://localhost:%d/%s"):format(options.port or 0,
    options.prefix and options.prefix .. "/" or "") }
  local words = { "--share", "--workers", tostring(options.workers or 1), "--no-dev" }
  table.move(options.options or {}, 1, #(options.options or {}), #words + 1, words)
  self.apps = self.apps + 1
  return server.start({
    path = self.temp:write(("app%d.lua"):format(self.apps), ([[
local app = require("moonquay").app({ url_prefixes = { "%s" } })
%s
return app]]):format(table.concat(prefixes, '", "'), text)),
    bare = true,
    ready = options.ready,
    wrap = options.wrap,
    options = words,
    env = { MOONQUAY_HOST = self.socket },
  })
end

--- Another host that takes this one's place; options: words of its command line. Waits until it
-- serves, unless ready is false.
function Host:replacement(options, ready)
  local words = { "--socket", self.socket, "--state", self.state, "--workers", "2", "--no-dev",
    "--replace" }
  table.move(options or {}, 1, #(options or {}), #words + 1, words)
  local fresh = server.start({ command = "host", bare = true, ready = false, options = words })
  if ready ~= false then
    fresh:await("started [^\n]*host at")
  end
  return fresh
end

--- Runs `moonquay http LINE --json` and returns the document.
function Host:http(line)
  local words = { "http", env = { MOONQUAY_HOST = self.socket } }
  for word in line:gmatch("%S+") do
    words[#words + 1] = word
  end
  words[#words + 1] = "--json"
  local result = server.run(words)
  assert(result.status == 0, result.stderr)
  return (assert(json.decode(result.stdout)))
end

--- The process ids of the host's children whose command line ends with this word.
function Host:children(word)
  local found = {}
  for _, pid in ipairs(self.server:workers()) do
    local file = io.open("/proc/" .. pid .. "/cmdline", "rb")
    local line = file and file:read("a") or ""
    if file then file:close() end
    if line:sub(-#word - 1) == word .. "\0" then
      found[#found + 1] = pid
    end
  end
  return found
end

function Host:stop()
  local status = self.server:stop()
  self.temp:remove()
  return status
end

return host
