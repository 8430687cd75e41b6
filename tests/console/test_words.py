"""What the pages list by hand is what Junebug knows."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from junebug import names
from junebug.api.life.outcome import INBOUND_STATUSES, OUTBOUND_STATUSES
from junebug.api.life.search import STATUSES
from junebug.api.life.step import KINDS as STEP_KINDS
from junebug.api.schemas import MESSAGE_SEND
from junebug.api.views import RATE_NAMES
from junebug.model.access import SCOPES
from junebug.model.log_kinds import KINDS
from junebug.model.messages import STATUS_LEVELS
from tests.console.conftest import Console

pytestmark = pytest.mark.asyncio(loop_scope="package")

TRAFFIC = {"inbound_message_rate", "outbound_message_rate"}
CONSOLE_MD = Path(__file__).parents[2] / "docs/console.md"


async def test_words_are_those_of_the_api(console: Console) -> None:
    wanted: dict[str, Collection[Any]] = {
        "messages.STATUSES": STATUSES,
        "messages.DIRECTIONS": ("outbound", "inbound"),
        "Object.values(messages.OUTCOMES).flat()": {*OUTBOUND_STATUSES, *INBOUND_STATUSES},
        "Object.values(messages.STEPS).flat()": STEP_KINDS,
        "tokens.SCOPES.map(([scope]) => scope)": SCOPES,
        "logs.KINDS": KINDS,
        "widgets.WORDS": STATUS_LEVELS,
        "channel.RATES.map(([rate]) => rate)": {*RATE_NAMES.values()} - TRAFFIC,
        "[...send.FIELDS, ...send.MORE].map(([name]) => name)": MESSAGE_SEND["properties"],
        "send.MORE.find(([name]) => name === 'priority')[1].enum": range(names.LOWEST_PRIORITY, names.HIGHEST_PRIORITY + 1),
    }
    await console.open("nowhere")
    files = ["channel", "logs", "messages", "send", "tokens", "widgets"]
    imports = ", ".join(f"import('{console.url}/console/{file}.js')" for file in files)
    found = await console.page.evaluate(f"Promise.all([{imports}]).then(([{', '.join(files)}]) => [{', '.join(wanted)}])")
    assert [sorted(each) for each in found] == [sorted(each) for each in wanted.values()]


async def test_its_keys_are_documented(console: Console) -> None:
    await console.open("nowhere")
    await console.press("?")
    shown = await console.page.locator("dialog tr").evaluate_all(
        "rows => rows.map((row) => [...row.querySelectorAll('kbd')].map((key) => key.textContent))"
    )
    keys = CONSOLE_MD.read_text().partition("## Keys")[2].partition("\n## ")[0]
    documented = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in keys.splitlines() if row.startswith("| `")]
    after_g = [["g", key] for each in documented if each[0] == "g" for key in each[1:]]
    assert sorted(shown) == sorted([*after_g, *(each[:2] for each in documented if each[0] != "g")])
