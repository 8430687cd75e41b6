"""What a host is asked, and answers, by whoever at another host follows its logs: plain JSON, and what it means.

    first    {"follower", "number", "open": {"kinds", "logs", "since", "known", "instead_of"}}: as a Reader is told
    then     {"follower", "number"}: what came since; the same number again: the same answer again
    answer   {"is_known", "opened_at", "steps", "complete"}; is_known false: it was not opened, or has not asked for too long

An answer comes as soon as there is something, and after WAIT seconds in any case: so a follower that asks no more is gone, and
one that does not take what it is told has nothing sent to it. Neighbours: supervisor/followers.py answers, api/host_follower.py
asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from junebug.logs.follow import Complete, Line, Step
from junebug.logs.places import Place

FOLLOW = "log_follow"
WAIT = 5.0
PIECE = 64 * 1024
"""Bytes of lines in an answer, and a line more."""
Places = Mapping[str, Place]


def places_json(places: Places) -> dict[str, list[int]]:
    return {log: [place.mark, place.offset] for log, place in places.items()}


def places_from(given: Mapping[str, Sequence[int]]) -> dict[str, Place]:
    return {log: Place(int(mark), int(offset)) for log, (mark, offset) in dict(given).items()}


def steps_json(steps: Sequence[Step | Complete]) -> dict[str, Any]:
    told = [
        [step.log, step.place.mark, step.place.offset, step.at, step.line.data.decode(errors="replace") if step.line else None,
         step.is_lost]
        for step in steps if isinstance(step, Step)
    ]  # fmt: skip
    last = steps[-1] if steps else None
    return {"steps": told, "complete": last.at if isinstance(last, Complete) else None}


def steps_from(answer: Mapping[str, Any], host: str, show: Callable[[str, bytes], Line | None]) -> list[Step | Complete]:
    found: list[Step | Complete] = []
    for log, mark, offset, at, line, is_lost in answer["steps"]:
        said = None if line is None else show(str(log), str(line).encode())
        found.append(Step(str(log), Place(int(mark), int(offset)), float(at), said, bool(is_lost), host))
    if answer["complete"] is not None:
        found.append(Complete(float(answer["complete"])))
    return found
