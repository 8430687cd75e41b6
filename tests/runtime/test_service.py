"""A process's life: in which order it ends, how long that may take, and that no task of it dies unseen."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from junebug.runtime.heartbeat import Heartbeats, adopt, beat, keep_beating
from junebug.runtime.loop import call_again, is_transport_gone, run_async
from junebug.runtime.service import EXIT_FAILED, EXIT_OK, ServiceLife, bounded
from junebug.runtime.tasks import TaskOwner
from tests.polling import eventually


class Recorded:
    """What a life did, in order."""

    def __init__(self, code: int | None = None, error: Exception | None = None) -> None:
        self.life = ServiceLife()
        self.done: list[str] = []
        self._code, self._error = code, error

    async def start(self) -> int | None:
        self.done.append("start")
        if self._error:
            raise self._error
        return self._code

    async def stop(self) -> None:
        self.done.append("stop")

    async def run(self) -> int:
        return await self.life.run(self.start, self.stop)


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_asked(number: signal.Signals) -> None:
    async def scenario() -> tuple[int, list[str]]:
        recorded = Recorded()
        side_task = recorded.life.tasks.own("side", forever())
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        code = await recorded.run()
        assert side_task.cancelled()
        return code, recorded.done

    assert run_async(scenario()) == (EXIT_OK, ["start", "stop"])


async def test_the_death_of_a_side_task_ends_it_as_failed() -> None:
    recorded = Recorded()
    recorded.life.tasks.own("side", fail())
    assert await asyncio.wait_for(recorded.run(), 10) == EXIT_FAILED
    assert recorded.done[-1] == "stop"


async def test_a_death_far_below_ends_it_too() -> None:
    recorded, below = Recorded(), TaskOwner()
    recorded.life.tasks.own("below", below.failure())
    below.own("keeper", fail())
    assert await asyncio.wait_for(recorded.run(), 10) == EXIT_FAILED


async def test_a_side_task_that_ends_or_is_cancelled_ends_nobody() -> None:
    recorded = Recorded()
    recorded.life.tasks.own("short", asyncio.sleep(0))
    recorded.life.tasks.own("cancelled", forever()).cancel()
    running = asyncio.create_task(recorded.run())
    await eventually(lambda: recorded.done == ["start"])
    assert not running.done()
    recorded.life.stop()
    assert await running == EXIT_OK


async def test_an_exit_code_of_the_start_ends_it() -> None:
    recorded = Recorded(code=5)
    assert await recorded.run() == 5
    assert recorded.done == ["start", "stop"]


async def test_what_the_start_raises_is_raised_and_everything_stopped() -> None:
    recorded = Recorded(error=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await recorded.run()
    assert recorded.done == ["start", "stop"]


async def test_a_start_that_is_interrupted_has_ended_before_the_stop() -> None:
    life = ServiceLife()
    done = []

    async def start() -> None:
        try:
            life.stop()
            await forever()
        finally:
            for _ in range(20):  # its end takes longer than those of the other tasks
                await asyncio.sleep(0)
            done.append("start ended")

    async def stop() -> None:
        done.append("stop")

    assert await life.run(start, stop) == EXIT_OK
    assert done == ["start ended", "stop"]


async def test_a_bounded_stop_neither_raises_nor_lasts() -> None:
    await bounded("one that fails", fail(), 10)
    await bounded("one that hangs", forever(), 0.01)


async def test_a_heartbeat_is_seen_by_whoever_forked_the_process() -> None:
    heartbeats = Heartbeats()
    mine, other = heartbeats.add(), heartbeats.add()
    pid = os.fork()
    if not pid:
        adopt(mine)
        beat()
        os._exit(0)
    os.waitpid(pid, 0)
    assert 0 <= time.time() - mine.at < 60
    assert other.at == 0


async def test_a_process_keeps_beating_and_the_next_one_in_its_place_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats = Heartbeats()
    mine = heartbeats.add()
    monkeypatch.setattr("junebug.runtime.heartbeat._own", mine)
    monkeypatch.setattr("junebug.runtime.heartbeat.INTERVAL", 0.01)
    tasks = TaskOwner()
    tasks.own("beat", keep_beating())
    await eventually(lambda: mine.at > 0)
    first = mine.at
    await eventually(lambda: mine.at > first)
    await tasks.end()
    heartbeats.remove(mine)
    assert heartbeats.add().at == 0
    assert len({(each._page, each._place) for each in (heartbeats.add() for _ in range(2000))}) == 2000


async def test_what_is_called_again_ends_with_its_task_and_what_it_raises_ends_its_owner() -> None:
    tasks = TaskOwner()
    calls: list[int] = []

    def work() -> float:
        calls.append(0)
        if len(calls) == 3:
            raise ValueError("the third time")
        return 0.001

    ended = tasks.own("ended", call_again(lambda: 0.001))
    await asyncio.sleep(0)
    ended.cancel()
    tasks.own("fails", call_again(work))
    with pytest.raises(ValueError, match="third"):
        await asyncio.wait_for(tasks.failure(), 10)
    assert len(calls) == 3
    await tasks.end()


def test_only_a_use_of_a_reset_transport_counts_as_one() -> None:
    async def scenario() -> BaseException:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.transport.abort()
        await asyncio.sleep(0)
        await eventually(lambda: "closed=True" in repr(writer.transport))
        try:
            writer.write(b"x")
        except RuntimeError as error:
            return error
        finally:
            server.close()
        raise AssertionError("nothing was raised")

    error = run_async(scenario())
    assert is_transport_gone(error), error
    assert not is_transport_gone(RuntimeError("dictionary changed size during iteration"))
    assert not is_transport_gone(ConnectionResetError())
