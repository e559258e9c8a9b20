local settings = require("moonquay.probe").settings

local set = settings.set

-- Each key: its default, scope and when it can change; a good value and what it reads back as; bad
-- ones; and what the message says it must be.
local BOOLEAN = "true or false"
local SECONDS = "between 0.001 and 86400 seconds, or off"

local function text_row(key, given, scope, changes, room)
  return { key, given, scope, changes, good = "a b", bad = { ("x"):rep(room + 1), "a\nb" },
    must = ("printable text of at most %d bytes"):format(room) }
end

local function boolean_row(key, given, scope, changes)
  return { key, given, scope, changes, good = given == "true" and "false" or "true",
    bad = { "yes", "1", "" }, must = BOOLEAN }
end

local function word_row(key, given, scope, changes, good, must)
  return { key, given, scope, changes, good = good, bad = { "", "loud", good .. "x" }, must = must }
end

local function seconds_row(key, given, changes)
  return { key, given, "app", changes, good = "0.001", bad = { "0", "86400.001", "-1", "soon" },
    must = SECONDS }
end

local function number_row(key, given, scope, changes, good, bad, must)
  return { key, given, scope, changes, good = good, bad = bad, must = must }
end

local function list_row(key, given, scope, changes, bytes, size, good)
  return { key, given, scope, changes, good = good or "a, b", bad = { ("x"):rep(bytes), "a\127" },
    must = "printable texts separated by commas, below " .. size }
end

