local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

-- Modules beside the app; each describes what it is for.
local MODULES = {
  plain = "return { name = ..., path = select(2, ...) }",
  nothing = "loaded_nothing = true",
  quiet = "return 1",
  ["false"] = "return false",
  sets = "package.loaded[...] = 'set by itself'",
  waits = [[
    waits_runs = (waits_runs or 0) + 1
    assert(require("moonquay").sleep(0.01))
    return "slow"]],
  ["dir.inner"] = "return ...",
  syntax = "return return",
  fails = 'fails_runs = (fails_runs or 0) + 1 require("moonquay").sleep(0) error("broken")',
  once = [[
    once_runs = (once_runs or 0) + 1
    require("moonquay").sleep(0.01)
    if once_runs == 1 then error("not yet") end
    return "now"]],
  ring_a = 'require("quiet") require("moonquay").sleep(0) return require("ring_b")',
  ring_b = 'return require("ring_c")',
  ring_c = 'return require("ring_a")',
  selfish = 'return require("selfish")',
  cross_a = 'require("moonquay").sleep(0.01) return require("cross_b")',
  cross_b = 'require("moonquay").sleep(0.01) return require("cross_a")',
}

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local slow, slow_path = require("waits")
local at_load = { require("plain").name, slow, (require("waits")) }
local function try(name)
  local ok, value = pcall(require, name)
  return tostring(ok) .. " " .. tostring(value)
end
app:get("/path", function() return slow_path end)
app:get("/load", function() return table.concat(at_load, " ") .. " " .. waits_runs end)
app:get("/require/:name", function(req) return try(req.params.name) end)
app:get("/again/:name", function(req)
  return tostring(select("#", require(req.params.name), require(req.params.name)))
end)
app:get("/both/:a/:b", function(req)
  local a, b = moonquay.all(function() return try(req.params.a) end,
    function() return try(req.params.b) end)
  return a .. "\n" .. b
end)
app:get("/runs/:name", function(req) return tostring(_G[req.params.name .. "_runs"]) end)
app:get("/wrong", function() return select(2, pcall(require, {})) end)
app:get("/binary", function(req)
  local chunk = string.dump(function() return 1 end)
  local file = assert(io.open(req.query.path, "wb"))
  file:write(chunk)
  file:close()
  local list = { (select(2, load(chunk))), (select(2, load(chunk, "x", "b"))),
    (select(2, loadfile(req.query.path))), (select(2, pcall(dofile, req.query.path))),
    (select(2, pcall(require, "binary"))) }
  for i = 1, 5 do
    list[i] = tostring(list[i]):find("attempt to load a binary chunk", 1, true) ~= nil
  end
  return list
end)
app:get("/load/text", function()
  local env = { x = 5 }
  return { load("return 1 + 1")(), load("return x", "c", "t", env)(),
    tostring(pcall(load("return x", "c", nil, nil))), load(function() return nil end) ~= nil }
end)
return app
]]

