"""What may go wrong with a request: an answer that is an error, one that makes no sense, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class JunebugError(Exception):
    """Root of the tree."""


class NoAnswer(JunebugError):
    """Junebug could not be reached, or did not answer in time."""


class UnexpectedAnswer(JunebugError):
    """What answered was no Junebug: a proxy, or another server."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}, and no answer of Junebug's: {text[:200]!r}")
        self.status = status


class ApiError(JunebugError):
    """An error that Junebug answered. Its class says which `code` (problems.py); one that is not known here is an ApiError.

    `errors`: all that is wrong, each with a `type`, a `message` and what else describes it. `result`: whatever came with them.
    `retry_after`: seconds, where the answer had them.
    """

    def __init__(
        self, status: int, code: str, description: str, errors: Sequence[Mapping[str, Any]], result: Mapping[str, Any],
        retry_after: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__("; ".join(each["message"] for each in errors if isinstance(each.get("message"), str)) or description)
        self.status = status
        self.code = code
        self.description = description
        self.errors = list(errors)
        self.result = dict(result)
        self.retry_after = retry_after
