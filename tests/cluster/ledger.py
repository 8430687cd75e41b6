"""What is counted in the laboratory: what was sent through whom, and what the SMSC and the application saw of it.

    CountingSmsc   notes two binds of one system_id at a time, and what comes by a bind after a moment
    Traffic        numbered texts to each channel, through the API of whichever host answers
    Row            what one scenario came to
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

import aiohttp

from tests.blackbox.receiver import Receiver
from tests.blackbox.smsc import DELIVER_SM, Frame, SmscLink, Submit, WireSmsc, deliver_body
from tests.harness import Api
from tests.polling import eventually

ANSWER_TIMEOUT = 3.0
"""Seconds after which a sender tries another host's API."""
PAUSE = 0.1
TO = "+27820001111"


class CountingSmsc(WireSmsc):
    """`has_open(link)`: whether the ESME's side of a connection is still open. Of one whose net is cut nothing is heard here."""

    def __init__(self, host: str = "127.0.0.1", has_open: Callable[[SmscLink], bool] = lambda link: link.is_open) -> None:
        super().__init__(host=host)
        self.doubles: list[str] = []
        """Who bound while a bind of his was there, or sent by one after he had a newer."""
        self.owners: dict[SmscLink, str] = {}
        self._has_open = has_open

    def _bind(self, link: SmscLink, frame: Frame) -> None:
        super()._bind(link, frame)
        owner = self.binds[-1].system_id
        self.doubles += [owner for other in self.links_of(owner) if not other.unbound and self._has_open(other)]
        self.owners[link] = owner

    def take(self, link: SmscLink, frame: Frame) -> None:
        super().take(link, frame)
        if (owner := self.owners.get(link)) and self.links_of(owner)[-1] is not link:
            self.doubles.append(f"{owner}: PDU {frame.command_id:#x} of an older bind")

    def links_of(self, owner: str) -> list[SmscLink]:
        """In the order of their binds."""
        return [link for link, each in self.owners.items() if each == owner]

    def bound(self) -> list[str]:
        """Who is, by the newest bind of each."""
        newest = {owner: link for link, owner in self.owners.items()}
        return [owner for owner, link in newest.items() if link.is_open and not link.unbound]

    def heard(self) -> Counter[str]:
        return Counter(submit.text for submit in self.submits)

    def after(self, links: Iterable[SmscLink], moment: float) -> list[Frame]:
        """What came by them after it."""
        return [frame for link in links for frame in link.received if frame.at > moment]

    def resumed(self, owner: str, but: Iterable[SmscLink]) -> Submit | None:
        """The first submit_sm of his by none of these."""
        links = {*self.links_of(owner)} - {*but}
        return next((submit for submit in self.submits if submit.link in links), None)


