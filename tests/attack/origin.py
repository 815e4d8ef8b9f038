"""A small HTTP/1.1 origin that knows how much it is asked to do at once.

/…/work takes two seconds, unless the one who asked goes away; a body is read to its end; /stats tells the figures.
"""

import asyncio
import json

WORK_SECONDS = 2.0
HEAD_MAX = 1024 * 1024
# As many as wait for Belay itself, so that it is not the origin who turns work away.
BACKLOG = 4096


class Origin:
    def __init__(self):
        self.requests = 0
        self.active = 0
        self.active_peak = 0

    async def converse(self, reader, writer):
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The other side went away, which is what attackers do.
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, fields = parse_head(head)
        if path == "/stats":
            return await respond(writer, json.dumps(vars(self)).encode())
        self.requests += 1
        self.active += 1
        self.active_peak = max(self.active_peak, self.active)
        try:
            await read_body(reader, fields)
            if path.endswith("/work") and await goes_away(reader, WORK_SECONDS):
                return False
            return await respond(writer, b"done\n")
        finally:
            self.active -= 1


def parse_head(head):
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    return method, path, {name.lower(): value.strip() for name, _, value in pairs}


async def read_body(reader, fields):
    if fields.get("transfer-encoding") == "chunked":
        await read_chunks(reader)
    else:
        await reader.readexactly(int(fields.get("content-length", 0)))


async def read_chunks(reader):
    size = None
    while size != 0:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + len("\r\n"))


async def goes_away(reader, seconds):
    """Whether the other side closes within so many seconds. It does not pipeline, so nothing else can arrive."""
    try:
        return await asyncio.wait_for(reader.read(1), seconds) == b""
    except asyncio.TimeoutError:
        return False


async def respond(writer, body):
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    return True


def serve(listening):
    """Serves for ever, in a process of its own."""
    asyncio.run(_serve(listening))


async def _serve(listening):
    server = await asyncio.start_server(Origin().converse, sock=listening, limit=HEAD_MAX, backlog=BACKLOG)
    await server.serve_forever()
