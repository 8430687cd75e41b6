"""An SMSC of the tests' own: PDUs by plain struct, as SMPP 3.4 writes them, so that Junebug's codec is not its own judge.

    WireSmsc       listens, keeps what it is told, answers as the test says, sends messages and receipts
    CuttingProxy   stands before it and cuts the connection at a random byte
    SmscCommand    `junebug-smsc` as a process, and its HTTP control
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.harness import clean_environment, command_path
from tests.polling import DEADLINE, eventually

BIND_RECEIVER, BIND_TRANSMITTER, SUBMIT_SM, DELIVER_SM, UNBIND = 0x01, 0x02, 0x04, 0x05, 0x06
BIND_TRANSCEIVER, ENQUIRE_LINK, DATA_SM, GENERIC_NACK, RESPONSE = 0x09, 0x15, 0x103, 0x80000000, 0x80000000
BINDS = (BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER)
THROTTLED, QUEUE_FULL, INVALID_PASSWORD, INVALID_DESTINATION, DELIVERY_FAILURE = 0x58, 0x14, 0x0E, 0x0B, 0xFE
RECEIPT, UDHI = 0x04, 0x40
MESSAGE_PAYLOAD, RECEIPTED_MESSAGE_ID, MESSAGE_STATE = 0x0424, 0x001E, 0x0427
SAR_REFERENCE, SAR_TOTAL, SAR_NUMBER = 0x020C, 0x020E, 0x020F


@dataclass
class Frame:
    """One PDU as it came; `at`: seconds of the monotonic clock."""

    command_id: int
    status: int
    sequence: int
    body: bytes
    at: float = field(default_factory=time.monotonic)


@dataclass
class BindRequest:
    """What an ESME bound with."""

    command_id: int
    system_id: str
    password: str
    system_type: str
    interface_version: int
    addr_ton: int
    addr_npi: int
    address_range: str
    at: float


@dataclass
class Submit:
    """A submit_sm, on which connection it came, and what it was answered."""

    link: SmscLink
    sequence: int
    service_type: str
    source: tuple[int, int, str]
    destination: tuple[int, int, str]
    esm_class: int
    protocol_id: int
    priority: int
    schedule: str
    validity: str
    registered_delivery: int
    data_coding: int
    short_message: bytes
    tlvs: dict[int, bytes]
    at: float
    message_id: str = ""
    status: int | None = None

    @property
    def to(self) -> str:
        return self.destination[2]

    @property
    def text(self) -> str:
        """Of one that is ASCII, or UCS2."""
        return self.short_message.decode("utf-16-be" if self.data_coding == 8 else "ascii")

    def accept(self, message_id: str) -> None:
        self.message_id = message_id
        self.answer(0, message_id.encode() + b"\0")

    def answer(self, status: int, body: bytes = b"") -> None:
        self.status = status
        self.link.send(SUBMIT_SM | RESPONSE, self.sequence, body, status)


def _submit(link: SmscLink, frame: Frame) -> Submit:
    body = frame.body

    def c_string() -> str:
        nonlocal body
        value, end, body = body.partition(b"\0")
        assert end, "a string without its end"
        return value.decode("ascii")

    def octets(count: int) -> Any:
        nonlocal body
        values, body = body[:count], body[count:]
        assert len(values) == count
        return values

    service_type = c_string()
    source = (*octets(2), c_string())
    destination = (*octets(2), c_string())
    esm_class, protocol_id, priority = octets(3)
    schedule, validity = c_string(), c_string()
    registered_delivery, _, data_coding, _, length = octets(5)
    short_message = octets(length)
    return Submit(
        link, frame.sequence, service_type, source, destination, esm_class, protocol_id, priority, schedule, validity,
        registered_delivery, data_coding, short_message, parse_tlvs(body), frame.at,
    )  # fmt: skip


def parse_tlvs(data: bytes) -> dict[int, bytes]:
    tlvs = {}
    while data:
        tag, length = struct.unpack_from(">HH", data)
        assert len(data) >= 4 + length
        assert tag not in tlvs
        tlvs[tag], data = data[4 : 4 + length], data[4 + length :]
    return tlvs


def build_tlvs(tlvs: Mapping[int, bytes]) -> bytes:
    return b"".join(struct.pack(">HH", tag, len(value)) + value for tag, value in tlvs.items())


def udh(reference: int, total: int, number: int) -> bytes:
    """A user data header with an 8-bit reference (3GPP TS 23.040 §9.2.3.24.1)."""
    return bytes((5, 0, 3, reference, total, number))


class SmscLink:
    """One connection of an ESME."""

    def __init__(self, smsc: WireSmsc, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._smsc = smsc
        self._reader = reader
        self.writer = writer
        self.peer, self.peer_port = writer.get_extra_info("peername")[:2]
        self.bound_as = 0
        self.unbound = False
        """The ESME said that it would leave."""
        self.is_open = True
        self.received: list[Frame] = []
        """All that came, requests and responses."""
        self._sequences = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Frame]] = {}

    @property
    def receives(self) -> bool:
        return self.is_open and self.bound_as in (BIND_RECEIVER, BIND_TRANSCEIVER) and not self.unbound

    def send(self, command_id: int, sequence: int, body: bytes = b"", status: int = 0) -> None:
        if self.is_open:
            self.writer.write(struct.pack(">4I", 16 + len(body), command_id, status, sequence) + body)

    def begin(self, command_id: int, body: bytes = b"") -> asyncio.Future[Frame]:
        """A request; the future is its response, or cancelled when the connection ends first."""
        sequence = next(self._sequences)
        future = self._waiting[sequence] = asyncio.get_running_loop().create_future()
        if self.is_open:
            self.send(command_id, sequence, body)
        else:
            future.cancel()
        return future

    async def request(self, command_id: int, body: bytes = b"", timeout: float = DEADLINE) -> Frame:
        async with asyncio.timeout(timeout):
            return await self.begin(command_id, body)

    def close(self) -> None:
        self.writer.close()

    async def ended(self, timeout: float = DEADLINE) -> None:
        await eventually(lambda: not self.is_open, timeout, "the connection's end")

    async def serve(self) -> None:
        try:
            while True:
                length, command_id, status, sequence = struct.unpack(">4I", await self._reader.readexactly(16))
                assert 16 <= length < 70_000, length
                frame = Frame(command_id, status, sequence, await self._reader.readexactly(length - 16))
                self.received.append(frame)
                if command_id & RESPONSE:
                    waiting = self._waiting.pop(sequence, None)
                    if waiting and not waiting.done():
                        waiting.set_result(frame)
                else:
                    self._smsc.take(self, frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.is_open = False
            self.writer.close()
            for each in self._waiting.values():
                each.cancel()


class WireSmsc:
    """`async with WireSmsc() as smsc`. What it does is in its attributes, which a test may change at any time."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self.bind_status = 0
        self.answers_enquiries = True
        self.on_submit: Callable[[Submit], None] = self.accept
        self.receipts = False
        """Send a receipt for each message taken, again and again until the ESME acknowledges it."""
        self.links: list[SmscLink] = []
        self.binds: list[BindRequest] = []
        self.submits: list[Submit] = []
        self.acknowledged: set[str] = set()
        """Ids of messages whose receipts were acknowledged."""
        self.enquiries = 0
        self._ids = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Away, with all connections."""
        if self._server:
            self._server.close()
        for link in self.links:
            link.writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = SmscLink(self, reader, writer)
        self.links.append(link)
        self.spawn(link.serve())

    def take(self, link: SmscLink, frame: Frame) -> None:
        """A request."""
        if frame.command_id in BINDS:
            self._bind(link, frame)
        elif frame.command_id == SUBMIT_SM:
            submit = _submit(link, frame)
            self.submits.append(submit)
            self.on_submit(submit)
        elif frame.command_id == ENQUIRE_LINK:
            self.enquiries += 1
            if self.answers_enquiries:
                link.send(ENQUIRE_LINK | RESPONSE, frame.sequence)
        elif frame.command_id == UNBIND:
            link.unbound = True
            link.send(UNBIND | RESPONSE, frame.sequence)
        else:
            raise AssertionError(f"what is {frame}?")

    def _bind(self, link: SmscLink, frame: Frame) -> None:
        system_id, password, system_type, rest = frame.body.split(b"\0", 3)
        assert rest.endswith(b"\0")
        names = (system_id.decode(), password.decode(), system_type.decode())
        self.binds.append(BindRequest(frame.command_id, *names, *rest[:3], rest[3:-1].decode(), frame.at))
        if self.bind_status:
            link.send(frame.command_id | RESPONSE, frame.sequence, b"", self.bind_status)
            return
        link.bound_as = frame.command_id
        link.send(frame.command_id | RESPONSE, frame.sequence, b"smsc\0" + build_tlvs({0x0210: b"\x34"}))

    # --- messages out -------------------------------------------------------------------------------------------------

    def accept(self, submit: Submit) -> None:
        """Under an id that nobody can mistake for another one's, in whatever base."""
        submit.accept(f"id-{next(self._ids)}-m")
        if self.receipts:
            self.spawn(self.keep_telling(submit))

    def refuse_first(self, count: int, status: int) -> None:
        """Answer the next `count` submit_sm with that status."""
        left = itertools.count(1)
        self.on_submit = lambda submit: submit.answer(status) if next(left) <= count else self.accept(submit)

    async def submitted(self, count: int = 1, timeout: float = DEADLINE) -> list[Submit]:
        """What was submitted, once it is so many."""
        await eventually(lambda: len(self.submits) >= count, timeout, f"submit_sm {count}")
        return self.submits

    # --- messages in --------------------------------------------------------------------------------------------------

    async def bound(self, timeout: float = DEADLINE) -> SmscLink:
        """The connection that messages can be delivered on, once there is one."""
        link: SmscLink = await eventually(self.receiver, timeout, "a bind")
        return link

    def receiver(self) -> SmscLink | None:
        return next((link for link in reversed(self.links) if link.receives), None)

    async def deliver(self, *args: Any, timeout: float = DEADLINE, **fields: Any) -> int:
        """A deliver_sm as `deliver_body` makes it; the command_status it is answered with."""
        link = await self.bound()
        return (await link.request(DELIVER_SM, deliver_body(*args, **fields), timeout)).status

    async def receipt(self, submit: Submit, state: str = "DELIVRD", message_id: str | None = None) -> int:
        """As appendix B writes it."""
        return await self.deliver(submit.to, submit.source[2], receipt_text(message_id or submit.message_id, state), RECEIPT)

    async def keep_telling(self, submit: Submit, state: str = "DELIVRD") -> None:
        """A receipt, on whatever bind there is, until it is acknowledged."""
        body = deliver_body(submit.to, submit.source[2], receipt_text(submit.message_id, state), RECEIPT)
        while True:
            link = self.receiver()
            if link:
                try:
                    answer = await link.request(DELIVER_SM, body, timeout=30)
                except (TimeoutError, asyncio.CancelledError):
                    if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                        raise
                else:
                    if answer.status == 0:
                        self.acknowledged.add(submit.message_id)
                        return
            await asyncio.sleep(0.05)


