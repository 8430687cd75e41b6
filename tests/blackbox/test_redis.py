"""What is in Redis: as Junebug 0.2.0 wrote it, and nothing that lives for ever (COMPAT §4)."""

from __future__ import annotations

import json
from typing import Any

import redis

from tests.blackbox.conftest import Channels, StartJunebug, own_database
from tests.harness import AppQueues, Channel, JunebugProcess, TelnetClient, WebhookSink, free_port, own_queue
from tests.polling import eventually
from tests.servers import RedisServer

FLAGS = {"inbound-message-ttl": 300, "outbound-message-ttl": 500}


def client_of(junebug: JunebugProcess) -> redis.Redis:
    return redis.Redis(port=junebug.flags["redis-port"], db=junebug.flags["redis-db"], decode_responses=True)


def keys_of(junebug: JunebugProcess, pattern: str = "*") -> set[str]:
    with client_of(junebug) as client:
        return set(client.scan_iter(pattern, count=1000))


async def test_the_channels_of_junebug_0_2_0_are_started(
    redis_server_shared: RedisServer, start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    first, second = free_port(), free_port()
    stored: dict[str, dict[str, Any]] = {
        "6a5c691e-140c-48b0-9f39-a53d4951d7fa": {
            "type": "telnet",
            "label": "My First Channel",
            "mo_url": sink.url("/first"),
            "config": {"twisted_endpoint": f"tcp:{first}:interface=127.0.0.1"},
        },
        "bc5f2e63-7f53-4996-816d-4f89f45a5842": {
            "type": "telnet",
            "label": None,
            "metadata": {"owned_by": "user-5"},
            "status_url": None,
            "mo_url": sink.url("/second"),
            "mo_url_auth_token": "t",
            "amqp_queue": None,
            "rate_limit_count": 500,
            "rate_limit_window": 10,
            "character_limit": None,
            "id": "bc5f2e63-7f53-4996-816d-4f89f45a5842",
            "something_of_later": {"unknown": True},
            "config": {"twisted_endpoint": f"tcp:port={second}:interface=127.0.0.1"},
        },
    }
    db = own_database()
    with redis.Redis(port=redis_server_shared.port, db=db) as client:
        client.sadd("channels", *stored)
        for channel_id, properties in stored.items():
            client.set(f"{channel_id}:properties", json.dumps(properties))
    junebug = start_junebug({"redis-db": db})
    assert (await junebug.api.get("/channels/")).result == sorted(stored)
    for channel_id, port, path in zip(stored, (first, second), ("/first", "/second"), strict=True):
        channel = await Channel(junebug.api, {"id": channel_id}).running()
        shown = await channel.get()
        assert {name: shown[name] for name in ("type", "label", "config", "mo_url") if name in stored[channel_id]} == {
            name: stored[channel_id][name] for name in ("type", "label", "config", "mo_url")
        }
        async with await TelnetClient.connect(port) as peer:
            await peer.say("still here?")
            await sink.wait_content(path, "still here?")
            await channel.send(peer.address, "yes")
            assert await peer.hear() == "yes"
    assert sink.requests("/second")[0].headers["Authorization"] == "Token t"
    assert (await junebug.api.post(f"/channels/{channel_id}", {"label": "changed"})).status == 200
    assert (await junebug.api.delete(f"/channels/{channel_id}")).status == 200


async def test_a_spec_that_nobody_can_read_disturbs_no_other(
    redis_server_shared: RedisServer, start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    db = own_database()
    with redis.Redis(port=redis_server_shared.port, db=db) as client:
        client.sadd("channels", "broken", "gone", "good")
        client.set("broken:properties", "{ no JSON")
        client.set("good:properties", json.dumps({"type": "loopback", "config": {}, "mo_url": sink.url("/mo")}))
    junebug = start_junebug({"redis-db": db})
    good = await Channel(junebug.api, {"id": "good"}).running()
    await good.send("+27", "unharmed")
    await sink.wait_content("/mo", "unharmed")
    assert (await junebug.api.get("/channels/broken")).status == 200
    assert (await junebug.api.get("/channels/gone")).status == 404
    assert (await junebug.api.delete("/channels/broken")).status == 200


async def test_specs_are_stored_as_junebug_0_2_0_stored_them(jb: JunebugProcess, channels: Channels) -> None:
    properties = {"type": "loopback", "label": "stored", "config": {"delivery_reports": False}, "metadata": {"a": 1}}
    channel = await channels.create(**properties)  # type: ignore[arg-type]
    with client_of(jb) as client:
        assert client.sismember("channels", channel.id)
        stored = json.loads(str(client.get(f"{channel.id}:properties")))
    assert {name: stored[name] for name in properties} == properties
    assert stored["mo_url"] == channel.created["mo_url"]


async def test_messages_are_hashes_with_their_ttl(jb: JunebugProcess, channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sent = await channel.send("+27", event_url=sink.url("/event"))
    (inbound,) = await sink.wait("/mo")
    await sink.wait("/event", 2)
    with client_of(jb) as client:
        for key, ttl in (
            (f"{channel.id}:inbound_messages:{inbound.body['message_id']}", 300),
            (f"{channel.id}:outbound_messages:{sent['message_id']}", 500),
        ):
            assert client.type(key) == "hash"
            assert ttl - 60 < int(str(client.ttl(key))) <= ttl


async def test_every_key_but_specs_and_last_statuses_expires(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    async with await channel.connect() as client:
        await client.say("hi")
        line = (await sink.wait("/mo", 2))[1].body
        await channel.send(content="answer", reply_to=line["message_id"], event_url=sink.url("/event"))
        await channel.send("nobody", event_url=sink.url("/event"))
        await sink.wait("/event", 2)

    async def rate() -> bool:
        return (await channel.status())["rejected_event_rate"] > 0

    await eventually(rate)
    await channel.delete()
    lasting = {"channels", "channel_generations", "channel_epoch", "deleted_channels", "lease_fence"}
    with client_of(jb) as client:
        for key in client.scan_iter("*", count=1000):
            if int(str(client.ttl(key))) == -1:
                assert key in lasting or key.endswith((":properties", ":status")), key


async def test_a_deleted_channel_leaves_nothing_in_redis_and_rabbitmq(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink, app: AppQueues
) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    async with await channel.connect() as client:
        await client.say("hi")
        await sink.wait("/mo", 2)
        await channel.send("nobody", event_url=sink.url("/event"))
        await sink.wait("/event")
        queues = [own_queue(f"{channel.id}.{kind}") for kind in ("outbound", "inbound", "event", "dead")]
        queues.append(f"{channel.id}.status")
        assert await app.count(queues[0]) is not None
        await channel.delete()
    await eventually(lambda: not keys_of(jb, f"*{channel.id}*"), what="the end of the channel's keys")
    for queue in queues:

        async def is_gone(name: str = queue) -> bool:
            return await app.count(name) is None

        await eventually(is_gone, what=f"the end of {queue}")
    await eventually(lambda: channel.id not in jb.channel_pids())
    with client_of(jb) as redis_client:
        assert not redis_client.sismember("channels", channel.id)
        assert not redis_client.sismember("deleted_channels", channel.id)
        assert not redis_client.hexists("channel_generations", channel.id)
