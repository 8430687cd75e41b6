"""An application that fails for a while, in each way in which one can, under steady traffic on three types of channel.

Every MO and every event arrives; what the application was able to acknowledge arrives once, and it is probed, not hammered.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels
from tests.blackbox.receiver import WAYS, Receiver
from tests.blackbox.smsc import WireSmsc
from tests.blackbox.test_smpp import smpp
from tests.blackbox.traffic import everything_arrives, loopback_traffic, smpp_traffic, telnet_traffic
from tests.harness import THOROUGH, Channel
from tests.polling import eventually

FLAGS = {"callback-retry-delays": "0.2,0.5,1", "callback-timeout": 1, "max-logs": 5000}
PAUSE = 0.1
"""Seconds between two messages of a channel: the traffic goes on for as long as servers take to come back."""
CONCURRENCY = 50
"""callback_concurrency: calls under way to one host, for each channel."""
MANY = 8 * THOROUGH
"""Messages of one channel in each phase of a test."""

module_world = worlds.module_world
world = worlds.world
application = worlds.application
channels = worlds.application_channels


@pytest.mark.parametrize("way", WAYS)
async def test_an_application_that_fails_for_a_while_gets_everything(
    channels: Channels, application: Receiver, way: str
) -> None:
    async with AsyncExitStack() as stack:
        smsc = await stack.enter_async_context(WireSmsc())
        smsc.receipts = True
        loopback, telnet, over_smpp = await asyncio.gather(
            channels.loopback(), channels.telnet(), smpp(channels, smsc.port)
        )
        traffic = [
            loopback_traffic(loopback, application, PAUSE),
            await stack.enter_async_context(telnet_traffic(telnet, application, PAUSE)),
            smpp_traffic(over_smpp, application, smsc, PAUSE),
        ]
        async with AsyncExitStack() as flowing:
            for each in traffic:
                await flowing.enter_async_context(each.flowing())
            await asyncio.gather(*(each.more(MANY) for each in traffic))
            async with application.failing(way):
                if way not in ("slow", "10 MB"):  # these are failures only now and then, and never
                    await asyncio.gather(*map(degraded, (loopback, telnet, over_smpp)))
                await asyncio.gather(*(each.more(MANY) for each in traffic))
                failed, untold = application.failed, application.untold
            await asyncio.gather(*(each.more(MANY) for each in traffic))
        await everything_arrives(traffic, application)
        count = sum(each.total for each in traffic)
        print(f"\n{way}: {count} messages, {len(application.taken)} callbacks, {failed} calls failed, {untold} taken but "
              f"untold, {application.repeats} repeated")  # fmt: skip
        assert application.needless == 0, "what it had acknowledged came again"
        assert application.repeats <= application.untold
        if way in ("hanging", "500", "503"):
            assert failed <= 3 * 2 * CONCURRENCY, "it was hammered"
        for channel in (loopback, telnet, over_smpp):
            await eventually(lambda channel=channel: is_calm(channel), what="a channel without a trouble")


async def degraded(channel: Channel) -> None:
    async def it_is() -> bool:
        return (await channel.component("callbacks")).get("status") == "degraded"

    await eventually(it_is, what="callbacks degraded")


async def is_calm(channel: Channel) -> bool:
    status = await channel.status()
    waiting, dead = status["callbacks_waiting"], status["dead_letters"]
    assert dead == 0, status
    return bool(status["status"] == "ok" and waiting == 0)
