"""StreamSources: what one stream is told from: the logs of this host, and of the others that run what it follows.

By time, as far as can be: what is there is put in the order of its times, and a host that has more to tell of the past is waited
for, though not for long. Who runs the channel of a log is looked for again and again; who ran it before is asked for some time
more, and when a client comes back with an id, so is whoever ran it within 30 days. Where there is no other host this is the
Reader, and two commands to Redis a look.

Neighbours: host_follower.py asks one host; logs/follow.py reads here; handlers/stream.py takes.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping

from junebug.api.host_follower import HostFollower, Item, Missing
from junebug.api.other_hosts import OtherHosts
from junebug.api.stream_ids import places_of
from junebug.logs.follow import Complete, Reader, Show, Step
from junebug.logs.places import Place
from junebug.runtime.loop import end_task

MOST_HOSTS = 100
"""That are asked for one stream."""
KEPT = 60.0
"""Seconds for which a host is asked that runs a channel no more."""
PATIENCE = 3.0
"""Seconds for which others are waited for: at the beginning, and with what is newer than what they have still to tell."""
BATCH = 32 * 1024


class StreamSources:
    def __init__(
        self, others: OtherHosts, show: Show, kinds: frozenset[str], since: float | None, known: Mapping[bytes, Place],
        logs: frozenset[str], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """`since` and `known`: what the client's last id said; `logs`: to begin with."""
        self._others = others
        self._show = show
        self._kinds = kinds
        self._since = since
        self._known = known
        self._wake = wake
        self.reader = Reader(kinds, self._on_own_news, since, places_of(known, logs, others.host))
        self.reader.logs = logs
        self._own = _Source()
        self._hosts: dict[str, _Source] = {}
        self._left: dict[str, _Source] = {}
        """Those that are asked no more: they know where they have got to."""
        self._held: dict[str, dict[str, float]] = {}
        """Host -> log -> when it was last seen to run it."""
        self._marks: dict[str, dict[str, int]] = {}
        """Log -> host -> which file of it was read last: so who reads the same directory is found."""
        self._same: set[tuple[str, str]] = set()
        self._is_new, self._is_begun, self._too_many = True, False, False
        self._timer: asyncio.TimerHandle | None = None

    # --- which hosts ----------------------------------------------------------------------------------------------------

    async def look(self, logs: frozenset[str]) -> None:
        """From now on these logs, wherever they are. Raises StoreUnavailable."""
        self.reader.logs = logs
        leases, own, now = self._others.leases, self._others.host, time.monotonic()
        held_by = await leases.holders(sorted(logs), own)
        for log, host in (held_by or {}).items():
            self._held.setdefault(host, {})[log] = now
        if self._is_new and held_by is not None and self._since is not None:
            for host, lives in (await leases.hosts_of(sorted(logs))).items():
                if lives and host != own:
                    self._held.setdefault(host, {}).update(dict.fromkeys(logs, now))
        for host, held in list(self._held.items()):
            source = self._hosts.get(host)
            is_over = source is None or source.is_away or (source.is_complete and not source.items)
            kept = {log: at for log, at in held.items() if log in logs and not (is_over and now - at > KEPT)}
            self._held[host] = kept
            if not kept:
                del self._held[host]
                await self._leave(host)
            elif source is not None or self._may_ask(host):
                self._follow(host, frozenset(kept))
        if self._is_new and self._hosts:
            self._wait_for_others()
        self._is_new = False

    def _may_ask(self, host: str) -> bool:
        if len(self._hosts) < MOST_HOSTS:
            return True
        if not self._too_many:
            self._own.items.append(Missing(f"{MOST_HOSTS} hosts are followed, and no more can be: what {host} logs is not shown"))
        self._too_many = True
        return False

    def _follow(self, host: str, logs: frozenset[str]) -> None:
        if (source := self._hosts.get(host) or self._left.pop(host, None)) is None:
            since = self._since if self._is_new else self._since or self.reader.made_at
            asking = HostFollower(self._others.rpc, host, self._show, self._kinds, since, self._wake)
            source = _Source(asking)
        self._hosts[host] = source
        source.follow(logs, self._known)

    async def _leave(self, host: str) -> None:
        if source := self._hosts.pop(host, None):
            self._left[host] = source
            read = {log for log, marks in self._marks.items() if marks.pop(host, None) is not None}
            self._same = {same for same in self._same if same[0] not in read}  # whoever reads the same tells it from now on
            await source.end()
            source.items.clear()  # of logs that are not to be seen any more

    async def end(self) -> None:
        if self._timer:
            self._timer.cancel()
        for source in self._hosts.values():
            await source.end()
        self._hosts.clear()

    # --- what they tell -------------------------------------------------------------------------------------------------

    def _on_own_news(self) -> None:
        """In the Follower's thread."""
        self._is_begun = True
        self._wake()

    @property
    def is_begun(self) -> bool:
        """It is clear from where on all of them tell, or they were waited for long enough."""
        return self._is_begun and all(source.is_begun for source in self._hosts.values())

    @property
    def waiting(self) -> int:
        """Lines that are there and not taken."""
        items = [item for source in (self._own, *self._hosts.values()) for item in source.items]
        return self.reader.waiting + sum(isinstance(item, Step) and item.line is not None for item in items)

    def take(self, most: int) -> list[Item]:
        """What came next: about `most` bytes of it."""
        if not self._hosts and not self._own.items:
            return [item for item in self.reader.take(most) if isinstance(item, Complete) or not self._is_same(item)]
        sources = [self._own, *self._hosts.values()]
        heads = [(source.time, number) for number, source in enumerate(sources) if self._fill(source)]
        heapq.heapify(heads)
        found, size = list[Item](), 0
        while heads and size < most:
            if any(source.is_behind for source in sources):
                self._wait_for_others()
                break
            _, number = heapq.heappop(heads)
            source = sources[number]
            item = source.take()
            if isinstance(item, Complete):
                if all(each.is_complete or each.is_away for each in sources):
                    found.append(Complete(min(each.complete_at for each in sources if not each.is_away)))
            elif isinstance(item, Missing) or not self._is_same(item):
                found.append(item)
                size += item.size
            if self._fill(source):
                heapq.heappush(heads, (source.time, number))
        return found

    def _fill(self, source: _Source) -> bool:
        """Whether it has something."""
        if source is self._own and not source.items:
            source.items.extend(self.reader.take(BATCH))
        return bool(source.items)

    def _wait_for_others(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._waited_enough)

    def _waited_enough(self) -> None:
        self._timer = None
        for source in (self._own, *self._hosts.values()):
            source.is_late = source.is_behind
        self._wake()

    def _is_same(self, step: Step) -> bool:
        """Whether another host has told this line: both read one directory."""
        host = step.host
        if (step.log, host) in self._same:
            return True
        marks = self._marks.setdefault(step.log, {})
        if step.place.mark and any(mark == step.place.mark for each, mark in marks.items() if each != host):
            self._same.add((step.log, host))
            return True
        marks[host] = step.place.mark
        return False


