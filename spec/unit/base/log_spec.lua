local probe = require("moonquay.probe").server

-- The line without its time, which is checked here.
local function line_of(text)
  local time, rest = text:match("^(%S+) (.*)$")
  assert.truthy(time and time:match("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$"), text)
  return rest
end

describe("an error log line as text", function()
  local cases = {
    { "has level, event and process", nil, {}, "warn some_event process=p\n" },
    { "leaves plain words as they are", "plain", {}, "warn some_event process=p message=plain\n" },
    { "quotes a message with blanks", "a b", {}, 'warn some_event process=p message="a b"\n' },
    { "quotes what is empty", "", {}, 'warn some_event process=p message=""\n' },
    { "quotes an equals sign", "a=b", {}, 'warn some_event process=p message="a=b"\n' },
    { "escapes line ends, so that a line is one", "a\nb\r", {},
      'warn some_event process=p message="a\\nb\\r"\n' },
    { "writes numbers as they are", nil, { { "n", 12 }, { "m", -3 } },
      "warn some_event process=p n=12 m=-3\n" },
    { "writes JSON as it is", nil, { { "fields", 'json:{"a":"b c"}' } },
      'warn some_event process=p fields={"a":"b c"}\n' },
    { "keeps the order of fields", nil, { { "b", "1" }, { "a", "2" } },
      "warn some_event process=p b=1 a=2\n" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local text = probe.log("info", "text", "p", "warn", "some_event", case[2], case[3])
      assert.equal(case[4], line_of(text))
    end)
  end

  it("names no process where there is none", function()
    assert.equal("warn e\n", line_of(probe.log("info", "text", "", "warn", "e")))
  end)
end)

describe("an error log line as JSON", function()
  it("is one object with time, level, event and fields", function()
    local text = probe.log("info", "json", "p", "error", "e", 'say "x"', {
      { "n", 1 }, { "s", "a" }, { "j", "json:[1,2]" },
    })
    local time, rest = text:match('^{"time":"([^"]+)",(.*)$')
    assert.truthy(time:match("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$"), text)
    assert.equal('"level":"error","event":"e","process":"p","message":"say \\"x\\"",'
      .. '"n":1,"s":"a","j":[1,2]}\n', rest)
  end)
end)

describe("the level of the error log", function()
  local order = { "error", "warn", "info", "debug" }
  for threshold, threshold_name in ipairs(order) do
    for level, level_name in ipairs(order) do
      local kept = level <= threshold
      local verb = kept and "keeps" or "drops"
      it(("%s %s at %s"):format(verb, level_name, threshold_name), function()
        local text = probe.log(threshold_name, "text", "", level_name, "e", "m", { { "k", "v" } })
        assert.equal(kept, text ~= "")
      end)
    end
  end

  it("has no other names", function()
    assert.has_error(function()
      probe.log("loud", "text", "", "info", "e")
    end)
  end)
end)

describe("an event of the error log", function()
  it("may have a message", function()
    assert.equal('info event message="a b"\n', line_of(probe.log_event("a b")))
  end)
  it("may have none", function()
    assert.equal("info event\n", line_of(probe.log_event(nil)))
  end)
end)

describe("quoted text (RFC 8259 section 7)", function()
  local cases = {
    { "keeps text", "aé€😀", '"aé€😀"' },
    { "escapes the quote and the backslash", '"\\', [["\"\\"]] },
    { "has short forms", "\b\f\n\r\t", [["\b\f\n\r\t"]] },
    { "escapes controls", "\0\1\31\127", [["\u0000\u0001\u001f\u007f"]] },
    { "escapes C1 controls, which terminals obey", "\u{80}\u{9b}\u{a0}", '"\\u0080\\u009b\u{a0}"' },
    { "replaces a lone continuation", "a\x80b", '"a\u{fffd}b"' },
    { "replaces an overlong form", "\xC0\xAF", '"\u{fffd}\u{fffd}"' },
    { "replaces an overlong form of three", "\xE0\x80\xAF", '"\u{fffd}\u{fffd}\u{fffd}"' },
    { "replaces a surrogate", "\xED\xA0\x80", '"\u{fffd}\u{fffd}\u{fffd}"' },
    { "replaces what lies above U+10FFFF", "\xF4\x90\x80\x80",
      '"\u{fffd}\u{fffd}\u{fffd}\u{fffd}"' },
    { "replaces a sequence that the end cuts", "a\xE2\x82", '"a\u{fffd}\u{fffd}"' },
    { "keeps the last code point", "\u{10FFFF}", '"\u{10FFFF}"' },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[3], probe.quote(case[2]))
    end)
  end
end)
