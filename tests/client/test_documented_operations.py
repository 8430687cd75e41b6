"""The operators' commands in docs/operations.md, upgrading.md and compose.yaml are commands, and their options are there."""

from __future__ import annotations

import re
import shlex

from junebug.client.main import main
from tests.harness import ROOT

PAGES = ("docs/operations.md", "docs/upgrading.md", "compose.yaml", "README.md")
_LINE = re.compile(r"^[^|\n`]*\bjunebug ((?:doctor|backup|restore)\b[^\n|>`]*)", re.MULTILINE)


def documented() -> list[list[str]]:
    found = [line for page in PAGES for line in _LINE.findall((ROOT / page).read_text())]
    return [shlex.split(line, comments=True) for line in found]


def test_the_documented_commands_are_understood() -> None:
    commands = documented()
    assert {words[0] for words in commands} == {"doctor", "backup", "restore"}
    assert len(commands) > 10
    with main.make_context("junebug", ["doctor"]) as context:
        for name, *words in commands:
            command = main.get_command(context, name)
            assert command is not None, name
            command.make_context(name, words, parent=context).close()  # raises a UsageError
