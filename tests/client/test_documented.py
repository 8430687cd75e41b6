"""docs/command-line.md: its examples, line by line against a real Junebug, and what it says of exit codes and commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from junebug.client.exits import Exit
from tests.client import conftest
from tests.client.running import Cli, Ran
from tests.test_docs import blocks
from tests.test_packaging import ROOT

FLAGS = conftest.FLAGS
PAGE = ROOT / "docs" / "command-line.md"
ASSIGNED = re.compile(r"(\w+)=\$\((.+)\)")


def lines() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks(PAGE, "console") for line in block.splitlines()]


class Shell:
    """As much of one as the page needs: variables, and the output of a command in one."""

    def __init__(self, cli: Cli, directory: Path) -> None:
        self.cli = cli
        self.directory = directory
        self.variables: dict[str, str] = {}

    def run(self, line: str) -> Ran:
        assigned = ASSIGNED.fullmatch(line)
        command = assigned[2] if assigned else line
        words = [self._word(word) for word in shlex.split(command)]
        assert words.pop(0) == "junebug"
        ran = self.cli(*words, input="a-secret\n" if "--ask" in words else None)
        if assigned:
            assert re.fullmatch(r"[0-9a-f-]{32,36}\n", ran.good().out), (line, ran)
            self.variables[assigned[1]] = ran.out.strip()
        return ran.good()

    def _word(self, word: str) -> str:
        return self.variables[word[1:]] if word.startswith("$") else re.sub(r"=\$(\w+)", self._value, word)

    def _value(self, found: re.Match[str]) -> str:
        return f"={self.variables[found[1]]}"


def test_every_example_works(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (contacts,) = [block for block in blocks(PAGE, "") if block.startswith("to,content")]
    Path("contacts.csv").write_text(contacts)
    shell = Shell(cli, tmp_path)
    done = []
    for line in lines():
        if line.startswith("junebug tail"):
            with cli.sending(shell.variables["CHANNEL"]):
                shell.run(f"{line} -n 1 --json")
        else:
            done.append(shell.run(line))
    assert len(done) > 25
    assert json.loads(Path("contacts.csv.sending.json").read_text())["rows"] == 2


def test_every_exit_code_is_documented() -> None:
    codes = re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert [int(code) for code in codes] == [*Exit]
