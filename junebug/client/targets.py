"""What a command is about: a channel, a router, or a destination of one. Each has methods of its own in junebug_client, of the
same parameters and results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from junebug.client.completion import channel_ids, destination_ids, router_ids

if TYPE_CHECKING:
    from junebug.client.api import Api


class _Id(click.ParamType[str]):
    """What can be a part of a path."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in ("", ".", ".."):
            self.fail(f"{value!r} is no id", param, ctx)
        return value


ID = _Id()


def channel_argument() -> click.Argument:
    return click.Argument(["channel"], type=ID, shell_complete=channel_ids)


def router_argument() -> click.Argument:
    return click.Argument(["router"], type=ID, shell_complete=router_ids)


def destination_argument() -> click.Argument:
    return click.Argument(["destination"], type=ID, shell_complete=destination_ids)


def router_options() -> list[click.Parameter]:
    return [
        click.Option(["--router"], metavar="ID", type=ID, shell_complete=router_ids, help="A router, in place of a channel."),
        click.Option(["--destination"], metavar="ID", type=ID, shell_complete=destination_ids, help="One of the router's."),
    ]


def target_parameters() -> list[click.Parameter]:
    """CHANNEL, or --router and maybe --destination."""
    return [click.Argument(["channel"], required=False, type=ID, shell_complete=channel_ids), *router_options()]


Method = Callable[..., Any]


@dataclass(frozen=True)
class Target:
    """`ids`: the channel's, the router's, or the router's and the destination's: in this order they come first in a call."""

    name: str
    ids: tuple[str, ...]
    logs: Method
    send: Method
    dry_run: Method
    status: Method
    timeline: Method
    dead_letters: Method
    replay: Method
    delete_letters: Method
    delete_letter: Method

    def __str__(self) -> str:
        return f"{self.name} {' '.join(self.ids)}"


def target_of(api: Api, channel: str | None, router: str | None, destination: str | None, flag: str = "CHANNEL") -> Target:
    """Raises UsageError unless exactly one is meant."""
    if (channel is None) == (router is None):
        raise click.UsageError(f"give either {flag} or --router")
    if channel is not None:
        if destination is not None:
            raise click.UsageError("--destination goes with --router")
        return Target(
            "channel", (channel,), api.get_channel_logs, api.send_message, api.dry_run_message, api.get_message_status,
            api.get_message_timeline, api.list_dead_letters, api.replay_dead_letters, api.delete_dead_letters,
            api.delete_dead_letter,
        )  # fmt: skip
    assert router is not None
    if destination is None:
        return Target(
            "router", (router,), api.get_router_logs, api.send_message_by_router, api.dry_run_message_by_router,
            api.get_message_status_of_router, api.get_message_timeline_of_router, api.list_router_dead_letters,
            api.replay_router_dead_letters, api.delete_router_dead_letters, api.delete_router_dead_letter,
        )  # fmt: skip
    return Target(
        "destination", (router, destination), api.get_destination_logs, api.send_message_by_destination,
        api.dry_run_message_by_destination, api.get_message_status_of_destination, api.get_message_timeline_of_destination,
        api.list_destination_dead_letters, api.replay_destination_dead_letters, api.delete_destination_dead_letters,
        api.delete_destination_dead_letter,
    )  # fmt: skip
