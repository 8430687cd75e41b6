"""ReceiptCorrelation: which message a receipt is about, and how far each message got; in Redis, for as long as receipts may come.

What it keeps (names.transport_key, or names.shared_transport_key where two channels share their ids):
  sent:<key of the provider's id>   hash: the message, its part, where it went, its status
  parts:<message id>                hash: status of each part of a message of several, and what was reported of it
  parked:<key of the provider's id> hash: receipts that came before the submit_sm_resp that names their id
Of a message whose receipt nobody asked for it keeps the first in memory alone, as long as no such receipt has come.

A channel with shards keeps the first only once RabbitMQ holds `submitted`, as any shard may get the receipt, and report it: what
comes before waits as parked. And of one message only one shard at a time reports.

Neighbours: receipts.py (reading, order of states), matches.py, smpp/receipt_ids.py (all pure), learned_forms.py, doubts.py,
being_sent.py, transport.py, inbound.py (who call). Every call may raise StoreUnavailable: nothing was reported, and the same may
be asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.runtime.tasks import Own, TaskOwner
from junebug.smpp import receipt_ids
from junebug.stores.transport import TransportStore
from junebug.transports.base import Accepted
from junebug.transports.smpp import receipts
from junebug.transports.smpp.being_sent import BeingSent
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.doubts import Doubts
from junebug.transports.smpp.learned_forms import LearnedForms, Unasked
from junebug.transports.smpp.matches import Match, fits_number, message_status, parked_field, parked_under, told_by
from junebug.transports.smpp.receipts import Receipt
from junebug.transports.smpp.recently_sent import RecentlySent, SentPart

log = structlog.stdlib.get_logger("smpp")

ReportCall = Callable[[str, str, dict[str, Any], str], Awaitable[None]]
"""(message id, status, details, channel that sent it): a delivery event, kept by RabbitMQ when it returns."""

MAX_UNSAVED = 10_000
"""Messages whose ids wait in memory for Redis to come back; of more, the oldest lose their receipts."""
SAVE_PAUSE = 1.0
LOCKS = 64
EARLY_PATIENCE = 5.0
"""Seconds that what only looks like a receipt waits for the response that may name its id: else it is a message."""
DOUBT = 0.5
"""Seconds that a shard waits for what a receipt is plainly about, where it may be about another; then for what others teach."""
LATER_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5)
"""EARLY_PATIENCE of a channel with shards: seconds before each further look for what another one sent."""
PARK_TTL = 3600.0
"""Longest that a receipt without a message waits for it: more is not a race but a stranger's receipt."""
MAX_RECENT = 5_000
"""Messages of which nothing final is known yet, and that Redis need not be asked about."""


class NotItsMessages(Exception):
    """Told by its text only, and from somebody else than whom the message went to that it names: it is no receipt."""


