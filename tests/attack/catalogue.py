"""The attacks, by name."""

from dataclasses import dataclass
from typing import Callable

import drips
import floods
import strangers


@dataclass(frozen=True)
class Attack:
    name: str
    run: Callable
    what: str
    # A known hole of the kind, if there is one.
    cve: str = ""
    # Some attacks need time to show what they do, whatever was asked for.
    seconds_least: float = 0
    # All connections must be closed this many seconds after they were opened.
    closed_within: float = None
    # The origin must never work on many more requests at once than streams are allowed.
    bounds_origin: bool = False


# Belay's deadline for a whole head is 5 s. Half a second more for Belay, and half a second for the attacker to notice.
HEAD_CLOSED_WITHIN = 6.0
SECONDS_FOR_SLOW_HEADS = 8.0

ATTACKS = [
    Attack(
        "rapid-reset",
        floods.rapid_reset,
        "HTTP/2 requests that are reset, at once or when they have just reached the origin",
        cve="CVE-2023-44487",
        bounds_origin=True,
    ),
    Attack(
        "made-you-reset",
        floods.made_you_reset,
        "HTTP/2 requests that the server itself has to reset, because of a window that overflows",
        cve="CVE-2025-8671",
        bounds_origin=True,
    ),
    Attack(
        "zero-window-update",
        floods.zero_window_update,
        "the same with WINDOW_UPDATE of 0, which may cost the whole connection",
        cve="CVE-2025-8671",
        bounds_origin=True,
    ),
    Attack(
        "continuation",
        floods.continuation,
        "an HTTP/2 head that never ends, in tiny and in large CONTINUATION frames",
        cve="CVE-2024-30255",
    ),
    Attack(
        "settings",
        floods.settings,
        "SETTINGS as fast as possible; half of the attackers do not read the acknowledgements",
        cve="CVE-2019-9515",
    ),
    Attack(
        "pings",
        floods.pings,
        "PINGs as fast as possible; half of the attackers do not read the echoes",
        cve="CVE-2019-9512",
    ),
    Attack("empty-data", floods.empty_data, "empty DATA frames on an open stream", cve="CVE-2019-9518"),
    Attack(
        "header-bomb",
        floods.header_bomb,
        "100 streams a connection, each with a header list just under the limit, a byte a field, held open",
        cve="CVE-2026-49975",
    ),
    Attack(
        "too-large-heads",
        floods.too_large_heads,
        "heads of twice the size that is allowed, a byte a field, without end",
    ),
    Attack(
        "slow-heads",
        drips.slow_heads,
        "slowloris: 300 connections with one byte of a head a second",
        seconds_least=SECONDS_FOR_SLOW_HEADS,
        closed_within=HEAD_CLOSED_WITHIN,
    ),
    Attack(
        "slow-heads-http2",
        drips.slow_heads_http2,
        "the same in HTTP/2, 100 connections with a HEADERS frame that arrives byte by byte",
        seconds_least=SECONDS_FOR_SLOW_HEADS,
        closed_within=HEAD_CLOSED_WITHIN,
    ),
    Attack(
        "slow-bodies",
        drips.slow_bodies,
        "150 uploads of a megabyte with one byte a second: 50 over HTTP/1.1, 100 over HTTP/2",
    ),
    Attack("bad-tokens", strangers.bad_tokens, "a good certificate with garbage and wrongly signed tokens"),
    Attack(
        "bad-handshakes",
        strangers.bad_handshakes,
        "a garbage ClientHello, plain HTTP, and a client without a certificate, in turn",
    ),
    Attack(
        "many-connections",
        strangers.many_connections,
        "as many connections as can be had from one address, kept and not used",
    ),
]

BY_NAME = {attack.name: attack for attack in ATTACKS}
