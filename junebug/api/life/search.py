"""MessageSearch: which messages were sent to, or came from, whom, and when: read from the logs of channels, newest first.

A message that has left, or come in, is in its channel's log (logs/message_index.py looks there); what still waits to be sent is
in the queues of RabbitMQ, and comes first. What has become of each is read from Redis, or, of what that has forgotten, from the
lines behind. One request reads so much and no more: its cursor goes on where it ended, also where it found nothing.
"""

from __future__ import annotations

import asyncio
import base64
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from junebug import names
from junebug.api.handlers.queue import QueueControl
from junebug.api.http import whole_number
from junebug.api.life import log_steps, outcome
from junebug.api.life.facts import Facts
from junebug.api.life.outcome import INBOUND_STATUSES, OUTBOUND_STATUSES
from junebug.api.life.step import at, text_of
from junebug.api.other_hosts import OtherHosts
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, ChannelNotFound, JunebugError, StoreUnavailable
from junebug.logs import questions
from junebug.logs.lines import Budget
from junebug.logs.message_index import INBOUND, OUTBOUND, Hit, Hits, MessageIndex, Wanted, is_same_address
from junebug.model.messages import UserMessage, parse_timestamp
from junebug.stores import Stores
from junebug.stores.outbound import OutboundRecord

DEFAULT_LIMIT, LARGEST_LIMIT = 50, 500
OCTETS, SECONDS, WORDS_OCTETS = 64_000_000, 2.0, 32_000_000
"""Of logs that one request reads; and of those that tell what became of what Redis has forgotten."""
MOST_QUEUED, MOST_QUEUES, QUEUES_SECONDS = 500, 20, 5.0
"""Messages of a channel's queues that are looked at, channels that are, and for how long in all."""
STEP = 1.0
"""Seconds of logs that are left out where one request cannot get through them: the next one goes on before."""
AT_ONCE = 2
LONGEST_ADDRESS = 200
STATUSES = frozenset((*OUTBOUND_STATUSES, *INBOUND_STATUSES)) - {"moved", "sending"}
Status = tuple[str, str]
"""A message's status, and the last event's type, where that has another name."""
Cursor = tuple[float, frozenset[str]]
"""Up to when is to be read next, and which messages of that moment were given."""


@dataclass(frozen=True, slots=True)
class Query:
    wanted: Wanted
    status: str | None
    channels: tuple[str, ...]
    """Empty: all."""
    limit: int
    is_first: bool
    """No cursor was given."""


class Item(NamedTuple):
    message_id: str
    channel: str
    direction: str
    to_addr: str | None
    from_addr: str | None
    timestamp: float
    status: str

    def json(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id, "channel_id": self.channel, "direction": self.direction, "to": self.to_addr,
            "from": self.from_addr, "timestamp": text_of(self.timestamp), "status": self.status,
        }  # fmt: skip


