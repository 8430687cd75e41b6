"""Place: where a message is looked for; whose it is, and who is told of it there. Pure. Neighbour: reader.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from junebug import names
from junebug.api.life.facts import Recipient
from junebug.api.life.step import Step
from junebug.logs.redaction import redact_url
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.model.urls import origin
from junebug.stores.outbound import OutboundRecord


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is looked for. `destination`: of the router, whose alone it must be."""

    channel: ChannelSpec
    router: RouterSpec | None = None
    destinations: Mapping[str, DestinationSpec] = field(default_factory=dict)
    destination: str = ""
    has_sent: bool | None = None
    """Whether the message was sent through the router, where only such ones may be told; None: all of the channel's may be."""

    @property
    def owners(self) -> list[str]:
        return [self.channel.id, *([self.router.id] if self.router else [])]

    @property
    def units(self) -> list[str]:
        """Whose leases tell which hosts have parts of these logs."""
        return [*names.units(self.channel.id, self.channel.shards), *([self.router.id] if self.router else [])]


def is_of(
    destination: str, record: OutboundRecord | None, entries: Iterable[Mapping[str, Any]], letters: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether a message is one of this destination of its router."""
    if record:
        return record.target.destination == destination
    return any(each.get("destination_id") == destination for each in entries) or any(
        each.get("destination") == destination for each in letters
    )


def recipients_of(place: Place, record: OutboundRecord | None, steps: Sequence[Step], is_outbound: bool) -> list[Recipient]:
    """Who is to be told."""
    if place.router is None:
        return _of(place.channel, record, is_outbound, "")
    if is_outbound:
        destination = (record.target.destination if record else None) or ""
        return _of(place.destinations.get(destination), record, True, destination)
    ids = dict.fromkeys(str(step.get("destination_id")) for step in steps if step.get("destination_id"))
    return [recipient for id in ids for recipient in _of(place.destinations.get(id), None, False, id)]


def _of(
    spec: ChannelSpec | DestinationSpec | None, record: OutboundRecord | None, is_outbound: bool, destination: str
) -> list[Recipient]:
    url = (record.target.url if record else None) if is_outbound else spec.mo_url if spec else None
    found = [Recipient("event_url" if is_outbound else "mo_url", origin(url), destination)] if url else []
    if spec and spec.amqp_queue:
        queue = (names.event_queue if is_outbound else names.inbound_queue)(spec.amqp_queue)
        found.append(Recipient("amqp_queue", f"amqp:{queue}", destination))
    return found


def with_urls(steps: Iterable[Step], place: Place, record: OutboundRecord | None) -> list[Step]:
    """Callbacks with the URL that was called, where it is still known: the log has its host."""
    shown = []
    for step in steps:
        if step.kind == "callback":
            destination = place.destinations.get(str(step.get("destination_id"))) if step.get("destination_id") else place.channel
            urls = {"event_url": record.target.url if record else None, "mo_url": destination.mo_url if destination else None}
            url = urls.get(str(step.get("to")))
            if url and origin(url) == step.get("host"):
                step = Step(step.timestamp, step.kind, step.description, {"url": redact_url(url), **step.details})
        shown.append(step)
    return shown
