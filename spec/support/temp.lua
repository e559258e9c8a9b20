--- Temporary files of the specs: all below one directory for each place that asks.
local sys = require("moonquay.probe").sys

local temp = {}
local Dir = {}
Dir.__index = Dir

--- A new, empty directory; dir.path names it, dir:remove() takes it away with all that is in it.
function temp.dir()
  return setmetatable({ path = assert(sys.tmpdir()) }, Dir)
end

--- Writes a file and returns its path.
function Dir:write(name, text)
  local path = self.path .. "/" .. name
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

--- The text of a file, or nil when there is none.
function Dir:read(name)
  local file = io.open(self.path .. "/" .. name, "rb")
  if not file then
    return nil
  end
  local text = file:read("a")
  file:close()
  return text
end

function Dir:remove()
  if self.path then
    sys.rmtree(self.path)
    self.path = nil
  end
end

return temp
