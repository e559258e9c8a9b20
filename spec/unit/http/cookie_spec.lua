local form = require("moonquay.probe").form

local read = {
  { "gives nothing for an empty field", "", {} },
  { "reads one pair", "a=1", { { "a", "1" } } },
  { "reads pairs in order", "a=1; b=2; a=3", { { "a", "1" }, { "b", "2" }, { "a", "3" } } },
  { "needs no space behind ';'", "a=1;b=2", { { "a", "1" }, { "b", "2" } } },
  { "drops blanks around names and values", " a\t = 1 ;\tb=2\t", { { "a", "1" }, { "b", "2" } } },
  { "keeps blanks inside", "a b=c d", { { "a b", "c d" } } },
  { "takes surrounding quotes off", 'a="1"; b=""', { { "a", "1" }, { "b", "" } } },
  { "keeps a quote that stands alone", 'a="; b="x; c=x"', { { "a", '"' }, { "b", '"x' },
    { "c", 'x"' } } },
  { "keeps quotes inside", 'a=x"y"z', { { "a", 'x"y"z' } } },
  { "keeps what a quote cannot protect", 'a="x;y"', { { "a", '"x' } } },
  { "cuts at the first '=' only", "a=b=c==", { { "a", "b=c==" } } },
  { "keeps an empty value", "a=; b=2", { { "a", "" }, { "b", "2" } } },
  { "skips a piece without '='", "flag; a=1; other", { { "a", "1" } } },
  { "skips a pair without a name", "=1; a=2; =; ==3", { { "a", "2" } } },
  { "skips empty pieces", ";; a=1;;", { { "a", "1" } } },
  { "takes a comma for data", "a=1,b=2", { { "a", "1,b=2" } } },
  { "does not decode", "a=%41+b", { { "a", "%41+b" } } },
  { "keeps bytes above ASCII", "a=\195\169", { { "a", "\195\169" } } },
}

local written = {
  { "writes name and value", { name = "sid", value = "31d4" }, "sid=31d4" },
  { "writes an empty value", { name = "sid", value = "" }, "sid=" },
  { "writes every attribute", {
    name = "sid", value = "x", path = "/", domain = "example.com", max_age = 3600,
    expires = 784111777, secure = true, http_only = true, same_site = "lax", partitioned = true,
  }, "sid=x; Path=/; Domain=example.com; Max-Age=3600; Expires=Sun, 06 Nov 1994 08:49:37 GMT; "
    .. "Secure; HttpOnly; SameSite=Lax; Partitioned" },
  { "writes a negative age", { name = "a", value = "", max_age = -1 }, "a=; Max-Age=-1" },
  { "writes the epoch", { name = "a", value = "", expires = 0 },
    "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT" },
  { "writes the last date of four digits", { name = "a", value = "", expires = 253402300799 },
    "a=; Expires=Fri, 31 Dec 9999 23:59:59 GMT" },
  { "writes SameSite=Strict", { name = "a", value = "b", same_site = "strict" },
    "a=b; SameSite=Strict" },
  { "writes SameSite=None with Secure", { name = "a", value = "b", same_site = "none",
    secure = true }, "a=b; Secure; SameSite=None" },
  { "writes every cookie-octet", { name = "a", value = "!#$%&'()*+-./:<=>?@[]^_`{|}~" },
    "a=!#$%&'()*+-./:<=>?@[]^_`{|}~" },
  { "writes a __Host- cookie", { name = "__Host-a", value = "b", path = "/", secure = true },
    "__Host-a=b; Path=/; Secure" },
  { "writes a __Secure- cookie", { name = "__Secure-a", value = "b", secure = true,
    domain = "h.example" }, "__Secure-a=b; Domain=h.example; Secure" },
}

local refused = {
  { "an empty name", { name = "", value = "b" }, "name" },
  { "a name with '='", { name = "a=b", value = "" }, "name" },
  { "a name with a space", { name = "a b", value = "" }, "name" },
  { "a name with a line end", { name = "a\r\n", value = "" }, "name" },
  { "a value with a space", { name = "a", value = "b c" }, "value" },
  { "a value with ';'", { name = "a", value = "b;c" }, "value" },
  { "a value with ','", { name = "a", value = "b,c" }, "value" },
  { "a value with a quote", { name = "a", value = '"b"' }, "value" },
  { "a value with a backslash", { name = "a", value = "b\\" }, "value" },
  { "a value with CR LF", { name = "a", value = "b\r\nSet-Cookie: c=d" }, "value" },
  { "a value with NUL", { name = "a", value = "b\0" }, "value" },
  { "a value with DEL", { name = "a", value = "\127" }, "value" },
  { "a value above ASCII", { name = "a", value = "\195\169" }, "value" },
  { "a path with ';'", { name = "a", value = "b", path = "/; Domain=x" }, "path" },
  { "a path with LF", { name = "a", value = "b", path = "/\n" }, "path" },
  { "a domain with ';'", { name = "a", value = "b", domain = "x;y" }, "domain" },
  { "a domain with NUL", { name = "a", value = "b", domain = "x\0" }, "domain" },
  { "a year of five digits", { name = "a", value = "b", expires = 253402300800 }, "expires" },
  { "a year before 1601", { name = "a", value = "b", expires = -11644473601 }, "expires" },
  { "SameSite=None without Secure", { name = "a", value = "b", same_site = "none" }, "same_site" },
  { "Partitioned without Secure", { name = "a", value = "b", partitioned = true }, "partitioned" },
  { "__Secure- without Secure", { name = "__Secure-a", value = "b" }, "secure" },
  { "__secure- in any case", { name = "__sEcUrE-a", value = "b" }, "secure" },
  { "__Host- without Secure", { name = "__Host-a", value = "b", path = "/" }, "secure" },
  { "__Host- without a path", { name = "__Host-a", value = "b", secure = true }, "path" },
  { "__Host- with a longer path", { name = "__Host-a", value = "b", secure = true, path = "/x" },
    "path" },
  { "__Host- with a domain", { name = "__HOST-a", value = "b", secure = true, path = "/",
    domain = "example.com" }, "domain" },
}

describe("Cookie (RFC 6265 section 4.2)", function()
  for _, case in ipairs(read) do
    it(case[1], function()
      assert.same(case[3], form.cookies(case[2]))
    end)
  end
end)

describe("Set-Cookie (RFC 6265 section 4.1, RFC 6265bis section 4.1.3)", function()
  for _, case in ipairs(written) do
    it(case[1], function()
      assert.equal(case[3], form.set_cookie(case[2]))
    end)
  end

  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. " and appends nothing", function()
      local text, what, appended = form.set_cookie(case[2])
      assert.is_nil(text)
      assert.equal(case[3], what:match("^%S+"))
      assert.equal(0, appended)
    end)
  end
end)
