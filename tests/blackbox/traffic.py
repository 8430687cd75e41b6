"""Messages both ways on a channel, numbered, for as long as a fault test or the soak lasts, and what they owe to whom.

    Load       somebody who sends to one address through the API
    Traffic    a Load, a phone that speaks, and what the application and the phone are to get of both
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.blackbox.receiver import Key, Receiver
from tests.blackbox.smsc import WireSmsc
from tests.harness import START_DEADLINE, Api, Channel, TelnetClient
from tests.polling import eventually

PHONE, NUMBER = "+27820001111", "8110"
REFUSED_PAUSE = 0.1
"""Seconds after what was not accepted: a server that comes back needs the CPU."""


@dataclass
class Load:
    """Somebody who sends numbered texts to one address for as long as the block lasts, and counts the answers."""

    api: Api
    channel: Channel
    to: str
    event_url: str
    words: str = "text"
    pause: float = 0.02
    """Seconds after each."""
    refusals: frozenset[int] = frozenset({503})
    """What may be answered instead of 201."""
    accepted: dict[str, str] = field(default_factory=dict)
    """Text -> message id of each that got a 201."""
    refused: int = 0
    slowest: float = 0.0

    async def run(self) -> None:
        n = 0
        async with self.api.kept_alive() as api:
            while True:
                n += 1
                text = f"{self.words} {n}"
                body = {"to": self.to, "content": text, "event_url": self.event_url}
                began = time.monotonic()
                try:
                    answer = await api.post(f"{self.channel.path}/messages/", body)
                except aiohttp.ClientError:
                    self.refused += 1  # the API process was killed with our request in its hands: no 201, no promise
                    await asyncio.sleep(max(self.pause, REFUSED_PAUSE))
                    continue
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status == 201:
                    self.accepted[text] = answer.result["message_id"]
                else:
                    assert answer.status in self.refusals, answer
                    self.refused += 1
                await asyncio.sleep(self.pause if answer.status == 201 else max(self.pause, REFUSED_PAUSE))

    async def more(self, count: int = 50) -> None:
        """When so many more were accepted."""
        wanted = len(self.accepted) + count
        await eventually(lambda: len(self.accepted) >= wanted, START_DEADLINE, f"{count} more 201s")


class Listener:
    """Keeps what a telnet client is shown."""

    def __init__(self, client: TelnetClient) -> None:
        self.client = client
        self.heard: Counter[str] = Counter()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while line := await self.client.hear(timeout=3600):
            self.heard[line] += 1

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()


class Traffic:
    """One channel's. `application` gets its MOs and events."""

    def __init__(
        self,
        load: Load,
        *,
        reports: bool,
        echoes: bool = False,
        say: Callable[[str], Awaitable[None]] | None = None,
        heard: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        """`reports`: each MT is reported as delivered. `echoes`: and comes back as an MO. `say(text)` returns when the
        channel has the MO; `heard()` is what phones got.
        """
        self.load = load
        self.said: list[str] = []
        self._reports = reports
        self._echoes = echoes
        self._say = say
        self._heard = heard
        self._without_events: set[str] = set()

    @property
    def total(self) -> int:
        """MTs accepted and MOs said."""
        return len(self.load.accepted) + len(self.said)

    async def more(self, count: int) -> None:
        """When there are so many more."""
        wanted = self.total + count
        await eventually(lambda: self.total >= wanted, START_DEADLINE, f"{count} more on {self.load.words}")

    def forget_events(self) -> None:
        """Of what was accepted until now: where they go was lost with Redis' data."""
        self._without_events.update(self.load.accepted.values())

    def owed(self) -> Iterator[Key]:
        """To the application."""
        for text in self.said:
            yield ("mo", text)
        for text, message_id in self.load.accepted.items():
            if self._echoes:
                yield ("mo", text)
            if message_id not in self._without_events:
                yield ("event", message_id, "submitted")
                if self._reports:
                    yield ("event", message_id, "delivery_succeeded")

    def unheard(self) -> set[str]:
        """Accepted, and not yet at the phone."""
        return set(self.load.accepted) - set(self._heard()) if self._heard else set()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        tasks = [asyncio.create_task(self.load.run())]
        if self._say:
            tasks.append(asyncio.create_task(self._speak(self._say)))
        try:
            yield
            for task in tasks:
                assert not task.done(), task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _speak(self, say: Callable[[str], Awaitable[None]]) -> None:
        n = 0
        while True:
            n += 1
            text = f"from {self.load.words} {n}"
            await say(text)
            self.said.append(text)
            await asyncio.sleep(self.load.pause)


def loopback_traffic(channel: Channel, application: Receiver, pause: float) -> Traffic:
    load = Load(channel.api, channel, PHONE, application.url("/event"), f"loopback {channel.id[:8]}", pause)
    return Traffic(load, reports=True, echoes=True)


@asynccontextmanager
async def telnet_traffic(channel: Channel, application: Receiver, pause: float) -> AsyncIterator[Traffic]:
    client = await channel.connect()
    listener = Listener(client)
    await eventually(lambda: client.address in application.senders, START_DEADLINE, "the session's beginning")
    load = Load(channel.api, channel, client.address, application.url("/event"), f"telnet {channel.id[:8]}", pause)
    try:
        yield Traffic(load, reports=False, say=client.say, heard=lambda: listener.heard)
    finally:
        await listener.close()


def smpp_traffic(channel: Channel, application: Receiver, smsc: WireSmsc, pause: float) -> Traffic:
    """`smsc` must send receipts."""
    load = Load(channel.api, channel, PHONE, application.url("/event"), f"smpp {channel.id[:8]}", pause)

    async def say(text: str) -> None:
        """As an SMSC does: again and again until it is acknowledged."""
        while True:
            try:
                if await smsc.deliver(PHONE, NUMBER, text.encode()) == 0:
                    return
            except (TimeoutError, AssertionError):
                pass  # no bind for long
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task and task.cancelling():
                    raise
                # else the link broke before the answer
            await asyncio.sleep(0.1)

    return Traffic(load, reports=True, say=say, heard=lambda: (submit.text for submit in smsc.submits))


async def everything_arrives(traffic: Sequence[Traffic], application: Receiver, timeout: float = START_DEADLINE) -> None:
    """All that is owed, at the application and at the phones."""

    def missing() -> list[object]:
        unheard: list[object] = [text for each in traffic for text in each.unheard()]
        return unheard + [key for each in traffic for key in application.missing(each.owed())]

    try:
        await eventually(lambda: not missing(), timeout)
    except AssertionError:
        lost = missing()
        how = [await told_of(each.load.channel) for each in traffic]
        raise AssertionError("\n".join((f"{len(lost)} did not arrive: {lost[:10]}", *how))) from None


async def told_of(channel: Channel) -> str:
    """What its status and its log say of its troubles, and of the messages of which nothing was forwarded."""
    entries = await channel.logs(n=5000)
    forwarded = {entry.get("message_id") for entry in entries if entry["message"] == "forwarded"}
    stuck = [entry for entry in entries if entry.get("message_id") and entry["message_id"] not in forwarded]
    troubles = [entry for entry in entries if entry["level"] > logging.INFO]
    return f"{await channel.status()}\n{troubles[:40]}\nnothing was forwarded of: {stuck[:40]}"
