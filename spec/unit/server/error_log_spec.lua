local lfs = require("lfs")
local probe = require("moonquay.probe").logs
local temp = require("spec.support.temp")

local STAMP = "2000-10-10 13:55:36"
local FIELDS = "date time c-ip c-port s-ip s-port cs-version cs-method cs-uri streamid sc-status "
  .. "s-siteid s-reason s-queuename"

local PLAIN = [[/!"#$%&'()*+,-.:;<=>?@[\]^_`{|}~]]

local function entry(changes)
  local made = {
    unix_ms = 971186136789, -- 10 October 2000, 13:55:36.789 UTC
    client = "192.0.2.1", client_port = 50123,
    server = "198.51.100.2", server_port = 80,
    version = "1.1",
    method = "GET",
    target = "/a?b=c",
    status = 400,
    reason = "Header",
    queue = "shop",
  }
  for key, value in pairs(changes or {}) do
    made[key] = value or nil
  end
  return made
end

describe("the HTTP error log (reference http-sys.md section 18.1)", function()
  local dir

  before_each(function()
    dir = temp.dir()
  end)

  after_each(function()
    dir:remove()
  end)

  -- What the log of these steps holds, and what was seen after each step.
  local function log(steps, changes, max_bytes, options)
    local sizes, full = probe.error_log(dir.path .. "/log", max_bytes or 0, steps, entry(changes),
      options or {})
    return dir:read("log"), sizes, full
  end

  -- One field of a line with these changes, by its number.
  local function field(number, changes)
    local line = log("a", changes)
    local words = {}
    for word in line:sub(1, -2):gmatch("([^ ]*) ?") do
      words[#words + 1] = word
    end
    assert.is_true(#words == 14, line)
    return words[number]
  end

  describe("has a line that", function()
    local tail = " HTTP/1.1 GET /a?b=c - 400 - Header shop\n"
    local cases = {
      { "has 14 fields, one blank between them, in UTC", {},
        STAMP .. " 192.0.2.1 50123 198.51.100.2 80" .. tail },
      { "has IPv6 addresses without scope",
        { client = "2001:db8::1", server = "fe80::1", server_port = 8443 },
        STAMP .. " 2001:db8::1 50123 fe80::1 8443" .. tail },
      { "has dashes for unknown addresses", { client = false, server = "none" },
        STAMP .. " - - - -" .. tail },
      { "has no port for a Unix socket", { client = "unix", server = "unix" },
        STAMP .. " unix - unix -" .. tail },
      { "has dashes for what was not read",
        { version = false, method = false, target = false, status = false, queue = false,
          reason = "Timer_HeaderWait" },
        STAMP .. " 192.0.2.1 50123 198.51.100.2 80 - - - - - - Timer_HeaderWait -\n" },
      { "has a dash for a port that no proxy said", { client_port = 0 },
        STAMP .. " 192.0.2.1 - 198.51.100.2 80" .. tail },
      { "has the stream of HTTP/2", { version = "2", stream = 4294967295 },
        STAMP .. " 192.0.2.1 50123 198.51.100.2 80 HTTP/2 GET /a?b=c 4294967295 400 - Header "
          .. "shop\n" },
      { "never lacks a reason", { reason = false },
        STAMP .. " 192.0.2.1 50123 198.51.100.2 80 HTTP/1.1 GET /a?b=c - 400 - N/A shop\n" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        assert.equal(case[3], (log("a", case[2])))
      end)
    end

    for version, text in pairs({
      ["none"] = "-", ["unknown"] = "HTTP/?.?", ["1.0"] = "HTTP/1.0", ["1.1"] = "HTTP/1.1",
      ["2"] = "HTTP/2",
    }) do
      it("says " .. text .. " for version " .. version, function()
        assert.equal(text, field(7, { version = version }))
      end)
    end

    it("has any of the reasons", function()
      for _, reason in ipairs(probe.reasons()) do
        dir:write("log", "")
        assert.equal(reason, field(13, { reason = reason }))
      end
    end)
  end)

  describe("keeps fields apart:", function()
    local cases = {
      { "a blank", "/a b", "/a+b" },
      { "tabs and line ends", "/a\tb\r\nc", "/a+b++c" },
      { "NUL and other controls", "/\0\1\27\31\127.", "/+++++." },
      { "nothing but blanks", "   ", "+++" },
      { "what is plain stays", PLAIN, PLAIN },
      { "a dash stays", "-", "-" },
      { "UTF-8 stays", "/é€\u{10FFFF}\u{80D}", "/é€\u{10FFFF}\u{80D}" },
      { "C1 controls", "/\u{80}\u{85}\u{9F}.", "/++++++." },
      { "other white space",
        "/\u{A0}\u{1680}\u{2000}\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}.",
        "/++" .. ("+"):rep(24) .. "." },
      { "their neighbours stay", "/\u{A1}\u{1FFF}\u{200B}\u{2027}\u{202A}\u{3001}",
        "/\u{A1}\u{1FFF}\u{200B}\u{2027}\u{202A}\u{3001}" },
      { "a lone byte from 0x80 on", "/\xE9t\xE9", "/+t+" },
      { "a continuation without start", "/\x80\xBF.", "/++." },
      { "a sequence that is cut by the end", "/\xE2\x82", "/++" },
      { "a sequence that is cut by another character", "/\xE2\x82.\xC3\xE9.", "/++.++." },
      { "overlong forms", "/\xC0\xA0\xC1\xBF\xE0\x9F\xBF\xF0\x8F\xBF\xBF.", "/" .. ("+"):rep(11)
        .. "." },
      { "surrogates", "/\xED\xA0\x80\xED\xBF\xBF.", "/++++++." },
      { "above U+10FFFF", "/\xF4\x90\x80\x80\xF9\x80\x80\x80\x80\xFF.", "/++++++++++." },
    }
    for _, case in ipairs(cases) do
      it(case[1] .. " in a target", function()
        assert.equal(case[3], field(9, { target = case[2] }))
      end)
    end

    it("blanks in a method and in a queue's name", function()
      assert.equal("G+T", field(8, { method = "G\tT" }))
      dir:write("log", "")
      assert.equal("a+b", field(14, { queue = "a b" }))
    end)
  end)

  describe("keeps the start of", function()
    local cases = {
      { "a method of more than 255 bytes", 8, "method", ("M"):rep(256), ("M"):rep(255) },
      { "a method of 255 bytes", 8, "method", ("M"):rep(255), ("M"):rep(255) },
      { "a target of 4096 bytes", 9, "target", "/" .. ("a"):rep(4095), "/" .. ("a"):rep(4095) },
      { "a target of more", 9, "target", "/" .. ("a"):rep(4095) .. "b", "/" .. ("a"):rep(4095) },
      { "a target of blanks", 9, "target", (" "):rep(5000), ("+"):rep(4096) },
      { "a target, without a part of a character", 9, "target", ("a"):rep(4094) .. "€",
        ("a"):rep(4094) },
      { "a target whose last character fits", 9, "target", ("a"):rep(4093) .. "€b",
        ("a"):rep(4093) .. "€" },
      { "a queue's name of more than 255 bytes", 14, "queue", ("q"):rep(256), ("q"):rep(255) },
      { "a target whose userinfo is hidden", 9, "target", "http://u@" .. ("h"):rep(5000),
        "http://+@" .. ("h"):rep(4087) },
      { "a target whose userinfo lies beyond", 9, "target", ("s"):rep(5000) .. "://u:p@h",
        ("s"):rep(4096) },
      { "a target whose long userinfo is hidden", 9, "target",
        "http://" .. ("u"):rep(5000) .. "@h/", "http://+@h/" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        assert.equal(case[5], field(case[2], { [case[3]] = case[4] }))
      end)
    end
  end)

  describe("shows no userinfo:", function()
    local cases = {
      { "of the absolute form", "http://user:secret@h/a?b=c", "http://+@h/a?b=c" },
      { "without password", "https://secret@h", "https://+@h" },
      { "that is empty", "http://@h/", "http://+@h/" },
      { "with a raw at-sign", "http://secret@secret:secret@h:80/", "http://+@h:80/" },
      { "with a NUL", "http://user\0:secret@h/", "http://+@h/" },
      { "with blanks", "http://us er:sec ret@h/a b", "http://+@h/a+b" },
      { "of the authority form", "user:secret@h:443", "+@h:443" },
      { "of another scheme", "ftp://user:secret@h/", "ftp://+@h/" },
      { "behind one slash", "http:/user:secret@h/", "http:/+@h/" },
      { "behind three slashes", "http:///user:secret@h/", "http:///+@h/" },
      { "behind no slash", "http:user:secret@h/", "+@h/" },
      { "behind backslashes", [[http:\\user:secret@h/]], "+@h/" },
      { "before a query", "http://secret@h?a=b@c", "http://+@h?a=b@c" },
      { "before a fragment", "http://secret@h#a@b", "http://+@h#a@b" },
      { "but what follows the authority", "http://h/a@b?c@d", "http://h/a@b?c@d" },
      { "but a query without path", "http://h?a@b", "http://h?a@b" },
      { "but a path", "/a:b@c://d@e", "/a:b@c://d@e" },
      { "but a query with a URL", "/a?u=http://b@c", "/a?u=http://b@c" },
      { "where there is nothing else", "http://", "http://" },
      { "where there is an asterisk", "*", "*" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local shown = field(9, { target = case[2] })
        assert.equal(case[3], shown)
        assert.is_nil(shown:find("secret", 1, true))
      end)
    end
  end)

  describe("gathers lines", function()
    it("until they are flushed", function()
      local text, sizes = log("aaafa")
      local one = #text // 4
      assert.same({ 0, 0, 0, 3 * one, 3 * one }, sizes)
      assert.equal(4, select(2, text:gsub("\n", ""))) -- the last one when the log is freed
    end)

    it("until there are 32 KiB, and hands over whole ones", function()
      local text, sizes = log(("a"):rep(10), { target = ("/"):rep(4096) })
      local one = #text // 10
      assert.equal(0, sizes[7])
      assert.equal(8 * one, sizes[8])
      assert.equal(8 * one, sizes[10])
    end)

    it("and appends to what is there", function()
      dir:write("log", "before\n")
      assert.equal("before\n" .. STAMP, log("a"):sub(1, 7 + #STAMP))
    end)

    it("and writes them to the old file before it takes the next", function()
      local _, sizes = log("ar")
      assert.equal(0, sizes[1])
      assert.is_true(sizes[2] > 0)
    end)
  end)

  describe("says that its file is full", function()
    local line = #(STAMP .. " 192.0.2.1 50123 198.51.100.2 80 HTTP/1.1 GET /a?b=c - 400 - Header "
      .. "shop\n")
    local cases = {
      { "when it reaches its size", "afafaf", 2 * line, { 0, 0, 0, 1, 1, 1 } },
      { "not a byte before", "afaf", 2 * line + 1, { 0, 0, 0, 0 } },
      { "again after it was opened again", "afafrafaf", line, { 0, 1, 1, 1, 1, 1, 2, 2, 2 } },
      { "not when there was nothing to write", "affrff", line, { 0, 1, 1, 1, 1, 1 } },
      { "never without a size", "afafaf", 0, { 0, 0, 0, 0, 0, 0 } },
      { "not on being opened again", "ar", line, { 0, 0 } },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local _, _, full = log(case[2], nil, case[3])
        assert.same(case[4], full)
      end)
    end

    it("also when 32 KiB were gathered", function()
      local _, _, full = log(("a"):rep(9), { target = ("/"):rep(4096) }, 1)
      assert.same({ 0, 0, 0, 0, 0, 0, 0, 1, 1 }, full)
    end)

    it("to somebody who may open it again at once", function()
      local text, sizes, full = log("afafafa", nil, line, { rotates = true })
      assert.same({ 0, 1, 1, 2, 2, 3, 3 }, full)
      assert.same({ 0, 0, 0, 0, 0, 0, 0 }, sizes)
      assert.equal(line, #text)
      assert.equal(line, #dir:read("log.1"))
    end)

    it("never of what is no regular file", function()
      local _, full = probe.error_log("/dev/null", 1, "afaf", entry(), {})
      assert.same({ 0, 0, 0, 0 }, full)
    end)
  end)

  it("says once for a run of failures that lines are lost", function()
    local options = { own_log = dir.path .. "/own" }
    probe.error_log("/dev/full", 0, "afaf", entry(), options)
    local said = dir:read("own")
    assert.matches("error error_log_failed message=\"lines are lost: No space left on device\"\n$",
      said)
    assert.equal(1, select(2, said:gsub("\n", "")))
    probe.error_log("/dev/full", 0, "afafrafaf", entry(), options)
    assert.equal(3, select(2, dir:read("own"):gsub("\n", "")))
  end)

  describe("has a header that", function()
    local function header()
      return probe.error_log_header(dir.path .. "/log")
    end

    it("names software, version, date and fields", function()
      assert.is_true(header())
      local software, date, rest = dir:read("log"):match(
        "^#Software: Moonquay (%d+%.%d+%.%d+)\n#Version: 1%.0\n#Date: ([%d-]+ [%d:]+)\n(.*)$")
      assert.is_truthy(software)
      assert.matches("^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d$", date)
      assert.is_true(date >= os.date("!%Y-%m-%d %H:%M:%S", lfs.attributes(dir.path, "change") - 1))
      assert.equal("#Fields: " .. FIELDS .. "\n", rest)
    end)

    it("names as many fields as a line has", function()
      assert.equal(select(2, FIELDS:gsub("%S+", "")), select(2, log("a"):gsub("%S+", "")))
    end)

    it("stands in a file once", function()
      assert.is_true(header())
      local text = dir:read("log")
      assert.is_true(header())
      assert.equal(text, dir:read("log"))
    end)

    it("is not written into a file with lines", function()
      dir:write("log", "x")
      assert.is_true(header())
      assert.equal("x", dir:read("log"))
    end)

    it("is not written by the log itself", function()
      assert.equal("2", log("ra"):sub(1, 1))
    end)

    it("fails when it cannot be written", function()
      assert.same({ nil, "io", "No space left on device" },
        { probe.error_log_header("/dev/full") })
    end)
  end)
end)
