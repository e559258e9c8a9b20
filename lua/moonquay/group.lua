--- Defining routes: what an app and its groups have in common. Everything is checked at the call,
-- so that a wrong path, option or handler and a second definition name the line of the app's own
-- file.

local mount_point = require("moonquay.mount_point")
local route_options = require("moonquay.route_options")
local route_tree = require("moonquay.route_tree")

---@alias moonquay.Handler fun(req: moonquay.Request, res: moonquay.Response): any, any, table?
---@alias moonquay.Middleware fun(req: any, res: moonquay.Response, next: function): any

---@class moonquay.RouteOptions
---@field name? string a name for app:url
---@field max_request_body_size? integer|string bytes, "10MB", or moonquay.UNLIMITED
---@field allow_synchronous_io? boolean
---@field min_send_bytes_per_second? integer|"off"
---@field timeouts? moonquay.RouteTimeouts

---@class moonquay.RouteTimeouts seconds
---@field entity_body? number|"off" between two pieces of the body
---@field handler? number|"off" for the handler as a whole

---@alias moonquay.OptionsOrHandler moonquay.RouteOptions|moonquay.Handler
---@alias moonquay.Define fun(self, path: string, a: moonquay.OptionsOrHandler, b?: any)

---@class moonquay.Group
---@field get moonquay.Define HEAD comes with it
---@field post moonquay.Define
---@field put moonquay.Define
---@field patch moonquay.Define
---@field delete moonquay.Define
---@field head moonquay.Define
---@field options moonquay.Define else answered with the methods that the path has
---@field any moonquay.Define every method that the path has no route of its own for
---@field package app moonquay.App
---@field package parent? moonquay.Group
---@field package prefix string
---@field package defaults table options that the routes inherit
---@field package middleware moonquay.Middleware[]
local Group = {}
Group.__index = Group
Group.__name = "moonquay.Group"

-- Where the app calls the public function that calls this.
local function place_of_call()
  local info = debug.getinfo(3, "Sl")
  return ("%s:%d"):format(info.short_src, info.currentline)
end

-- Runs a check that raises a text without a place; raises it at the caller of the public function.
local function checked(check, ...)
  local ok, result = pcall(check, ...)
  if not ok then
    error(result, 3)
  end
  return result
end

local function callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

local function still_open(group, what)
  if group.app.handler then
    error(what .. " after the first request: an app is complete when its file has been loaded", 3)
  end
end

