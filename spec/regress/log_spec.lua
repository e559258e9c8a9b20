local server = require("spec.support.server")
local temp = require("spec.support.temp")

local APP = [[
return function(req, res)
  if req.path == "/broken" then
    res:write("part")
    res:flush()
    error("on purpose")
  end
  return tostring(req.connection_id)
end
]]

describe("The logs of one request", function()
  local dir, s

  before_each(function()
    dir = temp.dir()
    s = server.start({ app = APP, options = {
      "--log-level", "info", "--access-log", dir.path .. "/access",
    } })
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  it("have the same id when it is refused", function()
    local connection = s:connect()
    connection:send("GET / HTTP/1.1\r\n\r\n")
    assert.equal(400, connection:response().status)
    connection:close()
    local id = s:await("request_refused [^\n]*request=(%x+%-%x+)")
    assert.equal(0, s:stop())
    assert.equal(id, dir:read("access"):match(" 400 %d+ \"%-\" \"%-\" ([^\n]+)\n"))
  end)

  it("say that an answer was broken off", function()
    local connection = s:connect()
    connection:send("GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
    connection:rest()
    connection:close()
    s:get("/whole")
    assert.equal(0, s:stop())
    local text = dir:read("access")
    assert.matches('"GET /broken HTTP/1.1" 200 4 "%-" "%-" %x+%-%x+ aborted\n', text)
    assert.matches('"GET /whole HTTP/1.1" 200 %d+ "%-" "%-" %x+%-%x+\n', text)
  end)

  it("name the connection by a number that a double holds", function()
    local first = math.tointeger(tonumber(s:get("/").body))
    local second = math.tointeger(tonumber(s:get("/").body))
    assert.equal(1, second - first)
    assert.is_true(first > 0 and second < 1 << 53)
  end)
end)
