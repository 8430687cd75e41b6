"""Endpoints of channels, as a client sees them."""

from __future__ import annotations

import asyncio
import base64
import uuid
from typing import Any

import orjson
import pytest
from pamqp import commands as amqp

from junebug import names
from junebug.model.messages import Status
from junebug.model.spec import ChannelSpec
from tests.api.conftest import Api, running_api
from tests.tables import rows

RATES = (
    "inbound_message_rate",
    "outbound_message_rate",
    "submitted_event_rate",
    "rejected_event_rate",
    "delivery_succeeded_rate",
    "delivery_failed_rate",
    "delivery_pending_rate",
)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_a_created_channel_is_answered_with_its_properties_id_and_status(api: Api) -> None:
    given = {
        "type": "plain",
        "label": "A label",
        "config": {"port": 9001},
        "metadata": {"owned_by": "user-5"},
        "status_url": "http://example.com/status",
        "mo_url": "http://example.com/mo",
        "mo_url_auth_token": "tok",
        "amqp_queue": "some-queue",
        "rate_limit_count": 500,
        "rate_limit_window": 10,
        "character_limit": 160,
    }
    answer = await api("POST", "/channels/", json=given)
    assert (answer.status, answer.description) == (201, "channel created")
    channel = answer.result.pop("id")
    assert str(uuid.UUID(channel)) == channel
    status = answer.result.pop("status")
    none = {"5": 0, "4": 0, "3": 0, "2": 0, "1": 0}
    assert status == {
        "status": None,
        "components": {},
        **dict.fromkeys(RATES, 0.0),
        "queue_length": 0,
        "queue": {"paused": False, "queued": none, "sending": none},
        "callbacks_waiting": 0,
        "dead_letters": 0,
    }
    given["mo_url_auth_token"] = "********"
    assert answer.result == given

    found = await api("GET", f"/channels/{channel}")
    assert (found.status, found.description) == (200, "channel found")
    assert found.result == {**given, "id": channel, "status": status}


async def test_only_given_properties_are_shown(api: Api) -> None:
    answer = await api("POST", "/channels/", json={"type": "plain", "config": {}})
    assert set(answer.result) == {"id", "type", "config", "status"}


async def test_the_list_is_the_sorted_ids_alone(api: Api) -> None:
    assert (await api("GET", "/channels/")).result == []
    ids = [await api.create() for _ in range(5)]
    answer = await api("GET", "/channels/")
    assert (answer.status, answer.description, answer.result) == (200, "channels listed", sorted(ids))


async def test_a_channel_has_its_queues_when_its_201_is_there(api: Api) -> None:
    channel = await api.create()
    for queue in names.channel_queues(channel, (names.LOWEST_PRIORITY,)):
        await api.broker.publish(queue, b"{}")  # would raise Unroutable


async def test_the_queue_of_a_higher_priority_is_made_with_its_first_message(api: Api) -> None:
    channel = await api.create()
    urgent, urgent_message = names.outbound_queue(channel, 5), {"to": "1", "content": "x", "priority": 5}
    assert not await api.broker.queue_exists(urgent)
    for _ in range(2):
        assert (await api("POST", f"/channels/{channel}/messages/", json=urgent_message)).status == 201
    assert await api.broker.queue_length(urgent) == 2
    assert (await api.stores.channels.get(channel)).noted_priorities == {1, 5}
    answer = await api("GET", f"/channels/{channel}")
    assert answer.result["status"]["queue"]["queued"] == {"5": 2, "4": 0, "3": 0, "2": 0, "1": 0}
    await api.broker.delete_queues([urgent])  # as a RabbitMQ that lost it
    assert (await api("POST", f"/channels/{channel}/messages/", json=urgent_message)).status == 201
    assert await api.broker.queue_length(urgent) == 1


async def test_no_queue_is_made_of_a_channel_that_was_deleted_a_moment_ago(api: Api) -> None:
    channel = await api.create()
    path, message = f"/channels/{channel}/messages/", {"to": "1", "content": "x"}
    assert (await api("POST", path, json=message)).status == 201
    await api.stores._redis.run(("SREM", "channels", channel), ("DEL", f"{channel}:properties"))  # this process was not told yet
    assert (await api("POST", path, json={**message, "priority": 5})).status == 404
    assert not await api.broker.queue_exists(names.outbound_queue(channel, 5))


