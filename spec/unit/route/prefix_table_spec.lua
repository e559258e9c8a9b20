local route = require("moonquay.probe").route

-- A table of these prefixes; the n-th has the value n.
local function table_of(...)
  local prefixes = route.table()
  for i, text in ipairs({ ... }) do
    assert(prefixes:add(text, i))
  end
  return prefixes
end

-- Looks up "host/path" on port 80.
local function match(prefixes, url, ip)
  local host, path = url:match("^([^/]*)(.*)$")
  return prefixes:match(false, 80, host, ip or "127.0.0.1", path)
end

-- The value alone, or the reason when there is none.
local function owner(...)
  local found, value = match(...)
  return found == "found" and value or found
end

describe("the buckets (reference/http-sys.md section 2.2)", function()
  -- A to C of the section's example.
  local vroot = { "http://+:80/vroot/", "http://adatum.com:80/", "http://*:80/" }
  local all = {
    "http://+:80/strong/", "http://name.example:80/name/", "http://*.example:80/label/",
    "http://192.0.2.1:80/ip/", "http://0.0.0.0:80/any/", "http://*:80/weak/",
  }
  local everywhere = {
    "http://+:80/a/", "http://name.example:80/a/", "http://*.example:80/a/",
    "http://192.0.2.1:80/a/", "http://0.0.0.0:80/a/", "http://*:80/a/",
  }
  local cases = {
    { "the section's example", vroot, {
      { "adatum.com/vroot/x", 1 }, { "adatum.com/default.htm", 2 }, { "other.com/x", 3 },
      { "adatum.com/vroot", 1 }, { "other.com/vroot/", 1 }, { "adatum.com/vroots", 2 },
      { "adatum.com/", 2 }, { "/", 3 }, { "/vroot", 1 },
    } },
    { "the root and /dir/sna/", { "http://a:80/", "http://a:80/dir/sna/" }, {
      { "a/dir/app.htm", 1 }, { "a/dir/sna/x", 2 }, { "a/dir/sna", 2 }, { "a/dir/sna/", 2 },
      { "a/dir/snap", 1 }, { "a/dir", 1 }, { "a/x/dir/sna/", 1 },
    } },
    { "/base/ takes the bare /base", { "http://a:80/base/" }, {
      { "a/base", 1 }, { "a/base/", 1 }, { "a/base/x", 1 }, { "a/BASE", 1 },
      { "a/", "no_path" }, { "a/bas", "no_path" }, { "a/based", "no_path" },
      { "a/x/base", "no_path" }, { "b/base", "no_host" },
    } },
    { "each bucket has its turn, whatever is in those before", all, {
      { "name.example/strong/x", 1, "192.0.2.1" }, { "name.example/name/x", 2, "192.0.2.1" },
      { "name.example/label/x", 3, "192.0.2.1" }, { "name.example/ip/x", 4, "192.0.2.1" },
      { "name.example/any/x", 5, "192.0.2.1" }, { "name.example/weak/x", 6, "192.0.2.1" },
      { "name.example/none/x", "no_path", "192.0.2.1" },
      { "other.example/name", "no_path", "192.0.2.1" }, { "other.example/label", 3, "192.0.2.1" },
      { "other/label", "no_path", "192.0.2.1" }, { "other/ip", 4, "192.0.2.1" },
      { "other/ip", "no_path", "192.0.2.2" }, { "other/any", 5, "192.0.2.2" },
      { "other/any", "no_path", "::1" }, { "other/weak", 6, "::1" }, { "/weak", 6, "::1" },
    } },
    { "a longer path does not outweigh an earlier bucket",
      { "http://+:80/a/", "http://a:80/a/b/", "http://*:80/a/b/c/" }, {
        { "a/a/b/c/d", 1 }, { "a/a/b", 1 }, { "a/b", "no_path" },
      } },
    { "an exact name comes before *. even with a shorter path",
      { "http://*.b.c:80/x/y/", "http://a.b.c:80/x/" }, {
        { "a.b.c/x/y/z", 2 }, { "d.b.c/x/y/z", 1 }, { "a.b.c/x/z", 2 }, { "d.b.c/x", "no_path" },
      } },
    { "*. stands for exactly one label", { "http://*.b.c:80/" }, {
      { "a.b.c/", 1 }, { "A.B.C:81/", 1 }, { "a.b.c./", 1 }, { "b.c/", "no_host" },
      { ".b.c/", "no_host" }, { "x.a.b.c/", "no_host" }, { "a.b.cc/", "no_host" },
      { "*.b.c/", 1 }, { "ab.c/", "no_host" }, { "a./", "no_host" }, { "./", "no_host" },
      { "[a.b.c/", "no_host" }, { "[a.b.c:80/", "no_host" },
    } },
    { "addresses are those of the connection, not of the Host field",
      { "http://192.0.2.1:80/", "http://[2001:db8::1]:80/" }, {
        { "anything/", 1, "192.0.2.1" }, { "192.0.2.1/", "no_host", "192.0.2.2" },
        { "/", 2, "2001:db8::1" }, { "[2001:db8::1]/", "no_host", "::1" },
        { "[2001:db8::1]/", 1, "192.0.2.1" }, { "a/", "no_host", "" },
      } },
    { "0.0.0.0 and [::] stand for any address, behind the exact ones",
      { "http://0.0.0.0:80/", "http://[::]:80/", "http://192.0.2.1:80/x/", "http://[::1]:80/" }, {
        { "a/", 1, "198.51.100.1" }, { "a/x", 1, "198.51.100.1" }, { "a/x", 3, "192.0.2.1" },
        { "a/y", 1, "192.0.2.1" }, { "a/", 4, "::1" }, { "a/", 2, "::2" },
        { "a/", "no_host", "" }, { "a/", "no_host", "unix" },
      } },
    { "paths and hosts have no case, and segments are whole",
      { "http://A.Example:80/Foo/bAr/", "http://a.example:80/foo/b/", "http://*:80/ä/" }, {
        { "a.EXAMPLE/fOO/BAR/x", 1 }, { "a.example/foo/b/x", 2 }, { "a.example/foo/ba", "no_path" },
        { "a.example/foo/barr", "no_path" }, { "x/%C3%A4", 3 }, { "x/%C3%84", "no_path" },
        { "a.example/@OO/b", "no_path" }, { "a.example/FOO/B", 2 },
        { "[.example/foo/b", "no_path" },
      } },
    { "the longest of many depths wins",
      { "http://a:80/", "http://a:80/1/", "http://a:80/1/2/3/4/", "http://a:80/1/2/3/" }, {
        { "a/1/2/3/4/5", 3 }, { "a/1/2/3/4", 3 }, { "a/1/2/3/5/4", 4 }, { "a/1/2/4", 2 },
        { "a/2/1", 1 }, { "a/1/2/3/44", 4 }, { "a/1/2/3", 4 }, { "a/1/2/", 2 },
        { "a/1/2/3/4/5/6/7/8/9/10", 3 },
      } },
  }
  for _, case in ipairs(cases) do
    for _, row in ipairs(case[3]) do
      it(("%s: %s%s"):format(case[1], row[1], row[3] and " at " .. row[3] or ""), function()
        assert.equal(row[2], owner(table_of(table.unpack(case[2])), row[1], row[3]))
      end)
    end
  end

  it("may all have the same path at once, and give way in their order", function()
    local prefixes = table_of(table.unpack(everywhere))
    for i, text in ipairs(everywhere) do
      assert.equal(i, owner(prefixes, "name.example/a/b", "192.0.2.1"))
      assert.equal(i, prefixes:remove(text))
    end
    assert.equal("no_port", owner(prefixes, "name.example/a/b", "192.0.2.1"))
  end)
end)

