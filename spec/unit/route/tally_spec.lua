local probe = require("moonquay.probe").server
local tally = require("moonquay.probe").tally
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

describe("places below a limit", function()
  local kinds = {
    { "of the server", { limit = 3 }, 3 },
    { "of the server, one", { limit = 1 }, 1 },
    { "of an app", { limit = 3, limit_bytes = 1000000 }, 3 },
    { "of an app, by bytes", { limit = 1000, limit_bytes = 29 }, 2 },
  }

  local function race(options, more)
    local all = { processes = 4, rounds = 20000 }
    for _, list in ipairs({ options, more or {} }) do
      for name, value in pairs(list) do
        all[name] = value
      end
    end
    return tally.race(all)
  end

  for _, kind in ipairs(kinds) do
    it(kind[1] .. " are never given twice, and never lost", function()
      local seen = race(kind[2])
      assert.equal(4, seen.well)
      assert.equal(0, seen.excess)
      assert.equal(kind[3], seen.kept)
      assert.equal(kind[3], seen.sum)
      if kind[2].limit_bytes then
        assert.equal(10 * kind[3], seen.bytes)
      end
      assert.equal(0, seen.after)
    end)

    it(kind[1] .. " outlive who is killed while it holds the lock", function()
      local options = { limit = kind[2].limit + 1,
        limit_bytes = kind[2].limit_bytes and kind[2].limit_bytes + 10 }
      local seen = race(options, { victim = true })
      assert.equal(9, seen.victim)
      assert.equal(4, seen.well)
      assert.equal(0, seen.excess)
      assert.equal(kind[3], seen.kept) -- all but the one that the victim had taken before
      assert.equal(kind[3] + 1, seen.sum)
      assert.equal(kind[3], seen.cleared)
      assert.equal(1, seen.after)
    end)
  end

  it("are none when the limit is 0", function()
    assert.equal(0, race({ limit = 0 }).kept)
    assert.equal(0, race({ limit = 0, limit_bytes = 100 }).kept)
    assert.equal(0, race({ limit = 10, limit_bytes = 9 }).kept)
  end)
end)

describe("a slot that is cleared", function()
  it("loses the gauges of all apps and keeps their counters", function()
    local seen = tally.cleared()
    assert.equal(1001 * seen.columns, seen.before)
    assert.equal(seen.columns, seen.after)
    assert.equal(1001 * seen.apps, seen.counters)
  end)
end)
