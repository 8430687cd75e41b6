"""The other ends of a benchmark, in one process that costs little: an SMSC, a webhook, and a count of what came to each.

`python -m bench.peer` prints its three ports (SMSC, webhook, counts). The SMSC answers at once, sends a receipt for each
submit_sm that asks for one, and floods with messages when it is told to. It looks at nothing that it need not.
"""

from __future__ import annotations

import asyncio
import re
import struct
import subprocess
import sys
from collections import Counter
from typing import ClassVar, Self, cast

from junebug.runtime.loop import run_async
from junebug.smpp import constants as c

_HEADER = struct.Struct(">4I")
RECEIPT = b"id:%s sub:001 dlvrd:001 submit date:2601011200 done date:2601011200 stat:DELIVRD err:000 text:"
FLOOD_WINDOW = 100
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_counts: Counter[str] = Counter()


class _Smsc(asyncio.Protocol):
    connections: ClassVar[list[_Smsc]] = []
    """Those that are bound."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""
        self._sequence = 0
        self.left = 0
        """Messages that are still to be sent."""

    def connection_lost(self, error: Exception | None) -> None:
        if self in self.connections:
            self.connections.remove(self)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, out = 0, []
        while len(data) - at >= 16:
            length, command, _, sequence = _HEADER.unpack_from(data, at)
            if len(data) - at < length:
                break
            body = data[at + 16 : at + length]
            at += length
            if command == c.SUBMIT_SM:
                _counts["submits"] += 1
                out += self._accept(body, sequence)
            elif command == c.DELIVER_SM | c.RESPONSE:
                _counts["acknowledged"] += 1
                if self.left:
                    out.append(self._message())
            elif not command & c.RESPONSE:
                said = b"peer\0" if command in (c.BIND_TRANSCEIVER, c.BIND_TRANSMITTER, c.BIND_RECEIVER) else b""
                if said:
                    self.connections.append(self)
                out.append(_HEADER.pack(16 + len(said), command | c.RESPONSE, 0, sequence) + said)
        self._rest = data[at:]
        if out:
            self._transport.write(b"".join(out))

    def flood(self, messages: int) -> None:
        self.left = messages
        self._transport.write(b"".join(self._message() for _ in range(min(FLOOD_WINDOW, messages))))

    def _accept(self, body: bytes, sequence: int) -> list[bytes]:
        provider_id = b"%x" % _counts["submits"]
        answers = [_HEADER.pack(17 + len(provider_id), c.SUBMIT_SM | c.RESPONSE, 0, sequence) + provider_id + b"\0"]
        begin = body.index(b"\0") + 3
        source_end = body.index(b"\0", begin)
        destination_end = body.index(b"\0", source_end + 3)
        schedule_end = body.index(b"\0", destination_end + 4)
        validity_end = body.index(b"\0", schedule_end + 1)
        if body[validity_end + 1] & 1:  # registered_delivery
            source, destination = body[source_end + 3 : destination_end], body[begin:source_end]
            answers.append(self._deliver(source, destination, 4, RECEIPT % provider_id))
        return answers

    def _message(self) -> bytes:
        self.left -= 1
        return self._deliver(b"2782%07d" % (self._sequence % 10_000_000), b"8110", 0, b"message %d" % self._sequence)

    def _deliver(self, source: bytes, destination: bytes, esm_class: int, text: bytes) -> bytes:
        self._sequence += 1
        addresses = b"\0\1\1" + source + b"\0\1\1" + destination
        body = addresses + bytes((0, esm_class, 0, 0, 0, 0, 0, 0, 0, 0, len(text))) + text
        return _HEADER.pack(16 + len(body), c.DELIVER_SM, 0, self._sequence) + body


class _Webhook(asyncio.Protocol):
    """Kannel's dlr-url is a GET without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        data, answers = self._rest + data, 0
        while (end := data.find(b"\r\n\r\n") + 4) > 3:
            found = _LENGTH.search(data, 0, end)
            end += int(found[1]) if found else 0
            if len(data) < end:
                break
            is_final = data.find(b"delivery_succeeded", 0, end) >= 0 or data.startswith(b"GET /delivered")
            _counts["finals"] += is_final
            _counts["calls"] += 1
            data, answers = data[end:], answers + 1
        self._rest = data
        if answers:
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * answers)


class _Counts(asyncio.Protocol):
    """A line in: how many messages to flood with (0: none). A line out: the counts."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if messages := int(data):
            _Smsc.connections[-1].flood(messages)
        names = ("submits", "acknowledged", "calls", "finals")
        self._transport.write(" ".join(str(_counts[name]) for name in names).encode() + b"\n")


class Peer:
    """`async with Peer() as peer`, in a process of its own."""

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, "-m", "bench.peer"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.smsc_port, self.webhook_port, counts = map(int, self._process.stdout.readline().split())
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", counts)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        self._process.kill()
        self._process.wait(10)

    async def counts(self, flood: int = 0) -> dict[str, int]:
        """What came so far: `submits`, `acknowledged` (deliver_sm), `calls` of the webhook, `finals` of them."""
        self._writer.write(b"%d" % flood)
        names = ("submits", "acknowledged", "calls", "finals")
        return dict(zip(names, map(int, (await self._reader.readline()).split()), strict=True))


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(kind, "127.0.0.1", 0) for kind in (_Smsc, _Webhook, _Counts)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run_async(_serve())
