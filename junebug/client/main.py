"""`junebug`: the group of an operator's commands."""

from __future__ import annotations

from junebug.cli import VERSION
from junebug.client.command import Commands

main = Commands(
    {
        "tokens": ("junebug.client.tokens:tokens", "API tokens: who may use the API, and for what."),
        "doctor": ("junebug.client.doctor.command:doctor", "What may be wrong with this Junebug, and what to do."),
        "backup": ("junebug.client.backup:backup", "Everything that Junebug keeps in Redis, into a file."),
        "restore": ("junebug.client.backup:restore", "What `junebug backup` wrote, into a Redis."),
        "completion": ("junebug.client.completion:completion", "What makes a shell complete commands, options and ids."),
    },
    name="junebug",
    params=[VERSION],
    help="What an operator does with a Junebug.",
)
