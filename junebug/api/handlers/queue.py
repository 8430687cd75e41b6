"""Endpoints of what waits to be sent: look at it, cancel it, hold it back (issue 4).

The channel's worker holds part of it, so the worker is asked (amqp/rpc.py). Where there is none, the same is done here,
with the same functions (amqp/outbound_queue.py). One message is cancelled by a note (stores/cancellations.py) that the
sender looks at when the message comes to be sent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import orjson
import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import Cancelled, cancel_all, list_queued, queues_of
from junebug.amqp.rpc import RpcClient
from junebug.api import views
from junebug.api.access import origin_of
from junebug.api.channel_queues import ChannelQueues
from junebug.api.http import LONG_WORK, Page, channel_id, long_work, read_page, reply
from junebug.api.spec_cache import SpecCache
from junebug.errors import ApiUsageError, JunebugError, MessageNotQueued, NotRunning, QueueBusy, TooManyCancelled
from junebug.model import presenter
from junebug.model.acceptance import Origin
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores
from junebug.stores.cancellations import MOST

log = structlog.stdlib.get_logger("api")

ANSWER_TIMEOUT = LONG_WORK * 0.7
"""Seconds that a worker's answer may take."""
CANCEL_TIME = 20.0
"""Seconds for which what waits is cancelled here; the answer says what is left then."""
BUSY_PATIENCE = 10.0
"""Seconds for which a queue that somebody else goes through is tried again."""
BUSY_PAUSE = 0.1
NOT_HEARD = ", as soon as the channel's process hears of it, which does not answer now"

T = TypeVar("T")


