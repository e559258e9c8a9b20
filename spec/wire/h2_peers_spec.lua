-- HTTP/2 with clients of other people, without TLS and over it.
local json = require("moonquay.core").json
local localhost = require("spec.support.localhost")
local peer = require("spec.support.peer")
local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local log = {}

app:get("/hello", function(req) return "hello over " .. req.protocol end)
app:get("/connection", function(req) return tostring(req.connection_id) end)
app:any("/echo", function(req, res)
  res.headers["x-length"] = req.headers["content-length"] or "none"
  res.headers["x-method"] = req.method
  for chunk in req.body:chunks() do assert(res:write(chunk)) end
end)
app:any("/refused", { max_request_body_size = 10 }, function(req)
  return (assert(req.body:read("a")))
end)
app:any("/unread", function() return 403, "not read" end)
app:get("/trailers", function(_, res)
  res.headers.trailer = "x-sum"
  res:write("content")
  res.trailers["x-sum"] = "42"
end)
app:get("/only-trailers", function(_, res) res.trailers["x-sum"] = "7" end)
app:post("/their-trailers", function(req)
  local body = req.body:read("a")
  return body .. " " .. tostring(req.body:trailers()["x-sum"])
end)
app:get("/hints", function(_, res)
  res:informational(103, { link = "</a.css>; rel=preload" })
  return "final"
end)
app:get("/large", function() return ("x"):rep(5000000) end)
app:get("/none", function() return 204 end)
app:get("/sized", function(_, res)
  res.headers["content-length"] = "10"
  res:write("01234")
  res:write("56789")
end)
app:get("/broken", function(_, res)
  res:write("part")
  res:flush()
  error("on purpose")
end)
app:get("/abort", function(req, res)
  res:write("part")
  req:abort()
end)
app:get("/reset/:code", function(req, res)
  if req.query.after then res:write("part") end
  req:reset(math.tointeger(req.params.code))
end)
app:post("/enough", function(req, res)
  res:finish("enough")
  req:reset(0)
end)
app:get("/last", function(_, res)
  res:close_connection()
  return "last"
end)
app:get("/park", function(req, res)
  req:on_cancel(function(code) log[#log + 1] = "cancelled:" .. code end)
  res:write("first")
  res:flush()
  moonquay.sleep(60)
end)
app:get("/log", function() return table.concat(log, " ") end)
return app
]]

-- How a client comes to HTTP/2: curl's words, and what Node needs to know.
local function without_tls()
  local s = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
  return s, { curl = { "--http2-prior-knowledge" }, node = {},
    base = ("http://127.0.0.1:%d"):format(s.port) }
end

local store

local function over_tls()
  local s = store:start({ app = APP })
  return s, { curl = { "--http2", "--cacert", store.authority }, base = s.base,
    node = { ca = localhost.read(store.authority) } }
end