local VERBOSITY = "basic, limited or full"
local rows = {
  list_row("urls", "http://localhost:5000", "server", "start", 1024, "1KiB"),
  boolean_row("prefer_urls", "false", "server", "start"),
  boolean_row("share", "false", "server", "start"),
  number_row("workers", nil, "server", "start", "1024", { "0", "1025", "two" },
    "between 1 and 1024"),
  text_row("user", "", "server", "start", 63),
  text_row("access_log", "", "server", "start", 511),
  word_row("access_log_format", "combined", "server", "start", "json", "combined or json"),
  text_row("error_log", "-", "server", "start", 511),
  word_row("error_log_format", "text", "server", "start", "json", "text or json"),
  boolean_row("development", "false", "server", "start"),
  text_row("http_error_log", "off", "server", "start", 511),
  number_row("http_error_log_max_bytes", "1048576", "server", "start", "off", { "65535", "none" },
    "at least 64KiB, or off"),
  number_row("http_error_log_keep", "10", "server", "start", "1000", { "-1", "1001", "off" },
    "between 0 and 1000"),
  text_row("control_socket", "", "server", "start", 107),
  list_row("trusted_proxies", "", "server", "start", 16384, "16KiB", "10.0.0.0/8, ::1, unix"),
  boolean_row("h2.cleartext", "false", "server", "start"),
  number_row("h2.max_concurrent_streams", "100", "server", "start", "65535",
    { "0", "65536", "1.5" }, "between 1 and 65535"),
  number_row("h2.stream_window_bytes", "65535", "server", "start", "1024",
    { "1023", "16777217", "off" }, "between 1KiB and 16MiB"),
  number_row("h2.header_table_bytes", "4096", "server", "start", "0", { "-1", "16777217", "off" },
    "between 0 and 16MiB"),
  number_row("h2.max_resets", "200", "server", "start", "900", { "0", "901", "off" },
    "between 1 and 900"),
  number_row("h2.max_settings", "20", "server", "start", "900", { "0", "901", "off" },
    "between 1 and 900"),
  number_row("h2.max_pings", "100", "server", "start", "900", { "0", "901", "off" },
    "between 1 and 900"),
  number_row("h2.max_empty_frames", "100", "server", "start", "1", { "0", "100001", "off" },
    "between 1 and 100000"),
  number_row("h2.max_other_frames", "1000", "server", "start", "1", { "0", "1000001", "off" },
    "between 1 and 1000000"),
  number_row("h2.max_continuations", "7", "server", "start", "0", { "-1", "8", "off" },
    "between 0 and 7"),
  number_row("cache.max_bytes", "67108864", "server", "start", "1048576", { "1048575", "off" },
    "at least 1MiB"),
  number_row("cache.max_entry_bytes", "262144", "server", "start", "16777216",
    { "4095", "16777217", "big" }, "between 4KiB and 16MiB"),
  { "tls", "", "server", "start", good = "certificate=a key=b", bad = { "a\nb" },
    must = "bindings separated by semicolons, below 32KiB" },
  { "apps", "", "server", "start", good = "file=/a.lua user=alice", bad = { "a\nb" },
    must = "apps separated by semicolons, below 64KiB" },
  text_row("session_tickets.keys", "", "server", "start", 511),
  number_row("session_tickets.rotate", "28800", "server", "start", "1",
    { "0.9", "604801", "never" }, "between 1 and 604800 seconds, or off"),
  number_row("drain", "30", "server", "any time", "0", { "-1", "86401", "off" },
    "between 0 and 86400 seconds"),
  number_row("watchdog", "10", "server", "any time", "off", { "0.4", "86401", "unlimited" },
    "between 0.5 and 86400 seconds, or off"),
  word_row("log_level", "info", "server", "any time", "warn", "error, warn, info or debug"),
  number_row("max_field_length", "16384", "server", "any time", "64", { "63", "1048577", "long" },
    "between 64 and 1MiB"),
  number_row("max_request_head_bytes", "131072", "server", "any time", "256",
    { "255", "16777217", "off" }, "between 256 and 16MiB"),
  number_row("max_target_bytes", "16384", "server", "any time", "16", { "15", "1048577", "" },
    "between 16 and 1MiB"),
  number_row("max_fields", "1000", "server", "any time", "65535", { "0", "65536", "1KB" },
    "between 1 and 65535"),
  number_row("url_segment_max_length", "260", "server", "any time", "0", { "-1", "32767", "off" },
    "between 0 and 32766"),
  number_row("url_segment_max_count", "255", "server", "any time", "0", { "-1", "16384", "x" },
    "between 0 and 16383"),
  number_row("server.max_connections", "unlimited", "server", "any time", "1",
    { "0", "1000000001", "none" }, "between 1 and 1000000000, or unlimited"),

  list_row("url_prefixes", "", "app", "start", 4194304, "4MiB", "http://+:80/a, http://b"),
  { "request_queue_name", "", "app", "start", good = ("\u{4E2D}"):rep(260),
    bad = { ("x"):rep(261), ("\u{4E2D}"):rep(261), "a/b", "a\\b", "a\tb" },
    must = "printable text of at most 260 characters without / and \\" },
  word_row("request_queue_mode", "create", "app", "start", "create_or_attach",
    "create, attach or create_or_attach"),
  list_row("request_queue_acl", "", "app", "start", 4096, "4KiB", "user:a, group:#5, -user:b"),
  number_row("memory_limit", "268435456", "app", "start", "unlimited", { "1048575", "off" },
    "at least 1MiB, or unlimited"),
  { "authentication.schemes", "", "app", "any time",
    good = "basic, ntlm,negotiate,kerberos ,certificate", bad = {},
    must = "one or more of basic, ntlm, negotiate, kerberos and certificate" },
  boolean_row("authentication.allow_anonymous", "true", "app", "any time"),
  text_row("authentication.keytab", "", "app", "start", 511),
  list_row("authentication.principals", "", "app", "start", 4096, "4KiB"),
  text_row("authentication.accounts", "", "app", "start", 511),
  text_row("authentication.pam_service", "", "app", "start", 63),
  text_row("authentication.realm", "", "app", "start", 255),
  word_row("authentication.channel_binding", "when_supported", "app", "start", "require",
    "none, when_supported or require"),
  boolean_row("authentication.automatic", "true", "app", "start"),
  boolean_row("authentication.forward_authorization", "false", "app", "start"),
  boolean_row("enabled", "true", "app", "any time"),
  boolean_row("enable_response_caching", "true", "app", "any time"),
  boolean_row("compression", "true", "app", "any time"),
  boolean_row("throw_write_errors", "false", "app", "any time"),
  number_row("max_request_body_size", "30000000", "app", "request", "unlimited", { "-1", "off" },
    "at least 0, or unlimited"),
  boolean_row("allow_synchronous_io", "true", "app", "request"),
  number_row("registration_grace", "120", "app", "start", "0", { "-1", "86401", "soon" },
    "between 0 and 86400 seconds, or off"),
  number_row("max_accepts", nil, "app", "any time", "1000000", { "0", "1000001", "off" },
    "between 1 and 1000000"),
  number_row("max_concurrent_requests", "512", "app", "any time", "1", { "0", "1000001", "off" },
    "between 1 and 1000000"),
  number_row("max_connections", "none", "app", "any time", "0", { "-2", "1000000001", "off" },
    "between 0 and 1000000000, unlimited or none"),
  number_row("request_queue_limit", "1000", "app", "any time", "1", { "0", "1000001", "off" },
    "between 1 and 1000000"),
  number_row("request_queue_limit_bytes", "67108864", "app", "any time", "65536",
    { "65535", "off" }, "at least 64KiB"),
  word_row("http_503_verbosity", "limited", "app", "any time", "basic", VERBOSITY),
  seconds_row("timeouts.header_wait", "120", "any time"),
  seconds_row("timeouts.idle_connection", "120", "any time"),
  seconds_row("timeouts.entity_body", "120", "request"),
  seconds_row("timeouts.drain_entity_body", "120", "any time"),
  seconds_row("timeouts.request_queue", "120", "any time"),
  number_row("timeouts.min_send_bytes_per_second", "150", "app", "request", "4294967294",
    { "0", "4294967295", "1.5" }, "between 1 and 4294967294, or off"),
  seconds_row("timeouts.handler", "off", "request"),
  seconds_row("timeouts.cancel", "10", "any time"),
  number_row("cpu_limit", "1", "app", "any time", "off", { "0.009", "86401", "none" },
    "between 0.01 and 86400 seconds, or off"),
  text_row("server_header", "moonquay", "app", "any time", 63),
}

