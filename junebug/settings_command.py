"""A command with a flag for each setting: settings in, exit code out. Neighbours: cli.py and client/ have such commands.

Exit codes: 0 ended as asked, 1 the world is not as it should be, 2 a setting is wrong; never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from junebug import __version__
from junebug.config.declaration import OPTIONS, Option, Settings
from junebug.config.load import load
from junebug.config_schema import load_object
from junebug.errors import ConfigError, StartupError
from junebug.logs import sentry
from junebug.logs.redaction import escape_controls
from junebug.logs.setup import logging_disabled
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.runtime.title import hide_secrets

Read = Callable[[Mapping[str, Any], Mapping[str, str], str | None], Any]
"""What was given on the command line and in the environment, and the config file -> what a command gets first."""


def read_settings(given: Mapping[str, Any], environ: Mapping[str, str], config: str | None) -> Settings:
    """Raises ConfigError."""
    settings = load(given, environ, config)
    _check_classes(settings)
    return settings


def command(
    name: str, help: str, *arguments: click.Parameter, read: Read = read_settings
) -> Callable[[Callable[..., int]], click.Command]:
    """A command with a flag for each setting; its function gets the Settings and the arguments, returns an exit code."""

    def decorate(run: Callable[..., int]) -> click.Command:
        def callback(config: str | None, **given: Any) -> NoReturn:
            own = {argument.name: given.pop(str(argument.name)) for argument in arguments}
            texts = {option.name: given[_parameter(option)] for option in _FLAGS}
            _hide_secrets(texts)
            try:
                settings = read(texts, os.environ, config)
                _announce_environment(name)
                sys.exit(run(settings, **own))
            except (ConfigError, StartupError) as error:
                print(f"{name}: {escape_controls(str(error))}", file=sys.stderr)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                sys.exit(130)

        return click.Command(
            name,
            params=[*arguments, VERSION, _CONFIG, *map(_flag, _FLAGS)],
            callback=callback,
            help=help,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        )

    return decorate


_FLAGS = [option for option in OPTIONS if option.flag]
_CONFIG = click.Option(
    ["--config", "-c"], metavar="FILE", envvar="JUNEBUG_CONFIG", help="Path to a YAML config file. Flags override it."
)


def _show_version(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        print(f"Junebug {__version__}")
        context.exit()


VERSION = click.Option(
    ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version and exit."
)


def _parameter(option: Option) -> str:
    return option.name.replace(".", "_")


def _flag(option: Option) -> click.Option:
    default = "" if option.default in (None, {}, [], False) or option.secret else f" Default: {option.default}."
    names = [_parameter(option), option.flag, *filter(None, [option.short])]
    if option.kind == "switch":
        return click.Option(names, is_flag=True, flag_value="true", default=None, type=str, help=option.help)
    help, metavar = option.help.replace("`", "") + default, option.path[-1].upper()
    return click.Option(names, metavar=metavar, multiple=option.repeatable, help=help)


def _hide_secrets(texts: Mapping[str, Any]) -> None:
    """Of the command line, before anything that takes time; a plugin's object may hold anything."""
    given = [texts[option.name] for option in _FLAGS if option.secret or option.kind == "plugins"]
    hide_secrets(text for each in given for text in ((each,) if isinstance(each, (str, type(None))) else each))


def _announce_environment(command: str) -> None:
    if os.environ.get("JUNEBUG_REACTOR") and not logging_disabled():
        print(f"{command}: JUNEBUG_REACTOR has no effect: this Junebug runs on asyncio, not on Twisted", file=sys.stderr)


def _check_classes(settings: Settings) -> None:
    """What the settings name can be loaded, or ConfigError."""
    sentry.check(settings.sentry_dsn)
    Registry.from_settings(settings.channels, settings.replace_channels)
    RouterTypes.from_settings(settings.routers, settings.replace_routers)
    for number, plugin in enumerate(settings.plugins):
        load_object(plugin["type"], f"plugins[{number}].type")
