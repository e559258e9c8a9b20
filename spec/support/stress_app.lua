-- The app of spec/wire/stress_spec.lua and h2_stress_spec.lua: a request says in its path, letter
-- by letter, what its handler does. Nothing here is careful: errors, forgotten tasks and stale
-- objects are the point.
local moonquay = require("moonquay")
local core = require("moonquay.core")

local kept = {} -- objects of requests that may have ended

local function wait(n)
  core.sleep(n % 4 / 1000)
end

local function closing(n)
  return setmetatable({}, { __close = function() pcall(wait, n) end })
end

local function in_coroutines(depth, n)
  for _ = 1, 2 do
    if depth == 0 then
      wait(n)
    else
      in_coroutines(depth - 1, n)
    end
    coroutine.yield(n)
  end
end

local steps = {}

function steps.s(_, _, n) wait(n) end
function steps.w(_, res, n) res:write(("x"):rep(n * n * 40)) end
function steps.f(_, res) res:flush() end
function steps.F(_, res, n) res:finish(("y"):rep(n * 900)) end
function steps.r(req, _, n) req.body:read(n * 7 + 1) end
function steps.a(req) req.body:read("a") end
function steps.c(req) for _ in req.body:chunks() do wait(1) end end
function steps.e(_, _, n) error("step " .. n) end
function steps.E() error({}) end
function steps.j(_, res, n) res:json({ n, ("j"):rep(n * 3000) }) end
function steps.h(_, res, n) res.headers["x-" .. n] = ("h"):rep(n) end
function steps.l(_, res, n) res.headers["content-length"] = n * 10 end
function steps.t(_, res, n) res.trailers["x-" .. n] = n end
function steps.i(_, res, n) res:informational(103, { link = "n" .. n }) end
function steps.g(_, _, n) collectgarbage(n % 2 == 0 and "step" or "collect") end
function steps.n(_, res) -- until the client leaves, which nobody is told of after the answer
  while not res.finished and core.sleep(3600) do end
end
function steps.N(_, res) while not res.finished do core.sleep(3600) end end
function steps.S(_, _, n) local till = os.clock() + n / 500 repeat until os.clock() > till end

function steps.R(req, _, n) req:reset(n) end
function steps.B(req) req:abort() end
function steps.Z(_, res) res:close_connection() end
function steps.V(req, _, n)
  pcall(function() req.limits.max_request_body_size = n * 100 end)
  pcall(function() req.limits.timeouts.entity_body = (n + 1) / 20 end)
  pcall(function() req.limits.min_send_bytes_per_second = n > 4 and "off" or n + 1 end)
end

function steps.C(req, _, n)
  req:on_cancel(function()
    wait(n)
    if n % 3 == 0 then error("on_cancel") end
    return req.path
  end)
end

function steps.A(_, res, n)
  res:after(function(req)
    local _ <close> = closing(n)
    wait(n)
    if n % 3 == 0 then error("after") end
    return req.path
  end)
end

function steps.k(_, _, n)
  for _ in coroutine.wrap(function() in_coroutines(n % 4, n) end) do
    if n % 5 == 0 then break end
  end
end

function steps.b(req, _, n) -- where Lua cannot wait
  return (("x"):gsub("x", function() req.body:read(n) end))
end

-- Tasks that use the request too, joined or not.
local function task(req, res, n)
  local _ <close> = closing(n)
  wait(n)
  if n % 3 == 0 then req.body:read(n) end
  if n % 3 == 1 then res:write("task") end
  if n % 4 == 0 then error("task " .. n) end
  wait(n)
end
function steps.p(req, res, n) core.spawn(task, req, res, n) end
function steps.P(req, res, n) core.spawn(task, req, res, n):join(n / 1000) end
function steps.q(req, res, n) local _ <close> = core.spawn(task, req, res, n) wait(n + 1) end
function steps.d(req, res, n) moonquay.background(task, req, res, n) end
function steps.x(_, _, n) core.spawn(wait, n):cancel() end
function steps.m(req, res, n)
  moonquay.all(function() task(req, res, n) end, function() task(req, res, n + 1) end)
end
function steps.T(req, res, n) moonquay.timeout(n / 1000, task, req, res, n + 2) end

function steps.K(req, res, n)
  kept[n] = { req, res, req.body, req.headers, coroutine.running(), core.spawn(wait, n) }
end
function steps.U(_, _, n)
  local old = kept[9 - n] or {}
  kept[9 - n] = nil
  pcall(function() return old[1].path, old[1].headers.host end)
  pcall(function() old[2]:write("stale") end)
  pcall(function() old[3]:read() end)
  pcall(function() old[4].host = "x" end)
  pcall(function() coroutine.resume(old[5]) end)
  pcall(function() coroutine.close(old[5]) end)
  pcall(function() old[6]:join(0.001) end)
end
function steps.M(_, _, n) -- until memory_limit, or near it
  local hoard = {}
  for i = 1, n * 300 do hoard[i] = ("m"):rep(1000 + i) end
  return #hoard
end

local function handler(req, res)
  if req.path == "/ok" then
    return "ok"
  end
  local _ <close> = closing(1)
  for name, digit in req.path:gmatch("(%a)(%d)") do
    steps[name](req, res, tonumber(digit))
  end
  local how = req.path:match("%d$")
  if how == "0" then
    return 404
  elseif how == "1" then
    return { path = req.path, big = ("z"):rep(20000) }
  elseif how == "2" then
    return ("s"):rep(200000)
  elseif how == "3" then
    return nil, "what", {}
  end
end

return handler
