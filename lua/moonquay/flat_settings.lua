--- Settings as people write them, tables within tables, made a list of dotted names and texts for
-- the core. For apps and for configuration files, which run in a state of their own: no requires.

local MOST_LEVELS = 8 -- of tables in tables; one that holds itself has no end

-- The keys in order, so that of two wrong ones always the same is told.
local function sorted_keys(settings, name)
  local keys = {}
  for key in pairs(settings) do
    if type(key) ~= "string" then
      local whose = name and " of " .. name or ""
      error(("settings%s are named, as in { workers = 2 }"):format(whose), 0)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local function is_plain(value)
  return type(value) == "string" or type(value) == "number"
end

local function check_sequence(name, list)
  local count = 0
  for _ in pairs(list) do
    count = count + 1
  end
  if count ~= #list then
    error(name .. ": either a list or named settings, not both in one table", 0)
  end
end

local function join(name, list)
  check_sequence(name, list)
  local texts = {}
  for i, item in ipairs(list) do
    if not is_plain(item) then
      error(("%s: item %d must be a text, not a %s"):format(name, i, type(item)), 0)
    end
    texts[i] = tostring(item)
    if texts[i]:find(",", 1, true) then
      error(("%s: item %d holds a comma, which separates items"):format(name, i), 0)
    end
  end
  return table.concat(texts, ",")
end

-- A value of a binding as one word.
local function quote(text)
  if text:find('[ ;"\\]') or text == "" then
    return '"' .. text:gsub('["\\]', "\\%0") .. '"'
  end
  return text
end

-- Settings that are lists of tables, each a row of words for the core: what a row is called, and an
-- example.
local ROWS = {
  tls = { noun = "binding", example = "{ certificate = FILE, key = FILE }" },
  apps = { noun = "app", example = "{ file = FILE }" },
}

-- A list is the key several times.
local function add_words(words, where, key, value)
  local list = type(value) == "table" and value or { value }
  check_sequence(("%s: %s"):format(where, key), list)
  for _, item in ipairs(list) do
    if not is_plain(item) then
      error(("%s: %s: must be a text, not a %s"):format(where, key, type(item)), 0)
    end
    words[#words + 1] = key .. "=" .. quote(tostring(item))
  end
end

local function row_text(name, number, row)
  local noun = ROWS[name].noun
  local where = ("%s: %s %d"):format(name, noun, number)
  if type(row) ~= "table" then
    error(("%s must be a table, not a %s"):format(where, type(row)), 0)
  end
  local words = {}
  for _, key in ipairs(sorted_keys(row, ("a %s %s"):format(name, noun))) do
    if not key:find("^[%w_]+$") then
      error(("%s: %s: no such key"):format(where, key), 0)
    end
    add_words(words, where, key, row[key])
  end
  return table.concat(words, " ")
end

local function rows_text(name, list)
  if next(list) ~= nil and list[1] == nil then
    error(("%s: a list of %ss is needed, %s = { %s }"):format(name, ROWS[name].noun, name,
      ROWS[name].example), 0)
  end
  check_sequence(name, list)
  local texts = {}
  for i, row in ipairs(list) do
    texts[i] = row_text(name, i, row)
  end
  return table.concat(texts, "; ")
end

local add_all

local function add(options, key, value, is_list)
  options[#options + 1] = { key = key, value = value, is_list = is_list }
end

-- authentication = "negotiate", or a list: these schemes, and no anonymity.
local function add_schemes(options, schemes)
  if type(schemes) == "table" then
    add(options, "authentication.schemes", join("authentication", schemes), true)
  else
    add(options, "authentication.schemes", schemes, false)
  end
  add(options, "authentication.allow_anonymous", false, false)
end

local function add_one(options, key, value, level)
  local is_table = type(value) == "table"
  if ROWS[key] and is_table then
    add(options, key, rows_text(key, value), true)
  elseif key == "authentication" and (not is_table or value[1] ~= nil) then
    add_schemes(options, value)
  elseif not is_table then
    add(options, key, value, false)
  elseif value[1] ~= nil or next(value) == nil then
    add(options, key, join(key, value), true)
  elseif level == MOST_LEVELS then
    error(key .. ": tables in tables without end", 0)
  else
    add_all(options, value, key, level + 1)
  end
end

function add_all(options, settings, name, level)
  for _, key in ipairs(sorted_keys(settings, name)) do
    add_one(options, name and name .. "." .. key or key, settings[key], level)
  end
end

--- A list of { key =, value =, is_list = }, where the value of a list is a text; or nil and what is
-- wrong with the table. Values are not judged here. An empty table is an empty list, also where it
-- stands for a group of settings.
---@param settings table
---@return { key: string, value: any, is_list: boolean }[]? options
---@return string? message
return function(settings)
  local options = {}
  local ok, message = pcall(add_all, options, settings, nil, 1)
  if not ok then
    return nil, message
  end
  return options
end
