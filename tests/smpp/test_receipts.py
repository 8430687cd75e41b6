"""Receipts: what is one, what it says, which message its id can mean, how statuses may follow one another."""

from __future__ import annotations

import random
import re
import time

import pytest

from junebug.smpp import constants as c
from junebug.smpp import receipt_ids, receipt_text
from junebug.transports.smpp import receipts
from junebug.transports.smpp.receipts import ReceiptReader, UnreadableReceipt
from tests.harness import THOROUGH
from tests.tables import rows

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


def test_the_usual_text_says_at_one_go_what_it_says_field_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, usual = random.Random(5), APPENDIX_B.format("4d0b-7.A_z", "DELIVRD", "000")
    texts = [usual, usual.lower(), usual + "id:9 stat:EXPIRED", usual.replace("Text:", "text:"), "\0" + usual, "x" * 66 + usual]
    pieces = (" ", ":", "=", ",", "-", "\0", "\n", "id:", "stat:", " text:", "é", "٣", "x" * 70, '"', "1", " 12")
    for _ in range(300 * THOROUGH):
        at = chance.randrange(len(usual))
        texts.append(usual[:at] + chance.choice(pieces) + usual[at + chance.randrange(3) :])
    at_once = [receipt_text.scan(text) for text in texts]
    assert sum(receipt_text._USUAL.match(text) is not None for text in texts) > 20
    monkeypatch.setattr(receipt_text, "_USUAL", re.compile("(?!)"))
    for text, said in zip(texts, at_once, strict=True):
        assert receipt_text.scan(text) == said, text


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
        ("0e99ad5b-d9cb-469f-a165-70867728950e", "E99AD5B-D9CB-469F-A165-70867728950E"),
        ("0e99ad5b-d9cb-469f-a165-70867728950e", "E99AD5BD9CB469FA16570867728950E"),
        ("0E99AD5BD9CB469FA16570867728950E", "e99ad5b-d9cb-469f-a165-70867728950e"),
        ("00000000-0000-469f-a165-70867728950e", "-0000-469f-a165-70867728950e"),
        ("{0e99ad5b-d9cb-469f-a165-70867728950e}", "e99ad5bd9cb469fa16570867728950e"),
        ("0e99ad5b-d9cb-469f-a165-70867728950e", str(0x0E99AD5BD9CB469FA16570867728950E)),
        ("7", "7\0"),
    ],
)
def test_an_id_in_another_form_is_found(sent_as: str, comes_as: str) -> None:
    assert receipt_ids.key(sent_as) in receipt_ids.candidate_keys(comes_as)


def test_other_ids_are_not() -> None:
    assert receipt_ids.key("12") not in receipt_ids.candidate_keys("13")
    assert list(receipt_ids.candidate_keys("5")) == ["5"]


def test_statuses_only_move_forward() -> None:
    forward = receipts.moves_forward
    assert forward(None, "pending")
    assert forward(None, "delivered")
    assert forward("pending", "failed")
    assert not forward("pending", "pending")
    assert not forward("delivered", "pending")
    assert not forward("delivered", "failed")
    assert not forward("failed", "delivered")


@rows(
    ("a", "b", "same"),
    [
        ("+27820001111", "27820001111", True),
        ("0820001111", "27820001111", True),
        ("0027820001111", "+27 82 000 1111", True),
        ("8000", "8000", True),
        ("8000", "278000", False),
        ("27820001111", "27820001112", False),
        ("", "27820001111", False),
        ("tel:+27820001111", "0820001111", True),
        ("+27 (0)82 000 1111", "27820001111", True),
        ("tel:+27-82-000-1111;phone-context=x", "27820001111", True),
        ("820001111", "+27820001111", True),
        ("20001111", "+4427820001111", False),
        ("0001111", "27820001111", False),
        ("Shop", "shop", True),
        ("Shop", "", False),
    ],
)
def test_spellings_of_a_number(a: str, b: str, same: bool) -> None:
    assert receipt_ids.same_number(a, b) is same


# --- whatever a text says ---------------------------------------------------------------------------------------------


