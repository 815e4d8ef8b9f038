"""Everything that an attack needs around it: keys, origins, a Belay of its own, and eyes on them."""

import json
import multiprocessing
import pathlib
import re
import signal
import socket
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import bystander
import origin
import sink
from wire import Target

HOST = "shop.example.com"
# Attackers, and what they attack besides Belay, yield to all others: on a machine of their own they would not take CPU
# from them either.
NICENESS = 19
READY_WITHIN = 30.0
TOKEN_LIFETIME_SECONDS = 3600
# Bystander and attackers are different Workers with different origins: whatever the one feels of the other comes
# through Belay.
CONFIG = """\
version: 1
node: attacked
listeners:
  edge:
    bind: ["127.0.0.1:0"]
    tls:
      certificates: [{{ cert: certs/lb.pem, key: "file:keys/lb.tls.pem" }}]
      client_auth: {{ ca: [certs/workers-ca.pem] }}
edge:
  issuer: {issuer}
  audience: {audience}
  token: {{ max_lifetime: 1h }}
workloads:
  checkout:
    id: {checkout}
    keys: [{{ kid: checkout-1, key: "file:keys/checkout.pub.pem" }}]
  reports:
    id: {reports}
    keys: [{{ kid: reports-1, key: "file:keys/reports.pub.pem" }}]
routes:
  - {{ name: orders, match: {{ host: {host}, path: /orders/** }}, allow: [checkout], pool: quiet }}
  - {{ name: quiet, match: {{ host: {host}, path: /quiet/** }}, identity: mtls, allow: [checkout], pool: quiet }}
  - {{ name: reports, match: {{ host: {host}, path: /reports/** }}, identity: mtls, allow: [reports], pool: busy }}
  - {{ name: status, match: {{ host: {host}, path: /status }}, allow: public, pool: busy }}
pools:
  quiet: {{ servers: [{{ name: a, address: "127.0.0.1:{quiet_port}" }}] }}
  busy: {{ servers: [{{ name: a, address: "127.0.0.1:{busy_port}" }}] }}
audit: {{ file: audit.jsonl }}
admin: {{ http: "127.0.0.1:0" }}
"""

processes = multiprocessing.get_context("fork")


class CannotStart(Exception):
    """Belay did not start, with what it said."""


