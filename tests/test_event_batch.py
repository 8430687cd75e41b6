"""Events that travel together (junebug/model/event_batch.py): each comes out as it went in, in order, in bounded messages."""

from __future__ import annotations

import orjson
import pytest

from junebug.model import event_batch
from junebug.model.messages import Event

EVENT = Event(event_type="ack", user_message_id="m", transport_name="c", helper_metadata={"text": "}\n{ and\r\n"})


@pytest.mark.parametrize("count", [0, 1, 2, event_batch.MOST, event_batch.MOST + 1, 3 * event_batch.MOST])
def test_each_event_comes_out_as_it_went_in(count: int) -> None:
    wires = [Event(event_type="ack", user_message_id=str(n), transport_name="c").to_wire() for n in range(count)]
    messages = event_batch.together(wires)
    assert [wire for body in messages for wire in event_batch.apart(body)] == wires
    assert len(messages) == -(-count // event_batch.MOST)


def test_a_message_of_several_is_bounded() -> None:
    large = b'{"x":"' + b"a" * event_batch.LARGEST + b'"}'
    assert event_batch.together([b"{}", large, b"{}", b"{}"]) == [b"{}", large, b"{}\n{}"]


@pytest.mark.parametrize(
    "body", [EVENT.to_wire(), orjson.dumps(orjson.loads(EVENT.to_wire()), option=orjson.OPT_INDENT_2) + b"\n", b"", b"\n", b"}{"]
)
def test_a_message_of_one_is_left_as_it_is(body: bytes) -> None:
    assert event_batch.apart(body) == [body]