@rows("flag", [RECEIPT, 0])
@rows(
    ("text", "expected"),
    [
        ("id:7 submit date:24-11-23 done date:2024-11-23 12:00:01 stat:DELIVRD", {"done_date": "2024-11-23 12:00:01"}),
        ("id:7 submit date:24/11/23T12:00 done date:20241123120001+02 stat:DELIVRD", {"submit_date": "24/11/23T12:00"}),
        ("id:7 sub:001 mccmnc:65501 dlvrd:001 price=0.01 stat:DELIVRD imsi: err:7 text:", {"error_code": "7"}),
        ("stat:DELIVRD done date:2411231201 err:000 id:7", {"done_date": "2411231201"}),
        ("ID:7;STAT:DELIVRD;ERR:000", {"error_code": "000"}),
        ("id:7|stat:DELIVRD|err:000", {"error_code": "000"}),
        ("id=7&stat=DELIVRD&err=000", {"error_code": "000"}),
        ('{"id": "7", "state":"DELIVRD", "err" : "000", "text": "x"}', {"error_code": "000"}),
        ("id:7\nstat:DELIVRD\nerr:000\r\n", {"error_code": "000"}),
        ("id:7 stat:DELIVRD err: text:PIN1234", {"error_code": None}),
        ("id:7 stat:DELIVRD err:text:PIN1234", {"error_code": None}),
        ("id:7 stat:DELIVRD err: mccmnc:65501 text:x", {"error_code": None}),
        ("id:7 submit date: done date: stat:DELIVRD err:0", {"submit_date": None, "done_date": None}),
        ("id:7 done date: stat:DELIVRD err:0", {"done_date": None}),
        ("id:7 stat:DELIVRD err:000 text:id:8 stat:UNDELIV err:5", {"error_code": "000"}),
        ("id:7 stat:DELIVRD text:err:5", {"error_code": None}),
        ("text:Hi err:1 id:7 stat:DELIVRD", {"error_code": "1"}),
        ("id: id:7 stat: stat:DELIVRD", {}),
    ],
)  # fmt: skip
def test_a_receipts_text_is_read_leniently_with_and_without_a_flag(
    flag: int, text: str, expected: dict[str, str | None]
) -> None:
    receipt = ReceiptReader().read(flag, {}, text)
    assert receipt is not None
    assert (receipt.provider_id, receipt.status, receipt.by_text) == ("7", "delivered", not flag)
    assert {name: getattr(receipt, name) for name in expected} == expected


@pytest.mark.parametrize("text", ["id:7 stat:", "id: stat:DELIVRD", "id:" + "7" * 66 + " stat:DELIVRD", "stat:DELIVRD", ""])
def test_what_names_no_id_or_no_state_is_a_message(text: str) -> None:
    assert ReceiptReader().read(0, {}, text) is None


@pytest.mark.parametrize(
    ("number", "text", "status"),
    [
        (0, "id:7 stat:DELIVRD", "delivered"),
        (0, "id:7 stat:UNDELIV", "failed"),
        (0, "id:7", "pending"),
        (2, "id:7 stat:UNDELIV", "delivered"),
        (200, "id:7 stat:UNDELIV", "failed"),
    ],
)
def test_a_message_state_that_says_nothing_leaves_it_to_the_text(number: int, text: str, status: str) -> None:
    receipt = ReceiptReader().read(RECEIPT, {c.MESSAGE_STATE: bytes((number,))}, text)
    assert receipt is not None
    assert receipt.status == status


def test_what_the_text_calls_it_is_kept_beside_what_the_parameter_says() -> None:
    tlvs = {c.RECEIPTED_MESSAGE_ID: b"ff\0"}
    receipt = ReceiptReader().read(RECEIPT, tlvs, "id:255 stat:DELIVRD")
    assert receipt is not None
    assert receipt.ids == ("ff", "255")
    receipt = ReceiptReader().read(RECEIPT, tlvs, "id:00FF stat:DELIVRD")
    assert receipt is not None
    assert receipt.ids == ("ff",)


