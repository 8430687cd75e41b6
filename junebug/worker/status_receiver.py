"""The Status way's last part: a channel's status queue -> StatusStore -> status_url (DESIGN §2).

What the worker says of its own links (`worker`, `amqp`, `redis`) is given to `receive` directly: a broken link to
RabbitMQ could not be told through RabbitMQ. The store gets the last status of each component as soon as Redis can take
it; the status_url gets each status, in the order of its component.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from junebug import names
from junebug.broker import Broker, Delivery
from junebug.config import Settings
from junebug.errors import MalformedMessage, StoreUnavailable
from junebug.messages import Status
from junebug.stores import Stores
from junebug.worker import retry
from junebug.worker.forwarder import SpecView
from junebug.worker.webhook import Webhook

log = structlog.stdlib.get_logger("status")

PREFETCH = 100
MAX_POSTS = 200
"""Statuses that may wait for a dead status_url; the oldest are given up (the store holds the present state)."""
POST_MAX_AGE = 3600.0
STORE_PAUSE = 1.0


class StatusReceiver:
    """Keeps and passes on the statuses of one channel."""

    def __init__(self, broker: Broker, stores: Stores, webhook: Webhook, spec: SpecView) -> None:
        self._broker = broker
        self._stores = stores
        self._webhook = webhook
        self._spec = spec
        self._unsaved: dict[str, Status] = {}
        self._latest: dict[str, Status] = {}
        self._save_now = asyncio.Event()
        self._posts: asyncio.Queue[Status] = asyncio.Queue(MAX_POSTS)

    def start(self) -> None:
        self._broker.consume(names.status_queue(self._spec().id), self._on_delivery, prefetch=PREFETCH)

    async def run(self) -> None:
        """Save and post until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._save_forever())
            tasks.create_task(self._post_forever())

    def receive(self, status: Status) -> None:
        """Take a status; it is saved and posted soon."""
        self._unsaved[status.component] = status
        self._latest[status.component] = status
        self._save_now.set()
        if self._posts.full():
            self._posts.get_nowait()
        self._posts.put_nowait(status)

    def say_again(self) -> None:
        """Save the last status of each component once more (Redis was emptied)."""
        self._unsaved = {**self._latest, **self._unsaved}
        self._save_now.set()

    async def drain(self, timeout: float) -> None:
        """Save and post, within `timeout` seconds, what has come so far."""
        try:
            async with asyncio.timeout(timeout):
                await self._save()
                while not self._posts.empty():
                    await self._post(self._posts.get_nowait(), repeat=False)
        except TimeoutError:
            log.warning("statuses were left unsaid at the stop", unsaved=len(self._unsaved))

    def _on_delivery(self, delivery: Delivery) -> None:
        try:
            self.receive(Status.from_wire(delivery.body))
        except MalformedMessage as error:
            log.error("unreadable status dropped", reason=str(error))
        delivery.ack()

    async def _save_forever(self) -> None:
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

    async def _post_forever(self) -> None:
        while True:
            await self._post(await self._posts.get(), repeat=True)

    async def _post(self, status: Status, *, repeat: bool) -> None:
        attempts = 0
        started = asyncio.get_running_loop().time()
        while url := self._spec().status_url:
            outcome = await self._webhook.post(url, status.body())
            attempts += 1
            fields: dict[str, Any] = {"component": status.component, "status": status.status}
            if outcome.ok:
                log.info("status forwarded", **fields)
                return
            log.warning("forwarding a status failed", reason=outcome.reason, **fields)
            too_old = asyncio.get_running_loop().time() - started > POST_MAX_AGE
            if not repeat or too_old or retry.is_refused_for_good(outcome.status, attempts):
                log.error("status given up", **fields)
                return
            await asyncio.sleep(retry.pause(attempts, outcome.retry_after))


async def post_status(webhook: Webhook, url: str, status: Status, attempts: int = 3) -> None:
    """Tell a status_url a status that no worker can (the worker is dead): a few attempts, then only the store has it."""
    for attempt in range(1, attempts + 1):
        outcome = await webhook.post(url, status.body())
        if outcome.ok:
            return
        log.warning("forwarding a status failed", channel_id=status.channel_id, reason=outcome.reason)
        if attempt < attempts:
            await asyncio.sleep(retry.pause(attempt, outcome.retry_after))


async def notify_status(settings: Settings, url: str, status: Status) -> None:
    """`post_status` for a process that has no Webhook of its own (the reconciler)."""
    webhook = Webhook(settings.callback_timeout, settings.callback_concurrency)
    try:
        await post_status(webhook, url, status)
    finally:
        await webhook.close()
