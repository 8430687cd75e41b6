"""When to try again: pure arithmetic over attempts, used wherever a worker waits for somebody else to recover."""

from __future__ import annotations

import random

FIRST, LONGEST, FACTOR = 1.0, 60.0, 2.0
CLIENT_ERROR_ATTEMPTS = 5
"""A 4xx says that the request itself is refused: it is repeated this often only."""
TEMPORARY_CLIENT_ERRORS = frozenset({408, 425, 429})


def pause(attempt: int, retry_after: float | None = None, *, jitter: float | None = None) -> float:
    """Seconds to wait before attempt number `attempt` (1 = the first repeat), between half and all of a step that
    grows from 1 to 60 s; a provider's own `retry_after` (seconds) is honoured up to an hour.
    """
    if retry_after is not None:
        return min(max(retry_after, 0.0), 3600.0)
    step = min(FIRST * FACTOR ** min(attempt - 1, 16), LONGEST)
    return step * (0.5 + 0.5 * (random.random() if jitter is None else jitter))


def is_refused_for_good(status: int | None, attempts: int) -> bool:
    """Whether an HTTP answer (None: there was none) after so many attempts makes another one pointless."""
    return (
        status is not None
        and 400 <= status < 500
        and status not in TEMPORARY_CLIENT_ERRORS
        and attempts >= CLIENT_ERROR_ATTEMPTS
    )
