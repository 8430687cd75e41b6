"""The codec: the specification's bytes, what is refused, what is tolerated, and that nothing at all breaks it."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from junebug.smpp import codec
from junebug.smpp import constants as c
from junebug.smpp.codec import DecodeError, decode, encode
from junebug.smpp.fields import DestAddress, EncodeError, UnsuccessSme
from junebug.smpp.framing import BadLength, PduReader
from junebug.smpp.pdu import (
    KINDS,
    AlertNotification,
    Bind,
    BindResp,
    CancelSm,
    CancelSmResp,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    ReplaceSm,
    ReplaceSmResp,
    SubmitMulti,
    SubmitMultiResp,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
    UnknownPdu,
)
from tests.harness import THOROUGH
from tests.smpp.properties import given, settings, st
from tests.tables import rows

TIME = "250131235959004+"

EXAMPLES: list[Pdu] = [
    Bind(c.BIND_TRANSMITTER, "user", "secret08", "VMA", 0x34, 1, 1, "^27", sequence_number=1),
    Bind(c.BIND_RECEIVER, "user", "", sequence_number=2),
    Bind(c.BIND_TRANSCEIVER, "userx", "p", interface_version=0x33, sequence_number=0x7FFFFFFF),
    BindResp(c.BIND_TRANSMITTER | c.RESPONSE, "smsc", sequence_number=1, tlvs={c.SC_INTERFACE_VERSION: b"\x34"}),
    BindResp(c.BIND_RECEIVER | c.RESPONSE, "smsc", sequence_number=1),
    BindResp(c.RESPONSE | c.BIND_TRANSCEIVER, command_status=c.ESME_RINVPASWD, sequence_number=1),
    Outbind("smsc", "secret", sequence_number=9),
    Unbind(sequence_number=3),
    UnbindResp(sequence_number=3),
    GenericNack(command_status=c.ESME_RINVCMDLEN, sequence_number=0),
    EnquireLink(sequence_number=4),
    EnquireLinkResp(sequence_number=4),
    SubmitSm(
        "CMT", 5, 0, "Junebug", 1, 1, "27820000001", 0x40, 1, 2, TIME, "000000010000000R", 1, 1, 8, 3, b"\0h\0i",
        sequence_number=5, tlvs={c.tlv_tag("user_message_reference"): b"\0\1", 0x1401: b"vendor"},
    ),
    SubmitSm(source_addr="1", destination_addr="2", short_message=b"x" * 254, sequence_number=5),
    SubmitSm(source_addr="1", destination_addr="2", tlvs={c.MESSAGE_PAYLOAD: b"x" * 65535}, sequence_number=5),
    SubmitSmResp("a1b2", sequence_number=5),
    SubmitSmResp(command_status=c.ESME_RTHROTTLED, sequence_number=5),
    SubmitSmResp("x", command_status=0x400, sequence_number=5, tlvs={c.tlv_tag("additional_status_info_text"): b"full\0"}),
    SubmitMulti(
        "", 1, 1, "123", [DestAddress(1, 1, "456"), DestAddress(dl_name="friends")], short_message=b"all",
        sequence_number=6,
    ),
    SubmitMultiResp("77", [UnsuccessSme(1, 1, "456", c.ESME_RINVDSTADR)], sequence_number=6),
    DeliverSm(source_addr="27", destination_addr="8", esm_class=4, short_message=b"id:1 stat:DELIVRD", sequence_number=7),
    DeliverSm(source_addr="f\xe9", destination_addr="8", tlvs={c.RECEIPTED_MESSAGE_ID: b"a1\0"}, sequence_number=7),
    DeliverSmResp(sequence_number=7),
    DeliverSmResp(command_status=c.ESME_RDELIVERYFAILURE, sequence_number=7),
    DataSm("", 1, 1, "1" * 64, 1, 1, "2" * 64, 0, 1, 0, sequence_number=8, tlvs={c.MESSAGE_PAYLOAD: b"hi"}),
    DataSmResp("id", sequence_number=8),
    QuerySm("a1b2", 1, 1, "123", sequence_number=9),
    QuerySmResp("a1b2", TIME, 2, 0, sequence_number=9),
    CancelSm("", "a1b2", 1, 1, "123", 1, 1, "456", sequence_number=10),
    CancelSmResp(sequence_number=10),
    ReplaceSm("a1b2", 1, 1, "123", "", "", 1, 0, b"better", sequence_number=11),
    ReplaceSmResp(command_status=c.ESME_RREPLACEFAIL, sequence_number=11),
    AlertNotification(1, 1, "123", 0, 0, "esme", sequence_number=12, tlvs={c.tlv_tag("ms_availability_status"): b"\0"}),
    UnknownPdu(0x00000111, b"broadcast", sequence_number=13),
]  # fmt: skip


def _without_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_encode_sm", lambda pdu: None)
    monkeypatch.setattr(codec, "_read_sm", lambda pdu, frame: 0)


# --- there and back -------------------------------------------------------------------------------------------------------


@rows("pdu", EXAMPLES)
def test_every_kind_survives_the_wire(pdu: Pdu) -> None:
    frame = encode(pdu)
    assert decode(frame) == pdu
    assert decode(frame).raw == frame
    assert struct.unpack_from(">4I", frame) == (len(frame), pdu.command_id, pdu.command_status, pdu.sequence_number)


def test_the_examples_are_of_every_kind() -> None:
    assert {type(pdu) for pdu in EXAMPLES} - {UnknownPdu} == set(KINDS.values())
    assert {pdu.command_id for pdu in EXAMPLES} >= set(KINDS)


def test_the_specifications_own_example() -> None:
    """SMPP 3.4 §3.2.3, Sample PDU."""
    frame = bytes.fromhex(
        "0000002F 00000002 00000000 00000001 53 4D 50 50 33 54 45 53 54 00 73 65 63 72 65 74 30 38 00"
        "53 55 42 4D 49 54 31 00 00 01 01 00"
    )
    pdu = Bind(c.BIND_TRANSMITTER, "SMPP3TEST", "secret08", "SUBMIT1", 0, 1, 1, "", sequence_number=1)
    assert decode(frame) == pdu
    assert encode(pdu) == frame


def test_a_submit_sm_octet_by_octet() -> None:
    pdu = SubmitSm(
        "WAP", 1, 2, "31", 3, 4, "32", 5, 6, 7, "", TIME, 8, 9, 10, 11, b"hi", sequence_number=12, tlvs={0x1401: b"v"}
    )
    body = b"WAP\0\1\x0231\0\3\x0432\0\5\6\7\0" + TIME.encode() + b"\0\x08\x09\x0a\x0b\x02hi\x14\x01\0\1v"
    assert encode(pdu) == struct.pack(">4I", 16 + len(body), 4, 0, 12) + body


_octets = st.integers(0, 255)


def _texts(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=most)


_vendor_tlvs = st.dictionaries(st.integers(0x1400, 0x3FFF), st.binary(max_size=40), max_size=3)
_messages = st.builds(
    lambda kind, fields, tlvs, sequence: kind(*fields, tlvs=tlvs, sequence_number=sequence),
    st.sampled_from((SubmitSm, DeliverSm)),
    st.tuples(
        _texts(5), _octets, _octets, _texts(20), _octets, _octets, _texts(20), _octets, _octets, _octets,
        st.sampled_from(("", TIME)), st.sampled_from(("", TIME)), _octets, _octets, _octets, _octets,
        st.binary(max_size=254),
    ),
    _vendor_tlvs,
    st.integers(1, c.MAX_SEQUENCE_NUMBER),
)  # fmt: skip


@given(_messages)
@settings(max_examples=300)
def test_any_message_survives_and_the_fast_way_is_the_general_way(pdu: SubmitSm | DeliverSm) -> None:
    frame = encode(pdu)
    assert decode(frame) == pdu
    with pytest.MonkeyPatch.context() as patch:
        _without_fast_way(patch)
        assert encode(pdu) == frame
        assert decode(frame) == pdu


# --- what is refused ------------------------------------------------------------------------------------------------------


@rows(
    ("fields", "field"),
    [
        ({"service_type": "123456"}, "service_type"),
        ({"source_addr": "1" * 21}, "source_addr"),
        ({"destination_addr": "1" * 21}, "destination_addr"),
        ({"destination_addr": "27\0"}, "destination_addr"),
        ({"source_addr": "Жук"}, "source_addr"),
        ({"source_addr": 5}, "source_addr"),
        ({"source_addr_ton": 256}, "source_addr_ton"),
        ({"dest_addr_npi": -1}, "dest_addr_npi"),
        ({"data_coding": "8"}, "data_coding"),
        ({"data_coding": None}, "data_coding"),
        ({"esm_class": 300}, "esm_class"),
        ({"schedule_delivery_time": "tomorrow"}, "schedule_delivery_time"),
        ({"validity_period": TIME[:-1]}, "validity_period"),
        ({"short_message": b"x" * 255}, "short_message"),
        ({"short_message": "text"}, "short_message"),
        ({"sequence_number": 0}, "sequence_number"),
        ({"sequence_number": 0x80000000}, "sequence_number"),
        ({"command_status": 1}, "command_status"),
        ({"tlvs": {c.SAR_MSG_REF_NUM: b"1"}}, "sar_msg_ref_num"),
        ({"tlvs": {0x1401: b"x" * 65536}}, "0x1401"),
        ({"tlvs": {0x1401: "text"}}, "0x1401"),
        ({"tlvs": {0: b""}}, "0x0000"),
        ({"tlvs": {0x10000: b""}}, "0x10000"),
        ({"tlvs": {c.MESSAGE_PAYLOAD: b"x"}, "short_message": b"y"}, "message_payload"),
        ({"tlvs": {c.MESSAGE_PAYLOAD: b"x" * 65535, 0x1401: b"x" * 65535}}, "command_length"),
    ],
)
@rows("kind", [SubmitSm, DeliverSm])
def test_what_the_specification_forbids_is_refused_by_name(kind: Any, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(kind(**{"sequence_number": 1} | fields))
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@rows(
    ("pdu", "field"),
    [
        (Bind(system_id="x" * 16, sequence_number=1), "system_id"),
        (Bind(password="x" * 9, sequence_number=1), "password"),
        (Bind(system_type="x" * 13, sequence_number=1), "system_type"),
        (Bind(address_range="x" * 41, sequence_number=1), "address_range"),
        (SubmitSmResp("x" * 65, sequence_number=1), "message_id"),
        (SubmitSmResp("x", sequence_number=-1), "sequence_number"),
        (SubmitSmResp("x", command_status=1 << 32), "command_status"),
        (DataSm(source_addr="x" * 65, sequence_number=1), "source_addr"),
        (SubmitMulti(sequence_number=1), "number_of_dests"),
        (SubmitMulti(dest_addresses=[DestAddress()] * 255, sequence_number=1), "number_of_dests"),
        (SubmitMulti(dest_addresses=[DestAddress(), DestAddress(300)], sequence_number=1), "dest_addresses[1].dest_addr_ton"),
        (SubmitMulti(dest_addresses=[DestAddress(dl_name="x" * 21)], sequence_number=1), "dest_addresses[0].dl_name"),
        (SubmitMultiResp(unsuccess_smes=[UnsuccessSme(error_status_code=-1)]), "unsuccess_smes[0].error_status_code"),
        (UnknownPdu(5 << 32, sequence_number=1), "command_id"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused_by_name_too(pdu: Pdu, field: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(pdu)
    assert caught.value.field == field


def test_a_response_repeats_any_sequence_number() -> None:
    for number in (0, 0x80000000, 0xFFFFFFFF):
        assert decode(encode(DeliverSmResp(sequence_number=number))).sequence_number == number


def test_no_password_is_shown() -> None:
    for pdu in (Bind(9, "user", "secret08", sequence_number=1), Outbind("user", "secret08", sequence_number=1)):
        assert "secret08" not in repr(pdu)
        assert "secret08" not in repr(decode(encode(pdu)))
    with pytest.raises(EncodeError) as caught:
        encode(Bind(password="secret0815", sequence_number=1))
    assert "secret08" not in str(caught.value)


# --- what is tolerated ----------------------------------------------------------------------------------------------------


def _frame(command_id: int, body: bytes, status: int = 0, sequence: int = 7) -> bytes:
    return struct.pack(">4I", 16 + len(body), command_id, status, sequence) + body


_SM = b"\0\1\x01123\0\1\x01456\0\0\0\0\0\0\1\0\0\0"  # up to sm_default_msg_id


def _mo(**fields: Any) -> DeliverSm:
    return DeliverSm("", 1, 1, "123", 1, 1, "456", registered_delivery=1, **fields)


@rows(
    ("frame", "pdu"),
    [
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b"abc"), SubmitSmResp("abc"), id="no NUL at the end"),
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b""), SubmitSmResp(), id="no body"),
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b"", 8), SubmitSmResp(command_status=8), id="no body of an error"),
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b"\xff\xfe", 8), SubmitSmResp("\xff\xfe", command_status=8), id="rubbish"),
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b"x" * 100 + b"\0"), SubmitSmResp("x" * 100), id="long id"),
        pytest.param(_frame(c.RESPONSE | c.SUBMIT_SM, b"a\0\0\0\0"), SubmitSmResp("a"), id="padding"),
        pytest.param(_frame(c.RESPONSE | c.BIND_TRANSCEIVER, b"smsc"), BindResp(system_id="smsc"), id="bind_resp without NUL"),
        pytest.param(_frame(c.RESPONSE | c.BIND_TRANSCEIVER, b""), BindResp(), id="bind_resp without body"),
        pytest.param(_frame(c.BIND_TRANSCEIVER, b"me\0pw\0\0\x33"), Bind(9, "me", "pw", "", 0x33), id="short bind"),
        pytest.param(_frame(c.RESPONSE | c.DELIVER_SM, b""), DeliverSmResp(), id="deliver_sm_resp without body"),
        pytest.param(_frame(c.ENQUIRE_LINK, b"\0\0"), EnquireLink(), id="enquire_link with a body"),
        pytest.param(_frame(c.ENQUIRE_LINK, b"\1\2\3\4\5\6\7"), EnquireLink(), id="enquire_link with rubbish"),
        pytest.param(_frame(c.GENERIC_NACK, b"\0", 3), GenericNack(command_status=3), id="generic_nack with a body"),
        pytest.param(_frame(c.DELIVER_SM, _SM), _mo(), id="no sm_length"),
        pytest.param(
            _frame(c.DELIVER_SM, _SM + b"\2hi\0"),
            _mo(short_message=b"hi"), id="a NUL after short_message",
        ),
        pytest.param(
            _frame(c.DELIVER_SM, _SM + b"\2hi\0\x00\x1e\0\2a\0"),
            _mo(short_message=b"hi", tlvs={0x1E: b"a\0"}),
            id="a NUL between short_message and TLV",
        ),
        pytest.param(
            _frame(c.DELIVER_SM, _SM + b"\2hi\x14\1\0\1v\x14\1\0\1w\x14\2"),
            _mo(short_message=b"hi", tlvs={0x1401: b"v"}),
            id="a TLV twice, half a TLV",
        ),
        pytest.param(
            _frame(c.DELIVER_SM, _SM + b"\2hi\x14\1\xff\xffv"),
            _mo(short_message=b"hi"), id="a vendor's TLV cut off",
        ),
        pytest.param(
            _frame(c.DELIVER_SM, b"\0\5\0M\xe9t\xe9o\0\1\x01456\0\0\0\0" + TIME.encode() * 2 + b"\1\0\0\0\2hi"),
            DeliverSm("", 5, 0, "Météo", 1, 1, "456", 0, 0, 0, TIME, TIME, 1, short_message=b"hi"),
            id="Latin-1 address, times without NULs",
        ),
        pytest.param(
            _frame(c.DELIVER_SM, b"VERYLONG\0\1\1" + b"1" * 40 + b"\0\1\x01456\0\0\0\0\0\0\1\0\0\0\2hi"),
            DeliverSm("VERYLONG", 1, 1, "1" * 40, 1, 1, "456", registered_delivery=1, short_message=b"hi"), id="long texts",
        ),
        pytest.param(_frame(c.DELIVER_SM, _SM + b"\xff" + b"x" * 255), _mo(short_message=b"x" * 255), id="SMPP 5.0's 255 octets"),
        pytest.param(_frame(c.RESPONSE | c.QUERY_SM, b"id\0\0"), QuerySmResp("id"), id="query_sm_resp cut short"),
        pytest.param(_frame(0x80000999, b"what"), UnknownPdu(0x80000999, b"what"), id="unknown command_id"),
        pytest.param(_frame(c.DELIVER_SM, _SM, 0, 0xFFFFFFFF), _mo(sequence_number=0xFFFFFFFF), id="any sequence_number"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("general", [False, True])
def test_what_real_smscs_send_is_read(
    frame: bytes, pdu: Pdu, general: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if general:
        _without_fast_way(monkeypatch)
    pdu.sequence_number = pdu.sequence_number or 7
    assert decode(frame) == pdu


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        pytest.param(_frame(c.DELIVER_SM, _SM + b"\5hi"), c.ESME_RINVMSGLEN, id="sm_length beyond the body"),
        pytest.param(_frame(c.DELIVER_SM, b""), c.ESME_RINVCMDLEN, id="no body"),
        pytest.param(_frame(c.DELIVER_SM, _SM[:-2]), c.ESME_RINVCMDLEN, id="no data_coding"),
        pytest.param(_frame(c.DELIVER_SM, b"abcdef"), c.ESME_RINVCMDLEN, id="no NUL, and more wanted"),
        pytest.param(_frame(c.DELIVER_SM, _SM + b"\0\x04\x24\0\x09hi"), c.ESME_RINVPARLEN, id="message_payload cut off"),
        pytest.param(_frame(c.DELIVER_SM, b"\0\1\1" + b"1" * 300 + b"\0" + _SM), c.ESME_RINVSRCADR, id="endless address"),
        pytest.param(_frame(c.SUBMIT_MULTI, b"\0\1\x011\0\1\7"), c.ESME_RINVDESTFLAG, id="dest_flag"),
        pytest.param(_frame(c.BIND_TRANSCEIVER, b""), c.ESME_RINVCMDLEN, id="bind without system_id"),
        pytest.param(_frame(c.DATA_SM, b"\0\1\x01123\0"), c.ESME_RINVCMDLEN, id="no destination"),
    ],
)
def test_a_body_that_makes_no_sense_says_what_to_answer(frame: bytes, status: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(frame)
    error = caught.value
    assert (error.command_status, error.sequence_number) == (status, 7)
    assert error.command_id == int.from_bytes(frame[4:8], "big")
    assert c.command_name(error.command_id) in str(error)


def test_a_piece_of_a_header_is_no_pdu() -> None:
    with pytest.raises(DecodeError):
        decode(b"\0\0\0\x0f")


# --- frames ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(EXAMPLES), max_size=6), st.data())
def test_frames_are_found_however_the_stream_is_cut(pdus: list[Pdu], data: st.DataObject) -> None:
    frames = [encode(pdu) for pdu in pdus]
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    reader = PduReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == frames


def test_a_stream_in_single_octets_takes_no_copying_storm() -> None:
    frame = encode(SubmitSm(tlvs={c.MESSAGE_PAYLOAD: b"x" * 65000}, sequence_number=1))
    reader = PduReader()
    found = [each for octet in frame * 2 for each in reader.feed(bytes((octet,)))]
    assert found == [frame, frame]


@pytest.mark.parametrize("length", [0, 4, 15, 70_001, 0x80000000, 0xFFFFFFFF])
def test_a_bad_length_is_told_at_once(length: int) -> None:
    for data in (length.to_bytes(4, "big"), encode(EnquireLink(sequence_number=1)) + length.to_bytes(4, "big")):
        with pytest.raises(BadLength) as caught:
            PduReader().feed(data)
        assert caught.value.command_length == length


# --- the fuzzer -----------------------------------------------------------------------------------------------------------


def mutants(count: int, seed: int = 20) -> Iterator[bytes]:
    """Frames of the examples with octets changed, cut out, put in, doubled; command_length is put right again."""
    chance = random.Random(seed)
    frames = [encode(pdu)[:400] for pdu in EXAMPLES]
    for _ in range(count):
        frame = bytearray(chance.choice(frames))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            place = chance.randrange(4, len(frame) + 1)
            what = chance.randrange(6)
            if what == 0:
                frame[place:place] = chance.randbytes(chance.choice((1, 2, 50)))
            elif what == 1:
                del frame[place : place + chance.choice((1, 2, 20))]
            elif what == 2:
                frame[place : place + 1] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80"))
            elif what == 3:
                frame += frame[place : place + 30]
            elif place < len(frame):
                frame[place] = chance.randrange(256)
        frame += b"\0" * (16 - len(frame))
        frame[:4] = len(frame).to_bytes(4, "big")
        yield bytes(frame)


def test_mutated_pdus_do_no_harm() -> None:
    """Each is a PDU that reads the same when it is written and read again, or a DecodeError."""
    count = 10_000 * THOROUGH
    read = 0
    for frame in mutants(count):
        try:
            pdu = decode(frame)
        except DecodeError:
            continue
        read += 1
        try:
            again = encode(pdu)
        except EncodeError:
            continue
        assert decode(again) == pdu
    assert read > count / 2  # else this is no test of much
    assert len(codec._sm_structs) <= 6 * 21 * 21


def test_mutated_streams_do_no_harm() -> None:
    chance = random.Random(21)
    stream = bytearray(b"".join(mutants(2000)))
    for _ in range(20):
        stream[chance.randrange(len(stream))] = chance.randrange(256)
    reader = PduReader()
    offset = 0
    while offset < len(stream):
        size = chance.choice((1, 3, 16, 1000, 5000))
        try:
            for frame in reader.feed(bytes(stream[offset : offset + size])):
                assert 16 <= len(frame) <= c.MAX_PDU_LENGTH
        except BadLength:
            reader = PduReader()
        offset += size


# --- a codec that we did not write ----------------------------------------------------------------------------------------


@given(_messages)
def test_smpp34_reads_what_we_write(pdu: SubmitSm | DeliverSm) -> None:
    smpp34 = pytest.importorskip("smpp34")
    theirs = smpp34.decode(encode(pdu))
    assert type(theirs).__name__ == type(pdu).__name__
    assert theirs.sequence_number == pdu.sequence_number
    assert theirs.short_message == pdu.short_message
    assert {tlv.tag: tlv.value for tlv in theirs.tlvs} == pdu.tlvs
    for name in (
        "source_addr_ton", "source_addr_npi", "dest_addr_ton", "dest_addr_npi", "esm_class", "protocol_id",
        "priority_flag", "registered_delivery", "replace_if_present_flag", "data_coding", "sm_default_msg_id",
        "schedule_delivery_time", "validity_period",
    ):  # fmt: skip
        assert getattr(theirs, name) == getattr(pdu, name)
    if pdu.source_addr.isascii():  # it reads UTF-8
        assert theirs.source_addr == pdu.source_addr


# --- names ----------------------------------------------------------------------------------------------------------------


def test_names_go_both_ways() -> None:
    for code, name in c.STATUS_NAMES.items():
        assert (c.status_name(code), c.status_code(name), c.status_code(str(code))) == (name, code, code)
    for tag, name in c.TLV_NAMES.items():
        assert (c.tlv_name(tag), c.tlv_tag(name), c.tlv_tag(f"0x{tag:04x}")) == (name, tag, tag)
    assert c.status_code(c.status_name(0x401)) == 0x401
    assert c.tlv_tag(c.tlv_name(0x1401)) == 0x1401
    assert c.status_code("ESME_RINVTLVLEN") == c.ESME_RINVPARLEN
    for wrong in ("ESME_RNONSENSE", "-1", "", str(1 << 32)):
        with pytest.raises(ValueError, match="not a command_status"):
            c.status_code(wrong)
    with pytest.raises(ValueError, match="not a TLV tag"):
        c.tlv_tag("no_such_tag")