def receipt_text(message_id: str, state: str = "DELIVRD", error: str = "000") -> bytes:
    return (
        f"id:{message_id} sub:001 dlvrd:001 submit date:1611232145 done date:1611232146 stat:{state} err:{error} text:"
    ).encode()


def deliver_body(
    source: str,
    destination: str,
    data: bytes = b"",
    esm_class: int = 0,
    data_coding: int = 0,
    tlvs: Mapping[int, bytes] | None = None,
) -> bytes:
    """Of a deliver_sm (SMPP 3.4 §4.6.1)."""
    return (
        b"\0\1\1" + source.encode("latin-1") + b"\0\1\1" + destination.encode("latin-1") + b"\0"
        + bytes((esm_class, 0, 0, 0, 0, 0, 0, data_coding, 0, len(data))) + data + build_tlvs(tlvs or {})
    )  # fmt: skip


def data_sm_body(source: str, destination: str, data_coding: int, tlvs: Mapping[int, bytes]) -> bytes:
    """Of a data_sm (§4.7.1)."""
    return (
        b"\0\1\1" + source.encode() + b"\0\1\1" + destination.encode() + b"\0" + bytes((0, 0, data_coding))
        + build_tlvs(tlvs)
    )  # fmt: skip


# --- a bad line -------------------------------------------------------------------------------------------------------


