local server = require("spec.support.server")

local APP = [[
local app = require("moonquay").app()
app:get("/none", function() return "none" end)
app:get("/one", function(req) return req.path end)
app:get("/two", function(_, res) res.headers["x-two"] = "2" return "two" end)
app:get("/rest", function(...) return tostring(select("#", ...)) end)
app:get("/three", function(_, _, third) return tostring(third) end)
app:get("/fails", function() error("on purpose") end)
app:get("/json", function() return { "a" } end)
app:get("/waits", function() require("moonquay").sleep(0) return "waited" end)
app:get("/late", function()
  return 200, coroutine.wrap(function() coroutine.yield("pieces") end)
end)
app:get("/:parameter", function(req) return req.params.parameter end)
return app
]]

-- Arguments that a handler cannot see are not made; nothing else may differ.
describe("a handler", function()
  local s
  setup(function()
    s = server.start({ app = APP })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  local cases = {
    { "/none", 200, "none" },
    { "/one", 200, "/one" },
    { "/two", 200, "two" },
    { "/rest", 200, "2" },
    { "/three", 200, "nil" },
    { "/json", 200, '["a"]' },
    { "/waits", 200, "waited" },
    { "/late", 200, "pieces" },
    { "/other", 200, "other" },
  }
  for _, case in ipairs(cases) do
    it(("behind %s gets what it declares"):format(case[1]), function()
      local response = s:get(case[1])
      assert.equal(case[2], response.status)
      assert.equal(case[3], response.body)
    end)
  end

  it("without arguments that fails is answered like any other", function()
    local response = s:get("/fails")
    assert.equal(500, response.status)
    assert.matches("Internal Server Error", response.body)
    s:await("on purpose", 5)
  end)

  it("may be the whole app and take none", function()
    local alone = server.start({ app = [[return function() return "alone" end]] })
    assert.equal("alone", alone:get("/").body)
    assert.equal(0, alone:stop())
  end)
end)

describe("content longer than the declared Content-Length", function()
  local LONG = [[
    local app = require("moonquay").app()
    local long = ("x"):rep(200000)
    app:get("/returned", function(_, res) res.headers["content-length"] = 10 return long end)
    app:get("/finished", function(_, res) res.headers["content-length"] = 10 res:finish(long) end)
    app:get("/short", function(_, res) res.headers["content-length"] = 300000 return long end)
    return app
  ]]
  for _, path in ipairs({ "/returned", "/finished" }) do
    it("is an error before anything is sent: " .. path, function()
      local s = server.start({ app = LONG })
      assert.equal(500, s:get(path).status)
      s:await("Content%-Length", 5)
      assert.equal(0, s:stop())
    end)
  end

  it("and shorter content breaks the connection off, also when it is large", function()
    local s = server.start({ app = LONG })
    local client = s:connect()
    client:send("GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
    assert.is_true(client:response().truncated)
    s:await("response_short", 5)
    assert.equal(0, s:stop())
  end)
end)
