"""Endpoints of dead letters: look at them, give them to the application once more, delete them (issue 4).

They are on the dead-letter queue of the channel or router and nowhere else (model/callbacks.py says what they are). Each of
these goes once through it, from the oldest on; nobody else may meanwhile, so that each letter is seen once. Neighbour:
api/shelves.py, which says whose they are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from msgspec.structs import replace

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.browse import Visit
from junebug.amqp.frames import Delivery
from junebug.api import schemas
from junebug.api.access import CALLER
from junebug.api.channel_queues import ChannelQueues
from junebug.api.handlers.queue import until_free
from junebug.api.http import Page, long_work, read_json, read_page, reply
from junebug.errors import DeadLetterNotFound, MalformedMessage
from junebug.logs.redaction import REDACTED, Redactor
from junebug.model.callbacks import DeadLetter, content_of
from junebug.model.messages import Status, timestamp_now
from junebug.model.presenter import body_of

log = structlog.stdlib.get_logger("api")

LONGEST_BODY = 10_000
"""Characters that are shown of a dead letter which is no message."""
_TOKEN = re.compile(r'("[^"]*(?:token|secret|password)"\s*:\s*")(?:[^"\\]|\\.)*')


@dataclass(frozen=True)
class Shelf:
    """The dead letters of a channel, a router, or a router's destination."""

    owner: str
    """The channel or router whose queues they are on."""
    publish: Callable[[str, Sequence[bytes], bool], Awaitable[None]]
    """(owner, callbacks, is_quorum): they are made again."""
    secrets: Collection[str | None]
    """What is not to be shown of them."""
    is_quorum: bool
    """Which kind its queues are believed to be of."""
    is_routed: bool = False
    """Whether each belongs to the channel that its message says."""
    destination: str = ""
    """Whose alone they are; empty: all of the queue."""

    def has(self, letter: DeadLetter) -> bool:
        return not self.destination or (letter.callback is not None and letter.callback.destination == self.destination)


