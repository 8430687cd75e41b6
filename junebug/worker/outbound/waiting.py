"""What is here and not begun: the most urgent first, those of one priority in the order of their coming.

Neighbour: sender.py, which sends it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Container

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage
from junebug.model.messages import UserMessage
from junebug.worker.outbound.outcomes import InHand


class Waiting:
    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Delivery]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, delivery: Delivery) -> None:
        heapq.heappush(self._heap, (-names.priority_of(delivery.queue, delivery.priority), next(self._numbers), delivery))

    def put_back(self, held: InHand) -> None:
        """In its place."""
        heapq.heappush(self._heap, (-held.message.priority, held.place, held.delivery))

    def pop(self) -> tuple[int, int, Delivery]:
        """The next one: its priority, its place, and itself."""
        urgency, place, delivery = heapq.heappop(self._heap)
        return -urgency, place, delivery

    def take(self, queues: Container[str]) -> list[Delivery]:
        """All that came from these queues: it waits here no more."""
        taken = [delivery for delivery in self.in_order() if delivery.queue in queues]
        self._keep([entry for entry in self._heap if entry[2].queue not in queues])
        return taken

    def take_by_id(self, message_id: str) -> list[InHand]:
        """Likewise, those with this id (one may have come again)."""
        taken: list[InHand] = []
        for urgency, place, delivery in [entry for entry in self._heap if message_id.encode() in entry[2].body]:
            try:
                message = UserMessage.from_wire(delivery.body, priority=-urgency)
            except MalformedMessage:
                continue
            if message.message_id == message_id:
                self._heap.remove((urgency, place, delivery))
                taken.append(InHand(delivery, message, place))
        self._keep(self._heap)
        return taken

    def drop_lost(self) -> None:
        """What will be delivered again."""
        self._keep([entry for entry in self._heap if entry[2].alive])

    def clear(self) -> None:
        self._heap.clear()

    def in_order(self) -> list[Delivery]:
        """In which it is going to be sent."""
        return [delivery for _, _, delivery in sorted(self._heap, key=lambda entry: entry[:2])]

    def by_priority(self) -> Counter[int]:
        """Priority -> messages."""
        return Counter(-urgency for urgency, _, _ in self._heap)

    def _keep(self, entries: list[tuple[int, int, Delivery]]) -> None:
        self._heap = entries
        heapq.heapify(entries)
