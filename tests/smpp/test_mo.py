"""What a deliver_sm says, and messages in parts put together: any order, repeats, parts that never come."""

from __future__ import annotations

import itertools

import pytest

from junebug.smpp import constants as c
from junebug.smpp.pdu import DataSm, DeliverSm
from junebug.smpp.text import multipart
from junebug.smpp.text.codecs import UndecodableText
from junebug.smpp.text.multipart import Concatenation
from junebug.stores.transport import TransportStore
from junebug.transports.smpp import mo
from junebug.transports.smpp.reassembly import Reassembly, Whole


def deliver(short_message: bytes, **fields: object) -> DeliverSm:
    return DeliverSm(source_addr="2782", destination_addr="8000", short_message=short_message, **fields)  # type: ignore[arg-type]


def text(pdu: DeliverSm | DataSm, overrides: dict[int, str] | None = None) -> str:
    return mo.decode(mo.read(pdu).octets, overrides or {})


def test_octets_by_their_data_coding() -> None:
    assert text(deliver(b"\0 \x1be")) == "@ €"
    assert text(deliver("Привет".encode("utf-16-be"), data_coding=8)) == "Привет"
    assert text(deliver(b"\xe9", data_coding=3)) == "é"
    assert text(deliver(b"\xe9"), {0: "latin-1"}) == "é"


def test_a_payload_counts_where_there_is_no_short_message() -> None:
    assert text(deliver(b"", tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Hi"
    assert text(DataSm(source_addr="2782", tlvs={c.MESSAGE_PAYLOAD: b"Hi"})) == "Hi"


def test_what_is_no_text_is_said_to_be_none() -> None:
    with pytest.raises(UndecodableText):
        text(deliver(b"\xd8", data_coding=8))
    with pytest.raises(UndecodableText):
        text(deliver(b"\x00\x01", data_coding=4))


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
    assert inbound.metadata() == {"smpp": {"tlvs": {"0x1401": "01", "source_port": "0001"}}}
    assert mo.read(deliver(b"Hi")).metadata() == {}


# --- put together ---------------------------------------------------------------------------------------------------------


class Collector:
    def __init__(self, store: TransportStore, timeout: float = 60) -> None:
        self.wholes: list[Whole] = []
        self.now = 1000.0
        self.reassembly = Reassembly(store, timeout, self._deliver, lambda: self.now)

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
        return [mo.decode_whole(whole.texts, {}) for whole in self.wholes]


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