async def test_a_created_channel_is_in_redis_as_the_original_wrote_it(api: Api) -> None:
    channel = await api.create(label="x")
    stored, channels = await api.stores._redis.run(("GET", f"{channel}:properties"), ("SMEMBERS", "channels"))
    assert orjson.loads(stored) == {"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/mo", "label": "x"}
    assert list(channels) == [channel]


async def test_an_id_of_the_callers_is_ignored(api: Api) -> None:
    assert await api.create(id="mine") != "mine"


async def test_json_is_taken_whatever_the_content_type(api: Api) -> None:
    for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {"Content-Type": "text/plain"}):
        answer = await api("POST", "/channels/", data=b'{"type": "plain", "config": {}}', headers=headers)
        assert answer.status == 201


@rows(
    ("change", "path"),
    [
        ({"type": None}, ["properties", "type", "type"]),
        ({"config": []}, ["properties", "config", "type"]),
        ({"config": None}, ["properties", "config", "type"]),
        ({"label": 1}, ["properties", "label", "type"]),
        ({"metadata": "x"}, ["properties", "metadata", "type"]),
        ({"status_url": 1}, ["properties", "status_url", "type"]),
        ({"status_url": "not a url"}, ["properties", "status_url", "format"]),
        ({"mo_url": "ftp://example.com/"}, ["properties", "mo_url", "format"]),
        ({"mo_url": ""}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://example.com:99999/"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://example.com/{event_type}"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://example.com/{to"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://{to}.example.com/"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "ftp://example.com/{to}"}, ["properties", "mo_url", "format"]),
        ({"mo_url": "http://example.com/ {to}"}, ["properties", "mo_url", "format"]),
        ({"callback_secret": "secret"}, ["properties", "callback_secret", "format"]),
        ({"callback_secret": "whsec_!"}, ["properties", "callback_secret", "format"]),
        ({"callback_secret": "whsec_AAAA"}, ["properties", "callback_secret", "format"]),
        ({"callback_secret": ""}, ["properties", "callback_secret", "format"]),
        ({"callback_secret": 1}, ["properties", "callback_secret", "type"]),
        ({"callback_secret": "********"}, ["properties", "callback_secret"]),
        ({"paused": True}, ["additionalProperties"]),
        ({"mo_url_auth_token": "a\r\nX: b"}, ["properties", "mo_url_auth_token", "format"]),
        ({"amqp_queue": ""}, ["properties", "amqp_queue", "format"]),
        ({"amqp_queue": "q" * 247}, ["properties", "amqp_queue", "format"]),
        ({"amqp_queue": "amq.mine"}, ["properties", "amqp_queue", "format"]),
        ({"rate_limit_count": -1}, ["properties", "rate_limit_count", "minimum"]),
        ({"rate_limit_window": "10"}, ["properties", "rate_limit_window", "type"]),
        ({"character_limit": True}, ["properties", "character_limit", "type"]),
        ({"character_limit": 1.5}, ["properties", "character_limit", "type"]),
        ({"character_limit": 10**30}, ["properties", "character_limit", "maximum"]),
        ({"foo": 1}, ["additionalProperties"]),
    ],
)
async def test_a_property_that_is_wrong_is_named_and_nothing_is_stored(
    api: Api, change: dict[str, Any], path: list[str]
) -> None:
    channel = await api.create()
    channels, before = [(await api("GET", url)).result for url in ("/channels/", f"/channels/{channel}")]
    for where, body in (("/channels/", {"type": "plain", "config": {}, **change}), (f"/channels/{channel}", change)):
        answer = await api("POST", where, json=body)
        assert (answer.status, answer.description) == (400, "api usage error")
        (error,) = answer.errors
        assert (error["type"], error["schema_path"]) == ("invalid_body", path)
        assert next(iter(change)) in error["message"]
    assert (await api("GET", "/channels/")).result == channels
    assert (await api("GET", f"/channels/{channel}")).result == before


async def test_type_and_config_are_required_to_create(api: Api) -> None:
    answer = await api("POST", "/channels/", json={})
    assert answer.status == 400
    assert {error["message"].split('"')[1] for error in answer.errors} == {"type", "config"}
    assert [error["schema_path"] for error in answer.errors] == [["required"], ["required"]]


async def test_a_longest_amqp_queue_is_taken(api: Api) -> None:
    await api.create(amqp_queue="q" * 246)


async def test_what_is_optional_may_be_null(api: Api) -> None:
    nothing = dict.fromkeys(
        ("label", "metadata", "status_url", "mo_url", "mo_url_auth_token", "amqp_queue", "rate_limit_count",
         "rate_limit_window", "character_limit", "callback_secret")
    )  # fmt: skip
    channel = await api.create(**nothing)
    found = (await api("GET", f"/channels/{channel}")).result
    assert found.items() >= nothing.items()
    assert (await api("POST", f"/channels/{channel}", json=nothing)).status == 200


async def test_an_unknown_type_is_refused_with_the_valid_ones(api: Api) -> None:
    channel = await api.create()
    for path in ("/channels/", f"/channels/{channel}"):
        answer = await api("POST", path, json={"type": "carrier-pigeon", "config": {}})
        assert (answer.status, answer.errors[0]["type"]) == (400, "InvalidChannelType")
        assert "guarded, plain" in answer.errors[0]["message"]


async def test_a_config_that_its_type_refuses_names_the_field_and_shows_no_secret(api: Api) -> None:
    secret = "a-very-long-secret-that-does-not-fit"
    answer = await api("POST", "/channels/", json={"type": "guarded", "config": {"password": secret, "user": 5}})
    assert (answer.status, answer.description) == (400, "invalid channel config")
    assert {(error["type"], error["field"]) for error in answer.errors} == {
        ("InvalidChannelConfig", "config.password"),
        ("InvalidChannelConfig", "config.user"),
    }
    assert secret not in str(answer.body)
    assert (await api("GET", "/channels/")).result == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"type": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000])
