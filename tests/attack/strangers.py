"""Those who are not let in and keep coming: bad tokens, bad handshakes, too many connections."""

import itertools
import time

import http2
import wire
from wire import Connection, Http2, Tally

TOKEN_CONNECTIONS = 4
TOKENS_IN_FLIGHT = 32
HANDSHAKE_WORKERS = 4
CROWD_MAX = 1500
ANSWER_WITHIN = 2.0


def bad_tokens(target, until):
    """A good certificate, and tokens that are garbage or signed wrongly: how dear is each no?"""
    tally = Tally()
    context = wire.tls_context(target, "h2")
    tokens = itertools.cycle(target.bad_tokens)

    def send_round(connection):
        expected = connection.streams_ended + TOKENS_IN_FLIGHT
        connection.send(b"".join(one_request(connection) for _ in range(TOKENS_IN_FLIGHT)), until)
        while connection.is_open and connection.streams_ended < expected and time.monotonic() < until:
            connection.wait_readable(0.1)
            connection.read()
        tally.strike(TOKENS_IN_FLIGHT)

    def one_request(connection):
        fields = [("edge-identity", next(tokens))]
        return http2.headers(connection.new_stream(), http2.request_block("GET", target.host, "/orders/7", fields))

    def strike(connection):
        while connection.is_open and time.monotonic() < until:
            send_round(connection)

    def attacker(_):
        wire.again_and_again(lambda: Http2(target, tally, context=context), strike, until, tally)

    wire.in_parallel(TOKEN_CONNECTIONS, attacker)
    return tally


def bad_handshakes(target, until):
    """Garbage, plain HTTP, and a client without a certificate, in turn and each over a connection of its own."""
    tally = Tally()
    without_certificate = wire.tls_context(target, "http/1.1", with_certificate=False)
    garbage_hello = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(range(197))
    plain_http = f"GET /status HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode()
    kinds = [
        lambda: say_and_leave(target, garbage_hello),
        lambda: say_and_leave(target, plain_http),
        lambda: ask_without_certificate(target, without_certificate),
    ]

    def attacker(number):
        for turn in itertools.count(number):
            if time.monotonic() >= until:
                return
            try:
                kinds[turn % len(kinds)]()
                tally.strike(1)
            except OSError:
                tally.refuse()

    wire.in_parallel(HANDSHAKE_WORKERS, attacker)
    tally.note("connections_at_once", HANDSHAKE_WORKERS)
    return tally


def say_and_leave(target, data):
    raw = wire.connect_tcp(target)
    try:
        raw.settimeout(ANSWER_WITHIN)
        raw.sendall(data)
        raw.recv(1024)
    finally:
        wire.close_with_reset(raw)


def ask_without_certificate(target, context):
    raw = wire.connect_tcp(target)
    secured = raw
    try:
        secured = context.wrap_socket(raw, server_hostname=target.host)
        secured.settimeout(ANSWER_WITHIN)
        secured.sendall(f"GET /orders/7 HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode())
        secured.recv(1024)
    finally:
        wire.close_with_reset(secured)


def many_connections(target, until):
    """As many connections as can be had, with good handshakes, all kept and none used."""
    tally = Tally()
    context = wire.tls_context(target, "h2")
    crowd = []
    while len(crowd) < CROWD_MAX and time.monotonic() < until:
        try:
            crowd.append(Connection(target, context, tally))
            tally.strike(1)
        except OSError:
            tally.refuse()
            time.sleep(wire.PAUSE_AFTER_A_REFUSED_CONNECTION)
    while time.monotonic() < until:
        for connection in crowd:
            connection.look()
        time.sleep(0.05)
    return tally
