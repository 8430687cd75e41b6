"""Where callbacks go: whose URL counts, what a destination is called."""

from __future__ import annotations

import orjson
import pytest

from junebug.model.messages import Event
from junebug.model.urls import origin
from junebug.stores.outbound import EventTarget
from junebug.worker.callbacks.target import event_callbacks

KEPT = EventTarget("http://kept/e", "kept-token")
NOTHING_KEPT = EventTarget(None, None)


def event(url: str | None) -> Event:
    return Event(
        event_type="ack", user_message_id="1f", transport_name="c", sent_message_id="x", event_url=url,
        event_auth_token="carried-token" if url else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("carried", "kept", "wanted"),
    [
        (None, KEPT, ("http://kept/e", "kept-token")),
        ("http://carried/e", KEPT, ("http://kept/e", "kept-token")),
        ("http://carried/e", NOTHING_KEPT, ("http://carried/e", "carried-token")),
        (None, NOTHING_KEPT, None),
    ],
)
def test_an_event_goes_where_redis_says_or_else_where_it_says_itself(
    carried: str | None, kept: EventTarget, wanted: tuple[str, str] | None
) -> None:
    told = event(carried)
    callbacks = event_callbacks(told, told.to_wire(), kept, "app")
    assert [each.to for each in event_callbacks(told, told.to_wire(), kept, None)] == ["event_url"] * bool(wanted)
    to_url = [(each.url, each.auth_token) for each in callbacks if each.to == "event_url"]
    assert to_url == ([wanted] if wanted else [])
    (to_queue,) = (each for each in callbacks if each.to == "amqp_queue")
    assert (to_queue.url, to_queue.auth_token) == (None, None)
    assert not {"event_url", "event_auth_token"} & set(orjson.loads(to_queue.wire))
    assert {each.id for each in callbacks} == {told.event_id}


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("http://host/a?b", "http://host:80"),
        ("HTTPS://Host", "https://host:443"),
        ("http://me:secret@host:8080/{to}", "http://host:8080"),
        ("http://[::1]:81/", "http://[::1]:81"),
        ("http://host{/to}", "http://host:80"),
        ("nonsense", "no URL"),
    ],
)
def test_a_destination_is_named_without_its_secrets(url: str, destination: str) -> None:
    assert origin(url) == destination
