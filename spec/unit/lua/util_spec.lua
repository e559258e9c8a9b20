local html = require("moonquay.html")
local url = require("moonquay.url")
local util = require("moonquay.util")

describe("util.gsub", function()
  local texts = { "", "a", "hello world", "aXbXc", "  x  ", "(a)(b)", "aaa", "a\nb" }
  local patterns = {
    "%w+", "%w*", "x*", "()", "(.)(.)", "^a", "^%s*", "%s*$", "X", "", ".", "%f[%w]%w+", "(a)()",
  }
  local limits = { false, 0, 1, 2 }
  local function mark(...)
    return "<" .. table.concat(table.pack(...), ",") .. ">"
  end

  it("replaces as string.gsub does", function()
    local checked = 0
    for _, text in ipairs(texts) do
      for _, pattern in ipairs(patterns) do
        for _, limit in ipairs(limits) do
          limit = limit or nil
          local expected = table.pack(text:gsub(pattern, mark, limit))
          local got = table.pack(util.gsub(text, pattern, mark, limit))
          assert.same(expected, got, ("%q %q %s"):format(text, pattern, tostring(limit)))
          checked = checked + 1
        end
      end
    end
    assert.equal(#texts * #patterns * #limits, checked)
  end)

  it("takes strings and tables as replacement", function()
    assert.equal("b-b", (util.gsub("a-a", "a", "b")))
    assert.equal("1-c", (util.gsub("a-c", "%w", { a = 1 })))
  end)

  it("keeps what the function returns nil or false for", function()
    assert.equal("aa", (util.gsub("aa", "a", function() end)))
  end)

  it("refuses other replacements", function()
    assert.error_matches(function()
      util.gsub("a", "a", function()
        return {}
      end)
    end, "invalid replacement value")
  end)

  it("lets its function yield", function()
    local run = coroutine.wrap(function()
      return (util.gsub("ab", "%w", function(letter)
        return coroutine.yield(letter)
      end))
    end)
    assert.equal("a", run())
    assert.equal("b", run("1"))
    assert.equal("12", run("2"))
  end)
end)

describe("util.sort", function()
  it("sorts lists of every length up to 40", function()
    for count = 0, 40 do
      local list, expected = {}, {}
      for i = 1, count do
        list[i] = (i * 7919) % 23
        expected[i] = list[i]
      end
      table.sort(expected)
      assert.same(expected, util.sort(list))
    end
  end)

  it("keeps the order of equal elements", function()
    local list = {}
    for i = 1, 20 do
      list[i] = { key = i % 3, at = i }
    end
    util.sort(list, function(a, b)
      return a.key < b.key
    end)
    for i = 2, 20 do
      local a, b = list[i - 1], list[i]
      assert.is_true(a.key < b.key or a.key == b.key and a.at < b.at)
    end
  end)

  it("lets its comparison yield", function()
    local run = coroutine.wrap(function()
      return util.sort({ 2, 1 }, function(a, b)
        coroutine.yield("waiting")
        return a < b
      end)
    end)
    assert.equal("waiting", run())
    assert.same({ 1, 2 }, run())
  end)
end)

describe("url", function()
  it("escapes all but unreserved characters (RFC 3986 section 2.3)", function()
    assert.equal("a-Z_0.~%20%2F%3F%C3%A9", url.escape("a-Z_0.~ /?é"))
    assert.equal("a/b%20c", url.escape("a/b c", "/"))
  end)

  it("encodes a query with its names in order", function()
    assert.equal("a=1%262&b=x&b=y", url.encode_query({ b = { "x", "y" }, a = "1&2" }))
  end)

  local segments = {
    { "a%2Fb", "/a%2Fb", "a/b" },
    { "a%2fb", "/a%2fb", "a/b" },
    { "100%", "/100%25", "100%" },
    { "a%2Fb", "/a%252Fb", "a%2Fb" },
    { "a%2Fb", "/a%25%32%46b", "a%2Fb" },
  }
  for _, case in ipairs(segments) do
    it(("gives the segment %s of %s as %s"):format(case[1], case[2], case[3]), function()
      assert.equal(case[3], url.segment_value(case[1], { target = case[2] }))
    end)
  end
end)

describe("html.escape", function()
  it("leaves nothing that ends a text or an attribute", function()
    assert.equal("&lt;a b=&quot;&#39;&amp;&quot;&gt;", html.escape("<a b=\"'&\">"))
  end)
end)
