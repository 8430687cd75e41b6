"""Receipts meet their messages: whatever comes first, in whatever form of id, once for each change, across outages."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.stores import Stores
from junebug.stores.transport import TransportStore
from junebug.transports.smpp import correlation, doubts
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.correlation import NotItsMessages, ReceiptCorrelation
from junebug.transports.smpp.matches import parked_field
from junebug.transports.smpp.receipts import Receipt
from junebug.transports.smpp.recently_sent import SentPart
from tests.polling import eventually
from tests.servers import RedisServer
from tests.tables import rows

CONFIG = SmppConfig.from_config({"host": "h", "port": 1, "system_id": "me", "password": ""})
TO = "27820001111"


def receipt(provider_id: str, status: str = "delivered", *, about: str = TO, certain: bool = True) -> Receipt:
    state = {"delivered": "DELIVRD", "failed": "UNDELIV", "pending": "ENROUTE"}[status]
    return Receipt(provider_id, state, status, certain, error_code="000", addresses=(about, "8000"))


def sent(message_id: str, part: int = 1, parts: int = 1, to: str = TO) -> SentPart:
    return SentPart(message_id, "channel", to, part, parts)


class Tracked:
    """A channel's correlation and what it reported."""

    def __init__(self, store: TransportStore, config: SmppConfig = CONFIG) -> None:
        self.reports: list[tuple[str, str]] = []
        self.details: list[dict[str, Any]] = []
        self.fail = 0
        self.correlation = ReceiptCorrelation(config, store, self._report)
        self.sent = self.correlation.sent
        self.received = self.correlation.received
        self.accepted = self.correlation.accepted

    async def sent_whole(self, provider_id: str, sent: SentPart) -> list[str]:
        """As a message of one part; what was said of it already, and is reported now."""
        await self.sent(provider_id, sent)
        accepted = self.accepted(sent.message_id, provider_id)
        if accepted.on_reported:
            await accepted.on_reported()
        return [report.status for report in accepted.reports]

    async def _report(self, message_id: str, status: str, details: dict[str, Any], sent_by: str) -> None:
        if self.fail:
            self.fail -= 1
            raise StoreUnavailable("a test says so")
        self.reports.append((message_id, status))
        self.details.append({**details, "sent_by": sent_by})


