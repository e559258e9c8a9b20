--- What a request offers beyond its fields: query, cookies, and the body as JSON, form, text or
-- parts. Each is read when asked for, in pieces or bounded, and fails as nil and an error whose
-- status says what the client did wrong.

local core = require("moonquay.core")
local Values = require("moonquay.values")
local multipart = require("moonquay.multipart")

local getters, methods = {}, {}

local MAX_FORM_BYTES = 1048576
local MAX_FORM_FIELDS = 1000

function getters.query(req)
  return Values.new(core.parse_query(req.query_string))
end

function getters.cookies(req)
  return Values.new(core.parse_cookies(req.headers["cookie"] or ""))
end

local function media_type(req)
  local text = req.headers["content-type"]
  return text and text:match("^%s*([^;%s]+)"):lower()
end

local function wrong_type(expected)
  return nil, core.fail("unsupported", "the body must be " .. expected, { status = 415 })
end

--- The whole body as a string; nil and an error of status 413 beyond max bytes.
---@async
---@param max? integer else only req.limits counts
---@return string? text
---@return moonquay.Error? err
function methods.text(req, max)
  local text, err = req.body:read("a", max)
  if err and err.code == "too_large" then
    err.status = 413
  end
  return text, err
end

--- The body read as JSON; a Content-Type, when there is one, must say so.
---@async
---@return any value
---@return moonquay.Error? err
function methods.json(req)
  local kind = media_type(req)
  if kind and kind ~= "application/json" and not kind:find("^application/[^/]+%+json$") then
    return wrong_type("JSON")
  end
  local text, err = req.body:read("a")
  if not text then
    return nil, err
  end
  local value, reason = core.json.decode(text)
  if value == nil then
    return nil, core.fail("invalid", "the body is no JSON: " .. reason.message, { status = 400 })
  end
  return value
end

-- A part with a file name is a file: a table; other parts are their text.
local function read_part(part, room)
  local text, err = part:text(room)
  if not text then
    return nil, 0, err
  elseif not part.filename then
    return text, #text
  end
  return { filename = part.filename, type = part.type, content = text }, #text
end

local function collect(next_part, max)
  local list, room = {}, max
  for part in next_part do
    local value, bytes, err = read_part(part, room)
    if err then
      return nil, err
    end
    room = room - bytes
    if part.name then
      list[#list + 1], list[#list + 2] = part.name, value
    end
  end
  return list
end

-- The list { name, value, … } of a multipart form; nil and an error.
local function read_form(req, max)
  local next_part, err = multipart.parts(req)
  if not next_part then
    return nil, err
  end
  local ok, list, reason = pcall(collect, next_part, max)
  if not ok then
    return nil, list
  end
  return list, reason
end

--- The fields of a form, urlencoded or multipart: form.x, form:all("x"), pairs. A file is a table {
-- filename, type, content }. At most max bytes (1 MiB) and 1000 fields, since all is held:
-- req:multipart() streams.
---@async
---@param max? integer
---@return moonquay.Values? form
---@return moonquay.Error? err
function methods.form(req, max)
  max = max or MAX_FORM_BYTES
  local kind = media_type(req)
  local list, err
  if kind == "application/x-www-form-urlencoded" then
    list, err = methods.text(req, max)
    list = list and core.parse_query(list)
  elseif kind == "multipart/form-data" then
    list, err = read_form(req, max)
  else
    return wrong_type("a form")
  end
  if not list then
    return nil, err
  elseif #list > 2 * MAX_FORM_FIELDS then
    local text = ("a form of more than %d fields"):format(MAX_FORM_FIELDS)
    return nil, core.fail("too_large", text, { status = 413, op = "form" })
  end
  return Values.new(list)
end

--- The parts of a multipart form one after the other, each to be read while it is at hand.
---@async
---@return nil|fun(): moonquay.Part?
---@return moonquay.Error? err
function methods.multipart(req)
  return multipart.parts(req)
end

return { getters = getters, methods = methods }
