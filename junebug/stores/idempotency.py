"""What was sent with an Idempotency-Key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from junebug import names
from junebug.model import acceptance
from junebug.model.acceptance import Origin
from junebug.model.messages import UserMessage
from junebug.stores.client import RedisClient, milliseconds
from junebug.stores.outbound import fields_of, note_of


@dataclass(frozen=True, slots=True)
class Claim:
    """What becomes of a request with an Idempotency-Key: who came first, and how far it got.

    `new`: this one sends. `again`: an earlier one ended without an answer, and this one sends the `message` of that one.
    `done`: it was sent, `message` says what was answered. `busy`: it is under way. `other`: it had another body. `none`:
    there was none, and this one may not send.
    """

    state: Literal["new", "again", "done", "busy", "other", "none"]
    message: bytes = b""
    """In Vumi's form: of `again` and `done`. Of a bulk send: what `claim_many` was given."""
    lease: str = ""
    """Names the attempt: of `new` and `again`."""


class IdempotencyStore:
    """What was sent with an Idempotency-Key, for outbound_message_ttl seconds after the first attempt.

    A hash: `body` (digest of the request), `message`, and `lease` while it is under way: up to when, in milliseconds of
    Redis' clock, whoever sends it may be alive. Of a bulk send also `note:*`: what became of which of its messages.
    """

    def __init__(self, redis: RedisClient, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def claim(
        self, channel: str, key: str, body: str, lease: float, message: UserMessage | None, router: str = "",
        origin: Origin | None = None,
    ) -> Claim:  # fmt: skip
        """Be the one who sends, for `lease` seconds, unless another is or was; without a `message` it sends nothing new.
        `router`: whose key it is, where it is not the channel's. `origin`: who sends.

        For `new` this does OutboundStore's work in the same step, so that a crash leaves both or neither.
        """
        keys, owner = [names.idempotency_key(router or channel, key)], router or channel
        if message is None:
            return await self._claim(owner, keys, body, b"", lease)
        keys.append(names.outbound_message(channel, message.message_id))
        accepted = acceptance.accepted(message, channel, origin) if origin else b""
        note = note_of(channel, message, accepted) if router else []
        if router:
            keys.append(names.outbound_message(router, message.message_id))
        return await self._claim(channel, keys, body, message.to_wire(), lease, fields_of(message, accepted), note, router)

    async def claim_many(self, channel: str, key: str, body: str, lease: float, kept: bytes) -> Claim:
        """The same for a bulk send. `kept`: what its messages' ids are made of."""
        return await self._claim(channel, (names.idempotency_key(channel, key),), body, kept, lease)

    async def _claim(
        self, channel: str, keys: Sequence[str], body: str, kept: bytes, lease: float, fields: Sequence[str | bytes] = (),
        note: Sequence[str | bytes] = (), router: str = "",
    ) -> Claim:  # fmt: skip
        values = (body, kept, milliseconds(lease), self._ttl, len(fields), *fields, *note)
        command = ("EVAL", _CLAIM, len(keys), *keys, *values)
        ((state, *rest),) = await self._redis.make(channel, self._ttl, keys, command, also=router)
        return Claim(state, *(each.encode() if n == 0 else each for n, each in enumerate(rest)))

    async def note(self, channel: str, key: str, name: str, note: bytes) -> None:
        """Something that is known of a bulk send; nothing when the key has gone meanwhile."""
        await self._redis.run(("EVAL", _NOTE, 1, names.idempotency_key(channel, key), f"{_NOTES}{name}", note))

    async def notes(self, channel: str, key: str) -> list[bytes]:
        """All that was noted of it."""
        (found,) = await self._redis.run(("HGETALL", names.idempotency_key(channel, key)))
        return [note.encode() for name, note in found.items() if name.startswith(_NOTES)]

    async def done(self, channel: str, key: str) -> None:
        """RabbitMQ has the message: nobody sends it again."""
        await self._redis.run(("HDEL", names.idempotency_key(channel, key), "lease"))

    async def give_up(self, channel: str, key: str, lease: str) -> None:
        """This attempt has ended, nobody knows how: the next one need not wait for the lease's end."""
        await self._redis.run(("EVAL", _GIVE_UP, 1, names.idempotency_key(channel, key), lease))

    async def forget(self, channel: str, key: str, message_id: str = "", router: str = "") -> None:
        """Nothing was sent, and nothing will be: as if the request had never been there."""
        notes = (names.outbound_message(each, message_id) for each in filter(None, (channel, router)))
        await self._redis.run(("DEL", names.idempotency_key(router or channel, key), *notes))


_CLAIM = """
local body, message, lease = unpack(redis.call('HMGET', KEYS[1], 'body', 'message', 'lease'))
if message and body ~= ARGV[1] then return {'other'} end
if message and not lease then return {'done', message} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if message and tonumber(lease) > now then return {'busy'} end
if not message and ARGV[2] == '' then return {'none'} end
lease = string.format('%.0f', now + ARGV[3])
if message then
  redis.call('HSET', KEYS[1], 'lease', lease)
  return {'again', message, lease}
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'message', ARGV[2], 'lease', lease)
redis.call('EXPIRE', KEYS[1], ARGV[4])
if KEYS[2] then
  redis.call('HSET', KEYS[2], unpack(ARGV, 6, 5 + ARGV[5]))
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end
if KEYS[3] then
  redis.call('HSET', KEYS[3], unpack(ARGV, 6 + ARGV[5]))
  redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return {'new', '', lease}
"""

_GIVE_UP = """
if redis.call('HGET', KEYS[1], 'lease') == ARGV[1] then redis.call('HSET', KEYS[1], 'lease', 0) end
return 1
"""

_NOTE = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
"""
_NOTES = "note:"
