"""What the commands share: where Junebug is, who asks, how it ends.

`api_command` makes a command that asks the API: it gets a `Junebug` and its own parameters, and returns its exit code (none:
0). `Commands` is the group `junebug`: it loads the module of a command when that is called, and tells every error in one line.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from junebug.client.exits import Exit, Failure
from junebug.runtime.title import hide_secrets

if TYPE_CHECKING:  # they are loaded by what asks the API, not by what shows its help or completes it
    from junebug.client.api import Api
    from junebug.client.output import Output

DEFAULT_URL = "http://localhost:8080"
SETTINGS: Mapping[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Of every command and group: pass it as `context_settings`."""


@dataclass(frozen=True)
class Junebug:
    """What a command works with."""

    api: Api
    out: Output


def connection_options(default_url: str | None = DEFAULT_URL) -> list[click.Parameter]:
    """New ones: --url, --token, --json."""
    default = f" Default: {default_url}." if default_url else ""
    return [
        click.Option(["--url"], envvar="JUNEBUG_URL", default=default_url, metavar="URL",
                     help=f"Where the API is; user and password in it are sent. [JUNEBUG_URL]{default}"),
        click.Option(["--token"], envvar="JUNEBUG_TOKEN", metavar="TOKEN",
                     help="An API token. Better in the environment: a command line is read by others. [JUNEBUG_TOKEN]"),
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."),
    ]  # fmt: skip


def api_command(name: str, help: str, *parameters: click.Parameter) -> Callable[[Callable[..., int | None]], click.Command]:
    """A command that asks the API; its function gets a Junebug and the `parameters`."""

    def decorate(run: Callable[..., int | None]) -> click.Command:
        def callback(url: str, token: str | None, as_json: bool, **given: Any) -> int | None:
            from junebug.client.api import Api
            from junebug.client.output import Output

            hide_secrets([token])  # one within the URL is masked as such
            with Api(url, token) as api:
                return run(Junebug(api, Output(as_json)), **given)

        return click.Command(
            name, params=[*parameters, *connection_options()], callback=callback, help=help, context_settings=dict(SETTINGS)
        )

    return decorate


def group(name: str, help: str, *commands: click.Command) -> click.Group:
    return _InOrder(name, help=help, commands=commands, context_settings=dict(SETTINGS))


class _InOrder(click.Group):
    """Its commands are listed as they were given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class Commands(click.Group):
    """The group `junebug`. `lazy`: name -> (`module:command`, help in a line)."""

    def __init__(self, lazy: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options, context_settings=dict(SETTINGS))
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in self._lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        items = [CompletionItem(name, help=help) for name, (_, help) in self._lazy.items() if name.startswith(incomplete)]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **options: Any) -> NoReturn:  # type: ignore[override]
        name = prog_name or "junebug"
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # it was made elsewhere, of another kind of file
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")  # whatever a terminal can show, nothing fails for it
        try:
            code = super().main(args, name, **{**options, "standalone_mode": False})
        except Failure as failure:
            code = failure.exit_code
            _complain(name, str(failure))
        except click.exceptions.NoArgsIsHelpError as error:
            code = Exit.USAGE
            print(error.format_message(), file=sys.stderr)
        except click.ClickException as error:
            code = Exit.USAGE
            _complain(*_told(name, error))
        except (KeyboardInterrupt, click.Abort):
            code = Exit.INTERRUPTED
        sys.exit(code if isinstance(code, int) else Exit.GOOD)


def _told(name: str, error: click.ClickException) -> tuple[str, str]:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else name
    return command, f"{error.format_message().rstrip('.')} (see {command} --help)"


def _complain(command: str, message: str) -> None:
    from junebug.client.output import shown

    print(f"{command}: {' '.join(map(shown, message.splitlines()))}", file=sys.stderr)
