"""Something else to attack: it takes TLS, answers everybody at once in the cheapest way, and protects nothing.

An attacker costs CPU by his mere being on this machine. What the bystander feels while the sink is attacked is that
cost; what he feels beyond it while Belay is attacked is Belay's.
"""

import os
import socket
import ssl
import threading

import http2

STATUS_401 = http2.literal(":status", "401")
ANSWER_HTTP1 = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
PATIENCE_SECONDS = 30
READ_AT_ONCE = 65536


def serve(listening, certificate, key, clients_ca, niceness):
    """Serves for ever, in a process of its own."""
    os.nice(niceness)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(clients_ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["h2", "http/1.1"])
    while True:
        raw, _ = listening.accept()
        threading.Thread(target=converse, args=(context, raw), daemon=True).start()


def converse(context, raw):
    try:
        raw.settimeout(PATIENCE_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as secured:
            if secured.selected_alpn_protocol() == "h2":
                converse_http2(secured)
            else:
                converse_http1(secured)
    except OSError:
        # Attackers leave, say garbage, and do not read.
        raw.close()


def converse_http1(secured):
    while piece := secured.recv(READ_AT_ONCE):
        if piece.endswith(b"\r\n\r\n"):
            secured.sendall(ANSWER_HTTP1)


def converse_http2(secured):
    skip(secured, len(http2.PREFACE))
    secured.sendall(http2.settings())
    reader = http2.FrameReader()
    while piece := secured.recv(READ_AT_ONCE):
        secured.sendall(b"".join(reply(*frame) for frame in reader.feed(piece)))


def skip(secured, length):
    while length > 0:
        piece = secured.recv(length)
        if not piece:
            raise ConnectionError("closed before its first words were over")
        length -= len(piece)


def reply(kind, flags, stream, payload):
    if kind == http2.HEADERS and flags & http2.END_STREAM:
        return http2.headers(stream, STATUS_401)
    if kind == http2.SETTINGS and not flags & http2.ACK:
        return http2.settings_ack()
    if kind == http2.PING and not flags & http2.ACK:
        return http2.frame(http2.PING, http2.ACK, 0, payload)
    return b""
