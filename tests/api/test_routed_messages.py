"""Messages that are sent through a router, as a client sees them, and as they are on their way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from junebug import names
from junebug.model import acceptance
from junebug.model.acceptance import Acceptance
from junebug.model.messages import Event, Status, UserMessage
from junebug.model.routing import routed
from tests.api.conftest import Answer, Api
from tests.api.test_channels import UNKNOWN
from tests.tables import rows


@pytest.fixture
async def channel(api: Api) -> str:
    return await api.create(mo_url=None)


@pytest.fixture
async def router(api: Api, channel: str) -> str:
    return await api.router(channel=channel)


@pytest.fixture
async def destination(api: Api, router: str) -> str:
    return await api.destination(router)


@pytest.fixture
async def path(router: str, destination: str) -> str:
    return f"/routers/{router}/destinations/{destination}/messages"


async def send(api: Api, path: str, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    return await api("POST", f"{path}/", json={"to": "+27821", "content": "hi", **body}, headers=headers)


async def wire(api: Api, channel: str, priority: int = 1) -> UserMessage:
    (delivery,) = await api.taken(names.outbound_queue(channel, priority), 1)
    return UserMessage.from_wire(delivery.body)


async def test_it_is_sent_by_the_routers_channel_and_bears_whose_it_is(
    api: Api, channel: str, router: str, destination: str, path: str
) -> None:
    answer = await send(api, path, event_url="http://127.0.0.1:1/{to}", event_auth_token="tok", channel_data={"x": 1})
    assert (answer.status, answer.description) == (201, "message submitted")
    message_id = answer.result["message_id"]
    assert (answer.result["id"], answer.result["channel_id"], answer.result["to"]) == (message_id, channel, "+27821")
    message = await wire(api, channel)
    assert (message.message_id, message.transport_name, message.helper_metadata) == (message_id, channel, {"x": 1})
    assert message.routing_metadata == {"router": router, "destination": destination}
    own, note = names.outbound_message(channel, message_id), names.outbound_message(router, message_id)
    api_accepted = Acceptance(message.timestamp, "local", "127.0.0.1", names.outbound_queue(channel), "+27821",
                              destination=destination, router=router)  # fmt: skip
    kept, noted, *ttls = await api.stores._redis.run(("HGETALL", own), ("HGETALL", note), ("TTL", own), ("TTL", note))
    assert acceptance.read(kept.pop("accepted")) == acceptance.read(noted.pop("accepted")) == api_accepted
    assert kept == {
        "message_id": message_id, "event_url": "http://127.0.0.1:1/%2B27821", "event_auth_token": "tok",
        "destination": destination,
    }  # fmt: skip
    assert noted == {"channel": channel, "destination": destination}
    assert all(0 < ttl <= api.settings.outbound_message_ttl for ttl in ttls)
    event = Event(event_type="ack", user_message_id=message_id, sent_message_id=message_id, transport_name=channel)
    (target,) = await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    assert target.destination == destination


@rows("form", ["{path}", "{path}/", "{path}.json", "/jb{path}", "/jb{path}/"])
async def test_every_form_of_the_url_takes_it(api: Api, channel: str, path: str, form: str) -> None:
    answer = await api("POST", form.format(path=path), json={"to": "1", "content": form})
    assert answer.status == 201
    assert (await wire(api, channel)).content == form


async def test_priority_and_expiry(api: Api, channel: str, path: str) -> None:
    answer = await send(api, path, priority="5", validity=60)
    message = await wire(api, channel, 5)
    assert (message.message_id, message.expires_at) == (answer.result["id"], answer.result["expires_at"])


async def test_a_reply_answers_what_came_by_the_channel(api: Api, channel: str, router: str, destination: str, path: str) -> None:
    inbound = UserMessage(to_addr="8110", from_addr="+27", content="hi", transport_name=channel)
    await api.stores.inbound.put_all(channel, [(inbound.message_id, inbound.to_wire())])
    answer = await api("POST", f"{path}/", json={"reply_to": inbound.message_id, "content": "yes"})
    assert (answer.result["to"], answer.result["from"], answer.result["reply_to"]) == ("+27", "8110", inbound.message_id)
    message = await wire(api, channel)
    assert (message.in_reply_to, message.routing_metadata["destination"]) == (inbound.message_id, destination)
    unknown = await api("POST", f"{path}/", json={"reply_to": UNKNOWN, "content": "yes"})
    assert (unknown.status, unknown.errors[0]["type"]) == (400, "MessageNotFound")


@rows(
    ("body", "error"),
    [
        ({"content": "x"}, "ApiUsageError"),
        ({"to": "1"}, "invalid_body"),
        ({"to": "1", "reply_to": "2", "content": "x"}, "ApiUsageError"),
        ({"to": "1", "content": "x", "nope": 1}, "invalid_body"),
        ({"to": "1", "content": "x", "priority": "high"}, "invalid_body"),
        ({"to": "1", "content": "x", "expires_at": "2001-01-01"}, "ApiUsageError"),
    ],
)
async def test_a_bad_message_is_refused(api: Api, path: str, body: dict[str, Any], error: str) -> None:
    answer = await api("POST", f"{path}/", json=body)
    assert (answer.status, answer.errors[0]["type"]) == (400, error)


@rows(
    ("of_channel", "of_destination", "limit"),
    [(None, None, 0), (5, None, 5), (5, 0, 5), (5, 3, 3), (5, 8, 8), (None, 4, 4), (0, 4, 4)],
)
async def test_the_destinations_character_limit_goes_before_the_channels(
    api: Api, channel: str, path: str, of_channel: int | None, of_destination: int | None, limit: int
) -> None:
    await api("POST", f"/channels/{channel}", json={"character_limit": of_channel})
    await api("PATCH", path.removesuffix("/messages"), json={"character_limit": of_destination})
    assert (await send(api, path, content="x" * (limit or 500))).status == 201
    if limit:
        answer = await send(api, path, content="x" * (limit + 1))
        assert (answer.status, answer.errors[0]["type"]) == (400, "MessageTooLong")
        assert f"limit of {limit}" in answer.errors[0]["message"]


async def test_what_became_of_it(api: Api, channel: str, router: str, path: str) -> None:
    message_id = (await send(api, path)).result["id"]
    event = Event(event_type="ack", user_message_id=message_id, sent_message_id=message_id, transport_name=channel)
    await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    other = await api.destination(router)
    for where in (path, f"/routers/{router}/messages"):
        answer = await api("GET", f"{where}/{message_id}")
        assert (answer.status, answer.description) == (200, "message status")
        (told,) = answer.result["events"]
        assert (told["event_type"], told["channel_id"], answer.result["last_event_type"]) == ("submitted", channel, "submitted")
    for where in (f"/routers/{router}/destinations/{other}/messages/{message_id}", f"{path}/{UNKNOWN}"):
        answer = await api("GET", where)
        assert answer.status == 200
        assert (answer.result["last_event_type"], answer.result["events"]) == (None, [])


async def test_what_became_of_a_message_that_came_over_rabbitmq(api: Api, channel: str, router: str, path: str) -> None:
    destination = path.split("/")[4]
    message = UserMessage(message_id="m", to_addr="+27", from_addr=None, content="", transport_name=channel)
    await api.stores.outbound.put_routed(channel, (routed(message, router, destination),))  # as the router's process does
    event = Event(event_type="ack", user_message_id="m", sent_message_id="m", transport_name=channel)
    await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    assert len((await api("GET", f"{path}/m")).result["events"]) == 1
    other = await api.destination(router)
    assert (await api("GET", f"/routers/{router}/destinations/{other}/messages/m")).result["events"] == []


async def test_a_key_sends_once_and_is_the_destinations_own(api: Api, channel: str, router: str, path: str) -> None:
    other = f"/routers/{router}/destinations/{await api.destination(router)}/messages"
    headers = {"Idempotency-Key": "k"}
    first = await send(api, path, headers, event_url="http://127.0.0.1:1/")
    message = await wire(api, channel)
    assert message.routing_metadata["router"] == router
    kept, noted = await api.stores._redis.run(
        ("HGETALL", names.outbound_message(channel, message.message_id)),
        ("HGETALL", names.outbound_message(router, message.message_id)),
    )
    assert kept.pop("accepted") == noted["accepted"]
    assert kept == {"message_id": message.message_id, "event_url": "http://127.0.0.1:1/", "destination": path.split("/")[4]}
    assert noted["channel"] == channel
    again = await send(api, path, headers, event_url="http://127.0.0.1:1/")
    assert (again.status, again.headers["Idempotent-Replayed"], again.result) == (201, "true", first.result)
    assert (await send(api, path, headers, content="another")).status == 422
    elsewhere = await send(api, other, headers)
    assert "Idempotent-Replayed" not in elsewhere.headers
    assert (await wire(api, channel)).message_id == elsewhere.result["id"] != first.result["id"]
    assert await api.broker.queue_length(names.outbound_queue(channel)) == 0


async def test_a_refused_message_leaves_its_key_free(api: Api, channel: str, path: str) -> None:
    headers = {"Idempotency-Key": "k"}
    await api("POST", f"/channels/{channel}", json={"character_limit": 1})
    assert (await send(api, path, headers)).status == 400
    await api("POST", f"/channels/{channel}", json={"character_limit": 0})
    assert (await send(api, path, headers)).status == 201
    assert (await wire(api, channel)).content == "hi"


async def test_the_keys_of_a_deleted_router_are_gone(api: Api, channel: str, router: str, path: str) -> None:
    for headers in ({}, {"Idempotency-Key": "k"}):
        await send(api, path, headers)
    for id in (router, channel):
        await api.stores.wanted.forget(id)
        (left,) = await api.stores._redis.run(("KEYS", f"{id}:*_messages:*"))
        assert list(left) == []
    (left,) = await api.stores._redis.run(("KEYS", f"{router}:*"))
    assert list(left) == []


async def test_a_channel_that_is_gone_is_named_with_the_router(api: Api, channel: str, router: str, path: str) -> None:
    await api("DELETE", f"/channels/{channel}")
    answer = await send(api, path)
    assert (answer.status, answer.errors[0]["type"]) == (404, "ChannelNotFound")
    assert channel in answer.errors[0]["message"]
    assert router in answer.errors[0]["message"]


async def test_a_router_with_a_channel_of_its_own_sends_by_destinations(api: Api, router: str) -> None:
    answer = await send(api, f"/routers/{router}/messages")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert "destination" in answer.errors[0]["message"]


# --- routers that choose a channel ------------------------------------------------------------------------------------


async def says(api: Api, channel: str, status: str = "ok", type: str = "bound") -> None:
    body = Status(channel_id=channel, component="smpp", status=status, type=type, message="")  # type: ignore[arg-type]
    await api.stores.statuses.put(body)


@pytest.fixture
async def channels(api: Api) -> list[str]:
    """Three that are ready."""
    found = [await api.create() for _ in range(3)]
    await asyncio.gather(*(says(api, channel) for channel in found))
    return found


async def outbound(api: Api, *entries: dict[str, Any], **config: Any) -> str:
    return await api.router("outbound", channels=list(entries), **config)


async def test_the_channel_that_the_router_chooses_sends(api: Api, channels: list[str]) -> None:
    one, two, _ = channels
    router = await outbound(api, {"channel": one, "prefixes": ["44"]}, {"channel": two, "prefixes": ["27"]})
    destination = await api.destination(router, config={})
    for path in (f"/routers/{router}/messages", f"/routers/{router}/destinations/{destination}/messages"):
        answer = await send(api, path, to="+27821")
        assert (answer.status, answer.result["channel_id"]) == (201, two)
        message = await wire(api, two)
        assert message.transport_name == two
        assert message.routing_metadata == {"router": router, "destination": destination if destination in path else ""}
        event = Event(event_type="ack", user_message_id=message.message_id, sent_message_id="1", transport_name=two)
        await api.stores.outbound.add_events(two, [(event.to_wire(), event)])
        (told,) = (await api("GET", f"{path}/{message.message_id}")).result["events"]
        assert told["channel_id"] == two
    nobody = await send(api, f"/routers/{router}/messages", to="+1")
    assert (nobody.status, nobody.errors[0]["type"]) == (400, "NoChannel")


async def test_one_that_is_not_ready_is_left_out(api: Api, channels: list[str]) -> None:
    down, paused, ready = channels
    silent = await api.create()
    await says(api, down, "down", "connection_lost")
    assert (await api("POST", f"/channels/{paused}/pause")).status == 200
    router = await outbound(api, *({"channel": each} for each in (down, paused, ready, silent)))
    path = f"/routers/{router}/messages"
    answer = await api("POST", f"{path}/?dry_run=true", json={"to": "1", "content": "x"})
    assert (answer.status, answer.description, answer.result["channel_id"]) == (200, "message not sent", ready)
    reasons = [(each["channel"], each["ready"], each["reason"]) for each in answer.result["candidates"]]
    assert reasons[:3] == [(down, False, "smpp: connection_lost"), (paused, False, "paused"), (ready, True, "ok")]
    assert reasons[3][:2] == (silent, False)
    assert [each["share"] for each in answer.result["candidates"]] == [0, 0, 1, 0]
    for _ in range(5):
        assert (await send(api, path)).result["channel_id"] == ready


async def test_a_channel_that_comes_back_is_seen_within_a_second(api: Api, channels: list[str]) -> None:
    one, two, _ = channels
    await says(api, one, "down", "connection_lost")
    router = await outbound(api, {"channel": one, "prefixes": ["27"]}, {"channel": two})
    path = f"/routers/{router}/messages"
    assert (await send(api, path, to="27")).result["channel_id"] == two
    await says(api, one)
    async with asyncio.timeout(3):
        while (await send(api, path, to="27")).result["channel_id"] != one:
            await asyncio.sleep(0.05)


async def test_a_dry_run_sends_nothing(api: Api, channels: list[str], channel: str, path: str) -> None:
    router = await outbound(api, {"channel": channels[0]})
    for where, expected in ((f"/routers/{router}/messages", channels[0]), (path, channel)):
        answer = await api("POST", f"{where}/?dry_run=true", json={"to": "+27", "content": "x", "from": "8110"})
        assert (answer.status, answer.description) == (200, "message not sent")
        assert {"channel_id", "reason", "candidates", "message", "dry_run", "parts", "estimate"} <= {*answer.result}
        assert answer.result["channel_id"] == answer.result["message"]["channel_id"] == expected
        assert (answer.result["message"]["to"], answer.result["message"]["from"]) == ("+27", "8110")
        assert answer.result["reason"]
        assert await api.broker.queue_length(names.outbound_queue(expected)) == 0
        refused = await api("POST", f"{where}/?dry_run=yes", json={"to": "+27", "content": "x"})
        assert (refused.status, refused.errors[0]["type"]) == (400, "ApiUsageError")
        refused = await api("POST", f"{where}/?dry_run=true", json={"to": "+27", "content": 1})
        assert refused.status == 400
    (left,) = await api.stores._redis.run(("KEYS", "*:outbound_messages:*"))
    assert list(left) == []


async def test_a_reply_goes_by_the_channel_that_it_came_by(api: Api, channels: list[str]) -> None:
    router = await outbound(api, *({"channel": each} for each in channels))
    inbound = UserMessage(to_addr="8110", from_addr="+27", content="hi", transport_name=channels[1])
    await api.stores.inbound.put_all(channels[1], [(inbound.message_id, inbound.to_wire())])
    path = f"/routers/{router}/messages/"
    for _ in range(5):
        answer = await api("POST", path, json={"reply_to": inbound.message_id, "content": "yes"})
        assert (answer.result["channel_id"], answer.result["to"]) == (channels[1], "+27")
    unknown = await api("POST", path, json={"reply_to": UNKNOWN, "content": "yes"})
    assert (unknown.status, unknown.errors[0]["type"]) == (400, "MessageNotFound")


async def test_a_repeat_with_a_key_is_the_same_message_by_the_same_channel(api: Api, channels: list[str]) -> None:
    router = await outbound(api, *({"channel": each} for each in channels))
    headers, path = {"Idempotency-Key": "k"}, f"/routers/{router}/messages"
    answers = [await send(api, path, headers) for _ in range(10)]
    assert len({(answer.result["id"], answer.result["channel_id"]) for answer in answers}) == 1
    lengths = [await api.broker.queue_length(names.outbound_queue(channel)) for channel in channels]
    assert sum(lengths) == 1


async def test_a_channel_is_many_senders(api: Api, channels: list[str]) -> None:
    for _ in range(2):
        await outbound(api, {"channel": channels[0]})
    assert "router" not in (await api("GET", f"/channels/{channels[0]}")).result["status"]
