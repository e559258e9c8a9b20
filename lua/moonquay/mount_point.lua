--- What a mount point leaves of a path.

local mount_point = {}

--- The first so many segments of a path, and the rest, which is "/" when there is none.
---@param path string
---@param segments integer
---@return string prefix
---@return string rest
function mount_point.split(path, segments)
  local stop = 1
  for _ = 1, segments do
    stop = stop and path:find("/", stop + 1, true)
  end
  if stop then
    return path:sub(1, stop - 1), path:sub(stop)
  end
  return path, "/"
end

return mount_point
