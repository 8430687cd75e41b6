"""Pauses between attempts: whatever the configuration says, nobody is hammered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from junebug.runtime.backoff import SHORTEST, Backoff
from junebug.smpp.window import Window
from junebug.worker.callbacks.circuit_breaker import FAILURES, CircuitBreaker
from junebug.worker.callbacks.retry_policy import Delay, next_step


def test_delays_begin_with_the_first_and_grow_to_the_longest() -> None:
    backoff = Backoff(5, 60, uniform=lambda low, high: high)
    assert [backoff.next() for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    backoff.reset()
    assert backoff.next() == 5


def test_delays_are_jittered_but_the_first() -> None:
    backoff = Backoff(5, 60)
    assert backoff.next() == 5
    assert 8 <= backoff.next() <= 10
    for _ in range(2000):
        assert 0 < backoff.next() <= 60


def test_a_first_delay_of_nothing_does_not_become_a_storm() -> None:
    backoff = Backoff(0, 60, uniform=lambda low, high: low)
    delays = [backoff.next() for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 48


def _throttled(throttle_delay: float) -> Iterator[float]:
    window, now = Window(5, 0, throttle_delay), 0.0
    while True:
        window.leave(now)
        window.throttle(now)
        pause = window.wait(now)
        assert pause
        yield pause
        now += pause


def _probes(delays: list[float]) -> Iterator[float]:
    circuit = CircuitBreaker(delays)
    for n in range(FAILURES):
        circuit.failed(0, str(n), "500", 0)
    while True:
        yield circuit.probe_at
        circuit.probe_failed(0, "500", 0)


def _repeats(delays: list[float]) -> Iterator[float]:
    attempts = 0
    while True:
        attempts += 1
        step = next_step(attempts, 0, 0.0, 0, 1000, delays, jitter=0)
        assert isinstance(step, Delay)
        yield step.seconds


def _reconnects(first: float, longest: float) -> Iterator[float]:
    backoff = Backoff(first, longest)
    while True:
        yield backoff.next()


@pytest.mark.parametrize(
    "pauses",
    [
        lambda: _reconnects(0, 0),
        lambda: _reconnects(0, 60),
        lambda: _reconnects(0.001, 0.002),
        lambda: _reconnects(60, 0),
        lambda: _reconnects(-1, -1),
        lambda: _throttled(0),
        lambda: _throttled(0.0001),
        lambda: _repeats([0.0]),
        lambda: _repeats([0.1]),
        lambda: _repeats([0.0, 0.0, 0.001]),
        lambda: _probes([0.0]),
        lambda: _probes([0.1]),
    ],
)
def test_no_pause_is_shorter_than_a_tenth_of_a_second_and_they_grow(pauses: Callable[[], Iterator[float]]) -> None:
    first = [pause for pause, _ in zip(pauses(), range(8), strict=False)]
    assert min(first) >= SHORTEST
    assert first[-1] >= 0.8
