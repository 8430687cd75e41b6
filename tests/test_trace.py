"""What of the W3C Trace Context headers is taken, and what is as if nothing had been said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from multidict import CIMultiDict

from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import Event
from junebug.model.trace import headers_of, trace_of
from junebug.stores.outbound import EventTarget
from junebug.worker.callbacks.target import event_callbacks
from tests.tables import rows

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{ID}-{PARENT}-01"


@rows(
    ["given", "taken"],
    [
        ([], None),
        ([("traceparent", GOOD)], GOOD),
        ([("Traceparent", f" {GOOD}\t")], GOOD),
        ([("traceparent", f"00-{ID}-{PARENT}-00")], f"00-{ID}-{PARENT}-00"),
        ([("traceparent", f"00-{ID}-{PARENT}-ff")], f"00-{ID}-{PARENT}-ff"),
        ([("traceparent", f"cc-{ID}-{PARENT}-01-what-comes")], f"cc-{ID}-{PARENT}-01-what-comes"),
        ([("traceparent", f"cc-{ID}-{PARENT}-01")], f"cc-{ID}-{PARENT}-01"),
        ([("traceparent", "")], None),
        ([("traceparent", GOOD), ("traceparent", GOOD)], None),
        ([("traceparent", f"{GOOD}-more")], None),
        ([("traceparent", f"{GOOD}-")], None),
        ([("traceparent", f"cc-{ID}-{PARENT}-01.more")], None),
        ([("traceparent", f"ff-{ID}-{PARENT}-01")], None),
        ([("traceparent", f"0-{ID}-{PARENT}-01")], None),
        ([("traceparent", GOOD.upper())], None),
        ([("traceparent", f"00-{'0' * 32}-{PARENT}-01")], None),
        ([("traceparent", f"00-{ID}-{'0' * 16}-01")], None),
        ([("traceparent", f"00-{ID[1:]}-{PARENT}-01")], None),
        ([("traceparent", f"00-{ID}-{PARENT}g-01")], None),
        ([("traceparent", f"00-{ID}-{PARENT}-1")], None),
        ([("traceparent", GOOD.replace("-", "_"))], None),
        ([("traceparent", f"cc-{ID}-{PARENT}-01-{'x' * 100}")], None),
        ([("tracestate", "a=1")], None),
        ([("traceparent", GOOD), ("tracestate", "a=1")], f"{GOOD} a=1"),
        ([("traceparent", GOOD), ("tracestate", "a=1, b=x y ,,c@d=z")], f"{GOOD} a=1,b=x y,c@d=z"),
        ([("traceparent", GOOD), ("tracestate", "a=1"), ("tracestate", "b=2")], f"{GOOD} a=1,b=2"),
        ([("traceparent", GOOD), ("tracestate", "")], GOOD),
        ([("traceparent", GOOD), ("tracestate", "A=1")], GOOD),
        ([("traceparent", GOOD), ("tracestate", "a=1,a=2")], GOOD),
        ([("traceparent", GOOD), ("tracestate", "a")], GOOD),
        ([("traceparent", GOOD), ("tracestate", "a=é")], GOOD),
        ([("traceparent", GOOD), ("tracestate", "a=b=c")], GOOD),
        ([("traceparent", GOOD), ("tracestate", f"a={'x' * 256}")], f"{GOOD} a={'x' * 256}"),
        ([("traceparent", GOOD), ("tracestate", f"a={'x' * 257}")], GOOD),
        ([("traceparent", GOOD), ("tracestate", ",".join(f"a{n}=1" for n in range(32)))],
         f"{GOOD} {','.join(f'a{n}=1' for n in range(32))}"),
        ([("traceparent", GOOD), ("tracestate", ",".join(f"a{n}=1" for n in range(33)))], GOOD),
        ([("traceparent", GOOD), ("tracestate", ",".join(f"a{n}={'x' * 100}" for n in range(6)))], GOOD),
    ],
)  # fmt: skip
def test_what_is_taken(given: list[tuple[str, str]], taken: str | None) -> None:
    assert trace_of(CIMultiDict(given)) == taken
    parent, _, state = (taken or "").partition(" ")
    sent = {"traceparent": parent, "tracestate": state}
    assert headers_of(taken or "") == {name: value for name, value in sent.items() if value}


@given(st.text(max_size=80), st.text(max_size=80))
def test_what_is_passed_on_is_no_other_header(parent: str, state: str) -> None:
    """Whatever stands in a queue that somebody else wrote to."""
    for trace in (f"{parent} {state}", f"{GOOD} {state}", parent):
        for name, value in headers_of(trace).items():
            assert name in ("traceparent", "tracestate")
            assert value.isascii()
            assert value.isprintable()


def test_a_callback_keeps_it_also_as_a_dead_letter() -> None:
    event = Event(event_type="ack", user_message_id="m", transport_name="c", trace="of the message", event_url="http://e")
    kept = EventTarget("http://e", None, None, f"{GOOD} a=1")
    to_url, to_queue = event_callbacks(event, event.to_wire(), kept, "queue")
    letter = DeadLetter.from_wire(DeadLetter(reason="failed", error="", callback=to_url).to_wire())
    assert letter.callback
    assert Callback.from_wire(letter.callback.to_wire()).trace == f"{GOOD} a=1"
    assert to_queue.trace is None
    assert b"trace" not in to_queue.wire, "a queue's application has its own"
    assert b"trace" not in replace(to_queue, trace=None).to_wire()
    (to_url,) = event_callbacks(event, event.to_wire(), EventTarget(None, None), None)
    assert to_url.trace == "of the message", "also where Redis has lost it"


@pytest.mark.parametrize("text", [f"{GOOD}\r\nX-Evil: 1", f"{GOOD} a=1\r\nX-Evil: 1", f"{GOOD}\n"])
def test_a_line_end_is_passed_on_by_nobody(text: str) -> None:
    assert "\n" not in str(headers_of(text))
    assert "X-Evil" not in str(headers_of(text))
