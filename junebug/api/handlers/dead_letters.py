"""Endpoints of dead letters: look at them, give them to the application once more, delete them (issue 4).

They are on the channel's dead-letter queue and nowhere else (model/callbacks.py says what they are). Each of these goes once
through it, from the oldest on; nobody else may meanwhile, so that each letter is seen once.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.browse import Visit
from junebug.amqp.frames import Delivery
from junebug.api import schemas
from junebug.api.channel_queues import ChannelQueues
from junebug.api.handlers.queue import until_free
from junebug.api.http import channel_id, long_work, read_json, read_page, reply
from junebug.api.spec_cache import SpecCache
from junebug.errors import DeadLetterNotFound, MalformedMessage
from junebug.logs.redaction import REDACTED, Redactor
from junebug.model.callbacks import DeadLetter, content_of
from junebug.model.presenter import body_of
from junebug.model.spec import ChannelSpec

log = structlog.stdlib.get_logger("api")

LONGEST_BODY = 10_000
"""Characters that are shown of a dead letter which is no message."""
_TOKEN = re.compile(r'("[^"]*(?:token|secret|password)"\s*:\s*")(?:[^"\\]|\\.)*')


@dataclass(frozen=True)
class DeadLetters:
    """The handlers, and what they need."""

    broker: Broker
    specs: SpecCache
    queues: ChannelQueues

    @long_work
    async def list_letters(self, request: web.Request) -> web.Response:
        page = read_page(request.query)
        spec = await self.specs.fetch(channel_id(request))
        bodies: list[bytes] = []

        async def visit(batch: Sequence[Delivery]) -> bool:
            bodies.extend(delivery.body for delivery in batch)
            return True

        total = await self._browse(spec.id, visit, most=page.offset + page.limit, skip=page.offset)
        letters = [letter_json(DeadLetter.from_wire(body), spec) for body in bodies]
        return reply(200, "dead letters listed", page.result("dead_letters", letters, total))

    @long_work
    async def replay(self, request: web.Request) -> web.Response:
        body = schemas.replay.check(read_json(request, empty=b"{}"))
        spec = await self.specs.fetch(channel_id(request))
        wanted = body.get("ids")
        replayed, skipped = await self._replay(spec.id, None if wanted is None else set(wanted))
        if wanted is not None and not replayed and not skipped:
            raise DeadLetterNotFound("There is no dead letter with one of these ids")
        log.info("dead letters replayed", channel_id=spec.id, replayed=replayed, skipped=skipped)
        return reply(200, "dead letters replayed", {"replayed": replayed, "skipped": skipped})

    @long_work
    async def delete_all(self, request: web.Request) -> web.Response:
        spec = await self.specs.fetch(channel_id(request))
        return reply(200, "dead letters deleted", {"deleted": await self._delete(spec.id, None)})

    @long_work
    async def delete_one(self, request: web.Request) -> web.Response:
        spec = await self.specs.fetch(channel_id(request))
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
                await self.queues.publish(channel, names.callback_queue(channel), bodies)
            for delivery in chosen:
                delivery.ack()  # only now: a crash before repeats it, with the same id
            replayed += len(chosen)
            return wanted is None or replayed + skipped < len(wanted)

        await self._browse(channel, visit)
        return replayed, skipped

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

        await self._browse(channel, visit, keeping=letter_id is not None)
        log.info("dead letters deleted", channel_id=channel, deleted=deleted)
        return deleted

    async def _browse(
        self, channel: str, visit: Visit, *, keeping: bool = True, most: int | None = None, skip: int = 0
    ) -> int:
        """How many letters there were. Raises QueueBusy, BrokerUnavailable."""
        queue = names.dead_queue(channel)
        total = await self.queues.length(queue)  # tells in time when RabbitMQ is away
        if most is None or skip < total:
            await until_free(lambda: self.broker.browse(queue, visit, keeping=keeping, most=most, skip=skip))
        return total


def letter_json(letter: DeadLetter, spec: ChannelSpec) -> dict[str, Any]:
    """A dead letter, without secrets: `message` as the application would have got it, or the `body` that is none."""
    callback = letter.callback
    secrets = (spec.callback_secret, spec.mo_url_auth_token, callback.auth_token if callback else None)
    redactor = Redactor(filter(None, secrets))
    shown = {
        "id": letter.id,
        "timestamp": letter.timestamp,
        "reason": letter.reason,
        "error": redactor.text(letter.error),
    }
    if callback is None:
        return {**shown, "queue": letter.queue, "body": _readable(letter.body, redactor)}
    try:
        message = body_of(content_of(callback), spec.id)
    except MalformedMessage:
        return {**shown, "queue": names.callback_queue(spec.id), "body": _readable(callback.wire, redactor)}
    return {**shown, "to": callback.to, "kind": callback.kind, "attempts": callback.attempts, "message": message}


def _readable(body: bytes, redactor: Redactor) -> str:
    text = redactor.text(body[: LONGEST_BODY * 4].decode(errors="replace"))
    return _TOKEN.sub(rf"\1{REDACTED}", text)[:LONGEST_BODY]
