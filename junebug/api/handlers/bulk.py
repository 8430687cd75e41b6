"""Many messages in one request: `POST /channels/ID/messages/bulk`.

Nothing is sent before the body has come whole and is within its limits. Then it goes through in parts: each is decoded
and checked, and where its events go is stored in one command. What is ready by then is published together, and more gets
ready while RabbitMQ confirms: only one such batch is under way, which keeps the order. A part is small, so that other
requests have their turn; of all bulk sends one has it at a time. Every message has an outcome of its own. When RabbitMQ or
Redis fails, what has not begun is not sent.

Neighbours: messages.py sends a single one, api/bulk_body.py takes the body apart, api/idempotency.py has the keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from aiohttp import web

from junebug.api import views
from junebug.api.access import access, origin_of
from junebug.api.bulk_body import LARGEST_BODY, Span, spans
from junebug.api.channel_queues import ChannelQueues
from junebug.api.compose import Composer
from junebug.api.dry_run import refuse
from junebug.api.http import BODY, RETRY_AFTER, channel_id, large_body, load_json, long_work, reply
from junebug.api.idempotency import REPLAYED_HEADER, BulkReservation, Idempotency, key_of
from junebug.api.spec_cache import SpecCache
from junebug.errors import ApiUsageError, JunebugError, PayloadTooLarge, Unavailable
from junebug.model.acceptance import Origin
from junebug.model.access import SEND
from junebug.model.messages import UserMessage, format_timestamp, new_id
from junebug.model.spec import ChannelSpec
from junebug.model.trace import trace_of
from junebug.runtime.loop import end_task
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

PART, PART_BYTES = 200, 256 * 1024
"""Messages, and bytes of them, that are worked on without a break."""
MOST_READY = 5
"""Parts of a request that wait to be published."""
AT_ONCE = 8
"""Requests that are worked on at a time; others wait, and only their bodies are kept."""
SEND_TIME = 30.0
"""Seconds after which no other part is begun: what is under way by then is answered within LONG_WORK."""
MOST_ERRORS = 5
"""Of one message."""

Item = dict[str, Any]
"""What is answered of one message: its `message_id`, or its `errors`."""
Ready = list[tuple[int, UserMessage]]
"""Messages to be sent, by their indices."""


@dataclass(frozen=True)
class Bulk:
    """The handler, and what it needs."""

    stores: Stores
    composer: Composer
    specs: SpecCache
    queues: ChannelQueues
    idempotency: Idempotency
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @access(SEND)
    @long_work
    @large_body(LARGEST_BODY)
    async def send(self, request: web.Request) -> web.Response:
        refuse(request)
        channel, key = channel_id(request), key_of(request)
        body = request.get(BODY, b"")
        spec = await self.specs.get(channel)
        views.check_destination(spec)
        async with self.places:
            found = await spans(body)
            reservation = None
            if key is not None:
                digest = await _digest(body, found, self.composer.settings.max_body_size)
                reservation = await self.idempotency.reserve_many(channel, key, digest)
            sending = _Sending(self, spec, body, found, reservation, origin_of(request), trace_of(request.headers))
            replayed = sending.is_over
            await sending.run()
        return sending.answer({REPLAYED_HEADER: "true"} if replayed else {})


class _Sending:
    """One request under way."""

    def __init__(
        self, bulk: Bulk, spec: ChannelSpec, body: bytes, found: Sequence[Span], reservation: BulkReservation | None,
        origin: Origin,
        trace: str | None,
    ) -> None:  # fmt: skip
        self._bulk = bulk
        self._origin = origin
        self._spec = spec
        self._body = body
        self._spans = found
        self._trace = trace
        self._reservation = reservation
        self._items: list[Item | None] = [None] * len(found)
        if reservation:
            for index, errors in reservation.known.items():
                self._items[index] = {"message_id": reservation.message_id(index)} if errors is None else {"errors": errors}
        self._refused: dict[str, Any] = {}
        self._problem: JunebugError | None = None
        """The first one that is none of the message's own."""
        self._stop: JunebugError | None = None
        """Why no other part is begun."""
        self._ready: list[Ready] = []
        self._publishing: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return None not in self._items

    async def run(self) -> None:
        """Every message has its outcome when this returns."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + SEND_TIME
        try:
            for part in self._parts([index for index, item in enumerate(self._items) if item is None]):
                if loop.time() > ends:
                    self._stopped(Unavailable(f"its turn had not come after {SEND_TIME:g} s"))
                if self._stop:
                    break
                ready = await self._composed(part)
                if ready and not self._stop:
                    await self._hand_over(ready)
            while self._publishing:
                await self._publish_next()
        finally:
            if self._publishing:
                await end_task(self._publishing)
        self._refuse_rest()
        if self._reservation:
            accepted = sum("message_id" in item for item in self._items if item)
            await self._bulk.idempotency.ended(self._reservation, accepted, self._refused, self._problem)

    def answer(self, headers: dict[str, str]) -> web.Response:
        accepted = sum("message_id" in item for item in self._items if item)
        rejected = len(self._items) - accepted
        result = {"messages": self._items, "accepted": accepted, "rejected": rejected}
        if self._problem:
            log.warning("bulk send failed in part", channel_id=self._spec.id, accepted=accepted, rejected=rejected,
                        reason=str(self._problem))  # fmt: skip
        if accepted:
            return reply(201, "messages submitted", result, headers)
        problem = self._problem or ApiUsageError(f"None of {rejected} messages can be sent: `messages` says why")
        if problem.status == Unavailable.status:
            headers = {**headers, "Retry-After": RETRY_AFTER}
        return reply(problem.status, problem.description, {"errors": problem.errors(), **result}, headers)

    # --- decoded and checked ------------------------------------------------------------------------------------------

    def _parts(self, indices: Iterable[int]) -> Iterator[list[int]]:
        part: list[int] = []
        size = 0
        for index in indices:
            begin, end = self._spans[index]
            part.append(index)
            size += end - begin
            if len(part) == PART or size >= PART_BYTES:
                yield part
                part, size = [], 0
        if part:
            yield part

    async def _composed(self, part: Sequence[int]) -> Ready:
        """Those that can be sent; the others are refused."""
        ready: Ready = []
        replies: list[tuple[int, dict[str, Any]]] = []
        async with self._bulk.turn:
            await asyncio.sleep(0)
            now = self._now()
            for index in part:
                try:
                    body = self._bulk.composer.check(self._loaded(index))
                    if body.get("reply_to") is None:
                        ready.append((index, self._compose(index, body, None, now)))
                    else:
                        replies.append((index, body))
                except Exception as error:
                    self._refuse(index, error)
        if replies:
            get = self._bulk.stores.inbound.get
            asked = (get(self._spec.id, body["reply_to"]) for _, body in replies)
            for (index, body), inbound in zip(replies, await asyncio.gather(*asked, return_exceptions=True), strict=True):
                try:
                    if isinstance(inbound, BaseException):
                        raise inbound
                    ready.append((index, self._compose(index, body, inbound, now)))
                except Exception as error:
                    self._refuse(index, error)
            ready.sort(key=lambda each: each[0])
        return ready

    def _loaded(self, index: int) -> Any:
        begin, end = self._spans[index]
        largest = self._bulk.composer.settings.max_body_size
        if end - begin > largest:
            raise PayloadTooLarge(f"The message is larger than {largest} bytes (setting max_body_size)")
        return load_json(self._body[begin:end], "message")

    def _compose(
        self, index: int, body: dict[str, Any], inbound: UserMessage | None, now: tuple[datetime, str]
    ) -> UserMessage:
        when, timestamp = now
        message_id = self._reservation.message_id(index) if self._reservation else new_id()
        compose, trace = self._bulk.composer.compose, self._trace
        return compose(body, self._spec, when, inbound, message_id=message_id, timestamp=timestamp, trace=trace)

    def _now(self) -> tuple[datetime, str]:
        """With a key, that is when it first came: a repeat says nothing else of a message."""
        if self._reservation:
            timestamp = self._reservation.timestamp
            return datetime.fromisoformat(timestamp).replace(tzinfo=UTC), timestamp
        now = datetime.now(UTC)
        return now, format_timestamp(now)

    # --- sent ---------------------------------------------------------------------------------------------------------

    async def _hand_over(self, ready: Ready) -> None:
        try:
            await self._bulk.stores.outbound.put_many(self._spec.id, [message for _, message in ready], self._origin)
        except Exception as error:
            self._fail(ready, error)
            return
        self._ready.append(ready)
        if self._publishing is None or self._publishing.done() or len(self._ready) == MOST_READY:
            await self._publish_next()

    async def _publish_next(self) -> None:
        """What is ready, once RabbitMQ has what was before it; nothing when that failed."""
        if self._publishing:
            await asyncio.wait([self._publishing])
            self._publishing.result()
            self._publishing = None
        if self._ready and not self._stop:
            queues: dict[int, Ready] = {}
            for index, message in itertools.chain.from_iterable(self._ready):
                queues.setdefault(message.priority, []).append((index, message))
            self._ready.clear()
            self._publishing = asyncio.create_task(self._publish_all(queues))

    async def _publish_all(self, queues: Mapping[int, Ready]) -> None:
        await asyncio.gather(*(self._publish(priority, messages) for priority, messages in queues.items()))

    async def _publish(self, priority: int, messages: Ready) -> None:
        try:
            await self._bulk.queues.send(self._spec.id, [message for _, message in messages])
        except Exception as error:
            self._fail(messages, error)
            return
        for index, message in messages:
            self._items[index] = {"message_id": message.message_id}
        if self._reservation:
            await self._bulk.idempotency.note_sent(self._reservation, [index for index, _ in messages])

    # --- not sent -----------------------------------------------------------------------------------------------------

    def _refuse(self, index: int, error: Exception) -> None:
        problem = self._told(error)
        self._items[index] = item = {"errors": problem.errors()[:MOST_ERRORS]}
        if problem.status < 500:
            self._refused[str(index)] = item["errors"]

    def _fail(self, messages: Ready, error: Exception) -> None:
        problem = self._told(error)
        self._stopped(problem)
        for index, _ in messages:
            self._items[index] = {"errors": problem.errors()}

    def _stopped(self, problem: JunebugError) -> None:
        self._problem = self._problem or problem
        self._stop = self._stop or problem

    def _refuse_rest(self) -> None:
        if self._stop:
            unsent = Unavailable(f"Not sent, as {self._stop}") if self._stop.status >= 500 else self._stop
            self._items = [item or {"errors": unsent.errors()} for item in self._items]

    def _told(self, error: Exception) -> JunebugError:
        """What the answer says of it; the log is told of a fault of ours, once."""
        if isinstance(error, JunebugError):
            problem = error
        else:
            problem = JunebugError("An unexpected error occurred: see Junebug's log")
            if not self._problem:
                log.error("request failed", channel_id=self._spec.id, exc_info=error)
        if problem.status >= 500:
            self._problem = self._problem or problem
        return problem


async def _digest(body: bytes, found: Sequence[Span], largest: int) -> str:
    """The same for bodies whose messages say the same, one by one."""
    digest = hashlib.sha256(b"bulk")
    for n, (begin, end) in enumerate(found, 1):
        message = body[begin:end]
        try:
            if end - begin <= largest:
                message = orjson.dumps(orjson.loads(message), option=orjson.OPT_SORT_KEYS)
        except (ValueError, TypeError):
            pass  # it will be refused
        digest.update(b"\n" + message.strip())
        if n % PART == 0:
            await asyncio.sleep(0)
    return digest.hexdigest()
