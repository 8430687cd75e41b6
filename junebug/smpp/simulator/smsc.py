"""Smsc: a simulated SMSC for people without one, for tests and benchmarks: binds, ids, receipts, MOs, and trouble on request.

The other side of session.py. command.py is the command `junebug-smsc` around it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from junebug.smpp import constants as c
from junebug.smpp.codec import encode
from junebug.smpp.fields import EncodeError
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import Bind, CancelSm, DataSm, Pdu, QuerySm, ReplaceSm, SubmitMulti, SubmitSm, response_to
from junebug.smpp.pending import NotWritten, ResponseLost
from junebug.smpp.session import Session, Watcher
from junebug.smpp.simulator.messages import MESSAGE_IDS, MESSAGE_STATES, Message, mo_parts, receipt_of, wants_receipt

MAX_UNANSWERED = 1_000_000
"""Silence and latency are options here: a submit is never refused because others wait."""
MAX_PENDING = 100_000
"""Receipts that wait to be delivered; those of later messages are dropped."""
_TEMPORARY = frozenset((c.ESME_RX_T_APPN, c.ESME_RMSGQFUL, c.ESME_RTHROTTLED, c.ESME_RSYSERR))
_MAY_SUBMIT = frozenset((c.BIND_TRANSCEIVER, c.BIND_TRANSMITTER))
_MAY_RECEIVE = frozenset((c.BIND_TRANSCEIVER, c.BIND_RECEIVER))


@dataclass(frozen=True)
class SmscOptions:
    """Times in seconds. `..._every` N: each N-th submit; 0: none."""

    host: str = "127.0.0.1"
    port: int = 2775
    system_id: str = ""
    """Whom to let in; empty: anybody, with any password."""
    password: str = ""
    latency: float = 0.0
    throttle_every: int = 0
    refuse_every: int = 0
    refuse_status: int = c.ESME_RSUBMITFAIL
    drop_every: int = 0
    silent_every: int = 0
    receipts: bool = True
    """Whether those who ask for receipts (registered_delivery) get them."""
    receipt_delay: float = 1.0
    receipt_status: tuple[str, ...] = ("DELIVRD",)
    """Of the first message, the second ..., and from the beginning again."""
    receipt_form: str = "both"
    """`text`, `tlv` or `both`."""
    receipt_ids: str = "same"
    """How the message's id is written in its receipt: a key of RECEIPT_IDS."""
    duplicate_receipts: bool = False
    late_receipts: float = 0.0
    """Every other receipt comes so many seconds later than that."""
    early_receipts: bool = False
    """Receipts leave before the response to the submit."""
    message_ids: str = "decimal"
    """A key of MESSAGE_IDS."""
    retry_delay: float = 1.0
    """Before a deliver_sm that was refused for now, or got no response, is sent again."""
    bind_timeout: float = 30.0
    enquire_link_interval: float | None = 30.0
    response_timeout: float = 10.0
    window_size: int = 100
    keep: int = 10_000
    """Messages that are remembered."""


@dataclass(slots=True, eq=False)
class Client:
    """One connection: who bound, and how (0: nobody yet)."""

    session: Session
    window: asyncio.Semaphore
    """deliver_sm that may be unanswered at a time."""
    bound_as: int = 0
    system_id: str = ""
    deadline: asyncio.TimerHandle | None = field(default=None, repr=False)


