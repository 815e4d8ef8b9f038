"""One attack from beginning to end: what was before, what was during it, and what is broken."""

import math
import os
import time
from dataclasses import asdict, dataclass, field

import bystander
import stage
from stage import NICENESS, processes

WARM_UP_SECONDS = 0.4
ALONE_SECONDS = 1.0
# For connections that just closed to be counted, and for records on their way to the file.
SETTLE_SECONDS = 0.3

MEGABYTE = 1024 * 1024
GROWTH_PER_CONNECTION_MAX = 5 * MEGABYTE
SLOWDOWN_GOAL = 1.2
# On a machine that attackers, origins and bystander share, less than this may be chance: so many times the control's
# p99, and so many seconds at all.
SLOWDOWN_MAX = 3.0
P99_ALWAYS_GOOD = 0.03
STREAMS_USUALLY_ALLOWED = 100
AUDIT_BYTES_PER_SECOND_MAX = 3 * MEGABYTE
# Only the bystander is allowed on these routes, and only he is this workload.
BYSTANDERS_SAMPLES = tuple(
    f'belay_requests_total{{decision="allow",route="{route}"}}' for route in ("orders", "quiet")
)
BYSTANDERS_RECORD = b'"workload":"checkout"'


def bystander_tokens(attack_seconds):
    """How many tokens the bystander needs for as long as he stays."""
    stays = WARM_UP_SECONDS + ALONE_SECONDS + 2 * attack_seconds + 2 * SETTLE_SECONDS
    return bystander.tokens_needed(stays)


@dataclass
class Window:
    """A time in which something went on."""

    begin: float
    end: float

    @property
    def seconds(self):
        return self.end - self.begin

    def requests(self, records):
        return [record for record in records if self.begin <= record[0] < self.end]


@dataclass
class Figures:
    """What was measured. Bytes, seconds and counts."""

    attack: str
    cve: str
    seconds: float
    blows_per_second: float
    connections_arrived: int
    requests_arrived: int
    reasons: dict
    memory_before: int
    memory_peak: int
    connections_at_once: int
    p99_alone: float
    p99_control: float
    p99_attacked: float
    slowdown: float
    bystander_requests: int
    bystander_faults: dict
    audit_lines_per_second: float
    audit_bytes_per_second: float
    audit_lines_per_blow: float
    connections_opened: int
    connections_refused: int
    connections_closed: int
    closed_after_median: float
    closed_after_last: float
    farewells: dict
    origin_peak: int
    origin_requests: int
    survived: bool
    notes: dict
    broken: list = field(default_factory=list)

    @property
    def growth_per_connection(self):
        return (self.memory_peak - self.memory_before) / max(1, self.connections_at_once)

    def plain(self):
        return {**asdict(self), "growth_per_connection": self.growth_per_connection}


def hold(attack, keys, seconds):
    """Sets the stage, attacks, and judges."""
    seconds = max(seconds, attack.seconds_least)
    with stage.set_up(keys) as scene:
        leave, (results, results_end) = processes.Event(), processes.Pipe(duplex=False)
        identity = scene.bystander()
        neighbour = processes.Process(target=bystander.stay, args=(identity, leave, results_end), daemon=True)
        neighbour.start()
        try:
            measured = observe(attack, scene, seconds)
            leave.set()
            records = results.recv()
        finally:
            neighbour.kill()
            neighbour.join()
        figures = summarise(attack, measured, records)
    figures.broken = broken_bounds(attack, figures)
    return figures


def observe(attack, scene, seconds):
    """Everything that is read while it goes on."""
    time.sleep(WARM_UP_SECONDS)
    alone = watch_for(lambda: time.sleep(ALONE_SECONDS))
    control = watch_for(lambda: send_attackers(attack, scene.target(scene.sink_address), seconds))
    time.sleep(SETTLE_SECONDS)
    metrics_before, audit_before = scene.metrics(), scene.audit.stat().st_size
    scene.forget_memory_peak()
    memory_before, _ = scene.memory()
    tally = {}
    attacked = watch_for(lambda: tally.update(send_attackers(attack, scene.target(scene.address), seconds)))
    survived = scene.is_alive()
    time.sleep(SETTLE_SECONDS)
    return {
        "alone": alone,
        "control": control,
        "attacked": attacked,
        "tally": tally,
        "memory": (memory_before, scene.memory()[1] if survived else memory_before),
        "metrics": growth(metrics_before, scene.metrics()) if survived else {},
        "audit": attackers_records(scene.audit, audit_before),
        "origin": scene.origin_figures(),
        "survived": survived,
    }


def watch_for(action):
    begin = time.monotonic()
    action()
    return Window(begin, time.monotonic())


def send_attackers(attack, target, seconds):
    """Attacks from a process of its own and gives its tally."""
    receiver, sender = processes.Pipe(duplex=False)
    process = processes.Process(target=attack_from_here, args=(attack, target, seconds, sender), daemon=True)
    process.start()
    try:
        sender.close()
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def attack_from_here(attack, target, seconds, sender):
    os.nice(NICENESS)
    sender.send(attack.run(target, time.monotonic() + seconds).plain())


def growth(before, after):
    return {name: value - before.get(name, 0.0) for name, value in after.items()}


