"""Receipts: what is one, what it says, which message its id can mean, how statuses may follow one another."""

from __future__ import annotations

import pytest

from junebug.smpp import constants as c
from junebug.transports.smpp import receipt_text, receipts
from junebug.transports.smpp.receipts import ReceiptReader, UnreadableReceipt

RECEIPT = c.ESM_CLASS_DELIVERY_RECEIPT
APPENDIX_B = "id:{} sub:001 dlvrd:001 submit date:2411231200 done date:2411231201 stat:{} err:{} text:Hello"


def test_a_receipt_as_the_specification_writes_it() -> None:
    receipt = ReceiptReader().read(RECEIPT, {}, APPENDIX_B.format("0123456789", "DELIVRD", "000"), ("27820001111", "8000"))
    assert receipt is not None
    assert (receipt.provider_id, receipt.state, receipt.status) == ("0123456789", "DELIVRD", "delivered")
    assert receipt.certain
    assert receipt.details() == {
        "sent_message_id": "0123456789",
        "state": "DELIVRD",
        "error_code": "000",
        "submit_date": "2411231200",
        "done_date": "2411231201",
    }


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("ENROUTE", "pending"),
        ("DELIVRD", "delivered"),
        ("EXPIRED", "failed"),
        ("DELETED", "failed"),
        ("UNDELIV", "failed"),
        ("ACCEPTD", "delivered"),
        ("UNKNOWN", "pending"),
        ("REJECTD", "failed"),
        ("XYZ", "pending"),
    ],
)
def test_each_state_of_the_text(state: str, status: str) -> None:
    receipt = ReceiptReader().read(RECEIPT, {}, APPENDIX_B.format("1", state, "000"))
    assert receipt is not None
    assert receipt.status == status


@pytest.mark.parametrize(
    ("state", "name", "status"),
    [
        (0, "SCHEDULED", "pending"),
        (1, "ENROUTE", "pending"),
        (2, "DELIVERED", "delivered"),
        (3, "EXPIRED", "failed"),
        (4, "DELETED", "failed"),
        (5, "UNDELIVERABLE", "failed"),
        (6, "ACCEPTED", "delivered"),
        (7, "UNKNOWN", "pending"),
        (8, "REJECTED", "failed"),
        (9, "SKIPPED", "failed"),
    ],
)
def test_each_message_state(state: int, name: str, status: str) -> None:
    tlvs = {
        c.RECEIPTED_MESSAGE_ID: b"abc\0",
        c.MESSAGE_STATE: bytes((state,)),
        c.NETWORK_ERROR_CODE: b"\x03\x01\x02",
    }
    receipt = ReceiptReader().read(0, tlvs, "")
    assert receipt is not None
    assert (receipt.provider_id, receipt.state, receipt.status) == ("abc", name, status)
    assert receipt.details()["network_error_code"] == 0x0102
    assert receipt.details()["network_type"] == 3


@pytest.mark.parametrize(
    "text",
    [
        "id:7 stat:DELIVRD",
        "id:7 sub:1 dlvrd:1 submit date:241123120000 done date:241123120001 stat:DELIVRD err:0 Text:",
        "ID:7 SUB:001 DLVRD:001 SUBMIT DATE:2411231200 DONE DATE:2411231200 STAT:DELIVRD ERR:000 TEXT:x\ny",
        "stat:DELIVRD err:000 id:7",
        "id: 7 status: DELIVRD",
        "id=7,stat=DELIVRD,err=0",
        "id:7 sub:001 dlvrd:001 submit date: done date: stat:DELIVRD err: text:\0",
        "\0id:7 sub:001 dlvrd:001 stat:DELIVRD err:0x10 text:",
    ],
)
def test_odd_spellings(text: str) -> None:
    receipt = ReceiptReader().read(RECEIPT, {}, text)
    assert receipt is not None
    assert (receipt.provider_id, receipt.status) == ("7", "delivered")


def test_an_ordinary_message_is_none() -> None:
    assert ReceiptReader().read(0, {}, "Please send id: 7 and the status") is None
    assert ReceiptReader().read(c.ESM_CLASS_UDHI, {}, "Hello") is None


def test_a_text_alone_makes_it_likely_only() -> None:
    receipt = ReceiptReader().read(0, {}, APPENDIX_B.format("1", "DELIVRD", "000"))
    assert receipt is not None
    assert not receipt.certain
    receipt = ReceiptReader(use_esm_class=False).read(0, {}, APPENDIX_B.format("1", "DELIVRD", "000"))
    assert receipt is not None
    assert receipt.certain


def test_a_receipt_that_says_nothing_is_an_error() -> None:
    with pytest.raises(UnreadableReceipt):
        ReceiptReader().read(RECEIPT, {}, "delivered!")


def test_somebodys_acknowledgement_is_a_message() -> None:
    assert ReceiptReader().read(0x10, {}, "I read it") is None


def test_an_intermediate_notification_ends_nothing() -> None:
    receipt = ReceiptReader().read(c.ESM_CLASS_INTERMEDIATE, {}, APPENDIX_B.format("1", "ACCEPTD", "000"))
    assert receipt is not None
    assert receipt.status == "pending"


def test_own_regex_and_mapping() -> None:
    reader = ReceiptReader(receipt_text.expression(r"(?P<id>\d+) is (?P<stat>\w+)"), {"FINE": "delivered"})
    receipt = reader.read(RECEIPT, {}, "42 is fine")
    assert receipt is not None
    assert (receipt.provider_id, receipt.status) == ("42", "delivered")


@pytest.mark.parametrize(
    ("sent_as", "comes_as"),
    [
        ("1234567890", "1234567890"),
        ("1234567890", "0001234567890"),
        ("499602d2", "1234567890"),
        ("499602D2", "1234567890"),
        ("1234567890", "499602D2"),
        ("1234567890", "0x499602d2"),
        ("1234567890", "00000000499602d2"),
        ("abcDEF", "ABCDEF"),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5BD9CB469FA16570867728950E"),
        ("0f8fad5bd9cb469fa16570867728950e", "0f8fad5b-d9cb-469f-a165-70867728950e"),
        ("a/b:c", "A/B:C"),
        ("7", "7\0"),
    ],
)
def test_an_id_in_another_form_is_found(sent_as: str, comes_as: str) -> None:
    assert receipts.key(sent_as) in receipts.candidate_keys(comes_as)


def test_other_ids_are_not() -> None:
    assert receipts.key("12") not in receipts.candidate_keys("13")
    assert list(receipts.candidate_keys("5")) == ["5"]


def test_statuses_only_move_forward() -> None:
    forward = receipts.moves_forward
    assert forward(None, "pending")
    assert forward(None, "delivered")
    assert forward("pending", "failed")
    assert not forward("pending", "pending")
    assert not forward("delivered", "pending")
    assert not forward("delivered", "failed")
    assert not forward("failed", "delivered")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("+27820001111", "27820001111", True),
        ("0820001111", "27820001111", True),
        ("0027820001111", "+27 82 000 1111", True),
        ("8000", "8000", True),
        ("8000", "278000", False),
        ("27820001111", "27820001112", False),
        ("", "27820001111", False),
    ],
)
def test_spellings_of_a_number(a: str, b: str, same: bool) -> None:
    assert receipts.same_number(a, b) is same
