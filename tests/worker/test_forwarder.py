"""Callbacks that fail: kept on RabbitMQ, repeated, given up; a dead host holds up nobody and loses nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import standardwebhooks
from msgspec.structs import replace

from junebug import names
from junebug.model import event_batch
from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import Status, UserMessage, event_of
from junebug.model.spec import ChannelSpec, Launch
from junebug.stores import Stores
from junebug.worker import context
from junebug.worker.callbacks import delay_queues, destination, forwarder
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.process import ChannelWorker
from tests.polling import eventually
from tests.servers import free_port
from tests.worker.conftest import Application, Bench

either_kind = pytest.mark.parametrize("queue_type", ["classic", "quorum"])
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DELAYS = [0.2, 0.5]
PREFETCH = 60


@pytest.fixture
def quick(bench: Bench) -> Bench:
    """Pauses short enough to be waited for."""
    set_up(bench, callback_retry_delays=DELAYS)
    return bench


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> int:
    """More than the forwarder takes at once and calls at once."""
    monkeypatch.setattr(forwarder, "PREFETCH", PREFETCH)
    return PREFETCH + 60


def set_up(bench: Bench, **settings: Any) -> None:
    bench.settings = dataclasses.replace(bench.settings, **settings)


class Host(Application):
    """An application whose server comes and goes, always at the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(self.port)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def contents(self) -> list[Any]:
        return [body.get("content") for body in self.received]


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """Dead until it is started."""
    host = Host()
    yield host
    host.going_on.set()
    await host.stop()


def mo(content: str, sender: str = "+27") -> UserMessage:
    return UserMessage(to_addr="8000", from_addr=sender, content=content, transport_name="test")


async def receive(bench: Bench, channel: str, *messages: UserMessage) -> None:
    """As if the channel's transport had received these."""
    await bench.put(names.inbound_queue(channel), *(message.to_wire() for message in messages))


async def loopback(bench: Bench, **properties: Any) -> str:
    channel = await bench.channel("loopback", {"delivery_reports": False}, **properties)
    await bench.running(channel)
    return channel


async def waiting(bench: Bench, channel: str, of: str = "") -> int:
    """What lies in the channel's queues on its way to the application (or in its queues of one sort only)."""
    own = [bench.name(name(channel)) for name in (names.inbound_queue, names.event_queue, names.callback_queue)]
    queues = [name for name in (*own, *await bench.stores.delay_queues.noted(channel)) if f"{channel}.{of}" in name]
    return sum((await bench.broker.queue_lengths(queues)).values()) + bench.held(channel)


async def all_wait(bench: Bench, channel: str, count: int, of: str = "") -> None:
    """Until so many lie there."""

    async def they_do() -> bool:
        return await waiting(bench, channel, of) >= count

    await eventually(they_do)


async def has_none(bench: Bench, channel: str) -> None:
    """Until nothing waits any more."""

    async def it_has() -> bool:
        return not await waiting(bench, channel)

    await eventually(it_has)


async def dead_letters(bench: Bench, channel: str, count: int = 1) -> list[DeadLetter]:
    found: list[DeadLetter] = []

    async def visit(deliveries: Any) -> bool:
        found.extend(DeadLetter.from_wire(delivery.body) for delivery in deliveries)
        return True

    async def enough() -> bool:
        found.clear()
        await bench.broker.browse(bench.name(names.dead_queue(channel)), visit, keeping=True, exclusive=False)
        return len(found) >= count

    await eventually(enough)
    return found


async def change(bench: Bench, channel: str, **properties: Any) -> None:
    old = await bench.stores.channels.get(channel)
    new = ChannelSpec.from_properties(channel, old.to_properties() | properties)
    await bench.stores.channels.update(old, new, restart=False)


# --- a host that is dead, slow, or back again -------------------------------------------------------------------------


@either_kind
async def test_what_a_dead_host_could_not_take_arrives_once_it_lives(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n), f"+{n}") for n in range(200)))
    await all_wait(quick, channel, 100)
    await host.start()
    await host.wait(200)
    await has_none(quick, channel)
    assert Counter(host.contents()) == Counter(map(str, range(200)))


