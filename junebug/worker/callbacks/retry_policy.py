"""Whether a callback that failed is tried again, and when: pure arithmetic over attempts. Neighbour: attempts.py asks."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from junebug import names
from junebug.runtime.backoff import least_pause

CLIENT_ERROR_ATTEMPTS = 5
"""A 4xx says that the request itself is refused: it is repeated this often only."""
TEMPORARY_CLIENT_ERRORS = frozenset({408, 425, 429})
SHORTEST = 0.8
"""A jittered delay is at the least this share of its queue's. So nothing waits long behind what came before it: RabbitMQ
takes what has expired from the head only.
"""
JITTER_STEPS = 20


@dataclass(frozen=True, slots=True)
class Delay:
    """A callback waits for `seconds` in the delay queue that holds what waits up to `queue` seconds."""

    queue: float
    seconds: float


def next_step(
    attempts: int,
    refusals: int,
    retry_after: float | None,
    age: float,
    max_age: float,
    delays: Sequence[float],
    *,
    jitter: float | None = None,
) -> Delay | Literal["refused", "too_old"]:
    """What becomes of a callback that has failed.

    `attempts`: calls so far; `refusals`: those of them that found fault with the request; `retry_after`, `age`: in seconds.
    """
    if refusals >= CLIENT_ERROR_ATTEMPTS:
        return "refused"
    if age > max_age:
        return "too_old"
    least = least_pause(attempts)
    own = max(delays[min(attempts, len(delays)) - 1], least)
    wanted = min(retry_after or 0.0, names.LONGEST_RETRY)
    if wanted > own:  # exactly so long, in a queue for those that wait about as long
        step = math.ceil(math.log(max(wanted, 1.0), 1 / SHORTEST) - 1e-9)
        return Delay(min((1 / SHORTEST) ** step, names.LONGEST_RETRY), wanted)
    step = round((random.random() if jitter is None else jitter) * JITTER_STEPS)
    return Delay(own, max(least, own * (SHORTEST + (1 - SHORTEST) * step / JITTER_STEPS)))  # up to a fifth shorter


def is_clients_error(status: int | None) -> bool:
    """Whether an answer (None: there was none) finds fault with the request, which shows that the host works."""
    return status is not None and 400 <= status < 500 and status not in TEMPORARY_CLIENT_ERRORS
