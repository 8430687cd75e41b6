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
    """One that was written. `answer` is None where nobody waits for it (enquire_link)."""

    pdu: Pdu
    tag: Any
    answer: asyncio.Future[Pdu] | None
    timeout: float
    deadline: float = 0.0


class PendingRequests:
    """Numbers run from 1 to 0x7FFFFFFF and then from 1 again (SMPP 3.4, 5.1.4)."""

    def __init__(self) -> None:
        self._last_sequence = 0
        self._requests: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._requests)

    def next_sequence(self) -> int:
        """A number that no waiting request bears."""
        sequence = self._last_sequence % LAST_SEQUENCE + 1
        while sequence in self._requests:
            sequence = sequence % LAST_SEQUENCE + 1
        self._last_sequence = sequence
        return sequence

    def add(self, request: Request) -> None:
        """Under its PDU's sequence_number."""
        self._requests[request.pdu.sequence_number] = request

    def get(self, sequence: int) -> Request | None:
        return self._requests.get(sequence)

    def pop(self, sequence: int) -> Request | None:
        """The request that this response answers; None when nobody waits for it (any more)."""
        return self._requests.pop(sequence, None)

    def pop_expired(self, now: float) -> list[Request]:
        late = [sequence for sequence, request in self._requests.items() if request.deadline <= now]
        return [self._requests.pop(sequence) for sequence in late]

    def pop_all(self) -> list[Request]:
        requests = list(self._requests.values())
        self._requests.clear()
        return requests

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for one of the answers."""
        return any(request.answer and not request.answer.done() for request in self._requests.values())

    def earliest_deadline(self) -> float | None:
        return min((request.deadline for request in self._requests.values()), default=None)
