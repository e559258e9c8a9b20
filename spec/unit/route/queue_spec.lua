local probe = require("moonquay.probe").tally

local MANY = 1 << 40

-- Puts entries named 1 … count, each with as many bytes as its name says.
local function fill(queues, slot, count)
  for name = 1, count do
    assert.is_true(queues:put(slot, name, name, MANY, MANY))
  end
end

local function take_all(queues, slot)
  local names = {}
  for name in function() return queues:take(slot) end do
    names[#names + 1] = name
  end
  return names
end

describe("a request queue", function()
  local queues
  before_each(function()
    queues = probe.queues(2)
  end)

  it("gives the oldest first", function()
    fill(queues, 0, 5)
    assert.same({ 1, 2, 3, 4, 5 }, take_all(queues, 0))
    assert.is_nil(queues:take(0))
  end)

  for _, gone in ipairs({ 1, 3, 5 }) do
    it(("keeps the order when number %d of 5 leaves"):format(gone), function()
      fill(queues, 0, 5)
      assert.is_true(queues:remove(0, gone))
      assert.same({ length = 4, queued = 4, bytes = 15 - gone, enqueued = 5 }, queues:seen(0))
      local left = { 1, 2, 3, 4, 5 }
      table.remove(left, gone)
      assert.same(left, take_all(queues, 0))
    end)
  end

  it("counts what waits and its bytes, and counts back when it is taken or leaves", function()
    fill(queues, 0, 3)
    assert.same({ length = 3, queued = 3, bytes = 6, enqueued = 3 }, queues:seen(0))
    assert.equal(1, queues:take(0))
    assert.same({ length = 2, queued = 2, bytes = 5, enqueued = 3 }, queues:seen(0))
    queues:remove(0, 3)
    assert.same({ length = 1, queued = 1, bytes = 2, enqueued = 3 }, queues:seen(0))
    assert.equal(2, queues:take(0))
    assert.same({ length = 0, queued = 0, bytes = 0, enqueued = 3 }, queues:seen(0))
  end)

  it("is of its worker alone, and counted with the others'", function()
    fill(queues, 0, 2)
    fill(queues, 1, 3)
    assert.same({ length = 2, queued = 5, bytes = 9, enqueued = 5 }, queues:seen(0))
    assert.same({ length = 3, queued = 5, bytes = 9, enqueued = 5 }, queues:seen(1))
    assert.same({ 1, 2, 3 }, take_all(queues, 1))
    assert.same({ 1, 2 }, take_all(queues, 0))
  end)

  -- What is put: slot, bytes, limit, limit in bytes; whether there is room for it.
  local cases = {
    { "up to its limit", { { 0, 1, 2, MANY, true }, { 0, 1, 2, MANY, true },
      { 0, 1, 2, MANY, false } } },
    { "up to its limit over all workers", { { 0, 1, 2, MANY, true }, { 1, 1, 2, MANY, true },
      { 0, 1, 2, MANY, false }, { 1, 1, 2, MANY, false } } },
    { "up to its limit in bytes", { { 0, 60, MANY, 100, true }, { 0, 40, MANY, 100, true },
      { 0, 1, MANY, 100, false } } },
    { "up to its limit in bytes over all workers", { { 0, 60, MANY, 100, true },
      { 1, 41, MANY, 100, false }, { 1, 40, MANY, 100, true }, { 0, 1, MANY, 100, false } } },
    { "no single entry above its limit in bytes", { { 0, 101, MANY, 100, false } } },
    { "a smaller one behind one that was too large", { { 0, 99, 9, 100, true },
      { 0, 2, 9, 100, false }, { 0, 1, 9, 100, true } } },
    { "nothing when the limit is lowered below what waits", { { 0, 1, 3, MANY, true },
      { 0, 1, 3, MANY, true }, { 0, 1, 1, MANY, false } } },
    { "more when the limit is raised", { { 0, 1, 1, MANY, true }, { 0, 1, 1, MANY, false },
      { 0, 1, 2, MANY, true } } },
  }
  for _, case in ipairs(cases) do
    it("takes " .. case[1], function()
      local count, bytes = 0, 0
      for name, put in ipairs(case[2]) do
        local ok, err = queues:put(put[1], name, put[2], put[3], put[4])
        assert.equal(put[5] or nil, ok, "entry " .. name)
        if ok then
          count, bytes = count + 1, bytes + put[2]
        else
          assert.equal("limit", err)
        end
        local seen = queues:seen(0)
        assert.same({ count, bytes, count }, { seen.queued, seen.bytes, seen.enqueued })
      end
    end)
  end

  it("has room again for what a dead worker's held", function()
    assert.is_true(queues:put(0, 1, 50, 3, 100))
    assert.is_true(queues:put(0, 2, 30, 3, 100))
    assert.is_true(queues:put(1, 3, 20, 3, 100))
    assert.is_nil(queues:put(1, 4, 1, 3, 100))
    queues:clear(0)
    assert.same({ length = 1, queued = 1, bytes = 20, enqueued = 3 }, queues:seen(1))
    assert.is_true(queues:put(1, 4, 80, 3, 100))
    assert.is_nil(queues:put(1, 5, 1, 3, 100))
    assert.same({ 3, 4 }, take_all(queues, 1))
  end)
end)
