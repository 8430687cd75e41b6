"""`junebug channels`: list, show, create, edit, restart, pause, resume, delete."""

from __future__ import annotations

from typing import Any

from junebug.client.command import Junebug, api_command, group
from junebug.client.completion import channel_types
from junebug.client.resources import (
    LISTED,
    body_of,
    channel_schema,
    confirmed,
    id_option,
    ids_option,
    new_body,
    property_options,
    show,
    show_all,
    show_made,
    type_option,
    yes_option,
)
from junebug.client.targets import channel_argument

PROPERTIES = ("label", "mo_url", "status_url", "amqp_queue", "character_limit", "rate_limit_count", "rate_limit_window")


@api_command("list", "The channels, and how each is.", ids_option())
def list_channels(junebug: Junebug, ids: bool) -> None:
    show_all(junebug, junebug.api.list_channels(), junebug.api.get_channel, LISTED, ids)


@api_command("show", "A channel: its properties, its config and its status.", channel_argument())
def show_channel(junebug: Junebug, channel: str) -> None:
    show(junebug, junebug.api.get_channel(channel))


@api_command(
    "create", "Make a channel, from flags or a JSON file.",
    type_option(channel_types, "As `telnet` or `smpp`: docs/channel-types.md."), *property_options(*PROPERTIES), id_option(),
)  # fmt: skip
def create(junebug: Junebug, only_id: bool, **given: Any) -> None:
    show_made(junebug, junebug.api.create_channel(new_body(given, channel_schema(junebug.api), "channel")), only_id)


@api_command(
    "edit", "Change a channel: what is given changes, the rest stays, also within its config.",
    channel_argument(), *property_options(*PROPERTIES, is_edit=True),
)  # fmt: skip
def edit(junebug: Junebug, channel: str, **given: Any) -> None:
    old = junebug.api.get_channel(channel)
    show(junebug, junebug.api.update_channel(channel, body_of(given, channel_schema(junebug.api), old)))


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
