"""SMPP alone: the codec by itself, and a session against a fast sink in a process of its own.

`python -m bench.smpp` prints the figures. `make bench` takes `measure()`, and `Sink` for a whole Junebug.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import struct
import time
from multiprocessing.connection import Connection
from typing import Any, Self

from junebug.runtime.loop import run_async
from junebug.smpp import constants as c
from junebug.smpp.codec import decode, encode
from junebug.smpp.framing import PduReader
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import Pdu, SubmitSm
from junebug.smpp.session import Session

CODEC_ROUNDS = 100_000
SUBMITS = 100_000
WINDOW = 100
_HEADER = struct.Struct(">4I")


def submit_sm() -> SubmitSm:
    return SubmitSm(
        source_addr_ton=5,
        source_addr="Junebug",
        dest_addr_ton=1,
        dest_addr_npi=1,
        destination_addr="27831234567",
        registered_delivery=1,
        short_message=b"The quick brown fox jumps over the lazy dog. 0123456789",
        sequence_number=1,
    )


def measure_codec() -> dict[str, Any]:
    """submit_sm encoded and decoded again, on one core."""
    pdu = submit_sm()
    frame = encode(pdu)
    assert encode(decode(frame)) == frame
    encoding = _seconds(lambda: encode(pdu))
    decoding = _seconds(lambda: decode(frame))
    return {
        "encode_per_s": round(1 / encoding),
        "decode_per_s": round(1 / decoding),
        "both_per_s": round(1 / (encoding + decoding)),
    }


def _seconds(call: Any) -> float:
    """Of this thread's processor time, for one call: the best of five rounds. Others on the machine do not count."""
    best = float("inf")
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(CODEC_ROUNDS // 5):
            call()
        best = min(best, time.thread_time() - begun)
    return best / (CODEC_ROUNDS // 5)


class Sink:
    """An SMSC that answers at once and keeps nothing, in a process of its own: `with Sink() as sink`."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._told, there = context.Pipe()
        self._process = context.Process(target=_run_sink, args=(there,), daemon=True)
        self._process.start()
        self.port: int = self._told.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


class _SinkProtocol(asyncio.Protocol):
    """Looks at nothing but the header. The SMSC's id of a message is the sequence number, so each has its own."""

    def __init__(self) -> None:
        self._reader = PduReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        answers = []
        for frame in self._reader.feed(data):
            _, command_id, _, sequence = _HEADER.unpack_from(frame)
            if command_id == c.SUBMIT_SM:
                body = b"%d\0" % sequence
            elif command_id == c.BIND_TRANSCEIVER:
                body = b"sink\0"
            elif command_id & c.RESPONSE:
                continue
            else:
                body = b""
            answers.append(_HEADER.pack(16 + len(body), command_id | c.RESPONSE, 0, sequence) + body)
        self._transport.write(b"".join(answers))  # type: ignore[attr-defined]


def _run_sink(told: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_SinkProtocol, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()

    run_async(serve())


async def _submit(port: int) -> dict[str, Any]:
    def unexpected(session: Session, pdu: Pdu) -> None:
        raise AssertionError(pdu)

    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session("esme", SessionOptions(), on_request=unexpected), "127.0.0.1", port
    )
    left = iter(range(SUBMITS))

    async def client() -> None:
        for _ in left:
            await session.request(submit_sm())

    begun, begun_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(WINDOW)))
    elapsed, cpu = time.perf_counter() - begun, time.process_time() - begun_cpu
    session.close()
    await session.closed
    return {
        "window": WINDOW,
        "submit_sm_per_s": round(SUBMITS / elapsed),
        "cpu_us_per_submit_sm": round(cpu / SUBMITS * 1e6, 1),
    }


def measure_session() -> dict[str, Any]:
    """submit_sm made, sent and answered, at a window of 100."""
    with Sink() as sink:
        return run_async(_submit(sink.port))


def measure() -> dict[str, Any]:
    """Both, as JSON."""
    return {"codec": measure_codec(), "session": measure_session()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
