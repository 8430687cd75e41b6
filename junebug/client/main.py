"""`junebug`: the group of an operator's commands."""

from __future__ import annotations

import click

from junebug.client.tokens import tokens


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """What an operator does with a Junebug."""


main.add_command(tokens)