-- What of a value a message shows: no controls, no half characters.
local function shown(value)
  local most = 119
  while (value:byte(most + 1) or 0) & 0xC0 == 0x80 do
    most = most - 1
  end
  return (value:sub(1, most):gsub("%c", "?"))
end

describe("a list of settings that knows more than its form", function()
  for _, case in ipairs({
    { "trusted_proxies", "127.0.0.1, a", "'a' is no address" },
    { "trusted_proxies", "10.0.0.1/8", "10.0.0.0/8" },
    { "url_prefixes", "http://b, ftp://c", "ftp://c: the scheme must be http or https" },
    { "url_prefixes", "b", "b: a prefix is scheme://host:port/path/" },
  }) do
    it(("says what is wrong: %s=%s"):format(case[1], case[2]), function()
      local value, message, code = set(case[1], case[2])
      assert.is_nil(value)
      assert.truthy(message:find(case[3], 1, true), message)
      assert.equal(78, code)
    end)
  end
end)

describe("settings (DESIGN section 5)", function()
  it("are those of this spec", function()
    local keys = {}
    for i, row in ipairs(rows) do
      keys[i] = row[1]
    end
    assert.same(keys, settings.keys())
  end)

  for _, row in ipairs(rows) do
    local key, given, scope, changes = table.unpack(row, 1, 4)
    it(("%s has its default, scope and time of change"):format(key), function()
      if given then
        assert.equal(given, settings.get(key))
      end
      local its_scope, when, per_request = settings.about(key)
      assert.equal(scope, its_scope)
      assert.equal(changes == "start" and "start" or "any time", when)
      assert.equal(changes == "request", per_request)
    end)

    it(("%s takes what is in its range and reads back its default"):format(key), function()
      assert.equal(row.good, set(key, row.good))
      assert.equal(settings.get(key), set(key, settings.get(key)))
    end)

    for _, bad in ipairs(row.bad) do
      it(("%s refuses %.20s and says what it must be"):format(key, shown(bad)), function()
        local value, message, code = set(key, bad)
        assert.is_nil(value)
        assert.equal(("--set %s=%s: must be %s"):format(key, shown(bad), row.must), message)
        assert.equal(78, code)
      end)
    end
  end

  it("have a worker for each CPU, and five accepts", function()
    local workers = tonumber(settings.get("workers"))
    assert.is_true(workers >= 1)
    assert.equal(5 * workers, tonumber(settings.get("max_accepts")))
  end)

  it("know no other key", function()
    assert.same({ nil, "not_found" }, { settings.get("nonsense") })
    assert.same({ nil, "not_found" }, { settings.about("timeouts") })
  end)
end)

