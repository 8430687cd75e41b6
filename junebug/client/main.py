"""`junebug`: the group of an operator's commands."""

from __future__ import annotations

import click

from junebug.cli import VERSION
from junebug.client.backup import backup, restore
from junebug.client.doctor.command import doctor
from junebug.client.tokens import tokens


@click.group(params=[VERSION], context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """What an operator does with a Junebug."""


for each in (tokens, doctor, backup, restore):
    main.add_command(each)
