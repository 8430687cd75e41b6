"""What a session waits for: answers to its requests, its owner's answers, any sign that its peer lives. Pure: `now` is given."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from junebug.smpp.constants import MAX_SEQUENCE_NUMBER
from junebug.smpp.pdu import BINDS, Pdu, may_answer


class NotWritten(Exception):
    """The request never left the house: there is no link, or its peer does not read."""


class ResponseLost(Exception):
    """The request was written, then the link died or the response did not come in time: the outcome is unknown."""


@dataclass(slots=True, eq=False)
class Request:
    """One that was written. `answer` is None where nobody waits for it (enquire_link)."""

    pdu: Pdu
    tag: Any
    answer: asyncio.Future[Pdu] | None
    timeout: float
    deadline: float = 0.0

    def fail(self, error: Exception) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(error)


class PendingRequests(dict[int, Request]):
    """By sequence number; these run from 1 to 0x7FFFFFFF and then from 1 again (SMPP 3.4, 5.1.4)."""

    last_sequence = 0

    def next_sequence(self) -> int:
        """A number that no waiting request bears."""
        sequence = self.last_sequence % MAX_SEQUENCE_NUMBER + 1
        while sequence in self:
            sequence = sequence % MAX_SEQUENCE_NUMBER + 1
        self.last_sequence = sequence
        return sequence

    def pop_answered(self, response: Pdu) -> Request | None:
        """What it answers. A bind is the first request and alone, so it is answered under any number: what cannot be read
        is refused with a generic_nack that bears 0 (3.4 §4.3).
        """
        sequence = response.sequence_number
        if sequence not in self:
            sequence = next(iter(self), 0)
            if sequence not in self or self[sequence].pdu.command_id not in BINDS:
                return None
        return self.pop(sequence) if may_answer(response.command_id, self[sequence].pdu.command_id) else None

    def pop_expired(self, now: float) -> list[Request]:
        return [self.pop(sequence) for sequence, request in list(self.items()) if request.deadline <= now]

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for one of the answers."""
        return any(request.answer and not request.answer.done() for request in self.values())

    def earliest_deadline(self) -> float | None:
        return min((request.deadline for request in self.values()), default=None)


class Unanswered:
    """Inbound requests that their owner keeps unanswered: up to `most`. Half of them are many: it is time to read no more until
    there are fewer, so that a peer which sends all at once waits and is not refused. For PATIENCE seconds, as what these wait
    for may be behind.
    """

    PATIENCE = 3.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._many = max(1, most // 2)
        self._patient_until: float | None = None
        self.count = 0

    @property
    def is_full(self) -> bool:
        """No more may come."""
        return self.count >= self._most

    @property
    def are_many(self) -> bool:
        return self.count >= self._many

    def pause(self, now: float) -> float:
        """Seconds for which the next is not to be read, unless they become fewer."""
        if not self.are_many:
            self._patient_until = None
            return 0.0
        if self._patient_until is None:
            self._patient_until = now + self.PATIENCE
        return max(0.0, self._patient_until - now)


class Liveness:
    """A peer from which nothing came for `interval` seconds is asked (enquire_link); silent for `timeout` more it is dead.

    Any PDU counts as life. An interval of None or 0: nobody asks.
    """

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self._interval = interval or None
        self._timeout = timeout
        self._asked: float | None = None
        self.heard(now)

    def heard(self, now: float) -> None:
        self._heard = now
        self._asked = None

    def check(self, now: float) -> Literal["ask", "dead"] | None:
        """What is due. After "ask" the question counts as asked."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return None
        if self._asked is not None:
            return "dead"
        self._asked = now
        return "ask"

    def deadline(self) -> float | None:
        """When `check` has something to say next."""
        if self._asked is not None:
            return self._asked + self._timeout
        return None if self._interval is None else self._heard + self._interval
