"""HostFollower: what another host logs, for one stream: asked for again and again over RabbitMQ, as logs/followed.py tells.

It asks when what it was told is taken: the files of that host are the buffer. When an answer is lost, or that host's process
died, it begins anew from where it has got to, so nothing is missing and nothing comes twice. Neighbours: stream_sources.py has
one for each host; supervisor/followers.py answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from junebug import names
from junebug.amqp.rpc import Answer, RpcClient
from junebug.errors import JunebugError, NotRunning
from junebug.logs.follow import Complete, Show, Step
from junebug.logs.followed import FOLLOW, WAIT, Places, places_json, steps_from
from junebug.logs.places import Place
from junebug.model.messages import new_id

log = structlog.stdlib.get_logger("api")

PATIENCE = 3.0
"""Seconds beyond WAIT after which an answer is lost."""
PAUSE = 2.0
"""Seconds before a host that does not answer is asked again."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something may be missing, or late: why."""

    reason: str
    size = 0


Item = Step | Complete | Missing


class HostFollower:
    """`run` is its life. Whoever is woken takes from `items`, and says so."""

    def __init__(
        self, rpc: RpcClient, host: str, show: Show, kinds: frozenset[str], since: float | None, wake: Callable[[], None]
    ) -> None:
        """`since`: as of a Reader; None: from when it is first answered."""
        self.host = host
        self.items: deque[Item] = deque()
        self.logs: frozenset[str] = frozenset()
        self.is_begun = False
        """It is clear where it begins, or that it does not answer."""
        self.is_away = False
        self._rpc = rpc
        self._show = show
        self._kinds = kinds
        self._since = since
        self._wake = wake
        self._places: dict[str, Place] = {}
        """Where it has got to in those logs that said something, or is to begin."""
        self._id = self._last_id = ""
        self._number = 0
        self._taken = asyncio.Event()
        self._asking: asyncio.Timeout | None = None

    def follow(self, logs: frozenset[str], known: Places) -> None:
        """From now on these. `known`: where to begin in new ones, where that is known."""
        for each in (logs - self.logs) & known.keys():
            self._places.setdefault(each, known[each])
        self.logs = logs
        self._id = ""
        if self._asking:
            self._asking.reschedule(asyncio.get_running_loop().time())
            self._asking = None

    def taken(self) -> None:
        """All items are."""
        self._taken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not await self._asked():
                    continue
                self.is_away = False
                if self.items:
                    self._taken.clear()
                    self._wake()
                    await self._taken.wait()
            except Exception as error:
                if not isinstance(error, JunebugError):
                    log.exception("the logs of another host cannot be followed: trying again", host=self.host)
                self._id = ""
                if not self.is_away:
                    self.items.append(Missing(_why(self.host, error)))
                self.is_away = self.is_begun = True
                self._wake()
                await asyncio.sleep(PAUSE)

    async def _asked(self) -> bool:
        """False: other logs are to be asked for meanwhile. Raises as `_ask`."""
        try:
            async with asyncio.timeout(None) as asking:
                self._asking = asking
                await self._ask()
        except TimeoutError:
            if not asking.expired():
                raise
            return False
        finally:
            self._asking = None
        return True

    async def _ask(self) -> None:
        """Raises JunebugError, and what an answer raises that cannot be read."""
        about: dict[str, Any] = {}
        if not self._id:
            before, self._id, self._number = self._last_id, new_id(), 0
            self._last_id = self._id
            known = {log: place for log, place in self._places.items() if log in self.logs}
            about["open"] = {
                "kinds": sorted(self._kinds), "logs": sorted(self.logs), "since": self._since, "known": places_json(known),
                "instead_of": before,
            }  # fmt: skip
        queue = names.questions_of_host(self.host)
        answer = await self._rpc.ask(
            queue, FOLLOW, WAIT + PATIENCE, look_interval=WAIT, follower=self._id, number=self._number, **about
        )
        self._number += 1
        if not answer["is_known"]:
            self._id = ""
            return
        if self._since is None:
            self._since = float(answer["opened_at"])
        items = await asyncio.to_thread(self._read, answer)
        self._places |= {item.log: item.place for item in items if isinstance(item, Step)}
        self.items += items
        self.is_begun = True

    def _read(self, answer: Answer) -> list[Step | Complete]:
        """Blocking: all that a line is shown as is made here, not in the event loop."""
        items = steps_from(answer, self.host, self._show)
        for item in items:
            if isinstance(item, Step) and item.line:
                item.line.make()
        return items


def _why(host: str, error: Exception) -> str:
    if isinstance(error, NotRunning):
        return f"host {host} does not listen: what it logs comes when it does"
    return f"host {host} did not tell what it logs, and is asked again: {error}"