describe("a list", function()
  it("holds ten thousand prefixes", function()
    local prefixes = {}
    for i = 1, 10000 do
      prefixes[i] = ("http://localhost:5000/application-%d/"):format(i)
    end
    local text = table.concat(prefixes, ",")
    assert.equal(text, set("url_prefixes", text))
    assert.same(prefixes, settings.items(text))
  end)

  it("is read item by item, without blanks and empty ones", function()
    assert.same({ "a", "b c", "d" }, settings.items(" a ,b c,,\td, "))
    assert.same({}, settings.items(" , "))
  end)

  it("names the item that is wrong", function()
    local value, message, code = set("authentication.schemes", "basic, digest")
    assert.is_nil(value)
    assert.equal("--set authentication.schemes: digest: must be one or more of basic, ntlm, "
      .. "negotiate, kerberos and certificate", message)
    assert.equal(78, code)
    message = select(2, set("authentication.schemes", "Basic", "--schemes="))
    assert.matches("^%-%-schemes: Basic: must be one", message)
  end)
end)

describe("a number for one request", function()
  local cases = {
    { "timeouts.handler", "1.5", 1500, "1.5" },
    { "timeouts.handler", "off", math.maxinteger, "off" },
    { "timeouts.min_send_bytes_per_second", "150", 150, "150" },
    { "max_request_body_size", "1KiB", 1024, "1024" },
    { "max_request_body_size", "unlimited", math.maxinteger, "unlimited" },
    { "allow_synchronous_io", "true", 1, "true" },
    { "allow_synchronous_io", "false", 0, "false" },
    { "max_connections", "none", math.maxinteger - 1, "none" },
    { "max_connections", "-1", math.maxinteger, "unlimited" },
    { "server.max_connections", "-1", math.maxinteger, "unlimited" },
  }
  for _, case in ipairs(cases) do
    it(("%s=%s is %d"):format(case[1], case[2], case[3]), function()
      assert.same({ case[3], case[4] }, { settings.number(case[1], case[2]) })
    end)
  end

  it("is refused without a place", function()
    local _, message = settings.number("timeouts.handler", "0")
    assert.equal("timeouts.handler=0: must be " .. SECONDS, message)
  end)

  it("is none of a text", function()
    local value, _, code = settings.number("user", "x")
    assert.is_nil(value)
    assert.equal(78, code)
  end)
end)

