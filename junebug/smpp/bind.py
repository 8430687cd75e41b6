"""PersistentBind: a bind that is kept: connect (TCP or TLS), bind, tell how it stands, and again after a growing delay.

session.py is one connection of it. Who owns a bind hears of its states, and makes its requests.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import structlog

from junebug.runtime.backoff import Backoff
from junebug.runtime.loop import end_task
from junebug.runtime.tasks import Own, TaskOwner
from junebug.runtime.tls import reason_of, tls_context
from junebug.smpp import constants as c
from junebug.smpp.fields import EncodeError
from junebug.smpp.options import BindMode, BindOptions
from junebug.smpp.pdu import Bind, BindResp, Pdu
from junebug.smpp.pending import NotWritten, ResponseLost
from junebug.smpp.session import Session, Watcher

log = structlog.stdlib.get_logger("smpp")

_COMMANDS: dict[BindMode, int] = {
    "transceiver": c.BIND_TRANSCEIVER, "transmitter": c.BIND_TRANSMITTER, "receiver": c.BIND_RECEIVER,
}  # fmt: skip


STEADY = 1.0
"""Seconds that a bind has to last to count as one that worked: the pauses begin anew then."""


class BindState(StrEnum):
    """connecting -> binding -> bound -> (unbinding ->) stopped; from each of the first three back to connecting after
    a delay, by way of the one in the middle that says why.
    """

    CONNECTING = "connecting"
    BINDING = "binding"
    BOUND = "bound"
    CONNECT_FAILED = "connect_failed"
    BIND_TIMEOUT = "bind_timeout"
    BIND_REFUSED = "bind_refused"
    CONNECTION_LOST = "connection_lost"
    UNBINDING = "unbinding"
    STOPPED = "stopped"


@dataclass(frozen=True)
class BindEvent:
    """A change of state.

    `details`: `retry_after` (seconds) where it will be tried again; `command_status` of a refused bind (ESME_ name, or
    generic_nack where that bears none); `kind` of a lost connection (session.CloseReason).
    """

    state: BindState
    message: str
    details: dict[str, Any] = field(default_factory=dict)


class _Failed(Exception):
    """An attempt that did not get as far as bound."""

    def __init__(self, state: BindState, message: str, **details: Any) -> None:
        super().__init__(message)
        self.state = state
        self.details = details


class PersistentBind:
    """`on_state` is called at each change, on the loop; it must not block and not raise. `own` runs what keeps the bind."""

    def __init__(
        self, options: BindOptions, *, on_state: Callable[[BindEvent], None], on_request: Callable[[Session, Pdu], None],
        on_pdu: Watcher | None = None, own: Own | None = None,
    ) -> None:  # fmt: skip
        self._options = options
        self._on_state = on_state
        self._on_request = on_request
        self._on_pdu = on_pdu
        self._own = own or TaskOwner().own
        self._tls: ssl.SSLContext | None = None
        self._session: Session | None = None
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def bound(self) -> bool:
        return self._session is not None

    def start(self) -> None:
        """Begin to connect; returns at once. Raises TlsError for files that cannot be used."""
        if self._options.tls:
            self._tls = tls_context(self._options.tls)
        self._keeper = self._own("smpp bind", self._keep())

    async def stop(self, *, drain_timeout: float = 5.0, unbind_timeout: float = 2.0) -> None:
        """Unbind in good order and stay away. Takes at most the sum of both and 3 seconds."""
        self._stopping = True
        if self._session:
            self._tell(BindState.UNBINDING, "Unbinding")
            await self._session.unbind(drain_timeout=drain_timeout, timeout=unbind_timeout)
        if self._keeper:
            await end_task(self._keeper)
            self._keeper = None
            self._tell(BindState.STOPPED, "Stopped")

    def request(self, pdu: Pdu, *, tag: Any = None, timeout: float | None = None) -> Coroutine[Any, Any, Pdu]:
        """As Session.request; NotWritten, at once, while not bound."""
        if self._session is None:
            raise NotWritten(f"not bound to {self._where}")
        return self._session.request(pdu, tag=tag, timeout=timeout)

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._options.host}:{self._options.port}"

    async def _keep(self) -> None:
        backoff = Backoff(self._options.initial_reconnect_delay, self._options.max_reconnect_delay)
        while not self._stopping:
            try:
                session = await self._attempt()
            except Exception as error:
                if not isinstance(error, _Failed):  # a bug of ours: a bind that gives up silently would be worse
                    log.exception("an attempt to bind failed")
                    error = _Failed(BindState.CONNECT_FAILED, f"cannot bind to {self._where}: {reason_of(error)}")
                delay = backoff.next()
                self._tell(error.state, str(error), **error.details, retry_after=round(delay, 2))
            else:
                bound_at = asyncio.get_running_loop().time()
                reason = await asyncio.shield(session.closed)
                if asyncio.get_running_loop().time() - bound_at >= STEADY:
                    backoff.reset()
                self._session = None
                if self._stopping:
                    return
                delay = backoff.next()
                message, retry_after = f"{reason.message} ({self._where})", round(delay, 2)
                self._tell(BindState.CONNECTION_LOST, message, kind=reason.kind, retry_after=retry_after)
            await asyncio.sleep(delay)

    async def _attempt(self) -> Session:
        """Connected and bound, or _Failed."""
        self._tell(BindState.CONNECTING, f"Connecting to {self._where}")
        session = await self._connect()
        try:
            self._tell(BindState.BINDING, f"Binding to {self._where} as {self._options.system_id}")
            await self._bind(session)
        except BaseException as error:
            is_answered = isinstance(error, _Failed) and error.state == BindState.BIND_REFUSED
            (session.close if is_answered else session.abort)(str(error) or "stopped")
            raise
        self._session = session
        self._tell(BindState.BOUND, f"Bound to {self._where} as {self._options.bind_mode}")
        return session

    async def _connect(self) -> Session:
        options = self._options
        loop = asyncio.get_running_loop()
        server_name = (options.tls.server_name or options.host) if options.tls else None
        new = functools.partial(Session, "esme", options.session, on_request=self._on_request, on_pdu=self._on_pdu)
        timeout = options.bind_timeout if options.connect_timeout is None else options.connect_timeout
        local = (options.local_host, 0) if options.local_host else None
        try:
            async with asyncio.timeout(timeout):
                _, session = await loop.create_connection(
                    new, options.host, options.port, ssl=self._tls, server_hostname=server_name, local_addr=local
                )
        except TimeoutError:
            problem = f"no connection to {self._where} within {timeout:g} seconds"
            raise _Failed(BindState.CONNECT_FAILED, problem) from None
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; names that no resolver takes are ValueErrors
            raise _Failed(BindState.CONNECT_FAILED, f"cannot connect to {self._where}: {reason_of(error)}") from None
        return session

    async def _bind(self, session: Session) -> None:
        options = self._options
        bind = Bind(
            command_id=_COMMANDS[options.bind_mode], system_id=options.system_id, password=options.password,
            system_type=options.system_type, interface_version=options.interface_version,
            addr_ton=options.addr_ton, addr_npi=options.addr_npi, address_range=options.address_range,
        )
        try:
            response = await session.request(bind, timeout=options.bind_timeout)
        except EncodeError as error:
            raise _Failed(BindState.BIND_REFUSED, f"this bind cannot be sent: {error}") from None
        except (NotWritten, ResponseLost) as error:
            if not session.closed.done():
                raise _Failed(BindState.BIND_TIMEOUT, f"{self._where} did not answer the bind: {error}") from None
            reason = session.closed.result()
            message = f"{self._where} hung up before the bind was answered: {reason.message}"
            raise _Failed(BindState.CONNECTION_LOST, message, kind=reason.kind) from None
        if response.command_status != c.ESME_ROK or not isinstance(response, BindResp):
            status = response.status_name if response.command_status else response.command_name
            message = f"{self._where} refused the bind of {options.system_id}: {status}"
            raise _Failed(BindState.BIND_REFUSED, message, command_status=status)

    def _tell(self, state: BindState, message: str, **details: Any) -> None:
        try:
            self._on_state(BindEvent(state, message, details))
        except Exception:
            log.exception("a state of the bind could not be told", state=state)
