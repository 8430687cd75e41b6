"""The ports that Junebug listens on: free, or its own already."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import suppress

from junebug import embedded
from junebug.api import sockets
from junebug.client.doctor.finding import Finding, failed, ok
from junebug.config.declaration import Settings
from junebug.errors import StartupError

TIMEOUT = 3.0


def check(settings: Settings) -> Iterator[Finding]:
    """Blocking, for a few seconds at the most."""
    yield _check("port", settings, f"{settings.port} on {settings.interface}", settings.port)
    if settings.http_types.port:
        port = settings.http_types.port
        yield _check("http_types.port", settings, f"{port} on {settings.http_types.interface}", port)


def _check(check: str, settings: Settings, shown: str, port: int) -> Finding:
    try:
        for each in sockets.bind(settings) if check == "port" else sockets.bind_door(settings):
            each.close()
        return ok(check, f"{shown} is free: no Junebug runs there" if port else "any that is free")
    except StartupError as error:
        problem, _, advice = str(error).removeprefix(f"{check}: ").partition(": ")
        if "in use" not in str(error):
            return failed(check, str(error), advice or "choose another interface or port")
    if check == "port" and _is_junebug(settings):
        return ok(check, f"{shown} is Junebug's")
    holder = _title(port)
    if holder.startswith("junebug"):
        return ok(check, f"{shown} is Junebug's")
    problem += f" by {holder[:80]}" if holder else " by another user's process"
    return failed(check, f"{problem}, which is no Junebug that answers", f"end that (`ss -ltnp sport = :{port}`), or {advice}")


def _is_junebug(settings: Settings) -> bool:
    """Whether it answers as our API does."""
    host = settings.interface if settings.interface not in ("", "0.0.0.0", "::", "localhost") else "127.0.0.1"
    link = http.client.HTTPConnection(host, settings.port, timeout=TIMEOUT)
    try:
        link.request("GET", "/health/live")
        answer = json.loads(link.getresponse().read(10_000))
        return isinstance(answer, dict) and {"status", "code", "description", "result"} <= answer.keys()
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        link.close()


def _title(port: int) -> str:
    """Of the process that listens there; empty: we may not know."""
    process = embedded.listener(port)
    with suppress(OSError):
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() if process else ""
    return ""
