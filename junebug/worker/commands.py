"""What an API process asks of a channel's worker: what it holds, a page of what waits, to cancel.

Neighbours: amqp/rpc.py brings question and answer, api/handlers/queue.py asks; outbound/sender.py and
amqp/outbound_queue.py do it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

import orjson

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import cancel_all, list_queued, queues_of
from junebug.amqp.rpc import Answer, Arguments, RpcServer
from junebug.model.spec import ChannelSpec
from junebug.worker.outbound.cancellations import Cancellations
from junebug.worker.outbound.sender import Sender

CANCEL_TIMEOUT = 30.0
"""Seconds in which what is queued is cancelled; of an endless queue the rest is told."""


class Commands:
    """Answers while it runs."""

    def __init__(
        self,
        broker: Broker,
        sender: Sender,
        cancellations: Cancellations,
        spec: Callable[[], ChannelSpec],
        delay_queues: Callable[[], list[str]],
    ) -> None:
        self._broker = broker
        self._sender = sender
        self._cancellations = cancellations
        self._spec = spec
        self._delay_queues = delay_queues
        self._one_at_a_time = asyncio.Lock()
        answers = {"look": self._look, "list": self._list, "cancel": self._cancel, "cancel_all": self._cancel_all}
        self._server = RpcServer(broker, spec().id, answers, cancellations.may_have_missed_some)

    def start(self) -> None:
        self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    async def _look(self, _: Arguments) -> Answer:
        return {
            "paused": bool(self._spec().paused),
            "held": _by_priority(self._sender.held()),
            "sending": _by_priority(self._sender.sending()),
            "delay_queues": self._delay_queues(),
        }

    async def _list(self, asked: Arguments) -> Answer:
        spec = self._spec()
        async with self._one_at_a_time, self._sender.taking_nothing():
            found = await list_queued(
                self._broker,
                spec.id,
                queues_of(spec.id, spec.amqp_queue),
                int(asked["offset"]),
                int(asked["limit"]),
                in_hand=self._sender.in_hand(),
                cancelled=self._cancellations,
            )
        messages = [{"priority": each.priority, "message": orjson.Fragment(each.to_wire())} for each in found]
        return {"messages": messages}

    async def _cancel(self, asked: Arguments) -> Answer:
        return {"cancelled": await self._sender.cancel(str(asked["message_id"]))}

    async def _cancel_all(self, _: Arguments) -> Answer:
        spec = self._spec()
        async with self._one_at_a_time, self._sender.standing_still():
            done = await cancel_all(self._broker, spec.id, queues_of(spec.id, spec.amqp_queue), CANCEL_TIMEOUT)
        return {**asdict(done), "sending": self._sender.sending().total()}


def _by_priority(counted: Counter[int]) -> dict[str, int]:
    return {str(priority): counted[priority] for priority in names.outbound_queues("")}
