-- HTTPS with clients of other people: which protocol and version they get, their certificates,
-- sessions that are resumed, content of some megabytes. The certificates are those that
-- `moonquay cert create` makes, and clients that can verify them do.
local frames = require("spec.support.h2_frames")
local json = require("moonquay.core").json
local localhost = require("spec.support.localhost")
local peer = require("spec.support.peer")
local secure = require("spec.support.secure")
local server = require("spec.support.server")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local function worker()
  local file = io.open("/proc/self/stat")
  local pid = file:read("n")
  file:close()
  return pid
end
app:get("/facts", function(req)
  local certificate, err = req.tls.client_certificate, nil
  if req.query.ask then certificate, err = req.tls:request_certificate() end
  return { protocol = req.protocol, version = req.tls.version, alpn = req.tls.alpn,
    sni = req.tls.sni, resumed = req.tls.resumed, connection = req.connection_id,
    subject = certificate and certificate.subject, code = err and err.code, worker = worker() }
end)
app:get("/connection", function(req) return tostring(req.connection_id) end)
app:get("/large", function(_, res)
  for i = 1, 800 do res:write(("%09d\n"):format(i):rep(1000)) end
end)
app:any("/length", function(req)
  local length = 0
  for chunk in req.body:chunks() do length = length + #chunk end
  return tostring(length)
end)
app:any("/echo", function(req, res)
  for chunk in req.body:chunks() do assert(res:write(chunk)) end
end)
return app
]]

local ALICE = "CN=alice,O=Moonquay development client"
local LARGE = {}
for i = 1, 800 do
  LARGE[i] = ("%09d\n"):format(i):rep(1000)
end
LARGE = table.concat(LARGE)

