"""Drains in a process of their own: what was queued for deleted channels, and what their applications answer, comes from outside,
and the reconciler serves all channels. Those of one moment share a process; where it dies, each goes alone.

Neighbours: supervisor/cleanup.py asks for it (cli.py gives it `drain`), drain_server.py makes the processes, drain.py does it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import struct
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress

from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.stores import Stores
from junebug.stores.wanted import Spec
from junebug.worker.callbacks import drain as here

CONNECT_TIMEOUT = 5.0
GATHER = 0.1
"""Seconds that a drain waits for others to share its process."""
MOST = 16
IDLE = 10.0
"""Seconds after which the server of drains ends that has nothing to do."""
LENGTH, ANSWER = struct.Struct("!I"), struct.Struct("!Ii")
"""Of a batch; a batch's number and its process' exit code (drain_server.py)."""
Drained = tuple[Spec, Sequence[str], Collection[str]]
UNAVAILABLE: dict[int, type[BrokerUnavailable | StoreUnavailable]] = {3: BrokerUnavailable, 4: StoreUnavailable}
"""Exit code -> what was away."""


async def drain(
    settings: Settings, broker: Broker, stores: Stores, spec: Spec, delayed: Sequence[str], named: Collection[str]
) -> None:
    """Likewise. A process is started where something waits.

    Raises BrokerUnavailable, StoreUnavailable, and RuntimeError when the process dies.
    """
    if not await here.anything_waits(broker, spec, delayed):
        return await here.drain(settings, broker, stores, spec, delayed, named)
    code, shared = await _run_together(settings, (spec, delayed, named))
    if shared > 1 and code not in (0, *UNAVAILABLE):
        code = await _run(settings, [(spec, delayed, named)])
    if code in UNAVAILABLE:
        raise UNAVAILABLE[code]("the process that drains a deleted channel has no connection")
    if code:
        raise RuntimeError(f"the process that drains a deleted channel ended with {code}")


class _Batch:
    """Drains that are about to share a process."""

    def __init__(self) -> None:
        self.drains: list[Drained] = []
        self.code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()


_gathering: _Batch | None = None


async def _run_together(settings: Settings, drain: Drained) -> tuple[int | None, int]:
    """The exit code of the process that did it (None: whoever saw to it was ended), and how many it did."""
    global _gathering
    batch = _gathering
    if batch and len(batch.drains) < MOST and not batch.code.done():
        batch.drains.append(drain)
        return await asyncio.shield(batch.code), len(batch.drains)
    batch = _gathering = _Batch()
    batch.drains.append(drain)
    code = None
    try:
        await asyncio.sleep(GATHER)
        if _gathering is batch:
            _gathering = None
        code = await _run(settings, batch.drains)
    finally:
        batch.code.set_result(code)
    return code, len(batch.drains)


async def _run(settings: Settings, drains: Sequence[Drained]) -> int:
    """One process for these; its exit code."""
    global _server
    if _server is None or _server.is_over:
        _server = _Server()
    return await _server.run(settings, drains)


class _Server:
    """The process whose forks drain; it ends when it has had nothing to do for IDLE."""

    def __init__(self) -> None:
        self.is_over = False
        self._codes: dict[int, asyncio.Future[int]] = {}
        """Of what it does now."""
        self._numbers = itertools.count(1)
        self._process = asyncio.create_task(self._start())
        self._reading: asyncio.Task[None] | None = None
        self._rest: asyncio.TimerHandle | None = None

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "junebug.worker.callbacks.drain_server",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        except BaseException:
            self.is_over = True
            raise
        self._reading = asyncio.create_task(self._read(process))
        return process

    async def run(self, settings: Settings, drains: Sequence[Drained]) -> int:
        number = next(self._numbers)
        code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._codes[number] = code
        try:
            process = await asyncio.shield(self._process)
            self._tell(process, number, settings, drains)
            return await code
        finally:
            self._codes.pop(number, None)
            if not code.done() and self._process.done() and not self.is_over:
                self._tell(self._process.result(), number, None, ())
            if not self._codes:
                self._rest_soon()

    @staticmethod
    def _tell(process: asyncio.subprocess.Process, number: int, settings: Settings | None, drains: Sequence[Drained]) -> None:
        assert process.stdin
        batch = pickle.dumps((number, settings, drains))  # not for everybody's eyes, as arguments are
        process.stdin.write(LENGTH.pack(len(batch)) + batch)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                number, code = ANSWER.unpack(await process.stdout.readexactly(ANSWER.size))
                if (waiting := self._codes.get(number)) and not waiting.done():
                    waiting.set_result(code)
        self.is_over = True
        process.stdin.close()
        died = await process.wait() or 1
        for waiting in self._codes.values():
            if not waiting.done():
                waiting.set_result(died)

    def _rest_soon(self) -> None:
        if self._rest:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(IDLE, self._end_idle)

    def _end_idle(self) -> None:
        if not self._codes and self._process.done() and not self.is_over:
            self.is_over = True
            process = self._process.result()
            assert process.stdin
            process.stdin.close()


_server: _Server | None = None
