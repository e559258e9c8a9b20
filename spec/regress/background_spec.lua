local client_of = require("spec.support.client")
local h2 = require("spec.support.h2_client")
local server = require("spec.support.server")

-- What waits for a request's content or for room in its response must hear that the request is
-- over, also when it is a task of its own.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local heard = {}
local ways = {
  read = function(req) return req.body:read(10) end,
  ["read all"] = function(req) return req.body:read("a") end,
  chunks = function(req) for _ in req.body:chunks() do end end,
  write = function(_, res) repeat until not res:write(("x"):rep(60000)) end,
}
app:post("/:way", function(req, res)
  local way, waits = req.params.way, false
  moonquay.background(function()
    waits = true
    local _, err = pcall(ways[way], req, res)
    heard[#heard + 1] = way .. ": " .. tostring(err)
  end)
  repeat moonquay.sleep(0.001) until waits
  for _ = 1, 20 do moonquay.sleep(0.001) end -- a writer writes until its client takes no more
end)
app:get("/heard", function() return #heard > 0 and table.remove(heard) or "nothing" end)
return app
]]

describe("A background task that waits while its request ends", function()
  local s
  setup(function()
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- Begins a request of which content is to come; nobody reads its answer.
  local begin = {}
  begin["over HTTP/1.1"] = function(way)
    local client = client_of.connect("127.0.0.1", s.port)
    client:send(("POST /%s HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n"):format(
      way:gsub(" ", "%%20")))
    return client
  end
  begin["over HTTP/2"] = function(way)
    local client = h2.connect(s)
    client:open("/" .. way:gsub(" ", "%%20"), { method = "POST", open = true })
    return client
  end

  for how, ask in pairs(begin) do
    for _, way in ipairs({ "read", "read all", "chunks", "write" }) do
      it(("hears of it: %s, %s"):format(way, how), function()
        local client = ask(way)
        local body
        require("spec.support.await")("what it hears", function()
          body = s:get("/heard").body
          return body ~= "nothing"
        end)
        assert.matches("^" .. way .. ": .*request %d+ has ended", body)
        client:close()
      end)
    end
  end
end)
