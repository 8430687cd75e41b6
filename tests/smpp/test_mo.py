"""What a deliver_sm says, and messages in parts put together: any order, repeats, parts that never come."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest

from junebug.smpp import constants as c
from junebug.smpp.pdu import DataSm, DeliverSm
from junebug.smpp.text import multipart
from junebug.smpp.text.codecs import UndecodableText
from junebug.smpp.text.gsm import alphabet, pack
from junebug.smpp.text.multipart import Concatenation
from junebug.stores.transport import TransportStore
from junebug.transports.smpp import mo
from junebug.transports.smpp.reassembly import Reassembly, Whole
from tests.tables import rows


def deliver(short_message: bytes, **fields: object) -> DeliverSm:
    return DeliverSm(source_addr="2782", destination_addr="8000", short_message=short_message, **fields)  # type: ignore[arg-type]


def text(pdu: DeliverSm | DataSm, overrides: dict[int, str] | None = None) -> str:
    return mo.decode([mo.read(pdu).octets], overrides or {})


def test_octets_by_their_data_coding() -> None:
    assert text(deliver(b"\0 \x1be")) == "@ €"
    assert text(deliver("Привет".encode("utf-16-be"), data_coding=8)) == "Привет"
    assert text(deliver(b"\xe9", data_coding=3)) == "é"
    assert text(deliver(b"\xe9"), {0: "latin-1"}) == "é"


def test_a_payload_counts_where_there_is_no_short_message() -> None:
    assert text(deliver(b"", tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Hi"
    assert text(DataSm(source_addr="2782", tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Hi"


@pytest.mark.parametrize("said", [b"", b" ", b"\0", b"\0 ", b"\r\n\0"])
def test_a_payload_counts_where_the_short_message_says_nothing(said: bytes) -> None:
    assert text(deliver(said, tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Hi"
    receipt = mo.read(deliver(said, esm_class=4, tlvs={c.MESSAGE_PAYLOAD: b"id:7 stat:DELIVRD"}))
    assert mo.receipt_text(receipt) == "id:7 stat:DELIVRD"
    assert text(deliver(b"Yes", tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Yes"
    assert text(deliver(b" ")) == " "


@pytest.mark.parametrize(
    ("data", "data_coding", "esm_class"),
    [
        (b"id:7 stat:DELIVRD", 0, 4),
        (b"id:7 stat:DELIVRD", 8, 4),
        ("id:7 stat:DELIVRD".encode("utf-16-be"), 8, 4),
        ("\ufeffid:7 stat:DELIVRD".encode("utf-16-le"), 8, 4),
        ("\ufeffid:7 stat:DELIVRD".encode("utf-16-be"), 8, 4),
        (b"\3\x24\1\1id:7 stat:DELIVRD", 0, 4 | c.ESM_CLASS_UDHI),
    ],
)
def test_a_receipts_text_is_read_whatever_its_alphabet(data: bytes, data_coding: int, esm_class: int) -> None:
    inbound = mo.read(deliver(data, data_coding=data_coding, esm_class=esm_class))
    assert mo.receipt_text(inbound) == "id:7 stat:DELIVRD"


def test_what_is_no_text_is_said_to_be_none() -> None:
    with pytest.raises(UndecodableText):
        text(deliver(b"\x00\x01", data_coding=4))
    assert mo.decode_anyway([mo.read(deliver(b"\x00\x01", data_coding=4)).octets], {}) == mo.REPLACEMENT


@pytest.mark.parametrize(
    ("content", "alone", "is_part"),
    [("", False, False), ("caf\ufffd", False, False), (" ", False, False), ("\ufffd", True, False),
     ("\ufffd \ufffd", True, True), ("\ufffd\ufffd.", False, False)],
)  # fmt: skip
def test_what_has_no_readable_character_is_unreadable(content: str, alone: bool, is_part: bool) -> None:
    assert (mo.is_unreadable(content), mo.is_unreadable(content, is_part=True)) == (alone, is_part)


def test_parts_by_header_and_by_sar() -> None:
    udh = multipart.parts("x" * 161, "gsm0338", 7)[1]
    assert mo.read(deliver(udh.short_message, esm_class=c.ESM_CLASS_UDHI)).part == Concatenation(7, 2, 2)
    sar = multipart.parts("x" * 161, "gsm0338", 7, sar=True)[0]
    assert mo.read(deliver(sar.short_message, tlvs=sar.tlvs)).part == Concatenation(7, 2, 1)


def test_a_header_that_makes_no_sense_is_text() -> None:
    inbound = mo.read(deliver(b"Hello", esm_class=c.ESM_CLASS_UDHI))
    assert (inbound.octets.data, inbound.part) == (b"Hello", None)


def test_a_header_of_one_part_is_no_part() -> None:
    inbound = mo.read(deliver(b"\x05\0\x03\x07\x01\x01Hi", esm_class=c.ESM_CLASS_UDHI))
    assert (inbound.octets.data, inbound.part) == (b"Hi", None)


def test_vendor_parameters_reach_the_application() -> None:
    inbound = mo.read(deliver(b"Hi", tlvs={0x1401: b"\1", c.MESSAGE_PAYLOAD: b"", c.tlv_tag("source_port"): b"\0\1"}))
    assert inbound.parameters() == {"0x1401": "01", "source_port": "0001"}
    assert mo.read(deliver(b"Hi")).parameters() == {}


HELLO = "Hé 😀"
PAIR = "😀".encode("utf-16-be")


@rows(
    ("data_coding", "pieces", "content"),
    [
        # a mark, in each part or in the first
        (8, ["\ufeffHé".encode("utf-16-le"), "\ufeff 😀".encode("utf-16-le")], HELLO),
        (8, ["\ufeffHé".encode("utf-16-le"), " 😀".encode("utf-16-le")], HELLO),
        (8, ["\ufeffHé".encode("utf-16-be"), "\ufeff 😀".encode("utf-16-be")], HELLO),
        (8, ["\ufeffHé".encode("utf-16-le"), "\ufeff 😀".encode("utf-16-be")], HELLO),
        # NULs that are counted, of one octet or of two
        (8, ["Hé".encode("utf-16-be") + b"\0", " 😀".encode("utf-16-be") + b"\0"], HELLO),
        (8, ["Hé".encode("utf-16-be"), " 😀".encode("utf-16-be") + b"\0"], HELLO),
        (8, ["Hé\0".encode("utf-16-be"), " 😀\0\0".encode("utf-16-be")], HELLO),
        (8, ["\ufeffHé".encode("utf-16-le") + b"\0", " 😀\0".encode("utf-16-le")], HELLO),
        (3, [b"H\xe9\0", b" !\0\0"], "Hé !"),
        (1, [b"Hi\0", b" there\0"], "Hi there"),
        (0, [b"at ", b"home \0"], "at home @"),
        # cut within a character, and within a pair
        (8, [b"\0H\0", b"\xe9\0!"], "Hé!"),
        (8, [b"\0H\0\xe9\0", b" " + PAIR], HELLO),
        (8, ["Hé ".encode("utf-16-be") + PAIR[:2], PAIR[2:]], HELLO),
        (8, ["Hé ".encode("utf-16-be") + PAIR[:1], PAIR[1:]], HELLO),
        (0, [b"5 \x1b", b"e"], "5 €"),
        # half of something
        (8, [b"\0H", b"\0i" + PAIR[:2]], "Hi\ufffd"),
        (8, [b"\0H" + PAIR[2:], b"\0i"], "H\ufffdi"),
        (8, [b"\0H" + PAIR[:2] + b"\0i", b"\0!"], "H\ufffdi!"),
        (8, [b"\0H", b"\0i\1"], "Hi\ufffd"),
        # octets that are not of the alphabet
        (0, [b"caf\xe9", b" au lait"], "caf\ufffd au lait"),
        (0, [b"\x1b\xe9", b"a\x80"], "\ufffda\ufffd"),
        (0, ["Łódź".encode(), b"!"], "\ufffd\ufffd\ufffd\ufffdd\ufffd\ufffd!"),
        (1, [b"caf\xe9", b"!"], "caf\ufffd!"),
        (5, ["カフェ".encode("shift_jis"), b"\xff!"], "カフェ\ufffd!"),
    ],
)  # fmt: skip
def test_octets_are_read_alike_alone_and_in_parts(data_coding: int, pieces: list[bytes], content: str) -> None:
    assert mo.decode([mo.Octets(piece, data_coding) for piece in pieces], {}) == content
    assert not any(mo.is_unreadable(mo.decode([mo.Octets(piece, data_coding)], {}), is_part=True) for piece in pieces)


@rows("cut", range(1, 12))
def test_a_cut_anywhere_costs_nothing(cut: int) -> None:
    octets = HELLO.encode("utf-16-be")
    assert mo.decode([mo.Octets(piece, 8) for piece in (octets[:cut], octets[cut:])], {}) == HELLO


@rows(("header", "language"), [(b"", 0), (b"\x03\x25\x01\x01", 1), (b"\x05\x00\x03\x07\x01\x01", 0)])
@rows("text", ["", "a", "seven..", "eight...", "caf\u00e9 @ \u20ac[x]", "x" * 100])
def test_septets_that_are_packed_begin_at_a_multiple_of_seven_bits_of_the_user_data(
    header: bytes, language: int, text: str
) -> None:
    data = header + pack(alphabet(0, 0).encode(text), -len(header) * 8 % 7)
    pdu = DeliverSm(short_message=data, esm_class=c.ESM_CLASS_UDHI if header else 0)
    inbound = mo.read(pdu)
    octets = dataclasses.replace(inbound.octets, locking_shift=0)
    assert inbound.octets.locking_shift == language
    assert mo.decode([octets], {0: "gsm0338-packed"}) == text


def test_a_message_in_parts_whose_septets_are_packed_comes_whole() -> None:
    text = "Long texts [in parts] cost {more} \u20ac. " * 12
    parts = multipart.parts(text, "gsm0338-packed", 7)
    read = [mo.read(DeliverSm(short_message=part.short_message, esm_class=c.ESM_CLASS_UDHI)).octets for part in parts]
    assert len(read) > 2
    assert mo.decode(read, {0: "gsm0338-packed"}) == text


@rows("codec", ["utf-7", "unicode_escape", "raw_unicode_escape", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
@rows(
    "octets", [b"+2AA-", rb"\ud800", b"\xff\xfe", b"\x00\xd8", b"\xef\xbb\xbfHi", b"\0\0\0", b"\\", b"\x80" * 99]
)
def test_whatever_the_codec_the_text_can_be_written_as_json(codec: str, octets: bytes) -> None:
    for parts in ([octets], [octets, octets], [octets[:1], octets[1:]]):
        content = mo.decode([mo.Octets(part, 0) for part in parts], {0: codec})
        assert "\ufeff" not in content[:1]
        content.encode()


def test_parts_in_several_alphabets() -> None:
    parts = [mo.Octets(b"\x1be ", 0), mo.Octets("Пр".encode("utf-16-be"), 8), mo.Octets("ив".encode("utf-16-be"), 8)]
    assert mo.decode(parts, {}) == "€ Прив"
    assert mo.decode([mo.Octets(b"caf\xe9", 0), mo.Octets(b"\xd8", 8)], {}) == "caf\ufffd\ufffd"


# --- put together ---------------------------------------------------------------------------------------------------------


class Collector:
    def __init__(self, store: TransportStore, timeout: float = 60, is_shared: bool = False) -> None:
        self.wholes: list[Whole] = []
        self.now = 1000.0
        self.reassembly = Reassembly(store, timeout, self._deliver, lambda: self.now, is_shared)

    async def _deliver(self, whole: Whole) -> None:
        self.wholes.append(whole)

    async def add(self, part: multipart.Part, data_coding: int = 0, source: str = "2782") -> str:
        pdu = DeliverSm(
            source_addr=source,
            destination_addr="8000",
            esm_class=c.ESM_CLASS_UDHI if part.udhi else 0,
            data_coding=data_coding,
            short_message=part.short_message,
            tlvs=part.tlvs,
        )
        inbound = mo.read(pdu)
        assert inbound.part
        return await self.reassembly.add(inbound, inbound.part)

    @property
    def texts(self) -> list[str]:
        return [mo.decode(whole.texts, {}) for whole in self.wholes]


LONG = "".join(f"{number:04}" for number in range(100))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_parts_come_in_any_order(store: TransportStore, order: tuple[int, ...]) -> None:
    collector = Collector(store)
    parts = multipart.parts(LONG, "gsm0338", 7)
    ids = {await collector.add(parts[number]) for number in order}
    assert collector.texts == [LONG]
    assert ids == {collector.wholes[0].message_id}
    assert (collector.wholes[0].source_addr, collector.wholes[0].destination_addr) == ("2782", "8000")


async def test_repeated_parts_change_nothing(store: TransportStore) -> None:
    collector = Collector(store)
    parts = multipart.parts(LONG, "gsm0338", 7, sar=True)
    for number in (0, 0, 1, 0, 2, 2, 1):
        await collector.add(parts[number])
    assert collector.texts == [LONG]


async def test_parts_survive_a_restart(store: TransportStore) -> None:
    first, second = Collector(store), Collector(store)
    parts = multipart.parts(LONG, "gsm0338", 7)
    await first.add(parts[0])
    await first.add(parts[2])
    await second.add(parts[1])
    assert (first.texts, second.texts) == ([], [LONG])


async def test_phones_are_kept_apart(store: TransportStore) -> None:
    collector = Collector(store)
    parts = multipart.parts("x" * 161, "gsm0338", 7)
    await collector.add(parts[0], source="1")
    await collector.add(parts[1], source="2")
    assert collector.texts == []


async def test_a_pair_that_was_cut_is_whole_again(store: TransportStore) -> None:
    """Some phones cut UCS2 in the middle of a surrogate pair."""
    collector = Collector(store)
    octets = "a😀b".encode("utf-16-be")
    for number, piece in enumerate((octets[:4], octets[4:]), 1):
        tlvs = multipart.sar_tlvs(Concatenation(1, 2, number))
        await collector.add(multipart.Part(piece, tlvs=tlvs), data_coding=8)
    assert collector.texts == ["a😀b"]


async def test_a_reference_used_again_is_another_message(store: TransportStore) -> None:
    collector = Collector(store)
    for letter in "xy":
        for part in multipart.parts(letter * 161, "gsm0338", 0):
            await collector.add(part)
    assert collector.texts == ["x" * 161, "y" * 161]
    assert len({whole.message_id for whole in collector.wholes}) == 2


async def test_one_that_never_completed_makes_way(store: TransportStore) -> None:
    collector = Collector(store)
    await collector.add(multipart.parts("x" * 161, "gsm0338", 0)[0])
    for part in multipart.parts("y" * 161, "gsm0338", 0):
        await collector.add(part)
    assert collector.texts == ["x" * 153, "y" * 161]
    assert collector.wholes[0].missing == (2,)


async def test_the_same_text_sent_again_is_another_message(store: TransportStore) -> None:
    collector = Collector(store)
    parts = multipart.parts(LONG, "gsm0338", 7)
    for _ in range(3):
        for part in parts:
            await collector.add(part)
    assert collector.texts == [LONG] * 3
    assert len({whole.message_id for whole in collector.wholes}) == 3


@pytest.mark.parametrize(
    ("numbers", "messages"),
    [
        ((0, 1, 2, 0), 1), ((0, 1, 2, 2, 1), 1), ((0, 1, 2, 0, 0, 0, 0), 1), ((0, 1, 2, 2, 1, 0), 2),
        ((2, 2, 1, 0, 1, 1, 0, 0), 1), ((0, 0, 1, 1, 2, 2), 1), ((0, 1, 2, 1, 0, 1, 2), 2), ((0, 1, 2) * 2 + (0,), 2),
    ],
)  # fmt: skip
async def test_parts_again_are_repeats_until_all_are_there(
    store: TransportStore, numbers: tuple[int, ...], messages: int
) -> None:
    collector = Collector(store)
    parts = multipart.parts(LONG, "gsm0338", 7)
    for number in numbers:
        await collector.add(parts[number])
    collector.now += 1000
    await collector.reassembly.sweep()
    assert collector.texts == [LONG] * messages


async def test_another_message_that_begins_alike_loses_nothing(store: TransportStore) -> None:
    collector = Collector(store)
    texts = ["x" * 153 + "y" * 153 + "z" * end for end in (10, 20)]
    for content in texts:
        for part in multipart.parts(content, "gsm0338", 0):
            await collector.add(part)
    assert collector.texts == texts


async def test_a_part_that_comes_after_all_is_not_lost(store: TransportStore) -> None:
    collector = Collector(store, timeout=60)
    parts = multipart.parts(LONG, "gsm0338", 7)
    for late in ((0, 1), (2,)):
        for number in late:
            await collector.add(parts[number])
        collector.now += 61
        await collector.reassembly.sweep()
    assert collector.texts == [LONG[:306], LONG[306:]]


async def test_parameters_of_all_parts_reach_the_application(store: TransportStore) -> None:
    collector = Collector(store)
    for number, tlvs in ((2, {0x1401: b"\2", 0x1403: b"\3"}), (1, {0x1401: b"\1", 0x1402: b""}), (3, {})):
        told = {**multipart.sar_tlvs(Concatenation(1, 3, number)), **tlvs}
        await collector.add(multipart.Part(b"Hi", tlvs=told))
    assert collector.wholes[0].parameters == {"0x1401": "01", "0x1402": "", "0x1403": "03"}


async def test_a_part_repeated_with_other_parameters_is_a_repeat(store: TransportStore) -> None:
    collector = Collector(store)
    for number, tag in ((1, 1), (1, 2), (2, 1), (2, 3)):
        told = {**multipart.sar_tlvs(Concatenation(1, 2, number)), 0x1400: bytes((tag,))}
        await collector.add(multipart.Part(b"Hi", tlvs=told))
    assert collector.texts == ["HiHi"]


async def test_what_never_completes_is_delivered_as_it_stands(store: TransportStore) -> None:
    collector = Collector(store, timeout=60)
    parts = multipart.parts(LONG, "gsm0338", 7)
    await collector.add(parts[0])
    await collector.add(parts[2])
    collector.now += 59
    await collector.reassembly.sweep()
    assert collector.texts == []
    collector.now += 2
    await collector.reassembly.sweep()
    await collector.reassembly.sweep()
    assert collector.texts == [LONG[:153] + LONG[306:]]
    assert (collector.wholes[0].parts, collector.wholes[0].missing) == (3, (2,))


async def test_a_whole_message_is_swept_no_more(store: TransportStore) -> None:
    collector = Collector(store)
    for part in multipart.parts(LONG, "gsm0338", 7):
        await collector.add(part)
    collector.now += 1000
    await collector.reassembly.sweep()
    assert collector.texts == [LONG]


async def test_parts_that_come_to_two_shards_at_once_become_one_message(store: TransportStore) -> None:
    shards = [Collector(store, is_shared=True) for _ in range(2)]
    for reference in range(10):
        parts = multipart.parts("x" * 161, "gsm0338", reference)
        ids = await asyncio.gather(*(shard.add(part) for shard, part in zip(shards, parts, strict=True)))
        assert len({*ids}) == 1
    assert len(shards[0].texts + shards[1].texts) == 10