local function register(app, method, route)
  local other = app.tree:add(method, route.pattern, route)
  if other then
    local text = "%s %s is defined twice: here and at %s"
    error(text:format(method or "any method of", route.pattern, other.place), 0)
  end
  app.routes[#app.routes + 1] = route
  local name = route.options.name
  if name and app.names[name] then
    local text = "the route name %q is used twice: here and at %s"
    error(text:format(name, app.names[name].place), 0)
  elseif name then
    app.names[name] = route
  end
end

local function define(group, place, method, path, options, handler)
  if handler == nil then
    options, handler = nil, options
  end
  if type(path) ~= "string" or path:sub(1, 1) ~= "/" then
    error(("a path begins with '/', this is %s"):format(tostring(path)), 0)
  elseif not callable(handler) then
    error(("the handler of %s must be a function, not a %s"):format(path, type(handler)), 0)
  elseif options ~= nil and type(options) ~= "table" then
    error(("the options of %s must be a table, not a %s"):format(path, type(options)), 0)
  end
  local route = {
    pattern = group.prefix .. path,
    method = method,
    place = place,
    group = group,
    handler = handler,
    options = route_options.check(options, group.defaults),
  }
  register(group.app, method, route)
  return route
end

for _, verb in ipairs({ "get", "post", "put", "patch", "delete", "head", "options", "any" }) do
  local method = verb ~= "any" and verb:upper() or nil
  Group[verb] = function(self, path, options, handler)
    still_open(self, "app:" .. verb)
    checked(define, self, place_of_call(), method, path, options, handler)
    return self
  end
end

--- A route for a method that has no function of its own here, such as "PROPFIND".
---@param method string
---@param path string
---@param options moonquay.RouteOptions|moonquay.Handler
---@param handler? moonquay.Handler
---@return moonquay.Group self
function Group:route(method, path, options, handler)
  if type(method) ~= "string" or not method:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error(("%s is no method"):format(tostring(method)), 2)
  end
  still_open(self, "app:route")
  checked(define, self, place_of_call(), method, path, options, handler)
  return self
end

--- Adds middleware. It applies to every route of the app or group, whether defined before or after,
-- in the order of the calls, an app's before a group's; an app's also to requests without a route.
---@param middleware moonquay.Middleware
---@return moonquay.Group self
function Group:use(middleware)
  still_open(self, "app:use")
  if not callable(middleware) then
    error(("middleware must be a function, not a %s"):format(type(middleware)), 2)
  end
  self.middleware[#self.middleware + 1] = middleware
  return self
end

local function check_prefix(prefix)
  route_tree.parse(prefix)
  if prefix:sub(-1) == "/" then
    error(("the prefix %q ends with '/', which the paths below it begin with"):format(prefix), 0)
  end
end

--- Routes below a common path, with middleware and options of their own.
---@param prefix string
---@param options? moonquay.RouteOptions|fun(group: moonquay.Group)
---@param build? fun(group: moonquay.Group) is called with the group
---@return moonquay.Group
function Group:group(prefix, options, build)
  still_open(self, "app:group")
  if type(options) == "function" then
    options, build = nil, options
  end
  checked(check_prefix, prefix)
  if options and options.name then
    error("a group has no name: a name belongs to one route", 2)
  end
  local group = setmetatable({
    app = self.app,
    parent = self,
    prefix = self.prefix .. prefix,
    defaults = checked(route_options.check, options, self.defaults),
    middleware = {},
  }, Group)
  if build then
    build(group)
  end
  return group
end

-- Puts the path together again for the middleware outside of a mount.
local function restore(req, path_base, path, ...)
  req.path_base, req.path = path_base, path
  return ...
end

-- The handler of a mount point that is so many segments long.
local function enter(inner, segments)
  return function(req, res)
    local path_base, path = req.path_base, req.path
    local prefix, rest = mount_point.split(path, segments)
    req.path_base, req.path = path_base .. prefix, rest
    -- An app adds the parameters of its own routes to those of the mount point.
    return restore(req, path_base, path, inner(req, res, req.params))
  end
end

local function define_mount(group, place, prefix, inner)
  prefix = prefix == "/" and "" or prefix
  local segments = 0
  if group.prefix .. prefix ~= "" then
    check_prefix(group.prefix .. prefix)
    segments = #route_tree.parse(group.prefix .. prefix)
  end
  local handler = enter(inner, segments)
  local below = define(group, place, nil, prefix .. "/*rest", nil, handler)
  below.inner, below.segments = inner, segments
  below.names[#below.names] = nil -- what is below is the inner app's path, not a parameter
  if segments > 0 then
    local exact = { pattern = group.prefix .. prefix, place = place, group = group }
    exact.handler, exact.options = handler, below.options
    exact.inner, exact.segments = inner, segments
    register(group.app, nil, exact)
  end
end

--- Gives everything at and below a path to another app or a function(req, res), which sees
-- req.path without the prefix and req.path_base with it. A request for just the prefix has the
-- path "/". Routes of this app that are more exact than the mount point's wildcard come first.
---@param prefix string
---@param inner moonquay.App|moonquay.Handler
---@return moonquay.Group self
function Group:mount(prefix, inner)
  still_open(self, "app:mount")
  if not callable(inner) then
    error(("what is mounted must be an app or a function, not a %s"):format(type(inner)), 2)
  end
  checked(define_mount, self, place_of_call(), prefix, inner)
  return self
end

return Group
