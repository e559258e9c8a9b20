local settings = require("moonquay.probe").settings

local function binding(given)
  local whole = { name = "", address = "", port = "", certificate = "c", key = "k",
    min_version = "", max_version = "", client_certificate = "" }
  for key, value in pairs(given) do
    whole[key] = value
  end
  return whole
end

describe("tls bindings", function()
  local good = {
    { "none", "  ", {} },
    { "one with what it needs", "certificate=c key=k", { {} } },
    { "one with all",
      "name=*.a.example address=[::1] port=443 certificate=c key=k min_version=1.2 "
        .. "max_version=1.3 client_certificate=delay",
      { { name = "*.a.example", address = "[::1]", port = "443", min_version = "1.2",
        max_version = "1.3", client_certificate = "delay" } } },
    { "several", "certificate=c key=k;name=b certificate=c key=k ; port=65535 key=k certificate=c",
      { {}, { name = "b" }, { port = "65535" } } },
    { "quoted values", [[certificate="my \"certs\"/a;b\\.pem" key="k"]],
      { { certificate = [[my "certs"/a;b\.pem]] } } },
    { "a quote inside a value", [[certificate=a"b key=k]], { { certificate = [[a"b]] } } },
    { "equal versions", "certificate=c key=k min_version=1.3 max_version=1.3",
      { { min_version = "1.3", max_version = "1.3" } } },
  }
  for _, case in ipairs(good) do
    it("are read: " .. case[1], function()
      local expected = {}
      for i, given in ipairs(case[3]) do
        expected[i] = binding(given)
      end
      assert.same(expected, settings.bindings(case[2]))
      assert.equal(case[2], settings.set("tls", case[2]))
    end)
  end

  local ok = "certificate=c key=k; "
  local both = " certificate=c key=k"
  local keys = "name, address, port, certificate, key, min_version, max_version, client_certificate"
  local open_quotes = "binding 1: certificate: the quotes around its value do not close it"
  local bad = {
    { "colour=red" .. both, "binding 1: colour: no such key, there are " .. keys },
    { "=x" .. both, "binding 1: : no such key, there are " .. keys },
    { "name" .. both, "binding 1: name: a value is missing behind it: name=VALUE" },
    { ok .. "certificate=c", "binding 2: key: is missing" },
    { ok .. "key=k", "binding 2: certificate: is missing" },
    { ok .. ";" .. both, "binding 2: certificate: is missing" },
    { ok .. "port=0" .. both, "binding 2: port=0: must be between 1 and 65535" },
    { "port=65536" .. both, "binding 1: port=65536: must be between 1 and 65535" },
    { "port=080" .. both, "binding 1: port=080: must be between 1 and 65535" },
    { "port=x" .. both, "binding 1: port=x: must be between 1 and 65535" },
    { "port=" .. both, "binding 1: port=: must be between 1 and 65535" },
    { "port=123456789" .. both, "binding 1: port: must be at most 7 bytes long" },
    { "address=here" .. both, "binding 1: address=here: must be an IP address" },
    { "min_version=1.1" .. both, "binding 1: min_version=1.1: must be 1.2 or 1.3" },
    { "min_version=1.3 max_version=1.2" .. both,
      "binding 1: min_version=1.3: is above max_version=1.2" },
    { "client_certificate=maybe" .. both,
      "binding 1: client_certificate=maybe: must be none, allow, require or delay" },
    { 'certificate="" key=k', "binding 1: certificate=: must be a file name" },
    { 'certificate="c key=k', open_quotes },
    { 'certificate="c"x key=k', open_quotes },
    { "key=a" .. both, "binding 1: key: is given twice" },
    { "certificate=" .. ("x"):rep(512) .. " key=k",
      "binding 1: certificate: must be at most 511 bytes long" },
  }
  for _, case in ipairs(bad) do
    it(("are refused: %.40s"):format(case[1]), function()
      local value, message, code = settings.set("tls", case[1], "app.lua:3")
      assert.is_nil(value)
      assert.equal("app.lua:3: tls: " .. case[2], message)
      assert.equal(78, code)
    end)
  end
end)
