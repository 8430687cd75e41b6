"""Delivery receipts: which deliver_sm is one, and what it says. Pure.

Neighbours: smpp/receipt_text.py reads the text, correlation.py finds the message and keeps how far it got. SMPP 3.4 §5.2.12
(esm_class), §5.2.28 (message_state), appendix B (the text); the rest is what SMSCs are seen to send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from junebug.smpp import constants as c
from junebug.smpp.receipt_ids import key
from junebug.smpp.receipt_text import LONGEST_VALUE, Fields, scan

WithoutFlag = Literal["never", "matching"]

STATUS_MAPPING: Mapping[str, str] = {
    # message_state (SMPP 3.4 §5.2.28, 5.0 §4.7.15); accepted is "read on behalf of the subscriber by customer service":
    # final, as it is for Vumi
    "SCHEDULED": "pending", "ENROUTE": "pending", "DELIVERED": "delivered", "EXPIRED": "failed", "DELETED": "failed",
    "UNDELIVERABLE": "failed", "ACCEPTED": "delivered", "UNKNOWN": "pending", "REJECTED": "failed", "SKIPPED": "failed",
    # the text's own spellings (appendix B)
    "DELIVRD": "delivered", "UNDELIV": "failed", "ACCEPTD": "delivered", "REJECTD": "failed",
    # Vumi's
    "0": "delivered", "PENDING": "pending",
    # seen elsewhere
    "UNDELIVERED": "failed", "FAILED": "failed", "BUFFRED": "pending", "BUFFERED": "pending",
}  # fmt: skip
"""State of a receipt -> status of the delivery event. One that is not here is pending: it ends nothing."""

_RANKS = {"pending": 1, "delivered": 2, "failed": 2}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the SMSC says of one submit_sm. `status`: delivered, failed (both final) or pending."""

    provider_id: str
    state: str
    status: str
    certain: bool = True
    """False: it is a receipt if its id is one of ours, else somebody's message."""
    by_text: bool = False
    """Only its text says so, as anybody may write it: it must come from whom its message went to."""
    other_ids: Sequence[str] = ()
    """What it says besides of which message it is about: by its text, where its parameters say something else."""
    error_code: str | None = None
    submit_date: str | None = None
    done_date: str | None = None
    network_error: Sequence[int] | None = None
    """(network type, code), SMPP 3.4 §5.3.2.31."""
    addresses: Sequence[str] = ()
    """Of the receipt, from and to: the first should be whom the message went to, but some SMSCs swap them."""

    @property
    def ids(self) -> tuple[str, ...]:
        """In the order in which they are looked for."""
        return self.provider_id, *self.other_ids

    def by(self, provider_id: str) -> Receipt:
        """The same, with this one of its ids first."""
        if provider_id == self.provider_id:
            return self
        return replace(self, provider_id=provider_id, other_ids=tuple(each for each in self.ids if each != provider_id))

    def details(self) -> dict[str, Any]:
        """For event_details; the dates are as the SMSC wrote them, in its own time zone."""
        details: dict[str, Any] = {"sent_message_id": self.provider_id, "state": self.state}
        for name in ("error_code", "submit_date", "done_date"):
            if value := getattr(self, name):
                details[name] = value
        if self.network_error:
            details["network_type"], details["network_error_code"] = self.network_error
        return details


class UnreadableReceipt(Exception):
    """esm_class says that it is a receipt, but neither its TLVs nor its text say of what."""


@dataclass(frozen=True, slots=True)
class ReceiptReader:
    """Reads receipts as a channel's config wants them read."""

    expression: Callable[[str], Fields] | None = None
    """An operator's own, beside what SMSCs usually write."""
    statuses: Mapping[str, str] = field(default_factory=lambda: STATUS_MAPPING)
    use_esm_class: bool = True
    without_flag: WithoutFlag = "matching"

    def read(self, esm_class: int, tlvs: Mapping[int, bytes], text: str, addresses: Sequence[str] = ()) -> Receipt | None:
        """None: not a receipt. Raises UnreadableReceipt. `text`: the short_message or payload as Latin-1 text."""
        kind = esm_class & c.ESM_CLASS_TYPE_MASK
        # other types are acknowledgements that a phone writes, not an SMSC
        is_flagged = self.use_esm_class and bool(kind & (c.ESM_CLASS_DELIVERY_RECEIPT | c.ESM_CLASS_INTERMEDIATE))
        by_text = not is_flagged and c.RECEIPTED_MESSAGE_ID not in tlvs
        if by_text and self.without_flag == "never":
            return None
        if by_text and not self.expression and c.MESSAGE_STATE not in tlvs and "stat" not in text.lower():
            return None  # most messages, at once
        fields = self.expression(text) if self.expression else {}
        fits = bool(fields) or not self.expression
        fields = fields or scan(text)
        ids = [each for each in (_c_string(tlvs.get(c.RECEIPTED_MESSAGE_ID, b"")), fields.get("id", "")) if each]
        state = _state(tlvs.get(c.MESSAGE_STATE), fields.get("stat", ""))
        if not ids or not state:
            if is_flagged:
                raise UnreadableReceipt(f"esm_class 0x{esm_class:02x} says receipt, but there is no id or state in it")
            return None
        status = self.statuses.get(state.upper(), "pending")
        if kind == c.ESM_CLASS_INTERMEDIATE and status == "delivered":
            status = "pending"  # an intermediate notification ends nothing
        error = tlvs.get(c.NETWORK_ERROR_CODE, b"")
        return Receipt(
            provider_id=ids[0],
            other_ids=tuple(each for each in ids[1:] if key(each) != key(ids[0])),
            state=state,
            status=status,
            certain=not by_text or (fits and not self.use_esm_class),
            by_text=by_text,
            error_code=fields.get("err") or None,
            submit_date=fields.get("submit_date") or None,
            done_date=fields.get("done_date") or None,
            network_error=(error[0], int.from_bytes(error[1:3], "big")) if len(error) >= 3 else None,
            addresses=addresses,
        )


def _state(parameter: bytes | None, of_text: str) -> str:
    """message_state by its name; the text's where that is none, one that no specification knows, or 0: many leave it so."""
    named = c.MESSAGE_STATE_NAMES.get(parameter[-1]) if parameter else None
    return of_text if named is None or (of_text and parameter and not parameter[-1]) else named


def _c_string(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("latin-1").strip()[:LONGEST_VALUE]


def moves_forward(before: str | None, after: str) -> bool:
    """Whether a message's status may change so: to pending once, then to one final status, then never again."""
    return _RANKS[after] > _RANKS.get(before or "", 0)
