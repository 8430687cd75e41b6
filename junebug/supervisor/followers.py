"""Followers: who follows this host's logs from other hosts, each with a reader of its own here while it asks.

logs/followed.py tells what is asked and answered. With nobody who asks there is no thread, and no timer. Neighbour: host_logs.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from junebug import names
from junebug.errors import Overloaded
from junebug.logs.follow import Complete, Follower, Line, Reader, Step
from junebug.logs.followed import PIECE, WAIT, places_from, steps_json
from junebug.model.log_kinds import KINDS, kind_of

LEASE = 3 * WAIT
"""Seconds without a question after which a follower is gone."""
MOST = 100
"""Followers; each has follow.MOST_AHEAD bytes of lines here at the most."""
Asked = Mapping[str, Any]
Answer = dict[str, Any]


@dataclass
class _Open:
    reader: Reader
    news: asyncio.Event
    opened_at: float
    asked_at: float
    number: int = -1
    answer: Answer = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Followers:
    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._follower = Follower(path_of, _show)
        self._open: dict[str, _Open] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_reading(self) -> bool:
        return self._follower.is_running

    async def answer(self, asked: Asked) -> Answer:
        """Raises Overloaded, and what wrong types raise."""
        id, number = str(asked["follower"]), int(asked["number"])
        if "open" in asked and id not in self._open:
            self._begin(id, asked["open"])
        if (found := self._open.get(id)) is None:
            return {"is_known": False}
        loop = asyncio.get_running_loop()
        found.asked_at = loop.time()
        async with found.turn:
            if number != found.number:
                found.answer, found.number = await self._next(found), number
            found.asked_at = loop.time()
            return found.answer

    def end(self) -> None:
        for id in list(self._open):
            self._forget(id)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _begin(self, id: str, asked: Asked) -> None:
        logs = frozenset(map(str, asked["logs"]))
        if not all(map(names.is_unit, logs)):
            raise ValueError("logs")
        since = None if asked["since"] is None else float(asked["since"])
        known, kinds = places_from(asked["known"]), frozenset(asked["kinds"]) & {*KINDS}
        self._forget(str(asked["instead_of"]))
        if len(self._open) >= MOST:
            raise Overloaded(f"{MOST} streams follow this host already, and no more can at a time")
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.set)

        reader = Reader(kinds, wake, since, known)
        reader.logs = logs
        self._open[id] = _Open(reader, news, reader.made_at, loop.time())
        self._follower.follow(reader)
        if self._timer is None:
            self._timer = loop.call_later(LEASE, self._forget_the_silent)

    async def _next(self, found: _Open) -> Answer:
        """What comes next, as soon as there is a step; the first time, as soon as it is clear where it begins."""
        steps: list[Step | Complete] = []
        is_first = found.number < 0
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT):
                while True:
                    found.news.clear()
                    had_room = found.reader.has_room
                    steps += found.reader.take(PIECE)
                    if not had_room:
                        self._follower.hurry()
                    if any(isinstance(step, Step) for step in steps) or (steps and is_first):
                        break
                    steps = steps[-1:]  # all of them say only that there was no more
                    await found.news.wait()
        return {"is_known": True, "opened_at": found.opened_at, **steps_json(steps)}

    def _forget_the_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for id in [id for id, found in self._open.items() if now - found.asked_at > LEASE]:
            self._forget(id)
        self._timer = asyncio.get_running_loop().call_later(LEASE, self._forget_the_silent) if self._open else None

    def _forget(self, id: str) -> None:
        if found := self._open.pop(id, None):
            self._follower.leave(found.reader)


def _show(_: str, line: bytes) -> Line | None:
    """As it stands in the file: whoever asked shows it without secrets, as it does with the lines of its own host."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict):
        return None
    timestamp = entry.get("timestamp")
    at = float(timestamp) if isinstance(timestamp, int | float) else 0.0
    return Line(kind_of(entry)[0], at, lambda: line)
