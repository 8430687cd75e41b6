"""Server-Sent Events: lines in, events out, and how a stream goes on after a break. Pure; _client.py has the connections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from junebug_client.errors import UnexpectedAnswer

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
IDLE_TIMEOUT = 60.0
"""Seconds in which something must come, if only a comment: Junebug sends one more often than that."""


@dataclass(frozen=True)
class StreamEvent:
    """`kind`: status, event, message or log. `data`: what it says. `id`: where to go on after it."""

    kind: str
    data: dict[str, Any]
    id: str = ""


@dataclass
class Stream:
    """One stream of events, over however many connections."""

    channels: Sequence[str] = ()
    kinds: Sequence[str] = ()
    last_id: str = ""
    _failures: int = 0
    _asked: float | None = None
    _kind: str = ""
    _data: list[str] = field(default_factory=list)
    _id: str | None = None

    @property
    def params(self) -> dict[str, str]:
        given = {"channel_id": self.channels, "kind": self.kinds}
        return {name: ",".join(values) for name, values in given.items() if values}

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept": "text/event-stream", **({"Last-Event-ID": self.last_id} if self.last_id else {})}

    def begin(self) -> None:
        """A connection stands: what the one before it left unfinished is void."""
        self._kind, self._data, self._id = "", [], None

    def line(self, line: str) -> StreamEvent | None:
        """The event that ends with this line."""
        if not line:
            return self._event()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isdecimal():
                self._asked = min(float(value) / 1000, LONGEST_PAUSE)
        return None

    def _event(self) -> StreamEvent | None:
        """Raises UnexpectedAnswer."""
        kind, data, id = self._kind or "message", "\n".join(self._data), self._id
        self.begin()
        if id is not None:
            self.last_id = id
        if not data:
            return None
        self._failures = 0
        try:
            loaded = json.loads(data)
        except (ValueError, RecursionError):
            raise UnexpectedAnswer(200, data) from None
        return StreamEvent(kind, loaded if isinstance(loaded, dict) else {"value": loaded}, self.last_id)

    def pause(self) -> float:
        """Seconds until the next connection, after one that ended or failed."""
        asked = FIRST_PAUSE if self._asked is None else self._asked
        seconds = min(asked * 2.0**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 10)
        return seconds


def may_go_on(response: httpx.Response) -> bool:
    """Whether an answer that is no stream is one of the moment only."""
    return response.status_code in (429, 502, 503, 504)
