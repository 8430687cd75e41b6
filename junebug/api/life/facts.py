"""Facts: all that is known of a message at this moment. Neighbours: reader.py gathers them, outcome.py and waiting.py decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from junebug.api.life.step import Step
from junebug.stores.circuits import Watch

Components = Mapping[str, tuple[Mapping[str, Any], float]]
"""Component -> its last status, and since when it is so."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who is to be told: `to` as callbacks have it, `host` as their destinations are named."""

    to: str
    host: str
    destination: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`steps`: oldest first."""

    is_outbound: bool
    steps: Sequence[Step]
    now: float
    paused: bool = False
    rate_limit: tuple[int, int] | None = None
    """Messages, in so many seconds."""
    components: Components = field(default_factory=dict)
    """Of a channel with shards: the first one's."""
    of_shard: Components | None = None
    """Of the shard that is to send it, under their plain names; None: the channel has none."""
    router: Components | None = None
    """Of the router whose the channel is."""
    queue_length: int | None = None
    is_cancelled: bool = False
    """It is noted that it is not to be sent."""
    expires_at: float | None = None
    letters: Sequence[Mapping[str, Any]] = ()
    """Dead letters of it, as the API shows them."""
    has_all_letters: bool = False
    """There are no others."""
    recipients: Sequence[Recipient] = ()
    circuits: Mapping[str, Watch] = field(default_factory=dict)
    """Host -> how it fails."""
    moved_to: str = ""
    """The channel that a router has moved it to."""
    logs: str = ""
    """Why something may be missing here; empty: nothing is."""

    @property
    def senders(self) -> Components:
        """Of the process that is to send it."""
        return self.components if self.of_shard is None else self.of_shard

    def last(self, *kinds: str) -> Step | None:
        return next((step for step in reversed(self.steps) if step.kind in kinds), None)
