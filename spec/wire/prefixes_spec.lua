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
    local settings = ("{ url_prefixes = { %q } }"):format((row[2]:gsub("PORT", port)))
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
end)
