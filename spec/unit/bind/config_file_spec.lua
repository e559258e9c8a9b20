local config_file = require("moonquay.probe").settings.config_file
local temp = require("spec.support.temp")

describe("a configuration file", function()
  local dir
  lazy_setup(function()
    dir = temp.dir()
  end)
  lazy_teardown(function()
    dir:remove()
  end)

  -- Its settings as "key=value@line" (no line: the file alone), or nil, message, exit code.
  local function read(text)
    local path = dir:write("c.lua", text)
    local pairs_of, message, code = config_file(path, "lua")
    if not pairs_of then
      return nil, (message:gsub("%S*/c%.lua", "FILE")), code
    end
    local texts = {}
    for i = 1, #pairs_of, 4 do
      assert.equal(pairs_of[i] .. "@", pairs_of[i + 2])
      local line = pairs_of[i + 3]:match("^.-/c%.lua:?(%d*)$")
      texts[#texts + 1] = ("%s=%s@%s"):format(pairs_of[i], pairs_of[i + 1], line)
    end
    return table.concat(texts, " ")
  end

  local good = {
    { "nothing", "return {}", "" },
    { "settings and their lines", "return {\n  workers = 2,\n  log_level = 'warn',\n}",
      "log_level=warn@3 workers=2@2" },
    { "groups", "return { max_fields = 5,\n timeouts = {\n cancel = 5 } }",
      "max_fields=5@1 timeouts.cancel=5@3" },
    { "members by the line of their own group",
      "return { max_connections = 1,\n server = {\n max_connections = 2 } }",
      "max_connections=1@1 server.max_connections=2@3" },
    { "dotted names", "return {\n\n ['timeouts.cancel'] = 5 }", "timeouts.cancel=5@3" },
    { "lists and shorthands",
      "return {\n authentication = { 'ntlm', 'basic' },\n urls = { 'a', 'b' } }",
      "authentication.schemes=ntlm,basic@2 authentication.allow_anonymous=false@2 urls=a,b@3" },
    { "bindings", "return { tls = { { certificate = 'a b', key = 'k' } } }",
      'tls=certificate="a b" key=k@1' },
    { "empty groups", "return { timeouts = {} }", "" },
    { "lines of code and not of comments", "-- workers = 1\nlocal w = {}\nw.workers = 2\nreturn w",
      "workers=2@3" },
    { "lines of whole names", "local noworkers = 3\nlocal workers_ = 1\nreturn { workers = 3 }",
      "workers=3@3" },
    { "lines of what is set and not compared",
      "local t = { workers = 1 }\nif t.workers == 1 then t = {} end\nt['work' .. 'ers'] = 2\n"
        .. "return t", "workers=2@1" },
    { "the file where no line sets it", "local t = {}\nt['work' .. 'ers'] = 2\nreturn t",
      "workers=2@" },
    { "what it computes",
      "return { user = os.getenv('NOT_SET_HERE') or ('x'):rep(3), workers = math.max(1, 2) }",
      "user=xxx@1 workers=2@1" },
  }
  for _, case in ipairs(good) do
    it("gives " .. case[1], function()
      assert.equal(case[3], (assert(read(case[2]))))
    end)
  end

  local bad = {
    { "a wrong value", "return {\n workers = 0 }", 78,
      "FILE:2: workers=0: must be between 1 and 1024" },
    { "a wrong name", "return {\n wrokers = 1 }", 78,
      "FILE:2: wrokers: no such option, did you mean workers?" },
    { "a wrong type", "return { workers = {} }", 78,
      "FILE:1: workers=(a list): must be between 1 and 1024" },
    { "a function", "return { authentication = { schemes = string.len } }", 78,
      "FILE:1: authentication.schemes=(a function): must be one or more of basic, ntlm, "
        .. "negotiate, kerberos and certificate" },
    { "a wrong binding", "return {\n\n tls = { { key = 'k' } } }", 78,
      "FILE:3: tls: binding 1: certificate: is missing" },
    { "a wrong table", "return { urls = { 'a', x = 1 } }", 78,
      "FILE: urls: either a list or named settings, not both in one table" },
    { "no Lua", "return {\n  workers", 65,
      "FILE:2: '}' expected (to close '{' at line 1) near <eof>" },
    { "an error", "local x\nreturn { workers = x.y }", 65,
      "FILE:2: attempt to index a nil value (local 'x')" },
    { "an error of two lines", "return nil .. 'a\\nb'", 65,
      "FILE:1: attempt to concatenate a nil value" },
    { "no table", "return 5", 65, "FILE: must return a table of settings, not a number" },
    { "nothing", "", 65, "FILE: must return a table of settings, not a nil" },
    { "bytecode", "\27Lua", 65, "FILE: is compiled, only text is read" },
    { "no end", "while true do end", 65, "FILE:1: the file computes for too long" },
    { "too much memory", "local t = {}\nfor i = 1, 1000 do t[i] = ('x'):rep(1000000 + i) end", 65,
      "FILE: the file needs more memory than 64 MiB" },
    { "too long a text", "-- " .. ("x"):rep(8 << 20), 65,
      "FILE: a configuration file is shorter than 8 MiB" },
  }
  for _, name in ipairs({ "print", "require", "io", "load", "pcall", "debug", "coroutine" }) do
    bad[#bad + 1] = { "a call of " .. name, ("return %s()"):format(name), 65,
      ("FILE:1: attempt to call a nil value (global '%s')"):format(name) }
  end
  bad[#bad + 1] = { "a call of os.exit", "return os.exit()", 65,
    "FILE:1: attempt to call a nil value (field 'exit')" }
  for _, case in ipairs(bad) do
    it(("with %s ends with %d"):format(case[1], case[3]), function()
      local value, message, code = read(case[2])
      assert.is_nil(value)
      assert.equal(case[4], message)
      assert.equal(case[3], code)
    end)
  end

  it("must be there", function()
    local _, message, code = config_file(dir.path .. "/none.lua", "lua")
    assert.equal(66, code)
    assert.equal(dir.path .. "/none.lua: No such file or directory", message)
  end)

  it("must be a file", function()
    local _, message, code = config_file(dir.path, "lua")
    assert.equal(65, code)
    assert.equal(dir.path .. ": Is a directory", message)
  end)
end)
