local http = require("moonquay.probe").http

local function refused(status, reason, raw, method, limits)
  local target, got_status, got_reason, detail = http.target(raw, method or "GET", limits)
  assert.is_nil(target, ("%q is taken"):format(raw))
  assert.same({ status, reason }, { got_status, got_reason })
  assert.is_string(detail)
end

local function path_of(raw, limits)
  local target, _, _, detail = http.target(raw, "GET", limits)
  assert.is_table(target, detail)
  return target.path, target
end

describe("target forms (RFC 9112 section 3.2)", function()
  local cases = {
    { "GET", "/", { form = "origin", path = "/" } },
    { "GET", "/a/b?c=d", { form = "origin", path = "/a/b", query = "c=d" } },
    { "GET", "/a?", { form = "origin", path = "/a", query = "" } },
    { "GET", "/?a?b/../%zz", { form = "origin", path = "/", query = "a?b/../%zz" } },
    { "GET", "//h/a", { form = "origin", path = "//h/a" } },
    { "CONNECT", "h:443", { form = "authority", authority = "h:443", path = "" } },
    { "CONNECT", "[::1]:443", { form = "authority", authority = "[::1]:443", path = "" } },
    { "OPTIONS", "*", { form = "asterisk", path = "" } },
    { "OPTIONS", "/x", { form = "origin", path = "/x" } },
    { "GET", "http://h",
      { form = "absolute", scheme = "http", authority = "h", path = "/" } },
    { "GET", "http://h:80/",
      { form = "absolute", scheme = "http", authority = "h:80", path = "/" } },
    { "GET", "HTTPS://h:8443/a%20b/../c?d",
      { form = "absolute", scheme = "HTTPS", authority = "h:8443", path = "/c", query = "d" } },
    { "GET", "http://[2001:db8::1]:5/a",
      { form = "absolute", scheme = "http", authority = "[2001:db8::1]:5", path = "/a" } },
  }
  for _, case in ipairs(cases) do
    it(("takes %s of %s"):format(case[2], case[1]), function()
      local target = assert(http.target(case[2], case[1]))
      case[3].target = case[2]
      target.borrowed = nil
      assert.same(case[3], target)
    end)
  end

  local bad = {
    { "GET", "" }, { "GET", "*" }, { "OPTIONS", "**" }, { "OPTIONS", "*/" }, { "GET", "a" },
    { "GET", "a/b" }, { "GET", "?a" }, { "GET", "h:80" }, { "GET", "ftp://h/" },
    { "GET", "http:/h/" }, { "GET", "http:h" }, { "GET", "http://" }, { "GET", "http:///a" },
    { "GET", "http://h?query=value/1/2" }, { "GET", "http://h:80?a" }, { "GET", "http://u@h/" },
    { "GET", "http://u:p@h/" }, { "GET", "http://h:x/" }, { "GET", "http://h:0/" },
    { "GET", "http://h#f" }, { "GET", "http://h\\a/" }, { "GET", "http" }, { "GET", "://h/" },
    { "GET", "1http://h/" }, { "GET", "http://h/ a" },
    { "CONNECT", "/" }, { "CONNECT", "h" }, { "CONNECT", "h:" }, { "CONNECT", ":443" },
    { "CONNECT", "http://h:443/" }, { "CONNECT", "h:443/" }, { "CONNECT", "*" },
    { "CONNECT", "[::1]" }, { "CONNECT", "1.2.3.4" }, { "CONNECT", "h:65536" },
  }
  for _, case in ipairs(bad) do
    it(("refuses %q of %s"):format(case[2], case[1]), function()
      refused(400, "URL", case[2], case[1])
    end)
  end
end)

