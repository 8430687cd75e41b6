"""Junebug's keys in Redis, out of it and back into it, a part at a time: what `junebug backup` and `restore` are made of.

A part is a dict, ready for JSON: `{"key", "type", "expires_at", "value"}` (Unix milliseconds, or null); a long value is in
several, one after the other, the later ones with `"more": true`. families.py says which keys.
Neighbour: client/backup_file.py is the file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from junebug import names
from junebug.errors import StoreUnavailable
from junebug.stores.client import Command, RedisClient
from junebug.stores.families import LAST, Family, family_of

KEYS = 200
"""Looked at in one trip."""
ELEMENTS = 200
"""Of a long value in one trip; Redis gives a short one whole."""
LARGEST_PART = 1_000_000
"""Characters, but for a single element that has more."""
_SCANS = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}
_WRITES = {"hash": "HSET", "set": "SADD", "zset": "ZADD", "list": "RPUSH"}
TYPES = ("string", *_WRITES)

Part = dict[str, Any]


async def ids_of(redis: RedisClient) -> set[str]:
    """Those of all channels and routers, deleted ones whose queues and keys are still there included."""
    indexes = (names.CHANNELS, names.ROUTERS, names.DELETED_CHANNELS, names.DELETED_ROUTERS)
    return set().union(*await redis.run(*(("SMEMBERS", index) for index in indexes)))


async def is_used(redis: RedisClient, db: int) -> bool:
    """Whether a Junebug listens there for changes of channels, as far as we may see that."""
    try:
        (found,) = await redis.run(("CLIENT", "LIST", "TYPE", "pubsub"))
    except StoreUnavailable:
        return False
    clients = (dict(word.partition("=")[::2] for word in line.split()) for line in str(found).splitlines())
    return any(each.get("db") == str(db) and each.get("psub", "0") != "0" for each in clients)


async def keys_of(redis: RedisClient, ids: set[str]) -> AsyncIterator[list[tuple[str, Family]]]:
    """All of Junebug's keys, some at a time; those that are there all the while once at least."""
    cursor: Any = "0"
    while True:
        ((cursor, keys),) = await redis.run(("SCAN", cursor, "COUNT", KEYS))
        yield [(key, family) for key in keys if (family := family_of(key, ids))]
        if str(cursor) == "0":
            return


async def read(redis: RedisClient) -> AsyncIterator[Part]:
    """All that belongs into a backup. What comes and goes meanwhile is in it or not; no channel is in it without its spec.

    Raises StoreUnavailable.
    """
    ids = await ids_of(redis)
    complete: set[str] = set()
    async for found in keys_of(redis, ids):
        keys = [key for key, family in found if family.is_kept and key not in LAST]
        async for part in _read(redis, keys):
            yield part
        complete |= {key.removesuffix(":properties") for key in keys if key.endswith(":properties")}
    for index in LAST:
        (members,) = await redis.run(("SMEMBERS", index))
        head: Part = {"key": index, "type": "set", "expires_at": None}
        for number, some in enumerate(_split(sorted(complete.intersection(members)))):
            yield {**head, "value": some, **({"more": True} if number else {})}


async def _read(redis: RedisClient, keys: Sequence[str]) -> AsyncIterator[Part]:
    if not keys:
        return
    *about, (seconds, microseconds) = await redis.run(
        *(command for key in keys for command in (("TYPE", key), ("PTTL", key))), ("TIME",)
    )
    now = int(seconds) * 1000 + int(microseconds) // 1000
    heads: list[Part] = []
    for key, kind, ttl in zip(keys, about[::2], about[1::2], strict=True):
        if kind in TYPES and ttl != -2:  # else it has gone
            heads.append({"key": key, "type": kind, "expires_at": now + ttl if ttl >= 0 else None})
    if not heads:
        return
    for head, reply in zip(heads, await redis.run(*(_reading(head, "0") for head in heads)), strict=True):
        position = "0"
        more: Part = {}
        while True:
            position, value = _understood(head, reply, position)
            for piece in _split(value) if isinstance(value, list) else filter(None, [value]):
                yield {**head, "value": piece, **more}
                more = {"more": True}
            if position == "0":
                break
            (reply,) = await redis.run(_reading(head, position))


