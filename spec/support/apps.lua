--- Servers with several apps, each in a file of its own, on an address that no other server has.
local client = require("spec.support.client")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local apps = {}
local directories = {}

-- One of the loopback's for each interpreter, so that specs that run at the same time can name
-- ports: PORT + 1 and the like are then as free as the first.
local pid = sys.getpid()
apps.ip = ("127.%d.%d.%d"):format(128 + (pid >> 16 & 63), pid >> 8 & 255, pid & 255)
apps.port = 8601
apps.url = ("http://%s:%d"):format(apps.ip, apps.port)

--- The files of the apps, in a directory of their own: file is { name, text, name, text … }. URL
-- and IP in a text stand for the address.
function apps.write(files)
  local dir = temp.dir()
  local paths = {}
  directories[#directories + 1] = dir
  for i = 1, #files, 2 do
    local text = files[i + 1]:gsub("%f[%w]URL%f[%W]", apps.url):gsub("%f[%w]IP%f[%W]", apps.ip)
    paths[#paths + 1] = dir:write(files[i], text)
  end
  return paths, dir
end

--- Starts a server with these apps; words of the command line behind them. env and ready as in
-- server.start.
function apps.start(files, words, options)
  local paths = apps.write(files)
  local all = table.move(paths, 2, #paths, 1, {})
  table.move({ "--no-dev", "--access-log", "off", "--workers", "1" }, 1, 5, #all + 1, all)
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  local s = server.start({
    path = paths[1], bare = true, options = all,
    env = options and options.env, ready = options and options.ready,
  })
  return s, paths
end

--- Runs a server with these apps that does not start, to its end.
function apps.run(files, words, options)
  local paths = apps.write(files)
  local all = { "serve", table.unpack(paths) }
  table.move(words or {}, 1, #(words or {}), #all + 1, all)
  all.env = options and options.env
  return server.run(all), paths
end

--- A connection to the address; port is another one.
function apps.connect(port)
  return client.connect(apps.ip, port or apps.port)
end

--- One request on a connection of its own.
function apps.get(path, port)
  local connection = apps.connect(port)
  local response = connection:get(path)
  connection:close()
  return response
end

--- For after_each.
function apps.stop_all()
  server.stop_all()
  for _, dir in ipairs(directories) do
    dir:remove()
  end
  directories = {}
end

return apps
