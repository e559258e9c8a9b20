--- Parts of Lua's library that mean something else, or harm, inside a server: os.exit drains it,
-- binary chunks are refused, and in development what blocks the whole worker or writes a global is
-- told once.

local core = require("moonquay.core")

local guard = {}

local function text_only()
  local load_chunk, load_file = load, loadfile
  function _G.load(chunk, name, _, ...)
    return load_chunk(chunk, name, "t", ...)
  end
  function _G.loadfile(path, _, ...)
    return load_file(path, "t", ...)
  end
  function _G.dofile(path)
    local chunk, reason = load_file(path, "t")
    if not chunk then
      error(reason, 0)
    end
    return chunk()
  end
end

-- Code after os.exit() never runs, here neither: the caller's request ends with 503.
local function drain_on_exit()
  os.exit = function() -- luacheck: ignore 122
    core.shutdown()
    error(core.fail("cancelled", "the server is stopping", { status = 503, op = "os.exit" }), 0)
  end
end

local function warn_once(library, library_name, name, why)
  local blocking, told = library[name], false
  library[name] = function(...)
    if not told then
      told = true
      local text = ("%s.%s %s"):format(library_name, name, why)
      core.log("warn", text, { traceback = debug.traceback("", 2) })
    end
    return blocking(...)
  end
end

local function tell_blocking()
  local why = "blocks every request of this worker while it runs"
  warn_once(os, "os", "execute", why)
  warn_once(io, "io", "popen", why)
  warn_once(io, "io", "read", why)
end

--- For a state inside the server, before the app is loaded.
function guard.install()
  text_only()
  drain_on_exit()
  getmetatable("").__metatable = "the metatable of strings belongs to every module of this server"
  if core.development then
    tell_blocking()
  end
end

--- After the app has been loaded: a global written now is shared by all requests, and most often
-- was meant to be a local. Told once for each name, in development.
function guard.watch_globals()
  if not core.development or getmetatable(_G) then
    return
  end
  local told = {}
  setmetatable(_G, {
    __newindex = function(globals, name, value)
      rawset(globals, name, value)
      if not told[name] then
        told[name] = true
        local info = debug.getinfo(2, "Sl")
        local place = info and ("%s:%d"):format(info.short_src, info.currentline) or "?"
        local text = "global %q written at %s: every request shares it; is a local missing?"
        core.log("warn", text:format(tostring(name), place))
      end
    end,
  })
end

return guard