@pytest.mark.parametrize("esm_class", [0x00, 0x08, 0x10, 0x18, 0x40, 0x80])
def test_only_an_smsc_says_that_something_is_a_receipt(esm_class: int) -> None:
    """Other types of esm_class are written by phones."""
    text = APPENDIX_B.format("1", "DELIVRD", "000")
    receipt = ReceiptReader().read(esm_class, {}, text)
    assert receipt is not None
    assert receipt.by_text
    assert not receipt.certain
    assert ReceiptReader(without_flag="never").read(esm_class, {}, text) is None


def test_what_is_flagged_is_a_receipt_whatever_counts_without_a_flag() -> None:
    reader = ReceiptReader(without_flag="never")
    for esm_class, tlvs in ((RECEIPT, {}), (c.ESM_CLASS_INTERMEDIATE, {}), (0, {c.RECEIPTED_MESSAGE_ID: b"1"})):
        receipt = reader.read(esm_class, tlvs, "id:1 stat:ENROUTE")
        assert receipt is not None
        assert receipt.certain
        assert not receipt.by_text


# --- in linear time ---------------------------------------------------------------------------------------------------

BLANKS = " " * 15_000
VUMIS = (
    r"id:(?P<id>\S{,65})(?: +sub:(?P<sub>[^ ]+))?(?: +dlvrd:(?P<dlvrd>[^ ]+))?(?: +submit date:(?P<submit_date>\d*))?"
    r"(?: +done date:(?P<done_date>\d*))? +stat:(?P<stat>[A-Z]{5,7})(?: +err:(?P<err>[^ ]+))? +[Tt]ext:(?P<text>.{,20}).*"
)


@rows(
    "expression",
    [None, VUMIS, r"(?P<id>(\s+\s+)+x)(?P<stat>y)", r"(?P<id>(a|a)*)\s+(?P<stat>(b*)*)$", r"(?P<id>(.*)(.*)(.*)x)(?P<stat>y)"],
)
@rows(
    "text",
    [
        f"id:1 sub:{BLANKS}dlvrd:{BLANKS}submit date:{BLANKS}done date:{BLANKS}!",
        "id:" * 20_000,
        "id:1 " * 12_000,
        "id:1 stat:" * 6_000,
        "submit " * 9_000,
        "a" * 60_000,
        "aaa b " * 10_000,
        BLANKS * 4,
        "err=" + "9" * 60_000,
        "::=" * 20_000,
    ],
)
def test_no_text_takes_long_to_read(expression: str | None, text: str) -> None:
    reader = ReceiptReader(receipt_text.expression(expression) if expression else None)
    began = time.thread_time()
    for _ in range(10):
        reader.read(0, {}, text)
    assert time.thread_time() - began < 0.5


def test_vumis_own_expression_is_understood() -> None:
    reader = ReceiptReader(receipt_text.expression(VUMIS))
    receipt = reader.read(0, {}, APPENDIX_B.format("7", "DELIVRD", "001"))
    assert receipt is not None
    assert (receipt.provider_id, receipt.state, receipt.error_code) == ("7", "DELIVRD", "001")


@pytest.mark.parametrize("text", ["7 is OK", "7 is OK\n", "x 7 is OK"])
@pytest.mark.parametrize("end", ["$", r"\s*\Z", r"(?:.{,9})$", ""])
def test_the_end_of_an_expression_is_where_python_has_it(text: str, end: str) -> None:
    fields = receipt_text.expression(rf"(?P<id>\d+) is (?P<stat>[A-Z]{{,9}}){end}")(text)
    assert fields == {"id": "7", "stat": "OK"}


def test_what_does_not_fit_an_own_expression_is_read_as_usual() -> None:
    reader = ReceiptReader(receipt_text.expression(r"MID=(?P<id>\S+) RC=(?P<stat>\S+)"), use_esm_class=False)
    fits, other = reader.read(0, {}, "MID=7 RC=DELIVRD"), reader.read(0, {}, "id:7 stat:DELIVRD")
    assert fits is not None
    assert other is not None
    assert (fits.certain, other.certain) == (True, False)
