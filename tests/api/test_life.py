"""What a message's life says, by what is known of it: pure decisions (api/life)."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace

from junebug import names
from junebug.api.life import kept_steps, log_steps, reader, search, summary
from junebug.api.life.facts import Facts, Recipient
from junebug.api.life.step import Step, in_order
from junebug.model.acceptance import Acceptance
from junebug.model.messages import Event, UserMessage, cancelled, event_of, expired, rejected
from junebug.model.presenter import event_body
from junebug.model.spec import ChannelSpec
from junebug.smpp import constants as c
from junebug.smpp import status_texts
from junebug.stores.circuits import Watch
from junebug.stores.outbound import EventTarget, OutboundRecord
from tests.tables import rows

NOW = 1_000_000.0
ACCEPTED = Step(NOW - 100, "accepted", "Accepted from local at ::1", {})
EVENT = Step(NOW - 50, "event", "Event submitted", {"event_type": "submitted"})
URL = Recipient("event_url", "http://a:1")
RUNNING = {"status": "ok", "type": "running", "message": "Running"}
WELL = {"worker": (RUNNING, NOW - 500), "smpp": ({"status": "ok", "type": "bound", "message": ""}, NOW - 500)}


def entry(ago: float, message: str, **fields: Any) -> dict[str, Any]:
    return {"timestamp": NOW - ago, "message": message, "message_id": "m", **fields}


def pdu(ago: float, name: str, direction: str, **fields: Any) -> dict[str, Any]:
    return entry(ago, "PDU", pdu=name, direction=direction, sequence_number=1, **fields)


def told(*entries: dict[str, Any], steps: tuple[Step, ...] = (ACCEPTED,), is_outbound: bool = True, **facts: Any) -> summary.Told:
    facts.setdefault("components", WELL)
    known = in_order([*steps, *log_steps.steps_of(entries, is_outbound=is_outbound)])
    return summary.tell(Facts(is_outbound=is_outbound, steps=known, now=NOW, **facts))


def down(name: str, type: str = "connection_lost", status: str = "down") -> dict[str, Any]:
    return {**WELL, name: ({"status": status, "type": type, "message": "it is away"}, NOW - 30)}


BOTH_DOWN = {**down("worker", "died"), "telnet": down("telnet", "cannot_start")["telnet"]}
SUBMITTED, ANSWERED = pdu(20, "submit_sm", "out"), pdu(19, "submit_sm_resp", "in", command_status="ESME_RTHROTTLED")


@rows(
    ("entries", "facts", "status", "waits_for", "words"),
    [
        ([], {}, "queued", "its turn", "its turn has not come"),
        ([], {"queue_length": 7}, "queued", "its turn", "7 wait in"),
        ([], {"paused": True}, "queued", "paused", "until somebody resumes it"),
        ([], {"paused": True, "components": down("smpp")}, "queued", "paused", "besides, the link to the provider is down"),
        ([], {"components": {}}, "queued", "process", "has not started yet"),
        ([], {"components": down("worker", "died")}, "queued", "process", "does not run: it is away"),
        ([], {"components": BOTH_DOWN}, "queued", "process", "cannot_start"),
        ([], {"components": down("smpp", "bind_refused")}, "queued", "bind down", "bind_refused"),
        ([], {"components": down("xmpp")}, "queued", "provider down", "connection_lost"),
        ([], {"components": down("amqp")}, "queued", "amqp", "trouble with amqp"),
        ([], {"components": down("redis")}, "queued", "redis", "trouble with redis"),
        ([], {"components": down("callbacks", "failing", "degraded")}, "queued", "its turn", "its turn"),
        ([], {"components": down("smpp", "throttled", "degraded")}, "queued", "throttled", "too much is sent"),
        ([], {"rate_limit": (2, 10), "queue_length": 4}, "queued", "rate limit", "lets 2 in 10 s leave"),
        ([], {"of_shard": down("smpp")}, "queued", "bind down", "connection_lost"),
        ([], {"of_shard": WELL, "components": down("smpp")}, "queued", "its turn", "its turn"),
        ([], {"is_cancelled": True}, "queued", "its turn", "it is cancelled and will not be sent"),
        ([], {"expires_at": NOW - 1}, "queued", "its turn", "so it will not be sent, but told as failed"),
        ([], {"moved_to": "other"}, "moved", None, "moved it to channel other"),
        ([SUBMITTED], {}, "sending", "answer", "has not answered yet"),
        ([SUBMITTED], {"components": down("smpp")}, "sending", "bind down", "with the provider"),
        ([SUBMITTED, ANSWERED], {}, "queued", "throttled", "ESME_RTHROTTLED"),
        ([entry(5, "not sent, kept", reason="no route", retry_after=60)], {}, "queued", "retry", "no route"),
        ([entry(500, "not sent, kept", reason="no route", retry_after=60)], {}, "queued", "its turn", "its turn"),
        ([SUBMITTED, entry(10, "outcome unknown", reason="cut")], {}, "queued", "its turn", "nobody knows whether it arrived"),
        ([entry(9, "send failed", attempt=1, exception={"instance": "KeyError(1)"})], {}, "queued", "its turn", "its turn"),
        ([entry(9, "message sent")], {}, "submitted", None, "the provider took it"),
        ([entry(9, "message rejected", reason="no such number")], {}, "rejected", None, "no such number"),
        ([SUBMITTED, entry(9, "message rejected", reason="x")], {}, "rejected", None, "rejected at"),
        ([entry(9, "message cancelled, not sent")], {}, "cancelled", None, "it never left"),
        ([entry(9, "message rejected", reason="cancelled")], {}, "rejected", None, "cancelled"),
        ([entry(9, "delivery report", delivery_status="failed", reason="expired")], {}, "delivery_failed", None, "not delivered"),
        ([entry(9, "message expired, not sent", expires_at="x")], {}, "expired", None, "so it was not sent"),
        ([entry(9, "set aside with the dead letters", why="died", queue="c.outbound")], {}, "dead", None, "died"),
        ([entry(9, "message sent"), entry(8, "delivery report", delivery_status="delivered")], {}, "delivery_succeeded", None,
         "it was delivered"),
    ],
)  # fmt: skip
def test_where_a_message_is(entries: Any, facts: dict[str, Any], status: str, waits_for: str | None, words: str) -> None:
    found = told(*entries, **facts)
    assert (found.status, found.waiting and found.waiting.what) == (status, waits_for)
    assert words.lower() in found.summary.lower()


MT = UserMessage(message_id="m", to_addr="+27", from_addr=None, content="", transport_name="c")


def reported(details: dict[str, Any], status: str = "failed") -> Event:
    return event_of(MT, "c", "delivery_report", delivery_status=status, transport_metadata=details)


@rows(("event", "status"), [
    (cancelled(MT, "c"), "cancelled"),
    (expired(MT, "c"), "expired"),
    (rejected(MT, "c", "cancelled"), "rejected"),
    (rejected(MT, "c", "expired"), "rejected"),
    (rejected(MT, "c", "no such number"), "rejected"),
    (reported({"reason": "expired"}), "delivery_failed"),
    (reported({"reason": "cancelled"}), "delivery_failed"),
    (reported({"ended": "expired", "reason": "expired"}), "delivery_failed"),
    (reported({"reason": "expired"}, "delivered"), "delivery_succeeded"),
    (replace(rejected(MT, "c", "x"), ended="expired"), "rejected"),
    (replace(rejected(MT, "c", "x"), ended="of the future"), "rejected"),
])  # fmt: skip
def test_what_a_provider_says_is_not_taken_for_what_we_did(event: Event, status: str) -> None:
    """Its reasons may be our words. In the life of a message and in the search; as the event comes out of Redis."""
    kept = Event.from_wire(event.to_wire())
    assert told(steps=(ACCEPTED, kept_steps.event_step(kept, "c"))).status == status
    found, event_type = search._of_record(OutboundRecord(None, EventTarget(None, None), (kept,)))
    assert (found, event_type) == (status, event.api_type)
    assert "ended" not in event_body(kept, "c")["event_details"] or event.transport_metadata.get("ended")
    assert kept.without_url().ended is None


def callback(ago: float, taken: bool, **more: Any) -> dict[str, Any]:
    word = "forwarded" if taken else "forwarding failed"
    reason = {} if taken else {"reason": "HTTP 500"}
    return entry(ago, word, to="event_url", event_type="submitted", host="http://a:1", http_status=200, ms=1, **reason, **more)


REPEATED = entry(30, "callback is repeated later", to="event_url", event_type="submitted", retry_at="1970-01-12 13:50:00.000000")
DEAD = entry(20, "given up: moved to the dead letters", to="event_url", event_type="submitted", why="too_old", reason="HTTP 500",
             letter_id="l")  # fmt: skip
REPLAYED = "1970-01-12 13:46:25.000000 by me"
FAILING = Watch(60, -5, 10, "refused")
LETTER = {"id": "l", "to": "event_url", "message": {"event_type": "submitted"}}


@rows(
    ("entries", "facts", "waits_for", "words"),
    [
        ([], {"recipients": []}, None, "it has no event_url"),
        ([], {}, "callback", "about to be told"),
        ([], {"logs": "there is no log"}, None, "is not known here: there is no log"),
        ([callback(40, True)], {}, None, "was told"),
        ([callback(40, False)], {}, "callback", "after 1 failed attempt: "),
        ([callback(40, False), callback(35, False), REPEATED], {}, "callback retry", "after 2 failed attempts"),
        ([callback(40, False)], {"circuits": {"http://a:1": FAILING}}, "circuit open", "only probed: HTTP 500"),
        ([], {"circuits": {"http://a:1": FAILING}}, "circuit open", "only probed: refused"),
        ([callback(40, False), DEAD], {"letters": [LETTER]}, None, "from where it can be replayed"),
        ([callback(40, False), DEAD], {"has_all_letters": True}, None, "no more with the dead letters"),
        ([callback(40, False), DEAD, callback(10, True, replayed=REPLAYED)], {}, None, "was told"),
        ([callback(40, False), DEAD, callback(10, False, replayed=REPLAYED)], {}, "callback", "1 failed"),
        ([], {"components": down("worker", "died")}, "process", "the process that tells your application does not run"),
        ([], {"logs": "gone", "letters": [LETTER]}, None, "given up"),
    ],
)
def test_whether_the_application_knows(entries: Any, facts: dict[str, Any], waits_for: str | None, words: str) -> None:
    found = told(*entries, steps=(ACCEPTED, EVENT), **{"recipients": [URL], **facts})
    assert (found.status, found.waiting and found.waiting.what) == ("submitted", waits_for)
    assert words in found.summary


CAME = entry(90, "inbound message received", from_addr="1", to_addr="2")


@rows(
    ("entries", "facts", "status", "words"),
    [
        ([CAME], {}, "waiting", "about to be told"),
        ([CAME], {"recipients": []}, "received", "is not known here"),
        ([CAME, entry(80, "inbound message dropped: it is for no destination")], {"recipients": []}, "dropped", "dropped"),
        ([CAME, entry(80, "set aside with the dead letters", why="died")], {"recipients": []}, "dead", "died"),
        ([CAME, entry(80, "forwarded", to="mo_url", host="http://b:1", http_status=200)], {}, "forwarded", "was told"),
        ([CAME, entry(80, "forwarding failed", to="mo_url", host="http://b:1", reason="HTTP 500")], {}, "waiting", "HTTP 500"),
        ([CAME, entry(80, "forwarded", to="mo_url", destination_id="d", http_status=200)], {}, "waiting", "about to be told"),
    ],
)
def test_what_became_of_what_came_in(entries: Any, facts: dict[str, Any], status: str, words: str) -> None:
    found = told(*entries, steps=(), is_outbound=False, **{"recipients": [Recipient("mo_url", "http://b:1")], **facts})
    assert found.status == status
    assert words in found.summary


@rows(
    "hostile",
    [
        {"message": "forwarded"}, {"message": "PDU", "pdu": 7}, {"message": "PDU", "pdu": None, "direction": 1},
        {"message": "delivery report", "delivery_status": ["x"]}, {"message": "callback is repeated later", "retry_at": 7},
        {"message": "forwarded", "replayed": "nonsense"}, {"message": "forwarded", "replayed": {"a": 1}},
        {"message": "not sent, kept", "retry_after": "soon"}, {"message": "x", "exception": "text"}, {"message": ""},
        {"message": "message sent", "timestamp": 1e300}, {"message": "message sent", "timestamp": -1e300},
        {"message": "given up: moved to the dead letters", "why": None},
    ],
)
def test_a_line_that_nobody_wrote_breaks_nothing(hostile: dict[str, Any]) -> None:
    for is_outbound in (True, False):
        found = told({"timestamp": NOW, **hostile}, is_outbound=is_outbound, recipients=[URL])
        assert found.summary.endswith(".")


def test_each_status_that_is_explained_is_one() -> None:
    known = {c.status_name(number) for number in range(0x200)}
    assert status_texts._TEXTS.keys() <= known
    assert status_texts.with_text("ESME_RINVDSTADR") == "ESME_RINVDSTADR (invalid destination address)"
    assert status_texts.with_text("0x00000499") == "0x00000499"


@rows(("shards", "to_addr", "components", "of_shard"), [
    (1, "+27", {"worker": 1, "smpp/1": 2}, None),
    (2, None, {"worker": 1, "outbound": 3}, None),
    (2, "even", {"worker": 1, "outbound": 3}, None),
    (2, "odd", {"worker": 1, "outbound": 3}, {"worker": 4, "smpp": 2, "outbound": 3}),
])  # fmt: skip
def test_what_a_message_waits_for_is_its_shard(
    shards: int, to_addr: str | None, components: dict[str, int], of_shard: dict[str, int] | None
) -> None:
    numbers = {names.shard_for(f"+27{number}", 2): f"+27{number}" for number in range(20)}
    to_addr = {"even": numbers[0], "odd": numbers[1]}.get(to_addr or "", to_addr)
    stored = {"worker": 1, "outbound": 3, "smpp/1": 2, "worker/1": 4} if shards > 1 else components
    record = OutboundRecord(Acceptance("", "", "", "", to_addr), EventTarget(None, None), ()) if to_addr else None
    channel = ChannelSpec(id="c", type="smpp", config={"shards": shards})
    found = reader._components(channel, cast(Any, stored), record)
    assert found == {"components": components} | ({"of_shard": of_shard} if of_shard else {})