describe("require in the server", function()
  local s, dir
  lazy_setup(function()
    dir = temp.dir()
    assert(os.execute("mkdir " .. dir.path .. "/dir"))
    for name, text in pairs(MODULES) do
      dir:write(name:gsub("%.", "/") .. ".lua", text .. "\n")
    end
    s = server.start({ path = dir:write("app.lua", APP) })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
    dir:remove()
  end)

  local cases = {
    { "loads modules that wait, once, while the app loads", "/load", "plain slow slow 1" },
    { "gives the name to the chunk", "/require/dir.inner", "true dir.inner" },
    { "gives true for a module that returns nothing", "/require/nothing", "true true" },
    { "gives what a module set itself", "/require/sets", "true set by itself" },
    { "gives false for a module that returns false", "/require/false", "true false" },
    { "gives one value for a loaded module", "/again/plain", "2" },
    { "knows Lua's own modules", "/again/string", "2" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[3], s:get(case[2]).body)
    end)
  end

  it("gives the file as second value at the first time", function()
    assert.equal(dir.path .. "/waits.lua", s:get("/path").body)
  end)

  it("lists where it looked for a module that is not there", function()
    local body = s:get("/require/no.such").body
    assert.matches("module 'no.such' not found: no field package.preload%['no.such'%], ", body)
    assert.is_truthy(body:find("no file '" .. dir.path .. "/no/such.lua', ", 1, true))
    assert.is_nil(body:find("\n", 1, true))
  end)

  it("names the line that requires a module that is not there", function()
    local path = dir:write("missing.lua", 'local one = 1\nrequire("no.such")\nreturn one\n')
    local result = server.run({ "serve", path })
    assert.equal(65, result.status)
    local line = result.stderr:match("[^\n]*not found[^\n]*")
    assert.is_truthy(line:find(path .. ":2: module 'no.such' not found: no field ", 1, true))
    assert.is_truthy(line:find("/no/such.lua'", 1, true))
  end)

  it("names the file of a module that does not compile", function()
    local body = s:get("/require/syntax").body
    assert.matches("error loading module 'syntax' from file '[^']*syntax.lua'", body)
    assert.matches("syntax.lua:1:", body)
  end)

  it("loads a module that failed again", function()
    assert.matches("^false .*broken", s:get("/require/fails").body)
    assert.matches("^false .*broken", s:get("/require/fails").body)
    assert.equal("2", s:get("/runs/fails").body)
  end)

  it("lets a second task wait for the first, and try itself when that fails", function()
    local s2 = server.start({ path = dir.path .. "/app.lua" })
    local body = s2:get("/both/once/once").body
    assert.matches("^false .*not yet\ntrue now$", body)
    assert.equal("2", s2:get("/runs/once").body)
    assert.equal(0, s2:stop())
  end)

  it("tells the chain of modules that require each other", function()
    local chain = "ring_c -> ring_a -> ring_b -> ring_c"
    assert.is_truthy(s:get("/require/ring_a").body:find(chain, 1, true))
  end)

  it("tells a module that requires itself", function()
    assert.is_truthy(s:get("/require/selfish").body:find("selfish -> selfish", 1, true))
  end)

  it("tells a ring that two tasks close", function()
    local body = s:get("/both/cross_a/cross_b").body
    assert.matches("modules require each other while they load: cross_", body)
  end)

  it("wants a name", function()
    assert.matches("bad argument #1 to 'require'", s:get("/wrong").body)
  end)

  it("and its like take no binary chunks", function()
    local body = s:get("/binary?path=" .. dir.path .. "/binary.lua").body
    assert.equal("[true,true,true,true,true]", body)
  end)

  it("leaves load as it is otherwise", function()
    assert.equal('[2,5,"false",true]', s:get("/load/text").body)
  end)
end)

describe("Lua's library in the server", function()
  local app = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/exit", function() os.exit(3) end)
app:get("/global", function(req) late_global = 1 late_global = nil return "set" end)
app:get("/execute", function() return tostring(os.execute("true")) end)
app:get("/strings", function()
  return type(getmetatable("")) .. ("x"):upper()
end)
return app
]]

  it("drains the server at os.exit", function()
    local s = server.start({ app = app })
    assert.equal(503, s:get("/exit").status)
    assert.same({ exit = 0 }, s:wait(10))
    assert.equal(0, s:stop())
  end)

  it("drains at os.exit also when the workers are another user", function()
    local dir = temp.dir()
    sys.chmod(dir.path, "0755")
    local s = server.start({ path = dir:write("app.lua", app), options = { "--user", "nobody" } })
    assert.equal(503, s:get("/exit").status)
    assert.same({ exit = 0 }, s:wait(10))
    assert.equal(0, s:stop())
    dir:remove()
  end)

  it("refuses os.exit while the app loads", function()
    local dir = temp.dir()
    local result = server.run({ "serve", dir:write("app.lua", "os.exit(0)") })
    assert.equal(65, result.status)
    assert.matches("os%.exit was called while the app was loaded", result.stderr)
    dir:remove()
  end)

  it("tells of globals and of what blocks, once, in development", function()
    local s = server.start({ app = app, options = { "--dev" } })
    for _ = 1, 3 do
      assert.equal("set", s:get("/global").body)
      assert.equal("true", s:get("/execute").body)
    end
    assert.equal(0, s:stop())
    local _, globals = s:stderr():gsub('global \\"late_global\\" written at [^\n]*app.lua:4', "")
    local _, blocking = s:stderr():gsub("os.execute blocks every request", "")
    assert.same({ 1, 1 }, { globals, blocking })
  end)

  it("says nothing of them in production", function()
    local s = server.start({ app = app })
    s:get("/global")
    s:get("/execute")
    assert.equal(0, s:stop())
    assert.is_nil(s:stderr():find("late_global", 1, true))
    assert.is_nil(s:stderr():find("os.execute", 1, true))
  end)

  it("keeps the metatable of strings to itself", function()
    local s = server.start({ app = app })
    assert.equal("stringX", s:get("/strings").body)
    assert.equal(0, s:stop())
  end)
end)
