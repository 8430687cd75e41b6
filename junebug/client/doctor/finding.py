"""A finding: what was looked at, how it is, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click
import orjson

from junebug.logs.redaction import escape_controls

Level = Literal["ok", "warning", "failed"]
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True)
class Finding:
    """`check`: one of the names in docs/operations.md. `advice`: what to do; empty where all is well."""

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, "warning", found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    return Finding(check, "failed", found, advice)


def show(findings: Sequence[Finding], as_json: bool) -> int:
    """Print them; the exit code: 1 when one has failed."""
    has_failed = any(each.level == "failed" for each in findings)
    if as_json:
        shown: dict[str, Any] = {"result": "failed" if has_failed else "ok", "findings": findings}
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
        return int(has_failed)
    width = max((len(each.check) for each in findings), default=0)
    for each in findings:
        level = click.style(f"{each.level:<8}", fg=_COLOURS[each.level])
        click.echo(f"{level} {each.check:<{width}}  {escape_controls(each.found)}")
        if each.advice:
            click.echo(f"{'':<8} {'':<{width}}  -> {escape_controls(each.advice)}")
    counts = [sum(each.level == level for each in findings) for level in _COLOURS]
    click.echo(f"{counts[0]} ok, {counts[1]} to look at, {counts[2]} failed")
    return int(has_failed)
