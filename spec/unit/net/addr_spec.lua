local probe = require("moonquay.probe").server

describe("an address as text", function()
  local good = {
    { "192.0.2.1", family = 4, text = "192.0.2.1:80" },
    { "0.0.0.0", family = 4, text = "0.0.0.0:80" },
    { "127.0.0.1", family = 4, text = "127.0.0.1:80", loopback = true },
    { "127.255.0.3", family = 4, text = "127.255.0.3:80", loopback = true },
    { "128.0.0.1", family = 4, text = "128.0.0.1:80" },
    { "::1", family = 6, text = "[::1]:80", loopback = true },
    { "[::1]", ip = "::1", family = 6, text = "[::1]:80", loopback = true },
    { "::2", family = 6, text = "[::2]:80" },
    { "2001:DB8:0:0:0:0:0:1", ip = "2001:db8::1", family = 6, text = "[2001:db8::1]:80" },
    { "::ffff:192.0.2.1", ip = "192.0.2.1", family = 4, text = "192.0.2.1:80" },
    { "::ffff:127.0.0.1", ip = "127.0.0.1", family = 4, text = "127.0.0.1:80", loopback = true },
    { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", family = 6,
      ip = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
      text = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:80" },
  }
  for _, case in ipairs(good) do
    it("is read: " .. case[1], function()
      assert.same({
        ip = case.ip or case[1],
        text = case.text,
        port = 80,
        family = case.family,
        loopback = case.loopback or false,
      }, probe.addr(case[1], 80))
    end)
  end

  local bad = {
    "", "localhost", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4",
    "1.2.3.4\0", "[1.2.3.4]", "[::1", "::1]", "[]", ":::", "1::2::3", "12345::", "g::",
    "::1%lo", "1.2.3.4:80", ("1"):rep(500),
  }
  for _, text in ipairs(bad) do
    it(("is refused: %q"):format(text:sub(1, 30)), function()
      local addr, err = probe.addr(text, 80)
      assert.is_nil(addr)
      assert.equal("invalid", err)
    end)
  end
end)

describe("an address from the kernel", function()
  local cases = {
    { "IPv4", string.pack("=I2>I2c4c8", 2, 8080, "\192\0\2\1", ""), "192.0.2.1:8080", false },
    { "IPv6", string.pack("=I2>I2I4c16I4", 10, 443, 0, ("\0"):rep(15) .. "\1", 0), "[::1]:443",
      true },
    { "IPv4 mapped into IPv6",
      string.pack("=I2>I2I4c16I4", 10, 443, 0, ("\0"):rep(10) .. "\255\255\192\0\2\1", 0),
      "192.0.2.1:443", false },
    { "a Unix socket", string.pack("=I2", 1), "unix", false },
    { "another family", string.pack("=I2c14", 17, ""), "-", false },
    { "too few bytes for IPv4", string.pack("=I2I2", 2, 80), "-", false },
    { "too few bytes for IPv6", string.pack("=I2I2I4", 10, 80, 0), "-", false },
    { "nothing", "", "-", false },
  }
  for _, case in ipairs(cases) do
    it("is understood: " .. case[1], function()
      local text, loopback = probe.addr_from(case[2])
      assert.equal(case[3], text)
      assert.equal(case[4], loopback)
    end)
  end
end)
