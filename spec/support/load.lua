--- Clients in a process of their own that keep asking, each for the next answer as soon as it has
-- one, on a kept connection; they count what they get.
local await = require("spec.support.await")
local json = require("moonquay.core").json
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local load = {}
local Load = {}
Load.__index = Load
local running = {}

-- A connection that the server has announced to close is replaced; one that closes or breaks before
-- its answer is complete counts as broken. Prints what it has counted for each line that it reads.
local SCRIPT = [[
import net from "node:net"
import readline from "node:readline"
const [port, clients] = process.argv.slice(2, 4).map(Number)
const [path, method] = process.argv.slice(4, 6)
const fresh = process.argv[6] === "fresh"
const count = { answers: {}, broken: 0, refused: 0, longest_ms: 0, bodies: {}, sent: 0 }
let stopping = false
const content = method === "POST" ? "x".repeat(1000) : ""
const request = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n` +
  (content ? `Content-Length: ${content.length}\r\n` : "") + "\r\n" + content

function client() {
  const socket = net.connect({ port, host: "127.0.0.1" })
  let began = 0, text = "", asking = false, connected = false
  const ask = () => {
    if (stopping) return socket.end()
    began = performance.now()
    asking = true
    count.sent++
    socket.write(request)
  }
  const again = () => { if (!stopping) setImmediate(client) }
  socket.setNoDelay()
  socket.on("connect", () => { connected = true; ask() })
  socket.on("data", bytes => {
    text += bytes.toString("latin1")
    for (;;) {
      const end = text.indexOf("\r\n\r\n")
      if (end < 0) return
      const head = text.slice(0, end)
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)
      if (text.length < end + 4 + length) return
      const body = text.slice(end + 4, end + 4 + length)
      text = text.slice(end + 4 + length)
      const status = head.slice(9, 12)
      count.answers[status] = (count.answers[status] ?? 0) + 1
      if (length < 40) count.bodies[body] = (count.bodies[body] ?? 0) + 1
      count.longest_ms = Math.max(count.longest_ms, performance.now() - began)
      asking = false
      if (fresh || /connection: close/i.test(head)) { socket.end(); return }
      ask()
    }
  })
  socket.on("error", () => {})
  socket.on("close", () => {
    if (!connected) count.refused++
    else if (asking) count.broken++
    again()
  })
}
for (let i = 0; i < clients; i++) client()
readline.createInterface({ input: process.stdin })
  .on("line", () => console.log(JSON.stringify(count)))
  .on("close", () => { stopping = true; setTimeout(() => process.exit(0), 2000).unref() })
]]

--- options: port, clients (200), path ("/"), method ("GET"; "POST" has content), fresh (true: a
-- connection for each request).
function load.start(options)
  local dir = temp.dir()
  local words = { "node", dir:write("load.mjs", SCRIPT), tostring(options.port),
    tostring(options.clients or 200), options.path or "/", options.method or "GET",
    options.fresh and "fresh" or "" }
  local pid, out, err, stdin = sys.spawn(words,
    { env = { LD_PRELOAD = false, NODE_OPTIONS = false } })
  assert(pid, out)
  local self = setmetatable({ pid = pid, out = out, err = err, stdin = stdin, dir = dir,
    text = "" }, Load)
  running[self] = true
  return self
end

--- What has been counted: { answers = { ["200"] = 5 }, broken =, refused =, longest_ms =, bodies =,
-- sent = }. broken: answers that did not come or were not complete.
function Load:counts()
  sys.write(self.stdin, "\n")
  local line
  await("counts of the load", function()
    if #sys.poll({ self.out }, 100) > 0 then
      local text = sys.read(self.out, 65536, 0)
      assert(text and text ~= "", "the load has ended")
      self.text = self.text .. text
    end
    line, self.text = self.text:match("^(.-)\n(.*)$") or nil, self.text:match("^.-\n(.*)$")
      or self.text
    return line
  end)
  return json.decode(line)
end

--- Waits until so many more answers have come; returns the counts.
function Load:await(more)
  local function answers()
    local sum, counts = 0, self:counts()
    for _, number in pairs(counts.answers) do
      sum = sum + number
    end
    return sum, counts
  end
  local goal = answers() + more
  local counts
  await(more .. " more answers", function()
    local sum
    sum, counts = answers()
    return sum >= goal
  end, 30)
  return counts
end

function Load:stop()
  running[self] = nil
  sys.close(self.stdin)
  if not sys.waitpid(self.pid, 10000) then
    sys.kill(self.pid, "KILL")
    sys.waitpid(self.pid, 10000)
  end
  sys.close(self.out)
  sys.close(self.err)
  self.dir:remove()
end

--- For after_each.
function load.stop_all()
  for self in pairs(running) do
    self:stop()
  end
end

return load