class Smsc:
    """`async with Smsc(options) as smsc`. `messages` holds what was submitted, `counts` what happened how often.

    `options` may be replaced while it runs. `on_event` gets one line for each thing that happens.
    """

    def __init__(
        self, options: SmscOptions | None = None, *, on_event: Callable[[str], None] | None = None, on_pdu: Watcher | None = None
    ) -> None:
        self.options = options or SmscOptions()
        self.port = self.options.port
        """The one listened on, once started, also where the option says 0."""
        self.counts: Counter[str] = Counter()
        self.messages: dict[str, Message] = {}
        self.clients: list[Client] = []
        self._on_event = on_event
        self._on_pdu = on_pdu
        self._numbers = itertools.count(1)
        self._references = itertools.count(1)
        self._submits = 0
        self._receivers: deque[Client] = deque()
        self._receiver_bound = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen: the first time on options.port, again (after `stop`) on the port that it had. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_session, self.options.host, self.port, reuse_address=True)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        self.drop_connections("the SMSC stops")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def drop_connections(self, message: str = "dropped") -> None:
        """Cut everybody off, without unbind."""
        for client in list(self.clients):
            client.session.abort(message)

    async def unbind_all(self) -> None:
        """Send everybody an unbind."""
        await asyncio.gather(*(client.session.unbind(drain_timeout=0.5) for client in self.clients))

    # --- to the ESME --------------------------------------------------------------------------------------------------

    def mo(self, from_addr: str, to_addr: str, content: str, system_id: str | None = None) -> int:
        """A message from a phone, in as many parts as it needs (UDH); the number of parts. It waits for a bound receiver.

        Raises EncodeError (an address that is too long), UnencodableText, TooManyParts.
        """
        pdus = mo_parts(from_addr, to_addr, content, next(self._references))
        encode(pdus[0])
        for pdu in pdus:
            self.deliver(pdu, system_id)
        return len(pdus)

    def deliver(self, pdu: Pdu, system_id: str | None = None) -> asyncio.Task[None]:
        """Send it to a bound receiver (of that system_id), as often as it takes; the task ends when it is acknowledged."""
        return self._spawn(self._deliver(pdu, system_id, None))

    async def _deliver(self, pdu: Pdu, system_id: str | None, message: Message | None) -> None:
        what = "receipt" if message else "mo"
        while True:
            client = self._receiver(system_id)
            if client is None:
                self._receiver_bound.clear()
                await self._receiver_bound.wait()
                continue
            try:
                async with client.window:
                    status = (await client.session.request(pdu)).command_status
                self._say(f"{what} to {client.system_id} answered {c.status_name(status)}")
            except EncodeError as error:
                self.counts[f"{what}s_unsendable"] += 1
                return self._say(f"{what} cannot be sent: {error}")
            except (NotWritten, ResponseLost) as error:
                status = None
                self._say(f"{what} not acknowledged: {error}")
            if status is None or status in _TEMPORARY:
                self.counts[f"{what}s_repeated"] += 1
                await asyncio.sleep(self.options.retry_delay)
                continue
            self.counts[f"{what}s_acknowledged" if status == c.ESME_ROK else f"{what}s_refused"] += 1
            if message and status == c.ESME_ROK:
                message.receipts += 1
            return

    def _receiver(self, system_id: str | None) -> Client | None:
        """The next of those bound to receive, in turn."""
        for _ in range(len(self._receivers)):
            client = self._receivers[0]
            self._receivers.rotate(-1)
            if system_id in (None, client.system_id):
                return client
        return None

    # --- connections --------------------------------------------------------------------------------------------------

    def _new_session(self) -> Session:
        options = self.options
        timers = SessionOptions(options.response_timeout, options.enquire_link_interval, MAX_UNANSWERED)
        session = Session("smsc", timers, on_request=lambda _, pdu: self._on_request(client, pdu), on_pdu=self._on_pdu)
        client = Client(session, asyncio.Semaphore(options.window_size))
        loop = asyncio.get_running_loop()
        client.deadline = loop.call_later(options.bind_timeout, session.close, "no bind")
        self.clients.append(client)
        self.counts["connections"] += 1
        session.closed.add_done_callback(lambda closed: self._forget(client, closed.result().message))
        return session

    def _forget(self, client: Client, reason: str) -> None:
        self.clients.remove(client)
        if client in self._receivers:
            self._receivers.remove(client)
        if client.deadline:
            client.deadline.cancel()
        self._say(f"{client.system_id or client.session.peer} is gone: {reason}")

    def _on_request(self, client: Client, pdu: Pdu) -> None:
        if isinstance(pdu, Bind):
            return self._bind(client, pdu)
        if client.bound_as not in _MAY_SUBMIT:
            return self._answer(client, pdu, c.ESME_RINVBNDSTS)
        if isinstance(pdu, SubmitSm | DataSm | SubmitMulti):
            self._submit(client, pdu)
        elif isinstance(pdu, QuerySm | CancelSm | ReplaceSm):
            self._look_up(client, pdu)
        else:
            self._answer(client, pdu, c.ESME_RINVCMDID)

    def _bind(self, client: Client, pdu: Bind) -> None:
        options = self.options
        if client.bound_as:
            status = c.ESME_RALYBND
        elif options.system_id and pdu.system_id != options.system_id:
            status = c.ESME_RINVSYSID
        elif options.system_id and pdu.password != options.password:
            status = c.ESME_RINVPASWD
        else:
            status = c.ESME_ROK
        self.counts["binds" if status == c.ESME_ROK else "binds_refused"] += 1
        self._say(f"{pdu.command_name} of {pdu.system_id} from {client.session.peer}: {c.status_name(status)}")
        tlvs = {c.SC_INTERFACE_VERSION: b"\x34"} if pdu.interface_version >= 0x34 and status == c.ESME_ROK else {}
        self._answer(client, pdu, status, system_id="junebug-smsc", tlvs=tlvs)
        if status != c.ESME_ROK:
            return
        client.bound_as = pdu.command_id
        client.system_id = pdu.system_id
        if client.deadline:
            client.deadline.cancel()
        if client.bound_as in _MAY_RECEIVE:
            self._receivers.append(client)
            self._receiver_bound.set()

    # --- from the ESME ------------------------------------------------------------------------------------------------

    def _submit(self, client: Client, pdu: SubmitSm | DataSm | SubmitMulti) -> None:
        options = self.options
        self._submits += 1
        self.counts["submits"] += 1
        status = self._status(pdu)
        if status != c.ESME_ROK:
            self.counts["refused"] += 1
            self._say(f"{pdu.command_name} from {client.system_id}: {c.status_name(status)}")
            return self._later(client, pdu, status, {})
        message = self._accept(client, pdu)
        receipt = options.receipts and wants_receipt(pdu.registered_delivery, message.state)
        if receipt and options.early_receipts:
            self._receipt(message, 0.0)
        if options.drop_every and self._submits % options.drop_every == 0:
            self.counts["dropped"] += 1
            client.session.abort("the SMSC hangs up")
        elif options.silent_every and self._submits % options.silent_every == 0:
            self.counts["unanswered"] += 1
        else:
            self._later(client, pdu, c.ESME_ROK, {"message_id": message.message_id})
        if receipt and not options.early_receipts:
            late = options.late_receipts if self._submits % 2 == 0 else 0.0
            self._receipt(message, options.latency + options.receipt_delay + late)

    def _status(self, pdu: SubmitSm | DataSm | SubmitMulti) -> int:
        options = self.options
        if not isinstance(pdu, SubmitMulti) and not pdu.destination_addr:
            return c.ESME_RINVDSTADR
        if options.throttle_every and self._submits % options.throttle_every == 0:
            return c.ESME_RTHROTTLED
        if options.refuse_every and self._submits % options.refuse_every == 0:
            return options.refuse_status
        return c.ESME_ROK

    def _accept(self, client: Client, pdu: SubmitSm | DataSm | SubmitMulti) -> Message:
        number = next(self._numbers)
        if isinstance(pdu, SubmitMulti):
            destination = ",".join(each.destination_addr or each.dl_name for each in pdu.dest_addresses)
        else:
            destination = pdu.destination_addr
        state = self.options.receipt_status[(number - 1) % len(self.options.receipt_status)]
        message_id = MESSAGE_IDS[self.options.message_ids](number)
        message = Message(message_id, client.system_id, pdu, destination, datetime.now(UTC), state)
        self.messages[message.message_id] = message
        if len(self.messages) > self.options.keep:
            del self.messages[next(iter(self.messages))]
        if self._on_event:
            what = f"{pdu.source_addr} -> {message.destination_addr}: {message.content!r}"
            self._say(f"{pdu.command_name} {message.message_id} from {client.system_id}: {what}")
        return message

    def _receipt(self, message: Message, delay: float) -> None:
        if len(self._tasks) >= MAX_PENDING:
            self.counts["receipts_dropped"] += 1
            return
        for _ in range(2 if self.options.duplicate_receipts else 1):
            self._spawn(self._send_receipt(message, delay))

    async def _send_receipt(self, message: Message, delay: float) -> None:
        await asyncio.sleep(delay)
        receipt = receipt_of(message, datetime.now(UTC), self.options.receipt_form, self.options.receipt_ids)
        await self._deliver(receipt, message.system_id, message)

    def _look_up(self, client: Client, pdu: QuerySm | CancelSm | ReplaceSm) -> None:
        message = self.messages.get(pdu.message_id)
        if isinstance(pdu, QuerySm):
            if message is None:
                return self._answer(client, pdu, c.ESME_RQUERYFAIL)
            state = MESSAGE_STATES[message.state]
            return self._answer(client, pdu, c.ESME_ROK, message_id=message.message_id, message_state=state)
        # whatever is asked for was delivered already: this SMSC is quick
        failed = c.ESME_RCANCELFAIL if isinstance(pdu, CancelSm) else c.ESME_RREPLACEFAIL
        self._answer(client, pdu, failed if message else c.ESME_RINVMSGID)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _later(self, client: Client, pdu: Pdu, status: int, fields: dict[str, Any]) -> None:
        """Answer after the latency."""
        if not self.options.latency:
            return self._answer(client, pdu, status, **fields)
        asyncio.get_running_loop().call_later(self.options.latency, lambda: self._answer(client, pdu, status, **fields))

    def _answer(self, client: Client, pdu: Pdu, status: int, **fields: Any) -> None:
        response = response_to(pdu.command_id, pdu.sequence_number, status)
        for name, value in fields.items():
            setattr(response, name, value)
        client.session.respond(response)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _say(self, line: str) -> None:
        if self._on_event:
            self._on_event(line)
