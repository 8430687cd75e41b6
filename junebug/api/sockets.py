"""The API's listening sockets: bound by the parent before it forks, so that no dead process loses the port."""

from __future__ import annotations

import errno
import socket

from junebug.config.declaration import Settings
from junebug.errors import StartupError
from junebug.runtime.listener import listening_sockets

BACKLOG = 1024
PORT_ATTEMPTS = 10
"""How often a free port is looked for that is free on every address."""


def bind(settings: Settings) -> list[socket.socket]:
    """Of the API, on the settings' interface and port: `localhost` is both loopbacks where there are two.

    Port 0 is a free one, the same on each. Raises StartupError naming the setting.
    """
    return _bind(settings.interface, settings.port, "")


def bind_door(settings: Settings) -> list[socket.socket]:
    """Of the listener that channels of HTTP types share; none where there is none. Raises StartupError."""
    door = settings.http_types
    return _bind(door.interface, door.port, "http_types.") if door.port else []


def _bind(interface: str, port: int, group: str) -> list[socket.socket]:
    found = addresses(interface, group)
    attempts = 1 if port else PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return listening_sockets(port, found, BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempts <= 0:
                raise StartupError(_bind_problem(interface, port, group, error)) from None


def addresses(interface: str, group: str = "") -> list[tuple[socket.AddressFamily, str]]:
    """Where a listener on this interface listens. Raises StartupError, which names the setting: `group` comes before its name."""
    if interface == "localhost":
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    try:
        found = socket.getaddrinfo(interface or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartupError(f"{group}interface: {interface!r} is no address of this machine: {error}") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_problem(interface: str, port: int, group: str, error: OSError) -> str:
    where, flag = f"{port} on {interface}", f"--{group.replace('_', '-').replace('.', '-')}"
    if error.errno == errno.EADDRINUSE:
        return f"{group}port: {where} is in use: choose another with {flag}port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{group}port: {where} may not be opened by this user: choose one above 1023 with {flag}port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{group}interface: {interface!r} is no address of this machine: choose another with {flag}interface"
    return f"{group}interface, {group}port: cannot listen on {where}: {error.strerror or error}"
