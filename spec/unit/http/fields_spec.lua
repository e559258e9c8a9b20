local http = require("moonquay.probe").http

--- Each byte for which valid says yes, as one string.
local function accepted(valid, before, behind)
  local bytes = {}
  for byte = 0, 255 do
    if valid(before .. string.char(byte) .. behind) then
      bytes[#bytes + 1] = string.char(byte)
    end
  end
  return table.concat(bytes)
end

local function range(from, to)
  local bytes = {}
  for byte = from, to do
    bytes[#bytes + 1] = string.char(byte)
  end
  return table.concat(bytes)
end

describe("field names (RFC 9110 section 5.1)", function()
  local tchar = "!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~"

  it("are made of tchar and of nothing else", function()
    assert.equal(tchar, accepted(http.name_valid, "", ""))
    assert.equal(tchar, accepted(http.name_valid, "x", "y"))
  end)

  it("have at least one byte", function()
    assert.is_false(http.name_valid(""))
  end)

  it("are known without regard to case", function()
    local known = {
      "accept", "accept-encoding", "accept-language", "authorization", "cache-control",
      "connection", "content-length", "content-type", "cookie", "date", "expect", "host",
      "location", "referer", "server", "set-cookie", "te", "trailer", "transfer-encoding",
      "upgrade", "user-agent",
    }
    for _, name in ipairs(known) do
      assert.equal(name, http.known_name(name))
      assert.equal(name, http.known_name(name:upper()))
    end
  end)

  it("are known in full or not at all", function()
    local names = { "accept", "accept-encoding", "connection", "host", "te", "transfer-encoding" }
    for _, name in ipairs(names) do
      for at = 1, #name do
        for _, byte in ipairs({ "\0", "\r", "_", "x", "\xed", "\x0d", "@" }) do
          local other = name:sub(1, at - 1) .. byte .. name:sub(at + 1)
          local shown = other ~= name and http.known_name(other) or nil
          assert.is_nil(shown, ("%q is taken for %s"):format(other, name))
        end
      end
      assert.is_nil(http.known_name(name .. "s"))
      assert.is_nil(http.known_name(name:sub(1, -2)))
    end
    assert.is_nil(http.known_name(""))
  end)
end)

describe("field values (RFC 9110 section 5.5)", function()
  local good = "\t" .. range(0x20, 0x7E) .. range(0x80, 0xFF)

  it("have no control but HTAB, wherever it stands", function()
    assert.equal(good, accepted(http.value_valid, "", ""))
    for before = 1, 17 do
      for _, behind in ipairs({ 1, 2, 6, 7, 8, 9, 15, 16, 17, 33, 50 }) do
        local left, right = ("v"):rep(before), ("w"):rep(behind)
        assert.equal(good, accepted(http.value_valid, left, right))
      end
    end
  end)

  it("may hold HTAB beside bytes that are refused", function()
    assert.is_true(http.value_valid("\t\t\t\t\t\t\t\t\t"))
    assert.is_false(http.value_valid("abc\tde\1fgh"))
    assert.is_false(http.value_valid("abc\tde\x7ffgh"))
  end)

  it("may be empty", function()
    assert.is_true(http.value_valid(""))
  end)
end)

describe("fields (RFC 9110 section 5.3)", function()
  local lines = {
    { "Accept", "a" }, { "X-One", "1" }, { "accept", "b" }, { "x-one", "2" }, { "X-Two", "" },
  }

  it("keep their order and their spelling", function()
    assert.same(lines, http.fields(lines):list())
  end)

  it("hold more lines than they first had room for", function()
    local many = {}
    for i = 1, 100 do
      many[i] = { "X-" .. i, tostring(i) }
    end
    assert.same(many, http.fields(many):list())
  end)

  it("find a line without regard to case, from an index on", function()
    local fields = http.fields(lines)
    assert.same({ "a", 1 }, { fields:find("ACCEPT") })
    assert.same({ "b", 3 }, { fields:find("ACCEPT", 2) })
    assert.same({}, { fields:find("accept", 4) })
    assert.same({ "1", 2 }, { fields:find("x-ONE") })
    assert.same({ "2", 4 }, { fields:find("x-one", 3) })
    assert.same({ "b", 3 }, { fields:find_id("Accept", 2) })
    assert.same({}, { fields:find("host") })
    assert.same({}, { fields:find("x-none") })
    assert.same({}, { fields:find_id("host") })
  end)

  it("remove every line of a name and count them", function()
    local fields = http.fields(lines)
    assert.equal(2, fields:remove("X-ONE"))
    assert.same({ lines[1], lines[3], lines[5] }, fields:list())
    assert.equal(0, fields:remove("x-one"))
    assert.equal(2, fields:remove("accept"))
    assert.same({ lines[5] }, fields:list())
  end)

  it("set one line at the place of the first", function()
    local fields = http.fields(lines)
    fields:set("x-ONE", "3")
    assert.same({ lines[1], { "x-ONE", "3" }, lines[3], lines[5] }, fields:list())
  end)

  it("set a line at the end when there was none", function()
    local fields = http.fields({ { "a", "1" } })
    fields:set("Host", "h")
    fields:set("b", "2")
    assert.same({ { "a", "1" }, { "Host", "h" }, { "b", "2" } }, fields:list())
  end)

  local combined = {
    { "joins values with a comma", { { "x", "1" }, { "y", "2" }, { "X", "3" } }, "x", "1, 3" },
    { "joins cookies with a semicolon (RFC 9113 section 8.2.3)",
      { { "Cookie", "a=1" }, { "cookie", "b=2" } }, "cookie", "a=1; b=2" },
    { "leaves one line as it is", { { "x", "1" } }, "X", "1" },
    { "gives an empty value for an empty line", { { "x", "" } }, "x", "" },
    { "keeps empty values in their place",
      { { "x", "" }, { "x", "b" }, { "x", "" } }, "x", ", b, " },
    { "gives nothing for no line", { { "x", "1" } }, "y", nil },
  }
  for _, case in ipairs(combined) do
    it("combined " .. case[1], function()
      assert.equal(case[4], (http.fields(case[2]):combined(case[3])))
    end)
  end
end)

describe("lists in fields (RFC 9110 section 5.6.1)", function()
  local cases = {
    { "a", { "a" } },
    { "a,b", { "a", "b" } },
    { " a \t,\t b ", { "a", "b" } },
    { "a,,b", { "a", "", "b" } },
    { "a,", { "a", "" } },
    { "", { "" } },
    { 'a;x="1,2", b', { 'a;x="1,2"', "b" } },
    { [["\",", c]], { [["\","]], "c" } },
  }
  for _, case in ipairs(cases) do
    it(("takes %q apart"):format(case[1]), function()
      assert.same(case[2], http.list(case[1]))
    end)
  end

  it("are searched for a token in each line, without regard to case", function()
    local fields = http.fields({
      { "Connection", "foo, Close" }, { "Upgrade", "keep-alive" }, { "connection", "bar" },
    })
    assert.is_true(fields:has_token("connection", "close"))
    assert.is_true(fields:has_token("connection", "BAR"))
    assert.is_false(fields:has_token("connection", "keep-alive"))
    assert.is_false(fields:has_token("connection", "clos"))
    assert.is_false(fields:has_token("te", "trailers"))
  end)
end)
