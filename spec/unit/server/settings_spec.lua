local probe = require("moonquay.probe").server

local function set(key, value, where)
  local values, message, code = probe.settings({ { key, value } }, where)
  if values then
    return values[key]
  end
  return nil, message, code
end

describe("settings (DESIGN section 5)", function()
  local defaults = {
    { "urls", "http://localhost:5000", "server" },
    { "drain", "30", "server" },
    { "watchdog", "10", "server" },
    { "access_log", "", "server" },
    { "access_log_format", "combined", "server" },
    { "error_log", "-", "server" },
    { "error_log_format", "text", "server" },
    { "log_level", "info", "server" },
    { "user", "", "server" },
    { "development", "false", "server" },
    { "max_field_length", "16384", "app" },
    { "max_request_head_bytes", "131072", "app" },
    { "max_target_bytes", "16384", "app" },
    { "max_fields", "1000", "app" },
    { "url_segment_max_length", "260", "app" },
    { "url_segment_max_count", "255", "app" },
    { "max_request_body_size", "30000000", "app" },
    { "max_concurrent_requests", "512", "app" },
    { "memory_limit", "268435456", "app" },
    { "cpu_limit", "1", "app" },
    { "timeouts.header_wait", "120", "app" },
    { "timeouts.idle_connection", "120", "app" },
    { "timeouts.entity_body", "120", "app" },
    { "timeouts.drain_entity_body", "120", "app" },
    { "timeouts.cancel", "10", "app" },
    { "allow_synchronous_io", "true", "app" },
    { "throw_write_errors", "false", "app" },
    { "server_header", "moonquay", "app" },
  }
  for _, case in ipairs(defaults) do
    it(("have %s = %q by default"):format(case[1], case[2]), function()
      assert.equal(case[2], probe.settings_get(case[1]))
      assert.equal(case[3], probe.settings_scope(case[1]))
    end)
  end

  it("have a worker for each CPU", function()
    assert.is_true(tonumber(probe.settings_get("workers")) >= 1)
  end)

  it("read back what they wrote, whatever the key", function()
    for _, key in ipairs(probe.settings_keys()) do
      local value = probe.settings_get(key)
      assert.equal(value, set(key, value), key)
    end
  end)

  it("know no other key", function()
    assert.same({ nil, "not_found" }, { probe.settings_get("nonsense") })
    assert.same({ nil, "not_found" }, { probe.settings_scope("timeouts") })
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
