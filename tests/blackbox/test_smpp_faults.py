"""Channel type smpp when things break (issue 3): the line cut at any byte, processes and servers killed under load.

What got a 201 is submitted, each receipt becomes its event, and a message is submitted twice only where nobody could know
whether it had arrived. The promises are those of test_faults.py, kept by another transport.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import DELIVER_SM, ENQUIRE_LINK, CuttingProxy, Submit, WireSmsc, deliver_body
from tests.blackbox.test_smpp import TO, config_for, smpp, until_status
from tests.blackbox.world import World, each_has_its_event, killing, load_on, server_of
from tests.harness import START_DEADLINE, THOROUGH, Channel, WebhookSink, gather_limited
from tests.polling import eventually

module_world = worlds.module_world
world = worlds.world
channels = worlds.channels

MESSAGES = 200 * THOROUGH
BURST = MESSAGES // 2
CUTS = 24 * THOROUGH
SEED = int(os.environ.get("JUNEBUG_TEST_SEED", random.randrange(1_000_000)))


@pytest.fixture
async def smsc() -> AsyncIterator[WireSmsc]:
    """It sends a receipt for each message, until that is acknowledged."""
    async with WireSmsc() as server:
        server.receipts = True
        yield server


async def each_is_submitted(accepted: dict[str, str], smsc: WireSmsc) -> None:
    """Every text that got a 201 has reached the SMSC."""
    await eventually(
        lambda: accepted.keys() <= {submit.text for submit in smsc.submits}, START_DEADLINE, "each accepted message"
    )


async def each_is_delivered(accepted: dict[str, str], sink: WebhookSink) -> None:
    """Every message that got a 201 has had its receipt's event."""

    def missing() -> set[str]:
        told = {body["message_id"] for body in sink.bodies("/event") if body["event_type"] == "delivery_succeeded"}
        return set(accepted.values()) - told

    try:
        await eventually(lambda: not missing(), START_DEADLINE, "each delivery event")
    except AssertionError as error:
        kept = missing()
        told = [(body["message_id"], body["event_type"]) for body in sink.bodies("/event") if body["message_id"] in kept]
        raise AssertionError(f"{error}: {[text for text, each in accepted.items() if each in kept]}, told: {told}") from None


def others(sink: WebhookSink) -> list[str]:
    """Events that say that something went wrong."""
    return [
        body["event_type"]
        for body in sink.bodies("/event")
        if body["event_type"] not in ("submitted", "delivery_succeeded")
    ]


