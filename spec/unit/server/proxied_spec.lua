local proxy = require("moonquay.probe").proxy

local PROXIES = "127.0.0.1, 10.0.0.0/8, fd00::/8"

-- Lines from a map of names, or the lines themselves.
local function lines(fields)
  local list = {}
  for i, line in ipairs(fields) do
    list[i] = line
  end
  for name, value in pairs(fields) do
    if type(name) == "string" then
      list[#list + 1] = { name, value }
    end
  end
  return list
end

describe("A client behind proxies", function()
  -- { rule, from, fields, client, scheme, host; trusted }
  local cases = {
    { "is the peer without fields", "127.0.0.1", {}, "127.0.0.1:0" },
    { "is the peer that is not trusted", "192.0.2.9",
      { Forwarded = "for=1.2.3.4;proto=https;host=h", ["X-Forwarded-For"] = "1.2.3.5" },
      "192.0.2.9:0" },
    { "is the peer that is not trusted, whatever it sends", "192.0.2.9",
      { Forwarded = '"', ["X-Forwarded-For"] = "x", ["X-Forwarded-Proto"] = "ftp" },
      "192.0.2.9:0" },
    { "is nobody but the peer when nobody is trusted", "127.0.0.1",
      { Forwarded = "for=1.2.3.4" }, "127.0.0.1:0", trusted = "" },
    { "is what a trusted proxy says", "127.0.0.1",
      { Forwarded = 'for="1.2.3.4:80"' }, "1.2.3.4:80" },
    { "is what a trusted proxy says over IPv6", "fd12::1",
      { Forwarded = 'for="[2001:db8::1]:443"' }, "[2001:db8::1]:443" },
    { "is what a mapped address says", "::ffff:10.0.0.1",
      { Forwarded = "for=1.2.3.4" }, "1.2.3.4:0" },
    { "is what a proxy on a Unix socket says", "unix", { Forwarded = "for=1.2.3.4" }, "1.2.3.4:0",
      trusted = "unix" },
    { "is the peer on a Unix socket that is not trusted", "unix", { Forwarded = "for=1.2.3.4" },
      "unix" },
    { "is the last that a trusted proxy named", "127.0.0.1",
      { Forwarded = "for=6.6.6.6, for=1.2.3.4, for=10.0.0.1, for=10.0.0.2" }, "1.2.3.4:0" },
    { "is looked for no further than the first who is not trusted", "127.0.0.1",
      { Forwarded = "for=10.0.0.9, for=1.2.3.4" }, "1.2.3.4:0" },
    { "is looked for across lines", "127.0.0.1", { { "Forwarded", "for=1.2.3.4" },
      { "Other", "x" }, { "Forwarded", "for=10.0.0.1" }, { "Forwarded", "for=10.0.0.2" } },
      "1.2.3.4:0" },
    { "is the first of all when all are trusted", "127.0.0.1",
      { Forwarded = "for=10.0.0.1, for=10.0.0.2" }, "10.0.0.1:0" },
    { "is a mapped address as IPv4", "127.0.0.1",
      { Forwarded = 'for=1.2.3.4, for="[::ffff:10.0.0.1]"' }, "1.2.3.4:0" },
    { "is the last known before one that is unknown", "127.0.0.1",
      { Forwarded = "for=1.2.3.4, for=unknown, for=10.0.0.1" }, "10.0.0.1:0" },
    { "is the last known before one that is obfuscated", "127.0.0.1",
      { Forwarded = "for=1.2.3.4, for=_x" }, "127.0.0.1:0" },
    { "is the last known before one that is not named", "127.0.0.1",
      { Forwarded = "for=1.2.3.4, proto=http, for=10.0.0.1" }, "10.0.0.1:0" },
    { "asked with the scheme and host of its hop", "127.0.0.1",
      { Forwarded = "for=6.6.6.6;proto=ftp;host=evil, for=1.2.3.4;proto=HTTPS;host=H.example, "
        .. "for=10.0.0.1;proto=http;host=inner" }, "1.2.3.4:0", "https", "H.example" },
    { "asked with no other hop's scheme and host", "127.0.0.1",
      { Forwarded = "for=1.2.3.4, for=10.0.0.1;proto=https;host=inner" }, "1.2.3.4:0" },
    { "asked with the scheme of the hop before a hidden one", "127.0.0.1",
      { Forwarded = "for=_x;proto=http;host=a, for=10.0.0.1;proto=https;host=b" }, "10.0.0.1:0",
      "https", "b" },
    { "asked with the scheme of the nearest hop when that hides it", "127.0.0.1",
      { Forwarded = "for=1.2.3.4;proto=http;host=a, for=_x;proto=https;host=b" }, "127.0.0.1:0",
      "https", "b" },
    { "asked with the scheme of the nearest hop when that names nobody", "127.0.0.1",
      { Forwarded = "for=1.2.3.4, proto=https;host=b" }, "127.0.0.1:0", "https", "b" },
    { "asked with no scheme but http and https", "127.0.0.1",
      { Forwarded = "for=1.2.3.4;proto=wss;host=h" }, "1.2.3.4:0", nil, "h" },
    { "asked with a host that had escapes", "127.0.0.1",
      { Forwarded = 'for=1.2.3.4;host="\\h\\:80"' }, "1.2.3.4:0", nil, "h:80" },
    { "is what X-Forwarded-For says", "127.0.0.1", { ["X-Forwarded-For"] = "6.6.6.6, 1.2.3.4:99" },
      "1.2.3.4:99" },
    { "is looked for in X-Forwarded-For", "127.0.0.1", { ["X-Forwarded-For"] =
      "6.6.6.6, 2001:db8::1, fd00::1, 10.0.0.2" }, "[2001:db8::1]:0" },
    { "is the last known before unknown in X-Forwarded-For", "127.0.0.1",
      { ["X-Forwarded-For"] = "1.2.3.4, unknown, 10.0.0.2", ["X-Forwarded-Proto"] = "http, https" },
      "10.0.0.2:0", "https" },
    { "asked with the scheme and host as far from the right", "127.0.0.1",
      { ["X-Forwarded-For"] = "6.6.6.6, 1.2.3.4, 10.0.0.1",
        ["X-Forwarded-Proto"] = "http, HTTPS, http", ["X-Forwarded-Host"] = "evil, b, c" },
      "1.2.3.4:0", "https", "b" },
    { "asked with the left-most scheme and host of shorter lists", "127.0.0.1",
      { ["X-Forwarded-For"] = "1.2.3.4, 10.0.0.1, 10.0.0.2", ["X-Forwarded-Proto"] = "https, http",
        ["X-Forwarded-Host"] = "b" }, "1.2.3.4:0", "https", "b" },
    { "asked with the right-most scheme and host without X-Forwarded-For", "127.0.0.1",
      { ["X-Forwarded-Proto"] = "http, https", ["X-Forwarded-Host"] = "a, b" }, "127.0.0.1:0",
      "https", "b" },
    { "is the peer when all is empty", "127.0.0.1", { ["X-Forwarded-For"] = ",",
      ["X-Forwarded-Proto"] = "" }, "127.0.0.1:0" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.same({ client = case[4], scheme = case[5], host = case[6] },
        proxy.resolve(lines(case[3]), case[2], case.trusted or PROXIES))
    end)
  end

  local bad = {
    { "Forwarded", { Forwarded = "for=x" }, "a malformed node in Forwarded" },
    { "X-Forwarded-For", { ["X-Forwarded-For"] = "x" }, "a malformed address in X-Forwarded-For" },
    { "X-Forwarded-Proto", { ["X-Forwarded-For"] = "1.2.3.4", ["X-Forwarded-Proto"] = "ftp" },
      "X-Forwarded-Proto is neither http nor https" },
    { "X-Forwarded-Host", { ["X-Forwarded-Host"] = "a b" }, "a malformed X-Forwarded-Host" },
    { "Forwarded left of who counts", { Forwarded = "for=x, for=1.2.3.4" },
      "a malformed node in Forwarded" },
    { "Forwarded beside one of the others", { Forwarded = "for=1.2.3.4",
      ["X-Forwarded-For"] = "1.2.3.4" }, "both Forwarded and X-Forwarded fields" },
    { "empty Forwarded beside one of the others", { Forwarded = "",
      ["X-Forwarded-Proto"] = "https" }, "both Forwarded and X-Forwarded fields" },
    { "Forwarded beside a host", { Forwarded = "for=1.2.3.4", ["X-Forwarded-Host"] = "h" },
      "both Forwarded and X-Forwarded fields" },
    { "Forwarded beside an empty one of the others", { Forwarded = "for=1.2.3.4",
      ["X-Forwarded-For"] = "" }, "both Forwarded and X-Forwarded fields" },
    { "Forwarded beside one of the others, both malformed", { Forwarded = "for=x",
      ["X-Forwarded-For"] = "x" }, "both Forwarded and X-Forwarded fields" },
  }
  for _, case in ipairs(bad) do
    it("is refused with a wrong " .. case[1], function()
      assert.same({ nil, 400, "Header", case[3] },
        { proxy.resolve(lines(case[2]), "127.0.0.1", PROXIES) })
    end)
  end
end)