describe("the Host field of a request", function()
  local prefixes
  before_each(function()
    prefixes = table_of("http://a.example:80/x/", "http://a.example:80/",
      "http://www.long-enough-for-words.example:80/", "http://b:80/", "http://*.c:80/")
  end)
  local same = { "a.example", "A.EXAMPLE", "a.example:80", "a.example:1", "a.example:",
    "a.example.", "a.example.:80", "a.Example.:" }
  for _, host in ipairs(same) do
    it("asks for a.example: " .. host, function()
      assert.equal(2, owner(prefixes, host .. "/"))
      assert.equal(1, owner(table_of("http://a.example:80/"), host .. "/"))
    end)
  end
  local other = { "", ".", "..", ":", ":80", "a.example..", "a.example.x", "xa.example", "a.exampl",
    "a.example ", " a.example", "a.example\0", "a\0.example", "a.example\xFF", "[a.example]",
    "[::1]", "[", "]", "a.exa", ".a.example", "a.examplf", "a.example-:80", "@.example",
    ("a"):rep(254), ("a"):rep(20000), ("."):rep(300), "\xC3\xA4", "*", "+", "a,b" }
  for _, host in ipairs(other) do
    it(("asks for no name that is there: %q"):format(host:sub(1, 20)), function()
      assert.equal("no_host", (prefixes:match(false, 80, host, "127.0.0.1", "/")))
      local lone = table_of("http://a.example:80/")
      assert.equal("no_host", (lone:match(false, 80, host, "127.0.0.1", "/")))
    end)
  end

  it("asks for no name below *.c when it is longer than any in the DNS: 253 bytes", function()
    local longest = ("x"):rep(251) .. ".c"
    assert.equal(5, owner(prefixes, longest .. "/"))
    assert.equal(5, owner(prefixes, longest .. ".:80/"))
    for _, host in ipairs({ "x" .. longest, "x" .. longest .. ":80", "x" .. longest .. "." }) do
      assert.equal("no_host", owner(prefixes, host .. "/"))
    end
  end)

  it("is compared whole where one host is all that the port has", function()
    for _, name in ipairs({ "a", "ab", "abc", "abcd", "abcde", "abcdefg", "abcdefgh", "abcdefghi",
      "abcdefghijklmnop", "abcdefghijklmnopq", ("abcdefghij"):rep(4) }) do
      for _, path in ipairs({ "/", "/x/" }) do
        local lone = table_of("http://" .. name .. ":80" .. path)
        assert.equal(1, owner(lone, name .. "/x"))
        assert.equal(1, owner(lone, name:upper() .. ":80/x"))
        for i = 1, #name do
          local odd = name:sub(1, i - 1) .. "-" .. name:sub(i + 1)
          assert.equal("no_host", owner(lone, odd .. "/x"), odd)
        end
      end
    end
  end)
end)

