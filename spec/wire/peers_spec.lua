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
  res.headers["x-coding"] = req.headers["transfer-encoding"] or "none"
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
app:get("/broken", function(_, res)
  res:write("part")
  res:flush()
  error("on purpose")
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

describe("A real peer", function()
  local s, base
  setup(function()
    s = server.start({ app = APP })
    base = ("http://127.0.0.1:%d"):format(s.port)
  end)
  teardown(function()
    s:stop()
  end)

  describe("curl", function()
    --- Runs curl; paths that begin with a slash are of the server.
    local function curl(words, input)
      local argv = { "curl", "-q", "-sS", "--max-time", "15" }
      for _, word in ipairs(words) do
        argv[#argv + 1] = word:sub(1, 1) == "/" and base .. word or word
      end
      return peer.run(argv, input)
    end

    local function body(words, input)
      local result = curl(words, input)
      assert.same({ 0, "" }, { result.exit, result.stderr })
      return result.stdout
    end

    it("gets over HTTP/1.1 and HTTP/1.0", function()
      assert.equal("hello over HTTP/1.1", body({ "--http1.1", "/hello" }))
      assert.equal("hello over HTTP/1.0", body({ "--http1.0", "/hello" }))
    end)

    it("gets content without length over HTTP/1.0", function()
      assert.equal("content", body({ "--http1.0", "/trailers" }))
    end)

    it("asks for the head alone", function()
      local head = body({ "-I", "/large" })
      assert.matches("^HTTP/1.1 200 OK\r\n", head)
      assert.matches("\r\nContent%-Length: 5000000\r\n\r\n$", head)
    end)

    it("uploads in chunks", function()
      local data = ("0123456789\n"):rep(100000)
      local got = body({ "-i", "-T", "-", "-H", "Expect:", "/echo" }, data)
      assert.matches("\r\nx%-coding: chunked\r\n", got)
      assert.matches("\r\nx%-method: PUT\r\n", got)
      assert.is_true(got:sub(-#data) == data)
    end)

    it("waits for 100 before it uploads", function()
      local data = ("z"):rep(2000000)
      local result = curl({ "-v", "--data-binary", "@-", "-H", "Expect: 100-continue",
        "--expect100-timeout", "14", "/echo" }, data)
      assert.equal(0, result.exit)
      assert.matches("HTTP/1.1 100 Continue", result.stderr)
      assert.is_true(result.stdout == data)
    end)

    it("learns of a refusal before it uploads", function()
      local result = curl({ "-v", "--data-binary", "@-", "-H", "Expect: 100-continue",
        "--expect100-timeout", "14", "-w", " %{http_code} %{size_upload}",
        "/refused" }, ("z"):rep(2000000))
      assert.equal(0, result.exit)
      assert.is_nil(result.stderr:find("100 Continue", 1, true))
      assert.matches(" 413 0$", result.stdout)
    end)

    it("reads a refusal while it uploads", function()
      local result = curl({ "--data-binary", "@-", "-H", "Expect:", "-w", " %{http_code}",
        "/unread" }, ("z"):rep(8000000))
      assert.equal(0, result.exit)
      assert.equal("not read 403", result.stdout)
    end)

    it("uses a connection again", function()
      local result = curl({ "-v", "/connection", "/none", "/connection", "-X", "POST", "-d", "x",
        "/unread" })
      assert.equal(0, result.exit)
      assert.matches("Re%-using existing connection", result.stderr)
      local again = select(2, result.stderr:gsub("Re%-using existing connection", ""))
      assert.equal(3, again)
    end)

    it("uses a connection again over HTTP/1.0 when both keep it", function()
      local result = curl({ "-v", "--http1.0", "-H", "Connection: keep-alive", "/hello", "/hello" })
      assert.equal("hello over HTTP/1.0hello over HTTP/1.0", result.stdout)
      assert.matches("Re%-using existing connection", result.stderr)
    end)

    it("shows interim responses and trailers", function()
      local hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
      assert.equal(hints .. "HTTP/1.1 200 ", body({ "-i", "/hints" }):sub(1, #hints + 13))
      assert.matches("\r\n\r\ncontentx%-sum: 42\r\n", body({ "-i", "/trailers" }))
    end)

    it("sees that an answer was broken off", function()
      local result = curl({ "/broken" })
      assert.equal("part", result.stdout)
      assert.is_truthy(({ [18] = true, [56] = true })[result.exit], result.stderr)
    end)
  end)

  describe("Node", function()
    local PRELUDE = [[
import http from "node:http";
const [base] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
function request(path, options = {}, write) {
  return new Promise((resolve, reject) => {
    const hints = [];
    const req = http.request(base + path, { agent, ...options }, (res) => {
      let body = "";
      res.setEncoding("latin1");
      res.on("data", (data) => { body += data; });
      res.on("error", reject);
      res.on("end", () => resolve({
        status: res.statusCode, headers: res.headers, body, trailers: res.trailers, hints,
        reused: req.reusedSocket,
      }));
    });
    req.on("information", (info) => hints.push(info.statusCode + " " + info.headers.link));
    req.on("error", reject);
    if (write) write(req); else req.end();
  });
}
]]

    --- Runs a script; what it prints, line by line.
    local function node(script)
      local lines = {}
      for line in peer.node(PRELUDE .. script, base):gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      return lines
    end

    it("keeps a connection for many requests of all kinds", function()
      assert.same({ "1 true true true true true", "204 200 403 200 200" }, node([=[
const answers = [];
for (const [path, method, body] of [["/none"], ["/connection"], ["/unread", "POST", "x"],
    ["/large", "HEAD"], ["/echo", "PUT", "y"], ["/connection"]])
  answers.push(await request(path, { method }, (req) => req.end(body)));
const ids = new Set([answers[1].body, answers[5].body]);
console.log(ids.size, ...answers.slice(1).map((a) => a.reused));
console.log(...answers.slice(0, 5).map((a) => a.status));
agent.destroy();
]=]))
    end)

    it("sends chunks and trailers, and gets them", function()
      assert.same({ "abc 7", "content 42", "chunked none 300000" }, node([=[
const sent = await request("/their-trailers", { method: "POST", headers: { trailer: "x-sum" } },
  (req) => {
    req.write("a");
    req.write("bc");
    req.addTrailers({ "x-sum": "7" });
    req.end();
  });
console.log(sent.body);
const got = await request("/trailers");
console.log(got.body, got.trailers["x-sum"]);
const echoed = await request("/echo", { method: "POST" }, (req) => {
  for (let i = 0; i < 300; i++) req.write("0123456789".repeat(100));
  req.end();
});
console.log(echoed.headers["x-coding"], echoed.headers["x-length"], echoed.body.length);
agent.destroy();
]=]))
    end)

    it("hears early hints before the answer", function()
      assert.same({ "103 </a.css>; rel=preload", "200 final" }, node([=[
const answer = await request("/hints");
console.log(...answer.hints);
console.log(answer.status, answer.body);
agent.destroy();
]=]))
    end)

    it("continues after 100", function()
      assert.same({ "continue", "200 content of it" }, node([=[
const answer = await request("/echo", { method: "POST", headers: { Expect: "100-continue" } },
  (req) => {
    req.on("continue", () => {
      console.log("continue");
      req.end("content of it");
    });
    req.flushHeaders();
  });
console.log(answer.status, answer.body);
agent.destroy();
]=]))
    end)

    it("sees that an answer was broken off", function()
      assert.same({ "ECONNRESET" }, node([=[
await request("/broken").catch((error) => console.log(error.code));
agent.destroy();
]=]))
    end)

    it("that leaves cancels the handler", function()
      assert.same({ "first" }, node([=[
await new Promise((resolve) => {
  const req = http.get(base + "/park", { agent }, (res) => {
    res.on("error", resolve);
    res.on("data", (data) => {
      console.log(data.toString());
      req.destroy();
      resolve();
    });
  });
  req.on("error", () => {});
});
agent.destroy();
]=]))
      local connection = s:connect()
      local until_time = os.time() + 20
      repeat
        assert(os.time() < until_time, "the handler was not cancelled")
      until connection:get("/log").body:find("cancelled:%l+")
      connection:close()
    end)

    it("speaks by fetch too", function()
      assert.same({ "200 hello over HTTP/1.1", "200 123456", "204 " }, node([=[
const show = async (res) => console.log(res.status, await res.text());
await show(await fetch(base + "/hello"));
await show(await fetch(base + "/echo", { method: "POST", body: "123456" }));
await show(await fetch(base + "/none"));
]=]))
    end)

    it("is served on many connections at once", function()
      assert.same({ "400 200" }, node([=[
const many = new http.Agent({ keepAlive: true, maxSockets: 40 });
const answers = await Promise.all(Array.from({ length: 400 }, () =>
  request("/hello", { agent: many })));
console.log(answers.length, [...new Set(answers.map((a) => a.status))].join(" "));
many.destroy();
]=]))
    end)
  end)
end)
