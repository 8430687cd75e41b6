"""The channels' endpoints (spec 1.7.1, COMPAT §1)."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import Api, WebhookSink, free_port

RATES = {
    "inbound_message_rate",
    "outbound_message_rate",
    "submitted_event_rate",
    "rejected_event_rate",
    "delivery_succeeded_rate",
    "delivery_failed_rate",
    "delivery_pending_rate",
}


def telnet_config() -> dict[str, Any]:
    return {"twisted_endpoint": f"tcp:{free_port()}:interface=127.0.0.1"}


async def test_create_answers_201_with_the_whole_channel(api: Api, channels: Channels, sink: WebhookSink) -> None:
    config = telnet_config()
    properties = {
        "label": "My First Channel",
        "metadata": {"owned_by": "user-5", "nested": [1, None, "ü"]},
        "status_url": sink.url("/status"),
        "mo_url": sink.url("/mo"),
        "mo_url_auth_token": "token-1",
        "amqp_queue": f"q-{uuid.uuid4().hex}",
        "rate_limit_count": 500,
        "rate_limit_window": 10,
        "character_limit": 160,
    }
    answer = await api.post("/channels/", {"type": "telnet", "config": config, **properties})
    assert (answer.status, answer.description) == (201, "channel created")
    channel = answer.result
    assert uuid.UUID(channel["id"])
    assert channel["status"]["status"] is None
    assert channel["status"]["components"] == {}
    assert channel["type"] == "telnet"
    assert channel["config"] == config
    assert {name: channel[name] for name in properties if name != "mo_url_auth_token"} == {
        name: value for name, value in properties.items() if name != "mo_url_auth_token"
    }
    read = (await api.get(f"/channels/{channel['id']}")).result
    assert {**read, "status": None} == {**channel, "status": None}
    assert (await api.delete(f"/channels/{channel['id']}")).status == 200


async def test_a_channel_shows_its_status_and_rates_nested(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    answer = await api.get(channel.path)
    assert (answer.status, answer.description) == (200, "channel found")
    status = answer.result["status"]
    assert set(status) == {"status", "components", "queue_length", "queue", "callbacks_waiting", "dead_letters"} | RATES
    assert all(status[rate] == 0 for rate in RATES)
    assert status["queue_length"] == 0
    assert not RATES & set(answer.result)


async def test_a_create_ignores_an_id_of_the_caller(api: Api) -> None:
    answer = await api.post("/channels/", {"id": "mine", "type": "loopback", "config": {}})
    assert answer.status == 201
    assert answer.result["id"] != "mine"
    assert (await api.get("/channels/mine")).status == 404
    assert (await api.delete(f"/channels/{answer.result['id']}")).status == 200


async def test_the_list_is_the_sorted_ids(api: Api, channels: Channels) -> None:
    made = {(await channels.create("loopback", {})).id for _ in range(4)}
    answer = await api.get("/channels/")
    assert (answer.status, answer.description) == (200, "channels listed")
    assert answer.result == sorted(answer.result)
    assert made <= set(answer.result)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "application/json", None])
async def test_json_is_taken_whatever_the_content_type(api: Api, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    skip = () if content_type else ("Content-Type",)
    body = json.dumps({"type": "loopback", "config": {}}).encode()
    async with api.kept_alive() as client:
        answer = await client.request("POST", "/channels/", data=body, headers=headers, skip_auto_headers=skip)
    assert answer.status == 201
    assert (await api.delete(f"/channels/{answer.result['id']}")).status == 200


async def test_a_new_channel_can_be_read_sent_on_modified_and_deleted_at_once(api: Api, sink: WebhookSink) -> None:
    async with api.kept_alive() as client:
        body = {"type": "telnet", "config": telnet_config(), "mo_url": sink.url("/mo")}
        path = f"/channels/{(await client.post('/channels/', body)).result['id']}"
        answers = [
            await client.get(path),
            await client.post(f"{path}/messages/", {"to": "+27", "content": "first"}),
            await client.post(path, {"label": "changed"}),
            await client.get(f"{path}/logs"),
            await client.post(f"{path}/restart"),
            await client.delete(path),
        ]
        assert [answer.status for answer in answers] == [200, 201, 200, 200, 200, 200]
        assert (await client.get(path)).status == 404


async def test_an_update_changes_only_what_it_names(channels: Channels, api: Api, sink: WebhookSink) -> None:
    channel = await channels.create("loopback", {}, label="before", metadata={"a": 1}, character_limit=10)
    answer = await api.post(channel.path, {"label": "after", "metadata": {"b": 2}})
    assert (answer.status, answer.description) == (200, "channel updated")
    changed = await channel.get()
    assert (changed["label"], changed["metadata"]) == ("after", {"b": 2})
    assert (changed["mo_url"], changed["character_limit"]) == (sink.url("/mo"), 10)
    assert {**answer.result, "status": None} == {**changed, "status": None}


async def test_what_was_read_can_be_sent_back(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {}, label="round trip", metadata={"a": [1]})
    before = await channel.get()
    answer = await api.post(channel.path, before)
    assert answer.status == 200
    assert {**await channel.get(), "status": None} == {**before, "status": None}


@pytest.mark.parametrize("name", ["mo_url", "status_url"])
async def test_a_url_can_be_turned_off_with_null(channels: Channels, sink: WebhookSink, name: str) -> None:
    given: dict[str, Any] = {name: sink.url("/x")}
    channel = await channels.create("loopback", {}, **given)
    assert (await channel.modify(**{name: None}))[name] is None
    assert (await channel.get()).get(name) is None


async def test_delete_answers_an_empty_result_and_the_channel_is_gone(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    answer = await api.delete(channel.path)
    assert (answer.status, answer.description, answer.result) == (200, "channel deleted", {})
    assert channel.id not in (await api.get("/channels/")).result
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("POST", "/restart"), ("GET", "/logs")):
        gone = await api.request(method, channel.path + path, json={} if method == "POST" else None)
        assert (gone.status, gone.error_types) == (404, {"ChannelNotFound"}), (method, path)


async def test_restart_answers_an_empty_result(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    answer = await api.post(f"{channel.path}/restart")
    assert (answer.status, answer.description, answer.result) == (200, "channel restarted", {})


async def test_a_channel_without_a_destination_can_be_created_but_not_sent_on(api: Api) -> None:
    answer = await api.post("/channels/", {"type": "loopback", "config": {}})
    assert answer.status == 201
    path = f"/channels/{answer.result['id']}"
    refused = await api.post(f"{path}/messages/", {"to": "+27", "content": "x"})
    assert (refused.status, refused.description) == (400, "api usage error")
    assert refused.errors == [{"type": "ApiUsageError", "message": 'This channel has no "mo_url" or "amqp_queue"'}]
    await api.delete(path)


@pytest.mark.parametrize("form", ["/channels", "/jb/channels/", "/jb/channels"])
async def test_a_create_works_with_and_without_slash_and_behind_jb(api: Api, form: str) -> None:
    answer = await api.post(form, {"type": "loopback", "config": {}})
    assert answer.status == 201
    assert (await api.delete(f"/channels/{answer.result['id']}")).status == 200


async def test_health_needs_nothing_and_says_ok(api: Api) -> None:
    for path in ("/health", "/jb/health"):
        answer = await api.get(path)
        assert (answer.status, answer.description) == (200, "health ok")
