"""`junebug channels`: list, show, create, edit, restart, pause, resume, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import click
from junebug_client.models import ChannelCreate, ChannelUpdate

from junebug.client.command import Junebug, api_command, group
from junebug.client.completion import channel_types
from junebug.client.exits import Exit, Failure
from junebug.client.output import status_cell
from junebug.client.resources import (
    body_of,
    channel_schema,
    confirmed,
    id_option,
    property_options,
    show,
    show_made,
    yes_option,
)
from junebug.client.targets import channel_argument

AT_ONCE = 4
"""Channels that are asked for at a time."""
PROPERTIES = ("label", "mo_url", "status_url", "amqp_queue", "character_limit", "rate_limit_count", "rate_limit_window")


def ids_option() -> click.Option:
    return click.Option(["--ids"], is_flag=True, help="Their ids alone: one request.")


@api_command("list", "The channels, and how each is.", ids_option())
def list_channels(junebug: Junebug, ids: bool) -> None:
    known = junebug.api.list_channels()
    if ids:
        return junebug.out.table(["ID"], [[id] for id in known], known)
    channels = all_of(junebug.api.get_channel, known)
    junebug.out.table(
        ["ID", "TYPE", "LABEL", "STATUS", "QUEUE", "CALLBACKS", "DEAD"],
        [
            (each["id"], each["type"], each.get("label"), status_cell(_state(each["status"])), each["status"].get("queue_length"),
             each["status"].get("callbacks_waiting"), each["status"].get("dead_letters"))
            for each in channels
        ],
        channels,
    )  # fmt: skip


def all_of(get: Callable[[str], Any], ids: Iterable[str]) -> list[dict[str, Any]]:
    """Those that are there still, in their order."""

    def one(id: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = get(id)
        except Failure as failure:
            if failure.exit_code is Exit.NOT_FOUND:
                return None
            raise
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [each for each in pool.map(one, ids) if each is not None]


def _state(status: dict[str, Any]) -> str | None:
    return "paused" if (status.get("queue") or {}).get("paused") else status.get("status")


@api_command("show", "A channel: its properties, its config and its status.", channel_argument())
def show_channel(junebug: Junebug, channel: str) -> None:
    show(junebug, junebug.api.get_channel(channel))


@api_command(
    "create", "Make a channel, from flags or a JSON file.",
    click.Option(["--type", "kind"], metavar="TYPE", shell_complete=channel_types,
                 help="As `telnet` or `smpp`: docs/channel-types.md."),
    *property_options(*PROPERTIES), id_option(),
)  # fmt: skip
def create(junebug: Junebug, kind: str | None, only_id: bool, **given: Any) -> None:
    body = body_of(given, channel_schema(junebug.api), extra={"type": kind} if kind else None)
    if "type" not in body:
        raise click.UsageError("--type: what kind of channel?")
    show_made(junebug, junebug.api.create_channel(cast(ChannelCreate, body)), only_id)


@api_command(
    "edit", "Change a channel: what is given changes, the rest stays, also within its config.",
    channel_argument(), *property_options(*PROPERTIES, is_edit=True),
)  # fmt: skip
def edit(junebug: Junebug, channel: str, **given: Any) -> None:
    old = junebug.api.get_channel(channel)
    body = body_of(given, channel_schema(junebug.api), old)
    show(junebug, junebug.api.update_channel(channel, cast(ChannelUpdate, body)))


@api_command("restart", "End a channel's process and start it anew.", channel_argument())
def restart(junebug: Junebug, channel: str) -> None:
    junebug.api.restart_channel(channel)
    junebug.out.done(f"restarted {channel}", {})


@api_command("pause", "Hold back what is to be sent; it is taken and waits.", channel_argument())
def pause(junebug: Junebug, channel: str) -> None:
    junebug.out.done(f"paused {channel}", junebug.api.pause_channel(channel))


@api_command("resume", "Send again what is held back.", channel_argument())
def resume(junebug: Junebug, channel: str) -> None:
    junebug.out.done(f"resumed {channel}", junebug.api.resume_channel(channel))


@api_command("delete", "Delete a channel, and what waits in it.", channel_argument(), yes_option())
def delete(junebug: Junebug, channel: str, yes: bool) -> None:
    if not yes:
        status = junebug.api.get_channel(channel)["status"]
        waiting = (status.get("queue_length") or 0) + (status.get("callbacks_waiting") or 0)
        more = f", and the {waiting} messages and events that wait in it" if waiting else ""
        confirmed(f"Delete channel {channel}{more}?", yes)
    junebug.api.delete_channel(channel)
    junebug.out.done(f"deleted {channel}", {})


channels = group(
    "channels", "Channels: connections to providers.",
    list_channels, show_channel, create, edit, restart, pause, resume, delete,
)  # fmt: skip
