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

  -- What the master was asked last: "op value".
  local function asked()
    local all = {}
    for _, question in ipairs(registrar:asked()) do
      local found = {}
      for _, pair in ipairs(question.pairs) do
        found[pair[1]] = pair[2]
      end
      all[#all + 1] = found.op .. " " .. (found.op == "save" and "all" or found.value or "")
      saved = found.op == "save" and found.value or saved
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

  it("is told to the master, and so is its end", function()
    assert.is_true(registrar:reserve({ url = "http://+:8080/shop/", user = "#" .. US }))
    assert.same({ "reserve http://+:8080/shop/", "save all" }, asked())
    assert.is_true(registrar:release("http://+:8080/SHOP/"))
    assert.same({ "release http://+:8080/SHOP/", "save all" }, asked())
    assert.same({ nil, "http://+:8080/shop/ is not reserved", "not_found" },
      { registrar:release("http://+:8080/shop/") })
  end)

  it("lets its user register at and below it, whole segments, in its bucket", function()
    registrar:reserve({ url = "http://+:8080/shop/", user = "#" .. US })
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
    registrar:reserve({ url = "http://localhost:8080/", user = "#" .. OTHER })
    assert.equal(("http://localhost:8080/a/: user %d may not register it: http://localhost:8080/ "
      .. "is reserved for user:#%d"):format(US, OTHER), refused("http://localhost:8080/a/"))
  end)

  it("decides by the longest path", function()
    registrar:reserve({ url = "http://localhost:8080/", user = "#" .. OTHER })
    registrar:reserve({ url = "http://localhost:8080/ours/", user = "#" .. US })
    registrar:reserve({ url = "http://localhost:8080/ours/theirs/", user = "#" .. OTHER })
    assert.truthy(refused("http://localhost:8080/x/"))
    assert.is_nil(refused("http://localhost:8080/ours/x/"))
    assert.truthy(refused("http://localhost:8080/ours/theirs/x/"))
  end)

  it("says nothing about other buckets (reference section 2.4)", function()
    registrar:reserve({ url = "http://+:8080/", user = "#" .. OTHER })
    assert.is_nil(refused("http://localhost:8080/"))
  end)

  it("can be for a group", function()
    registrar:reserve({ url = "http://localhost:8080/", group = "#" .. sys.getegid() })
    registrar:reserve({ url = "http://localhost:8081/", group = "#99999" })
    assert.is_nil(refused("http://localhost:8080/"))
    assert.truthy(refused("http://localhost:8081/"):find("group:#99999", 1, true))
  end)

  it("names users and groups", function()
    assert.is_true(registrar:reserve({ url = "http://a:1/", user = "root" }))
    assert.is_true(registrar:reserve({ url = "http://b:1/", group = "root" }))
  end)

  it("without listen lets nobody register", function()
    registrar:reserve({ url = "http://localhost:8080/", user = "#" .. US, listen = false,
      delegate = true })
    assert.truthy(refused("http://localhost:8080/"):find("who may only reserve below", 1, true))
  end)

  it("for the overflow uid is for nobody", function()
    registrar:reserve({ url = "http://localhost:8080/", user = "#65534" })
    assert.truthy(refused("http://localhost:8080/"))
  end)

  describe("in the state file", function()
    -- Another registrar, which has read this.
    local function load(text)
      registrar = probe.registrar.registrar(dir.path .. "/" .. #text .. "other", OTHER)
      return registrar:load(text)
    end

    it("is there again after a restart", function()
      registrar:reserve({ url = "http://+:8080/caf\u{e9}/", user = "#" .. US })
      registrar:reserve({ url = "http://localhost:8080/", group = "#7", listen = false,
        delegate = true })
      asked()
      local before = saved
      assert.is_true(load(before))
      assert.same({ "reserve http://+:8080/caf\u{e9}/", "reserve http://localhost:8080/" },
        asked())
      assert.truthy(refused("http://localhost:8080/"):find("group:#7, who may only", 1, true))
      registrar:release("http://localhost:8080/")
      registrar:reserve({ url = "http://localhost:8080/", group = "#7", listen = false,
        delegate = true })
      asked()
      assert.equal(before, saved)
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
      { good:format('{"url": "http://b:1/", "user": "no-such-user"}'), "line 5: there is no user" },
      { good:format('{"url": "http://b:1/", "user": 5}'), "line 5: Expected string" },
      { good:format('{"url": "http://b:1/", "user": "root", "lsten": true}'), "line 5: 1 object" },
      { good:format('{"url": "http://b:1/", "user": "root", "listen": 1}'), "line 5: Expected" },
      { good:format('{"user": "url"}'), "urlacl: record 2: Object item not found: url" },
      { good:format("7"), "urlacl: record 2: Expected object" },
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
        registrar:reserve({ url = "http://TAKEN:80/", user = "root" })
        asked()
        local ok, why, code = registrar:reserve(case[1])
        assert.is_nil(ok)
        assert.truthy(why:find(case[2], 1, true), why)
        assert.equal(case[3], code)
        assert.same({}, asked())
      end)
    end
  end)
end)
