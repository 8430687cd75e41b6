"""Callback and DeadLetter: what waits to be given to an application again, and what nobody will get (DESIGN §3), pure.

Neighbours: worker/callbacks makes both, api/handlers/dead_letters.py turns dead letters back into callbacks.
They exist on RabbitMQ only, as JSON of our own.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, get_args

import msgspec
import orjson

from junebug.errors import MalformedMessage
from junebug.model.messages import Content, Event, Status, UserMessage, new_id, timestamp_now
from junebug.model.reading import DEEPEST, load_object, reader

Destination = Literal["mo_url", "event_url", "status_url", "amqp_queue"]
Kind = Literal["inbound", "event", "status"]
Reason = Literal["too_old", "refused", "unreadable", "failed"]
"""Why a letter is dead: tried for too long, refused by the application, no message at all, a fault of ours."""

_DESTINATIONS, _KINDS = get_args(Destination), get_args(Kind)
_CALLBACK_FIELDS = ("to", "kind", "id", "url", "auth_token", "since", "due", "attempts", "refusals", "error")
_MORE_FIELDS = ("destination", "trace", "replayed")
"""Those that are there only if they say something."""
MOST = 1e11
"""No time (in seconds) and no count of ours reaches it."""


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One message, event or status that one destination of a channel is to get."""

    to: Destination
    kind: Kind
    id: str
    """The same at each attempt: the application knows repeats by it (`Webhook-Id`)."""
    wire: bytes
    """The message as it was on its queue: Vumi's JSON."""
    url: str | None = None
    """Of an event_url, which belongs to the message. The others are read from the channel's spec at each attempt."""
    auth_token: str | None = None
    destination: str = ""
    """Of a router: the id of the destination that is to get it."""
    trace: str | None = None
    """That what it tells of is part of (model/trace.py)."""
    since: float = msgspec.field(default_factory=time.time)
    """When it was first to be delivered, in seconds since 1970."""
    due: float = 0.0
    """When it is to be tried again, likewise."""
    attempts: int = 0
    refusals: int = 0
    """Attempts that were answered as the request's own fault."""
    error: str = ""
    """How the last attempt failed, without secrets."""
    replayed: str = ""
    """Of one that was a dead letter: when, and by whom it was replayed last; for people."""

    def to_wire(self) -> bytes:
        return orjson.dumps(self._fields())

    def _fields(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in _CALLBACK_FIELDS}
        more = {name: value for name in _MORE_FIELDS if (value := getattr(self, name))}
        return {"message_type": "callback", "message": orjson.Fragment(self.wire), **fields, **more}

    @classmethod
    def from_wire(cls, body: bytes) -> Self:
        """Raises MalformedMessage."""
        return cls._from_fields(load_object(body, DEEPEST + 1))

    @classmethod
    @reader
    def _from_fields(cls, fields: dict[str, Any]) -> Self:
        to, kind, message = fields["to"], fields["kind"], fields["message"]
        if to not in _DESTINATIONS or kind not in _KINDS or not isinstance(message, dict):
            raise MalformedMessage("no callback: `to`, `kind` or `message` is wrong")
        url, auth_token = fields.get("url"), fields.get("auth_token")
        if not (isinstance(url, str | None) and isinstance(auth_token, str | None)):
            raise MalformedMessage("no callback: `url` or `auth_token` is wrong")
        destination = fields.get("destination", "")
        trace = fields.get("trace") or None
        if not isinstance(destination, str) or not isinstance(trace, str | None):
            raise MalformedMessage("no callback: `destination` or `trace` is wrong")
        replayed = str(fields.get("replayed", ""))
        since, due = float(fields["since"]), float(fields.get("due", 0.0))
        attempts, refusals = int(fields["attempts"]), int(fields.get("refusals", 0))
        if not (0 <= since < MOST and 0 <= due < MOST and 0 <= attempts < MOST and 0 <= refusals < MOST):
            raise MalformedMessage("no callback: a number is out of range")
        return cls(
            to=to, kind=kind, id=str(fields["id"]), wire=orjson.dumps(message), url=url, auth_token=auth_token,
            destination=destination, trace=trace, since=since, due=due,
            attempts=attempts, refusals=refusals, error=str(fields["error"]), replayed=replayed,
        )  # fmt: skip


def content_of(callback: Callback) -> Content:
    """Raises MalformedMessage."""
    match callback.kind:
        case "inbound":
            return UserMessage.from_wire(callback.wire)
        case "event":
            return Event.from_wire(callback.wire)
        case "status":
            return Status.from_wire(callback.wire)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What ran out. Either a `callback`, or the `body` of what came from `queue` and could not be read."""

    reason: Reason
    error: str
    callback: Callback | None = None
    queue: str = ""
    body: bytes = b""
    id: str = field(default_factory=new_id)
    timestamp: str = field(default_factory=timestamp_now)

    def to_wire(self) -> bytes:
        what: dict[str, Any] = {"queue": self.queue, "body": base64.b64encode(self.body).decode()}
        if self.callback:
            what = {"callback": self.callback._fields()}
        fields = {name: getattr(self, name) for name in ("id", "timestamp", "reason", "error")}
        return orjson.dumps({"message_type": "dead_letter", **fields, **what})

    @classmethod
    def from_wire(cls, body: bytes) -> Self:
        """Whatever is in a dead-letter queue is one: what is not ours (an older Junebug's) is shown as it is."""
        try:
            fields = load_object(body, DEEPEST + 2)
            if fields.get("message_type") != "dead_letter":
                raise MalformedMessage("not ours")
            reason = cast(Reason, fields["reason"] if fields["reason"] in get_args(Reason) else "unreadable")
            callback = fields.get("callback")
            return cls(
                id=str(fields["id"]), timestamp=str(fields["timestamp"]), reason=reason,
                error=str(fields["error"]), callback=Callback._from_fields(callback) if callback else None,
                queue=str(fields.get("queue", "")), body=base64.b64decode(fields.get("body", "")),
            )  # fmt: skip
        except Exception:
            return cls(id="", timestamp="", reason="unreadable", error="not written by this Junebug", body=body)
