"""An attached app that does what no app should: for spec/support/hostile_app.lua, which runs scripts
with all of this in reach, and that of h2_hostile.py. It speaks to the host's control socket
(core/share/control.h), takes its ends of channels, and is its own clients too. What a script has
found out it tells as JSON at the end (tell)."""
import array
import os

from h2_hostile import *  # noqa: F401,F403: scripts use all of it
from h2_hostile import (ACK, END_HEADERS, END_STREAM, HEADERS, PING, PORT, RST_STREAM, SECONDS,
                        SETTINGS, Peer, frame, ids, json, literal, request, reset, select, settings,
                        socket, struct, sys, time)

SECONDS *= 3  # what it waits for comes behind all that it has sent
MAGIC, VERSION, PIECE = 0x4d51, 3, 1
ATTACH, WORKER, ASK, DETACH, REPLY, CHANNEL, COMMAND = range(2, 9)
PREFACE_BYTES, PIECE_BYTES = 24, 32768
PATH = sys.argv[3]
PREFIX = "http://localhost:%d/evil/" % PORT


def texts(pairs):
    return b"".join(key.encode() + b"\0" + str(value).encode() + b"\0" for key, value in pairs)


def message(kind, value=0, text=b"", version=VERSION):
    return struct.pack("<HHII", MAGIC, version, kind, value) + text


class Control:
    """One connection to the control socket."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(PATH) # which waits, unlike one with a time-out
        self.socket.settimeout(SECONDS)
        self.channels = []

    def send(self, datagram, fds=()):
        """False when the host has ended the connection."""
        try:
            parts = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            self.socket.sendmsg([datagram], parts)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def say(self, kind, value=0, pairs=()):
        text = texts(pairs)
        while len(text) > PIECE_BYTES:
            self.send(message(PIECE, value, text[:PIECE_BYTES]))
            text = text[PIECE_BYTES:]
        return self.send(message(kind, value, text))

    def hear(self):
        """The next message, (kind, value, {key: value}, [socket]); None at the end."""
        room = socket.CMSG_SPACE(4 * array.array("i").itemsize)
        text = b""
        while True:
            try:
                got, parts, _, _ = self.socket.recvmsg(40000, room)
            except ConnectionResetError:
                return None
            if not got:
                return None
            _, _, kind, value = struct.unpack("<HHII", got[:12])
            text += got[12:]
            if kind != PIECE:
                break
        fds = array.array("i")
        for _, _, data in parts:
            fds.frombytes(data)
        words = text.split(b"\0")
        pairs = dict(zip((word.decode() for word in words[0:-1:2]),
                         (word.decode() for word in words[1::2])))
        return kind, value, pairs, [socket.socket(fileno=fd) for fd in fds]

    def reply(self):
        """The next answer; channels that come before it are kept."""
        while True:
            got = self.hear()
            if got is None or got[0] == REPLY:
                return got and got[2]
            self.channels += got[3]

    def attach(self, *prefixes, name="evil", **sets):
        """Asks for these prefixes (/evil/); the answer's pairs."""
        pairs = [("version", 1), ("0:name", name)]
        pairs += [("0:set:" + key, value) for key, value in sets.items()]
        pairs += [("0:+", prefix) for prefix in prefixes or [PREFIX]]
        self.say(ATTACH, 1, pairs)
        return self.reply()

    def serve(self, worker=0):
        return self.say(WORKER, worker, [("serves", 1)])

    def channel(self):
        """The next channel, as it comes; None at the end."""
        while not self.channels:
            got = self.hear()
            if got is None:
                return None
            self.channels += got[3]
        return self.channels.pop(0)

    def links(self, count=2, **options):
        """So many channels, on which SETTINGS are sent."""
        return [Link(self.channel(), **options) for _ in range(count)]

    def ended(self):
        """Reads until the host ends the connection."""
        while self.hear() is not None:
            pass
        return True


