"""Accepting connections on both event loops: what is too many is told so, and there is room again when others leave."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable

import pytest

from junebug.runtime import loop as our_loop
from junebug.runtime.listener import AT_ONCE, Listener, descriptors, listening_sockets

REFUSAL = b"no room\n"
LOOPS = [asyncio.new_event_loop, our_loop.new_event_loop]


class Echo(asyncio.Protocol):
    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)  # type: ignore[attr-defined]

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()


async def told(port: int, says: bytes) -> bytes:
    """What one hears who is let in or not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(says)
        return await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("says", [b"", b"hello\n"])
def test_one_too_many_is_told_so_however_often(new_loop: Callable[[], asyncio.AbstractEventLoop], says: bytes) -> None:
    async def run() -> None:
        sockets = listening_sockets(0, [(socket.AF_INET, "127.0.0.1")], 100)
        port = sockets[0].getsockname()[1]
        listener = Listener("test", sockets, Echo, 2, lambda _: REFUSAL, is_asked_first=bool(says))
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for _ in range(3):
            assert await asyncio.gather(*(told(port, says) for _ in range(2 * AT_ONCE))) == [REFUSAL] * 2 * AT_ONCE
        for _, writer in held:
            writer.close()
        while listener.connections:
            await asyncio.sleep(0.01)
        assert await told(port, b"echo\n") == b"echo\n"
        while listener.connections:
            await asyncio.sleep(0.01)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await told(port, b"")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_without_any_descriptor_who_comes_waits_until_there_is_one(
    new_loop: Callable[[], asyncio.AbstractEventLoop], capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        sockets = listening_sockets(0, [(socket.AF_INET, "127.0.0.1")], 100)
        port = sockets[0].getsockname()[1]
        listener = Listener("test", sockets, Echo, 2, lambda _: REFUSAL, is_asked_first=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        late = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno(), before[1]))
        try:
            late.connect(("127.0.0.1", port))
            late.setblocking(False)
            late.send(b"late\n")
            await asyncio.sleep(0.1)
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(late, 100), 5) == b"late\n"
        writer.close()
        late.close()
        while listener.connections:
            await asyncio.sleep(0.01)
        listener.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
    assert "may open no more files" in capsys.readouterr().out


def test_most_descriptors_are_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (64, 1024, 65_536, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        most, reserved = descriptors()
        assert 0 < reserved <= most // 4
