"""`junebug send`: one message, by a channel, a router or a destination; with `--csv` many (csv_send.py)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from junebug.client.command import Junebug, api_command
from junebug.client.completion import channel_ids
from junebug.client.exits import Exit, Failure
from junebug.client.output import Cell, shown
from junebug.client.targets import ID, Target, router_options, target_of
from junebug.client.values import Json, assign, read_text

WAIT = 60.0
"""Seconds that --wait waits, unless --timeout says otherwise."""
FIRST_POLL, LONGEST_POLL = 0.1, 2.0
GOOD, BAD = {"submitted", "delivery_succeeded"}, {"rejected", "delivery_failed"}
FIELDS = ("to", "from", "group", "reply_to", "content", "event_url", "event_auth_token", "priority", "expires_at", "validity")
"""Of a message, as the API has them, that are a value each; beside them there is channel_data."""


def _field(name: str, help: str, **options: Any) -> click.Option:
    return click.Option([f"--{name.replace('_', '-')}", f"field_{name}"], help=help, **options)


@api_command(
    "send",
    "Send a message, or one for each row of a CSV file.",
    click.Option(["--channel"], metavar="ID", type=ID, shell_complete=channel_ids, help="What sends it."),
    *router_options(),
    _field("to", "Whom it is for."),
    _field("from", "Whom it is from, where the channel has a choice."),
    _field("content", "The text; -: stdin."),
    _field("reply_to", "The id of the inbound message that it answers, in place of --to.", metavar="ID"),
    _field("group", "The group or room it is for."),
    _field("priority", "1 to 5; 5 goes first.", type=click.IntRange(1, 5)),
    _field("expires_at", "It is not sent after this time (UTC).", metavar="TIME"),
    _field("validity", "The same, in seconds from now.", type=float, metavar="SECONDS"),
    _field("event_url", "Where its events are POSTed to.", metavar="URL"),
    click.Option(["--channel-data"], multiple=True, metavar="KEY=VALUE", help="For the channel's type. May be repeated."),
    click.Option(["--idempotency-key"], metavar="TEXT", help="The same key again sends nothing again. Default: a new one."),
    click.Option(["--dry-run"], is_flag=True, help="Send nothing; show how it would be."),
    click.Option(["--wait"], is_flag=False, flag_value="submitted", type=click.Choice(["submitted", "delivered"]),
                 help="Wait until the provider took it; --wait=delivered: until the phone has it."),
    click.Option(["--timeout"], type=click.FloatRange(0, min_open=True), default=WAIT, metavar="SECONDS",
                 help=f"How long --wait waits. Default: {WAIT:g}."),
    click.Option(["--id", "only_id"], is_flag=True, help="Print the id of the message, and nothing else."),
    click.Option(["--csv", "csv_file"], metavar="FILE", help="A message for each row; the columns are named as the fields of a"
                 " message: to, content, from, ... What is given as a flag holds where a row says nothing."),
    click.Option(["--batch-size"], type=click.IntRange(1, 10_000), default=1000, help="Rows in a request. Default: 1000."),
    click.Option(["--again"], is_flag=True, help="Begin the CSV file from its first row, whatever was sent of it before."),
    click.Option(["--patience"], type=click.FloatRange(0), default=300.0, metavar="SECONDS",
                 help="How long a CSV file waits for a Junebug that is away. Default: 300."),
)  # fmt: skip
def send(
    junebug: Junebug, channel: str | None, router: str | None, destination: str | None, channel_data: Sequence[str],
    idempotency_key: str | None, dry_run: bool, wait: str | None, timeout: float, csv_file: str | None, only_id: bool,
    batch_size: int, again: bool, patience: float, **fields: Any,
) -> int:  # fmt: skip
    target = target_of(junebug.api, channel, router, destination, "--channel")
    message: Json = {name: fields[f"field_{name}"] for name in FIELDS if fields.get(f"field_{name}") is not None}
    if channel_data:
        message["channel_data"] = assign({}, channel_data, {}, "--channel-data")
    if csv_file is not None:
        if dry_run or wait or idempotency_key or channel is None:
            raise click.UsageError("--csv goes with --channel, and not with --dry-run, --wait and --idempotency-key")
        from junebug.client import csv_send

        return csv_send.send_file(junebug, channel, csv_file, message, batch_size, again, patience)

    if "content" not in message:
        raise click.UsageError("--content: what is it to say?")
    if message["content"] == "-":
        message["content"] = read_text().rstrip("\n")
    if dry_run:
        run = target.dry_run(*target.ids, message)
        _show_dry_run(junebug, run)
        return Exit.FAILED if run.get("rejected") else Exit.GOOD
    sent = target.send(*target.ids, message, idempotency_key=idempotency_key)
    if junebug.out.made(sent["message_id"], only_id and not wait):
        return Exit.GOOD
    if not wait:
        junebug.out.fields({name: shown(sent.get(name)) for name in ("message_id", "channel_id", "to", "timestamp")}, sent)
        return Exit.GOOD
    return _wait(junebug, target, sent, {"delivery_succeeded"} if wait == "delivered" else GOOD, timeout)


def _wait(junebug: Junebug, target: Target, sent: Json, good: set[str], timeout: float) -> int:
    """Until it is known what became of the message."""
    ends, pause = time.monotonic() + timeout, FIRST_POLL
    while True:
        status = target.status(*target.ids, sent["message_id"])
        told = {event["event_type"] for event in status["events"]}
        if told & (good | BAD):
            break
        if time.monotonic() > ends:
            last = status.get("last_event_type") or "no event"
            raise Failure(f"message {sent['message_id']}: {last} within {timeout:g} s; `junebug timeline` says where it is")
        time.sleep(min(pause, max(0.0, ends - time.monotonic())))
        pause = min(pause * 1.5, LONGEST_POLL)
    fields: dict[str, Cell] = {name: shown(sent.get(name)) for name in ("message_id", "channel_id", "to", "timestamp")}
    for event in status["events"]:
        fields[event["event_type"]] = f"{event['timestamp']} {shown(event.get('event_details') or None)}".rstrip(" -")
    junebug.out.fields(fields, {**sent, "events": status["events"]})
    return Exit.FAILED if told & BAD else Exit.GOOD


def _show_dry_run(junebug: Junebug, run: Json) -> None:
    """What the API answers to ?dry_run=true (docs/http-api.md)."""
    encoding, estimate, cost = run.get("encoding") or {}, run.get("estimate") or {}, run.get("cost") or {}
    parts = run.get("parts") or []
    fields: dict[str, Cell] = {name: shown(run.get(name)) for name in ("channel_id", "to", "from")}
    fields |= {
        "encoding": f"{encoding.get('name')}: {encoding.get('reason')}" if encoding else None,
        "characters": run.get("characters"),
        "octets": run.get("octets"),
        "replaced": _replaced(run.get("replaced")),
        "gsm_safe would replace": _replaced(run.get("would_replace")),
        "would be rejected": run.get("rejected"),
        "leaves in": f"{estimate['seconds']:g} s" if estimate.get("seconds") is not None else None,
        "because": "; ".join(estimate.get("reasons") or ()),
        "cost": f"{cost['amount']} {cost.get('currency') or ''}".strip() if cost else None,
        "chosen for": run.get("reason"),
    }
    fields |= {f"part {number}": shown(part.get("content")) for number, part in enumerate(parts, 1)}
    junebug.out.fields({name: value for name, value in fields.items() if value not in (None, "", "-")}, run)


def _replaced(characters: Sequence[Json] | None) -> str:
    return " ".join(f"{each['character']}→{each['by']}" for each in characters or ())
