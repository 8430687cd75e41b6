"""Reassembly: inbound messages in parts, in any order and with repeats, put together in Redis across restarts.

What it keeps: `mo:<addresses, reference, number of parts>`, a hash of the parts so far and the id that the whole will have,
`...:done`, the parts of the one delivered last, for a while; and `mo_waiting`, a hash of the names of all that are incomplete,
and when each is given up. What never completes is delivered as it stands, flagged. Neighbours: mo.py reads one PDU, inbound.py
acknowledges it after `add` has returned.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.model.messages import new_id
from junebug.smpp.text.multipart import Concatenation
from junebug.stores.transport import TransportStore
from junebug.transports.smpp.mo import Inbound, Octets

log = structlog.stdlib.get_logger("smpp")

WAITING = "mo_waiting"
PARAMETERS = "parameters:"
REPEATS = "repeats"
"""Field that is not empty where all parts so far are of the message that was delivered last: when they become a whole, it
was sent again; when they do not, they were repeats."""
REPEAT_TTL = 120.0
"""Seconds in which parts of a message that is complete are known as repeats."""
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
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of all parts; where several have the same, the first one's."""


class Reassembly:
    """One channel's. Calls may raise StoreUnavailable: nothing was delivered then, and the same may be added again."""

    def __init__(
        self, store: TransportStore, timeout: float, deliver: Callable[[Whole], Awaitable[None]],
        now: Callable[[], float] = time.time, is_shared: bool = False,
    ) -> None:  # fmt: skip
        """`deliver` returns when the message is safe. `is_shared`: parts of a message may come to other processes, too."""
        self._is_shared = is_shared
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

    def _lock(self, name: str) -> AbstractAsyncContextManager[None]:
        return self._store.alone(name) if self._is_shared else self._locks[hash(name) % LOCKS]

    async def _add(self, name: str, inbound: Inbound, part: Concatenation) -> str:
        number, octets = str(part.number), inbound.octets
        told = orjson.dumps([octets.data.hex(), *octets.coding, octets.fill_bits]).decode()
        known, done = await self._store.fields(name, _done(name))
        if known.get(number, told) != told:
            # the same reference for another message: phones count to 255 and then begin again, some always say 0
            if known.get(REPEATS):
                await self._store.remove(name)
            else:
                await self._give_up(name, known)
            known = {}
        is_new = "id" not in known
        are_repeats = (is_new or bool(known.get(REPEATS))) and done.get(number) == told
        fields = {number: told, REPEATS: "1" if are_repeats else ""}
        if parameters := inbound.parameters():
            fields[f"{PARAMETERS}{number}"] = orjson.dumps(parameters).decode()
        if is_new:
            fields |= {"id": new_id(), "total": str(part.total)}
            fields |= {"source": inbound.source_addr, "destination": inbound.destination_addr}
        if not are_repeats and (is_new or known.get(REPEATS)):
            deadline = self._now() + self._timeout
            await self._store.put_fields(WAITING, {name: str(deadline)}, self._timeout + SPARE_TTL)
        (found,) = await self._store.put_fields(name, fields, REPEAT_TTL if are_repeats else self._timeout + SPARE_TTL, name)
        if all(str(number) in found for number in range(1, part.total + 1)):
            await self._finish(name, found)
        elif are_repeats:
            log.info("repeated part left out", message_id=done["id"], part=part.number, parts=part.total)
            return done["id"]
        return found["id"]

    async def sweep(self) -> None:
        """Deliver what waited for its missing parts for too long. To be called every few seconds."""
        (waiting,) = await self._store.fields(WAITING)
        for name, deadline in waiting.items():
            if float(deadline) > self._now():
                continue
            async with self._lock(name):
                (fields,) = await self._store.fields(name)
                if "id" in fields:
                    await self._give_up(name, fields)
                await self._store.remove_fields(WAITING, name)

    async def _give_up(self, name: str, fields: dict[str, str]) -> None:
        log.warning("inbound message never completed", message_id=fields["id"], total=fields["total"])
        await self._finish(name, fields)

    async def _finish(self, name: str, fields: dict[str, str]) -> None:
        total = int(fields["total"])
        told = {number: fields.get(str(number), "") for number in range(1, total + 1)}
        there = [orjson.loads(each) for each in told.values() if each]
        texts = tuple(Octets(bytes.fromhex(data), *coding) for data, *coding in there)
        missing = tuple(number for number, each in told.items() if not each)
        parameters: dict[str, str] = {}
        for number in reversed(told):
            parameters |= orjson.loads(fields.get(f"{PARAMETERS}{number}", "{}"))
        whole = Whole(fields["id"], fields["source"], fields["destination"], texts, total, missing, parameters)
        await self._deliver(whole)
        try:
            done = {str(number): each for number, each in told.items()}
            await self._store.put_fields(_done(name), {**done, "id": fields["id"]}, REPEAT_TTL)
            await self._store.remove(name)
            await self._store.remove_fields(WAITING, name)
        except StoreUnavailable as error:
            log.warning("a whole message is delivered, but not marked so", message_id=fields["id"], reason=str(error))


def _done(name: str) -> str:
    """Where the parts are that were delivered last under a name."""
    return f"{name}:done"