describe("HTTPS with a real peer:", function()
  local store, s

  setup(function()
    store = localhost.new("alice")
    s = store:start({ app = APP, options = { "--workers", "2" } })
  end)

  teardown(function()
    assert.equal(0, s:stop())
    store:remove()
  end)

  local function curl(words, input)
    local all = { "curl", "-q", "-sS", "--max-time", "15", "--cacert", store.authority }
    return peer.run(table.move(words, 1, #words, #all + 1, all), input)
  end

  local function body(words, input)
    local result = curl(words, input)
    assert.same({ 0, "" }, { result.exit, result.stderr })
    return result.stdout
  end

  -- What one client asks for: the protocol (of the request, and by ALPN) and the version of TLS.
  local versions = {
    { "--http1.1 --tlsv1.2 --tls-max 1.2", "HTTP/1.1", "http/1.1", "TLSv1.2" },
    { "--http1.1 --tlsv1.3", "HTTP/1.1", "http/1.1", "TLSv1.3" },
    { "--http2 --tlsv1.2 --tls-max 1.2", "HTTP/2", "h2", "TLSv1.2" },
    { "--http2 --tlsv1.3", "HTTP/2", "h2", "TLSv1.3" },
    { "--http2-prior-knowledge --tlsv1.3", "HTTP/2", "h2", "TLSv1.3" },
    { "--no-alpn --tlsv1.3", "HTTP/1.1", nil, "TLSv1.3" },
    { "--tlsv1.2", "HTTP/2", "h2", "TLSv1.3" },
  }

  local function words_of(text)
    local words = {}
    for word in text:gmatch("%S+") do
      words[#words + 1] = word
    end
    return words
  end

  describe("curl", function()
    for _, case in ipairs(versions) do
      local words, protocol, alpn, version = table.unpack(case, 1, 4)

      describe(words, function()
        local function get(path, ...)
          local all = words_of(words)
          all[#all + 1] = s.base .. path
          return table.move({ ... }, 1, select("#", ...), #all + 1, all)
        end

        it("gets what it asks for", function()
          local facts = json.decode(body(get("/facts")))
          assert.same({ protocol, alpn, version, "localhost" },
            { facts.protocol, facts.alpn, facts.version, facts.sni })
        end)

        it("downloads and uploads some megabytes", function()
          assert.is_true(body(get("/large")) == LARGE)
          assert.equal(tostring(#LARGE), body(get("/length", "-T", "-"), LARGE))
          assert.is_true(body(get("/echo", "--data-binary", "@-"), LARGE) == LARGE)
        end)

        it("uses its connection again", function()
          local got = body(get("/connection", s.base .. "/connection", "-w", " %{num_connects} "))
          local first, second = got:match("^([%x-]+) 1 ([%x-]+) 0 $")
          assert.truthy(first, got)
          assert.equal(first, second)
        end)
      end)
    end

    it("gets many at once on one connection", function()
      local words = { "--http2", "-Z" }
      for _ = 1, 30 do
        words[#words + 1] = s.base .. "/large"
        words[#words + 1] = "-o"
        words[#words + 1] = "/dev/null"
      end
      local result = curl(table.move({ "-w", "%{num_connects} %{size_download}\n" }, 1, 2,
        #words + 1, words))
      assert.equal(0, result.exit, result.stderr)
      local connects, bytes = 0, 0
      for connect, size in result.stdout:gmatch("(%d+) (%d+)\n") do
        connects, bytes = connects + connect, bytes + size
      end
      assert.same({ 1, 30 * #LARGE }, { connects, bytes })
    end)

    it("refuses an authority that it does not know", function()
      local result = peer.run({ "curl", "-q", "-sS", s.base .. "/facts" })
      assert.equal(60, result.exit, result.stderr)
      assert.equal(0, curl({ s.base .. "/facts" }).exit)
    end)

    describe("with a certificate", function()
      local certificate, key, modes

      setup(function()
        certificate, key = store:client("alice")
        modes = {}
        for _, mode in ipairs({ "allow", "require", "delay" }) do
          modes[mode] = store:start({ app = APP, binding = { client_certificate = mode,
            client_authorities = store.authority } })
        end
      end)

      teardown(function()
        for _, one in pairs(modes) do
          assert.equal(0, one:stop())
        end
      end)

      -- { mode, words, with the certificate, whose it is (nil: none is seen; false: no answer) }
      local cases = {
        { "allow", "--http1.1", true, ALICE },
        { "allow", "--http2", true, ALICE },
        { "allow", "--http2 --tlsv1.2 --tls-max 1.2", true, ALICE },
        { "allow", "--http1.1", false, nil },
        { "allow", "--http2", false, nil },
        { "require", "--http1.1", true, ALICE },
        { "require", "--http2", true, ALICE },
        { "require", "--http1.1", false, false },
        { "require", "--http2", false, false },
        { "require", "--http2 --tlsv1.2 --tls-max 1.2", false, false },
        { "delay", "--http1.1 --tlsv1.3", true, ALICE, ask = true },
        { "delay", "--http1.1 --tlsv1.3", false, nil, ask = true },
        { "delay", "--http1.1 --tls-max 1.2", true, nil, ask = true, code = "unsupported" },
        { "delay", "--http2", true, nil, ask = true, code = "unsupported" }, -- RFC 8740
      }
      for _, case in ipairs(cases) do
        local mode, words, shown, subject = table.unpack(case, 1, 4)
        it(("%s, %s: %s"):format(mode, words, shown and "has one" or "has none"), function()
          local all = words_of(words)
          if shown then
            table.move({ "--cert", certificate, "--key", key }, 1, 4, #all + 1, all)
          end
          all[#all + 1] = modes[mode].base .. "/facts" .. (case.ask and "?ask=1" or "")
          local result = curl(all)
          if subject == false then
            -- An alert in the handshake (TLS 1.2), or while it waits for the answer.
            assert.is_true(result.exit == 35 or result.exit == 56, result.stderr)
            return
          end
          assert.equal(0, result.exit, result.stderr)
          local facts = json.decode(result.stdout)
          assert.equal(subject, facts.subject)
          assert.equal(case.code, facts.code)
          assert.equal(words:find("http2", 1, true) and "HTTP/2" or "HTTP/1.1", facts.protocol)
        end)
      end
    end)
  end)

  describe("h2load", function()
    for _, case in ipairs({ { "over HTTP/2", "h2" }, { "over HTTP/1.1", "http/1.1", "--h1" } }) do
      it("finds no request without its answer, " .. case[1], function()
        local result = peer.run({ "h2load", "-n", "2000", "-c", "10", "-m", "20",
          s.base .. "/connection", case[3] })
        assert.matches("Application protocol: " .. case[2], result.stdout, 1, true)
        assert.matches("requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed",
          result.stdout)
        assert.matches("status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx", result.stdout)
      end)
    end
  end)

  it("nghttp gets, and sends", function()
    local result = peer.run({ "nghttp", "-ny", "-m", "10", "--stat", s.base .. "/large",
      s.base .. "/connection" })
    assert.equal(0, result.exit, result.stderr)
    assert.equal(20, select(2, result.stdout:gsub(" 200 ", "")), result.stdout)
    local dir = require("spec.support.temp").dir()
    local path = dir:write("content", LARGE)
    result = peer.run({ "nghttp", "-d", path, s.base .. "/length" })
    dir:remove()
    assert.equal(tostring(#LARGE), result.stdout)
  end)

  describe("openssl s_client", function()
    -- A whole session in one piece; the client's GOAWAY lets the server end it.
    local session = table.concat({ frames.PREFACE, frames.settings({}), frames.settings(),
      frames.request(1, { [":path"] = "/connection", [":authority"] = "localhost",
        [":scheme"] = "https" }), frames.goaway(0, "NO_ERROR") })

    for _, version in ipairs({ "-tls1_2", "-tls1_3" }) do
      it("agrees on h2, and gets frames: " .. version, function()
        local result = peer.run({ "openssl", "s_client", "-quiet", "-ign_eof", version, "-alpn",
          "h2,http/1.1", "-CAfile", store.authority, "-verify_return_error", "-connect",
          "localhost:" .. s.port }, session)
        assert.equal(0, result.exit, result.stderr)
        local list, rest = frames.parse(result.stdout)
        assert.equal("", rest)
        local texts = {}
        for i, frame in ipairs(list) do
          texts[i] = frame.type
        end
        assert.same({ "SETTINGS", "SETTINGS", "WINDOW_UPDATE", "HEADERS", "DATA" }, texts)
        assert.matches("^[%x-]+$", list[5].payload)
      end)
    end

    it("has the server's order of protocols, and speaks HTTP/1.1 without h2", function()
      for offer, expected in pairs({ ["http/1.1,h2"] = "h2", ["h2,http/1.1"] = "h2",
        ["http/1.1"] = "http/1.1", ["h2"] = "h2" }) do
        local seen = secure.ask(s, { sni = "localhost", "-alpn", offer,
          request = expected == "h2" and session or nil })
        assert.truthy(seen.text:find("ALPN protocol: " .. expected .. "\n", 1, true), offer)
      end
    end)

    it("is not upgraded to HTTP/2 within TLS", function()
      local own = store:start({ app = APP, options = { "--set", "h2.cleartext=true" } })
      local seen = secure.ask(own, { sni = "localhost", request = "GET /connection HTTP/1.1\r\n"
        .. "Host: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
        .. "HTTP2-Settings: AAMAAABk\r\n\r\n" })
      assert.equal(200, seen.status, seen.text)
      assert.equal(0, own:stop())
    end)
  end)

  describe("Node", function()
    local PRELUDE = [[
import fs from "node:fs";
import http2 from "node:http2";
import https from "node:https";
import { once } from "node:events";
const [base, authority] = process.argv.slice(2);
const ca = fs.readFileSync(authority);
async function content(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}
function ask(session, path, headers = {}) { // over HTTP/2
  const stream = session.request({ ":path": path, ...headers });
  stream.end();
  return content(stream);
}
async function get(path, options = {}) { // over HTTP/1.1
  const request = https.get(base + path, { ca, ...options });
  const [response] = await once(request, "response");
  return content(response);
}
]]

    local function node(script)
      local lines = {}
      local text = peer.node(PRELUDE .. script, s.base, store.authority)
      for line in text:gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      return lines
    end

    it("gets HTTP/1.1 where it does not know HTTP/2", function()
      assert.same({ "HTTP/1.1 undefined", "HTTP/1.1 http/1.1", "HTTP/2 h2", "true" }, node([=[
for (const options of [{}, { ALPNProtocols: ["http/1.1"] }]) {
  options.agent = false;
  const facts = JSON.parse(await get("/facts", options));
  console.log(facts.protocol, facts.alpn);
}
const session = http2.connect(base, { ca });
const facts = JSON.parse(await ask(session, "/facts"));
console.log(facts.protocol, facts.alpn);
session.close();
const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
const first = await get("/connection", { agent }), second = await get("/connection", { agent });
console.log(first.equals(second));
agent.destroy();
]=]))
    end)

    it("is refused with protocols that the server does not speak", function()
      assert.same({ "alert no application protocol" }, node([=[
await get("/facts", { ALPNProtocols: ["spdy/3"] }).catch((error) =>
  console.log(error.message.match(/alert [a-z ]+/)[0]));
]=]))
    end)

    for _, version in ipairs({ "TLSv1.2", "TLSv1.3" }) do
      it("resumes its session in both workers, over both protocols: " .. version, function()
        local lines = node(([=[
import tls from "node:tls";
const versions = { minVersion: "%s", maxVersion: "%s" };
let ticket;
const url = new URL(base);
const connect = (protocol) => {
  const socket = tls.connect({ host: "localhost", port: url.port, servername: "localhost", ca,
    ALPNProtocols: [protocol], session: ticket, ...versions });
  socket.on("session", (session) => { ticket = session; });
  return socket;
};
async function facts(protocol) {
  const socket = connect(protocol);
  await once(socket, "secureConnect");
  if (protocol === "h2") {
    const session = http2.connect(base, { createConnection: () => socket });
    const answer = JSON.parse(await ask(session, "/facts"));
    session.close();
    await once(session, "close");
    return answer;
  }
  socket.write("GET /facts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  return JSON.parse((await content(socket)).toString().match(/\{.*\}/)[0]);
}
const first = await facts("h2");
console.log(first.resumed, first.protocol);
const seen = new Set();
let others = 0;
for (let i = 0; i < 60 && (seen.size < 4 || i < 4); i++) { // the kernel spreads connections
  const answer = await facts(i %% 2 ? "h2" : "http/1.1");
  if (!answer.resumed) others++;
  seen.add(answer.worker + answer.protocol);
}
console.log(seen.size, others);
]=]):format(version, version))
        assert.same({ "false HTTP/2", "4 0" }, lines)
      end)
    end

    it("has many streams at once, more than the server allows", function()
      assert.same({ "100", "400 1" }, node([=[
const session = http2.connect(base, { ca });
await once(session, "remoteSettings");
console.log(session.remoteSettings.maxConcurrentStreams);
const answers = await Promise.all(Array.from({ length: 400 },
  () => ask(session, "/connection")));
console.log(answers.length, new Set(answers.map(String)).size);
session.close();
]=]))
    end)

    it("uploads and downloads some megabytes on several streams at once", function()
      assert.same({ "8000000 8000000 8000000 true true true", "true" }, node([=[
const session = http2.connect(base, { ca, maxSessionMemory: 100 });
const data = Buffer.alloc(8000000);
for (let i = 0; i < data.length; i++) data[i] = (i * 31 + (i >> 8)) & 255;
async function send(path) {
  const stream = session.request({ ":path": path, ":method": "POST" });
  stream.end(data);
  return content(stream);
}
const [one, two, three, ...echoes] = await Promise.all([send("/length"), send("/length"),
  send("/length"), send("/echo"), send("/echo"), send("/echo")]);
console.log(String(one), String(two), String(three), ...echoes.map((e) => e.equals(data)));
const large = await Promise.all([ask(session, "/large"), ask(session, "/large")]);
console.log(large.every((l) => l.length === 8000000));
session.close();
]=]))
    end)

    it("shows its certificate over both protocols", function()
      local certificate, key = store:client("alice")
      local one = store:start({ app = APP, binding = { client_certificate = "require",
        client_authorities = store.authority } })
      local text = peer.node([=[
import fs from "node:fs";
import http2 from "node:http2";
import https from "node:https";
const [base, ...files] = process.argv.slice(2);
const [ca, cert, key] = files.map((file) => fs.readFileSync(file));
const session = http2.connect(base, { ca, cert, key });
const stream = session.request({ ":path": "/facts" });
let text = "";
stream.setEncoding("utf8").on("data", (data) => { text += data; }).on("end", () => {
  console.log(JSON.parse(text).subject, JSON.parse(text).protocol);
  session.close();
  https.get(base + "/facts", { ca, cert, key }, (response) => {
    let more = "";
    response.setEncoding("utf8").on("data", (data) => { more += data; }).on("end", () =>
      console.log(JSON.parse(more).subject, JSON.parse(more).protocol));
  });
});
]=], one.base, store.authority, certificate, key)
      assert.equal(("%s HTTP/2\n%s HTTP/1.1\n"):format(ALICE, ALICE), text)
      assert.equal(0, one:stop())
    end)
  end)

  it("nobody of them has cost a worker", function()
    local result = server.run({ "status", "--json", tostring(s.pid),
      env = { XDG_RUNTIME_DIR = s.runtime_dir } })
    for _, worker in ipairs(json.decode(result.stdout).workers) do
      assert.equal(0, worker.restarts)
    end
  end)
end)
