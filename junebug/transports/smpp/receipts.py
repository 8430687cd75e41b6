"""Delivery receipts: which deliver_sm is one, what it says, and which sent message its id can mean. Pure.

Neighbours: correlation.py finds the message and keeps how far it got. SMPP 3.4 §5.2.12 (esm_class), §5.2.28 (message_state),
appendix B (the text); the rest is what SMSCs are seen to send.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from junebug.smpp import constants as c

DEFAULT_REGEX = re.compile(
    r"id:\s*(?P<id>[^\s\0]{1,65})"
    r"(?:\s+sub:\s*(?P<sub>[^\s]*))?"
    r"(?:\s+dlvrd:\s*(?P<dlvrd>[^\s]*))?"
    r"(?:\s+submit[ _]?date:\s*(?P<submit_date>\d*))?"
    r"(?:\s+done[ _]?date:\s*(?P<done_date>\d*))?"
    r"\s+stat(?:us)?:\s*(?P<stat>[A-Z0-9_]{1,20})"
    r"(?:\s+err:\s*(?P<err>[^\s\0]*))?"
    r"(?:\s+text:\s*(?P<text>.{0,20}))?",
    re.IGNORECASE | re.DOTALL,
)
"""Appendix B with what may be missing left out; `_by_names` reads other orders."""

_NAMED = re.compile(
    r"\b(id|sub|dlvrd|submit[ _]?date|done[ _]?date|stat(?:us)?|err(?:or)?|text)\s*[:=]\s*([^\s,;\0]*)", re.IGNORECASE
)

STATUS_MAPPING: Mapping[str, str] = {
    # message_state (SMPP 3.4 §5.2.28, 5.0 §4.7.15)
    "SCHEDULED": "pending", "ENROUTE": "pending", "DELIVERED": "delivered", "EXPIRED": "failed", "DELETED": "failed",
    "UNDELIVERABLE": "failed", "UNKNOWN": "pending", "REJECTED": "failed", "SKIPPED": "failed",
    "ACCEPTED": "delivered",  # "read on behalf of the subscriber by customer service": final; Vumi's meaning, too
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
    """False: only its text says so; it is a receipt if its id is one of ours, else somebody's message."""
    error_code: str | None = None
    submit_date: str | None = None
    done_date: str | None = None
    network_error: tuple[int, int] | None = None
    """(network type, code), SMPP 3.4 §5.3.2.31."""
    addresses: tuple[str, ...] = ()
    """Of the receipt, from and to: the first should be whom the message went to, but some SMSCs swap them."""

    def details(self) -> dict[str, Any]:
        """For event_details; the dates are as the SMSC wrote them, in its own time zone."""
        details: dict[str, Any] = {"sent_message_id": self.provider_id, "state": self.state}
        for name in ("error_code", "submit_date", "done_date"):
            value = getattr(self, name)
            if value:
                details[name] = value
        if self.network_error:
            details["network_type"], details["network_error_code"] = self.network_error
        return details


class UnreadableReceipt(Exception):
    """esm_class says that it is a receipt, but neither its TLVs nor its text say of what."""