local function rules(begin)
  local s, way
  setup(function()
    s, way = begin()
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- Runs a command; in more words each path becomes a URL.
  local function run(argv, more, input)
    for _, word in ipairs(more) do
      argv[#argv + 1] = word:sub(1, 1) == "/" and way.base .. word or word
    end
    return peer.run(argv, input)
  end

  describe("curl", function()
    local function curl(words, input)
      return run({ "curl", "-q", "-sS", "--max-time", "15", table.unpack(way.curl) }, words, input)
    end

    local function body(words, input)
      local result = curl(words, input)
      assert.same({ 0, "" }, { result.exit, result.stderr })
      return result.stdout
    end

    it("asks for the head alone", function()
      local head = body({ "-I", "/large" })
      assert.matches("^HTTP/2 200 \r\n", head)
      assert.matches("\r\ncontent%-length: 5000000\r\n\r\n$", head)
    end)

    it("downloads what is large", function()
      assert.equal(5000000, #body({ "/large" }))
    end)

    it("uploads without a length", function()
      local data = ("0123456789\n"):rep(100000)
      local got = body({ "-i", "-T", "-", "/echo" }, data)
      assert.matches("\r\nx%-length: none\r\n", got)
      assert.matches("\r\nx%-method: PUT\r\n", got)
      assert.is_true(got:sub(-#data) == data)
    end)

    it("waits for 100 before it uploads", function()
      local data = ("z"):rep(2000000)
      local result = curl({ "-v", "--data-binary", "@-", "-H", "Expect: 100-continue",
        "--expect100-timeout", "14", "/echo" }, data)
      assert.equal(0, result.exit)
      assert.matches("HTTP/2 100", result.stderr)
      assert.is_true(result.stdout == data)
    end)

    it("learns of a refusal before it uploads", function()
      local result = curl({ "--data-binary", "@-", "-H", "Expect: 100-continue",
        "--expect100-timeout", "14", "-w", " %{http_code} %{size_upload}", "/refused" },
        ("z"):rep(2000000))
      assert.matches(" 413 0$", result.stdout)
    end)

    it("reads a refusal while it uploads", function()
      local result = curl({ "--data-binary", "@-", "-w", " %{http_code}", "/unread" },
        ("z"):rep(8000000))
      assert.equal("not read 403", result.stdout)
    end)

    it("shows interim responses and trailers", function()
      local hints = "HTTP/2 103 \r\nlink: </a.css>; rel=preload\r\n\r\n"
      assert.equal(hints .. "HTTP/2 200 ", body({ "-i", "/hints" }):sub(1, #hints + 11))
      assert.matches("\r\n\r\ncontentx%-sum: 42\r\n", body({ "-i", "/trailers" }))
    end)

    it("sees that an answer was broken off", function()
      local result = curl({ "/broken" })
      assert.equal(92, result.exit)
      assert.matches("INTERNAL_ERROR", result.stderr)
    end)

    it("opens another connection behind the last answer", function()
      local got = body({ "-w", " %{num_connects}\n", "/last", "/hello" })
      assert.equal("last 1\nhello over HTTP/2 1\n", got)
    end)
  end)

  it("nghttp gets many at once", function()
    local result = run({ "nghttp", "-nvy", "-m", "20" }, { "/hello", "/large", "/trailers" })
    assert.equal(0, result.exit, result.stderr)
    local _, answers = result.stdout:gsub(":status: 200", "")
    assert.equal(60, answers)
    assert.matches("x%-sum: 42", result.stdout)
    assert.matches("SETTINGS_NO_RFC7540_PRIORITIES%(0x09%):1", result.stdout)
  end)

  it("h2load finds no request without its answer", function()
    local result = run({ "h2load", "-n", "3000", "-c", "5", "-m", "50" }, { "/hello" })
    assert.matches("requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed",
      result.stdout)
    assert.matches("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx", result.stdout)
  end)

  describe("Node", function()
    local PRELUDE = [[
import http2 from "node:http2";
const [base, options] = process.argv.slice(2);
const { NGHTTP2_CANCEL } = http2.constants;
const session = http2.connect(base, JSON.parse(options));
function request(path, headers = {}, write, options = {}) {
  return new Promise((resolve) => {
    const answer = { body: "", hints: [], trailers: {}, code: undefined };
    const req = session.request({ ":path": path, ...headers },
      { endStream: !write, ...options });
    answer.req = req;
    req.setEncoding("latin1");
    req.on("headers", (h) => answer.hints.push(h[":status"] + " " + h.link));
    req.on("response", (h) => { answer.status = h[":status"]; answer.headers = h; });
    req.on("trailers", (h) => { answer.trailers = h; });
    req.on("data", (data) => { answer.body += data; });
    req.on("error", (error) => { answer.error = error.code; });
    req.on("close", () => { answer.code = req.rstCode; resolve(answer); });
    if (write) write(req);
  });
}
]]

    --- Runs a script; what it prints, line by line.
    local function node(script)
      local lines = {}
      local text = peer.node(PRELUDE .. script .. "\nsession.close();", way.base,
        json.encode(way.node))
      for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      return lines
    end

    it("is answered on one connection, whatever it asks", function()
      assert.same({ "204 200 403 200 200 200", "true", "10 10 0123456789" }, node([=[
const answers = await Promise.all([request("/none"), request("/connection"),
  request("/unread", { ":method": "POST" }, (r) => r.end("x")),
  request("/large", { ":method": "HEAD" }), request("/echo", { ":method": "PUT" },
  (r) => r.end("y")), request("/connection")]);
console.log(...answers.map((a) => a.status));
console.log(answers[1].body === answers[5].body);
const sized = await request("/sized");
console.log(sized.headers["content-length"], sized.body.length, sized.body);
]=]))
    end)

    it("sends and gets trailers, also without content", function()
      assert.same({ "abc 7", "content 42", " 7" }, node([=[
const sent = await request("/their-trailers", { ":method": "POST" }, (r) => {
  r.on("wantTrailers", () => r.sendTrailers({ "x-sum": "7" }));
  r.write("a");
  r.end("bc");
}, { waitForTrailers: true });
console.log(sent.body);
const got = await request("/trailers");
console.log(got.body, got.trailers["x-sum"]);
const bare = await request("/only-trailers");
console.log(bare.body, bare.trailers["x-sum"]);
]=]))
    end)

    it("hears early hints before the answer", function()
      assert.same({ "103 </a.css>; rel=preload", "200 final" }, node([=[
const answer = await request("/hints");
console.log(...answer.hints);
console.log(answer.status, answer.body);
]=]))
    end)

    it("streams both ways at once, as fast as the slower side", function()
      assert.same({ "3000000" }, node([=[
const answer = await request("/echo", { ":method": "POST" }, (r) => {
  let left = 300;
  const more = () => {
    while (left-- > 0)
      if (!r.write("0123456789".repeat(1000))) return r.once("drain", more);
    r.end();
  };
  more();
});
console.log(answer.body.length);
]=]))
    end)

    it("learns by the stream's code how an answer ended", function()
      assert.same({
        "part 2", "part 8", " 8 undefined", "part 1111", " 4294967295 undefined", "enough 0",
      }, node([=[
for (const path of ["/broken", "/abort"]) {
  const answer = await request(path);
  console.log(answer.body, answer.code);
}
let answer = await request("/reset/8");
console.log(answer.body, answer.code, answer.status);
answer = await request("/reset/1111?after=1");
console.log(answer.body, answer.code);
answer = await request("/reset/4294967295");
console.log(answer.body, answer.code, answer.status);
answer = await request("/enough", { ":method": "POST" }, (r) => r.write("never ends"));
console.log(answer.body, answer.code);
]=]))
    end)

    it("that leaves a stream cancels its handler alone", function()
      assert.same({ "first", "hello over HTTP/2", "cancelled:reset" }, node([=[
await new Promise((resolve) => {
  const req = session.request({ ":path": "/park" });
  req.on("data", (data) => {
    console.log(data.toString());
    req.close(NGHTTP2_CANCEL);
  });
  req.on("error", () => {});
  req.on("close", resolve);
});
console.log((await request("/hello")).body);
let log;
do log = await request("/log"); while (log.body === "");
console.log(log.body);
]=]))
    end)

    it("is told by GOAWAY to leave, and gets what it has asked for", function()
      assert.same({ "goaway 0 2147483647", "last", "first" }, node([=[
session.on("goaway", (code, last) => console.log("goaway", code, last));
const parked = new Promise((resolve) => {
  const req = session.request({ ":path": "/park" });
  req.on("data", (data) => { resolve(data.toString()); req.close(NGHTTP2_CANCEL); });
});
console.log((await request("/last")).body);
console.log(await parked);
]=]))
    end)
  end)
end

describe("HTTP/2 with a real peer, without TLS:", function()
  rules(without_tls)

  describe("curl", function()
    local s, way
    setup(function()
      s, way = without_tls()
    end)
    teardown(function()
      assert.equal(0, s:stop())
    end)

    local function body(words)
      local result = peer.run({ "curl", "-q", "-sS", "--max-time", "15", table.unpack(words) })
      assert.same({ 0, "" }, { result.exit, result.stderr })
      return result.stdout
    end

    it("begins with prior knowledge, or asks for an upgrade", function()
      local url = way.base .. "/hello"
      assert.equal("hello over HTTP/2", body({ "--http2-prior-knowledge", url }))
      assert.equal("hello over HTTP/2", body({ "--http2", url }))
      assert.equal("hello over HTTP/1.1", body({ "--http1.1", url }))
    end)

    it("goes on after an upgrade", function()
      local got = body({ "--http2", "-w", " %{http_version} %{num_connects}\n",
        way.base .. "/hello", way.base .. "/hello" })
      assert.equal("hello over HTTP/2 2 1\nhello over HTTP/2 2 0\n", got)
    end)

    it("is not upgraded with content", function()
      assert.equal("abc 1.1", body({ "--http2", "-d", "abc", "-w", " %{http_version}",
        way.base .. "/echo" }))
    end)
  end)
end)

describe("HTTP/2 with a real peer, over TLS:", function()
  setup(function()
    store = localhost.new()
  end)
  teardown(function()
    store:remove()
  end)
  rules(over_tls)
end)
