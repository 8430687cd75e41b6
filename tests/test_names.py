"""Names: what can be a channel's id, and how a deleted channel's keys are found."""

from __future__ import annotations

from collections import Counter

import pytest

from junebug import names
from junebug.stores.key_lists import key_list, key_lists


@pytest.mark.parametrize(
    ("text", "good"),
    [("0b2c", True), ("a.b-c_d", True), ("", False), (".a", False), ("a b", False), ("a/b", False), ("a:b", False),
     ("ä", False), ("a\n", False), ("x" * 128, True), ("x" * 129, False)],
)  # fmt: skip
def test_what_can_be_a_channels_id(text: str, good: bool) -> None:
    assert names.is_channel_id(text) is good


@pytest.mark.parametrize("ttl", [1, 16, 512, 600, 172_800, 604_800, 1e12])
def test_a_key_list_is_found_for_as_long_as_its_keys_live(ttl: float) -> None:
    now = 1_800_000_000.25
    list_of_keys, kept = key_list("c", ttl, now)
    assert kept >= min(ttl, 2**26)
    for age in (-2, 0, min(ttl, 2**26) / 2, min(ttl, 2**26)):
        assert list_of_keys in key_lists("c", now + age)


@pytest.mark.parametrize(("unit", "channel", "shard", "queue"), [
    ("c", "c", 0, "c.control"),
    ("c.1", "c.1", 0, "c.1.control"),
    ("c~1", "c", 1, "c.control.1"),
    ("c~31", "c", 31, "c.control.31"),
])  # fmt: skip
def test_a_unit_is_a_channel_and_a_shard(unit: str, channel: str, shard: int, queue: str) -> None:
    assert (names.channel_of(unit), names.shard_of(unit)) == (channel, shard)
    assert names.unit(channel, shard) == unit
    assert names.is_unit(unit)
    assert names.is_channel_id(unit) is (shard == 0)
    assert names.control_queue(unit) == queue
    assert names.is_amqp_queue(queue)


@pytest.mark.parametrize("text", ["c~0", "c~32", "c~01", "c~", "~1", "c~1~2", "c~x"])
def test_what_is_no_unit(text: str) -> None:
    assert not names.is_unit(text)


@pytest.mark.parametrize(
    ("layout", "first", "urgent"),
    [
        (names.PLAIN, "c.outbound", "c.outbound.5"),
        (names.Layout(is_quorum=True), "c.outbound.q", "c.outbound.q.5"),
        (names.Layout(is_slotted=True), "c.outbound.s00", "c.outbound.s00.5"),
        (names.Layout(True, True), "c.outbound.qs00", "c.outbound.qs00.5"),
    ],
)  # fmt: skip
def test_a_layout_names_its_queues(layout: names.Layout, first: str, urgent: str) -> None:
    assert (layout.queue("c"), layout.queue("c", 5)) == (first, urgent)
    assert [names.priority_of(each, 3) for each in (first, urgent)] == [3, 5]
    assert names.is_quorum(first) is names.is_quorum(urgent) is layout.is_quorum
    assert [names.layout_of(layout.number(time)) for time in (1, 2, 30)] == [layout] * 3
    assert layout.queue("c", 2, "+27821234567") in layout.queues("c", (2,))


def test_every_slot_has_one_shard_and_every_layout_names_of_its_own() -> None:
    for shards in (2, 3, 8, 32):
        slotted = names.LAYOUTS[2]
        of_shards = [queue for shard in range(shards) for queue in slotted.queues("c", shard=shard, shards=shards)]
        assert sorted(of_shards) == sorted(slotted.queues("c"))
    every = [queue for layout in names.LAYOUTS for queue in layout.queues("c")]
    assert len(set(every)) == len(every) == 2 * 5 + 2 * 5 * 32


def test_addresses_are_spread_and_stay_where_they_are() -> None:
    slotted = names.LAYOUTS[2]
    assert slotted.queue("c", 1, "+27821234567") == "c.outbound.s14"  # as the Junebug before this one has it
    spread = Counter(slotted.queue("c", 1, f"+2782{number}") for number in range(1_000_000, 1_032_000))
    assert 900 < min(spread.values()) <= max(spread.values()) < 1100
