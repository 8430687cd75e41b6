"""What is to be done: wanted channels against running ones. Pure: no I/O, time is an argument.

    plan          wanted, deleted, running -> what to start, restart, remove, and what cannot be started
    SilenceWatch  heartbeats -> whose event loop hangs
    respawn_pause failures in a row -> seconds until the next try
    notice        a channel's process before and now -> what its `worker` component says

Neighbours: reconciler.py (the loop) carries the plan out; processes/channel.py (in supervisord) uses the last three.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from junebug import names
from junebug.model.messages import StatusLevel
from junebug.model.spec import ChannelSpec

RAN_WELL = 10.0
"""Seconds after which a process that dies counts as dying for the first time."""
LONGEST_PAUSE = 60.0
STARTING_GRACE = 30.0
"""Seconds that a new process may take to its first heartbeat (200 of them share two cores)."""
CONFIRM = 2.0
"""Seconds that a silent process is watched before it is called hung."""
LONGEST_GAP = 8.0
"""Seconds between two looks after which it was us who slept (a suspended machine, a stopped process)."""
CHUNK = 25
"""Channels in one call: each is a fork, and supervisord does nothing else meanwhile (DESIGN §1)."""


@dataclass(frozen=True, slots=True)
class Running:
    """One channel's process as supervisord has it. Times are seconds since the epoch, 0 = never."""

    state: str
    """supervisor's: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    pid: int = 0
    generation: int = 0
    restarts: int = 0
    """Unexpected deaths since it was started on purpose."""
    deaths: int = 0
    """Unexpected deaths in all."""
    last_exit: str | None = None
    died_pid: int = 0
    died_at: float = 0.0
    spawned_at: float = 0.0
    backoff_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to tell supervisord. `refused`: channel -> (status type, message) for those that cannot be started."""

    start: tuple[tuple[str, int], ...] = ()
    restart: tuple[tuple[str, int], ...] = ()
    remove: tuple[str, ...] = ()
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    orphans: tuple[str, ...] = ()
    """Running, without a spec, and nobody said that they were deleted: left alone."""


def is_mine(channel: str) -> bool:
    """Whether this host is to run the channel. The seam for leases: today there is one host, and all are its own."""
    return bool(channel)


def plan(
    wanted: Mapping[str, ChannelSpec],
    deleted: Collection[str],
    running: Mapping[str, Running],
    known_types: Collection[str],
    seen: Collection[str],
) -> Plan:
    """Compare. `seen`: channels that were wanted at an earlier look.

    A channel that vanished is stopped when it was deleted, or when we saw its spec before; one whose spec we never saw
    runs on: rather Redis was emptied while nobody looked. A process that an operator stopped is left stopped until its
    generation changes (the API's restart) or the operator starts it.
    """
    start, restart, remove, orphans = [], [], [], []
    refused: dict[str, tuple[str, str]] = {}
    for channel, spec in wanted.items():
        if not is_mine(channel):
            continue
        reason = _refusal(spec, known_types)
        if reason:
            refused[channel] = reason
        elif channel not in running:
            start.append((channel, spec.generation))
        elif running[channel].generation != spec.generation:
            restart.append((channel, spec.generation))
    for channel in running:
        if channel in wanted:
            if channel in refused or not is_mine(channel):
                remove.append(channel)
        elif channel in deleted or channel in seen:
            remove.append(channel)
        else:
            orphans.append(channel)
    return Plan(tuple(start), tuple(restart), tuple(remove), refused, tuple(orphans))


def _refusal(spec: ChannelSpec, known_types: Collection[str]) -> tuple[str, str] | None:
    if not names.is_channel_id(spec.id):
        return "invalid_id", "The channel's id holds characters that no process or file may be named by"
    if spec.type not in known_types:
        known = ", ".join(sorted(known_types))
        return "unknown_type", f"There is no channel type {spec.type!r} here; known are {known}"
    return None


def respawn_pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: at once, then 1, 2, 4 ... 60; never given up."""
    return 0.0 if failures <= 1 else min(LONGEST_PAUSE, 2.0 ** min(failures - 2, 10))


# --- silence ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pulse:
    """A process and the last sign of life of its event loop. Times are seconds since the epoch."""

    name: str
    pid: int
    spawned_at: float
    touched_at: float | None
    """None: there is no heartbeat file."""

    def silence(self, now: float) -> float:
        return now - max(self.spawned_at, self.touched_at or 0.0)

    @property
    def has_beaten(self) -> bool:
        """Whether this process, not the one before it, has touched its file."""
        return self.touched_at is not None and self.touched_at >= self.spawned_at


class SilenceWatch:
    """Says which processes hang: late now, late at each look for CONFIRM seconds, and we ourselves were not away.

    The second condition keeps a machine that slept from having all its processes killed when it wakes.
    """

    def __init__(self, timeout: float, starting_grace: float = STARTING_GRACE) -> None:
        self._timeout = timeout
        self._starting_grace = max(timeout, starting_grace)
        self._suspects: dict[str, tuple[int, float]] = {}
        self._last_look: float | None = None

    @property
    def is_suspicious(self) -> bool:
        """Whether to look again soon."""
        return bool(self._suspects)

    def look(self, now: float, pulses: Iterable[Pulse]) -> list[Pulse]:
        """The hung ones; to be called every few seconds, with everybody's pulse."""
        if self._last_look is None or not 0 <= now - self._last_look <= LONGEST_GAP:
            self._suspects.clear()
        self._last_look = now
        before, self._suspects = self._suspects, {}
        hung = []
        for pulse in pulses:
            if pulse.silence(now) <= (self._timeout if pulse.has_beaten else self._starting_grace):
                continue
            pid, since = before.get(pulse.name, (pulse.pid, now))
            if pid != pulse.pid:
                since = now
            if now - since >= CONFIRM:
                hung.append(pulse)
            else:
                self._suspects[pulse.name] = (pulse.pid, since)
        return hung


# --- what is told -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Notice:
    """What the component `worker` of a channel says. `at`: when it happened; None: now."""

    status: StatusLevel
    type: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    at: float | None = None


def notice(before: Running | None, now: Running, killed_pid: int = 0) -> Notice | None:
    """What happened between two looks, if it is to be told. The worker itself says when it runs (again).

    `killed_pid`: the process that was killed for its silence, which has been told already.
    """
    if now.state == "BACKOFF" and (before is None or before.state != "BACKOFF" or before.deaths != now.deaths):
        pause = math.ceil(max(0.0, now.backoff_until - (now.died_at or now.backoff_until)))
        return Notice(
            "down",
            "backoff",
            f"{_sentence(now.last_exit or 'could not be started')}; it is started again in {pause} s",
            _details(now) | {"backoff": pause},
            now.died_at or None,
        )
    if now.state == "STOPPED":
        if before is None or before.state != "STOPPED":
            return Notice("down", "stopped", "Stopped by an operator; a restart of the channel starts it again")
        return None
    if before is not None and now.deaths > before.deaths and now.died_pid != killed_pid:
        message = f"{_sentence(now.last_exit or 'died')}, started again"
        return Notice("down", "died", message, _details(now), now.died_at)
    return None


def hung_notice(pulse: Pulse, now: float) -> Notice:
    """What is told of a process that is killed for its silence."""
    silent = round(pulse.silence(now), 1)
    return Notice(
        "down",
        "hung",
        f"Its event loop was silent for {silent:g} s: killed, started again",
        {"pid": pulse.pid, "silent": silent},
    )


def _details(now: Running) -> dict[str, Any]:
    return {"pid": now.died_pid or None, "exit": now.last_exit, "restarts": now.restarts}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
