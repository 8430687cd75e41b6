"""`junebug logs`: what a channel, a router or a destination has logged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from junebug.client.command import Junebug, api_command
from junebug.client.output import shown
from junebug.client.targets import target_of, target_parameters

LEVELS = {10: ("debug", "dim"), 20: ("info", ""), 30: ("warning", "yellow"), 40: ("error", "bold red")}
SHOWN_ALREADY = {"logger", "level", "timestamp", "message", "exception"}


@api_command(
    "logs", "The newest log entries of a channel, a router or a destination, the newest last.", *target_parameters(),
    click.Option(["-n", "number"], type=click.IntRange(1), help="How many. Default: as many as Junebug gives."),
    click.Option(["--message", "message_id"], metavar="ID", help="Only entries of this message."),
)  # fmt: skip
def logs(
    junebug: Junebug, channel: str | None, router: str | None, destination: str | None, number: int | None, message_id: str | None
) -> None:
    target = target_of(junebug.api, channel, router, destination)
    entries = target.logs(*target.ids, n=number, message_id=message_id)[::-1]
    if junebug.out.as_json:
        return junebug.out.document(entries)
    for entry in entries:
        junebug.out.line(*log_cells(entry))


def log_cells(entry: dict[str, Any]) -> list[str | Text]:
    """A line of a log, for people."""
    level, style = LEVELS.get(int(entry.get("level") or 20), ("info", ""))
    more = [f"{name}={shown(value)}" for name, value in entry.items() if name not in SHOWN_ALREADY]
    if raised := entry.get("exception"):
        more.append(f"({raised.get('class')}: {raised.get('instance')})")
    at = datetime.fromtimestamp(float(entry.get("timestamp") or 0), UTC)
    return [at.strftime("%Y-%m-%d %H:%M:%S"), Text(level, style=style), str(entry.get("message")), *more]
