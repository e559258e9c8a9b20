local form = require("moonquay.probe").form

local cases = {
  { "gives nothing for an empty text", "", {} },
  { "reads one pair", "a=1", { { "a", "1" } } },
  { "keeps order and repeated names", "b=1&a=2&b=3", { { "b", "1" }, { "a", "2" }, { "b", "3" } } },
  { "skips empty pieces", "&&a=1&&b=2&", { { "a", "1" }, { "b", "2" } } },
  { "gives nothing for separators alone", "&&&", {} },
  { "gives a name without '=' an empty value", "flag&x=1", { { "flag", "" }, { "x", "1" } } },
  { "keeps an empty name", "=v", { { "", "v" } } },
  { "keeps a pair of nothing", "=", { { "", "" } } },
  { "cuts at the first '=' only", "a=b=c", { { "a", "b=c" } } },
  { "reads '+' as a space in both", "a+b=c+d", { { "a b", "c d" } } },
  { "decodes escapes of either case", "%61=%4a%4A", { { "a", "JJ" } } },
  { "decodes an escaped '+' to a plus", "a=1%2B1", { { "a", "1+1" } } },
  { "takes escaped separators as data", "a%3Db=c%26d", { { "a=b", "c&d" } } },
  { "decodes only once", "a=%2541", { { "a", "%41" } } },
  { "decodes NUL and bytes above ASCII", "a=%00%C3%A9%ff", { { "a", "\0\195\169\255" } } },
  { "keeps an escape with a bad first digit", "a=%g1", { { "a", "%g1" } } },
  { "keeps an escape with a bad second digit", "a=%1g", { { "a", "%1g" } } },
  { "keeps an escape cut off by the end", "a=%4&b=%", { { "a", "%4" }, { "b", "%" } } },
  { "does not join an escape over a separator", "a=%4&1=b", { { "a", "%4" }, { "1", "b" } } },
  { "decodes behind an escape that is none", "a=%%41%", { { "a", "%A%" } } },
  { "keeps a byte that is no separator", "a=1;b=2", { { "a", "1;b=2" } } },
  { "keeps raw bytes above ASCII", "\195\169=\255", { { "\195\169", "\255" } } },
}

describe("query (WHATWG URL standard section 5)", function()
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.same(case[3], form.query(case[2]))
    end)
  end

  it("reads a thousand long pairs", function()
    local text, expected = {}, {}
    for i = 1, 1000 do
      text[i] = ("name%%20%d=%s"):format(i, ("%41"):rep(i % 50))
      expected[i] = { "name " .. i, ("A"):rep(i % 50) }
    end
    assert.same(expected, form.query(table.concat(text, "&")))
  end)
end)
