local json = require("moonquay.probe").form.json

-- A table nested so deep, the innermost empty.
local function nested(depth)
  local value = {}
  for _ = 2, depth do
    value = { value }
  end
  return value
end

local function itself()
  local value = { name = "x" }
  value.again = value
  return value
end

-- An array whose keys next() does not give in order.
local function backwards(size)
  local value = {}
  for i = size, 1, -1 do
    value[i] = i
  end
  return value
end

local written = {
  { "nil as null", nil, "null" },
  { "json.null as null", json.null, "null" },
  { "true", true, "true" },
  { "false", false, "false" },
  { "zero", 0, "0" },
  { "a negative integer", -17, "-17" },
  { "the largest integer", math.maxinteger, "9223372036854775807" },
  { "the smallest integer", math.mininteger, "-9223372036854775808" },
  { "an integer that no double holds", (1 << 53) + 1, "9007199254740993" },
  { "a whole float with its point", 5.0, "5.0" },
  { "a negative whole float", -5.0, "-5.0" },
  { "float zero", 0.0, "0.0" },
  { "negative zero", -0.0, "-0.0" },
  { "the result of a division", 10 / 2, "5.0" },
  { "a short fraction shortly", 0.1, "0.1" },
  { "a fraction of 16 digits", 0.1 + 0.7, "0.7999999999999999" },
  { "a fraction of 17 digits", 0.1 + 0.2, "0.30000000000000004" },
  { "the largest whole float below 1e15", 999999999999999.0, "999999999999999.0" },
  { "1e15", 1e15, "1e+15" },
  { "a large float", 1e300, "1e+300" },
  { "the largest float", 1.7976931348623157e308, "1.7976931348623157e+308" },
  { "the smallest float", 5e-324, "4.94065645841247e-324" },
  { "2^63 as a float", 2.0 ^ 63, "9.223372036854776e+18" },
  { "an empty string", "", '""' },
  { "a string", "abc", '"abc"' },
  { "a string with quote and backslash", 'a"b\\c', [["a\"b\\c"]] },
  { "line ends and tabs shortly", "\b\f\n\r\t", [["\b\f\n\r\t"]] },
  { "other controls as \\u", "\0\1\11\31", [["\u0000\u0001\u000b\u001f"]] },
  { "DEL, slash and '</' as they are", "\127</script>", '"\127</script>"' },
  { "U+2028 and U+2029 as they are", "\u{2028}\u{2029}", '"\u{2028}\u{2029}"' },
  { "the ends of the UTF-8 ranges",
    "\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}",
    '"\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}"' },
  { "an empty table as an object", {}, "{}" },
  { "an empty table marked as an array", json.array({}), "[]" },
  { "an empty table marked as an object", json.object({}), "{}" },
  { "an array", { 1, "a", true, json.null }, '[1,"a",true,null]' },
  { "a marked array", json.array({ 1, 2 }), "[1,2]" },
  { "an array filled backwards", backwards(9), "[1,2,3,4,5,6,7,8,9]" },
  { "an array half in order", (function()
    local value = { "a", "b" }
    value[4], value[3] = "d", "c"
    return value
  end)(), '["a","b","c","d"]' },
  { "an object", { a = 1 }, '{"a":1}' },
  { "an object with an odd name", { ['a"\n'] = 1 }, [[{"a\"\n":1}]] },
  { "an object with an empty name", { [""] = 1 }, '{"":1}' },
  { "arrays in arrays", { {}, { {} }, { { 1 } } }, "[{},[{}],[[1]]]" },
  { "128 levels", nested(128), ("["):rep(127) .. "{}" .. ("]"):rep(127) },
}

local refused = {
  { "a function", print, "a function", "" },
  { "a coroutine", coroutine.create(print), "a coroutine", "" },
  { "a userdata", io.stdout, "a userdata", "" },
  { "NaN", 0 / 0, "NaN", "" },
  { "infinity", { x = -1 / 0 }, "infinity", ".x" },
  { "a string that is no UTF-8", { "\xff" }, "a string that is not UTF-8", "[1]" },
  { "a name that is no UTF-8", { a = { ["\xc3"] = 1 } }, "a string that is not UTF-8", ".a" },
  { "what lies deep", { items = { 1, 2, { f = print } } }, "a function", ".items[3].f" },
  { "what lies behind an odd name", { ["a b"] = { _1 = { ["1"] = print } } }, "a function",
    '["a b"]._1["1"]' },
  { "what lies behind a name with controls", { ["\n\xc3\xa9"] = print }, "a function",
    '["???"]' },
  { "what lies behind a long name", { [("n"):rep(99)] = print }, "a function",
    "." .. ("n"):rep(40) },
  { "what lies behind elements out of order", (function()
    local value = backwards(9)
    value[7] = print
    return value
  end)(), "a function", "[7]" },
  { "an array with a hole", { 1, 2, nil, 4 },
    "a table whose keys are neither 1..n nor all strings", "" },
  { "an array that begins at 2", { x = { [2] = 1 } },
    "a table whose keys are neither 1..n nor all strings", ".x" },
  { "an array that begins at 0", { [0] = 1 },
    "a table whose keys are neither 1..n nor all strings", "" },
  { "a float key", { [1.5] = 1 }, "a table whose keys are neither 1..n nor all strings", "" },
  { "a boolean key", { [true] = 1 }, "a table whose keys are neither 1..n nor all strings", "" },
  { "an object with elements", json.object({ 1 }), "a table with a key that is no string", "" },
  { "an array with names", json.array({ a = 1 }),
    "a table marked as an array with a key that is a string", "" },
  { "129 levels", nested(129), "tables nested deeper than 128 (does one hold itself?)" },
  { "a table that holds itself", itself(),
    "tables nested deeper than 128 (does one hold itself?)" },
}

