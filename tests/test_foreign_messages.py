"""What others put on our queues: whatever it is, its reader goes on (issue 10, A1). A row more in BODIES tries all readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from junebug.errors import MalformedMessage
from junebug.model.callbacks import Callback, DeadLetter, content_of
from junebug.model.messages import Content, Event, Status, UserMessage
from junebug.model.presenter import body_of
from junebug.model.reading import DEEPEST
from tests.tables import rows

MESSAGE = {"to_addr": "1", "content": "x", "timestamp": "2026-11-26 12:00:00.000000"}
EVENT = {"event_type": "ack", "user_message_id": "m", "sent_message_id": "s", "timestamp": "2026-11-26 12:00:00.000000"}
STATUS = {"channel_id": "c", "component": "smpp", "status": "ok", "type": "t", "message": "m", "details": {}}
CALLBACK = {
    "to": "mo_url", "kind": "inbound", "id": "1", "message": MESSAGE, "since": 1.0, "due": 1.0, "attempts": 1, "error": "",
}  # fmt: skip
READERS: tuple[tuple[Callable[[bytes], Any], dict[str, Any]], ...] = (
    (UserMessage.from_wire, MESSAGE), (Event.from_wire, EVENT), (Status.from_wire, STATUS), (Callback.from_wire, CALLBACK),
)  # fmt: skip


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 2**63, 1e300, "", "\u0000", "😀", "x" * 100_000, [], {}, [1], {"a": [{}]},
    "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-12:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999",
    "99999-01-01", "2026-11-26T24:00:00", "2026-02-30", "2026-11-26T12:00:00+99:99", "2026-11-26T12:00:00+23:59:59.999999",
    "inf", "nan", "1e400", "-inf", nested(DEEPEST - 2), nested(DEEPEST), nested(250), nested(1000), {"a": nested(1000)},
)  # fmt: skip
BODIES = (
    b"", b"\xff", b"null", b"[]", b"1", b'"x"', b"{", b"[" * 100_000, b'{"a":' * 100_000, b"{}" * 2,
    b'{"content": "\xed\xa0\x80"}',
    b"\x00" * 1000, b'{"timestamp": 1e999}', b'{"since": 1e999}', b"1" * 100_000, b"-" * 1000,
)  # fmt: skip


def fields() -> list[tuple[Callable[[bytes], Any], dict[str, Any], str]]:
    known = {name for kind in (UserMessage, Event, Status) for name in kind.__struct_fields__}
    known |= {*Callback.__struct_fields__} | {"message_type", "message"}
    return [(read, good, name) for read, good in READERS for name in sorted(known)]


def survives(read: Callable[[bytes], Any], body: bytes) -> None:
    """It is refused as what it is, or is good for all that is done with it later."""
    try:
        message = read(body)
    except MalformedMessage as malformed:
        error = str(malformed)
    else:
        error = ""
    assert len(error) < 500  # it stands in a log line, and in a dead letter
    if error:
        return
    wire = message.to_wire()
    assert read(wire).to_wire() == wire
    if isinstance(message, Callback):
        letter = DeadLetter(reason="failed", error="e", callback=message)
        assert DeadLetter.from_wire(letter.to_wire()) == letter
        try:
            message = content_of(message)
        except MalformedMessage:
            return
    orjson.dumps({"result": {"messages": [body_of(message, "c")]}})
    if isinstance(message, UserMessage):
        kept = Callback(to="mo_url", kind="inbound", id="1", wire=message.to_wire())
        assert content_of(Callback.from_wire(kept.to_wire())) == message


@rows(("read", "good", "name"), fields())
def test_a_field_of_any_value_is_read_or_refused(read: Callable[[bytes], Any], good: dict[str, Any], name: str) -> None:
    for value in VALUES:
        survives(read, orjson.dumps({**good, name: "VALUE"}).replace(b'"VALUE"', dumps(value)))


def dumps(value: Any) -> bytes:
    """Also what orjson does not write."""
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    if isinstance(value, dict) and value and depth == 0:
        return b"{" + b",".join(b'"%s":%s' % (name.encode(), dumps(each)) for name, each in value.items()) + b"}"
    return b"[" * depth + orjson.dumps(value) + b"]" * depth


@rows("body", BODIES)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    for read, _ in READERS:
        survives(read, body)
    letter = DeadLetter.from_wire(body)
    assert letter.body == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))) | st.datetimes().map(str),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "id", "to"]), inner),
    max_leaves=5,
)  # fmt: skip


@given(st.data())
def test_any_mixture_is_read_or_refused(data: st.DataObject) -> None:
    read, good = data.draw(st.sampled_from(READERS))
    wrong = data.draw(st.dictionaries(st.sampled_from(sorted(good)), JSON, max_size=3))
    survives(read, orjson.dumps({**good, **wrong}))


def test_a_time_in_a_distant_year_has_our_form() -> None:
    """Year 1 as glibc writes it, without zeros, could not be read again."""
    message: Content = UserMessage.from_wire(b'{"expires_at": "0001-01-01T00:00:00"}')
    assert isinstance(message, UserMessage)
    assert message.expires_at == "0001-01-01 00:00:00.000000"
