local await = require("spec.support.await")
local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

local function endless(_, res)
  local piece = ("x"):rep(65536)
  local ok, err
  repeat
    ok, err = res:write(piece)
  until not ok
  moonquay.log.info("the writer got " .. err.code)
end

app:any("/endless", endless)
app:get("/patient", { min_send_bytes_per_second = "off" }, endless)
app:get("/slow-handler", function(_, res)
  for _ = 1, 400 do
    if not res:write("x") then
      return
    end
    res:flush()
    moonquay.sleep(0.1)
  end
end)
app:get("/", function() return "ok" end)
return app]]

local SECONDS = 45 -- beyond the 30 s after which a peer is judged

-- A peer whose socket takes little, and that reads so many bytes a second of its own accord.
local function slow_reader(s, path, rate, method)
  local tcp = socket.tcp4()
  tcp:settimeout(5)
  assert(tcp:setoption("recv-buffer-size", 2304))
  assert(tcp:connect(s.host, s.port))
  local body = method == "POST" and "Content-Length: 1000000\r\n" or ""
  assert(tcp:send(("%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(method or "GET", path, body)))
  local _, port = tcp:getsockname()
  tcp:settimeout(0)
  return { tcp = tcp, port = port, rate = rate, got = 0, sends = method == "POST" }
end

-- Reads what the rate allows until now; what the server has closed stays closed.
local function read_some(peer, seconds)
  local due = math.floor(peer.rate * seconds) - peer.got
  if due > 0 and not peer.ended then
    local bytes, err, part = peer.tcp:receive(due)
    peer.got = peer.got + #(bytes or part or "")
    peer.ended = not bytes and err ~= "timeout"
  end
  if peer.sends then
    peer.tcp:send("x")
  end
end

describe("The minimum send rate (reference section 13, DESIGN section 5)", function()
  after_each(server.stop_all)

  it("drops who takes too little of an answer, and nobody else", function()
    local s = server.start({ app = APP, options = { "--log-level", "debug" } })
    local peers = {
      reads_400 = slow_reader(s, "/endless", 400),
      reads_50 = slow_reader(s, "/endless", 50),
      reads_nothing = slow_reader(s, "/endless", 0),
      only_sends = slow_reader(s, "/endless", 0, "POST"),
      is_allowed = slow_reader(s, "/patient", 0),
      has_a_slow_handler = slow_reader(s, "/slow-handler", 100000),
    }
    local since = sys.monotonic()
    await("the time to be over", function()
      local seconds = sys.monotonic() - since
      for _, peer in pairs(peers) do
        read_some(peer, seconds)
      end
      sys.poll({}, 50)
      return seconds >= SECONDS
    end, SECONDS + 30)
    local log = s:stderr()
    for name, dropped in pairs({
      reads_400 = false, reads_50 = true, reads_nothing = true, only_sends = true,
      is_allowed = false, has_a_slow_handler = false,
    }) do
      local line = ("connection_closed [^\n]*reason=Timer_MinBytesPerSecond connection=%%d+ "
        .. "peer=127.0.0.1:%d\n"):format(peers[name].port)
      assert.equal(dropped, log:find(line) ~= nil, name .. "\n" .. log)
      peers[name].tcp:close()
    end
    assert.truthy(log:find("the writer got timeout", 1, true), log)
    assert.equal("ok", s:get("/").body)
    assert.equal(0, s:stop())
  end)
end)
