"""Everybody whom a channel's callbacks go to: brings each callback to its destination.

    Forwarder, StatusReceiver --dispatch--> Destination --> mo_url, event_url, status_url, {amqp_queue}

Neighbours: destination.py gets it done, attempts.py knows where it is to go now. One way: nothing comes back here but what
may be meant for another destination, after a change of the channel's settings.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping
from itertools import islice

import structlog

from junebug import names
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.model.urls import origin
from junebug.runtime.backoff import Backoff
from junebug.runtime.families import CIRCUITS, TO
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.destination import Destination
from junebug.worker.callbacks.source import PendingCallback, Source
from junebug.worker.callbacks.target import targets_of
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

_CIRCUITS = {to: CIRCUITS.field(to) for to in TO}
RETURNED_AFTER = 5.0
"""Seconds after which it is looked again: what a process that ended had in hand is in no queue until RabbitMQ has put it back."""
MOST = 1000
"""Destinations that are known at a time; of more, those that have nothing to do are forgotten."""


class Dispatcher:
    def __init__(self, context: ChannelContext, attempts: Attempts) -> None:
        self._context = context
        self._attempts = attempts
        self._destinations: OrderedDict[tuple[str, str], Destination] = OrderedDict()

    def start(self) -> None:
        """Go on with what an earlier process left; from then on what comes is put behind it."""
        self._context.own("retry queues and backlogs", self._find_waiting())

    def find_unnoted(self) -> None:
        """Redis was emptied, and an earlier process could not note again what it left."""
        if self._attempts.may_wait:
            for look_after in (0.0, RETURNED_AFTER):
                self._context.own("queues that are not noted", self._find_unnoted(look_after))

    def note_again(self) -> None:
        """What waits, for the process after this one: Redis was emptied."""
        self._context.own("notes of what waits", self._note_again())

    async def _note_again(self) -> None:
        await self._attempts.delay_queues.note_again()
        for each in list(self._destinations.values()):
            await each.backlog.note_again()

    async def stop(self, timeout: float) -> None:
        """Finish what is under way within `timeout` seconds; all else goes back to its queue."""
        await asyncio.gather(*(each.stop(timeout) for each in self._destinations.values()))

    def dispatch(self, pending: PendingCallback) -> None:
        """Get it done; of one key, what is dispatched first is called first."""
        target = self._attempts.target(pending.callback)
        if target:
            self._destination(pending.callback.to, target.destination).offer(pending)
        else:
            pending.finish()

    def find_home(self, kind: str, url: str, home: Source) -> None:
        """A halted queue that is for this URL's host alone: it goes on when that works."""
        self._destination(kind, origin(url), self._context.until_look()).find_home(home)

    def drop_dead(self) -> None:
        """The link to RabbitMQ broke: what came over it will come again."""
        for each in self._destinations.values():
            each.drop_dead()

    def on_changed_spec(self) -> None:
        """What waits for one destination may be meant for another one now."""
        for each in list(self._destinations.values()):
            if each.kind != "event_url":  # which belongs to the message
                each.release()
        health = self._attempts.health
        if health.is_failing:
            current = {each for spec in self._context.recipients() for each in targets_of(spec)}
            health.forget(lambda kind, name: kind == "event_url" or (kind, name) in current)

    def gauges(self) -> Mapping[str, float]:
        """For the metrics; asked at each turn of a resting channel's clock."""
        down = [_CIRCUITS[kind] for (kind, _), each in self._destinations.items() if each.is_down]
        return Counter(down) if down else {}

    @property
    def held(self) -> int:
        """What came from retry queues and backlogs to wait here."""
        backlogs = (each.backlog.source for each in self._destinations.values())
        return self._attempts.delay_queues.held + sum(source.held for source in backlogs if source)

    def delay_queues(self) -> list[str]:
        """Names of the retry queues and backlogs that may hold something."""
        backlogs = (each.backlog for each in self._destinations.values())
        return [*self._attempts.delay_queues.names(), *(queue for each in backlogs if each.in_use for queue in each.queues)]

    @property
    def is_idle(self) -> bool:
        return all(each.is_idle for each in self._destinations.values())

    def _destination(self, kind: str, name: str, look_after: float = 0.0) -> Destination:
        """`look_after`: seconds until it is looked for a backlog that is not noted."""
        found = self._destinations.get((kind, name))
        if found is None:
            found = Destination(self._context, self._attempts, kind, name, self.dispatch)
            self._destinations[kind, name] = found
            if self._attempts.may_wait:
                self._context.own("look for a backlog", self._find_backlog(found, look_after))
            if len(self._destinations) > MOST:
                idle = (key for key, each in self._destinations.items() if each.is_idle and each is not found)
                self._destinations.pop(next(idle, ("", "")), None)
        self._destinations.move_to_end((kind, name))
        return found

    async def _find_backlog(self, destination: Destination, look_after: float) -> None:
        """An earlier process may have left something for it, and Redis have lost the note of that."""
        await asyncio.sleep(look_after)
        broker = self._context.broker
        if any((await broker.surely(lambda: broker.queue_lengths(destination.backlog.queues))).values()):
            destination.find_backlog()

    async def _find_waiting(self) -> None:
        """In retry queues and backlogs, by their notes."""
        channel, broker, store = self._context.channel, self._context.broker, self._context.stores.delay_queues
        backoff = Backoff(1.0, 10.0)
        while True:
            try:
                noted = await store.noted(channel)
                lengths = await broker.queue_lengths(noted)
                kept = {*self.delay_queues(), *(queue for queue, about in noted.items() if not about or lengths[queue])}
                if empty := noted.keys() - kept:  # backlogs
                    await store.forget(channel, empty)
                break
            except (StoreUnavailable, BrokerUnavailable) as error:
                log.warning("cannot see yet what waits for a repeat", reason=str(error))
                await backoff.pause()
        self._take_up(noted, lengths)
        await asyncio.sleep(RETURNED_AFTER)
        left = noted.keys() - {*self.delay_queues()}
        self._take_up(noted, await broker.surely(lambda: broker.queue_lengths(left)))
        if self._attempts.may_wait:
            await self._find_unnoted(self._context.until_look())

    async def _find_unnoted(self, look_after: float) -> None:
        """In retry queues, and backlogs of those whom the channel calls now, whose note Redis has lost: hardly ever. What waits
        for an event_url is found when that is called next.
        """
        await asyncio.sleep(look_after)
        channel, broker = self._context.channel, self._context.broker
        unnoted = dict.fromkeys(names.retry_queues(channel, self._context.settings.callback_retry_delays), "")
        called = {each for spec in self._context.recipients() for each in targets_of(spec)}
        unknown = islice(called - self._destinations.keys(), MOST)  # of the others it is looked for since they are known
        unnoted.update((names.backlog_queue(channel, *each), " ".join(each)) for each in unknown)
        if self._context.prefers_quorum:
            unnoted |= {names.of_kind(queue, True): about for queue, about in unnoted.items()}
        for queue in self.delay_queues():
            unnoted.pop(queue, None)
        lengths = await broker.surely(lambda: broker.queue_lengths(unnoted))
        self._take_up(unnoted, lengths)

    def _take_up(self, noted: Mapping[str, str], lengths: Mapping[str, int]) -> None:
        """Those in which something is. `noted`: as DelayQueueStore has it."""
        for queue in filter(lengths.__getitem__, lengths):
            kind, _, name = noted[queue].partition(" ")
            if not kind:
                self._attempts.delay_queues.look_after(queue)
            elif names.plain(queue) == names.backlog_queue(self._context.channel, kind, name):
                self._destination(kind, name).find_backlog(queue)
