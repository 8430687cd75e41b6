"""`junebug messages` and `junebug timeline`: which messages there were, and the life of one."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from junebug.client.command import Junebug, api_command
from junebug.client.completion import channel_ids
from junebug.client.output import Cell, shown
from junebug.client.targets import ID, router_options, target_of
from junebug.client.values import moment

PAGE = 500
"""Messages that are asked for at a time."""
STYLES = {
    "submitted": "green", "delivered": "green", "delivery_succeeded": "green", "rejected": "red", "delivery_failed": "red",
    "dead": "red", "expired": "red", "cancelled": "yellow",
}  # fmt: skip
WAYS = {"inbound": "in", "outbound": "out"}
TIME = "A time (UTC), or how long ago: 30m, 2h, 7d."


@api_command(
    "messages",
    "Search messages, the newest first.",
    click.Option(["--to"], help="Whom they were for."),
    click.Option(["--from", "from_"], help="Whom they were from."),
    click.Option(["--since"], metavar="TIME", help=TIME),
    click.Option(["--until"], metavar="TIME", help=TIME),
    click.Option(["--status"], help="What became of them: submitted, rejected, ..."),
    click.Option(["--direction"], type=click.Choice(["inbound", "outbound"]), help="From phones, or to them."),
    click.Option(["--channel", "channel_id"], metavar="ID", shell_complete=channel_ids, help="Of this channel."),
    click.Option(["--limit"], type=click.IntRange(1), default=100, help="How many at the most. Default: 100."),
)
def messages(
    junebug: Junebug, to: str | None, from_: str | None, since: str | None, until: str | None, status: str | None,
    direction: str | None, channel_id: str | None, limit: int,
) -> None:  # fmt: skip
    query: dict[str, Any] = {
        "to": to, "from_": from_, "since": moment(since), "until": moment(until), "status": status, "direction": direction,
        "channel_id": channel_id,
    }  # fmt: skip
    found: list[Any] = []
    cursor: str | None = None
    missing = "complete"
    while len(found) < limit:
        page = junebug.api.find_messages(**query, limit=min(PAGE, limit - len(found)), cursor=cursor)
        found += page["messages"]
        cursor = page["cursor"]
        missing = page["logs"] if missing == "complete" else missing
        if cursor is None:
            break
    junebug.out.table(
        ["TIME", "", "FROM", "TO", "STATUS", "CHANNEL", "MESSAGE"],
        [
            (each["timestamp"][:19], WAYS.get(each["direction"]), each.get("from"), each.get("to"),
             _status(each["status"]), each["channel_id"], each["message_id"])
            for each in found
        ],
        {"messages": found, "cursor": cursor, "logs": missing},
    )  # fmt: skip
    if missing != "complete":
        junebug.out.note(f"not all could be looked at: {missing}")
    if cursor is not None and not junebug.out.as_json:
        junebug.out.note(f"the newest {len(found)}; --limit shows more")


@api_command(
    "timeline",
    "The life of a message: where it is, and why. With --router, MESSAGE alone is given.",
    click.Argument(["channel"], required=False, type=ID, shell_complete=channel_ids),
    click.Argument(["message"], required=False, type=ID),
    *router_options(),
)
def timeline(
    junebug: Junebug, channel: str | None, message: str | None, router: str | None, destination: str | None
) -> None:
    if router is not None and message is None:
        channel, message = None, channel
    if message is None:
        raise click.UsageError("give CHANNEL MESSAGE, or --router ID MESSAGE")
    target = target_of(junebug.api, channel, router, destination)
    life = target.timeline(*target.ids, message)
    if junebug.out.as_json:
        return junebug.out.document(life)
    summary: dict[str, Cell] = {"message": life["message_id"], "direction": life["direction"], "status": _status(life["status"])}
    if waiting := life.get("waiting"):
        until = f" until {waiting['until']}" if waiting.get("until") else ""
        summary["waits for"] = f"{waiting['for']}, since {waiting['since']}{until}"
    summary |= {name: life[name] for name in ("logs", "dead_letters") if life.get(name, "complete") != "complete"}
    junebug.out.line(Text(shown(life["summary"]), style="bold"))
    junebug.out.fields(summary, life)
    junebug.out.line("")
    junebug.out.table(
        ["TIME", "WHAT", "", "DETAILS"],
        [(each["timestamp"], each["kind"], each["description"], _details(each.get("details"))) for each in life["steps"]],
        life,
    )


def _status(status: str | None) -> Text:
    return Text(status or "-", style=STYLES.get(status or "", ""))


def _details(details: dict[str, Any] | None) -> str:
    return " ".join(f"{name}={shown(value)}" for name, value in (details or {}).items())
