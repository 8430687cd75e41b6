"""What the API shows of a PDU: all that its octets say, by the channel's config, and nothing that is secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from junebug.config.declaration import Settings
from junebug.logs.redaction import REDACTED, Redactor
from junebug.logs.setup import setup_channel_logging
from junebug.logs.tail import tail
from junebug.smpp import constants as c
from junebug.smpp.codec import encode
from junebug.smpp.pdu import Bind, DataSm, DeliverSm, EnquireLink, Pdu, SubmitSm, SubmitSmResp
from junebug.transports.smpp.pdu_line import show
from junebug.transports.smpp.pdu_log import PduLog
from tests.test_logs import logging_as_before

CONFIG = {"host": "h", "port": 1, "system_id": "me", "password": "pass", "data_coding_overrides": {"5": "cp1251"}}
CASES: list[tuple[Pdu, dict[str, Any]]] = [
    (SubmitSm(source_addr="8110", destination_addr="27", short_message=b"hello"),
     {"pdu": "submit_sm", "source_addr": "8110", "destination_addr": "27", "content": "hello"}),
    (SubmitSm(short_message="ж".encode("utf-16-be"), data_coding=8), {"content": "ж", "data_coding": 8}),
    (DeliverSm(short_message="ж".encode("cp1251"), data_coding=5), {"content": "ж"}),
    (DeliverSm(short_message=b"\x05\0\x03\1\2\1part", esm_class=0x40), {"content": "part"}),
    (DataSm(tlvs={c.MESSAGE_PAYLOAD: b"long"}), {"content": "long", "tlvs": {"message_payload": b"long".hex()}}),
    (SubmitSmResp(message_id="abc"), {"smsc_message_id": "abc", "command_status": "ESME_ROK"}),
    (SubmitSmResp(command_status=0x58), {"command_status": "ESME_RTHROTTLED"}),
    (SubmitSmResp(command_status=0x4321), {"command_status": "0x00004321"}),
    (EnquireLink(), {"pdu": "enquire_link"}),
    (Bind(system_id="me", password="pass"), {"pdu": "bind_transceiver", "system_id": "me"}),
]  # fmt: skip

__all__ = ["logging_as_before"]


def logged(directory: Path, pdu: Pdu, message_id: str | None = None, *, redact: bool = False) -> dict[str, Any]:
    """The line of this PDU, as it is in the file."""
    settings = Settings(logging_path=str(directory))
    log = setup_channel_logging(settings.channel_log_path("c"), "c", Redactor(), rotate_size=0, max_files=0)
    pdu.sequence_number = 7
    PduLog(redact)("in", encode(pdu), pdu, message_id)
    log.close()
    (entry,) = tail(settings.channel_log_path("c"), 1)
    return entry


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize(("pdu", "said"), CASES, ids=[f"{n}-{type(pdu).__name__}" for n, (pdu, _) in enumerate(CASES)])
def test_what_a_pdu_says_is_told_from_its_octets(tmp_path: Path, pdu: Pdu, said: dict[str, Any]) -> None:
    written = logged(tmp_path, pdu, "m1")
    assert written.keys() == {"logger", "level", "timestamp", "message", "direction", "message_id", "hex"}
    shown = show(CONFIG, written)
    assert {**shown, **said, **written} == shown
    assert shown["sequence_number"] == 7
    assert b"pass".hex() not in str(shown)
    assert "password" not in shown


@pytest.mark.usefixtures("logging_as_before")
def test_redacted_contents_are_in_no_file(tmp_path: Path) -> None:
    pdu = SubmitSm(source_addr="8110", short_message=b"private", tlvs={0x1400: b"\0\1"})
    written = logged(tmp_path, pdu, redact=True)
    assert (written["content"], written["hex"], written["source_addr"]) == (REDACTED, REDACTED, "8110")
    assert show(CONFIG, written) == written


@pytest.mark.parametrize(
    "entry",
    [
        {"message": "message sent", "hex": "00"}, {"message": "PDU"}, {"message": "PDU", "hex": 5},
        {"message": "PDU", "hex": "0g"},
        {"message": "PDU", "hex": "00"}, {"message": "PDU", "hex": encode(SubmitSm(sequence_number=1)).hex()[:40]}, {},
    ],
)  # fmt: skip
def test_what_is_no_pdu_is_shown_as_it_is(entry: dict[str, Any]) -> None:
    assert show(CONFIG, entry) == entry


def test_a_config_that_cannot_be_read_hides_nothing() -> None:
    entry = {"message": "PDU", "hex": encode(SubmitSm(sequence_number=1, short_message=b"hello")).hex()}
    assert show({}, entry)["content"] == "hello"
