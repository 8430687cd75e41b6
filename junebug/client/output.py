"""What a command shows: tables for people, JSON for scripts.

On a terminal tables are drawn (NO_COLOR: without colours); elsewhere a table is a line of tab-separated names and a line for
each row. With `--json` a command prints one JSON document instead. What others wrote (a label, a message) moves no cursor and
forges no line: control characters are shown as Python writes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from junebug.logs.redaction import escape_controls

COLOURS = {"ok": "green", "degraded": "yellow", "down": "bold red"}
"""Of statuses; whoever shows others says their style."""
Cell = str | int | float | bool | Text | None


class Output:
    """`as_json`: one document, and nothing else, on stdout."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

    @property
    def is_terminal(self) -> bool:
        return self.console.is_terminal

    def document(self, value: Any) -> None:
        print(_json(value, 2))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]], value: Any) -> None:
        """`value`: the same for scripts."""
        if self.as_json:
            self.document(value)
        elif self.is_terminal:
            drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
            for column in columns:
                drawn.add_column(column, overflow="fold")
            for row in rows:
                drawn.add_row(*map(_text, row))
            self.console.print(drawn)
        else:
            for row in (columns, *rows):
                print(*(_text(cell).plain for cell in row), sep="\t")

    def fields(self, fields: Mapping[str, Cell], value: Any) -> None:
        """One thing: a line for each of what is known of it."""
        if self.as_json:
            self.document(value)
        elif self.is_terminal:
            drawn = Table.grid(padding=(0, 2, 0, 0))
            drawn.add_column(style="bold", no_wrap=True)
            drawn.add_column(overflow="fold")
            for name, cell in fields.items():
                drawn.add_row(name, _text(cell))
            self.console.print(drawn)
        else:
            for name, cell in fields.items():
                print(name, _text(cell).plain, sep="\t")

    def made(self, id: str, only_id: bool) -> bool:
        """Whether the id was asked for, and is printed then: it is all that a shell wants."""
        if only_id:
            print(id)
        return only_id

    def line(self, *cells: Cell) -> None:
        """For people; nothing with --json."""
        if not self.as_json:
            self.console.print(Text(" ").join(map(_text, cells)), soft_wrap=True)

    def entry(self, value: Any, *cells: Cell) -> None:
        """One of a stream: a line of text or of JSON, at once."""
        if self.as_json:
            print(_json(value), flush=True)
        else:
            self.line(*cells)
            sys.stdout.flush()

    def done(self, text: str, value: Any) -> None:
        """What was done: for people on stderr, for scripts what the API answered."""
        if self.as_json:
            self.document(value)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """On stderr: what was done, or is to be known besides."""
        self.errors.print(Text(shown(text)), soft_wrap=True)


def status_cell(status: str | None) -> Text:
    return Text(status or "-", style=COLOURS.get(status or "", "dim"))


def shown(value: Any) -> str:
    """For a cell: a text as it is, anything else as JSON has it; `-` for nothing."""
    if value is None or value == "":
        return "-"
    return escape_controls(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def _json(value: Any, indent: int | None = None) -> str:
    """With the controls that JSON leaves as they are escaped, too: some terminals obey them."""
    return json.dumps(value, indent=indent, ensure_ascii=False).translate(_MORE_CONTROLS)


_MORE_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def _text(cell: Cell) -> Text:
    return Text(escape_controls(cell.plain), style=cell.style) if isinstance(cell, Text) else Text(shown(cell))
