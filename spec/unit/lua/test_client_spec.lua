local moonquay = require("moonquay")
local test = require("moonquay.test")

describe("the test client", function()
  local app = moonquay.app()
  app:any("/echo", function(req, res)
    res.headers["x-method"] = req.method
    res.headers["x-type"] = req.headers["content-type"]
    res.headers["x-framing"] = req.headers["transfer-encoding"] or req.headers["content-length"]
    return req.body:read("a") -- no assert: in a spec file it is busted's
  end)
  app:get("/query", function(req)
    return req.query_string
  end)
  app:get("/headers", function(req)
    return table.concat(req.headers:all("x-a"), "+")
  end)
  app:get("/many", function(_, res)
    res.headers:add("X-Many", "1")
    res.headers:add("x-many", "2")
    res:informational(103, { link = "</a>" })
    res:write("a")
    res.trailers["X-Sum"] = "9"
  end)
  app:get("/cookie", function(req, res)
    local text = ("%s %s"):format(req.cookies.a, req.cookies.b)
    res:cookie("a", (req.cookies.a or "") .. "1", { path = "/" })
    res:cookie("b", "x", req.cookies.b and { max_age = 0 } or nil)
    return text
  end)
  app:post("/stream", function(req, res)
    for chunk in req.body:chunks() do
      res:write(chunk)
      res:flush()
    end
  end)
  app:post("/refuse", { max_request_body_size = 10 }, function(req)
    return req.body:read("a")
  end)
  app:get("/abort", function(_, res)
    res.headers["content-length"] = 10
    res:write("half")
    res:flush()
    error("aborted on purpose")
  end)
  app:get("/never", function()
    moonquay.sleep(3600)
  end)
  app:post("/trailers", function(req)
    req.body:read("a")
    return req.body:trailers()["x-end"]
  end)
  local client = test.client(app)

  it("has a call for each method", function()
    for _, verb in ipairs({ "get", "post", "put", "patch", "delete", "options" }) do
      local response = client[verb](client, "/echo")
      assert.equal(200, response.status)
      assert.equal(verb:upper(), response.headers["x-method"])
    end
    assert.equal("", client:head("/echo").body)
    assert.equal("BREW", client:request("BREW", "/echo").headers["X-METHOD"])
  end)

  it("sends text with its length, pieces as chunks", function()
    local text = client:post("/echo", { body = "text" })
    assert.equal("text", text.body)
    assert.equal("4", text.headers["x-framing"])
    local pieces = client:post("/echo", { body = { "a", "", "bc" } })
    assert.equal("abc", pieces.body)
    assert.equal("chunked", pieces.headers["x-framing"])
    local n = 0
    local stream = client:post("/echo", {
      body = function()
        n = n + 1
        return n <= 3 and tostring(n) or nil
      end,
    })
    assert.equal("123", stream.body)
  end)

  it("sends JSON and forms", function()
    local sent = client:post("/echo", { json = { 1, "a" } })
    assert.equal("application/json", sent.headers["x-type"])
    assert.same({ 1, "a" }, sent:json())
    local form = client:post("/echo", { form = { b = "2 3", a = { "1", "&" } } })
    assert.equal("application/x-www-form-urlencoded", form.headers["x-type"])
    assert.equal("a=1&a=%26&b=2%203", form.body)
  end)

  it("appends a query", function()
    assert.equal("a=1", client:get("/query", { query = { a = 1 } }).body)
    assert.equal("x&a=1", client:get("/query?x", { query = { a = 1 } }).body)
  end)

  it("sends headers of the client and of the request", function()
    local other = test.client(app, { headers = { ["X-A"] = "always" } })
    assert.equal("always", other:get("/headers").body)
    local twice = { ["x-a"] = { "now", "then" } }
    assert.equal("now+then", other:get("/headers", { headers = twice }).body)
  end)

  it("reads headers, interim responses, trailers", function()
    local response = client:get("/many")
    assert.equal("1, 2", response.headers["x-MANY"])
    assert.same({ "1", "2" }, response.headers:all("X-Many"))
    assert.equal(103, response.interim[1].status)
    assert.equal("</a>", response.interim[1].headers.link)
    assert.equal("9", response.trailers["x-sum"])
    assert.equal("OK", response.reason)
  end)

  it("keeps cookies if it is asked to", function()
    assert.equal("1", client:get("/cookie").cookies.a)
    assert.equal("nil nil", client:get("/cookie").body)
    local browser = test.client(app, { cookies = true })
    assert.equal("nil nil", browser:get("/cookie").body)
    assert.equal("1 x", browser:get("/cookie").body)
    assert.equal("11 nil", browser:get("/cookie").body)
  end)

  it("sends and receives at the same time", function()
    local piece, n = ("x"):rep(100000), 0
    local response = client:post("/stream", {
      body = function()
        n = n + 1
        return n <= 50 and piece or nil
      end,
    })
    assert.equal(5000000, #response.body)
  end)

  it("reads the answer to a body that is refused", function()
    assert.equal(413, client:post("/refuse", { body = ("x"):rep(5000000) }).status)
  end)

  it("sends trailers", function()
    local response = client:post("/trailers", { body = { "a" }, trailers = { ["X-End"] = "7" } })
    assert.equal("7", response.body)
  end)

  it("tells an answer that broke off", function()
    local response = client:get("/abort")
    assert.equal("half", response.body)
    assert.is_true(response.aborted)
    assert.is_false(client:get("/many").aborted)
  end)

  it("raises when no answer comes", function()
    local hasty = test.client(app, { deadline = 0.05 })
    assert.error_matches(function()
      hasty:get("/never")
    end, "no answer within 0.05 s")
  end)

  it("takes a file, and tells what is wrong with it", function()
    assert.equal("Hello, moon!\n",
      test.client("scripts/examples/hello/app.lua"):get("/?name=moon").body)
    assert.error_matches(function()
      test.client("no/such.lua")
    end, "no/such.lua")
  end)

  it("takes a function or a callable", function()
    local function handler(req)
      return req.path
    end
    assert.equal("/x", test.client(handler):get("/x").body)
    local callable = setmetatable({}, {
      __call = function(_, req)
        return "called " .. req.path
      end,
    })
    assert.equal("called /x", test.client(callable):get("/x").body)
  end)

  it("runs inside a task of the spec's own", function()
    local both = { moonquay.all(function()
      return client:get("/query?1").body
    end, function()
      return client:get("/query?2").body
    end) }
    assert.same({ "1", "2" }, both)
  end)
end)

describe("moonquay.app { settings }", function()
  local function message_of(settings)
    return select(2, pcall(function()
      moonquay.app(settings)
    end))
  end

  it("names what is wrong and where", function()
    local here = "test_client_spec.lua:%d+: "
    assert.matches(here .. ".*max_request_body_siz", message_of({ max_request_body_siz = 1 }))
    assert.matches(here .. ".*timeouts.cancel", message_of({ timeouts = { cancel = "soon" } }))
    assert.matches(here .. ".*workers.*1", message_of({ workers = 0 }))
    assert.matches(here .. "settings are named", message_of({ "workers" }))
    assert.matches(here .. "the settings of an app are a table, not a number", message_of(7))
  end)
end)