async def test_a_receipt_is_reported_of_its_message(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("id-1", sent("m1"))
    assert await tracked.received(receipt("id-1")) == "m1"
    assert tracked.reports == [("m1", "delivered")]
    assert tracked.details[0] == {"sent_message_id": "id-1", "state": "DELIVRD", "error_code": "000", "sent_by": "channel"}


async def test_states_only_move_forward(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("1", sent("m1"))
    for status in ("pending", "pending", "failed", "delivered", "failed", "pending"):
        await tracked.received(receipt("1", status))
    assert tracked.reports == [("m1", "pending"), ("m1", "failed")]


class Counting(TransportStore):
    """What a channel keeps; `asked`: names that were read."""

    def __init__(self, store: TransportStore) -> None:
        super().__init__(store._redis, store._channel)
        self.asked: list[str] = []
        self.away = False

    async def fields(self, *keys: str) -> list[dict[str, str]]:
        self.asked += keys
        return await super().fields(*keys)

    async def put_fields(self, key: str, *args: Any, **more: Any) -> list[dict[str, str]]:
        if self.away:
            raise StoreUnavailable("a test says so")
        return await super().put_fields(key, *args, **more)


async def test_of_what_nobody_asked_a_receipt_for_redis_learns_only_once_one_has_come(store: TransportStore) -> None:
    unasked = dataclasses.replace(CONFIG, registered_delivery=0)
    tracked = Tracked(store, unasked)
    for n in range(3):
        await tracked.sent(f"id-{n}", sent(f"m{n}"), is_asked=False)
    assert await store.fields("sent:id-0", "sent:id-1") == [{}, {}]
    for status in ("pending", "delivered"):
        assert await tracked.received(receipt("id-0", status)) == "m0", "it is remembered all the same"
    await tracked.sent("id-3", sent("m3"), is_asked=False)
    again = Tracked(store, unasked)  # the next process
    await again.sent("id-4", sent("m4"), is_asked=False)
    third = Tracked(store, unasked)
    assert await third.received(receipt("id-3")) == "m3"
    assert await third.received(receipt("id-4")) == "m4"
    assert await third.received(receipt("id-2")) is None
    assert tracked.reports == [("m0", "pending"), ("m0", "delivered")]


ASKED = {
    "asked": ({"is_asked": True}, {}, {}),
    "several parts": ({"is_asked": False}, {"parts": 2}, {}),
    "shards": ({"is_asked": False}, {}, {"shards": 2}),
    "ids shared with another channel": ({"is_asked": False}, {}, {"split_bind_prefix": "both"}),
}


@rows("kind", [*ASKED])
async def test_redis_knows_of_each_whose_receipt_may_come_to_another_process(store: TransportStore, kind: str) -> None:
    how, what, config = ASKED[kind]
    provider_id = f"id-{[*ASKED].index(kind)}"
    tracked = Tracked(store, dataclasses.replace(CONFIG, registered_delivery=0, **config))  # type: ignore[arg-type]
    await tracked.sent(provider_id, sent("m1", **what), **how)
    if on_reported := tracked.accepted("m1", provider_id).on_reported:
        await on_reported()
    (kept,) = await tracked.correlation._store.fields(f"sent:{provider_id}")
    assert "message" in kept


async def test_while_redis_cannot_say_whether_receipts_come_ids_are_kept(store: TransportStore) -> None:
    tracked = Tracked(Deaf(store), dataclasses.replace(CONFIG, registered_delivery=0))
    await tracked.sent("id-1", sent("m1"), is_asked=False)
    (kept,) = await store.fields("sent:id-1")
    assert "message" in kept


class Deaf(TransportStore):
    """Reads nothing."""

    def __init__(self, store: TransportStore) -> None:
        super().__init__(store._redis, store._channel)

    async def get(self, *keys: str) -> list[str | None]:
        raise StoreUnavailable("a test says so")


async def test_of_what_was_sent_just_now_redis_is_not_asked(store: TransportStore) -> None:
    tracked = Tracked(counting := Counting(store))
    for n in range(20):
        await tracked.sent(f"id-{n}", sent(f"m{n}"))
        for status in ("pending", "pending", "delivered"):
            assert await tracked.received(receipt(f"id-{n}", status)) == f"m{n}"
    assert tracked.reports == [(f"m{n}", status) for n in range(20) for status in ("pending", "delivered")]
    assert [name for name in counting.asked if name != doubts.NAME] == ["sent:id-0"], "in which form ids come is not known yet"
    again = Tracked(store)  # the next process
    await again.received(receipt("id-19"))
    assert again.reports == []


@pytest.mark.parametrize("status", ["pending", "delivered"])
async def test_a_report_that_could_not_be_noted_is_noted_later_and_not_reported_again(
    store: TransportStore, status: str
) -> None:
    tracked = Tracked(counting := Counting(store))
    for n in range(2):
        await tracked.sent(f"id-{n}", sent(f"m{n}"))
    await tracked.received(receipt("id-0"))
    counting.away = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await tracked.received(receipt("id-1", status))
    counting.away = False
    await tracked.received(receipt("id-1", status))
    assert tracked.reports == [("m0", "delivered"), ("m1", status)]
    again = Tracked(store)
    await again.received(receipt("id-1", status))
    assert again.reports == []


async def test_only_so_many_are_remembered(store: TransportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "MAX_RECENT", 2)
    tracked = Tracked(counting := Counting(store))
    for n in range(5):
        await tracked.sent(f"id-{n}", sent(f"m{n}"))
    for n in range(5):
        await tracked.received(receipt(f"id-{n}"))
    assert [message for message, _ in tracked.reports] == [f"m{n}" for n in range(5)]
    assert {"sent:id-0", "sent:id-1", "sent:id-2"} <= set(counting.asked)
    assert "sent:id-4" not in counting.asked


async def test_a_receipt_that_overtakes_is_parked(store: TransportStore) -> None:
    tracked = Tracked(store)
    assert await tracked.received(receipt("1", "pending")) is None
    assert await tracked.received(receipt("1")) is None
    assert await tracked.sent_whole("1", sent("m1")) == ["pending", "delivered"]
    await tracked.received(receipt("1"))
    assert tracked.reports == []
    assert await store.fields("parked:1") == [{}]


async def test_a_parked_receipt_is_kept_until_it_is_reported(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.received(receipt("1"))
    await tracked.sent("1", sent("m1"))
    accepted = tracked.accepted("m1", "1")
    assert [report.status for report in accepted.reports] == ["delivered"]
    assert await store.fields("parked:1") != [{}]
    await tracked.received(receipt("1"))  # the same again, while the first is on its way
    assert tracked.reports == []
    assert accepted.on_reported
    await accepted.on_reported()
    assert await store.fields("parked:1") == [{}]
    await tracked.received(receipt("1"))
    assert tracked.reports == []


@pytest.mark.parametrize("accepted_first", [True, False])
async def test_a_receipt_that_comes_with_its_response_is_reported_once(store: TransportStore, accepted_first: bool) -> None:
    """It was parked when the id was saved, and looks again afterwards: both have it now."""
    tracked = Tracked(store)
    find, parked, go_on = tracked.correlation._find, asyncio.Event(), asyncio.Event()

    async def find_later(receipt: Receipt, *, learn: bool = True, plainly: bool = False) -> Any:
        if not learn:
            parked.set()
            await go_on.wait()
        return await find(receipt, learn=learn, plainly=plainly)

    tracked.correlation._find = find_later  # type: ignore[method-assign]
    receiving = asyncio.create_task(tracked.received(receipt("1")))
    await parked.wait()
    await tracked.sent("1", sent("m1"))
    if not accepted_first:
        go_on.set()
        await receiving
    accepted = tracked.accepted("m1", "1")
    go_on.set()
    assert await receiving == "m1"
    assert [report.status for report in accepted.reports] == ["delivered"]
    assert accepted.on_reported
    await accepted.on_reported()
    assert tracked.reports == []


async def test_a_parked_receipt_whose_report_fails_is_reported_later(
    settings: Settings, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was away when the message was accepted; its ack is out already."""
    monkeypatch.setattr(correlation, "SAVE_PAUSE", 0.05)
    redis = dataclasses.replace(settings.redis, host=own_redis.host, port=own_redis.port)
    stores = Stores(dataclasses.replace(settings, redis=redis), timeout=0.5)
    tracked = Tracked(stores.transport("channel"))
    tracked.correlation._unsaved["1"] = sent("m1")
    parked = {parked_field(receipt("1")): orjson.dumps(receipt("1")).decode()}
    await tracked.correlation._store.put_fields("parked:1", parked, 60)
    tracked.fail = 2
    own_redis.kill()
    await tracked.sent("2", sent("m2"))
    own_redis.start()

    async def reported() -> bool:
        return tracked.reports == [("m1", "delivered")]

    await eventually(reported)
    await tracked.correlation.stop()
    assert await stores.transport("channel").fields("parked:1") == [{}]
    await stores.close()


async def test_a_receipt_stays_parked_when_its_report_fails(store: TransportStore) -> None:
    """Its message was accepted between the look for it and the parking."""
    tracked = Tracked(store)
    find = tracked.correlation._find

    async def find_too_early(receipt: Receipt, *, learn: bool = True, plainly: bool = False) -> Any:
        found = await find(receipt, learn=learn, plainly=plainly)
        if learn:
            assert await tracked.sent_whole("1", sent("m1")) == []
        return found

    tracked.correlation._find = find_too_early  # type: ignore[method-assign]
    tracked.fail = 1
    with pytest.raises(StoreUnavailable):
        await tracked.received(receipt("1"))
    assert await store.fields("parked:1") != [{}]
    assert await tracked.sent_whole("1", sent("m1")) == ["delivered"]
    assert await store.fields("parked:1") == [{}]


async def test_of_a_message_in_parts_nothing_is_reported_before_all_are_accepted(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.received(receipt("id-1", "pending"))
    await tracked.sent("id-1", sent("m1", 1, 2))
    await tracked.received(receipt("id-1", "failed"))
    assert tracked.reports == []
    await tracked.sent("id-2", sent("m1", 2, 2))
    accepted = tracked.accepted("m1", "id-1,id-2")
    assert [report.status for report in accepted.reports] == ["pending", "failed"]
    assert accepted.reports[-1].details["part"] == 1
    assert accepted.on_reported
    await accepted.on_reported()
    await tracked.received(receipt("id-2"))
    assert tracked.reports == []


async def test_parts_delivered_before_and_after_the_last_is_accepted_make_one_report(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.received(receipt("id-1"))
    for part in (1, 2):
        await tracked.sent(f"id-{part}", sent("m1", part, 2))
    accepted = tracked.accepted("m1", "id-1,id-2")
    assert accepted.reports == ()
    await tracked.received(receipt("id-2"))
    assert tracked.reports == [("m1", "delivered")]


@pytest.mark.parametrize("provider_id", ["a1b2c3", "ABC-77", "0b1e7c9a-6d5f-4c1e-9a55-3f0c6f2f1a11"])
async def test_an_overtaking_receipt_with_letters_in_its_id_is_matched_on_a_new_channel(
    store: TransportStore, provider_id: str
) -> None:
    tracked = Tracked(store)
    assert await tracked.received(receipt(provider_id)) is None
    assert await tracked.sent_whole(provider_id, sent("m1")) == ["delivered"]


async def test_a_text_that_only_looks_like_one_is_not_parked(store: TransportStore) -> None:
    tracked = Tracked(store)
    assert await tracked.received(receipt("1", certain=False)) is None
    await tracked.sent("1", sent("m1"))
    assert tracked.reports == []
    assert await tracked.received(receipt("1", certain=False)) == "m1"


@pytest.mark.parametrize("certain", [False, True])
@pytest.mark.parametrize(
    ("to", "source", "is_receipt"),
    [
        ("27820001111", "27820001111", True),
        ("+27820001111", "0820001111", True),
        ("tel:+27820001111", "0027820001111", True),
        ("0820001111", "+27 82 000 1111", True),
        ("27820001111", "27830009999", False),
        ("27820001111", "1111", False),
        ("27820001111", "8000", False),
        ("27820001111", "", False),
        ("8000", "278000", False),
        ("", "", False),
    ],
)
async def test_told_by_its_text_it_counts_only_from_whom_its_message_went_to(
    store: TransportStore, to: str, source: str, is_receipt: bool, certain: bool
) -> None:
    tracked = Tracked(store)
    await tracked.sent("1", sent("m1", to=to))
    told = dataclasses.replace(receipt("1", "failed", certain=certain), by_text=True, addresses=(source, "27820001111"))
    if is_receipt:
        assert await tracked.received(told) == "m1"
    else:
        with pytest.raises(NotItsMessages):
            await tracked.received(told)
    assert tracked.reports == ([("m1", "failed")] if is_receipt else [])


async def test_a_strangers_text_about_a_message_to_come_is_not_reported(store: TransportStore) -> None:
    tracked = Tracked(store)
    forged = dataclasses.replace(receipt("1", "failed", about="27830009999"), by_text=True)
    assert await tracked.received(forged) is None
    assert await tracked.sent_whole("1", sent("m1")) == []
    await tracked.received(receipt("1"))
    assert tracked.reports == [("m1", "delivered")]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_told_by_its_text_it_waits_for_the_response_that_names_its_id(store: TransportStore, is_ours: bool) -> None:
    tracked = Tracked(store)
    told = dataclasses.replace(receipt("1" if is_ours else "2", certain=False), by_text=True)
    with tracked.correlation.submitting("m1", TO):
        receiving = asyncio.create_task(tracked.received(told))
        stranger = dataclasses.replace(told, addresses=("27830009999", "8000"))
        assert await tracked.received(stranger) is None
        assert not receiving.done()
        await tracked.sent("1", sent("m1"))
    tracked.accepted("m1", "1")
    assert await receiving == ("m1" if is_ours else None)
    assert tracked.reports == ([("m1", "delivered")] if is_ours else [])


async def test_before_the_form_is_known_a_receipt_of_an_id_that_is_still_to_come_is_of_nobody_else(store: TransportStore) -> None:
    """16 in hexadecimal, as the tenth id is in decimal. Both come in one read: of the first it is told in which base ids are."""
    tracked = Tracked(store)
    assert await tracked.sent_whole("a", sent("m10")) == []
    with tracked.correlation.submitting("m16", TO):
        both = await asyncio.gather(tracked.received(receipt("A")), tracked.received(receipt("10", "failed")))
        assert both == ["m10", None]
        assert await tracked.sent_whole("10", sent("m16")) == ["failed"]
    assert tracked.reports == [("m10", "delivered")]


@pytest.mark.parametrize("early", [True, False])
async def test_letters_that_were_sent_and_not_received_yet_give_no_receipt_to_another_number(
    store: TransportStore, early: bool
) -> None:
    """20 is 14 in hexadecimal."""
    tracked = Tracked(store)
    for id in ("a", "14"):
        await tracked.sent_whole(id, sent(f"m{id}", to="27829999999"))
    if early:
        with tracked.correlation.submitting("m20", TO):
            assert await tracked.received(receipt("20")) is None
    await tracked.sent_whole("20", sent("m20"))
    if not early:
        assert await tracked.received(receipt("20")) == "m20"
    await eventually(lambda: early or tracked.reports == [("m20", "delivered")])
    assert "m14" not in dict(tracked.reports)


async def test_a_receipt_in_doubt_is_reported_once_all_to_its_number_are_answered(store: TransportStore) -> None:
    tracked = Tracked(store)
    assert await tracked.sent_whole("a", sent("m10")) == []
    assert await tracked.received(receipt("abc")) is None
    with tracked.correlation.submitting("m11", "27830009999"):
        with tracked.correlation.submitting("m12", TO):
            assert await tracked.received(receipt("10")) is None
            assert tracked.reports == []
        await eventually(lambda: tracked.reports == [("m10", "delivered")])


async def test_strangers_texts_teach_nothing(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("12", sent("m12"))
    for number in ("abc", "a", "c", "18", "12"):
        stranger = dataclasses.replace(receipt(number, about="27830009999", certain=False), by_text=True)
        with contextlib.suppress(NotItsMessages):
            assert await tracked.received(stranger) is None
    assert tracked.correlation._forms.usual is None
    assert tracked.correlation._forms._letters == set()


async def test_an_id_is_looked_for_in_the_text_when_nobody_knows_the_parameters(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("4711", sent("m1"))
    assert await tracked.received(dataclasses.replace(receipt("zzz"), other_ids=("4711",))) == "m1"
    assert tracked.details[0]["sent_message_id"] == "4711"
    assert await tracked.received(dataclasses.replace(receipt("4712"), other_ids=("4711",), addresses=("9", "8"))) is None


async def test_so_it_is_when_the_receipt_overtook_the_response(store: TransportStore) -> None:
    tracked = Tracked(store)
    assert await tracked.received(dataclasses.replace(receipt("zzz"), other_ids=("4711",))) is None
    assert await tracked.sent_whole("4711", sent("m1")) == ["delivered"]
    assert await store.fields("parked:zzz", "parked:4711") == [{}, {}]


async def test_the_parameters_id_counts_before_the_texts(store: TransportStore) -> None:
    tracked = Tracked(store)
    for number in (10, 16):
        await tracked.sent(f"{number}", sent(f"m{number}"))
    assert await tracked.received(dataclasses.replace(receipt("10"), other_ids=("16",))) == "m10"


async def test_a_receipt_parked_by_an_older_junebug_is_found(store: TransportStore) -> None:
    old = dataclasses.asdict(receipt("1"))
    del old["by_text"], old["other_ids"]
    await store.put_fields("parked:1", {"DELIVRD": orjson.dumps(old).decode()}, 60)
    assert await Tracked(store).sent_whole("1", sent("m1")) == ["delivered"]


async def test_it_survives_a_restart(store: TransportStore) -> None:
    await Tracked(store).sent("1", sent("m1"))
    again = Tracked(store)
    await again.received(receipt("1"))
    assert again.reports == [("m1", "delivered")]


async def test_one_event_when_all_parts_are_delivered(store: TransportStore) -> None:
    tracked = Tracked(store)
    for part in (1, 2, 3):
        await tracked.sent(f"id-{part}", sent("m1", part, 3))
    tracked.accepted("m1", None)
    for part in (3, 1, 1):
        await tracked.received(receipt(f"id-{part}"))
    assert tracked.reports == []
    await tracked.received(receipt("id-2"))
    await tracked.received(receipt("id-2"))
    assert tracked.reports == [("m1", "delivered")]
    assert tracked.details[0]["parts"] == 3


async def test_one_event_when_a_part_fails(store: TransportStore) -> None:
    tracked = Tracked(store)
    for part in (1, 2):
        await tracked.sent(f"id-{part}", sent("m1", part, 2))
    tracked.accepted("m1", None)
    await tracked.received(receipt("id-1", "pending"))
    await tracked.received(receipt("id-2", "pending"))
    await tracked.received(receipt("id-2", "failed"))
    await tracked.received(receipt("id-1", "failed"))
    assert tracked.reports == [("m1", "pending"), ("m1", "failed")]


@pytest.mark.parametrize("parts", [1, 2])
async def test_an_event_that_could_not_be_reported_is_when_the_receipt_comes_again(
    store: TransportStore, parts: int
) -> None:
    tracked = Tracked(store)
    for part in range(1, parts + 1):
        await tracked.sent(f"id-{part}", sent("m1", part, parts))
    tracked.accepted("m1", None)
    tracked.fail = 1
    for part in range(1, parts):
        await tracked.received(receipt(f"id-{part}"))
    with pytest.raises(StoreUnavailable):
        await tracked.received(receipt(f"id-{parts}"))
    await tracked.received(receipt(f"id-{parts}"))
    assert tracked.reports == [("m1", "delivered")]


async def test_ids_in_another_base_are_learned(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("4d2", sent("m1"))
    await tracked.received(receipt("1234"))
    await tracked.sent("4D3", sent("m2"))
    await tracked.received(receipt("1235", about="unknown"))
    assert tracked.reports == [("m1", "delivered"), ("m2", "delivered")]


async def test_what_was_learned_survives_a_restart(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("4d2", sent("m1"))
    await tracked.received(receipt("1234"))
    again = Tracked(store)
    await again.sent("4d3", sent("m2"))
    await again.received(receipt("1235", about="unknown"))
    assert again.reports == [("m2", "delivered")]


async def test_a_number_that_is_anothers_in_another_base_is_not_taken_for_it(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("16", sent("m1", to="27820009999"))
    assert await tracked.received(receipt("10", about=TO)) is None  # 0x10
    assert await tracked.received(receipt("22", about=TO)) is None  # 0x16
    assert await tracked.sent_whole("10", sent("m2")) == ["delivered"]


async def test_of_two_the_one_that_went_to_that_number_is_meant(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("1234", sent("m1", to="27820009999"))
    await tracked.sent("4d2", sent("m2"))
    await tracked.received(receipt("1234", about=TO))
    assert tracked.reports == [("m2", "delivered")]


async def test_a_lost_id_is_not_another_messages_in_another_base(store: TransportStore) -> None:
    """The link died before the response that would have named 21; 0x15 is another message to the same number."""
    tracked = Tracked(store)
    for number in range(12, 20):
        await tracked.sent(f"{number}", sent(f"m{number}"))
    await tracked.received(receipt("12"))
    assert await tracked.received(receipt("21")) is None
    await tracked.received(receipt("15"))
    assert tracked.reports == [("m12", "delivered"), ("m15", "delivered")]


async def test_letters_on_one_side_tell_the_base(store: TransportStore) -> None:
    """Receipt 10 can mean the response's 10 or its a: there are letters in responses, so its a."""
    tracked = Tracked(store)
    for number in range(1, 20):
        await tracked.sent(f"{number:x}", sent(f"m{number}"))
    for number in range(1, 20):
        await tracked.received(receipt(f"{number}"))
    assert tracked.reports == [(f"m{number}", "delivered") for number in range(1, 20)]


async def test_an_id_used_again_is_another_message(store: TransportStore) -> None:
    tracked = Tracked(store)
    for message_id in ("m1", "m2"):
        await tracked.sent("1", sent(message_id))
        await tracked.received(receipt("1"))
    assert tracked.reports == [("m1", "delivered"), ("m2", "delivered")]


async def test_two_binds_share_what_was_sent(settings: Settings) -> None:
    stores = Stores(settings)
    config = dataclasses.replace(CONFIG, split_bind_prefix="pair")
    sender = Tracked(stores.transport("tx"), config)
    receiver = Tracked(stores.transport("rx"), config)
    stranger = Tracked(stores.transport("other"))
    await sender.sent("1", SentPart("m1", "tx", TO))
    assert await stranger.received(receipt("1")) is None
    await receiver.received(receipt("1"))
    assert (receiver.reports, receiver.details[0]["sent_by"]) == ([("m1", "delivered")], "tx")
    await stores.close()


async def test_every_key_has_a_ttl(store: TransportStore) -> None:
    tracked = Tracked(store)
    await tracked.sent("1", sent("m1"))
    await tracked.sent("ff", sent("m2", 1, 2))
    tracked.accepted("m2", None)
    for provider_id in ("1", "255", "3", "ff"):
        await tracked.received(receipt(provider_id))
    (keys,) = await store._redis.run(("KEYS", "*"))
    ttls = await store._redis.run(*(("TTL", key) for key in keys))
    assert len(keys) >= 5
    assert all(ttl > 0 for ttl in ttls), dict(zip(keys, ttls, strict=True))


async def test_while_redis_is_away_ids_are_kept_in_memory(settings: Settings, own_redis: RedisServer) -> None:
    redis = dataclasses.replace(settings.redis, host=own_redis.host, port=own_redis.port)
    stores = Stores(dataclasses.replace(settings, redis=redis), timeout=0.5)
    tracked = Tracked(stores.transport("channel"))
    own_redis.kill()
    await tracked.sent("1", sent("m1"))
    with pytest.raises(StoreUnavailable):
        await tracked.received(receipt("1"))
    own_redis.start()

    async def reported() -> bool:
        try:
            await tracked.received(receipt("1"))
        except StoreUnavailable:
            return False
        return tracked.reports == [("m1", "delivered")]

    await eventually(reported)
    await tracked.correlation.stop()
    (fields,) = await stores.transport("channel").fields("sent:1")
    assert fields["status"] == "delivered"
    await stores.close()


# --- in doubt ---------------------------------------------------------------------------------------------------------


class Doubted:
    """A receipt in another base (21: hexadecimal 15), while the form of ids is not known and a message to its number leaves."""

    def __init__(self, store: TransportStore) -> None:
        self.store = Counting(store)
        self.tracked = Tracked(self.store)

    @contextlib.asynccontextmanager
    async def submitting(self) -> AsyncIterator[None]:
        await self.tracked.sent_whole("15", sent("m1"))
        with self.tracked.correlation.submitting("m2", TO):
            assert await self.tracked.received(receipt("21")) is None
            yield
        assert self.tracked.reports == []

    async def parked(self) -> list[dict[str, str]]:
        return [each for each in await self.store.fields("parked:15", "parked:21") if each]

    async def is_unparked(self) -> bool:
        return not await self.parked()


async def test_a_receipt_in_doubt_is_reported_once_nothing_plainer_came(store: TransportStore) -> None:
    doubted = Doubted(store)
    async with doubted.submitting():
        assert len(await doubted.parked()) == 2
    await eventually(lambda: doubted.tracked.reports == [("m1", "delivered")])
    await eventually(doubted.is_unparked)


async def test_a_receipt_in_doubt_outlives_an_outage_of_redis(store: TransportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider was told that it is taken, and nobody would look at it again."""
    monkeypatch.setattr(doubts, "PAUSE", 0.05)
    doubted = Doubted(store)
    async with doubted.submitting():
        doubted.tracked.fail = 3
    await eventually(lambda: doubted.tracked.reports == [("m1", "delivered")])
    assert doubted.tracked.fail == 0


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_receipt_in_doubt_is_decided_on_at_the_stop(store: TransportStore, is_away: bool) -> None:
    doubted = Doubted(store)
    async with doubted.submitting():
        doubted.tracked.fail = int(is_away)
        await doubted.tracked.correlation.stop()
        assert doubted.tracked.reports == ([] if is_away else [("m1", "delivered")])
        doubted.tracked.reports.clear()


async def test_a_receipt_in_doubt_outlives_its_process(store: TransportStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correlation, "DOUBT", 0.01)
    doubted = Doubted(store)

    async def die(_: Receipt) -> None:
        await asyncio.Event().wait()

    doubted.tracked.correlation._doubts._decide = die
    async with doubted.submitting():
        pass
    again = Tracked(store)
    await eventually(lambda: again.reports == [("m1", "delivered")])
    await eventually(doubted.is_unparked)


async def test_what_is_to_be_reported_with_its_message_stays_parked_until_then(store: TransportStore) -> None:
    """Though somebody has looked at it meanwhile: we might die before."""
    tracked = Tracked(counting := Counting(store))
    first, second = sent("m1", 1, 2), sent("m1", 2, 2)
    await tracked.sent("15", first)
    with tracked.correlation.submitting("m2", TO):
        assert await tracked.received(receipt("21")) is None
    await eventually(lambda: "m1" in tracked.correlation._early)
    await asyncio.sleep(0.05)
    assert [len(each) for each in await counting.fields("parked:15", "parked:21")] == [1, 1]
    await tracked.sent("99", second)
    await tracked.received(receipt("153"))
    accepted = tracked.accepted("m1", "15")
    assert [report.status for report in accepted.reports] == ["delivered"]
    assert accepted.on_reported
    await accepted.on_reported()
    assert await counting.fields("parked:15", "parked:21") == [{}, {}]


@pytest.mark.parametrize(
    "steps",
    [
        ["sent 1", "receipt 1", "sent 2", "receipt 2"],
        ["sent 1", "sent 2", "receipt 2", "receipt 1"],
        ["receipt 1", "sent 1", "receipt 2", "sent 2"],
        ["receipt 2", "receipt 1", "sent 2", "sent 1"],
        ["sent 1", "receipt 1", "sent 2", "die", "receipt 2"],
        ["receipt 1", "sent 1", "sent 2", "die", "receipt 2"],
    ],
    ids=", ".join,
)
async def test_what_was_answered_before_a_kill_is_reported_after_it(store: TransportStore, steps: list[str]) -> None:
    """The SMSC repeats no receipt that was answered, and the message, being accepted, is not sent again."""
    for parts in (1, 2):
        tracked = Tracked(store)
        message_id = f"m{parts}"

        async def take(step: str, tracked: Tracked = tracked, parts: int = parts, message_id: str = message_id) -> None:
            what, number = step.split()
            provider_id = f"id-{parts}-{number if parts > 1 else 1}"
            if what == "receipt":  # of a message in one part: that it is under way, then that it is there
                is_last = parts > 1 or steps.index(step) > steps.index(f"receipt {3 - int(number)}")
                await tracked.received(receipt(provider_id, "delivered" if is_last else "pending"))
            elif parts > 1:
                await tracked.sent(provider_id, sent(message_id, int(number), parts))
            elif number == min(each[-1] for each in steps if each.startswith("sent")):
                await tracked.sent(provider_id, sent(message_id))

        died = steps.index("die") if "die" in steps else len(steps)
        for step in steps[:died]:
            await take(step)
        told = list(tracked.reports)
        again = Tracked(store)
        for number in range(1, parts + 1):
            await again.sent(f"id-{parts}-{number}", sent(message_id, number, parts))
        accepted = again.accepted(message_id, "all")
        told += [(message_id, report.status) for report in accepted.reports]
        if accepted.on_reported:
            await accepted.on_reported()
        for step in steps[died + 1 :]:
            await take(step, again)
        assert (*told, *again.reports)[-1] == (message_id, "delivered")
        assert await store.fields(*(f"parked:id-{parts}-{number}" for number in (1, 2))) == [{}, {}]


async def test_parts_of_which_only_the_last_is_heard_while_their_message_is_being_told(store: TransportStore) -> None:
    """As after a kill: the first one's receipt came when Redis knew its id, and this process not yet its message."""
    before = Tracked(store)
    for number in (1, 2):
        await before.sent(f"id-{number}", sent("m1", number, 2))
    again = Tracked(store)
    await again.received(receipt("id-1"))
    for number in (1, 2):
        await again.sent(f"id-{number}", sent("m1", number, 2))
    await again.received(receipt("id-2"))
    assert [report.status for report in again.accepted("m1", "all").reports] == ["delivered"]
    assert again.reports == []


# --- of shards --------------------------------------------------------------------------------------------------------


class Shards:
    """Two processes of one channel."""

    def __init__(self, store: TransportStore) -> None:
        config = CONFIG.part(0, 2)
        self.one, self.other = Tracked(store, config), Tracked(store, config)

    async def submitted(self, *parts: tuple[str, SentPart]) -> None:
        """The one's; RabbitMQ has the event when this returns."""
        for provider_id, part in parts:
            await self.one.sent(provider_id, part)
        accepted = self.one.accepted(parts[0][1].message_id, "all")
        assert accepted.reports == ()
        assert accepted.on_reported
        await accepted.on_reported()

    @property
    def reports(self) -> list[tuple[str, str]]:
        return self.one.reports + self.other.reports


async def test_an_early_receipt_in_another_base_is_reported_too(
    store: TransportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "DOUBT", 0.01)
    shards = Shards(store)
    assert await shards.other.received(receipt("15")) is None
    await shards.submitted(("f", sent("m1")))
    await eventually(lambda: shards.reports == [("m1", "delivered")])


@pytest.mark.parametrize("when", ["before the response", "before the event", "behind it"])
async def test_a_receipt_that_comes_to_another_shard_is_reported_behind_submitted(store: TransportStore, when: str) -> None:
    shards = Shards(store)
    if when == "before the response":
        assert await shards.other.received(receipt("7")) is None
    await shards.one.sent("7", sent("m1"))
    if when == "before the event":
        assert await shards.other.received(receipt("7")) is None
    assert shards.reports == []
    accepted = shards.one.accepted("m1", "7")
    assert accepted.on_reported
    await accepted.on_reported()
    if when == "behind it":
        assert await shards.other.received(receipt("7")) == "m1"
    assert shards.reports == [("m1", "delivered")]
    assert await shards.one.received(receipt("7")) == "m1"  # the SMSC repeats it
    assert len(shards.reports) == 1
    assert await store.fields("parked:7") == [{}]


async def test_receipts_of_parts_that_come_to_two_shards_at_once_are_reported_once(store: TransportStore) -> None:
    shards = Shards(store)
    for number in range(10):
        ids = f"{number}a", f"{number}b"
        await shards.submitted(*((id, sent(f"m{number}", part, 2)) for part, id in enumerate(ids, 1)))
        await asyncio.gather(*(each.received(receipt(id)) for each, id in zip((shards.one, shards.other), ids, strict=True)))
    assert sorted(shards.reports) == [(f"m{number}", "delivered") for number in range(10)]


@pytest.mark.parametrize("id", ["7", "15"])
async def test_what_is_a_receipt_by_its_text_only_waits_for_another_shard(store: TransportStore, id: str) -> None:
    shards = Shards(store)
    text = dataclasses.replace(receipt(id, certain=False), by_text=True)
    receiving = asyncio.create_task(shards.other.received(text))
    await asyncio.sleep(0)
    await shards.submitted((id, sent("m1")))
    assert await receiving == "m1"
    assert shards.reports == [("m1", "delivered")]


async def test_receipts_whose_ids_are_the_same_in_another_base_wait_beside_each_other(
    store: TransportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one number: nothing but the id tells them apart. 21 is hexadecimal 15."""
    monkeypatch.setattr(correlation, "DOUBT", 0.1)
    shards = Shards(store)
    for id in ("15", "21"):
        assert await shards.other.received(receipt(id)) is None
    for id in ("21", "15"):
        await shards.submitted((id, sent(f"m{id}")))
    await eventually(lambda: sorted(shards.reports) == [("m15", "delivered"), ("m21", "delivered")])


@pytest.mark.parametrize(("sends", "tells"), [("x", "d"), ("d", "x"), ("d", "d"), ("x", "x")])
async def test_in_whatever_base_each_of_the_first_receipts_is_reported_of_its_message(
    store: TransportStore, sends: str, tells: str
) -> None:
    """All are to one number, and come by any shard: before the id, before RabbitMQ has `submitted`, and after."""
    shards, chance, number = Shards(store), random.Random(1), range(1, 201)
    each = [shards.one, shards.other]

    async def submit(n: int) -> None:
        await asyncio.sleep(chance.random())
        receiving = asyncio.create_task(receive(n))
        await asyncio.sleep(chance.uniform(0, 0.01))
        await shards.one.sent(f"{n:{sends}}", sent(f"m{n}"))
        accepted = shards.one.accepted(f"m{n}", f"{n:{sends}}")
        await asyncio.sleep(chance.uniform(0, 0.01))
        assert accepted.on_reported
        await accepted.on_reported()
        await receiving

    async def receive(n: int) -> None:
        await asyncio.sleep(chance.uniform(0, 0.02))
        await chance.choice(each).received(dataclasses.replace(receipt(f"{n:{tells}}"), error_code=f"{n}"))

    await asyncio.gather(*map(submit, number))
    await eventually(lambda: len(shards.reports) == len(number))
    assert {message for message, _ in shards.reports} == {f"m{n}" for n in number}
    about = [details["error_code"] for one in each for details in one.details]
    assert [message for message, _ in shards.reports] == [f"m{n}" for n in about]


async def test_in_another_base_a_receipt_fits_once_nothing_plainer_came(
    store: TransportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "DOUBT", 0.01)
    shards = Shards(store)
    await shards.submitted(("f", sent("m1")))
    assert await shards.other.received(receipt("15")) == "m1"
    assert shards.reports == [("m1", "delivered")]
