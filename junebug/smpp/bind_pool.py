"""BindPool: several binds of one account, used as one. What is for one address goes out over one of them, in its order.

Neighbour: bind.py keeps each of them. Whoever makes requests bounds how many there are, of all binds together.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from junebug.runtime.tasks import Own
from junebug.smpp.bind import BindEvent, PersistentBind
from junebug.smpp.options import BindOptions
from junebug.smpp.pdu import Pdu
from junebug.smpp.pending import NotWritten
from junebug.smpp.session import Session, Watcher


class BindPool:
    """`on_state(event, bound)` is called at each change of one of them; `bound`: how many there are then."""

    def __init__(
        self, count: int, options: BindOptions, *, on_state: Callable[[BindEvent, int], None],
        on_request: Callable[[Session, Pdu], None], on_pdu: Watcher | None = None, own: Own | None = None,
    ) -> None:  # fmt: skip
        self._on_state = on_state
        self._where = f"{options.host}:{options.port}"
        self._binds = [
            PersistentBind(options, on_state=self._changed, on_request=on_request, on_pdu=on_pdu, own=own)
            for _ in range(count)
        ]

    @property
    def bound(self) -> int:
        """How many are."""
        return sum(bind.bound for bind in self._binds)

    def start(self) -> None:
        """Begin to connect; returns at once. Raises TlsError for files that cannot be used."""
        for bind in self._binds:
            bind.start()

    async def stop(self, *, drain_timeout: float = 5.0) -> None:
        """As PersistentBind.stop, all at the same time."""
        await asyncio.gather(*(bind.stop(drain_timeout=drain_timeout) for bind in self._binds))

    def request(self, pdu: Pdu, *, address: str, tag: Any = None) -> Coroutine[Any, Any, Pdu]:
        """As Session.request, over the bind of this address; NotWritten, at once, while none is bound."""
        bound = [bind for bind in self._binds if bind.bound]
        if not bound:
            raise NotWritten(f"not bound to {self._where}")
        bind = bound[zlib.crc32(address.encode()) % len(bound)] if len(bound) > 1 else bound[0]
        return bind.request(pdu, tag=tag)

    def _changed(self, event: BindEvent) -> None:
        self._on_state(event, self.bound)
