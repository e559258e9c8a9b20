-- The host's side of channels, with clients and apps that the spec plays itself.
local await = require("spec.support.await")
local probe = require("moonquay.probe")
local h2, share = probe.h2, probe.share
local origin = require("spec.support.origin")

local CHANNEL = { is_channel = true, consume = true, max_concurrent_streams = 1000,
  max_request_head_bytes = 1 << 24, max_field_length = 1 << 24, max_target_bytes = 1 << 20,
  max_authorization_length = 1 << 24, max_fields = 60000, url_segment_max_length = 0,
  url_segment_max_count = 0 }

-- An app: its end of a link, and the session that speaks there.
local App = {}
App.__index = App

local function new_app(host, process, worker, most, options)
  local self = setmetatable({ host = host }, App)
  self.fd = assert(host:app(process, worker, most, options and options.gets_credentials))
  self.session = h2.session(options and options.session or CHANNEL)
  self.seen = {} -- requests by target
  self.order = {}
  self.data = {}
  self.closed = {}
  return self
end

-- Takes what has come and sends what there is to say.
function App:turn()
  local bytes = self.host:read(self.fd)
  self.ended = bytes == nil
  if bytes and bytes ~= "" then
    assert(self.session:receive(bytes))
  end
  for _, event in ipairs(self.session:events()) do
    if event[1] == "head" then
      self.seen[event.target] = event
      self.order[#self.order + 1] = event.target
    elseif event[1] == "data" then
      self.data[event[2]] = (self.data[event[2]] or "") .. event.bytes
    elseif event[1] == "closed" then
      self.closed[event[2]] = event.code
    elseif event[1] == "note" then
      self.note = event.pairs
    end
  end
  self.out = (self.out or "") .. self.session:send(100000)
  self.out = self.out:sub((self.host:write(self.fd, self.out) or 0) + 1)
end

function App:id(target)
  return assert(self.seen[target], "the app has not got " .. target)[2]
end

function App:respond(target, response)
  self.session:respond(self:id(target), response)
  self:turn()
end

function App:die()
  self.host:close(self.fd)
end

-- All have their turn, so often that nothing is left to do.
local function settle(host, ...)
  for _ = 1, 6 do
    host:turn()
    for _, app in ipairs({ ... }) do
      app:turn()
    end
  end
  host:turn()
end

-- A client that has sent this.
local function client(host, request)
  local fd = host:client()
  host:turn()
  assert.equal(#request, host:write(fd, request))
  host:turn()
  return fd
end

local function get(host, target, more)
  return client(host, ("GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(target, more or ""))
end

local function status_of(host, fd)
  local bytes = host:read(fd)
  return bytes and tonumber(bytes:match("^HTTP/1.1 (%d+)"))
end

local function field_of(event, name)
  for _, field in ipairs(event.fields) do
    if field[1] == name then return field[2] end
  end
end

describe("dispatch", function()
  local host

  before_each(function()
    host = share.host({ ["timeouts.request_queue"] = "60" })
  end)

  it("lets requests wait until a process is there", function()
    local first, second = get(host, "/1"), get(host, "/2")
    assert.equal(2, host:state().queued)
    local app = new_app(host, 1, 0, 10)
    settle(host, app)
    assert.same({ "/1", "/2" }, app.order)
    app:respond("/2", { content = "two" })
    app:respond("/1", { content = "one" })
    settle(host, app)
    assert.truthy(host:read(first):find("one", 1, true))
    assert.truthy(host:read(second):find("two", 1, true))
    assert.equal(0, host:state(1).peer)
  end)

  it("never gives a worker more than it has granted", function()
    local app = new_app(host, 1, 0, 2)
    for i = 1, 5 do
      get(host, "/" .. i)
    end
    settle(host, app)
    assert.same({ "/1", "/2" }, app.order)
    assert.equal(2, host:state(1).peer)
    app:respond("/1", { content = "x" })
    settle(host, app)
    assert.same({ "/1", "/2", "/3" }, app.order)
    assert.equal(2, host:state().queued)
  end)

  it("gives the next request to the process with the fewest running", function()
    local a, b = new_app(host, 1, 0, 10), new_app(host, 2, 0, 10)
    for i = 1, 6 do
      get(host, "/" .. i)
    end
    settle(host, a, b)
    assert.equal(3, #a.order)
    assert.equal(3, #b.order)
    for _, target in ipairs(a.order) do
      a:respond(target, { content = "x" })
    end
    settle(host, a, b)
    for i = 7, 9 do
      get(host, "/" .. i)
    end
    settle(host, a, b)
    assert.equal(6, #a.order)
    assert.equal(3, #b.order)
  end)

  it("sends all requests of a turn in one piece", function()
    local app = new_app(host, 1, 0, 10)
    client(host, ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n"))
    settle(host, app)
    local fds = {}
    for i = 1, 3 do
      fds[i] = host:client()
    end
    host:turn()
    for i, fd in ipairs(fds) do
      host:write(fd, ("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i))
    end
    host:turn()
    app:turn() -- reads once
    assert.same({ "/a", "/1", "/2", "/3" }, app.order)
  end)

  describe("tells the app of a request", function()
    it("what a host knows of it, and nothing that the client made up", function()
      local app = new_app(host, 1, 0, 10)
      get(host, "/x", "Moonquay-Request: forged\r\nX-Own: 1\r\n")
      settle(host, app)
      local seen = app.seen["/x"]
      assert.equal("1", field_of(seen, "x-own"))
      local facts = origin.read(field_of(seen, "moonquay-request"))
      assert.same({ 0, 0, "1.1", "127.0.0.1:4711" },
        { facts.boot, facts.base, facts.version, facts.peer })
      assert.truthy(facts.number > 0 and facts.connection > 0)
      for _, field in ipairs(seen.fields) do
        assert.not_equal("forged", field[2])
      end
      assert.is_nil(field_of(seen, "moonquay-tls"))
    end)

    it("its host once", function()
      local app = new_app(host, 1, 0, 10)
      get(host, "/x")
      client(host, "GET http://b/y HTTP/1.1\r\nHost: a\r\n\r\n")
      settle(host, app)
      local seen = app.seen["/x"]
      assert.is_nil(seen.authority)
      assert.equal("a", field_of(seen, "host"))
      assert.equal("a", seen.host)
      seen = app.seen["/"] -- the target goes beside it
      assert.same({ "b", "b" }, { seen.authority, seen.host })
    end)

    for _, gets in ipairs({ false, true }) do
      it(gets and "its credentials, if it asks for them" or "not its credentials", function()
        local app = new_app(host, 1, 0, 10, { gets_credentials = gets })
        get(host, "/x", "Authorization: Basic abc\r\nProxy-Authorization: Basic def\r\n")
        settle(host, app)
        local seen = app.seen["/x"]
        assert.same(gets and { "Basic abc", "Basic def" } or {},
          { field_of(seen, "authorization"), field_of(seen, "proxy-authorization") })
      end)
    end

    it("that its client has ended its side, and gives that one the answer", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      host:shutdown(fd)
      settle(host, app)
      assert.equal("left\0" .. "1\0", app.note)
      app:respond("/x", { content = "still" })
      settle(host, app)
      assert.truthy(host:read(fd):find("still", 1, true))
    end)

    it("that its client is gone", function()
      local app = new_app(host, 1, 0, 10)
      local fd = client(host, "GET /unread HTTP/1.1\r\nHost: a\r\n\r\n"
        .. "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
      settle(host, app)
      app:respond("/unread", { content = "x" }) -- which makes its close a reset
      settle(host, app)
      host:close(fd)
      settle(host, app)
      assert.equal(8, app.closed[app:id("/x")])
      assert.equal(0, host:state(1).peer)
      assert.equal(0, host:state().running)
    end)
  end)

  describe("passes on an answer", function()
    it("without what only a host may say, or what belongs to a connection", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      app:respond("/x", { fields = { { "moonquay-request", "x" }, { "x-own", "1" },
        { "proxy-connection", "close" } }, content = "x", trailers = { { "moonquay-a", "b" } } })
      settle(host, app)
      local bytes = host:read(fd)
      assert.truthy(bytes:find("x-own: 1", 1, true))
      assert.is_nil(bytes:lower():find("moonquay-", 1, true))
      assert.is_nil(bytes:lower():find("proxy-connection", 1, true))
    end)

    it("as the client takes it, and holds back no other", function()
      local app = new_app(host, 1, 0, 10)
      local slow, quick = get(host, "/slow"), get(host, "/quick")
      settle(host, app)
      app:respond("/slow", { content = ("s"):rep(20000000), length = 20000000 })
      app:respond("/quick", { content = "q" })
      settle(host, app)
      assert.equal(200, status_of(host, quick))
      local got = #host:read(slow)
      assert.is_true(got < 2000000) -- sockets and windows, not all of it
      for _ = 1, 1000 do
        settle(host, app)
        local bytes = host:read(slow)
        if bytes == "" then break end
        got = got + #bytes
      end
      assert.is_true(got > 20000000)
    end)

    it("with the limits that its handler has set", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      app.session:note(app:id("/x"), "close\0" .. "1\0")
      app:respond("/x", { content = "x", length = 1 })
      settle(host, app)
      assert.truthy(host:read(fd):find("Connection: close", 1, true))
    end)
  end)

  -- What is done with a request when the app is gone: before it answered, and behind the head.
  describe("when a process dies", function()
    for _, method in ipairs({ "GET", "HEAD", "OPTIONS" }) do
      it("gives an unanswered " .. method .. " once to another", function()
        local a = new_app(host, 1, 0, 10)
        local fd = client(host, method .. " /x HTTP/1.1\r\nHost: a\r\n\r\n")
        settle(host, a)
        assert.truthy(a.seen["/x"])
        a:die()
        settle(host)
        assert.equal(1, host:state().queued)
        assert.equal("", host:read(fd))
        local b = new_app(host, 2, 0, 10)
        settle(host, b)
        b:die()
        settle(host)
        assert.equal(502, status_of(host, fd))
      end)
    end

    for name, request in pairs({
      ["unsafe method"] = "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n",
      ["content"] = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
    }) do
      it("answers 502 to an unanswered request with " .. name, function()
        local app = new_app(host, 1, 0, 10)
        local fd = client(host, request)
        settle(host, app)
        app:die()
        settle(host)
        assert.equal(502, status_of(host, fd))
        assert.equal(0, host:state().running)
        assert.equal(0, host:state(1).peer)
      end)
    end

    it("breaks off an answer that has begun", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      app:respond("/x", { content = "part", more = true, length = 10 })
      settle(host, app)
      app:die()
      settle(host)
      local bytes, why = host:read(fd)
      assert.is_true(bytes == nil or not bytes:find("502", 1, true))
      assert.truthy(bytes == nil or host:read(fd) == nil)
      assert.truthy(why == nil or why:find("reset"))
    end)

    it("asks for another link to it", function()
      local app = new_app(host, 7, 3, 10)
      get(host, "/x")
      settle(host, app)
      app:die()
      settle(host)
      assert.same({ "7:3" }, host:renewed())
      assert.equal(0, host:state().links)
    end)
  end)

  describe("when a process leaves", function()
    it("sends it nothing new, and lets it finish", function()
      local a, b = new_app(host, 1, 0, 10), new_app(host, 2, 0, 10)
      local fd = get(host, "/old")
      settle(host, a, b)
      local old, new = a, b
      if not a.seen["/old"] then old, new = b, a end
      old.session:shut_down(true)
      settle(host, a, b)
      for i = 1, 4 do
        get(host, "/" .. i)
      end
      settle(host, a, b)
      assert.equal(1, #old.order)
      assert.equal(4, #new.order)
      old:respond("/old", { content = "done" })
      settle(host, a, b)
      assert.equal(200, status_of(host, fd))
      assert.is_true(old.ended)
      assert.same({}, host:renewed())
    end)

    it("gives what it refuses to another, whatever the method", function()
      local a = new_app(host, 1, 0, 10)
      local fd = client(host, "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n")
      settle(host, a)
      a.session:reset(a:id("/x"), 7)
      a.session:shut_down(true)
      settle(host, a)
      assert.equal(1, host:state().queued)
      local b = new_app(host, 2, 0, 10)
      settle(host, a, b)
      b:respond("/x", { content = "x" })
      settle(host, a, b)
      assert.equal(200, status_of(host, fd))
    end)

    it("gives content that comes meanwhile to the next one", function()
      local a = new_app(host, 1, 0, 10)
      local fd = client(host, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
      settle(host, a) -- it has been looked for, and was not there
      a.session:reset(a:id("/x"), 7)
      a.session:shut_down(true)
      settle(host, a)
      assert.equal(1, host:state().queued)
      host:write(fd, "abc") -- nobody has the request
      host:turn()
      local b = new_app(host, 2, 0, 10)
      settle(host, a, b)
      assert.equal("abc", b.data[b:id("/x")])
      b:respond("/x", { content = "x" })
      settle(host, a, b)
      assert.equal(200, status_of(host, fd))
    end)

    it("gives up a request that everybody refuses", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      local refusals, status = 0, nil
      await("an answer", function() -- after each it gets the next one in a moment
        settle(host, app)
        if app.seen["/x"] then
          refusals = refusals + 1
          app.session:reset(app:id("/x"), 7)
          app.seen["/x"] = nil
          settle(host, app)
          assert.is_nil(app.seen["/x"])
        end
        status = status_of(host, fd)
        return status
      end)
      assert.same({ 502, 4 }, { status, refusals })
    end)
  end)

  describe("with links that come and go", function()
    it("finishes on an old link to a worker what has begun there", function()
      local old = new_app(host, 1, 0, 10)
      local first = get(host, "/1")
      settle(host, old)
      local new = new_app(host, 1, 0, 10)
      local second = get(host, "/2")
      settle(host, old, new)
      assert.same({ "/2" }, new.order)
      old:respond("/1", { content = "x" })
      new:respond("/2", { content = "x" })
      settle(host, old, new)
      assert.equal(200, status_of(host, first))
      assert.equal(200, status_of(host, second))
      assert.is_true(old.ended)
      assert.equal(1, host:state().links)
    end)

    it("gives up the oldest when too many only finish", function()
      local apps, clients = {}, {}
      for i = 1, 70 do
        apps[i] = new_app(host, 1, 0, 1000)
        settle(host, apps[i])
        clients[i] = client(host, ("DELETE /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i))
        settle(host, apps[i])
        assert.same({ "/" .. i }, apps[i].order)
      end
      assert.equal(65, host:state().links)
      for i = 1, 70 do
        apps[i]:turn()
        assert.equal(i <= 5, apps[i].ended)
        assert.equal(i <= 5 and 502 or nil, status_of(host, clients[i]))
      end
      assert.equal(65, host:state(1).peer)
      assert.same({}, host:renewed())
    end)

    it("asks for a fresh one before its stream ids end", function()
      host = share.host({}, 9)
      local app = new_app(host, 1, 0, 10)
      for i = 1, 5 do
        local fd = get(host, "/" .. i)
        settle(host, app)
        app:respond("/" .. i, { content = "x" })
        settle(host, app)
        assert.equal(200, status_of(host, fd))
      end
      assert.same({ "1:0" }, host:renewed())
      local waits = get(host, "/6")
      assert.equal(1, host:state().queued)
      local fresh = new_app(host, 1, 0, 10)
      settle(host, fresh)
      fresh:respond("/6", { content = "x" })
      settle(host, fresh)
      assert.equal(200, status_of(host, waits))
    end)
  end)

  -- A link has 2^29 streams; these have 100, and there are as many links as a million streams need
  -- of those that have 2^15.
  it("answers all while links are worn and replaced", function()
    host = share.host({}, 199)
    local apps, clients, answered, fresh = { new_app(host, 1, 0, 10) }, {}, 0, 0
    for i = 1, 8 do
      clients[i] = host:client()
    end
    settle(host, apps[1])
    local most = 0
    for i = 1, 400 do
      for number, fd in ipairs(clients) do
        host:write(fd, ("GET /%d-%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i, number))
      end
      local goal = answered + #clients
      for _ = 1, 20 do
        settle(host, table.unpack(apps))
        for _ in ipairs(host:renewed()) do
          fresh = fresh + 1
          apps[#apps + 1] = new_app(host, 1, 0, 10)
        end
        for at = #apps, 1, -1 do
          for _, target in ipairs(apps[at].order) do
            apps[at]:respond(target, { content = target })
          end
          apps[at].order, apps[at].seen = {}, {}
          if apps[at].ended then table.remove(apps, at) end
        end
        for number, fd in ipairs(clients) do
          local found = host:read(fd):find(("/%d-%d"):format(i, number), 1, true)
          answered = answered + (found and 1 or 0)
        end
        if answered == goal then break end
      end
      assert.equal(goal, answered)
      most = math.max(most, host:state().links)
    end
    assert.equal(3200, answered)
    assert.is_true(fresh == 31 or fresh == 32, fresh)
    assert.is_true(most <= 2, most)
  end)

  -- Each harms its own requests, and no other app's.
  describe("with a hostile app", function()
    for name, bytes in pairs({
      ["that speaks before it is asked"] = "hello",
      ["of another protocol"] = "HTTP/1.1 200 OK\r\n\r\n",
      ["with a frame that is too large"] = ("\255"):rep(64),
      ["that pushes"] = "\0\0\4\5\4\0\0\0\1\0\0\0\2",
    }) do
      it(name, function()
        local bad = host:app(1, 0, 10)
        host:write(bad, bytes)
        local fd = get(host, "/x")
        for _ = 1, 5 do
          host:write(bad, bytes)
          host:turn()
        end
        local good = new_app(host, 2, 0, 10)
        settle(host, good)
        if good.seen["/x"] then
          good:respond("/x", { content = "x" })
          settle(host, good)
        end
        assert.equal(200, status_of(host, fd))
        assert.equal(1, host:state().links)
      end)
    end

    it("whose Content-Length is two numbers", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      -- The session writes its own; a second one comes as a field of another name would.
      local raw = string.pack(">I3 B B I4", 0, 1, 4, app:id("/x"))
      local block = string.pack("B s1 s1 B s1 s1 B s1 s1", 0, ":status", "200", 0,
        "content-length", "1", 0, "content-length", "2")
      raw = string.pack(">I3", #block) .. raw:sub(4) .. block
      host:write(app.fd, raw)
      settle(host, app)
      assert.equal(502, status_of(host, fd))
    end)

    it("that sends more than it has announced", function()
      local app = new_app(host, 1, 0, 10)
      local fd = get(host, "/x")
      settle(host, app)
      app:respond("/x", { content = ("x"):rep(100), length = 10 })
      settle(host, app)
      local bytes = host:read(fd)
      assert.is_true(bytes == nil or not bytes:find("\r\n\r\n" .. ("x"):rep(11), 1, true))
    end)

    it("that does not read", function()
      host:app(1, 0, 1000000)
      local content = ("x"):rep(100000)
      for i = 1, 40 do
        client(host, ("POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(i,
          #content) .. content:sub(1, 60000))
      end
      local good = new_app(host, 2, 0, 1000)
      for i = 1, 40 do
        get(host, "/good" .. i)
      end
      settle(host, good)
      assert.is_true(#good.order >= 20)
    end)
  end)
end)
