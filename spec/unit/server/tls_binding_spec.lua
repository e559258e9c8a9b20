local settings = require("moonquay.probe").settings

local function binding(given)
  local whole = { name = "", address = "", port = "", certificate = "c", key = "k",
    ocsp = "", min_version = "", max_version = "", client_certificate = "",
    client_authorities = "" }
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
        .. "max_version=1.3 client_certificate=delay client_authorities=a ocsp=o",
      { { name = "*.a.example", address = "[::1]", port = "443", min_version = "1.2",
        max_version = "1.3", client_certificate = "delay", client_authorities = "a",
        ocsp = "o" } } },
    { "several certificates", "certificate=1 key=2 ocsp=3 certificate=4 certificate=5 key=6 key=7 "
        .. "ocsp=8 ocsp=9", { { certificate = "1,4,5", key = "2,6,7", ocsp = "3,8,9" } } },
    { "clients that must show a certificate",
      "certificate=c key=k client_certificate=require client_authorities=a",
      { { client_certificate = "require", client_authorities = "a" } } },
    { "clients that may, and are judged by the handler",
      "certificate=c key=k client_certificate=allow", { { client_certificate = "allow" } } },
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
  local keys = "name, address, port, certificate, key, ocsp, min_version, max_version, "
    .. "client_certificate, client_authorities"
  local require = "binding 1: client_authorities: is missing, for client_certificate=require"
  local asks = "binding 1: client_certificate: must be allow, require or delay beside "
    .. "client_authorities"
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
    { "port=1 port=2" .. both, "binding 1: port: is given twice" },
    { "key=a" .. both, "binding 1: key: is given 2 times, and certificate 1 times" },
    { "certificate=a" .. both, "binding 1: key: is given 1 times, and certificate 2 times" },
    { both:rep(5), "binding 1: certificate: is given more than 4 times" },
    { "certificate=a key=a ocsp=o" .. both,
      "binding 1: ocsp: is given 1 times, and certificate 2 times" },
    { "client_certificate=require" .. both, require },
    { "client_authorities=a" .. both, asks },
    { "client_certificate=none client_authorities=a" .. both, asks },
    { "name=a..b" .. both, "binding 1: name=a..b: must be a host name or *.domain" },
    { "name=*" .. both, "binding 1: name=*: must be a host name or *.domain" },
    { "name=a.*.b" .. both, "binding 1: name=a.*.b: must be a host name or *.domain" },
    { "name=a." .. both, "binding 1: name=a.: must be a host name or *.domain" },
    { "name=127.0.0.1" .. both, "binding 1: name=127.0.0.1: must be a host name or *.domain" },
    { "name=b\xC3\xBC.test" .. both,
      "binding 1: name=b\xC3\xBC.test: must be a host name or *.domain" },
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
