local lfs = require("lfs")

-- What runs here must not inherit the sanitizers of a sanitized build, nor the caller's make.
local CLEAN = "env -u LD_PRELOAD -u ASAN_OPTIONS -u MAKEFLAGS -u MFLAGS -u MAKELEVEL "

-- Output and exit status of a shell command.
local function run(command)
  local pipe = assert(io.popen("{ " .. CLEAN .. command .. "; } 2>&1; echo \"exit $?\""))
  local output = pipe:read("a")
  pipe:close()
  return output:gsub("exit %d+\n$", ""), tonumber(output:match("exit (%d+)\n$"))
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
end

local function files(folder)
  local list = {}
  for name in lfs.dir(folder) do
    if lfs.attributes(folder .. "/" .. name, "mode") == "file" then
      list[#list + 1] = folder .. "/" .. name
    end
  end
  return list
end

local function targets()
  local names = read("core/fuzz/fuzz.mk"):match("FUZZ_TARGETS := ([^\n]+)")
  local list = {}
  for name in names:gmatch("%S+") do
    list[#list + 1] = name
  end
  return list
end

describe("the fuzz targets", function()
  it("are one a reader", function()
    assert.same({ "head", "chunked", "target", "cookies", "multipart", "query", "prefix",
      "proxy", "forwarded", "h2", "h2_client", "pem", "control" }, targets())
  end)

  for _, name in ipairs(targets()) do
    it(("have a source and at least 20 different files for %s"):format(name), function()
      assert.equal("file", lfs.attributes("core/fuzz/" .. name .. ".c", "mode"))
      local seen, count = {}, 0
      for _, path in ipairs(files("core/fuzz/corpus/" .. name)) do
        local text = read(path)
        assert.is_nil(seen[text], path)
        seen[text] = true
        count = count + 1
      end
      assert.is_true(count >= 20, count .. " files")
    end)
  end

  it("leave no corpus without a target", function()
    local known = {}
    for _, name in ipairs(targets()) do
      known[name] = true
    end
    for name in lfs.dir("core/fuzz/corpus") do
      assert.is_true(known[name] or name:sub(1, 1) == ".", name)
    end
  end)
end)

-- { target, source, what stands there, the bug, only these sources are built, what must be said }
local bugs = {
  { "query", "core/http/chars_priv.h", "text.len < 3 || ", "",
    "core/base/buf.c core/base/err.c core/base/mem.c core/http/query.c "
      .. "core/http/chars.c",
    "SUMMARY: AddressSanitizer: heap%-buffer%-overflow" },
  { "cookies", "core/http/cookie.c", "value.len >= 2", "value.len != 1",
    "core/base/buf.c core/base/err.c core/base/mem.c core/http/cookie.c core/http/date.c "
      .. "core/http/fields.c core/http/chars.c",
    "SUMMARY: AddressSanitizer: heap%-buffer%-overflow" },
  { "multipart", "core/http/multipart.c", " || at + len == text.len)", ")",
    "core/base/buf.c core/base/err.c core/base/mem.c core/http/multipart.c "
      .. "core/http/media_type.c core/http/fields.c core/http/chars.c",
    "%-%-%- byte by byte" },
}

describe("a planted bug", function()
  local folder

  before_each(function()
    local name = run("mktemp -d")
    folder = assert(name:match("^%S+"))
  end)

  after_each(function()
    run("rm -rf " .. folder)
  end)

  -- Builds a target from the copy in folder and runs it over its corpus; output and status.
  local function fuzz(target, sources)
    local make = ("make -s -C %s FUZZ_SRC=\"%s\" FUZZ_BUILD=build/fuzz SECONDS=20")
      :format(folder, sources)
    local output, status = run(make .. " build/fuzz/bin/" .. target)
    assert.equal(0, status, output)
    return run(make .. " fuzz-run-" .. target)
  end

  for _, bug in ipairs(bugs) do
    local target, source, good, bad, sources, said = table.unpack(bug)

    it("in " .. source .. " is found, reported and kept as a file", function()
      assert.equal("", (run("cp -r core Makefile " .. folder)))
      run("rm -rf " .. folder .. "/core/fuzz/found")
      local path = folder .. "/" .. source
      local text = read(path)
      local at, to = text:find(good, 1, true)
      assert.is_truthy(at, "the place for the bug is gone")
      assert.is_nil(text:find(good, to, true))
      write(path, text:sub(1, at - 1) .. bad .. text:sub(to + 1))

      local output, status = fuzz(target, sources)
      assert.not_equal(0, status)
      assert.matches(said, output)
      assert.matches("fuzz " .. target .. ": FAILED", output, 1, true)
      assert.equal(1, #files(folder .. "/core/fuzz/found"))
    end)
  end
end)