class CuttingProxy:
    """Between an ESME and an SMSC: each connection ends after a random number of bytes, `cuts` times; then no more.

    Most cuts close both directions in good order (all that was passed on arrives), every fourth resets them.
    `answered`: (port that the SMSC sees, sequence number) of each submit_sm_resp of which every byte reached the ESME.
    """

    def __init__(self, smsc: WireSmsc, cuts: int, seed: int) -> None:
        self.smsc = smsc
        self.left = cuts
        self.made = 0
        self.port = 0
        self.answered: set[tuple[int, int]] = set()
        self.reset: set[int] = set()
        """Ports of connections that were reset: what of the last bytes was read, nobody knows."""
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._carry(reader, writer)
        finally:
            self._tasks.discard(task)

    def _budget(self) -> int | None:
        """Bytes until the cut: of the bind, of the first messages, or of many."""
        if not self.left:
            return None
        self.left -= 1
        return self._random.randrange(self._random.choice((100, 1500, 12_000)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.smsc.port)
        except OSError:
            writer.close()
            return
        port = int(up_writer.get_extra_info("sockname")[1])
        budget = self._budget()
        over = asyncio.Event()

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, frames: _Answers | None) -> None:
            nonlocal budget
            try:
                while data := await source.read(65536):
                    if over.is_set() or sink.is_closing():
                        continue  # drained: unread data would make a reset of our close
                    if budget is not None:
                        data = data[:budget]
                        budget -= len(data)
                    sink.write(data)
                    if frames:
                        self.answered |= {(port, sequence) for sequence in frames.feed(data)}
                    if budget == 0:
                        over.set()
            finally:
                over.set()  # also where the ESME has reset it: nothing reaches it any more

        pumps = [
            asyncio.create_task(pump(reader, up_writer, None)),
            asyncio.create_task(pump(up_reader, writer, _Answers())),
        ]
        try:
            if budget != 0:
                await over.wait()
            over.set()
            if budget == 0:
                self.made += 1
            if budget == 0 and self._random.random() < 0.25:
                self.reset.add(port)
                writer.transport.abort()
                up_writer.transport.abort()
            else:
                for each in (writer, up_writer):
                    if each.can_write_eof() and not each.is_closing():
                        each.write_eof()
                await asyncio.wait(pumps, timeout=5)
        except OSError:
            pass
        finally:
            for pump_task in pumps:
                pump_task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            up_writer.close()


