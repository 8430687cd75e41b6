"""GET .../messages/ID/timeline and GET /messages, as a client of the API sees them: what they know without a worker."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.amqp.rpc import RpcServer
from junebug.config.declaration import Settings
from junebug.model.access import READ, SEND
from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import UserMessage, event_of, rejected
from junebug.model.routing import routed
from tests.api.conftest import Answer, Api, running_api
from tests.api.test_access import ROOT, bearer, make
from tests.api.test_outages import bring_back, take_away
from tests.servers import RabbitmqServer, RedisServer
from tests.tables import rows
from tests.test_log_scan import line, sent, write

TO = "+27820001111"
SMPP = {"host": "127.0.0.1", "port": 1, "system_id": "x", "password": "y"}


async def life(api: Api, channel: str, message_id: str) -> dict[str, Any]:
    answer = await api("GET", f"/channels/{channel}/messages/{message_id}/timeline")
    assert (answer.status, answer.description) == (200, "message timeline"), answer.body
    return dict(answer.result)


async def post(api: Api, channel: str, **fields: Any) -> str:
    answer = await api("POST", f"/channels/{channel}/messages/", json={"to": TO, "content": "x", **fields})
    assert answer.status == 201, answer.body
    return str(answer.result["message_id"])


def kinds(told: dict[str, Any]) -> list[str]:
    return [step["kind"] for step in told["steps"]]


def about(message: UserMessage) -> dict[str, Any]:
    return {"message_id": message.message_id, "to_addr": message.to_addr}


# --- a life ---------------------------------------------------------------------------------------------------------------


async def test_what_waits_without_a_process_says_so_and_that_logs_are_missing(api: Api) -> None:
    channel = await api.create()
    message_id = await post(api, channel, priority=2, reply_to=None)
    told = await life(api, channel, message_id)
    assert (told["status"], told["waiting"]["for"], kinds(told)) == ("queued", "process", ["accepted", "queued"])
    assert "has not started yet" in told["summary"]
    assert "there is no log of" in told["logs"]


@pytest.mark.parametrize(("shards", "is_quorum"), [(1, False), (1, True), (3, False), (3, True)])
async def test_the_queue_it_waits_in_is_one_of_its_channels_layout(api: Api, shards: int, is_quorum: bool) -> None:
    """By its priority and address, however it was sent; of one that a router has moved, where it waited before."""
    api.broker.is_quorum = is_quorum
    try:
        channel = await api.create(type="smpp", config={**SMPP, "shards": shards})
        router = await api.router("outbound", channels=[{"channel": channel}])
        layout, sent = names.Layout(is_quorum, shards > 1), dict[str, str]()
        for number in range(3):
            for priority in (1, 3):
                to = f"{TO}{number}"
                sent[await post(api, channel, to=to, priority=priority, reply_to=None)] = layout.queue(channel, priority, to)
        bulk = await api("POST", f"/channels/{channel}/messages/bulk", json=[{"to": TO, "content": "x"}])
        sent[bulk.result["messages"][0]["message_id"]] = layout.queue(channel, 1, TO)
        answer = await api("POST", f"/routers/{router}/messages/", json={"to": TO, "content": "x"})
        message_id = answer.result["message_id"]
        sent[message_id] = layout.queue(channel, 1, TO)
        for each, queue in sent.items():
            told = await life(api, channel, each)
            (step,) = [step for step in told["steps"] if step["kind"] == "queued"]
            assert (step["details"], step["description"]) == ({"queue": queue}, f"RabbitMQ holds it, in queue {queue}")
        lengths = await api.broker.queue_lengths(layout.queues(channel))
        assert {queue: length for queue, length in lengths.items() if length} == Counter(sent.values())
        other = await api.create()
        message = UserMessage(message_id=message_id, to_addr=TO, from_addr=None, content="x", transport_name=other)
        await api.stores.outbound.put_routed(other, [routed(message, router, "")])
        told = (await api("GET", f"/routers/{router}/messages/{message_id}/timeline")).result
        assert [step["details"]["queue"] for step in told["steps"] if step["kind"] == "queued"] == [layout.queue(channel, 1, TO)]
        await api("DELETE", f"/channels/{channel}")
    finally:
        api.broker.is_quorum = False


async def test_a_bulk_send_and_one_with_a_key_are_known_by_whom(api: Api) -> None:
    channel = await api.create()
    messages = [{"to": TO, "content": "x"}, {"to": TO, "content": "y", "event_url": "http://127.0.0.1:1/"}]
    bulk = await api("POST", f"/channels/{channel}/messages/bulk", json=messages)
    ids = [each["message_id"] for each in bulk.result["messages"]]
    answer = await api("POST", f"/channels/{channel}/messages/", json=messages[0], headers={"Idempotency-Key": "k"})
    for message_id in (*ids, answer.result["message_id"]):
        accepted = (await life(api, channel, message_id))["steps"][0]
        assert accepted["details"] == {"by": "local", "address": "127.0.0.1", "to": TO}


async def test_what_an_older_junebug_kept_is_told_as_far_as_it_goes(api: Api) -> None:
    channel = await api.create()
    message = UserMessage(message_id="old", to_addr=TO, from_addr=None, content="", transport_name=channel)
    await api.stores.outbound.put(channel, replace(message, event_url="http://127.0.0.1:1/"))
    told = await life(api, channel, "old")
    assert (told["status"], kinds(told)) == ("queued", [])
    event = rejected(message, channel, "no such number")
    await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    told = await life(api, channel, "old")
    assert (told["status"], kinds(told)) == ("rejected", ["accepted", "event"])
    assert "no such number" in told["summary"]
    assert "not known here" in told["summary"]  # whether the application was told: there is no log


async def test_a_message_that_redis_has_forgotten_is_told_by_its_log(api: Api) -> None:
    channel = await api.create()
    write(api.log_path(channel), [
        line(1.0, "PDU", direction="out", message_id="m", hex="00"), sent(2.0, "m"),
        line(3.0, "delivery report", message_id="m", delivery_status="failed"),
        line(4.0, "forwarded", message_id="m", to="event_url", event_type="submitted", http_status=200, ms=1.5, host="http://x:1"),
    ])  # fmt: skip
    told = await life(api, channel, "m")
    assert (told["status"], told["logs"]) == ("delivery_failed", "complete")
    assert kinds(told) == ["note", "sent", "receipt", "callback"]


async def test_secrets_in_urls_are_masked_and_messages_of_others_unknown(api: Api) -> None:
    channel, other = await api.create(mo_url="http://me:s3cret@127.0.0.1:1/mo"), await api.create()
    write(api.log_path(channel), [
        line(1.0, "inbound message received", message_id="m", from_addr="1", to_addr="2"),
        line(2.0, "forwarding failed", message_id="m", to="mo_url", host="http://127.0.0.1:1", reason="HTTP 500"),
    ])  # fmt: skip
    told = await life(api, channel, "m")
    assert told["steps"][1]["details"]["url"] == "http://********@127.0.0.1:1/mo"
    assert "s3cret" not in str(told)
    for channel_id, message_id in ((other, "m"), (channel, "x"), (channel, "m" * 300), (channel, "%0A"), (channel, "%FF")):
        answer = await api("GET", f"/channels/{channel_id}/messages/{message_id}/timeline")
        assert (answer.status, answer.errors[0]["type"]) == (404, "MessageNotFound")
    assert (await api("GET", "/channels/none/messages/m/timeline")).errors[0]["type"] == "ChannelNotFound"


async def test_dead_letters_are_told_without_a_log(api: Api) -> None:
    channel = await api.create(mo_url="http://127.0.0.1:1/mo")
    message = UserMessage(message_id="m", to_addr="1", from_addr="2", content="secret text", transport_name=channel)
    callback = Callback(to="mo_url", kind="inbound", id="m", wire=message.to_wire())
    letters = [
        DeadLetter(reason="refused", error="HTTP 400", callback=callback),
        DeadLetter(reason="failed", error="died", queue=names.outbound_queue(channel), body=b'{"message_id":"poison"}'),
    ]
    for letter in letters:
        await api.broker.publish(names.dead_queue(channel), letter.to_wire())
    told = await life(api, channel, "m")
    assert (told["direction"], told["status"], kinds(told)) == ("inbound", "dead", ["dead"]), told
    assert told["steps"][0]["details"]["letter_id"] == letters[0].id
    assert "secret text" not in str(told)
    told = await life(api, channel, "poison")
    assert (told["status"], told["steps"][0]["details"]["queue"]) == ("dead", names.outbound_queue(channel))
    assert (await api("GET", f"/channels/{channel}/dead-letters/")).result["total"] == 2


async def test_an_inbound_message_says_until_when_it_can_be_replied_to(api: Api) -> None:
    channel = await api.create()
    message = UserMessage(message_id="m", to_addr="1", from_addr="2", content="hi", transport_name=channel)
    await api.stores.inbound.put_all(channel, [("m", message.to_wire())])
    write(api.log_path(channel), [line(time.time(), "inbound message received", message_id="gone", from_addr="1", to_addr="2")])
    told = await life(api, channel, "m")
    assert (told["direction"], kinds(told)) == ("inbound", ["received", "stored"])
    assert "to be replied to until" in told["steps"][1]["description"]
    assert "replied to no more" in (await life(api, channel, "gone"))["summary"]


async def test_below_a_router_and_its_destinations(api: Api) -> None:
    channel = await api.create(mo_url=None)
    router = await api.router(channel=channel)
    mine, other = [await api.destination(router, mo_url=f"http://127.0.0.1:{n}/") for n in (1, 2)]
    own, path = f"/routers/{router}/messages", f"/routers/{router}/destinations/{mine}/messages"
    sent_by_it = (await api("POST", f"{path}/", json={"to": TO, "content": "x"})).result["message_id"]
    channels_own = await direct(api, channel)
    mo = {"message_id": "mo", "to": "mo_url"}
    write(api.log_path(channel), [line(1.0, "inbound message received", message_id="mo", from_addr="1", to_addr="2")])
    write(api.log_path(router), [
        line(2.0, "forwarding failed", **mo, destination_id=mine, host="http://127.0.0.1:1", reason="away"),
        line(3.0, "forwarded", **mo, destination_id=other, host="http://127.0.0.1:2", http_status=200, ms=1),
    ])  # fmt: skip
    for where in (own, path, f"/channels/{channel}/messages"):
        told = (await api("GET", f"{where}/{sent_by_it}/timeline")).result
        assert told["steps"][0]["details"]["destination_id"] == mine
    assert (await api("GET", f"{own}/{channels_own}/timeline")).status == 404
    elsewhere = f"/routers/{router}/destinations/{await api.destination(router)}/messages"
    for message_id in (sent_by_it, "mo"):
        assert (await api("GET", f"{elsewhere}/{message_id}/timeline")).status == 404
    told = (await api("GET", f"{own}/mo/timeline")).result
    assert (told["status"], kinds(told)) == ("waiting", ["received", "callback", "callback"])
    assert "http://127.0.0.1:1" in told["summary"]
    told = (await api("GET", f"{path}/mo/timeline")).result
    assert (told["status"], kinds(told)) == ("waiting", ["received", "callback"])
    told = (await api("GET", f"/routers/{router}/destinations/{other}/messages/mo/timeline")).result
    assert told["status"] == "forwarded"


async def direct(api: Api, channel: str) -> str:
    """What was sent by the channel alone."""
    message = UserMessage(message_id="direct", to_addr=TO, from_addr=None, content="", transport_name=channel)
    await api.stores.outbound.put(channel, message)
    return "direct"


async def test_what_a_router_has_moved_says_where_to(api: Api) -> None:
    first, second = await api.create(), await api.create()
    router = await api.router("outbound", channels=[{"channel": first}, {"channel": second}])
    answer = await api("POST", f"/routers/{router}/messages/", json={"to": TO, "content": "x"})
    message_id, taker = answer.result["message_id"], answer.result["channel_id"]
    other = second if taker == first else first
    message = UserMessage(message_id=message_id, to_addr=TO, from_addr=None, content="x", transport_name=other)
    await api.stores.outbound.put_routed(other, [routed(message, router, "")])
    assert (await life(api, taker, message_id))["status"] == "moved"
    told = (await api("GET", f"/routers/{router}/messages/{message_id}/timeline")).result
    assert (told["channel_id"], told["steps"][0]["details"]["by"]) == (other, "local")


async def test_who_cancelled_a_message_is_told_whichever_api_was_asked(api: Api) -> None:
    """Also one that runs alone, on no host: as in a Deployment on Kubernetes."""
    channel = await api.create()
    message_id, kept = await post(api, channel, reply_to=None), await post(api, channel, reply_to=None)
    alone = dataclasses.replace(api.settings, data_dir=f"{api.settings.data_dir}/alone", host=None)
    async with running_api(alone) as another:
        path = f"/channels/{channel}/messages/{message_id}"
        assert (await another("DELETE", path)).status == 200
        asked = await api.stores.outbound.record(channel, message_id)
        assert (await api("DELETE", path)).status == 404  # it is cancelled already
    assert asked
    assert asked.cancelled
    assert (asked.cancelled.by, asked.cancelled.address) == ("local", "127.0.0.1")
    write(api.log_path(channel), [line(time.time(), "message cancelled, not sent", message_id=message_id)])
    shutil.rmtree(another.settings.data_dir)
    told = await life(api, channel, message_id)
    (step,) = [step for step in told["steps"] if step["kind"] == "cancelled"]
    at = asked.cancelled.timestamp
    assert step["description"] == f"Cancelled before it was sent, as local at 127.0.0.1 had asked at {at}"
    assert (step["details"]["by"], step["details"]["asked_at"]) == ("local", at)
    assert "cancelled by local" in told["summary"]
    other = await api.stores.outbound.record(channel, kept)
    assert other
    assert other.cancelled is None


async def test_who_cancelled_in_vain_is_not_kept(api: Api) -> None:
    channel = await api.create()
    message_id = await post(api, channel, reply_to=None)

    async def cancel(_: Any) -> dict[str, Any]:
        return {"cancelled": False}

    worker = RpcServer(api.broker, channel, generation=1)
    worker.begin({"cancel": cancel})
    await worker.start()
    try:
        assert (await api("DELETE", f"/channels/{channel}/messages/{message_id}")).status == 404
    finally:
        await worker.stop()
    record = await api.stores.outbound.record(channel, message_id)
    assert record
    assert record.cancelled is None


# --- the search -----------------------------------------------------------------------------------------------------------


async def search(api: Api, **parameters: Any) -> Answer:
    async with api.session.get(f"{api.url}/messages", params=parameters) as response:
        body = await response.json()
        return Answer(response.status, response.headers, body)


async def found(api: Api, **parameters: Any) -> list[str]:
    answer = await search(api, **parameters)
    assert (answer.status, answer.description) == (200, "messages found"), answer.body
    return [each["message_id"] for each in answer.result["messages"]]


@pytest.fixture
async def searched(api: Api) -> str:
    """A channel whose log has five messages; what became of two is in Redis."""
    channel = await api.create()
    now = time.time()
    write(api.log_path(channel), [
        sent(now - 50, "delivered", "+27"),
        line(now - 49, "delivery report", message_id="delivered", delivery_status="delivered"),
        sent(now - 40, "refused", "+28", message="message rejected"),
        sent(now - 35, "cancelled", "+28", message="message cancelled, not sent"),
        sent(now - 30, "reported", "+28"),
        line(now - 20, "inbound message received", message_id="mo", from_addr="+27", to_addr="1"),
        line(now - 19, "forwarded", message_id="mo", to="mo_url", http_status=200, ms=1, host="http://x:1"),
    ])  # fmt: skip
    message = UserMessage(message_id="reported", to_addr="+28", from_addr=None, content="", transport_name=channel)
    event = event_of(message, channel, "delivery_report", delivery_status="failed")
    await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    return channel


async def test_messages_are_found_with_what_became_of_them(api: Api, searched: str) -> None:
    waiting = await post(api, searched, to="+28")
    answer = await search(api, channel_id=searched)
    assert [(each["message_id"], each["status"], each["direction"]) for each in answer.result["messages"]] == [
        (waiting, "queued", "outbound"), ("mo", "forwarded", "inbound"), ("reported", "delivery_failed", "outbound"),
        ("cancelled", "cancelled", "outbound"), ("refused", "rejected", "outbound"),
        ("delivered", "delivery_succeeded", "outbound"),
    ]  # fmt: skip
    assert (answer.result["cursor"], answer.result["logs"]) == (None, "complete")
    logged = ["mo", "reported", "cancelled", "refused", "delivered"]
    for parameters, expected in (
        ({"to": "+28"}, [waiting, "reported", "cancelled", "refused"]),
        ({"to": "28", "status": "rejected"}, ["cancelled", "refused"]), ({"status": "cancelled"}, ["cancelled"]),
        ({"from": "+27"}, ["mo"]), ({"direction": "inbound"}, ["mo"]), ({"status": "queued"}, [waiting]),
        ({"status": "delivery_succeeded"}, ["delivered"]), ({"to": "nobody"}, []), ({"until": "2000-01-01T00:00:00Z"}, []),
        ({"since": "2000-01-01 00:00:00"}, [waiting, *logged]), ({"direction": "outbound", "to": "27"}, ["delivered"]),
    ):  # fmt: skip
        assert await found(api, channel_id=searched, **parameters) == expected, parameters


async def test_a_cursor_goes_on_to_the_end(api: Api, searched: str) -> None:
    seen, cursor, pages = list[str](), None, 0
    while pages < 10:
        answer = await search(api, channel_id=searched, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [each["message_id"] for each in answer.result["messages"]]
        cursor, pages = answer.result["cursor"], pages + 1
        if cursor is None:
            break
    assert seen == ["mo", "reported", "cancelled", "refused", "delivered"]
    assert await found(api, channel_id=searched, limit=1, status="delivery_succeeded") == ["delivered"]


@rows(
    ("parameters", "word"),
    [
        ({"limit": "0"}, "limit"), ({"limit": "501"}, "limit"), ({"status": "unknown"}, "status"),
        ({"direction": "up"}, "direction"),
        ({"since": "soon"}, "since"), ({"until": "-1"}, "until"), ({"since": "9" * 400}, "since"), ({"to": ""}, "to"),
        ({"to": "x" * 201}, "to"), ({"from": "a\nb"}, "from"), ({"cursor": "x"}, "cursor"), ({"cursor": "W10"}, "cursor"),
        ({"cursor": "WzEsMl0"}, "cursor"), ({"n": "1"}, "n"), ({"cursor": "\u00e9"}, "cursor"),
    ],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_refused(api: Api, parameters: dict[str, str], word: str) -> None:
    answer = await search(api, **parameters)
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert answer.errors[0]["message"].startswith(f"{word}:")


async def test_a_token_of_some_channels_finds_their_messages_only(settings: Settings) -> None:
    guarded = dataclasses.replace(settings, admin_token=ROOT)
    async with running_api(guarded, on_loopback=False) as api:
        api.session.headers.update(bearer(ROOT)["headers"])
        mine, other = await api.create(), await api.create()
        for channel in (mine, other):
            write(api.log_path(channel), [sent(1.0, f"of {channel}")])
        for scope in (READ, SEND):
            token = bearer(await make(api, scope, channels=[mine]))
            api.session.headers.update(token["headers"])
            assert await found(api) == [f"of {mine}"]
            assert (await search(api, channel_id=other)).errors[0]["type"] == "ChannelNotFound"
            assert (await api("GET", f"/channels/{other}/messages/of {other}/timeline".replace(" ", "%20"))).status == 403
            assert (await life(api, mine, f"of%20{mine}"))["status"] == "submitted"
            api.session.headers.update(bearer(ROOT)["headers"])


async def test_logs_that_are_elsewhere_are_said_to_be_missing(api: Api) -> None:
    channel = await api.create()
    message_id = await post(api, channel)
    shutil.rmtree(Path(api.settings.logging_path), ignore_errors=True)
    answer = await search(api, channel_id=channel)
    assert [each["message_id"] for each in answer.result["messages"]] == [message_id]
    assert "there are no logs here" in answer.result["logs"]


async def test_a_log_whose_older_files_are_gone_says_so(api: Api) -> None:
    channel = await api.create()
    message_id = await post(api, channel)
    later = time.time() + 100
    write(api.log_path(channel), [sent(later + 1, "x")])
    assert (await life(api, channel, message_id))["logs"] == "complete"  # its process began after it
    write(api.log_path(channel), *([sent(later - n, "x")] for n in range(api.settings.max_log_files)))
    assert "begins after this message" in (await life(api, channel, message_id))["logs"]


async def test_several_ask_at_once(api: Api, searched: str) -> None:
    answers = await asyncio.gather(*(search(api, channel_id=searched) for _ in range(10)))
    assert {answer.status for answer in answers} == {200}
    lives = await asyncio.gather(*(life(api, searched, "delivered") for _ in range(10)))
    assert {told["status"] for told in lives} == {"delivery_succeeded"}


# --- what stands behind is away -------------------------------------------------------------------------------------------


async def test_without_rabbitmq_the_rest_is_told(settings: Settings, own_rabbitmq: RabbitmqServer) -> None:
    async with running_api(dataclasses.replace(settings, request_timeout=1.0)) as api:
        channel = await api.create()
        message_id = await post(api, channel)
        write(api.log_path(channel), [sent(1.0, "logged")])
        await take_away(own_rabbitmq, "freeze")  # a start after a kill would cost two seconds of CPU
        told = await life(api, channel, message_id)
        assert (told["status"], "RabbitMQ" in told["dead_letters"]) == ("queued", True)
        answer = await search(api)
        assert [each["message_id"] for each in answer.result["messages"]] == ["logged"]
        assert "not known" in answer.result["logs"]
        await bring_back(own_rabbitmq, "freeze")


async def test_without_redis_it_is_503(settings: Settings, own_redis: RedisServer) -> None:
    async with running_api(dataclasses.replace(settings, request_timeout=1.0)) as api:
        channel = await api.create()
        message_id = await post(api, channel)
        await take_away(own_redis, "kill")
        for path in (f"/channels/{channel}/messages/{message_id}/timeline", "/messages"):
            answer = await api("GET", path)
            assert (answer.status, answer.errors[0]["type"]) == (503, "StoreUnavailable")
        await bring_back(own_redis, "kill")


