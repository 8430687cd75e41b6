"""NginxPlugin: keeps a virtual host with a location file for each HTTP channel, and has nginx reload when they change.

    channel_started, channel_stopped   note where the channel is to be seen (location.py)
    settled                            write what differs, ask nginx (command.py), take back what it refuses, reload

What is on disk is looked at each time, so whatever an earlier Junebug left is put right, too. Each file of ours begins with
MARK: no other is removed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from junebug.errors import PluginError
from junebug.plugin import JunebugPlugin
from junebug.plugins.nginx.command import NginxCommand
from junebug.plugins.nginx.location import Location, location_of

if TYPE_CHECKING:
    from junebug.config.declaration import Settings
    from junebug.model.spec import ChannelSpec

HERE = Path(__file__).parent
MARK = "# Written by Junebug"
TIME = 8.0
"""Seconds that nginx may take in one call of ours, which has ten."""
STOP_TIME = 1.5
MOST_REFUSED = 20
"""Files that nginx refuses one by one before all changes are taken back."""
MOST_TOLD = 5
SAMPLE = Location("/sample", "/sample", 1)
_SPECIAL = re.compile(r"""[\s;{}"'$#*?\[\]\\]""")
_VARIABLE = re.compile(r"%(?:%|\((\w+)\)s|\S{0,20})")

Files = dict[Path, str | None]
"""Path -> what is in the file, or is to be; None: there is none."""


@dataclass(frozen=True)
class Options:
    """Those of the plugin's object in the settings (spec 1.9.4), and `nginx_command`."""

    vhost_file: str = "/etc/nginx/sites-enabled/junebug.conf"
    locations_dir: str = "/etc/nginx/includes/junebug/"
    server_name: str | None = None
    vhost_template: str = str(HERE / "vhost_template.conf")
    location_template: str = str(HERE / "location_template.conf")
    nginx_command: str = "nginx"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Raises PluginError that names the option which is wrong."""
        given = {name: value for name, value in config.items() if name != "type" and value is not None}
        known = [entry.name for entry in fields(cls)]
        for name, value in given.items():
            if name not in known:
                raise PluginError(f"{name}: there is no such option; known are {', '.join(known)}")
            if not isinstance(value, str) or not value:
                raise PluginError(f"{name}: expected a text")
        options = cls(**given)
        if _SPECIAL.search(options.locations_dir):
            raise PluginError("locations_dir: nginx reads no path with blanks or one of ; { } \" ' $ # * ? [ ] \\")
        return options


class NginxPlugin(JunebugPlugin):
    """Plain methods: they run in the plugin's own thread, where waiting for nginx keeps nobody else."""

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> None:
        """Raises PluginError for options and templates that cannot be used."""
        options = Options.from_config(config)
        self._nginx = NginxCommand(_words(options.nginx_command))
        self._vhost_file = Path(options.vhost_file).resolve()  # a link in sites-enabled stays one
        self._locations_dir = Path(options.locations_dir).absolute()
        variables = {"server_name": options.server_name or "_", "includes": f"{self._locations_dir}/*.conf"}
        vhost = _filled("vhost_template", options.vhost_template, _read("vhost_template", options.vhost_template), variables)
        self._vhost = _marked("its virtual host", vhost)
        self._template = options.location_template
        self._location_text = _read("location_template", self._template)
        self._location_file("sample", SAMPLE)
        self._locations: dict[str, Location] = {}
        self._is_loaded = False

    def channel_started(self, channel: ChannelSpec) -> None:
        """Raises PluginError when its config says something that nginx is not to be told."""
        self._locations.pop(channel.id, None)
        if location := location_of(channel.config, channel.public_http):
            self._locations[channel.id] = location

    def channel_stopped(self, channel: ChannelSpec) -> None:
        self._locations.pop(channel.id, None)

    def settled(self) -> None:
        """Raises PluginError for all that could not be done; what could, is."""
        self._nginx.begin(TIME)
        wanted, problems = self._wanted()
        _make_directory(self._locations_dir)
        before = self._there(wanted)
        changes: Files = {path: wanted.get(path) for path in before if wanted.get(path) != before[path]}
        if changes or not self._is_loaded:
            problems += self._apply(changes, before)
        self._is_loaded = self._is_loaded and not changes
        if not self._is_loaded:
            self._reload()
            self._is_loaded = True
        if problems:
            more = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
            raise PluginError("; ".join(problems[:MOST_TOLD]) + more)

    def stop_plugin(self) -> None:
        """Nothing is proxied any more to ports that others may take."""
        ours = [path for path, text in self._there({}).items() if text and text.startswith(MARK)]
        if ours:
            _write(dict.fromkeys(ours))
            self._nginx.begin(STOP_TIME)
            self._reload()

    # --- what is to be there, and what is -----------------------------------------------------------------------------

    def _wanted(self) -> tuple[dict[Path, str], list[str]]:
        """Each file's text, and which channels have to stay out as another one has their path."""
        wanted = {self._vhost_file: self._vhost}
        problems = []
        owners: dict[str, str] = {}
        for channel, location in self._locations.items():
            owner = owners.setdefault(location.prefix, channel)
            if owner == channel:
                wanted[self._path(channel)] = self._location_file(channel, location)
            else:
                problems.append(f"channel {channel} is not exposed: {location.external_path} is channel {owner}'s already")
        return wanted, problems

    def _there(self, wanted: Mapping[Path, str]) -> Files:
        """What every file holds that is wanted, or is one of ours."""
        found: Files = {path: _text(path) for path in {*wanted, self._vhost_file}}
        for path in self._locations_dir.glob("*.conf"):
            text = _text(path)
            if text is not None and text.startswith(MARK):
                found[path] = text
        return found

    def _path(self, channel: str) -> Path:
        return self._locations_dir / f"{channel}.conf"

    def _location_file(self, channel: str, location: Location) -> str:
        text = _filled("location_template", self._template, self._location_text, location.variables)
        return _marked(f"channel {channel}", text)

    # --- writing ------------------------------------------------------------------------------------------------------

    def _apply(self, changes: Files, before: Files) -> list[str]:
        """Write the changes, and take back each that nginx refuses by its name, here, too: what it said of them.

        Raises PluginError when it refuses for another reason; then all is as it was before.
        """
        problems: list[str] = []
        try:
            _write(changes)
            while refusal := self._nginx.refusal():
                culprit = next((path for path in changes if path != self._vhost_file and f" {path}:" in refusal), None)
                if culprit is None or len(problems) == MOST_REFUSED:
                    raise PluginError(f"nginx refuses its configuration, what was changed is taken back: {refusal}")
                _write({culprit: before[culprit]})
                del changes[culprit]
                problems.append(f"channel {culprit.stem}: nginx refuses its location, which is taken back: {refusal}")
        except PluginError:
            _write({path: before[path] for path in changes})
            raise
        return problems

    def _reload(self) -> None:
        if problem := self._nginx.reload():
            raise PluginError(f"nginx does not reload: {problem}")