describe("the cooked path (reference/http-sys.md section 2.2)", function()
  local texts = { "http://a:80/base/ball/", "http://a:80/", "http://a:80/a%2Fb/",
    "http://a:80/a%b/" }
  local cases = {
    { "/base%2Fball/x", 1 }, { "/base%2fball", 1 }, { "/%62ase/%42all", 1 },
    { "/base\\ball\\x", 1 }, { "\\base/ball", "bad_target" }, { "/base%5Cball", 1 },
    { "/base//ball", 1 }, { "//base///ball", 1 }, { "/base/\\/ball", 1 }, { "/%2F%5Cbase/ball", 1 },
    { "/base/x/../ball", 1 }, { "/base/./ball", 1 }, { "/base/%2e/ball", 1 },
    { "/base/x%2F..%2Fball", 1 }, { "/base/x\\..\\ball", 1 }, { "/base/x//../ball", 1 },
    { "/base/ball/..", 2 }, { "/base/ball%2F..", 2 }, { "/base/ball\\..\\x", 2 },
    { "/base/ball/x/..", 1 }, { "/base/ball/.", 1 },
    { "/base%252Fball/x", 2 }, { "/a%252Fb/x", 3 }, { "/a%252fb", 3 }, { "/a%2Fb/x", 2 },
    { "/a%25b/x", 4 }, { "/a%2525b", 2 }, { "/base%255Cball", 2 }, { "/base/%2e%2e%2fball", 2 },
    { "/base/ball%00", "bad_target" }, { "/base/ball?x", 1 }, { "/base?/ball", 2 },
    { "/?/../base/ball", 2 }, { "/base/ball%2", "bad_target" }, { "/base/bal%6C", 1 },
  }
  for _, case in ipairs(cases) do
    it(("decides for %s"):format(case[1]), function()
      local prefixes = table_of(table.unpack(texts))
      local found, value = prefixes:match(false, 80, "a", "127.0.0.1", case[1])
      assert.equal(case[2], found == "found" and value or found)
    end)
  end

  -- Of one prefix, of several and of none for this path.
  local above = { "/..%2F", "/..%2f..", "/a%2F..%2F..", "/a/..%2F..", "/..\\x", "/..\\..\\x",
    "/a\\..\\..", "/aaaaaaaaa\\..\\..\\bbbbbbbbb", "/%2e%2e%5Cx", "/.%2e%5c", "/..%5C",
    "/a//..%2F..", "http://a/..\\", "/base/ball/..%2F..%2F..%2Fx" }
  for _, raw in ipairs(above) do
    it(("is forbidden when it leads above the root: %s"):format(raw), function()
      for _, prefixes in ipairs({ table_of("http://a:80/"), table_of("http://*:80/"),
        table_of("http://a:80/none/"),
        table_of("http://+:80/none/", "http://a:80/", "http://*:80/"),
      }) do
        assert.equal("forbidden", (prefixes:match(false, 80, "a", "127.0.0.1", raw)))
      end
      local other = table_of("http://b:80/")
      assert.equal("no_host", (other:match(false, 80, "a", "127.0.0.1", raw)))
    end)
  end

  it("has a slash for a backslash wherever that stands", function()
    for length = 1, 40 do
      local name = ("a"):rep(length)
      local prefixes = table_of("http://a:80/", "http://a:80/" .. name)
      for tail = 0, 10 do
        local raw = "/" .. name .. "\\" .. ("x"):rep(tail)
        assert.same({ "found", 2, "", raw }, { prefixes:match(false, 80, "a", "", raw) })
      end
      assert.equal(1, owner(prefixes, "a/" .. name .. "x\\x"))
      assert.equal("forbidden", owner(table_of("http://a:80/"), "a/" .. name .. "\\..\\.."))
    end
  end)

  it("is not above the root when it comes back to it", function()
    local prefixes = table_of("http://a:80/")
    for _, raw in ipairs({ "/a%2F..", "/a\\..", "/a\\b\\..\\..", "/...\\x", "/..a\\x",
      "/a%2F..\\" }) do
      assert.equal("found", (prefixes:match(false, 80, "a", "127.0.0.1", raw)), raw)
    end
  end)

  it("is / for the target forms without one", function()
    local forms = { { "*", "OPTIONS", "" }, { "a:80", "CONNECT", "" }, { "http://a", "GET", "/" },
      { "http://a/", "GET", "/" }, { "https://a", "GET", "/" } }
    for _, form in ipairs(forms) do
      for _, prefixes in ipairs({ table_of("http://a:80/"),
        table_of("http://*:80/"), table_of("http://a:80/", "http://a:80/x/", "http://b:80/") }) do
        assert.same({ "found", 1, "", form[3] },
          { prefixes:match(false, 80, "a", "127.0.0.1", form[1], form[2]) })
      end
      local prefixes = table_of("http://a:80/x/")
      assert.equal("no_path", (prefixes:match(false, 80, "a", "127.0.0.1", form[1], form[2])))
    end
  end)
end)