def _reading(head: Part, position: str) -> Command:
    match head["type"]:
        case "string":
            return ("GET", head["key"])
        case "list":
            return ("LRANGE", head["key"], position, int(position) + ELEMENTS - 1)
        case kind:
            return (_SCANS[kind], head["key"], position, "COUNT", ELEMENTS)


def _understood(head: Part, reply: Any, position: str) -> tuple[str, Any]:
    """Where to go on ("0": it was the end), and the value: a text, or a list of elements."""
    match head["type"]:
        case "string":
            return "0", reply
        case "list":
            return (str(int(position) + ELEMENTS) if len(reply) == ELEMENTS else "0"), reply
        case "set":
            return str(reply[0]), reply[1]
        case _:
            flat = iter(reply[1])
            return str(reply[0]), [[name, str(value)] for name, value in zip(flat, flat, strict=True)]


def _split(elements: Sequence[Any]) -> Iterator[list[Any]]:
    """In lists that are not too large."""
    part: list[Any] = []
    size = 0
    for element in elements:
        length = len(element) if isinstance(element, str) else sum(map(len, element))
        if part and (size + length > LARGEST_PART or len(part) >= ELEMENTS):
            yield part
            part, size = [], 0
        part.append(element)
        size += length
    if part:
        yield part


def is_part(part: Any) -> bool:
    """Whether it is one that `read` makes."""
    match part:
        case {"key": str(key), "type": "string", "expires_at": None | int(), "value": str()}:
            pass
        case {"key": str(key), "type": "list" | "set", "expires_at": None | int(), "value": [*elements]}:
            if not elements or not all(isinstance(each, str) for each in elements):
                return False
        case {"key": str(key), "type": "hash" | "zset" as kind, "expires_at": None | int(), "value": [*elements]}:
            pairs = all(isinstance(each, list) and len(each) == 2 and all(isinstance(x, str) for x in each) for each in elements)
            if not elements or not pairs or (kind == "zset" and not all(_is_number(score) for _, score in elements)):
                return False
        case _:
            return False
    family = family_of(key)
    return family is not None and family.is_kept and part.keys() <= {"key", "type", "expires_at", "value", "more"}


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def writing(part: Part, now: float) -> list[Command]:
    """The commands that put it there; none of what has expired. `now`: Unix seconds."""
    key, expires_at = part["key"], part["expires_at"]
    if expires_at is not None and expires_at <= now * 1000:
        return []
    commands: list[Command] = [] if part.get("more") else [("DEL", key)]
    match part["type"]:
        case "string":
            commands.append(("SET", key, part["value"]))
        case "zset":
            commands.append(("ZADD", key, *(word for name, score in part["value"] for word in (score, name))))
        case "hash":
            commands.append(("HSET", key, *(word for pair in part["value"] for word in pair)))
        case kind:
            commands.append((_WRITES[kind], key, *part["value"]))
    if expires_at is not None:
        commands.append(("PEXPIREAT", key, expires_at))
    return commands


async def write(redis: RedisClient, parts: Iterable[Part], now: float) -> None:
    """Put them there, each in the place of what has its key. Raises StoreUnavailable."""
    commands: list[Command] = []
    size = 0
    for part in parts:
        added = writing(part, now)
        commands += added
        size += sum(len(word) for command in added for word in command if isinstance(word, str))
        if size > LARGEST_PART or len(commands) > KEYS:
            await redis.run(*commands)
            commands, size = [], 0
    if commands:
        await redis.run(*commands)


async def remove_all(redis: RedisClient) -> int:
    """Every key of Junebug's; others stay. How many there were. Raises StoreUnavailable."""
    ids, removed = await ids_of(redis), 0
    kept = {names.EPOCH, names.PLUGINS, names.HEALTH, *LAST}  # a running Junebug's own; the indexes go when all else has gone
    async for found in keys_of(redis, ids):
        if keys := [key for key, _ in found if key not in kept]:
            removed += sum(await redis.run(("UNLINK", *keys)))
    (last,) = await redis.run(("UNLINK", *LAST))
    return removed + int(last)


async def announce(redis: RedisClient) -> None:
    """Every channel and router to whoever runs there already. Raises StoreUnavailable."""
    for index in LAST:
        (found,) = await redis.run(("SMEMBERS", index))
        if found:
            await redis.run(*(("PUBLISH", names.change_topic(id), id) for id in found))
