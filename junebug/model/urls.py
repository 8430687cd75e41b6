"""http:// and https:// URLs as they are called: what can be none is refused here, at the door and again before the call.

Pure. Neighbours: api/schemas.py asks about what users give, worker/callbacks calls, templates.py fills variables in. The path
and the query are left as they are written: only what HTTP does not carry is percent-encoded (RFC 3986), nothing is decoded,
and no dots are resolved.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes, urljoin

import idna

from junebug.logs.redaction import REDACTED

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST_HOST = 253

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?", re.IGNORECASE | re.DOTALL
)
_AUTHORITY = re.compile(
    r"(?:(?P<userinfo>.*)@)?(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]{0,5}))?", re.DOTALL
)
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What neither a URL nor a line of HTTP may hold."""
_UNMASKABLE = re.compile(r"[\s\"]")
"""Where logs/redaction.py takes a URL's userinfo to have ended."""
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_USERINFO = re.compile(r"(?P<before>[^/?#]*//)(?P<userinfo>[^/?#]*)@(?P<after>.*)", re.DOTALL)
_FIXED = re.compile(r"[^/?#]*//[^/?#{}]*")
_CARRIED = "!$&'()*+,;=:@/?%"


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """One that can be called. `host`: a name in ASCII, or an address without brackets."""

    scheme: str
    host: str
    port: int
    target: str = "/"
    """The path and the query, as they stand in the request's first line."""
    authorization: str | None = field(default=None, repr=False)
    """The userinfo, as the value of an Authorization header."""

    @property
    def authority(self) -> str:
        """For the header Host: the port only where it is not the scheme's own."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """`scheme://host:port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def join(self, reference: str) -> HttpUrl:
        """Where a Location leads. Raises ValueError."""
        return parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", reference))


@functools.lru_cache(maxsize=256)
def parse(text: str) -> HttpUrl:
    """Raises ValueError, which says what is wrong without showing the URL: it may hold a password."""
    if CONTROL.search(text):
        raise ValueError("a control character cannot stand in a URL")
    found = _URL.fullmatch(text)
    parts = _AUTHORITY.fullmatch(found["authority"]) if found else None
    if not found or not parts:
        raise ValueError("expected an http:// or https:// URL")
    scheme = found["scheme"].lower()
    port = int(parts["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("a port is a number from 1 to 65535")
    host = str(ipaddress.IPv6Address(parts["ipv6"].replace("%25", "%", 1))) if parts["ipv6"] else _host(parts["name"])
    query = "" if found["query"] is None else f"?{carried(found['query'])}"
    return HttpUrl(scheme, host, port, (carried(found["path"]) or "/") + query, _basic(parts["userinfo"] or ""))


def masked(url: str) -> str:
    """The URL, or template, with its userinfo masked."""
    found = _USERINFO.fullmatch(url)
    return f"{found['before']}{REDACTED}@{found['after']}" if found and found["userinfo"] else url


def unmasked(url: str, stored: str | None) -> str:
    """A URL that is sent back masked, with the userinfo of the stored one. Raises ValueError where that is none of this host:
    whoever may not see a password may not have it sent elsewhere either.
    """
    given, kept = _USERINFO.fullmatch(url), _USERINFO.fullmatch(stored or "")
    if not given or given["userinfo"] != REDACTED:
        return url
    if not kept or not kept["userinfo"] or origin(url) != origin(stored or ""):
        raise ValueError("user and password are masked, and none are stored for this host that the mask could stand for")
    return f"{given['before']}{kept['userinfo']}@{given['after']}"


def carried(text: str) -> str:
    """A part of a URL, with what no request's first line may hold percent-encoded."""
    return quote(_NO_ESCAPE.sub("%25", text), safe=_CARRIED, errors="replace")


def origin(template: str) -> str:
    """`scheme://host:port` of a URL, or of a template, whose first part has no variables."""
    found = _FIXED.match(template)
    return _origin(found[0]) if found else "no URL"


@functools.lru_cache(maxsize=256)
def _origin(text: str) -> str:
    try:
        return parse(text).origin
    except ValueError:
        return "no URL"


def _basic(userinfo: str) -> str | None:
    """RFC 7617: the name ends at the first colon, so it has none; neither holds a control character."""
    if not userinfo:
        return None
    if _UNMASKABLE.search(userinfo):
        raise ValueError("blanks and quotes of a user name or password are to be percent-encoded")
    user, _, password = userinfo.partition(":")
    name, secret = unquote_to_bytes(user), unquote_to_bytes(password)
    if b":" in name:
        raise ValueError("a user name with a colon cannot be sent (RFC 7617)")
    if CONTROL.search((name + secret).decode("latin-1")):
        raise ValueError("a user name or password with a control character cannot be sent (RFC 7617)")
    return f"Basic {base64.b64encode(name + b':' + secret).decode()}"


def _host(name: str) -> str:
    """In lower case and in ASCII, as DNS knows it."""
    if len(name) > LONGEST_HOST:
        raise ValueError("the host's name is too long")
    host = (name if name.isascii() else _idna(name)).lower()
    labels = host.removesuffix(".").split(".")
    if len(host) > LONGEST_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("the host is no name that DNS could know")
    for label in labels:
        if label.startswith("xn--") and not label.removeprefix("xn--").encode().decode("punycode"):
            raise ValueError("the host is no name that DNS could know")
    if not host.strip("0123456789."):
        try:
            socket.inet_aton(host)
        except OSError:
            raise ValueError("the host is no IPv4 address") from None
    return host


def _idna(name: str) -> str:
    """UnicodeError is a ValueError."""
    try:
        return idna.encode(name, uts46=True).decode()
    except UnicodeError:  # names that the stricter IDNA 2008 does not have, such as emoji's
        return name.encode("idna").decode()
