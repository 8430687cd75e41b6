"""Idempotency-Key: a send that is repeated with the same key is answered as the first one, and sent once.

Neighbours: submit.py sends, stores/idempotency.py keeps. The order of steps makes it safe: the key, the message with
its id and where its events go are kept in one step of Redis; then the message is published; then the key is noted as
done; then comes the 201. Whoever comes after a crash between two of these sends the message that was kept: the
application never sees a second id. It goes out twice only when RabbitMQ had it and that was not noted.

A bulk send (handlers/bulk.py) has one key for all of its messages, and a note for each part that RabbitMQ has confirmed: a
repeat sends the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from aiohttp import web

from junebug.api.http import LONG_WORK, PATIENCE, bounded
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, IdempotencyKeyReused, JunebugError, RequestInProgress, StoreUnavailable
from junebug.model.acceptance import Origin
from junebug.model.messages import UserMessage, id_of, timestamp_now
from junebug.stores.idempotency import Claim, IdempotencyStore

log = structlog.stdlib.get_logger("api")

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
LONGEST_KEY = 255
WAIT = 0.5
"""Share of request_timeout for which an earlier request is waited for: the rest is left to send after it."""
ASK_AGAIN = 0.1
LEASE_MARGIN = 1.0
"""Seconds beyond request_timeout after which whoever holds a key is dead: the handler was ended before."""
BULK_LEASE = LONG_WORK + LEASE_MARGIN
NOTE_TIMEOUT = 1.0
"""Seconds that noting may take: the message is sent, and its 201 does not wait for a Redis that is away."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A key, and one request's part in it. `message`: what is answered. `sends`: it is to be published by this request."""

    channel: str
    key: str
    message: UserMessage
    sends: bool
    lease: str
    router: str = ""
    """Whose key it is, where it is not the channel's."""


@dataclass(slots=True)
class BulkReservation:
    """A key, and one request's part in it, of a bulk send. Its messages' ids are made of `seed` and their indices, so that
    a repeat of what was not confirmed bears the ids of the first attempt, and an index is all that is kept of a message.
    """

    channel: str
    key: str
    seed: bytes
    timestamp: str
    """Of the first attempt: that of all its messages."""
    lease: str
    known: dict[int, list[Any] | None] = field(default_factory=dict)
    """Index -> errors, None: it was sent. For the others nobody knows, or it was not sent."""
    is_noted: bool = True
    """Whether all that was sent could be noted."""

    def message_id(self, index: int) -> str:
        return id_of(hashlib.blake2b(index.to_bytes(4, "big"), key=self.seed, digest_size=16).digest())


