--- An app: a group of routes at the root, and what happens to requests that none of them wants.
-- The routes are made into functions when the first request comes, so that one whose path has no
-- parameters costs two table look-ups.

local core = require("moonquay.core")
local Group = require("moonquay.group")
local app_settings = require("moonquay.app_settings")
local chain = require("moonquay.chain")
local failure = require("moonquay.failure")
local live_settings = require("moonquay.live_settings")
local route_options = require("moonquay.route_options")
local route_tree = require("moonquay.route_tree")
local url = require("moonquay.url")

-- In a node of static paths: the route for every other method. No method is a number.
local ANY = 1

-- What "OPTIONS *" tells of a route for any method.
local USUAL = { "GET", "POST", "PUT", "PATCH", "DELETE" }

---@class moonquay.App : moonquay.Group
---@operator call: any
---@field package tree table
---@field package routes table[]
---@field package names table<string, table>
---@field package handler? moonquay.Handler
---@field package authenticate? function what authentication.schemes is, when it is a function
local App = setmetatable({}, { __index = Group })
App.__name = "moonquay.App"

-- All middleware of a route, an app's first.
local function middleware_of(group)
  local list = group.parent and middleware_of(group.parent) or {}
  return table.move(group.middleware, 1, #group.middleware, #list + 1, list)
end

local function compile_routes(app)
  for _, route in ipairs(app.routes) do
    local run = chain.compose(middleware_of(route.group), route.handler)
    route.run = route_options.apply(route.options, run)
  end
  local nodes = {}
  app.tree:each_exact(function(path, methods, any)
    local node = {}
    for method, route in pairs(methods) do
      node[method] = route.run
    end
    node.HEAD = node.HEAD or node.GET
    node[ANY] = any and any.run
    nodes[path] = node
  end)
  return nodes
end

-- "GET, HEAD, OPTIONS": the methods of a set with those that come by themselves.
local function allow_text(methods)
  local list = {}
  for method in pairs(methods) do
    list[#list + 1] = method
  end
  if methods.GET and not methods.HEAD then
    list[#list + 1] = "HEAD"
  end
  if not methods.OPTIONS then
    list[#list + 1] = "OPTIONS"
  end
  table.sort(list)
  return table.concat(list, ", ")
end

local function refuse_method(allow)
  return function(_, res)
    res.headers["allow"] = allow
    res:error(405)
  end
end

local function tell_methods(allow)
  return function(_, res)
    res.headers["allow"] = allow
    res.status = 204
  end
end

-- Answers made once for each value of Allow, of which there are no more than routes.
local function memoized(app, make)
  local made = {}
  return function(allow)
    made[allow] = made[allow] or chain.compose(app.middleware, make(allow))
    return made[allow]
  end
end

local function all_methods(app)
  local methods = {}
  for _, route in ipairs(app.routes) do
    for _, method in ipairs(route.method and { route.method } or USUAL) do
      methods[method] = true
    end
  end
  return methods
end

-- The function for requests that no route has.
local function compile_miss(app)
  local missing = app.missing
  local not_found = chain.compose(app.middleware, function(req, res)
    if missing then
      res.status = 404
      return missing(req, res)
    end
    res:error(404)
  end)
  local refused, told = memoized(app, refuse_method), memoized(app, tell_methods)
  local everything = all_methods(app)

  return function(req, res, allowed)
    local method = req.method
    if method == "OPTIONS" and req.target == "*" then
      allowed = everything
    elseif next(allowed) == nil then
      return not_found(req, res)
    end
    local answer = method == "OPTIONS" and told or refused
    return answer(allow_text(allowed))(req, res)
  end
end

local function compile(app)
  local nodes, tree = compile_routes(app), app.tree
  local miss = compile_miss(app)

  local function search(req, res, outer, path)
    local route, found = tree:match(req.method, path)
    if not route then
      return miss(req, res, found)
    end
    local names = route.names
    if #names > 0 then
      local params = {}
      for name, value in pairs(outer or params) do
        params[name] = value
      end
      for i = 1, #names do
        params[names[i]] = url.segment_value(found[i], req)
      end
      req.params = params
    end
    return route.run(req, res)
  end

  local function dispatch(req, res, outer)
    local path = req.path
    if path == "" and req.target ~= "*" then
      path = "/" -- the URL prefix itself, without its last slash
    end
    local node = nodes[path]
    local run = node and (node[req.method] or node[ANY])
    if run then
      return run(req, res)
    end
    return search(req, res, outer, path)
  end

  local recover, afters = app.recover, app.afters
  if not recover and #afters == 0 then
    return dispatch, nodes
  end
  return function(req, res, outer)
    if recover then
      failure.watch(req, recover)
    end
    for i = 1, #afters do
      res:after(afters[i])
    end
    return dispatch(req, res, outer)
  end
end

--- The app as a function; from now on it cannot be changed. With it, where nothing has to happen
-- before a route runs, the exact routes as path -> method -> function: the core looks there first
-- and spares the call.
---@return moonquay.Handler
---@return table<string, table<string, moonquay.Handler>>?
function App:compiled()
  if not self.handler then
    self.handler, self.exact = compile(self)
  end
  return self.handler, self.exact
end

local function check_hook(app, name, fn)
  if type(fn) ~= "function" then
    error(("app:%s needs a function, not a %s"):format(name, type(fn)), 3)
  elseif app.handler then
    error(("app:%s after the first request: it would be ignored"):format(name), 3)
  end
end

--- What answers when no route fits; the status is 404 unless it sets another.
---@param handler moonquay.Handler
---@return moonquay.App self
function App:not_found(handler)
  check_hook(self, "not_found", handler)
  self.missing = handler
  return self
end

--- What answers when a handler or middleware has failed before its response started. It gets the
-- request, a fresh response, what was raised, and the traceback as a text. What it returns is the
-- answer, as with a handler; when it returns nothing and has left the response alone, the next app
-- outside is asked, and at last the default answer is given.
---@param handler fun(req: moonquay.Request, res: moonquay.Response, err: any, trace?: string): ...
---@return moonquay.App self
function App:on_error(handler)
  check_hook(self, "on_error", handler)
  self.recover = handler
  return self
end

--- What runs when the response has been sent, in the order of the calls, also after an error. It
-- may wait; nobody waits for it.
---@param fn fun(req: moonquay.Request, res: moonquay.Response)
---@return moonquay.App self
function App:after(fn)
  check_hook(self, "after", fn)
  self.afters[#self.afters + 1] = fn
  return self
end

--- The path of a named route with its parameters filled in, and a query when one is given. It does
-- not know where the app is mounted: put req.path_base in front.
---@param name string
---@param params? table<string, string|number>
---@param query? table<string, string|number|(string|number)[]>
---@return string
function App:url(name, params, query)
  local route = self.names[name]
  if not route then
    error(("no route is named %q"):format(tostring(name)), 2)
  end
  local path = route.pattern:gsub("/([:*])([^/]*)", function(mark, key)
    local value = params and params[key]
    if value == nil then
      error(("the route %q needs the parameter %q"):format(name, key), 4)
    end
    return "/" .. url.escape(tostring(value), mark == "*" and "/" or "")
  end)
  return query and path .. "?" .. url.encode_query(query) or path
end

-- At load: noted, and asked for when the file has been read.
local function listen_at_start(app, prefix)
  if prefix:find(",", 1, true) then
    error("a prefix with a comma cannot be one of those at the start: listen when it runs", 3)
  end
  local info = debug.getinfo(3, "Sl")
  app.listens[#app.listens + 1] = prefix
  app.listens.place = app.listens.place or ("%s:%d"):format(info.short_src, info.currentline)
end

--- Requests at or below a URL prefix are for this app from now on, in every worker; the socket of
-- its port is opened when it is the first one there. Returns the prefix as it is published, with
-- the port that was found for port 0.
---@async
---@param prefix string scheme://host:port/path/
---@return string? prefix
---@return moonquay.Error? err somebody has the prefix or the port
function App:listen(prefix)
  local canonical, wrong = core.check_prefix(prefix)
  if not canonical then
    error(wrong, 2)
  elseif core.loading() then
    listen_at_start(self, prefix)
    return canonical
  end
  local published, err = core.ask("listen", "url_prefixes", prefix, 2)
  return published, err
end

--- Takes a URL prefix of this app away again, in every worker. Requests that have begun go on; the
-- socket is closed with the last prefix of its port.
---@async
---@param prefix string
---@return string? prefix
---@return moonquay.Error? err it is none of this app's
function App.unlisten(_, prefix)
  local canonical, wrong = core.check_prefix(prefix)
  if not canonical then
    error(wrong, 2)
  end
  local gone, err = core.ask("unlisten", "url_prefixes", prefix, 2)
  return gone, err
end

--- Tells the server, once the app's file has been read, what it shall listen to.
---@package
function App:ask_for_addresses()
  local listens = self.listens
  if #listens == 0 then
    return
  end
  local given = core.option("url_prefixes")
  if given ~= "" then
    table.insert(listens, 1, given)
  end
  core.set_option("url_prefixes", table.concat(listens, ","), 1, true, listens.place)
end

App.__index = function(_, name)
  if name == "addresses" then
    return core.addresses()
  end
  return App[name]
end

App.__call = function(self, req, res, outer)
  return (self.handler or self:compiled())(req, res, outer)
end

--- A new app. Settings are those that `moonquay options` lists.
---@param settings? moonquay.Settings
---@param level? integer where a wrong setting is reported
---@return moonquay.App
function App.new(settings, level)
  local app = setmetatable({
    prefix = "",
    defaults = {},
    middleware = {},
    tree = route_tree.new(),
    routes = {},
    names = {},
    afters = {},
    listens = {},
    settings = live_settings.new(),
  }, App)
  app.app = app
  if settings then
    app_settings.apply(app, settings, (level or 1) + 1)
  end
  return app
end

return App
