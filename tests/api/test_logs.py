"""GET /channels/{id}/logs."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from junebug.config.declaration import Settings
from tests.api.conftest import Api, running_api
from tests.tables import rows


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with running_api(dataclasses.replace(settings, max_logs=5)) as running:
        yield running


async def logged(api: Api, count: int = 8) -> str:
    """A channel that logged `count` lines, the older half of them rotated."""
    channel = await api.create()
    directory = Path(api.settings.logging_path)
    directory.mkdir(parents=True, exist_ok=True)
    lines = [
        orjson.dumps({"logger": channel, "level": 20, "timestamp": n, "message": f"line {n}", "message_id": f"m{n % 2}"})
        for n in range(count)
    ]
    (directory / f"{channel}.1").write_bytes(b"\n".join(lines[: count // 2]) + b"\n")
    (directory / channel).write_bytes(b"\n".join(lines[count // 2 :]) + b"\n")
    return channel


@pytest.fixture
async def eight_lines(api: Api) -> str:
    return await logged(api)


@rows(
    ("query", "expected"),
    [
        ("", [7, 6, 5, 4, 3]),
        ("?n=2", [7, 6]),
        ("?n=0", []),
        ("?n=5", [7, 6, 5, 4, 3]),
        ("?n=100", [7, 6, 5, 4, 3]),
        (f"?n={'9' * 5000}", [7, 6, 5, 4, 3]),
        ("?message_id=m1", [7, 5, 3, 1]),
        ("?message_id=m1&n=1", [7]),
        ("?message_id=unknown", []),
        ("?message_id=%FF%00%E2%82%AC", []),
    ],
)
async def test_the_newest_entries_come_first(
    api: Api, eight_lines: str, query: str, expected: list[int]
) -> None:
    answer = await api("GET", f"/channels/{eight_lines}/logs{query}")
    assert (answer.status, answer.description) == (200, "logs retrieved")
    assert [entry["timestamp"] for entry in answer.result] == expected


@rows("n", ["-1", "x", "1.5", "", "1e3", "%20", "%D9%A3", "+1"])
async def test_an_n_that_is_no_number_is_named(api: Api, eight_lines: str, n: str) -> None:
    answer = await api("GET", f"/channels/{eight_lines}/logs?n={n}")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert answer.errors[0]["message"].startswith("n:")


async def test_a_channel_that_never_logged_has_no_entries(api: Api) -> None:
    channel = await api.create()
    assert (await api("GET", f"/channels/{channel}/logs")).result == []


async def test_the_log_of_a_deleted_channel_is_404(api: Api) -> None:
    channel = await logged(api)
    await api("DELETE", f"/channels/{channel}")
    assert (await api("GET", f"/channels/{channel}/logs")).status == 404
