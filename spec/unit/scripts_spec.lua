-- The scripts themselves, run on copies: what they refuse and what they count.

-- The interpreter of a sanitized run has the sanitizers preloaded; programs started here must not.
local CLEAN = "unset LD_PRELOAD ASAN_OPTIONS MAKEFLAGS MAKELEVEL; exec 2>&1 </dev/null; "

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs a shell command; returns its output, both streams, and its exit status.
local function run(command, ...)
  local pipe = assert(io.popen(CLEAN .. command:format(...)))
  local output = pipe:read("a")
  local _, _, status = pipe:close()
  return output, status
end

local function write(path, text)
  assert(run("mkdir -p %s", quote(path:match("^(.*)/"))) == "")
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local function lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do
    list[#list + 1] = line
  end
  return list
end

describe("scripts", function()
  local dir

  before_each(function()
    dir = run("mktemp -d"):gsub("\n$", "")
  end)

  after_each(function()
    run("rm -rf %s", quote(dir))
  end)

  describe("check-layers", function()
    local function check()
      return run("scripts/check-layers %s", quote(dir))
    end

    local function copy_core()
      run("cp -r core %s", quote(dir))
    end

    local function plant(file, line)
      local path = dir .. "/core/" .. file
      run("mkdir -p %s", quote(path:match("^(.*)/")))
      local target = assert(io.open(path, "a"))
      assert(target:write(line .. "\n"))
      target:close()
      local count = tonumber((run("wc -l <%s", quote(path))))
      return ("core/%s:%d: "):format(file, count)
    end

    it("finds nothing wrong in the tree", function()
      local output, status = run("scripts/check-layers")
      assert.equal("", output)
      assert.equal(0, status)
    end)

    local refused = {
      { "an arrow from an earlier room to a later one", "http/date.h", '#include "net/loop.h"' },
      { "an arrow between rooms side by side", "net/x.c", '#include "http/fields.h"' },
      { "any room in base", "base/buf.h", '#include "http/fields.h"' },
      { "proc in bind", "bind/x.c", '#include "proc/master.h"' },
      { "a private header of another room", "server/x.c", '#include "http/h1_priv.h"' },
      { "a header that names no room", "http/date.h", '#include "fields.h"' },
      { "a room that is not on the plan", "cellar/x.c", "" },
      { "ev.h outside net", "server/x.c", "#include <ev.h>" },
      { "lua.h outside bind", "proc/x.c", "#include <lua.h>" },
      { "lauxlib.h outside bind", "fuzz/x.c", "#include <lauxlib.h>" },
      { "jansson outside its one file", "bind/x.c", "#include <jansson.h>" },
      { "OpenSSL's TLS outside tls", "net/x.c", "#include <openssl/ssl.h>" },
      { "nghttp2 outside http/h2.c", "http/x.c", "#include <nghttp2/nghttp2.h>" },
      { "a foreign library without a room", "base/x.c", "#include <zlib.h>" },
      { "an indented, spaced include", "http/x.c", '  #  include   "net/loop.h"' },
      { "an include through a macro", "http/x.c", "#include HEADER" },
      { "a call below which Lua cannot wait", "bind/x.c", "lua_call(L, 0, 1);" },
    }
    for _, case in ipairs(refused) do
      it("refuses " .. case[1], function()
        copy_core()
        local place = plant(case[2], case[3])
        local output, status = check()
        assert.equal(1, status)
        assert.equal(1, #lines(output), output)
        assert.equal(place, output:sub(1, #place))
      end)
    end

    local allowed = {
      { "an arrow to an earlier room", "server/x.c", '#include "http/fields.h"' },
      { "a room's own private header", "http/x.c", '#include "http/h1_priv.h"' },
      { "ev.h in net", "net/x.c", "#include <ev.h>" },
      { "lua.h in bind", "bind/x.c", "#include <lua.h>" },
      { "bind in proc", "proc/x.c", '#include "bind/state.h"' },
      { "such a call that says why", "bind/x.c", "lua_call(L, 0, 1); /* no wait: it adds */" },
      { "a call with a continuation", "bind/x.c", "lua_callk(L, 0, 1, 0, k);" },
      { "headers of libc and kernel", "base/x.c", "#include <sys/uio.h>\n#include <stdint.h>" },
    }
    for _, case in ipairs(allowed) do
      it("allows " .. case[1], function()
        copy_core()
        plant(case[2], case[3])
        local output, status = check()
        assert.equal("", output)
        assert.equal(0, status)
      end)
    end

    it("fails where there are no sources", function()
      run("mkdir %s/core", quote(dir))
      local _, status = check()
      assert.equal(1, status)
    end)
  end)

  describe("packages", function()
    -- dpkg's own database, but one in which only the given packages are there.
    local function database(installed)
      local records = {}
      for name, state in pairs(installed) do
        records[#records + 1] = ("Package: %s\nStatus: %s\nVersion: 1\nArchitecture: all\n"
          .. "Maintainer: nobody\nDescription: none\n"):format(name, state)
      end
      write(dir .. "/info/keep", "")
      write(dir .. "/updates/keep", "")
      run("rm %s/updates/keep", quote(dir))
      write(dir .. "/status", table.concat(records, "\n") .. "\n")
    end

    local function missing(words)
      return run("DPKG_ADMINDIR=%s scripts/packages --dry-run %s", quote(dir), words)
    end

    it("names what the server needs when nothing is installed", function()
      database({})
      local output, status = missing("serve")
      assert.equal(0, status)
      local named = {}
      for _, name in ipairs(lines(output)) do
        named[name] = true
      end
      for _, name in ipairs({ "gcc", "make", "libc6-dev", "liblua5.4-dev", "libev-dev" }) do
        assert.is_true(named[name], name)
      end
    end)

    it("leaves out what is installed, not what was removed", function()
      database({ gcc = "install ok installed", make = "deinstall ok config-files" })
      local names = {}
      for _, name in ipairs(lines((missing("serve")))) do
        names[name] = true
      end
      assert.is_nil(names.gcc)
      assert.is_true(names.make)
    end)

    it("adds what the specs need", function()
      database({})
      local serve, both = lines((missing("serve"))), lines((missing("serve test")))
      assert.is_true(#both > #serve)
      assert.is_truthy(table.concat(both, "\n"):find("lua-busted", 1, true))
    end)

    it("names what measuring needs only when that is asked for", function()
      database({})
      assert.equal("valgrind\nnginx-core\nlibnginx-mod-http-lua\n", (missing("measure")))
      assert.is_nil(missing("serve test fresh"):find("valgrind", 1, true))
    end)

    it("says nothing and installs nothing when all is there", function()
      database({})
      local installed = {}
      for _, name in ipairs(lines((missing("serve test")))) do
        installed[name] = "install ok installed"
      end
      database(installed)
      assert.equal("", (missing("serve test")))
      local output, status = run("DPKG_ADMINDIR=%s scripts/packages serve test", quote(dir))
      assert.equal("", output)
      assert.equal(0, status)
    end)

    it("fails on a word that it does not know", function()
      local output, status = run("scripts/packages --dry-run sreve")
      assert.equal(1, status)
      assert.is_truthy(output:find("sreve", 1, true))
    end)
  end)

  describe("serve", function()
    -- The real script; in the server's place stands a program that prints how it was started, and
    -- writes down what it was told about certificates: those in certs/ are good when that is there.
    local function serve(from, words)
      run("mkdir -p %s/scripts %s/elsewhere", quote(dir), quote(dir))
      run("cp scripts/serve scripts/packages %s/scripts", quote(dir))
      write(dir .. "/Makefile", "all: ;\n")
      local server = dir .. "/build/release/bin/moonquay"
      write(server, [[#!/bin/sh
tree=${0%/build/*}
case $1:$2 in
cert:check) echo checked; echo "$@" >>"$tree/asked"; [ -d "$tree/certs" ] || exit 78 ;;
cert:create) echo made; echo "$@" >>"$tree/asked"; [ -z "${REFUSE-}" ] || exit 78 ;;
*) printf "%s\n" "$$" "$PWD" "$@" ;;
esac
]])
      run("chmod +x %s", quote(server))
      local command = "cd %s && echo $$ && exec %s/scripts/serve %s 2>/dev/null"
      local output, status = run(command, quote(dir .. from), quote(dir), words)
      return lines(output), status
    end

    -- What was asked about certificates: a line each.
    local function asked()
      return lines((run("cat %s/asked 2>/dev/null", quote(dir))))
    end

    local function defaults()
      return "--default", "urls=http://localhost:5000,https://localhost:5001", "--default",
        ('tls=certificate="%s/certs/localhost.pem" key="%s/certs/localhost.key"'):format(dir, dir)
    end

    it("becomes the server, so that a signal to it reaches the server", function()
      local list, status = serve("", "")
      assert.equal(0, status)
      assert.equal(list[1], list[2])
    end)

    local cases = { -- what it does, from where, words, whether the defaults stand in front, words
      { "serves hello when no app is given", "", "", true, "scripts/examples/hello/app.lua" },
      { "serves hello from elsewhere", "/elsewhere", "", true,
        "DIR/scripts/examples/hello/app.lua" },
      { "serves hello with options", "", "--dev", true, "scripts/examples/hello/app.lua", "--dev" },
      { "takes an app as the caller sees it", "/elsewhere", "app.lua", true, "app.lua" },
      { "passes options as they are", "", "'my app.lua' --urls http://localhost:1 --set 'a=b c'",
        false, "my app.lua", "--urls", "http://localhost:1", "--set", "a=b c" },
      { "leaves addresses to who gives them", "", "--urls=http://localhost:1", false,
        "scripts/examples/hello/app.lua", "--urls=http://localhost:1" },
      { "leaves addresses to who sets them", "", "a.lua --set urls=http://localhost:1", false,
        "a.lua", "--set", "urls=http://localhost:1" },
      { "leaves certificates to who sets them", "", "a.lua --set=tls=", false, "a.lua",
        "--set=tls=" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local list, status = serve(case[2], case[3])
        assert.equal(0, status)
        assert.equal(dir .. case[2], list[3])
        local expected = { "serve" }
        if case[4] then
          expected = { "serve", defaults() }
        end
        for i = 5, #case do
          expected[#expected + 1] = (case[i]:gsub("^DIR", dir))
        end
        assert.same(expected, table.move(list, 4, #list, 1, {}))
        assert.equal(case[4] and 2 or 0, #asked())
      end)
    end

    it("leaves addresses to MOONQUAY_URLS", function()
      assert.equal("--default", serve("", "a.lua")[5])
      run("rm %s/asked", quote(dir))
      local output = run("cd %s && MOONQUAY_URLS=http://localhost:1 scripts/serve a.lua "
        .. "2>/dev/null", quote(dir))
      assert.same({ "serve", "a.lua" }, table.move(lines(output), 3, 4, 1, {}))
      assert.same({}, asked())
    end)

    it("makes certificates when there are none that serve, and then never again", function()
      local pem, key = dir .. "/certs/localhost.pem", dir .. "/certs/localhost.key"
      serve("", "")
      assert.same({ ("cert check %s %s"):format(pem, key),
        ("cert create --dir %s/certs"):format(dir) }, asked())
      run("mkdir %s/certs; rm %s/asked", quote(dir), quote(dir))
      serve("", "")
      assert.same({ ("cert check %s %s"):format(pem, key) }, asked())
    end)

    it("ends where certificates cannot be made", function()
      serve("", "")
      local output, status = run("cd %s && REFUSE=1 scripts/serve a.lua 2>/dev/null", quote(dir))
      assert.equal(78, status)
      assert.equal("", output)
    end)

    it("names certificates as the setting takes them, wherever the tree is", function()
      local outer = dir
      dir = outer .. '/a "b\\c'
      finally(function()
        dir = outer
      end)
      local list, status = serve("", "a.lua")
      assert.equal(0, status)
      local escaped = dir:gsub('[\\"]', "\\%0")
      assert.equal(('tls=certificate="%s/certs/localhost.pem" key="%s/certs/localhost.key"')
        :format(escaped, escaped), list[8])
    end)
  end)

  describe("test", function()
    -- The real script over spec files made here; building is not its subject.
    local function test(files)
      run("mkdir -p %s/scripts", quote(dir))
      run("cp scripts/test scripts/packages %s/scripts", quote(dir))
      write(dir .. "/Makefile", "all probe: ;\n")
      local names = {}
      for name, text in pairs(files) do
        write(dir .. "/spec/" .. name, text)
        names[#names + 1] = "spec/" .. name
      end
      table.sort(names)
      local output, status = run("%s/scripts/test %s", quote(dir), table.concat(names, " "))
      local list = lines(output)
      return list[#list], status, output
    end

    local GOOD = 'describe("n", function() it("a", function() end) it("b", function() end) end)'

    it("counts what passed, the build included, in its closing line", function()
      local closing, status, output = test({ ["a_spec.lua"] = GOOD, ["b_spec.lua"] = GOOD })
      assert.equal("5 passed, 0 failed", closing, output)
      assert.equal(0, status)
    end)

    local bad = {
      { "a failure", 'it("f", function() assert.equal(1, 2) end)' },
      { "an error", 'it("f", function() error("planted") end)' },
      { "a skipped spec", 'pending("f")' },
      { "a file without specs", "" },
      { "a file that is no Lua", "function" },
      { "a process that ends early and well", 'it("f", function() os.exit(0) end)' },
      {
        "a process that ends badly after its specs",
        GOOD .. ' require("busted").subscribe({ "exit" }, function() os.exit(3) end)',
        good = 2,
      },
      { "a process that is killed", 'it("f", function() os.execute("kill -9 $PPID") end)' },
    }
    for _, case in ipairs(bad) do
      it("counts as failed " .. case[1], function()
        local files = { ["a_spec.lua"] = GOOD, ["b_spec.lua"] = case[2] }
        local closing, status, output = test(files)
        local good = 3 + (case.good or 0)
        assert.equal(("%d passed, 1 failed"):format(good), closing, output)
        assert.equal(1, status)
      end)
    end

    it("shows what a failing spec said", function()
      local failing = { ["a_spec.lua"] = 'it("f", function() error("planted words") end)' }
      local _, _, output = test(failing)
      assert.is_truthy(output:find("planted words", 1, true))
    end)

    it("fails when a named file is not there", function()
      local output, status = run("scripts/test spec/unit/not_there_spec.lua")
      assert.equal(1, status)
      assert.equal("scripts/test: no such spec: spec/unit/not_there_spec.lua\n", output)
    end)

    it("fails when a tool is missing", function()
      local tools = dir .. "/bin"
      run("mkdir %s", quote(tools))
      for _, tool in ipairs({ "bash", "sh", "dirname", "readlink", "mktemp", "rm", "dpkg-query",
        "grep", "node", "gcc", "make" }) do
        run("ln -s $(command -v %s) %s", tool, quote(tools))
      end
      local output, status = run("PATH=%s scripts/test", quote(tools))
      assert.equal(1, status)
      assert.equal("scripts/test: clang is missing", (lines(output))[1], output)
    end)
  end)

  it("let continuous integration call scripts/test and nothing else", function()
    local words = {}
    for line in io.lines(".ci/run") do
      if not line:find("^#") and line:find("%S") then words[#words + 1] = line end
    end
    assert.equal(1, #words)
    assert.is_truthy(words[1]:find("^exec .*scripts/test\"$"))
  end)
end)
