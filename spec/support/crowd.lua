--- A crowd of connections in a process of its own: idle ones that have had one answer, and slow
-- ones of three kinds: heads and bodies that come byte by byte, and answers that nobody reads.
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local SECONDS = os.getenv("MOONQUAY_BUILD") == "asan" and 60 or 20

local crowd = {}
local Crowd = {}
Crowd.__index = Crowd
local running = {}

--- The text of what a crowd asks for: in front, handlers for an app that the text makes.
crowd.HANDLERS = [[
app:get("/", function() return "ok" end)
app:post("/read", function(req) return tostring(#(req:text() or "")) end)
app:get("/endless", function(_, res)
  local piece = ("x"):rep(65536)
  repeat until not res:write(piece)
end)
]]

--- A whole app of it.
crowd.APP = 'local app = require("moonquay").app()\n' .. crowd.HANDLERS .. "return app"

local SCRIPT = [[
import net from "node:net"
const [port, idle, slow] = process.argv.slice(2, 5).map(Number), base = process.argv[5]
let waiting = idle + slow, gone = 0
const ready = () => { if (--waiting === 0) console.log("ready") }
// They end by a reset: thousands of ports that still wait would slow the next crowd down.
const sockets = new Set()
process.stdin.on("end", () => {
  for (const socket of sockets) socket.resetAndDestroy()
  setImmediate(() => process.exit(0))
}).resume()

// Source addresses in turn: one has not enough ports for crowds that meet.
function open(i, connected) {
  const socket = net.connect({ port, host: "127.0.0.1", localAddress: `127.0.0.${2 + i % 8}` })
  socket.on("connect", () => connected(socket))
  socket.on("error", () => {})
  socket.on("close", () => { sockets.delete(socket); console.log("gone " + (++gone)) })
  sockets.add(socket)
  return socket
}

function openIdle(i) {
  const socket = open(i, s => s.write("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
  socket.once("data", () => { ready(); if (next < idle) openIdle(next++) })
}
let next = Math.min(100, idle)
for (let i = 0; i < next; i++) openIdle(i)

const heads = [`GET ${base}/ HTTP/1.1\r\nHost: h\r\nX: `,
  `POST ${base}/read HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n`,
  `GET ${base}/endless HTTP/1.1\r\nHost: h\r\n\r\n`]
for (let i = 0; i < slow; i++)
  open(i, s => {
    s.write(heads[i % 3])
    if (i % 3 === 2) s.pause()
    else {
      const drip = setInterval(() => s.write("x"), 500)
      s.on("close", () => clearInterval(drip))
    }
    ready()
  })
]]

-- Reads what it says, at most for so long.
local function hear(self, seconds)
  if #sys.poll({ self.out }, math.ceil(seconds * 1000)) > 0 then
    local text = sys.read(self.out, 65536, 0)
    if text == nil or text == "" then
      error("the crowd has ended: " .. (sys.read(self.err, 65536, 0) or ""), 0)
    end
    self.text = self.text .. text
    return true
  end
end

--- So many connections to a port, which come from now on. base: what stands before the paths that
-- slow ones ask for (""). Fields of the result: idle, heads, bodies, unread: how many of each.
function crowd.start(port, idle, slow, base)
  local dir = temp.dir()
  local script = dir:write("crowd.mjs", SCRIPT)
  local pid, out, err, stdin = sys.spawn({ "sh", "-c",
    'ulimit -n "$(ulimit -H -n)"; exec "$0" "$@"', "node", script,
    tostring(port), tostring(idle), tostring(slow), base or "" },
    { env = { LD_PRELOAD = false, NODE_OPTIONS = false } })
  assert(pid, out)
  local self = setmetatable({
    pid = pid, out = out, err = err, stdin = stdin, dir = dir, text = "",
    until_time = sys.monotonic() + SECONDS,
    idle = idle, heads = (slow + 2) // 3, bodies = (slow + 1) // 3, unread = slow // 3,
  }, Crowd)
  running[self] = true
  return self
end

--- Whether all have come: the idle ones answered, the slow ones connected. Raises when they should
-- have been there long ago.
function Crowd:is_there()
  while hear(self, 0) do
    -- again, until there is nothing
  end
  local there = self.text:find("ready", 1, true) ~= nil
  if not there and sys.monotonic() > self.until_time then
    error("the crowd is not there: " .. self.text:sub(-200), 0)
  end
  return there
end

--- How many of them have seen the server close, so far; those that read nothing never do.
function Crowd:gone()
  self:is_there()
  return tonumber(self.text:match(".*gone (%d+)")) or 0
end

--- Ends all its connections.
function Crowd:stop()
  running[self] = nil
  sys.close(self.stdin)
  if not sys.waitpid(self.pid, SECONDS * 1000) then
    sys.kill(self.pid, "KILL")
    sys.waitpid(self.pid, SECONDS * 1000)
  end
  sys.close(self.out)
  sys.close(self.err)
  self.dir:remove()
end

--- For after_each.
function crowd.stop_all()
  for self in pairs(running) do
    self:stop()
  end
end

return crowd
