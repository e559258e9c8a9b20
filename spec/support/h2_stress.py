"""Random clients of HTTP/2, most of what they do allowed and some of it not, for
spec/wire/h2_stress_spec.lua: h2_stress.py PORT TLS_PORT SEED STEPS. The app is stress_app.lua. What
goes out goes in slices of any length, also through records of TLS. At its end it prints how many
answers came, how many came to the clients among them that keep the rules, and how many these were
promised and did not get."""
import random
import select
import socket
import ssl
import struct
import sys
import time

from hpack import Encoder

from h2_hostile import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY,
                        HEADERS, PADDED, PING, PREFACE, PRIORITY, PRIORITY_UPDATE, RST_STREAM,
                        SETTINGS, WINDOW_UPDATE, frame, settings, u32)

PLAIN_PORT, TLS_PORT, SEED, STEPS = (int(word) for word in sys.argv[1:5])
CONNECTIONS = 30
DEADLINE = 30
LETTERS = "swfFracejhltignCAkbpPqdxmTKU" + "swrapPqd" + "RBZVwwrr"
RARE = "ENSM"

pick = random.choice


def chance(part):
    return random.random() < part


def some_path():
    steps = []
    for _ in range(random.randint(0, 6)):
        letters = RARE if chance(1 / 40) else LETTERS
        steps.append(pick(letters) + str(random.randint(0, 9)))
    return "/%s/%d" % ("".join(steps), random.randint(0, 9))


