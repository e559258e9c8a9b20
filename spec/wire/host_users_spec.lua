-- Several users of a machine and what is reserved for whom. Without root there is one of them: then
-- only what a reservation says of us can be tried.
local await = require("spec.support.await")
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local json = require("moonquay.core").json
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local users = require("spec.support.users")

local function reserve(host, url, who)
  local result = server.run({ "http", "add", "urlacl", url, who,
    env = { MOONQUAY_HOST = host.socket } })
  assert.equal(0, result.status, result.stderr)
end

local function get(port, path)
  local connection = client.connect("127.0.0.1", port, { deadline = 30 })
  connection:send(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path))
  return connection
end

local function answer(port, path)
  local connection = get(port, path)
  local response = connection:response()
  connection:close()
  return response.status == 200 and response.body or response.status
end

local function refused(app, code, why)
  assert.same({ exit = code }, app:wait(10), app:stderr())
  assert.truthy(app:stderr():find(why, 1, true), app:stderr())
end

describe("a reservation for a group", function()
  after_each(server.stop_all)

  local function output(command)
    local pipe = assert(io.popen(command))
    local text = pipe:read("a")
    pipe:close()
    return text:match("%d+")
  end

  it("is for who belongs to it", function()
    local host = hosts.start({ workers = 1 })
    local port, gid = ports.free(), output("id -g")
    reserve(host, ("http://localhost:%d/ours/"):format(port), "group=#" .. gid)
    reserve(host, ("http://localhost:%d/theirs/"):format(port), "group=#" .. gid + 4711)
    local text = [[app:get("/", function() return "ours" end)]]
    host:app(text, { port = port, prefix = "ours" })
    assert.equal("ours", answer(port, "/ours/"))
    refused(host:app(text, { port = port, prefix = "theirs", ready = false }), 77,
      "is reserved for group:#" .. gid + 4711)
    assert.equal(503, answer(port, "/theirs/"))
  end)
end)

