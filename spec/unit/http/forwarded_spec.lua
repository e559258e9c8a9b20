local proxy = require("moonquay.probe").proxy

local function ip(address, port)
  return { node = "ip", ip = address, port = port }
end

local function hop(node, proto, host)
  node.proto, node.host = proto, host
  return node
end

local function hidden(port)
  return { node = "hidden", port = port }
end

local function unsaid()
  return { node = "unsaid" }
end

-- Lines from alternating names and values, or of Forwarded from a text or a list of texts.
local function forwarded(values)
  local lines = {}
  for i, value in ipairs(type(values) == "table" and values or { values }) do
    lines[i] = { i % 2 == 1 and "Forwarded" or "fORWARDED", value }
  end
  return lines
end

local function repeated(text, count)
  local list = {}
  for i = 1, count do
    list[i] = text:format(i)
  end
  return list
end

local function hops_of(count)
  local list = {}
  for i = 1, count do
    list[i] = ip("10.0.0." .. i)
  end
  return list
end

describe("Forwarded (RFC 7239)", function()
  local good = {
    { "reads an address", "for=192.0.2.43", { ip("192.0.2.43") } },
    { "reads the examples of section 4", { 'for="_gazonk"', 'For="[2001:db8:cafe::17]:4711"',
      "for=192.0.2.60;proto=http;by=203.0.113.43", "for=192.0.2.43, for=198.51.100.17" },
      { hidden(), ip("2001:db8:cafe::17", 4711), hop(ip("192.0.2.60"), "http"), ip("192.0.2.43"),
        ip("198.51.100.17") } },
    { "reads all that is known",
      'for="192.0.2.1:80";by="[::1]:_p";host="h.example:8080";proto=https',
      { hop(ip("192.0.2.1", 80), "https", "h.example:8080") } },
    { "reads names without regard to case", "FOR=1.2.3.4;Proto=HTTP;hOST=Example.COM",
      { hop(ip("1.2.3.4"), "HTTP", "Example.COM") } },
    { "reads a quoted address", 'for="192.0.2.1"', { ip("192.0.2.1") } },
    { "reads an IPv6 address", 'for="[2001:DB8::1]"', { ip("2001:DB8::1") } },
    { "reads a mapped address", 'for="[::ffff:1.2.3.4]"', { ip("::ffff:1.2.3.4") } },
    { "reads the highest port", 'for="1.2.3.4:65535"', { ip("1.2.3.4", 65535) } },
    { "reads a port with zeros in front", 'for="1.2.3.4:00080"', { ip("1.2.3.4", 80) } },
    { "knows no hidden port", 'for="1.2.3.4:_p", for="[::1]:_a.b-c_1"',
      { ip("1.2.3.4"), ip("::1") } },
    { "reads unknown", 'for=unknown, for=UNKNOWN, for="unknown:80"',
      { hidden(), hidden(), hidden(80) } },
    { "reads obfuscated names", 'for=_a, for=_SEVKISEK-1.x_, for="_a:_b", for="_a:1"',
      { hidden(), hidden(), hidden(), hidden(1) } },
    { "takes escapes off", 'for="\\1\\9\\2.0.2.1";host="a\\.b"',
      { hop(ip("192.0.2.1"), nil, "a.b") } },
    { "reads an element without for", "proto=https", { hop(unsaid(), "https") } },
    { "reads an element without pairs", ";;", { unsaid() } },
    { "skips empty pairs", ";for=1.2.3.4;;proto=http;", { hop(ip("1.2.3.4"), "http") } },
    { "skips empty elements", { ", for=1.2.3.4,,", "", " ,\t", "for=1.2.3.5" },
      { ip("1.2.3.4"), ip("1.2.3.5") } },
    { "reads an empty line as nothing", "", {} },
    { "allows blanks around elements and pairs", "  for=1.2.3.4 ;\t proto=http\t,  for=1.2.3.5  ",
      { hop(ip("1.2.3.4"), "http"), ip("1.2.3.5") } },
    { "ignores other pairs", 'secret=a;x="y,z;for=9.9.9.9";for=1.2.3.4;e=""', { ip("1.2.3.4") } },
    { "reads a comma and a semicolon in quotes as data", 'x="a, for=6.6.6.6;", for=1.2.3.4',
      { unsaid(), ip("1.2.3.4") } },
    { "reads a quote in quotes as data", 'x="a\\", for=6.6.6.6", for=1.2.3.4',
      { unsaid(), ip("1.2.3.4") } },
    { "allows a name once in each element", "for=1.2.3.4;x=1, for=1.2.3.5;x=1",
      { ip("1.2.3.4"), ip("1.2.3.5") } },
    { "reads other schemes", "proto=wss, proto=a+b-c.1", { hop(unsaid(), "wss"),
      hop(unsaid(), "a+b-c.1") } },
    { "reads an IPv6 host", 'host="[::1]:80"', { hop(unsaid(), nil, "[::1]:80") } },
    { "reads 32 elements", table.concat(repeated("for=10.0.0.%d", 32), ","), hops_of(32) },
    { "reads 32 lines", repeated("for=10.0.0.%d", 32), hops_of(32) },
    { "reads 16 pairs", table.concat(repeated("n%d=v", 15), ";") .. ";for=1.2.3.4",
      { ip("1.2.3.4") } },
  }
  for _, case in ipairs(good) do
    it(case[1], function()
      assert.same(case[3], proxy.forwarded(forwarded(case[2])))
    end)
  end

  local NODE, VALUE = "a malformed node in Forwarded", "a malformed value in Forwarded"
  local PAIR, TWICE = "an element of Forwarded that is no name=value",
    "a name twice in an element of Forwarded"
  local PROTO, HOST = "a malformed proto in Forwarded", "a malformed host in Forwarded"
  local bad = {
    { "a word", "for", PAIR },
    { "an address alone", "1.2.3.4", PAIR },
    { "no name", "=1.2.3.4", PAIR },
    { "a blank before '='", "for =1.2.3.4", PAIR },
    { "a blank behind '='", "for= 1.2.3.4", VALUE },
    { "a quoted name", '"for"=1.2.3.4', PAIR },
    { "no value", "for=", VALUE },
    { "no value before a pair", "for=;proto=http", VALUE },
    { "two words", "for=1.2.3.4 proto=http", VALUE },
    { "a port outside quotes", "for=1.2.3.4:80", VALUE },
    { "an IPv6 address outside quotes", "for=[::1]", VALUE },
    { "text behind a quoted string", 'for="1.2.3.4"x', VALUE },
    { "a quoted string inside a token", 'for=1.2.3."4"', VALUE },
    { "an open quote", 'for="1.2.3.4', VALUE },
    { "an open quote that swallows the rest", 'for="6.6.6.6, for=1.2.3.4', VALUE },
    { "an open quote that ends in the rest", 'x=", for="[::1]"', VALUE },
    { "an open quote that ends in the next line", { 'x="a', 'b", for=1.2.3.4' }, VALUE },
    { "an escape at the end", 'x="a\\', VALUE },
    { "an escaped end quote", 'x="a\\"', VALUE },
    { "a control in quotes", 'x="a\1b"', VALUE },
    { "an escaped control", 'x="a\\\127"', VALUE },
    { "NUL", 'for="1.2.3.4\0"', VALUE },
    { "an empty node", 'for=""', NODE },
    { "a name", "for=localhost", NODE },
    { "an address cut short", "for=1.2.3", NODE },
    { "an address with leading zeros", "for=1.2.3.04", NODE },
    { "an IPv6 address without brackets", 'for="2001:db8::1"', NODE },
    { "an IPv4 address in brackets", 'for="[1.2.3.4]"', NODE },
    { "an open bracket", 'for="[::1"', NODE },
    { "text behind a bracket", 'for="[::1]x"', NODE },
    { "a zone", 'for="[fe80::1%lo]"', NODE },
    { "an empty port", 'for="1.2.3.4:"', NODE },
    { "a port above 65535", 'for="1.2.3.4:65536"', NODE },
    { "a port of six digits", 'for="1.2.3.4:000080"', NODE },
    { "two ports", 'for="1.2.3.4:80:80"', NODE },
    { "a port that is a word", 'for="1.2.3.4:http"', NODE },
    { "an empty obfuscated name", "for=_", NODE },
    { "an empty obfuscated port", 'for="1.2.3.4:_"', NODE },
    { "an obfuscated name with another byte", "for=_a!", NODE },
    { "a malformed by", "by=localhost;for=1.2.3.4", NODE },
    { "an address too long for any", 'for="[' .. ("0"):rep(60) .. ']"', NODE },
    { "for twice", "for=1.2.3.4;for=1.2.3.5", TWICE },
    { "for twice in other cases", "for=1.2.3.4;proto=http;FOR=1.2.3.4", TWICE },
    { "another name twice", "x=1;for=1.2.3.4;X=1", TWICE },
    { "17 pairs", table.concat(repeated("n%d=v", 17), ";"),
      "more than 16 pairs in an element of Forwarded" },
    { "a scheme that begins with a digit", "proto=1http", PROTO },
    { "an empty scheme", 'proto=""', PROTO },
    { "a scheme with a colon", 'proto="http:"', PROTO },
    { "an empty host", 'host=""', HOST },
    { "a host with a path", 'host="a/b"', HOST },
    { "a host with user", 'host="a@b"', HOST },
    { "a host with a blank", 'host="a b"', HOST },
    { "33 elements", table.concat(repeated("for=10.0.0.%d", 33), ","),
      "more than 32 hops of proxies" },
    { "33 lines", repeated("for=10.0.0.%d", 33), "more than 32 hops of proxies" },
    { "a fault in the last of lines", { "for=1.2.3.4", "for=1.2.3.5", "for" }, PAIR },
    { "a fault in the first element", "for, for=1.2.3.4", PAIR },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      assert.same({ nil, "invalid", case[3] }, { proxy.forwarded(forwarded(case[2])) })
    end)
  end

  it("is not there in other fields", function()
    assert.same({ nil, "not_found" }, { proxy.forwarded({ { "X-Forwarded-For", "1.2.3.4" },
      { "Forwarded-For", "1.2.3.4" }, { "For", "for=1.2.3.4" } }) })
  end)
end)

