"""Tracker: which message a receipt is about, and how far each message got; in Redis, for as long as receipts may come.

What it keeps (names.transport_key, or names.shared_transport_key where two channels share their ids):
  sent:<key of the provider's id>   hash: the message, its part, where it went, its status
  parts:<message id>                hash: status of each part of a message of several, and what was reported of it
  parked:<key of the provider's id> hash: receipts that came before the submit_sm_resp that names their id

Neighbours: receipts.py (pure: reading, ids, order of states), transport.py (who calls). Every call may raise
StoreUnavailable: nothing was reported then, and the same may be asked again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.stores.transport import TransportStore
from junebug.transports.smpp import receipts
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.receipts import Receipt

log = structlog.stdlib.get_logger("smpp")

Report = Callable[[str, str, dict[str, Any], str], Awaitable[None]]
"""(message id, status, details, channel that sent it): a delivery event, kept by RabbitMQ when it returns."""

MAX_UNSAVED = 10_000
"""Messages whose ids wait in memory for Redis to come back; of more, the oldest lose their receipts."""
SAVE_PAUSE = 1.0
LOCKS = 64
REMEMBERED = 10
"""How many receipts the form counts for that was the usual one before a restart."""
HINT = 2
"""How many receipts it counts for that letters are among the digits of ids on one side only."""
SURE = 3
"""After so many receipts, what does not fit in the usual form is a coincidence."""
_HEX_DIGITS = frozenset("0123456789abcdef")
MOST_COUNTED = 1000
"""Then all counts are halved: an SMSC may change its mind."""
PARK_TTL = 3600.0
"""Longest that a receipt without a message waits for it: more is not a race but a stranger's receipt."""


@dataclass(frozen=True, slots=True)
class SentPart:
    """What was accepted under one id of the provider's. Parts count from 1."""

    message_id: str
    channel: str
    to_addr: str
    part: int = 1
    parts: int = 1