class ReceiptReader:
    """Reads receipts as a channel's config wants them read."""

    def __init__(
        self, regex: re.Pattern[str] = DEFAULT_REGEX, statuses: Mapping[str, str] = STATUS_MAPPING, use_esm_class: bool = True
    ) -> None:
        self._regex = regex
        self._statuses = statuses
        self._use_esm_class = use_esm_class

    def read(
        self, esm_class: int, tlvs: Mapping[int, bytes], text: str, addresses: tuple[str, ...] = ()
    ) -> Receipt | None:
        """None: not a receipt. Raises UnreadableReceipt. `text`: the short_message or payload as Latin-1 text."""
        kind = esm_class & c.ESM_CLASS_TYPE_MASK
        by_tlvs = c.RECEIPTED_MESSAGE_ID in tlvs
        fields = self._fields(text, lenient=bool(kind) or by_tlvs)
        provider_id = _c_string(tlvs.get(c.RECEIPTED_MESSAGE_ID, b"")) or fields.get("id", "")
        state = self._state(tlvs.get(c.MESSAGE_STATE, b""), fields)
        if not provider_id or not state:
            if kind & (c.ESM_CLASS_DELIVERY_RECEIPT | c.ESM_CLASS_INTERMEDIATE) and self._use_esm_class:
                raise UnreadableReceipt(f"esm_class 0x{esm_class:02x} says receipt, but there is no id or state in it")
            return None
        status = self._statuses.get(state.upper(), "pending")
        if kind == c.ESM_CLASS_INTERMEDIATE and status == "delivered":
            status = "pending"  # an intermediate notification ends nothing
        error = tlvs.get(c.NETWORK_ERROR_CODE, b"")
        return Receipt(
            provider_id=provider_id,
            state=state,
            status=status,
            certain=by_tlvs or (bool(kind) if self._use_esm_class else True),
            error_code=fields.get("err") or None,
            submit_date=fields.get("submit_date") or None,
            done_date=fields.get("done_date") or None,
            network_error=(error[0], int.from_bytes(error[1:3], "big")) if len(error) >= 3 else None,
            addresses=addresses,
        )

    def _fields(self, text: str, *, lenient: bool) -> dict[str, str]:
        found = self._regex.search(text)
        if found:
            return {name: value.strip("\0 ") for name, value in found.groupdict().items() if value}
        return _by_names(text) if lenient else {}

    @staticmethod
    def _state(message_state: bytes, fields: Mapping[str, str]) -> str:
        """The TLV's, by its name; the text's where there is none, or one that no specification knows."""
        name = c.MESSAGE_STATE_NAMES.get(message_state[-1]) if message_state else None
        return name or fields.get("stat", "")


def _by_names(text: str) -> dict[str, str]:
    """`stat:DELIVRD id:12 ...` in any order, with = for : as well."""
    found: dict[str, str] = {}
    for name, value in _NAMED.findall(text):
        key = re.sub(r"[ _]?date", "_date", name.lower())
        key = {"status": "stat", "error": "err"}.get(key, key)
        found.setdefault(key, value)
    return found


def _c_string(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode("latin-1").strip()


def moves_forward(before: str | None, after: str) -> bool:
    """Whether a message's status may change so: to pending once, then to one final status, then never again."""
    return _RANKS[after] > _RANKS.get(before or "", 0)


# --- message ids --------------------------------------------------------------------------------------------------------

FORMS = ("same", "hex", "decimal")
"""How the submit_sm_resp's id is had from a receipt's: as it is, as its number in hexadecimal, or in decimal."""


def key(provider_id: str) -> str:
    """What ids that differ only in case, leading zeros, a 0x, or a UUID's dashes have in common."""
    text = provider_id.strip("\0 \t\r\n").lower().removeprefix("0x")
    if text.count("-") == 4:
        try:
            return uuid.UUID(text).hex.lstrip("0")
        except ValueError:
            pass
    return text.lstrip("0") or "0"


def candidate_keys(provider_id: str) -> dict[str, set[str]]:
    """Key of each submit_sm_resp's id that a receipt's id may stand for -> the forms by which it does."""
    same = key(provider_id)
    found = {same: {"same"}}
    if same.isascii() and same.isdigit() and len(same) <= 39:  # 128 bits
        found.setdefault(f"{int(same):x}", set()).add("hex")
    if len(same) <= 32 and re.fullmatch("[0-9a-f]+", same):
        found.setdefault(str(int(same, 16)), set()).add("decimal")
    return found


def same_number(a: str, b: str) -> bool:
    """Whether two spellings can mean one phone: +27820001111, 0027820001111, 0820001111."""
    a, b = (re.sub(r"[^0-9a-z]", "", number.lower()).lstrip("0") for number in (a, b))
    if not a or not b:
        return False
    shorter, longer = sorted((a, b), key=len)
    return longer == shorter or (len(shorter) >= 7 and longer.endswith(shorter))
