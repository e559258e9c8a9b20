--- Programs that stand in for a server: an interpreter with a script of the spec's.
local sys = require("moonquay.probe").sys

local fake = {}

--- Starts the program of these words and waits until it says "ready"; returns what ends it.
function fake.start(words)
  local pid, out, err, input = sys.spawn(words, { env = { LD_PRELOAD = false } })
  assert(pid, out)
  local said = ""
  while not said:find("\n", 1, true) do
    local text = sys.read(out, 100, 10000)
    assert(text and text ~= "", "the program ended")
    said = said .. text
  end
  assert(said == "ready\n", said)
  return function()
    sys.kill(pid, "KILL")
    sys.waitpid(pid, 10000)
    for _, pipe in ipairs({ out, err, input }) do
      sys.close(pipe)
    end
  end
end

return fake
