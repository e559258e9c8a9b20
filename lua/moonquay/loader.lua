--- A require whose modules may wait while they load; Lua's own cannot. Who requires a module that
-- another task is loading waits for it; modules that require each other are told as the chain that
-- they form; a module that failed can be required again. Results are those of Lua 5.4.

local core = require("moonquay.core")

local loader = {}

local loaded = package.loaded
local records = {} -- name → { event, wants = the module that this one is waiting for }
local current = setmetatable({}, { __mode = "k" }) -- task → the module whose chunk it runs
local OUTSIDE = {} -- stands for the task where there is none

-- The chain of modules from one to another that waits for it, or nil.
local function chain_to(name, target)
  local chain = { target }
  while name do
    chain[#chain + 1] = name
    if name == target then
      return table.concat(chain, " -> ")
    end
    name = records[name] and records[name].wants
  end
end

local function want(here, name)
  if here and records[here] then
    records[here].wants = name
  end
end

local function wait_for(name, here)
  local chain = here and chain_to(name, here)
  if chain then
    error(("modules require each other while they load: %s"):format(chain), 0)
  end
  want(here, name)
  local ok, err = records[name].event:wait()
  want(here, nil)
  if not ok then
    error(err, 0)
  end
end

-- The function that loads a module and its data; or nil and where it was looked for, in one line
-- since of an app that does not load only the first is shown.
local function find_loader(name)
  local tried = {}
  for _, searcher in ipairs(package.searchers) do
    local found, data = searcher(name)
    if type(found) == "function" then
      return found, data
    elseif type(found) == "string" then
      tried[#tried + 1] = found:gsub("^%s+", ""):gsub("%s*\n%s*", ", ")
    end
  end
  return nil, ("module '%s' not found: %s"):format(name, table.concat(tried, ", "))
end

local function load_module(name, here, task)
  records[name] = { event = core.event() }
  current[task] = name
  want(here, name)
  local _ <close> = setmetatable({}, {
    __close = function()
      local record = records[name]
      records[name], current[task] = nil, here
      want(here, nil)
      record.event:set()
    end,
  })
  local chunk, data = find_loader(name)
  if not chunk then
    error(data, 2) -- the line that requires: this function was called in place of its caller
  end
  local result = chunk(name, data)
  if result ~= nil then
    loaded[name] = result
  elseif loaded[name] == nil then
    loaded[name] = true
  end
  return loaded[name], data
end

--- Takes the place of Lua's require.
---@async
---@param name string
---@return any value
---@return any loader_data
function loader.require(name)
  if type(name) ~= "string" then
    error(("bad argument #1 to 'require' (string expected, got %s)"):format(type(name)), 2)
  end
  local task = core.running() or OUTSIDE
  while not loaded[name] do
    if not records[name] then
      return load_module(name, current[task], task)
    end
    wait_for(name, current[task])
  end
  return loaded[name]
end

-- Lua's searcher for Lua files, but for text alone: a binary chunk can crash the interpreter.
local function search_text(name)
  local path, tried = package.searchpath(name, package.path)
  if not path then
    return tried
  end
  local chunk, reason = loadfile(path, "t")
  if not chunk then
    error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, reason), 0)
  end
  return chunk, path
end

--- Puts it in place for this state.
function loader.install()
  package.searchers[2] = search_text
  _G.require = loader.require
end

return loader
