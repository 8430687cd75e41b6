"""When to try again, and when no more: pure arithmetic over attempts.

Neighbours: destinations.py asks what becomes of a failed callback, others how long to wait for what is ours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from junebug import names

FIRST, LONGEST, FACTOR = 1.0, 60.0, 2.0
CLIENT_ERROR_ATTEMPTS = 5
"""A 4xx says that the request itself is refused: it is repeated this often only."""
TEMPORARY_CLIENT_ERRORS = frozenset({408, 425, 429})
LONGEST_RETRY_AFTER = names.LONGEST_RETRY
JITTER_STEPS = 20
"""A jittered delay is one of so many, at the most a fifth shorter."""


def pause(attempt: int, *, jitter: float | None = None) -> float:
    """Seconds to wait before attempt number `attempt` (1 = the first repeat), between half and all of a step that
    grows from 1 to 60 s.
    """
    step = min(FIRST * FACTOR ** min(attempt - 1, 16), LONGEST)
    return step * (0.5 + 0.5 * (random.random() if jitter is None else jitter))


@dataclass(frozen=True, slots=True)
class Delay:
    """A callback waits for `seconds` in the delay queue that holds what waits up to `queue` seconds."""

    queue: float
    seconds: float


def next_step(
    attempts: int,
    status: int | None,
    retry_after: float | None,
    age: float,
    max_age: float,
    delays: Sequence[float],
    *,
    jitter: float | None = None,
) -> Delay | Literal["refused", "too_old"]:
    """What becomes of a callback that has failed.

    `attempts`: calls so far; `status`: the last answer's, None when there was none; `retry_after`, `age`: in seconds.
    """
    if is_clients_error(status) and attempts >= CLIENT_ERROR_ATTEMPTS:
        return "refused"
    if age > max_age:
        return "too_old"
    own = delays[min(attempts, len(delays)) - 1]
    wanted = min(retry_after or 0.0, LONGEST_RETRY_AFTER)
    if wanted > own:
        return Delay(next((delay for delay in delays if delay >= wanted), LONGEST_RETRY_AFTER), wanted)
    step = round((random.random() if jitter is None else jitter) * JITTER_STEPS)
    return Delay(own, own * (0.8 + 0.2 * step / JITTER_STEPS))


def is_clients_error(status: int | None) -> bool:
    """Whether an answer (None: there was none) finds fault with the request, which shows that the host works."""
    return status is not None and 400 <= status < 500 and status not in TEMPORARY_CLIENT_ERRORS
