local await = require("spec.support.await")
local probe = require("moonquay.probe").server
local server = require("spec.support.server")
local socket = require("socket")

-- MOONQUAY_SEED repeats a run, MOONQUAY_STEPS makes it longer.
local SEED = tonumber(os.getenv("MOONQUAY_SEED")) or os.time()
local STEPS = tonumber(os.getenv("MOONQUAY_STEPS")) or 60000
local CONNECTIONS = 40
local ROOM = 40000 -- bytes that a socket surely has room for

local LETTERS = "swfFracejhltignCAkbpPqdxmTKU" .. "swrapPqd"
local RARE = "ENSM"

local function pick(list)
  return list[math.random(#list)]
end

local function some_path()
  local path = {}
  for i = 1, math.random(0, 6) do
    local letters = math.random(40) == 1 and RARE or LETTERS
    local at = math.random(#letters)
    path[i] = letters:sub(at, at) .. math.random(0, 9)
  end
  return "/" .. table.concat(path) .. "/" .. math.random(0, 9)
end

local function content(length)
  return ("c"):rep(length)
end

local function chunked()
  local parts = {}
  for _ = 1, math.random(0, 5) do
    local length = math.random(1, math.random(4) == 1 and 40000 or 50)
    parts[#parts + 1] = ("%x\r\n%s\r\n"):format(length, content(length))
  end
  parts[#parts + 1] = "0\r\n" .. (math.random(3) == 1 and "x-trailer: 1\r\n" or "") .. "\r\n"
  return "Transfer-Encoding: chunked\r\n\r\n" .. table.concat(parts)
end

local function sized()
  local length = math.random(0, math.random(4) == 1 and 100000 or 100)
  return ("Content-Length: %d\r\n\r\n%s"):format(length, content(length))
end

local BROKEN = {
  "GET / HTTP/1.1\r\n\r\n", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "\0\1\2", "GET /\r", "\n\n",
  "GET / HTTP/9.9\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
  "POST /a1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  "POST /r9r9 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
}

local function some_request()
  if math.random(25) == 1 then
    return pick(BROKEN)
  end
  local head = ("%s %s HTTP/1.%d\r\nHost: test\r\n"):format(
    pick({ "GET", "POST", "HEAD", "PUT" }), some_path(), math.random(20) == 1 and 0 or 1)
  if math.random(12) == 1 then
    head = head .. "Connection: close\r\n"
  end
  if math.random(12) == 1 then
    head = head .. "Expect: 100-continue\r\n"
  end
  return head .. pick({ function() return "\r\n" end, sized, chunked })()
end

local Peer = {}
Peer.__index = Peer

local function connect(port)
  local tcp = assert(socket.tcp())
  tcp:settimeout(5)
  assert(tcp:connect("127.0.0.1", port))
  tcp:settimeout(0)
  return setmetatable({ tcp = tcp, pending = "", sent = 0 }, Peer)
end

-- A slice of what is left of its requests; new ones when there is nothing left.
function Peer:send()
  if self.half then
    return
  end
  if #self.pending == 0 then
    for _ = 1, math.random(3) do
      self.pending = self.pending .. some_request()
    end
  end
  local size = math.random(3) == 1 and #self.pending or math.random(#self.pending)
  local last, _, part = self.tcp:send(self.pending, 1, size)
  self.sent = self.sent + (last or part or 0)
  self.pending = self.pending:sub((last or part or 0) + 1)
end

function Peer:receive()
  local bytes, how, part = self.tcp:receive(math.random(20000))
  return bytes or how == "timeout" or #part > 0
end

function Peer:half_close()
  self.half = true
  self.tcp:shutdown("send")
end

-- An end does not reach a socket that has no room for the bytes before it; a reset does.
function Peer:close(reset)
  if reset or self.sent > ROOM then
    self.tcp:setoption("linger", { on = true, timeout = 0 })
  end
  self.tcp:close()
end

describe("A server under random requests", function()
  after_each(server.stop_all)

  it("answers as before, and keeps nothing of them (seed " .. SEED .. ")", function()
    math.randomseed(SEED)
    local s = server.start({ path = "spec/support/stress_app.lua", options = {
      "--set", "max_concurrent_requests=12", "--set", "cpu_limit=0.1", "--set", "memory_limit=8MiB",
      "--set", "timeouts.cancel=0.2", "--set", "timeouts.entity_body=1",
      "--set", "timeouts.header_wait=1", "--set", "timeouts.idle_connection=1",
      "--set", "timeouts.drain_entity_body=1", "--error-log", "/dev/null",
    } })
    local workers = s:workers()
    local peers = {}
    for _ = 1, STEPS do
      local index = math.random(CONNECTIONS)
      local peer = peers[index]
      local what = math.random(100)
      if not peer then
        peers[index] = connect(s.port)
      elseif what <= 60 then
        peer:send()
      elseif what <= 92 then
        if not peer:receive() then
          peer:close()
          peers[index] = nil
        end
      elseif what <= 94 then
        peer:half_close()
      else
        peer:close(what <= 97)
        peers[index] = nil
      end
    end
    for _, peer in pairs(peers) do
      peer:close(math.random(2) == 1)
    end

    local tally
    local idle = pcall(await, "an idle server", function()
      tally = probe.tally_attach("/proc/" .. workers[1] .. "/fd/4")
      return tally and tally.connections == 0 and tally.requests == 0 and tally.tasks == 0
    end, 20)
    assert.same(workers, s:workers())
    assert(idle, ("connections %d, requests %d, tasks %d"):format(
      tally.connections, tally.requests, tally.tasks))
    assert.is_true(tally.served > 100, "hardly any request got through")
    assert.equal("ok", s:get("/ok").body)
    assert.equal(0, s:stop())
  end)
end)
