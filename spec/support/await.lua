--- Waits until something is true, under a deadline; for events that nobody announces.
local sys = require("moonquay.probe").sys

local SLOWER = os.getenv("MOONQUAY_BUILD") == "asan" and 3 or 1

--- Calls check until its first result is truthy and returns all of its results; raises when that
-- takes longer than seconds (10), with what was awaited.
local function await(what, check, seconds)
  local until_time = sys.monotonic() + (seconds or 10) * SLOWER
  while true do
    local results = table.pack(check())
    if results[1] then
      return table.unpack(results, 1, results.n)
    end
    if sys.monotonic() > until_time then
      error("in vain awaited: " .. what, 2)
    end
    sys.poll({}, 5)
  end
end

return await
