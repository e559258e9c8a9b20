local lfs = require("lfs")
local probe = require("moonquay.probe").logs
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")

describe("a log's file", function()
  local dir, path

  before_each(function()
    dir = temp.dir()
    path = dir.path .. "/log"
  end)

  after_each(function()
    dir:remove()
  end)

  -- What lies in the folder, as "name=text"; a link is "name>".
  local function content()
    local list = {}
    for name in lfs.dir(dir.path) do
      local mode = lfs.symlinkattributes(dir.path .. "/" .. name, "mode")
      if mode == "link" then
        list[#list + 1] = name .. ">"
      elseif mode == "file" then
        list[#list + 1] = name .. "=" .. dir:read(name)
      end
    end
    table.sort(list)
    return table.concat(list, " ")
  end

  local function write(names)
    for name in names:gmatch("%S+") do
      dir:write(name:match("^[^=]+"), name:match("=(.*)$"))
    end
  end

  describe("is opened", function()
    it("anew, readable for owner and group alone", function()
      local fd = assert(probe.log_open(path))
      assert.is_false(probe.log_close(fd))
      assert.matches("^rw%-[r-]%-%-%-%-%-$", lfs.attributes(path, "permissions"))
      assert.equal("log=", content())
    end)

    it("for appending, and not for programs that are started", function()
      local fd = assert(probe.log_open(path))
      local flags = { probe.log_flags(fd) }
      probe.log_close(fd)
      assert.same({ true, true }, flags)
    end)

    it("as it is", function()
      write("log=a")
      local fd = assert(probe.log_open(path))
      sys.write(fd, "b")
      probe.log_close(fd)
      assert.equal("log=ab", content())
    end)

    it("as the standard error for -, which stays open", function()
      assert.equal(2, probe.log_open("-"))
      assert.is_true(probe.log_close(2))
    end)

    for _, name in ipairs({ "off", "" }) do
      it(("not at all for %q"):format(name), function()
        assert.equal(-1, probe.log_open(name))
        assert.is_false(probe.log_close(-1))
      end)
    end

    it("or a text says which file could not be", function()
      local fd, text, exit_code = probe.log_open(dir.path .. "/none/log")
      assert.is_nil(fd)
      assert.equal("cannot write the log " .. dir.path .. "/none/log: No such file or directory",
        text)
      assert.equal(73, exit_code)
    end)
  end)

  describe("is full", function()
    local cases = {
      { "at its size", 3, true },
      { "above it", 2, true },
      { "not below it", 4, false },
      { "never without one", 0, false },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        write("log=abc")
        assert.equal(case[3], probe.log_full(path, case[2]))
      end)
    end

    it("never when it is no regular file", function()
      assert.is_false(probe.log_full("/dev/null", 1))
      assert.is_false(probe.log_full("off", 1))
    end)
  end)

  describe("is rotated", function()
    local cases = {
      { "to PATH.1", "log=a", 3, "log.1=a" },
      { "and older ones move on", "log=c log.1=b log.2=a", 3, "log.1=c log.2=b log.3=a" },
      { "and the oldest goes", "log=d log.1=c log.2=b log.3=a", 3, "log.1=d log.2=c log.3=b" },
      { "and one is kept", "log=b log.1=a", 1, "log.1=b" },
      { "and none is kept", "log=b", 0, "" },
      { "and other files stay", "log=e log.1=d log.4=c log.old=b blog=a", 2,
        "blog=a log.1=e log.2=d log.4=c log.old=b" },
      { "over a gap", "log=b log.2=a", 3, "log.1=b log.3=a" },
      { "beyond nine", "log=b log.9=a", 10, "log.10=a log.1=b" },
      { "not when there is none", "log.1=a", 3, "log.1=a" },
      { "to the most that can be kept", "log=a log.999=b", 1000, "log.1000=b log.1=a" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        write(case[2])
        assert.is_true(probe.log_rotate(path, case[3]))
        assert.equal(case[4], content())
      end)
    end

    for _, name in ipairs({ "-", "off", "" }) do
      it(("not for %q"):format(name), function()
        assert.is_true(probe.log_rotate(name, 3))
      end)
    end

    it("and a link moves itself", function()
      write("target=a")
      assert(lfs.link(dir.path .. "/target", path, true))
      assert.is_true(probe.log_rotate(path, 3))
      assert.equal("log.1> target=a", content())
    end)

    it("and a link to nothing moves itself", function()
      assert(lfs.link(dir.path .. "/target", path, true))
      assert.is_true(probe.log_rotate(path, 3))
      assert.equal("log.1>", content())
    end)

    it("and a link is removed itself", function()
      write("target=a")
      assert(lfs.link(dir.path .. "/target", path, true))
      assert.is_true(probe.log_rotate(path, 0))
      assert.equal("target=a", content())
    end)

    it("and a link in the way is replaced, not followed", function()
      write("target=a log=b")
      assert(lfs.link(dir.path .. "/target", path .. ".1", true))
      assert.is_true(probe.log_rotate(path, 1))
      assert.equal("log.1=b target=a", content())
    end)

    it("and its writers go on until they have the next", function()
      local fd = assert(probe.log_open(path))
      assert.is_true(probe.log_rotate(path, 1))
      sys.write(fd, "late")
      probe.log_close(fd)
      assert.equal("log.1=late", content())
    end)

    it("or a text says which file cannot be moved, and the newest stays", function()
      write("log=b log.1=a")
      assert(lfs.mkdir(path .. ".2"))
      local ok, text, exit_code = probe.log_rotate(path, 2)
      assert.is_nil(ok)
      assert.equal(("cannot rename the log %s.1 to %s.2: Is a directory"):format(path, path), text)
      assert.equal(73, exit_code)
      assert.equal("log.1=a log=b", content())
    end)

    it("or a text says which file cannot be removed", function()
      assert(lfs.mkdir(path))
      local ok, text = probe.log_rotate(path, 0)
      assert.is_nil(ok)
      assert.equal(("cannot remove the log %s: Is a directory"):format(path), text)
    end)

    it("only with a bounded number of old ones", function()
      write("log=a")
      local ok, text = probe.log_rotate(path, 1001)
      assert.is_nil(ok)
      assert.equal("cannot keep 1001 old files of the log " .. path .. ", only 1000", text)
      assert.equal("log=a", content())
    end)

    it("only with a name that has room for a number", function()
      local long = dir.path .. ("/."):rep((4090 - #path) // 2) .. "/log"
      write("log=a")
      local ok, text = probe.log_rotate(long, 1)
      assert.is_nil(ok)
      assert.equal(1, text:find("the log's name is too long to be rotated: " .. dir.path, 1, true))
      assert.equal("log=a", content())
    end)
  end)
end)
