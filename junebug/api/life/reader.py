"""LifeReader: gathers what logs, Redis and RabbitMQ know of a message, and tells its life.

Redis must answer; what RabbitMQ or the logs do not tell is said to be missing. All of it is bounded: so much of the logs, so many
dead letters, and few at a time. Neighbours: log_steps.py and kept_steps.py make steps, summary.py the sentence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from junebug import names
from junebug.api.channel_queues import ChannelQueues
from junebug.api.life import kept_steps, log_steps, summary
from junebug.api.life.facts import Components, Facts, Recipient
from junebug.api.life.letters import LetterReader, letter_steps
from junebug.api.life.place import Place, is_of, recipients_of, with_urls
from junebug.api.life.step import Step, at, in_order
from junebug.api.other_hosts import OtherHosts
from junebug.config.declaration import Settings
from junebug.errors import ChannelNotFound, NoSuchMessage, StoreUnavailable
from junebug.logs import questions
from junebug.logs.lines import Budget
from junebug.logs.redaction import UNMASKED, Redactor
from junebug.logs.scan import Found
from junebug.logs.writer import GATHER
from junebug.model.acceptance import Acceptance, Cancellation
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.stores import Stores
from junebug.stores.circuits import Watch
from junebug.stores.outbound import OutboundRecord

MOST_OCTETS, MOST_SECONDS, MOST_LINES = 256_000_000, 4.0, 500
"""Of one log, for one question."""
AT_ONCE = 4
ENDS = ("sent", "rejected", "cancelled", "expired", "event", "dead")
"""Of waiting to be sent."""
LONGEST_ID = 200


@dataclass(slots=True)
class _Logs:
    """`missing`: why something may be."""

    entries: list[dict[str, Any]]
    statuses: list[dict[str, Any]]
    missing: str


@dataclass(frozen=True)
class LifeReader:
    settings: Settings
    stores: Stores
    registry: Registry
    types: RouterTypes
    queues: ChannelQueues
    letters: LetterReader
    others: OtherHosts
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def read(self, place: Place, message_id: str) -> dict[str, Any]:
        """As the API shows it. Raises NoSuchMessage, StoreUnavailable."""
        if not 0 < len(message_id) <= LONGEST_ID or not message_id.isprintable():
            raise no_such(message_id, place)
        async with self.places:
            return await self._read(place, message_id)

    async def _read(self, place: Place, message_id: str) -> dict[str, Any]:
        channel, stores = place.channel, self.stores
        record, inbound = await asyncio.gather(
            stores.outbound.record(channel.id, message_id), stores.inbound.with_time(channel.id, message_id)
        )
        accepted = record.accepted if record else None
        if record and accepted is None and place.router:
            accepted = await stores.outbound.accepted_by(place.router.id, message_id)
        since = at(accepted.timestamp) if accepted else at(inbound[0].timestamp) if inbound else 0.0
        secrets = self._secrets(place)
        logs = await self._logs(place, message_id, since)
        letters, letters_missing = list[dict[str, Any]](), ""
        is_asked = bool(logs.missing) or not logs.entries or any("dead letters" in entry["message"] for entry in logs.entries)
        if is_asked:  # else there are none: it would cost a look at thousands
            letters, letters_missing = await self.letters.find(place, message_id, secrets)
        is_outbound = record is not None or not (inbound or _came_in(logs.entries, letters))
        if place.destination and not is_of(place.destination, record, logs.entries, letters):
            raise no_such(message_id, place)
        is_foreign = is_outbound and place.has_sent is False
        if is_foreign or not (record or inbound or logs.entries or letters):
            raise no_such(message_id, place)
        steps = log_steps.steps_of(logs.entries, is_outbound=is_outbound)
        steps += letter_steps(letters, steps)
        if inbound:
            steps = [step for step in steps if step.kind != "received" or step.get("pdu")]
            steps += kept_steps.inbound_steps(inbound[0], channel.id, *inbound[1:])
        if is_outbound:
            queue = await self._queue(channel, accepted) if accepted else ""
            steps = _sent(steps, channel.id, record, accepted, queue, logs.statuses)
        if place.destination:
            steps = [step for step in steps if step.get("destination_id") in (None, place.destination)]
        if record and record.cancelled:
            steps = _with_canceller(steps, record.cancelled)
        recipients = recipients_of(place, record, steps, is_outbound)
        facts = Facts(
            is_outbound=is_outbound, steps=in_order(with_urls(steps, place, record)), now=time.time(),
            paused=bool(channel.paused), rate_limit=_rate_limit(channel), letters=letters, recipients=recipients,
            has_all_letters=is_asked and not letters_missing,
            logs=logs.missing,
            expires_at=at(accepted.expires_at) if accepted and accepted.expires_at else None,
            **await self._present(place, message_id, record, recipients, is_outbound),
        )  # fmt: skip
        told = summary.tell(facts)
        shown = {
            "message_id": message_id, "channel_id": channel.id, "direction": "outbound" if is_outbound else "inbound",
            "status": told.status, "summary": told.summary, "waiting": told.waiting.json() if told.waiting else None,
            "logs": logs.missing or "complete", "dead_letters": letters_missing or "complete",
            "steps": [step.json() for step in facts.steps],
        }  # fmt: skip
        redactor = Redactor(secrets)
        return {name: value if name.endswith("_id") else _masked(value, redactor) for name, value in shown.items()}

    # --- logs -----------------------------------------------------------------------------------------------------------

    async def _logs(self, place: Place, message_id: str, since: float) -> _Logs:
        await asyncio.sleep(2 * GATHER)  # what a process has logged until now is in its file then
        about = {"logs": place.owners, "message_id": message_id, "since": since, "most": MOST_LINES}
        told = await self.others.ask(
            place.units, questions.ABOUT, MOST_SECONDS * len(place.owners), budget=(MOST_OCTETS, MOST_SECONDS), **about
        )
        found = await asyncio.to_thread(self._read_logs, place.owners, message_id, since)
        if told.answers:
            parts = zip(found, *map(questions.found_of, told.answers), strict=True)
            found = [questions.merged_found(part) for part in parts]
        channel, *router = found
        show = partial(self.registry.show_log, place.channel.type, place.channel.config)
        entries = await asyncio.to_thread(show, channel.entries)
        most = self.settings.max_log_files
        missing = [_missing(id, each, since, most) for id, each in zip(place.owners, found, strict=True)] + told.missing
        entries += [entry for each in router for entry in each.entries]
        return _Logs(entries, channel.statuses, "; ".join(filter(None, missing)))

    def _read_logs(self, owners: Sequence[str], message_id: str, since: float) -> list[Found]:
        """Blocking."""
        directory = Path(self.settings.logging_path)
        return [
            questions.about(directory, id, message_id, since, Budget(MOST_OCTETS, MOST_SECONDS), MOST_LINES) for id in owners
        ]

    # --- how things stand -----------------------------------------------------------------------------------------------

    async def _present(
        self, place: Place, message_id: str, record: OutboundRecord | None, recipients: Sequence[Recipient], is_outbound: bool
    ) -> dict[str, Any]:
        """Of Facts, what is so at this moment."""
        stores, channel, router = self.stores, place.channel, place.router
        hosts = sorted({recipient.host for recipient in recipients})
        components, of_router, watches, length = await asyncio.gather(
            stores.statuses.with_times(channel.id), stores.statuses.with_times(router.id) if router else _nothing(),
            asyncio.gather(*map(stores.circuits.look, hosts)), self._queue_length(channel, record),
        )  # fmt: skip
        circuits: dict[str, Watch] = {host: watch for host, watch in zip(hosts, watches, strict=True) if watch}
        moved_to = ""
        if record and record.accepted and record.accepted.router and not record.events:
            taker, _ = await stores.outbound.taker(record.accepted.router, message_id)
            moved_to = taker if taker and taker != channel.id else ""
        is_cancelled = is_outbound and record is not None and await stores.cancellations.has(channel.id, message_id)
        return {
            **_components(channel, _timed(components), record), "router": _timed(of_router) if of_router is not None else None,
            "circuits": circuits, "queue_length": length, "moved_to": moved_to, "is_cancelled": is_cancelled,
        }  # fmt: skip

    async def _queue(self, channel: ChannelSpec, accepted: Acceptance) -> str:
        """Where it waits until it is sent; of one that a router has moved to this channel, where it waited before."""
        if accepted.channel != channel.id:
            try:
                channel = await self.stores.channels.get(accepted.channel)
            except ChannelNotFound:
                return accepted.plain_queue
        return self.queues.queue(channel, accepted.priority, accepted.to_addr)

    async def _queue_length(self, channel: ChannelSpec, record: OutboundRecord | None) -> int | None:
        """None: RabbitMQ does not tell, or it does not matter."""
        if record is None or record.events:
            return None
        try:
            counts = await self.queues.counts(channel)
        except StoreUnavailable:
            return None
        return sum(counts.queued.values()) if counts else None

    def _secrets(self, place: Place) -> Collection[str]:
        secrets = self.registry.secret_values(place.channel, self.settings)
        if place.router:
            secrets += self.types.secret_values(place.router, place.destinations.values(), self.settings)
        return secrets


def no_such(message_id: str, place: Place) -> NoSuchMessage:
    where = f"channel {place.channel.id}" if place.router is None else f"router {place.router.id}"
    return NoSuchMessage(f"No message with id {message_id[:100]!r} is known of {where}, neither to Redis nor to its logs")


def _sent(
    steps: list[Step], channel: str, record: OutboundRecord | None, accepted: Acceptance | None, queue: str,
    statuses: list[dict[str, Any]],
) -> list[Step]:  # fmt: skip
    """Of an MT: with what Redis keeps of it, and how the channel did while it waited."""
    events = list(record.events) if record else []
    if events:  # which tell what the provider reported
        steps = [step for step in steps if not (step.kind == "receipt" and step.get("delivery_status"))]
    steps += [kept_steps.event_step(event, channel) for event in events]
    if accepted is None:
        return steps + kept_steps.unknown_acceptance(events)
    left = min((step.timestamp for step in steps if step.kind in ENDS), default=time.time())
    return steps + kept_steps.acceptance_steps(accepted, queue) + log_steps.status_steps(statuses, at(accepted.timestamp), left)


def _with_canceller(steps: Iterable[Step], cancelled: Cancellation) -> list[Step]:
    by = {"by": cancelled.by, "address": cancelled.address, "asked_at": cancelled.timestamp}
    description = f"Cancelled before it was sent, as {by['by']} at {by['address']} had asked at {by['asked_at']}"
    return [
        Step(step.timestamp, step.kind, description, {**step.details, **by}) if step.kind == "cancelled" else step
        for step in steps
    ]


async def _nothing() -> None:
    return None


def _masked(value: Any, redactor: Redactor) -> Any:
    """Ids and words of ours stay as they are, in steps, too."""
    if isinstance(value, dict):
        own = {name for name in value if name in UNMASKED or name.endswith("_id")}
        return {name: each if name in own else _masked(each, redactor) for name, each in value.items()}
    return [_masked(each, redactor) for each in value] if isinstance(value, list) else redactor.value(value)


def _timed(components: Mapping[str, tuple[dict[str, Any], str]]) -> Components:
    return {name: (body, at(when)) for name, (body, when) in components.items()}


def _components(channel: ChannelSpec, components: Components, record: OutboundRecord | None) -> dict[str, Components]:
    """Of Facts."""
    if channel.shards == 1:
        return {"components": components}
    ends = [f"/{shard}" for shard in range(1, channel.shards)]
    first = {name: each for name, each in components.items() if not name.endswith(tuple(ends))}
    shard = names.shard_for(record.accepted.to_addr, channel.shards) if record and record.accepted else 0
    if not shard:
        return {"components": first}
    own = {name.removesuffix(ends[shard - 1]): each for name, each in components.items() if name.endswith(ends[shard - 1])}
    shared = {"outbound": first["outbound"]} if "outbound" in first else {}
    return {"components": first, "of_shard": own | shared}


def _missing(owner: str, found: Found, since: float, most_files: int) -> str:
    """Why lines of this log may be missing; empty: none are, as far as is seen."""
    if found.trouble:
        return f"the log of {owner}: {found.trouble}"
    if found.oldest is None:
        return f"there is no log of {owner} here: it was removed, or is on a host that is gone"
    if since and found.oldest > since + 1 and 0 < most_files <= found.files:
        return f"the log of {owner} begins after this message: older files of it were removed (max_log_files), or are elsewhere"
    return ""


def _came_in(entries: Iterable[Mapping[str, Any]], letters: Iterable[Mapping[str, Any]]) -> bool:
    if any(letter.get("kind") == "inbound" for letter in letters):
        return True
    words = {entry["message"] for entry in entries}
    if any(word.startswith("inbound message") for word in words):
        return True
    return any(entry.get("to") in ("mo_url", "amqp_queue") and "event_type" not in entry for entry in entries)


def _rate_limit(channel: ChannelSpec) -> tuple[int, int] | None:
    count, seconds = channel.rate_limit_count, channel.rate_limit_window
    return (count, seconds) if count and seconds else None