class Traffic:
    """`channels`: system_id -> channel id. `smsc`: who has messages for them, too; None: nobody."""

    def __init__(
        self, apis: Sequence[Api], channels: Mapping[str, str], application: Receiver, words: str, smsc: CountingSmsc | None
    ) -> None:
        self._smsc = smsc
        self.received: set[str] = set()
        """Texts of MOs that a channel has acknowledged."""
        self.accepted: dict[str, str] = {}
        """Text -> message id of each that got a 201."""
        self.refused = 0
        """Attempts that got no 201: nothing was promised."""
        self._urls = [api.url for api in apis]
        self._channels = channels
        self._application = application
        self._words = words

    async def more(self, count: int) -> None:
        """When so many more of each channel were accepted."""
        wanted = {owner: self._count(owner) + count for owner in self._channels}
        await eventually(lambda: all(self._count(each) >= number for each, number in wanted.items()), what=f"{count} more 201s")

    def _count(self, owner: str) -> int:
        return sum(text.endswith(f" {owner}") for text in self.accepted)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_TIMEOUT)) as session:
            tasks = [asyncio.create_task(self._send(session, n, *each)) for n, each in enumerate(self._channels.items())]
            if self._smsc:
                tasks += [asyncio.create_task(self._receive(self._smsc, owner)) for owner in self._channels]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                failures = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(each, Exception)]
                assert not failures, failures

    async def _send(self, session: aiohttp.ClientSession, first: int, owner: str, channel: str) -> None:
        urls = itertools.islice(itertools.cycle(self._urls), first, None)
        url = next(urls)
        for n in itertools.count(1):
            text = f"{self._words} {n} {owner}"
            body = {"to": TO, "content": text, "event_url": self._application.url("/event")}
            try:
                async with session.post(f"{url}/channels/{channel}/messages/", json=body) as response:
                    answer = await response.json()
                    assert response.status in (201, 503), answer
                    is_taken = response.status == 201
            except (aiohttp.ClientError, TimeoutError):
                is_taken = False
            if is_taken:
                self.accepted[text] = answer["result"]["message_id"]
            else:
                self.refused += 1
                url = next(urls)
            await asyncio.sleep(PAUSE)

    async def _receive(self, smsc: CountingSmsc, owner: str) -> None:
        for n in itertools.count(1):
            text = f"{self._words} to us {n} {owner}"
            links = smsc.links_of(owner)
            if links and links[-1].receives:
                try:
                    answer = await links[-1].request(DELIVER_SM, deliver_body(TO, "8110", text.encode()), ANSWER_TIMEOUT)
                except (TimeoutError, asyncio.CancelledError):
                    if asyncio.current_task().cancelling():  # type: ignore[union-attr] - else the link is lost
                        raise
                else:
                    if answer.status == 0:
                        self.received.add(text)
            await asyncio.sleep(PAUSE)

    def untold(self) -> list[str]:
        """Accepted, and the application has not heard that they were submitted; or received, and it has not got them."""
        owed: dict[tuple[str, ...], str] = {("event", id, "submitted"): text for text, id in self.accepted.items()}
        owed |= {("mo", text): text for text in self.received}
        return [owed[key] for key in self._application.missing(owed)]


@dataclass
class Row:
    """`seconds`: until each channel that was hit sent again, and the slowest of them. `late`: PDUs after the fence."""

    scenario: str
    channels: int = 0
    accepted: int = 0
    refused: int = 0
    lost: int = 0
    untold: int = 0
    repeated: int = 0
    doubles: int = 0
    late: int = 0
    seconds: float = 0.0

    @staticmethod
    def table(rows: Sequence[Row]) -> str:
        names = [each.name for each in fields(Row)]
        lines = [names, *([row.cell(name) for name in names] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)

    def cell(self, name: str) -> str:
        value = getattr(self, name)
        return f"{value:.1f}" if isinstance(value, float) else str(value)


class Ledger:
    """One scenario's: `hit` marks the moment, `close` counts."""

    def __init__(self, scenario: str, smsc: CountingSmsc, traffic: Traffic, fence: float) -> None:
        """`fence`: seconds after the hit from which nothing of the victim may come."""
        self.row = Row(scenario)
        self._smsc, self._traffic, self._fence = smsc, traffic, fence
        self._doubles = len(smsc.doubles)
        self._old: list[SmscLink] = []
        self._at = 0.0

    def hit(self, owners: Iterable[str]) -> list[SmscLink]:
        """What happens to these, happens now. Their links."""
        self._owners = [*owners]
        self._at = time.monotonic()
        self._old = [link for owner in self._owners for link in self._smsc.links_of(owner)]
        return self._old

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._at

    def resumed(self) -> bool:
        """Whether each has sent by a new bind."""
        return all(self._smsc.resumed(owner, self._old) for owner in self._owners)

    async def close(self, timeout: float = 60) -> Row:
        """When all that was accepted has arrived, or does not."""
        smsc, traffic = self._smsc, self._traffic
        try:
            await eventually(lambda: not self._lost() and not traffic.untold(), timeout)
        except AssertionError:
            pass  # counted below
        again = [submit.at for owner in self._owners if (submit := smsc.resumed(owner, self._old))]
        heard = smsc.heard()
        row = self.row
        row.channels, row.accepted, row.refused = len(self._owners), len(traffic.accepted), traffic.refused
        row.lost, row.untold = len(self._lost()), len(traffic.untold())
        row.repeated = sum(heard[text] - 1 for text in traffic.accepted if text in heard)
        row.doubles = len(smsc.doubles) - self._doubles
        row.late = len(smsc.after(self._old, self._at + self._fence))
        row.seconds = max(again, default=self._at) - self._at
        return row

    def _lost(self) -> set[str]:
        return self._traffic.accepted.keys() - self._smsc.heard().keys()
