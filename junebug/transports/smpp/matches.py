"""A receipt and the part of a message that it is about. Pure. Neighbour: correlation.py finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from junebug.smpp import receipt_ids
from junebug.transports.base import Report
from junebug.transports.smpp import receipts
from junebug.transports.smpp.receipts import Receipt
from junebug.transports.smpp.recently_sent import SentPart


@dataclass(frozen=True, slots=True)
class Match:
    """A receipt, the part that it is about, and the key of that part's id. `whole`: status of the whole message with it."""

    key: str
    sent: SentPart
    receipt: Receipt
    whole: str | None = None

    def details(self) -> dict[str, Any]:
        parts = {"part": self.sent.part, "parts": self.sent.parts} if self.sent.parts > 1 else {}
        return {**self.receipt.details(), **parts}


def message_status(parts: list[str | None]) -> str | None:
    """Of a message in parts, by the statuses of all of its parts (None: nothing heard)."""
    if "failed" in parts:
        return "failed"
    if all(status == "delivered" for status in parts):
        return "delivered"
    return "pending" if "pending" in parts else None


def told_by(matches: Sequence[Match]) -> tuple[list[Report], str | None, Match | None]:
    """What receipts tell of the whole of a message, one after the other; its status then, and by which."""
    reports, told, last = list[Report](), None, None
    for match in matches:
        if match.whole and receipts.moves_forward(told, match.whole):
            told, last = match.whole, match
            reports.append(Report(match.whole, match.details()))
    return reports, told, last


def fits_number(receipt: Receipt, sent: SentPart) -> bool:
    """Some SMSCs swap the addresses; a stranger may well write to whom a message went to."""
    for address in receipt.addresses[:1] if receipt.by_text else receipt.addresses:
        if receipt_ids.same_number(address, sent.to_addr):
            return True
    return False


def parked_under(receipt: Receipt) -> list[str]:
    """The names under which it waits for its message."""
    return [f"parked:{key}" for provider_id in receipt.ids for key in receipt_ids.candidate_keys(provider_id)]


def parked_field(receipt: Receipt) -> str:
    """Under which of that name: others may wait there, whose ids may stand for the same one."""
    return " ".join((receipt.state, *sorted(receipt.ids)))
