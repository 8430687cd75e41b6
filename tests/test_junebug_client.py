"""clients/python by itself: repeats, errors, signatures, streams; and what stands in its README."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import deque
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
from junebug_client import (
    ApiError,
    AsyncClient,
    Client,
    JunebugError,
    NoAnswer,
    Retries,
    StreamEvent,
    UnexpectedAnswer,
    problems,
    webhooks,
)
from junebug_client._events import Stream
from junebug_client._exchange import Call, result_of, retry_after, segment

from tests.harness import Reply, WebhookSink
from tests.tables import rows
from tests.test_packaging import ROOT

QUICK = Retries(3, 0.0, 5.0)
MESSAGE: Any = {"to": "+27", "content": "x"}


def answer(status: int, result: Any, **headers: str) -> Reply:
    envelope = {"status": status, "code": "", "description": "as told", "result": result}
    return Reply(status, headers=headers, body=json.dumps(envelope).encode())


def error(status: int, type: str, **headers: str) -> Reply:
    return answer(status, {"errors": [{"type": type, "message": f"it is {type}"}]}, **headers)


# --- repeats ----------------------------------------------------------------------------------------------------------


async def test_a_send_is_repeated_with_the_same_key_until_it_is_taken() -> None:
    async with WebhookSink() as junebug, AsyncClient(junebug.url(""), retries=QUICK) as client:
        path = "/channels/c/messages/"
        taken = answer(201, {"message_id": "m"})
        failures = [Reply(cut=True), error(503, "Unavailable", **{"Retry-After": "0"}), error(409, "RequestInProgress")]
        junebug.next_replies[path] = deque([*failures, taken, taken])
        assert (await client.send_message("c", MESSAGE))["message_id"] == "m"
        await client.send_message("c", MESSAGE)
        keys = [each.headers["Idempotency-Key"] for each in junebug.requests(path)]
        assert len(keys) == 5
        assert len(set(keys[:4])) == 1
        assert keys[4] != keys[0]


async def test_what_may_have_been_done_is_not_done_twice() -> None:
    async with WebhookSink() as junebug, AsyncClient(junebug.url(""), retries=QUICK) as client:
        junebug.next_replies["/channels/"] = deque([Reply(cut=True), answer(201, {})])
        with pytest.raises(NoAnswer):
            await client.create_channel({"type": "telnet", "config": {}})
        assert len(junebug.requests("/channels/")) == 1


RETRIES = Retries(3, 1.0, 5.0)


@rows(
    ("call", "attempt", "outcome", "pauses"),
    [
        (Call("GET", "/"), 0, httpx.Response(503), (0.5, 1)),
        (Call("GET", "/"), 2, httpx.Response(503), (2, 4)),
        (Call("GET", "/"), 3, httpx.Response(503), None),
        (Call("GET", "/"), 0, httpx.Response(503, headers={"Retry-After": "2"}), (2, 2)),
        (Call("GET", "/"), 0, httpx.Response(503, headers={"Retry-After": "6"}), None),
        (Call("GET", "/"), 0, httpx.Response(500), None),
        (Call("GET", "/"), 0, httpx.Response(404), None),
        (Call("GET", "/"), 0, httpx.ReadTimeout(""), (0.5, 1)),
        (Call("POST", "/"), 0, httpx.ReadTimeout(""), None),
        (Call("POST", "/", key="k"), 0, httpx.ReadTimeout(""), (0.5, 1)),
        (Call("POST", "/"), 0, httpx.ConnectError(""), (0.5, 1)),
        (Call("POST", "/"), 0, httpx.Response(503), None),
        (Call("POST", "/", key="k"), 0, httpx.Response(503), (0.5, 1)),
        (Call("POST", "/"), 0, httpx.Response(429), (0.5, 1)),
        (Call("DELETE", "/"), 0, httpx.Response(503), (0.5, 1)),
        (Call("DELETE", "/"), 0, httpx.ReadError(""), None),
        (Call("PUT", "/"), 0, httpx.ReadError(""), (0.5, 1)),
        (Call("GET", "/"), 0, httpx.InvalidURL(""), None),
        (Call("POST", "/", key="k"), 0, httpx.Response(409, json={"result": {"errors": [{"type": "ChannelChanged"}]}}), None),
    ],
)
def test_when_a_call_is_made_again(call: Call, attempt: int, outcome: Any, pauses: tuple[float, float] | None) -> None:
    pause = RETRIES.pause(call, attempt, outcome)
    assert pause is pauses if pauses is None or pause is None else pauses[0] <= pause <= pauses[1]


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({}) is None
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": "soon"}) is None
    date = format_datetime(datetime.fromtimestamp(time.time() + 30, UTC), usegmt=True)
    assert 25 < (retry_after({"Retry-After": date}) or 0) <= 30
    assert retry_after({"Retry-After": "Fri, 01 Jan 2010 00:00:00 GMT"}) == 0


# --- errors -----------------------------------------------------------------------------------------------------------


def client_of(response: httpx.Response, retries: int = 0) -> Client:
    return Client(retries=Retries(retries, 0.0, 5.0), transport=httpx.MockTransport(lambda request: response))


@rows(
    ("status", "code", "kind"),
    [
        (404, "ChannelNotFound", problems.ChannelNotFound),
        (400, "invalid_body", problems.InvalidBody),
        (503, "StoreUnavailable", problems.StoreUnavailable),
        (418, "SomethingNew", ApiError),
    ],
)
def test_errors_have_the_class_of_their_code(status: int, code: str, kind: type[ApiError]) -> None:
    errors = [{"type": code, "message": "one"}, {"type": "other", "message": "two"}]
    body = {"status": status, "code": "x", "description": "d", "result": {"errors": errors, "more": 1}}
    with pytest.raises(ApiError) as caught:
        client_of(httpx.Response(status, json=body, headers={"Retry-After": "3"})).list_channels()
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, str(caught.value)) == (status, code, "one; two")
    assert (caught.value.errors, caught.value.result["more"], caught.value.retry_after) == (errors, 1, 3.0)


@rows(
    "response",
    [
        httpx.Response(502, text="<html>nginx</html>"),
        httpx.Response(200, text="hello"),
        httpx.Response(200, json=["hello"]),
        httpx.Response(302, headers={"Location": "/login"}),
    ],
)
def test_another_server_is_known_for_what_it_is(response: httpx.Response) -> None:
    with pytest.raises(UnexpectedAnswer, match=f"HTTP {response.status_code}"):
        client_of(response).list_channels()


HTML = {"Content-Type": "text/html; charset=hex"}


def errors(told: str) -> str:
    return f'{{"status": 400, "result": {{"errors": {told}}}}}'


@rows(
    ("status", "text", "kind"),
    [
        (400, errors("null"), UnexpectedAnswer), (400, errors("7"), UnexpectedAnswer), (409, errors("true"), UnexpectedAnswer),
        (400, errors('"none"'), UnexpectedAnswer), (400, errors("{}"), UnexpectedAnswer), (400, "null", UnexpectedAnswer),
        (400, '{"result": null}', UnexpectedAnswer), (409, "7", UnexpectedAnswer), (200, '{"status": 200}', UnexpectedAnswer),
        (200, "[" * 100_000, UnexpectedAnswer), (503, '{"result":' * 100_000, UnexpectedAnswer),
        (200, "9" * 5000, UnexpectedAnswer), (400, "\udcff", UnexpectedAnswer), (204, "", UnexpectedAnswer),
        (400, errors("[]"), ApiError), (400, errors("[null, 7, []]"), ApiError), (400, '{"result": {}}', ApiError),
        (409, errors('[{"type": null, "message": 7}]'), ApiError), (409, errors('[{"type": [{}]}]'), ApiError),
    ],
)  # fmt: skip
def test_whatever_is_answered_is_the_clients_own_error(status: int, text: str, kind: type[JunebugError]) -> None:
    response = httpx.Response(status, content=text.encode(errors="surrogateescape"), headers=HTML)
    with pytest.raises(kind, match=f"HTTP {status}" if kind is UnexpectedAnswer else None):
        client_of(response, retries=1).list_channels()


def test_no_depth_of_an_answer_is_a_recursion_error() -> None:
    for depth in range(100, 1100):
        for name in ("type", "message"):
            deep = errors(f'[{{"{name}": {"[" * depth}{"]" * depth}}}]')
            with pytest.raises(JunebugError):
                result_of(httpx.Response(409, text=deep))


@rows(
    "text",
    [
        "soon", "", "²", "-1x", "9" * 400, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 10000 00:00:00 GMT",
        f"Mon, 01 Jan 2030 00:00:00 +{'9' * 30}", "99999999999999999 Jan 01 1:2 1.2.3 ,",
    ],
)  # fmt: skip
def test_a_retry_after_that_makes_no_sense_is_none(text: str) -> None:
    assert retry_after({"Retry-After": text}) is None


@rows(("id", "path"), [("a", "a"), ("a/b", "a%2Fb"), ("ä", "%C3%A4"), ("a?b#c", "a%3Fb%23c")])
def test_an_id_stays_a_part_of_the_path(id: str, path: str) -> None:
    assert segment(id) == path


@rows("id", ["", ".", ".."])
def test_what_would_be_another_path_is_no_id(id: str) -> None:
    with pytest.raises(ValueError, match="no id"):
        segment(id)


async def test_credentials_go_as_they_are_given() -> None:
    async with WebhookSink() as junebug:
        junebug.always["/channels/"] = answer(200, [])
        url = junebug.url("")
        for client in (
            AsyncClient(url, token="t"), AsyncClient(url, headers={"Authorization": "Token u"}),
            AsyncClient(url.replace("://", "://me:secret@")), AsyncClient(url),
        ):  # fmt: skip
            async with client:
                await client.list_channels()
        basic = f"Basic {base64.b64encode(b'me:secret').decode()}"
        found = [each.headers.get("Authorization") for each in junebug.requests("/channels/")]
        assert found == ["Bearer t", "Token u", basic, None]


# --- callbacks --------------------------------------------------------------------------------------------------------

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = b'{"content": "h\xc3\xa9"}'
SIGNED = {
    "Webhook-Id": "m1", "Webhook-Timestamp": "1000000",
    "Webhook-Signature": standardwebhooks.Webhook(SECRET).sign("m1", datetime.fromtimestamp(1000000, UTC), BODY.decode()),
}  # fmt: skip


@rows(
    ("secrets", "headers", "body", "now", "is_good"),
    [
        (SECRET, SIGNED, BODY, 1000000, True),
        (SECRET, {name.lower(): value for name, value in SIGNED.items()}, BODY.decode(), 1000299, True),
        (["whsec_" + "A" * 32, SECRET], SIGNED, BODY, 1000000, True),
        (SECRET, {**SIGNED, "Webhook-Signature": f"v1,AAAA {SIGNED['Webhook-Signature']} v2,é"}, BODY, 1000000, True),
        ("whsec_" + "A" * 32, SIGNED, BODY, 1000000, False),
        ([], SIGNED, BODY, 1000000, False),
        (SECRET, SIGNED, BODY + b" ", 1000000, False),
        (SECRET, {**SIGNED, "Webhook-Id": "m2"}, BODY, 1000000, False),
        (SECRET, {**SIGNED, "Webhook-Timestamp": "1000001"}, BODY, 1000000, False),
        (SECRET, {**SIGNED, "Webhook-Signature": ""}, BODY, 1000000, False),
        (SECRET, SIGNED, BODY, 1000301, False),
        (SECRET, SIGNED, BODY, 999699, False),
        (SECRET, {}, BODY, 1000000, False),
    ],
)
def test_a_callback_is_known_by_its_signature(secrets: Any, headers: Any, body: Any, now: float, is_good: bool) -> None:
    if is_good:
        assert webhooks.verify(secrets, headers, body, now=now) == {"content": "hé"}
    else:
        with pytest.raises(webhooks.InvalidSignature) as caught:
            webhooks.verify(secrets, headers, body, now=now)
        assert SECRET not in str(caught.value)


# --- streams ----------------------------------------------------------------------------------------------------------


def read(stream: Stream, text: str) -> list[StreamEvent]:
    return [event for line in text.split("\n") if (event := stream.line(line))]


def test_events_are_read_as_the_standard_has_it() -> None:
    stream = Stream()
    text = ': hello\nid: 1\nevent: status\ndata: {"a":\ndata:  1}\n\n: beat\n\nid: 2\n\nevent: x\n\ndata: {}\n\nid: 3\n'
    text += 'data: {"half'
    assert read(stream, text) == [StreamEvent("status", {"a": 1}, "1"), StreamEvent("message", {}, "2")]
    assert stream.headers["Last-Event-ID"] == "2"
    stream.begin()
    assert read(stream, "data: {}\n\n") == [StreamEvent("message", {}, "2")]


def test_pauses_grow_and_end_and_are_as_asked_for() -> None:
    stream = Stream()
    assert [stream.pause() for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    read(stream, "data: {}\n\n")
    assert stream.pause() == 0.5
    read(stream, "retry: 2000\nretry: x\n\n")
    assert stream.pause() == 4
    for long in ("99999999", "9" * 5000):
        read(stream, f"retry: {long}\ndata: {{}}\n\n")
        assert stream.pause() == 30


@rows("data", ["hello", '{"half', "[" * 100_000, "9" * 5000])
def test_an_event_that_is_no_json_is_no_answer_of_junebugs(data: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        read(Stream(), f"data: {data}\n\n")


FIRST = 'retry: 0\nid: 7\nevent: status\ndata: {"n": 1}\n\n'
SECOND = 'id: 8\nevent: log\ndata: {"n": 2}\n\n'


def script(junebug: WebhookSink) -> None:
    parts = [Reply(body=FIRST.encode()), Reply(cut=True), Reply(503), Reply(body=SECOND.encode())]
    junebug.next_replies["/events/stream"] = deque([*parts, error(401, "NotAuthenticated")])


async def test_a_stream_goes_on_where_it_was_and_ends_with_what_is_refused() -> None:
    async with WebhookSink() as junebug, AsyncClient(junebug.url("")) as client:
        script(junebug)
        events = client.stream_events(["a", "b"], ["status", "log"])
        found = [await anext(events), await anext(events)]
        with pytest.raises(problems.NotAuthenticated):
            await anext(events)
        assert found == [StreamEvent("status", {"n": 1}, "7"), StreamEvent("log", {"n": 2}, "8")]
        requests = junebug.requests("/events/stream")
        assert {each.query for each in requests} == {"channel_id=a%2Cb&kind=status%2Clog"}
        assert [each.headers.get("Last-Event-ID") for each in requests] == [None, "7", "7", "7", "8"]


async def test_the_blocking_client_streams_the_same() -> None:
    async with WebhookSink() as junebug:
        script(junebug)

        def work() -> list[StreamEvent]:
            found = []
            with Client(junebug.url("")) as client:
                try:
                    for event in client.stream_events(last_event_id="6"):
                        found.append(event)
                except problems.NotAuthenticated:
                    return found
            return []

        assert [event.id for event in await asyncio.to_thread(work)] == ["7", "8"]
        assert junebug.requests("/events/stream")[0].headers["Last-Event-ID"] == "6"


# --- what is shipped --------------------------------------------------------------------------------------------------


def test_the_readme_and_the_package_say_the_same() -> None:
    text = (ROOT / "clients" / "python" / "README.md").read_text()
    for link in re.findall(r"\]\((\.\./[^)#]+)", text):
        assert (ROOT / "clients" / "python" / link).exists(), link
    assert (ROOT / "clients" / "python" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("project", [ROOT, ROOT / "clients" / "python"], ids=["junebug", "junebug-client"])
def test_the_wheel_has_the_client(project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"]
    copy = tmp_path / "project"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests", "bench", "var", "logs", "build"))
    subprocess.run([*command, str(tmp_path)], cwd=copy, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    here = ROOT / "clients" / "python" / "junebug_client"
    assert {f"junebug_client/{path.name}" for path in [*here.glob("*.py"), here / "py.typed"]} <= set(names)
    if project == ROOT:
        assert {"junebug/api/openapi/docs.css", "junebug/api/openapi/docs.js"} <= set(names)
