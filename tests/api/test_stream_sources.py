"""What a stream of ten thousand logs on several hosts costs at each look: next to nothing while nothing changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pytest

from junebug.api import stream_sources
from junebug.api.other_hosts import OtherHosts
from junebug.api.stream_ids import places_of, short_of
from junebug.api.stream_sources import StreamSources
from junebug.logs.places import Place

LOGS = frozenset(f"channel-{number}" for number in range(10_000))


class Others:
    """All logs are held by host b, which never answers."""

    host = "a"

    def __init__(self) -> None:
        self.leases = self.rpc = self
        self.opened: list[Mapping[str, Any]] = []

    async def holders(self, logs: Sequence[str], but: str) -> dict[str, str]:
        return dict.fromkeys(logs, "b")

    async def ask(self, *_: Any, **about: Any) -> dict[str, Any]:
        self.opened.append(about["open"])
        await asyncio.Event().wait()
        return {}


def made(others: Others, known: Mapping[bytes, Place]) -> StreamSources:
    return StreamSources(cast(OtherHosts, others), lambda *_: None, frozenset(["log"]), None, known, LOGS, lambda: None)


async def test_a_look_that_finds_nothing_new_looks_for_no_places(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(known: Mapping[bytes, Place], logs: Iterable[str], *args: Any, **more: Any) -> dict[str, Place]:
        logs = list(logs)
        asked.append(len(logs))
        return places_of(known, logs, *args, **more)

    monkeypatch.setattr(stream_sources, "places_of", counted)
    others, new = Others(), "made-meanwhile"
    sources = made(others, {short_of(log, "b"): Place(7, 9) for log in ("channel-5", new)})
    for _ in range(5):
        await sources.look(LOGS)
    await asyncio.sleep(0)
    await sources.look(LOGS | {new})
    await asyncio.sleep(0.01)
    assert asked == [len(LOGS), len(LOGS), 1], "by the reader of this host, by the other one, and by that one again"
    first, second = others.opened
    assert first["known"] == {"channel-5": [7, 9]}
    assert second["known"] == {"channel-5": [7, 9], new: [7, 9]}
    assert second["logs"] == sorted(LOGS | {new})
    await sources.end()


async def test_a_host_that_leaves_takes_time_in_proportion_to_its_logs() -> None:
    sources = made(Others(), {})
    await sources.look(LOGS)
    for log in LOGS:  # both have read one directory
        sources._marks[log] = {"a": 1, "b": 1, "c": 1}
        sources._same |= {(log, "b"), (log, "c")}
    sources._marks["of-c"] = {"c": 2}
    sources._same.add(("of-c", "c"))
    began = time.process_time()
    await sources._leave("b")
    assert time.process_time() - began < 1
    assert sources._same == {("of-c", "c")}
    assert sources._marks["channel-5"] == {"a": 1, "c": 1}
    await sources.end()
