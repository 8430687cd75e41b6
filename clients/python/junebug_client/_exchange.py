"""One call, from its request to its result, with its repeats: pure, for both clients (sans I/O).

A repeat never does a thing twice: a request that may have been worked on is repeated only if it reads, sets a whole, or has an
Idempotency-Key.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

from junebug_client import problems
from junebug_client.errors import ApiError, NoAnswer, UnexpectedAnswer

KEY_HEADER = "Idempotency-Key"
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REPEATABLE = ("GET", "HEAD", "PUT")
_TRY_AGAIN = ("RequestInProgress", "QueueBusy")


@dataclass(frozen=True)
class Call:
    """One request, however often it is made."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str | None = None
    """Its Idempotency-Key."""
    content: bytes | str | None = None
    """What is sent instead of a `body`, which is JSON."""
    more_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {**self.more_headers, **({} if self.key is None else {KEY_HEADER: self.key})}

    def options(self) -> dict[str, Any]:
        """Of httpx's `request`."""
        given = {"content": self.content} if self.content is not None else {"json": self.body}
        return {"params": self.params, "headers": self.headers, **given}

    @property
    def params(self) -> dict[str, str]:
        """The query, without what is None."""
        return {name: _text(value) for name, value in self.query.items() if value is not None}


@dataclass(frozen=True)
class Retries:
    """`most` repeats of a call, with pauses of `first` seconds, doubled by each, and `longest` at the most. A `Retry-After`
    that is longer than that is an error at once.
    """

    most: int = 3
    first: float = 0.5
    longest: float = 30.0

    def pause(self, call: Call, attempt: int, outcome: httpx.Response | httpx.HTTPError) -> float | None:
        """Seconds until the call is made again, `attempt` times of which it failed before; None: it is not."""
        if attempt >= self.most or not _may_be_repeated(call, outcome):
            return None
        wanted = retry_after(outcome.headers) if isinstance(outcome, httpx.Response) else None
        if wanted is None:
            return min(self.first * 2.0**attempt, self.longest) * random.uniform(0.5, 1)
        return wanted if wanted <= self.longest else None


def _may_be_repeated(call: Call, outcome: httpx.Response | httpx.HTTPError) -> bool:
    is_safe = call.method in _REPEATABLE or call.key is not None
    if not isinstance(outcome, httpx.Response):
        return isinstance(outcome, _NOT_SENT) or (is_safe and isinstance(outcome, httpx.TransportError))
    if outcome.status_code == 429:
        return True
    if outcome.status_code == 409:
        return _code(outcome) in _TRY_AGAIN
    return outcome.status_code in (502, 503, 504) and (is_safe or call.method == "DELETE")


def exchange(call: Call, retries: Retries) -> Generator[Call | float, Any, Any]:
    """Yields the call, to be sent the response or what httpx raised, and seconds, to be slept. Returns the `result`.

    Raises ApiError, UnexpectedAnswer, NoAnswer.
    """
    for attempt in itertools.count():
        outcome = yield call
        pause = retries.pause(call, attempt, outcome)
        if pause is None:
            break
        yield pause
    if isinstance(outcome, httpx.HTTPError):
        raise NoAnswer(f"{call.method} {call.path}: {str(outcome) or type(outcome).__name__}") from outcome
    return result_of(outcome)


def result_of(response: httpx.Response) -> Any:
    """Raises ApiError, UnexpectedAnswer."""
    envelope = _loaded(response)
    if response.is_success:
        if isinstance(envelope, dict) and envelope.keys() >= {"status", "result"}:
            return envelope["result"]
        if isinstance(envelope, dict) and "openapi" in envelope:
            return envelope
    if not (
        isinstance(envelope, dict)
        and isinstance(result := envelope.get("result"), dict)
        and isinstance(found := result.get("errors", []), list)
    ):
        raise UnexpectedAnswer(response.status_code, response.content.decode(errors="replace"))
    errors = [each for each in found if isinstance(each, dict)]
    code = _text_in(errors[0], "type") if errors else ""
    kind = problems.BY_CODE.get(code, ApiError)
    raise kind(response.status_code, code, _text_in(envelope, "description"), errors, result, retry_after(response.headers))


def _loaded(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _code(response: httpx.Response) -> Any:
    try:
        return _loaded(response)["result"]["errors"][0]["type"]
    except (LookupError, TypeError):
        return None


def _text_in(given: Mapping[str, Any], name: str) -> str:
    """Empty: there is no text of that name."""
    value = given.get(name)
    return value if isinstance(value, str) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What a Retry-After says, in seconds: a number, or a date. None: nothing that makes sense."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def segment(text: str) -> str:
    """An id as a part of a path. Raises ValueError for what can be none."""
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} is no id")
    return quote(text, safe="")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
