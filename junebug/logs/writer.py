"""Log lines leave the event loop: one thread a process writes them, many at a time.

A disk that hangs is in nobody's way: lines wait up to a limit, and what comes beyond is counted. The thread starts with
the first line, so a process that forks before it logs has none.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Protocol

MAX_WAITING = 20_000
"""Lines."""
GATHER = 0.005
"""Seconds that a line may wait for others: the thread is woken for many at a time."""
FLUSH_TIMEOUT = 2.0


class Sink(Protocol):
    """Where lines go. `write` blocks, and raises nothing."""

    lost_lines: int

    def write(self, lines: Iterable[bytes]) -> None: ...


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
    """Lines in, each sink's in order; `flush` and `close` wait until they are written, for FLUSH_TIMEOUT at the most."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[tuple[Sink, bytes] | threading.Event] = SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, sink: Sink, line: bytes) -> None:
        """Have it written soon."""
        if self._closed or self._waiting.qsize() >= MAX_WAITING:
            sink.lost_lines += 1
            return
        self._waiting.put((sink, line))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            written = threading.Event()
            self._waiting.put(written)
            self._hurry.set()
            written.wait(FLUSH_TIMEOUT)

    def close(self) -> None:
        """Nothing is taken any more."""
        self._closed = True
        self.flush()

    def _run(self) -> None:
        while True:
            each: tuple[Sink, bytes] | threading.Event = self._waiting.get()
            self._hurry.wait(GATHER)
            self._hurry.clear()
            batch: dict[Sink, list[bytes]] = {}
            flushed = []
            try:
                while True:
                    if isinstance(each, threading.Event):
                        flushed.append(each)
                    else:
                        batch.setdefault(each[0], []).append(each[1])
                    each = self._waiting.get_nowait()
            except Empty:
                pass
            for sink, lines in batch.items():
                sink.write(lines)
            for event in flushed:
                event.set()
            if self._closed and flushed:
                return