@dataclass(frozen=True)
class QueueControl:
    """The handlers, and what they need."""

    broker: Broker
    stores: Stores
    specs: SpecCache
    queues: ChannelQueues
    asking: RpcClient
    metrics: Metrics

    @long_work
    async def list_messages(self, request: web.Request) -> web.Response:
        state = request.query.get("state", "queued")
        if state != "queued":
            raise ApiUsageError(f"state: expected 'queued', got {state[:50]!r}")
        page = read_page(request.query)
        spec = await self.specs.fetch(channel_id(request))
        total = await self._count(spec)  # tells in time when RabbitMQ is away
        messages = [presenter.queued_json(each, spec.id) for each in await until_free(lambda: self._list(spec, page))]
        if (seen := page.offset + len(messages)) > total and messages:  # a worker that hung, or died, could not tell of them
            total = max(await self._count(spec), seen)
        return reply(200, "messages listed", page.result("messages", messages, total))

    @long_work
    async def cancel_all(self, request: web.Request) -> web.Response:
        spec = await self.specs.fetch(channel_id(request))
        return _cancelled(await self._cancel_all(spec))

    async def cancel_one(self, request: web.Request) -> web.Response:
        spec = await self.specs.fetch(channel_id(request))
        message_id = request.match_info["message_id"]
        if not await self._cancel_one(spec, message_id, origin_of(request)):
            raise MessageNotQueued(
                f"No message with id {message_id[:100]!r} waits to be sent: it is unknown, being sent, or sent already"
            )
        log.info("message cancelled", channel_id=spec.id, message_id=message_id)
        return _cancelled(Cancelled(1, 0))

    async def pause(self, request: web.Request) -> web.Response:
        return await self._set_paused(request, True, "sending paused")

    async def resume(self, request: web.Request) -> web.Response:
        return await self._set_paused(request, False, "sending resumed")

    async def _set_paused(self, request: web.Request, paused: bool, description: str) -> web.Response:
        """The running worker has applied it, and keeps its links to the provider, when this is answered."""
        channel = channel_id(request)
        old, spec = await self.specs.change(
            channel, lambda spec: dataclasses.replace(spec, paused=paused or None, given=spec.given - {"paused"})
        )
        if spec is not old:
            log.info(description, channel_id=channel)
        heard = await asyncio.gather(*(self._has_heard(unit, paused) for unit in names.units(channel, spec.shards)))
        if not all(heard):
            return reply(200, description + NOT_HEARD, views.queue_json(spec.paused, None))
        return reply(200, description, views.queue_json(spec.paused, await self.queues.counts(spec)))

    async def _has_heard(self, unit: str, paused: bool) -> bool:
        """Whether this is so now, where the channel has a process."""
        try:
            told = await self.asking.ask(unit, "follow", self.queues.timeout)
        except NotRunning:
            return True  # the next one reads it
        except JunebugError:
            return False
        return bool(told["paused"]) == paused

    async def first(self, spec: ChannelSpec, most: int) -> list[UserMessage]:
        """Of what waits; for who looks for something in it. Raises QueueBusy, BrokerUnavailable."""
        return await self._list(spec, Page(most, 0))

    async def _count(self, spec: ChannelSpec) -> int:
        return sum((await self.queues.count(spec)).queued.values())

    async def _list(self, spec: ChannelSpec, page: Page) -> list[UserMessage]:
        """What waits for one shard after what waits for the one before it."""
        found, skip = list[UserMessage](), page.offset
        for shard in range(spec.shards):
            some, waiting = await self._list_shard(spec, shard, skip, page.limit - len(found))
            found += some
            skip = max(0, skip - waiting)
            if len(found) >= page.limit:
                break
        return found

    async def _list_shard(self, spec: ChannelSpec, shard: int, offset: int, limit: int) -> tuple[list[UserMessage], int]:
        """And how many wait in all."""
        try:
            told = await self.asking.ask(names.unit(spec.id, shard), "list", ANSWER_TIMEOUT, offset=offset, limit=limit)
        except NotRunning:
            queues = self._queues_of(spec, shard)
            cancelled = await self.stores.cancellations.ids(spec.id)
            found = await list_queued(self.broker, spec.id, queues, offset, limit, cancelled=cancelled)
            return found, sum((await self.broker.queue_lengths(queues)).values()) if spec.shards > 1 else 0
        found = [UserMessage.from_wire(orjson.dumps(each["message"]), each["priority"]) for each in told["messages"]]
        return found, told.get("waiting", 0)

    def _queues_of(self, spec: ChannelSpec, shard: int) -> list[str]:
        return queues_of(spec, self.broker.layout(spec), shard=shard, shards=spec.shards)

    async def _cancel_one(self, spec: ChannelSpec, message_id: str, origin: Origin) -> bool:
        """False when it does not wait. Raises BrokerUnavailable, StoreUnavailable: then it is not cancelled."""
        channel = spec.id
        await self.queues.length(names.outbound_queue(channel))  # tells in time when RabbitMQ is away
        if not await self.stores.outbound.may_wait(channel, message_id):
            return False
        if await self.stores.cancellations.count(channel) >= MOST:
            raise TooManyCancelled(f"{MOST} cancelled messages of channel {channel!r} wait already: cancel all, or let it send")
        if not await self.stores.cancellations.note(channel, message_id, origin):
            return False
        units = names.units(channel, spec.shards)  # any may have it
        told = await asyncio.gather(*(self._cancel_at(unit, message_id) for unit in units), return_exceptions=True)
        errors = [each for each in told if isinstance(each, BaseException)]
        if errors or not all(told):
            await self.stores.cancellations.withdraw(channel, message_id)
        if errors:
            raise errors[0]
        return all(told)

    async def _cancel_at(self, unit: str, message_id: str) -> bool:
        """False when it has been begun there."""
        try:
            told = await self.asking.ask(unit, "cancel", self.queues.timeout, message_id=message_id)
        except NotRunning:
            return True  # the next worker finds it noted
        return bool(told["cancelled"])

    async def _cancel_all(self, spec: ChannelSpec) -> Cancelled:
        """Raises QueueBusy, BrokerUnavailable."""
        await self.queues.count(spec)  # tells in time when RabbitMQ is away

        async def attempt(shard: int) -> Cancelled:
            try:
                told = await self.asking.ask(names.unit(spec.id, shard), "cancel_all", ANSWER_TIMEOUT)
            except NotRunning:
                queues, is_quorum = self._queues_of(spec, shard), self.broker.prefers_quorum(spec)
                return await cancel_all(self.broker, self.metrics, spec.id, queues, CANCEL_TIME, is_quorum=is_quorum)
            return Cancelled(told["cancelled"], told["remaining"])

        shards = (until_free(functools.partial(attempt, shard)) for shard in range(spec.shards))
        done = await asyncio.gather(*shards)
        return Cancelled(sum(each.cancelled for each in done), sum(each.remaining for each in done))


def _cancelled(found: Cancelled) -> web.Response:
    return reply(200, "messages cancelled", {"cancelled": found.cancelled, "remaining": found.remaining})


async def until_free(work: Callable[[], Awaitable[T]]) -> T:
    """The outcome of `work`, which somebody else may keep from its queue for a moment. Raises QueueBusy in the end."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + BUSY_PATIENCE
    while True:
        try:
            return await work()
        except JunebugError as error:
            if error.status != QueueBusy.status or loop.time() > ends:
                raise
        await asyncio.sleep(BUSY_PAUSE)
