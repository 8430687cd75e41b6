"""The Status way's last part: a channel's status queue -> StatusStore -> status_url (DESIGN §2).

What the worker says of its own links (`worker`, `amqp`, `redis`) is given to `receive` directly: a broken link to
RabbitMQ could not be told through RabbitMQ. The store gets the last status of each component as soon as Redis can take
it; the status_url gets each status, in the order of its component.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import MalformedMessage, StoreUnavailable
from junebug.model.callbacks import Callback
from junebug.model.messages import Status
from junebug.model.presenter import status_body
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.dispatcher import Destinations, SpecView
from junebug.worker.callbacks.pending_callback import Job
from junebug.worker.callbacks.webhook import Webhook

log = structlog.stdlib.get_logger("status")

PREFETCH = 100
MAX_POSTS = 200
"""Statuses of the worker's own that may be under way; the oldest are given up (the store holds the present state)."""
STORE_PAUSE = 1.0
NOTIFY_ATTEMPTS = 3


class StatusReceiver:
    """Keeps and passes on the statuses of one channel."""

    def __init__(self, broker: Broker, stores: Stores, destinations: Destinations, spec: SpecView) -> None:
        self._broker = broker
        self._stores = stores
        self._destinations = destinations
        self._spec = spec
        self._unsaved: dict[str, Status] = {}
        self._latest: dict[str, Status] = {}
        self._save_now = asyncio.Event()
        self._posts: deque[Job] = deque()

    def start(self) -> None:
        self._broker.consume(
            names.status_queue(self._spec().id),
            self._on_delivery,
            prefetch=PREFETCH,
            on_lost=self._destinations.drop_dead,
        )

    def receive(self, status: Status) -> None:
        """Take a status of the worker's own; it is saved and posted soon."""
        self._keep(status)
        self._post(status, None)

    def is_superseded(self, status: Status) -> bool:
        """Whether a newer one of the same component is known."""
        latest = self._latest.get(status.component)
        return latest is not None and latest.timestamp > status.timestamp

    def say_again(self) -> None:
        """Save the last status of each component once more (Redis was emptied)."""
        self._unsaved = {**self._latest, **self._unsaved}
        self._save_now.set()

    async def drain(self, timeout: float) -> None:
        """Save, within `timeout` seconds, what has come so far."""
        try:
            async with asyncio.timeout(timeout):
                await self._save()
        except TimeoutError:
            log.warning("statuses were left unsaved at the stop", unsaved=len(self._unsaved))

    def _on_delivery(self, delivery: Delivery) -> None:
        try:
            status = Status.from_wire(delivery.body)
        except MalformedMessage as error:
            log.error("unreadable status dropped", reason=str(error))
            delivery.ack()
            return
        self._keep(status)
        self._post(status, delivery)

    def _keep(self, status: Status) -> None:
        if not self.is_superseded(status):
            self._unsaved[status.component] = status
            self._latest[status.component] = status
            self._save_now.set()

    def _post(self, status: Status, delivery: Delivery | None) -> None:
        callback = Callback(to="status_url", kind="status", id=_webhook_id(status), wire=status.to_wire())
        job = self._destinations.deliver(callback, status, delivery)
        if delivery:
            job.done.add_done_callback(lambda done: None if done.cancelled() else delivery.ack())
        else:
            self._posts.append(job)
            while self._posts and (self._posts[0].done.done() or len(self._posts) > MAX_POSTS):
                self._posts.popleft().done.cancel()

    async def run(self) -> None:
        """Save until cancelled."""
        while True:
            await self._save_now.wait()
            self._save_now.clear()
            if not await self._save():
                self._save_now.set()
                await asyncio.sleep(STORE_PAUSE)

    async def _save(self) -> bool:
        for component, status in list(self._unsaved.items()):
            try:
                await self._stores.statuses.put(status)
            except StoreUnavailable:
                return False
            if self._unsaved.get(component) is status:
                del self._unsaved[component]
        return True


def _webhook_id(status: Status) -> str:
    """The same whenever it is posted."""
    return hashlib.blake2s(status.to_wire(), digest_size=16).hexdigest()


async def notify_status(settings: Settings, spec: ChannelSpec, status: Status) -> None:
    """Tell a status_url a status that no worker can (the worker is dead): a few attempts, then only the store has it."""
    webhook = Webhook(settings.callback_timeout)
    try:
        for attempt in range(1, NOTIFY_ATTEMPTS + 1):
            outcome = await webhook.post(
                spec.status_url or "",
                status_body(status),
                id=_webhook_id(status),
                secret=spec.callback_secret or settings.callback_secret,
            )
            if outcome.ok:
                return
            log.warning("forwarding a status failed", channel_id=status.channel_id, reason=outcome.reason)
            if attempt < NOTIFY_ATTEMPTS:
                await asyncio.sleep(retry_policy.pause(attempt))
    finally:
        await webhook.close()
