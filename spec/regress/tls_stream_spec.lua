-- Clients that stop in the middle of what TLS lets them do behind the handshake.
local certs = require("spec.support.certs")
local secure = require("spec.support.secure")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local timed = require("spec.support.timed")

-- Asks for KeyUpdate after KeyUpdate and reads nothing, until the server takes no more or has taken
-- 12 MiB, and says which. Behind a line on standard input it reads all, sends a request, and says
-- what it got.
local KEY_UPDATES = [[
import ctypes, select, socket, sys

ssl, crypto = ctypes.CDLL("libssl.so.3"), ctypes.CDLL("libcrypto.so.3")
pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p

def bind(library, name, result, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function

method = bind(ssl, "TLS_client_method", pointer)
mem = bind(crypto, "BIO_s_mem", pointer)
new_bio = bind(crypto, "BIO_new", pointer, pointer)
bio_read = bind(crypto, "BIO_read", number, pointer, pointer, number)
bio_write = bind(crypto, "BIO_write", number, pointer, text, number)
new_context = bind(ssl, "SSL_CTX_new", pointer, pointer)
new_ssl = bind(ssl, "SSL_new", pointer, pointer)
set_bio = bind(ssl, "SSL_set_bio", None, pointer, pointer, pointer)
connect = bind(ssl, "SSL_connect", number, pointer)
key_update = bind(ssl, "SSL_key_update", number, pointer, number)
handshake = bind(ssl, "SSL_do_handshake", number, pointer)
read = bind(ssl, "SSL_read", number, pointer, pointer, number)
write = bind(ssl, "SSL_write", number, pointer, text, number)

tcp = socket.socket()
tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
tcp.connect(("127.0.0.1", int(sys.argv[1])))
room = ctypes.create_string_buffer(65536)
incoming, outgoing = new_bio(mem()), new_bio(mem())
session = new_ssl(new_context(method()))
set_bio(session, incoming, outgoing)

def made():
    parts = []
    while (got := bio_read(outgoing, room, len(room))) > 0:
        parts.append(room.raw[:got])
    return b"".join(parts)

def hear():
    tcp.settimeout(None)
    bytes = tcp.recv(65536)
    bio_write(incoming, bytes, len(bytes))
    return len(bytes) > 0

while connect(session) != 1:
    tcp.sendall(made())
    hear()
tcp.sendall(made())

taken, waiting = 0, b""
while taken < 12 << 20:
    while len(waiting) < 16384:
        assert key_update(session, 1) == 1 and handshake(session) == 1
        waiting += made()
    if not select.select([], [tcp], [], 2)[1]:
        break
    tcp.settimeout(0)
    sent = tcp.send(waiting)
    taken, waiting = taken + sent, waiting[sent:]
print("endless" if taken >= 12 << 20 else "stalled", flush=True)

sys.stdin.readline()
assert write(session, request := b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", len(request)) > 0
waiting += made()
answer = b""
while b"}" not in answer:
    readable, writable, _ = select.select([tcp], [tcp] if waiting else [], [])
    if readable and not hear():
        break
    while (got := read(session, room, len(room))) > 0:
        answer += room.raw[:got]
    if writable:
        tcp.settimeout(0)
        waiting = waiting[tcp.send(waiting):]
print(answer.split(b"\r\n")[0].decode())
]]

-- Passes all bytes on, but of the client no more than so many records of TLS.
local FIRST_RECORDS = [[
import socket, sys, threading

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
near = listener.accept()[0]
far = socket.create_connection(("127.0.0.1", int(sys.argv[1])))

def back():
    while bytes := far.recv(65536):
        near.sendall(bytes)
    near.shutdown(socket.SHUT_WR)

threading.Thread(target=back, daemon=True).start()
source, left = near.makefile("rb"), int(sys.argv[2])
while head := source.read(5):
    record = head + source.read(int.from_bytes(head[3:5], "big"))
    if left > 0:
        far.sendall(record)
    left -= 1
]]

local WRITES_MEANWHILE = [[
local moonquay = require("moonquay")
local app = moonquay.app({ timeouts = { entity_body = 3 } })
app:get("/", function(req)
  moonquay.spawn(function() req.tls:request_certificate() end)
  moonquay.log.info("asks")
  moonquay.sleep(0.2)
  return ("x"):rep(200000)
end)
return app]]

-- A script of Python's that is talked with, line by line.
local Python = {}
Python.__index = Python

function Python.start(path, ...)
  local pid, out, err, input = sys.spawn({ "python3", path, ... }, { env = { LD_PRELOAD = false } })
  assert(pid, out)
  return setmetatable({ pid = pid, out = out, err = err, input = input, text = "" }, Python)
end

function Python:line()
  local until_time = sys.monotonic() + (server.sanitized and 90 or 30)
  while not self.text:find("\n", 1, true) do
    local left = until_time - sys.monotonic()
    local piece = left > 0 and #sys.poll({ self.out }, math.ceil(left * 1000)) > 0
      and sys.read(self.out, 65536, 0)
    assert(piece and piece ~= "", sys.read(self.err, 65536, 0))
    self.text = self.text .. piece
  end
  local line, rest = self.text:match("^([^\n]*)\n(.*)$")
  self.text = rest
  return line
end

function Python:close()
  sys.kill(self.pid, "KILL")
  sys.waitpid(self.pid, 10000)
  for _, name in ipairs({ "out", "err", "input" }) do
    sys.close(self[name])
  end
end

describe("A TLS stream", function()
  local store, python

  setup(function()
    store = certs.new()
    store:make("a", { names = { "a.test" } })
    store:authority("ca")
    store:make("alice", { by = "ca" })
  end)

  teardown(function()
    store:remove()
  end)

  after_each(function()
    timed.stop_all()
    if python then
      python:close()
      python = nil
    end
  end)

  for _, bio in ipairs({ false, "1" }) do
    local way = bio and "OpenSSL's socket" or "our BIO"

    it("takes no more of a client that does not read what it asks for: " .. way, function()
      local s = secure.start({ tls = secure.binding(store.made.a),
        env = { MOONQUAY_TLS_SOCKET_BIO = bio } })
      python = Python.start(store:write("key_updates.py", KEY_UPDATES), tostring(s.port))
      assert.equal("stalled", python:line())
      assert.equal(200, secure.ask(s, { sni = "a.test" }).status)
      sys.write(python.input, "go on\n")
      assert.equal("HTTP/1.1 200 OK", python:line())
      assert.equal(0, s:stop())
    end)

    it("waits when it must read before it can write: " .. way, function()
      local list, logs = timed.words({})
      local s = timed.watch(secure.start({ app = WRITES_MEANWHILE, options = list,
        tls = secure.binding(store.made.a, { client_certificate = "delay",
          client_authorities = store:path("ca.pem") }), env = { MOONQUAY_TLS_SOCKET_BIO = bio } }),
        logs)
      -- Hello, the empty change of ciphers, Finished, the request, and the certificate alone.
      python = Python.start(store:write("first.py", FIRST_RECORDS), tostring(s.port), "5")
      local session = secure.open({ port = tonumber(python:line()) }, { sni = "a.test", "-tls1_3",
        "-enable_pha", "-cert", store.made.alice.cert, "-key", store.made.alice.key })
      session:send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
      timed.assert_told(s, "Timer_SslRenegotiation")
      local stat = assert(io.open(("/proc/%d/stat"):format(s:workers()[1]))):read("a")
      local user, system = stat:match("%) " .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
      assert.is_true(user + system < 50 * (server.sanitized and 3 or 1), "hundredths of a second: "
        .. user + system) -- of the three that it waits
      session:close()
      assert.equal(0, s:stop())
    end)
  end
end)
