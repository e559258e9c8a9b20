"""A client of HTTP/2 that does what no client should: for spec/support/hostile.lua, which runs
scripts with all of this in reach. What is sent is made by hand; what the server says is read by
hyperframe and hpack, and told as JSON at the end (report)."""
import json
import os
import select
import socket
import ssl
import struct
import sys
import time
from collections import Counter

from h2.errors import ErrorCodes
from hpack import Decoder
from hyperframe.frame import Frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, \
    CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
CANCEL = struct.pack(">I", ErrorCodes.CANCEL)
SECONDS = 15


def frame(kind, flags=0, stream=0, payload=b""):
    """Any frame, also one that must not be."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def u32(*numbers):
    return b"".join(struct.pack(">I", number) for number in numbers)


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def literal(name, value, first=0x00):
    """A line whose strings are plain (RFC 7541 section 6.2); 0x40 puts it into the table."""
    def text(part):
        out, left = bytearray(), len(part)
        if left < 127:
            return bytes([left]) + part
        out.append(127)
        left -= 127
        while left >= 128:
            out.append(left % 128 | 128)
            left //= 128
        out.append(left)
        return bytes(out) + part
    return bytes([first]) + text(name) + text(value)


def fields(path="/quick", method="GET", more=(), drop=()):
    """A field section that depends on no table, pseudo-fields first."""
    lines = [(b":method", method), (b":scheme", SCHEME), (b":path", path),
             (b":authority", "localhost")]
    lines = [line for line in lines if line[0].decode() not in drop] + list(more)
    return b"".join(literal(*(part if isinstance(part, bytes) else part.encode() for part in line))
                    for line in lines)


def request(stream, path="/quick", method="GET", more=(), end=True, **options):
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, fields(path, method, more, **options))


def post(stream, path="/hold", more=()):
    """A request whose content is to come."""
    return request(stream, path, "POST", more, end=False)


def data(stream, payload=b"", end=False):
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def reset(stream):
    return frame(RST_STREAM, 0, stream, CANCEL)


def window_update(stream, bytes_):
    return frame(WINDOW_UPDATE, 0, stream, u32(bytes_))


def ids(count, first=1):
    return range(first, first + 2 * count, 2)


class Peer:
    """One connection. reads: what comes is read while something is sent, so that nobody waits."""

    def __init__(self, preface=True, first=(), reads=True, receive_buffer=None):
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.connect(("127.0.0.1", PORT))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = raw.getsockname()[1]
        self.socket = wrap(raw) if TLS else raw
        self.socket.settimeout(SECONDS)
        self.decoder = Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.buffer, self.block, self.ended = b"", b"", None
        self.goaways, self.resets, self.statuses = [], Counter(), Counter()
        self.frames, self.finished, self.reset_codes = Counter(), set(), {}
        self.bodies, self.acks = Counter(), 0
        self.reads = reads
        if preface:
            self.send(PREFACE + settings(*first))

    # ---- what is sent

    def send(self, *pieces):
        """All of it, or as much as the server takes before it ends the connection."""
        left = memoryview(b"".join(pieces))
        until = time.monotonic() + SECONDS
        self.socket.setblocking(False)
        while len(left) and not self.ended:
            if time.monotonic() > until:
                raise TimeoutError("the server takes nothing")
            try:
                left = left[self.socket.send(left[:65536]):]
                continue
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                pass
            except OSError as error:
                self.take_rest(error)
                break
            ready = [self.socket] if self.reads else []
            readable, _, _ = select.select(ready, [self.socket], [], SECONDS)
            if readable:
                self.read()
        self.socket.setblocking(True)
        self.socket.settimeout(SECONDS)
        return not self.ended

    def each(self, pieces):
        """One write a piece, until the server has ended the connection."""
        for piece in pieces:
            if not self.send(piece):
                break
            self.poll()

    def provoke(self, make, first=1):
        """What make gives for a stream, 5000 times: each stream ends before the next begins."""
        for stream in ids(5000, first):
            if not self.send(make(stream)):
                break
            self.answers(stream)

    def slowly(self, pieces, size=1):
        whole = b"".join(pieces)
        self.each(whole[i:i + size] for i in range(0, len(whole), size))

    def half_close(self):
        """Ends our side of TCP, without a word of TLS."""
        raw = socket.socket(fileno=os.dup(self.socket.fileno()))
        raw.shutdown(socket.SHUT_WR)
        raw.close()

    # ---- what comes

    def take_rest(self, error):
        """The server has gone; what it had said before may still be here."""
        while not self.ended:
            if not self.read():
                break
        if not self.ended:
            self.ended = "reset" if isinstance(error, ConnectionError) else str(error)

    def read(self):
        """Reads once. False: nothing more comes."""
        try:
            got = self.socket.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except (ConnectionError, BrokenPipeError):
            self.ended = "reset"
            return False
        if not got:
            self.ended = "closed"
            return False
        self.buffer += got
        self.parse()
        return True

    def poll(self):
        """What is here already."""
        while not self.ended and select.select([self.socket], [], [], 0)[0]:
            self.read()

    def parse(self):
        while len(self.buffer) >= 9:
            head, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                return
            payload = self.buffer[9:9 + length]
            head.parse_body(memoryview(payload))
            self.note(head, self.buffer[3], payload)
            self.buffer = self.buffer[9 + length:]

    def note(self, got, kind, payload):
        stream, flags = got.stream_id, got.flags
        self.frames[kind] += 1
        if kind in (HEADERS, CONTINUATION):
            self.block = payload if kind == HEADERS else self.block + payload
            if "END_HEADERS" in flags:
                for name, value in self.decoder.decode(self.block):
                    if name == ":status":
                        self.statuses[value] += 1
        elif kind == DATA:
            self.bodies[stream] += len(got.data)
        elif kind == RST_STREAM:
            code = ErrorCodes(got.error_code).name
            self.resets[code] += 1
            self.reset_codes[stream] = code
            self.finished.add(stream)
        elif kind == GOAWAY:
            self.goaways.append(ErrorCodes(got.error_code).name)
        elif kind in (SETTINGS, PING) and "ACK" in flags:
            self.acks += 1
        if "END_STREAM" in flags:
            self.finished.add(stream)

    def until(self, done):
        """Reads until done() or the end of the connection."""
        limit = time.monotonic() + SECONDS
        while not self.ended and not done():
            if not select.select([self.socket], [], [], max(0, limit - time.monotonic()))[0]:
                raise TimeoutError("in vain awaited; so far " + json.dumps(self.told()))
            self.read()
        return self

    def rest(self):
        """Reads until the server ends the connection."""
        return self.until(lambda: False)

    def settle(self):
        """Until the server has taken all that was sent: two answers to PING."""
        for _ in range(2):
            have = self.acks
            self.send(frame(PING, 0, 0, b"settled?"))
            self.until(lambda: self.acks > have)
        return self

    def answers(self, *streams):
        """Until these streams have ended."""
        return self.until(lambda: all(stream in self.finished for stream in streams))

    def told(self):
        return {"port": self.port, "ended": self.ended or "open", "goaways": self.goaways,
                "resets": dict(self.resets), "statuses": dict(self.statuses),
                "frames": {str(kind): count for kind, count in self.frames.items()},
                "codes": {str(stream): code for stream, code in self.reset_codes.items()},
                "content": sum(self.bodies.values())}


def wrap(raw):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    wrapped = context.wrap_socket(raw, server_hostname="localhost")
    assert wrapped.selected_alpn_protocol() == "h2"
    return wrapped


def report(peer, **more):
    json.dump({**peer.told(), **more}, sys.stdout)


PORT, TLS = int(sys.argv[1]), sys.argv[2] == "tls"
SCHEME = "https" if TLS else "http"
