local server = require("spec.support.server")
local temp = require("spec.support.temp")

local root = assert(io.popen("pwd")):read("l")

-- The ```lua snippets of a file: { name, text, line }. Each names its file in its first line.
local function snippets(path)
  local list, current, number = {}, nil, 0
  for line in io.lines(path) do
    number = number + 1
    if line == "```lua" then
      current = { line = number, lines = {} }
    elseif line == "```" and current then
      current.name = current.lines[1]:match("^%-%- ([%w_]+%.lua)$")
      list[#list + 1], current = current, nil
    elseif current then
      current.lines[#current.lines + 1] = line
    end
  end
  return list
end

local environment = {
  LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;./?.lua;;"):format(root, root),
  LUA_CPATH = ("%s/build/%s/lib/?.so;;"):format(root, server.build),
  LD_PRELOAD = os.getenv("LD_PRELOAD") or false,
  ASAN_OPTIONS = os.getenv("ASAN_OPTIONS") or false,
}

-- How a reader would run a file of this name.
local function words_for(name)
  if name:find("_spec%.lua$") then
    return { "/usr/bin/busted", name }
  elseif name == "try.lua" then
    return { name }
  end
  return { "-e", ('require("moonquay.test").client(%q)'):format(name) }
end

for _, path in ipairs({ "README.md", "lua/README.md" }) do
  describe(path, function()
    local dir
    lazy_setup(function()
      dir = temp.dir()
    end)
    lazy_teardown(function()
      dir:remove()
    end)

    local list = snippets(path)
    it("has snippets, which all name their files", function()
      assert.is_true(#list >= 2)
      for _, snippet in ipairs(list) do
        assert.is_truthy(snippet.name, ("line %d"):format(snippet.line))
      end
    end)

    for _, snippet in ipairs(list) do
      it(("line %d: %s runs"):format(snippet.line, tostring(snippet.name)), function()
        dir:write(snippet.name, table.concat(snippet.lines, "\n") .. "\n")
        local words = words_for(snippet.name)
        words.executable, words.cwd, words.env = "/usr/bin/lua5.4", dir.path, environment
        words.seconds = 30
        local result = server.run(words)
        assert.equal(0, result.status, result.stdout .. result.stderr)
      end)
    end
  end)
end
