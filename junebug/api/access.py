"""Who asks, and whether he may: each request, before its body is read (docs/access.md).

middleware.py calls `Guard.admit`; a handler says whom it is for by `access`, else its method does. Neighbours: model/access.py
has the tokens' rights, audit.py writes down what was changed by whom.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any, TypeVar

import structlog
from aiohttp import web

from junebug.config.declaration import Settings
from junebug.errors import (
    HostNotAllowed,
    NotAllowed,
    NotAuthenticated,
    OriginNotAllowed,
    StoreUnavailable,
    TooManyAttempts,
)
from junebug.model import access as rights
from junebug.model.acceptance import Origin
from junebug.model.access import ADMIN, READ, Token
from junebug.stores.tokens import TokenStore

log = structlog.stdlib.get_logger("api")

FRESH, STALE = 1.0, 60.0
"""Seconds for which a token is known once it was read; and while Redis is away."""
PAUSES, LONGEST_PAUSE = 0.1, 2.0
"""Seconds that the first failed attempt of an address waits for its answer, doubled by each one; and the last of them."""
MOST_WAITING, MOST_ADDRESSES, FORGOTTEN_AFTER = 50, 1000, 600.0
"""Failed attempts that wait at the same time, addresses whose attempts are counted, and for how many seconds."""
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::[0-9]*)?")
_IDS = ("channel_id", "router_id", "destination_id")

H = TypeVar("H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Access:
    """Whom a handler is for: tokens with one of these scopes; empty: any token. `is_open`: everybody. `filters`: it shows a token
    for some channels only those.
    """

    scopes: tuple[str, ...] = ()
    is_open: bool = False
    filters: bool = False


_BY_METHOD = {method: Access((READ,)) for method in _SAFE}
_CHANGES = Access((ADMIN,))


def access(*scopes: str, is_open: bool = False, filters: bool = False) -> Callable[[H], H]:
    """Marks a handler with its Access; without, reading needs `channels:read`, and all else `admin`."""

    def mark(handler: H) -> H:
        handler.access = Access(scopes, is_open, filters)  # type: ignore[attr-defined]
        return handler

    return mark


def is_change(method: str, handler: Callable[..., Any]) -> bool:
    """Whether a request changes what Junebug is to do, more than to send a message."""
    return method not in _SAFE and ADMIN in access_of(method, handler).scopes


def access_of(method: str, handler: Callable[..., Any]) -> Access:
    marked: Access | None = getattr(handler, "access", None)
    return marked or _BY_METHOD.get(method, _CHANGES)


@dataclass(frozen=True, slots=True)
class Caller:
    """`token`: None: he needs none here, and may do everything."""

    name: str
    token: Token | None = None

    def sees(self, ids: Sequence[str]) -> list[str]:
        """Those of these channels, or routers, that he may know of."""
        return [id for id in ids if self.token is None or self.token.is_for((id,))]


CALLER = web.RequestKey("caller", Caller)
"""Who asks; not there: a stranger at what is open to everybody."""
LOCAL, ANYBODY = Caller("local"), Caller("anybody")
"""Of this machine, and of wherever the API may be reached from without a token."""


def origin_of(request: web.Request) -> Origin:
    """Who sends a message by it."""
    return Origin(request[CALLER].name, request.remote or "")


def is_loopback(sockets: Sequence[socket]) -> bool:
    """Whether nobody but this machine reaches them."""
    return are_loopback(str(each.getsockname()[0]) for each in sockets)


def are_loopback(addresses: Iterable[str]) -> bool:
    """Whether nobody but this machine reaches what listens on them: IPv4 and IPv6, no names. Raises ValueError."""
    parsed = map(ipaddress.ip_address, addresses)
    return all((getattr(each, "ipv4_mapped", None) or each).is_loopback for each in parsed)


def asks_for_token(settings: Settings, *, on_loopback: bool) -> bool:
    """Whether whoever has no token is let in nowhere, but at what is open to everybody."""
    return not settings.no_auth and (not on_loopback or settings.require_auth)


class Guard:
    """Of one API process."""

    def __init__(self, settings: Settings, tokens: TokenStore, *, on_loopback: bool) -> None:
        self._tokens = KnownTokens(settings.admin_token, tokens)
        self._attempts = FailedAttempts()
        self._on_loopback = on_loopback
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        self._no_auth = settings.no_auth
        asks = asks_for_token(settings, on_loopback=on_loopback)
        self._without_token = None if asks else ANYBODY if settings.no_auth else LOCAL

    async def admit(self, request: web.Request, handler: Callable[..., Any]) -> None:
        """The request has its CALLER, unless it is a stranger's at what is open. Raises NotAuthenticated, NotAllowed,
        HostNotAllowed, OriginNotAllowed, TooManyAttempts, StoreUnavailable.
        """
        wanted = access_of(request.method, handler)
        if request.method not in _SAFE:
            self._check_origin(request)
        caller = await self._caller(request, wanted.is_open)
        if caller is None:
            return
        if caller.token is None:
            if self._on_loopback and not wanted.is_open:
                self._check_host(request)
        elif request.match_info.http_exception is None:
            _check_rights(caller.token, wanted, request.match_info)
        request[CALLER] = caller

    async def _caller(self, request: web.Request, is_open: bool) -> Caller | None:
        """None: a stranger, at what is open to everybody."""
        header = request.headers.get("Authorization")
        text = "" if header is None else _token_in(header)
        if self._without_token and (self._no_auth or rights.id_of(text) is None):
            return self._without_token  # whatever an old client says of itself: it was never asked for that
        if text and (token := await self._tokens.find(text)):
            return Caller(token.name, token)
        if is_open:
            return None
        if header is None:
            raise NotAuthenticated("An API token is needed: send it as `Authorization: Bearer ...`, or as Basic's password")
        await self._attempts.failed(request.remote or "")
        refusal = NotAuthenticated("This API token is not known here: it was revoked, has expired, or is none")
        if not header.lower().startswith("basic "):  # a page that sends its own does not want the browser to ask for one
            refusal.headers = NotAuthenticated.headers[:1]
        raise refusal

    def _check_host(self, request: web.Request) -> None:
        """A page in a browser of this machine must not reach us by a name of its own (DNS rebinding)."""
        host = _name_in(request.headers.get("Host", ""))
        if not host or host in self._hosts or "*" in self._hosts or _is_local(host):
            return
        raise HostNotAllowed("Host: Junebug is not known by this name: add it to the setting allowed_hosts, or use localhost")

    def _check_origin(self, request: web.Request) -> None:
        """A browser's page that is not ours changes nothing, with whatever the browser says who its user is."""
        origin = request.headers.get("Origin")
        if origin is None:
            if request.headers.get("Sec-Fetch-Site") in (None, "same-origin", "none"):
                return
        else:
            authority = origin.partition("://")[2].lower()
            if authority and (authority == request.headers.get("Host", "").lower() or "*" in self._hosts):
                return
            if authority and (authority in self._hosts or _name_in(authority) in self._hosts):
                return
        raise OriginNotAllowed("Origin: a page of another site changes nothing here; ours are named by the setting allowed_hosts")


