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
    """Listening sockets on the settings' interface and port: `localhost` is both loopbacks where there are two.

    Port 0 is a free one, the same on each. Raises StartupError naming the setting.
    """
    addresses = _addresses(settings)
    attempts = 1 if settings.port else PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return listening_sockets(settings.port, addresses, BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempts <= 0:
                raise StartupError(_bind_problem(settings, error)) from None


def _addresses(settings: Settings) -> list[tuple[socket.AddressFamily, str]]:
    if settings.interface == "localhost":
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    try:
        found = socket.getaddrinfo(settings.interface or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartupError(f"interface: {settings.interface!r} is no address of this machine: {error}") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bind_problem(settings: Settings, error: OSError) -> str:
    where = f"{settings.port} on {settings.interface}"
    if error.errno == errno.EADDRINUSE:
        return f"port: {where} is in use: choose another with --port"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port: {where} may not be opened by this user: choose one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"interface: {settings.interface!r} is no address of this machine: choose another with --interface"
    return f"interface, port: cannot listen on {where}: {error.strerror or error}"
