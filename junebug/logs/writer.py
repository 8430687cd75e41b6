"""Log lines leave the event loop: one thread a process writes them, many at a time.

A disk that hangs is in nobody's way: lines wait up to a limit, and what comes beyond is counted. The thread starts with
the first line, so a process that forks before it logs has none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

MAX_WAITING = 20_000
"""Lines."""
GATHER = 0.005
"""Seconds that a line may wait for others: the thread is woken for many at a time."""
FLUSH_TIMEOUT = 2.0


class Sink(Protocol):
    """Where lines go. `write` blocks, and raises nothing."""

    lost_lines: int

    def write(self, lines: list[bytes]) -> None: ...


class WrittenHandler(logging.Handler):
    """Has the lines that `line` makes of records written by a LogWriter."""

    def __init__(self, sink: Sink, writer: LogWriter) -> None:
        super().__init__()
        self.sink = sink
        self.writer = writer

    def line(self, record: logging.LogRecord) -> bytes:
        """With its line end."""
        return self.format(record).encode("utf-8", "replace") + b"\n"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(self.sink, self.line(record))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        self.writer.flush()


class LogWriter:
    """Lines in, each sink's in order; `flush` and `close` wait until they are written, for FLUSH_TIMEOUT at the most.

    The thread competes with the event loop for the interpreter, and each time that it gets it costs both a switch: it asks
    for it twice for as many lines as came in GATHER.
    """

    def __init__(self) -> None:
        self._waiting: defaultdict[Sink, list[bytes]] = defaultdict(list)
        self._flushes: list[threading.Event] = []
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._thread: threading.Thread | None = None
        self._closed = False
        self.on_close: Callable[[], None] | None = None
        """What is to be done then, besides."""

    def put(self, sink: Sink, line: bytes) -> None:
        """Have it written soon."""
        waiting = self._waiting[sink]
        if self._closed or len(waiting) >= MAX_WAITING:
            sink.lost_lines += 1
            return
        waiting.append(line)
        if self._asleep:
            self._asleep = False
            self._wake.put(None)
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    @property
    def lost_lines(self) -> int:
        """Of all that it writes to."""
        return sum(sink.lost_lines for sink in [*self._waiting])

    def flush(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            written = threading.Event()
            self._flushes.append(written)
            self._wake.put(None)
            written.wait(FLUSH_TIMEOUT)

    def close(self) -> None:
        """Nothing is taken any more."""
        self._closed = True
        self.flush()
        if self.on_close:
            self.on_close()

    def _run(self) -> None:
        while True:
            flushes = self._flushes[:]
            del self._flushes[: len(flushes)]
            for sink, waiting in [*self._waiting.items()]:
                if lines := waiting[:]:
                    sink.write(lines)
                    del waiting[: len(lines)]
            for written in flushes:
                written.set()
            if self._closed and flushes:
                return
            self._asleep = True
            if not any(self._waiting.values()) and not self._flushes:
                self._wake.get()
            self._asleep = False
            time.sleep(0 if self._flushes else GATHER)
