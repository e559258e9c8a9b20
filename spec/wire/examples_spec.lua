local client = require("spec.support.client")
local json = require("moonquay.core").json
local ports = require("spec.support.ports")
local server = require("spec.support.server")

-- Starts an example for the tests of a describe block and stops it behind them.
local function example(name, env, tests)
  describe("the example " .. name, function()
    local s
    lazy_setup(function()
      s = server.start({ path = ("scripts/examples/%s/app.lua"):format(name), env = env })
    end)
    lazy_teardown(function()
      assert.equal(0, s:stop())
    end)
    tests(function(method, path, fields, body)
      local connection = s:connect()
      local response = connection:request(method, path, fields, body)
      connection:close()
      return response
    end, function()
      return s
    end)
  end)
end

local as_json = { ["Content-Type"] = "application/json" }

example("hello", nil, function(ask)
  it("greets", function()
    assert.equal("Hello, world!\n", ask("GET", "/").body)
    assert.equal("Hello, moon!\n", ask("GET", "/?name=moon").body)
  end)
end)

example("router", nil, function(ask)
  it("keeps notes", function()
    local made = ask("POST", "/notes", as_json, '{"text":"buy milk"}')
    assert.equal(201, made.status)
    assert.equal("/notes/1", made.headers.location)
    assert.equal("buy milk", json.decode(ask("GET", "/notes/1").body).text)
    assert.equal(200, ask("PUT", "/notes/1", as_json, '{"text":"drink milk"}').status)
    assert.same({ { id = 1, text = "drink milk" } }, json.decode(ask("GET", "/notes").body))
    assert.equal(204, ask("DELETE", "/notes/1").status)
    assert.equal(404, ask("GET", "/notes/1").status)
    assert.equal("[]", ask("GET", "/notes").body)
  end)

  it("refuses what is no note", function()
    ask("POST", "/notes", as_json, '{"text":"x"}')
    assert.equal(422, ask("POST", "/notes", as_json, "{}").status)
    assert.equal(400, ask("POST", "/notes", as_json, "{").status)
    assert.equal(413, ask("PUT", "/notes/2", as_json, ("x"):rep(65537)).status)
  end)

  it("counts visits, redirects, measures, and knows nothing else", function()
    local visit = ask("GET", "/visit/a/b", { Cookie = "visits=2" })
    assert.equal("visit 3, now at a/b\n", visit.body)
    assert.matches("^visits=3; Path=/visit/;", visit.headers["set-cookie"])
    assert.equal("/notes", ask("GET", "/").headers.location)
    assert.matches("^app;dur=", ask("GET", "/notes").headers["server-timing"])
    local missing = ask("GET", "/else")
    assert.equal(404, missing.status)
    assert.equal("Nothing at /else; there is /notes.\n", missing.body)
  end)
end)

example("upload", nil, function(ask)
  it("counts and copies", function()
    local body = ("x"):rep(300000)
    assert.equal('{"bytes":300000}', ask("PUT", "/count", nil, body).body)
    assert.equal(body, ask("PUT", "/echo", nil, body).body)
  end)

  it("reads forms part by part", function()
    local form = table.concat({
      "--b",
      'Content-Disposition: form-data; name="photo"; filename="cat.jpg"',
      "Content-Type: image/jpeg",
      "",
      "bytes",
      "--b",
      'Content-Disposition: form-data; name="title"',
      "",
      "A cat",
      "--b--",
      "",
    }, "\r\n")
    local fields = { ["Content-Type"] = "multipart/form-data; boundary=b" }
    assert.same({
      photo = { filename = "cat.jpg", type = "image/jpeg", bytes = 5 },
      title = "A cat",
    }, json.decode(ask("POST", "/form", fields, form).body))
  end)

  it("sends as many zeros as are asked for", function()
    assert.equal(("\0"):rep(150000), ask("GET", "/zeros?bytes=150000").body)
    assert.equal("", ask("GET", "/zeros").body)
  end)
end)

example("tasks", { STEP_SECONDS = "0.005" }, function(ask, running)
  it("does things at once, and gives up", function()
    assert.equal('["one","two","three"]', ask("GET", "/all").body)
    local late = ask("GET", "/patience")
    assert.equal(504, late.status)
    assert.equal('{"reason":"timeout"}', late.body)
    assert.equal("tick 1\ntick 2\n", ask("GET", "/ticks?count=2").body)
  end)

  it("works on behind the answer", function()
    local fields = { ["Content-Type"] = "application/x-www-form-urlencoded" }
    assert.equal(202, ask("POST", "/mail", fields, "to=ann").status)
    running():await("mail sent")
    assert.equal('["ann"]', ask("GET", "/mail").body)
  end)

  it("beats beside all requests", function()
    local beats
    repeat
      beats = json.decode(ask("GET", "/beats").body).beats
    until beats > 2
  end)
end)

example("errors", nil, function(ask, running)
  it("answers each error in its way", function()
    assert.equal('{"sum":6}', ask("POST", "/sum", as_json, "[1,2,3]").body)
    assert.equal(400, ask("POST", "/sum", as_json, "[1").status)
    assert.equal(413, ask("POST", "/sum", as_json, ("1"):rep(1001)).status)
    local missing = json.decode(ask("GET", "/orders/7").body)
    assert.same({ "No such order.", "7" }, { missing.detail, missing.order })
    assert.equal("I am a teapot.\n", ask("GET", "/teapot").body)
    assert.equal(500, ask("GET", "/bug").status)
    running():await("handler_failed[^\n]*errors/app.lua")
  end)
end)

describe("the example one-port", function()
  after_each(server.stop_all)

  it("serves two apps at one port, each with its own settings", function()
    local s = server.start({
      path = "scripts/examples/one-port/shop.lua",
      options = { "scripts/examples/one-port/blog.lua" },
      env = { PORT = tostring(ports.free()) },
      bare = true,
    })
    local function ask(method, path, port)
      local connection = client.connect("127.0.0.1", port or s.port)
      connection:send(("%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(method, path))
      local response = connection:response()
      connection:close()
      return response
    end
    assert.equal(204, ask("PUT", "/shop/limit/7").status)
    local shop = json.decode(ask("GET", "/shop/").body)
    assert.same({ ("http://localhost:%d/shop/"):format(s.port) }, shop.here)
    assert.equal("/shop", shop.base)
    assert.equal(7, shop.max_connections)
    assert.equal("the blog\n", ask("GET", "/").body)
    local preview = json.decode(ask("POST", "/preview").body)[1]
    local port = tonumber(preview:match("^http://localhost:(%d+)/preview/$"))
    assert.equal("a draft, seen at /preview\n", ask("GET", "/preview/draft", port).body)
    assert.equal(204, ask("POST", "/shop/close").status)
    assert.equal(503, ask("GET", "/shop/").status)
    assert.equal("the blog\n", ask("GET", "/").body)
    assert.equal(0, s:stop())
  end)
end)