def attackers_records(audit, offset):
    """Bytes and lines that were added since `offset` and do not speak of the bystander."""
    with audit.open("rb") as file:
        file.seek(offset)
        lines = [line for line in file if BYSTANDERS_RECORD not in line]
    return sum(map(len, lines)), len(lines)


def summarise(attack, measured, records):
    tally, window, metrics = measured["tally"], measured["attacked"], measured["metrics"]
    lives = tally["lives"]
    asked = window.requests(records)
    audit_bytes, audit_lines = measured["audit"]
    lifetimes = sorted(closed - opened for opened, closed, _ in lives if closed)
    p99 = {name: percentile_99(measured[name].requests(records)) for name in ("alone", "control", "attacked")}
    return Figures(
        attack=attack.name,
        cve=attack.cve,
        seconds=window.seconds,
        blows_per_second=tally["blows"] / window.seconds,
        connections_arrived=total(metrics, "belay_connections_total"),
        requests_arrived=total(metrics, "belay_requests_total", BYSTANDERS_SAMPLES),
        reasons=reasons(metrics),
        memory_before=measured["memory"][0],
        memory_peak=measured["memory"][1],
        connections_at_once=tally["notes"].get("connections_at_once") or most_at_once(lives),
        p99_alone=p99["alone"],
        p99_control=p99["control"],
        p99_attacked=p99["attacked"],
        slowdown=p99["attacked"] / p99["control"],
        bystander_requests=len(asked),
        bystander_faults=tell_apart(fault for _, _, fault in asked if fault),
        audit_lines_per_second=audit_lines / window.seconds,
        audit_bytes_per_second=audit_bytes / window.seconds,
        audit_lines_per_blow=audit_lines / max(1, tally["blows"]),
        connections_opened=len(lives),
        connections_refused=tally["refused"],
        connections_closed=len(lifetimes),
        closed_after_median=lifetimes[len(lifetimes) // 2] if lifetimes else None,
        closed_after_last=lifetimes[-1] if lifetimes else None,
        farewells=tell_apart(farewell for _, closed, farewell in lives if closed),
        origin_peak=measured["origin"]["active_peak"],
        origin_requests=measured["origin"]["requests"],
        survived=measured["survived"],
        notes=tally["notes"],
    )


def percentile_99(records):
    times = sorted(seconds for _, seconds, _ in records)
    return times[math.ceil(len(times) * 0.99) - 1] if times else math.nan


def total(metrics, name, without=()):
    samples = (sample for sample in metrics if sample.partition("{")[0] == name and sample not in without)
    return int(sum(metrics[sample] for sample in samples))


def reasons(metrics):
    """How often Belay itself gave which reason, for requests and for handshakes."""
    counted = {}
    for sample, value in metrics.items():
        name, _, labels = sample.partition("{")
        if value and name in ("belay_refusals_total", "belay_handshake_failures_total"):
            counted[labels.partition('reason="')[2].partition('"')[0]] = int(value)
    return counted


def tell_apart(words):
    counted = {}
    for word in words:
        counted[word] = counted.get(word, 0) + 1
    return counted


def most_at_once(lives):
    events = [(opened, 1) for opened, _, _ in lives] + [(closed, -1) for _, closed, _ in lives if closed]
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most


def broken_bounds(attack, figures):
    """What is not as it must be, in words."""
    broken = []
    if not figures.survived:
        broken.append("Belay died")
    if not figures.blows_per_second:
        broken.append("the attack struck no blow, so nothing was tested")
    if figures.bystander_faults:
        broken.append(f"requests of the bystander failed: {figures.bystander_faults}")
    if figures.growth_per_connection > GROWTH_PER_CONNECTION_MAX:
        broken.append(f"memory grew by {figures.growth_per_connection / MEGABYTE:.1f} MB a connection, over 5")
    if not (figures.slowdown <= SLOWDOWN_MAX or figures.p99_attacked <= P99_ALWAYS_GOOD):
        broken.append(f"the bystander's p99 became {figures.slowdown:.1f} times the control's, over {SLOWDOWN_MAX:.0f}")
    if figures.audit_bytes_per_second > AUDIT_BYTES_PER_SECOND_MAX:
        broken.append(f"the audit log grew by {figures.audit_bytes_per_second / MEGABYTE:.1f} MB/s, over 3")
    return broken + broken_closing(attack, figures) + broken_origin(attack, figures)


def broken_closing(attack, figures):
    if attack.closed_within is None:
        return []
    still_open = figures.connections_opened - figures.connections_closed
    if still_open:
        return [f"{still_open} of {figures.connections_opened} connections were never closed"]
    if figures.closed_after_last > attack.closed_within:
        return [f"a connection lived for {figures.closed_after_last:.1f} s, over {attack.closed_within:.0f}"]
    return []


def broken_origin(attack, figures):
    if not attack.bounds_origin:
        return []
    streams = figures.notes.get("streams_allowed", STREAMS_USUALLY_ALLOWED)
    # Twice, since what was reset ends a moment after its successors have begun.
    allowed = 2 * streams * figures.connections_at_once
    if figures.origin_peak > allowed:
        return [f"the origin worked on {figures.origin_peak} requests at once, allowed are {allowed}"]
    return []
