-- The commands of moonquay http and their arguments, by name and by position.
local admin = require("moonquay.probe").admin

local URL = "http://+:80/shop/"
local SHA1, SHA256 = ("a1"):rep(20), ("B2"):rep(32)
local GUID = "{01234567-89ab-cdef-0123-456789ABCDEF}"

local function pairs_of(list)
  local out = {}
  for i, pair in ipairs(list) do
    out[i] = pair[1] .. "\0" .. pair[2] .. "\0"
  end
  return table.concat(out)
end

-- What else a command needs beside the argument that is tried.
local BESIDE = {
  urlacl = { url = { "user=alice" }, user = { "url=" .. URL }, group = { "url=" .. URL },
    listen = { "url=" .. URL, "user=alice" }, delegate = { "url=" .. URL, "user=alice" },
    sddl = { "url=" .. URL } },
  sslcert = { ipport = { "certhash=" .. SHA1 }, hostnameport = { "certhash=" .. SHA1 },
    cert = { "ipport=0.0.0.0:443", "key=/k" }, key = { "ipport=0.0.0.0:443", "cert=/c" },
    certhash = { "ipport=0.0.0.0:443" } },
  timeout = { timeouttype = { "value=1" }, value = { "timeouttype=headerwaittimeout" } },
  iplisten = { ipaddress = {} },
  servicestate = { view = {}, verbose = {} },
}
local OTHERS = { "ipport=0.0.0.0:443", "certhash=" .. SHA1 }

-- noun, argument, what is right, what is wrong; one of each noun's verbs.
local VALUES = {
  { "add", "urlacl", "url",
    { URL, "https://*.example.com:443/", "HTTP://+:80/", "http://[::1]:80/a/" },
    { "", "http://+:80", "http://+:0/", "ftp://+:80/", "x", ("x"):rep(5000) .. "/" } },
  { "add", "urlacl", "user", { "alice", "#1000", ("x"):rep(256) }, { "", ("x"):rep(257) } },
  { "add", "urlacl", "group", { "www", "#0" }, { "", ("x"):rep(257) } },
  { "add", "urlacl", "listen", { "yes", "no", "YES", "No" }, { "", "1", "true", "ye", "yes " } },
  { "add", "urlacl", "delegate", { "yes", "no" }, { "maybe" } },
  { "add", "urlacl", "sddl", {}, { "D:(A;;GX;;;S-1-1-0)", "" } },
  { "add", "sslcert", "ipport",
    { "192.0.2.1:443", "0.0.0.0:443", "[::]:443", "[2001:db8::1]:1", "127.0.0.1:65535" },
    { "", "443", ":443", "192.0.2.1", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536",
      "192.0.2.1:0443", "192.0.2.1:44x", "192.0.2:443", "::1:443", "example.com:443", "[::1]" } },
  { "add", "sslcert", "hostnameport", { "example.com:443", "*.example.com:1", "LOCALHOST:8443" },
    { "", "example.com", "example.com:", ":443", "192.0.2.1:443", "[::]:443", "a b:443",
      "*:443", "example.com:0", "a..b:443", ("x"):rep(300) .. ":443" } },
  { "add", "sslcert", "cert", { "/etc/a.pem", "/\u{e9}" },
    { "", "a.pem", "./a", "/" .. ("x"):rep(511), "/\xa7", "/a\nb",
      "/\xc2\x9b", "/\x7f", "/\xe2\x82" } },
  { "add", "sslcert", "key", { "/etc/a.key" }, { "", "a.key" } },
  { "add", "sslcert", "certhash", { SHA1, SHA256 },
    { "", SHA1 .. "a", SHA1:sub(2), ("g"):rep(40), SHA256 .. "00" } },
  { "add", "sslcert", "appid", { GUID },
    { "", GUID:sub(2, -2), GUID .. "}", (GUID:gsub("a", "g")), "{}", (GUID:gsub("-", "0")) } },
  { "add", "sslcert", "min_version", { "1.2", "1.3" }, { "", "1.1", "1", "TLS1.2" } },
  { "add", "sslcert", "max_version", { "1.2", "1.3" }, { "2" } },
  { "add", "sslcert", "client_certificate", { "none", "allow", "Require", "delay" },
    { "", "enable" } },
  { "add", "sslcert", "clientcertnegotiation", { "enable", "disable", "ENABLE" }, { "", "allow" } },
  { "add", "sslcert", "client_authorities", { "/etc/ca.pem" }, { "", "ca.pem" } },
  { "add", "iplisten", "ipaddress", { "192.0.2.1", "0.0.0.0", "::", "2001:db8::1" },
    { "", "localhost", "192.0.2", "192.0.2.1:80", "300.0.0.1" } },
  { "add", "timeout", "timeouttype", { "idleconnectiontimeout", "HeaderWaitTimeout" },
    { "", "entitybody" } },
  { "add", "timeout", "value", { "1", "120", "65535", "0x1", "0X78", "0xffff", "007" },
    { "", "0", "65536", "0x10000", "-1", "1.5", "12s", "0x", " 1", "99999999999999999999" } },
  { "show", "servicestate", "view", { "session", "requestq" }, { "", "client" } },
  { "show", "servicestate", "verbose", { "yes", "no" }, { "" } },
}

