"""The one for whom all of this is done: a Worker who asks properly, at a fixed pace, over kept connections."""

import itertools
import socket
import ssl
import threading
import time
from dataclasses import dataclass

CONNECTIONS = 4
REQUESTS_PER_SECOND = 200
# Of so many requests one carries a token, too; the others prove themselves with the certificate alone.
ONE_TOKEN_IN = 20
ANSWER_WITHIN = 5.0
PLAIN_PATH = "/quiet/asks"
TOKEN_PATH = "/orders/7"


def tokens_needed(seconds):
    return int(seconds * REQUESTS_PER_SECOND / ONE_TOKEN_IN)


@dataclass(frozen=True)
class Identity:
    address: tuple
    host: str
    ca: str
    certificate: str
    key: str
    tokens: tuple


class Client:
    """One kept connection, opened anew after a fault."""

    def __init__(self, identity):
        self._identity = identity
        self._context = ssl.create_default_context(cafile=identity.ca)
        self._context.load_cert_chain(identity.certificate, identity.key)
        self._socket = None

    def ask(self, token):
        """Nothing if all went well, or what went wrong."""
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(self._request(token))
            status = self._read_response()
            return None if status == 200 else f"status {status}"
        except (OSError, ValueError) as fault:
            self._drop()
            return f"{type(fault).__name__}: {fault}"

    def _connect(self):
        raw = socket.create_connection(self._identity.address, timeout=ANSWER_WITHIN)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(raw, server_hostname=self._identity.host)

    def _drop(self):
        if self._socket:
            self._socket.close()
            self._socket = None

    def _request(self, token):
        lines = [f"GET {TOKEN_PATH if token else PLAIN_PATH} HTTP/1.1", f"Host: {self._identity.host}"]
        if token:
            lines.append(f"Edge-Identity: {token}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _read_response(self):
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._read_some()
        head, _, body = received.partition(b"\r\n\r\n")
        missing = content_length(head) - len(body)
        while missing > 0:
            missing -= len(self._read_some())
        return int(head.split(b" ", 2)[1])

    def _read_some(self):
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        return data


def content_length(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def stay(identity, leave, results):
    """Asks until `leave` is set, in a process of its own; then puts (due, seconds, fault) of every request.

    Time counts from when a request was due, so that one that is late because its forerunner hung counts as slow.
    """
    tokens = iter(identity.tokens)
    records = []
    start = time.monotonic()

    def ask_at_pace(number):
        client = Client(identity)
        for turn in itertools.count():
            request = turn * CONNECTIONS + number
            due = start + request / REQUESTS_PER_SECOND
            if leave.wait(max(0.0, due - time.monotonic())):
                return
            token = next(tokens, None) if request % ONE_TOKEN_IN == 0 else None
            fault = client.ask(token)
            records.append((due, time.monotonic() - due, fault))

    threads = [threading.Thread(target=ask_at_pace, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.send(records)
