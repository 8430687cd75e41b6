"""What a line of a channel's log tells: of a status, an event, a message, or of something else. Pure.

By its text, which is that of the call that logs it: transports/base.py (`inbound message received`, `delivery report`, `status`),
worker/base.py (`status`) and worker/outbound/outcomes.py (the others).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from junebug.model.messages import REPORT_TYPES

Kind = Literal["status", "event", "message", "log"]
KINDS: tuple[Kind, ...] = ("status", "event", "message", "log")

_NOTHING: Mapping[str, str] = {}
_TOLD: Mapping[str, tuple[Kind, Mapping[str, str]]] = {
    "status": ("status", _NOTHING),
    "inbound message received": ("message", {"direction": "inbound"}),
    "message sent": ("event", {"event_type": "submitted"}),
    "message rejected": ("event", {"event_type": "rejected"}),
    "message cancelled, not sent": ("event", {"event_type": "rejected"}),
    "message expired, not sent": ("event", {"event_type": "delivery_failed"}),
    "delivery report": ("event", _NOTHING),
}


def kind_of(entry: Mapping[str, Any]) -> tuple[Kind, Mapping[str, str]]:
    """The kind of an entry, and what it has to say besides: the `event_type`, in the API's words, or the `direction`."""
    message = entry.get("message")
    kind, more = _TOLD.get(message, ("log", _NOTHING)) if isinstance(message, str) else ("log", _NOTHING)
    if message == "delivery report":
        report = REPORT_TYPES.get(str(entry.get("delivery_status")))
        return ("event", {"event_type": report}) if report else ("log", _NOTHING)
    return kind, more
