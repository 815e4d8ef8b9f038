"""What all attacks hold in their hands: a target, connections that know when they were given up, and a tally."""

# Every handshake needs it, and threads that import it all at once disturb each other.
import encodings.idna
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

import http2

# The bystander comes from 127.0.0.1. The attackers have an address of their own, so that a limit per address can part
# the one from the others.
ATTACKERS_ADDRESS = "127.0.0.2"
CONNECT_WITHIN = 3.0
# So that a target that turns everybody away is not asked in a busy loop.
PAUSE_AFTER_A_REFUSED_CONNECTION = 0.02
READ_AT_ONCE = 65536
GIVEN_UP = select.POLLRDHUP | select.POLLHUP | select.POLLERR


@dataclass(frozen=True)
class Target:
    """Where to attack, and as whom: a Worker with a good certificate who wants no good."""

    address: tuple
    host: str
    certificate: str
    key: str
    bad_tokens: tuple = ()


@dataclass
class Life:
    """One connection of an attacker, as seen from his side."""

    opened: float
    closed: float = None
    farewell: str = ""


@dataclass
class Tally:
    """What an attack did and what became of its connections."""

    blows: int = 0
    refused: int = 0
    lives: list = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def strike(self, blows):
        with self._lock:
            self.blows += blows

    def refuse(self):
        with self._lock:
            self.refused += 1

    def begin(self):
        life = Life(opened=time.monotonic())
        with self._lock:
            self.lives.append(life)
        return life

    def note(self, name, value):
        with self._lock:
            self.notes[name] = value

    def plain(self):
        """Itself without what cannot travel between processes."""
        lives = [(life.opened, life.closed, life.farewell) for life in self.lives]
        return {"blows": self.blows, "refused": self.refused, "lives": lives, "notes": self.notes}


def tls_context(target, protocol, with_certificate=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Attackers do not check whom they attack; it would only cost time.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    if with_certificate:
        context.load_cert_chain(target.certificate, target.key)
    return context


def connect_tcp(target):
    raw = socket.socket()
    raw.settimeout(CONNECT_WITHIN)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        raw.bind((ATTACKERS_ADDRESS, 0))
        raw.connect(target.address)
    except OSError:
        raw.close()
        raise
    return raw


def close_with_reset(raw):
    """Leaves nothing in TIME_WAIT, so that a flood of short connections does not run out of ports."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.close()


class Connection:
    """A TLS connection that never blocks longer than it is told to."""

    # Only HTTP/2 has them.
    streams_ended = 0

    def __init__(self, target, context, tally):
        raw = connect_tcp(target)
        try:
            self.socket = context.wrap_socket(raw, server_hostname=target.host)
        except OSError:
            raw.close()
            raise
        self.socket.setblocking(False)
        self.life = tally.begin()
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLRDHUP)

    @property
    def is_open(self):
        return self.life.closed is None

    def look(self):
        """Notices, without reading, that the other side has closed."""
        if self.is_open and any(events & GIVEN_UP for _, events in self._poll.poll(0)):
            self.ended("closed")
        return self.is_open

    def ended(self, farewell):
        if self.is_open:
            self.life.closed = time.monotonic()
            self.life.farewell = self.life.farewell or farewell

    def send(self, data, until, read_meanwhile=True):
        """Sends everything, or says False: the connection is closed or the time is over.

        Whoever does not read while he sends makes the other side's answers queue up there.
        """
        while self.is_open and time.monotonic() < until:
            try:
                self.socket.send(data)
                return self.look()
            except ssl.SSLWantWriteError:
                self._wait_until_writable(read_meanwhile)
            except ssl.SSLWantReadError:
                self.read()
            except OSError as fault:
                self.ended(type(fault).__name__)
        return False

    def _wait_until_writable(self, read_meanwhile):
        if read_meanwhile:
            self.read()
        select.select([], [self.socket], [], 0.02)
        self.look()

    def read(self):
        """Takes what has arrived, if anything has."""
        pieces = []
        while self.is_open:
            try:
                piece = self.socket.recv(READ_AT_ONCE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as fault:
                self.ended(type(fault).__name__)
                break
            if not piece:
                self.ended("closed")
            pieces.append(piece)
        self.arrived(b"".join(pieces))

    def arrived(self, data):
        """Keeps the answer's first line, which tells why it ends. A subclass may understand more."""
        if data:
            self.life.farewell = data.partition(b"\r\n")[0].decode("latin-1")

    def wait_readable(self, seconds):
        select.select([self.socket], [], [], max(0.0, seconds))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Http2(Connection):
    """A connection that has said hello in HTTP/2 and has been told the other side's settings."""

    def __init__(self, target, tally, settings=(), context=None):
        super().__init__(target, context or tls_context(target, "h2"), tally)
        self._reader = http2.FrameReader()
        self._next_stream = 1
        self.their_settings = None
        self._greet(settings)

    def _greet(self, settings):
        until = time.monotonic() + CONNECT_WITHIN
        # The connection's window is opened wide, so that answers to a flood do not dry up. Streams keep their own.
        widened = http2.window_update(0, http2.WINDOW_MAX - http2.WINDOW_INITIAL)
        self.send(http2.PREFACE + http2.settings(settings) + widened, until)
        while self.their_settings is None and self.is_open and time.monotonic() < until:
            self.wait_readable(0.1)
            self.read()
        self.send(http2.settings_ack(), until)

    def setting(self, key, otherwise):
        return (self.their_settings or {}).get(key, otherwise)

    def new_stream(self):
        stream = self._next_stream
        self._next_stream += 2
        return stream

    def arrived(self, data):
        for kind, flags, _, payload in self._reader.feed(data):
            if kind == http2.SETTINGS and not flags & http2.ACK:
                self.their_settings = http2.parse_settings(payload)
            elif kind == http2.GOAWAY:
                self.life.farewell = f"GOAWAY {int.from_bytes(payload[4:8], 'big')}"
            elif kind == http2.RST_STREAM or kind in (http2.HEADERS, http2.DATA) and flags & http2.END_STREAM:
                self.streams_ended += 1


def in_parallel(workers, work):
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def again_and_again(open_connection, strike, until, tally):
    """Strikes over one connection after the other, since an attacker who is thrown out comes back."""
    while time.monotonic() < until:
        try:
            connection = open_connection()
        except OSError:
            tally.refuse()
            time.sleep(PAUSE_AFTER_A_REFUSED_CONNECTION)
            continue
        with connection:
            strike(connection)