local function words_with(case, value)
  local words = { case[1], case[2] }
  local beside = BESIDE[case[2]][case[3]] or OTHERS
  table.move(beside, 1, #beside, 3, words)
  words[#words + 1] = case[3] .. "=" .. value
  return words
end

describe("an argument of moonquay http", function()
  for _, case in ipairs(VALUES) do
    local verb, noun, name = case[1], case[2], case[3]
    for _, value in ipairs(case[4]) do
      it(("%s %s %s= takes %s"):format(verb, noun, name, value), function()
        local request, why = admin.words(table.unpack(words_with(case, value)))
        assert.is_nil(why)
        assert.equal(value:lower(), request[name]:lower())
      end)
    end
    for _, value in ipairs(case[5]) do
      it(("%s %s %s= refuses '%.80s'"):format(verb, noun, name, value), function()
        local request, why, code = admin.words(table.unpack(words_with(case, value)))
        assert.is_nil(request)
        assert.equal(name .. "=", why:sub(1, #name + 1))
        assert.is_nil(why:find("\n", 1, true))
        assert.equal(64, code)
        -- The registrar judges by the same table.
        local list = { { "verb", verb }, { "noun", noun } }
        for _, word in ipairs(words_with(case, value)) do
          local key, text = word:match("^([%a_]+)=(.*)$")
          if key then list[#list + 1] = { key, text } end
        end
        assert.equal(why, select(2, admin.pairs(pairs_of(list))))
      end)
    end
  end

  it("is tried with every name that the table has", function()
    local tried = {}
    for _, case in ipairs(VALUES) do
      tried[case[2] .. " " .. case[3]] = true
    end
    for _, command in ipairs(admin.commands()) do
      for _, argument in ipairs(command) do
        assert.is_true(tried[command.noun .. " " .. argument.name], argument.name)
      end
    end
  end)
end)

describe("arguments without their names", function()
  -- words, what they stand for
  local cases = {
    { "add urlacl " .. URL .. " alice", { url = URL, user = "alice" } },
    { "add urlacl " .. URL .. " alice no yes",
      { url = URL, user = "alice", listen = "no", delegate = "yes" } },
    { "add urlacl group=www " .. URL .. " no", { url = URL, group = "www", listen = "no" } },
    { "add urlacl " .. URL .. " delegate=yes alice",
      { url = URL, user = "alice", delegate = "yes" } },
    { "add urlacl http://+:80/a=b/ alice", { url = "http://+:80/a=b/", user = "alice" } },
    { "delete urlacl " .. URL, { url = URL } },
    { "show urlacl", {} },
    { "show urlacl " .. URL, { url = URL } },
    { "add sslcert 0.0.0.0:443 /c /k " .. GUID,
      { ipport = "0.0.0.0:443", cert = "/c", key = "/k", appid = GUID } },
    { "update sslcert hostnameport=a.b:443 /c /k",
      { hostnameport = "a.b:443", cert = "/c", key = "/k" } },
    { "delete sslcert [::]:443", { ipport = "[::]:443" } },
    { "show sslcert", {} },
    { "add iplisten ::", { ipaddress = "::" } },
    { "delete iplisten 192.0.2.1", { ipaddress = "192.0.2.1" } },
    { "add timeout headerwaittimeout 0x78",
      { timeouttype = "headerwaittimeout", value = "0x78" } },
    { "delete timeout idleconnectiontimeout", { timeouttype = "idleconnectiontimeout" } },
    { "show servicestate requestq no", { view = "requestq", verbose = "no" } },
    { "flush logbuffer", {} },
    { "show firewall", {} },
    { "SHOW UrlAcl URL=" .. URL, { url = URL } },
    { "Add IPLISTEN IpAddress=::1", { ipaddress = "::1" } },
  }
  for _, case in ipairs(cases) do
    it("stand in the order of the table: " .. case[1], function()
      local words = {}
      for word in case[1]:gmatch("%S+") do
        words[#words + 1] = word
      end
      local request, why = admin.words(table.unpack(words))
      assert.is_nil(why)
      case[2].verb, case[2].noun = words[1]:lower(), words[2]:lower()
      assert.same(case[2], request)
    end)
  end
end)

describe("a command of moonquay http", function()
  -- words, what is wrong
  local cases = {
    { "", "a command is missing: there are add, update, delete, show, flush" },
    { "ad urlacl", "no such command: ad: there are add, " },
    { "add", "add what: there are urlacl, sslcert, iplisten, timeout" },
    { "add urlac", "add urlac: there are urlacl, " },
    { "update urlacl", "update urlacl: there are sslcert" },
    { "flush urlacl", "flush urlacl: there are logbuffer" },
    { "add urlacl", "add urlacl: url= is missing" },
    { "add urlacl " .. URL, "add urlacl: user= or group= is missing" },
    { "add urlacl " .. URL .. " a group=b", "user= or group=, not both" },
    { "add urlacl " .. URL .. " a user=b", "user= is given twice" },
    { "add urlacl url=" .. URL .. " URL=" .. URL, "url= is given twice" },
    { "add urlacl " .. URL .. " a yes no x", "one word too many: x" },
    { "add urlacl " .. URL .. " usr=a", "add urlacl has no argument usr: there are url, user, "
      .. "group, listen, delegate" },
    { "delete urlacl " .. URL .. " user=a", "delete urlacl has no argument user: there are url" },
    { "add urlacl " .. URL .. " sddl=x", "sddl=: not here: say with user= or group=" },
    { "delete urlacl", "delete urlacl: url= is missing" },
    { "add sslcert", "add sslcert: ipport= or hostnameport= is missing" },
    { "add sslcert ipport=0.0.0.0:1 hostnameport=a:1", "ipport= or hostnameport=, not both" },
    { "add sslcert 0.0.0.0:443", "add sslcert: cert= or certhash= is missing" },
    { "add sslcert 0.0.0.0:443 /c", "key= is missing beside cert=" },
    { "add sslcert 0.0.0.0:443 key=/k certhash=" .. SHA1, "cert= is missing beside key=" },
    { "update sslcert 0.0.0.0:443", "update sslcert: cert= or certhash= is missing" },
    { "add sslcert 0.0.0.0:443 /c /k clientcertnegotiation=enable client_certificate=none",
      "clientcertnegotiation= or client_certificate=, not both" },
    { "delete sslcert", "delete sslcert: ipport= or hostnameport= is missing" },
    { "delete sslcert 0.0.0.0:443 /c", "one word too many: /c" },
    { "add iplisten", "add iplisten: ipaddress= is missing" },
    { "show iplisten ::", "one word too many: ::" },
    { "show iplisten ipaddress=::", "show iplisten takes no arguments: ipaddress" },
    { "add timeout headerwaittimeout", "add timeout: value= is missing" },
    { "delete timeout headerwaittimeout 5", "one word too many: 5" },
    { "show firewall x=1", "show firewall takes no arguments: x" },
  }
  for _, case in ipairs(cases) do
    it(("%q is refused"):format(case[1]), function()
      local words = {}
      for word in case[1]:gmatch("%S+") do
        words[#words + 1] = word
      end
      local request, why, code = admin.words(table.unpack(words))
      assert.is_nil(request)
      assert.equal(case[2], why:sub(1, #case[2]))
      assert.equal(64, code)
    end)
  end

  it("is nothing that pairs can hide in", function()
    for _, list in ipairs({ {}, { { "verb", "add" } }, { { "noun", "urlacl" } },
      { { "verb", "" }, { "noun", "" } },
      { { "verb", "show" }, { "noun", "urlacl" }, { "op", "state" } },
      { { "verb", "delete" }, { "noun", "urlacl" }, { "url", URL }, { "url", URL } } }) do
      local request, why, code = admin.pairs(pairs_of(list))
      assert.is_nil(request)
      assert.is_string(why)
      assert.equal(64, code)
    end
  end)

  it("is for those whom the table names", function()
    local who = {}
    for _, command in ipairs(admin.commands()) do
      who[command.who] = who[command.who] or {}
      table.insert(who[command.who], command.verb .. " " .. command.noun)
    end
    assert.same({ "show urlacl", "show iplisten", "show timeout", "show firewall" }, who.everybody)
    assert.same({ "add urlacl", "delete urlacl" }, who.delegates)
  end)
end)

describe("moonquay http --help", function()
  it("has every command and argument, and no line that a terminal breaks", function()
    local text = admin.help()
    for _, command in ipairs(admin.commands()) do
      local name = ("moonquay http %s %s\n"):format(command.verb, command.noun)
      assert.truthy(text:find(name, 1, true), name)
      local one = admin.help(command.verb, command.noun)
      assert.equal(name, one:sub(1, #name))
      for _, argument in ipairs(command) do
        local word = argument.name .. "=" .. argument.form
        assert.truthy(one:find(word, 1, true), word)
      end
    end
    for line in text:gmatch("[^\n]+") do
      assert.is_true(utf8.len(line) <= 90, line)
    end
    assert.is_nil(text:find("sddl", 1, true))
  end)
end)

describe("completion of moonquay http", function()
  local cases = {
    { { "" }, "add update delete show flush" },
    { { "add", "" }, "urlacl sslcert iplisten timeout" },
    { { "SHOW", "" }, "urlacl sslcert iplisten timeout servicestate firewall" },
    { { "nothing", "" }, "" },
    { { "add", "urlacl", "" }, "url= user= group= listen= delegate=" },
    { { "add", "urlacl", "user=a", "" }, "url= listen= delegate=" },
    { { "add", "urlacl", "user=a", "url=", "" }, "listen= delegate=" },
    { { "add", "urlacl", "listen=" }, "url= user= group= listen=yes listen=no delegate=" },
    { { "add", "sslcert", "cert=/a", "" }, "ipport= hostnameport= key= appid= min_version= "
      .. "max_version= client_certificate= clientcertnegotiation= client_authorities=" },
    { { "show", "firewall", "" }, "" },
  }
  for _, case in ipairs(cases) do
    it("offers after '" .. table.concat(case[1], " ") .. "' what may follow", function()
      assert.equal(case[2], (admin.complete(table.unpack(case[1])):gsub("\n", " "):gsub(" $", "")))
    end)
  end
end)
