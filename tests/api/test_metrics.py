"""`GET /metrics`: its form, who may read what of it, and what it says while servers are away."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from junebug.api import access
from junebug.api.metrics import OPEN_METRICS, TEXT, Page, content_type, owned_by
from junebug.api.request_meter import template
from junebug.config.declaration import Settings
from junebug.model.access import READ, SEND
from junebug.model.messages import Status
from junebug.runtime import families
from junebug.runtime.families import MESSAGES, SHOWN
from junebug.runtime.metrics import Batch, Metrics
from junebug.runtime.samples import Sample
from tests.api.conftest import Api, running_api
from tests.polling import eventually
from tests.scraping import Series, read, scrape
from tests.servers import RedisServer
from tests.tables import rows


@rows(
    ["accept", "wanted"],
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html", TEXT),
        ("text/plain", TEXT),
        ("application/openmetrics-text", OPEN_METRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN_METRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
         "text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1", OPEN_METRICS),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.5", TEXT),
        ("application/openmetrics-text;q=0, */*", TEXT),
        ("application/openmetrics-text;q=x", TEXT),
    ],
)  # fmt: skip
def test_the_form_that_is_asked_for(accept: str, wanted: str) -> None:
    assert content_type(accept) == wanted


@rows(
    ["path", "shown"],
    [
        ("/channels/{channel_id}/messages/", "/channels/{channel_id}/messages"),
        ("/jb/channels/{channel_id}/messages", "/channels/{channel_id}/messages"),
        ("/jb/channels/", "/channels"), ("/metrics", "/metrics"), ("/", "/"), ("/jbx/", "/jbx"),
    ],
)  # fmt: skip
def test_a_route_has_one_template(path: str, shown: str) -> None:
    assert template(path) == shown


def some_of_everything() -> Iterator[tuple[families.Family, str, dict[str, str]]]:
    """(family, owner, fields)."""
    for number, family in enumerate(SHOWN):
        values = ['odd\\ "label"\n'] * len(family.labels)
        owner = owned_by("c.1", is_router=number % 2 == 1) if family.owned else ""
        if family.kind == "histogram":
            fields = {field: str(n + 1) for n, field in enumerate(family.fields(*values)[:-1])}
            yield family, owner, {**fields, family.fields(*values)[-1]: "1500000"}
        else:
            yield family, owner, {family.field(*values): "3"}


@pytest.mark.parametrize("type", [TEXT, OPEN_METRICS])
def test_prometheus_reads_every_family(type: str) -> None:
    page = Page()
    for _, owner, fields in some_of_everything():
        page.add_fields(fields, owner)
    held = families.HELD.field("1")
    page.add_fields({"of a newer Junebug|x": "1", "messages|too|many|labels": "1", "messages": "1", held: "1"})
    series = read(page.text(type), type)
    for family, owner, _ in some_of_everything():
        name = family.name if type == OPEN_METRICS else f"{family.name}_total" if family.kind == "counter" else family.name
        assert series.types[family.name] == family.kind, family.name
        assert series.helps[family.name] == family.help
        assert f"# HELP {name} " in series.text
        sample = {"counter": f"{family.name}_total", "histogram": f"{family.name}_count"}.get(family.kind, family.name)
        ((labels, value),) = series.all(sample).items()
        given = dict.fromkeys(family.labels, 'odd\\ "label"\n')
        assert dict(labels) == {**given, **({owner.partition("=")[0]: "c.1"} if owner else {})}
        if family.kind == "histogram":
            count = len(family.bounds) + 1
            assert value == sum(range(1, count + 1)) == series.total(f"{family.name}_bucket", le="+Inf")
            assert series.total(f"{family.name}_bucket", le=str(family.bounds[0])) == 1
            assert series.total(f"{family.name}_sum") == 1.5
        else:
            assert value == 3
    assert not [name for name in series.names if "newer" in name or "held" in name]
    assert series.text.endswith("# EOF\n" if type == OPEN_METRICS else "\n")


async def add(api: Api, owner: str, *fields: str, process: str = "p", number: int = 1, **gauges: float) -> None:
    counts: dict[str, dict[str, int]] = {owner: dict.fromkeys(fields, 1)}
    await api.stores.metrics.save(Metrics(owner), Batch(process, number, counts, owner, gauges))


async def test_a_batch_is_added_once(api: Api) -> None:
    channel = await api.create()
    field, labels = MESSAGES.field("inbound", "received"), {"direction": "inbound", "outcome": "received"}
    for process, number in (("p", 1), ("p", 1), ("p", 2), ("q", 1), ("p", 1), ("q", 1)):
        await add(api, channel, field, process=process, number=number)
    series = await scrape(api.url)
    assert series.value("junebug_messages_total", channel_id=channel, **labels) == 3
    (keys,) = await api.stores._redis.run(("KEYS", "*metrics*"))
    for key in keys:
        ((ttl),) = await api.stores._redis.run(("TTL", key))
        assert ttl > 0, key


async def test_a_batch_that_redis_refuses_costs_no_more_than_itself(api: Api) -> None:
    channel, field = await api.create(), MESSAGES.field("inbound", "received")
    await api.stores._redis.run(("HSET", f"{channel}:metrics", field, "no number"))
    metrics = Metrics(channel)
    metrics.counts[field] += 1
    batch = metrics.taken()
    assert batch
    await api.stores.metrics.save(metrics, batch)
    assert metrics.taken() is None


async def test_gauges_of_a_channel_that_is_down_are_no_news(api: Api) -> None:
    channel = await api.create()
    held, bound = families.HELD.field("5"), families.BINDS.field("bound")
    await add(api, channel, **{held: 7, bound: 1})
    lengths = {"name": "junebug_outbound_queue_length", "channel_id": channel, "priority": "5"}
    series = await scrape(api.url)
    assert (series.value(**lengths), series.value("junebug_smpp_binds", channel_id=channel, state="bound")) == (7, 1)
    down = Status(channel_id=channel, component="worker", status="down", type="crashed", message="")
    await api.stores.statuses.put(down)
    series = await scrape(api.url)
    assert (series.value(**lengths), series.value("junebug_smpp_binds", channel_id=channel, state="bound")) == (0, None)
    assert series.value("junebug_component_status", channel_id=channel, component="worker") == 0


async def test_what_waits_is_counted_by_priority(api: Api) -> None:
    channel = await api.create()
    for priority in (1, 1, 4):
        body = {"to": "+27", "content": "x", "priority": priority}
        assert (await api("POST", f"/channels/{channel}/messages/", json=body)).status == 201
    series = await scrape(api.url)
    waiting = series.all("junebug_outbound_queue_length", channel_id=channel)
    assert {dict(labels)["priority"]: count for labels, count in waiting.items() if count} == {"1": 2, "4": 1}
    assert series.value("junebug_messages_total", channel_id=channel, direction="outbound", outcome="accepted") == 3
    assert (await api("DELETE", f"/channels/{channel}/messages/")).result["cancelled"] == 3
    series = await scrape(api.url)
    assert series.value("junebug_messages_total", channel_id=channel, direction="outbound", outcome="cancelled") == 3


async def test_a_router_has_its_own_series(api: Api) -> None:
    router = await api.router()
    await add(api, router, MESSAGES.field("inbound", "dropped"))
    series = await scrape(api.url)
    assert series.value("junebug_messages_total", router_id=router, direction="inbound", outcome="dropped") == 1
    assert series.value("junebug_channel_info", router_id=router, type="from_address") == 1
    assert series.value("junebug_callbacks_waiting", router_id=router) == 0
    assert series.all("junebug_outbound_queue_length", router_id=router) == {}
    assert series.value("junebug_routers") == 1


async def test_a_deleted_channel_vanishes_with_its_process(api: Api) -> None:
    kept, deleted = await api.create(), await api.create()
    samples = [Sample("h", f"channel:{each}", 1e9, 1.0, 2**20, 0) for each in (kept, deleted)]
    await api.stores.metrics.put_samples("h", "reconciler", samples)
    await add(api, deleted, MESSAGES.field("inbound", "received"))
    assert deleted in (await scrape(api.url)).text
    await api("DELETE", f"/channels/{deleted}")
    await add(api, deleted, MESSAGES.field("inbound", "received"), number=2)  # the last that its process says
    series = await scrape(api.url)
    assert deleted not in series.text
    assert series.value("junebug_process_resident_memory_bytes", host="h", process=f"channel:{kept}") == 2**20


async def test_who_says_nothing_of_his_processes_any_more_has_none(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    store, now = api.stores.metrics, time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1000)
    await store.put_samples("gone", "reconciler", [Sample("gone", "supervisor", 1e9, 1.0, 2**20, 0)])
    monkeypatch.undo()
    assert not await store.is_wanted()
    assert (await scrape(api.url)).total("junebug_process_start_time_seconds", host="gone") == 0
    assert await store.is_wanted()
    await store.put_samples("here", "reconciler", [])
    (fields,) = await api.stores._redis.run(("HKEYS", "junebug_processes"))
    assert fields == ["here reconciler"]


async def test_a_token_of_some_channels_reads_these(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PAUSES", 0.0)
    root = {"Authorization": "Bearer of-the-settings-000000"}
    guarded = dataclasses.replace(settings, admin_token="of-the-settings-000000")
    async with running_api(guarded, on_loopback=False) as api:
        api.session.headers.update(root)
        mine, other = await api.create(), await api.create()

        async def token(*scopes: str, **more: Any) -> dict[str, str]:
            answer = await api("POST", "/tokens/", json={"name": "x", "scopes": scopes, **more})
            return {"Authorization": f"Bearer {answer.result['token']}"}

        whole = await scrape(api.url, headers=await token(READ))
        assert {mine, other} <= {dict(labels)["channel_id"] for labels in whole.all("junebug_channel_info")}
        assert whole.total("junebug_http_requests_total", route="/tokens", method="POST", status="201") == 1
        part = await scrape(api.url, headers=await token(READ, channels=[mine]))
        assert other not in part.text
        assert part.value("junebug_channel_info", channel_id=mine, type="plain") == 1
        assert not {name for name in part.names if "http" in name or "process_" in name or "auth" in name} - {
            "junebug_process_restarts_total"  # of the channel
        }
        assert (await api("GET", "/metrics", headers=await token(SEND))).status == 403
        for wrong in ({"Authorization": "Bearer nonsense"}, {"Authorization": ""}):
            assert (await api("GET", "/metrics", headers=wrong)).status == 401
        refused = (await scrape(api.url, headers=root)).all("junebug_auth_failures_total")
        by_reason = {dict(labels)["reason"]: count for labels, count in refused.items()}
        assert by_reason["NotAuthenticated"] == 2
        assert by_reason["NotAllowed"] == 1
        assert by_reason["TooManyAttempts"] == by_reason["OriginNotAllowed"] == by_reason["HostNotAllowed"] == 0


async def test_without_redis_it_says_so_and_loses_nothing(own_redis: RedisServer, api: Api) -> None:
    channel = await api.create()
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    series = await scrape(api.url)
    assert time.monotonic() - began < 8, "Prometheus waits for ten seconds"
    assert series.value("junebug_up", server="redis") == 0
    assert series.value("junebug_up", server="rabbitmq") == 1
    assert len(series.all("junebug_build_info")) == 1
    assert channel not in series.text
    for _ in range(3):
        assert (await api("GET", "/nowhere")).status == 404
    own_redis.heal()

    async def is_back() -> Series | None:
        series = await scrape(api.url)
        return series if series.value("junebug_up", server="redis") == 1 else None

    series = await eventually(is_back)
    assert series.total("junebug_http_requests_total", route="none", status="404") == 3, "counted meanwhile"
    assert series.total("junebug_http_requests_total", route="/channels", method="POST") == 1, "once, though it was tried again"
    own_redis.kill()
    assert (await scrape(api.url)).value("junebug_up", server="redis") == 0


async def test_without_rabbitmq_there_are_no_lengths(api: Api) -> None:
    channel = await api.create()
    await api.broker.close()
    series = await scrape(api.url)
    assert series.value("junebug_up", server="rabbitmq") == 0
    assert series.value("junebug_up", server="redis") == 1
    assert series.value("junebug_channel_info", channel_id=channel, type="plain") == 1
    assert series.all("junebug_outbound_queue_length") == {}
