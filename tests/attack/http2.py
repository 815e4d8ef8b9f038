"""HTTP/2 by hand: frames, and as much of HPACK as an attacker needs. Nothing here keeps to the rules by itself."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
FRAME_HEAD_LENGTH = 9

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4

SETTING_MAX_CONCURRENT_STREAMS = 3
SETTING_INITIAL_WINDOW_SIZE = 4
SETTING_MAX_HEADER_LIST_SIZE = 6

CANCEL = 8
WINDOW_MAX = 2**31 - 1
WINDOW_INITIAL = 65535

# HPACK: the first entry of the dynamic table, as a whole indexed field in one byte.
NEWEST_ENTRY = bytes([0x80 | 62])
# What each field costs in the size of a header list, besides its name and value (RFC 9113, section 10.5.1).
FIELD_OVERHEAD = 32


def frame(kind, flags, stream, payload=b""):
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values=()):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in values))


def settings_ack():
    return frame(SETTINGS, ACK, 0)


def headers(stream, block, flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, block)


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def request_block(method, host, path, fields=()):
    pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
    return b"".join(literal(name, value) for name, value in [*pseudo, *fields])


def literal(name, value):
    """A field that stays out of the dynamic table."""
    return b"\x00" + _text(name) + _text(value)


def remembered(name, value):
    """A field that becomes the newest entry of the dynamic table."""
    return b"\x40" + _text(name) + _text(value)


def field_size(name, value):
    return len(name) + len(value) + FIELD_OVERHEAD


def _text(text):
    raw = text.encode()
    return _integer(len(raw), prefix_bits=7) + raw


def _integer(value, prefix_bits):
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([value])
    encoded = bytearray([most])
    value -= most
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    encoded.append(value)
    return bytes(encoded)


class FrameReader:
    """Cuts what arrives into frames."""

    def __init__(self):
        self._unread = bytearray()

    def feed(self, data):
        """Yields (kind, flags, stream, payload) for every frame that is complete."""
        self._unread += data
        while len(self._unread) >= FRAME_HEAD_LENGTH:
            length = int.from_bytes(self._unread[:3], "big")
            end = FRAME_HEAD_LENGTH + length
            if len(self._unread) < end:
                return
            kind, flags, stream = struct.unpack(">BBI", self._unread[3:FRAME_HEAD_LENGTH])
            payload = bytes(self._unread[FRAME_HEAD_LENGTH:end])
            del self._unread[:end]
            yield kind, flags, stream & WINDOW_MAX, payload


def parse_settings(payload):
    return {key: value for key, value in struct.iter_unpack(">HI", payload)}