@dataclass(frozen=True)
class MessageSearch:
    settings: Settings
    stores: Stores
    index: MessageIndex
    queue: QueueControl
    others: OtherHosts
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def find(self, query: Query, visible: Sequence[str]) -> dict[str, Any]:
        """`visible`: the channels that who asks may know of. Raises ChannelNotFound, StoreUnavailable."""
        for channel in query.channels:
            if channel not in visible:
                raise ChannelNotFound(f"There is no channel with id {channel[:100]!r}")
        channels = list(query.channels or visible)
        async with self.places:
            queued, notes = await self._queued(query, channels) if query.is_first else ([], [])
            items, cursor = await self._logged(query, channels, {each.message_id for each in queued}, notes)
        shown = [each.json() for each in (*queued, *items)]
        return {"messages": shown, "cursor": cursor, "logs": "; ".join(notes) or "complete"}

    # --- what has left, or come in --------------------------------------------------------------------------------------

    async def _logged(
        self, query: Query, channels: Sequence[str], given: set[str], notes: list[str]
    ) -> tuple[list[Item], str | None]:
        items: list[Item] = []
        wanted, budget, words = query.wanted, Budget(OCTETS, SECONDS), Budget(WORDS_OCTETS, SECONDS)
        while len(items) < query.limit:
            hits = await self._search(channels, wanted, query.limit - len(items), budget, notes)
            statuses = await self._statuses(hits.found, words)
            for hit, status in zip(hits.found, statuses, strict=True):
                if hit.message_id not in given and query.status in (None, *status):
                    items.append(_item(hit, status[0]))
            if hits.is_over:
                return items, None
            before, wanted = wanted, _after(wanted, hits)
            if budget.is_over:
                is_stuck = not hits.found and wanted.until == before.until < math.inf
                wanted = replace(wanted, until=wanted.until - STEP, at_end=frozenset()) if is_stuck else wanted
                break
        return items, _cursor(wanted)

    async def _search(self, channels: Sequence[str], wanted: Wanted, most: int, budget: Budget, notes: list[str]) -> Hits:
        """On this host and on the others. `notes`: is told why something may be missing."""
        asking = self.others.ask(
            channels, questions.SEARCH, SECONDS, channels=channels, wanted=questions.wanted_json(wanted), most=most,
            budget=(OCTETS, SECONDS),
        )  # fmt: skip
        told, here = await asyncio.gather(asking, asyncio.to_thread(self.index.search, channels, wanted, most, budget))
        missing = list(told.missing)
        if not (told.answers or missing or os.path.isdir(self.settings.logging_path)):  # noqa: ASYNC240 - one stat
            missing.append(f"there are no logs here, in {self.settings.logging_path}")
        notes += (each for each in missing if each not in notes)
        return questions.merged_hits([here, *map(questions.hits_of, told.answers)], most) if told.answers else here

    async def _statuses(self, hits: Sequence[Hit], words: Budget) -> list[Status]:
        sent = [hit for hit in hits if hit.direction == OUTBOUND]
        kept = await self.stores.outbound.records([(hit.channel, hit.message_id) for hit in sent])
        known = {hit: _of_record(record) for hit, record in zip(sent, kept, strict=True) if record and record.events}
        silent = [hit for hit in hits if hit not in known]
        told = zip(silent, await self._last_words(silent, words), strict=True)
        known |= {hit: _of_log(hit, entries) for hit, entries in told}
        return [known[hit] for hit in hits]

    async def _last_words(self, hits: Sequence[Hit], words: Budget) -> list[questions.Entries]:
        """What logs say of each from then on."""
        logs = [[hit.channel, *await self._router_of(hit)] for hit in hits]
        about = [(each, hit.message_id, hit.timestamp) for each, hit in zip(logs, hits, strict=True)]
        told = await self.others.ask(
            [*{id: None for each in logs for id in each}], questions.LAST_WORDS, SECONDS, messages=about,
            budget=(WORDS_OCTETS, SECONDS),
        )  # fmt: skip
        here = [await asyncio.to_thread(self.index.last_words, *each, words) for each in about]
        parts = zip(here, *(answer["entries"] for answer in told.answers), strict=True)
        return [questions.merged_entries(part) for part in parts]

    async def _router_of(self, hit: Hit) -> list[str]:
        try:
            router = (await self.queue.specs.get(hit.channel)).router if hit.direction == INBOUND else None
        except ChannelNotFound:
            router = None
        return [router] if router else []

    # --- what waits -----------------------------------------------------------------------------------------------------

    async def _queued(self, query: Query, channels: Sequence[str]) -> tuple[list[Item], list[str]]:
        """What is in the queues, newest first; and why some of it may be missing."""
        wanted = query.wanted
        if wanted.direction == INBOUND or query.status not in (None, "queued"):
            return [], []
        items, notes, ends = list[Item](), list[str](), time.monotonic() + QUEUES_SECONDS
        looked = 0
        for channel in channels:
            if looked >= MOST_QUEUES or time.monotonic() > ends:
                notes.append("not all queues were looked at: ask with a channel_id")
                break
            try:
                waiting = await self._waiting(channel, notes)
            except StoreUnavailable:
                raise
            except JunebugError as error:
                notes.append(f"what waits in the queues of {channel} is not known: {error}")
                if error.status >= 500:
                    break
                continue
            looked += bool(waiting)
            items += (item for each in waiting if (item := _waiting_item(each, channel)) and _fits(item, wanted))
        items.sort(key=lambda item: -item.timestamp)
        if len(items) > query.limit:
            notes.append(f"of {len(items)} that wait only {query.limit} are shown")
        return items[: query.limit], notes

    async def _waiting(self, channel: str, notes: list[str]) -> list[UserMessage]:
        try:
            spec = await self.queue.specs.get(channel)
        except ChannelNotFound:
            return []
        counts = await self.queue.queues.count(spec)
        total = sum(counts.queued.values())
        if total > MOST_QUEUED:
            notes.append(f"of {total} that wait in the queues of {channel} only the first {MOST_QUEUED} were looked at")
        return await self.queue.first(spec, MOST_QUEUED) if total else []


