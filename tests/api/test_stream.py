"""GET /events/stream: what channels and routers log, as they do, as Server-Sent Events."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from junebug.api.handlers import stream
from junebug.config.declaration import Settings
from junebug.logs import follow
from junebug.logs.files import LogFile
from junebug.model.access import READ, SEND
from junebug.smpp.codec import encode
from junebug.smpp.pdu import SubmitSm
from tests.api.conftest import Api, running_api
from tests.api.test_access import ROOT, bearer, make
from tests.polling import eventually
from tests.servers import RedisServer
from tests.sse import DEADLINE, Client
from tests.tables import rows

LINES = 8000
"""Of a kilobyte: more than the buffers of a socket hold."""


@asynccontextmanager
async def following(api: Api, query: str = "", prefix: str = "", **options: Any) -> AsyncIterator[Client]:
    async with api.session.get(f"{api.url}{prefix}/events/stream{query}", **options) as response:
        assert response.status == 200, await response.text()
        yield Client(response)  # it is settled by now from where on it tells


def log(api: Api, id: str, *entries: dict[str, Any], rotate_size: int = 0) -> None:
    lines = [orjson.dumps({"logger": id, "level": 20, "timestamp": time.time(), **entry}) + b"\n" for entry in entries]
    written(LogFile(api.log_path(id), rotate_size, 0), lines)


def written(file: LogFile, lines: list[bytes]) -> None:
    Path(file._path).parent.mkdir(exist_ok=True)
    file.write(lines)
    assert not file.trouble


def numbered(*numbers: int, more: str = "") -> list[dict[str, Any]]:
    return [{"message": f"line {n} {more}", "n": n} for n in numbers]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REFRESH", 0.1)
    monkeypatch.setattr(follow, "INTERVAL", 0.02)


async def test_each_kind_of_line_is_an_event_of_that_kind(api: Api) -> None:
    channel = await api.create()
    async with following(api) as client:
        response = client.response
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-store", "no")
        log(
            api, channel,
            {"message": "status", "component": "smpp", "status": "down", "type": "x", "reason": "y", "level": 40},
            {"message": "message sent", "message_id": "m1", "to_addr": "+27"},
            {"message": "message rejected", "message_id": "m2", "reason": "no"},
            {"message": "message expired, not sent", "message_id": "m3"},
            *({"message": "delivery report", "message_id": "m", "delivery_status": each}
              for each in ("delivered", "failed", "pending")),
            {"message": "inbound message received", "message_id": "m4", "from_addr": "+27", "to_addr": "1"},
            {"message": "forwarded", "message_id": "m4", "event_type": "submitted"},
            {"message": "status of nothing", "kind": "status", "channel_id": "another"},
        )  # fmt: skip
        found = await client.some(10)
        assert client.retry == "2000"
    assert [(event.kind, event.data.get("event_type")) for event in found] == [
        ("status", None), ("event", "submitted"), ("event", "rejected"), ("event", "delivery_failed"),
        ("event", "delivery_succeeded"), ("event", "delivery_failed"), ("event", "delivery_pending"), ("message", None),
        ("log", "submitted"), ("log", None),
    ]  # fmt: skip
    for event in found:
        assert (event.data["kind"], event.data["channel_id"]) == (event.kind, channel)
        assert abs(event.data["timestamp"] - time.time()) < 60
        assert event.data["message"]
    assert (found[0].data["status"], found[0].data["reason"], found[0].data["level"]) == ("down", "y", 40)
    assert found[7].data["direction"] == "inbound"
    assert len({event.id for event in found}) == 10


@rows(
    ("query", "expected"),
    [
        ("", {1, 2, 3, 4}),
        ("?kind=status", {1, 3}),
        ("?kind=status,log", {1, 2, 3, 4}),
        ("?kind=status&kind=log", {1, 2, 3, 4}),
        ("?kind=event,message", set()),
        ("?channel_id={one}", {1, 2}),
        ("?channel_id={one},{two}", {1, 2, 3, 4}),
        ("?channel_id={one}&channel_id={two}&kind=log", {2, 4}),
        ("?channel_id={router}", {5}),
    ],
)
async def test_filters(api: Api, query: str, expected: set[int]) -> None:
    one, two = await api.create(), await api.create()
    router = await api.router("keyword") if "router" in query else "r"
    async with following(api, query.format(one=one, two=two, router=router)) as client:
        log(api, one, {"message": "status", "n": 1}, {"message": "x", "n": 2})
        log(api, two, {"message": "status", "n": 3}, {"message": "x", "n": 4})
        if router != "r":
            log(api, router, {"message": "x", "n": 5})
        assert {event.data["n"] for event in await client.some(len(expected))} == expected


@rows(
    ("query", "named"),
    [
        ("?kind=statuses", "kind"),
        ("?kind=status,", None),
        ("?kind=", "kind"),
        ("?kind=,,", "kind"),
        ("?channel_id=", "channel_id"),
        ("?last_event_id=nonsense", "Last-Event-ID"),
        ("?last_event_id=%FF%00", "Last-Event-ID"),
        (f"?last_event_id={'A' * 5000}", "Last-Event-ID"),
        ("?last_event_id=", None),
        ("?unknown=1", None),
    ],
)
async def test_what_is_asked_for_wrongly_is_named(api: Api, query: str, named: str | None) -> None:
    if named is None:
        async with following(api, query):
            return
    answer = await api("GET", f"/events/stream{query}")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert answer.errors[0]["message"].startswith(f"{named}: ")


@rows("id", ["no-such-channel", "..%2F..%2Fetc%2Fpasswd", "x" * 300, "%00", "{plain},no"])
async def test_an_unknown_channel_is_404(api: Api, plain: str, id: str) -> None:
    answer = await api("GET", f"/events/stream?channel_id={id.format(plain=plain)}")
    assert (answer.status, answer.errors[0]["type"]) == (404, "ChannelNotFound")


async def test_a_head_is_answered_and_the_other_form_redirected(api: Api) -> None:
    async with api.session.head(f"{api.url}/events/stream") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert (await api("GET", "/events/stream/?kind=log")).headers["Location"] == "/events/stream?kind=log"
    async with following(api, prefix="/jb"):
        pass


async def test_a_channel_that_is_created_meanwhile_is_followed_from_its_first_line_on(api: Api) -> None:
    async with following(api) as client:
        channel = await api.create()
        log(api, channel, *numbered(1))
        (event,) = await client.some(1)
        assert (event.data["channel_id"], event.data["n"]) == (channel, 1)


async def test_pdus_say_what_is_in_them_and_secrets_are_masked(api: Api) -> None:
    config = {"host": "h", "port": 1, "system_id": "me", "password": "open sesame"}
    channel = await api.create(type="smpp", config=config)
    pdu = encode(SubmitSm(destination_addr="27", short_message=b"hello", sequence_number=5))
    async with following(api, f"?channel_id={channel}") as client:
        log(api, channel, {"message": "PDU", "direction": "out", "hex": pdu.hex()}, {"message": "it said open sesame"})
        shown, told = await client.some(2)
    assert (shown.kind, shown.data["pdu"], shown.data["content"]) == ("log", "submit_sm", "hello")
    assert told.data["message"] == "it said ********"


# --- coming again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "query", "another process"])
async def test_nothing_is_missed_nor_repeated_by_who_comes_again(api: Api, how: str) -> None:
    """Amid what was sent; the log is rotated meanwhile."""
    channel, quiet = await api.create(), await api.create()
    log(api, channel, *numbered(0))
    log(api, quiet, *numbered(1000))
    last, found, n = "", list[int](), 0
    async with running_api(api.settings) as another:
        for round in range(6):
            there = another if how == "another process" and round % 2 else api
            asked = "" if not last or how != "query" else f"?{urlencode({'last_event_id': last})}"
            headers = {"Last-Event-ID": last} if last and how != "query" else {}
            async with following(there, asked, headers=headers) as client:
                if not round:
                    log(api, quiet, *numbered(1001))
                for _ in range(20):
                    log(api, channel, *numbered(n := n + 1, more="x" * 100), rotate_size=1000)
                found += [event.data["n"] for event in await client.some(10)]
                last = client.last_id
            log(api, channel, *numbered(n := n + 1), rotate_size=1000)
        async with following(api, headers={"Last-Event-ID": last}) as client:
            found += [event.data["n"] for event in await client.some(n + 1 - len(found))]
            log(api, channel, *numbered(5000))
            assert (await client.some(1))[0].data["n"] == 5000
    assert sorted(found) == [*range(1, n + 1), 1001]
    assert [each for each in found if each != 1001] == list(range(1, n + 1))
    assert len(list(Path(api.settings.logging_path).glob(f"{channel}.*"))) > 5


async def test_the_id_of_a_silent_stream_is_as_good_as_that_of_an_event(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.1)
    channel = await api.create()
    async with following(api, "?kind=status") as client:
        log(api, channel, *numbered(1), {"message": "status", "n": 2}, *numbered(3))
        (event,) = await client.some(1)
        before = client.last_id
        while client.last_id == before:
            line = await client.response.content.readline()
            client.last_id = line.decode().strip()[4:] if line.startswith(b"id: ") else client.last_id
    log(api, channel, *numbered(4))
    async with following(api, headers={"Last-Event-ID": event.id}) as client:
        assert [event.data["n"] for event in await client.some(2)] == [3, 4]
    async with following(api, headers={"Last-Event-ID": client.last_id}) as client:
        log(api, channel, *numbered(5))
        assert [event.data["n"] for event in await client.some(1)] == [5]


async def test_what_was_deleted_before_it_was_read_is_told(api: Api) -> None:
    channel = await api.create()
    async with following(api) as client:
        log(api, channel, *numbered(1))
        await client.some(1)
    for n in range(2, 50):
        line = orjson.dumps({"logger": channel, "level": 20, "timestamp": time.time(), "message": "x", "n": n}) + b"\n"
        written(LogFile(api.log_path(channel), 500, 2), [line])
    async with following(api, headers={"Last-Event-ID": client.last_id}) as client:
        lost, event = await client.some(2)
    assert (lost.kind, lost.data["kind"], lost.data["channel_id"], lost.data["left_out"]) == ("lost", "lost", channel, None)
    directory = Path(api.settings.logging_path)
    kept = [orjson.loads(line)["n"] for file in directory.glob(f"{channel}*") for line in file.read_bytes().splitlines()]
    assert event.data["n"] == min(kept) > 2


# --- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_heartbeat_is_a_comment(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.05)
    async with following(api) as client:
        while (await client.response.content.readline()) != b":\n":
            assert client.comments < 10
            client.comments += 1


async def test_there_are_no_more_streams_than_the_process_bears(settings: Settings) -> None:
    async with running_api(dataclasses.replace(settings, max_connections=8)) as api:
        async with following(api), following(api):
            answer = await api("GET", "/events/stream")
            assert (answer.status, answer.errors[0]["type"]) == (503, "Overloaded")
            assert (await api("GET", "/health")).status == 200

        async def has_room() -> bool:
            async with api.session.get(f"{api.url}/events/stream") as response:
                return response.status == 200

        await eventually(has_room)


async def test_a_stream_goes_on_while_redis_is_away(api: Api, own_redis: RedisServer) -> None:
    channel = await api.create()
    async with following(api) as client:
        own_redis.kill()
        for n in range(3):
            log(api, channel, *numbered(n))
            assert [event.data["n"] for event in await client.some(1)] == [n]
            await asyncio.sleep(2 * stream.REFRESH)


async def test_nothing_is_done_when_nobody_is_there(api: Api) -> None:
    events = next(each for each in api.app.on_shutdown if each.__name__ == "close").__self__  # type: ignore[attr-defined]
    async with following(api):
        assert events.follower.is_running
    await eventually(lambda: not events.follower.is_running)


async def test_a_client_that_takes_nothing_is_cut_off_and_told_how_much_it_does_not_get(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOW", 0.3)
    channel = await api.create()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", int(api.url.rpartition(":")[2])))
        slow.sendall(b"GET /events/stream HTTP/1.0\r\nHost: localhost\r\n\r\n")
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        text = b""
        while b"id: " not in text:
            text += await asyncio.wait_for(loop.sock_recv(slow, 4096), DEADLINE)
        for start in range(0, LINES, 1000):
            log(api, channel, *numbered(*range(start, start + 1000), more="x" * 1000))
        async with following(api, f"?channel_id={channel}", headers={"Last-Event-ID": last_id_in(text)}) as quick:
            assert [event.data["n"] for event in await quick.some(LINES)] == list(range(LINES))
        await asyncio.sleep(stream.SLOW)
        while more := await asyncio.wait_for(loop.sock_recv(slow, 1 << 20), DEADLINE):
            text += more
    last = text.rpartition(b"event: lost\n")[2]
    lost = orjson.loads(last.removeprefix(b"data: "))
    assert (lost["kind"], lost["channel_id"]) == ("lost", None)
    assert 0 < lost["left_out"] < 1000
    got = text.count(b"\nevent: log\n")
    assert 0 < got < LINES
    async with following(api, headers={"Last-Event-ID": last_id_in(text)}) as client:  # nothing is lost to who comes again
        assert [event.data["n"] for event in await client.some(LINES - got)] == list(range(got, LINES))


def last_id_in(text: bytes) -> str:
    return text.rpartition(b"\nid: ")[2].split(b"\n")[0].decode()


async def test_streams_do_not_hold_the_stop(settings: Settings) -> None:
    async with running_api(settings) as api:
        channel = await api.create()
        client, stuck = await api.session.get(f"{api.url}/events/stream"), socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", int(api.url.rpartition(":")[2])))
        stuck.sendall(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stuck.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(stuck, 10), DEADLINE)
        log(api, channel, *numbered(*range(LINES), more="x" * 1000))
        began = time.monotonic()
        await api.app.shutdown()
        assert time.monotonic() - began < 2.0
        rest = await client.content.read()
        assert rest.endswith(b"\n\n")
        stuck.close()


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[Api]:
    async with running_api(dataclasses.replace(settings, admin_token=ROOT), on_loopback=False) as api:
        yield api


async def created(api: Api) -> str:
    body = {"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/mo"}
    return str((await api("POST", "/channels/", json=body, **bearer(ROOT))).result["id"])


async def test_a_token_for_some_channels_sees_only_these(guarded: Api) -> None:
    mine, other = await created(guarded), await created(guarded)
    token = await make(guarded, READ, channels=[mine])
    for query, status in (("", 200), (f"?channel_id={mine}", 200), (f"?channel_id={other}", 403), ("?channel_id=none", 403)):
        async with guarded.session.get(f"{guarded.url}/events/stream{query}", **bearer(token)) as answer:
            assert answer.status == status, query
    async with following(guarded, **bearer(token)) as client:
        log(guarded, other, *numbered(1))
        log(guarded, mine, *numbered(2))
        assert [event.data["n"] for event in await client.some(1)] == [2]
    async with following(guarded, **bearer(ROOT)) as client:  # an id of everything gives nobody more than is his
        log(guarded, other, *numbered(3))
        await client.some(1)
    log(guarded, other, *numbered(4))
    log(guarded, mine, *numbered(5))
    headers = {"Last-Event-ID": client.last_id, **bearer(token)["headers"]}
    async with following(guarded, headers=headers) as client:
        assert [event.data["n"] for event in await client.some(1)] == [5]


async def test_a_stream_ends_when_its_token_is_revoked(guarded: Api) -> None:
    text = await make(guarded, READ)
    async with following(guarded, **bearer(text)) as client:
        answer = await guarded("DELETE", f"/tokens/{text.split('_')[1]}", **bearer(ROOT))
        assert answer.status == 200
        assert await client.next() is None


async def test_sending_is_no_reading(guarded: Api) -> None:
    token = await make(guarded, SEND)
    assert (await guarded("GET", "/events/stream", **bearer(token))).status == 403


