local json = require("moonquay.core").json
local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
moonquay.log.info("loading", { at = "load" })
app:get("/log", function(req)
  moonquay.log.debug("hidden")
  moonquay.log.info("plain")
  moonquay.log.warn("with fields", {
    text = 'a "quoted"\nline', whole = 7, float = 0.5, yes = true, list = {},
  })
  moonquay.all(function() moonquay.log.error("in a task") end)
  return req.id
end)
app:get("/wrong", function()
  return tostring(pcall(moonquay.log.info)) .. tostring(pcall(moonquay.log.info, "x", "fields"))
end)
app:use(function(req, res, next)
  if req.query.drop then
    next()
    return
  end
  return next()
end)
return app
]]

describe("moonquay.log", function()
  local s
  lazy_setup(function()
    s = server.start({ app = APP, options = { "--error-log-format", "json", "--dev" } })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  -- The log lines with a message.
  local function lines(message)
    s:await('"' .. message .. '"')
    local found = {}
    for line in s:stderr():gmatch("[^\n]+") do
      local entry = json.decode(line)
      if entry and entry.message == message then
        found[#found + 1] = entry
      end
    end
    return found
  end

  it("writes level, message, fields, and inside a request its id", function()
    local id = s:get("/log").body
    local plain = lines("plain")[1]
    assert.same({ "info", id }, { plain.level, plain.request })
    local fields = lines("with fields")[1]
    assert.equal("warn", fields.level)
    assert.same({ 'a "quoted"\nline', 7, true }, { fields.text, fields.whole, fields.yes })
    local inner = lines("in a task")[1]
    assert.same({ "error", id }, { inner.level, inner.request })
    local loading = lines("loading")[1]
    assert.equal("load", loading.at)
    assert.is_nil(loading.request)
    assert.is_nil(s:stderr():find("hidden", 1, true))
  end)

  it("wants a message and a table", function()
    assert.equal("falsefalse", s:get("/wrong").body)
  end)

  it("tells, in development, of middleware that drops an answer, once", function()
    for _ = 1, 2 do
      assert.equal("", s:get("/log?drop=1").body)
    end
    local _, count = s:stderr():gsub("app.lua:16 dropped what next%(%) returned", "")
    assert.equal(1, count)
  end)
end)