async def test_a_body_that_is_no_json_is_400(api: Api, body: bytes) -> None:
    for path in ("/channels/", f"/channels/{UNKNOWN}", f"/channels/{UNKNOWN}/messages/"):
        answer = await api("POST", path, data=body)
        assert (answer.status, answer.description) == (400, "json decode error")
        assert answer.errors[0]["type"] == "JsonDecodeError"


@pytest.mark.parametrize("body", ["[]", "null", "1", '"text"', "true"])
async def test_a_body_that_is_no_object_is_400(api: Api, body: str) -> None:
    answer = await api("POST", "/channels/", data=body)
    assert (answer.status, answer.errors[0]["type"]) == (400, "invalid_body")


async def test_a_body_nested_too_deeply_is_400(api: Api) -> None:
    nested = b'{"type": "plain", "config": {}, "metadata": ' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}"
    answer = await api("POST", "/channels/", data=nested)
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")


async def test_an_update_changes_what_is_given_and_nothing_else(api: Api) -> None:
    channel = await api.create(label="old", metadata={"a": 1}, character_limit=5)
    answer = await api("POST", f"/channels/{channel}", json={"label": "new", "metadata": {"b": 2}})
    assert (answer.status, answer.description) == (200, "channel updated")
    found = (await api("GET", f"/channels/{channel}")).result
    assert found == answer.result
    assert (found["label"], found["metadata"], found["character_limit"]) == ("new", {"b": 2}, 5)
    assert found["mo_url"] == "http://127.0.0.1:1/mo"


async def test_a_null_url_turns_it_off(api: Api) -> None:
    channel = await api.create(status_url="http://example.com/")
    answer = await api("POST", f"/channels/{channel}", json={"status_url": None, "mo_url": None})
    assert (answer.result["status_url"], answer.result["mo_url"]) == (None, None)


