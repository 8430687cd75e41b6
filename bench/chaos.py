"""`python -m bench.chaos`: an SMPP channel's process is killed 20 times at full rate: what is lost, repeated, out of order.

Each of `--kills` waves sends its part of 10,000 MT, in bulk, each with an event_url; for each five that reach the SMSC a phone
says an MO. While this flows the channel's process gets a SIGKILL; the wave ends when all has arrived. Then the channel is
restarted through the API, so the supervisor takes each kill for the first. The SMSC answers at once, sends a receipt for each
submit_sm, and sends again what was not acknowledged when its connection ended, as SMSCs do. With `--slow` the application takes
up to SLOWEST seconds for an answer, now and then; with `--kills 0` there is one wave, and no kill. Prints a line a wave, the sum,
and a line of JSON; exit code 1 when anything is lost, or comes first out of its order (of one address; of a message's events).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from typing import Any, cast

import orjson

from bench.junebug import Junebug, Servers
from bench.peer import RECEIPT
from junebug.runtime.loop import run_async
from junebug.smpp import constants as c
from junebug.smpp.codec import decode, encode
from junebug.smpp.framing import PduReader
from junebug.smpp.pdu import BINDS, DeliverSm, DeliverSmResp, SubmitSm, SubmitSmResp, response_to

KILLS, MESSAGES, WINDOW = 20, 10_000, 100
TO_ONE_SAID = 5
PHONES = 100
DELIVER_WINDOW = 100
"""deliver_sm under way at a time."""
LONGEST_WAIT = 0.05
"""Seconds, at random, between the submit_sm that was chosen and the kill: the kill must not fall into step with its reading."""
TIMEOUT, PATIENCE = 120.0, 20.0
"""Seconds for a channel to be bound again; in which nothing arrives of what was sent before."""
SPELL, SLOWEST = 1.5, 2.5
"""Seconds: each third spell the application is slow, and for how long at the most it is."""
LOSSES, DISORDERS = ("mt_lost", "events_lost", "mo_lost"), ("mt_order", "event_order", "mo_order")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Order:
    """Who was seen how often, and what came first after a later one of its kind."""

    def __init__(self) -> None:
        self.seen: Counter[Any] = Counter()
        self.violations = 0
        self._last: dict[Hashable, int] = {}

    def add(self, what: Hashable, of: Hashable, number: int) -> None:
        """`number`: what is `of` the same is to come first in rising order."""
        self.seen[what] += 1
        if self.seen[what] == 1:
            self.violations += number < self._last.get(of, -1)
            self._last[of] = max(number, self._last.get(of, -1))

    @property
    def repeats(self) -> int:
        return self.seen.total() - len(self.seen)


class Ends:
    """What the SMSC and the application have got, and what the SMSC has still to say."""

    def __init__(self, is_slow: bool) -> None:
        self._is_slow = is_slow
        self.submits, self.events, self.inbound = Order(), Order(), Order()
        self.to_say: deque[tuple[str, str, int, bytes]] = deque()
        """Source, destination, esm_class, text."""
        self.said = self.said_again = 0
        """MOs; those of them that were not acknowledged before their connection ended."""
        self.victim, self.kill_at = 0, sys.maxsize

    def submitted(self, phone: str, text: bytes) -> None:
        self.submits.add(text, phone, int(text))
        if len(self.submits.seen) // TO_ONE_SAID > self.said:
            self.to_say.append((f"2783{self.said % PHONES:07}", "8110", 0, b"%d" % self.said))
            self.said += 1
        if self.submits.seen.total() >= self.kill_at:
            self.kill_at = sys.maxsize
            asyncio.get_running_loop().call_later(random.uniform(0, LONGEST_WAIT), os.kill, self.victim, signal.SIGKILL)

    def pause(self) -> float:
        """Seconds until the application answers."""
        return random.uniform(0, SLOWEST) if self._is_slow and not int(time.monotonic() / SPELL) % 3 else 0.0

    def called(self, told: dict[str, Any]) -> None:
        if event := told.get("event_type"):
            self.events.add((told["message_id"], event), told["message_id"], ("submitted", "delivery_succeeded").index(event))
        else:
            self.inbound.add(told["content"], told["from"], int(told["content"]))


class Smsc(asyncio.Protocol):
    bound: Smsc | None = None

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._reader = PduReader()
        self._sequence = 0
        self._under_way: dict[int, tuple[str, str, int, bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if Smsc.bound is self:
            Smsc.bound = None
        self._ends.said_again += sum(not esm_class for _, _, esm_class, _ in self._under_way.values())
        self._ends.to_say.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()

    def data_received(self, data: bytes) -> None:
        out: list[bytes] = []
        for frame in self._reader.feed(data):
            pdu = decode(frame)
            if isinstance(pdu, SubmitSm):
                self._ends.submitted(pdu.destination_addr, pdu.short_message)
                number = self._ends.submits.seen.total()
                out.append(encode(SubmitSmResp(sequence_number=pdu.sequence_number, message_id=f"{number:x}")))
                receipt = (pdu.destination_addr, pdu.source_addr, c.ESM_CLASS_DELIVERY_RECEIPT, RECEIPT % b"%x" % number)
                self._ends.to_say.append(receipt)
            elif isinstance(pdu, DeliverSmResp):
                said = self._under_way.pop(pdu.sequence_number)
                if pdu.command_status:
                    self._ends.to_say.appendleft(said)
            elif not pdu.command_id & c.RESPONSE:
                out.append(encode(response_to(pdu.command_id, pdu.sequence_number, c.ESME_ROK)))
                if pdu.command_id in BINDS:
                    Smsc.bound = self
        self._transport.write(b"".join(out))
        self.say()

    def say(self) -> None:
        while self._ends.to_say and len(self._under_way) < DELIVER_WINDOW and not self._transport.is_closing():
            said = self._ends.to_say.popleft()
            self._sequence += 1
            self._under_way[self._sequence] = said
            source, destination, esm_class, text = said
            self._transport.write(encode(DeliverSm(
                sequence_number=self._sequence, source_addr=source, destination_addr=destination, esm_class=esm_class,
                short_message=text,
            )))  # fmt: skip


class Webhook(asyncio.Protocol):
    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data, answers = self._rest + data, 0
        while (end := data.find(b"\r\n\r\n") + 4) > 3:
            found = _LENGTH.search(data, 0, end)
            assert found
            begin, end = end, end + int(found[1])
            if len(data) < end:
                break
            self._ends.called(orjson.loads(data[begin:end]))
            data, answers = data[end:], answers + 1
        self._rest = data
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * answers
        if pause := self._ends.pause():
            asyncio.get_running_loop().call_later(pause, self._transport.write, answer)
        else:
            self._transport.write(answer)


class Chaos:
    """One run."""

    def __init__(self, junebug: Junebug, window: int, is_slow: bool) -> None:
        self.junebug = junebug
        self.window = window
        self.ends = Ends(is_slow)
        self.ids: list[str] = []

    async def begin(self) -> None:
        loop = asyncio.get_running_loop()
        smsc = await loop.create_server(lambda: Smsc(self.ends), "127.0.0.1", 0)
        webhook = await loop.create_server(lambda: Webhook(self.ends), "127.0.0.1", 0)
        self.servers = smsc, webhook
        port, self.webhook = (each.sockets[0].getsockname()[1] for each in self.servers)
        config = {
            "host": "127.0.0.1", "port": port, "system_id": "chaos", "password": "chaos", "window_size": self.window,
            "registered_delivery": True, "initial_reconnect_delay": 0.1, "max_reconnect_delay": 1.0,
        }  # fmt: skip
        body = {"type": "smpp", "mo_url": self.url("mo"), "config": config}
        self.channel = (await self.junebug.call("POST", "/channels/", body))["result"]["id"]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.webhook}/{path}"

    async def wave(self, messages: int, *, has_victim: bool) -> Counter[str]:
        """What it added to the counts."""
        ends, before, lost = self.ends, self.counts(), self.lost()
        if has_victim:
            (ends.victim,) = self.junebug.processes()[f"channel:{self.channel}"]
            ends.kill_at = ends.submits.seen.total() + int(messages * random.uniform(0.1, 0.8))
        await self.send(messages)
        if has_victim:
            await self.junebug.gone(ends.victim)
        left, latest = -1, 0.0
        while self.lost() > lost and (self.lost() != left or time.monotonic() < latest):
            if self.lost() != left:
                left, latest = self.lost(), time.monotonic() + PATIENCE
            await asyncio.sleep(0.02)
        await self.junebug.idle()  # repeats may come behind
        after = self.counts()
        return Counter({name: after[name] - before[name] for name in after})

    async def bound(self) -> None:
        await self.junebug.settled(self.channel)
        async with asyncio.timeout(TIMEOUT):
            while Smsc.bound is None:
                await asyncio.sleep(0.02)

    async def send(self, messages: int) -> None:
        first = len(self.ids)
        bodies = [
            {"to": f"+2782{number % PHONES:07}", "from": "8110", "content": str(number), "event_url": self.url("event")}
            for number in range(first, first + messages)
        ]
        async with self.junebug.connection() as connection:
            status, answer = await connection.request("POST", f"/channels/{self.channel}/messages/bulk", bodies)  # type: ignore[arg-type]
        assert status == 201, (status, answer[:500])
        self.ids += [each["message_id"] for each in orjson.loads(answer)["result"]["messages"]]

    async def explain(self) -> None:
        """What the API tells of the first message without all of its events."""
        for id in self.ids:
            if missing := {"submitted", "delivery_succeeded"} - {event for of, event in self.ends.events.seen if of == id}:
                path = f"/channels/{self.channel}"
                status = (await self.junebug.call("GET", path))["result"]["status"]
                print("missing", missing, {name: status[name] for name in ("queue_length", "callbacks_waiting", "dead_letters")})
                return print(json.dumps((await self.junebug.call("GET", f"{path}/messages/{id}/timeline"))["result"]))

    def lost(self) -> int:
        """Of what was accepted, or said: what has not arrived, events among it."""
        counts = self.counts()
        return sum(counts[name] for name in LOSSES)

    def counts(self) -> Counter[str]:
        ends, accepted = self.ends, len(self.ids)
        return Counter({
            "mt_lost": accepted - len(ends.submits.seen), "mt_again": ends.submits.repeats, "mt_order": ends.submits.violations,
            "events_lost": 2 * accepted - len(ends.events.seen), "events_again": ends.events.repeats,
            "event_order": ends.events.violations, "mo_lost": ends.said - len(ends.inbound.seen),
            "mo_said_again": ends.said_again, "mo_again": ends.inbound.repeats, "mo_order": ends.inbound.violations,
        })  # fmt: skip


async def run(kills: int, window: int, is_slow: bool) -> int:
    """The exit code."""
    with Servers() as servers:
        async with Junebug(servers) as junebug:
            chaos = Chaos(junebug, window, is_slow)
            await chaos.begin()
            await chaos.bound()
            names = list(chaos.counts())
            _show("kill", names)
            for kill in range(1, kills + 1) or (0,):
                added = await chaos.wave(MESSAGES // max(kills, 1), has_victim=kill > 0)
                _show(kill, [added[name] for name in names])
                await junebug.call("POST", f"/channels/{chaos.channel}/restart")
                await chaos.bound()
            counts = chaos.counts()
            _show("sum", [counts[name] for name in names])
            print(json.dumps({"kills": kills, "window": window, "mt": len(chaos.ids), "mo": chaos.ends.said, **counts}))
            await chaos.explain()
            return 1 if any(counts[name] for name in (*LOSSES, *DISORDERS)) else 0


def _show(what: object, cells: Iterable[object]) -> None:
    print(str(what).rjust(4) + "".join(str(cell).rjust(14) for cell in cells), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="how many (%(default)s)")
    parser.add_argument("--window", type=int, default=WINDOW, help="the channel's window_size (%(default)s)")
    parser.add_argument("--slow", action="store_true", help="the application is slow now and then")
    arguments = parser.parse_args()
    sys.exit(run_async(run(arguments.kills, arguments.window, arguments.slow)))
