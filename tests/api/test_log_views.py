"""How logs are shown is known as long as anybody follows them, however many they are."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from junebug.api import log_views
from junebug.api.log_views import LogViews
from junebug.config.declaration import Settings

LINE = orjson.dumps({"message": "x", "timestamp": 1.0})
MANY = [f"channel-{number}" for number in range(21_000)]


@pytest.fixture
def views(monkeypatch: pytest.MonkeyPatch) -> LogViews:
    """Of channels that are all there; `read` counts how often a spec was read."""
    made = LogViews(Settings(), *cast(Any, [None] * 3))

    async def of_channel(id: str) -> Any:
        read.append(id)
        return (lambda entry: entry), 1

    read: list[str] = []
    monkeypatch.setattr(made, "_of_channel", of_channel)
    monkeypatch.setattr(made, "read", read, raising=False)
    return made


async def test_tens_of_thousands_of_logs_are_followed_all_of_them(views: LogViews) -> None:
    for _ in range(3):
        assert len(await views.prepare(MANY, ())) == len(MANY)
    assert len(cast(Any, views).read) == len(MANY), "what was read a moment ago is not read again"
    assert all(views.show(log, LINE) for log in (MANY[0], MANY[-1]))


async def test_those_of_one_stream_do_not_drive_out_those_of_another(views: LogViews) -> None:
    half = len(MANY) // 2
    for some in (MANY[:half], MANY[half:]):
        await views.prepare(some, ())
    assert all(views.show(log, LINE) for log in MANY)


async def test_a_line_is_shown_while_its_channels_spec_is_read_again(views: LogViews, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, at any moment."""

    class Watched(dict[str, Any]):
        def pop(self, *args: Any) -> Any:
            raise AssertionError("for a moment it could not be shown")

    views._views = Watched()
    for _ in range(2):
        await views.prepare(["c"], ())
        assert views.show("c", LINE)
        monkeypatch.setattr(log_views, "VIEW_AGE", -1.0)


async def test_what_nobody_follows_is_forgotten(views: LogViews, monkeypatch: pytest.MonkeyPatch) -> None:
    await views.prepare(["deleted", "followed"], ())
    began = time.monotonic()
    for later, left in ((log_views.VIEW_AGE, {"deleted", "followed"}), (log_views.FORGOTTEN_AFTER, {"followed"})):
        monkeypatch.setattr(log_views, "time", SimpleNamespace(monotonic=lambda now=began + later + 1: now))
        await views.prepare(["followed"], ())
        assert views._views.keys() == left