@rows(
    ("change", "restarts"),
    [
        ({"label": "new"}, False),
        ({"mo_url": "http://example.com/new"}, False),
        ({"status_url": "http://example.com/new"}, False),
        ({"character_limit": 3}, False),
        ({"config": {"port": 1}}, False),
        ({"type": "plain"}, False),
        ({}, False),
        ({"config": {"port": 2}}, True),
        ({"config": {}}, True),
        ({"type": "guarded", "config": {"password": "x"}}, True),
    ],
)
async def test_only_a_type_or_config_that_changes_restarts_the_channel(
    api: Api, change: dict[str, Any], restarts: bool
) -> None:
    channel = await api.create(config={"port": 1})
    before = (await api.stores.channels.get(channel)).generation
    assert (await api("POST", f"/channels/{channel}", json=change)).status == 200
    assert (await api.stores.channels.get(channel)).generation - before == int(restarts)


async def test_a_config_must_fit_the_type_that_it_will_have(api: Api) -> None:
    channel = await api.create(config={"port": 1})
    answer = await api("POST", f"/channels/{channel}", json={"type": "guarded"})
    assert (answer.status, answer.errors[0]["type"]) == (400, "InvalidChannelConfig")
    assert (await api.stores.channels.get(channel)).type == "plain"


async def test_a_channel_whose_type_is_gone_can_still_be_read_and_changed(api: Api) -> None:
    properties = b'{"type": "gone", "config": {"token": "s3cret"}, "mo_url": "http://example.com/"}'
    await api.stores._redis.run(("SET", "old:properties", properties), ("SADD", "channels", "old"))
    answer = await api("POST", "/channels/old", json={"label": "x"})
    assert answer.status == 200
    assert answer.result["config"] == {"token": "********"}
    (stored,) = await api.stores._redis.run(("GET", "old:properties"))
    assert "s3cret" in stored


async def test_secrets_are_masked_in_every_answer_and_kept_when_sent_back(api: Api) -> None:
    config = {"user": "u", "password": "s3cret"}
    created = await api("POST", "/channels/", json={"type": "guarded", "config": config})
    channel = created.result["id"]
    found = await api("GET", f"/channels/{channel}")
    updated = await api("POST", f"/channels/{channel}", json={**found.result, "label": "new"})
    assert updated.status == 200
    for answer in (created, found, updated):
        assert answer.result["config"] == {"user": "u", "password": "********"}
    spec = await api.stores.channels.get(channel)
    assert (spec.config, spec.label, spec.generation) == (config, "new", 1)

    changed = await api("POST", f"/channels/{channel}", json={"config": {"user": "v", "password": "********"}})
    assert changed.status == 200
    assert (await api.stores.channels.get(channel)).config == {"user": "v", "password": "s3cret"}


async def test_a_callback_secret_is_masked_in_every_answer_and_kept_when_sent_back(api: Api) -> None:
    secret, other = (f"whsec_{base64.b64encode(key * 24).decode()}" for key in (b"a", b"b"))
    body = {"type": "plain", "config": {}, "callback_secret": secret}
    created = await api("POST", "/channels/", json=body)
    channel = created.result["id"]
    found = await api("GET", f"/channels/{channel}")
    updated = await api("POST", f"/channels/{channel}", json={**found.result, "label": "new"})
    for answer in (created, found, updated):
        assert answer.status in (200, 201)
        assert answer.result["callback_secret"] == "********"
        assert secret not in str(answer.body)
    assert (await api.stores.channels.get(channel)).callback_secret == secret
    await api("POST", f"/channels/{channel}", json={"callback_secret": other})
    assert (await api.stores.channels.get(channel)).callback_secret == other
    off = await api("POST", f"/channels/{channel}", json={"callback_secret": None})
    assert off.result["callback_secret"] is None
    assert (await api.stores.channels.get(channel)).callback_secret is None


URL_SECRETS = {
    "mo_url": "http://me:s3cret%40@app.example:8080/mo/{from}?x=y@z",
    "status_url": "https://s3cret@app.example/status",
    "mo_url_auth_token": "s3cret",
}