if sys.geteuid() == 0 then
  describe("of two users", function()
    local A, B = { uid = 12345 }, { uid = 12346 }
    local host, all, port

    before_each(function()
      host = hosts.start({ workers = 2 })
      all = users.new(host)
      port = ports.free()
    end)

    after_each(function()
      server.stop_all()
      all:remove()
    end)

    local function url(path)
      return ("http://localhost:%d%s"):format(port, path)
    end

    local function start(user, name, ...)
      local prefixes = {}
      for i, path in ipairs({ ... }) do prefixes[i] = url(path) end
      return all:app(user, name, { prefixes = prefixes })
    end

    local function try(user, path, words)
      return all:app(user, "thief", { prefixes = { url(path) }, words = words, ready = false })
    end

    -- Kills an app and waits until the host knows.
    local function kill(app)
      sys.kill(app.pid, "KILL")
      await("the end of its session", function()
        local said = all:command(nil, "show servicestate --json")
        for _, session in ipairs(assert(json.decode(said.stdout)).sessions) do
          if session.process == app.pid then return false end
        end
        return true
      end)
    end

    describe("with crossed reservations", function()
      local a, b

      before_each(function()
        for path, user in pairs({ ["/one/"] = A, ["/one/inner/"] = B, ["/two/"] = B,
          ["/two/inner/"] = A }) do
          reserve(host, url(path), "user=#" .. user.uid)
        end
        a, b = start(A, "a", "/one/", "/two/inner/"), start(B, "b", "/two/", "/one/inner/")
      end)

      local function assert_served()
        for path, name in pairs({ ["/one/x"] = "a", ["/one/inner/x"] = "b", ["/two/x"] = "b",
          ["/two/inner/x"] = "a", ["/one/INNER/x"] = "b", ["/one/innermost"] = "a" }) do
          assert.equal(name, answer(port, path), path)
        end
      end

      it("each reads what is for it", function()
        assert_served()
      end)

      it("neither takes what is the other's, nor what lies below", function()
        for _, path in ipairs({ "/one/inner/", "/one/inner/deeper/", "/two/", "/two/x/",
          "/One/INNER/" }) do
          refused(try(A, path), 77, "is reserved for user:#" .. B.uid)
        end
        for _, path in ipairs({ "/two/inner/", "/two/inner/x/", "/one/", "/one/x/" }) do
          refused(try(B, path), 77, "is reserved for user:#" .. A.uid)
        end
        assert_served()
      end)

      it("neither takes it while the other is away; it waits for its owner", function()
        kill(b)
        local waiting = get(port, "/two/x")
        refused(try(A, "/two/"), 77, "is reserved for user:#" .. B.uid)
        refused(try(A, "/one/inner/"), 77, "is reserved for user:#" .. B.uid)
        assert.equal("a", answer(port, "/two/inner/x"))
        assert.is_false(waiting:readable(0))
        b = start(B, "b", "/two/", "/one/inner/")
        assert.equal("b", waiting:response().body)
        assert_served()
      end)

      it("neither changes what is reserved, not its own either", function()
        for _, line in ipairs({ "delete urlacl " .. url("/one/"), "delete urlacl " .. url("/two/"),
          "add urlacl " .. url("/one/more/") .. " user=#" .. A.uid,
          "add urlacl " .. url("/") .. " user=#" .. A.uid }) do
          local result = all:command(A, line)
          assert.equal(77, result.status)
          assert.truthy(result.stderr:find("user 12345 may not", 1, true), result.stderr)
        end
        assert_served()
      end)

      it("neither is harmed by the other's end", function()
        assert.equal(0, a:stop())
        assert.equal("b", answer(port, "/two/x"))
        assert.equal("b", answer(port, "/one/inner/x"))
        a = start(A, "a", "/one/", "/two/inner/")
        assert_served()
      end)
    end)

    it("the second does not get what the first has, nor what it has left, without reservations",
      function()
        local a = start(A, "a", "/x/")
        refused(try(B, "/x/"), 69, "another app has this prefix")
        kill(a)
        refused(try(B, "/x/"), 69, "another app has this prefix")
        start(A, "again", "/x/")
        assert.equal("again", answer(port, "/x/1"))
      end)

    -- What the second is told, by request_queue_mode.
    local MODES = { create = { 69, 'there is a request queue "shop" already' },
      attach = { 77, 'user 12346 may not attach to it' },
      create_or_attach = { 77, 'user 12346 may not attach to it' } }

    it("the second does not get the first one's queue by its name, served or left", function()
      local words = { "--set", "request_queue_name=shop" }
      local a = all:app(A, "a", { prefixes = { url("/x/") }, words = words })
      local function try_all()
        for mode, told in pairs(MODES) do
          local app = all:app(B, "thief", { ready = false,
            prefixes = mode == "attach" and {} or { url("/y/") }, words = { "--set",
              "request_queue_name=shop", "--set", "request_queue_mode=" .. mode } })
          refused(app, told[1], told[2])
        end
      end
      try_all()
      assert.equal("a", answer(port, "/x/1"))
      kill(a)
      local waiting = get(port, "/x/2")
      try_all()
      assert.is_false(waiting:readable(0))
      all:app(A, "again", { prefixes = { url("/x/") }, words = words })
      assert.equal("again", waiting:response().body)
    end)

    it("a guest of the first one's queue changes nothing of it and gets nothing else", function()
      local words = { "--set", "request_queue_name=shop", "--set",
        "request_queue_acl=user:#" .. B.uid, "--set", "request_queue_mode=create_or_attach" }
      local a = all:app(A, "a", { prefixes = { url("/x/") }, words = words })
      all:app(A, "private", { prefixes = { url("/p/") },
        words = { "--set", "request_queue_name=private" } })
      local guest = { prefixes = { url("/y/") }, words = { "--set", "request_queue_name=shop",
        "--set", "request_queue_mode=create_or_attach", "--set", "enabled=false" }, text = [[
local core = require("moonquay.core")
app:get("/*rest", function(req)
  local ok, err = req:delegate("private")
  local set, why = pcall(function() app.settings.max_connections = 1 end)
  return ok and "private" or ("%s, %s"):format(err.code, set and "set" or
    tostring(why):match("user %d+ may not"))
end)]] }
      all:app(B, "guest", guest)
      kill(a)
      -- The guest alone is there, and serves what the first one has left.
      assert.equal("permission, user 12346 may not", answer(port, "/x/1"))
      assert.equal("permission, user 12346 may not", answer(port, "/y/1"))
      refused(try(B, "/x/", { "--set", "request_queue_name=mine" }), 69,
        "another app has this prefix")
      all:app(A, "again", { prefixes = { url("/x/") }, words = words })
      assert.equal("private", answer(port, "/p/1"))
    end)

    it("who belongs to a group by any of its groups may register what is the group's", function()
      reserve(host, url("/group/"), "group=#7777")
      refused(try(A, "/group/"), 77, "is reserved for group:#7777")
      refused(try({ uid = A.uid, groups = { 7776, 7778 } }, "/group/"), 77,
        "is reserved for group:#7777")
      local member = start({ uid = A.uid, groups = { 7776, 7777 } }, "member", "/group/")
      assert.equal("member", answer(port, "/group/1"))
      assert.equal(0, member:stop())
      refused(try({ uid = B.uid, gid = 7777 }, "/group/"), 69, "another app has this prefix")
    end)

    it("neither listens where root alone may", function()
      for _, prefix in ipairs({ "http://+:%d/", "http://*:%d/", "http://127.0.0.1:%d/",
        "https://localhost:%d/" }) do
        refused(all:app(A, "thief", { prefixes = { prefix:format(port) }, ready = false }), 77,
          "nobody has reserved it")
      end
      refused(all:app(A, "thief", { prefixes = { "http://localhost:80/" }, ready = false }), 77,
        "nobody has reserved it")
    end)
  end)
end
