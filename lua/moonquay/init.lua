--- Moonquay for handlers: the public entry. See lua/README.md for each with an example.

local core = require("moonquay.core")
local App = require("moonquay.app")
local boot = require("moonquay.boot")
local errors = require("moonquay.errors")
local tasks = require("moonquay.tasks")
local util = require("moonquay.util")

boot.install()

---@class moonquay
--- Lets others run for so long. Nil and an error when the task is cancelled before.
---@field sleep async fun(seconds: number): true?, moonquay.Error?
--- Starts a function at the same time. The task belongs to the one that starts it.
---@field spawn fun(fn: function, ...: any): moonquay.Task
--- Starts a function that outlives the request: a stop of the server waits for it (drain), and its
--- error is logged.
---@field background fun(fn: function, ...: any): moonquay.Task
local moonquay = {
  version = core.version,
  --- Lifts a limit: req.limits.max_request_body_size = moonquay.UNLIMITED
  UNLIMITED = "unlimited",
  --- JSON: encode, decode, null, array, object.
  json = core.json,
  util = util,
  fail = errors.fail,
  all = tasks.all,
  timeout = tasks.timeout,
  every = tasks.every,
  --- Seconds of a clock that never goes back.
  now = core.now,
  --- Seconds since 1970, with fractions.
  time = core.time,
  -- The core's own functions and no wrappers, so that their errors name the app's line.
  sleep = core.sleep,
  spawn = core.spawn,
  background = core.spawn_detached,
}

--- A new app: moonquay.app { max_request_body_size = "1MB" }. `moonquay options` says which of its
--- settings are for the whole server.
---@param settings? moonquay.Settings
---@return moonquay.App
function moonquay.app(settings)
  if settings ~= nil and type(settings) ~= "table" then
    error(("the settings of an app are a table, not a %s"):format(type(settings)), 2)
  end
  local app = App.new(settings, 2) -- no tail call: the levels of error places count this function
  return app
end

--- Structured log lines; inside a request they carry its id.
---@class moonquay.Log
---@field debug fun(message: string, fields?: table)
---@field info fun(message: string, fields?: table)
---@field warn fun(message: string, fields?: table)
---@field error fun(message: string, fields?: table)
moonquay.log = {}
for _, level in ipairs({ "debug", "info", "warn", "error" }) do
  moonquay.log[level] = function(message, fields)
    core.log(level, message, fields)
  end
end

return moonquay
