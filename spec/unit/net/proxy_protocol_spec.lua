local proxy = require("moonquay.probe").proxy
local pieces = require("spec.support.pieces")

local SIGNATURE = "\r\n\r\n\0\r\nQUIT\n"
local LOCAL, PROXY = 0x20, 0x21
local IP4 = string.pack(">c4c4I2I2", "\192\0\2\1", "\10\0\0\2", 56324, 443)
local IP6 = string.pack(">c16c16I2I2", "\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\1",
  "\xfd" .. ("\0"):rep(14) .. "\2", 1, 65535)
local MAPPED = string.pack(">c16c16I2I2", ("\0"):rep(10) .. "\255\255\192\0\2\1",
  ("\0"):rep(10) .. "\255\255\10\0\0\2", 56324, 443)
local UNIX = string.pack(">c108c108", "/run/client", "/run/server")

local function v2(command, family, block)
  return SIGNATURE .. string.pack(">BBs2", command, family, block)
end

local function tlv(kind, value)
  return string.pack(">Bs2", kind, value)
end

-- CRC32C bit by bit, to hold against the core's own (RFC 3720 appendix B.4).
local function crc32c(text)
  local crc = 0xFFFFFFFF
  for i = 1, #text do
    crc = crc ~ text:byte(i)
    for _ = 1, 8 do
      crc = crc & 1 == 1 and crc >> 1 ~ 0x82F63B78 or crc >> 1
    end
  end
  return ~crc & 0xFFFFFFFF
end

-- A header with a right checksum between what comes before and behind it.
local function checked(family, before, behind)
  local header = v2(PROXY, family, before .. tlv(3, "\0\0\0\0") .. behind)
  local at = #SIGNATURE + 4 + #before + 3
  return header:sub(1, at) .. string.pack(">I4", crc32c(header)) .. header:sub(at + 5)
end

-- What a header says; without addresses when there is no source.
local function says(version, source, destination)
  return { version = version, has_addresses = source ~= nil, source = source or "-",
    destination = destination or "-" }
end

local V4 = says(1, "192.0.2.1:56324", "10.0.0.2:443")
local V4_2 = says(2, "192.0.2.1:56324", "10.0.0.2:443")
local V6_2 = says(2, "[2001:db8::1]:1", "[fd00::2]:65535")
local ENDLESS = ("1234:"):rep(7) .. "1234" -- an IPv6 address of 39 bytes

describe("the checksum of these specs", function()
  it("is CRC32C", function()
    assert.equal(0xE3069283, crc32c("123456789"))
  end)
end)

local complete = {
  { "PROXY protocol version 1", {
    { "reads TCP4", "PROXY TCP4 192.0.2.1 10.0.0.2 56324 443\r\n", V4 },
    { "reads TCP6", "PROXY TCP6 2001:DB8::1 fd00:0::2 1 65535\r\n",
      says(1, "[2001:db8::1]:1", "[fd00::2]:65535") },
    { "takes a mapped address in TCP6 for IPv4",
      "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:a00:2 56324 443\r\n", V4 },
    { "reads port 0", "PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", says(1, "1.2.3.4:0", "5.6.7.8:0") },
    { "reads UNKNOWN", "PROXY UNKNOWN\r\n", says(1) },
    { "ignores what follows UNKNOWN", "PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", says(1) },
    { "ignores anything that follows UNKNOWN", "PROXY UNKNOWN  what-ever,1\r\n", says(1) },
    { "reads the longest line", "PROXY UNKNOWN " .. ("x"):rep(107 - 16) .. "\r\n", says(1) },
    { "reads the longest addresses",
      ("PROXY TCP6 %s %s 65535 65535\r\n"):format(ENDLESS, ENDLESS),
      says(1, "[" .. ENDLESS .. "]:65535", "[" .. ENDLESS .. "]:65535") },
  } },
  { "PROXY protocol version 2", {
    { "reads IPv4 over TCP", v2(PROXY, 0x11, IP4), V4_2 },
    { "reads IPv4 over UDP", v2(PROXY, 0x12, IP4), V4_2 },
    { "reads IPv6 over TCP", v2(PROXY, 0x21, IP6), V6_2 },
    { "reads IPv6 over UDP", v2(PROXY, 0x22, IP6), V6_2 },
    { "takes a mapped address for IPv4", v2(PROXY, 0x21, MAPPED), V4_2 },
    { "reads a Unix stream", v2(PROXY, 0x31, UNIX), says(2, "unix", "unix") },
    { "reads Unix datagrams", v2(PROXY, 0x32, UNIX), says(2, "unix", "unix") },
    { "has no addresses when unspecified", v2(PROXY, 0x00, ""), says(2) },
    { "ignores the block of an unspecified family", v2(PROXY, 0x01, IP4 .. "x"), says(2) },
    { "ignores addresses of an unspecified transport", v2(PROXY, 0x10, IP4), says(2) },
    { "has no addresses in LOCAL", v2(LOCAL, 0x00, ""), says(2) },
    { "ignores addresses in LOCAL", v2(LOCAL, 0x11, IP4), says(2) },
    { "ignores any block in LOCAL", v2(LOCAL, 0xFF, "\3\0\1"), says(2) },
    { "skips vectors", v2(PROXY, 0x11, IP4 .. tlv(1, "h2") .. tlv(0xEE, "") .. tlv(4, "\0\0")),
      V4_2 },
    { "skips vectors behind Unix addresses", v2(PROXY, 0x31, UNIX .. tlv(2, "example.com")),
      says(2, "unix", "unix") },
    { "skips a vector of its longest", v2(PROXY, 0x11, IP4 .. tlv(4, ("\0"):rep(4096 - 12 - 3))),
      V4_2 },
    { "takes a right checksum", checked(0x11, IP4, ""), V4_2 },
    { "takes a right checksum between others",
      checked(0x21, IP6 .. tlv(1, "http/1.1"), tlv(2, "example.com")), V6_2 },
  } },
}

