"""SmppTransport: a channel's bind to an SMSC, as the worker sees it: start, stop, send, and what comes in.

    send      -> mt.py (PDUs) -> gate.py (order, pace) -> link.py -> submit_sm_resp -> tracker.py (its id) -> worker
    deliver_sm -> receipts.py -> tracker.py -> delivery event, or mo.py -> reassembly.py -> inbound message -> deliver_sm_resp

What arrives is acknowledged to the SMSC when RabbitMQ (or Redis) holds it, not before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from junebug.errors import Expired, NotSent, Rejected, StoreUnavailable, TransportStartError, UnknownOutcome, Unroutable
from junebug.model.messages import StatusLevel, UserMessage, new_id
from junebug.runtime.loop import end_task
from junebug.smpp import constants as c
from junebug.smpp.bind import Link, LinkEvent, LinkState, TlsError
from junebug.smpp.pdu import DataSm, DeliverSm, EncodeError, Pdu, SubmitSm, SubmitSmResp
from junebug.smpp.session import Direction, NotWritten, ResponseLost, Session, response_to
from junebug.smpp.text.codecs import UndecodableText
from junebug.transports.base import Accepted, Transport, TransportContext
from junebug.transports.smpp import CHANNEL_TYPE, mo, mt
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.correlation import ReceiptCorrelation, SentPart
from junebug.transports.smpp.pdu_log import PduLog
from junebug.transports.smpp.reassembly import Reassembly, Whole
from junebug.transports.smpp.receipts import Receipt, ReceiptReader, UnreadableReceipt
from junebug.transports.smpp.submit_scheduler import Gate, GateClosed, Pace, Place

T = TypeVar("T")

MAX_UNFINISHED = 10_000
"""Messages whose progress is remembered: what was accepted of one that is sent again is not submitted again."""
MAX_ATTEMPTS = 4
"""So often a message is submitted that the SMSC refuses for the time being; then it is rejected."""
STORE_PATIENCE = 10.0
"""Seconds that an inbound PDU waits for Redis before the SMSC is told to send it again later."""
STORE_PAUSE = 0.2
LINK_PAUSE = 0.05
SWEEP_INTERVAL = 5.0
HOLD = 10.0
"""Seconds without a bind that messages wait for it here, in their order; then they go back to their queue."""
SHORTEST_PAUSE = 3.0
"""Seconds before they are fetched from it again; longer than what the worker waits in place."""
DRAIN_TIMEOUT = 3.0

_LEVELS: dict[LinkState, tuple[StatusLevel, str]] = {
    LinkState.BINDING: ("down", "binding"),
    LinkState.BOUND: ("ok", "bound"),
    LinkState.CONNECT_FAILED: ("down", "connection_lost"),
    LinkState.BIND_TIMEOUT: ("down", "bind_timeout"),
    LinkState.BIND_REFUSED: ("down", "bind_refused"),
    LinkState.CONNECTION_LOST: ("down", "connection_lost"),
    LinkState.UNBINDING: ("down", "unbinding"),
}
"""State of the link -> level and type of the channel's status (COMPAT §5)."""
_FAILURES = (LinkState.CONNECT_FAILED, LinkState.BIND_TIMEOUT, LinkState.BIND_REFUSED, LinkState.CONNECTION_LOST)


@dataclass(slots=True)
class Progress:
    """How far a message got. `ids`: the provider's id of each part that was accepted."""

    number: int
    """Its place in the line, also when it is sent again."""
    pdus: list[SubmitSm]
    ids: dict[int, str] = field(default_factory=dict)
    attempts: int = 1
    refused: bool = False

    @property
    def missing(self) -> list[int]:
        return [number for number in range(1, len(self.pdus) + 1) if number not in self.ids]

    @property
    def provider_id(self) -> str | None:
        return ",".join(filter(None, (self.ids[number] for number in sorted(self.ids)))) or None


