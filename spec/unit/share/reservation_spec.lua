-- Reservations as a registrar applies them (reference sections 2.4 and 2.5).
local probe = require("moonquay.probe")
local sys, temp = probe.sys, require("spec.support.temp")

local ATTACH = 2
local US = sys.geteuid()
local OTHER = US + 1 -- whose the host is, so that nothing is allowed by being the host's user

describe("a reservation", function()
  local dir, registrar, saved

  before_each(function()
    dir = temp.dir()
    registrar = probe.registrar.registrar(dir.path .. "/s", OTHER)
  end)

  after_each(function()
    registrar = nil
    collectgarbage()
    dir:remove()
  end)

  -- What the master was asked last: "op value", for the state what is reserved in it.
  local function asked()
    local all = {}
    for _, question in ipairs(registrar:asked()) do
      local found = {}
      for _, pair in ipairs(question.pairs) do
        found[pair[1]] = pair[2]
      end
      local value = found.value
      if found.op == "state" then
        saved, value = found.value, {}
        for url in saved:gmatch('"url": "([^"]+)"') do value[#value + 1] = url end
        value = table.concat(value, " ")
      end
      all[#all + 1] = found.op .. " " .. (value or "")
      registrar:reply(question.number, nil, "+\0http://a/\0")
    end
    return all
  end

  -- nil when a program of ours may register the prefix, else why not.
  local function refused(prefix)
    local program = registrar:program()
    program:say(ATTACH, 1, ("version\0001\0000:name\0a\0000:+\0%s\0"):format(prefix))
    registrar:turn()
    asked()
    local reply = program:heard()
    program:leave()
    registrar:turn()
    for _, pair in ipairs(reply.pairs) do
      if pair[1] == "wrong" then return pair[2] end
    end
  end

  -- The master finds no fault.
  local function reserve(wish)
    local ok, why, code = registrar:reserve(wish)
    if ok then asked() end
    return ok, why, code
  end

  local function release(url)
    assert(registrar:release(url))
    asked()
  end

  it("is told to the master, and so is its end", function()
    assert.is_true(registrar:reserve({ url = "http://+:8080/shop/", user = "#" .. US }))
    assert.same({ "state http://+:8080/shop/" }, asked())
    assert.is_true(registrar:release("http://+:8080/SHOP/"))
    assert.same({ "state " }, asked())
    assert.same({ nil, "http://+:8080/shop/ is not reserved", "not_found" },
      { registrar:release("http://+:8080/shop/") })
  end)

  it("lets its user register at and below it, whole segments, in its bucket", function()
    reserve({ url = "http://+:8080/shop/", user = "#" .. US })
    assert.is_nil(refused("http://+:8080/shop/"))
    assert.is_nil(refused("http://+:8080/Shop/cart/"))
    if US ~= 0 then
      for _, prefix in ipairs({ "http://+:8080/shopping/", "http://+:8080/", "http://*:8080/shop/",
        "http://+:8081/shop/" }) do
        assert.truthy(refused(prefix):find("nobody has reserved it", 1, true), prefix)
      end
    end
  end)

  it("keeps everybody else out, root too", function()
    reserve({ url = "http://localhost:8080/", user = "#" .. OTHER })
    assert.equal(("http://localhost:8080/a/: user %d may not register it: http://localhost:8080/ "
      .. "is reserved for user:#%d"):format(US, OTHER), refused("http://localhost:8080/a/"))
  end)

  it("decides by the longest path", function()
    reserve({ url = "http://localhost:8080/", user = "#" .. OTHER })
    reserve({ url = "http://localhost:8080/ours/", user = "#" .. US })
    reserve({ url = "http://localhost:8080/ours/theirs/", user = "#" .. OTHER })
    assert.truthy(refused("http://localhost:8080/x/"))
    assert.is_nil(refused("http://localhost:8080/ours/x/"))
    assert.truthy(refused("http://localhost:8080/ours/theirs/x/"))
  end)

  it("says nothing about other buckets (reference section 2.4)", function()
    reserve({ url = "http://+:8080/", user = "#" .. OTHER })
    assert.is_nil(refused("http://localhost:8080/"))
  end)

  it("can be for a group", function()
    reserve({ url = "http://localhost:8080/", group = "#" .. sys.getegid() })
    reserve({ url = "http://localhost:8081/", group = "#99999" })
    assert.is_nil(refused("http://localhost:8080/"))
    assert.truthy(refused("http://localhost:8081/"):find("group:#99999", 1, true))
  end)

  it("names users and groups", function()
    assert.is_true(reserve({ url = "http://a:1/", user = "root" }))
    assert.is_true(reserve({ url = "http://b:1/", group = "root" }))
  end)

  it("without listen lets nobody register", function()
    reserve({ url = "http://localhost:8080/", user = "#" .. US, listen = false,
      delegate = true })
    assert.truthy(refused("http://localhost:8080/"):find("who may only reserve below", 1, true))
  end)

  it("for the overflow uid is for nobody", function()
    reserve({ url = "http://localhost:8080/", user = "#65534" })
    assert.truthy(refused("http://localhost:8080/"))
  end)

  describe("in the state file", function()
    -- Another registrar, which has read this.
    local function load(text)
      registrar = probe.registrar.registrar(dir.path .. "/" .. #text .. "other", OTHER)
      return registrar:load(text)
    end

    it("is there again after a restart", function()
      reserve({ url = "http://+:8080/caf\u{e9}/", user = "#" .. US })
      reserve({ url = "http://localhost:8080/", group = "#7", listen = false,
        delegate = true })
      asked()
      local before = saved
      assert.is_true(load(before))
      assert.same({}, asked())
      assert.truthy(refused("http://localhost:8080/"):find("group:#7, who may only", 1, true))
      release("http://localhost:8080/")
      reserve({ url = "http://localhost:8080/", group = "#7", listen = false,
        delegate = true })
      asked()
      assert.equal(before, saved)
    end)

    it("is for nobody when there is no such user or group, and stays", function()
      local text = [[{"version": 1, "urlacl": [
        {"url": "http://localhost:8080/", "user": "no-such-user"},
        {"url": "http://localhost:8081/", "group": "no-such-group"}]}]]
      assert.is_true(load(text))
      assert.truthy(refused("http://localhost:8080/"):find("user:no-such-user", 1, true))
      assert.truthy(refused("http://localhost:8081/"):find("group:no-such-group", 1, true))
      assert.is_true(registrar:reserve({ url = "http://localhost:8082/", user = "root" }))
      registrar:reply(registrar:asked()[1].number, "no") -- undone
      assert.is_true(registrar:reserve({ url = "http://localhost:8083/", user = "root" }))
      assert.same({ "state http://localhost:8080/ http://localhost:8081/ http://localhost:8083/" },
        asked())
    end)

    it("may be missing", function()
      assert.is_true(load(""))
      assert.is_true(load('{"version": 1}'))
      assert.is_true(load('{"version": 1, "urlacl": []}'))
    end)

    local good = '{\n"version": 1,\n"urlacl": [\n{"url": "http://a:1/", "user": "root"},\n%s\n]\n}'
    for _, case in ipairs({
      { "no JSON", "line 1: " },
      { '{"version": 1,\n"urlacl": [\n', "line 3: " },
      { '{"version": 1, "version": 1}', "line 1: duplicate" },
      { "[]", "line 1: " },
      { "{}", "line 1: " },
      { '{"version": 2}', "version 2: this program knows version 1" },
      { '{"version": 1, "other": []}', "line 1: 1 object item(s) left unpacked: other" },
      { '{"version": 1, "urlacl": {}}', "urlacl must be a list" },
      { good:format('{"url": "http://b", "user": "root"}'), "line 5: http://b: a reserved URL" },
      { good:format('{"url": "http://A:1/", "user": "root"}'), "line 5: http://a:1/ is reserved" },
      { good:format('{"url": "http://b:1/"}'), "line 5: a reservation is for user=" },
      { good:format('{"url": "http://b:1/", "user": "#1x"}'), "line 5: #1x is no number" },
      { good:format('{"url": "http://b:1/", "user": 5}'), "line 5: Expected string" },
      { good:format('{"url": "http://b:1/", "user": "root", "lsten": true}'), "line 5: 1 object" },
      { good:format('{"url": "http://b:1/", "user": "root", "listen": 1}'), "line 5: Expected" },
      { good:format('{"user": "url"}'), "line 5: Object item not found: url" },
      { good:format("7"), "line 5: Expected object" },
      { good:format("[[[{}]]]"), "line 5: Expected object" },
      { '{"x": "\\"[{", "version": 1}', "line 1: 1 object item(s) left unpacked: x" },
      { '{"version": 1, "sslcert": [{"ipport": "1.2.3.4:1", "cert": "/", "key": "/"},\n{"a": 1}]}',
        "line 2: a: no such key" },
      { '{"version": 1, "sslcert": [5]}', "line 1: a certificate is an object" },
      { '{"version": 1, "sslcert": [{"ipport": 5}]}', "line 1: ipport must be a text" },
      { '{"version": 1, "iplisten": "1.2.3.4"}', "iplisten must be a list" },
      { '{"version": 1, "iplisten": ["1.2.3.4",\n5]}', "line 2: an address is a text" },
      { '{"version": 1, "iplisten": ["::1",\n"[::1]"]}', "line 2: [::1] is in the list already" },
      { '{"version": 1, "iplisten": ["localhost"]}', "line 1: ipaddress=localhost: must be" },
      { '{"version": 1, "timeout": {"headerwaittimeout": 65536}}', "timeout: must be seconds" },
      { '{"version": 1, "timeout": {"headerwaittimeout": "5"}}', "timeout: Expected integer" },
      { '{"version": 1, "timeout": {"header": 5}}', "timeout: 1 object item(s) left" },
    }) do
      it("is refused: " .. case[2], function()
        local ok, why = load(case[1])
        assert.is_nil(ok)
        assert.equal(case[2], why:sub(1, #case[2]))
        assert.same({}, asked())
      end)
    end
  end)

  describe("is refused:", function()
    local cases = {
      { { url = "http://a:80", user = "root" }, "ends with a slash", "invalid" },
      { { url = "", user = "root" }, "ends with a slash", "invalid" },
      { { url = "http://a:0/", user = "root" }, "has a port", "invalid" },
      { { url = "ftp://a/", user = "root" }, "ftp", "invalid" },
      { { url = "http://a:80/" }, "user= or for group=", "invalid" },
      { { url = "http://a:80/", user = "root", group = "root" }, "user= or for group=", "invalid" },
      { { url = "http://a:80/", user = "" }, "1 to 256 characters", "invalid" },
      { { url = "http://a:80/", user = ("x"):rep(257) }, "1 to 256 characters", "invalid" },
      { { url = "http://a:80/", user = "no-such-user" }, "there is no user no-such-user",
        "not_found" },
      { { url = "http://a:80/", group = "no-such-group" }, "there is no group", "not_found" },
      { { url = "http://a:80/", user = "#" }, "no number from #0 to #4294967294", "invalid" },
      { { url = "http://a:80/", user = "#4294967295" }, "no number", "invalid" },
      { { url = "http://a:80/", user = "#-1" }, "no number", "invalid" },
      { { url = "http://a:80/", user = "#1x" }, "no number", "invalid" },
      { { url = "http://taken:80/", user = "root" }, "is reserved for user:root already",
        "exists" },
      { { url = "https://other:80/", user = "root" }, "port 80 carries http", "state" },
    }
    for i, case in ipairs(cases) do
      it(i .. ": " .. case[2], function()
        reserve({ url = "http://TAKEN:80/", user = "root" })
        asked()
        local ok, why, code = reserve(case[1])
        assert.is_nil(ok)
        assert.truthy(why:find(case[2], 1, true), why)
        assert.equal(case[3], code)
        assert.same({}, asked())
      end)
    end
  end)
end)