def _words(command: str) -> Sequence[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise PluginError(f"nginx_command: {error}") from None
    if not words:
        raise PluginError("nginx_command: expected a command")
    return words


def _read(option: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PluginError(f"{option}: cannot read {path}: {getattr(error, 'strerror', error)}") from None


def _filled(option: str, path: str, template: str, variables: Mapping[str, str]) -> str:
    """The template with each `%(name)s` replaced, as Junebug 0.1.11 did."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "%%":
            return "%"
        if found[1] in variables:
            return variables[found[1]]
        known = ", ".join(f"%({name})s" for name in variables)
        raise PluginError(f"{option}: {path} has {found[0]!r}, which is none of {known}; a percent sign is written %%")

    return _VARIABLE.sub(value, template)


def _marked(what: str, text: str) -> str:
    return f"{MARK} for {what}: changes are lost.\n{text}"


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PluginError(f"cannot read {path}: {error.strerror}") from None


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PluginError(f"cannot make {path}: {error.strerror}; Junebug's user needs the right to") from None


def _write(files: Files) -> None:
    """Each at once and whole, or gone. nginx reads no file whose name begins with a dot."""
    for path, text in files.items():
        draft = path.with_name(f".{path.name}.new")
        try:
            if text is None:
                path.unlink(missing_ok=True)
            else:
                draft.write_bytes(text.encode(errors="surrogateescape"))
                draft.replace(path)
        except OSError as error:
            raise PluginError(f"cannot write {path}: {error.strerror}; Junebug's user needs the right to") from None
