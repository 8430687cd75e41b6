"""Where drains run: each in a fork of this process, which has imported what they need, and has neither threads nor connections.
So it is as good as a process of its own, without the half second of CPU of another interpreter's start.

Neighbour: drain_process.py starts it, from the reconciler, and talks with it over stdin and stdout:
  a batch   length (4 octets), then pickled: number, settings, drains; without settings: end the one of that number
  an answer number, exit code (4 octets each)
It ends, and what it has forked with it, when its stdin does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import selectors
import signal
import sys
import traceback
from collections.abc import Sequence

import setproctitle

from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.logs.setup import setup_process_logging
from junebug.runtime.loop import run_async
from junebug.stores import Stores
from junebug.worker.callbacks import drain as here
from junebug.worker.callbacks.drain_process import ANSWER, CONNECT_TIMEOUT, LENGTH, UNAVAILABLE, Drained


class DrainServer:
    def __init__(self) -> None:
        self._batches, self._answers = sys.stdin.fileno(), os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what somebody prints is no answer
        self._theirs, self._ours = os.pipe()
        """The forks' end, which tells them of our end."""
        self._pids: dict[int, int] = {}
        """Number of a batch -> process."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._batches, selectors.EVENT_READ)

    def run(self) -> None:
        """Until stdin ends; blocking."""
        while True:
            for key, _ in self._selector.select():
                if key.fd != self._batches:
                    self._reap(key.fd, key.data)
                elif (batch := _read(self._batches)) is None:
                    return
                else:
                    self._take(*pickle.loads(batch))  # what our parent wrote

    def _take(self, number: int, settings: Settings | None, drains: Sequence[Drained]) -> None:
        if settings is None:
            if pid := self._pids.get(number):
                os.kill(pid, signal.SIGKILL)
            return
        try:
            pid = os.fork()
        except OSError:  # too many processes, or too little memory
            traceback.print_exc()
            return self._answer(number, 1)
        if not pid:
            self._end_as_fork(settings, drains)
        self._pids[number] = pid
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, number)

    def _end_as_fork(self, settings: Settings, drains: Sequence[Drained]) -> None:
        code = 1
        try:
            for descriptor in (self._answers, self._ours):
                os.close(descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), self._batches)
            code = _work(settings, drains, self._theirs)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self, descriptor: int, number: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(self._pids.pop(number), 0)
        self._answer(number, os.waitstatus_to_exitcode(status))

    def _answer(self, number: int, code: int) -> None:
        os.write(self._answers, ANSWER.pack(number, code))


def _read(descriptor: int) -> bytes | None:
    """The next batch; None when there will be none."""
    head = _exactly(descriptor, LENGTH.size)
    return head and _exactly(descriptor, *LENGTH.unpack(head))


def _exactly(descriptor: int, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        if not (some := os.read(descriptor, count - len(found))):
            return None
        found += some
    return bytes(found)


def _work(settings: Settings, drains: Sequence[Drained], lives: int) -> int:
    """The exit code. `lives`: readable when our parent is gone."""
    setproctitle.setproctitle(f"junebug: drain:{' '.join(spec.id for spec, *_ in drains)}")
    logs = setup_process_logging("drain", settings.logfile, settings.server_passwords, settings.sentry_dsn)
    try:
        run_async(_drain(settings, drains, lives))
    except (BrokerUnavailable, StoreUnavailable) as error:
        return next(code for code, kind in UNAVAILABLE.items() if isinstance(error, kind))
    finally:
        logs.close()
    return 0


async def _drain(settings: Settings, drains: Sequence[Drained], lives: int) -> None:
    asyncio.get_running_loop().add_reader(lives, os._exit, 1)
    broker, stores = Broker(settings.amqp, "drain"), Stores(settings)
    broker.start()
    try:
        await broker.wait_connected(CONNECT_TIMEOUT)
        async with asyncio.TaskGroup() as tasks:
            for spec, delayed, named in drains:
                tasks.create_task(here.drain(settings, broker, stores, spec, delayed, named))
    except ExceptionGroup as errors:
        if unavailable := errors.subgroup((BrokerUnavailable, StoreUnavailable)):
            raise unavailable.exceptions[0] from None
        raise
    finally:
        await broker.close()
        await stores.close()


def main() -> None:
    setproctitle.setproctitle("junebug: drains")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    gc.collect()
    gc.freeze()
    DrainServer().run()


if __name__ == "__main__":
    main()
