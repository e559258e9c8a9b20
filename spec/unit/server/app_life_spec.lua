-- Apps that come and go while requests run, and prefixes that are kept for those who are not there.
local share = require("moonquay.probe").share

local function client(host, request)
  local fd = host:client()
  host:turn()
  host:write(fd, request)
  host:turn()
  return fd
end

local function get(host, target, name)
  return client(host, ("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n"):format(target, name or "a"))
end

local function status_of(host, fd)
  local bytes = host:read(fd)
  return bytes and tonumber(bytes:match("^HTTP/1.1 (%d+)"))
end

-- A worker of the app that has begun to speak: empty SETTINGS.
local function attach(host)
  local fd = host:app(1, 0, 10)
  host:write(fd, "\0\0\0\4\0\0\0\0\0")
  host:turn()
  return fd
end

describe("an app that is closed", function()
  local host

  before_each(function()
    host = share.host({})
  end)

  it("is gone at once when nothing names it", function()
    host:close_app()
    host:turn()
    assert.equal(0, host:state().closing)
    assert.equal(400, status_of(host, get(host, "/x"))) -- no prefix on this port
  end)

  it("refuses what waits for it", function()
    local fd = get(host, "/x")
    assert.equal(1, host:state().queued)
    host:close_app()
    host:turn()
    assert.equal(503, status_of(host, fd))
    assert.equal(0, host:state().queued)
    host:turn()
    assert.equal(0, host:state().closing)
  end)

  it("stays until its last request has ended", function()
    local app = attach(host)
    local fd = get(host, "/x")
    assert.equal(1, host:state().running)
    host:close_app()
    host:turn()
    assert.same({ 1, 0 }, { host:state().closing, host:state().running })
    host:close(app) -- its process ends: the request is answered
    host:turn()
    assert.is_truthy(status_of(host, fd))
    host:close(fd)
    host:turn()
    assert.equal(0, host:state().closing)
  end)

  it("leaves its place to another, with nothing counted there", function()
    local app = attach(host)
    local old = get(host, "/old")
    assert.equal(1, host:state().connections)
    host:close_app()
    assert.equal(0, host:state().connections)
    host:open_app()
    local fd = get(host, "/new")
    assert.same({ 1, 0, 1 },
      { host:state().queued, host:state().running, host:state().connections })
    host:close(app)
    host:turn()
    assert.is_truthy(status_of(host, old))
    assert.same({ 1, 0, 1 },
      { host:state().queued, host:state().running, host:state().connections })
    host:close(fd)
  end)
end)

describe("a reserved prefix", function()
  local host

  before_each(function()
    host = share.host({})
    host:close_app()
    host:turn()
  end)

  it("answers 503 while its owner is not there", function()
    assert.is_true(host:reserve("http://+:80/shop/"))
    assert.equal(503, status_of(host, get(host, "/shop/x")))
    assert.equal(404, status_of(host, get(host, "/other")))
  end)

  it("hides registrations of less precedence (reference section 2.3)", function()
    host:reserve("http://+:80/shop/")
    host:open_app("http://*:80/")
    attach(host)
    assert.equal(503, status_of(host, get(host, "/shop/x")))
    get(host, "/other")
    assert.equal(1, host:state().running) -- the path is nobody's but this app's
  end)

  it("is hidden by the equal prefix of an app, and there again behind it", function()
    host:reserve("http://*:80/")
    host:open_app("http://*:80/")
    get(host, "/x")
    assert.equal(1, host:state().queued)
    host:close_app()
    host:turn()
    assert.equal(503, status_of(host, get(host, "/x")))
  end)

  it("that comes while an app has it changes nothing for that one", function()
    host:open_app("http://*:80/")
    assert.is_true(host:reserve("http://*:80/"))
    get(host, "/x")
    assert.equal(1, host:state().queued)
    host:release("http://*:80/")
    get(host, "/y")
    assert.equal(2, host:state().queued)
    host:close_app()
    host:turn()
    assert.equal(400, status_of(host, get(host, "/x")))
  end)

  it("can be released", function()
    host:reserve("http://+:80/shop/")
    host:release("http://+:80/shop/")
    host:release("http://+:80/never/")
    assert.equal(400, status_of(host, get(host, "/shop/x")))
  end)

  it("is kept once, and not on a port of the other scheme", function()
    assert.is_true(host:reserve("http://+:80/shop/"))
    assert.same({ nil, "exists" }, { host:reserve("http://+:80/SHOP/") })
    assert.same({ nil, "state" }, { host:reserve("https://+:80/shop/") })
    host:release("https://+:80/shop/")
    assert.equal(503, status_of(host, get(host, "/shop/x")))
  end)
end)