class Link:
    """The app's end of a channel."""

    def __init__(self, end, first=()):
        self.socket = end
        self.socket.settimeout(SECONDS)
        self.buffer, self.skip, self.ended = b"", PREFACE_BYTES, False
        self.asked, self.resets, self.acks = [], [], 0
        self.send(settings(*first))

    def send(self, *pieces):
        """False when the host has ended the link."""
        try:
            self.socket.sendall(b"".join(pieces))
        except (BrokenPipeError, ConnectionResetError):
            self.ended = True
        return not self.ended

    def send_some(self, piece):
        """What the host takes at once; 0 when it takes nothing for a while, None at the end."""
        if not select.select([], [self.socket], [], 0.2)[1]:
            return 0
        try:
            return self.socket.send(piece, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.ended = True
            return None

    def read(self):
        try:
            got = self.socket.recv(262144)
        except ConnectionResetError:
            got = b""
        if not got:
            self.ended = True
            return
        self.buffer += got
        cut = min(self.skip, len(self.buffer))
        self.skip, self.buffer = self.skip - cut, self.buffer[cut:]
        while not self.skip and len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self.buffer[3:9])
            if kind == HEADERS:
                self.asked.append(stream)
            elif kind == RST_STREAM:
                self.resets.append(stream)
            elif kind in (SETTINGS, PING) and flags & ACK:
                self.acks += 1
            self.buffer = self.buffer[9 + length:]

    def poll(self):
        """Reads what is here already."""
        while not self.ended and select.select([self.socket], [], [], 0)[0]:
            self.read()

    def rest(self):
        """Reads until the host ends the link."""
        while not self.ended:
            self.read()


def until(links, done, clients=()):
    """Reads what comes on these links until done(), which may depend on answers to clients."""
    limit = time.monotonic() + SECONDS
    while not done():
        open_ones = {link.socket: link for link in links if not link.ended}
        waiting = [client for client in clients if not is_readable(client)]
        if clients and not waiting:
            continue
        ready = select.select(list(open_ones) + waiting, [], [],
                              max(0, limit - time.monotonic()))[0]
        if not ready:
            raise TimeoutError("in vain awaited; requests so far: "
                               + str([len(link.asked) for link in links]))
        for end in ready:
            if end in open_ones:
                open_ones[end].read()


def head(stream, status=200, more=(), end=False):
    block = literal(b":status", str(status).encode()) + b"".join(literal(*line) for line in more)
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block)


def ask(path="/evil/", content=b""):
    """A client that has sent a request."""
    client = socket.create_connection(("127.0.0.1", PORT), SECONDS)
    method = "POST" if content else "GET"
    client.sendall(("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                    % (method, path, len(content))).encode())
    client.setblocking(False)
    try:
        client.send(content)
    except BlockingIOError:
        pass
    client.settimeout(SECONDS)
    return client


def leave(client):
    """Breaks its connection: one that only ended its side might still want the answer."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def drain(client):
    """Takes what has come for it."""
    try:
        while select.select([client], [], [], 0)[0] and client.recv(65536):
            pass
    except ConnectionResetError:
        pass


def answered(client):
    """The status of its final answer; 0: the connection has ended without one."""
    got = b""
    while b"\r\n\r\n" not in got:
        try:
            piece = client.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return 0
        got += piece
    return int(got[9:12])


def cancel_by_h1(path, begun):
    """5,000 requests of clients that leave; begun() waits until the last 100 have begun."""
    for _ in range(50):
        clients = [ask(path) for _ in range(100)]
        begun()
        for client in clients:
            leave(client)


def cancel_by_h2(path, begun):
    """Likewise, with RST_STREAM, 100 of a connection."""
    for _ in range(50):
        peer = Peer()
        peer.send(*[request(stream, path) for stream in ids(100)])
        begun()
        peer.send(*[reset(stream) for stream in ids(100)])
        peer.settle()
        leave(peer.socket)


def is_readable(client):
    return bool(select.select([client], [], [], 0)[0])


def well_behaved(links, client):
    """Answers all that is asked on these links until this client has its answer; the status."""
    limit = time.monotonic() + SECONDS
    while not is_readable(client):
        if time.monotonic() > limit:
            raise TimeoutError("no answer")
        select.select([client] + [link.socket for link in links if not link.ended], [], [], 1)
        for link in links:
            link.poll()
            while link.asked and not link.ended:
                link.send(head(link.asked.pop(), end=True))
    return answered(client)


def devices():
    """Descriptors of what is no regular file: a pipe, a device, a truncated file, a directory."""
    ends = os.pipe()
    file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR)
    os.ftruncate(file, 1 << 30)
    os.ftruncate(file, 0)
    return [*ends, os.open("/dev/zero", os.O_RDONLY), file, os.open("/", os.O_RDONLY)]


def tell(**found):
    json.dump(found, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
