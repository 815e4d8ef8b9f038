"""The figures as a table for people and as JSON for machines."""

import json

from trial import MEGABYTE, SLOWDOWN_GOAL

KILOBYTE = 1024

# (title, width, text of a row)
COLUMNS = [
    ("attack", -18, lambda row: row.attack),
    ("blows/s", 8, lambda row: f"{row.blows_per_second:,.0f}"),
    ("conns", 6, lambda row: f"{row.connections_arrived:,}"),
    ("requests", 8, lambda row: f"{row.requests_arrived:,}"),
    ("origin", 6, lambda row: f"{row.origin_peak:,}"),
    ("RSS MB", 11, lambda row: f"{row.memory_before / MEGABYTE:.0f} → {row.memory_peak / MEGABYTE:.0f}"),
    ("KB/conn", 7, lambda row: f"{row.growth_per_connection / KILOBYTE:,.0f}"),
    ("p99 ms", 18, lambda row: milliseconds(row.p99_alone, row.p99_control, row.p99_attacked)),
    ("ratio", 6, lambda row: f"{row.slowdown:.1f}{'' if row.slowdown <= SLOWDOWN_GOAL else '!'}"),
    ("failed", 6, lambda row: f"{sum(row.bystander_faults.values())}"),
    ("audit/s", 16, lambda row: f"{row.audit_lines_per_second:,.0f} = {row.audit_bytes_per_second / KILOBYTE:,.0f} KB"),
    ("/blow", 6, lambda row: f"{row.audit_lines_per_blow:.2f}"),
    ("closed", 20, lambda row: closing(row)),
    ("", -6, lambda row: "BROKEN" if row.broken else "holds"),
]

LEGEND = """\
conns, requests: what arrived, by Belay's own metrics (requests without the bystander's). origin: most requests that
the attackers' origin worked on at once. KB/conn: growth of memory for each of the attackers' connections at once.
p99 ms: the bystander's, alone / while the sink is attacked / while Belay is attacked. ratio: the last by the one before;
! is over the goal of 1.2. failed: requests of the bystander. audit: lines and bytes of the attackers'
records for each second, and lines for each blow. closed: the attackers' connections, and the median of their lives."""


def milliseconds(*seconds):
    return " / ".join(f"{each * 1000:.1f}" for each in seconds)


def closing(row):
    if not row.connections_opened:
        return "–"
    share = f"{row.connections_closed:,}/{row.connections_opened:,}"
    return share if row.closed_after_median is None else f"{share} {row.closed_after_median:.1f} s"


def line(texts):
    cells = []
    for text, (_, width, _) in zip(texts, COLUMNS):
        cells.append(text.ljust(-width) if width < 0 else text.rjust(width))
    return "  ".join(cells).rstrip()


def heading():
    return line([title for title, _, _ in COLUMNS])


def row(figures):
    return line([text(figures) for _, _, text in COLUMNS])


def verdict(all_figures):
    broken = [f"{figures.attack}: {fault}" for figures in all_figures for fault in figures.broken]
    if not broken:
        return "All bounds hold."
    return "Broken:\n" + "\n".join(f"  {fault}" for fault in broken)


def as_json(all_figures):
    return json.dumps([figures.plain() for figures in all_figures], indent=2)
