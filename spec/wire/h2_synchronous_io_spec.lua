local h2 = require("spec.support.h2_client")
local server = require("spec.support.server")

local frames = h2.frames

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local PIECE = ("x"):rep(65536)

-- Where Lua cannot be suspended.
local places = {
  sort = function(fn) table.sort({ 1, 2 }, function() fn() return false end) end,
  gsub = function(fn) ("x"):gsub("x", function() fn() end) end,
  tostring = function(fn)
    tostring(setmetatable({}, { __tostring = function() fn() return "" end }))
  end,
}
app:any("/ok", function() return "ok" end)
-- What a read gives in such a place, once, in words; of what is long its length.
app:post("/read/:place", function(req)
  local told
  moonquay.log.info("it reads.")
  places[req.params.place](function()
    if told then return end
    local results = table.pack(pcall(req.body.read, req.body, "a"))
    local text, err = tostring(results[2]), results[3]
    told = table.concat({ tostring(results[1]), #text > 1000 and #text or text, err and err.code },
      " ")
  end)
  moonquay.log.info("it got " .. told .. ".")
  return told
end)
app:get("/write/:place/:pieces", function(req, res)
  local ok, err
  moonquay.log.info("it writes.")
  places[req.params.place](function()
    for _ = 1, math.tointeger(req.params.pieces) do
      ok, err = res:write(PIECE)
      if not ok then break end
    end
  end)
  moonquay.log.info(("it wrote %s %s."):format(ok, err and err.code))
end)
return app
]]

local PLACES = { "sort", "gsub", "tostring" }

describe("Synchronous I/O over HTTP/2", function()
  local s, client
  local function start(...)
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true", ... } })
    client = h2.connect(s)
  end
  after_each(function()
    assert.equal("ok", s:get("/ok").body)
    client:close()
    assert.equal(0, s:stop())
  end)

  for _, place in ipairs(PLACES) do
    it("reads what the client sends when it is asked: " .. place, function()
      start("--set", "cpu_limit=20")
      local id = client:open("/read/" .. place, { method = "POST", open = true,
        { "expect", "100-continue" } })
      client:await("100", function()
        return client:stream(id).interim[1]
      end)
      client:data(id, "bo")
      client:data(id, "dy", true)
      assert.equal("true body", client:response(id).body)
    end)

    it("reads more than a window: " .. place, function()
      start("--set", "cpu_limit=20")
      local id = client:open("/read/" .. place, { method = "POST", open = true })
      client:upload(id, ("x"):rep(300000), true)
      assert.equal("true 300000", client:response(id).body)
    end)

    it("reads beside other streams, which wait: " .. place, function()
      start("--set", "cpu_limit=20")
      local id = client:open("/read/" .. place, { method = "POST", open = true })
      s:await("it reads%.")
      local other = client:open("/ok")
      client:data(id, "x", true)
      assert.equal("true x", client:response(id).body)
      assert.equal("ok", client:response(other).body)
    end)

    it("writes as the client takes it: " .. place, function()
      start("--set", "cpu_limit=20")
      local response = client:request(("/write/%s/16"):format(place))
      assert.equal(16 * 65536, #response.body)
      s:await("it wrote true nil%.")
    end)

    it("learns that its stream was reset, reading: " .. place, function()
      start("--set", "cpu_limit=20")
      local id = client:open("/read/" .. place, { method = "POST", open = true })
      s:await("it reads%.")
      client:send(frames.rst_stream(id, "CANCEL"))
      s:await("it got true nil closed%.")
      assert.equal("ok", client:request("/ok").body)
    end)

    it("learns that its client has left, reading: " .. place, function()
      start("--set", "cpu_limit=20")
      client:open("/read/" .. place, { method = "POST", open = true })
      s:await("it reads%.")
      client:half_close()
      s:await("it got true nil closed%.")
      assert.equal("closed", client:rest())
    end)

    it("learns that its client broke the rules, reading: " .. place, function()
      start("--set", "cpu_limit=20")
      client:open("/read/" .. place, { method = "POST", open = true })
      s:await("it reads%.")
      client:send(frames.frame("PRIORITY", 0, 0, "\0\0\0\0\0"))
      s:await("it got true nil %l+%.")
      assert.equal("closed", client:rest())
    end)

    it("learns that its client broke the rules, writing: " .. place, function()
      start("--set", "cpu_limit=20")
      client.credit = false
      local id = client:open(("/write/%s/1000"):format(place))
      client:body(id, 65535)
      client:send(frames.frame("PRIORITY", 0, 0, "\0\0\0\0\0"))
      s:await("it wrote nil closed%.")
      client:rest()
    end)

    it("learns that its stream was reset, writing: " .. place, function()
      start("--set", "cpu_limit=20")
      client.credit = false
      local id = client:open(("/write/%s/1000"):format(place))
      client:body(id, 65535)
      client:send(frames.rst_stream(id, "CANCEL"), frames.window_update(0, 1000))
      s:await("it wrote nil closed%.")
      assert.equal("ok", client:request("/ok").body)
    end)

    it("learns that its client has left, writing: " .. place, function()
      start("--set", "cpu_limit=20")
      client.credit = false
      local id = client:open(("/write/%s/1000"):format(place))
      client:body(id, 65535)
      client:half_close()
      s:await("it wrote nil closed%.")
      client:rest()
    end)

    it("waits for no longer than cpu_limit for a client that sends nothing: " .. place, function()
      start("--set", "cpu_limit=0.2")
      local id = client:open("/read/" .. place, { method = "POST", open = true })
      assert.equal("true nil timeout", client:response(id).body)
      assert.equal("ok", client:request("/ok").body)
    end)

    it("waits for no longer than cpu_limit for a client that takes nothing: " .. place, function()
      start("--set", "cpu_limit=0.2")
      client.credit = false
      local id = client:open(("/write/%s/1000"):format(place))
      s:await("it wrote nil timeout%.")
      -- A piece is missing: that must not look like the whole.
      client:settle():send(frames.window_update(0, 1 << 20), frames.window_update(id, 1 << 20))
      assert.is_truthy(client:response(id).reset)
      assert.equal("ok", client:request("/ok").body)
    end)
  end

  it("raises where it is not allowed, and the stream goes on", function()
    start("--set", "allow_synchronous_io=false")
    local id = client:open("/read/gsub", { method = "POST", body = "abc" })
    assert.matches("^false cannot wait inside string.gsub", client:response(id).body)
  end)
end)