describe("X-Forwarded fields", function()
  -- Lines from alternating short names and values: { "For", "1.2.3.4", … }.
  local function lines(list)
    local all = {}
    for i = 1, #list, 2 do
      local name = "X-Forwarded-" .. list[i]
      all[#all + 1] = { i % 4 == 1 and name or name:lower(), list[i + 1] }
    end
    return all
  end

  local good = {
    { "give an address", { "For", "192.0.2.1" }, { ip("192.0.2.1") } },
    { "give addresses in order", { "For", "1.2.3.4, 1.2.3.5,1.2.3.6" },
      { ip("1.2.3.4"), ip("1.2.3.5"), ip("1.2.3.6") } },
    { "are one list in all lines", { "For", "1.2.3.4", "For", "1.2.3.5", "For", "::1" },
      { ip("1.2.3.4"), ip("1.2.3.5"), ip("::1") } },
    { "give ports", { "For", "1.2.3.4:80, [::1]:65535" }, { ip("1.2.3.4", 80), ip("::1", 65535) } },
    { "give IPv6 with and without brackets", { "For", "2001:db8::1, [2001:DB8::2], ::" },
      { ip("2001:db8::1"), ip("2001:DB8::2"), ip("::") } },
    { "give mapped addresses", { "For", "::ffff:1.2.3.4" }, { ip("::ffff:1.2.3.4") } },
    { "give unknown", { "For", "unknown, Unknown" }, { hidden(), hidden() } },
    { "skip empty entries", { "For", ",1.2.3.4,, ,", "For", "", "Proto", ",https," },
      { hop(ip("1.2.3.4"), "https") } },
    { "give nothing when empty", { "For", "", "Proto", " ", "Host", "," }, {} },
    { "give a scheme in any case", { "For", "1.2.3.4", "Proto", "HTTPS" },
      { hop(ip("1.2.3.4"), "HTTPS") } },
    { "give each hop its scheme and host", { "For", "1.2.3.4, 1.2.3.5", "Proto", "http, https",
      "Host", "a, b:80" },
      { hop(ip("1.2.3.4"), "http", "a"), hop(ip("1.2.3.5"), "https", "b:80") } },
    { "count from the right", { "For", "1.2.3.4", "Proto", "http, https", "Host", "a, b, c" },
      { hop(ip("1.2.3.4"), "https", "c") } },
    { "give the left-most of a shorter list", { "For", "1.2.3.4, 1.2.3.5, 1.2.3.6",
      "Proto", "http, https", "Host", "a" }, { hop(ip("1.2.3.4"), "http", "a"),
      hop(ip("1.2.3.5"), "http", "a"), hop(ip("1.2.3.6"), "https", "a") } },
    { "give the right-most scheme without For", { "Proto", "http, https" },
      { hop(unsaid(), "https") } },
    { "give the right-most host without For", { "Host", "a", "Host", "b" },
      { hop(unsaid(), nil, "b") } },
    { "give both without For", { "Host", "a, b, c", "Proto", "http" },
      { hop(unsaid(), "http", "c") } },
    { "give 32 hops", { "For", table.concat(repeated("10.0.0.%d", 32), ", ") }, hops_of(32) },
  }
  for _, case in ipairs(good) do
    it(case[1], function()
      assert.same(case[3], proxy.forwarded(lines(case[2]), true))
    end)
  end

  local ADDRESS = "a malformed address in X-Forwarded-For"
  local PROTO = "X-Forwarded-Proto is neither http nor https"
  local HOST, MANY = "a malformed X-Forwarded-Host", "more than 32 hops of proxies"
  local bad = {
    { "a name", { "For", "localhost" }, ADDRESS },
    { "an obfuscated name", { "For", "_a" }, ADDRESS },
    { "an obfuscated port", { "For", "1.2.3.4:_p" }, ADDRESS },
    { "a pair of Forwarded", { "For", "for=1.2.3.4" }, ADDRESS },
    { "a quoted address", { "For", '"1.2.3.4"' }, ADDRESS },
    { "an open quote", { "For", '"6.6.6.6, 1.2.3.4' }, ADDRESS },
    { "two words", { "For", "1.2.3.4 1.2.3.5" }, ADDRESS },
    { "another separator", { "For", "1.2.3.4;1.2.3.5" }, ADDRESS },
    { "an address cut short", { "For", "1.2.3" }, ADDRESS },
    { "an empty port", { "For", "1.2.3.4:" }, ADDRESS },
    { "a port above 65535", { "For", "1.2.3.4:65536" }, ADDRESS },
    { "an open bracket", { "For", "[::1" }, ADDRESS },
    { "an IPv4 address in brackets", { "For", "[1.2.3.4]" }, ADDRESS },
    { "a zone", { "For", "fe80::1%lo" }, ADDRESS },
    { "NUL", { "For", "1.2.3.4\0" }, ADDRESS },
    { "a fault left of good ones", { "For", "x, 1.2.3.4" }, ADDRESS },
    { "a fault in the last of lines", { "For", "1.2.3.4", "For", "x" }, ADDRESS },
    { "another scheme", { "Proto", "ftp" }, PROTO },
    { "a scheme with a colon", { "Proto", "https:" }, PROTO },
    { "a good scheme behind another", { "For", "1.2.3.4", "Proto", "wss, https" }, PROTO },
    { "a host with a path", { "Host", "a/b" }, HOST },
    { "a host with a blank", { "Host", "a b" }, HOST },
    { "a host with a malformed port", { "For", "1.2.3.4", "Host", "a:b" }, HOST },
    { "33 addresses", { "For", table.concat(repeated("10.0.0.%d", 33), ", ") }, MANY },
    { "33 schemes", { "Proto", ("http,"):rep(33) }, MANY },
    { "33 hosts", { "Host", ("h,"):rep(33) }, MANY },
  }
  for _, case in ipairs(bad) do
    it("refuse " .. case[1], function()
      assert.same({ nil, "invalid", case[3] }, { proxy.forwarded(lines(case[2]), true) })
    end)
  end

  it("are not there in other fields", function()
    assert.same({ nil, "not_found" }, { proxy.forwarded({ { "Forwarded", "for=1.2.3.4" },
      { "X-Forwarded", "1.2.3.4" }, { "X-Forwarded-By", "1.2.3.4" } }, true) })
  end)
end)
