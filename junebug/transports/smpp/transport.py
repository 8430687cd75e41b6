"""SmppTransport: a channel's bind to an SMSC, as the worker sees it: start, stop, send, and how it stands.

    send -> mt.py (PDUs) -> submit_scheduler.py (order, pace) -> smpp/bind.py -> submit_sm_resp -> correlation.py (its id)

Neighbour: inbound.py has what comes in.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from junebug.errors import Expired, NotSent, Rejected, TransportStartError, UnknownOutcome, Unroutable
from junebug.model.identity import Identity, identity_of
from junebug.model.messages import DeliveryStatus, StatusLevel, UserMessage, new_id
from junebug.runtime.loop import end_task
from junebug.runtime.tls import TlsError
from junebug.smpp import constants as c
from junebug.smpp.bind import BindEvent, BindState
from junebug.smpp.bind_pool import BindPool
from junebug.smpp.fields import EncodeError
from junebug.smpp.pdu import DataSm, DeliverSm, Pdu, SubmitSm, SubmitSmResp
from junebug.smpp.pending import NotWritten, ResponseLost
from junebug.smpp.session import Direction, Session
from junebug.smpp.window import Window
from junebug.transports.base import Accepted, Transport, TransportContext
from junebug.transports.smpp import CHANNEL_TYPE, mt
from junebug.transports.smpp.answered import Answered
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.correlation import ReceiptCorrelation
from junebug.transports.smpp.inbound import Inbound
from junebug.transports.smpp.pdu_log import PduLog
from junebug.transports.smpp.recently_sent import SentPart
from junebug.transports.smpp.submit_scheduler import SchedulerClosed, SubmitScheduler, Ticket

MAX_REMEMBERED = 10_000
"""Of so many unfinished messages that are not in `send` the progress is remembered: what was accepted of one that comes again is
not submitted again."""
MAX_ATTEMPTS = 4
"""So often a message is submitted that the SMSC refuses for the time being; then it is rejected."""
WRITE_PAUSE = 0.1
"""Seconds before a submit_sm that could not be written waits in the line again."""
DRAIN_TIMEOUT = 3.0

_LEVELS: dict[BindState, tuple[StatusLevel, str]] = {
    BindState.BINDING: ("down", "binding"),
    BindState.BOUND: ("ok", "bound"),
    BindState.CONNECT_FAILED: ("down", "connection_lost"),
    BindState.BIND_TIMEOUT: ("down", "bind_timeout"),
    BindState.BIND_REFUSED: ("down", "bind_refused"),
    BindState.CONNECTION_LOST: ("down", "connection_lost"),
    BindState.UNBINDING: ("down", "unbinding"),
}
"""State of the bind -> level and type of the channel's status (COMPAT §5)."""
_FAILURES = (BindState.CONNECT_FAILED, BindState.BIND_TIMEOUT, BindState.BIND_REFUSED, BindState.CONNECTION_LOST)


@dataclass(slots=True)
class Progress:
    """How far a message got. `ids`: the provider's id of each part that was accepted."""

    number: int
    """Its place in the line, also when it is sent again."""
    pdus: list[SubmitSm]
    ids: dict[int, str] = field(default_factory=dict)
    missing: list[int] = field(init=False)
    """Parts that were not."""
    attempts: int = 1
    refused: bool = False
    in_send: bool = False

    def __post_init__(self) -> None:
        self.missing = list(range(1, len(self.pdus) + 1))

    def accepted(self, part: int, provider_id: str) -> None:
        self.ids[part] = provider_id
        self.missing.remove(part)

    @property
    def provider_id(self) -> str | None:
        return ",".join([self.ids[part] for part in sorted(self.ids) if self.ids[part]]) or None