describe("target path decoding (reference/http-sys.md section 7.3)", function()
  it("decodes any printable escape but that of the slash, in either hex case", function()
    for byte = 0x20, 0x7E do
      for _, format in ipairs({ "%%%02x", "%%%02X" }) do
        local escape = format:format(byte)
        local expected = byte == 0x2F and escape or string.char(byte)
        assert.equal("/a" .. expected .. "b", (path_of("/a" .. escape .. "b")))
      end
    end
  end)

  local decoded = {
    { "decodes once", "/%252F", "/%2F" },
    { "decodes once, whatever comes out", "/%2541%25zz", "/%41%zz" },
    { "decodes two bytes of UTF-8", "/%C3%a4", "/ä" },
    { "decodes three bytes of UTF-8", "/%e2%82%AC", "/€" },
    { "decodes four bytes of UTF-8", "/%F0%9F%8c%99", "/\u{1F319}" },
    { "decodes the last character", "/%F4%8F%BF%BF", "/\u{10FFFF}" },
    { "decodes U+00A0, the first behind the controls", "/%C2%A0", "/\u{A0}" },
    { "keeps an overlong slash", "/%C0%AF", "/%C0%AF" },
    { "keeps %C0%A4", "/%C0%A4", "/%C0%A4" },
    { "keeps %C1%BF", "/%C1%BF", "/%C1%BF" },
    { "keeps %E0%80%AF", "/%E0%80%AF", "/%E0%80%AF" },
    { "keeps %E0%9F%BF", "/%E0%9F%BF", "/%E0%9F%BF" },
    { "keeps %F0%80%80%AF", "/%F0%80%80%AF", "/%F0%80%80%AF" },
    { "keeps %F0%80%BF%BF", "/%F0%80%BF%BF", "/%F0%80%BF%BF" },
    { "keeps what cannot be decoded and decodes what can", "/%C0%32%A4", "/%C02%A4" },
    { "keeps a lone continuation", "/%A4", "/%A4" },
    { "keeps a sequence that ends too early", "/%E2%82", "/%E2%82" },
    { "keeps a sequence broken by a plain byte", "/%E2%82x%AC", "/%E2%82x%AC" },
    { "keeps the start of a sequence and decodes the next", "/%E2%C3%A4", "/%E2ä" },
    { "keeps a surrogate", "/%ED%A0%80", "/%ED%A0%80" },
    { "keeps what is past U+10FFFF", "/%F4%A0%80%80", "/%F4%A0%80%80" },
    { "keeps what no lead byte is", "/%F8%FF", "/%F8%FF" },
    { "keeps the spelling of what it keeps", "/%c0%aF", "/%c0%aF" },
    { "keeps double slashes", "//a/b//c", "//a/b//c" },
    { "removes a segment and the one before", "/a/b/../c", "/a/c" },
    { "removes a single dot", "/a/b/./c", "/a/b/c" },
    { "removes escaped dots", "/a/b/%2E%2E/c", "/a/c" },
    { "removes half escaped dots", "/a/b/.%2e/c", "/a/c" },
    { "removes an escaped single dot", "/a/%2e/c", "/a/c" },
    { "ends in a slash behind a last single dot", "/a/.", "/a/" },
    { "ends in a slash behind two last dots", "/a/b/..", "/a/" },
    { "comes back to the root", "/a/..", "/" },
    { "comes back to the root twice", "/a/../b/..", "/" },
    { "takes an empty segment for one", "/a//../b", "/a/b" },
    { "takes an empty first segment for one", "//..", "/" },
    { "leaves three dots", "/a/.../b", "/a/.../b" },
    { "leaves dots in a name", "/a/..b/c..", "/a/..b/c.." },
    { "leaves a hidden file's dot", "/.well-known/x", "/.well-known/x" },
    { "does not split at an escaped slash", "/a/..%2Fb", "/a/..%2Fb" },
    { "does not see a dot segment behind an escaped slash", "/a%2f../b", "/a%2f../b" },
    { "keeps a backslash", "/a\\b", "/a\\b" },
    { "decodes an escaped backslash", "/a%5Cb", "/a\\b" },
    { "does not split at a backslash", "/a\\..\\b", "/a\\..\\b" },
    { "leaves a plus sign", "/a+b", "/a+b" },
    { "takes every other printable byte raw", "/!\"$&'()*+,-.09:;<=>@AZ[\\]^_`az{|}~",
      "/!\"$&'()*+,-.09:;<=>@AZ[\\]^_`az{|}~" },
    { "stops at the question mark, not at an escaped one", "/a%3Fb?c", "/a?b" },
    { "decodes an escaped number sign", "/a%23b", "/a#b" },
  }
  for _, case in ipairs(decoded) do
    it(case[1] .. ": " .. case[2], function()
      assert.equal(case[3], (path_of(case[2])))
      assert.equal(case[3], (path_of("http://h" .. case[2])))
    end)
  end

  local bad = {
    "/%F0%8F%8F%BF", "/%", "/%A", "/%Y", "/%%", "/%%20", "/%%32", "/path%", "/path%XY", "/path%F",
    "/%4", "/%4?1", "/%u0041", "/%U0041", "/%+4", "/% 4", "/%0x",
    "/a b", "/a\tb", "/a\nb", "/#", "/a?b#c", "/\xE1", "/ä", "/a?\xE1", "/a?b c", "/a?\t",
    "/\x7F", "/a?\x7F", "/%7F", "/%C2%80", "/%C2%9F", "/%81", "/%C2%80%2e",
  }
  for byte = 0, 0x1F do
    bad[#bad + 1] = "/a" .. string.char(byte)
    bad[#bad + 1] = "/a?" .. string.char(byte)
    bad[#bad + 1] = ("/a%%%02X"):format(byte)
  end
  for _, raw in ipairs(bad) do
    it(("refuses %q"):format(raw), function()
      refused(400, "URL", raw)
    end)
  end

  for _, raw in ipairs({ "/..", "/../", "/../a", "/a/../..", "/a/../../b", "/./..", "/%2e%2E/a",
    "/a/b/../../..", "http://h/.." }) do
    it(("forbids %s, which leads above the root"):format(raw), function()
      refused(403, "Forbidden", raw)
    end)
  end

  it("leaves a path that needs nothing in the target's own bytes", function()
    for _, raw in ipairs({ "/", "/a/b.html", "/a..b/c.", "//a//", "/a\\b", "/x?%20/../" }) do
      local _, target = path_of(raw)
      assert.is_true(target.borrowed, raw)
    end
    local _, target = path_of("/%41")
    assert.is_false(target.borrowed)
  end)
end)

describe("target limits (reference/http-sys.md section 15)", function()
  local length = { url_segment_max_length = 3, url_segment_max_count = 0 }
  local count = { url_segment_max_length = 0, url_segment_max_count = 2 }
  local cases = {
    { "a segment at its limit", length, "/abc/def/", true },
    { "a segment above its limit", length, "/ab/abcd", false },
    { "a first segment above its limit", length, "/abcd/ab", false },
    { "characters and not bytes", length, "/%C3%A4%C3%B6%C3%BC", true },
    { "a character too many", length, "/%C3%A4%C3%B6%C3%BC%C3%A4", false },
    { "an escape that stays as three characters", length, "/%2F", true },
    { "an escape that stays and one more", length, "/a%2F", false },
    { "what dot segments leave", length, "/abcd/../a", true },
    { "no query", length, "/abc?abcdefgh", true },
    { "as many segments as the limit", count, "/a/b", true },
    { "nothing behind a last slash", count, "/a/b/", true },
    { "a segment too many", count, "/a/b/c", false },
    { "empty segments too", count, "///c", false },
    { "segments that dots removed no more", count, "/a/b/../c", true },
    { "no length without limit", count, "/" .. ("x"):rep(5000), true },
    { "no count without limit", length, ("/abc"):rep(2000), true },
  }
  for _, case in ipairs(cases) do
    it("count " .. case[1], function()
      if case[4] then
        path_of(case[3], case[2])
      else
        refused(400, "URL", case[3], "GET", case[2])
      end
    end)
  end

  it("are 260 characters and 255 segments as DESIGN section 5 has them", function()
    path_of("/" .. ("x"):rep(260))
    refused(400, "URL", "/" .. ("x"):rep(261))
    path_of(("/x"):rep(255))
    refused(400, "URL", ("/x"):rep(256))
  end)
end)

describe("authority (RFC 3986 section 3.2)", function()
  for _, text in ipairs({ "h", "example.com", "example.com:80", "h:", "h:1", "h:65535", "h:00080",
    "127.0.0.1", "127.0.0.1:8080", "[::]", "[::1]:443", "[2001:DB8::1]", "[::ffff:1.2.3.4]:1",
    "a_b-c~d", "x!$&'()*+,;=y", "%41b", "h%c3%a4.de:80", "..", "1.2.3.4.5" }) do
    it(("takes %s"):format(text), function()
      assert.is_true(http.authority_valid(text))
    end)
  end
  for _, text in ipairs({ "", ":", ":80", "h:0", "h:65536", "h:123456", "h:000080",
    "h:8a", "h:-1", "h:80:80",
    "h: 80", " h", "h ", "u@h", "u:p@h", "h/", "h?", "h#", "h\\", "[::1", "::1", "[]", "[::1]x",
    "[::1]80", "[::1]]", "[1.2.3.4]", "[::g]", "[::1%25eth0]", "[fe80::1%eth0]", "[v1.x]", "[:",
    "[" .. ("1:"):rep(40) .. "]", "%", "%4", "%zz", "h%", "ä", "h\0", "[::1\0]", "h\t", "<h>",
    "a\"b", "http://h" }) do
    it(("refuses %q"):format(text), function()
      assert.is_false(http.authority_valid(text))
    end)
  end
end)
