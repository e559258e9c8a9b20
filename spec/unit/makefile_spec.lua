-- The makefile's own rules, on a build directory of this spec.
local server = require("spec.support.server")
local temp = require("spec.support.temp")

describe("the makefile", function()
  local dir = temp.dir()
  teardown(function()
    dir:remove()
  end)

  -- Makes an object with a prefix; true when that took the compiler.
  local function compiles(object, prefix)
    local pipe = assert(io.popen(("unset LD_PRELOAD ASAN_OPTIONS MAKEFLAGS MAKELEVEL; "
      .. "make CC=gcc BUILD=%s PREFIX=%s %s/%s 2>&1"):format(dir.path, prefix, dir.path, object)))
    local output = pipe:read("a")
    assert(pipe:close(), output)
    return output:find("gcc .* %-c %-o") ~= nil
  end

  it("compiles what knows the prefix again for another one, and nothing else", function()
    assert.is_true(compiles("proc/options.o", "/a"))
    assert.is_true(compiles("proc/main.o", "/a"))
    assert.is_false(compiles("proc/options.o", "/a"))
    assert.is_true(compiles("proc/options.o", "/b"))
    assert.is_false(compiles("proc/main.o", "/b"))
  end)

  it("installs the man page and the completion where man and bash look", function()
    local pipe = assert(io.popen("unset LD_PRELOAD ASAN_OPTIONS MAKEFLAGS MAKELEVEL; "
      .. "make -n PREFIX=/usr DESTDIR=" .. dir.path .. " install 2>&1"))
    local output = pipe:read("a")
    assert(pipe:close(), output)
    for _, path in ipairs({ "/usr/share/man/man8/moonquay-http.8",
      "/usr/share/bash-completion/completions/moonquay" }) do
      assert.matches(dir.path .. path .. "\n", output, 1, true)
    end
  end)

  it("makes certificates, and keeps them", function()
    local function certs()
      local pipe = assert(io.popen(("unset LD_PRELOAD ASAN_OPTIONS MAKEFLAGS MAKELEVEL; "
        .. "make -s V=%s CERTS=%s/certs certs 2>&1"):format(server.build, dir.path)))
      local output = pipe:read("a")
      assert(pipe:close(), output)
      return output, dir:read("certs/localhost.pem"), dir:read("certs/ca.key")
    end
    local output, cert, key = certs()
    assert.matches("certs/localhost.pem, localhost.key: made", output, 1, true)
    assert.matches("BEGIN CERTIFICATE", cert)
    local again, same_cert, same_key = certs()
    assert.matches("certs/localhost.pem, localhost.key: kept", again, 1, true)
    assert.equal(cert, same_cert)
    assert.equal(key, same_key)
  end)
end)
