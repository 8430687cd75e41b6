"""Key lists: Redis lists of the keys that a channel has, by which they are found when it is deleted.

Neighbours: client.py writes them beside what it makes (`RedisClient.make`), wanted.py goes through them. All other keys have
their names in names.py.
"""

from __future__ import annotations

import functools
import math

_CLASSES = range(4, 27)
"""Powers of two, in seconds: from 16 s to two years."""


def key_list(channel: str, ttl: float, now: float) -> tuple[str, int]:
    """List of keys of the channel, without the id before them, that were made about `now` and live about as long as `ttl`.

    And for how many seconds it is kept after its last entry. A key list is by what a deleted channel's keys are found, and
    `key_lists` by what key lists are: each is named by how long its keys live (a power of two) and a quarter of that time.
    """
    return _key_list(channel, ttl, int(now) // 4)


@functools.lru_cache(maxsize=256)
def _key_list(channel: str, ttl: float, fours: int) -> tuple[str, int]:
    """At so many times four seconds, which is a quarter of the shortest."""
    power = min(max(math.frexp(ttl)[1], _CLASSES.start), _CLASSES.stop - 1)
    return f"{channel}:keys:{power}:{fours >> (power - 4)}", 1 << power


def key_lists(channel: str, now: float) -> list[str]:
    """Each that may be there; the clocks of hosts may differ by a few seconds."""
    return [
        f"{channel}:keys:{power}:{quarter}"
        for power in _CLASSES
        for quarter in range((int(now) >> (power - 2)) - 4, (int(now) >> (power - 2)) + 2)
    ]
