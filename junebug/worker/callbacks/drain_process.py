"""A drain in a process of its own: what was queued for a deleted channel, and what its applications answer, comes from outside,
and the reconciler serves all channels.

Neighbours: supervisor/cleanup.py asks for it (cli.py gives it `drain`), drain.py does it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Sequence

import setproctitle

from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.logs.setup import setup_process_logging
from junebug.model.spec import ChannelSpec
from junebug.runtime.loop import run_async
from junebug.stores import Stores
from junebug.worker.callbacks import drain as here

CONNECT_TIMEOUT = 5.0
_UNAVAILABLE: dict[int, type[BrokerUnavailable | StoreUnavailable]] = {3: BrokerUnavailable, 4: StoreUnavailable}
"""Exit code -> what was away."""


async def drain(settings: Settings, broker: Broker, stores: Stores, spec: ChannelSpec, delayed: Sequence[str]) -> None:
    """Likewise. A process is started where something waits.

    Raises BrokerUnavailable, StoreUnavailable, and RuntimeError when the process dies.
    """
    if not await here.anything_waits(broker, spec, delayed):
        return await here.drain(settings, broker, stores, spec, delayed)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.stdin
    try:
        process.stdin.write(pickle.dumps((settings, spec, delayed)))  # not for everybody's eyes, as arguments are
        await process.wait()
    finally:
        process.stdin.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode in _UNAVAILABLE:
        raise _UNAVAILABLE[process.returncode]("the process that drains a deleted channel has no connection")
    if process.returncode:
        raise RuntimeError(f"the process that drains a deleted channel ended with {process.returncode}")


def main() -> int:
    settings, spec, delayed = pickle.load(sys.stdin.buffer)  # what our parent wrote
    setproctitle.setproctitle(f"junebug: drain:{spec.id}")
    logs = setup_process_logging("drain", settings.logfile, settings.server_passwords)
    try:
        run_async(_drain(settings, spec, delayed))
    except (BrokerUnavailable, StoreUnavailable) as error:
        return next(code for code, kind in _UNAVAILABLE.items() if isinstance(error, kind))
    finally:
        logs.close()
    return 0


async def _drain(settings: Settings, spec: ChannelSpec, delayed: Sequence[str]) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 1)  # it closes when our parent is gone
    broker, stores = Broker(settings.amqp, f"drain {spec.id}"), Stores(settings)
    broker.start()
    try:
        await broker.wait_connected(CONNECT_TIMEOUT)
        await here.drain(settings, broker, stores, spec, delayed)
    finally:
        await broker.close()
        await stores.close()


if __name__ == "__main__":
    sys.exit(main())
