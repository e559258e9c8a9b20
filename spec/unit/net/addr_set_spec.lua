local proxy = require("moonquay.probe").proxy

describe("a set of addresses", function()
  -- { what it does, text, who is in it, who is not }
  local cases = {
    { "is empty for no text", "", {}, { "127.0.0.1", "::1", "unix", "-" } },
    { "is empty for separators alone", " ,\t, ", {}, { "127.0.0.1", "0.0.0.0", "::", "unix" } },
    { "has an address", "192.0.2.1", { "192.0.2.1" }, { "192.0.2.0", "192.0.2.2", "unix", "::" } },
    { "has an IPv6 address", "2001:db8::1", { "2001:DB8:0::1" },
      { "2001:db8::", "2001:db8::2", "32.1.13.184" } },
    { "has a network", "10.0.0.0/8", { "10.0.0.0", "10.255.255.255" },
      { "9.255.255.255", "11.0.0.0", "::a00:0" } },
    { "has a network that ends inside a byte", "172.16.0.0/12", { "172.16.0.0", "172.31.255.255" },
      { "172.15.255.255", "172.32.0.0" } },
    { "has a network of two", "192.0.2.6/31", { "192.0.2.6", "192.0.2.7" },
      { "192.0.2.5", "192.0.2.8" } },
    { "has a network of one", "192.0.2.6/32", { "192.0.2.6" }, { "192.0.2.7" } },
    { "has an IPv6 network", "fd00::/8", { "fd00::", "fdff:ffff::1" },
      { "fc00::", "fe00::", "253.0.0.1" } },
    { "has an IPv6 network that ends inside a byte", "2001:db8::/33", { "2001:db8:7fff::1" },
      { "2001:db8:8000::" } },
    { "has an IPv6 network of one", "::1/128", { "::1" }, { "::", "::2" } },
    { "has all of IPv4 and none of IPv6", "0.0.0.0/0", { "0.0.0.0", "255.1.2.3" },
      { "::", "::1", "unix", "-" } },
    { "has all of IPv6 and none of IPv4", "::/0", { "::", "ffff::" },
      { "1.2.3.4", "::ffff:1.2.3.4", "unix", "-" } },
    { "has Unix sockets", "unix", { "unix" }, { "127.0.0.1", "::1", "0.0.0.0", "-" } },
    { "takes a mapped address for IPv4", "::ffff:192.0.2.1", { "192.0.2.1", "::ffff:c000:201" },
      { "::192.0.2.1", "192.0.2.2" } },
    { "takes a mapped network for IPv4", "::ffff:10.0.0.0/104", { "10.1.2.3", "::ffff:10.9.9.9" },
      { "11.0.0.0" } },
    { "takes all mapped addresses for IPv4", "::ffff:0.0.0.0/96", { "10.1.2.3" }, { "::1" } },
    { "has a mapped address in a network of IPv4", "10.0.0.0/8", { "::ffff:10.1.2.3" },
      { "::ffff:11.1.2.3" } },
    { "takes commas", "127.0.0.1,::1,unix", { "127.0.0.1", "::1", "unix" }, { "127.0.0.2" } },
    { "takes blanks", " 127.0.0.1\t::1  unix ", { "127.0.0.1", "::1", "unix" }, { "127.0.0.2" } },
    { "takes both", "127.0.0.1, 10.0.0.0/8, ::1, fd00::/8, unix",
      { "127.0.0.1", "10.3.2.1", "::1", "fd12::", "unix" }, { "127.0.0.2", "::2", "8.8.8.8" } },
    { "takes empty entries for none", ",127.0.0.1,, ,", { "127.0.0.1" }, { "0.0.0.0", "::" } },
    { "takes an entry twice", "::1 unix ::1 unix", { "::1", "unix" }, { "::2" } },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local inside, outside = assert(proxy.addr_set(case[2], case[3])),
        assert(proxy.addr_set(case[2], case[4]))
      for i, address in ipairs(case[3]) do
        assert.is_true(inside[i], address)
      end
      for i, address in ipairs(case[4]) do
        assert.is_false(outside[i], address)
      end
    end)
  end

  local KINDS = "allowed are IPv4 and IPv6 addresses, networks as 10.0.0.0/8 or fd00::/8, and unix"
  local function no_address(entry)
    return ("'%s' is no address: %s"):format(entry, KINDS)
  end
  local function no_bits(entry, least, most)
    return ("'%s' has no such number of bits behind its slash: allowed are %d to %d"):format(entry,
      least, most)
  end
  local function beyond(entry, network)
    return ("'%s' has bits beyond its mask: the network is %s, one address has no slash"):format(
      entry, network)
  end
  local bad = {
    { "a word", "localhost", no_address("localhost") },
    { "loopback, which is no word of it", "127.0.0.1, loopback", no_address("loopback") },
    { "unix in capitals", "UNIX", no_address("UNIX") },
    { "unix with a path", "unix:/run/proxy", no_address("unix:/run/proxy") },
    { "an address with port", "127.0.0.1:80", no_address("127.0.0.1:80") },
    { "an address in brackets", "[::1]", no_address("[::1]") },
    { "an address cut short", "10.0.0", no_address("10.0.0") },
    { "a network cut short", "10/8", no_address("10/8") },
    { "an address with leading zeros", "010.0.0.1", no_address("010.0.0.1") },
    { "an address with a zone", "fe80::1%lo", no_address("fe80::1%lo") },
    { "a mask alone", "/8", no_address("/8") },
    { "another separator", "127.0.0.1;::1", no_address("127.0.0.1;::1") },
    { "no more than the start of a long entry", ("x"):rep(900), no_address(("x"):rep(64)) },
    { "a mask too long for IPv4", "10.0.0.0/33", no_bits("10.0.0.0/33", 0, 32) },
    { "a mask too long for IPv6", "fd00::/129", no_bits("fd00::/129", 0, 128) },
    { "a mask too short for a mapped address", "::ffff:0.0.0.0/95",
      no_bits("::ffff:0.0.0.0/95", 96, 128) },
    { "a mask too long for a mapped address", "::ffff:0.0.0.0/129",
      no_bits("::ffff:0.0.0.0/129", 96, 128) },
    { "an empty mask", "10.0.0.0/", no_bits("10.0.0.0/", 0, 32) },
    { "a mask of bytes", "10.0.0.0/255.0.0.0", no_bits("10.0.0.0/255.0.0.0", 0, 32) },
    { "a mask with a leading zero", "10.0.0.0/08", no_bits("10.0.0.0/08", 0, 32) },
    { "a mask with a sign", "10.0.0.0/+8", no_bits("10.0.0.0/+8", 0, 32) },
    { "a mask of many digits", "10.0.0.0/4294967304", no_bits("10.0.0.0/4294967304", 0, 32) },
    { "two masks", "10.0.0.0/8/8", no_bits("10.0.0.0/8/8", 0, 32) },
    { "bits beyond the mask", "10.0.0.1/8", beyond("10.0.0.1/8", "10.0.0.0/8") },
    { "bits beyond a mask inside a byte", "192.168.15.0/20",
      beyond("192.168.15.0/20", "192.168.0.0/20") },
    { "bits beyond a mask of none", "1.0.0.0/0", beyond("1.0.0.0/0", "0.0.0.0/0") },
    { "bits beyond a mask of IPv6", "fd00::1/8", beyond("fd00::1/8", "fd00::/8") },
    { "bits beyond a mapped mask", "::ffff:10.1.0.0/104",
      beyond("::ffff:10.1.0.0/104", "10.0.0.0/8") },
  }
  for _, case in ipairs(bad) do
    it("refuses " .. case[1], function()
      local set, message, code, left = proxy.addr_set(case[2], {})
      assert.is_nil(set)
      assert.equal(case[3], message)
      assert.equal(78, code)
      assert.equal(0, left)
    end)
  end

  it("has at most 256 entries", function()
    local entries = { "unix" }
    for i = 2, 256 do
      entries[i] = "10.0.0." .. i - 1
    end
    assert.same({ true, true, false }, proxy.addr_set(table.concat(entries, " "),
      { "10.0.0.255", "unix", "10.0.1.0" }))
    entries[257] = "unix"
    local set, message = proxy.addr_set(table.concat(entries, ","), {})
    assert.is_nil(set)
    assert.equal("'unix' is one too many: allowed are at most 256 addresses and networks", message)
  end)
end)
