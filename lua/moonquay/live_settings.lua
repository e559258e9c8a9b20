--- An app's settings while it runs: reading gives the value in force, assigning changes it in every
-- worker and returns when it holds everywhere. While the app is loaded it is one more way to say
-- what moonquay.app { … } says.

local core = require("moonquay.core")
local app_settings = require("moonquay.app_settings")
local flatten = require("moonquay.flat_settings")

local live_settings = {}

local names = setmetatable({}, { __mode = "k" }) -- of a group: "timeouts."; "" of the whole

local meta = { __name = "moonquay.LiveSettings" }

local function group(name)
  local self = setmetatable({}, meta)
  names[self] = name
  return self
end

local function set_one(option, level)
  if core.loading() then
    core.set_option(option.key, option.value, level + 1, option.is_list)
    return
  end
  local ok, err = core.ask("set", option.key, option.value, level + 1, option.is_list)
  if not ok then
    error(err, 0) -- it names the place
  end
end

function meta:__index(key)
  local name = names[self] .. tostring(key)
  if core.is_option_group(name) then
    return group(name .. ".")
  end
  local ok, value = pcall(core.option, name)
  if not ok then
    error(value, 2)
  end
  return value
end

-- What an assignment sets: one option, or those of a group.
local function options_of(name, value, level)
  if value == nil then
    return { { key = name } }
  end
  local options, message = flatten({ [name] = value })
  if not options then
    error(message, level + 1)
  end
  local set = {}
  for _, option in ipairs(options) do
    if not app_settings.is_empty_group(option) then
      set[#set + 1] = option
    end
  end
  return set
end

-- All or none of a group: what the server will refuse is known before it is asked for the first.
local function judge(options, level)
  for _, option in ipairs(options) do
    local wrong = core.judge("set", option.key, option.value, level + 1, option.is_list)
    if wrong then
      error(wrong, 0) -- it names the place
    end
  end
end

function meta:__newindex(key, value)
  local options = options_of(names[self] .. tostring(key), value, 2)
  if not core.loading() then
    judge(options, 2)
  end
  for _, option in ipairs(options) do
    set_one(option, 2)
  end
end

--- app.settings.
---@return moonquay.Settings
function live_settings.new()
  return group("")
end

return live_settings
