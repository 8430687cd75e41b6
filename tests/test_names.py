"""Names: what can be a channel's id, and how a deleted channel's keys are found."""

from __future__ import annotations

import pytest

from junebug import names


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
    key_list, kept = names.key_list("c", ttl, now)
    assert kept >= min(ttl, 2**26)
    for age in (-2, 0, min(ttl, 2**26) / 2, min(ttl, 2**26)):
        assert key_list in names.key_lists("c", now + age)


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
