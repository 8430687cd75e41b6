"""Whether a destination is called, when a failed callback is tried again, in which order calls are made: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from junebug.worker.callbacks.circuit_breaker import FAILURES, Circuit
from junebug.worker.callbacks.health import CallbackHealth
from junebug.worker.callbacks.keyed_queue import Line
from junebug.worker.callbacks.retry_policy import Delay, next_step

DELAYS = [1.0, 5.0, 30.0, 120.0]


def failed_circuit(now: float = 100.0, retry_after: float | None = None) -> Circuit:
    circuit = Circuit(DELAYS)
    assert [circuit.failed(now, str(n), "dead", retry_after) for n in range(FAILURES)] == [False] * 4 + [True]
    return circuit


# --- circuit ----------------------------------------------------------------------------------------------------------


def test_it_opens_after_five_callbacks_failed_in_a_row() -> None:
    circuit = failed_circuit()
    assert circuit.is_open
    assert circuit.probe_at == 101


def test_a_success_between_them_begins_the_count_again() -> None:
    circuit = Circuit(DELAYS)
    for n in range(FAILURES - 1):
        circuit.failed(0, str(n), "500")
    assert not circuit.answered()
    for n in range(FAILURES - 1):
        circuit.failed(0, str(n), "500")
    assert not circuit.is_open


def test_one_callback_that_the_application_cannot_bear_does_not_open_it() -> None:
    circuit = Circuit(DELAYS)
    assert not any(circuit.failed(0, "poison", "500") for _ in range(100))


def test_probes_come_later_and_later_but_never_later_than_half_a_minute() -> None:
    circuit = failed_circuit(now=0)
    pauses = [circuit.probe_at]
    for _ in range(5):
        circuit.probe_failed(0, "dead")
        pauses.append(circuit.probe_at)
    assert pauses == [1, 5, 30, 30, 30, 30]


def test_a_host_may_ask_for_more_time() -> None:
    assert failed_circuit(now=0, retry_after=600).probe_at == 600
    circuit = failed_circuit(now=0)
    circuit.probe_failed(10, "429", 90)
    assert circuit.probe_at == 100


def test_an_answer_closes_it_and_the_next_time_begins_anew() -> None:
    circuit = failed_circuit(now=0)
    circuit.probe_failed(0, "dead")
    assert circuit.answered()
    assert not circuit.is_open
    for n in range(FAILURES):
        circuit.failed(50, str(n), "dead")
    assert circuit.probe_at == 51


def test_late_failures_do_not_put_the_probe_off() -> None:
    circuit = failed_circuit(now=0)
    assert not circuit.failed(0.9, "late", "dead")
    assert circuit.probe_at == 1


def test_a_suspect_is_asked_at_once() -> None:
    circuit = Circuit(DELAYS)
    circuit.suspect(7)
    assert (circuit.is_open, circuit.probe_at) == (True, 7)


# --- what comes after a failure ---------------------------------------------------------------------------------------


def step(attempts: int = 1, status: int | None = 500, retry_after: float | None = None, age: float = 0, **more: Any) -> Any:
    return next_step(attempts, status, retry_after, age, 3600, DELAYS, jitter=1.0, **more)


def test_delays_grow_and_the_last_repeats() -> None:
    assert [step(attempts) for attempts in (1, 2, 3, 4, 5, 99)] == [
        Delay(1, 1), Delay(5, 5), Delay(30, 30), Delay(120, 120), Delay(120, 120), Delay(120, 120),
    ]  # fmt: skip


def test_jitter_takes_a_fifth_at_the_most() -> None:
    assert next_step(2, None, None, 0, 1, DELAYS, jitter=0.0) == Delay(5, 4)
    found = {next_step(2, None, None, 0, 1, DELAYS).seconds for _ in range(200)}  # type: ignore[union-attr]
    assert 4 <= min(found) < max(found) <= 5


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [(0.5, Delay(1, 1)), (3, Delay(5, 3)), (30, Delay(30, 30)), (500, Delay(3600, 500)), (10**9, Delay(3600, 3600))],
)
def test_retry_after_waits_in_the_smallest_queue_that_holds_it(retry_after: float, delay: Delay) -> None:
    assert step(retry_after=retry_after) == delay


@pytest.mark.parametrize(
    ("status", "attempts", "is_refused"),
    [(400, 4, False), (400, 5, True), (404, 9, True), (429, 99, False), (408, 99, False), (425, 99, False),
     (500, 99, False), (None, 99, False)],
)  # fmt: skip
def test_only_a_clients_error_is_final_and_only_after_some_attempts(status: int | None, attempts: int, is_refused: bool) -> None:
    assert (step(attempts, status) == "refused") is is_refused


def test_what_is_too_old_is_given_up() -> None:
    assert step(age=3600) == Delay(1, 1)
    assert step(age=3601) == "too_old"


# --- order ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Job:
    key: str
    number: int


def begun(line: Line[Job]) -> list[int]:
    jobs = []
    while job := line.begin():
        jobs.append(job)
    for job in jobs:
        line.done(job)
    return [job.number for job in jobs]


def test_one_key_goes_in_order_and_others_beside_it() -> None:
    line: Line[Job] = Line(10)
    for number, key in enumerate("aabac"):
        line.add(Job(key, number))
    assert begun(line) == [0, 2, 4]
    assert begun(line) == [1]
    assert begun(line) == [3]
    assert not line


def test_there_is_room_for_so_many() -> None:
    line: Line[Job] = Line(2)
    for number, key in enumerate("abc"):
        line.add(Job(key, number))
    first, second = line.begin(), line.begin()
    assert first
    assert second
    assert line.begin() is None
    line.done(second)
    third = line.begin()
    assert third
    assert third.number == 2


def test_those_who_leave_do_so_in_order_and_the_rest_keeps_its_place() -> None:
    line: Line[Job] = Line(1)
    for number, key in enumerate("abbaba"):
        line.add(Job(key, number))
    under_way = line.begin()
    assert under_way
    assert under_way.number == 0
    assert [job.number for job in line.leave(lambda job: job.number in (5, 1, 3))] == [1, 3, 5]
    assert sorted(job.number for job in line.waiting()) == [2, 4]
    line.done(under_way)
    assert [begun(line), begun(line), begun(line)] == [[2], [4], []]


# --- component callbacks ----------------------------------------------------------------------------------------------


def test_a_kind_fails_while_one_of_its_destinations_does() -> None:
    health = CallbackHealth(memory=100)
    health.failed("event_url", "http://a:80", "HTTP 500", 0)
    health.failed("event_url", "http://b:80", "HTTP 502", 0)
    health.worked("event_url", "http://a:80")
    health.worked("mo_url", "http://b:80")
    assert health.failing() == {"event_url": "HTTP 502"}
    health.worked("event_url", "http://b:80")
    assert health.failing() == {}


def test_what_nobody_calls_any_more_fails_no_more() -> None:
    health = CallbackHealth(memory=100)
    health.failed("event_url", "http://a:80", "HTTP 500", 0)
    health.failed("mo_url", "http://old:80", "HTTP 500", 50)
    health.forget(100, lambda kind, destination: True)
    assert len(health.failing()) == 2
    health.forget(101, lambda kind, destination: destination != "http://old:80")
    assert health.failing() == {}
