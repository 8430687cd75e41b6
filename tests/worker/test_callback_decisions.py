"""Whether a destination is called, when a failed callback is tried again, in which order calls are made: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from junebug.worker.callbacks.attempts import CallbackHealth
from junebug.worker.callbacks.circuit_breaker import FAILURES, CircuitBreaker
from junebug.worker.callbacks.keyed_queue import KeyedQueue
from junebug.worker.callbacks.retry_policy import SHORTEST, Delay, is_clients_error, next_step

DELAYS = [1.0, 5.0, 30.0, 120.0]


def failed_circuit(now: float = 100.0, retry_after: float | None = None) -> CircuitBreaker:
    circuit = CircuitBreaker(DELAYS)
    assert [circuit.failed(now, str(n), "dead", retry_after) for n in range(FAILURES)] == [False] * 4 + [True]
    return circuit


# --- circuit ----------------------------------------------------------------------------------------------------------


def test_it_opens_after_five_callbacks_failed_in_a_row() -> None:
    circuit = failed_circuit()
    assert circuit.is_open
    assert circuit.probe_at == 101


def test_a_success_between_them_begins_the_count_again() -> None:
    circuit = CircuitBreaker(DELAYS)
    for n in range(FAILURES - 1):
        circuit.failed(0, str(n), "500")
    assert not circuit.answered()
    for n in range(FAILURES - 1):
        circuit.failed(0, str(n), "500")
    assert not circuit.is_open


def test_one_callback_that_the_application_cannot_bear_does_not_open_it() -> None:
    circuit = CircuitBreaker(DELAYS)
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
    circuit = CircuitBreaker(DELAYS)
    circuit.suspect(7)
    assert (circuit.is_open, circuit.probe_at) == (True, 7)


# --- what comes after a failure ---------------------------------------------------------------------------------------


def step(attempts: int = 1, refusals: int = 0, retry_after: float | None = None, age: float = 0, **more: Any) -> Any:
    return next_step(attempts, refusals, retry_after, age, 3600, DELAYS, jitter=1.0, **more)


def test_delays_grow_and_the_last_repeats() -> None:
    assert [step(attempts) for attempts in (1, 2, 3, 4, 5, 99)] == [
        Delay(1, 1), Delay(5, 5), Delay(30, 30), Delay(120, 120), Delay(120, 120), Delay(120, 120),
    ]  # fmt: skip


def test_jitter_takes_a_fifth_at_the_most() -> None:
    assert next_step(2, 0, None, 0, 1, DELAYS, jitter=0.0) == Delay(5, 4)
    found = {next_step(2, 0, None, 0, 1, DELAYS).seconds for _ in range(200)}  # type: ignore[union-attr]
    assert 4 <= min(found) < max(found) <= 5


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [(0.5, Delay(1, 1)), (1.0, Delay(1, 1)), (10**9, Delay(3600, 3600)), (3600, Delay(3600, 3600))],
)
def test_retry_after_is_honoured_up_to_an_hour(retry_after: float, delay: Delay) -> None:
    assert step(retry_after=retry_after) == delay


@pytest.mark.parametrize("retry_after", [1.01, 1.25, 3, 5, 7, 29, 30, 130, 500, 601, 2879, 2881, 3599])
def test_what_waits_for_a_retry_after_is_never_long_behind_what_waits_for_longer(retry_after: float) -> None:
    """RabbitMQ takes what has expired from a queue's head only: all in one queue wait about as long."""
    delay = step(retry_after=retry_after)
    assert delay.seconds == retry_after
    assert delay.queue * SHORTEST <= delay.seconds <= delay.queue


@pytest.mark.parametrize(
    ("status", "is_refusal"),
    [(400, True), (404, True), (429, False), (408, False), (425, False), (500, False), (200, False), (None, False)],
)
def test_only_a_clients_error_is_a_refusal(status: int | None, is_refusal: bool) -> None:
    assert is_clients_error(status) is is_refusal


