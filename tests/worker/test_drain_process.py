"""Drains of one moment share a process; none suffers from another's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable
from junebug.model.spec import ChannelSpec
from junebug.worker.callbacks import drain_process


class Runs:
    """In place of processes: which channels each was given, and how it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deadly: str = "", code: int = 0) -> None:
        self.given: list[list[str]] = []
        self._deadly, self._code = deadly, code
        monkeypatch.setattr(drain_process, "_run", self.run)
        monkeypatch.setattr(drain_process.here, "anything_waits", self.anything_waits)

    async def anything_waits(self, *_: Any) -> bool:
        return True

    async def run(self, _: Settings, drains: Sequence[tuple[ChannelSpec, Any, Any]]) -> int:
        self.given.append([spec.id for spec, *_ in drains])
        return -9 if self._deadly in self.given[-1] else self._code


async def drain(*channels: str) -> list[Any]:
    """What became of each; all at the same time."""
    nothing = cast(Any, None)
    specs = [ChannelSpec(id=channel, type="loopback", config={}) for channel in channels]
    each = (drain_process.drain(Settings(), nothing, nothing, spec, [], []) for spec in specs)
    return [type(found) for found in await asyncio.gather(*each, return_exceptions=True)]


async def test_drains_of_one_moment_share_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    assert await drain("a", "b", "c") == [type(None)] * 3
    assert await drain("d") == [type(None)]
    assert runs.given == [["a", "b", "c"], ["d"]]


async def test_only_so_many_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    await drain(*map(str, range(drain_process.MOST + 1)))
    assert [len(given) for given in runs.given] == [drain_process.MOST, 1]


async def test_where_a_shared_process_dies_each_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, deadly="b")
    assert await drain("a", "b", "c") == [type(None), RuntimeError, type(None)]
    assert sorted(runs.given) == [["a"], ["a", "b", "c"], ["b"], ["c"]]


async def test_what_was_away_is_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch, code=3)
    assert await drain("a", "b") == [BrokerUnavailable] * 2
    assert runs.given == [["a", "b"]]


async def test_those_whose_process_somebody_else_gave_up_go_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    first = asyncio.create_task(drain("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = asyncio.create_task(drain("b"))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await others == [type(None)]
    assert runs.given == [["b"]]