@either_kind
async def test_what_waits_comes_in_its_order(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(f"open-{n}", f"+{n}") for n in range(5)))
    await all_wait(quick, channel, 5)  # so many failures opened the circuit
    senders = [f"+{n}" for n in range(4)]
    await receive(quick, channel, *(mo(str(n), senders[n % 4]) for n in range(100)))
    await all_wait(quick, channel, 100)
    await host.start()
    await receive(quick, channel, *(mo(str(n), senders[n % 4]) for n in range(100, 200)))
    await host.wait(205)
    for sender in senders:
        contents = [body["content"] for body in host.received if body["from"] == sender]
        numbers = [int(content) for content in contents if "open" not in content]
        assert numbers == sorted(numbers)
        assert len(numbers) == 50


async def test_a_dead_host_is_left_alone_but_for_probes(quick: Bench, host: Host) -> None:
    set_up(quick, callback_retry_delays=[0.2, 3600.0])
    await host.start()
    host.always = 503
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n)) for n in range(300)))
    await all_wait(quick, channel, 295)
    await host.wait(6)  # five, and a probe
    assert len(host.received) == 6
    assert (await quick.component(channel, "callbacks"))["details"] == {"mo_url": "HTTP 503 Service Unavailable"}


async def test_a_dead_host_holds_up_no_other(quick: Bench, host: Host, many: int) -> None:
    channel = await loopback(quick)
    await host.start()
    host.going_on.clear()
    for n in range(many):
        await quick.send(channel, f"+{n}", f"dead {n}", host.url())
    for n in range(10):
        await quick.send(channel, f"+{n}", f"alive {n}", quick.app.url("/event"))

    async def alive() -> bool:
        return sum("event_type" in body for body in quick.app.received) >= 10

    await eventually(alive)
    host.going_on.set()

    async def all_there() -> bool:
        return len({body["message_id"] for body in host.received}) == many

    await eventually(all_there, 20)


@either_kind
async def test_a_slow_host_holds_up_no_other_and_gets_everything(quick: Bench, host: Host, many: int) -> None:
    set_up(quick, callback_concurrency=2)
    await host.start()
    host.going_on.clear()
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n), f"+{n}") for n in range(many)))
    slow = [await quick.send(channel, f"+{n}", "slow", host.url("/event")) for n in range(many)]
    quickly = [await quick.send(channel, f"+{n}", "quick", quick.app.url("/event")) for n in range(20)]
    await quick.app.wait(20)
    assert {body["message_id"] for body in quick.app.received} == {*quickly}
    host.going_on.set()

    async def all_there() -> bool:
        events = {body["message_id"] for body in host.received if "event_type" in body}
        return {*map(str, range(many))} <= set(host.contents()) and events == {*slow}

    await eventually(all_there, 60)
    await has_none(quick, channel)


@either_kind
@pytest.mark.parametrize("failure", [503, 500, "dead", "hanging"])
async def test_messages_of_one_address_keep_their_order_for_a_whole_outage(
    quick: Bench, host: Host, failure: int | str
) -> None:
    """From the first that fails to the last that waits, whatever restarts in between."""
    set_up(quick, callback_timeout=0.3)
    if failure != "dead":
        await host.start()
    if failure == "hanging":
        host.going_on.clear()
    host.always = failure if isinstance(failure, int) else 200
    channel = await loopback(quick, mo_url=host.url())
    for n in range(30):
        await receive(quick, channel, mo(str(n), f"+{n % 2}"))
    await all_wait(quick, channel, 30)
    assert await quick.stop(channel) == 0
    quick.start(channel)
    await receive(quick, channel, *(mo(str(n), f"+{n % 2}") for n in range(30, 40)))
    await all_wait(quick, channel, 40)
    host.received.clear()
    host.always = 200
    host.going_on.set()
    if failure == "dead":
        await host.start()

    async def all_there() -> bool:
        return {*map(str, range(40))} <= set(host.contents())

    await eventually(all_there)
    for address in (0, 1):
        first_times = list(dict.fromkeys(each for each in host.contents() if int(each) % 2 == address))
        assert first_times == [str(n) for n in range(address, 40, 2)]


