"""What many clients take together is bounded: body bytes, connections, descriptors; who comes beyond is told so (503)."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import itertools
import os
import random
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from junebug.api import bodies
from junebug.config.declaration import Settings
from tests.api.conftest import Api, running_api
from tests.polling import eventually

LARGE = 980_000
NOISE = random.Random(1).randbytes(LARGE)


def sized() -> bytes:
    return b"Content-Length: 1000000\r\n\r\n" + b"x" * LARGE


def chunked() -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % LARGE + b"x" * LARGE + b"\r\n"


def many_chunks() -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b"x" * 4096 + b"\r\n" + b"1000\r\n%s\r\n" % (b"y" * 4096) * 238


def compressed() -> bytes:
    packed = gzip.compress(NOISE, 1)[:-20_000]
    return b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n" + packed


def expanding() -> bytes:
    packed = gzip.compress(b"x" * LARGE)
    return b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (len(packed) + 1) + packed


UNFINISHED: list[Callable[[], bytes]] = [sized, chunked, many_chunks, compressed, expanding]
TARGETS = [b"POST /channels/", b"POST /channels/x/messages/", b"GET /channels/", b"DELETE /channels/x"]

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connections(api: Api, count: int, data: bytes = b"") -> AsyncIterator[list[Connection]]:
    """So many, each of which has sent `data`; they are reset at the end."""
    port = int(api.url.rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    try:
        await asyncio.gather(*(send(writer) for _, writer in opened))
        yield opened
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def refused(opened: list[Connection]) -> list[bytes]:
    """The answers that have come so far."""
    return [bytes(reader._buffer) for reader, _ in opened if reader._buffer]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("body", "target"), [*zip(UNFINISHED, itertools.cycle(TARGETS))])
async def test_bodies_that_never_end_are_bounded_in_sum_and_small_ones_are_taken_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, body: Callable[[], bytes], target: bytes
) -> None:
    monkeypatch.setattr(bodies, "IN_SUM", 8_000_000)
    async with running_api(settings) as strict:
        async with connections(strict, 12, target + b" HTTP/1.1\r\nHost: localhost\r\n" + body()) as opened:
            answers = await eventually(lambda: refused(opened))
            assert all(answer.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: " in answer for answer in answers)
            assert b'"Overloaded"' in answers[0]
            assert 12 - len(answers) >= 4
            assert (await strict("POST", "/channels/", json={"type": "plain", "config": {}})).status == 201

        async def large_is_taken() -> bool:
            return (await strict("POST", "/channels/", data=b"[" + b" " * LARGE + b"]")).status == 400

        await eventually(large_is_taken, timeout=3)  # they are gone, and what they had sent with them


async def test_a_body_gives_its_room_back_when_it_is_answered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IN_SUM", 2_000_000)
    async with running_api(settings) as strict:
        for data in [b" " * LARGE, b" " * 1_000_001, b'{"type": "plain", "config": {}, "x": "' + b"y" * LARGE] * 5:
            assert (await strict("POST", "/channels/", data=data)).status in (400, 413)


async def test_connections_are_bounded_and_one_more_is_told_so(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_api(dataclasses.replace(settings, max_connections=5)) as api:
        async with connections(api, 5):
            async with connections(api, 40, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") as more:
                for reader, _ in more:
                    answer = await asyncio.wait_for(reader.read(), 5)
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"\r\nRetry-After: " in answer
            answer = await api("GET", "/channels/")
            assert (answer.status, answer.errors[0]["type"]) == (503, "Overloaded")
            for path in ("/health/live", "/jb/health/live/", "/health/live?x"):
                assert (await api("GET", path)).status == 200
            for path in ("/health", "/health/lively", "/channels/health/live"):
                assert (await api("GET", path)).status == 503
        assert "connections are refused" in capsys.readouterr().out

        async def is_free() -> bool:
            return (await api("GET", "/channels/")).status == 200

        await eventually(is_free)


@pytest.fixture
def few_files() -> Iterator[None]:
    """This process may open only some more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 120, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_with_few_descriptors_connections_are_refused_and_logged_and_the_api_goes_on(
    settings: Settings, few_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_api(settings) as api:
        assert (await api("GET", "/channels/")).status == 200
        held: list[Connection] = []
        port = int(api.url.rpartition(":")[2])
        try:
            while "may open no more files" not in capsys.readouterr().out:
                held.append(await asyncio.open_connection("127.0.0.1", port))
                await asyncio.sleep(0.005)
        finally:
            for _, writer in held:
                writer.transport.abort()

        async def is_free() -> bool:
            return (await api("GET", "/channels/")).status == 200

        await eventually(is_free)
