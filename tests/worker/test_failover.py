"""What a router gave a channel that is down leaves by another one; nothing else does."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState, routed, state_of
from junebug.model.spec import ChannelSpec
from junebug.worker import failover
from tests.polling import eventually
from tests.tables import rows
from tests.worker.conftest import Bench


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(failover, "GRACE", 0.0)


async def two_channels(bench: Bench) -> tuple[str, str, str]:
    first, second = [await bench.channel("loopback", {}, mo_url=bench.app.url(f"/{name}")) for name in "ab"]
    for channel in (first, second):
        await bench.running(channel)
    channels = [{"channel": first, "weight": 1}, {"channel": second, "weight": 0}]
    router = await bench.router("outbound", {"channels": channels})
    await bench.running(router)
    return first, second, router


async def pause(bench: Bench, channel: str, paused: bool | None) -> None:
    spec = await bench.stores.channels.get(channel)
    await bench.stores.channels.update(spec, dataclasses.replace(spec, paused=paused), restart=False)


async def gives(bench: Bench, channel: str, *messages: UserMessage) -> None:
    for each in messages:
        await bench.stores.outbound.put(channel, each)
        await bench.broker.publish(names.outbound_queue(channel), each.to_wire())


def message(content: str, router: str = "", **fields: str) -> UserMessage:
    made = UserMessage(to_addr="+27", from_addr=None, content=content, transport_name="x", **fields)
    return routed(made, router, "app") if router else made


@pytest.mark.parametrize("is_running", [True, False])
async def test_what_waits_for_a_channel_that_is_down_leaves_by_another(bench: Bench, is_running: bool) -> None:
    first, second, router = await two_channels(bench)
    await pause(bench, first, True)
    if not is_running:
        await bench.stop(first)
    await gives(bench, first, *(message(str(number), router, event_url=bench.app.url("/event")) for number in range(20)))
    own, reply = message("its own"), replace(message("a reply", router), in_reply_to="a message that came by it")
    await gives(bench, first, own, reply)
    urgent = message("20", router, event_url=bench.app.url("/event"))
    await bench.stores.channels.note_priorities(first, (5,))
    await bench.broker.declare({names.outbound_queue(first, 5): {}}, remember=False)
    await bench.broker.publish(names.outbound_queue(first, 5), urgent.to_wire())

    async def echoed() -> bool:
        return len([body for body in bench.app.received if body.get("content") is not None]) == 21

    await eventually(echoed)
    echoes = [body for body in bench.app.received if body.get("content") is not None]
    assert {body["channel_id"] for body in echoes} == {second}
    assert sorted(int(body["content"]) for body in echoes) == list(range(21))

    async def told() -> bool:
        return len([body for body in bench.app.received if body.get("event_type") == "submitted"]) == 21

    await eventually(told)
    events = [body for body in bench.app.received if "event_type" in body]
    assert {body["channel_id"] for body in events} == {second}  # which sent it
    assert 5 in (await bench.stores.channels.get(second)).noted_priorities  # an urgent one stays one
    (note,) = await bench.stores._redis.run(("HGET", names.outbound_message(router, events[0]["message_id"]), "channel"))
    assert note == second
    await pause(bench, first, None)
    if not is_running:
        bench.start(first)

    async def sent() -> bool:
        return {"its own", "a reply"} <= {body.get("content") for body in bench.app.received}

    await eventually(sent)
    assert {body["channel_id"] for body in bench.app.received if body.get("content") in ("its own", "a reply")} == {first}


async def test_where_no_other_channel_can_send_it_waits(bench: Bench) -> None:
    first, second, router = await two_channels(bench)
    await pause(bench, first, True)
    await pause(bench, second, True)
    await gives(bench, first, message("waits", router))
    await failover.channel_states(bench.stores, [first, second])
    assert await bench.broker.queue_length(names.outbound_queue(first)) == 1
    await pause(bench, first, None)
    await bench.app.wait(1)
    assert bench.app.received[0]["channel_id"] == first


@rows(
    ("paused", "components", "expected"),
    [
        (True, {"smpp": {"status": "ok"}}, ChannelState(False, "paused")),
        (False, {}, ChannelState(False, "it has not started yet")),
        (False, {"smpp": {"status": "ok"}, "worker": {"status": "degraded"}}, ChannelState(True, "ok")),
        (False, {"a": {"status": "ok"}, "smpp": {"status": "down", "type": "connection_lost"}},
         ChannelState(False, "smpp: connection_lost")),
    ],
)  # fmt: skip
def test_whether_a_channel_could_send(paused: bool, components: dict, expected: ChannelState) -> None:
    assert state_of(ChannelSpec(id="c", type="telnet", config={}, paused=paused), components) == expected
