"""Which channel answers which path behind the shared listener: a file a channel, written by its process, read by the door.

    run/door/<key>         the unix socket that the channel's process listens on
    run/door/<key>.json    its Route

A route outlives its process, so that the door knows a channel that is down from a path that nobody has; it goes when the
channel is deleted. Neighbours: process.py reads, door/server.py writes, supervisor/cleanup.py removes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

SETTLED = 50_000_000
"""Nanoseconds after which a directory's time of change says that it has not changed again: some kernels count in 4 or 10 ms."""


@dataclass(frozen=True, slots=True)
class Route:
    """`paths`: as `path_of` makes them. `timeout`: seconds in which the channel answers whatever it is asked."""

    channel: str
    paths: tuple[str, ...]
    timeout: float
    unavailable_body: str = ""
    """What a request is answered with 503 while the channel is down, in the provider's form."""
    content_type: str = "text/plain"


def path_of(text: str) -> str:
    """A path as routes have it: with a slash before it, none behind it."""
    return "/" + text.strip("/")


def files_of(directory: Path, channel: str) -> tuple[Path, Path]:
    """(socket, route); the name is short because a socket's path may have 107 octets only."""
    key = hashlib.blake2s(channel.encode(), digest_size=6).hexdigest()
    return directory / key, directory / f"{key}.json"


def write(directory: Path, route: Route) -> None:
    """Raises OSError."""
    _, path = files_of(directory, route.channel)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(orjson.dumps(asdict(route)))
    draft.replace(path)


def owner(directory: Path, path: str, besides: str) -> str | None:
    """Another channel than `besides` that has this path."""
    return next((route.channel for route in Routes(directory).all() if path in route.paths and route.channel != besides), None)


class Routes:
    """Those of a directory, read anew when it has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen = -1
        self._known: dict[str, tuple[tuple[int, int], Route]] = {}
        """File name -> which file that is, and what it says."""
        self._by_path: dict[str, Route] = {}

    def all(self) -> Sequence[Route]:
        self._look()
        return [route for _, route in self._known.values()]

    def find(self, path: str) -> Route | None:
        """The channel that has this path."""
        self._look()
        return self._by_path.get(path_of(path))

    def _look(self) -> None:
        try:
            changed = self._directory.stat().st_mtime_ns
            if changed == self._seen:
                return
            if changed > time.time_ns() - SETTLED:
                changed = -1  # it may change again in the same moment: it is looked at again
            entries = {each.name: each for each in os.scandir(self._directory) if each.name.endswith(".json")}
        except FileNotFoundError:
            entries, changed = {}, -1
        known = {}
        for name, entry in entries.items():
            with suppress(OSError, ValueError, TypeError, KeyError):  # it goes in this moment, or is no route
                file = entry.stat().st_mtime_ns, entry.inode()
                before = self._known.get(name)
                if before and before[0] == file:
                    known[name] = before
                else:
                    fields = orjson.loads(Path(entry.path).read_bytes())
                    known[name] = (file, Route(**{**fields, "paths": tuple(fields["paths"])}))
        self._known, self._seen = known, changed
        self._by_path = {path: route for _, route in known.values() for path in route.paths}
