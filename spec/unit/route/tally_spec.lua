local probe = require("moonquay.probe").server
local temp = require("spec.support.temp")

describe("the tally", function()
  it("sums the slots for whoever attaches", function()
    local seen = probe.tally(4, 4)
    assert.equal(4, seen.slots)
    assert.equal(0 + 1 + 2 + 3, seen.requests)
    assert.equal(10 * (0 + 1 + 2 + 3), seen.served)
  end)

  it("counts only the slots in use", function()
    local seen = probe.tally(1024, 3)
    assert.equal(3, seen.slots)
    assert.equal(0 + 1 + 2, seen.requests)
  end)

  it("forgets the gauges of a dead worker and keeps its counters", function()
    local seen = probe.tally(4, 4, 3)
    assert.equal(0 + 1 + 2, seen.requests)
    assert.equal(10 * (0 + 1 + 2 + 3), seen.served)
  end)

  it("cannot be cut short under another's feet", function()
    assert.is_false(probe.tally(4, 4).can_shrink)
  end)

  describe("does not attach", function()
    local dir = temp.dir()
    teardown(function()
      dir:remove()
    end)
    local cases = {
      { "an empty file", "" },
      { "a short file", "abc" },
      { "another file", ("x"):rep(4096) },
      { "a head that promises more slots than there are",
        string.pack("=I4I4I4c52", 0x6d717931, 128, 1000, "") .. ("\0"):rep(128) },
    }
    for index, case in ipairs(cases) do
      it(case[1], function()
        assert.is_false(probe.tally_attach(dir:write("file" .. index, case[2])))
      end)
    end
  end)
end)
