"""Step: one thing that happened to a message; and times as they are shown. Pure.

Neighbours: log_steps.py and kept_steps.py make them, outcome.py reads what has become of the message from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from junebug.model.messages import format_timestamp, seconds_of

KINDS = (
    "channel", "received", "told_provider", "stored", "accepted", "queued", "moved", "sent_to_provider", "provider_answered",
    "no_answer", "not_sent", "failed", "sent", "rejected", "cancelled", "expired", "receipt", "event", "replayed", "callback",
    "callback_waits", "dropped", "dead", "note",
)  # fmt: skip
"""What may happen; of one moment in this order."""
ENDED = "ended"
"""Of an event's details: `Event.ended`."""
_ORDER = {kind: number for number, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True)
class Step:
    """`timestamp`: seconds since 1970. `details`: what else is known, without secrets, ready for JSON."""

    timestamp: float
    kind: str
    description: str
    details: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.details.get(name)

    def json(self) -> dict[str, Any]:
        shown = {"timestamp": text_of(self.timestamp), "kind": self.kind, "description": self.description}
        return {**shown, "details": self.details}


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Oldest first."""
    return sorted(steps, key=lambda step: (step.timestamp, _ORDER[step.kind]))


def text_of(seconds: float) -> str:
    """As every timestamp of the API is."""
    try:
        return format_timestamp(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return format_timestamp(datetime.fromtimestamp(0, UTC))


def at(timestamp: str) -> float:
    """The other way; 0 for what is none."""
    try:
        return seconds_of(timestamp)
    except ValueError:
        return 0.0


def shortly(seconds: float) -> str:
    """For people, in a sentence: to the second."""
    return f"{text_of(seconds)[:19]} UTC"
