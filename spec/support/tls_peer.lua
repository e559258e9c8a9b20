--- Node as a TLS client, over a relay that can cut what passes and put bytes in front.
local json = require("moonquay.core").json
local peer = require("spec.support.peer")

local SCRIPT = [[
import crypto from "node:crypto";
import net from "node:net";
import tls from "node:tls";
const want = JSON.parse(process.argv[2]);

// Bytes that differ from place to place.
function fill(length) {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8)) & 255;
  return bytes;
}

// Passes each piece on by itself, one a turn of the loop.
function forward(from, to, size) {
  const waiting = [];
  let busy = false, over = false;
  function step() {
    if (waiting.length === 0) { busy = false; if (over) to.end(); return; }
    busy = true;
    const bytes = waiting[0];
    to.write(bytes.subarray(0, size));
    if (bytes.length > size) waiting[0] = bytes.subarray(size); else waiting.shift();
    setImmediate(step);
  }
  from.on("data", (bytes) => { waiting.push(bytes); if (!busy) step(); });
  from.on("end", () => { over = true; if (!busy) step(); });
  from.on("error", () => to.destroy());
}

function through_relay(use) {
  const relay = net.createServer({ allowHalfOpen: true }, (near) => {
    const far = net.connect({ port: want.port, host: want.host, allowHalfOpen: true });
    far.setNoDelay(true);
    near.setNoDelay(true);
    let first = Buffer.from(want.prefix || "", "hex");
    if (want.joined && first.length) { // in one write with what the client says first
      near.once("data", (bytes) => {
        far.write(Buffer.concat([first, bytes]));
        forward(near, far, want.pieces || 1 << 30);
      });
    } else {
      if (first.length) far.write(first);
      forward(near, far, want.pieces || 1 << 30);
    }
    forward(far, near, want.pieces || 1 << 30);
  });
  relay.listen(0, "127.0.0.1", () => use(relay.address().port, relay));
}

function report(result, relay) {
  if (relay) relay.close();
  process.stdout.write(JSON.stringify(result), () => process.exit(0));
}

function run(port, relay) {
  const result = {};
  let data = [];
  const socket = tls.connect({ port, host: relay ? "127.0.0.1" : want.host,
    rejectUnauthorized: false, ...want.tls }, () => {
    result.protocol = socket.getProtocol();
    result.alpn = socket.alpnProtocol;
    if (want.renegotiate) {
      socket.renegotiate({}, (error) => {
        result.renegotiated = error ? error.code : "yes";
        report(result, relay);
      });
      return;
    }
    for (const part of want.send) {
      const is_text = part.text !== undefined;
      const bytes = is_text ? Buffer.from(part.text.repeat(part.times || 1)) : fill(part.fill);
      if (!is_text) result.sent = crypto.createHash("sha256").update(bytes).digest("hex");
      socket.write(bytes);
    }
    if (want.slow) { // reads nothing until another connection has had an answer
      socket.pause();
      const other = tls.connect({ port, host: want.host, rejectUnauthorized: false }, () => {
        other.write("GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
      });
      other.resume();
      other.on("close", () => socket.resume());
    }
  });
  socket.on("data", (bytes) => data.push(bytes));
  socket.on("end", () => { result.ended = true; });
  socket.on("error", (error) => { result.error = error.code; });
  socket.on("close", () => {
    const all = Buffer.concat(data), at = all.indexOf("\r\n\r\n");
    result.length = all.length;
    result.answers = all.toString("latin1").split("HTTP/1.1 200 OK\r\n").length - 1;
    result.head = all.subarray(0, at < 0 ? 1000 : at).toString("latin1");
    const body = all.subarray(at + 4);
    result.body_length = at < 0 ? 0 : body.length;
    result.body = body.length < 5000 ? body.toString("latin1") : undefined;
    result.received = crypto.createHash("sha256").update(body).digest("hex");
    report(result, relay);
  });
}
if (want.pieces || want.prefix) through_relay(run); else run(want.port);
]]

--- want: port, host (127.0.0.1), send ({ { text =, times = } or { fill = bytes }, … }), tls (the
-- options of Node's tls.connect), pieces (bytes that pass at a time), prefix (bytes in front of the
-- handshake; joined: in one write with it), slow, renegotiate. Returns what came of it.
return function(want)
  want.host = want.host or "127.0.0.1"
  want.send = want.send or {}
  want.prefix = want.prefix and want.prefix:gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)
  want.tls = want.tls or { servername = "a.test" }
  return json.decode(peer.node(SCRIPT, json.encode(want)))
end