async def test_tokens_and_passwords_in_urls_are_masked_in_every_answer_and_kept_when_sent_back(api: Api) -> None:
    created = await api("POST", "/channels/", json={"type": "plain", "config": {}, **URL_SECRETS})
    channel = created.result["id"]
    found = await api("GET", f"/channels/{channel}")
    updated = await api("POST", f"/channels/{channel}", json={**found.result, "label": "new"})
    for answer in (created, found, updated):
        assert answer.status in (200, 201)
        assert "s3cret" not in str(answer.body)
        assert answer.result["mo_url"] == "http://********@app.example:8080/mo/{from}?x=y@z"
        assert answer.result["status_url"] == "https://********@app.example/status"
        assert answer.result["mo_url_auth_token"] == "********"
    spec = await api.stores.channels.get(channel)
    assert {name: getattr(spec, name) for name in URL_SECRETS} == URL_SECRETS
    moved = {"mo_url": "http://********@App.example:8080/new", "mo_url_auth_token": "other", "status_url": None}
    assert (await api("POST", f"/channels/{channel}", json=moved)).status == 200
    spec = await api.stores.channels.get(channel)
    assert (spec.mo_url, spec.mo_url_auth_token) == ("http://me:s3cret%40@App.example:8080/new", "other")
    assert spec.status_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mo_url", "http://********@evil.example:8080/mo"),
        ("mo_url", "https://********@app.example:8080/mo"),
        ("mo_url", "http://********@app.example/mo"),
        ("status_url", "http://********@app.example:8080/mo"),
    ],
)
async def test_a_mask_stands_for_what_is_stored_for_its_host_and_for_nothing_else(api: Api, name: str, value: str) -> None:
    channel = await api.create(**URL_SECRETS)
    answer = await api("POST", f"/channels/{channel}", json={name: value})
    assert (answer.status, answer.errors[0]["schema_path"]) == (400, ["properties", name])
    assert name in answer.errors[0]["message"]
    assert getattr(await api.stores.channels.get(channel), name) == URL_SECRETS[name]


@pytest.mark.parametrize(
    "body", [{"mo_url": "http://********@a/"}, {"status_url": "http://********@a/"}, {"mo_url_auth_token": "********"}]
)
async def test_a_mask_with_nothing_stored_is_refused(api: Api, body: dict[str, str]) -> None:
    answer = await api("POST", "/channels/", json={"type": "plain", "config": {}, **body})
    assert (answer.status, answer.errors[0]["schema_path"]) == (400, ["properties", *body])
    channel = await api.create(mo_url="http://a/")
    assert (await api("POST", f"/channels/{channel}", json=body)).status == 400


async def test_a_wrong_callback_secret_is_not_quoted(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    answer = await api("POST", "/channels/", json={"type": "plain", "config": {}, "callback_secret": "whsec_hunter2"})
    assert answer.status == 400
    assert "whsec_" in answer.errors[0]["message"]
    assert "hunter2" not in str(answer.body) + caplog.text


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.com/{?text}", "{text}"),
        ("http://{from}/", "host"),
        ("http://user:hunter2@example.com/{", "brace"),
    ],
)
async def test_what_is_wrong_with_a_template_is_named_and_no_password(api: Api, url: str, problem: str) -> None:
    answer = await api("POST", "/channels/", json={"type": "plain", "config": {}, "mo_url": url})
    assert answer.status == 400
    assert problem in answer.errors[0]["message"]
    assert "hunter2" not in str(answer.body)


async def test_a_mo_url_may_be_a_template_and_a_status_url_is_none(api: Api) -> None:
    url = "https://u:p@example.com/{channel_id}{?message_id,from,to,content,timestamp,group,reply_to}"
    channel = await api.create(mo_url=url)
    assert (await api("GET", f"/channels/{channel}")).result["mo_url"] == url.replace("u:p", "********")
    await api.create(status_url="http://example.com/{component}")  # no template: posted to as it is


async def test_updates_at_the_same_time_lose_nothing(api: Api) -> None:
    channel = await api.create()
    changes: list[dict[str, Any]] = [{"label": "l"}, {"metadata": {"m": 1}}, {"character_limit": 9}]
    answers = await asyncio.gather(*(api("POST", f"/channels/{channel}", json=change) for change in changes))
    assert {answer.status for answer in answers} == {200}
    found = (await api("GET", f"/channels/{channel}")).result
    assert (found["label"], found["metadata"], found["character_limit"]) == ("l", {"m": 1}, 9)


