--- Ports for servers that must know theirs before they start.
local socket = require("socket")
local sys = require("moonquay.probe").sys

local ports = {}

-- Below those that the kernel gives to who asks for port 0, so that none of the specs that run
-- beside this one gets it between this look and the server's start.
local FIRST, COUNT = 10000, 22000
local STEP = 7919 -- specs that run side by side are far apart, as their process ids are not

local last = sys.getpid() * STEP

--- A port that is free on 127.0.0.1, and was not given before.
function ports.free()
  for _ = 1, COUNT do
    last = last + 1
    local port = FIRST + last % COUNT
    local listener = socket.bind("127.0.0.1", port)
    if listener then
      listener:close()
      return port
    end
  end
  error("no port is free")
end

return ports
