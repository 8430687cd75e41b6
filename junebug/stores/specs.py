"""What the stores of channels' and of routers' specs have in common: read, changed by one at a time, deleted, and heard of.

Neighbours: channels.py and routers.py; wanted.py has what the reconciler needs of both.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import orjson

from junebug import names
from junebug.errors import JunebugError
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.runtime.backoff import Backoff
from junebug.stores.client import Command, RedisClient, is_failure

SUBSCRIBE_PAUSES = (0.5, 5.0)
"""Seconds before a lost subscription is tried for again: the first and the longest."""
DELETED_TTL = 86_400
"""Seconds that the properties of what is deleted are kept for its last callbacks, when nobody cleans up."""
MOST_CHANGES, CHANGES_TTL = 10_000, 30 * 86_400
"""That are remembered, and for how many seconds. A host that has missed more reads all there is."""

S = TypeVar("S", ChannelSpec, RouterSpec)


class SpecStore(Generic[S]):
    """Of one kind. `index`: the set of their ids; `deleted_index`: another set of those whose queues and keys are still there."""

    kind: str
    missing: type[JunebugError]
    changed: type[JunebugError]
    index: str
    deleted_index: str = names.DELETED_CHANNELS

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    def not_found(self, id: str) -> JunebugError:
        return self.missing(f"There is no {self.kind} with id {id!r}")

    async def ids(self) -> list[str]:
        (ids,) = await self._redis.run(("SMEMBERS", self.index))
        return sorted(ids)

    async def request_restart(self, id: str) -> int:
        """Have the reconciler start it afresh, in the generation that is returned. Raises `missing`."""
        outcome = await self._change(id, ("EVAL", _RESTART, 2, *spec_keys(id), id))
        if outcome == -1:
            raise self.not_found(id)
        return int(outcome)

    async def delete(self, id: str) -> None:
        """It is gone at once; its process, queues and other keys are left to the reconciler. Raises `missing`."""
        if not await self._change(id, self._deletion(id)):
            raise self.not_found(id)

    async def _change(self, id: str, command: Command) -> Any:
        """What the command replies. In the same trip it is told, so that no change is there and untold; that it may have been
        refused costs little.
        """
        reply, *_ = await self._redis.run(command, *change_of(id))
        return reply

    def _deletion(self, id: str) -> Command:
        """0: there was none."""
        return (
            "EVAL", _DELETE, 6, names.channel_properties(id), self.index, names.GENERATIONS,
            names.DELETED_CHANNELS, names.deleted_properties(id), self.deleted_index, id, DELETED_TTL,
        )  # fmt: skip

    async def notify_changed(self, id: str) -> None:
        """Tell its worker, and those who listen to all, that something of it changed beside its spec."""
        await self._redis.run(("PUBLISH", names.change_topic(id), id))

    def changes(self, id: str) -> AsyncIterator[str]:
        """The id whenever its spec may have changed; survives Redis, ends only when cancelled.

        An empty string says that the subscription is new (what was said before was not heard), or lost.
        """
        return self._hear("subscribe", names.change_topic(id))

    def all_changes(self) -> AsyncIterator[str]:
        """The same of every channel and router."""
        return self._hear("psubscribe", names.ALL_CHANGES)

    async def _hear(self, subscribe: str, topic: str) -> AsyncIterator[str]:
        backoff = Backoff(*SUBSCRIBE_PAUSES)
        while True:
            try:
                async with contextlib.aclosing(self._redis.hear(subscribe, topic)) as heard:
                    async for id in heard:
                        backoff.reset()
                        yield id or ""
            except Exception as error:
                if not is_failure(error):
                    raise
            yield ""
            await backoff.pause()

    def _checked(self, id: str, outcome: Any) -> int:
        """The generation that the update tells. Raises `missing`, `changed`."""
        if outcome == -1:
            raise self.not_found(id)
        if outcome == -2:
            raise self.changed(f"{self.kind.capitalize()} {id!r} was changed at the same time: read it and try again")
        return int(outcome)


def spec_keys(id: str) -> tuple[str, str]:
    return names.channel_properties(id), names.GENERATIONS


def change_of(id: str) -> tuple[Command, ...]:
    """What stands behind each change of a spec, in the same pipeline: it is noted for the hosts' next looks, and told to its
    worker and those who listen to all.
    """
    return (*note_of_change(id), ("PUBLISH", names.change_topic(id), id))


def note_of_change(id: str = "") -> tuple[Command, ...]:
    """Without an id: everything may have changed."""
    return (
        ("XADD", names.WANTED_CHANGES, "MAXLEN", "~", MOST_CHANGES, "*", id, new_number()),
        ("EXPIRE", names.WANTED_CHANGES, CHANGES_TTL),
    )


def new_number() -> int:
    """Of a change: by it this history of Redis is told from another one."""
    return random.getrandbits(48)


def loads(stored: str) -> dict[str, Any]:
    """What nobody can read has no properties: shown as such, never started."""
    try:
        properties = orjson.loads(stored)
    except orjson.JSONDecodeError:
        return {}
    return properties if isinstance(properties, dict) else {}


def dumps(properties: dict[str, Any]) -> str:
    return orjson.dumps(properties).decode()


_RESTART = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""

_DELETE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[5])
redis.call('EXPIRE', KEYS[5], ARGV[2])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('SADD', KEYS[6], ARGV[1])
return 1
"""
