-- req:delegate: a request is handed to another queue of the host (reference section 3.3).
local client = require("spec.support.client")
local hosts = require("spec.support.host")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

describe("req:delegate", function()
  local host, front

  local function queue(name, more)
    local words = { "--set", "request_queue_name=" .. name }
    table.move(more or {}, 1, #(more or {}), #words + 1, words)
    return { options = words, prefix = name }
  end

  local function ask(text)
    local connection = client.connect("127.0.0.1", front.port, { deadline = 30 })
    connection:send(text)
    local response = connection:response()
    connection:close()
    return response
  end

  local function get(path)
    return ask(("GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"):format(path))
  end

  local function post(path, content)
    return ask(("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s")
      :format(path, #content, content))
  end

  before_each(function()
    host = hosts.start()
    host:app([[
app:get("/*rest", function(req)
  return ("back: %s %s, base %q, from %s"):format(req.method, req.path, req.path_base,
    req.client.ip)
end)
app:post("/*rest", function(req) return "back got " .. #req:text() end)]], queue("back"))
    front = host:app([[
local function to(req, res)
  local could = req.can_delegate
  local ok, err = req:delegate(req.query.to or "back")
  if not ok then
    return 409, err.code .. " " .. tostring(could) .. ": " .. err.message
  end
  -- Nothing of this is seen by anybody.
  res.status = 500
  res.headers["x-front"] = "1"
  assert(could and not req.can_delegate and res.started)
  assert(res:write("more") and res:write("and more"))
  res:finish()
  local again, why = req:delegate("back")
  assert(not again and why.code == "state")
  return "nobody sees it"
end
app:get("/to", to)
app:post("/to", to)
app:post("/read", function(req, res)
  req.body:read(1)
  return to(req, res)
end)
app:get("/started", function(req, res)
  res:write("x")
  local ok, err = req:delegate("back")
  res:write(ok and "!" or err.code .. tostring(req.can_delegate))
end)]], queue("front"))
  end)

  after_each(function()
    server.stop_all()
  end)

  it("hands the request to an app of that queue, which sees it as it came", function()
    local response = get("/front/to?x=1")
    assert.equal(200, response.status)
    assert.equal('back: GET /front/to, base "", from 127.0.0.1', response.body)
    assert.is_nil(response.headers["x-front"])
    for _ = 1, 50 do
      assert.equal(200, get("/front/to").status)
    end
  end)

  it("hands its content on, also what the host has passed on already", function()
    for _, size in ipairs({ 0, 1, 1000, 60000, 65535, 65536, 66000, 200000 }) do
      assert.equal("back got " .. size, post("/front/to", ("x"):rep(size)).body)
    end
  end)

  it("refuses what was read or answered, and what is not there", function()
    assert.equal("state false: the body was read, or the response has started",
      post("/front/read", "abc").body)
    assert.equal("xstatefalse", get("/front/started").body)
    assert.equal("not_found true: there is no such request queue", get("/front/to?to=nobody").body)
  end)

  it("hands content on that is longer than what can be on its way", function()
    for _ = 1, 20 do
      assert.equal("back got 1000000", post("/front/to", ("x"):rep(1000000)).body)
    end
  end)

  it("ends when a request goes in circles", function()
    host:app('app:get("/*rest", function(req) local ok, err = req:delegate("b"); ' ..
      'return not ok and err.code or nil end)', queue("a"))
    host:app('app:get("/*rest", function(req) local ok, err = req:delegate("a"); ' ..
      'return not ok and err.code or nil end)', queue("b"))
    assert.equal("limit", get("/front/to?to=a").body)
  end)

  it("finds a queue again whose app was started again", function()
    local third = host:app('app:get("/*rest", function() return "first" end)', queue("third"))
    assert.equal("first", get("/front/to?to=third").body)
    third:stop()
    local connection = client.connect("127.0.0.1", front.port, { deadline = 30 })
    connection:send("GET /front/to?to=third HTTP/1.1\r\nHost: localhost\r\n\r\n")
    host:app('app:get("/*rest", function() return "second" end)', {
      prefix = "third", port = third.port,
      options = { "--set", "request_queue_name=third" } })
    assert.equal("second", connection:response().body)
  end)

  if sys.geteuid() == 0 then
    it("asks whose the queue is", function()
      local wrap = { "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups" }
      front = host:app([[
app:get("/", function(req)
  local ok, err = req:delegate(req.query.to)
  return not ok and err.code or nil
end)]], { wrap = wrap })
      assert.equal("permission", get("/?to=back").body)
      host:app('app:get("/*rest", function() return "open" end)',
        queue("open", { "--set", "request_queue_acl=user:#12345" }))
      assert.equal("open", get("/?to=open").body)
    end)
  end
end)

describe("req:delegate without a host", function()
  after_each(server.stop_all)

  it("says that there is none", function()
    local app = server.start({ app = [[
return function(req)
  local ok, err = req:delegate("x")
  return tostring(req.can_delegate) .. " " .. tostring(ok) .. " " .. err.code
end]] })
    assert.equal("false nil unsupported", app:get("/").body)
  end)
end)
