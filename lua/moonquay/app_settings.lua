--- What an app's file asks for: moonquay.app { … }.

local core = require("moonquay.core")
local flatten = require("moonquay.flat_settings")

local app_settings = {}

--- A group of which nothing is set: timeouts = {}.
function app_settings.is_empty_group(option)
  return option.is_list and option.value == "" and core.is_option_group(option.key)
end

local function apply_one(app, option, level)
  if option.key == "authentication.schemes" and type(option.value) == "function" then
    app.authenticate = option.value
  elseif not app_settings.is_empty_group(option) then
    core.set_option(option.key, option.value, level + 1, option.is_list)
  end
end

--- Sets options from a table; a wrong one raises with the place of the function of that level.
---@param app moonquay.App keeps what is no option of the server: app.authenticate
---@param settings moonquay.Settings
---@param level integer
function app_settings.apply(app, settings, level)
  local options, message = flatten(settings)
  if not options then
    core.refuse_option(message, level + 1)
  end
  for _, option in ipairs(options) do
    apply_one(app, option, level + 1)
  end
end

return app_settings
