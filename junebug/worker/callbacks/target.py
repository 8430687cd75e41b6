"""Where a callback goes. Pure. Neighbour: attempts.py calls."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from junebug import names
from junebug.model.callbacks import Callback
from junebug.model.messages import Event, seconds_of
from junebug.model.routing import DestinationSpec
from junebug.model.spec import ChannelSpec
from junebug.model.urls import origin
from junebug.stores.outbound import EventTarget


class Target(msgspec.Struct, frozen=True):
    """Where a callback goes at this moment: a URL (or a template of one), or a routing key of `vumi`."""

    url: str = ""
    auth_token: str | None = None
    routing_key: str = ""

    @property
    def destination(self) -> str:
        """What fails and works as one: `scheme://host:port` or `amqp:<queue>`."""
        return f"amqp:{self.routing_key}" if self.routing_key else origin(self.url)


def target_of(callback: Callback, spec: ChannelSpec | DestinationSpec | None) -> Target | None:
    """None when the channel (or the router's destination) has none such (any more)."""
    if callback.to == "event_url":  # which is the message's own
        return Target(url=callback.url, auth_token=callback.auth_token) if callback.url else None
    if spec is None:
        return None
    match callback.to:
        case "mo_url":
            return Target(url=spec.mo_url, auth_token=spec.mo_url_auth_token) if spec.mo_url else None
        case "status_url":
            return Target(url=spec.status_url) if isinstance(spec, ChannelSpec) and spec.status_url else None
        case "amqp_queue":
            queue = names.event_queue if callback.kind == "event" else names.inbound_queue
            return Target(routing_key=queue(spec.amqp_queue)) if spec.amqp_queue else None


def targets_of(spec: ChannelSpec | DestinationSpec) -> list[tuple[str, str]]:
    """What a callback may be `to`, and where that goes (Target.destination): all but the event_urls, which messages bring."""
    found = [("mo_url", origin(spec.mo_url))] if spec.mo_url else []
    if isinstance(spec, ChannelSpec) and spec.status_url:
        found.append(("status_url", origin(spec.status_url)))
    if spec.amqp_queue:
        found += (("amqp_queue", f"amqp:{queue(spec.amqp_queue)}") for queue in (names.inbound_queue, names.event_queue))
    return found


def destination_of(event: Event, kept: EventTarget) -> str:
    """The router's destination through which its message was sent, as Redis has `kept` it, or as it came with the event."""
    return kept.destination or str(event.routing_metadata.get("destination") or "")


def event_callbacks(
    event: Event, wire: bytes, kept: EventTarget, amqp_queue: str | None, destination: str = ""
) -> list[Callback]:
    """For the message's event_url (as Redis has `kept` it, or as it came with the event) and for the channel's queue, which
    does not get the URL itself, nor what else is not Vumi's: it has no use for that.
    """
    url, auth_token = (kept.url, kept.auth_token) if kept.url else (event.event_url, event.event_auth_token)
    if not (url or amqp_queue):
        return []
    callback = Callback(to="event_url", kind="event", id=event.event_id, wire=wire, url=url, auth_token=auth_token,
                        destination=destination, trace=kept.trace or event.trace, since=seconds_of(event.timestamp))  # fmt: skip
    callbacks = [callback] if url else []
    if amqp_queue:
        if event.event_url or event.message_timestamp or event.trace:
            wire = event.without_url().to_wire()
        callbacks.append(replace(callback, to="amqp_queue", wire=wire, url=None, auth_token=None, trace=None))
    return callbacks
