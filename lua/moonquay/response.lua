--- What a response offers beyond status, fields and write: cookies, HTML, redirects, errors.

local core = require("moonquay.core")
local problem = require("moonquay.problem")

local Response = {}

local REDIRECTS = { [301] = true, [302] = true, [303] = true, [307] = true, [308] = true }

--- Adds a cookie. Options: path, domain, max_age, expires, secure, http_only, same_site.
---@param name string
---@param value string
---@param options? moonquay.CookieOptions
function Response.cookie(res, name, value, options)
  local text = core.cookie(name, value, options) -- raises at the caller of this function
  res.headers:add("set-cookie", text)
end

--- Answers with a page.
---@async
---@param text string
---@param status? integer
function Response.html(res, text, status)
  if status then
    res.status = status
  end
  if not res.headers["content-type"] then
    res.headers["content-type"] = "text/html; charset=utf-8"
  end
  return res:finish(text)
end

-- Only what a URI reference may hold, so that nothing else is guessed by a browser (it reads "\" as
-- "/"), and no scheme that runs code in the page that follows it.
local function check_target(target)
  if type(target) ~= "string" or target == "" then
    return "the target of a redirect must be a text"
  elseif target:find("[^%w%-._~:/?#%[%]@!$&'()*+,;=%%]") then
    return ("a character of this target must be percent-encoded: %q"):format(target)
  end
  local scheme = target:match("^(%a[%w+.-]*):")
  scheme = scheme and scheme:lower()
  if scheme == "javascript" or scheme == "vbscript" or scheme == "data" then
    return ("a redirect to %s: is refused"):format(scheme)
  end
end

--- Sends the client elsewhere: 303 (see other) unless told 301, 302, 307 or 308.
---@async
---@param target string
---@param status? integer
function Response.redirect(res, target, status)
  status = status or 303
  local wrong = check_target(target)
  if wrong then
    error(wrong, 2)
  elseif not REDIRECTS[status] then
    error(("%s is no status of a redirect: 301, 302, 303, 307 or 308"):format(tostring(status)), 2)
  end
  res.status = status
  res.headers["location"] = target
  return res:finish()
end

--- Answers with an error: problem details (RFC 9457), or a page for a client that prefers HTML.
---@async
---@param status integer
---@param message? string what the client may read
---@param members? table further members of the problem: detail, type, instance, your own
function Response.error(res, status, message, members)
  if math.type(status) ~= "integer" or status < 400 or status > 599 then
    error(("%s is no status of an error: 400 to 599"):format(tostring(status)), 2)
  end
  return problem.answer(res.request, res, status, message, members)
end

return Response