describe("a setting's value", function()
  local good = {
    { "workers", "1", "1" },
    { "workers", "1024", "1024" },
    { "drain", "0", "0" },
    { "drain", "1.5", "1.5" },
    { "drain", "0.25", "0.25" },
    { "drain", "1.000", "1" },
    { "drain", "86400", "86400" },
    { "watchdog", "off", "off" },
    { "timeouts.cancel", "0.001", "0.001" },
    { "memory_limit", "64MiB", "67108864" },
    { "memory_limit", "64 MiB", "67108864" },
    { "memory_limit", "64mib", "67108864" },
    { "memory_limit", "64MB", "64000000" },
    { "memory_limit", "1.5MiB", "1572864" },
    { "memory_limit", "2GiB", "2147483648" },
    { "memory_limit", "2TiB", "2199023255552" },
    { "memory_limit", "unlimited", "unlimited" },
    { "max_request_body_size", "0", "0" },
    { "max_request_body_size", "10KB", "10000" },
    { "max_request_body_size", "10KiB", "10240" },
    { "max_request_body_size", "10B", "10" },
    { "max_request_body_size", "9223372036854775806", "9223372036854775806" },
    { "development", "true", "true" },
    { "log_level", "debug", "debug" },
    { "server_header", "x/1.0", "x/1.0" },
    { "server_header", "false", "" },
    { "server_header", "", "" },
  }
  for _, case in ipairs(good) do
    it(("is taken: %s=%s"):format(case[1], case[2]), function()
      assert.equal(case[3], set(case[1], case[2]))
    end)
  end

  local workers = "must be between 1 and 1024"
  local drain = "must be between 0 and 86400 seconds"
  local memory = "must be at least 1MiB, or unlimited"
  local bad = {
    { "workers", "0", workers },
    { "workers", "1025", workers },
    { "workers", "-1", workers },
    { "workers", "two", workers },
    { "workers", "", workers },
    { "workers", "2.0", workers },
    { "workers", "2x", workers },
    { "workers", "99999999999999999999", workers },
    { "drain", "-1", drain },
    { "drain", "86401", drain },
    { "drain", "1s", drain },
    { "drain", "1.", drain },
    { "drain", ".5", drain },
    { "drain", "off", drain },
    { "watchdog", "0.4", "must be between 0.5 and 86400 seconds, or off" },
    { "watchdog", "unlimited", "must be between 0.5 and 86400 seconds, or off" },
    { "memory_limit", "1", memory },
    { "memory_limit", "64M", memory },
    { "memory_limit", "1 2MiB", memory },
    { "memory_limit", "64  MiB", memory },
    { "memory_limit", "1.5", memory },
    { "memory_limit", "MiB", memory },
    { "memory_limit", "9999999999TiB", memory },
    { "memory_limit", "off", memory },
    { "max_request_body_size", "-1", "must be at least 0, or unlimited" },
    { "max_field_length", "63", "must be between 64 and 1MiB" },
    { "development", "yes", "must be true or false" },
    { "log_level", "loud", "must be error, warn, info or debug" },
    { "log_level", "", "must be error, warn, info or debug" },
    { "log_level", "inf", "must be error, warn, info or debug" },
    { "log_level", "warn|info", "must be error, warn, info or debug" },
    { "error_log_format", "xml", "must be text or json" },
    { "server_header", ("x"):rep(64), "must be printable text of at most 63 bytes" },
  }
  for _, case in ipairs(bad) do
    it(("is refused: %s=%.20s"):format(case[1], case[2]), function()
      local value, message, code = set(case[1], case[2])
      assert.is_nil(value)
      assert.equal(("--set %s=%s: %s"):format(case[1], case[2], case[3]), message)
      assert.equal(78, code)
    end)
  end

  it("cannot put a line end into a log or a field", function()
    local value, message = set("server_header", "a\r\nb: c")
    assert.is_nil(value)
    assert.equal("--set server_header=a??b: c: must be printable text of at most "
      .. "63 bytes", message)
  end)

  it("is told with file and line when an app has set it", function()
    local _, message = set("workers", "0", "app.lua:3")
    assert.equal("app.lua:3: workers=0: must be between 1 and 1024", message)
  end)

  it("is told by the word that stands for it", function()
    local _, message = set("workers", "0", "--workers=")
    assert.equal("--workers=0: must be between 1 and 1024", message)
  end)
end)

describe("an unknown setting", function()
  local cases = {
    { "workrs", "workers" },
    { "worker", "workers" },
    { "header_wait", "timeouts.header_wait" },
    { "timeouts.header_wiat", "timeouts.header_wait" },
    { "memory_limits", "memory_limit" },
    { "max_body_size", nil },
    { "zzz", nil },
    { ("x"):rep(100), nil },
  }
  for _, case in ipairs(cases) do
    it(("%.20s is told, with what was perhaps meant"):format(case[1]), function()
      local value, message, code = set(case[1], "1")
      assert.is_nil(value)
      assert.equal(78, code)
      assert.truthy(message:find("no such option", 1, true))
      if case[2] then
        assert.equal(("--set %s: no such option, did you mean %s?"):format(case[1], case[2]),
          message)
      else
        assert.truthy(message:find("moonquay options lists all", 1, true), message)
      end
    end)
  end
end)
