local server = require("spec.support.server")

-- Each wait of a cancelled task ends at once. That must not mean that it never lets others run.
describe("a handler that goes on after its client left", function()
  local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local left = 0
local ways = {
  sleep = function() moonquay.sleep(0.001) end,
  write = function(_, res) res:write("more") end,
  read = function(req) req.body:read() end,
  join = function() moonquay.spawn(function() moonquay.sleep(60) end):join() end,
}
app:post("/endless/:way", function(req, res)
  req:on_cancel(function() left = left + 1 end)
  local way = ways[req.params.way]
  res:write("started")
  res:flush()
  while not req:cancelled() do moonquay.sleep(0.001) end
  while true do way(req, res) end
end)
app:get("/left", function() return tostring(left) end)
return app
]]

  for _, way in ipairs({ "sleep", "write", "read", "join" }) do
    it(("and ignores what %s returns lets other requests run"):format(way), function()
      local s = server.start({
        app = APP,
        options = { "--set", "cpu_limit=off", "--set", "timeouts.cancel=off", "--set", "drain=0" },
      })
      local client = s:connect()
      client:send("POST /endless/" .. way .. " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
      client:read_until("started")
      client:reset()
      local answer
      repeat
        answer = s:get("/left")
        assert.equal(200, answer.status)
      until answer.body == "1"
      for _ = 1, 20 do
        assert.equal(200, s:get("/left").status)
      end
      assert.equal(0, s:stop())
    end)
  end

  -- A stop waits for what runs, so that one which is never closed holds it until drain is over.
  for _, kind in ipairs({ "a task that it spawns", "a function for after the answer" }) do
    it(("has timeouts.cancel for %s, too"):format(kind), function()
      local s = server.start({
        app = ([[
local moonquay = require("moonquay")
local left = 0
local function endless() while true do moonquay.sleep(0.001) end end
return function(req, res)
  if req.path == "/left" then return tostring(left) end
  req:on_cancel(function() left = left + 1 end)
  local spawns = %q == "a task that it spawns"
  if not spawns then res:after(endless) end
  res:write("started")
  res:flush()
  while not req:cancelled() do moonquay.sleep(0.001) end
  if spawns then moonquay.spawn(endless) end
end]]):format(kind),
        options = { "--set", "cpu_limit=off", "--set", "timeouts.cancel=0.2", "--set", "drain=60" },
      })
      local client = s:connect()
      client:send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      client:read_until("started")
      client:reset()
      repeat until s:get("/left").body == "1"
      assert.equal(0, s:stop())
    end)
  end
end)

-- Its answer may end before what another task waits for has come, and then it never comes.
describe("a task that waits for the body of a request", function()
  local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local function reads(req)
  local _, err = req.body:read("a")
  moonquay.log.info("the reader: " .. err.code)
end
app:post("/joined", function(req, res)
  local reader = moonquay.spawn(reads, req)
  moonquay.sleep(0.01)
  res:finish("answered")
  reader:join()
end)
app:post("/after", function(req, res)
  res:after(function() moonquay.sleep(1000) end)
  moonquay.background(reads, req)
  moonquay.sleep(0.01)
  return "answered"
end)
return app]]

  for _, way in ipairs({ "joined", "after" }) do
    for _, protocol in ipairs({ "HTTP/1.1", "HTTP/2" }) do
      it(("learns of the end of its answer: %s, over %s"):format(way, protocol), function()
        local drain = way == "after" and "0.1" or "60"
        local s = server.start({ app = APP, options = { "--set", "h2.cleartext=true", "--set",
          "drain=" .. drain } })
        local client
        if protocol == "HTTP/2" then
          client = require("spec.support.h2_client").connect(s)
          client:head(client:open("/" .. way, { method = "POST", open = true }))
        else
          client = s:connect()
          client:send("POST /" .. way .. " HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
          client:read_until("answered")
        end
        s:await('the reader: closed"')
        client:close()
        s:signal("TERM")
        assert.same({ exit = 0 }, s:wait(10))
        assert.equal(0, s:stop())
      end)
    end
  end
end)
