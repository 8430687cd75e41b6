"""`junebug tail`: what happens, as it happens, over broken connections and restarts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.text import Text

from junebug.client.command import Junebug, api_command
from junebug.client.completion import channel_ids
from junebug.client.logs import log_cells
from junebug.client.output import shown, status_cell

KINDS = ("status", "event", "message", "log")
EVENTS = {"submitted": "green", "delivery_succeeded": "green", "rejected": "red", "delivery_failed": "red"}


@api_command(
    "tail",
    "What happens, as it happens: statuses, events, messages, log lines. Ctrl-C ends it.",
    click.Option(["--channel", "channels"], multiple=True, metavar="ID", shell_complete=channel_ids,
                 help="Of this channel or router. May be repeated."),
    click.Option(["--kind", "kinds"], multiple=True, type=click.Choice(KINDS), help="May be repeated."),
    click.Option(["-n", "number"], type=click.IntRange(1), help="End after so many."),
    click.Option(["--after", "last_id"], metavar="ID", default="", help="Begin after this one: an `id` that --json showed."),
)  # fmt: skip
def tail(junebug: Junebug, channels: Sequence[str], kinds: Sequence[str], number: int | None, last_id: str) -> None:
    junebug.api.get_liveness()  # or it is told now that Junebug is away; later it is waited for
    for count, event in enumerate(junebug.api.stream_events(channels, kinds, last_event_id=last_id), 1):
        junebug.out.entry({"id": event.id, **event.data}, *_cells(event.kind, event.data))
        if count == number:
            return


def _cells(kind: str, data: dict[str, Any]) -> list[str | Text]:
    """A line for people."""
    at, channel = datetime.fromtimestamp(float(data.get("timestamp") or 0), UTC), str(data.get("channel_id"))
    head: list[str | Text] = [at.strftime("%H:%M:%S.%f")[:-3], Text(channel, style="dim")]
    match kind:
        case "status":
            told = f"{data.get('component')}: {data.get('type')}: {shown(data.get('reason') or data.get('message'))}"
            return [*head, status_cell(data.get("status")), told]
        case "event":
            name = str(data.get("event_type"))
            return [*head, Text(name, style=EVENTS.get(name, "")), str(data.get("message_id")), shown(data.get("reason"))]
        case "message":
            way = f"{shown(data.get('from_addr'))} → {shown(data.get('to_addr'))}"
            return [*head, Text("message", style="cyan"), str(data.get("message_id")), way]
        case "lost":
            return [Text(f"some are left out: {data.get('reason')}", style="yellow")]
        case _:
            return [*head, *log_cells({name: value for name, value in data.items() if name not in ("kind", "channel_id")})[1:]]
