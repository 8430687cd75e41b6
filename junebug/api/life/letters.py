"""Dead letters of one message: found on the queues of its channel and router. Neighbour: reader.py, which tells of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery as Received
from junebug.api.channel_queues import ChannelQueues
from junebug.api.handlers.dead_letters import Shelf, letter_json
from junebug.api.life.place import Place
from junebug.api.life.step import Step, at
from junebug.errors import JunebugError
from junebug.model.callbacks import DeadLetter

LETTERS_TIME = 3.0
"""Seconds in which dead letters are looked through."""


@dataclass(frozen=True)
class LetterReader:
    broker: Broker
    queues: ChannelQueues

    async def find(self, place: Place, message_id: str, secrets: Collection[str]) -> tuple[list[dict[str, Any]], str]:
        """Those of this message, and why some may be missing."""
        needle, found = orjson.dumps(message_id), list[dict[str, Any]]()
        missing = ""
        for owner in place.owners:
            is_routed = owner != place.channel.id
            is_quorum = self.queues.prefers_quorum(None if is_routed else place.channel)
            shelf = Shelf(owner, self.queues.call_again, secrets, is_quorum, is_routed=is_routed)
            try:
                bodies, is_whole = await self._dead(shelf, message_id)
            except JunebugError as error:
                missing = str(error)
                continue
            missing = missing or ("" if is_whole else "only the oldest were looked at")
            for body in bodies:
                shown = letter_json(DeadLetter.from_wire(body), shelf)
                if _is_letter_about(shown, needle, message_id):
                    found.append(shown)
        return found, missing

    async def _dead(self, shelf: Shelf, message_id: str) -> tuple[list[bytes], bool]:
        """Dead letters that may be of this message, and whether all were looked at. Raises QueueBusy, BrokerUnavailable."""
        queue, total = await self.queues.find(names.dead_queue(shelf.owner), shelf.is_quorum)
        if not total:
            return [], True
        ends, found, seen = time.monotonic() + LETTERS_TIME, list[bytes](), 0

        async def visit(batch: Sequence[Received]) -> bool:
            nonlocal seen
            seen += len(batch)
            found.extend(each.body for each in batch if _may_be_about(each.body, message_id))
            return time.monotonic() < ends

        await self.broker.browse(queue, visit, keeping=True)
        return found, seen >= total


def _may_be_about(body: bytes, message_id: str) -> bool:
    """An unreadable one is in Base64: it is to be looked at."""
    return message_id.encode("utf-8", "replace") in body or b'"body":"' in body


def _is_letter_about(shown: Mapping[str, Any], needle: bytes, message_id: str) -> bool:
    message = shown.get("message")
    return message.get("message_id") == message_id if isinstance(message, dict) else needle.decode() in str(shown.get("body"))


def letter_steps(letters: Iterable[Mapping[str, Any]], steps: Iterable[Step]) -> list[Step]:
    """Of those that the log does not tell of; without their texts."""
    dead = [step for step in steps if step.kind == "dead"]
    known = {step.get("letter_id") for step in dead} | {step.get("queue") for step in dead}
    found = []
    for letter in letters:
        if letter["id"] in known or letter.get("queue", "") in known:
            continue
        message = letter.get("message") or {}
        details = {
            "letter_id": letter["id"], "why": letter["reason"], "reason": letter["error"], "queue": letter.get("queue"),
            "to": letter.get("to"), "destination_id": letter.get("destination"), "event_type": message.get("event_type"),
        }  # fmt: skip
        told = {name: value for name, value in details.items() if value is not None}
        found.append(Step(at(letter["timestamp"]), "dead", f"Moved to the dead letters: {letter['error']}", told))
    return found
