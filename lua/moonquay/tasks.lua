--- Doing several things at once, above the tasks of the core. A task belongs to the one that
-- started it and ends with it, at the latest by cancellation, so that nothing is left behind by
-- accident.

local core = require("moonquay.core")

local tasks = {}

---@class moonquay.Task
---@field done boolean
--- True and the results; or nil and the error of the task, or one of code "timeout".
---@field join fun(self: moonquay.Task, seconds?: number): boolean?, ...
---@field cancel fun(self: moonquay.Task)

-- Ends with its scope: cancels what still runs and awaits its end, unless nothing can wait here.
local group_meta = {
  __close = function(group)
    for _, task in ipairs(group) do
      task:cancel()
    end
    for _, task in ipairs(group) do
      if not task.done and core.yieldable() then
        task:join()
      end
    end
  end,
}

-- In a task's scope: notes the first failure, and sets the event with it or with the last end.
local function watch(state)
  return setmetatable({}, {
    __close = function(_, err)
      state.left = state.left - 1
      if err ~= nil then
        state.failed = true
      end
      if state.failed or state.left == 0 then
        state.finished:set()
      end
    end,
  })
end

local function run_watched(state, fn)
  local _ <close> = watch(state)
  local result = fn()
  return result
end

--- Runs functions at the same time and waits for all: the first result of each, in order. The first
-- error cancels the others, and is raised here when they have ended. Nil and an error when the
-- caller is cancelled.
---@async
---@param ... fun(): any
---@return any ...
function tasks.all(...)
  local functions = table.pack(...)
  for i = 1, functions.n do
    if type(functions[i]) ~= "function" then
      error(("argument %d of all must be a function, not a %s"):format(i, type(functions[i])), 2)
    end
  end
  local state = { left = functions.n, failed = false, finished = core.event() }
  local group <close> = setmetatable({}, group_meta)
  for i = 1, functions.n do
    group[i] = core.spawn(run_watched, state, functions[i])
  end
  if functions.n > 0 then
    local ok, err = state.finished:wait()
    if not ok then
      return nil, err
    end
  end
  local results = { n = functions.n }
  for i = 1, functions.n do
    if group[i].done or not state.failed then
      local ok, result = group[i]:join()
      if not ok then
        error(result, 0)
      end
      results[i] = result
    end
  end
  return table.unpack(results, 1, results.n)
end

local function finish(task, ok, ...)
  if ok then
    return ...
  end
  local err = ...
  if task.done then
    error(err, 0)
  end
  return nil, err
end

--- Runs a function for at most so long: its results, or nil and an error of code "timeout" when it
-- was cancelled for that. What the function raises is raised here.
---@async
---@param seconds number
---@param fn function
---@param ... any its arguments
---@return any ...
function tasks.timeout(seconds, fn, ...)
  local task <close> = core.spawn(fn, ...)
  return finish(task, task:join(seconds))
end

-- Sleeps until the next time of a clock that ticks every so many seconds. Times that passed while
-- the caller was busy are left out. Nil when the task is cancelled.
local function next_tick(clock)
  local now = core.now()
  local due = clock.last + clock.seconds
  if due < now then
    due = now
  end
  clock.last = due
  return core.sleep(due - now)
end

local function run_every(clock, fn)
  while next_tick(clock) do
    local run <close> = core.spawn(fn)
    local ok, err = run:join()
    if not ok and not run.done then
      return -- cancelled here, not there
    elseif not ok then
      local trace = type(err) == "table" and err.traceback or nil
      core.log("error", "every: " .. tostring(err), { traceback = trace })
    end
  end
end

--- Calls a function every so many seconds, never while it still runs; an error is logged and the
-- next run comes all the same. Begun while the app loads it goes on as long as the app, else as
-- long as the task that began it. Without a function: an iterator that ends when its task is
-- cancelled.
---@param seconds number
---@param fn? fun()
---@return moonquay.Task|fun(): integer?
function tasks.every(seconds, fn)
  if type(seconds) ~= "number" or not (seconds > 0 and seconds < math.huge) then
    error(("every needs a time above 0 s, not %s"):format(tostring(seconds)), 2)
  end
  local clock = { seconds = seconds, last = core.now() }
  if not fn then
    local count = 0
    return function()
      count = count + 1
      return next_tick(clock) and count or nil
    end
  end
  return core.spawn(run_every, clock, fn) -- what is spawned while the app loads is the app's own
end

return tasks
