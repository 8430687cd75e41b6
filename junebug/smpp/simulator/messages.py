"""What the simulated SMSC (smsc.py) keeps and sends: messages submitted, their receipts, messages from phones."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from junebug.smpp import constants as c
from junebug.smpp.pdu import DataSm, DeliverSm, Pdu, SubmitMulti, SubmitSm
from junebug.smpp.text import codecs, multipart

MESSAGE_STATES = {
    "SCHEDULED": 0, "ENROUTE": 1, "DELIVRD": 2, "EXPIRED": 3, "DELETED": 4, "UNDELIV": 5, "ACCEPTD": 6, "UNKNOWN": 7,
    "REJECTD": 8,
}  # fmt: skip
"""`stat` of a receipt -> message_state (SMPP 3.4, 5.2.28 and appendix B)."""
MESSAGE_IDS: dict[str, Callable[[int], str]] = {
    "decimal": str,
    "hex": lambda number: f"{number:x}",
    "uuid": lambda number: str(uuid.uuid4()),
}
RECEIPT_IDS: dict[str, Callable[[str], str]] = {
    "same": str,
    "upper": str.upper,
    "padded": lambda message_id: message_id.zfill(20),
    "hex": lambda message_id: f"{int(message_id):x}",
    "decimal": lambda message_id: str(int(message_id, 16)),
}
_RECEIPT_TEXT = (
    "id:{id} sub:001 dlvrd:{delivered:03d} submit date:{submitted:%y%m%d%H%M} done date:{done:%y%m%d%H%M} "
    "stat:{status} err:{error:03d} text:{text}"
)


@dataclass(slots=True)
class Message:
    """A submit_sm (submit_multi, data_sm) that was taken."""

    message_id: str
    system_id: str
    pdu: SubmitSm | SubmitMulti | DataSm
    destination_addr: str
    submitted: datetime
    state: str = "ENROUTE"
    receipts: int = 0

    @property
    def content(self) -> str:
        """Its text without a user data header; hexadecimal when it is none."""
        data = user_data(self.pdu)
        header = multipart.UserDataHeader()
        try:
            if self.pdu.esm_class & c.ESM_CLASS_UDHI:
                header, data = multipart.parse_udh(data)
            return codecs.decode_text(
                data, self.pdu.data_coding, locking_shift=header.locking_shift, single_shift=header.single_shift
            )
        except (codecs.UndecodableText, multipart.BadUserDataHeader):
            return data.hex()

    def view(self) -> dict[str, Any]:
        """As JSON."""
        pdu = self.pdu
        return {
            "message_id": self.message_id, "system_id": self.system_id, "command": pdu.command_name,
            "from": pdu.source_addr, "to": self.destination_addr, "content": self.content,
            "data_coding": pdu.data_coding, "esm_class": pdu.esm_class,
            "registered_delivery": pdu.registered_delivery, "user_data": user_data(pdu).hex(),
            "tlvs": {c.tlv_name(tag): value.hex() for tag, value in pdu.tlvs.items() if tag != c.MESSAGE_PAYLOAD},
            "state": self.state, "receipts_acknowledged": self.receipts,
            "submitted": self.submitted.strftime("%Y-%m-%d %H:%M:%S.%f"),
        }  # fmt: skip


def user_data(pdu: Pdu) -> bytes:
    """What the message says: short_message, or message_payload where that is empty."""
    return getattr(pdu, "short_message", b"") or pdu.tlvs.get(c.MESSAGE_PAYLOAD, b"")


def wants_receipt(registered_delivery: int, state: str) -> bool:
    """Bits 0 and 1: 1 always, 2 when it failed, 3 when it was delivered (SMPP 3.4, 5.2.17; 5.0, 4.7.21)."""
    wanted = registered_delivery & 3
    return wanted == 1 or (wanted == 2 and state != "DELIVRD") or (wanted == 3 and state == "DELIVRD")


def receipt_of(message: Message, done: datetime, form: str, ids: str) -> DeliverSm:
    """Its receipt: `form` text, tlv or both; `ids` a key of RECEIPT_IDS."""
    message_id = RECEIPT_IDS[ids](message.message_id)
    delivered = message.state == "DELIVRD"
    said = _RECEIPT_TEXT.format(
        id=message_id, delivered=delivered, submitted=message.submitted, done=done,
        status=message.state, error=0 if delivered else 1, text=message.content[:20],
    )  # fmt: skip
    tlvs = {
        c.RECEIPTED_MESSAGE_ID: message_id.encode("latin-1") + b"\0",
        c.MESSAGE_STATE: bytes([MESSAGE_STATES[message.state]]),
        c.NETWORK_ERROR_CODE: b"\3\0" + bytes([not delivered]),
    }
    return DeliverSm(
        source_addr=message.destination_addr.partition(",")[0],
        destination_addr=message.pdu.source_addr,
        esm_class=c.ESM_CLASS_DELIVERY_RECEIPT,
        short_message=b"" if form == "tlv" else said.encode("ascii", "replace"),
        tlvs={} if form == "text" else tlvs,
    )


def mo_parts(from_addr: str, to_addr: str, content: str, reference: int) -> list[DeliverSm]:
    """A message from a phone, in as many parts as it needs (UDH). Raises UnencodableText, TooManyParts."""
    encoding, data_coding = codecs.choose_encoding(content)
    parts = multipart.parts(content, encoding, reference)
    return [
        DeliverSm(
            source_addr_ton=c.TON_INTERNATIONAL, source_addr_npi=c.NPI_ISDN, source_addr=from_addr,
            destination_addr=to_addr, esm_class=c.ESM_CLASS_UDHI if part.udhi else 0, data_coding=data_coding,
            short_message=part.short_message, sequence_number=1,
        )
        for part in parts
    ]
