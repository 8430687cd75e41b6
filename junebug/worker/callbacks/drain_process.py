"""Drains in a process of their own: what was queued for deleted channels, and what their applications answer, comes from outside,
and the reconciler serves all channels. Those of one moment share a process, whose start costs half a second; where it dies, each
goes alone.

Neighbours: supervisor/cleanup.py asks for it (cli.py gives it `drain`), drain.py does it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Collection, Sequence

import setproctitle

from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.logs.setup import setup_process_logging
from junebug.runtime.loop import run_async
from junebug.stores import Stores
from junebug.stores.wanted import Spec
from junebug.worker.callbacks import drain as here

CONNECT_TIMEOUT = 5.0
GATHER = 0.1
"""Seconds that a drain waits for others to share its process."""
MOST = 16
_Drain = tuple[Spec, Sequence[str], Collection[str]]
_UNAVAILABLE: dict[int, type[BrokerUnavailable | StoreUnavailable]] = {3: BrokerUnavailable, 4: StoreUnavailable}
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
    if shared > 1 and code not in (0, *_UNAVAILABLE):
        code = await _run(settings, [(spec, delayed, named)])
    if code in _UNAVAILABLE:
        raise _UNAVAILABLE[code]("the process that drains a deleted channel has no connection")
    if code:
        raise RuntimeError(f"the process that drains a deleted channel ended with {code}")


class _Batch:
    """Drains that are about to share a process."""

    def __init__(self) -> None:
        self.drains: list[_Drain] = []
        self.code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()


_gathering: _Batch | None = None


async def _run_together(settings: Settings, drain: _Drain) -> tuple[int | None, int]:
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


async def _run(settings: Settings, drains: Sequence[_Drain]) -> int:
    """One process for these; its exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.stdin
    try:
        process.stdin.write(pickle.dumps((settings, drains)))  # not for everybody's eyes, as arguments are
        await process.wait()
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode


def main() -> int:
    settings, drains = pickle.load(sys.stdin.buffer)  # what our parent wrote
    setproctitle.setproctitle(f"junebug: drain:{' '.join(spec.id for spec, *_ in drains)}")
    logs = setup_process_logging("drain", settings.logfile, settings.server_passwords, settings.sentry_dsn)
    try:
        run_async(_drain(settings, drains))
    except (BrokerUnavailable, StoreUnavailable) as error:
        return next(code for code, kind in _UNAVAILABLE.items() if isinstance(error, kind))
    finally:
        logs.close()
    return 0


async def _drain(settings: Settings, drains: Sequence[_Drain]) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 1)  # it closes when our parent is gone
    broker, stores = Broker(settings.amqp, "drain"), Stores(settings)
    broker.start()
    try:
        await broker.wait_connected(CONNECT_TIMEOUT)
        async with asyncio.TaskGroup() as tasks:
            for spec, delayed, named in drains:
                tasks.create_task(here.drain(settings, broker, stores, spec, delayed, named))
    except* (BrokerUnavailable, StoreUnavailable) as errors:
        raise errors.exceptions[0] from None
    finally:
        await broker.close()
        await stores.close()


if __name__ == "__main__":
    sys.exit(main())
