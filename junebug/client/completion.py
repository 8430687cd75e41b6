"""`junebug completion`, and what completes ids at the prompt."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from junebug.client.command import DEFAULT_URL, SETTINGS
from junebug.client.exits import Failure

if TYPE_CHECKING:
    from junebug.client.api import Api

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
"""What completes a parameter."""
TIMEOUT = 1.0
"""Seconds: somebody waits at the prompt, and no completion is better than a late one."""
MOST_LABELS = 20
"""Ids of which the labels are asked for, too."""
SHELLS = ("bash", "zsh", "fish")


@click.command("completion", context_settings=dict(SETTINGS))
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and ids.

    bash: eval "$(junebug completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; fish: junebug completion fish >
    ~/.config/fish/completions/junebug.fish
    """
    from junebug.client.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(main, {}, "junebug", "_JUNEBUG_COMPLETE").source())


def channel_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _ids(ctx, incomplete, lambda api: api.list_channels(), lambda api, id: api.get_channel(id))


def router_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _ids(ctx, incomplete, lambda api: api.list_routers(), lambda api, id: api.get_router(id))


def destination_ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    router = ctx.params.get("router") or ctx.params.get("router_id")
    if not router:
        return []
    return _ids(
        ctx, incomplete, lambda api: api.list_destinations(router), lambda api, id: api.get_destination(router, id)
    )


def channel_types(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _installed("junebug.channel_types", incomplete)


def router_types(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _installed("junebug.router_types", incomplete)


def _installed(group: str, incomplete: str) -> list[CompletionItem]:
    from importlib.metadata import entry_points

    return [CompletionItem(each.name) for each in entry_points(group=group) if each.name.startswith(incomplete)]


def _ids(
    ctx: click.Context, incomplete: str, listed: Callable[[Api], list[str]], get: Callable[[Api, str], Any]
) -> list[CompletionItem]:
    """None where the API does not tell: nothing is printed into a prompt."""
    from junebug.client.api import Api

    url = ctx.params.get("url") or os.environ.get("JUNEBUG_URL") or DEFAULT_URL
    token = ctx.params.get("token") or os.environ.get("JUNEBUG_TOKEN")
    try:
        with Api(url, token, 0, timeout=TIMEOUT) as api:
            found = [id for id in listed(api) if id.startswith(incomplete)]
            labels = {id: get(api, id).get("label") for id in found} if len(found) <= MOST_LABELS else {}
    except Failure:
        return []
    return [CompletionItem(id, help=labels.get(id)) for id in found]
