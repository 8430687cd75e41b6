"""The reconciler's way into supervisord: the XML-RPC namespace `channels` (rpc.py) over its unix socket.

Blocking, each call bounded by a timeout: to be called in a thread.
"""

from __future__ import annotations

import http.client
import json
import socket
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from junebug import names
from junebug.errors import Unavailable
from junebug.supervisor.reconcile import CHUNK, Running

TIMEOUT = 10.0


class SupervisorClient:
    """Raises Unavailable when supervisord does not answer, or refuses (it is shutting down)."""

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self._server = xmlrpc.client.ServerProxy(
            "http://localhost/RPC2", transport=_UnixTransport(path.absolute(), timeout)
        )
        self.is_ending = False
        """Whether supervisord said, when it was last asked, that it ends with all its processes."""

    def running(self) -> dict[str, Running]:
        """All channels and routers that supervisord has, whatever their state."""
        self.is_ending, found = json.loads(self._call(self._server.channels.running))
        return {channel: Running(**fields) for channel, fields in found.items()}

    def lease(self, until: float, alone: bool = False, lost: Iterable[str] = ()) -> None:
        """All but the `lost` may work until then, by the clock of fence.now; `alone`: only while connected to RabbitMQ."""
        self._call(self._server.channels.lease, json.dumps([until, alone, [*lost]]))

    def start(
        self, channels: Iterable[tuple[str, int]], group: str = names.CHANNEL_GROUP,
        leases: Mapping[str, tuple[int, bool]] | None = None,
    ) -> None:  # fmt: skip
        """Add and start them, as (id, generation); they may work as long as was said last. `leases`: id -> (fence, is_shared)."""
        told = leases or {}
        entries = ((id, generation, group, *told.get(id, (0, False))) for id, generation in channels)
        self._tell(self._server.channels.start, entries)

    def restart(self, channels: Iterable[tuple[str, int]]) -> None:
        """Stop them and start them again in the given generation; returns before that is done."""
        self._tell(self._server.channels.restart, channels)

    def kill(self, channels: Iterable[str]) -> None:
        """SIGKILL; they are started again as if they had crashed."""
        self._tell(self._server.channels.kill, channels)

    def remove(self, channels: Iterable[str]) -> None:
        """Stop the running, drop the stopped: to be called until they are gone."""
        self._tell(self._server.channels.remove, channels)

    def _tell(self, method: Callable[[str], Any], channels: Iterable[Any]) -> None:
        every = list(channels)
        for start in range(0, len(every), CHUNK):
            self._call(method, json.dumps(every[start : start + CHUNK]))

    def _call(self, method: Callable[..., Any], *arguments: str) -> str:
        try:
            return str(method(*arguments))
        except xmlrpc.client.Fault as fault:
            raise Unavailable(f"supervisord refused: {fault.faultString}") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ExpatError) as error:
            raise Unavailable(f"supervisord does not answer: {error or type(error).__name__}") from None


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """One for each call: nothing to find broken later."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(self._timeout)
        connection.sock.connect(str(self._path))
        return connection
