"""Vumi's wire form, in and out (COMPAT §2, §3)."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest

from junebug.errors import MalformedMessage
from junebug.model import acceptance
from junebug.model.messages import (
    Event,
    Status,
    UserMessage,
    event_of,
    format_timestamp,
    id_in,
    id_of,
    new_id,
    normalise_timestamp,
    timestamp_now,
    worst_status,
)
from junebug.model.presenter import event_body, message_body
from tests.tables import rows


def test_a_message_survives_the_wire() -> None:
    message = UserMessage(
        to_addr="1", from_addr="2", content="é\u0000😀", transport_name="c", session_event="new", group="#x",
        helper_metadata={"a": {"b": [1]}}, transport_metadata={"t": 1}, provider="mtn",
    )  # fmt: skip
    assert UserMessage.from_wire(message.to_wire()) == message


def test_the_wire_has_every_field_of_vumi() -> None:
    wire = orjson.loads(UserMessage(to_addr="1", from_addr=None, content=None, transport_name="c").to_wire())
    assert set(wire) == {
        "message_id", "message_type", "message_version", "timestamp", "to_addr", "from_addr", "group", "in_reply_to",
        "provider", "session_event", "content", "transport_name", "transport_type", "transport_metadata",
        "helper_metadata", "routing_metadata", "to_addr_type", "from_addr_type",
    }  # fmt: skip
    assert wire["message_version"] == "20110921"
    assert len(wire["message_id"]) == 32


def test_what_a_foreign_sender_leaves_out_is_filled() -> None:
    message = UserMessage.from_wire(b'{"to_addr": "1", "content": "2016-03-18 11:49:36"}')
    assert message.content == "2016-03-18 11:49:36"
    assert (message.from_addr, message.helper_metadata, message.session_event) == (None, {}, None)
    assert len(message.message_id) == 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-03-18 11:49:36.830534", "2016-03-18 11:49:36.830534"),
        ("2016-03-18T11:49:36Z", "2016-03-18 11:49:36.000000"),
        ("2016-03-18 11:49:36", "2016-03-18 11:49:36.000000"),
        ("2016-03-18T13:49:36.5+02:00", "2016-03-18 11:49:36.500000"),
    ],
)
def test_timestamps_are_taken_in_every_spelling_and_given_in_one(text: str, expected: str) -> None:
    assert normalise_timestamp(text) == expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01 00:00:00.000000"),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC), "9999-12-31 23:59:59.999999"),
        (datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2025-12-31 23:30:00.000000"),
        (datetime(2026, 1, 1, 1, 30, tzinfo=UTC), "2026-01-01 01:30:00.000000"),
    ],
)
def test_a_moment_in_any_zone_is_given_in_utc_with_microseconds(when: datetime, expected: str) -> None:
    assert format_timestamp(when) == expected


@pytest.mark.parametrize("second", [0, 999_999_999, 1_795_464_000])
@pytest.mark.parametrize("nanosecond", [0, 1_000, 999_999_999])
def test_now_is_the_clocks_time(monkeypatch: pytest.MonkeyPatch, second: int, nanosecond: int) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: second * 1_000_000_000 + nanosecond)
    expected = datetime.fromtimestamp(second, UTC).replace(microsecond=nanosecond // 1000)
    assert timestamp_now() == format_timestamp(expected)


def test_ids_are_uuid4_and_never_the_same() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(uuid.UUID(each).version == 4 and uuid.UUID(each).hex == each for each in ids)
    assert {uuid.UUID(each).variant for each in (*ids, id_of(bytes(16)), id_of(b"\xff" * 16))} == {uuid.RFC_4122}
    assert (id_of(bytes(16)), id_of(b"\xff" * 16)) == ("0" * 12 + "40008" + "0" * 15, "f" * 12 + "4fffb" + "f" * 15)


@pytest.mark.parametrize("text", ["", "yesterday", 5, None, "99999-01-01"])
def test_a_timestamp_that_is_none_loses_no_message(text: Any) -> None:
    assert len(normalise_timestamp(text)) == 26


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"message_type": "event"}', "message_type"),
        (b'{"to_addr": 5}', "to_addr"),
        (b'{"helper_metadata": []}', "helper_metadata"),
        (b'{"session_event": "later"}', "session_event"),
        (b'\xff{"a": 1}', "not JSON"),
    ],
)
def test_a_malformed_message_is_told_by_field(body: bytes, named: str) -> None:
    with pytest.raises(MalformedMessage, match=named):
        UserMessage.from_wire(body)


@rows("depth", [110, 260, 1000, 100_000])
@rows("name", ["helper_metadata", "transport_metadata", "routing_metadata", "to_addr", "timestamp", "unknown"])
@rows(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_a_message_is_read_when_it_can_be_written_again(name: str, depth: int, opening: str, closing: str) -> None:
    nested = opening * depth + "1" + closing * depth
    body = f'{{"to_addr": "1", "{name}": {{"x": {nested}}}}}'.encode()
    for kind in (UserMessage, Event, Status):
        with pytest.raises(MalformedMessage):
            kind.from_wire(body)
    wide = f'{{"to_addr": "1", "helper_metadata": {{"x": [{"[]," * 5000}[]]}}}}'.encode()
    assert UserMessage.from_wire(UserMessage.from_wire(wide).to_wire()).to_addr == "1"


@rows("digits", (18, 19, 20, 21, 40, 300))
def test_a_number_of_any_length_is_read_and_can_be_written_again(digits: int) -> None:
    number = b"9" * digits
    message = UserMessage(to_addr="1", from_addr="2", content=None, transport_name="c", helper_metadata={"n": "here"})
    read = UserMessage.from_wire(message.to_wire().replace(b'"here"', number))
    assert read.helper_metadata["n"] == orjson.loads(number)
    assert UserMessage.from_wire(read.to_wire()) == read



def test_channel_data_has_session_event_only_when_there_is_one() -> None:
    plain = UserMessage(to_addr="1", from_addr="2", content="x", transport_name="c", helper_metadata={"k": 1})
    assert message_body(plain, "c")["channel_data"] == {"k": 1}
    assert set(message_body(plain, "c")) == {
        "to", "from", "group", "message_id", "channel_id", "timestamp", "reply_to", "content", "channel_data"}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "api_type", "details"),
    [
        ({"event_type": "ack", "sent_message_id": "p1"}, "submitted", {"sent_message_id": "p1"}),
        ({"event_type": "ack", "sent_message_id": "m"}, "submitted", {}),
        ({"event_type": "nack", "nack_reason": "no"}, "rejected", {"reason": "no"}),
        ({"event_type": "delivery_report", "delivery_status": "delivered"}, "delivery_succeeded", {}),
        ({"event_type": "delivery_report", "delivery_status": "failed"}, "delivery_failed", {}),
        ({"event_type": "delivery_report", "delivery_status": "pending"}, "delivery_pending", {}),
    ],
)
def test_events_become_what_applications_know(fields: Any, api_type: str, details: dict[str, Any]) -> None:
    event = Event.from_wire(Event(user_message_id="m", transport_name="c", **fields).to_wire())
    body = event_body(event, "c")
    assert (body["event_type"], body["event_details"], body["message_id"]) == (api_type, details, "m")


@pytest.mark.parametrize("event_type", ["ack", "nack", "delivery_report"])
def test_every_event_carries_what_every_vumi_message_does(event_type: str) -> None:
    event = Event(user_message_id="m", transport_name="c", event_type=event_type, delivery_status="delivered")
    wire = orjson.loads(event.to_wire())
    always = {"message_type", "message_version", "timestamp", "transport_metadata", "helper_metadata", "routing_metadata"}
    assert always <= wire.keys()
    assert wire["routing_metadata"] == {}
    routed = orjson.dumps({**wire, "routing_metadata": {"hops": [["a", "b"]]}})
    assert orjson.loads(Event.from_wire(routed).to_wire())["routing_metadata"] == {"hops": [["a", "b"]]}


@pytest.mark.parametrize(
    "body", [b"{}", b'{"event_type": "nil"}', b'{"event_type": "delivery_report", "delivery_status": "x"}']
)
def test_a_malformed_event_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Event.from_wire(body)


def test_a_status_survives_the_wire() -> None:
    status = Status(channel_id="c", component="telnet", status="ok", type="t", message="m", details={"a": 1})
    assert Status.from_wire(status.to_wire()) == status


@pytest.mark.parametrize(
    ("levels", "worst"), [([], None), (["ok"], "ok"), (["ok", "degraded"], "degraded"), (["down", "ok"], "down")]
)
def test_the_worst_component_is_the_channels_status(levels: list[str], worst: str | None) -> None:
    assert worst_status(levels) == worst


def test_what_is_ours_is_on_the_wire_only_where_it_is_given() -> None:
    given = {"expires_at": "2026-11-24 12:00:00.000000", "event_url": "http://app/e", "event_auth_token": "sesame"}
    message = UserMessage(to_addr="1", from_addr=None, content=None, transport_name="c", **given)
    assert {name: orjson.loads(message.to_wire())[name] for name in given} == given
    assert UserMessage.from_wire(message.to_wire()) == message
    event = event_of(message, "c", "ack", sent_message_id="x")
    assert Event.from_wire(event.to_wire()) == event
    assert (event.event_url, event.event_auth_token) == ("http://app/e", "sesame")
    assert not {"event_url", "event_auth_token"} & set(orjson.loads(event.without_url().to_wire()))
    assert "sesame" not in repr(message) + repr(event) + str(message_body(message, "c")) + str(event_body(event, "c"))


@pytest.mark.parametrize("text", ["2026-11-24T14:00:00+02:00", "2026-11-24T12:00:00Z", "2026-11-24 12:00:00"])
def test_an_expiry_is_understood_in_every_spelling(text: str) -> None:
    message = UserMessage.from_wire(orjson.dumps({"expires_at": text}))
    assert message.expires_at == "2026-11-24 12:00:00.000000"
    assert message.has_expired(datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    assert not message.has_expired(datetime(2026, 11, 24, 11, 59, 59, 999999, tzinfo=UTC))


def test_an_expiry_that_nobody_understands_is_no_message() -> None:
    with pytest.raises(MalformedMessage, match="expires_at"):
        UserMessage.from_wire(b'{"expires_at": "tomorrow"}')


@rows(
    ("body", "expected"),
    [
        (UserMessage(message_id="m", to_addr="1", from_addr=None, content='"message_id":"x"', transport_name="c").to_wire(), "m"),
        (Event(event_type="ack", user_message_id="of m", sent_message_id="s", transport_name="c").to_wire(), "of m"),
        (b'{"content": "\\"message_id\\": \\"x\\"", "message_id": "m"}', "m"),
        (b'{"message_id": "m', None), (b'{"message_id": 7}', None), (b"", None), (b"\x00\x01", None),
        (b'{"message_id":"' + b"x" * 201 + b'"}', None), (b'"message_id":"\xff"', "\ufffd"),
    ],
)  # fmt: skip
def test_the_id_in_what_nobody_may_read(body: bytes, expected: str | None) -> None:
    assert id_in(body) == expected


@rows("kept", [None, "", "x", "{}", "[]", "[1]", '["a"]', '["a","b","c"]', "[" * 5000, '["a","b","c","d",7]'])
def test_an_acceptance_that_is_none_is_left_out(kept: str | None) -> None:
    assert acceptance.read(kept) is None


def test_an_acceptance_of_a_later_junebug_is_read() -> None:
    message = UserMessage(to_addr="1", from_addr=None, content="", transport_name="c", priority=3)
    written = acceptance.accepted(message, "c", acceptance.Origin("me", "::1"))
    later = orjson.dumps([*orjson.loads(written), "more", {}]).decode()
    read = acceptance.read(later)
    assert read == acceptance.read(written.decode())
    assert read
    assert (read.by, read.address, read.channel, read.priority, read.to_addr) == ("me", "::1", "c", 3, "1")
