"""One destination's calls when the link to RabbitMQ breaks at an awkward moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.model.callbacks import Callback
from junebug.model.messages import UserMessage
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.destination import Destination
from junebug.worker.callbacks.source import PendingCallback
from junebug.worker.callbacks.webhook import Outcome
from junebug.worker.context import ChannelContext


def own(_: str, work: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(work)


async def test_a_call_that_is_cut_off_before_it_began_keeps_nobody_of_its_address_waiting() -> None:
    called: list[str] = []

    class Answering:
        may_wait = True

        async def call(self, pending: PendingCallback) -> Outcome:
            called.append(pending.callback.id)
            return Outcome(True, 200)

    stores = cast(Any, SimpleNamespace(circuits=None))  # no call fails
    broker = cast(Any, SimpleNamespace(prefers_quorum=lambda spec: False))
    context = ChannelContext("c", Settings(), broker, stores, cast(Any, None), own)
    destination = Destination(context, cast(Attempts, Answering()), "mo_url", "http://a:80", lambda pending: None)
    link = SimpleNamespace(alive=True)

    def pending(id: str, delivery: Any) -> PendingCallback:
        message = UserMessage(to_addr="1", from_addr="+27", content=id, transport_name="c")
        callback = Callback(to="mo_url", kind="inbound", id=id, wire=message.to_wire())
        return PendingCallback(callback, message, cast(Delivery, delivery), lambda: None, cast(Any, object()))

    destination.offer(pending("cut off", link))
    link.alive = False
    destination.drop_dead()
    destination.offer(pending("next", SimpleNamespace(alive=True)))
    async with asyncio.timeout(5):
        while not called:
            await asyncio.sleep(0)
    assert called == ["next"]
