"""Drains of one moment share a process; none suffers from another's end."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable
from junebug.model.spec import ChannelSpec
from junebug.worker.callbacks import drain_process
from tests.polling import DEADLINE, eventually
from tests.servers import free_port


class Runs:
    """In place of processes: which channels each was given, and how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deadly: str = "", code: int = 0) -> None:
        self.given: list[list[str]] = []
        self._deadly, self._code = deadly, code
        monkeypatch.setattr(drain_process, "_run", self.run)
        monkeypatch.setattr(drain_process.here, "anything_waits", self.anything_waits)

    async def anything_waits(self, *_: Any) -> bool:
        return True

    async def run(self, _: Settings, drains: Sequence[tuple[ChannelSpec, Any, Any]]) -> int:
        self.given.append([spec.id for spec, *_ in drains])
        return -9 if self._deadly in self.given[-1] else self._code


async def drain(*channels: str) -> list[Any]:
    """What became of each; all at the same time."""
    nothing = cast(Any, None)
    specs = [ChannelSpec(id=channel, type="loopback", config={}) for channel in channels]
    each = (drain_process.drain(Settings(), nothing, nothing, spec, [], []) for spec in specs)
    return [type(found) for found in await asyncio.gather(*each, return_exceptions=True)]


async def test_drains_of_one_moment_share_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    assert await drain("a", "b", "c") == [type(None)] * 3
    assert await drain("d") == [type(None)]
    assert runs.given == [["a", "b", "c"], ["d"]]


async def test_only_so_many_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    await drain(*map(str, range(drain_process.MOST + 1)))
    assert [len(given) for given in runs.given] == [drain_process.MOST, 1]


async def test_where_a_shared_process_dies_each_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, deadly="b")
    assert await drain("a", "b", "c") == [type(None), RuntimeError, type(None)]
    assert sorted(runs.given) == [["a"], ["a", "b", "c"], ["b"], ["c"]]


async def test_what_was_away_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, code=3)
    assert await drain("a", "b") == [BrokerUnavailable] * 2
    assert runs.given == [["a", "b"]]


async def test_those_whose_process_somebody_else_gave_up_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    first = asyncio.create_task(drain("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = asyncio.create_task(drain("b"))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await others == [type(None)]
    assert runs.given == [["b"]]


# --- the real processes -----------------------------------------------------------------------------------------------


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The one that this test starts is ended with it."""
    monkeypatch.setattr(drain_process, "_server", None)
    yield
    last = drain_process._server
    if last and not last.is_over:
        os.kill(await server_pid(), signal.SIGKILL)
    if last and last._reading:
        await asyncio.wait_for(last._reading, DEADLINE)


async def server_pid() -> int:
    assert drain_process._server
    return (await drain_process._server._process).pid


def run(settings: Settings) -> Coroutine[Any, Any, int]:
    spec = ChannelSpec(id=str(uuid.uuid4()), type="loopback", config={})
    return drain_process._run(settings, [(spec, [], [])])


async def under_way(settings: Settings) -> tuple[asyncio.Task[int], int]:
    """A drain that waits for a RabbitMQ that is not there, and the process that does it."""
    nowhere = dataclasses.replace(settings, amqp=dataclasses.replace(settings.amqp, port=free_port()))
    task = asyncio.create_task(run(nowhere))
    await asyncio.sleep(0)
    server = await server_pid()
    (pid,) = await eventually(lambda: children(server))
    return task, pid


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_one_server_forks_for_all_until_it_has_had_nothing_to_do(
    server: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await asyncio.gather(*(run(settings) for _ in range(3))) == [0, 0, 0]
    first = await server_pid()
    monkeypatch.setattr(drain_process, "IDLE", 0.01)
    assert await run(settings) == 0
    assert await server_pid() == first
    await eventually(lambda: not is_there(first))
    assert await run(settings) == 0
    assert await server_pid() != first


async def test_what_is_away_is_its_exit_code(server: None, settings: Settings) -> None:
    task, _ = await under_way(settings)
    assert drain_process.UNAVAILABLE[await task] is BrokerUnavailable


async def test_one_that_dies_is_its_own_affair(server: None, settings: Settings) -> None:
    task, pid = await under_way(settings)
    os.kill(pid, signal.SIGSEGV)
    assert (await task, await run(settings)) == (-signal.SIGSEGV, 0)


async def test_one_that_nobody_waits_for_is_ended(server: None, settings: Settings) -> None:
    task, pid = await under_way(settings)
    task.cancel()
    await eventually(lambda: not is_there(pid))
    assert await run(settings) == 0


async def test_with_the_server_all_of_it_ends_and_the_next_has_another(server: None, settings: Settings) -> None:
    task, pid = await under_way(settings)
    first = await server_pid()
    os.kill(first, signal.SIGKILL)
    assert await task == -signal.SIGKILL
    await eventually(lambda: not is_there(pid))
    assert await run(settings) == 0
    assert await server_pid() != first
