"""Acceptance: who gave us an MT, from where and when, and who cancelled it: kept with its record in Redis for as long as that.
Pure.

Neighbours: api/submit.py and api/handlers/bulk.py make it of a request, worker/destination_queues.py of what came over RabbitMQ;
stores/outbound.py keeps it, api/life tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from junebug import names
from junebug.model.messages import UserMessage, timestamp_now

T = TypeVar("T")


class Origin(NamedTuple):
    """Who sent or cancelled it: the name of his API token (or `local`, `anybody`), and his address."""

    by: str
    address: str


OVER_AMQP = Origin("", "")
"""Of a message that no request brought."""


class Acceptance(msgspec.Struct, frozen=True, array_like=True):
    """On the wire a list: what a later Junebug adds comes last, and is left out by this one."""

    timestamp: str
    by: str
    address: str
    plain_queue: str
    """Tells its channel and its priority; which queue that is, the channel's layout says."""
    to_addr: str | None = None
    from_addr: str | None = None
    in_reply_to: str | None = None
    expires_at: str | None = None
    destination: str = ""
    """Of a router, by which it was sent."""
    router: str = ""

    @property
    def channel(self) -> str:
        return self.plain_queue.rpartition(".outbound")[0]

    @property
    def priority(self) -> int:
        return names.priority_of(self.plain_queue, names.LOWEST_PRIORITY)


class Cancellation(msgspec.Struct, frozen=True, array_like=True):
    """On the wire likewise."""

    timestamp: str
    by: str
    address: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Acceptance).decode
_decode_cancellation = msgspec.json.Decoder(Cancellation).decode


def accepted(message: UserMessage, channel: str, origin: Origin) -> bytes:
    """As it is kept."""
    routing = message.routing_metadata
    return _encode(
        Acceptance(
            message.timestamp, origin.by, origin.address, names.outbound_queue(channel, message.priority), message.to_addr,
            message.from_addr, message.in_reply_to, message.expires_at,
            (routing.get("destination") or "") if routing else "", (routing.get("router") or "") if routing else "",
        )
    )  # fmt: skip


def read(kept: str | None) -> Acceptance | None:
    """None: an older Junebug kept none, or it is no such."""
    return _read(_decode, kept)


def cancelled(origin: Origin) -> bytes:
    """By whom, now; as it is kept."""
    return _encode(Cancellation(timestamp_now(), origin.by, origin.address))


def read_cancellation(kept: str | None) -> Cancellation | None:
    """Likewise."""
    return _read(_decode_cancellation, kept)


def _read(decode: Callable[[str], T], kept: str | None) -> T | None:
    try:
        return decode(kept) if kept else None
    except (msgspec.DecodeError, UnicodeError):
        return None
