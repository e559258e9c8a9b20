local server = require("spec.support.server")

-- What a handler says before its content is bounded like the content itself.
describe("what a handler sets and sends before its answer", function()
  local APP = [[
local app = require("moonquay").app()
local sent = 0
app:get("/headers", function(_, res)
  for i = 1, 100000 do res.headers["x-" .. i % 7] = ("v"):rep(1000) end
  return "set"
end)
app:get("/hints", function(_, res)
  while res:informational(103, { link = ("x"):rep(1000) }) do sent = sent + 1 end
end)
app:get("/sent", function() return tostring(sent) end)
return app
]]
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  it("is an error above a mebibyte of headers", function()
    assert.equal(500, s:get("/headers").status)
    s:await("more than 1048576 bytes of headers", 5)
  end)

  it("waits when the client does not read its interim responses", function()
    local client = s:connect()
    client:send("GET /hints HTTP/1.1\r\nHost: x\r\n\r\n")
    local pid, before, now = s:workers()[1]
    -- it stands still: two looks in a row with other requests served between them
    repeat
      before, now = now, tonumber(s:get("/sent").body)
    until now > 0 and before == now
    assert.is_true(now < 100000)
    client:reset()
    assert.equal(200, s:get("/sent").status)
    assert.same({ pid }, s:workers())
  end)
end)
