#!/usr/bin/env python3
"""Attacks a Belay of its own on this machine, and measures what a bystander feels of it.

Each attack gets a new Belay in a temporary folder, with keys from `belay demo`, an origin for the attackers and another
for the bystander. The bystander, a Worker with a good certificate and good tokens, asks at a steady pace. Then the
attack runs, and what is read is Belay's memory, the bystander's times and failed requests, the audit log's growth, and
when the attackers were thrown out.
"""

import argparse
import os
import pathlib
import resource
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import catalogue
import report
import stage
import trial

EXIT_HELD, EXIT_BROKEN, EXIT_USAGE, EXIT_UNAVAILABLE = 0, 1, 64, 69

EPILOG = """\
Exit codes: 0 all bounds hold, 1 one is broken, 64 wrong command line, 69 Belay cannot be started.

Bounds: the bystander loses no request; memory grows by at most 5 MB for each attacking connection; the bystander's p99
is at most 3 times the control's, or 30 ms (the goal is 1.2 times); the audit log grows by at most 3 MB/s; slow heads
are closed within 6 s; requests that were reset do not pile up at the origin.

Examples:
  cargo build --release && tests/attack/attack.py
  tests/attack/attack.py --only slow-heads --only header-bomb --seconds 15
  tests/attack/attack.py --belay target/debug/belay --json > figures.json
"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def parse_arguments():
    attacks = "\n".join(f"  {attack.name:<20}{attack.what}" for attack in catalogue.ATTACKS)
    parser = Parser(
        description=__doc__,
        epilog=f"Attacks:\n{attacks}\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--belay", metavar="PATH", default="target/release/belay", help="the program to attack")
    parser.add_argument("--only", metavar="NAME", action="append", choices=catalogue.BY_NAME, help="just this attack")
    parser.add_argument("--seconds", metavar="N", type=float, default=4.0, help="for each attack, and as long at the sink; some take more")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, with more of them")
    return parser.parse_args()


def allow_many_files():
    """Attackers hold many connections, and Belay inherits the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run_all(attacks, belay, seconds, table):
    longest = max(max(seconds, attack.seconds_least) for attack in attacks)
    tokens = trial.bystander_tokens(longest)
    with tempfile.TemporaryDirectory(prefix="belay-attack-") as folder:
        keys = stage.Keys(belay, pathlib.Path(folder) / "keys", tokens)
        all_figures = []
        for attack in attacks:
            all_figures.append(trial.hold(attack, keys, seconds))
            print(report.row(all_figures[-1]), file=table, flush=True)
        return all_figures


def main():
    arguments = parse_arguments()
    attacks = [catalogue.BY_NAME[name] for name in arguments.only or catalogue.BY_NAME]
    belay = shutil.which(arguments.belay)
    if belay is None:
        print(f"{arguments.belay} is no program; `cargo build --release` makes one, --belay names one", file=sys.stderr)
        return EXIT_UNAVAILABLE
    allow_many_files()
    table = open(os.devnull, "w") if arguments.json else sys.stdout
    print(report.heading(), file=table, flush=True)
    try:
        figures = run_all(attacks, str(pathlib.Path(belay).absolute()), arguments.seconds, table)
    except stage.CannotStart as fault:
        print(fault, file=sys.stderr)
        return EXIT_UNAVAILABLE
    print(report.as_json(figures) if arguments.json else f"\n{report.LEGEND}\n\n{report.verdict(figures)}")
    return EXIT_BROKEN if any(each.broken for each in figures) else EXIT_HELD


if __name__ == "__main__":
    sys.exit(main())