async def test_the_line_cut_at_any_byte_loses_nothing_and_repeats_only_what_nobody_knows(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    print(f"\nJUNEBUG_TEST_SEED={SEED}")
    async with CuttingProxy(smsc, CUTS, SEED) as proxy:
        config = config_for(proxy.port, initial_reconnect_delay=0.01, max_reconnect_delay=0.05)
        channel = await channels.create("smpp", config)
        accepted: dict[str, str] = {}

        async def post(api_channel: Channel, n: int) -> None:
            sent = await api_channel.send(TO, f"text {n}", event_url=sink.url("/event"), **{"from": "8110"})
            accepted[sent["content"]] = sent["message_id"]

        async with channel.api.kept_alive() as api:
            kept = Channel(api, channel.created)
            # How many bytes lie between two cuts is drawn: what goes out goes on until all are made.
            while len(accepted) < MESSAGES or proxy.made < CUTS:
                assert len(accepted) < 10 * MESSAGES, f"{proxy.made} cuts in {len(accepted)} messages"
                first = len(accepted)
                await gather_limited(4, (post(kept, n) for n in range(first, first + BURST)))
                assert len(accepted) == first + BURST
                await each_is_submitted(accepted, smsc)
        await each_is_delivered(accepted, sink)
        assert others(sink) == []
        unexplained = [
            earlier.text
            for earlier, _ in repeats(smsc.submits)
            if (earlier.link.peer_port, earlier.sequence) in proxy.answered and earlier.link.peer_port not in proxy.reset
        ]
        count = len(smsc.submits) - len(accepted)
        print(f"{proxy.made} cuts, {len(smsc.binds)} binds, {count} repeated, {len(unexplained)} of them needlessly")
        assert unexplained == []
        assert len(proxy.answered) >= len(accepted)
        submitted = Counter(body["message_id"] for body in sink.bodies("/event") if body["event_type"] == "submitted")
        assert set(submitted) == set(accepted.values())


def repeats(submits: list[Submit]) -> list[tuple[Submit, Submit]]:
    """Each pair of one submit_sm and the next with the same text."""
    last: dict[str, Submit] = {}
    pairs = []
    for submit in submits:
        if submit.text in last:
            pairs.append((last[submit.text], submit))
        last[submit.text] = submit
    return pairs


async def test_a_channel_killed_under_load_loses_nothing(
    world: World, channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)

    async def worker_pid() -> int:
        return int(await eventually(lambda: world.junebug.channel_pids().get(channel.id, 0)))

    async with load_on(channel, TO, sink) as load:
        await killing(3, worker_pid, load)
    assert load.refused == 0
    await each_is_submitted(load.accepted, smsc)
    await each_is_delivered(load.accepted, sink)
    await each_has_its_event(load, sink)
    assert others(sink) == []


async def test_what_was_answered_before_a_kill_is_told_and_not_submitted_again(
    world: World, channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    """RabbitMQ has heard nothing of it. Its receipts, which come again at once, are told behind it."""
    channel, rabbitmq = await smpp(channels, smsc.port, window_size=20), server_of(world, "rabbitmq")
    smsc.on_submit = lambda submit: None
    texts = [*(f"text {number}" for number in range(10)), "of two parts " * 20]
    accepted = {text: (await channel.send(TO, text, event_url=sink.url("/event")))["message_id"] for text in texts}
    submits = list(await smsc.submitted(len(texts) + 1))
    link, pid = await smsc.bound(), world.junebug.channel_pids()[channel.id]
    rabbitmq.signal(signal.SIGSTOP)
    try:
        for submit in submits:
            smsc.accept(submit)
        for _ in range(2):  # then it has read what came before
            await link.request(ENQUIRE_LINK)
        os.kill(pid, signal.SIGKILL)
    finally:
        rabbitmq.signal(signal.SIGCONT)
    await each_is_delivered(accepted, sink)
    assert smsc.submits == submits
    for message_id in accepted.values():
        told = [body["event_type"] for body in sink.bodies("/event") if body["message_id"] == message_id]
        assert told[0] == "submitted", told


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
async def test_a_server_restarted_under_load_costs_no_message_and_no_receipt(
    world: World, channels: Channels, sink: WebhookSink, smsc: WireSmsc, name: str
) -> None:
    channel = await smpp(channels, smsc.port)
    server = server_of(world, name)
    async with load_on(channel, TO, sink) as load:
        await asyncio.to_thread(server.kill)
        refused = load.refused
        await eventually(lambda: load.refused > refused, what="a 503")
        phones = [asyncio.create_task(_until_taken(smsc, f"from the phone {n}")) for n in range(20)]
        await asyncio.to_thread(server.start)
    await each_is_submitted(load.accepted, smsc)
    await each_is_delivered(load.accepted, sink)
    await each_has_its_event(load, sink)
    assert others(sink) == []
    async with asyncio.timeout(START_DEADLINE):
        await asyncio.gather(*phones)
    wanted = {f"from the phone {n}" for n in range(20)}
    await eventually(lambda: wanted <= {body["content"] for body in sink.bodies("/mo")}, START_DEADLINE, "each MO")
    assert len(smsc.links) == 1, "the bind was lost"


async def _until_taken(smsc: WireSmsc, content: str) -> None:
    """As an SMSC does: again and again until the answer is 0."""

    async def is_taken() -> bool:
        return await smsc.deliver(TO, "8110", content.encode(), timeout=START_DEADLINE) == 0

    await eventually(is_taken, 2 * START_DEADLINE, f"the answer 0 to {content!r}")


async def test_a_message_is_acknowledged_only_once_rabbitmq_has_it(
    world: World, channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    link = await smsc.bound()

    async def is_logged() -> bool:
        return any("is it safe" in str(entry) for entry in await channel.logs())

    world.rabbitmq.signal(signal.SIGSTOP)
    try:
        answer = link.begin(DELIVER_SM, deliver_body(TO, "8110", b"is it safe"))
        await eventually(is_logged, what="the line of the log that is written just before RabbitMQ is told")
        await asyncio.wait([answer], timeout=0.3)
        assert not answer.done(), f"answered, and RabbitMQ knows nothing of it: {answer.result()}"
    finally:
        world.rabbitmq.signal(signal.SIGCONT)
    async with asyncio.timeout(START_DEADLINE):
        if (await answer).status != 0:
            await _until_taken(smsc, "is it safe")
    await sink.wait_content("/mo", "is it safe", START_DEADLINE)
    await until_status(channel, "bound")
