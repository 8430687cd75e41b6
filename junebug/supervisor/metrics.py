"""What the supervisor's side tells of processes, for `GET /metrics`: which were started again after they had ended unasked, and
what each takes of this machine. Neighbour: reconciler.py looks at supervisord.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from junebug import names
from junebug.runtime.families import RESTARTS
from junebug.runtime.metrics import Metrics
from junebug.runtime.samples import Sample, children, sample
from junebug.supervisor.reconcile import Running

RESTARTED = RESTARTS.field("worker")
MOST_MEASURED = 20
"""Processes whose proportional memory is measured at one look, in their turn: it costs the kernel a millisecond each."""
_TELL_THEMSELVES = ("api:",)
"""Processes whose supervisor may have no reconciler."""


class Restarts:
    """Counted by the number of deaths that supervisord has of each."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._deaths: dict[str, int] | None = None

    def look(self, running: Mapping[str, Running]) -> None:
        """What was before the first look was told by the reconciler before this one, or by nobody."""
        before, self._deaths = self._deaths, {id: each.deaths for id, each in running.items()}
        for id, deaths in self._deaths.items() if before is not None else ():
            if (more := deaths - (before or {}).get(id, 0)) > 0:
                self._metrics.of(names.channel_of(id))[RESTARTED] += more


class Processes:
    """Those of this process's parent, and that itself."""

    def __init__(self) -> None:
        self._measured: dict[int, int] = {}
        """pid -> proportional memory of those that were measured, the latest last."""

    def look(self) -> list[Sample]:
        """Blocking."""
        host, parent = socket.gethostname(), os.getppid()
        pids = [parent, *children(parent)]
        present = {*pids}
        before = {pid: size for pid, size in self._measured.items() if pid in present}
        turn = [*(pid for pid in pids if pid not in before), *before][:MOST_MEASURED]
        self._measured = {pid: size for pid, size in before.items() if pid not in turn}
        found = []
        for pid in pids:
            one = sample(host, pid, proportional=None if pid in turn else self._measured.get(pid, 0))
            if one is None:
                continue
            if pid in turn:
                self._measured[pid] = one.proportional
            if not one.process.startswith(_TELL_THEMSELVES):
                found.append(one)
        return found