class _Source:
    """`asking`: another host; None: this one."""

    def __init__(self, asking: HostFollower | None = None) -> None:
        self.asking = asking
        self.items: deque[Item] = asking.items if asking else deque()
        self.is_complete = False
        """The last that was taken said that there was no more."""
        self.complete_at = 0.0
        self.is_late = False
        """It was waited for, and for long enough."""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_away(self) -> bool:
        return self.asking is not None and self.asking.is_away

    @property
    def is_begun(self) -> bool:
        return self.is_late or self.asking is None or self.asking.is_begun

    @property
    def is_behind(self) -> bool:
        """It has still something to tell that others may have to wait for."""
        return not (self.items or self.is_complete or self.is_away or self.is_late)

    @property
    def time(self) -> float:
        """Of what comes next; 0 where that is no line."""
        item = self.items[0]
        return item.line.timestamp if isinstance(item, Step) and item.line else 0.0

    def take(self) -> Item:
        item = self.items.popleft()
        self.is_late = False
        self.is_complete = isinstance(item, Complete) or (self.is_complete and isinstance(item, Missing))
        if isinstance(item, Complete):
            self.complete_at = item.at
        if not self.items and self.asking:
            self.asking.taken()
        return item

    def follow(self, logs: frozenset[str], known: Mapping[bytes, Place]) -> None:
        if self.asking is None:
            return
        if self.asking.logs != logs:
            self.asking.follow(logs, places_of(known, logs - self.asking.logs, self.asking.host, is_own=False))
        if self._task is None:
            self._task = asyncio.create_task(self.asking.run(), name=f"follow {self.asking.host}")

    async def end(self) -> None:
        if self._task:
            await end_task(self._task)
            self._task = None
