"""Callbacks and dead letters on the wire: nothing of them gets lost, whatever else is in those queues is survived."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug.errors import MalformedMessage
from junebug.model.callbacks import Callback, DeadLetter

WIRE = b'{"message_type":"user_message","content":"\xc3\xa9"}'
CALLBACK = Callback(
    to="event_url", kind="event", id="abc", wire=WIRE, url="http://app/{message_id}", auth_token="sesame", since=5.5,
    attempts=3, error="HTTP 500",
)  # fmt: skip


def test_a_callback_survives_the_wire() -> None:
    assert Callback.from_wire(CALLBACK.to_wire()) == CALLBACK


def test_a_dead_letter_survives_the_wire() -> None:
    for letter in (
        DeadLetter(reason="too_old", error="HTTP 500", callback=CALLBACK),
        DeadLetter(reason="unreadable", error="not JSON", queue="c.outbound", body=b"\xff{"),
    ):
        assert DeadLetter.from_wire(letter.to_wire()) == letter


@pytest.mark.parametrize("missing", ["to", "kind", "id", "message", "since", "attempts", "error"])
def test_a_callback_without_what_it_needs_is_refused(missing: str) -> None:
    fields = orjson.loads(CALLBACK.to_wire())
    del fields[missing]
    with pytest.raises(MalformedMessage, match=missing):
        Callback.from_wire(orjson.dumps(fields))


@given(st.binary())
def test_whatever_is_in_a_dead_letter_queue_is_shown(body: bytes) -> None:
    letter = DeadLetter.from_wire(body)
    assert (letter.reason, letter.body) == ("unreadable", body)
    with pytest.raises(MalformedMessage):
        Callback.from_wire(body)


def test_a_message_of_an_older_junebug_is_a_dead_letter_too() -> None:
    assert DeadLetter.from_wire(WIRE).body == WIRE
