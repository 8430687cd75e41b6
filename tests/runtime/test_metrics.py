"""What a process counts, and what is taken of it when."""

from __future__ import annotations

from junebug.runtime import families
from junebug.runtime.families import BY_FIELD, FAMILIES, LOOP_LAG, MESSAGES, SEPARATOR
from junebug.runtime.metrics import SAVE_EVERY, SAY_AGAIN, Metrics

SUBMITTED = MESSAGES.field("outbound", "submitted")


def test_each_batch_has_what_is_new() -> None:
    metrics = Metrics("c")
    counts = metrics.counts
    counts[SUBMITTED] += 2
    metrics.of("d")[SUBMITTED] += 1
    batch = metrics.due(100.0)
    assert batch
    assert (batch.number, batch.counts) == (1, {"c": {SUBMITTED: 2}, "d": {SUBMITTED: 1}})
    metrics.saved(batch)
    counts[SUBMITTED] += 3
    assert metrics.due(100.0 + SAVE_EVERY / 2) is None, "too soon"
    batch = metrics.due(100.0 + SAVE_EVERY)
    assert batch
    assert (batch.number, batch.counts) == (2, {"c": {SUBMITTED: 3}})


def test_a_batch_that_was_not_saved_is_the_same_the_next_time() -> None:
    metrics = Metrics("c")
    metrics.counts[SUBMITTED] += 2
    first = metrics.due(100.0)
    metrics.counts[SUBMITTED] += 1
    assert metrics.due(100.0 + SAVE_EVERY) is first
    assert first
    metrics.saved(first)
    second = metrics.taken(100.0 + SAVE_EVERY)
    assert second
    assert second.counts == {"c": {SUBMITTED: 1}}


def test_nothing_new_is_nothing_to_save() -> None:
    quiet = LOOP_LAG.fields("worker")
    metrics = Metrics("c", frozenset(quiet))
    lag = LOOP_LAG.observer(metrics.counts, "worker")
    gauges = {"a": 1.0}
    metrics.gauges.append(lambda: gauges)
    first = metrics.due(100.0)
    assert first
    assert first.gauges == {"a": 1.0}
    metrics.saved(first)
    now = 100.0
    for _ in range(20):
        now += SAVE_EVERY
        lag(0.001)
        assert metrics.due(now) is None
    metrics.counts[SUBMITTED] += 1
    batch = metrics.due(now + SAVE_EVERY)
    assert batch
    assert batch.gauges == {}
    assert batch.counts["c"][quiet[0]] == 20
    metrics.saved(batch)
    gauges.clear()
    batch = metrics.due(now + 2 * SAVE_EVERY)
    assert batch
    assert batch.gauges == {"a": 0.0}, "what is told no more is nothing"


def test_what_says_nothing_for_a_day_says_so() -> None:
    metrics = Metrics("c")
    first = metrics.taken()
    assert first
    metrics.saved(first)
    assert metrics.taken() is None
    assert metrics._again_at
    assert metrics.taken(metrics._again_at + 1) is not None
    assert SAY_AGAIN < 30 * 86_400


def test_an_observer_counts_into_the_first_bound_that_holds_it() -> None:
    metrics = Metrics()
    observe = LOOP_LAG.observer(metrics.counts, "api:1")
    for seconds in (0.0, 0.01, 0.0100001, 5.0, 60.0):
        observe(seconds)
    low, second, *_, highest, beyond, total = LOOP_LAG.fields("api:1")
    assert {name: metrics.counts[name] for name in (low, second, highest, beyond)} == {low: 2, second: 1, highest: 1, beyond: 1}
    assert metrics.counts[total] == 65_020_000


def test_families_have_names_as_prometheus_wants_them() -> None:
    for family in FAMILIES:
        assert family.name.startswith("junebug_")
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert (family.kind == "histogram") == bool(family.bounds), family.name
        assert family.kind != "histogram" or family.unit == "seconds"
        assert list(family.bounds) == sorted(set(family.bounds))
        assert family.help[0].isupper()
        assert family.help.endswith(".")
        assert not {*family.labels} & {"channel_id", "router_id", "le"}
        assert not [each for values in (family.values or {}).values() for each in values if SEPARATOR in each]
    assert len(BY_FIELD) == len(FAMILIES), "two of one name"
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for field in (*families.zeros(False), *families.zeros(True)):
        assert BY_FIELD[field.split(SEPARATOR)[0]].kind == "counter"
