"""Redis as we keep it (COMPAT §4), on a real server, and what happens while it is away."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from msgspec.structs import replace
from redis.exceptions import NoPermissionError, ResponseError

from junebug import names
from junebug.config.declaration import RedisSettings, Settings
from junebug.errors import ChannelChanged, ChannelNotFound, StartupError, StoreUnavailable
from junebug.model.messages import Event, Status, UserMessage, of_shard
from junebug.model.spec import ChannelSpec
from junebug.runtime.families import HELD, MESSAGES, THROTTLED
from junebug.runtime.loop import run_async
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores, channels, client, specs
from junebug.stores.key_lists import key_lists
from junebug.stores.outbound import EventTarget
from junebug.stores.rates import RATES, RateStore
from junebug.stores.statuses import ORPHAN_TTL
from tests.event_target import event_target
from tests.polling import eventually
from tests.servers import RedisServer


def wired(event: Event) -> list[tuple[bytes, Event]]:
    return [(event.to_wire(), event)]


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Stores]:
    opened = Stores(settings)
    yield opened
    await opened.close()


def spec(channel: str = "c", **properties: Any) -> ChannelSpec:
    return ChannelSpec.from_properties(channel, {"type": "telnet", "config": {"a": 1}, **properties})


def mt(id: str, **fields: str) -> UserMessage:
    return UserMessage(message_id=id, to_addr="1", from_addr=None, content="x", transport_name="c", **fields)


async def test_a_channel_is_kept_as_it_was_given(store: Stores) -> None:
    await store.channels.create(spec("b", label="x", mo_url=None))
    await store.channels.create(spec("a"))
    assert await store.channels.ids() == ["a", "b"]
    found = await store.channels.get("b")
    assert found.to_properties() == {"type": "telnet", "config": {"a": 1}, "label": "x", "mo_url": None}
    assert found.generation == 1


async def test_what_an_older_junebug_wrote_is_read(store: Stores) -> None:
    await store._redis.run(
        ("SADD", "channels", "old"),
        ("SET", "old:properties", '{"type": "telnet", "config": {}, "mo_url": "http://x", "from_the_past": 1}'),
    )
    assert await store.channels.ids() == ["old"]
    found = await store.channels.get("old")
    assert (found.mo_url, found.generation) == ("http://x", 0)
    assert (await store.wanted.wanted()).generations == {"old": 0}


@pytest.mark.parametrize("stored", ["{", "[]", "5", '{"config": 5}'])
def test_a_spec_that_cannot_be_read_has_no_type(stored: str) -> None:
    found = channels.channel_spec("c", stored, None)
    assert (found.type, found.config) == ("", {})


async def test_an_update_of_what_somebody_else_changed_is_refused(store: Stores) -> None:
    await store.channels.create(spec())
    mine, theirs = await store.channels.get("c"), await store.channels.get("c")
    await store.channels.update(theirs, spec(label="theirs"), restart=False)
    with pytest.raises(ChannelChanged):
        await store.channels.update(mine, spec(label="mine"), restart=False)
    assert (await store.channels.get("c")).label == "theirs"


async def test_only_a_restart_raises_the_generation(store: Stores) -> None:
    await store.channels.create(spec())
    first = await store.channels.get("c")
    second = await store.channels.update(first, spec(label="x"), restart=False)
    assert second.generation == 1
    third = await store.channels.update(second, spec(label="y"), restart=True)
    assert third.generation == 2
    await store.channels.request_restart("c")
    assert (await store.channels.get("c")).generation == 3


async def test_a_deleted_channel_leaves_nothing_but_its_cleaning_up(store: Stores) -> None:
    await store.channels.create(spec("gone*"))
    await store.channels.create(spec("gone-not"))
    await store.inbound.put_all("gone*", [("m", b"x")])
    await store.statuses.put(Status(channel_id="gone*", component="x", status="ok", type="", message=""))
    await store.channels.delete("gone*")
    for call in (store.channels.get("gone*"), store.channels.delete("gone*"), store.channels.request_restart("gone*")):
        with pytest.raises(ChannelNotFound):
            await call
    assert await store.wanted.deleted() == ["gone*"]
    left = await store.wanted.deleted_spec("gone*")
    assert left
    assert left.to_properties() == spec("gone*").to_properties()
    (ttl,) = await store._redis.run(("TTL", names.deleted_properties("gone*")))
    assert 0 < ttl <= specs.DELETED_TTL
    await store.wanted.forget("gone*")
    assert await store.wanted.deleted_spec("gone*") is None
    assert await store.wanted.deleted() == []
    (keys,) = await store._redis.run(("KEYS", "*"))
    assert sorted(keys) == [names.GENERATIONS, names.CHANNELS, "gone-not:priorities", "gone-not:properties", names.WANTED_CHANGES]
    assert await store.inbound.get("gone*", "m") is None


async def commands_while(store: Stores, work: Awaitable[Any]) -> dict[str, int]:
    """Command -> how often Redis was asked for it meanwhile."""
    await store._redis.run(("CONFIG", "RESETSTAT"))
    await work
    (found,) = await store._redis.run(("INFO", "commandstats"))
    lines = (line.partition(":") for line in found.splitlines() if line.startswith("cmdstat_"))
    return {name.removeprefix("cmdstat_"): int(fields.split(",")[0].removeprefix("calls=")) for name, _, fields in lines}


async def test_a_deleted_channels_keys_are_removed_by_their_names(own_redis: RedisServer) -> None:
    """However much else there is in Redis: the whole of it was scanned."""
    store = Stores(Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port)))
    for channel in ("gone", "other"):
        await store.channels.create(spec(channel))
        message = UserMessage(to_addr="1", from_addr="2", content="x", transport_name=channel)
        await store.inbound.put_all(channel, [(message.message_id, message.to_wire())])
        await asyncio.gather(*(store.outbound.put(channel, mt(str(number))) for number in range(2500)))
        await store.outbound.add_events(channel, wired(Event(event_type="ack", user_message_id="theirs", transport_name=channel)))
        await store.idempotency.claim(channel, "key", "body", 10, message)
        await store.statuses.put(Status(channel_id=channel, component="x", status="ok", type="", message=""))
        await store.rates.add(channel, {"submitted": 1})
        await store.delay_queues.note(channel, "queue", "", 60)
        transport = store.transport(channel)
        await transport.put("text", "x", 604_800)
        await transport.put_fields("fields", {"x": "y"}, 60)
        await transport.put_fields("sent", {"x": "y"}, 3600, "parked")
        await transport.shared("word").put("text", "x", 60)
    (before,) = await store._redis.run(("KEYS", "gone:*"))
    assert len(before) > 2510
    await store.channels.delete("gone")
    asked = await commands_while(store, store.wanted.forget("gone"))
    assert not asked.keys() & {"scan", "keys"}
    assert asked["unlink"] < 20
    gone, other, shared = await store._redis.run(("KEYS", "gone*"), ("KEYS", "other:*"), ("KEYS", "transport_shared:*"))
    assert gone == []
    assert len(other) == len(before)
    assert len(shared) == 1
    await store.close()


async def test_a_delete_of_a_channel_that_never_was_leaves_nothing(store: Stores) -> None:
    with pytest.raises(ChannelNotFound):
        await store.channels.delete("never")
    assert await store.wanted.deleted() == []


async def test_an_emptied_redis_is_noticed_and_filled_again(store: Stores) -> None:
    await store.channels.create(spec(label="kept"))
    assert not (await store.wanted.look()).lost
    known = (await store.wanted.get_many(["c", "none"])).values()
    await store._redis.run(("FLUSHDB",))
    await store.channels.create(spec("new"))
    wanted = await store.wanted.look()
    assert wanted.lost
    await store.wanted.restore(known)
    assert (await store.wanted.look()).lost is False
    assert await store.channels.ids() == ["c", "new"]
    assert (await store.channels.get("c")).label == "kept"


async def test_a_change_is_heard_by_its_own_worker_and_by_those_who_listen_to_all(store: Stores) -> None:
    """50 workers each heard of each of 50 changes: 2,500 messages, and a million with 1,000 channels."""
    ids = [f"{uuid.uuid4()}" for _ in range(50)]
    workers = [store.channels.changes(channel) for channel in ids]
    everybody = store.channels.all_changes()
    assert await asyncio.gather(*(anext(each) for each in (*workers, everybody))) == [""] * 51
    for channel in ids:
        await store.channels.notify_changed(channel)
    assert await asyncio.gather(*map(anext, workers)) == ids
    heard = [await anext(everybody)]
    while heard[-1] != ids[-1]:  # pub/sub is shared by all databases
        heard.append(await anext(everybody))
    assert [channel for channel in heard if channel in ids] == ids
    for channel in ids:  # each worker has heard of its own channel once, and of no other
        await store.channels.notify_changed(channel)
    assert await asyncio.gather(*map(anext, workers)) == ids
    (topics,) = await store._redis.run(("PUBSUB", "NUMSUB", *map(names.change_topic, ids)))
    assert list(topics.values() if isinstance(topics, dict) else topics[1::2]) == [1] * 50
    for each in (*workers, everybody):
        await each.aclose()  # type: ignore[attr-defined]


async def test_messages_live_as_long_as_their_ttl(store: Stores, settings: Settings) -> None:
    message = UserMessage(to_addr="1", from_addr="2", content="x", transport_name="c")
    await store.inbound.put_all("c", [(message.message_id, message.to_wire())])
    assert await store.inbound.get("c", message.message_id) == message
    await store.outbound.put("c", mt("m", event_url="http://e", event_auth_token="token"))
    await store.outbound.add_events("c", wired(Event(event_type="ack", user_message_id="m", transport_name="c")))
    await store.outbound.add_events("c", wired(Event(event_type="ack", user_message_id="unknown", transport_name="c")))
    await store.rates.add("c", {"submitted": 1})
    (keys,) = await store._redis.run(("KEYS", "*"))
    lists = {key for key in keys if key in key_lists("c", time.time())}
    assert len(keys) - len(lists) == 4
    ttls = await store._redis.run(*(("TTL", key) for key in keys))
    for key, ttl in zip(keys, ttls, strict=True):
        assert 0 < ttl <= settings.outbound_message_ttl * (2 if key in lists else 1), key


async def test_where_the_events_of_a_message_go_is_kept(store: Stores) -> None:
    await store.outbound.put("c", mt("m", event_url="http://e", event_auth_token="token"))
    assert await event_target(store, "c", "m") == EventTarget("http://e", "token")
    assert await event_target(store, "c", "unknown") == EventTarget(None, None)


async def test_a_repeated_event_is_kept_once_and_all_are_in_order(store: Stores) -> None:
    late = Event(event_type="delivery_report", delivery_status="delivered", user_message_id="m", transport_name="c",
                 timestamp="2026-01-02 00:00:00.000000")  # fmt: skip
    early = Event(event_type="ack", user_message_id="m", transport_name="c", timestamp="2026-01-01 00:00:00.000000")
    for event in (late, early, late):
        assert await store.outbound.add_events("c", wired(event)) == [EventTarget(None, None)]
    assert await store.outbound.events("c", "m") == [early, late]


async def test_what_is_kept_and_nobody_can_read_is_passed_over(store: Stores) -> None:
    ack = Event(event_type="ack", user_message_id="m", transport_name="c")
    await store.outbound.add_events("c", [*wired(ack), (b"nonsense", replace(ack, event_id="other"))])
    assert await store.outbound.events("c", "m") == [ack]
    await store.inbound.put_all("c", [("m", b"nonsense")])
    assert await store.inbound.get("c", "m") is None
    assert await store.inbound.with_time("c", "m") is None


async def test_an_older_status_never_replaces_a_newer_one(store: Stores) -> None:
    await store.channels.create(spec())
    new = Status(channel_id="c", component="worker", status="ok", type="running", message="")
    old = replace(new, type="died", status="down", timestamp="2020-01-01 00:00:00.000000")
    assert await store.statuses.put(new)
    assert not await store.statuses.put(old)
    assert (await store.statuses.components("c"))["worker"]["type"] == "running"
    assert (await store._redis.run(("TTL", names.channel_status("c")))) == [-1]


async def test_what_a_process_of_an_older_lease_says_is_not_kept_whatever_its_clock_says(store: Stores) -> None:
    await store.channels.create(spec())
    first = Status(channel_id="c", component="smpp", status="ok", type="bound", message="", fence=7)
    assert await store.statuses.put(first)
    fast = replace(first, type="fast", timestamp="2099-01-01 00:00:00.000000")
    assert await store.statuses.put(fast)
    assert await store.statuses.put(replace(first, type="later", fence=8))
    assert not await store.statuses.put(replace(fast, type="unbinding", status="down"))
    assert not await store.statuses.put(replace(fast, component="worker"))
    assert await store.statuses.put(replace(first, component="x", fence=0))  # of who has no lease
    found = await store.statuses.components("c")
    assert {name: body["type"] for name, body in found.items()} == {"smpp": "later", "x": "bound"}


async def test_shards_say_how_they_do_beside_each_other_and_those_that_are_no_more_are_forgotten(store: Stores) -> None:
    def of(shard: int, component: str = "smpp", fence: int = 5, **more: Any) -> Status:
        name = of_shard(component, shard)
        return Status(channel_id="c", component=name, status="ok", type="bound", message="", fence=fence, shard=shard, **more)

    await store.channels.create(dataclasses.replace(spec(), config={"shards": 3}))
    for shard in range(4):
        assert await store.statuses.put(of(shard)) is (shard < 3)
    assert await store.statuses.put(of(0, "a/2"))  # a component of the type's own, with such a name
    assert await store.statuses.put(of(1, fence=9))
    assert not await store.statuses.put(of(1, "worker", fence=8, timestamp="2099-01-01 00:00:00.000000"))
    assert await store.statuses.put(of(2, fence=6))  # its lease is another
    assert [*await store.statuses.components("c")] == ["a/2", "smpp", "smpp/1", "smpp/2"]
    await store.statuses.forget_shards("c", 2)
    assert [*await store.statuses.components("c")] == ["smpp", "smpp/1"]
    old = await store.channels.get("c")
    await store.channels.update(old, dataclasses.replace(old, config={}), restart=True)
    assert not await store.statuses.put(of(1, fence=99))
    await store.statuses.forget_shards("c", 1)
    await store.statuses.forget_shards("c", 1)
    assert [*await store.statuses.components("c")] == ["smpp"]
    assert await store._redis.run(("HLEN", names.channel_status("c"))) == [3]  # with its time, and the fence


async def test_gauges_of_shards_are_added_up(store: Stores) -> None:
    await store.channels.create(dataclasses.replace(spec(), config={"shards": 4}))
    for shard, (held, throttled) in enumerate([(1, 0), (2, 1), (4, 1), (8, 0), (16, 0)]):
        metrics = Metrics("c", shard=shard)
        metrics.counts[MESSAGES.field("outbound", "submitted")] += 10
        metrics.gauges.append(lambda held=held, throttled=throttled: {HELD.field("1"): held, THROTTLED.field(): throttled})
        batch = metrics.taken()
        assert batch
        await store.metrics.save(metrics, dataclasses.replace(batch, process=f"p{shard}"))
    await store.statuses.put(Status(channel_id="c", component="worker/2", status="down", type="died", message="", shard=2))
    (counted,) = await store.metrics.counted(["c"], frozenset())
    assert counted.fields == {MESSAGES.field("outbound", "submitted"): "50", HELD.field("1"): "11", THROTTLED.field(): "1"}


async def test_the_status_of_a_channel_without_spec_is_forgotten(store: Stores) -> None:
    await store.statuses.put(Status(channel_id="nobody", component="x", status="ok", type="", message=""))
    (ttl,) = await store._redis.run(("TTL", names.channel_status("nobody")))
    assert 0 < ttl <= ORPHAN_TTL


async def test_a_rate_is_the_last_whole_windows_count_by_its_length(store: Stores) -> None:
    rates = RateStore(store._redis, 10.0)
    await rates.add("c", {"submitted": 3}, now=1000.0)
    await rates.add("c", {"submitted": 4}, now=1009.9)
    await rates.add("c", {"submitted": 100}, now=1010.0)
    assert (await rates.rates("c", now=1009.0))["submitted"] == 0
    found = await rates.rates("c", now=1010.0)
    assert found == dict.fromkeys(RATES, 0.0) | {"submitted": 0.7}
    assert (await rates.rates("c", now=1030.0))["submitted"] == 0


async def test_many_calls_at_once_share_pipelines_and_get_their_own_answers(store: Stores) -> None:
    async def put_and_get(number: int) -> str | None:
        await store.outbound.put("c", mt(str(number), event_url=f"http://{number}"))
        return (await event_target(store, "c", str(number))).url

    assert await asyncio.gather(*map(put_and_get, range(2000))) == [f"http://{number}" for number in range(2000)]


async def test_one_calls_error_is_its_own(store: Stores) -> None:
    await store._redis.run(("SET", "text", "x"))
    results = await asyncio.gather(
        store._redis.run(("HGETALL", "text")), store._redis.run(("GET", "text")), return_exceptions=True
    )
    assert "WRONGTYPE" in str(results[0])
    assert results[1] == ["x"]


async def test_a_redis_that_is_away_or_silent_is_told_in_time_and_found_again(own_redis: RedisServer) -> None:
    settings = Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port), request_timeout=1.0)
    store = Stores(settings)
    await store.ping()
    own_redis.kill()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    own_redis.start()
    await store.ping()
    own_redis.signal(signal.SIGSTOP)
    results = await asyncio.gather(*(store.ping() for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 3
    own_redis.signal(signal.SIGCONT)
    await store.ping()
    await store.close()


async def test_change_notifications_survive_a_restart_of_redis(own_redis: RedisServer) -> None:
    store = Stores(Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port)))
    heard = store.channels.all_changes()
    assert await asyncio.wait_for(anext(heard), 10) == ""
    own_redis.restart()
    while (told := await asyncio.wait_for(anext(heard), 10)) == "":  # it is lost; it is there again
        await store.channels.notify_changed("c")
    assert told == "c"
    await heard.aclose()  # type: ignore[attr-defined]
    await store.close()


async def test_each_call_of_a_pipeline_has_a_deadline_of_its_own(own_redis: RedisServer) -> None:
    """The first one's ended all that it shared a pipeline with."""
    redis_client = client.RedisClient(RedisSettings(host=own_redis.host, port=own_redis.port), 30)
    own_redis.signal(signal.SIGSTOP)
    calls = []
    for timeout in (0.05, 0.1, 30):  # while the first waits for Redis, the others wait for their pipeline
        redis_client._timeout = timeout
        calls.append(asyncio.ensure_future(redis_client.run(("PING",))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    *early, second = calls
    for call in early:
        with pytest.raises(StoreUnavailable):
            await call
    assert not second.done()
    own_redis.signal(signal.SIGCONT)
    assert await second == ["PONG"]
    await redis_client.close()


async def test_a_fault_of_ours_is_not_taken_for_a_redis_that_is_away(
    store: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(store._redis, "_exchange", wrong)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await store.ping()
    monkeypatch.setattr(store._redis, "hear", wrong)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await anext(store.channels.all_changes())


class ResettingProxy:
    """Stands before Redis and resets links (RST), as the kernel does for a server that is killed."""

    def __init__(self, redis: RedisSettings) -> None:
        self._redis = redis
        self._links: list[asyncio.StreamWriter] = []
        self.is_killed = False
        """Links are still taken, and reset at once."""
        self.loses_replies = False
        """What comes next from Redis is not passed on: the link is reset instead."""

    async def start(self) -> RedisSettings:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return dataclasses.replace(self._redis, port=server.sockets[0].getsockname()[1])

    def reset(self) -> None:
        while self._links:
            link = self._links.pop()
            link.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.append(writer)
        if self.is_killed:
            return self.reset()
        behind = await asyncio.open_connection(self._redis.host, self._redis.port)
        await asyncio.gather(_pass_on(reader, behind[1]), self._pass_back(behind[0], writer))

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.loses_replies:
                self.loses_replies = False
                return self.reset()
            writer.write(data)
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.close()


def test_a_link_that_is_reset_is_a_redis_that_is_away_and_nothing_else(
    redis_settings: RedisSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On our event loop: uvloop answers a write on such a link with RuntimeError, of which workers died."""
    monkeypatch.setattr(specs, "SUBSCRIBE_PAUSES", (0.001, 0.001))

    async def scenario() -> set[str]:
        proxy = ResettingProxy(redis_settings)
        store = Stores(Settings(redis=await proxy.start()))
        heard = store.channels.all_changes()
        for _ in range(20):  # an idle link: the call makes a new one
            await store.ping()
            proxy.reset()
            connection = store._redis._connection
            await eventually(lambda link=connection: link._reader is None or link._reader.exception())
        await store.ping()
        proxy.is_killed = True
        proxy.reset()
        next_change = asyncio.ensure_future(anext(heard))
        outcomes = set()
        for _ in range(500):
            try:
                await store.ping()
            except Exception as error:
                outcomes.add(type(error).__name__)
        proxy.is_killed = False
        await store.ping()
        assert await asyncio.wait_for(next_change, 10) == ""
        await heard.aclose()  # type: ignore[attr-defined]
        await store.close()
        return outcomes

    assert run_async(scenario()) == {"StoreUnavailable"}


async def test_a_pipeline_whose_reply_was_lost_is_not_written_again(redis_settings: RedisSettings) -> None:
    proxy = ResettingProxy(redis_settings)
    store = Stores(Settings(redis=await proxy.start()))
    await store.ping()
    key = str(uuid.uuid4())
    proxy.loses_replies = True
    with pytest.raises(StoreUnavailable):
        await store._redis.run(("INCR", key), ("EXPIRE", key, 60))
    assert await store._redis.run(("GET", key)) == ["1"]
    await store.close()


async def test_the_check_at_the_start_names_the_setting(redis_settings: RedisSettings) -> None:
    await client.check(redis_settings, 5)
    for wrong, named in (
        (dataclasses.replace(redis_settings, port=1), "redis.host, redis.port: "),
        (dataclasses.replace(redis_settings, db=99999), "redis.db: "),
        (dataclasses.replace(redis_settings, host="no.such.host.invalid"), "redis.host, redis.port: "),
    ):
        with pytest.raises(StartupError) as error:
            await client.check(wrong, 5)
        assert str(error.value).startswith(named), str(error.value)
        assert "sesame" not in str(error.value)
        assert "\n" not in str(error.value)


async def test_a_wrong_password_is_told_by_its_setting_and_never_shown(own_redis: RedisServer) -> None:
    settings = RedisSettings(host=own_redis.host, port=own_redis.port)
    store = Stores(Settings(redis=settings))
    await store._redis.run(("CONFIG", "SET", "requirepass", "right"))
    await store.close()
    await client.check(dataclasses.replace(settings, password="right"), 5)
    for password in (None, "sesame"):
        with pytest.raises(StartupError) as error:
            await client.check(dataclasses.replace(settings, password=password), 5)
        assert str(error.value).startswith("redis.password: ")
        assert "sesame" not in str(error.value)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-LOADING Redis is loading\r\n", b""])
async def test_what_is_no_redis_yet_or_at_all_is_a_redis_that_is_away(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    store = Stores(Settings(redis=RedisSettings(host="127.0.0.1", port=server.sockets[0].getsockname()[1])))
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.ping()
    heard = store.channels.all_changes()
    assert await asyncio.wait_for(anext(heard), 10) == ""  # there is no subscription
    await heard.aclose()  # type: ignore[attr-defined]
    await store.close()
    server.close()


async def _asking(redis_client: client.RedisClient, *command: str | int) -> list[Any]:
    return await redis_client.run(command)


@pytest.mark.parametrize("when", ["under way", "waits", "after it", "in an end of its own"])
async def test_who_asks_while_a_link_is_closed_is_told_so(redis_settings: RedisSettings, when: str) -> None:
    """At once: a task that asks in its `finally` has been cancelled already, and nothing else would end it."""
    redis_client = client.RedisClient(redis_settings, timeout=600)
    asked = [asyncio.create_task(_asking(redis_client, "BLPOP", "nothing", 0))]
    await asyncio.sleep(0)
    if when == "waits":
        await eventually(lambda: not redis_client._waiting)
        asked.append(asyncio.create_task(_asking(redis_client, "PING")))
        await asyncio.sleep(0)

    async def ask_again() -> None:
        try:
            await redis_client.run(("BLPOP", "nothing", 0))
        finally:
            await redis_client.run(("PING",))

    if when == "in an end of its own":
        asked.append(asyncio.create_task(ask_again()))
        await asyncio.sleep(0)
    await redis_client.close()
    if when == "after it":
        asked.append(asyncio.create_task(_asking(redis_client, "PING")))
    results = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
    assert [type(each) for each in results] == [StoreUnavailable] * len(asked)


async def test_whoever_cancels_what_runs_commands_leaves_nobody_waiting(redis_settings: RedisSettings) -> None:
    """As the end of a loop does, which cancels all its tasks."""
    redis_client = client.RedisClient(redis_settings, timeout=600)
    asked = asyncio.create_task(_asking(redis_client, "BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    assert redis_client._runner
    redis_client._runner.cancel()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(asked, 10)
    assert await redis_client.run(("PING",)) == ["PONG"]
    await redis_client.close()


async def test_a_start_of_redis_is_told_from_another(own_redis: RedisServer) -> None:
    store = Stores(Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port)))
    first = await store.run_id()
    assert len(first) == 40
    assert await store.run_id() == first
    own_redis.kill()
    assert await store.run_id() == ""
    own_redis.start()
    assert await store.run_id() not in ("", first)
    await store.close()


@pytest.mark.parametrize("refused", [NoPermissionError("NOPERM no permissions"), ResponseError("ERR unknown command 'INFO'")])
async def test_a_redis_that_does_not_say_which_it_is(
    store: Stores, refused: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ACLs and providers have it."""

    async def replies(*_: object) -> list[Exception]:
        return [refused]

    monkeypatch.setattr(client.RedisClient, "_replies", staticmethod(replies))
    assert await store.run_id() == ""