@either_kind
@pytest.mark.parametrize("in_batches", [False, True])
async def test_events_of_one_message_keep_their_order_for_a_whole_outage(
    quick: Bench, host: Host, in_batches: bool
) -> None:
    channel = await loopback(quick)
    event = event_of(mo("x"), channel, "ack", sent_message_id="1")
    reports = [
        replace(event, event_type="delivery_report", delivery_status="pending", event_id=str(n))
        for n in range(30)
    ]
    events = [replace(each, event_url=host.url(), transport_metadata={"n": n}) for n, each in enumerate(reports)]
    wires = [each.to_wire() for each in events]
    await quick.put(names.event_queue(channel), *(event_batch.together(wires) if in_batches else wires))
    await all_wait(quick, channel, 30)
    await host.start()
    await host.wait(30)
    assert [body["event_details"]["n"] for body in host.received] == [*range(30)]


async def test_a_failed_callback_keeps_no_other_waiting_while_its_repeat_is_written(
    quick: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = asyncio.Event()

    async def never_done(self: DelayQueues, callback: Callback, delay: Any) -> None:
        writing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(DelayQueues, "put", never_done)
    set_up(quick, callback_concurrency=1)
    quick.app.statuses = {"bad": 400}
    channel = await loopback(quick)
    await receive(quick, channel, mo("bad", "+1"))
    await asyncio.wait_for(writing.wait(), 10)
    await receive(quick, channel, mo("good", "+2"))
    await quick.app.wait(2)
    assert quick.app.received[1]["content"] == "good"


@either_kind
async def test_a_short_retry_after_is_not_kept_up_by_a_long_one(quick: Bench) -> None:
    set_up(quick, callback_retry_delays=[2.0, 3600.0])  # in which the host shows that it lives
    quick.app.retry_after = {"long": "100", "short": "4"}
    quick.app.statuses = {"long": 429, "short": 429}
    channel = await loopback(quick, mo_url=None, amqp_queue=None)
    for n, content in enumerate(("long", "short")):
        callback = Callback(to="event_url", kind="inbound", id=str(n), wire=mo(content, f"+{n}").to_wire(), url=quick.app.url())
        await quick.put(names.callback_queue(channel), callback.to_wire())
    await quick.app.wait(2)
    good = Callback(to="event_url", kind="inbound", id="2", wire=mo("good", "+2").to_wire(), url=quick.app.url())
    await quick.put(names.callback_queue(channel), good.to_wire())  # so the host lives
    await all_wait(quick, channel, 2, "retry")
    quick.app.statuses = {}
    await quick.app.wait(4)
    assert quick.app.received[3]["content"] == "short"


async def test_one_message_that_the_application_cannot_bear_holds_up_no_other(quick: Bench, host: Host) -> None:
    await host.start()
    host.statuses = {f"poison {n}": 500 for n in range(8)}
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(f"poison {n}", f"+{n}") for n in range(8)))
    await host.wait(8)
    await receive(quick, channel, *(mo(str(n)) for n in range(20)))

    async def good_ones() -> bool:
        return {*map(str, range(20))} <= set(host.contents())

    await eventually(good_ones)


@either_kind
async def test_a_host_that_fails_again_while_it_is_drained_gets_all_in_the_end(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n)) for n in range(40)))
    await all_wait(quick, channel, 35)
    host.answers = [200, *[503] * 12]
    await host.start()

    async def all_there() -> bool:
        return set(host.contents()) == {*map(str, range(40))} and not host.answers

    await eventually(all_there)
    await has_none(quick, channel)
    assert len(host.received) == 40 + 12


@either_kind
async def test_a_restarted_worker_goes_on_with_what_waits(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n)) for n in range(50)))
    await all_wait(quick, channel, 45)
    assert await quick.stop(channel) == 0
    await host.start()
    quick.start(channel)
    await host.wait(50)
    await has_none(quick, channel)
    assert Counter(host.contents()) == Counter(map(str, range(50)))


