"""Reassembly: inbound messages in parts, in any order and with repeats, put together in Redis across restarts.

What it keeps: `mo:<addresses, reference, number of parts>`, a hash of the parts so far, the id that the whole will have,
and when it is given up; and `mo_waiting`, a hash of the names of all that are incomplete. What never completes is
delivered as it stands, flagged. Neighbours: mo.py reads one PDU, inbound.py acknowledges it after `add` has returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.model.messages import new_id
from junebug.smpp.text.multipart import Concatenation
from junebug.stores.transport import TransportStore
from junebug.transports.smpp.mo import Inbound, Octets

log = structlog.stdlib.get_logger("smpp")

WAITING = "mo_waiting"
REPEAT_TTL = 120.0
"""Seconds in which a part of a message that is complete is known as a repeat."""
LOCKS = 64
SPARE_TTL = 3600.0
"""So much longer than the time-out parts are kept: the sweep must find them, also after an hour's outage of ours."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A message put together. `missing`: numbers of the parts that never came."""

    message_id: str
    source_addr: str
    destination_addr: str
    texts: tuple[Octets, ...]
    parts: int
    missing: tuple[int, ...] = ()


class Reassembly:
    """One channel's. Calls may raise StoreUnavailable: nothing was delivered then, and the same may be added again."""

    def __init__(
        self, store: TransportStore, timeout: float, deliver: Callable[[Whole], Awaitable[None]],
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`deliver` returns when the message is safe."""
        self._store = store
        self._timeout = timeout
        self._deliver = deliver
        self._now = now
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]

    async def add(self, inbound: Inbound, part: Concatenation) -> str:
        """Returns the message's id when the part is safe, and the message delivered where this was the last missing."""
        where = f"{inbound.source_addr}\0{inbound.destination_addr}\0{part.reference}\0{part.total}"
        name = f"mo:{hashlib.blake2s(where.encode(), digest_size=16).hexdigest()}"
        async with self._lock(name):
            return await self._add(name, inbound, part)

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks[hash(name) % LOCKS]

    async def _add(self, name: str, inbound: Inbound, part: Concatenation) -> str:
        octets = inbound.octets
        told = orjson.dumps([octets.data.hex(), *octets.coding]).decode()
        (known,) = await self._store.fields(name)
        if known and known.get(str(part.number), told) != told:
            # the same reference for another message: phones count to 255 and then begin again, some always say 0
            if "delivered" not in known:
                await self._give_up(name, known)
            await self._store.remove(name)
            known = {}
        if "delivered" in known:
            log.info("repeated part left out", message_id=known["id"], part=part.number, parts=part.total)
            return known["id"]
        fields = {str(part.number): told}
        if "id" not in known:
            deadline = self._now() + self._timeout
            fields |= {"id": new_id(), "total": str(part.total)}
            fields |= {"source": inbound.source_addr, "destination": inbound.destination_addr}
            await self._store.put_fields(WAITING, {name: str(deadline)}, self._timeout + SPARE_TTL)
        found = await self._store.put_fields(name, fields, self._timeout + SPARE_TTL)
        if all(str(number) in found for number in range(1, part.total + 1)):
            await self._finish(name, found)
        return found["id"]

    async def sweep(self) -> None:
        """Deliver what waited for its missing parts for too long. To be called every few seconds."""
        (waiting,) = await self._store.fields(WAITING)
        for name, deadline in waiting.items():
            if float(deadline) > self._now():
                continue
            async with self._lock(name):
                (fields,) = await self._store.fields(name)
                if "id" in fields and "delivered" not in fields:
                    await self._give_up(name, fields)
                await self._store.remove_fields(WAITING, name)

    async def _give_up(self, name: str, fields: dict[str, str]) -> None:
        log.warning("inbound message never completed", message_id=fields["id"], total=fields["total"])
        await self._finish(name, fields)

    async def _finish(self, name: str, fields: dict[str, str]) -> None:
        total = int(fields["total"])
        told = {number: orjson.loads(fields[str(number)]) for number in range(1, total + 1) if str(number) in fields}
        texts = tuple(Octets(bytes.fromhex(data), *coding) for data, *coding in told.values())
        missing = tuple(number for number in range(1, total + 1) if number not in told)
        await self._deliver(Whole(fields["id"], fields["source"], fields["destination"], texts, total, missing))
        try:
            await self._store.put_fields(name, {"delivered": "1"}, REPEAT_TTL)
            await self._store.remove_fields(WAITING, name)
        except StoreUnavailable as error:
            log.warning("a whole message is delivered, but not marked so", message_id=fields["id"], reason=str(error))
