local moonquay = require("moonquay")

-- The message of moonquay.app(settings), which names the line of the call.
local function refusal(settings)
  local ok, message = pcall(function()
    local app = moonquay.app(settings)
    return app
  end)
  assert.is_false(ok)
  local place, rest = message:match("^[^:]*app_settings_spec%.lua:(%d+): (.*)$")
  assert.is_truthy(place, message)
  return rest
end

describe("moonquay.app { … }", function()
  local good = {
    { "numbers and words", { workers = 2, log_level = "warn", cpu_limit = 1.5 } },
    { "whole numbers that are floats", { workers = 2.0 } },
    { "sizes", { memory_limit = "64MiB", max_request_body_size = moonquay.UNLIMITED } },
    { "groups", { timeouts = { cancel = 3, handler = "off" }, h2 = { cleartext = true } } },
    { "empty groups", { timeouts = {}, authentication = {} } },
    { "lists", { url_prefixes = { "http://+:80/a/", "http://+:80/b/" }, trusted_proxies = {} } },
    { "schemes", { authentication = { "negotiate", "ntlm" } } },
    { "bindings", { tls = { { certificate = "my certs/c.pem", key = "k", port = 443,
      min_version = 1.2 } } } },
    { "no Server field", { server_header = false } },
    { "numbers as texts, as the environment has them", { workers = "2", development = "false" } },
    { "the numbers of HTTP.sys", { max_connections = -1 } },
  }
  for _, case in ipairs(good) do
    it("takes " .. case[1], function()
      assert.is_table(moonquay.app(case[2]))
    end)
  end

  it("keeps a function that authenticates", function()
    local function check() end
    assert.equal(check, moonquay.app({ authentication = { schemes = check } }).authenticate)
    assert.is_nil(moonquay.app({ authentication = "ntlm" }).authenticate)
  end)

  local bad = {
    { { wrokers = 1 }, "wrokers: no such option, did you mean workers?" },
    { { workers = 0 }, "workers=0: must be between 1 and 1024" },
    { { workers = true }, "workers=(a boolean): must be between 1 and 1024" },
    { { workers = print }, "workers=(a function): must be between 1 and 1024" },
    { { workers = { 1, 2 } }, "workers=(a list): must be between 1 and 1024" },
    { { workers = {} }, "workers=(a list): must be between 1 and 1024" },
    { { workers = 1 / 0 }, "workers=inf: must be between 1 and 1024" },
    { { timeouts = { cancel = 0 } }, "timeouts.cancel=0: must be between 0.001 and 86400" },
    { { timeouts = 5 }, "timeouts: no such option" },
    { { nothing = { at_all = 1 } }, "nothing.at_all: no such option" },
    { { user = 5 }, "user=(a number): must be printable text" },
    { { user = { "a" } }, "user=(a list): must be printable text" },
    { { access_log = false }, "access_log=(a boolean): must be printable text" },
    { { server_header = true }, "server_header=(a boolean): must be printable text" },
    { { user = "a\0b" }, "user=(a text with a NUL): must be printable text" },
    { { compression = 1 }, "compression=(a number): must be true or false" },
    { { authentication = "digest" }, "authentication.schemes: digest: must be one or more of" },
    { { authentication = { "basic", "digest" } }, "authentication.schemes: digest: must be" },
    { { authentication = true }, "authentication.schemes=(a boolean): must be one or more of" },
    { { tls = { { certificate = "c" } } }, "tls: binding 1: key: is missing" },
    { { tls = { { certificate = "c", key = "k" }, { certificate = "c", key = "k", port = 0 } } },
      "tls: binding 2: port=0: must be between 1 and 65535" },
    { { tls = { "x" } }, "tls: binding 1 must be a table" },
    { { 5 }, "settings are named" },
    { { http_503_verbosity = "loud" }, "http_503_verbosity=loud: must be basic, limited or full" },
    { { max_connections = -2 }, "max_connections=-2: must be between 0 and 1000000000, unlimited" },
  }
  for _, case in ipairs(bad) do
    it("says: " .. case[2], function()
      local message = refusal(case[1])
      assert.equal(case[2], message:sub(1, #case[2]))
    end)
  end
end)