local bad = {
  { "PROXY protocol version 1", {
    { "another protocol", "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "a protocol in small letters", "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "a longer word than UNKNOWN", "PROXY UNKNOWNS\r\n",
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "no protocol", "PROXY \r\n", "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "two blanks before the protocol", "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "a request line", "PROXY / HTTP/1.1\r\n",
      "a PROXY v1 protocol other than TCP4, TCP6 and UNKNOWN" },
    { "no addresses", "PROXY TCP4\r\n", "a PROXY v1 line without two addresses and two ports" },
    { "no addresses behind a blank", "PROXY TCP4 \r\n",
      "a PROXY v1 line without two addresses and two ports" },
    { "one port", "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
      "a PROXY v1 line without two addresses and two ports" },
    { "three ports", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
      "a PROXY v1 line without two addresses and two ports" },
    { "a blank at the end", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
      "a PROXY v1 line without two addresses and two ports" },
    { "two blanks between words", "PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n",
      "a PROXY v1 line without two addresses and two ports" },
    { "an empty address", "PROXY TCP4  5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an empty destination", "PROXY TCP6 ::1  1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an IPv6 address in TCP4", "PROXY TCP4 ::1 5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "a mapped address in TCP4", "PROXY TCP4 ::ffff:1.2.3.4 5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an IPv4 address in TCP6", "PROXY TCP6 ::1 5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an address in brackets", "PROXY TCP6 [::1] ::2 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an address with leading zeros", "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "a name", "PROXY TCP4 localhost 5.6.7.8 1 2\r\n",
      "a PROXY v1 address that is none of its family" },
    { "an empty port", "PROXY TCP4 1.2.3.4 5.6.7.8  2\r\n",
      "a malformed port in a PROXY v1 line" },
    { "a port with a leading zero", "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
      "a malformed port in a PROXY v1 line" },
    { "a port with a sign", "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
      "a malformed port in a PROXY v1 line" },
    { "a port above 65535", "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
      "a malformed port in a PROXY v1 line" },
    { "a port of six digits", "PROXY TCP4 1.2.3.4 5.6.7.8 1 100000\r\n",
      "a malformed port in a PROXY v1 line" },
    { "a bare LF", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
      "a byte in a PROXY v1 line that is no printable ASCII" },
    { "a bare CR", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\rG", "a bare CR in a PROXY v1 line" },
    { "a TAB", "PROXY\32TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
      "a byte in a PROXY v1 line that is no printable ASCII" },
    { "NUL", "PROXY UNKNOWN \0", "a byte in a PROXY v1 line that is no printable ASCII" },
    { "DEL", "PROXY UNKNOWN \127", "a byte in a PROXY v1 line that is no printable ASCII" },
    { "a byte above ASCII", "PROXY UNKNOWN \195\169",
      "a byte in a PROXY v1 line that is no printable ASCII" },
    { "a line of 108 bytes", "PROXY UNKNOWN " .. ("x"):rep(108 - 16) .. "\r\n",
      "a PROXY v1 line longer than 107 bytes" },
    { "a line of 106 bytes and one that is none of it", "PROXY UNKNOWN " .. ("x"):rep(92) .. "\1",
      "a PROXY v1 line longer than 107 bytes" },
    { "a CR that is the last of 107 bytes", "PROXY UNKNOWN " .. ("x"):rep(92) .. "\rG",
      "a PROXY v1 line longer than 107 bytes" },
    { "a byte that is none of it among the first 106", "PROXY UNKNOWN " .. ("x"):rep(91) .. "\1",
      "a byte in a PROXY v1 line that is no printable ASCII" },
    { "a line without end", "PROXY UNKNOWN " .. ("x"):rep(300),
      "a PROXY v1 line longer than 107 bytes" },
  } },
  { "PROXY protocol version 2", {
    { "version 1", v2(0x11, 0x11, IP4), "a PROXY version other than 2 behind the signature of 2" },
    { "version 3", v2(0x31, 0x11, IP4), "a PROXY version other than 2 behind the signature of 2" },
    { "another command", v2(0x22, 0x11, IP4), "a PROXY v2 command other than LOCAL and PROXY" },
    { "another family", v2(PROXY, 0x41, IP4),
      "an unknown family or transport in a PROXY v2 header" },
    { "another transport", v2(PROXY, 0x13, IP4),
      "an unknown family or transport in a PROXY v2 header" },
    { "no room for IPv4", v2(PROXY, 0x11, IP4:sub(1, -2)),
      "a PROXY v2 header shorter than its addresses" },
    { "no room for IPv6", v2(PROXY, 0x21, IP6:sub(1, -2)),
      "a PROXY v2 header shorter than its addresses" },
    { "no room for Unix paths", v2(PROXY, 0x31, UNIX:sub(1, -2)),
      "a PROXY v2 header shorter than its addresses" },
    { "no addresses", v2(PROXY, 0x11, ""), "a PROXY v2 header shorter than its addresses" },
    { "a vector cut in its head", v2(PROXY, 0x11, IP4 .. "\1\0"),
      "a PROXY v2 vector longer than its header" },
    { "a vector cut in its value", v2(PROXY, 0x11, IP4 .. "\1\0\3h2"),
      "a PROXY v2 vector longer than its header" },
    { "a later vector cut", v2(PROXY, 0x11, IP4 .. tlv(1, "h2") .. "\4\255\255"),
      "a PROXY v2 vector longer than its header" },
    { "a wrong checksum", v2(PROXY, 0x11, IP4 .. tlv(3, "\0\0\0\0")),
      "a PROXY v2 header whose checksum is wrong" },
    { "a right checksum of other bytes",
      (checked(0x11, IP4, tlv(1, "h2")):gsub("h2$", "h3")),
      "a PROXY v2 header whose checksum is wrong" },
    { "a checksum of three bytes", v2(PROXY, 0x11, IP4 .. tlv(3, "\0\0\0")),
      "a malformed or second checksum in a PROXY v2 header" },
    { "a second checksum", checked(0x11, IP4, tlv(3, "\0\0\0\0")),
      "a malformed or second checksum in a PROXY v2 header" },
    { "a header above the limit", v2(PROXY, 0x11, IP4 .. tlv(4, ("\0"):rep(4097 - 12 - 3))),
      "a PROXY v2 header longer than 4112 bytes" },
    { "LOCAL above the limit", SIGNATURE .. "\x20\0\255\255",
      "a PROXY v2 header longer than 4112 bytes" },
  } },
}

local none = {
  { "a request", "GET / HTTP/1.1\r\n\r\n" },
  { "a request that begins as PROXY", "PROPFIND / HTTP/1.1\r\n\r\n" },
  { "HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
  { "PROXY without a blank", "PROXY\r\n" },
  { "PROXY in small letters", "proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n" },
  { "a TLS hello", "\x16\x03\x01\x02\x00" },
  { "an empty line before a request", "\r\nGET / HTTP/1.1\r\n\r\n" },
  { "two empty lines before a request", "\r\n\r\nGET / HTTP/1.1\r\n\r\n" },
  { "a signature with a slip", "\r\n\r\n\0\r\nQUIT\r\x21\x11" },
  { "a header behind a blank", " PROXY UNKNOWN\r\n" },
}

-- Runs it(title, check(size)) for a text whole and byte by byte.
local function each_way(title, text, check)
  for _, size in ipairs({ math.max(#text, 1), 1 }) do
    it(("%s, in pieces of %d"):format(title, size), function()
      check(size)
    end)
  end
end

for _, group in ipairs(complete) do
  describe(group[1], function()
    for _, case in ipairs(group[2]) do
      local title, text, expected = table.unpack(case)
      each_way(title, text, function(size)
        expected.used = #text
        assert.same(expected, proxy.header(pieces(text, size)))
      end)
      -- A header that ends where its bytes end leaves what follows alone.
      it(title .. ", before a request", function()
        expected.used = #text
        assert.same(expected, proxy.header({ text .. "GET / HTTP/1.1\r\n\r\n" }))
      end)
      it(title .. ", not before its last byte", function()
        for _, size in ipairs({ #text, 1 }) do
          assert.same({ nil, "again" }, { proxy.header(pieces(text:sub(1, -2), size)) })
        end
      end)
    end
  end)
end

for _, group in ipairs(bad) do
  describe(group[1], function()
    for _, case in ipairs(group[2]) do
      local title, text, detail = table.unpack(case)
      each_way("refuses " .. title, text, function(size)
        assert.same({ nil, "invalid", detail }, { proxy.header(pieces(text, size)) })
      end)
      it("refuses " .. title .. ", before a request", function()
        assert.same({ nil, "invalid", detail }, { proxy.header({ text .. "GET / HTTP/1.1\r\n" }) })
      end)
    end
  end)
end

describe("no PROXY protocol", function()
  for _, case in ipairs(none) do
    each_way("is " .. case[1], case[2], function(size)
      assert.same({ nil, "not_found" }, { proxy.header(pieces(case[2], size)) })
    end)
  end

  it("is known of nothing at all", function()
    assert.same({ nil, "again" }, { proxy.header({ "" }) })
  end)
end)
