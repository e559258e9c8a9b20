local probe = require("moonquay.probe").server

local function entry(changes)
  local made = {
    client = "192.0.2.1",
    method = "GET",
    target = "/a?b=c",
    minor = 1,
    status = 200,
    content_bytes = 12,
    request_bytes = 3,
    unix_ms = 971186136789, -- 10 October 2000, 13:55:36.789 UTC
    duration_us = 1234,
    request_id = "0123456789ab-7",
    host = "example.org",
    user_agent = "agent/1.0",
    referer = "http://example.org/",
  }
  for key, value in pairs(changes) do
    made[key] = value or nil
  end
  return made
end

local function line(format, changes)
  local _, text = probe.access_log(format, entry(changes))
  return text
end

describe("the combined access log", function()
  local cases = {
    { "has the usual fields and the request's id", {},
      '192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 12 '
        .. '"http://example.org/" "agent/1.0" 0123456789ab-7\n' },
    { "has dashes for what is missing", { referer = false, user_agent = false, minor = 0 },
      '192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.0" 200 12 "-" "-" '
        .. "0123456789ab-7\n" },
    { "names a user, without blanks", { user = "a b" },
      '192.0.2.1 - a\\x20b [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 12 '
        .. '"http://example.org/" "agent/1.0" 0123456789ab-7\n' },
    { "escapes what could end a field or a line", { user_agent = 'a"b\\c\nd\1é' },
      '192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 12 '
        .. '"http://example.org/" "a\\"b\\\\c\\x0Ad\\x01\\xC3\\xA9" 0123456789ab-7\n' },
    { "has no request line when none was understood",
      { method = false, target = false, status = 400 },
      '192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "-" 400 12 "http://example.org/" "agent/1.0" '
        .. "0123456789ab-7\n" },
    { "has status 000 when none was sent", { status = 0, content_bytes = 0, client = "::1" },
      '::1 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 000 0 "http://example.org/" '
        .. '"agent/1.0" 0123456789ab-7\n' },
    { "says at the end that the answer was broken off", { aborted = true },
      '192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 12 '
        .. '"http://example.org/" "agent/1.0" 0123456789ab-7 aborted\n' },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[3], line("combined", case[2]))
    end)
  end
end)

describe("the JSON access log", function()
  it("has one object a line", function()
    assert.equal('{"time":"2000-10-10T13:55:36.789Z","id":"0123456789ab-7","client":"192.0.2.1",'
      .. '"user":null,"method":"GET","host":"example.org","target":"/a?b=c",'
      .. '"protocol":"HTTP/1.1","status":200,"request_bytes":3,"response_bytes":12,'
      .. '"duration_ms":1.234,"referer":"http://example.org/","user_agent":"agent/1.0",'
      .. '"aborted":false}\n', line("json", {}))
  end)

  it("has null for what is missing", function()
    local text = line("json", {
      method = false, target = false, host = false, referer = false, user_agent = false,
      request_id = false, status = 0, aborted = true, duration_us = 5,
    })
    assert.equal('{"time":"2000-10-10T13:55:36.789Z","id":null,"client":"192.0.2.1",'
      .. '"user":null,"method":null,"host":null,"target":null,"protocol":null,"status":null,'
      .. '"request_bytes":3,"response_bytes":12,"duration_ms":0.005,"referer":null,'
      .. '"user_agent":null,"aborted":true}\n', text)
  end)

  it("escapes what a client sent", function()
    local text = line("json", { user_agent = 'a"\n\xff', user = "é" })
    assert.truthy(text:find('"user_agent":"a\\"\\n\u{fffd}"', 1, true), text)
    assert.truthy(text:find('"user":"é"', 1, true), text)
    assert.equal(1, select(2, text:gsub("\n", "")))
  end)
end)

describe("the access log", function()
  it("gathers lines until it is flushed", function()
    local before, after = probe.access_log("combined", entry({}), 3)
    assert.equal("", before)
    assert.equal(3, select(2, after:gsub("\n", "")))
  end)

  it("hands over whole lines when 32 KiB are gathered", function()
    local before, after = probe.access_log("combined", entry({}), 400)
    assert.is_true(#before >= 32768)
    assert.equal("\n", before:sub(-1))
    assert.equal(400, select(2, (before .. after):gsub("\n", "")))
  end)
end)
