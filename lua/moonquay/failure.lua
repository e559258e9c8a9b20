--- What a client is told when a handler has failed: the app's own on_error first, else the status
-- that the error carries with what it says, else 500 with the request's id and nothing of the
-- cause.

local core = require("moonquay.core")
local dev_page = require("moonquay.dev_page")
local problem = require("moonquay.problem")
local reply = require("moonquay.reply")

local failure = {}

-- request → { recover, outer, path_base, path }, innermost app first. Weak: it goes with the
-- request.
local watchers = setmetatable({}, { __mode = "k" })

--- Lets an app's on_error answer for this request from now on, before those that watch already.
function failure.watch(req, recover)
  local ctx = req.ctx
  watchers[ctx] = {
    recover = recover,
    outer = watchers[ctx],
    path_base = req.path_base,
    path = req.path,
  }
end

-- The 4xx or 5xx that an error asks for. Only errors of our own kind count: a foreign table with a
-- field of that name, such as another server's answer, is not meant for this client.
local function status_of(err)
  if getmetatable(err) ~= core.error_metatable then
    return nil
  end
  local status = math.tointeger(err.status)
  return status and status >= 400 and status <= 599 and status or nil
end

local function touched(res, status)
  if res.started or res.status ~= status then
    return true
  end
  local next_header, headers, start = pairs(res.headers)
  return next_header(headers, start) ~= nil
end

-- True when the app's on_error answered.
local function recovered(watcher, req, res, status, err, traceback)
  req.path_base, req.path = watcher.path_base, watcher.path
  res.status = status
  local results = table.pack(watcher.recover(req, res, err, traceback))
  if results[1] == nil and not touched(res, status) then
    return false
  end
  reply.respond(req, res, table.unpack(results, 1, results.n))
  return true
end

local function is_loopback(ip)
  return ip:find("^127%.") ~= nil or ip == "::1" or ip:find("^::ffff:127%.") ~= nil
end

-- What a proxy adds to a request that it passes on (RFC 7239, RFC 9110 section 7.6.3, and usage).
local PROXY_HEADERS = { "forwarded", "via", "x-forwarded-for" }

local function came_by_proxy(req)
  for _, name in ipairs(PROXY_HEADERS) do
    if req.headers[name] then
      return true
    end
  end
  return false
end

-- The page shows source text, so development alone is not enough: a server that was left in that
-- mode still tells nothing to another machine, nor to one behind a proxy on this machine.
local function may_see_sources(req)
  return core.development and is_loopback(req.peer.ip) and is_loopback(req.client.ip)
    and not came_by_proxy(req)
end

--- Answers a request whose handler has raised err. The response has not started and is fresh.
function failure.answer(req, res, err, traceback)
  local status = status_of(err)
  local watcher = watchers[req.ctx]
  while watcher do
    if recovered(watcher, req, res, status or 500, err, traceback) then
      return
    end
    watcher = watcher.outer
  end
  if type(err) == "table" and type(err.traceback) == "string" then
    traceback = err.traceback .. "\n" .. (traceback or "") -- of the task in which it arose
  end
  if status then
    problem.answer(req, res, status, err.message, err.problem)
  elseif may_see_sources(req) then
    dev_page.answer(req, res, err, traceback)
  else
    problem.answer(req, res, 500)
  end
end

return failure
