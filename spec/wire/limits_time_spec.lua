local await = require("spec.support.await")
local server = require("spec.support.server")
local socket = require("socket")

local APP = [[
local core = require("moonquay.core")
return function(req, res)
  if req.path == "/endless" then
    local piece = ("x"):rep(65536)
    local ok, err
    repeat
      ok, err = res:write(piece)
    until not ok
    core.log("info", "the writer got " .. err.code)
  elseif req.path == "/large" then
    return ("x"):rep(64 << 20)
  end
  return "ok"
end
]]

-- What a slow reader does: its socket takes little, and nobody reads from it.
local function connect(s)
  local tcp = socket.tcp4()
  tcp:settimeout(5)
  assert(tcp:setoption("recv-buffer-size", 4096))
  assert(tcp:connect(s.host, s.port))
  return tcp
end

describe("A peer that takes nothing of its answer for timeouts.idle_connection", function()
  local s

  before_each(function()
    s = server.start({ app = APP, options = {
      "--set", "timeouts.idle_connection=0.5", "--log-level", "debug",
    } })
  end)

  after_each(function()
    server.stop_all()
  end)

  local DROPPED = "connection_closed [^\n]*reason=Timer_SendStalled connection=%d+ peer=127.0.0.1:"

  for _, path in ipairs({ "/endless", "/large" }) do
    it("is dropped: " .. path, function()
      local tcp = connect(s)
      assert(tcp:send("GET " .. path .. " HTTP/1.1\r\nHost: h\r\n\r\n"))
      s:await(DROPPED .. select(2, tcp:getsockname()))
      if path == "/endless" then
        s:await("the writer got timeout")
      end
      tcp:close()
      assert.equal("ok", s:get("/").body)
      assert.equal(0, s:stop())
    end)
  end

  it("is dropped although it goes on sending", function()
    local tcp = connect(s)
    assert(tcp:send("POST /endless HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n"))
    await("the connection is dropped", function()
      tcp:send("x")
      return s:stderr():find(DROPPED .. select(2, tcp:getsockname()))
    end)
    tcp:close()
    assert.equal(0, s:stop())
  end)
end)
