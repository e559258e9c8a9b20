--- Users of the machine, for specs that run as root: an installation that everybody may read, and
-- apps and commands of other users beside a host.
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local users = {}
local Users = {}
Users.__index = Users

local function run(command)
  assert(os.execute(command), command)
end

--- host: whose socket becomes everybody's.
function users.new(host)
  local self = setmetatable({ host = host, dir = temp.dir(), count = 0 }, Users)
  local path = self.dir.path
  sys.chmod(path, "0755")
  sys.chmod(host.temp.path, "0711")
  run(("install -D -m 755 %s %s/bin/moonquay"):format(server.executable, path))
  run(("install -d %s/share/lua/5.4 && cp -r lua/moonquay %s/share/lua/5.4/ && "
    .. "chmod -R a+rX %s/share"):format(path, path, path))
  self.executable = path .. "/bin/moonquay"
  return self
end

--- Words before a command: who runs it. user: { uid =, gid = (uid), groups = { gid, … } }.
function users.as(user)
  local words = { "setpriv", "--reuid", tostring(user.uid), "--regid",
    tostring(user.gid or user.uid) }
  if user.groups then
    words[#words + 1] = "--groups=" .. table.concat(user.groups, ",")
  else
    words[#words + 1] = "--clear-groups"
  end
  return words
end

--- Starts an app of this user: it answers every request below its prefixes with name, unless text
-- makes other handlers.
-- options: prefixes, words (of the command line), text, ready = false.
function Users:app(user, name, options)
  self.count = self.count + 1
  local path = self.dir:write(("app%d.lua"):format(self.count), ([[
local app = require("moonquay").app({ url_prefixes = { "%s" } })
%s
return app]]):format(table.concat(options.prefixes, '", "'), options.text or
    ('app:get("/*rest", function() return "%s" end)'):format(name)))
  sys.chmod(path, "0644")
  local own = ("%s/run%d"):format(self.dir.path, self.count)
  run(("install -d -m 700 -o %d -g %d %s"):format(user.uid, user.gid or user.uid, own))
  local words = { "--share", "--workers", "1", "--no-dev" }
  table.move(options.words or {}, 1, #(options.words or {}), #words + 1, words)
  return server.start({ path = path, bare = true, ready = options.ready, options = words,
    wrap = users.as(user), executable = self.executable,
    env = { MOONQUAY_HOST = self.host.socket, XDG_RUNTIME_DIR = own } })
end

--- moonquay http LINE of this user (nil: ours); as server.run.
function Users:command(user, line)
  local words = { "http", env = { MOONQUAY_HOST = self.host.socket },
    wrap = user and users.as(user), executable = user and self.executable }
  for word in line:gmatch("%S+") do
    words[#words + 1] = word
  end
  return server.run(words)
end

function Users:remove()
  self.dir:remove()
end

return users
