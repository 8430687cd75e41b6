"""`junebug`: the group of an operator's commands."""

from __future__ import annotations

from junebug.client.command import Commands

main = Commands(
    {
        "tokens": ("junebug.client.tokens:tokens", "API tokens: who may use the API, and for what."),
        "completion": ("junebug.client.completion:completion", "What makes a shell complete commands, options and ids."),
    },
    name="junebug",
    help="What an operator does with a Junebug.",
)
