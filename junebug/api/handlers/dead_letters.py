"""Endpoints of dead letters: look at them, give them to the application once more, delete them (issue 4).

They are on the channel's dead-letter queue and nowhere else (model/callbacks.py says what they are). Each of these goes once
through it, from the oldest on; nobody else may meanwhile, so that each letter is seen once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.browse import Visit
from junebug.amqp.frames import Delivery
from junebug.api import schemas
from junebug.api.channel_queues import ChannelQueues, declare_queues
from junebug.api.dead_letter_views import letter_json
from junebug.api.handlers.queue import until_free
from junebug.api.http import PATIENCE, channel_id, long_work, parse_json, read_page, reply
from junebug.api.spec_cache import SpecCache
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, DeadLetterNotFound, Unroutable
from junebug.model.callbacks import DeadLetter

log = structlog.stdlib.get_logger("api")


class DeadLetters:
    """The handlers, and what they need."""

    def __init__(self, settings: Settings, broker: Broker, specs: SpecCache, queues: ChannelQueues) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self._broker = broker
        self._specs = specs
        self._queues = queues

    @long_work
    async def list_letters(self, request: web.Request) -> web.Response:
        page = read_page(request.query)
        spec = await self._specs.fetch(channel_id(request))
        bodies: list[bytes] = []

        async def visit(batch: Sequence[Delivery]) -> bool:
            bodies.extend(delivery.body for delivery in batch)
            return True

        total = await self._queues.length(names.dead_queue(spec.id))
        if page.offset < total:
            await self._browse(spec.id, visit, keeping=True, most=page.offset + page.limit, skip=page.offset)
        letters = map(DeadLetter.from_wire, bodies)
        return reply(200, "dead letters listed", {
            "dead_letters": [letter_json(letter, spec) for letter in letters],
            "limit": page.limit,
            "offset": page.offset,
            "total": total,
        })  # fmt: skip

    @long_work
    async def replay(self, request: web.Request) -> web.Response:
        body = schemas.replay.check(parse_json(await request.read() or b"{}"))
        spec = await self._specs.fetch(channel_id(request))
        wanted = body.get("ids")
        replayed, skipped = await self._replay(spec.id, None if wanted is None else set(wanted))
        if wanted is not None and not replayed and not skipped:
            raise DeadLetterNotFound("There is no dead letter with one of these ids")
        log.info("dead letters replayed", channel_id=spec.id, replayed=replayed, skipped=skipped)
        return reply(200, "dead letters replayed", {"replayed": replayed, "skipped": skipped})

    @long_work
    async def delete_all(self, request: web.Request) -> web.Response:
        spec = await self._specs.fetch(channel_id(request))
        return reply(200, "dead letters deleted", {"deleted": await self._delete(spec.id, None)})

    @long_work
    async def delete_one(self, request: web.Request) -> web.Response:
        spec = await self._specs.fetch(channel_id(request))
        letter_id = request.match_info["letter_id"]
        deleted = await self._delete(spec.id, letter_id)
        if not deleted:
            raise DeadLetterNotFound(f"There is no dead letter with id {letter_id[:100]!r}")
        return reply(200, "dead letters deleted", {"deleted": deleted})

    async def _replay(self, channel: str, wanted: Collection[str] | None) -> tuple[int, int]:
        """How many were replayed, and how many of those wanted hold no message; `wanted` None: all."""
        replayed = skipped = 0

        async def visit(batch: Sequence[Delivery]) -> bool:
            nonlocal replayed, skipped
            chosen: list[Delivery] = []
            bodies: list[bytes] = []
            for delivery in batch:
                letter = DeadLetter.from_wire(delivery.body)
                if wanted is not None and letter.id not in wanted:
                    continue
                if letter.callback is None:
                    skipped += 1
                    continue
                callback = dataclasses.replace(letter.callback, attempts=0, since=time.time(), error="")
                chosen.append(delivery)
                bodies.append(callback.to_wire())
            if bodies:
                await self._publish(channel, bodies)
            for delivery in chosen:
                delivery.ack()  # only now: a crash before repeats it, with the same id
            replayed += len(chosen)
            return wanted is None or replayed + skipped < len(wanted)

        await self._go_through(channel, visit, keeping=True)
        return replayed, skipped

    async def _publish(self, channel: str, bodies: Sequence[bytes]) -> None:
        """RabbitMQ has them when this returns. Raises BrokerUnavailable, ChannelNotFound."""
        queue = names.callback_queue(channel)
        try:
            return await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable:
            await self._specs.fetch(channel)  # is it deleted, or has RabbitMQ lost its queues?
        await declare_queues(self._broker, channel, self._patience)
        try:
            await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable as error:
            raise BrokerUnavailable(f"RabbitMQ does not keep the channel's queue: {error}") from None

    async def _delete(self, channel: str, letter_id: str | None) -> int:
        """How many were deleted; `letter_id` None: all."""
        deleted = 0

        async def visit(batch: Sequence[Delivery]) -> bool:
            nonlocal deleted
            for delivery in batch:
                if letter_id is None or DeadLetter.from_wire(delivery.body).id == letter_id:
                    delivery.ack()
                    deleted += 1
            return letter_id is None or not deleted

        await self._go_through(channel, visit, keeping=letter_id is not None)
        log.info("dead letters deleted", channel_id=channel, deleted=deleted)
        return deleted

    async def _go_through(self, channel: str, visit: Visit, *, keeping: bool) -> None:
        await self._queues.length(names.dead_queue(channel))  # tells in time when RabbitMQ is away
        await self._browse(channel, visit, keeping=keeping)

    async def _browse(
        self, channel: str, visit: Visit, *, keeping: bool, most: int | None = None, skip: int = 0
    ) -> None:
        """Raises QueueBusy, BrokerUnavailable."""
        queue = names.dead_queue(channel)
        await until_free(lambda: self._broker.browse(queue, visit, keeping=keeping, most=most, skip=skip))