local not_utf8 = {
  "\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x80\x80", "\xe0\x9f\xbf",
  "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xe2\x82(", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
  "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xf0\x9f\x98", "\xf0\x9f\x98(",
}

describe("json.encode (RFC 8259)", function()
  for _, case in ipairs(written) do
    it("writes " .. case[1], function()
      assert.equal(case[3], json.encode(case[2]))
    end)
  end

  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. " and says where", function()
      local ok, message = pcall(json.encode, case[2])
      assert.is_false(ok)
      local where = case[4] and (case[4] == "" and "" or " at " .. case[4])
      local expected = "cannot write " .. case[3] .. " as JSON" .. (where or "")
      assert.equal(expected, where and message or message:sub(1, #expected))
    end)
  end

  it("refuses a table with elements and names, whichever comes first", function()
    for _, value in ipairs({ { 1, 2, x = 3 }, { x = 3, [1] = 1 }, { [1] = 1, y = 1, z = 2 } }) do
      assert.has_error(function() json.encode(value) end)
    end
  end)

  it("names the path through tables that hold each other", function()
    local _, message = pcall(json.encode, itself())
    assert.matches("as JSON at .again.again.again", message, 1, true)
  end)

  it("says in which line of the program it was called", function()
    local _, message = pcall(function() return json.encode(print) end)
    assert.matches("json_spec.lua:%d+: cannot write a function as JSON$", message)
  end)

  it("escapes and copies at every offset of a long string", function()
    for at = 1, 40 do
      for _, odd in ipairs({ '"', "\\", "\n", "\u{e9}", "\127", " ", "!" }) do
        local text = ("a"):rep(at - 1) .. odd .. ("b"):rep(40 - at)
        local escaped = odd:gsub('[\\"\n]', { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n" })
        assert.equal('"' .. text:gsub("^(a*).-(b*)$", function(a, b)
          return a .. escaped .. b
        end) .. '"', json.encode(text))
      end
    end
  end)

  it("refuses every kind of byte sequence that is not UTF-8, wherever it stands", function()
    for _, bad in ipairs(not_utf8) do
      for _, text in ipairs({ bad, "abcdefgh" .. bad, bad .. "abcdefgh" }) do
        assert.has_error(function() json.encode(text) end,
          "cannot write a string that is not UTF-8 as JSON")
      end
    end
  end)

  it("runs no metamethod", function()
    local value = setmetatable({ a = 1 }, {
      __index = error, __pairs = error, __len = error, __tostring = error,
    })
    assert.equal('{"a":1}', json.encode(value))
  end)

  it("refuses text above 256 MiB without running out of memory", function()
    local value = ("x"):rep(1 << 20)
    for _ = 1, 9 do
      value = { value, value }
    end
    assert.has_error(function() json.encode(value) end)
    assert.equal("1", json.encode(1))
  end)

  it("goes on well after a failure", function()
    pcall(json.encode, { "abc", print })
    assert.equal('["abc"]', json.encode({ "abc" }))
  end)

  it("writes an object's members in the order of next", function()
    local value, order = { a = 1, b = 2, c = 3, d = 4 }, {}
    for name, number in next, value do
      order[#order + 1] = ('"%s":%d'):format(name, number)
    end
    assert.equal("{" .. table.concat(order, ",") .. "}", json.encode(value))
  end)
end)

local read = {
  { "null", "null", json.null },
  { "booleans", "[true,false]", { true, false } },
  { "integers as integers", "[0,-0,17,9223372036854775807,-9223372036854775808]",
    { 0, 0, 17, math.maxinteger, math.mininteger } },
  { "floats as floats", "[0.0,1e2,-1.5E-1]", { 0.0, 100.0, -0.15 } },
  { "an empty string", '""', "" },
  { "escapes", [["\"\\\/\b\f\n\r\t\u00e9\u20ac"]], '"\\/\b\f\n\r\t\u{e9}\u{20ac}' },
  { "a surrogate pair", [["\ud83d\ude00"]], "\u{1f600}" },
  { "U+0000 in a string", [["a\u0000b"]], "a\0b" },
  { "an empty array", "[]", {} },
  { "an empty object", "{}", {} },
  { "an object", ' { "a" : { "b" : [ 1 , 2 ] } } ', { a = { b = { 1, 2 } } } },
  { "an empty name", '{"":1}', { [""] = 1 } },
  { "128 levels", ("["):rep(128) .. ("]"):rep(128), nested(128) },
}

local malformed = {
  { "nothing", "", "line 1" },
  { "blanks", " \n ", "line 2" },
  { "half an array", "[1,", "line 1 column 3" },
  { "two values", "1 2", "line 1 column 3" },
  { "a comma too many", "[1,]", "line 1 column 4" },
  { "an error in the third line", '{\n"a": 1,\nb: 2}', "line 3 column 1" },
  { "a bare word", "nul", "line 1" },
  { "single quotes", "'a'", "line 1" },
  { "a raw line end in a string", '"a\nb"', "line 1" },
  { "half a surrogate pair", [["\ud83d"]], "line 1" },
  { "a string that is not UTF-8", '"\xff"', "line 1" },
  { "a comment", "1 // one", "line 1" },
  { "NaN", "NaN", "line 1" },
  { "a leading zero", "01", "line 1" },
  { "a leading plus", "+1", "line 1" },
  { "an integer above 64 bits", "9223372036854775808", "line 1" },
  { "an integer below 64 bits", "-9223372036854775809", "line 1" },
  { "a float above all floats", "1e999", "line 1" },
  { "a name twice", '{"a":1,"a":2}', "line 1" },
  { "U+0000 in a name", [[{"a\u0000b":1}]], "line 1" },
  { "a NUL byte", '"a\0b"', "line 1" },
  { "129 levels", ("["):rep(129) .. ("]"):rep(129), "nested deeper than 128 levels" },
  { "ten thousand levels", ("["):rep(10000), "line 1" },
}

describe("json.decode (RFC 8259)", function()
  for _, case in ipairs(read) do
    it("reads " .. case[1], function()
      local value = json.decode(case[2])
      assert.same(case[3], value)
      if type(value) == "table" then
        for i, element in ipairs(value) do
          assert.equal(math.type(case[3][i]), math.type(element))
        end
      end
    end)
  end

  for _, case in ipairs(malformed) do
    it("refuses " .. case[1] .. " and says where", function()
      local value, err = json.decode(case[2])
      assert.is_nil(value)
      assert.equal("invalid", err.code)
      assert.equal(case[3], err.message:sub(1, #case[3]))
    end)
  end

  it("gives back what was written", function()
    local value = {
      list = { 1, 2.5, "x", true, json.null }, name = { deep = { deeper = "\u{1f600}\0" } },
      float = 5.0, integer = 5, tiny = 5e-324, third = 1 / 3,
    }
    local again = json.decode(json.encode(value))
    assert.same(value, again)
    assert.equal("float", math.type(again.float))
    assert.equal("integer", math.type(again.integer))
  end)

  it("keeps an empty array an array and an empty object an object", function()
    assert.equal('[[],{},[[]]]', json.encode(json.decode("[[],{},[[]]]")))
  end)

  it("takes nothing but a string", function()
    assert.has_error(function() json.decode({}) end)
    assert.has_error(function() json.decode() end)
  end)

  it("reads a thousand texts, good and broken, without keeping them", function()
    local text = '{"a":[' .. ('"xxxxxxxxxxxxxxxx",'):rep(500) .. '1]}'
    collectgarbage()
    local before = collectgarbage("count")
    for _ = 1, 1000 do
      assert(json.decode(text))
      assert(not json.decode(text .. "]"))
    end
    collectgarbage()
    collectgarbage()
    assert.is_true(collectgarbage("count") - before < 1024)
  end)
end)

describe("json.null, json.array and json.object", function()
  it("prints null as null, and null is only itself", function()
    assert.equal("null", tostring(json.null))
    assert.is_true(json.decode("null") == json.null)
    assert.is_false(json.null == nil)
  end)

  it("marks the table it is given, or a new one", function()
    local list = { 1 }
    assert.is_true(json.array(list) == list)
    assert.equal("[]", json.encode(json.array()))
    assert.equal("{}", json.encode(json.object()))
    assert.equal("{}", json.encode(json.object(json.array())))
  end)

  it("leaves another metatable alone", function()
    assert.has_error(function() json.array(setmetatable({}, {})) end)
    assert.has_error(function() json.object(1) end)
  end)
end)