class Keys:
    """A folder with certificates and keys, as `belay demo` makes it, and tokens minted with them."""

    def __init__(self, belay, folder, tokens):
        self.belay = belay
        self.folder = folder
        self._make_folder()
        # Each attack has a new Belay, which has not seen any token yet, so the same ones serve all attacks.
        self.good_tokens = self._mint("checkout", bystander.TOKEN_PATH, tokens)
        self.bad_tokens = self._spoil(self._mint("reports", bystander.TOKEN_PATH, 2))

    def _make_folder(self):
        command = [self.belay, "demo", "--dir", str(self.folder), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
            ready = demo.stdout.readline()
            demo.send_signal(signal.SIGINT)
            _, said = demo.communicate(timeout=READY_WITHIN)
        if not ready:
            raise CannotStart(f"`belay demo` failed: {said}")

    def _mint(self, worker, path, count):
        command = [self.belay, "token", "--env", str(self.folder / f"{worker}.env.json")]
        command += ["--lifetime", str(TOKEN_LIFETIME_SECONDS), "GET", f"https://{HOST}{path}"]

        def mint_one(_):
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

        with ThreadPoolExecutor() as pool:
            return tuple(pool.map(mint_one, range(count)))

    @staticmethod
    def _spoil(tokens):
        """Garbage in some shapes, and two tokens with each other's signature, which cost the most to refuse."""
        (first, first_signature), (second, second_signature) = (token.rsplit(".", 1) for token in tokens)
        swapped = [f"{first}.{second_signature}", f"{second}.{first_signature}"]
        return ("garbage", "a.b.c", "x" * 4000, *swapped)

    def environment(self, worker):
        return json.loads((self.folder / f"{worker}.env.json").read_text())

    def path(self, name):
        return str(self.folder / name)


@dataclass
class Stage:
    """A running Belay, and two origins behind it."""

    belay: subprocess.Popen
    address: tuple
    admin: str
    audit: pathlib.Path
    keys: Keys
    sink_address: tuple
    busy_origin: str

    def target(self, address):
        keys = self.keys
        certificate, key = keys.path("certs/reports.pem"), keys.path("keys/reports.tls.pem")
        return Target(address, HOST, certificate, key, keys.bad_tokens)

    def bystander(self):
        keys = self.keys
        certificate, key = keys.path("certs/checkout.pem"), keys.path("keys/checkout.tls.pem")
        return bystander.Identity(self.address, HOST, keys.path("certs/ca.pem"), certificate, key, keys.good_tokens)

    def is_alive(self):
        return self.belay.poll() is None

    def memory(self):
        """Belay's memory in bytes: now, and at most since the peak was forgotten."""
        status = pathlib.Path(f"/proc/{self.belay.pid}/status").read_text()
        kilobytes = {name: int(value) for name, value in re.findall(r"^(Vm\w+):\s+(\d+) kB", status, re.MULTILINE)}
        return kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024

    def forget_memory_peak(self):
        pathlib.Path(f"/proc/{self.belay.pid}/clear_refs").write_text("5")

    def metrics(self):
        """Every sample by its name with labels."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def origin_figures(self):
        with urllib.request.urlopen(f"{self.busy_origin}/stats", timeout=10) as answer:
            return json.load(answer)


@contextmanager
def set_up(keys):
    """A stage with a new Belay. All of it ends with the `with`."""
    with running(origin.serve) as quiet, running(origin.serve) as busy, running_sink(keys) as sink_address:
        config = keys.folder / "attacked.yaml"
        audit = keys.folder / "audit.jsonl"
        audit.unlink(missing_ok=True)
        config.write_text(config_text(keys, quiet[1], busy[1]))
        with running_belay(keys, config) as (belay, said):
            address = split_address(said["listeners"][0]["address"])
            busy_origin = f"http://127.0.0.1:{busy[1]}"
            yield Stage(belay, address, f"http://{said['admin']}", audit, keys, sink_address, busy_origin)


def config_text(keys, quiet_port, busy_port):
    checkout, reports = keys.environment("checkout"), keys.environment("reports")
    return CONFIG.format(
        issuer=checkout["EDGE_ISSUER"],
        audience=checkout["EDGE_AUDIENCE"],
        checkout=checkout["EDGE_SUBJECT"],
        reports=reports["EDGE_SUBJECT"],
        host=HOST,
        quiet_port=quiet_port,
        busy_port=busy_port,
    )


@contextmanager
def running(serve, *arguments):
    """A process of our own that serves on a free port; gives the address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    process = processes.Process(target=serve, args=(listening, *arguments), daemon=True)
    process.start()
    address = listening.getsockname()
    listening.close()
    try:
        yield address
    finally:
        process.kill()
        process.join()


def running_sink(keys):
    certificate, key = keys.path("certs/lb.pem"), keys.path("keys/lb.tls.pem")
    return running(sink.serve, certificate, key, keys.path("certs/workers-ca.pem"), NICENESS)


@contextmanager
def running_belay(keys, config):
    """Belay and what it said when it was ready. Its own messages go to a file beside the config."""
    messages = config.with_suffix(".log")
    command = [keys.belay, "run", "-c", str(config), "--json"]
    with messages.open("w") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as belay:
        try:
            line = belay.stdout.readline()
            if not line:
                raise CannotStart(f"`belay run` failed: {messages.read_text()}")
            yield belay, json.loads(line)
        finally:
            # Not TERM: after an attack there may be connections that Belay would wait for.
            belay.kill()


def split_address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)
