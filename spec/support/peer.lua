--- Other people's clients, each in a process of its own, under a deadline.
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

local DEADLINE = os.getenv("MOONQUAY_BUILD") == "asan" and 60 or 20

local peer = {}

--- Runs a command to its end and returns { exit =, stdout =, stderr = }. input is written to its
-- standard input, which is then closed.
function peer.run(argv, input)
  -- LD_PRELOAD belongs to this interpreter alone; a user's own configuration does not count.
  local env = { LD_PRELOAD = false, NODE_OPTIONS = false, CURL_HOME = "/nonexistent",
    http_proxy = false, HTTP_PROXY = false, all_proxy = false, ALL_PROXY = false }
  local pid, out, err, stdin = sys.spawn(argv, { env = env })
  assert(pid, out)
  local written = 0
  local until_time = sys.monotonic() + DEADLINE
  local text, open = { [out] = "", [err] = "" }, { out, err }
  input = input or ""
  while #open > 0 do
    local left = until_time - sys.monotonic()
    if left <= 0 then
      sys.kill(pid, "KILL")
      error(("%s did not end; standard error: %s"):format(argv[1], text[err]), 2)
    end
    if written < #input then
      written = written + (sys.write(stdin, input:sub(written + 1)) or 0)
    end
    if stdin and written == #input then
      sys.close(stdin)
      stdin = nil
    end
    for _, pipe in ipairs(sys.poll(open, math.ceil((stdin and 0.005 or left) * 1000))) do
      local piece = sys.read(pipe, 65536, 0)
      if piece == nil or piece == "" then
        sys.close(pipe)
        table.remove(open, open[1] == pipe and 1 or 2)
      else
        text[pipe] = text[pipe] .. piece
      end
    end
  end
  local status = assert(sys.waitpid(pid, DEADLINE * 1000))
  return { exit = status.exit, signal = status.signal, stdout = text[out], stderr = text[err] }
end

--- Runs a Node script (a module) with arguments and returns its standard output; raises when it
-- fails.
function peer.node(script, ...)
  local dir = temp.dir()
  local result = peer.run({ "node", dir:write("peer.mjs", script), ... })
  dir:remove()
  if result.exit ~= 0 then
    error(("node: %s\n%s"):format(tostring(result.exit or result.signal), result.stderr), 2)
  end
  return result.stdout
end

return peer
