"""What an API process asks of a channel's worker: what it holds, a page of what waits, to cancel.

Neighbours: amqp/rpc.py brings question and answer, api/handlers/queue.py asks; outbound/sender.py and
amqp/outbound_queue.py do it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import orjson

from junebug import names
from junebug.amqp.outbound_queue import cancel_all, list_queued, queues_of
from junebug.amqp.rpc import Answer, Answers, Arguments
from junebug.model.routing import ChannelState
from junebug.model.spec import ChannelSpec
from junebug.router_types import RouterTypes
from junebug.worker.context import ChannelContext
from junebug.worker.failover import move
from junebug.worker.outbound.sender import BROWSING, CANCELLING, Sender

CANCEL_TIMEOUT = 30.0
"""Seconds in which what is queued is cancelled; of an endless queue the rest is told."""


@dataclass(frozen=True, slots=True)
class Commands:
    context: ChannelContext
    sender: Sender
    look_at_callbacks: Callable[[], Answer]
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def answers(self) -> Answers:
        return {
            "look": self._look,
            "list": self._list,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "move": self._move,
        }

    async def _look(self, _: Arguments) -> Answer:
        return {
            "paused": bool(self.context.spec().paused),
            "held": _by_priority(self.sender.held()),
            "sending": _by_priority(self.sender.sending()),
            **self.look_at_callbacks(),
        }

    async def _list(self, asked: Arguments) -> Answer:
        spec = self.context.spec()
        async with self.one_at_a_time, self.sender.holding(BROWSING):
            queues, offset, limit = self._queues(spec), int(asked["offset"]), int(asked["limit"])
            in_hand, cancelled = self.sender.in_hand(), self.sender.cancellations
            found = await list_queued(
                self.context.broker, spec.id, queues, offset, limit, in_hand=in_hand, cancelled=cancelled
            )
            is_one_of_many = self.context.shards > 1
            lengths = await self.context.broker.queue_lengths(queues) if is_one_of_many else {}
            waiting = len(in_hand) + sum(lengths.values())
        messages = [{"priority": each.priority, "message": orjson.Fragment(each.to_wire())} for each in found]
        return {"messages": messages, "waiting": waiting}

    def _queues(self, spec: ChannelSpec) -> list[str]:
        """Those that this process consumes."""
        shard, shards = self.context.shard, self.context.shards
        return queues_of(spec, self.context.broker.wanted_layout(shards), shard=shard, shards=shards)

    async def _cancel(self, asked: Arguments) -> Answer:
        return {"cancelled": await self.sender.cancel(str(asked["message_id"]))}

    async def _cancel_all(self, _: Arguments) -> Answer:
        spec = self.context.spec()
        async with self.one_at_a_time, self.sender.holding(CANCELLING):
            queues, context = self._queues(spec), self.context
            is_quorum = context.prefers_quorum
            done = await cancel_all(context.broker, context.metrics, spec.id, queues, CANCEL_TIMEOUT, is_quorum=is_quorum)
        return {**asdict(done), "sending": self.sender.sending().total()}

    async def _move(self, asked: Arguments) -> Answer:
        """What a router gave us goes by another channel."""
        settings, stores = self.context.settings, self.context.stores
        types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
        states = {id: ChannelState(**state) for id, state in asked["states"].items()}
        async with self.one_at_a_time, self.sender.holding(CANCELLING):
            spec = await stores.routers.get(str(asked["router"]))
            queues = self._queues(self.context.spec())
            return {"moved": await move(self.context.broker, stores, types, spec, self.context.channel, queues, states)}


def _by_priority(counted: Counter[int]) -> dict[str, int]:
    return {str(priority): counted[priority] for priority in reversed(names.PRIORITIES)}
