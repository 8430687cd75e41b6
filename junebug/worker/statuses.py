"""The Status way's last part: a channel's status queue -> StatusStore -> status_url (DESIGN §2).

What the worker says of its own links (`worker`, `amqp`, `redis`) is given to `receive` directly: a broken link to
RabbitMQ could not be told through RabbitMQ. The store gets the last status of each component as soon as Redis can take
it; the status_url gets each status, in the order of its component. What a further shard of a channel says it keeps itself,
and gives to the channel's status queue: the first shard posts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable

import structlog

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage, StoreUnavailable, Unroutable
from junebug.model.callbacks import Callback
from junebug.model.messages import Status
from junebug.runtime.backoff import Backoff
from junebug.worker.callbacks.dispatcher import Dispatcher
from junebug.worker.callbacks.source import PendingCallback, at_last
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("status")

PREFETCH = 100
MAX_POSTS = 200
"""Statuses of the worker's own that may be under way; the oldest are given up (the store holds the present state)."""
FIRST_STORE_PAUSE, LONGEST_STORE_PAUSE = 0.5, 2.0


class StatusReceiver:
    """Keeps and passes on the statuses of one channel."""

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._dispatcher: Dispatcher | None = None
        self._unsaved: dict[str, Status] = {}
        self._latest: dict[str, Status] = {}
        self._on_saved: list[Callable[[], None]] = []
        """What to call when all that has come so far is saved."""
        self._save_now = asyncio.Event()
        self._posts: deque[PendingCallback] = deque()
        self._relayed: deque[bytes] = deque(maxlen=MAX_POSTS)
        self._relay_now = asyncio.Event()

    def start(self, dispatcher: Dispatcher) -> None:
        """What comes is posted from now on, as is what came before."""
        self._dispatcher = dispatcher
        for pending in self._posts:
            dispatcher.dispatch(pending)
        queue = names.status_queue(self._context.channel)
        self._context.broker.consume(queue, self._on_delivery, prefetch=PREFETCH, on_lost=dispatcher.drop_dead)

    def receive(self, status: Status) -> None:
        """Take a status of the worker's own; it is saved and posted soon."""
        self._keep(status)
        if status.shard:
            self._relayed.append(status.to_wire())
            self._relay_now.set()
            return
        pending = self._pending(status, None, lambda: None)
        self._posts.append(pending)
        while self._posts and (self._posts[0].is_finished or len(self._posts) > MAX_POSTS):
            self._posts.popleft().is_finished = True
        if self._dispatcher:
            self._dispatcher.dispatch(pending)

    def is_superseded(self, status: Status) -> bool:
        """Whether a newer one of the same component is known."""
        latest = self._latest.get(status.component)
        return latest is not None and latest.age > status.age

    def say_again(self) -> None:
        """Save the last status of each component once more (Redis was emptied)."""
        self._unsaved = {**self._latest, **self._unsaved}
        self._save_now.set()

    async def drain(self, timeout: float) -> None:
        """Save (and relay), within `timeout` seconds, what has come so far."""
        try:
            async with asyncio.timeout(timeout):
                await self._save()
                await self._relay()
        except TimeoutError:
            log.warning("statuses were left unsaved at the stop", unsaved=len(self._unsaved))

    def _on_delivery(self, delivery: Delivery) -> None:
        if not self._context.may_begin(delivery):
            self._context.own("set aside", self._context.set_aside(delivery))
            return
        try:
            status = Status.from_wire(delivery.body)
        except MalformedMessage as error:
            log.error("unreadable status dropped", reason=str(error))
            delivery.ack()
            return
        done = at_last(2, delivery.ack)  # saved, and posted
        self._keep(status)
        self._on_saved.append(done)
        self._save_now.set()
        assert self._dispatcher is not None
        self._dispatcher.dispatch(self._pending(status, delivery, done))

    def _keep(self, status: Status) -> None:
        if not self.is_superseded(status):
            self._unsaved[status.component] = status
            self._latest[status.component] = status
            self._save_now.set()

    def _pending(self, status: Status, delivery: Delivery | None, on_finished: Callable[[], None]) -> PendingCallback:
        wire = status.to_wire()
        id = hashlib.blake2s(wire, digest_size=16).hexdigest()  # the same whenever it is posted
        callback = Callback(to="status_url", kind="status", id=id, wire=wire)
        return PendingCallback(callback, status, delivery, on_finished)

    async def run(self) -> None:
        """Save until cancelled."""
        backoff = Backoff(FIRST_STORE_PAUSE, LONGEST_STORE_PAUSE)
        while True:
            await self._save_now.wait()
            self._save_now.clear()
            if await self._save():
                backoff.reset()
            else:
                self._save_now.set()
                await backoff.pause()

    async def relay(self) -> None:
        """Of a further shard, instead of `start`: give what it says to the first one, until cancelled."""
        while True:
            await self._relay_now.wait()
            self._relay_now.clear()
            await self._relay()

    async def _relay(self) -> None:
        queue = names.status_queue(self._context.channel)
        while self._relayed:
            with contextlib.suppress(Unroutable):  # the channel is deleted
                await self._context.broker.publish_surely(queue, (self._relayed[0],))
            self._relayed.popleft()

    async def _save(self) -> bool:
        on_saved = list(self._on_saved)
        for component, status in list(self._unsaved.items()):
            try:
                await self._context.stores.statuses.put(status)
            except StoreUnavailable:
                return False
            if self._unsaved.get(component) is status:
                del self._unsaved[component]
        del self._on_saved[: len(on_saved)]
        for call in on_saved:
            call()
        return True