class KnownTokens:
    """The tokens that were used lately, each read from Redis once a second at the most."""

    def __init__(self, admin_token: str | None, store: TokenStore) -> None:
        self._admin = rights.admin_token(admin_token) if admin_token else None
        self._store = store
        self._known: dict[str, _Known] = {}

    async def find(self, text: str) -> Token | None:
        """None: it is no token, or none that is in force. Raises StoreUnavailable."""
        if self._admin and self._admin.is_of(text):
            return self._admin
        if (id := rights.id_of(text)) is None:
            return None
        token = await self._get(id)
        return token if token is not None and token.is_of(text) and not token.is_expired() else None

    async def _get(self, id: str) -> Token | None:
        now = time.monotonic()
        known = self._known.get(id)
        if known and now - known.asked_at <= FRESH:
            return known.token
        try:
            token = await self._store.get(id)
        except StoreUnavailable:
            if known is None or now - known.read_at > STALE:
                raise
            known.asked_at = now
            return known.token
        if token is None:
            self._known.pop(id, None)
        else:
            self._known[id] = _Known(token, now, now)
        return token


@dataclass(slots=True)
class _Known:
    """`read_at`: when Redis told it; `asked_at`: when Redis was asked last. Of the monotonic clock."""

    token: Token
    read_at: float
    asked_at: float


class FailedAttempts:
    """Are counted by the address that they came from, told, and slowed; right ones never wait."""

    def __init__(self) -> None:
        self.total = 0
        self._of: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Address -> how many, and when the last one was; the latest comes last."""
        self._waiting = 0

    async def failed(self, address: str) -> None:
        """Raises TooManyAttempts when so many wait already that this one is not to."""
        self.total += 1
        now = time.monotonic()
        count, last = self._of.pop(address, (0, now))
        count = 1 if now - last > FORGOTTEN_AFTER else count + 1
        self._of[address] = (count, now)
        if len(self._of) > MOST_ADDRESSES:
            self._of.popitem(last=False)
        if count & (count - 1) == 0:  # 1, 2, 4, 8, ...
            log.warning("an API token was refused", address=address, attempts=count)
        if self._waiting >= MOST_WAITING:
            raise TooManyAttempts("Too many wrong API tokens were sent; try again later")
        self._waiting += 1
        try:
            await asyncio.sleep(min(PAUSES * 2.0 ** min(count - 1, 10), LONGEST_PAUSE))
        finally:
            self._waiting -= 1


def _check_rights(token: Token, wanted: Access, ids: Mapping[str, str]) -> None:
    if wanted.is_open or not wanted.scopes:
        return
    if not token.may(wanted.scopes):
        raise NotAllowed(f"The API token {token.name!r} has not the scope that this needs: {' or '.join(wanted.scopes)}")
    if not wanted.filters and not token.is_for({ids[name] for name in _IDS if name in ids}):
        raise NotAllowed(f"The API token {token.name!r} is for other channels, or routers, only")


def _token_in(header: str) -> str:
    """What an Authorization header says; Basic's password, or its name where that is empty. Empty: nothing that we know."""
    scheme, _, credentials = header.partition(" ")
    credentials = credentials.strip()
    match scheme.lower():
        case "bearer" | "token":
            return credentials[: rights.LONGEST_TOKEN + 1]
        case "basic":
            try:
                name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except ValueError:
                return ""
            return (password or name)[: rights.LONGEST_TOKEN + 1]
    return ""


def _name_in(authority: str) -> str:
    """Of a Host header, or an origin, without its port; what cannot be one stays as it is."""
    found = _HOST.fullmatch(authority.lower())
    return found[1] if found else authority


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return are_loopback([host.strip("[]")])
    except ValueError:
        return False
