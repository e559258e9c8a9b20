local form = require("moonquay.probe").form

local is = {
  { "is itself", "text/html", "text/html", true },
  { "is itself in any case", "Text/HTML", "text/html", true },
  { "is itself with parameters", "text/html; charset=utf-8", "text/html", true },
  { "is itself with blanks around", " text/html\t; a=b", "text/html", true },
  { "is not another subtype", "text/plain", "text/html", false },
  { "is not a longer one", "text/html5", "text/html", false },
  { "is not a shorter one", "text/htm", "text/html", false },
  { "is nothing when empty", "", "text/html", false },
  { "is nothing when only parameters are there", ";charset=utf-8", "text/html", false },
}

local parameters = {
  { "takes a token", "a/b; charset=utf-8", "charset", "utf-8" },
  { "takes a name in any case", "a/b; ChArSeT=UTF-8", "charset", "UTF-8" },
  { "takes the second of two", "a/b;x=1;charset=utf-8", "charset", "utf-8" },
  { "takes a quoted value", 'a/b; charset="utf-8"', "charset", "utf-8" },
  { "takes an empty quoted value", 'a/b; charset=""', "charset", "" },
  { "takes escapes off a quoted value", [[a/b; x="a\"b\\c\d"]], "x", [[a"b\cd]] },
  { "finds no parameter inside quotes", 'a/b; x="; y=1"', "y", nil },
  { "takes ';' and '=' inside quotes", 'a/b; x="c;d=e"; y=2', "x", "c;d=e" },
  { "goes on behind a quoted value", 'a/b; x="c;d=e" ; y=2', "y", "2" },
  { "allows blanks around ';'", "a/b \t;\t x=1", "x", "1" },
  { "allows missing parameters", "a/b;; x=1 ;", "x", "1" },
  { "has none when absent", "a/b; x=1", "y", nil },
  { "has none without ';'", "a/b", "x", nil },
  { "has none in an empty value", "", "x", nil },
  { "refuses blanks around '='", "a/b; x = 1", "x", nil },
  { "refuses an empty token", "a/b; x=", "x", nil },
  { "refuses a name without a value", "a/b; x", "x", nil },
  { "refuses an empty name", "a/b; =1; x=2", "x", nil },
  { "refuses a quote that does not end", 'a/b; x="1', "x", nil },
  { "refuses a quote that ends in an escape", [[a/b; x="1\]], "x", nil },
  { "refuses bytes behind a quoted value", 'a/b; x="1"2', "x", nil },
  { "refuses two tokens", "a/b; x=1 2", "x", nil },
  { "refuses a byte that is in no token", "a/b; x=a@b", "x", nil },
  { "refuses what is broken further on", "a/b; x=1; y", "x", nil },
  { "refuses a parameter given twice", "a/b; x=1; X=2", "x", nil },
}

describe("a media type (RFC 9110 section 8.3.1)", function()
  for _, case in ipairs(is) do
    it(case[1], function()
      assert.equal(case[4], form.media_type_is(case[2], case[3]))
    end)
  end
end)

describe("a media type's parameter (RFC 9110 section 5.6.6)", function()
  for _, case in ipairs(parameters) do
    it(case[1], function()
      assert.equal(case[4], form.media_type_parameter(case[2], case[3]))
    end)
  end
end)
