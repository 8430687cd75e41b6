"""API tokens: a hash of id -> JSON, without TTL, as specs are. Who empties Redis takes them away: none is let in by that."""

from __future__ import annotations

import orjson

from junebug import names
from junebug.config.declaration import RedisSettings
from junebug.errors import ApiUsageError, StartupError, StoreUnavailable, TokenNotFound
from junebug.model.access import Token
from junebug.stores.client import RedisClient

MOST_TOKENS = 1000


async def check(settings: RedisSettings, timeout: float, problem: str) -> None:
    """There is a token. Raises StartupError, of that `problem` when there is none."""
    redis = RedisClient(settings, timeout)
    try:
        (count,) = await redis.run(("HLEN", names.API_TOKENS))
    except StoreUnavailable as error:
        raise StartupError(f"{redis.culprit(error)}: {error}") from None
    finally:
        await redis.close()
    if not count:
        raise StartupError(problem)


class TokenStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def get(self, id: str) -> Token | None:
        """Raises StoreUnavailable."""
        (stored,) = await self._redis.run(("HGET", names.API_TOKENS, id))
        return None if stored is None else _token(id, stored)

    async def all(self) -> list[Token]:
        """The oldest first. Raises StoreUnavailable."""
        (found,) = await self._redis.run(("HGETALL", names.API_TOKENS))
        tokens = filter(None, (_token(id, stored) for id, stored in found.items()))
        return sorted(tokens, key=lambda each: (each.created_at, each.id))

    async def add(self, token: Token) -> None:
        """Raises ApiUsageError when there are too many, StoreUnavailable."""
        stored = orjson.dumps(token.to_properties())
        (added,) = await self._redis.run(("EVAL", _ADD, 1, names.API_TOKENS, token.id, stored, MOST_TOKENS))
        if not added:
            raise ApiUsageError(f"There are {MOST_TOKENS} API tokens already: revoke some that nobody uses")

    async def remove(self, id: str) -> None:
        """Raises TokenNotFound, StoreUnavailable."""
        (removed,) = await self._redis.run(("HDEL", names.API_TOKENS, id))
        if not removed:
            raise TokenNotFound(f"There is no API token with id {id[:100]!r}")


def _token(id: str, stored: str) -> Token | None:
    """What nobody can read is none."""
    try:
        return Token.from_properties(id, orjson.loads(stored))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


_ADD = """
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
