local http = require("moonquay.probe").http

local formatted = {
  { 0, "Thu, 01 Jan 1970 00:00:00 GMT" },
  { -1, "Wed, 31 Dec 1969 23:59:59 GMT" },
  { 784111777, "Sun, 06 Nov 1994 08:49:37 GMT" },
  { 951782400, "Tue, 29 Feb 2000 00:00:00 GMT" },
  { 951868800, "Wed, 01 Mar 2000 00:00:00 GMT" },
  { 1709251199, "Thu, 29 Feb 2024 23:59:59 GMT" },
  { 4107542400, "Mon, 01 Mar 2100 00:00:00 GMT" },
  { 4107542399, "Sun, 28 Feb 2100 23:59:59 GMT" },
  { 2147483648, "Tue, 19 Jan 2038 03:14:08 GMT" },
  { -62167219200, "Sat, 01 Jan 0000 00:00:00 GMT" },
  { 253402300799, "Fri, 31 Dec 9999 23:59:59 GMT" },
}

describe("date (RFC 9110 section 5.6.7)", function()
  for _, case in ipairs(formatted) do
    it(("writes and reads %s"):format(case[2]), function()
      assert.equal(case[2], http.date_format(case[1]))
      assert.equal(case[1], http.date_parse(case[2]))
    end)
  end

  it("agrees with the C library on every day of 400 years and more", function()
    for day = -40000, 120000 do
      local seconds = day * 86400 + (day * 7919) % 86400
      local text = os.date("!%a, %d %b %Y %H:%M:%S GMT", seconds)
      assert(http.date_format(seconds) == text, text)
      assert(http.date_parse(text) == seconds, text)
    end
  end)

  it("stays at the first or last second that four digits can name", function()
    assert.equal("Sat, 01 Jan 0000 00:00:00 GMT", http.date_format(math.mininteger))
    assert.equal("Fri, 31 Dec 9999 23:59:59 GMT", http.date_format(math.maxinteger))
  end)

  local read = {
    { "the obsolete RFC 850 form", "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
    { "the asctime form", "Sun Nov  6 08:49:37 1994", 784111777 },
    { "the asctime form with two digits of day", "Wed Nov 16 08:49:37 1994", 784975777 },
    { "a day's name that is another day's", "Mon, 06 Nov 1994 08:49:37 GMT", 784111777 },
    { "a leap second", "Sat, 31 Dec 2016 23:59:60 GMT", 1483228800 },
  }
  for _, case in ipairs(read) do
    it("reads " .. case[1], function()
      assert.equal(case[3], http.date_parse(case[2]))
    end)
  end

  it("takes two digits of year for the nearest that is at most 50 years ahead", function()
    local this_year = tonumber(os.date("!%Y"))
    for ahead = -49, 50 do
      local year = this_year + ahead
      local expected = http.date_parse(("Thu, 01 Jan %d 00:00:00 GMT"):format(year))
      local text = ("Thursday, 01-Jan-%02d 00:00:00 GMT"):format(year % 100)
      assert.equal(expected, http.date_parse(text))
    end
  end)

  local refused = {
    "", "0", "Sun", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 gmt",
    "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 GMT ",
    " Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 nov 1994 08:49:37 GMT", "Son, 06 Nov 1994 08:49:37 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT", "Sun, 31 Nov 1994 08:49:37 GMT",
    "Sun, 29 Feb 1900 08:49:37 GMT", "Sun, 29 Feb 2023 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:60:00 GMT",
    "Sun, 06 Nov 1994 08:00:61 GMT", "Sun, 06 Nov 19941 08:49:37 GMT",
    "Sun, 32 Dec 1994 08:49:37 GMT", "Sunday, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT",
    "Sun Nov 6 08:49:37 1994", "Sun Nov 06 08:49:37 94", "Sun Nov  6 08:49:37 1994 GMT",
    "Sun, 06 Nov +994 08:49:37 GMT", "784111777",
  }
  for _, text in ipairs(refused) do
    it(("refuses %q"):format(text), function()
      assert.is_nil(http.date_parse(text))
    end)
  end
end)

describe("status", function()
  it("has the registry's phrases and none for other codes", function()
    assert.equal("OK", http.status_reason(200))
    assert.equal("Content Too Large", http.status_reason(413))
    assert.equal("Request Header Fields Too Large", http.status_reason(431))
    assert.equal("Early Hints", http.status_reason(103))
    for _, status in ipairs({ 0, 99, 199, 299, 306, 418, 599, 901, 999 }) do
      assert.equal("", http.status_reason(status))
    end
  end)
end)