@rows("text", ["a=b", "*", "é", "a\nb", "a\u2028b", "\ud83d\ude00", "a\0", "a;b", "amq.a", "a?", "q" * 247])
async def test_what_can_be_no_queues_name_is_no_amqp_queue(api: Api, text: str) -> None:
    answer = await api("POST", "/channels/", json={"type": "plain", "config": {}, "amqp_queue": text})
    assert (answer.status, answer.errors[0]["schema_path"]) == (400, ["properties", "amqp_queue", "format"])


def test_what_can_be_an_amqp_queue_is_what_the_library_takes() -> None:
    for code in range(0x250):
        queues = names.application_queues(f"a{chr(code)}b")
        try:
            for queue in queues:
                amqp.Queue.Declare(queue=queue).marshal()
                amqp.Basic.Publish(routing_key=queue).marshal()
        except ValueError:
            assert not names.is_amqp_queue(f"a{chr(code)}b"), hex(code)
        else:
            assert names.is_amqp_queue(f"a{chr(code)}b"), hex(code)


@pytest.mark.parametrize("suffix", ["", ".outbound", ".outbound.5", ".inbound", ".anything.else"])
async def test_a_channels_id_and_its_queues_are_no_amqp_queue(api: Api, suffix: str) -> None:
    channel, other = await api.create(), await api.create()
    for path in ("/channels/", f"/channels/{channel}", f"/channels/{other}"):
        answer = await api("POST", path, json={"type": "plain", "config": {}, "amqp_queue": channel + suffix})
        assert (answer.status, answer.errors[0]["schema_path"]) == (400, ["properties", "amqp_queue"])
        assert channel in answer.errors[0]["message"]
    await api.create(amqp_queue=f"{channel}-mine{suffix}")


async def test_a_stored_amqp_queue_that_can_be_none_is_shown_and_can_be_changed(api: Api) -> None:
    channel = await api.create()
    spec = await api.stores.channels.get(channel)
    bad = ChannelSpec.from_properties(channel, {**spec.to_properties(), "amqp_queue": "é"})
    await api.stores.channels.update(spec, bad, restart=False)
    for method, path in (("GET", ""), ("GET", "/messages/"), ("DELETE", "/messages/"), ("POST", "")):
        answer = await api(method, f"/channels/{channel}{path}", **({"json": {"amqp_queue": "good"}} if method == "POST" else {}))
        assert answer.status == 200
    assert (await api("GET", f"/channels/{channel}")).result["amqp_queue"] == "good"


async def test_a_deleted_channel_is_gone_at_once(api: Api) -> None:
    channel = await api.create()
    assert (await api("POST", f"/channels/{channel}/messages/", json={"to": "1", "content": "x"})).status == 201
    answer = await api("DELETE", f"/channels/{channel}")
    assert (answer.status, answer.description, answer.result) == (200, "channel deleted", {})
    assert (await api("GET", "/channels/")).result == []
    send = await api("POST", f"/channels/{channel}/messages/", json={"to": "1", "content": "x"})
    assert (send.status, send.errors[0]["type"]) == (404, "ChannelNotFound")
    assert (await api("DELETE", f"/channels/{channel}")).status == 404
    assert await api.stores.wanted.deleted() == [channel]


async def test_deleting_what_is_not_there_leaves_nothing_to_clean_up(api: Api) -> None:
    assert (await api("DELETE", f"/channels/{UNKNOWN}")).status == 404
    assert await api.stores.wanted.deleted() == []


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_restart_raises_the_generation(api: Api, slash: str) -> None:
    channel = await api.create()
    answer = await api("POST", f"/channels/{channel}/restart{slash}")
    assert (answer.status, answer.description, answer.result) == (200, "channel restarted", {})
    assert (await api.stores.channels.get(channel)).generation == 2


