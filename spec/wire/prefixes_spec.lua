local await = require("spec.support.await")
local client = require("spec.support.client")
local json = require("moonquay.core").json
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local temporary = require("spec.support.temp")

-- Says who it is and what it sees, of every target; changes itself when the query asks for it.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app(%s)
app:use(function(req)
  local call, err = req.query.call, nil
  if call == "disable" then
    app.settings.enabled = false
  elseif call then
    call, err = app[call](app, req.query.prefix)
  end
  return { app = %q, base = req.path_base, path = req.path, host = req.host, target = req.target,
           prefixes = app.addresses, result = call, err = err and err.message }
end)
return app]]

-- Starts one server with an app for each row { name, prefix with PORT in it }.
local function start(port, rows)
  local temp = temporary.dir()
  local files = {}
  for i, row in ipairs(rows) do
    local settings = ("{ url_prefixes = { %q } }"):format((row[2]:gsub("PORT", port)))
    files[i] = temp:write(row[1] .. ".lua", APP:format(settings, row[1]))
  end
  local words = { "--workers", "1", "--access-log", "off", "--no-dev" }
  table.move(files, 2, #files, #words + 1, words)
  local s = server.start({ path = files[1], bare = true, options = words })
  temp:remove()
  return s
end

-- One request of literal bytes over a connection of its own: what the app saw, or the status.
local function send(port, bytes, address)
  local connection = client.connect(address or "127.0.0.1", port)
  connection:send(bytes)
  local response = connection:response()
  local _, from = connection.tcp:getsockname()
  connection:close()
  if response.status == 200 then
    return json.decode(response.body)
  end
  return { status = response.status, from = from }
end

local function head(target, host, version)
  local line = host and ("Host: %s\r\n"):format(host) or ""
  return ("GET %s HTTP/%s\r\n%s\r\n"):format(target, version or host and "1.1" or "1.0", line)
end

local function ask(port, target, host, address)
  return send(port, head(target, host), address)
end

local function escaped(text)
  return (text:gsub("%W", function(c)
    return ("%%%02X"):format(c:byte())
  end))
end

-- How often something was refused for a reason so far.
local function count(s, reason)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir } })
  assert.equal(0, result.status, result.stderr)
  return json.decode(result.stdout).reasons[reason]
end

-- Refused with a status, one line in the log that says why to whom, and one more in its counter.
local function assert_refused(s, port, bytes, status, reason)
  local before = count(s, reason)
  local seen = send(port, bytes)
  assert.equal(status, seen.status)
  s:await(("request_refused [^\n]*status=%d reason=%s peer=127%%.0%%.0%%.1:%s "):format(status,
    reason, seen.from))
  assert.equal(before + 1, count(s, reason))
end