class SmppTransport(Transport):
    """One bind."""

    config_schema = CHANNEL_TYPE.config_schema
    secrets = CHANNEL_TYPE.secrets
    send_timeout = None

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._config = config = SmppConfig.from_config(context.config)
        self.acks = not config.disable_ack
        window = config.link.session.window_size
        self.window = min(2 * window, window + 100)  # some are answered, and their ids being kept
        self._pace = Pace(window, config.mt_tps, config.throttle_delay)
        self._gate = Gate(self._pace, self._on_throttled, room=max(1, window // 4))
        self._pdu_log = PduLog(config.redact_content, config.data_coding_overrides)
        self._link = Link(config.link, on_state=self._on_state, on_request=self._on_request, on_pdu=self._on_pdu)
        self._receipts = ReceiptReader(config.receipt_regex, config.receipt_statuses, config.receipt_use_esm_class)
        self._correlation = ReceiptCorrelation(config, context.store, self._report)
        self._reassembly = Reassembly(context.store, config.mo_multipart_timeout, self._deliver_whole)
        self._progress: OrderedDict[str, Progress] = OrderedDict()
        self._reference = int(new_id()[:4], 16)
        self._statuses: asyncio.Queue[tuple[StatusLevel, str, str, dict[str, Any]]] = asyncio.Queue()
        self._was_bound = False
        self._failing = False
        self._told = ""
        """Type of the last status."""
        self._next_attempt = 0.0
        self._hold: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._inbound: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._tell_statuses(), name="smpp statuses"),
            asyncio.create_task(self._sweep_forever(), name="smpp sweep"),
        ]
        await self.context.status("smpp", "down", "starting", f"Starting: {self._where}")
        try:
            self._link.start()
        except TlsError as error:
            raise TransportStartError(f"tls.{error}") from None

    async def stop(self) -> None:
        await self._link.stop(drain_timeout=DRAIN_TIMEOUT)
        self._end_hold()
        self._gate.close("the channel is stopping")
        for task in list(self._inbound):
            await end_task(task)
        await self._statuses.join()
        for task in self._tasks:
            await end_task(task)
        await self._correlation.stop()

    @property
    def _where(self) -> str:
        return f"{self._config.link.host}:{self._config.link.port}"

    # --- out ----------------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        if self._config.can_send:
            await self._gate.has_room()

    async def send(self, message: UserMessage) -> Accepted:
        if not self._config.can_send:
            raise Rejected("This channel's bind_mode is receiver: it cannot send")
        progress = self._begin(message)
        for _ in progress.missing[1:]:
            await self.context.permit(message.priority)
        places = [Place(-message.priority, progress.number, part) for part in progress.missing]
        submits = [self._submit(message, progress, place, self._gate.join(place)) for place in places]
        if len(submits) == 1:
            await submits[0]
        elif submits:
            outcomes = await asyncio.gather(*submits, return_exceptions=True)
            self._raise_worst(outcomes)
        progress.pdus.clear()  # they may be many: what is remembered of it from now on are its ids
        return self._correlation.accepted(message.message_id, progress.provider_id)

    def _begin(self, message: UserMessage) -> Progress:
        """Its PDUs; those of before when it is sent again, so that accepted parts are left out."""
        progress = self._progress.get(message.message_id)
        if progress is None:
            self._reference = (self._reference + 1) % self._config.reference_rollover
            progress = Progress(self._gate.arrive(), mt.build(message, self._config, self._reference, datetime.now(UTC)))
            self._progress[message.message_id] = progress
            if len(self._progress) > MAX_UNFINISHED:
                self._progress.popitem(last=False)
        return progress

    @staticmethod
    def _raise_worst(outcomes: list[Any]) -> None:
        """The final outcome before those after which the message is sent again; a bug of ours before all."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        order = (Rejected, Expired, UnknownOutcome, NotSent)
        errors.sort(key=lambda error: next((i for i, kind in enumerate(order) if isinstance(error, kind)), -1))
        if errors:
            raise errors[0]

    async def _submit(self, message: UserMessage, progress: Progress, place: Place, turn: asyncio.Future[int]) -> None:
        """One part, until it is accepted. Raises the outcomes of Transport.send."""
        pdu = progress.pdus[place.part - 1]
        while True:
            try:
                left_in = await self._gate.turn(turn)
            except GateClosed as error:
                raise self._not_sent(str(error)) from None
            if progress.refused:
                self._gate.gave_up()
                raise NotSent("another part of the message was refused")
            if message.has_expired(datetime.now(UTC)):
                self._gate.gave_up()
                raise Expired(f"its time was over at {message.expires_at}")
            try:
                response = await self._link.request(pdu, tag=message.message_id)
            except EncodeError as error:
                self._refuse(message, progress)
                self._gate.gave_up()
                raise Rejected(f"Cannot be sent: {error}") from None
            except NotWritten:  # the link was lost in this moment, or the peer does not read
                self._gate.gave_up()
                await asyncio.sleep(LINK_PAUSE)
                turn = self._gate.join(place)
                continue
            except ResponseLost as error:
                self._gate.gave_up()
                raise UnknownOutcome(str(error)) from None
            except BaseException:
                self._gate.gave_up()
                raise
            meaning = self._meaning(response)
            if meaning == "throttled":
                self._gate.pushed_back()
                turn = self._gate.join(place)
                continue
            self._gate.taken(left_in)
            if meaning == "retry" and progress.attempts < MAX_ATTEMPTS:
                progress.attempts += 1
                raise NotSent(f"refused for now: {response.status_name}", self._config.retry_delay)
            if meaning != "accepted":
                self._refuse(message, progress)
                raise Rejected(response.status_name if response.command_status else response.command_name)
            assert isinstance(response, SubmitSmResp)
            return await self._accepted(message, progress, place.part, response.message_id.strip())

    def _meaning(self, response: Pdu) -> str:
        if response.command_status == c.ESME_ROK:
            return "accepted" if isinstance(response, SubmitSmResp) else "reject"
        return self._config.status_meanings.get(response.command_status, "reject")

    async def _accepted(self, message: UserMessage, progress: Progress, part: int, provider_id: str) -> None:
        progress.ids[part] = provider_id
        if provider_id:
            sent = SentPart(
                message.message_id, self.context.channel_id, message.to_addr or "", part, len(progress.pdus)
            )
            await self._correlation.sent(provider_id, sent)

    def _refuse(self, message: UserMessage, progress: Progress) -> None:
        """For good: parts that have not left will not."""
        progress.refused = True
        self._progress.pop(message.message_id, None)
        self._correlation.forget(message.message_id)

    def _not_sent(self, reason: str) -> NotSent:
        """To be tried again when the link has been."""
        left = self._next_attempt - asyncio.get_running_loop().time()
        return NotSent(reason, max(SHORTEST_PAUSE, left + 0.2))

    # --- in -----------------------------------------------------------------------------------------------------------

    def _on_request(self, session: Session, pdu: Pdu) -> None:
        if isinstance(pdu, DeliverSm | DataSm):
            task = asyncio.create_task(self._take(session, pdu))
            self._inbound.add(task)
            task.add_done_callback(self._inbound.discard)

    async def _take(self, session: Session, pdu: DeliverSm | DataSm) -> None:
        """A receipt or a message; answered when it is safe. The session bounds how many of these there are at once."""
        entry = _Entry(lambda message_id: self._pdu_log("in", pdu.raw, pdu, message_id))
        status = c.ESME_ROK
        try:
            receipt = self._read_receipt(pdu)
            if receipt is None or not await self._take_receipt(receipt, entry):
                await self._take_message(pdu, entry)
        except UnreadableReceipt as error:
            self.context.log.warning("receipt left out", reason=str(error))
        except UndecodableText as error:
            self.context.log.warning("inbound message refused", reason=str(error), from_addr=pdu.source_addr)
            status = self._config.decoding_error
        except StoreUnavailable as error:
            self.context.log.warning("inbound PDU refused for now", reason=str(error))
            status = c.ESME_RX_T_APPN
        except Exception:
            self.context.log.exception("inbound PDU failed")
            status = c.ESME_RX_T_APPN
        finally:
            entry.write(None)
        session.respond(response_to(pdu.command_id, pdu.sequence_number, status), tag=entry.message_id)

    def _read_receipt(self, pdu: DeliverSm | DataSm) -> Receipt | None:
        text = mo.receipt_text(pdu)
        return self._receipts.read(pdu.esm_class, pdu.tlvs, text, (pdu.source_addr, pdu.destination_addr))

    async def _take_receipt(self, receipt: Receipt, entry: _Entry) -> bool:
        """False: it is a message that only looks like one."""
        message_id = await self._with_store(lambda: self._correlation.received(receipt))
        entry.write(message_id)
        return message_id is not None or receipt.certain

    async def _report(self, message_id: str, status: str, details: dict[str, Any], sent_by: str) -> None:
        if self._config.disable_delivery_report:
            return
        try:
            await self.context.delivery_report(message_id, status, details, sent_by=sent_by)
        except Unroutable:
            self.context.log.warning("the channel that sent this is gone", message_id=message_id, sent_by=sent_by)

    async def _take_message(self, pdu: DeliverSm | DataSm, entry: _Entry) -> None:
        inbound = mo.read(pdu)
        if inbound.part:
            # its end may be half a character: only an alphabet that is none is refused
            mo.decode(inbound.octets, self._config.data_coding_overrides, errors="replace")
            part = inbound.part
            return entry.write(await self._with_store(lambda: self._reassembly.add(inbound, part)))
        content = mo.decode(inbound.octets, self._config.data_coding_overrides)
        if not content and not self._config.allow_empty_messages:
            raise UndecodableText("it is empty, and allow_empty_messages is off")
        message_id = new_id()
        entry.write(message_id)
        await self.context.inbound(
            to_addr=inbound.destination_addr,
            from_addr=inbound.source_addr,
            content=content,
            transport_type=self._config.transport_type,
            message_id=message_id,
            helper_metadata=inbound.metadata(),
        )

    async def _deliver_whole(self, whole: Whole) -> None:
        metadata: dict[str, Any] = {}
        if whole.missing:
            metadata = {"incomplete": True, "smpp": {"parts": whole.parts, "missing_parts": list(whole.missing)}}
        await self.context.inbound(
            to_addr=whole.destination_addr,
            from_addr=whole.source_addr,
            content=mo.decode_whole(whole.texts, self._config.data_coding_overrides),
            transport_type=self._config.transport_type,
            message_id=whole.message_id,
            helper_metadata=metadata,
        )

    async def _with_store(self, call: Callable[[], Awaitable[T]]) -> T:
        """Its result; tried again for a while when Redis is away. Raises StoreUnavailable."""
        ends = asyncio.get_running_loop().time() + STORE_PATIENCE
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > ends:
                    raise
            await asyncio.sleep(STORE_PAUSE)

    async def _sweep_forever(self) -> None:
        interval = min(SWEEP_INTERVAL, self._config.mo_multipart_timeout)
        while True:
            try:
                await self._reassembly.sweep()
            except StoreUnavailable:
                pass
            except Exception:
                self.context.log.exception("incomplete inbound messages could not be looked through")
            await asyncio.sleep(interval)

    # --- how it stands ------------------------------------------------------------------------------------------------

    def _on_pdu(self, direction: Direction, raw: bytes, pdu: Pdu | None, tag: Any) -> None:
        if direction == "in" and isinstance(pdu, DeliverSm | DataSm):
            return  # logged when its message is known
        self._pdu_log(direction, raw, pdu, tag)

    def _on_state(self, event: LinkEvent) -> None:
        now = asyncio.get_running_loop().time()
        self._next_attempt = now + event.details.get("retry_after", 0)
        if event.state is LinkState.BOUND:
            self._end_hold()
            self._gate.open()
        else:
            self._gate.hold()
            if self._hold is None:
                message = f"not bound to {self._where} for {HOLD:g} seconds"
                self._hold = asyncio.get_running_loop().call_later(HOLD, self._gate.close, message)
        if event.state is LinkState.CONNECTING or (event.state is LinkState.BINDING and self._failing):
            return  # it failed before: until that changes, another attempt is no news
        self._failing = event.state in _FAILURES and not self._was_bound
        self._was_bound = event.state is LinkState.BOUND
        if event.state in _LEVELS:
            level, type = _LEVELS[event.state]
            if self._failing and type == self._told:
                return  # it fails as before, if perhaps in other words (reset, closed, refused)
            self._told = type
            self._statuses.put_nowait((level, type, event.message, event.details))

    def _end_hold(self) -> None:
        if self._hold:
            self._hold.cancel()
            self._hold = None

    def _on_throttled(self, throttled: bool) -> None:
        if throttled:
            message = "The SMSC says that we send too fast: sending slower"
            self._statuses.put_nowait(("degraded", "throttled", message, {}))
        else:
            self._statuses.put_nowait(("ok", "throttled_end", "The SMSC takes messages again", {}))

    async def _tell_statuses(self) -> None:
        """One after the other, in the order in which they came to be."""
        while True:
            level, type, message, details = await self._statuses.get()
            try:
                await self.context.status("smpp", level, type, message, details)
            except Exception:
                self.context.log.exception("a status could not be told")
            finally:
                self._statuses.task_done()


class _Entry:
    """The log line of an inbound PDU: written once, when its message's id is known or will not be."""

    def __init__(self, write: Callable[[str | None], None]) -> None:
        self._write: Callable[[str | None], None] | None = write
        self.message_id: str | None = None

    def write(self, message_id: str | None) -> None:
        if self._write:
            write, self._write = self._write, None
            self.message_id = message_id
            write(message_id)