@pytest.mark.parametrize(("attempts", "refusals", "is_refused"), [(4, 4, False), (5, 5, True), (99, 4, False), (99, 5, True)])
def test_refusals_are_final_after_some_of_them_whatever_else_failed(attempts: int, refusals: int, is_refused: bool) -> None:
    """An application that was away for long and then stumbles over a message must not lose it at once."""
    assert (step(attempts, refusals) == "refused") is is_refused


def test_what_is_too_old_is_given_up() -> None:
    assert step(age=3600) == Delay(1, 1)
    assert step(age=3601) == "too_old"


# --- order ------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Job:
    key: str
    number: int


def begun(queue: KeyedQueue[Job]) -> list[int]:
    jobs = []
    while job := queue.begin():
        jobs.append(job)
    for job in jobs:
        queue.done(job)
    return [job.number for job in jobs]


def test_one_key_goes_in_order_and_others_beside_it() -> None:
    queue: KeyedQueue[Job] = KeyedQueue(10)
    for number, key in enumerate("aabac"):
        queue.add(Job(key, number))
    assert begun(queue) == [0, 2, 4]
    assert begun(queue) == [1]
    assert begun(queue) == [3]
    assert not queue


def test_there_is_room_for_so_many() -> None:
    queue: KeyedQueue[Job] = KeyedQueue(2)
    for number, key in enumerate("abc"):
        queue.add(Job(key, number))
    first, second = queue.begin(), queue.begin()
    assert first
    assert second
    assert queue.begin() is None
    queue.done(second)
    third = queue.begin()
    assert third
    assert third.number == 2


def test_those_who_leave_do_so_in_order_and_the_rest_keeps_its_place() -> None:
    queue: KeyedQueue[Job] = KeyedQueue(1)
    for number, key in enumerate("abbaba"):
        queue.add(Job(key, number))
    under_way = queue.begin()
    assert under_way
    assert under_way.number == 0
    assert [job.number for job in queue.leave(lambda job: job.number in (5, 1, 3))] == [1, 3, 5]
    assert {job.number for job in queue} == {2, 4}
    queue.done(under_way)
    assert [begun(queue), begun(queue), begun(queue)] == [[2], [4], []]


# --- component callbacks ----------------------------------------------------------------------------------------------


async def test_a_kind_fails_while_one_of_its_destinations_does() -> None:
    told: list[dict[str, str]] = []
    health = CallbackHealth(100, told.append, lambda: 0.0)
    health.failed("event_url", "http://a:80", "HTTP 500")
    health.failed("event_url", "http://b:80", "HTTP 502")
    health.worked("event_url", "http://a:80")
    health.worked("mo_url", "http://b:80")
    assert told == [{"event_url": "HTTP 500"}]
    health.worked("event_url", "http://b:80")
    assert told[1:] == [{}]
    health.close()


async def test_what_the_process_before_told_is_told_again_only_when_it_changes() -> None:
    told: list[dict[str, str]] = []
    health = CallbackHealth(100, told.append, lambda: 0.0)
    health.inherit({"mo_url": "refused", "event_url": "HTTP 500"})
    health.failed("mo_url", "http://a:80", "refused")
    assert told == []
    health.worked("event_url", "http://b:80")
    health.worked("mo_url", "http://a:80")
    assert told == [{"mo_url": "refused"}, {}]
    health.close()


async def test_what_nobody_calls_any_more_fails_no_more() -> None:
    told: list[dict[str, str]] = []
    now = 0.0
    health = CallbackHealth(100, told.append, lambda: now)
    health.failed("event_url", "http://a:80", "HTTP 500")
    now = 50.0
    health.failed("mo_url", "http://old:80", "HTTP 500")
    now = 100.0
    health.forget()
    assert len(told[-1]) == 2
    now = 101.0
    health.forget(lambda kind, destination: destination != "http://old:80")
    assert told[-1] == {}
    health.close()
