--- The body of an error response: problem details (RFC 9457), or a small page for who prefers HTML.

local core = require("moonquay.core")
local escape_html = require("moonquay.html").escape

local problem = {}

-- The weight that an Accept value gives to a media type, and how exactly it names it.
local function weight(accept, kind, subkind)
  local best, best_rank = 0, 0
  for range in accept:gmatch("[^,]+") do
    local a, b, rest = range:match("^%s*([^/%s;]+)/([^%s;]+)%s*(.*)$")
    local rank = a == nil and 0
      or a == kind and b == subkind and 3
      or a == kind and b == "*" and 2
      or a == "*" and b == "*" and 1
      or 0
    if rank > best_rank then
      best, best_rank = tonumber(rest:lower():match(";%s*q=([%d.]+)")) or 1, rank
    end
  end
  return best, best_rank
end

--- Whether a request would rather have HTML than JSON: it must name it, as browsers do.
function problem.prefers_html(req)
  local accept = (req.headers["accept"] or ""):lower()
  local html, rank = weight(accept, "text", "html")
  local json = weight(accept, "application", "json")
  local details = weight(accept, "application", "problem+json")
  return rank >= 2 and html > 0 and html >= math.max(json, details)
end

local page = [[
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>%d %s</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem }
small { color: #666 }
</style>
<h1>%s</h1>
%s<p><small>%d &middot; request %s</small></p>
</html>
]]

-- The members of RFC 9457 first, as it lists them; the app's own follow by name.
local ORDER = { "type", "title", "status", "detail", "instance", "request_id" }
local RANK = {}
for rank, name in ipairs(ORDER) do
  RANK[name] = rank
end

local function before(a, b)
  local rank_a, rank_b = RANK[a] or math.huge, RANK[b] or math.huge
  if rank_a ~= rank_b then
    return rank_a < rank_b
  end
  return a < b
end

-- The same text for the same members, which an object in the order of next() is not.
local function encode(details)
  local names, parts = {}, {}
  for name in pairs(details) do
    if type(name) ~= "string" then
      error(("a member of a problem is named by a string, not by a %s"):format(type(name)), 0)
    end
    names[#names + 1] = name
  end
  table.sort(names, before)
  for i, name in ipairs(names) do
    parts[i] = core.json.encode({ [name] = details[name] }):sub(2, -2)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function finish(res, content_type, text)
  res.headers["content-type"] = content_type
  res.headers["cache-control"] = "no-store"
  return res:finish(text)
end

--- Answers with a status. The message, when there is one, is what the client may read; members such
-- as detail, type or instance join the problem (with a detail the message becomes the title).
function problem.answer(req, res, status, message, members)
  local details = {}
  for key, value in pairs(members or {}) do
    details[key] = value
  end
  local reason = core.reason(status)
  if details.title == nil then
    details.title = details.detail ~= nil and message or reason
  end
  if details.detail == nil and message ~= details.title then
    details.detail = message
  end
  details.status, details.request_id = status, req.id
  res.status = status
  if not problem.prefers_html(req) then
    return finish(res, "application/problem+json", encode(details))
  end
  local title = escape_html(details.title)
  local detail = details.detail and ("<p>%s</p>\n"):format(escape_html(details.detail)) or ""
  local text = page:format(status, title, title, detail, status, escape_html(req.id))
  return finish(res, "text/html; charset=utf-8", text)
end

return problem