def _of_record(record: OutboundRecord) -> Status:
    event = record.events[-1]
    return outcome.status_of(event.api_type, event.ended), event.api_type


def _of_log(hit: Hit, entries: questions.Entries) -> Status:
    is_outbound = hit.direction == OUTBOUND
    facts = Facts(is_outbound=is_outbound, steps=log_steps.steps_of(entries, is_outbound=is_outbound), now=time.time())
    if is_outbound:
        status = outcome.sent(facts).status
        return status, outcome.EVENT_TYPES.get(status, status)
    last = facts.last("callback", "dead", "dropped", "callback_waits", "replayed")
    status = "received" if last is None else {"dead": "dead", "dropped": "dropped"}.get(last.kind, "waiting")
    if last and last.kind == "callback" and last.get(log_steps.TAKEN):
        status = "forwarded"
    return status, status


def _item(hit: Hit, status: str) -> Item:
    return Item(hit.message_id, hit.channel, hit.direction, hit.to_addr, hit.from_addr, hit.timestamp, status)


def _waiting_item(message: UserMessage, channel: str) -> Item:
    when = at(message.timestamp)
    return Item(message.message_id, channel, OUTBOUND, message.to_addr, message.from_addr, when, "queued")


def _fits(item: Item, wanted: Wanted) -> bool:
    given = ((wanted.to_addr, item.to_addr), (wanted.from_addr, item.from_addr))
    return wanted.since <= item.timestamp <= wanted.until and all(
        each is None or is_same_address(each, address) for each, address in given
    )


def _after(wanted: Wanted, hits: Hits) -> Wanted:
    """What is left of it."""
    until = min(hits.reached, wanted.until)
    given = {hit.message_id for hit in hits.found if hit.timestamp == until}
    return replace(wanted, until=until, at_end=frozenset(given | (wanted.at_end if until == wanted.until else frozenset())))


# --- the request --------------------------------------------------------------------------------------------------------


def read_query(query: Mapping[str, str]) -> Query:
    """Raises ApiUsageError, which names the parameter."""
    if unknown := sorted(query.keys() - _PARAMETERS):
        raise ApiUsageError(f"{unknown[0][:50]}: there is no such parameter; there are {', '.join(sorted(_PARAMETERS))}")
    since, until = _time(query, "since", 0.0), _time(query, "until", math.inf)
    wanted = Wanted(_address(query, "to"), _address(query, "from"), _word(query, "direction", (OUTBOUND, INBOUND)), since, until)
    cursor = query.get("cursor")
    if cursor is not None:
        at_most, given = _read_cursor(cursor)
        wanted = replace(wanted, until=min(until, at_most), at_end=given)
    channel = query.get("channel_id")
    if channel is not None and not names.is_channel_id(channel):
        raise ChannelNotFound(f"There is no channel with id {channel[:100]!r}")
    limit = whole_number(query, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)
    return Query(wanted, _word(query, "status", sorted(STATUSES)), (channel,) if channel else (), limit, cursor is None)


_PARAMETERS = frozenset(("to", "from", "since", "until", "status", "direction", "channel_id", "limit", "cursor"))


def _address(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.strip() or len(text) > LONGEST_ADDRESS or not text.isprintable():
        raise ApiUsageError(f"{name}: expected an address of 1 to {LONGEST_ADDRESS} printable characters")
    return text


def _word(query: Mapping[str, str], name: str, words: Sequence[str]) -> str | None:
    text = query.get(name)
    if text is not None and text not in words:
        raise ApiUsageError(f"{name}: expected one of {', '.join(words)}, got {text[:50]!r}")
    return text


def _time(query: Mapping[str, str], name: str, default: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(parse_timestamp(text.replace(" ", "+") if "T" in text else text))
        return when.replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise ApiUsageError(f"{name}: expected a time as 2026-11-23T20:00:00Z, got {text[:50]!r}") from None


def _cursor(wanted: Wanted) -> str:
    written = orjson.dumps([wanted.until if math.isfinite(wanted.until) else None, sorted(wanted.at_end)])
    return base64.urlsafe_b64encode(written).decode().rstrip("=")


def _read_cursor(text: str) -> Cursor:
    try:
        until, given = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return (math.inf if until is None else float(until)), frozenset(map(str, given))
    except (ValueError, TypeError):
        raise ApiUsageError("cursor: expected one that an answer has given, for the same question") from None
