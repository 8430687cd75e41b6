"""A link to the simulated SMSC through a proxy that cuts the connection at random bytes: nothing lost, nothing doubled
whose outcome was known, every receipt arrives.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Self

import pytest

from junebug.runtime import backoff
from junebug.smpp import constants as c
from junebug.smpp.bind import PersistentBind
from junebug.smpp.options import BindOptions
from junebug.smpp.pdu import SubmitSm
from junebug.smpp.pending import NotWritten, ResponseLost
from junebug.smpp.simulator.smsc import Smsc, SmscOptions
from tests.polling import eventually
from tests.smpp.peer import Log

MESSAGES = 500
CUTS = 60


class CuttingProxy:
    """Lets each connection live for a random number of bytes, both ways together; after `cuts` of them for ever."""

    def __init__(self, port: int, cuts: int, longest: int, chance: random.Random) -> None:
        self.cut = 0
        self._target = port
        self._cuts = cuts
        self._longest = longest
        self._chance = chance
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        budget = self._chance.randint(1, self._longest) if self.cut < self._cuts else 1 << 62
        ends = [writer, there_writer]

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal budget
            while budget > 0 and (data := await source.read(min(budget, 65536))):
                target.write(data[:budget])
                budget -= len(data)
            if budget <= 0:
                self.cut += 1
            for each in ends:
                # half the time what is on its way arrives, half the time it does not
                each.close() if self._chance.random() < 0.5 else each.transport.abort()
            for task in tasks:
                task.cancel()

        tasks = [
            asyncio.create_task(pump(reader, there_writer)),
            asyncio.create_task(pump(there_reader, writer)),
        ]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


@pytest.mark.parametrize("seed", [1, 2])
async def test_cut_at_any_byte_nothing_is_lost_and_only_the_unknown_is_doubled(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(backoff, "SHORTEST", 0.001)  # cut so often, it would spend its time in pauses
    monkeypatch.setattr(backoff, "SHORTEST_GROWN", 0.01)
    chance = random.Random(seed)
    unknown: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    phone = Log(answer=True)
    options = SmscOptions(port=0, receipt_delay=0.0, retry_delay=0.01, keep=100_000)
    async with Smsc(options) as smsc, CuttingProxy(smsc.port, CUTS, 4000, chance) as proxy:
        bind = PersistentBind(
            BindOptions(
                host="127.0.0.1",
                port=proxy.port,
                initial_reconnect_delay=0.001,
                max_reconnect_delay=0.01,
            ),
            on_state=lambda event: None,
            on_request=phone.on_request,
        )
        bind.start()

        async def send(content: str) -> None:
            message = SubmitSm(destination_addr="27831234567", registered_delivery=1, short_message=content.encode())
            while True:
                await eventually(lambda: bind.bound)
                try:
                    await bind.request(message)
                except NotWritten:
                    await asyncio.sleep(0.001)
                except ResponseLost:
                    unknown[content] += 1
                else:
                    answered[content] += 1
                    return

        left = iter(range(MESSAGES))

        async def sender() -> None:
            for number in left:
                await send(f"message {number}")
                if proxy.cut < CUTS:
                    await asyncio.sleep(0.005)  # spread over all the cuts

        async with asyncio.timeout(60):
            await asyncio.gather(*(sender() for _ in range(10)))
        await eventually(lambda: all(message.receipts for message in smsc.messages.values()), 30)
        await bind.stop()
    arrived = Counter(message.content for message in smsc.messages.values())
    assert proxy.cut >= CUTS // 2
    assert set(arrived) == {f"message {number}" for number in range(MESSAGES)}
    assert set(answered.values()) == {1}
    for content, copies in arrived.items():
        assert copies <= 1 + unknown[content], content
    receipted = {pdu.tlvs[c.RECEIPTED_MESSAGE_ID].rstrip(b"\0").decode() for pdu in phone.requests}
    assert receipted == set(smsc.messages)