@dataclass(frozen=True)
class DeadLetters:
    """The handlers, and what they need."""

    broker: Broker
    queues: ChannelQueues
    find: Callable[[web.Request], Awaitable[Shelf]]
    """Those that the URL names. Raises that there is no such channel, router or destination."""

    @long_work
    async def list_letters(self, request: web.Request) -> web.Response:
        page = read_page(request.query)
        shelf = await self.find(request)
        letters: list[DeadLetter] = []
        if shelf.destination:
            total = await self._list_chosen(shelf, letters, page)
        else:

            async def visit(batch: Sequence[Delivery]) -> bool:
                letters.extend(DeadLetter.from_wire(delivery.body) for delivery in batch)
                return True

            total = await self._browse(shelf, visit, most=page.offset + page.limit, skip=page.offset)
        shown = [letter_json(letter, shelf) for letter in letters]
        return reply(200, "dead letters listed", page.result("dead_letters", shown, total))

    async def _list_chosen(self, shelf: Shelf, letters: list[DeadLetter], page: Page) -> int:
        """The page of those of a destination; how many it has."""
        total = 0

        async def visit(batch: Sequence[Delivery]) -> bool:
            nonlocal total
            for letter in filter(shelf.has, (DeadLetter.from_wire(delivery.body) for delivery in batch)):
                if page.offset <= total < page.offset + page.limit:
                    letters.append(letter)
                total += 1
            return True

        await self._browse(shelf, visit)
        return total

    @long_work
    async def replay(self, request: web.Request) -> web.Response:
        body = schemas.replay.check(read_json(request, empty=b"{}"))
        shelf = await self.find(request)
        wanted = body.get("ids")
        who = f"{timestamp_now()} by {request[CALLER].name}"
        replayed, skipped = await self._replay(shelf, None if wanted is None else set(wanted), who)
        if wanted is not None and not replayed and not skipped:
            raise DeadLetterNotFound("There is no dead letter with one of these ids")
        log.info("dead letters replayed", channel_id=shelf.owner, replayed=replayed, skipped=skipped)
        return reply(200, "dead letters replayed", {"replayed": replayed, "skipped": skipped})

    @long_work
    async def delete_all(self, request: web.Request) -> web.Response:
        shelf = await self.find(request)
        return reply(200, "dead letters deleted", {"deleted": await self._delete(shelf, None)})

    @long_work
    async def delete_one(self, request: web.Request) -> web.Response:
        shelf = await self.find(request)
        letter_id = request.match_info["letter_id"]
        deleted = await self._delete(shelf, letter_id)
        if not deleted:
            raise DeadLetterNotFound(f"There is no dead letter with id {letter_id[:100]!r}")
        return reply(200, "dead letters deleted", {"deleted": deleted})

    async def _replay(self, shelf: Shelf, wanted: Collection[str] | None, who: str) -> tuple[int, int]:
        """How many were replayed, and how many of those wanted hold no message; `wanted` None: all."""
        replayed = skipped = 0

        async def visit(batch: Sequence[Delivery]) -> bool:
            nonlocal replayed, skipped
            chosen: list[Delivery] = []
            bodies: list[bytes] = []
            for delivery in batch:
                letter = DeadLetter.from_wire(delivery.body)
                if not shelf.has(letter) or (wanted is not None and letter.id not in wanted):
                    continue
                if letter.callback is None:
                    skipped += 1
                    continue
                callback = replace(letter.callback, attempts=0, since=time.time(), error="", replayed=who)
                chosen.append(delivery)
                bodies.append(callback.to_wire())
            if bodies:
                await shelf.publish(shelf.owner, bodies, shelf.is_quorum)
            for delivery in chosen:
                delivery.ack()  # only now: a crash before repeats it, with the same id
            replayed += len(chosen)
            return wanted is None or replayed + skipped < len(wanted)

        await self._browse(shelf, visit)
        return replayed, skipped

    async def _delete(self, shelf: Shelf, letter_id: str | None) -> int:
        """How many were deleted; `letter_id` None: all."""
        deleted = 0
        is_all = letter_id is None and not shelf.destination

        async def visit(batch: Sequence[Delivery]) -> bool:
            nonlocal deleted
            for delivery in batch:
                if not is_all:
                    letter = DeadLetter.from_wire(delivery.body)
                    if not shelf.has(letter) or letter_id not in (None, letter.id):
                        continue
                delivery.ack()
                deleted += 1
            return letter_id is None or not deleted

        await self._browse(shelf, visit, keeping=not is_all)
        log.info("dead letters deleted", channel_id=shelf.owner, deleted=deleted)
        return deleted

    async def _browse(
        self, shelf: Shelf, visit: Visit, *, keeping: bool = True, most: int | None = None, skip: int = 0
    ) -> int:
        """How many letters there were. Raises QueueBusy, BrokerUnavailable."""
        # tells in time when RabbitMQ is away
        queue, total = await self.queues.find(names.dead_queue(shelf.owner), shelf.is_quorum)
        if most is None or skip < total:
            await until_free(lambda: self.broker.browse(queue, visit, keeping=keeping, most=most, skip=skip))
        return total


def letter_json(letter: DeadLetter, shelf: Shelf) -> dict[str, Any]:
    """A dead letter, without secrets: `message` as the application would have got it, or the `body` that is none."""
    callback = letter.callback
    redactor = Redactor(filter(None, (*shelf.secrets, callback.auth_token if callback else None)))
    shown = {
        "id": letter.id,
        "timestamp": letter.timestamp,
        "reason": letter.reason,
        "error": redactor.text(letter.error),
    }
    if callback is None:
        return {**shown, "queue": letter.queue, "body": _readable(letter.body, redactor)}
    if callback.destination:
        shown["destination"] = callback.destination
    try:
        content = content_of(callback)
    except MalformedMessage:
        return {**shown, "queue": names.callback_queue(shelf.owner), "body": _readable(callback.wire, redactor)}
    channel = content.transport_name if shelf.is_routed and not isinstance(content, Status) else shelf.owner
    message = body_of(content, channel)
    return {**shown, "to": callback.to, "kind": callback.kind, "attempts": callback.attempts, "message": message}


def _readable(body: bytes, redactor: Redactor) -> str:
    text = redactor.text(body[: LONGEST_BODY * 4].decode(errors="replace"))
    return _TOKEN.sub(rf"\1{REDACTED}", text)[:LONGEST_BODY]