describe("the split of a path (reference/http-sys.md section 7.3)", function()
  local base, ball = { "http://*:80/", "http://*:80/base/" },
    { "http://*:80/", "http://*:80/base/", "http://*:80/base/ball/" }
  local cases = {
    -- the section's examples
    { ball, "///base/x", "///base", "/x" },
    { ball, "/base%2fball//p", "/base%2fball", "//p" },
    { ball, "/base/\\ball", "/base/\\ball", "" },
    { ball, "/base/call//../ball/x", "", "/base/call/ball/x" },
    { ball, "/base", "/base", "" },
    { ball, "/BASE", "/BASE", "" },
    { ball, "/Base/x", "/Base", "/x" },
    -- the rest of the rules
    { ball, "/", "", "/" },
    { ball, "/x", "", "/x" },
    { ball, "//a/b//c", "", "//a/b//c" },
    { ball, "/base/", "/base", "/" },
    { ball, "/base//", "/base", "//" },
    { ball, "/base//x", "/base", "//x" },
    { ball, "/base/BALL/x%20y", "/base/BALL", "/x y" },
    { ball, "/b%61se/x", "/base", "/x" },
    { ball, "/base/ball//path1//path2", "/base/ball", "//path1//path2" },
    { ball, "/base//ball//p", "/base//ball", "//p" },
    { ball, "/base/\\ball//p", "/base/\\ball", "//p" },
    { ball, "/base%5Cball/p", "/base\\ball", "/p" },
    { ball, "/base%5c%2F\\//ball/p", "/base\\%2F\\//ball", "/p" },
    { ball, "/%2Fbase%2F%2fball/p", "/%2Fbase%2F%2fball", "/p" },
    { ball, "/base/call/../ball//p", "/base/ball", "//p" },
    { ball, "/base/./ball/p/../q", "/base/ball", "/q" },
    { ball, "/base/call//../ball//path1//path2", "", "/base/call/ball//path1//path2" },
    { ball, "/base/call%2F..%2Fball/x", "", "/base/call%2F..%2Fball/x" },
    { ball, "/base/call\\..\\ball", "", "/base/call\\..\\ball" },
    { ball, "/ball//../base", "", "/ball/base" },
    { ball, "http://h/base//ball/x?y", "/base//ball", "/x" },
    { ball, "/base/x%2Fy", "/base", "/x%2Fy" },
    { ball, "/base/%252F", "/base", "/%2F" },
    { ball, "/base%2fball/%252F", "/base%2fball", "/%2F" },
    { ball, "/base%252Fball//../base/ball/p", "", "/base%2Fball/base/ball/p" },
    { ball, "/base%2Fball/%25/..//x", "/base%2Fball", "//x" },
    -- what stands behind the base always begins with a slash
    { base, "/base\\x", "", "/base\\x" },
    { base, "/base%2Fx", "", "/base%2Fx" },
    { base, "/base\\/x", "", "/base\\/x" },
    { base, "//base\\", "", "//base\\" },
    { { "http://*:80/a%2Fb/c/" }, "/a%252Fb/c/d", "/a%2Fb/c", "/d" },
    { { "http://*:80/a%2Fb/c/" }, "/a%252fb%2Fc/d", "/a%2fb%2Fc", "/d" },
    { { "http://*:80/a%/c/" }, "/a%25//c/d", "/a%//c", "/d" },
    { { "http://*:80/a?/c/" }, "/a%3F//c/d", "/a?//c", "/d" },
    { { "http://*:80/a?/c/" }, "/a%25//../a%3F//c/d", "", "/a%/a?//c/d" },
    { { "http://*:80/ä/€/" }, "/%C3%A4%2F%e2%82%ac/%C3%84", "/ä%2F€", "/Ä" },
    { { "http://*:80/x/" }, "/x/%C0%A4%E2%82", "/x", "/%C0%A4%E2%82" },
    { { "http://*:80/x/" }, "//x/%C0%A4%25", "//x", "/%C0%A4%" },
  }
  for _, case in ipairs(cases) do
    it(("of %s with %s is %q and %q"):format(case[2], case[1][#case[1]], case[3], case[4]),
      function()
        local prefixes = table_of(table.unpack(case[1]))
        local found, _, path_base, path = prefixes:match(false, 80, "a", "127.0.0.1", case[2])
        assert.same({ "found", case[3], case[4] }, { found, path_base, path })
      end)
  end
end)

describe("a table of prefixes (reference/http-sys.md section 2.4)", function()
  it("gives a path back to its parent when a prefix is removed", function()
    local prefixes = table_of("http://a:80/", "http://a:80/pathbase/")
    assert.same({ "found", 2, "/pathbase", "/x" }, { match(prefixes, "a/pathbase/x") })
    assert.equal(2, prefixes:remove("HTTP://A/PathBase"))
    assert.same({ "found", 1, "", "/pathbase/x" }, { match(prefixes, "a/pathbase/x") })
    assert.is_nil(prefixes:remove("http://a:80/pathbase/"))
    assert.is_true(prefixes:add("http://a:80/pathbase/", 3))
    assert.equal(3, owner(prefixes, "a/pathbase/x"))
    assert.equal(1, prefixes:remove("http://a:80/"))
    assert.equal("no_path", owner(prefixes, "a/x"))
    assert.equal(3, prefixes:remove("http://a:80/pathbase/"))
    assert.equal("no_port", owner(prefixes, "a/x"))
  end)

  it("refuses an equal prefix and says whose the other one is", function()
    local prefixes = table_of("http://a:80/", "http://a:80/b/", "http://[::1]:80/b/")
    for text, value in pairs({ ["http://A"] = 1, ["http://a/B"] = 2, ["http://[0::1]/b"] = 3 }) do
      assert.same({ nil, "exists", value }, { prefixes:add(text, 9) })
    end
    assert.equal(3, #prefixes:each())
  end)

  it("has one scheme a port", function()
    local prefixes = table_of("http://a:80/", "https://a:443/")
    assert.same({ nil, "state" }, { prefixes:add("https://b:80/x", 3) })
    assert.same({ nil, "state" }, { prefixes:add("http://*:443/", 3) })
    assert.same({ nil, "state" }, { prefixes:add("https://a:80/", 3) })
    assert.is_nil(prefixes:remove("https://a:80/"))
    assert.equal("no_port", (prefixes:match(true, 80, "a", "", "/")))
    assert.equal("no_port", (prefixes:match(false, 443, "a", "", "/")))
    assert.equal("found", (prefixes:match(true, 443, "a", "", "/")))
    assert.equal(1, prefixes:remove("http://a:80/"))
    assert.is_true(prefixes:add("https://b:80/x", 3))
  end)

  it("keeps ports apart", function()
    local prefixes = route.table()
    for port = 1, 300 do
      assert(prefixes:add(("http://a:%d/"):format(port * 211 % 65536), port))
    end
    for port = 1, 300 do
      assert.same({ "found", port, "", "/" },
        { prefixes:match(false, port * 211 % 65536, "a", "", "/") })
    end
    assert.equal("no_port", (prefixes:match(false, 1, "a", "", "/")))
  end)

  it("says which ports must know the local address", function()
    local prefixes = table_of("http://a:80/", "http://+:80/", "http://192.0.2.1:81/",
      "http://[::]:82/", "http://a:82/")
    assert.is_false(prefixes:needs_ip(false, 80))
    assert.is_true(prefixes:needs_ip(false, 81))
    assert.is_true(prefixes:needs_ip(false, 82))
    assert.is_nil(prefixes:needs_ip(true, 80))
    assert.is_nil(prefixes:needs_ip(false, 83))
    prefixes:remove("http://[::]:82/")
    assert.is_false(prefixes:needs_ip(false, 82))
  end)

  it("has another generation after each change, and only then", function()
    local prefixes = route.table()
    local seen = { [0] = true }
    local function changed(yes)
      local generation = prefixes:generation()
      assert.equal(not yes, seen[generation] or false)
      seen[generation] = true
    end
    changed(true)
    prefixes:add("http://a:80/", 1)
    changed(true)
    prefixes:add("http://a:80/", 2)
    prefixes:add("https://b:80/", 2)
    prefixes:remove("http://b:80/")
    match(prefixes, "a/")
    changed(false)
    prefixes:add("http://a:80/b", 2)
    changed(true)
    prefixes:remove("http://a:80/b")
    changed(true)
  end)

  it("lists its prefixes in the order in which they came", function()
    local prefixes = table_of("http://z:80/", "http://a:80/B", "https://*.a", "http://+:1/")
    prefixes:remove("http://a/b")
    prefixes:add("http://a/c", 5)
    assert.same({ { "http://z:80/", 1 }, { "https://*.a:443/", 3 }, { "http://+:1/", 4 },
      { "http://a:80/c/", 5 } }, prefixes:each())
    assert.same({}, route.table():each())
  end)

  it("finds each of 10,000 prefixes, and after removals those that are left", function()
    local prefixes = route.table()
    local function text(i)
      return ("h%d.example/dir%d/p%d"):format(i % 97, i % 13, i)
    end
    for i = 1, 10000 do
      assert(prefixes:add("http://" .. text(i):gsub("/", ":80/", 1), i))
    end
    for i = 1, 10000 do
      assert.equal(i, owner(prefixes, text(i) .. "/x/y/z"))
    end
    assert.equal("no_path", owner(prefixes, "h1.example/dir1/p2"))
    for i = 1, 10000 do
      if i % 3 ~= 0 then
        assert.equal(i, prefixes:remove("http://" .. text(i)))
      end
    end
    for i = 1, 10000 do
      assert.equal(i % 3 == 0 and i or "no_path", owner(prefixes, text(i) .. "/x"))
    end
    assert.equal(3333, #prefixes:each())
  end)

  it("finds one path of many depths and a very long one", function()
    local prefixes = route.table()
    for depth = 1, 1000 do
      assert(prefixes:add("http://a:80" .. ("/x"):rep(depth), depth))
    end
    assert.equal(1000, owner(prefixes, "a" .. ("/x"):rep(4000)))
    assert.equal(777, owner(prefixes, "a" .. ("/x"):rep(777) .. "/y"))
    assert.equal(777, owner(prefixes, "a" .. ("//X"):rep(777) .. "/y/x/x/x"))
    assert.equal("no_path", owner(prefixes, "a/y" .. ("/x"):rep(4000)))
  end)

  it("lives on when a host loses its paths and gets others", function()
    local prefixes = table_of("http://a:80/", "http://a:80/x/y/z/")
    assert.equal(2, prefixes:remove("http://a/x/y/z"))
    assert.equal(1, owner(prefixes, "a/x/y/z"))
    assert(prefixes:add("http://a/x", 3))
    assert.equal(3, owner(prefixes, "a/x/y/z"))
    assert.equal(1, owner(prefixes, "a/y"))
    assert(prefixes:add("http://a/x/y", 4))
    assert.equal(4, owner(prefixes, "a/x/y/z"))
    assert.equal(1, prefixes:remove("http://a/"))
    assert.equal("no_path", owner(prefixes, "a/y"))
  end)
end)