class _Answers:
    """Finds whole submit_sm_resp in a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterable[int]:
        self._rest += data
        while len(self._rest) >= 16:
            length, command_id, _, sequence = struct.unpack_from(">4I", self._rest)
            if len(self._rest) < length:
                return
            self._rest = self._rest[length:]
            if command_id == SUBMIT_SM | RESPONSE:
                yield sequence


# --- ours as a command ------------------------------------------------------------------------------------------------


class SmscCommand:
    """`junebug-smsc`, and its HTTP control."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.arguments = arguments
        self.port = 0
        self.control = ""

    async def __aenter__(self) -> Self:
        self._output = self.directory / "junebug-smsc.out"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [command_path("junebug-smsc"), "--port", "0", "--http-port", "0", *self.arguments],
                cwd=self.directory, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            found = await eventually(lambda: re.search(r"HTTP control on (\S+)", self.output), what="junebug-smsc")
        except BaseException:
            self._process.kill()
            raise
        self.control = found[1]
        listening = re.search(r"is listening on \S+:(\d+)", self.output)
        assert listening
        self.port = int(listening[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            assert await asyncio.to_thread(self._process.wait, 10) == 0
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.control + path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def post(self, path: str, **body: Any) -> Any:
        async with aiohttp.ClientSession() as session, session.post(self.control + path, json=body) as answer:
            assert answer.status in (200, 201), await answer.text()
            return await answer.json()