class Wire:
    """The bytes between us and the server, over TLS or not; nothing here waits."""

    def __init__(self, tls, protocols=("h2",)):
        self.socket = socket.socket()
        self.socket.connect(("127.0.0.1", TLS_PORT if tls else PLAIN_PORT))
        self.socket.setblocking(False)
        self.ended = False
        self.sealed = b""
        self.tls = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(protocols)
            if chance(0.3):
                context.maximum_version = ssl.TLSVersion.TLSv1_2
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
            self.plain = b""
            self.shaken = False

    def put(self, data):
        if self.tls:
            self.plain += data
        else:
            self.sealed += data

    def seal(self):
        if not self.tls or self.ended:
            return
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while self.plain:
                size = random.randint(1, len(self.plain))
                self.tls.write(self.plain[:size])
                self.plain = self.plain[size:]
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = True
        self.sealed += self.outgoing.read()

    def left(self):
        return len(self.sealed) + (len(self.plain) if self.tls else 0)

    def push(self, all_of_it=False):
        """Some of what was put."""
        self.seal()
        size = len(self.sealed)
        if not all_of_it and chance(0.6):
            size = random.randint(0, size)
        try:
            sent = self.socket.send(self.sealed[:size]) if size else 0
            self.sealed = self.sealed[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True

    def pull(self, most):
        """Plain bytes that have come, perhaps none; None at the end."""
        if self.ended:
            return None
        try:
            got = self.socket.recv(most)
        except BlockingIOError:
            return b""
        except OSError:
            got = b""
        if not got:
            self.ended = True
            return None
        if not self.tls:
            return got
        self.incoming.write(got)
        self.seal()
        plain = b""
        try:
            while self.shaken:
                piece = self.tls.read(65536)
                if not piece:
                    break
                plain += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = True
        return plain

    def close(self, reset):
        try:
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
        except OSError:
            pass
        self.ended = True


class Frames:
    """Frames out of bytes."""

    def __init__(self):
        self.buffer = b""

    def take(self, data):
        self.buffer += data
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
            payload = self.buffer[9:9 + length]
            self.buffer = self.buffer[9 + length:]
            yield kind, flags, stream, payload


def follow(encoder, payload):
    """The server says how large HPACK's table may be."""
    for at in range(0, len(payload), 6):
        name, value = struct.unpack(">HI", payload[at:at + 6])
        if name == 1:
            encoder.header_table_size = min(value, 4096)


class Wild:
    """A client that does anything."""

    def __init__(self):
        self.tls = chance(0.5)
        self.wire = Wire(self.tls, ("h2",) if chance(0.95) else ("http/1.1",))
        self.encoder = Encoder()
        self.frames = Frames()
        self.next, self.open, self.answers = 1, [], 0
        self.reads = chance(0.85)
        self.acks = chance(0.9)
        how = random.random()
        if how < 0.05 and not self.tls:
            self.wire.put(b"GET %s HTTP/1.1\r\nHost: localhost\r\n"
                          b"Connection: Upgrade, HTTP2-Settings\r\n"
                          b"Upgrade: h2c\r\nHTTP2-Settings: AAQAAP__\r\n\r\n"
                          % some_path().encode())
            self.next = 3
        elif how < 0.07:
            self.wire.put(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % some_path().encode())
        elif how < 0.09:
            self.wire.put(random.randbytes(random.randint(1, 99)))
        self.wire.put(PREFACE)
        self.wire.put(settings(*self.some_settings()))

    def some_settings(self):
        values = [(1, pick([0, 100, 4096, 65536])), (2, pick([0, 1])), (3, pick([0, 100])),
                  (4, pick([0, 1, 1000, 65535, 1 << 20, 0x7fffffff])),
                  (5, pick([16384, 20000, 0xffffff])), (6, pick([100, 65536])), (9, 1)]
        return random.sample(values, random.randint(0, 3))

    def put(self, *parts):
        for part in parts:
            self.wire.put(part)

    def padded(self, kind, flags, stream, payload):
        if chance(0.1):
            pad = random.randint(0, 40)
            return frame(kind, flags | PADDED, stream, bytes([pad]) + payload + bytes(pad))
        return frame(kind, flags, stream, payload)

    def request(self):
        stream, self.next = self.next, self.next + 2
        method = pick(["GET", "POST", "PUT", "HEAD", "POST"])
        content = random.randint(0, pick([50, 50, 40000])) if chance(0.6) else None
        lines = [(":method", method), (":scheme", "https" if self.tls else "http"),
                 (":path", some_path()), (":authority", "localhost")]
        if content is not None and chance(0.6):
            said = content if chance(0.9) else random.randint(0, 100)
            lines.append(("content-length", str(said)))
        if chance(0.1):
            lines.append(("expect", "100-continue"))
        for _ in range(pick([0, 0, 0, 1, 5, 30])):
            lines.append(("x-%d" % random.randint(0, 9), "v" * random.randint(0, 200)))
        if chance(0.2):
            lines.append(("priority", pick(["u=0", "u=7, i", "i", "nonsense"])))
        if chance(0.05):
            lines.append(pick([("Upper", "x"), ("connection", "close"), (":path", "/"),
                               ("te", "gzip"), ("x", "a\r\nb"), ("host", "other"), (":none", "x")]))
        if chance(0.02):
            lines.append(("x-long", "l" * random.randint(10000, 60000)))
        block = self.encoder.encode(lines)
        flags = END_STREAM if content is None else 0
        self.head(stream, block, flags)
        if content is not None:
            self.open.append([stream, content])

    def head(self, stream, block, flags):
        pieces = [block]
        if chance(0.2) or len(block) > 16000:
            cuts = sorted(random.randint(0, len(block)) for _ in range(random.randint(1, 4)))
            pieces = [block[i:j] for i, j in zip([0] + cuts, cuts + [len(block)])]
        first = pieces.pop(0)
        last = 0 if pieces else END_HEADERS
        if chance(0.1):
            self.put(frame(HEADERS, flags | last | HAS_PRIORITY, stream,
                           u32(random.randint(0, 9) * 2) + b"\x10" + first))
        else:
            self.put(self.padded(HEADERS, flags | last, stream, first))
        for i, piece in enumerate(pieces):
            self.put(frame(CONTINUATION, END_HEADERS if i == len(pieces) - 1 else 0, stream, piece))

    def content(self):
        if not self.open:
            return
        one = pick(self.open)
        stream, left = one
        size = min(left, random.randint(0, 16000))
        one[1] = left - size
        if left - size > 0:
            self.put(self.padded(DATA, 0, stream, b"c" * size))
            return
        self.open.remove(one)
        if chance(0.2):
            self.put(self.padded(DATA, 0, stream, b"c" * size))
            self.head(stream, self.encoder.encode([("x-sum", "1")] * random.randint(1, 3)),
                      END_STREAM if chance(0.95) else 0)
        else:
            self.put(self.padded(DATA, END_STREAM, stream, b"c" * size))

    def some_stream(self):
        return pick([max(1, self.next - 2 * random.randint(1, 8)), self.next, 1])

    def other(self):
        stream = self.some_stream()
        self.put(pick([
            lambda: frame(RST_STREAM, 0, max(1, self.next - 2 * random.randint(1, 9)) | 1,
                          u32(pick([0, 1, 8, 0xffffffff]))),
            lambda: frame(WINDOW_UPDATE, 0, 0, u32(pick([1, 1000, 1 << 20]))),
            lambda: frame(WINDOW_UPDATE, 0, 0, u32(pick([1, 1000, 1 << 20]))),
            lambda: frame(WINDOW_UPDATE, 0, max(1, self.next - 2), u32(pick([1, 1000, 1 << 16]))),
            lambda: settings(*self.some_settings()),
            lambda: frame(PING, 0, 0, random.randbytes(8)),
            lambda: frame(PRIORITY, 0, stream, u32(0) + b"\x01"),
            lambda: frame(PRIORITY_UPDATE, 0, 0, u32(stream | 1) + b"u=%d" % random.randint(0, 9)),
            lambda: frame(0x50 + random.randint(0, 50), random.randint(0, 255), stream, b"abc"),
        ])())

    def wrong(self):
        kind = random.randint(0, 0x11)
        self.put(pick([
            lambda: frame(kind, random.randint(0, 255), self.some_stream(),
                          random.randbytes(random.randint(0, 30))),
            lambda: random.randbytes(random.randint(1, 200)),
            lambda: frame(GOAWAY, 0, 0, u32(0, pick([0, 1, 11]))),
            lambda: frame(DATA, 0, self.some_stream(), bytes(16384)) * 5,
            lambda: frame(WINDOW_UPDATE, 0, self.some_stream(), u32(0x7fffffff)),
            lambda: frame(RST_STREAM, 0, self.next + 20, u32(8)),
        ])())

    def step(self):
        """False: it is over."""
        what = random.random()
        if what < 0.45:
            if self.wire.left() < 200000:
                pick([self.request, self.request, self.content, self.content, self.content,
                      self.other])()
            self.wire.push()
        elif what < 0.55:
            self.wire.push()
        elif what < 0.97:
            if self.reads:
                self.read()
        elif what < 0.976:
            self.wrong()
        elif what < 0.98:
            try:
                self.wire.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        elif what < 0.983:
            self.reads = not self.reads
        elif what < 0.993:
            self.wire.close(chance(0.5))
        return not self.wire.ended

    def read(self):
        data = self.wire.pull(random.randint(1, pick([100, 20000, 65536])))
        if data is None:
            return
        for kind, flags, _, payload in self.frames.take(data):
            if kind == SETTINGS and not flags & ACK and self.acks:
                follow(self.encoder, payload)
                self.put(frame(SETTINGS, ACK))
            elif kind == PING and not flags & ACK and self.acks:
                self.put(frame(PING, ACK, 0, payload))
            elif kind == HEADERS:
                self.answers += 1
            elif kind == DATA and payload and chance(0.7):
                self.put(frame(WINDOW_UPDATE, 0, 0, u32(len(payload))))


class Good:
    """A client that keeps all rules, asks for /ok, and counts what it does not get."""

    def __init__(self, tls):
        self.wire, self.tls = Wire(tls), tls
        self.frames, self.encoder = Frames(), Encoder()
        self.next, self.waiting, self.got, self.lost, self.leaving = 1, set(), 0, 0, False
        self.wire.put(PREFACE + settings() + frame(WINDOW_UPDATE, 0, 0, u32(1 << 30)))

    def step(self):
        if len(self.waiting) < 5 and not self.leaving:
            stream, self.next = self.next, self.next + 2
            self.waiting.add(stream)
            self.wire.put(frame(HEADERS, END_HEADERS | END_STREAM, stream, self.encoder.encode(
                [(":method", "GET"), (":scheme", "https" if self.tls else "http"), (":path", "/ok"),
                 (":authority", "localhost")])))
        self.wire.push(all_of_it=True)  # what lies here may run into a time limit
        data = self.wire.pull(65536)
        for kind, flags, stream, payload in self.frames.take(data or b""):
            if kind in (SETTINGS, PING) and not flags & ACK:
                if kind == SETTINGS:
                    follow(self.encoder, payload)
                self.wire.put(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == GOAWAY:
                self.leaving = True
                last = int.from_bytes(payload[:4], "big") & 0x7fffffff
                self.waiting = {one for one in self.waiting if one <= last}
            elif kind == RST_STREAM and stream in self.waiting:
                # A stop may refuse what it has not begun with.
                self.lost += payload != u32(7)
                self.waiting.discard(stream)
            elif kind in (HEADERS, DATA) and flags & END_STREAM and stream in self.waiting:
                self.got += 1
                self.waiting.discard(stream)
        if self.wire.ended:
            self.lost += len(self.waiting)
            self.waiting = set()
            return False
        return True


def main():
    random.seed(SEED)
    wild = [None] * CONNECTIONS
    good = [Good(False), Good(True)]
    answers = got = lost = 0
    for step in range(STEPS):
        index = random.randrange(CONNECTIONS)
        one = wild[index]
        try:
            if one is None:
                wild[index] = Wild()
            elif not one.step():
                answers += one.answers
                one.wire.close(chance(0.5))
                wild[index] = None
            if step % 20 == 0:
                for i, client in enumerate(good):
                    if client and not client.step():
                        got, lost = got + client.got, lost + client.lost
                        good[i] = Good(client.tls)
        except ConnectionRefusedError:  # the server has stopped
            break
    until = time.monotonic() + DEADLINE
    for client in good:
        client.leaving = True
        while client.waiting and time.monotonic() < until:
            select.select([client.wire.socket], [], [], 0.01)
            if not client.step():
                break
        got, lost = got + client.got, lost + client.lost + len(client.waiting)
    for one in wild:
        if one:
            answers += one.answers
            one.wire.close(chance(0.5))
    print(answers, got, lost)


main()
