-- The man page and the completion say what the table of commands says: nothing more, nothing less.
local admin = require("moonquay.probe").admin
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local PAGE = "man/moonquay-http.8"

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do
    list[#list + 1] = line
  end
  return list
end

-- "Cm url Ns = Ns Ar url" -> "url", "url"; choices are without blanks.
local function argument_of(line)
  local name, value = line:match("^%.It Cm ([%a_]+) Ns = Ns %u%l (.+)$")
  return name, value and value:gsub(" | ", "|")
end

-- { ["add urlacl"] = { "url=url", … } … } and the options.
local function page()
  local commands, options, command, section = {}, {}, nil, nil
  for _, line in ipairs(lines_of(PAGE)) do
    section = line:match("^%.Sh (.+)$") or section
    if section == "COMMANDS" and line:find("^%.Ss ") then
      command = line:match("^%.Ss (.+)$")
      commands[command] = {}
    end
    local name, value = argument_of(line)
    if name then
      table.insert(commands[command], name .. "=" .. value)
    end
    for option in line:gmatch("Fl %-(%l+)") do
      options[option] = true
    end
  end
  return commands, options
end

local function table_of(form)
  local commands = {}
  for _, command in ipairs(admin.commands()) do
    local list = {}
    for i, argument in ipairs(command) do
      list[i] = argument.name .. "=" .. form(argument)
    end
    commands[command.verb .. " " .. command.noun] = list
  end
  return commands
end

describe("the man page of moonquay http", function()
  it("names the commands and arguments of the table, in its order", function()
    assert.same(table_of(function(argument) return argument.form:lower() end), (page()))
  end)

  it("says which arguments are needed", function()
    local text = table.concat(lines_of(PAGE), "\n")
    for _, command in ipairs(admin.commands()) do
      local part = text:match("%.Ss " .. command.verb .. " " .. command.noun .. "\n(.-)\n%.S[sh]")
      for _, argument in ipairs(command) do
        local said = part:match("%.It Cm " .. argument.name .. " Ns[^\n]*\n(.-)\n%.[IE][tl]")
        if said and said ~= "" and not argument.must and argument.name ~= "key" then
          assert.is_nil(said:lower():find("needed", 1, true), argument.name)
        end
      end
    end
  end)

  it("names the options that there are, and they work", function()
    local _, options = page()
    options.share = nil -- of moonquay serve
    assert.same({ json = true, socket = true, help = true }, options)
    for _, words in ipairs({
      { "http", "show", "urlacl", "--json", "--socket", "/nonexistent" },
      { "http", "--socket=/nonexistent", "show", "--json", "urlacl" },
    }) do
      local result = server.run(words)
      assert.equal(69, result.status, result.stderr)
      assert.truthy(result.stderr:find("no host answers at /nonexistent", 1, true))
    end
    for _, command in ipairs(admin.commands()) do
      local result = server.run({ "http", command.verb, command.noun, "--help" })
      assert.equal(0, result.status)
      assert.equal(admin.help(command.verb, command.noun), result.stdout)
    end
    assert.equal(64, server.run({ "http", "show", "urlacl", "--jsn" }).status)
  end)

  it("is formatted without a warning", function()
    local pipe = io.popen("env -u LD_PRELOAD sh -c 'command -v man >/dev/null || exit 0; "
      .. "MANROFFSEQ= man --warnings -l " .. PAGE .. " 2>&1 >/dev/null'")
    local output = pipe:read("a")
    pipe:close()
    assert.equal("", output)
  end)
end)

describe("completion for bash", function()
  -- What bash would offer behind this line.
  local function offered(line)
    local dir = temp.dir()
    finally(function() dir:remove() end)
    local script = dir:write("complete.sh", [[
. scripts/completion/moonquay.bash
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
_moonquay "$1"
printf '%s\n' "${COMPREPLY[@]}"
]])
    local result = server.run({ "--norc", script, server.executable, line, executable = "bash" })
    assert.equal(0, result.status, result.stderr)
    assert.equal("", result.stderr)
    local words = {}
    for word in result.stdout:gmatch("[^\n]+") do
      words[#words + 1] = word
    end
    return words
  end

  it("offers the commands of moonquay, none of its parts", function()
    local words = table.concat(offered("moonquay "), " ") .. " "
    for _, word in ipairs({ "serve", "host", "http", "status", "cert" }) do
      assert.truthy(words:find(word .. " ", 1, true), word)
    end
    assert.is_nil(words:find("worker", 1, true))
    assert.is_nil(words:find("registrar", 1, true))
    assert.same({ "http" }, offered("moonquay ht"))
  end)

  it("offers exactly the words of the table", function()
    local verbs, seen = {}, {}
    for _, command in ipairs(admin.commands()) do
      if not seen[command.verb] then
        verbs[#verbs + 1] = command.verb
        seen[command.verb] = {}
      end
      table.insert(seen[command.verb], command.noun)
    end
    local first = offered("moonquay http ")
    table.sort(first)
    table.sort(verbs)
    assert.same(verbs, first)
    for verb, nouns in pairs(seen) do
      assert.same(nouns, offered("moonquay http " .. verb .. " "))
    end
    for name, arguments in pairs(table_of(function() return "" end)) do
      if #arguments > 0 then
        assert.same(arguments, offered("moonquay http " .. name .. " "))
      end
    end
  end)

  it("offers values behind an equals sign, as bash cuts words", function()
    assert.same({ "yes", "no" }, offered("moonquay http add urlacl listen="))
    assert.same({ "yes" }, offered("moonquay http add urlacl listen=y"))
    assert.same({ "headerwaittimeout" }, offered("moonquay http add timeout timeouttype=h"))
    assert.same({ "listen=" }, offered("moonquay http add urlacl lis"))
    assert.same({ "--json" }, offered("moonquay http show urlacl --j"))
    assert.same({ "urlacl" }, offered("moonquay http --json --socket /x show u"))
    assert.same({ "man/moonquay-http.8" }, offered("moonquay http show --socket man/moon"))
    assert.same({ "man/moonquay-http.8" }, offered("moonquay http add sslcert cert=man/moon"))
  end)
end)
