"""What comes to a channel that a provider calls over HTTP, against raw sockets: floods, the slow, the hostile, RabbitMQ away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from junebug.door.process import Door
from junebug.errors import Rejected
from junebug.runtime.listener import listening_sockets
from tests.harness import gather_limited
from tests.polling import eventually
from tests.servers import free_port
from tests.transports.test_http_api import message
from tests.transports.test_http_api_wire import DEADLINE, House, config


def ussd(**more: Any) -> dict[str, Any]:
    return {
        "web_path": "/ussd", "web_port": free_port(), "web_host": "127.0.0.1",
        "inbound": {
            "parameters": {"from": "f", "content": "c"}, "reply_in_response": True,
            "response": {"body": "{action} {content}", "actions": {"resume": "CON", "close": "END"}},
        },
        **more,
    }  # fmt: skip


async def test_a_flood_is_answered_in_the_providers_form() -> None:
    house = House(ussd(max_pending_requests=5))
    async with house.running() as transport:
        asking = [asyncio.create_task(house.post("/ussd", b'{"f": "1", "c": "%d"}' % n)) for n in range(50)]
        await eventually(lambda: sum(each.done() for each in asking) == 45, DEADLINE, "what is too much is answered at once")
        refused = [each.result() for each in asking if each.done()]
        assert all(b" 503 " in each and each.endswith(b"\r\nEND The service is not available at the moment. Please try again "
                   b"later.") for each in refused)  # fmt: skip
        assert len(house.messages) == 5
        for each in house.messages:
            assert await transport.send(message(f"to {each.content}", in_reply_to=each.message_id)) is None
        answers = {each.partition(b"\r\n\r\n")[2] for each in await asyncio.gather(*asking) if each not in refused}
        assert answers == {f"CON to {each.content}".encode() for each in house.messages}
        with pytest.raises(Rejected, match="Could not find original request"):
            await transport.send(message("late", in_reply_to=house.messages[0].message_id))


async def test_who_is_slow_endless_or_no_http_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.runtime.http_server.BODY_TIMEOUT", 0.3)
    post = b"POST /mo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    house = House(config())
    async with house.running():
        chunk = b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"
        answers = {
            post + b"Content-Length: 100\r\n\r\n{": b"408",
            post + b"Content-Length: 100000000\r\n\r\n{": b"413",
            post + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2: b"413",
            post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n": b"400",
            post + b"Content-Length: -1\r\n\r\n": b"400",
            post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": b"400",
            post + b"X-A: " + b"x" * 20_000 + b"\r\n\r\n": b"400",
            post.replace(b"/mo", b"/mo?all=%ff") + b"\r\n": b"400",
            post.replace(b"POST", b"DELETE") + b"\r\n": b"405",
            post.replace(b"POST /mo", b"HEAD /mo?f=1&c=x") + b"\r\n": b"405",
            post.replace(b"POST /mo", b"OPTIONS /mo") + b"\r\n": b"405",
            post.replace(b"POST /mo", b"HEAD /health") + b"\r\n": b"200",
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n": b"400",
            b"GET\r\n\r\n": b"400",
        }
        found = await asyncio.gather(*map(house.ask, answers))
        assert [each.split()[1] for each in found] == [*answers.values()]
        assert house.messages == []
        assert b" 200 " in await house.post("/mo", '{"all": [{"f": "1", "c": "noch da \u2028 \\u0000 💐"}]}'.encode())
        assert house.messages[0].content == "noch da \u2028 \0 💐"


@pytest.fixture
def printed_logs() -> Iterator[None]:
    """Whatever other tests have set up."""
    before = structlog.get_config()
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.reset_defaults()
    structlog.configure(processors=[structlog.processors.add_log_level, plain])
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("printed_logs")
async def test_a_bug_is_logged_without_what_was_asked(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    house = House(config())
    async with house.running() as transport:
        monkeypatch.setattr(transport, "on_request", None)
        assert b" 500 " in await house.post("/mo?from=27820009999", b'{"all": [{"f": "27820009999", "c": "x"}]}')
        monkeypatch.undo()
        assert b" 200 " in await house.post("/mo", b'{"all": [{"f": "1", "c": "x"}]}')
    told = capfd.readouterr().out
    assert "a request failed" in told
    assert "27820009999" not in told


async def test_requests_in_a_row_on_one_connection_are_answered_in_their_order() -> None:
    house = House(ussd())
    async with house.running() as transport:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        for n in range(100):
            writer.write(b"GET /ussd?f=1&c=%d HTTP/1.1\r\nHost: x\r\n\r\n" % n)
        for n in range(100):
            await eventually(lambda count=n + 1: len(house.messages) == count, DEADLINE, "one after the other")
            last = house.messages[-1]
            await transport.send(message(f"<{last.content}>", in_reply_to=last.message_id))
            assert (await reader.readuntil(b">")).endswith(b"CON <%d>" % n)
        writer.close()


async def test_a_request_is_answered_in_time_while_rabbitmq_is_away() -> None:
    house = House(ussd(request_timeout=0.3, request_timeout_status_code=200, request_timeout_body="END later"))
    async with house.running():
        house.may_go_on.clear()
        answers = await asyncio.gather(*(house.post("/ussd", b'{"f": "1", "c": "x"}') for _ in range(5)))
        assert all(b" 200 " in each and each.endswith(b"END later") for each in answers)
        house.may_go_on.set()
        assert b'"pending_requests":0' in await house.ask(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert house.messages == []


async def test_fifty_channels_behind_one_port_see_their_own(tmp_path: Path) -> None:
    directory = tmp_path / "door"
    listening = listening_sockets(0, [(socket.AF_INET, "127.0.0.1")], 100)
    port = listening[0].getsockname()[1]
    door = Door(directory, listening)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(door.close, 1.0)
        houses = []
        for n in range(50):
            given = {"web_path": f"c/{n}", "inbound": {"parameters": {"from": "f", "content": "c"}}}
            house = House(given)
            transport = house.transport(f"c{n}")
            transport.context.door = directory
            await transport.start()
            stack.push_async_callback(transport.stop)
            house.port = port
            houses.append(house)
        asking = (each.post(f"/c/{n}", b'{"f": "1", "c": "%d"}' % n) for n, each in enumerate(houses) for _ in range(4))
        assert [each for each in await gather_limited(50, asking) if b" 200 " not in each] == []  # all on one event loop
        assert [[each.content for each in house.messages] for house in houses] == [[str(n)] * 4 for n in range(50)]
        wrong = [houses[0].post(path, b"{}") for path in ("/c/50", "/c", "/", "/c/1/../2", "//c/1x", "/c%2F1")]
        assert all(b" 404 " in each for each in await asyncio.gather(*wrong))
        assert b" 413 " in await houses[0].post("/c/1", b"x" * 70_000)
