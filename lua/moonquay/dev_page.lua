--- The page for the developer whose handler has failed: the message, the source lines around each
-- frame of the traceback, and the frames. It holds nothing of the request but its method and path.

local escape_html = require("moonquay.html").escape
local problem = require("moonquay.problem")

local dev_page = {}

local AROUND = 4 -- lines of source before and after the one of the frame
local MAX_EXCERPTS = 12

local page = [[
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>%s</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.3rem; white-space: pre-wrap; color: #a00 }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; line-height: 1.4 }
mark { display: block; background: #fdd }
small { color: #666 }
</style>
<h1>%s</h1>
<p>%s %s <small>request %s</small></p>
%s<h2>Traceback</h2>
<pre>%s</pre>
<p><small>Shown in development and to this machine only.</small></p>
</html>
]]

-- The (file, line) pairs of a text, each once, in order.
local function frames(text)
  local list, seen = {}, {}
  for line in text:gmatch("[^\n]+") do
    local file, number = line:match("^%s*([^%[%s][^:]*):(%d+):")
    local key = file and file .. ":" .. number
    if key and not seen[key] and #list < MAX_EXCERPTS then
      seen[key] = true
      list[#list + 1] = { file = file, line = tonumber(number) }
    end
  end
  return list
end

-- The lines around a frame as HTML; nil when the file cannot be read (any more).
local function excerpt(frame)
  local file = frame.file:find("%.lua$") and io.open(frame.file)
  if not file then
    return nil
  end
  local lines, number = {}, 0
  for text in file:lines() do
    number = number + 1
    if number > frame.line + AROUND then
      break
    elseif number >= frame.line - AROUND then
      local row = escape_html(("%5d  %s"):format(number, text))
      lines[#lines + 1] = number == frame.line and "<mark>" .. row .. "</mark>" or row .. "\n"
    end
  end
  file:close()
  local title = escape_html(frame.file .. ":" .. frame.line)
  return ("<h2><small>%s</small></h2>\n<pre>%s</pre>\n"):format(title, table.concat(lines))
end

--- Answers 500 with the page, or with the message and traceback in JSON for who does not read HTML.
function dev_page.answer(req, res, err, traceback)
  local message, trace = tostring(err), tostring(traceback or "")
  if not problem.prefers_html(req) then
    return problem.answer(req, res, 500, message, { traceback = trace })
  end
  local excerpts = {}
  for _, frame in ipairs(frames(message .. "\n" .. trace)) do
    excerpts[#excerpts + 1] = excerpt(frame)
  end
  local title = escape_html(message)
  res.status = 500
  res.headers["content-type"] = "text/html; charset=utf-8"
  res.headers["cache-control"] = "no-store"
  local where = table.concat(excerpts)
  local method, path, id = escape_html(req.method), escape_html(req.path), escape_html(req.id)
  res:finish(page:format(title, title, method, path, id, where, escape_html(trace)))
end

return dev_page