@rows(
    ("method", "path"),
    [
        ("GET", "/channels/{}"),
        ("POST", "/channels/{}"),
        ("DELETE", "/channels/{}"),
        ("POST", "/channels/{}/restart"),
        ("GET", "/channels/{}/logs"),
        ("POST", "/channels/{}/messages/"),
        ("GET", "/channels/{}/messages/a5d2800751f54b55a622e3965e1b71ec"),
        ("GET", "/channels/{}/messages/"),
        ("DELETE", "/channels/{}/messages/"),
        ("DELETE", "/channels/{}/messages/a5d2800751f54b55a622e3965e1b71ec"),
        ("POST", "/channels/{}/pause"),
        ("POST", "/channels/{}/resume"),
        ("GET", "/channels/{}/dead-letters/"),
        ("DELETE", "/channels/{}/dead-letters/"),
        ("POST", "/channels/{}/dead-letters/replay"),
        ("DELETE", "/channels/{}/dead-letters/a5d2800751f54b55a622e3965e1b71ec"),
    ],
)
@rows(
    "channel",
    [
        UNKNOWN,
        "a%2Fb",
        "..%2F..%2Fetc%2Fpasswd",
        "%00",
        "%FF%FE",
        "%E2%82%AC",
        "%20",
        "%0A",
        "a" * 6000,
        "*",
        ".",
        "x:properties",
        "%25",
    ],
)
async def test_an_odd_or_unknown_channel_id_is_404(api: Api, method: str, path: str, channel: str) -> None:
    body = {"to": "1", "content": "x"} if "messages" in path else {}
    answer = await api(method, path.format(channel), json=body if method == "POST" else None)
    assert answer.status == 404
    if channel == UNKNOWN:
        assert (answer.description, answer.errors[0]["type"]) == ("channel not found", "ChannelNotFound")


async def test_the_status_is_the_worst_of_the_components(api: Api) -> None:
    channel = await api.create()
    for component, level in (("amqp", "ok"), ("redis", "degraded"), ("plain", "down")):
        await api.stores.statuses.put(
            Status(channel_id=channel, component=component, status=level, type="t", message="m", details={"a": 1})  # type: ignore[arg-type]
        )
    status = (await api("GET", f"/channels/{channel}")).result["status"]
    assert status["status"] == "down"
    assert status["components"]["redis"] == {
        "channel_id": channel,
        "component": "redis",
        "status": "degraded",
        "type": "t",
        "message": "m",
        "details": {"a": 1},
    }


async def test_the_rates_are_those_of_the_last_whole_window(api: Api) -> None:
    channel = await api.create()
    window = api.settings.metric_window
    rates = api.stores.rates
    bucket = rates._bucket(None)
    for ahead in range(3):
        await rates.add(channel, {"inbound_message": 4, "submitted": 2}, now=(bucket + ahead) * window)
    while rates._bucket(None) < bucket + 1:
        await asyncio.sleep(0.01)
    status = (await api("GET", f"/channels/{channel}")).result["status"]
    assert (status["inbound_message_rate"], status["submitted_event_rate"]) == (4 / window, 2 / window)
    assert status["delivery_failed_rate"] == 0


async def test_the_status_tells_how_many_messages_wait(api: Api) -> None:
    channel = await api.create()
    for _ in range(3):
        await api("POST", f"/channels/{channel}/messages/", json={"to": "1", "content": "x"})
    assert (await api("GET", f"/channels/{channel}")).result["status"]["queue_length"] == 3


async def test_a_change_through_another_process_is_seen(api: Api) -> None:
    channel = await api.create()
    message = {"to": "1", "content": "four"}
    async with running_api(api.settings) as other:
        assert (await other("POST", f"/channels/{channel}/messages/", json=message)).status == 201
        assert (await api("POST", f"/channels/{channel}", json={"character_limit": 3})).status == 200
        answer = await other("POST", f"/channels/{channel}/messages/", json=message)
        for _ in range(100):
            if answer.status == 400:
                break
            await asyncio.sleep(0.01)
            answer = await other("POST", f"/channels/{channel}/messages/", json=message)
        assert answer.description == "message too long"
        created = await other.create()
        assert (await api("POST", f"/channels/{created}/messages/", json=message)).status == 201