@either_kind
async def test_an_emptied_redis_does_not_hide_what_waits(quick: Bench, host: Host) -> None:
    channel = await loopback(quick)
    for n in range(20):
        await quick.send(channel, "+27", str(n), host.url())
    await all_wait(quick, channel, 20, "backlog")
    await quick.stop(channel)
    queues = await quick.stores.delay_queues.noted(channel)
    await quick.stores.delay_queues.forget(channel, queues)
    await host.start()
    quick.start(channel)
    await quick.send(channel, "+27", "new", host.url())
    await host.wait(21)
    for name, about in queues.items():
        await quick.stores.delay_queues.note(channel, name, about, 60)  # so that they are removed


@either_kind
@pytest.mark.parametrize(("run_id", "after"), [("before", "UNNOTED_AFTER"), ("", "UNNOTED_AFTER"), (None, "UNLIKELY_AFTER")])
async def test_a_retry_queue_that_redis_has_forgotten_is_found(
    quick: Bench, run_id: str | None, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, where Redis was started again since, or nobody knows (an older Junebug's channel); else some day."""
    for name in ("UNNOTED_AFTER", "UNLIKELY_AFTER"):
        monkeypatch.setattr(context, name, (0.1, 0.2) if name == after else (3600.0, 3600.0))
    set_up(quick, callback_retry_delays=[2.0])
    channel = await loopback(quick)
    quick.app.statuses = {"bad": 500}
    await receive(quick, channel, mo("bad"), mo("good"))
    await all_wait(quick, channel, 1, "retry")
    await quick.stop(channel)
    queues = await quick.stores.delay_queues.noted(channel)
    await quick.stores.delay_queues.forget(channel, queues)
    if run_id is not None:
        details = {"run_id": run_id} if run_id else {}
        told = Status(channel_id=channel, component="redis", status="ok", type="connected", message="", details=details)
        await quick.stores.statuses.put(told)
    before = await quick.app.wait(2)
    count = len(before)
    quick.app.statuses = {}
    quick.start(channel)
    assert (await quick.app.wait(count + 1))[-1]["content"] == "bad"
    for name, about in queues.items():
        await quick.stores.delay_queues.note(channel, name, about, 60)  # so that they are removed


async def empty(bench: Bench, channel: str) -> dict[str, str]:
    """Redis forgets what waits and all that its process said; its spec the reconciler writes back. Returns the notes."""
    noted = await bench.stores.delay_queues.noted(channel)
    await bench.stores.channels._redis.run(("DEL", names.delay_queues(channel), names.channel_status(channel)))
    return noted


@either_kind
async def test_what_waits_is_noted_again_in_an_emptied_redis(quick: Bench, host: Host) -> None:
    """So that the next process finds it at once, and nobody reads that nothing waits."""
    set_up(quick, callback_retry_delays=[60.0])
    channel = await loopback(quick)
    quick.app.statuses = {"bad": 500}
    await receive(quick, channel, mo("bad"), mo("good"))
    await all_wait(quick, channel, 1, "retry")
    for n in range(20):
        await quick.send(channel, "+27", str(n), host.url())
    await all_wait(quick, channel, 15, "backlog")
    before = await empty(quick, channel)
    assert len(before) == 2
    await quick.stores.channels.notify_changed(channel)

    async def is_noted() -> bool:
        return await quick.stores.delay_queues.noted(channel) == before

    await eventually(is_noted)


@either_kind
async def test_what_a_process_left_that_was_killed_as_redis_was_emptied_is_found_at_once(
    quick: Bench, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UNNOTED_AFTER", "UNLIKELY_AFTER"):
        monkeypatch.setattr(context, name, (3600.0, 3600.0))
    set_up(quick, callback_retry_delays=[1.0] * 30)
    channel = await loopback(quick)
    quick.app.statuses = {"bad": 500}
    await receive(quick, channel, mo("bad"), mo("good"))
    await all_wait(quick, channel, 1, "retry")
    await change(quick, channel, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n)) for n in range(20)))
    await all_wait(quick, channel, 20)
    await quick.stop(channel)
    noted = await empty(quick, channel)
    ended = Status(channel_id=channel, component="worker", status="down", type="exited", message="Killed")
    await quick.stores.statuses.put(ended)  # as the supervisor says
    await host.start()
    read_stored = ChannelWorker._read_stored

    async def read_late(worker: ChannelWorker) -> Any:
        """As under load: by then this process has something to say, which was taken for what the one before it had said."""
        await worker._broker.wait_connected(10)
        for _ in range(50):
            await quick.stores.ping()
        return await read_stored(worker)

    monkeypatch.setattr(ChannelWorker, "_read_stored", read_late)
    quick.start(channel, Launch(restarts=1))
    await host.wait(21)
    assert Counter(host.contents()) == Counter(["bad", *map(str, range(20))])
    for name, about in noted.items():
        await quick.stores.delay_queues.note(channel, name, about, 60)  # so that they are removed


