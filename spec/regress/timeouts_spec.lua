local server = require("spec.support.server")
local socket = require("socket")

local APP = [[
local moonquay = require("moonquay")
local core = require("moonquay.core")
local app = moonquay.app()
local function read(req)
  local _, err = req.body:read("a")
  core.log("info", "the reader got " .. err.code)
end
app:post("/request", function(req)
  req.limits.timeouts.entity_body = 1
  return read(req)
end)
local endless
app:get("/endless", { min_send_bytes_per_second = "off" }, function(req, res)
  endless = req
  repeat
    local ok = res:write(("x"):rep(65536))
  until not ok
end)
app:get("/judge", function()
  endless.limits.min_send_bytes_per_second = 150
  return "judged"
end)
app:post("/route", { timeouts = { entity_body = 1 } }, read)
return app]]

describe("timeouts.entity_body of one request, shorter than every setting", function()
  local s

  lazy_setup(function()
    s = server.start({ app = APP }) -- 120 s
  end)

  lazy_teardown(server.stop_all)

  for _, where in ipairs({ "request", "route" }) do
    it("ends a wait for content, set by the " .. where, function()
      local connection = s:connect()
      connection:send("POST /", where, " HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
      s:await("the reader got timeout")
      s.text.stderr = ""
      assert.equal("reset", (select(2, connection:rest())))
    end)
  end
end)

describe("min_send_bytes_per_second of one request", function()
  after_each(server.stop_all)

  it("also counts for who stood still before it was set", function()
    local s = server.start({ app = APP, options = { "--log-level", "debug" } })
    local tcp = socket.tcp4()
    assert(tcp:setoption("recv-buffer-size", 2304))
    assert(tcp:connect(s.host, s.port))
    assert(tcp:send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert.equal("judged", s:get("/judge").body) -- the writer waits by now
    s:await("reason=Timer_MinBytesPerSecond connection=%d+ peer=127.0.0.1:"
      .. select(2, tcp:getsockname()), 60) -- the first 30 s are not judged
    tcp:close()
    assert.equal(0, s:stop())
  end)
end)
