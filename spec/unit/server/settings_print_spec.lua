local core = require("moonquay.core")
local server = require("spec.support.server")
local settings = require("moonquay.probe").settings

local function options(form)
  local result = server.run({ "options", form })
  assert.equal(0, result.status, result.stderr)
  return result.stdout
end

local function text_of(path)
  local file <close> = assert(io.open(path))
  return file:read("a")
end

describe("the table of settings", function()
  it("is in lua/README.md as the server prints it (else: make gen)", function()
    local inside = text_of("lua/README.md"):match(
      "\n<!%-%- settings: begin[^\n]*\n(.-)<!%-%- settings: end %-%->\n")
    assert.equal(options("--markdown"), inside)
  end)

  it("is in lua/moonquay/settings.lua as the server prints it (else: make gen)", function()
    assert.equal(options("--luals"), text_of("lua/moonquay/settings.lua"))
  end)

  it("is printed for programs with a member for each column", function()
    local keys = {}
    for i, row in ipairs(core.json.decode(options("--json"))) do
      keys[i] = row.key
      for _, name in ipairs({ "default", "type", "values", "scope", "changes", "help" }) do
        assert.is_string(row[name])
      end
    end
    assert.same(settings.keys(), keys)
  end)

  it("declares each key for editors, in its class, within the columns", function()
    local classes, class = {}, nil
    for line in options("--luals"):gmatch("[^\n]*") do
      assert.is_true(#line <= 101, line) -- one character of the first lines has three bytes
      class = line:match("^%-%-%-@class moonquay%.(%w+)") or class
      local field, kind = line:match("^%-%-%-@field ([%w_]+)%?? (%S+)$")
      if field then
        classes[class] = classes[class] or {}
        classes[class][field] = kind
      end
    end
    for _, key in ipairs(settings.keys()) do
      local group, name = key:match("^([%w_]+)%.(.*)")
      local title = group and ("_" .. group):gsub("_(%l)", string.upper)
      local holder = group and classes["Settings" .. title] or classes.Settings
      assert.is_string(holder[name or key], key)
      if group then
        assert.is_string(classes.Settings[group], group)
      end
    end
    assert.equal('integer|"unlimited"|"none"', classes.Settings.max_connections)
    assert.equal('"basic"|"limited"|"full"', classes.Settings.http_503_verbosity)
    assert.equal("string|false", classes.Settings.server_header)
    assert.equal('number|"off"', classes.SettingsTimeouts.handler)
    assert.equal("string|string[]", classes.TlsBinding.certificate)
    assert.equal("string", classes.TlsBinding.client_authorities)
  end)

  for _, words in ipairs({ { "--xml" }, { "--json", "--luals" }, { "workers" } }) do
    it("has no other form: " .. table.concat(words, " "), function()
      local result = server.run({ "options", table.unpack(words) })
      assert.equal(64, result.status)
      assert.equal("", result.stdout)
    end)
  end
end)