class Idempotency:
    """Decides which of the requests with one key sends."""

    def __init__(self, settings: Settings, store: IdempotencyStore) -> None:
        self._store = store
        self._wait = settings.request_timeout * WAIT
        self._lease = settings.request_timeout + LEASE_MARGIN
        self._note_timeout = min(NOTE_TIMEOUT, settings.request_timeout * PATIENCE)

    async def reserve(
        self, channel: str, key: str, body: Mapping[str, Any], message: UserMessage | None, origin: Origin, router: str = ""
    ) -> Reservation | None:
        """`message`: what the body asks for; None when it cannot be sent as things are: then None is the answer, too,
        unless an earlier request with this key could. `router`: whose key it is, where it is not the channel's; the channel
        is then the earlier request's.

        Raises IdempotencyKeyReused, RequestInProgress, StoreUnavailable.
        """
        digest = body_digest(body)
        claim = await self._claimed(lambda: self._store.claim(channel, key, digest, self._lease, message, router, origin))
        if claim.state == "none":
            return None
        if claim.state == "new":
            assert message is not None
            return Reservation(channel, key, message, True, claim.lease, router)
        earlier = UserMessage.from_wire(claim.message)
        channel = earlier.transport_name if router else channel
        return Reservation(channel, key, earlier, claim.state == "again", claim.lease, router)

    async def _claimed(self, claim: Callable[[], Awaitable[Claim]]) -> Claim:
        """What is claimed once no other request with the key is under way. Raises as `reserve` does."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._wait
        while True:
            found = await claim()
            if found.state == "other":
                raise IdempotencyKeyReused(
                    f"This {KEY_HEADER} was used with another body before: use a new one for each request"
                )
            if found.state != "busy":
                return found
            if loop.time() >= ends:
                raise RequestInProgress(f"A request with this {KEY_HEADER} is still under way: try again")
            await asyncio.sleep(ASK_AGAIN)

    async def done(self, reservation: Reservation) -> None:
        """It is published. Returns whether or not that can be noted: a repeat sends again where it cannot."""
        try:
            await self._note(self._store.done(reservation.router or reservation.channel, reservation.key))
        except StoreUnavailable as error:
            log.warning("idempotency key not noted", message_id=reservation.message.message_id, reason=str(error))

    async def failed(self, reservation: Reservation, error: JunebugError) -> None:
        """It was not published, or nobody knows whether it was."""
        channel, key, router = reservation.channel, reservation.key, reservation.router
        try:
            if error.status < 500:
                await self._note(self._store.forget(channel, key, reservation.message.message_id, router))
            else:
                await self._note(self._store.give_up(router or channel, key, reservation.lease))
        except StoreUnavailable:
            pass  # the key is free again when its lease ends

    # --- many at a time -----------------------------------------------------------------------------------------------

    async def reserve_many(self, channel: str, key: str, digest: str) -> BulkReservation:
        """Raises IdempotencyKeyReused, RequestInProgress, StoreUnavailable."""
        kept = orjson.dumps({"seed": secrets.token_hex(16), "timestamp": timestamp_now()})
        claim = await self._claimed(lambda: self._store.claim_many(channel, key, digest, BULK_LEASE, kept))
        notes = await self._store.notes(channel, key) if claim.state != "new" else []
        found = orjson.loads(claim.message or kept)
        reservation = BulkReservation(channel, key, bytes.fromhex(found["seed"]), found["timestamp"], claim.lease)
        for note in map(orjson.loads, notes):
            reservation.known.update((index, None) for index in note.get("sent", ()))
            reservation.known.update((int(index), errors) for index, errors in note.get("refused", {}).items())
        return reservation

    async def note_sent(self, reservation: BulkReservation, indices: Sequence[int]) -> None:
        """RabbitMQ has these."""
        await self._note_many(reservation, f"{reservation.lease}:{indices[0]}", {"sent": indices})

    async def ended(
        self, reservation: BulkReservation, accepted: int, refused: Mapping[str, Any], problem: JunebugError | None
    ) -> None:
        """`refused`: index -> errors. `problem`: why others can still be sent, by a repeat."""
        channel, key = reservation.channel, reservation.key
        if refused and (accepted or problem):
            await self._note_many(reservation, f"{reservation.lease}:refused", {"refused": refused})
        with suppress(StoreUnavailable):  # the key is free again when its lease ends
            if problem or not reservation.is_noted:
                await self._note(self._store.give_up(channel, key, reservation.lease))
            elif accepted:
                await self._note(self._store.done(channel, key))
            else:
                await self._note(self._store.forget(channel, key))

    async def _note_many(self, reservation: BulkReservation, name: str, note: Mapping[str, Any]) -> None:
        try:
            await self._note(self._store.note(reservation.channel, reservation.key, name, orjson.dumps(note)))
        except StoreUnavailable as error:
            if reservation.is_noted:
                log.warning("idempotency key not noted", channel_id=reservation.channel, reason=str(error))
            reservation.is_noted = False

    async def _note(self, work: Coroutine[Any, Any, None]) -> None:
        await bounded(work, self._note_timeout, StoreUnavailable("Redis does not answer"))


def key_of(request: web.Request) -> str | None:
    """The request's key, if it has one. Raises ApiUsageError for what can be none."""
    if KEY_HEADER not in request.headers:
        return None
    keys = request.headers.getall(KEY_HEADER)
    if len(keys) > 1 or not 0 < len(keys[0]) <= LONGEST_KEY or not keys[0].isprintable():
        raise ApiUsageError(f"{KEY_HEADER}: expected one text of 1 to {LONGEST_KEY} printable characters")
    return keys[0]


def body_digest(body: Mapping[str, Any]) -> str:
    """The same for bodies that say the same."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