class Forms:
    """Which form this SMSC's receipts give ids in, told by how often each fitted, and by the digits a to f. Pure.

    Numbers are dense: an id of ours that was lost is, in another base, often that of another message, so once a form
    has fitted, one that fitted less often is a coincidence.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._letters = {"sent": False, "received": False}

    @property
    def usual(self) -> str | None:
        """None while nothing is known. The plainer form wins a tie."""
        hint = {(True, False): "hex", (False, True): "decimal"}.get((self._letters["sent"], self._letters["received"]))
        scores = self._counts + Counter({hint: HINT} if hint else {})
        return max(receipts.FORMS, key=scores.__getitem__) if scores else None

    def seen(self, key: str, where: str) -> None:
        """An id as it was `sent` to us in a response, or `received` in a receipt: only one in base 16 has letters."""
        if not self._letters[where] and not key.isdigit() and set(key) <= _HEX_DIGITS:
            self._letters[where] = True

    def count(self, form: str, times: int = 1) -> None:
        """It fitted, the number that the message went to being right as well."""
        self._counts[form] += times
        if self._counts[form] > MOST_COUNTED:
            self._counts = Counter({each: count // 2 for each, count in self._counts.items()})

    def allow(self, forms: set[str], *, same_number: bool) -> bool:
        """Whether an id that is equal in one of these forms is the same id."""
        usual = self.usual
        if usual is None:
            return "same" in forms or same_number
        return usual in forms or (same_number and self._counts.total() < SURE)


class Tracker:
    """One channel's."""

    def __init__(self, config: SmppConfig, store: TransportStore, report: Report) -> None:
        self._config = config
        self._store = store.shared(config.split_bind_prefix) if config.split_bind_prefix else store
        self._report = report
        self._forms = Forms()
        self._unsaved: OrderedDict[str, SentPart] = OrderedDict()
        self._saver: asyncio.Task[None] | None = None
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]

    async def stop(self) -> None:
        """Save what waits, if Redis is there."""
        if self._saver:
            self._saver.cancel()
            await asyncio.wait([self._saver])
        try:
            await self._save_all()
        except StoreUnavailable as error:
            log.warning("ids of sent messages are lost, so are their receipts", count=len(self._unsaved), reason=str(error))

    # --- sent ---------------------------------------------------------------------------------------------------------

    async def sent(self, provider_id: str, sent: SentPart) -> None:
        """The SMSC accepted this under that id. Never raises: while Redis is away it is kept here."""
        key = receipts.key(provider_id)
        self._forms.seen(key, "sent")
        try:
            await self._save(key, sent)
        except StoreUnavailable:
            self._unsaved[key] = sent
            if len(self._unsaved) > MAX_UNSAVED:
                self._unsaved.popitem(last=False)
            if self._saver is None or self._saver.done():
                self._saver = asyncio.create_task(self._keep_saving())

    async def _save(self, key: str, sent: SentPart) -> None:
        fields = {"message": orjson.dumps(sent).decode()}
        parked = await self._store.exchange_fields(f"sent:{key}", fields, self._config.sent_ttl, f"parked:{key}")
        for told in parked.values():
            receipt = _receipt(told)
            candidates = receipts.candidate_keys(receipt.provider_id)
            await self._learn(candidates, receipt, {key: sent})
            if self._forms.allow(candidates.get(key, set()), same_number=_same_number(receipt, sent)):
                log.info("early receipt matched", message_id=sent.message_id, sent_message_id=receipt.provider_id)
                await self._advance(key, sent, receipt)

    async def _keep_saving(self) -> None:
        while self._unsaved:
            await asyncio.sleep(SAVE_PAUSE)
            try:
                await self._save_all()
            except StoreUnavailable:
                continue

    async def _save_all(self) -> None:
        while self._unsaved:
            key, sent = next(iter(self._unsaved.items()))
            await self._save(key, sent)
            self._unsaved.pop(key, None)

    # --- receipts -----------------------------------------------------------------------------------------------------

    async def received(self, receipt: Receipt) -> str | None:
        """Report it, or park it. Returns the message's id, None when it is not known (yet)."""
        found = await self._find(receipt)
        if found is None and receipt.certain:
            ttl = min(self._config.parked_receipt_ttl, PARK_TTL)
            names = [f"parked:{key}" for key in receipts.candidate_keys(receipt.provider_id)]
            told = {receipt.state: orjson.dumps(receipt).decode()}
            await asyncio.gather(*(self._store.put_fields(name, told, ttl) for name in names))
            found = await self._find(receipt, learn=False)  # it may have been saved between our look and our parking
            if found is None:
                log.info("receipt of an unknown message kept", sent_message_id=receipt.provider_id)
                return None
            await self._store.remove(*names)
        if found is None:
            return None
        key, sent = found
        await self._advance(key, sent, receipt)
        return sent.message_id

    async def _find(self, receipt: Receipt, *, learn: bool = True) -> tuple[str, SentPart] | None:
        """The sent part whose id the receipt's stands for, and the key of it."""
        candidates = receipts.candidate_keys(receipt.provider_id)
        known = {key: sent for key in candidates if (sent := self._unsaved.get(key))}
        if not known:
            found = await self._store.fields(*(f"sent:{key}" for key in candidates))
            known = {
                key: SentPart(**orjson.loads(fields["message"]))
                for key, fields in zip(candidates, found, strict=True)
                if "message" in fields
            }
        if learn:
            await self._learn(candidates, receipt, known)
        for key, sent in sorted(known.items(), key=lambda item: self._forms.usual not in candidates[item[0]]):
            if self._forms.allow(candidates[key], same_number=_same_number(receipt, sent)):
                return key, sent
        return None

    async def _learn(self, candidates: dict[str, set[str]], receipt: Receipt, known: dict[str, SentPart]) -> None:
        if self._forms.usual is None:
            (form,) = await self._store.get("receipt_form")
            if form:
                self._forms.count(form, REMEMBERED)
        before = self._forms.usual
        self._forms.seen(receipts.key(receipt.provider_id), "received")
        counted = False
        for key, sent in known.items():
            if len(candidates[key]) == 1 and _same_number(receipt, sent):
                (form,) = candidates[key]
                self._forms.count(form)
                counted = True
        usual = self._forms.usual
        if counted and usual is not None and usual != before:  # a hint alone is not worth remembering
            await self._store.put("receipt_form", usual, self._config.sent_ttl)

    # --- how far each got ---------------------------------------------------------------------------------------------

    async def _advance(self, key: str, sent: SentPart, receipt: Receipt) -> None:
        """Report what is new in it. Reported first and kept then: a crash repeats an event, and loses none."""
        async with self._locks[hash(sent.message_id) % LOCKS]:
            await (self._advance_single if sent.parts == 1 else self._advance_part)(key, sent, receipt)

    async def _advance_single(self, key: str, sent: SentPart, receipt: Receipt) -> None:
        (fields,) = await self._store.fields(f"sent:{key}")
        # an id of long ago that comes again (counters wrap) must not inherit the status that it had then
        before = fields.get("status") if fields.get("of") == sent.message_id else None
        if not receipts.moves_forward(before, receipt.status):
            return self._repeated(sent, receipt, before)
        await self._report(sent.message_id, receipt.status, receipt.details(), sent.channel)
        await self._store.put_fields(
            f"sent:{key}", {"status": receipt.status, "of": sent.message_id}, self._ttl(receipt.status, self._config.final_ttl)
        )

    async def _advance_part(self, key: str, sent: SentPart, receipt: Receipt) -> None:
        """All parts delivered: the message is. One failed: the message has. One event for each of these."""
        name = f"parts:{sent.message_id}"
        part = f"part:{sent.part}"
        (fields,) = await self._store.fields(name)
        if receipts.moves_forward(fields.get(part), receipt.status):
            fields = await self._store.put_fields(name, {part: receipt.status}, self._config.sent_ttl)
        status = message_status([fields.get(f"part:{number}") for number in range(1, sent.parts + 1)])
        if status is None or not receipts.moves_forward(fields.get("reported"), status):
            return self._repeated(sent, receipt, fields.get(part))
        details = {**receipt.details(), "part": sent.part, "parts": sent.parts}
        await self._report(sent.message_id, status, details, sent.channel)
        ttl = self._ttl(status, self._config.completed_multipart_ttl)
        await self._store.put_fields(name, {"reported": status}, ttl)
        if status != "pending":
            await self._store.expire(f"sent:{key}", self._config.final_ttl)

    def _ttl(self, status: str, final: float) -> float:
        return self._config.sent_ttl if status == "pending" else final

    @staticmethod
    def _repeated(sent: SentPart, receipt: Receipt, before: str | None) -> None:
        log.info("receipt that tells nothing new", message_id=sent.message_id, state=receipt.state, known=before)


def message_status(parts: list[str | None]) -> str | None:
    """Of a message in parts, by the statuses of all of its parts (None: nothing heard)."""
    if "failed" in parts:
        return "failed"
    if all(status == "delivered" for status in parts):
        return "delivered"
    return "pending" if "pending" in parts else None


def _same_number(receipt: Receipt, sent: SentPart) -> bool:
    return any(receipts.same_number(address, sent.to_addr) for address in receipt.addresses)


def _receipt(told: str) -> Receipt:
    fields = orjson.loads(told)
    fields["addresses"] = tuple(fields["addresses"])
    if fields["network_error"]:
        fields["network_error"] = tuple(fields["network_error"])
    return Receipt(**fields)