@either_kind
async def test_a_closed_circuit_works_without_a_detour_again(quick: Bench, host: Host) -> None:
    channel = await loopback(quick)
    waited = [await quick.send(channel, "+27", str(n), host.url()) for n in range(20)]
    await all_wait(quick, channel, 20, "backlog")
    await host.start()
    await host.wait(20)

    async def no_backlog() -> bool:
        return not any(".backlog." in name for name in await quick.stores.delay_queues.noted(channel))

    await eventually(no_backlog)
    direct = [await quick.send(channel, "+27", str(n), host.url()) for n in range(20)]
    await host.wait(40)
    assert await no_backlog()
    assert [body["message_id"] for body in host.received] == waited + direct


async def test_what_comes_while_a_backlog_is_opened_does_not_pass_what_waits_for_it(
    quick: Bench, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "PATIENCE", 0.05)
    monkeypatch.setattr(delay_queues, "SETTLING", 1.0)
    set_up(quick, callback_concurrency=1)
    await host.start()
    host.going_on.clear()
    channel = await loopback(quick)
    first, second = mo("first"), mo("second")

    async def tell(message: UserMessage, **fields: Any) -> None:
        event = replace(event_of(message, channel, **fields), event_url=host.url())
        await quick.broker.publish(names.event_queue(channel), event.to_wire())

    await tell(first, event_type="ack", sent_message_id="1")
    await tell(second, event_type="ack", sent_message_id="2")

    async def is_opened() -> bool:
        return any(".backlog." in queue for queue in quick._workers[channel]._dispatcher.delay_queues())

    await eventually(is_opened)
    await tell(second, event_type="delivery_report", delivery_status="delivered")
    host.going_on.set()
    await host.wait(3)
    of_second = [body["event_type"] for body in host.received if body["message_id"] == second.message_id]
    assert of_second == ["submitted", "delivery_succeeded"]


