"""The requests of ours that wait for their answers, by sequence number. Pure: no socket, no loop, deadlines are given.

session.py owns one; its loop's clock is the source of every deadline.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from junebug.smpp.pdu import Pdu

LAST_SEQUENCE = 0x7FFFFFFF


@dataclass(slots=True, eq=False)
class Request:
    """One request PDU on its way. `counted` ones take a place in the window, enquire_link and unbind do not."""

    pdu: Pdu
    tag: Any
    answer: asyncio.Future[Pdu] | None
    timeout: float
    counted: bool = True
    deadline: float = 0.0
    """Until when it may wait: for a place in the window first, for its response once it is written."""


class Window:
    """At most `size` counted requests at a time; numbers run from 1 to 0x7FFFFFFF and then from 1 again (SMPP 3.4, 5.1.4)."""

    def __init__(self, size: int, last_sequence: int = 0) -> None:
        self.size = size
        self.counted = 0
        self._last_sequence = last_sequence
        self._requests: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def full(self) -> bool:
        return self.counted >= self.size

    def next_sequence(self) -> int:
        """A number that no waiting request bears."""
        sequence = self._last_sequence % LAST_SEQUENCE + 1
        while sequence in self._requests:
            sequence = sequence % LAST_SEQUENCE + 1
        self._last_sequence = sequence
        return sequence

    def add(self, request: Request) -> None:
        """Register it under its PDU's sequence_number."""
        self._requests[request.pdu.sequence_number] = request
        self.counted += request.counted

    def get(self, sequence: int) -> Request | None:
        return self._requests.get(sequence)

    def take(self, sequence: int) -> Request | None:
        """The request that this response answers; None when nobody waits for it (any more)."""
        request = self._requests.pop(sequence, None)
        if request is not None:
            self.counted -= request.counted
        return request

    def take_expired(self, now: float) -> list[Request]:
        late = [sequence for sequence, request in self._requests.items() if request.deadline <= now]
        return [request for sequence in late if (request := self.take(sequence))]

    def take_all(self) -> list[Request]:
        requests = list(self._requests.values())
        self._requests.clear()
        self.counted = 0
        return requests

    def earliest_deadline(self) -> float | None:
        return min((request.deadline for request in self._requests.values()), default=None)
