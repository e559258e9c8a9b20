--- A crowd of connections in a process of its own: idle ones that have had one answer, and slow
-- ones of three kinds: heads and bodies that come byte by byte, and answers that nobody reads.
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local SCRIPT = [[
import net from "node:net"
const [port, idle, slow] = process.argv.slice(2).map(Number)
let waiting = idle + slow, gone = 0
const ready = () => { if (--waiting === 0) console.log("ready") }
process.stdin.on("end", () => process.exit(0)).resume()

// Source addresses in turn: one has not enough ports for crowds run after each other.
function open(i, connected) {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress: `127.0.0.${2 + i % 8}` })
  socket.on("connect", () => connected(socket))
  socket.on("error", () => {})
  socket.on("close", () => console.log("gone " + (++gone)))
  return socket
}

function openIdle(i) {
  const socket = open(i, s => s.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
  socket.once("data", () => { ready(); if (next < idle) openIdle(next++) })
}
let next = Math.min(100, idle)
for (let i = 0; i < next; i++) openIdle(i)

const heads = ["GET / HTTP/1.1\r\nHost: h\r\nX: ",
  "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
  "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"]
for (let i = 0; i < slow; i++)
  open(i, s => {
    s.write(heads[i % 3])
    if (i % 3 === 2) s.pause()
    else setInterval(() => s.write("x"), 500)
    ready()
  })
]]

local crowd = {}
local Crowd = {}
Crowd.__index = Crowd

local function read(self, pattern, seconds)
  local until_time = sys.monotonic() + seconds
  while not self.text:find(pattern) do
    local left = until_time - sys.monotonic()
    if left <= 0 then
      error("the crowd is not there: " .. self.text:sub(-200), 0)
    end
    if #sys.poll({ self.out }, math.ceil(left * 1000)) > 0 then
      self.text = self.text .. (sys.read(self.out, 65536, 0) or "")
    end
  end
end

--- So many connections to a port; returns when all are there.
function crowd.start(port, idle, slow)
  local dir = temp.dir()
  local script = dir:write("crowd.mjs", SCRIPT)
  local pid, out, err, stdin = sys.spawn({ "sh", "-c", 'ulimit -n 20000 && exec "$0" "$@"', "node",
    script, tostring(port), tostring(idle), tostring(slow) },
    { env = { LD_PRELOAD = false, NODE_OPTIONS = false } })
  assert(pid, out)
  local self = setmetatable({ pid = pid, out = out, err = err, stdin = stdin, dir = dir,
    text = "" }, Crowd)
  read(self, "ready", 60)
  return self
end

--- How many of them the server has closed so far.
function Crowd:gone()
  while #sys.poll({ self.out }, 0) > 0 do
    local text = sys.read(self.out, 65536, 0)
    if not text or text == "" then
      break
    end
    self.text = self.text .. text
  end
  return tonumber(self.text:match(".*gone (%d+)")) or 0
end

function Crowd:stop()
  sys.close(self.stdin)
  sys.waitpid(self.pid, 10000)
  sys.close(self.out)
  sys.close(self.err)
  self.dir:remove()
end

return crowd
