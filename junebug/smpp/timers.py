"""When a session is to ask whether its peer lives. Pure: `now` is an argument; session.py keeps the clock."""

from __future__ import annotations

from typing import Literal


class Liveness:
    """A peer from which nothing came for `interval` seconds is asked (enquire_link); silent for `timeout` more it is dead.

    Any PDU counts as life. An interval of None or 0: nobody asks.
    """

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self._interval = interval or None
        self._timeout = timeout
        self._heard = now
        self._asked: float | None = None

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
