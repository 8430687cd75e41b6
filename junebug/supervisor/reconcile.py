"""What is to be done: wanted channels and routers (here all called channels) against running ones. Pure: no I/O, time is an
argument.

    units         what is wanted -> the same by unit: a channel with shards has several (names.unit)
    plan          wanted, deleted, running -> what to start, restart, remove, and what cannot be started
    needs         wanted, deleted -> what each asks of a host
    respawn_pause failures in a row -> seconds until the next try
    notice        a channel's process before and now -> what its `worker` component says

Neighbours: reconciler.py (the loop) carries the plan out; processes/respawn.py (in supervisord) asks for the pause.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from junebug import names
from junebug.model.messages import StatusLevel
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.supervisor.liveness import Pulse
from junebug.supervisor.placement import Need

Spec = ChannelSpec | RouterSpec

RAN_WELL = 10.0
"""Seconds after which a process that dies counts as dying for the first time."""
LONGEST_PAUSE = 60.0
ANYWHERE = Need()
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
    beaten_at: float = 0.0
    """When its event loop last showed life."""
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

    @property
    def leaving(self) -> set[str]:
        return {*self.remove, *(channel for channel, _ in self.restart)}


def units(wanted: Mapping[str, Spec]) -> dict[str, Spec]:
    """What is to run: unit -> its channel's or router's spec."""
    found = dict(wanted)
    for id, spec in wanted.items():
        if "shards" in spec.config and isinstance(spec, ChannelSpec):
            found |= dict.fromkeys(names.units(id, spec.shards), spec)
    return found


def plan(
    wanted: Mapping[str, Spec],
    deleted: Collection[str],
    running: Mapping[str, Running],
    known_types: Collection[str],
    seen: Collection[str],
    router_types: Collection[str] = (),
    elsewhere: Collection[str] = (),
) -> Plan:
    """Compare, by units. `seen`: those that were wanted at an earlier look. `elsewhere`: those that are wanted, and not of this
    host. A shard of a channel that is wanted with fewer is stopped.

    A channel that vanished is stopped when it was deleted, or when we saw its spec before; one whose spec we never saw
    runs on: rather Redis was emptied while nobody looked. A process that an operator stopped is left stopped until its
    generation changes (the API's restart) or the operator starts it.
    """
    start, restart, remove, orphans = [], [], [], []
    refused: dict[str, tuple[str, str]] = {}
    for channel, spec in wanted.items():
        reason = _refusal(spec, router_types if isinstance(spec, RouterSpec) else known_types)
        if reason:
            refused[channel] = reason
        elif channel not in running:
            start.append((channel, spec.generation))
        elif running[channel].generation != spec.generation:
            restart.append((channel, spec.generation))
    for channel in running:
        if channel in wanted:
            if channel in refused:
                remove.append(channel)
            continue
        owner = names.channel_of(channel)
        if channel in seen or any(owner in known for known in (deleted, seen, elsewhere, wanted)):
            remove.append(channel)
        else:
            orphans.append(channel)
    return Plan(tuple(start), tuple(restart), tuple(remove), refused, tuple(orphans))


def needs(
    wanted: Mapping[str, Spec], deleted: Iterable[str], host_bound: Collection[str]
) -> dict[str, Need]:
    """What each unit asks of a host; also what is deleted, as one host is to remove what it leaves. `host_bound`: types."""
    found = dict.fromkeys(deleted, ANYWHERE)
    for id, spec in wanted.items():
        is_bound = not isinstance(spec, RouterSpec) and spec.type in host_bound
        labels = {} if isinstance(spec, RouterSpec) else spec.placement_labels
        found[id] = Need(labels, is_bound) if labels or is_bound else ANYWHERE
    return found


def _refusal(spec: Spec, known_types: Collection[str]) -> tuple[str, str] | None:
    if not names.is_channel_id(spec.id):
        return "invalid_id", "Its id holds characters that no process or file may be named by"
    if spec.type not in known_types:
        kind, known = "router" if isinstance(spec, RouterSpec) else "channel", ", ".join(sorted(known_types))
        return "unknown_type", f"There is no {kind} type {spec.type!r} here; known are {known}"
    return None


def respawn_pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: at once, then 1, 2, 4 ... 60; never given up."""
    return 0.0 if failures <= 1 else min(LONGEST_PAUSE, 2.0 ** min(failures - 2, 10))


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