class ReceiptCorrelation:
    """One channel's."""

    def __init__(self, config: SmppConfig, store: TransportStore, report: ReportCall, own: Own | None = None) -> None:
        self._config = config
        self._store = store.shared(config.split_bind_prefix) if config.split_bind_prefix else store
        self._report = report
        self._own = own or TaskOwner().own
        self._forms = LearnedForms(self._store, config.sent_ttl)
        self._unasked = Unasked(self._store, config.sent_ttl)
        self._partial: set[str] = set()
        """Messages of which some parts were accepted and not all, or whose id is being saved: nothing is reported yet."""
        self._early: dict[str, list[Match]] = {}
        """What receipts said of messages that `accepted` has not been told of."""
        self._returned: dict[str, str] = {}
        """Message -> the last status that `accepted` returned, until it is reported."""
        self.submitting = BeingSent()
        self._unsaved: OrderedDict[str, SentPart] = OrderedDict()
        self._unconfirmed: dict[str, list[tuple[str, SentPart]]] = {}
        """Of a channel with shards: accepted parts by their messages, which are not in Redis yet."""
        self._is_shared = config.shards > 1
        # of two channels that share their ids, or of shards, the other process may be the one that reports
        most = 0 if config.split_bind_prefix or self._is_shared else MAX_RECENT
        self._recent = RecentlySent(most, config.sent_ttl, asyncio.get_running_loop().time)
        self._saver: asyncio.Task[None] | None = None
        self._doubts = Doubts(self._decide, self._own, self._store, PARK_TTL)
        self._own("receipts in doubt", self._doubts.recall(2 * DOUBT))
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]

    async def stop(self) -> None:
        """Save what waits, if Redis is there."""
        if self._saver:
            self._saver.cancel()
            await asyncio.wait([self._saver])
        await self._doubts.end()
        try:
            await self._save_all()
        except StoreUnavailable as error:
            log.warning("ids of sent messages are lost, so are their receipts", count=len(self._unsaved), reason=str(error))

    # --- sent ---------------------------------------------------------------------------------------------------------

    async def sent(self, provider_id: str, sent: SentPart, *, is_asked: bool = True) -> None:
        """The SMSC accepted this under that id; `is_asked`: with a receipt. Never raises: while Redis is away it is kept here."""
        key = receipt_ids.key(provider_id)
        self._forms.seen(key, "sent")
        if self._is_shared:
            self._unconfirmed.setdefault(sent.message_id, []).append((key, sent))
            return
        if not is_asked and sent.parts == 1 and self._recent.most and not await self._unasked.come():
            return self._recent.add(key, sent, is_saved=False)
        self._partial.add(sent.message_id)
        try:
            for match in await self._save(key, sent):
                if sent.parts > 1:
                    await self._advance(match)
                else:
                    self._keep_early(match, match.receipt.status)
        except StoreUnavailable:
            self._save_later(key, sent)
        finally:
            if sent.parts == 1:
                self._partial.discard(sent.message_id)

    def accepted(self, message_id: str, provider_id: str | None) -> Accepted:
        """The whole of a message was accepted: with what receipts have said of it already.

        These are kept as parked until they are reported; what comes from now on is reported by `received`.
        """
        self._partial.discard(message_id)
        if parts := self._unconfirmed.pop(message_id, None):
            return Accepted(provider_id, (), functools.partial(self._on_confirmed, parts))
        matches = self._early.pop(message_id, None)
        if not matches:
            return Accepted(provider_id)
        reports, told, last = told_by(matches)
        if told is None or last is None:
            return Accepted(provider_id, (), functools.partial(self._unpark_all, matches))
        self._returned[message_id] = told
        reported = () if self._config.disable_delivery_report else tuple(reports)
        return Accepted(provider_id, reported, functools.partial(self._on_reported, last, told, matches))

    def _keep_early(self, match: Match, whole: str | None) -> None:
        self._early.setdefault(match.sent.message_id, []).append(dataclasses.replace(match, whole=whole))

    async def _on_confirmed(self, parts: Sequence[tuple[str, SentPart]]) -> None:
        """RabbitMQ holds `submitted`: any shard may report of it now. What came before is reported here."""
        for key, sent in parts:
            try:
                for match in await self._save(key, sent):
                    await self._advance(match)
                    await self._unpark(match)
            except StoreUnavailable:
                self._save_later(key, sent)

    async def _on_reported(self, last: Match, status: str, matches: list[Match]) -> None:
        try:
            await self._note(last, status)
            await self._unpark_all(matches)
        finally:
            self._returned.pop(last.sent.message_id, None)

    def forget(self, message_id: str) -> None:
        """It will not be accepted as a whole."""
        self._partial.discard(message_id)
        self._early.pop(message_id, None)
        self._unconfirmed.pop(message_id, None)

    def _save_later(self, key: str, sent: SentPart) -> None:
        self._unsaved[key] = sent
        if len(self._unsaved) > MAX_UNSAVED:
            self._unsaved.popitem(last=False)
        if self._saver is None or self._saver.done():
            self._saver = self._own("smpp ids", self._keep_saving())

    async def _save(self, key: str, sent: SentPart) -> list[Match]:
        """Returns the receipts that are parked under this id."""
        fields = {"message": orjson.dumps(sent).decode()}
        self._recent.forget(key)
        (parked,) = await self._store.put_fields(f"sent:{key}", fields, self._config.sent_ttl, f"parked:{key}")
        if sent.parts == 1:
            self._recent.add(key, sent)
        matches = []
        told = [Receipt(**orjson.loads(each)) for each in parked.values()]
        for receipt in sorted(told, key=lambda receipt: receipt.status != "pending"):
            for provider_id in receipt.ids:
                learn = not self._is_in_doubt
                if match := await self._match(provider_id, receipt, {key: sent}, learn=learn, plainly=self._is_shared):
                    log.info("early receipt matched", message_id=sent.message_id, sent_message_id=provider_id)
                    matches.append(match)
                    break
            else:
                if self._is_shared and fits_number(receipt, sent):
                    await self._doubts.add(receipt, functools.partial(asyncio.sleep, 2 * DOUBT))
        return matches

    async def _decide(self, receipt: Receipt) -> None:
        """On one that is parked, when what it is plainly about had time to be known."""
        with contextlib.suppress(NotItsMessages):
            if match := await self._find(receipt):
                await self._advance(match)
                await self._unpark(match)

    async def _keep_saving(self) -> None:
        while self._unsaved:
            await asyncio.sleep(SAVE_PAUSE)
            with contextlib.suppress(StoreUnavailable):
                await self._save_all()

    async def _save_all(self) -> None:
        while self._unsaved:
            key, sent = next(iter(self._unsaved.items()))
            for match in await self._save(key, sent):
                await self._advance(match)
                await self._unpark(match)
            self._unsaved.pop(key, None)

    # --- receipts -----------------------------------------------------------------------------------------------------

    async def received(self, receipt: Receipt) -> str | None:
        """Report it, or park it. Returns the message's id, None when it is not known (yet). Raises NotItsMessages."""
        # before any wait: these may be answered meanwhile, and of those that come together each tells something of the others
        if not receipt.by_text and not self._forms.is_sure:
            self._forms.seen(receipt_ids.key(receipt.provider_id), "received")
        submits = self.submitting.to_writer(receipt.addresses) if receipt.by_text or not self._forms.is_sure else set()
        plainly = self._is_shared or (not self._forms.is_sure and bool(submits))
        match = await self._find(receipt, learn=not self._is_in_doubt, plainly=plainly)
        if match is None and receipt.by_text and self._is_shared:
            match = await self._find_later(receipt, LATER_PAUSES)
        elif match is None and receipt.by_text and submits:
            await self.submitting.end(submits, EARLY_PATIENCE)
            match = await self._find(receipt)
        parked = match is None and receipt.certain
        if parked:
            await self._park(receipt)
            # it may have been saved between our look and our parking
            match = await self._find(receipt, learn=False, plainly=plainly)
            if match is None and self._is_shared and await self._find(receipt, learn=not self._is_in_doubt):
                match = await self._find_later(receipt, (DOUBT, DOUBT))
            elif match is None and plainly and not self._is_shared:
                await self._doubts.add(receipt, functools.partial(self.submitting.end, submits, EARLY_PATIENCE))
            if match is None:
                log.info("receipt of an unknown message kept", sent_message_id=receipt.provider_id)
        if not self._config.registered_delivery and (match or receipt.certain):
            await self._unasked.learn()
        if match is None:
            return None
        await self._advance(match, is_parked=parked)
        if parked:
            await self._unpark(match)
        return match.sent.message_id

    async def _find_later(self, receipt: Receipt, pauses: Sequence[float]) -> Match | None:
        """What another shard sent a moment ago; in the end also what fits in another form than the usual."""
        for number, pause in enumerate(pauses, 1):
            await asyncio.sleep(pause)
            if match := await self._find(receipt, plainly=number < len(pauses)):
                return match
        return None

    @property
    def _is_in_doubt(self) -> bool:  # in which form ids come, while another shard may not have told yet what it sent
        return self._is_shared and not self._forms.is_sure

    async def _park(self, receipt: Receipt) -> None:
        ttl = min(self._config.parked_receipt_ttl, PARK_TTL)
        told = {parked_field(receipt): orjson.dumps(receipt).decode()}
        await asyncio.gather(*(self._store.put_fields(name, told, ttl) for name in parked_under(receipt)))

    async def _unpark(self, match: Match) -> None:
        """It is reported: what is kept of it for that is needed no more. What is to be reported with its message still is."""
        for name in parked_under(match.receipt) if match.sent.message_id not in self._early else ():
            await self._store.remove_fields(name, parked_field(match.receipt))

    async def _unpark_all(self, matches: Sequence[Match]) -> None:
        for match in matches:
            await self._unpark(match)

    async def _find(self, receipt: Receipt, *, learn: bool = True, plainly: bool = False) -> Match | None:
        """The sent part that one of its ids stands for. `plainly`: in its usual form; any other may be a coincidence, as the part
        that it is about may not be known yet. Raises NotItsMessages.
        """
        for provider_id in receipt.ids:
            candidates = receipt_ids.candidate_keys(provider_id)
            if not plainly and (recalled := self._recalled(candidates, receipt)):
                if learn:
                    await self._forms.learn(candidates, recalled[:1])
                return Match(*recalled, receipt.by(provider_id))
            known = {key: sent for key in candidates if (sent := self._unsaved.get(key) or self._recent.unsaved(key))}
            if not known:
                found = await self._store.fields(*(f"sent:{key}" for key in candidates))
                known = {
                    key: SentPart(**orjson.loads(fields["message"]))
                    for key, fields in zip(candidates, found, strict=True)
                    if "message" in fields
                }
            if match := await self._match(provider_id, receipt, known, learn=learn, plainly=plainly):
                return match
            if receipt.by_text and any(self._forms.allow(candidates[key], same_number=False) for key in known):
                raise NotItsMessages
        return None

    def _recalled(self, candidates: Mapping[str, Collection[str]], receipt: Receipt) -> tuple[str, SentPart] | None:
        """What would be found whatever else is known: the id fits in its usual form, and so does the number."""
        found = self._recent.find([key for key, forms in candidates.items() if self._forms.usual in forms])
        return found if found and fits_number(receipt, found[1]) else None

    async def _match(
        self, provider_id: str, receipt: Receipt, known: dict[str, SentPart], *, learn: bool, plainly: bool
    ) -> Match | None:
        """The part of these, by the keys of their ids, that this id of the receipt's stands for."""
        candidates = receipt_ids.candidate_keys(provider_id)
        if plainly and not receipt.by_text:
            self._forms.seen(next(iter(candidates)), "received")
        form = (await self._forms.recalled() or "same") if plainly else ""
        if in_doubt := plainly and self._is_in_doubt and len(candidates) > 1 and not receipt.by_text:
            form = ""  # whatever fits is only learned from
        known = {key: sent for key, sent in known.items() if key in candidates and (not form or form in candidates[key])}
        fitting = {key for key, sent in known.items() if fits_number(receipt, sent)}
        if learn and (len(fitting) == 1 if self._is_in_doubt else fitting or not receipt.by_text):
            await self._forms.learn(candidates, fitting)
        if in_doubt:
            return None
        # an id that stands in the text only, beside another, may be of another numbering
        sure, usual = self._forms.is_sure, self._forms.usual
        needs_number = receipt.by_text or provider_id != receipt.provider_id or (plainly and not sure)
        order = {key: (not (sure or key in fitting), usual not in candidates[key]) for key in known}
        for key, sent in sorted(known.items(), key=lambda item: order[item[0]]):
            same = key in fitting
            if (same or not needs_number) and self._forms.allow(candidates[key], same_number=same):
                return Match(key, sent, receipt.by(provider_id))
        return None

    # --- how far each got ---------------------------------------------------------------------------------------------

    async def _advance(self, match: Match, *, is_parked: bool = True) -> None:
        """Report what is new in it. Reported first and kept then: a crash repeats an event, and loses none.

        What is to be reported with its message is parked until then: the provider, who is answered now, will not repeat it.
        """
        sent, receipt = match.sent, match.receipt
        async with self._one_at_a_time(sent.message_id):
            status: str | None = receipt.status
            recent = self._recent.of(match.key, sent)
            if sent.parts > 1:
                status, before = await self._advance_part(match)
            elif recent:
                before = recent.status
            else:
                (fields,) = await self._store.fields(f"sent:{match.key}")
                # an id of long ago that comes again (counters wrap) must not inherit the status that it had then
                before = fields.get("status") if fields.get("of") == sent.message_id else None
            if sent.message_id in self._partial or sent.message_id in self._early:
                self._keep_early(match, status)
                return None if is_parked else await self._park(receipt)
            before = self._returned.get(sent.message_id, before)
            if status and recent and not recent.is_noted and recent.status == status:
                return await self._note(match, status)
            if status is None or not receipts.moves_forward(before, status):
                log.info("receipt that tells nothing new", message_id=sent.message_id, state=receipt.state, known=before)
                return
            await self._report(sent.message_id, status, match.details(), sent.channel)
            if recent:
                recent.status, recent.is_noted = status, False
            await self._note(match, status)

    def _one_at_a_time(self, message_id: str) -> AbstractAsyncContextManager[None]:
        return self._store.alone(f"report:{message_id}") if self._is_shared else self._locks[hash(message_id) % LOCKS]

    async def _advance_part(self, match: Match) -> tuple[str | None, str | None]:
        """(status of the whole message, the one reported of it). All parts delivered: it is. One failed: it has."""
        sent, status = match.sent, match.receipt.status
        name, part = f"parts:{sent.message_id}", f"part:{sent.part}"
        (fields,) = await self._store.fields(name)
        if receipts.moves_forward(fields.get(part), status):
            (fields,) = await self._store.put_fields(name, {part: status}, self._config.sent_ttl, name)
        parts = [fields.get(f"part:{number}") for number in range(1, sent.parts + 1)]
        return message_status(parts), fields.get("reported")

    async def _note(self, match: Match, status: str) -> None:
        """That this is reported of the message; after its last status ids are kept for less long."""
        config, sent, is_final = self._config, match.sent, status != "pending"
        if sent.parts == 1:
            ttl = config.final_ttl if is_final else config.sent_ttl
            await self._store.put_fields(f"sent:{match.key}", {"status": status, "of": sent.message_id}, ttl)
            self._recent.noted(match.key, sent, status, is_final=is_final)
            return
        ttl = config.completed_multipart_ttl if is_final else config.sent_ttl
        await self._store.put_fields(f"parts:{sent.message_id}", {"reported": status}, ttl)
        if is_final:
            await self._store.expire(f"sent:{match.key}", config.final_ttl)
