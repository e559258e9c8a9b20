local apps = require("spec.support.apps")
local sys = require("moonquay.probe").sys

-- An app that names 2000 prefixes of 2 KB, and at /NAME/more/ as many as it is allowed to.
local function app_with_many(name)
  return ([[
local moonquay = require("moonquay")
local list = { "URL/NAME/" }
for i = 1, 2000 do
  list[i + 1] = ("URL/NAME/%04d/%s"):format(i, ("x/"):rep(980))
end
local app = moonquay.app { url_prefixes = list }
app:get("/more", function()
  for i = 1, 500 do
    local ok, err = app:listen(("URL/NAME/more/%04d/%s"):format(i, ("x/"):rep(980)))
    if not ok then return err.message:match("[^:]+$") end
  end
  return "no end"
end)
app:get("/", function() return "here" end)
return app]]):gsub("NAME", name)
end

local function many(count)
  local files = {}
  for i = 1, count do
    files[2 * i - 1], files[2 * i] = "a" .. i .. ".lua", app_with_many("a" .. i)
  end
  return files
end

describe("More prefixes than a worker can be told", function()
  after_each(apps.stop_all)

  it("are refused at the start", function()
    local result = apps.run(many(4))
    assert.equal(78, result.status)
    assert.truthy(result.stderr:find(": the prefixes of all apps take more than 12 MiB\n"),
      result.stderr:sub(1, 400))
  end)

  it("are refused when the apps are loaded", function()
    local result = apps.run(many(5))
    assert.equal(78, result.status)
    assert.truthy(result.stderr:find("a5.lua: the settings of all apps take more than 16 MiB\n"),
      result.stderr:sub(1, 400))
  end)

  it("are refused while it runs, so that the next worker knows them all", function()
    local s = apps.start(many(3), { "--log-level", "error" })
    assert.equal(" the prefixes of all apps take more than 12 MiB", apps.get("/a1/more").body)
    assert(sys.kill(s:workers()[1], "KILL"))
    s:await("worker_died")
    assert.equal("here", apps.get("/a3/").body)
    assert.equal(0, s:stop())
  end)
end)