async def test_nothing_is_put_into_a_backlog_that_is_being_deleted(
    quick: Bench, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ confirms what it throws away with a queue that it is deleting (measured with 3.10: of four publishers, one message
    each at every deletion of an empty queue).
    """
    monkeypatch.setattr(destination, "PATIENCE", 0.05)
    set_up(quick, callback_concurrency=3)
    channel = await loopback(quick)
    broker = quick._workers[channel]._broker
    is_deleting, goes_on = asyncio.Event(), asyncio.Event()

    async def delete(queue: str) -> bool:
        is_deleting.set()
        await goes_on.wait()
        return bool(await quick.broker.delete_queues([queue])) or True  # with what has come meanwhile

    monkeypatch.setattr(broker, "delete_idle_queue", delete)
    ids = [await quick.send(channel, "+27", str(n), host.url()) for n in range(5)]
    await all_wait(quick, channel, 5, "backlog")
    await host.start()
    await asyncio.wait_for(is_deleting.wait(), 20)
    host.going_on.clear()
    ids += [await quick.send(channel, "+27", str(n), host.url()) for n in range(20)]

    async def more_waits() -> bool:
        return any(".backlog." in queue for queue in quick._workers[channel]._dispatcher.delay_queues())

    await eventually(more_waits)
    for _ in range(20):  # as often as it takes to publish, and more
        await quick.broker.queue_length(names.event_queue(channel))
    goes_on.set()
    host.going_on.set()

    async def all_are_told() -> bool:
        return {body["message_id"] for body in host.received} == {*ids}

    await eventually(all_are_told)


# --- settings that change meanwhile -----------------------------------------------------------------------------------


@either_kind
async def test_what_waits_for_an_old_url_goes_to_the_new_one(quick: Bench, host: Host) -> None:
    set_up(quick, callback_retry_delays=[0.2, 3600.0])
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(str(n), f"+{n % 7}") for n in range(100)))
    await all_wait(quick, channel, 50)
    await change(quick, channel, mo_url=quick.app.url("/new"))

    async def all_there() -> bool:
        return len({body["content"] for body in quick.app.received}) >= 50

    await eventually(all_there)

    async def is_ok() -> bool:
        return (await quick.component(channel, "callbacks"))["status"] == "ok"

    await eventually(is_ok)


async def test_what_waits_for_a_url_that_was_removed_is_done(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url(), amqp_queue=f"app-{free_port()}")
    await receive(quick, channel, *(mo(str(n)) for n in range(30)))
    await all_wait(quick, channel, 25)
    await change(quick, channel, mo_url=None, amqp_queue=None)
    await has_none(quick, channel)


# --- what is repeated, and what is given up ---------------------------------------------------------------------------


async def test_every_attempt_has_the_same_id_and_body_and_a_signature(quick: Bench) -> None:
    quick.app.answers = [500, 503]
    channel = await loopback(quick, callback_secret=SECRET)
    message = mo("signed")
    await receive(quick, channel, message)
    first, second, third = (await quick.app.wait(3))[:3]
    assert first == second == third
    for request in quick.app.requests:
        assert request.headers["Webhook-Id"] == message.message_id
        body = orjson.dumps(first).decode()
        assert standardwebhooks.Webhook(SECRET).verify(body, dict(request.headers)) == first


async def test_the_settings_secret_signs_where_the_channel_has_none(quick: Bench) -> None:
    set_up(quick, callback_secret=SECRET)
    channel = await loopback(quick)
    await receive(quick, channel, mo("signed"))
    (body,) = await quick.app.wait(1)
    standardwebhooks.Webhook(SECRET).verify(orjson.dumps(body).decode(), dict(quick.app.requests[0].headers))


async def test_urls_may_be_templates(quick: Bench) -> None:
    channel = await loopback(quick, mo_url=quick.app.url("/mo/") + "{from}{?content}")
    await quick.send(channel, "+27", "a&b", quick.app.url("/event/") + "{event_type}{?message_id}")
    await quick.app.wait(2)
    assert {request.rel_url.raw_path.split("/")[1]: request.rel_url.raw_path for request in quick.app.requests} == {
        "mo": "/mo/%2B27",
        "event": "/event/submitted",
    }
    assert {request.query.get("content") for request in quick.app.requests} == {"a&b", None}


@either_kind
async def test_a_refused_callback_is_tried_five_times_and_then_a_dead_letter(quick: Bench) -> None:
    quick.app.statuses = {"bad": 422}
    channel = await loopback(quick)
    message = mo("bad")
    await receive(quick, channel, message)
    (letter,) = await dead_letters(quick, channel)
    assert len(quick.app.received) == 5
    assert (letter.reason, letter.error) == ("refused", "HTTP 422 Unprocessable Entity")
    assert letter.callback
    assert (letter.callback.to, letter.callback.id, letter.callback.attempts) == ("mo_url", message.message_id, 5)
    assert UserMessage.from_wire(letter.callback.wire) == message


@pytest.mark.parametrize(
    ("event_url", "event_auth_token"),
    [
        ("no url", None), ("ftp://host/", None), ("http://a%3Ab:pw@host/", None), ("http://h:0/", None), ("http://xn--/", None),
        ("http://h/\n", None), ("http://127.0.0.1/", "a\r\nX: y"), ("//h/", None), ("http://{event_type}/", None),
    ],
)  # fmt: skip
async def test_an_event_url_that_can_never_be_called_makes_a_dead_letter_at_once(
    quick: Bench, event_url: str, event_auth_token: str | None
) -> None:
    channel = await loopback(quick)
    message = UserMessage(
        to_addr="1", from_addr=None, content="x", transport_name=channel, event_url=event_url,
        event_auth_token=event_auth_token,
    )  # fmt: skip
    event = event_of(message, channel, "ack")
    await quick.put(names.event_queue(channel), event.to_wire())
    (letter,) = await dead_letters(quick, channel)
    assert (letter.reason, letter.callback and letter.callback.attempts) == ("refused", 0)
    assert "pw" not in letter.error


async def test_what_fails_for_too_long_is_a_dead_letter(quick: Bench, host: Host) -> None:
    set_up(quick, callback_max_age=1.0)
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, mo("lost"))
    (letter,) = await dead_letters(quick, channel)
    assert letter.reason == "too_old"
    assert "cannot connect" in letter.error


async def test_what_waited_for_too_long_is_a_dead_letter_when_it_comes_by(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, mo_url=host.url())
    await receive(quick, channel, *(mo(f"open-{n}", f"+{n}") for n in range(5)))
    await all_wait(quick, channel, 5)
    old = Callback(to="mo_url", kind="inbound", id="1", wire=mo("old").to_wire(), since=0.0)
    await quick.put(names.callback_queue(channel), old.to_wire())
    (letter,) = await dead_letters(quick, channel)
    assert (letter.reason, letter.callback and letter.callback.id) == ("too_old", "1")
    assert "cannot connect" in letter.error


@either_kind
async def test_unreadable_callbacks_are_dead_letters(quick: Bench) -> None:
    channel = await loopback(quick)
    bad = Callback(to="mo_url", kind="inbound", id="1", wire=b'{"to_addr": 5}').to_wire()
    for body in (b"{broken", b"{}", bad):
        await quick.put(names.callback_queue(channel), body)
    letters = await dead_letters(quick, channel, 3)
    assert {(letter.reason, letter.queue) for letter in letters} == {("unreadable", quick.name(names.callback_queue(channel)))}
    assert {letter.body for letter in letters} == {b"{broken", b"{}", bad}


async def test_retry_after_is_honoured_for_one_message(quick: Bench) -> None:
    channel = await loopback(quick)
    later = Callback(to="mo_url", kind="inbound", id="1", wire=mo("later").to_wire())
    await quick.put(names.callback_queue(channel), later.to_wire())
    await quick.app.wait(1)
    assert await waiting(quick, channel) == 0


async def test_a_message_is_counted_once_however_often_it_is_repeated(quick: Bench) -> None:
    set_up(quick, metric_window=3600.0)
    quick.app.answers = [500, 500, 500]
    channel = await loopback(quick)
    await receive(quick, channel, mo("counted"))
    await quick.app.wait(4)

    stores = Stores(quick.settings)

    async def rate() -> float:
        return (await stores.rates.rates(channel, time.time() + 3600))["inbound_message"]  # of the present window

    assert await eventually(rate) == 1 / 3600
    await quick.stop(channel)  # which saves what it has counted
    assert await rate() == 1 / 3600
    await stores.close()


# --- more than one destination ----------------------------------------------------------------------------------------


async def test_a_dead_event_url_does_not_hold_up_the_queue(quick: Bench, host: Host) -> None:
    queue = f"app-{free_port()}"
    queues = [names.inbound_queue(queue), names.event_queue(queue)]
    await quick.broker.declare({name: {} for name in queues}, bind=True, remember=False)
    channel = await loopback(quick, amqp_queue=queue)
    await host.start()
    host.going_on.clear()
    ids = [await quick.send(channel, f"+{n}", str(n), host.url()) for n in range(100)]

    async def all_there() -> bool:
        return (await quick.broker.queue_lengths(queues))[queues[1]] == len(ids)

    await eventually(all_there)
    assert len(host.received) <= len(ids)
    await quick.broker.delete_queues([*queues, names.outbound_queue(queue)])


# --- statuses ---------------------------------------------------------------------------------------------------------


async def test_a_failed_status_is_repeated_unless_a_newer_one_is_there(quick: Bench, host: Host) -> None:
    channel = await loopback(quick, status_url=host.url("/status"))

    async def tell(component: str, type: str, timestamp: str) -> None:
        status = Status(
            channel_id=channel, component=component, status="ok", type=type, message="x", timestamp=timestamp
        )
        await quick.broker.publish(names.status_queue(channel), status.to_wire())

    await tell("link", "old", "2026-11-24 10:00:00.000000")
    await tell("other", "only", "2026-11-24 10:00:00.000000")
    await all_wait(quick, channel, 7)  # behind the five of the worker's own that opened the circuit
    await tell("link", "new", "2026-11-24 10:00:01.000000")
    await host.start()

    async def told() -> set[tuple[str, str]]:
        return {(b["component"], b["type"]) for b in host.received} & {("link", "new"), ("other", "only")}

    async def both() -> bool:
        return len(await told()) == 2

    await eventually(both)
    await has_none(quick, channel)
    assert "old" not in {body["type"] for body in host.received}


async def test_an_event_finds_its_url_without_redis(bench: Bench) -> None:
    channel = await bench.channel("loopback", {"delivery_reports": False}, mo_url=None, amqp_queue=None)
    await bench.running(channel)
    message = UserMessage(
        to_addr="1", from_addr=None, content="x", transport_name=channel, event_url=bench.app.url("/event"),
        event_auth_token="sesame",
    )  # fmt: skip
    await bench.broker.publish(bench.layout().queue(channel), message.to_wire())  # Redis has never heard of it
    (event,) = await bench.app.wait(1)
    assert (event["event_type"], event["message_id"]) == ("submitted", message.message_id)
    assert bench.app.requests[0].headers["Authorization"] == "Token sesame"


async def test_a_batch_of_events_is_kept_until_the_last_of_them_is_safe(
    quick: Bench, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "PATIENCE", 60.0)
    set_up(quick, stop_timeout=1.0)
    await host.start()
    host.going_on.clear()
    channel = await loopback(quick)
    urls = [quick.app.url("/1"), host.url("/2"), quick.app.url("/3")]
    acks = [event_of(mo(url), channel, "ack", sent_message_id="1") for url in urls]
    events = [replace(ack, event_url=url).to_wire() for ack, url in zip(acks, urls, strict=True)]
    await quick.put(names.event_queue(channel), *event_batch.together(events))
    await quick.app.wait(2)
    await host.wait(1)
    await quick.stop(channel)
    assert await quick.length(names.event_queue(channel)) == 1
    host.going_on.set()
    quick.start(channel)
    await quick.app.wait(4)
    await has_none(quick, channel)
    told = Counter(body["message_id"] for body in quick.app.received)
    assert told == {acks[0].user_message_id: 2, acks[2].user_message_id: 2}
    assert {body["message_id"] for body in host.received} == {acks[1].user_message_id}


async def test_of_a_batch_of_events_only_the_unreadable_one_is_a_dead_letter(quick: Bench) -> None:
    channel = await loopback(quick)
    acks = [event_of(mo(str(n)), channel, "ack", sent_message_id="1") for n in range(3)]
    wires = [replace(ack, event_url=quick.app.url()).to_wire() for ack in acks]
    bad = b'{"event_type":8}'
    await quick.put(names.event_queue(channel), b"\n".join([wires[0], bad, *wires[1:]]))
    await quick.app.wait(3)
    assert {body["message_id"] for body in quick.app.received} == {ack.user_message_id for ack in acks}
    (letter,) = await dead_letters(quick, channel)
    assert (letter.reason, letter.body) == ("unreadable", bad)
    await has_none(quick, channel)
