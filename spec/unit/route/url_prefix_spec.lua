local route = require("moonquay.probe").route

local function refused(text, said)
  local prefix, code, message, exit_code = route.prefix(text)
  assert.is_nil(prefix, ("%q is taken"):format(text))
  assert.same({ "invalid", 78 }, { code, exit_code })
  assert.matches(said, message, 1, true)
  return message
end

describe("a URL prefix (reference/http-sys.md section 2.1)", function()
  local good = {
    -- the section's own examples
    { "http://+", "http://+:80/", bucket = "strong", host = "+" },
    { "https://www.example.com", "https://www.example.com:443/", https = true, port = 443 },
    { "http://www.example.com/foo:bar", "http://www.example.com:80/foo:bar/", path = "/foo:bar/" },
    { "http://www.example.com/foo?bar=baz", "http://www.example.com:80/foo?bar=baz/",
      path = "/foo?bar=baz/" },
    -- schemes
    { "HTTP://www.example.com:80/", "http://www.example.com:80/" },
    { "HttpS://www.example.com:80/", "https://www.example.com:80/", https = true },
    -- hosts
    { "http://*:80/", "http://*:80/", bucket = "weak", host = "*" },
    { "http://WWW.Example.COM", "http://www.example.com:80/" },
    { "http://*.Example.com/", "http://*.example.com:80/", host = "*.example.com",
      subdomains = true },
    { "http://*.com/", "http://*.com:80/", host = "*.com", subdomains = true },
    { "http://localhost", "http://localhost:80/", host = "localhost" },
    { "http://a", "http://a:80/", host = "a" },
    { "http://a-b_c.d1/", "http://a-b_c.d1:80/", host = "a-b_c.d1" },
    { "http://1.example/", "http://1.example:80/", host = "1.example" },
    { "http://xn--bcher-kva.example/", "http://xn--bcher-kva.example:80/",
      host = "xn--bcher-kva.example" },
    { "http://192.0.2.1", "http://192.0.2.1:80/", bucket = "ip", host = "192.0.2.1" },
    { "http://0.0.0.0:5000", "http://0.0.0.0:5000/", bucket = "ip", host = "0.0.0.0", port = 5000 },
    { "http://[::1]", "http://[::1]:80/", bucket = "ip", host = "[::1]" },
    { "http://[::]:1", "http://[::]:1/", bucket = "ip", host = "[::]", port = 1 },
    { "http://[2001:DB8:0:0:0:0:0:1]:8080/a:b", "http://[2001:db8::1]:8080/a:b/", bucket = "ip",
      host = "[2001:db8::1]", port = 8080, path = "/a:b/" },
    { "http://[::ffff:192.0.2.1]:80/", "http://192.0.2.1:80/", bucket = "ip", host = "192.0.2.1" },
    { "http://" .. ("a"):rep(63) .. ".b/", "http://" .. ("a"):rep(63) .. ".b:80/",
      host = ("a"):rep(63) .. ".b" },
    { "http://" .. ("a."):rep(126) .. "b/", "http://" .. ("a."):rep(126) .. "b:80/",
      host = ("a."):rep(126) .. "b" },
    -- ports
    { "http://a:1/", "http://a:1/", host = "a", port = 1 },
    { "http://a:65535/", "http://a:65535/", host = "a", port = 65535 },
    { "http://a:0/", "http://a:0/", host = "a", port = 0 },
    { "https://a:80", "https://a:80/", https = true, host = "a" },
    -- paths
    { "http://a/Foo", "http://a:80/Foo/", host = "a", path = "/Foo/" },
    { "http://a/foo/", "http://a:80/foo/", host = "a", path = "/foo/" },
    { "http://a/foo/bar/baz", "http://a:80/foo/bar/baz/", host = "a", path = "/foo/bar/baz/" },
    { "http://a/a%2Fb/100%", "http://a:80/a%2Fb/100%/", host = "a", path = "/a%2Fb/100%/" },
    { "http://a/ä/€/\u{1F319}", "http://a:80/ä/€/\u{1F319}/", host = "a",
      path = "/ä/€/\u{1F319}/" },
    { "http://a/\u{A0}", "http://a:80/\u{A0}/", host = "a", path = "/\u{A0}/" },
    { "http://a/.../..b/c..", "http://a:80/.../..b/c../", host = "a", path = "/.../..b/c../" },
    { "http://a/b#c*+[]", "http://a:80/b#c*+[]/", host = "a", path = "/b#c*+[]/" },
    { "http://a/" .. ("x"):rep(2046), "http://a:80/" .. ("x"):rep(2046) .. "/", host = "a",
      path = "/" .. ("x"):rep(2046) .. "/" },
  }
  for _, case in ipairs(good) do
    it(("is read: %s"):format(case[1]:sub(1, 60)), function()
      local prefix = assert(route.prefix(case[1]))
      local bucket = case.bucket or "host"
      assert.same({
        text = case[2],
        https = case.https or false,
        bucket = bucket,
        subdomains = case.subdomains or false,
        host = case.host or "www.example.com",
        port = case.port or 80,
        path = case.path or "/",
        wildcard_top = bucket == "strong" or bucket == "weak",
      }, prefix)
      assert.same(prefix, route.prefix(case[2]))
    end)
  end

  local bad = {
    { "", "must not be empty" },
    -- schemes
    { "a", "there is no ://" },
    { "http:/a/", "there is no ://" },
    { "http//a", "there is no ://" },
    { "://a/", "the scheme must be http or https" },
    { "ftp://a/", "the scheme must be http or https" },
    { " http://a/", "the scheme must be http or https" },
    { "a http://a/", "the scheme must be http or https" },
    -- hosts
    { "http://", "the host is missing" },
    { "http:///a", "the host is missing" },
    { "http://:80/", "the host is missing" },
    { "http://a b/", "the host must consist of letters, digits" },
    { "http://a\0b/", "the host must consist of letters, digits" },
    { "http://u@a/", "the host must consist of letters, digits" },
    { "http://a?b=c", "the host must consist of letters, digits" },
    { "http://a\\b/", "the host must consist of letters, digits" },
    { "http://++/", "the host must consist of letters, digits" },
    { "http://+.a/", "the host must consist of letters, digits" },
    { "http://bücher.example/", "xn--" },
    { "http://a.*/", "an asterisk in the host must stand alone" },
    { "http://a.*.b/", "an asterisk in the host must stand alone" },
    { "http://*a.b/", "an asterisk in the host must stand alone" },
    { "http://a*.b/", "an asterisk in the host must stand alone" },
    { "http://*.*.b/", "an asterisk in the host must stand alone" },
    { "http://*./", "an asterisk in the host must stand alone" },
    { "http://**/", "an asterisk in the host must stand alone" },
    { "http://*.192.0.2.1/", "must stand before a name, not before an address" },
    { "http://*.7/", "must stand before a name, not before an address" },
    { "http://.a/", "each label of the host must be 1 to 63 bytes" },
    { "http://a./", "each label of the host must be 1 to 63 bytes" },
    { "http://a..b/", "each label of the host must be 1 to 63 bytes" },
    { "http://*..b/", "each label of the host must be 1 to 63 bytes" },
    { "http://" .. ("a"):rep(64) .. "/", "each label of the host must be 1 to 63 bytes" },
    { "http://" .. ("a."):rep(126) .. "bc/", "must not be longer than 253 bytes" },
    { "http://*." .. ("a."):rep(125) .. "bc/", "must not be longer than 253 bytes" },
    { "http://1.2.3/", "an IPv4 address must be four numbers" },
    { "http://1.2.3.4.5/", "an IPv4 address must be four numbers" },
    { "http://1/", "an IPv4 address must be four numbers" },
    { "http://256.0.0.1/", "an IPv4 address must be four numbers" },
    { "http://01.2.3.4/", "an IPv4 address must be four numbers" },
    { "http://1.2.3.4./", "an IPv4 address must be four numbers" },
    { "http://" .. ("1"):rep(300) .. "/", "an IPv4 address must be four numbers" },
    { "http://[]/", "what is in brackets must be an IPv6 address" },
    { "http://[1.2.3.4]/", "what is in brackets must be an IPv6 address" },
    { "http://[::g]/", "what is in brackets must be an IPv6 address" },
    { "http://[fe80::1%25eth0]/", "what is in brackets must be an IPv6 address" },
    { "http://[::1\0]/", "what is in brackets must be an IPv6 address" },
    { "http://[" .. ("1:"):rep(40) .. "]/", "what is in brackets must be an IPv6 address" },
    { "http://[::1/", "or an IPv6 address in brackets" },
    { "http://[::1]x/", "or an IPv6 address in brackets" },
    { "http://::1/", "an IPv6 address needs brackets" },
    { "http://::/", "an IPv6 address needs brackets" },
    { "http://::1:80/", "an IPv6 address needs brackets" },
    { "http://2001:db8::1/a", "an IPv6 address needs brackets" },
    { "http://fe80::1%eth0/", "an IPv6 address needs brackets" },
    { "http://a:b:80/", "no other host may hold a colon" },
    -- ports
    { "http://a:/", "the port must be a number between 1 and 65535" },
    { "http://a:b/", "the port must be a number between 1 and 65535" },
    { "http://a:*/", "the port must be a number between 1 and 65535" },
    { "http://a:-1/", "the port must be a number between 1 and 65535" },
    { "http://a: 80/", "the port must be a number between 1 and 65535" },
    { "http://a:80a/", "the port must be a number between 1 and 65535" },
    { "http://a:80?b=c", "the port must be a number between 1 and 65535" },
    { "http://[::1]:/", "the port must be a number between 1 and 65535" },
    { "http://a:080/", "without leading zeros" },
    { "http://a:00/", "without leading zeros" },
    { "http://a:65536/", "the port must be between 1 and 65535 (0 for any free one, http only)" },
    { "http://a:" .. ("9"):rep(400), "the port must be between 1 and 65535" },
    { "https://a:0/", "port 0 (any free one) is for http only" },
    -- paths
    { "http://a/b c/", "the path must not hold blanks or control characters" },
    { "http://a/b\tc/", "the path must not hold blanks or control characters" },
    { "http://a/b\0/", "the path must not hold blanks or control characters" },
    { "http://a/b\n", "the path must not hold blanks or control characters" },
    { "http://a/\x7F/", "the path must not hold blanks or control characters" },
    { "http://a/\u{80}/", "the path must not hold blanks or control characters" },
    { "http://a/\u{9F}/", "the path must not hold blanks or control characters" },
    { "http://a/\xE4/", "the path must be valid UTF-8" },
    { "http://a/\xC0\xAF/", "the path must be valid UTF-8" },
    { "http://a/\xE0\x9F\xBF/", "the path must be valid UTF-8" },
    { "http://a/\xED\xA0\x80/", "the path must be valid UTF-8" },
    { "http://a/\xF4\x90\x80\x80/", "the path must be valid UTF-8" },
    { "http://a/\xE2\x82", "the path must be valid UTF-8" },
    { "http://a/\xE2\x82x", "the path must be valid UTF-8" },
    { "http://a/.", "a segment . or .., which can never match" },
    { "http://a/..", "a segment . or .., which can never match" },
    { "http://a/b/../c", "a segment . or .., which can never match" },
    { "http://a/b/./c/", "a segment . or .., which can never match" },
    { "http://a//", "two slashes in a row" },
    { "http://a//b", "two slashes in a row" },
    { "http://a/b//c/", "two slashes in a row" },
    { "http://a/http://b/", "two slashes in a row" },
    { "http://a/b\\c/", "a backslash" },
    { "http://a/" .. ("x"):rep(2047), "the path must not be longer than 2048 bytes" },
    { "http://a/" .. ("x"):rep(2047) .. "/", "the path must not be longer than 2048 bytes" },
  }
  for _, case in ipairs(bad) do
    it(("is refused: %q"):format(case[1]:sub(1, 60)), function()
      refused(case[1], case[2])
    end)
  end

  it("stands in front of what is wrong with it, on one line", function()
    assert.equal("http://a:70000/: the port must be between 1 and 65535 (0 for any free one, "
      .. "http only)", refused("http://a:70000/", ""))
    refused("http://a/\0\n\x7F\u{85}ä\xE4\xFF/", "http://a/????ä??/: the path must not hold")
  end)

  it("is cut in a message when it is long, between characters", function()
    for shift = 0, 3 do
      local message = refused("http://a/" .. ("x"):rep(shift) .. ("€"):rep(700), "longer than 2048")
      assert.matches("^http://a/x*%.%.%.: the path must", (message:gsub("€", "")))
      assert.is_true(#message < 300)
      assert.is_truthy(utf8.len(message))
    end
  end)
end)

describe("two URL prefixes (reference/http-sys.md section 2.1)", function()
  local cases = {
    { "http://a/", "http://A:80", true },
    { "HTTP://a/b", "http://a:80/B/", true },
    { "http://[::1]/", "http://[0:0::1]:80/", true },
    { "http://a/", "https://a:80/", false },
    { "http://a/", "http://a:81/", false },
    { "http://a/", "http://b/", false },
    { "http://+/", "http://*/", false },
    { "http://a/b", "http://a/bc", false },
    { "http://a/ä", "http://a/Ä", false }, -- ASCII alone has case
  }
  for _, case in ipairs(cases) do
    it(("are %s: %s and %s"):format(case[3] and "equal" or "different", case[1], case[2]),
      function()
        assert.equal(case[3], route.prefix_equal(case[1], case[2]))
        assert.equal(case[3], route.prefix_equal(case[2], case[1]))
      end)
  end
end)

describe("the port of a URL prefix (reference/http-sys.md section 2.4)", function()
  it("is written back when it was found for port 0, and a copy keeps its own", function()
    assert.same(
      { "http://[::1]:50123/a:0/", "[::1]", "/a:0/", "http://[::1]:0/a:0/", "[::1]", "/a:0/" },
      { route.prefix_set_port("http://[::1]:0/a:0", 50123) })
  end)
end)
