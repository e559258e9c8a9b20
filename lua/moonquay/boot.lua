--- Joins the library and the core: what the core calls, and what requests, bodies and responses can
-- do beyond what it gives them.

local core = require("moonquay.core")
local App = require("moonquay.app")
local body = require("moonquay.body")
local failure = require("moonquay.failure")
local guard = require("moonquay.guard")
local loader = require("moonquay.loader")
local place = require("moonquay.place")
local reply = require("moonquay.reply")
local request = require("moonquay.request")
local response = require("moonquay.response")

local boot = {}

local EXPECTED = "return a function(req, res) or an app made by moonquay.app()"

--- What an app's file returned, as a function(req, res), for an app perhaps with its exact routes;
-- or nil and what is wrong with it.
function boot.handler(value)
  local meta = getmetatable(value)
  if type(value) == "function" then
    return value
  elseif meta == App then
    return value:compiled()
  elseif type(meta) == "table" and meta.__call then
    return function(req, res)
      return value(req, res)
    end
  elseif value == nil then
    return nil, "the file returned nothing: " .. EXPECTED
  end
  return nil, ("the file returned a %s: %s"):format(type(value), EXPECTED)
end

-- In a server, which has one app: where the handler of a request was written.
local function tell_places(value)
  reply.find_place_by(function(method, path)
    return place.of(value, method, path)
  end)
end

local function loaded(value)
  local handler, more = boot.handler(value)
  if getmetatable(value) == App then
    value:ask_for_addresses()
  end
  if core.in_server then
    tell_places(value)
    guard.watch_globals()
  end
  return handler, more
end

local function add(target, source)
  for name, value in pairs(source) do
    target[name] = value
  end
end

local installed = false

--- Once for each state.
function boot.install()
  if installed then
    return
  end
  installed = true
  add(core.request.methods, request.methods)
  add(core.request.getters, request.getters)
  add(core.response.methods, response)
  add(core.body.methods, body)
  core.hooks.respond = reply.respond
  core.hooks.failure = failure.answer
  core.hooks.loaded = loaded
  if core.in_server then
    guard.install()
    loader.install()
  end
end

return boot
