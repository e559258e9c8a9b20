local client = require("spec.support.client")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local socket = require("socket")
local temporary = require("spec.support.temp")

-- Says who it is and what it sees.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app(%s)
app:any("/*rest", function(req)
  return { app = %q, base = req.path_base, path = req.path, host = req.host,
           prefixes = app.addresses }
end)
return app]]

local function free_port()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  listener:close()
  return tonumber(port)
end

-- Starts one server with an app for each row { name, prefix with PORT in it }.
local function start(port, rows)
  local temp = temporary.dir()
  local files = {}
  for i, row in ipairs(rows) do
    local settings = ("{ url_prefixes = %q }"):format((row[2]:gsub("PORT", port)))
    files[i] = temp:write(row[1] .. ".lua", APP:format(settings, row[1]))
  end
  local words = { "--workers", "1", "--access-log", "off", "--no-dev" }
  table.move(files, 2, #files, #words + 1, words)
  local s = server.start({ path = files[1], bare = true, options = words })
  temp:remove()
  return s
end

local function ask(port, target, host, address)
  local connection = client.connect(address or "127.0.0.1", port)
  local line = host and ("Host: %s\r\n"):format(host) or ""
  connection:send(("GET %s HTTP/1.%d\r\n%s\r\n"):format(target, host and 1 or 0, line))
  local response = connection:response()
  connection:close()
  if response.status == 200 then
    return json.decode(response.body)
  end
  return { status = response.status }
end

describe("The owner of a request (reference section 2.2)", function()
  local port, s = free_port(), nil
  lazy_setup(function()
    s = start(port, {
      { "strong", "http://+:PORT/vroot/" },
      { "named", "http://adatum.test:PORT/" },
      { "deep", "http://adatum.test:PORT/dir/sna/" },
      { "sub", "http://*.adatum.test:PORT/" },
      { "bound", "http://127.0.0.2:PORT/" },
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

  it("is told to each app: its own addresses alone", function()
    assert.same({ ("http://adatum.test:%d/dir/sna/"):format(port) },
      ask(port, "/dir/sna/", "adatum.test").prefixes)
  end)

  it("does not exist: 404 for a path, 403 above the root (section 2.3)", function()
    assert.equal(404, ask(port, "/x", "other.test").status)
    s:await("request_refused [^\n]*status=404 reason=NotFound")
    assert.equal(403, ask(port, "/..%5C../x", "adatum.test").status)
    s:await("request_refused [^\n]*status=403 reason=Forbidden")
  end)

  it("says why top-level wildcards are discouraged", function()
    s:await("wildcard_prefix [^\n]*any host")
  end)
end)

describe("The order of the buckets (reference section 2.2)", function()
  after_each(server.stop_all)

  -- The same path in every bucket: each takes over when those before it are gone.
  local buckets = {
    { "strong", "http://+:PORT/p/" },
    { "named", "http://www.adatum.test:PORT/p/" },
    { "sub", "http://*.adatum.test:PORT/p/" },
    { "bound", "http://127.0.0.1:PORT/p/" },
    { "weak", "http://*:PORT/p/" },
  }
  for first = 1, #buckets do
    it(("has %s before those behind it, whatever was named first"):format(buckets[first][1]),
      function()
        local rows = {}
        for i = #buckets, first, -1 do
          rows[#rows + 1] = buckets[i]
        end
        local port = free_port()
        local s = start(port, rows)
        assert.equal(buckets[first][1], ask(port, "/p/x", "www.adatum.test").app)
        assert.equal(0, s:stop())
      end)
  end

  it("is left at the first that has the path: a longer path behind it is not looked for", function()
    local port = free_port()
    local s = start(port, {
      { "weak", "http://*:PORT/a/b/" }, { "bound", "http://127.0.0.1:PORT/a/b/c/" },
      { "named", "http://adatum.test:PORT/a/" }, { "strong", "http://+:PORT/s/" },
    })
    assert.equal("named", ask(port, "/a/b/c/x", "adatum.test").app)
    assert.equal("bound", ask(port, "/a/b/c/x", "other.test").app)
    assert.equal("weak", ask(port, "/a/b/x", "other.test").app)
    assert.equal(0, s:stop())
  end)

  it("knows a name's own path before that of *.", function()
    local port = free_port()
    local s = start(port, {
      { "sub", "http://*.adatum.test:PORT/" }, { "deeper", "http://*.b.adatum.test:PORT/" },
      { "named", "http://www.adatum.test:PORT/n/" },
    })
    assert.equal("named", ask(port, "/n/x", "www.adatum.test").app)
    assert.equal("sub", ask(port, "/x", "www.adatum.test").app)
    assert.equal("deeper", ask(port, "/x", "a.b.adatum.test").app)
    assert.equal(400, ask(port, "/x", "adatum.test").status)
    assert.equal(0, s:stop())
  end)

  it("warns of top-level wildcards, one line each, and not of *.", function()
    local port = free_port()
    local s = start(port, {
      { "strong", "http://+:PORT/s/" }, { "weak", "http://*:PORT/" },
      { "sub", "http://*.adatum.test:PORT/" }, { "named", "http://adatum.test:PORT/" },
      { "bound", "http://127.0.0.1:PORT/" },
    })
    assert.equal(0, s:stop())
    local seen = {}
    for prefix in s.text.stderr:gmatch("warn wildcard_prefix [^\n]-(http://[^%s\"]+) takes") do
      seen[#seen + 1] = prefix
    end
    assert.same({ ("http://+:%d/s/"):format(port), ("http://*:%d/"):format(port) }, seen)
  end)

  it("warns of the first eight wildcards of an app and counts the rest", function()
    local port, list = free_port(), {}
    for i = 1, 10 do
      list[i] = ("http://*:PORT/%d/"):format(i)
    end
    local s = start(port, { { "many", table.concat(list, ",") } })
    assert.equal(0, s:stop())
    local _, lines = s.text.stderr:gsub("takes requests for any host", "")
    assert.equal(8, lines)
    assert.matches("wildcard_prefix [^\n]*and 2 more of [^\n]*many%.lua", s.text.stderr)
  end)
end)

describe("A request that has no owner (reference section 2.3)", function()
  local port, s = free_port(), nil
  before_each(function()
    s = start(port, { { "named", "http://adatum.test:PORT/below/" } })
  end)
  after_each(server.stop_all)

  for _, case in ipairs({
    { "another host", "GET /below/ HTTP/1.1\r\nHost: other.test\r\n\r\n", 400, "Hostname",
      "no app is registered for this host" },
    { "the host's parent", "GET /below/ HTTP/1.1\r\nHost: test\r\n\r\n", 400, "Hostname",
      "no app is registered for this host" },
    { "an address for a host", "GET /below/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400,
      "Hostname", "no app is registered for this host" },
    { "an absolute target with another host",
      "GET http://other.test/below/ HTTP/1.1\r\nHost: adatum.test\r\n\r\n", 400, "Hostname",
      "no app is registered for this host" },
    { "HTTP/1.0 without Host", "GET /below/ HTTP/1.0\r\n\r\n", 400, "Hostname",
      "no app is registered for this host" },
    { "HTTP/1.1 without Host", "GET /below/ HTTP/1.1\r\n\r\n", 400, "Hostname" },
    { "a Host with a path", "GET /below/ HTTP/1.1\r\nHost: adatum.test/below\r\n\r\n", 400,
      "Hostname" },
    { "a path above every prefix", "GET / HTTP/1.1\r\nHost: adatum.test\r\n\r\n", 404,
      "NotFound" },
    { "a part of a segment", "GET /belowx HTTP/1.1\r\nHost: adatum.test\r\n\r\n", 404,
      "NotFound" },
    { "the path beside", "GET /below/../x HTTP/1.1\r\nHost: adatum.test:81\r\n\r\n", 404,
      "NotFound" },
  }) do
    it(("for %s gets %d, %s in the log, and is closed"):format(case[1], case[3], case[4]),
      function()
        local connection = client.connect("127.0.0.1", port)
        connection:send(case[2])
        local response = connection:response()
        assert.equal(case[3], response.status)
        assert.equal("close", response.headers.connection)
        if case[5] then
          assert.matches(case[5], response.body)
        end
        assert.is_true(connection:closed())
        connection:close()
        s:await(("request_refused [^\n]*status=%d reason=%s"):format(case[3], case[4]))
        assert.equal("named", ask(port, "/below/x", "adatum.test").app)
        assert.equal(0, s:stop())
        local _, lines = s.text.stderr:gsub("request_refused", "")
        assert.equal(1, lines)
      end)
  end
end)

describe("A host that no prefix has (reference section 2.3)", function()
  it("gets 400", function()
    local port = free_port()
    local s = start(port, { { "named", "http://adatum.test:PORT/" } })
    assert.equal(400, ask(port, "/", "other.test").status)
    assert.equal(400, ask(port, "/", nil).status)
    assert.equal(400, ask(port, "/", "b.adatum.test").status)
    s:await("request_refused [^\n]*status=400 reason=Hostname")
    assert.equal(0, s:stop())
  end)
end)

describe("What a handler sees of the path (reference section 7.3)", function()
  local port, s = free_port(), nil
  lazy_setup(function()
    s = start(port, { { "base", "http://h:PORT/base/ball/" }, { "root", "http://h:PORT/" } })
  end)
  lazy_teardown(function()
    assert.equal(0, s:stop())
  end)
  for _, case in ipairs({
    { "/base/ball/x", "base", "/base/ball", "/x" },
    { "/base%2fball//p", "base", "/base%2fball", "//p" },
    { "/base/%62all/%20", "base", "/base/ball", "/ " },
    { "///base/ball/x", "base", "///base/ball", "/x" },
    { "/base/call/../ball/x", "base", "/base/ball", "/x" },
    { "/base/call//../ball/x", "base", "", "/base/call/ball/x" },
    { "/base%252fball/x", "root", "", "/base%2fball/x" },
    { "/a//b", "root", "", "/a//b" },
    { "/", "root", "", "/" },
    { "/base/ballad", "root", "", "/base/ballad" },
    { "/BASE/Ball", "base", "/BASE/Ball", "" },
    { "/base/ball/", "base", "/base/ball", "/" },
    { "/base\\ball/x", "base", "/base\\ball", "/x" },
    { "/base%5Cball/x", "base", "/base\\ball", "/x" },
    { "/base/%2E%2e/y", "root", "", "/y" },
    { "/base/ball/../../y", "root", "", "/y" },
    { "/a%2Fb", "root", "", "/a%2Fb" },
    { "/base/ball/%C3%A4", "base", "/base/ball", "/ä" },
    { "http://h/base/ball/x", "base", "/base/ball", "/x" },
    { "http://h", "root", "", "/" },
    { "/base/ball/x?y=/base", "base", "/base/ball", "/x" },
  }) do
    it(("for %s is %s and %s"):format(case[1], case[3], case[4]), function()
      local seen = ask(port, case[1], "h")
      assert.equal(case[2], seen.app)
      assert.equal(case[3], seen.base)
      assert.equal(case[4], seen.path)
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

  it("names who gave the urls that are dropped, and does not parse them", function()
    for _, case in ipairs({
      { "MOONQUAY_URLS", {}, { MOONQUAY_URLS = "http://" } },
      { "%-%-urls", { "--urls", "ftp:/x" }, { MOONQUAY_URLS = "http://" } },
      { "app%.lua:2: urls", {}, {}, ', urls = "https://h:0/"' },
    }) do
      local s, address = serve('{ url_prefixes = "http://127.0.0.1:0/p/"' .. (case[4] or "") .. "}",
        case[2], case[3])
      assert.matches("^http://127.0.0.1:%d+/p/$", address)
      s:await("warn prefixes_chosen [^\n]*" .. case[1] .. ": dropped")
      assert.equal(0, s:stop())
    end
  end)

  it("parses malformed urls that are chosen: 78", function()
    local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--urls", "ftp:/x" })
    assert.equal(78, result.status)
    assert.matches("%-%-urls: ftp:/x: ", result.stderr)
  end)

  it("is localhost and 5000 when nobody gives any", function()
    local listener = socket.bind("127.0.0.1", 5000) -- or somebody else has it: it is in use
    local result = server.run({ "serve", "scripts/examples/hello/app.lua", "--workers", "1" })
    assert.is_truthy(result.stderr:find("5000", 1, true), result.stderr)
    assert.matches("is in use", result.stderr)
    if listener then
      listener:close()
    end
  end)

  it("warns of nothing when only one of them is given", function()
    for _, case in ipairs({
      { '{ url_prefixes = "http://127.0.0.1:0/p/" }', {} },
      { '{ url_prefixes = "http://127.0.0.1:0/p/", prefer_urls = true }', {} },
      { "{}", { "--urls", "http://127.0.0.1:0/p/" } },
    }) do
      local s, address = serve(case[1], case[2])
      assert.matches("^http://127.0.0.1:%d+/p/$", address)
      assert.equal(0, s:stop())
      assert.is_nil(s.text.stderr:find("prefixes_chosen", 1, true))
    end
  end)
end)