class SmppTransport(Transport):
    """One bind."""

    config_schema = CHANNEL_TYPE.config_schema
    secrets = CHANNEL_TYPE.secrets
    is_fenced = True
    send_timeout = None
    """In the line a message may wait for as long as others leave; the rest has limits: the bind's, the response's."""
    bind_patience = 10.0
    """Seconds without a bind that messages wait for it here, in their order; then they go back to their queue."""
    shortest_pause = 3.0
    """Seconds before they are fetched from it again; longer than what the worker waits in place."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._config = config = SmppConfig.from_config(context.config).part(context.shard, context.shards)
        self.acks = not config.disable_ack
        self.window = config.window_size
        self.burst = max(1, config.window_size // 4)
        window = Window(config.window_size, config.mt_tps, config.throttle_delay)
        self._scheduler = SubmitScheduler(window, self._on_throttled, room=self.burst)
        self._pdu_log = PduLog(config.redact_content)
        self._bind = BindPool(
            config.binds, config.bind, on_state=self._on_state, on_request=self._on_request, on_pdu=self._on_pdu, own=context.own
        )
        self._correlation = ReceiptCorrelation(config, context.store, self._report, context.own)
        self._inbound = Inbound(context, config, self._correlation, self._pdu_log)
        self._unfinished: dict[Identity, Progress] = {}
        self._numbers = itertools.count(1)
        self._reference = int(new_id()[:4], 16)
        self._answered = Answered(context.metrics, config.binds)
        self._statuses: asyncio.Queue[tuple[StatusLevel, str, str, dict[str, Any]]] = asyncio.Queue()
        self._was_bound = False
        self._failing = False
        self._stopping = False
        self._told = ""
        """Type of the last status."""
        self._next_attempt = 0.0
        self._giving_up: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            self.context.own("smpp statuses", self._tell_statuses()),
            self.context.own("smpp sweep", self._inbound.sweep_forever()),
        ]
        await self.context.status("smpp", "down", "starting", f"Starting: {self._where}")
        try:
            self._bind.start()
        except TlsError as error:
            raise TransportStartError(f"tls.{error}") from None

    def stop_sending(self) -> None:
        self._stopping = True
        if not self._bind.bound:
            self._scheduler.close("the channel is stopping")

    async def stop(self) -> None:
        self._stopping = True
        await self._bind.stop(drain_timeout=DRAIN_TIMEOUT)
        self._keep_patience()
        self._scheduler.close("the channel is stopping")
        await self._inbound.stop()
        await self._statuses.join()
        for task in self._tasks:
            await end_task(task)
        await self._correlation.stop()

    @property
    def _where(self) -> str:
        return f"{self._config.bind.host}:{self._config.bind.port}"

    # --- out ----------------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        if self._config.can_send:
            await self._scheduler.has_room()

    async def send(self, message: UserMessage) -> Accepted:
        if not self._config.can_send:
            raise Rejected("This channel's bind_mode is receiver: it cannot send")
        message_id, identity = message.message_id, identity_of(message)
        progress = self._begin(message, identity)
        try:
            for _ in progress.missing[1:]:
                await self.context.permit(message.priority)
            with self._correlation.submitting(message_id, message.to_addr or ""):
                await self._submit_missing(message, progress)
        except (Rejected, Expired):
            self._forget(identity)
            raise
        finally:
            progress.in_send = False
        self._unfinished.pop(identity, None)
        return self._correlation.accepted(message_id, progress.provider_id)

    async def accepted_before(self, message: UserMessage, provider_id: str | None) -> Accepted:
        pdus = mt.build(message, self._config, self._reference, datetime.now(UTC))
        ids = (provider_id or "").split(",", maxsplit=-1 if len(pdus) > 1 else 0)
        if len(ids) == len(pdus):  # else some parts have none, and nobody knows which
            for part, part_id in enumerate(ids, 1):
                await self._keep_id(message, part, pdus, part_id)
        return self._correlation.accepted(message.message_id, provider_id)

    def _begin(self, message: UserMessage, identity: Identity) -> Progress:
        """Its PDUs; those of before when it is sent again, so that accepted parts are left out."""
        progress = self._unfinished.get(identity)
        if progress is None:
            self._reference = (self._reference + 1) % self._config.reference_rollover
            pdus = mt.build(message, self._config, self._reference, datetime.now(UTC))
            progress = self._unfinished[identity] = Progress(next(self._numbers), pdus)
        progress.in_send = True
        if len(self._unfinished) > MAX_REMEMBERED + self.window:
            self._forget(next(each for each, progress in self._unfinished.items() if not progress.in_send))
        return progress

    def _forget(self, identity: Identity) -> None:
        self._unfinished.pop(identity, None)
        self._correlation.forget(identity[0])

    async def _submit_missing(self, message: UserMessage, progress: Progress) -> None:
        tickets = [Ticket(-message.priority, progress.number, part) for part in progress.missing]
        for ticket in tickets:
            self._scheduler.enqueue(ticket)
        if len(tickets) == 1:
            return await self._submit(message, progress, tickets[0])
        submits = (self._submit(message, progress, ticket) for ticket in tickets)
        outcomes = await asyncio.gather(*submits, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            raise min(errors, key=_rank)

    async def _submit(self, message: UserMessage, progress: Progress, ticket: Ticket) -> None:
        """One part, until it is accepted. Raises the outcomes of Transport.send."""
        while True:
            try:
                await self._scheduler.turn(ticket)
            except SchedulerClosed as error:  # to be tried again when the bind has been
                left = self._next_attempt - asyncio.get_running_loop().time()
                raise NotSent(str(error), max(self.shortest_pause, left + 0.2)) from None
            try:
                if progress.refused:
                    raise NotSent("another part of the message was refused")
                if message.has_expired():
                    raise Expired(f"its time was over at {message.expires_at}")
                pdu = progress.pdus[ticket.part - 1]
                began = time.perf_counter()
                response = await self._bind.request(pdu, address=pdu.destination_addr, tag=message.message_id)
            except NotWritten:  # the connection was lost in this moment, or the peer does not read
                self._scheduler.lost()
                await asyncio.sleep(WRITE_PAUSE)
                self._scheduler.enqueue(ticket)
                continue
            except BaseException as error:
                self._scheduler.lost()
                if isinstance(error, EncodeError):
                    progress.refused = True
                    raise Rejected(f"Cannot be sent: {error}") from None
                if isinstance(error, ResponseLost):
                    raise UnknownOutcome(str(error)) from None
                raise
            status = response.command_status
            self._answered(status, time.perf_counter() - began)
            meaning = self._config.status_meanings.get(status, "reject") if status != c.ESME_ROK else "accepted"
            if meaning == "throttled":
                self._answered.throttled()
                self._scheduler.throttled(ticket)
                continue
            self._scheduler.taken(ticket)
            if meaning == "retry" and progress.attempts < MAX_ATTEMPTS:
                progress.attempts += 1
                raise NotSent(f"refused for now: {response.status_name}", self._config.retry_delay)
            if meaning != "accepted" or not isinstance(response, SubmitSmResp):
                progress.refused = True
                raise Rejected(response.status_name if status else response.command_name)
            provider_id = response.message_id.strip()
            progress.accepted(ticket.part, provider_id)
            if not progress.missing:
                self.on_accepted(message, progress.provider_id)
            return await self._keep_id(message, ticket.part, progress.pdus, provider_id)

    async def _keep_id(self, message: UserMessage, part: int, pdus: Sequence[SubmitSm], provider_id: str) -> None:
        """For its receipt."""
        if provider_id:
            sent = SentPart(message.message_id, self.context.channel_id, pdus[0].destination_addr, part, len(pdus))
            is_asked = bool(pdus[part - 1].registered_delivery or self._config.registered_delivery)
            await self._correlation.sent(provider_id, sent, is_asked=is_asked)

    async def _report(self, message_id: str, status: str, details: dict[str, Any], sent_by: str) -> None:
        if self._config.disable_delivery_report:
            return
        try:
            await self.context.delivery_report(message_id, cast(DeliveryStatus, status), details, sent_by=sent_by)
        except Unroutable:
            self.context.log.warning("the channel that sent this is gone", message_id=message_id, sent_by=sent_by)

    # --- what the bind tells ------------------------------------------------------------------------------------------

    def _on_request(self, session: Session, pdu: Pdu) -> None:
        if isinstance(pdu, DeliverSm | DataSm):
            self._inbound.on_pdu(session, pdu)

    def _on_pdu(self, direction: Direction, raw: bytes, pdu: Pdu | None, tag: Any) -> None:
        if direction == "in" and isinstance(pdu, DeliverSm | DataSm):
            return  # logged when its message is known
        self._pdu_log(direction, raw, pdu, tag)

    def _on_state(self, event: BindEvent, bound: int) -> None:
        self._answered.bound = bound
        others = bound - (event.state is BindState.BOUND)
        if others and not self._stopping:
            return self._on_another(event, bound)
        loop = asyncio.get_running_loop()
        self._next_attempt = loop.time() + event.details.get("retry_after", 0)
        if event.state is BindState.BOUND:
            self._keep_patience()
            self._scheduler.open()
        elif self._stopping:
            self._scheduler.close("the channel is stopping")
        else:
            self._scheduler.hold()
            if self._giving_up is None:
                message = f"not bound to {self._where} for {self.bind_patience:g} seconds"
                self._giving_up = loop.call_later(self.bind_patience, self._scheduler.close, message)
        if event.state is BindState.CONNECTING or (event.state is BindState.BINDING and self._failing):
            return  # it failed before: until that changes, another attempt is no news
        self._failing = event.state in _FAILURES and not self._was_bound
        self._was_bound = event.state is BindState.BOUND
        if event.state in _LEVELS:
            level, type = _LEVELS[event.state]
            if bound and bound < self._config.binds and not self._stopping:
                level, type = "degraded", "binds_missing"
            if (self._failing or self._stopping) and type == self._told:
                return  # it fails as before, if perhaps in other words (reset, closed, refused)
            self._tell(level, type, event, bound)

    def _on_another(self, event: BindEvent, bound: int) -> None:
        """A change of one of several binds, while there are others."""
        if bound == self._config.binds:
            self._tell("ok", "bound", event, bound)
        elif event.state in _FAILURES:
            self._tell("degraded", "binds_missing", event, bound)

    def _tell(self, level: StatusLevel, type: str, event: BindEvent, bound: int) -> None:
        self._told = type
        message, details = event.message, event.details
        if self._config.binds > 1:
            message = f"{bound} of {self._config.binds} binds: {message}"
            details = {**details, "bound": bound, "binds": self._config.binds}
        self._statuses.put_nowait((level, type, message, details))

    def _keep_patience(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None

    def _on_throttled(self, throttled: bool) -> None:
        self._answered.is_throttled = throttled
        if throttled:
            self._statuses.put_nowait(("degraded", "throttled", "The SMSC says that we send too fast: sending slower", {}))
        else:
            self._statuses.put_nowait(("ok", "throttled_end", "The SMSC takes messages again", {}))

    async def _tell_statuses(self) -> None:
        """One after the other, in the order in which they came to be."""
        while True:
            told = await self._statuses.get()
            try:
                await self.context.status("smpp", *told)
            except Exception:
                self.context.log.exception("a status could not be told")
            finally:
                self._statuses.task_done()


def _rank(error: BaseException) -> int:
    """The final outcome before those after which the message is sent again; a bug of ours before all."""
    order = (Rejected, Expired, UnknownOutcome, NotSent)
    return next((rank for rank, kind in enumerate(order) if isinstance(error, kind)), -1)