describe("The owner of a request (reference section 2.2)", function()
  local port, s = ports.free(), nil
  lazy_setup(function()
    s = start(port, {
      { "strong", "http://+:PORT/vroot/" },
      { "named", "http://adatum.test:PORT/" },
      { "deep", "http://adatum.test:PORT/dir/sna/" },
      { "sub", "http://*.adatum.test:PORT/" },
      { "bound", "http://127.0.0.2:PORT/" },
      { "exact", "http://exact.adatum.test:PORT/e/" },
      { "longer", "http://adatum.test:PORT/vroot/longer/" },
      { "six", "http://[::1]:PORT/six/" },
      { "weak", "http://*:PORT/weak/" },
    })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  local cases = {
    { "a strong wildcard before a name", "/vroot/x", "adatum.test", "strong", "/vroot", "/x" },
    { "a name where the strong wildcard has not the path", "/default.htm", "adatum.test", "named",
      "", "/default.htm" },
    { "the longest prefix", "/dir/sna/x", "adatum.test", "deep", "/dir/sna", "/x" },
    { "whole segments only", "/dir/snafu", "adatum.test", "named", "", "/dir/snafu" },
    { "the parent of a longer prefix", "/dir/app.htm", "adatum.test", "named", "",
      "/dir/app.htm" },
    { "the bare base", "/dir/sna", "adatum.test", "deep", "/dir/sna", "" },
    { "any case of the path, kept as it was asked for", "/DIR/Sna/X", "adatum.test", "deep",
      "/DIR/Sna", "/X" },
    { "any case of the host", "/", "ADATUM.Test", "named", "", "/" },
    { "a host with a port, whichever", "/", "adatum.test:81", "named", "", "/" },
    { "a host with a last dot", "/", "adatum.test.", "named", "", "/" },
    { "one label in place of *", "/", "www.adatum.test", "sub", "", "/" },
    { "an earlier bucket, however long a later one's path", "/vroot/longer/x", "adatum.test",
      "strong", "/vroot", "/longer/x" },
    { "an exact name before *", "/e/x", "exact.adatum.test", "exact", "/e", "/x" },
    { "* where the exact name has not the path", "/x", "exact.adatum.test", "sub", "", "/x" },
    { "one label only in place of *", "/weak/x", "a.b.adatum.test", "weak", "/weak", "/x" },
    { "an escaped slash", "/dir%2Fsna/x", "adatum.test", "deep", "/dir%2Fsna", "/x" },
    { "an escaped backslash", "/dir%5csna/x", "adatum.test", "deep", "/dir\\sna", "/x" },
    { "a host in any case with port and dot", "/", "WWW.Adatum.Test.:65535", "sub", "", "/" },
    { "a host with an empty port", "/", "adatum.test:", "named", "", "/" },
    { "an absolute target's host, with a port", "HTTP://ADATUM.test:1/y", "www.adatum.test",
      "named", "", "/y" },
    { "an absolute target's host, without a path", "http://adatum.test", "www.adatum.test",
      "named", "", "/" },
    { "an absolute target without a Host field", "http://adatum.test/y", nil, "named", "", "/y" },
    { "the weak wildcard for an empty host", "/weak/", "", "weak", "/weak", "/" },
    { "the weak wildcard for any other host", "/weak/x", "other.test", "weak", "/weak", "/x" },
    { "an absolute target's host", "http://adatum.test/y", "other.test", "named", "", "/y" },
    { "the weak wildcard for no host at all", "/weak/", nil, "weak", "/weak", "/" },
  }
  for _, case in ipairs(cases) do
    it("is found by " .. case[1], function()
      local seen = ask(port, case[2], case[3])
      assert.equal(case[4], seen.app)
      assert.equal(case[5], seen.base)
      assert.equal(case[6], seen.path)
    end)
  end

  it("is found by the address that was asked, before the weak wildcard", function()
    assert.equal("bound", ask(port, "/weak/x", "other.test", "127.0.0.2").app)
    assert.equal("named", ask(port, "/x", "adatum.test", "127.0.0.2").app)
    assert.equal("strong", ask(port, "/vroot/", "other.test", "127.0.0.2").app)
  end)

  it("is found by an address of IPv6, whatever the host", function()
    for _, host in ipairs({ "[::1]", ("[::1]:%d"):format(port), "[0:0::1]", "other.test" }) do
      local seen = ask(port, "/six/x", host, "::1")
      assert.equal("six", seen.app)
      assert.equal("/six", seen.base)
      assert.equal(404, ask(port, "/six/x", host).status)
    end
  end)

  it("is told to each app: its own addresses alone", function()
    assert.same({ ("http://adatum.test:%d/dir/sna/"):format(port) },
      ask(port, "/dir/sna/", "adatum.test").prefixes)
  end)

  it("does not exist: 404 for a path, 403 above the root (section 2.3)", function()
    assert_refused(s, port, head("/x", "other.test"), 404, "NotFound")
    assert_refused(s, port, head("/exa", "exact.x.adatum.test"), 404, "NotFound")
    assert_refused(s, port, head("/..%5C../x", "adatum.test"), 403, "Forbidden")
  end)

  it("is shown what the request said", function()
    assert.equal("adatum.test:81", ask(port, "/", "adatum.test:81").host)
    assert.equal("ADATUM.test:1", ask(port, "http://ADATUM.test:1/", "www.adatum.test").host)
  end)
end)

describe("A top-level wildcard", function()
  after_each(server.stop_all)

  local function warnings(s)
    local found = {}
    for text in s:stderr():gmatch("warn wildcard_prefix ([^\n]*)") do
      found[#found + 1] = text
    end
    return found
  end

  it("is warned of, by name and with the reason; those of a domain are not", function()
    local port = ports.free()
    local s = start(port, {
      { "strong", "http://+:PORT/strong/" }, { "weak", "http://*:PORT/weak/" },
      { "sub", "http://*.adatum.test:PORT/" }, { "named", "http://adatum.test:PORT/" },
    })
    s:await("http://%*:[^\n]*any host")
    local found = warnings(s)
    assert.equal(2, #found)
    for i, text in ipairs({ "http://+:%d/strong/", "http://*:%d/weak/" }) do
      assert.truthy(found[i]:find(text:format(port), 1, true), found[i])
      assert.truthy(found[i]:find("takes requests for any host, also forged ones", 1, true))
    end
    local more = ("http://+:%d/more/"):format(port)
    assert.equal(more, ask(port, "/?call=listen&prefix=" .. escaped(more), "adatum.test").result)
    s:await("wildcard_prefix [^\n]*/more/")
    assert.equal(3, #warnings(s))
    assert.equal(0, s:stop())
  end)
end)

describe("What no app takes (reference section 2.3)", function()
  local port, s = ports.free(), nil
  lazy_setup(function()
    s = start(port, { { "named", "http://adatum.test:PORT/" },
      { "off", "http://adatum.test:PORT/off/" } })
    assert.equal("off", ask(port, "/off/", "adatum.test").app)
    assert.equal("disable", ask(port, "/off/?call=disable", "adatum.test").result)
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)

  for title, bytes in pairs({
    ["another host"] = head("/", "other.test"),
    ["a label in front of the host"] = head("/", "b.adatum.test"),
    ["two dots at the end"] = head("/", "adatum.test.."),
    ["an address"] = head("/", "127.0.0.1"),
    ["HTTP/1.0 without a host"] = head("/"),
    ["HTTP/1.1 without a host"] = head("/", nil, "1.1"),
    ["an empty host"] = head("/", ""),
    ["two hosts"] = "GET / HTTP/1.1\r\nHost: adatum.test\r\nHost: adatum.test\r\n\r\n",
    ["a host with a path"] = head("/", "adatum.test/x"),
    ["a host with a scheme"] = head("/", "http://adatum.test"),
    ["a host with a name of a user"] = head("/", "me@adatum.test"),
    ["a host with a word for a port"] = head("/", "adatum.test:http"),
    ["a host with a blank inside"] = head("/", "adatum.test x"),
    ["half an address of IPv6"] = head("/", "[::1"),
    ["two hosts in one"] = head("/", "adatum.test,other.test"),
    ["an absolute target for another host"] = head("http://other.test/", "adatum.test"),
    ["an absolute target with a malformed host beside it"] = head("http://adatum.test/", "a/b"),
    ["an absolute target of HTTP/1.1 without a host beside it"] =
      head("http://adatum.test/", nil, "1.1"),
  }) do
    it("is refused for its host: " .. title, function()
      assert_refused(s, port, bytes, 400, "Hostname")
    end)
  end

  it("is refused where the app is disabled", function()
    assert_refused(s, port, head("/off/x", "adatum.test"), 503, "Disabled")
    assert.equal("named", ask(port, "/x", "adatum.test").app)
  end)
end)

describe("Many local addresses", function()
  it("are all told apart, also those that a worker does not remember", function()
    local port = ports.free()
    local s = start(port, { { "any", "http://0.0.0.0:PORT/" },
      { "one", "http://127.9.9.9:PORT/" } })
    for i = 1, 4200 do
      local address = ("127.1.%d.%d"):format(i // 250, i % 250 + 1)
      assert.equal("any", ask(port, "/", "h", address).app, address)
    end
    assert.equal("one", ask(port, "/", "h", "127.9.9.9").app)
    assert.equal(0, s:stop())
  end)
end)

describe("A prefix of a running app (reference section 2.4)", function()
  local port, s
  before_each(function()
    port = ports.free()
    s = start(port, { { "root", "http://h:PORT/" }, { "other", "http://h:PORT/other/" } })
  end)
  after_each(server.stop_all)

  local function call(name, prefix, base)
    local target = ("%s/?call=%s&prefix=%s"):format(base or "", name, escaped(prefix))
    local seen = ask(port, target, "h")
    assert.equal(200, seen.status or 200)
    return seen.result, seen.err
  end

  it("takes its path at once, and gives it back to its parent", function()
    local prefix = ("http://h:%d/pathbase/"):format(port)
    local function sees(base, path)
      local seen = ask(port, "/pathbase/x", "h")
      assert.same({ base, path }, { seen.base, seen.path })
    end
    for _ = 1, 2 do
      sees("", "/pathbase/x")
      assert.equal(prefix, call("listen", prefix))
      sees("/pathbase", "/x")
      assert.equal(prefix, call("unlisten", prefix:upper()))
    end
    sees("", "/pathbase/x")
    assert.equal(0, s:stop())
  end)

  it("may be there in several buckets, and they give way in their order", function()
    local buckets = {}
    for i, host in ipairs({ "+", "k", "127.0.0.1", "*" }) do
      buckets[i] = ("http://%s:%d/same/"):format(host, port)
      assert.equal(buckets[i], call("listen", buckets[i], i == 3 and "/other" or ""))
    end
    for i, owner in ipairs({ "root", "root", "other", "root" }) do
      local seen = ask(port, "/same/x", "k")
      assert.same({ owner, "/same" }, { seen.app, seen.base })
      assert.equal(buckets[i], call("unlisten", buckets[i], i == 3 and "/other" or ""))
    end
    assert.equal(400, ask(port, "/same/x", "k").status)
    assert.equal(0, s:stop())
  end)

  it("is taken away by nobody but its owner", function()
    local prefix = ("http://h:%d/mine/"):format(port)
    assert.equal(prefix, call("listen", prefix))
    local result, err = call("unlisten", prefix, "/other")
    assert.is_nil(result)
    assert.matches("is no prefix of ", err)
    result, err = call("listen", prefix, "/other")
    assert.is_nil(result)
    assert.matches("/mine/: both .*root%.lua and .*other%.lua", err)
    assert.equal("root", ask(port, "/mine/x", "h").app)
    assert.equal(0, s:stop())
  end)

  it("that is gone takes nothing from connections that stayed", function()
    local first = call("listen", "http://127.0.0.1:0/a/")
    local own = tonumber(first:match(":(%d+)/"))
    local second = call("listen", ("http://127.0.0.1:%d/b/"):format(own))
    local stayed = {}
    for i = 1, 2 do
      stayed[i] = client.connect("127.0.0.1", own)
      assert.equal(200, stayed[i]:get("/a/").status)
    end
    assert.equal(first, call("unlisten", first))
    assert.equal(404, stayed[1]:get("/a/").status)
    assert.equal("", (stayed[1]:rest()))
    assert.equal(200, stayed[2]:get("/b/").status)
    assert.equal(second, call("unlisten", second))
    assert.equal(400, stayed[2]:get("/b/").status)
    assert.equal("", (stayed[2]:rest()))
    await("a closed port", function()
      local connected, connection = pcall(client.connect, "127.0.0.1", own)
      return not connected or connection:close()
    end)
    assert.equal(0, s:stop())
  end)
end)

describe("What a handler sees of the path (reference section 7.3)", function()
  local port, s = ports.free(), nil
  lazy_setup(function()
    s = start(port, { { "base", "http://+:PORT/base/ball/" }, { "root", "http://+:PORT/" } })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)
  local cases = {
    { "/base/ball", "/base/ball", "" },
    { "/base/ball?/x", "/base/ball", "" },
    { "/base/ball/", "/base/ball", "/" },
    { "/base/ball/x", "/base/ball", "/x" },
    { "/BASE/ball/X", "/BASE/ball", "/X" },
    { "/base%2fball//p", "/base%2fball", "//p" },
    { "/base%2Fball", "/base%2Fball", "" },
    { "/base/%62all/%20", "/base/ball", "/ " },
    { "///base/ball/x", "///base/ball", "/x" },
    { "/base//ball//p", "/base//ball", "//p" },
    { "/base/\\ball/p", "/base/\\ball", "/p" },
    { "/base\\ball/p", "/base\\ball", "/p" },
    { "/base%5Cball/p", "/base\\ball", "/p" },
    { "/base/call/../ball/x", "/base/ball", "/x" },
    { "/base/call/%2E%2e/ball/./x/.%2E/y", "/base/ball", "/y" },
    { "/base/call//../ball/x", "", "/base/call/ball/x" },
    { "/base/ball/a//b%2Fc%2fd", "/base/ball", "/a//b%2Fc%2fd" },
    { "/base/ball/%252F", "/base/ball", "/%2F" },
    { "/base/ball/%C3%a4%e2%82%AC%F0%9F%8c%99", "/base/ball", "/ä€🌙" },
    { "/base/ball/%C0%32%A4", "/base/ball", "/%C02%A4" },
    { "/base/ball/..", "", "/base/", "root" },
    { "/base/balls", "", "/base/balls", "root" },
    { "/base", "", "/base", "root" },
    { "/base%252fball/x", "", "/base%2fball/x", "root" },
    { "/a//b", "", "/a//b", "root" },
    { "/", "", "/", "root" },
    { "http://h:1", "", "/", "root" },
    { "http://h/base/ball/x", "/base/ball", "/x" },
    { "http://h/base//ball/x?y", "/base//ball", "/x" },
  }
  for _, case in ipairs(cases) do
    it(("for %s is %q and %q"):format(case[1], case[2], case[3]), function()
      local seen = ask(port, case[1], "h")
      assert.equal(case[4] or "base", seen.app)
      assert.equal(case[2], seen.base)
      assert.equal(case[3], seen.path)
      assert.equal(case[1], seen.target)
    end)
  end

  it("for OPTIONS * is nothing", function()
    local seen = send(port, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    assert.same({ "root", "", "", "*" }, { seen.app, seen.base, seen.path, seen.target })
  end)

  for _, row in ipairs({
    { 400, "URL", "/base/ball/%" }, { 400, "URL", "/base/ball/%A" },
    { 400, "URL", "/base/ball/%Y0" }, { 400, "URL", "/base/ball/%%20" },
    { 400, "URL", "/base/ball/%00" }, { 400, "URL", "/base/ball/%1F" },
    { 400, "URL", "/base/ball/%7f" }, { 400, "URL", "/base/ball/\xE1" },
    { 400, "URL", "/base/ball/%F0%8F%8F%BF" },
    { 400, "URL", "http://h?query=value/1/2" },
    { 403, "Forbidden", "/../base/ball/" }, { 403, "Forbidden", "/%2e%2E/base/ball/" },
    { 403, "Forbidden", "/base/ball/..%2F..%2F..%2Fx" },
  }) do
    it(("is never seen for %q"):format(row[3]), function()
      assert_refused(s, port, head(row[3], "h"), row[1], row[2]:gsub("%p", "%%%0"))
    end)
  end
end)

describe("The choice of addresses (reference section 2.6)", function()
  after_each(server.stop_all)
  local function serve(settings, options, env)
    local s = server.start({ app = APP:format(settings, "x"), bare = true, env = env,
      options = table.move(options, 1, #options, 3, { "--workers", "1" }) })
    return s, s.text.stdout:match(" on (.-) with 1 worker")
  end

  it("is url_prefixes when nobody gives urls", function()
    local s, address = serve('{ url_prefixes = "http://127.0.0.1:0/p/" }', {})
    assert.matches("^http://127.0.0.1:%d+/p/$", address)
    assert.equal(0, s:stop())
  end)

  it("is url_prefixes when urls are given too, which are dropped with a warning, unread", function()
    local s, address = serve('{ url_prefixes = "http://127.0.0.1:0/p/" }',
      { "--urls", "no url at all" })
    assert.matches("^http://127.0.0.1:%d+/p/$", address)
    s:await("warn prefixes_chosen [^\n]*%-%-urls")
    assert.equal(0, s:stop())
  end)

  it("drops urls of the environment too, unread", function()
    local s, address = serve('{ url_prefixes = "http://127.0.0.1:0/p/" }', {},
      { MOONQUAY_URLS = "://" })
    assert.matches("^http://127.0.0.1:%d+/p/$", address)
    s:await("warn prefixes_chosen [^\n]*MOONQUAY_URLS[^\n]* dropped")
    assert.equal(0, s:stop())
  end)

  it("reads urls that are preferred, and nothing else", function()
    local result = server.run({ "serve", "--urls", "no url at all", "--workers", "1",
      "--set", "prefer_urls=true", "--set", "url_prefixes=http://127.0.0.1:0/p/",
      "scripts/examples/hello/app.lua" })
    assert.equal(78, result.status, result.stderr)
    assert.matches("%-%-urls: no url at all", result.stderr)
  end)

  it("is quiet where there is only one", function()
    for _, words in ipairs({ { "--urls", "http://127.0.0.1:0/" },
      { "--set", "url_prefixes=http://127.0.0.1:0/" } }) do
      local s = serve("{ prefer_urls = true }", words)
      assert.equal("x", json.decode(s:get("/").body).app)
      assert.is_nil(s:stderr():find("prefixes_chosen", 1, true))
      assert.equal(0, s:stop())
    end
  end)

  it("is urls with prefer_urls, with a warning", function()
    local s, address = serve('{ url_prefixes = "http://127.0.0.1:0/p/", prefer_urls = true }',
      { "--urls", "http://127.0.0.1:0/u" })
    assert.matches("^http://127.0.0.1:%d+/u/$", address)
    s:await("warn prefixes_chosen")
    assert.equal(0, s:stop())
  end)

  it("is urls where there are no prefixes, whatever prefer_urls says", function()
    for _, prefer in ipairs({ "true", "false" }) do
      local s, address = serve(("{ prefer_urls = %s }"):format(prefer), {},
        { MOONQUAY_URLS = "http://127.0.0.1:0/m" })
      assert.matches("^http://127.0.0.1:%d+/m/$", address)
      assert.equal(0, s:stop())
    end
  end)
end)
