"""`junebug`: the group of an operator's commands."""

from __future__ import annotations

import click

from junebug import __version__
from junebug.client.command import Commands

_commands = Commands(
    {
        "channels": ("junebug.client.channels:channels", "Channels: list, show, create, edit, restart, pause, resume, delete."),
        "routers": ("junebug.client.routers:routers", "Routers and their destinations."),
        "send": ("junebug.client.send:send", "Send a message, or one for each row of a CSV file."),
        "messages": ("junebug.client.messages:messages", "Search messages."),
        "timeline": ("junebug.client.messages:timeline", "The life of a message: where it is and why."),
        "tail": ("junebug.client.tail:tail", "What happens, as it happens."),
        "logs": ("junebug.client.logs:logs", "What a channel, a router or a destination has logged."),
        "dead-letters": ("junebug.client.dead_letters:dead_letters", "What an application did not take: list, replay, delete."),
        "tokens": ("junebug.client.tokens:tokens", "API tokens: who may use the API, and for what."),
        "hosts": ("junebug.client.hosts:hosts", "Hosts that share the channels: list, drain, undrain."),
        "doctor": ("junebug.client.doctor.command:doctor", "What may be wrong with this Junebug, and what to do."),
        "backup": ("junebug.client.backup:backup", "Everything that Junebug keeps in Redis, into a file."),
        "restore": ("junebug.client.backup:restore", "What `junebug backup` wrote, into a Redis."),
        "completion": ("junebug.client.completion:completion", "What makes a shell complete commands, options and ids."),
    },
    name="junebug",
    help="What an operator does with a Junebug.",
)
main = click.version_option(__version__, message="Junebug %(version)s", help="Show the version and exit.")(_commands)
