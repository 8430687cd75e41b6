"""`redis.url` taken apart into the settings that it says. Pure. Neighbour: load.py."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("redis", "rediss", "unix")


def parse(url: str) -> dict[str, Any]:
    """Setting -> value, and `scheme`. As redis-py and redis-cli have it: `redis://[[user]:password@]host[:port][/db]`, `rediss://`
    (TLS), `unix://[[user]:password@]/path[?db=db]`. Raises ValueError, whose text shows nothing of the URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("expected redis://, rediss:// or unix://")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.fragment or query.keys() - {"db"}:
        raise ValueError("expected nothing but db after a `?`; what else there is has a setting of its own")
    said: dict[str, Any] = {"scheme": parts.scheme}
    db = query.get("db")
    if parts.scheme == "unix":
        if parts.hostname or len(parts.path) < 2:
            raise ValueError("expected a socket's path as unix:///run/redis/redis.sock")
        said["host"] = unquote(parts.path)
    else:
        said |= {"host": parts.hostname or "localhost", "port": port or 6379}
        if parts.path not in ("", "/"):
            db = parts.path[1:] if db is None else "twice"
    if db is not None:
        if not (db.isascii() and db.isdigit()):
            raise ValueError("expected the number of one database")
        said["db"] = int(db)
    said |= {name: unquote(part) for name, part in (("username", parts.username), ("password", parts.password)) if part}
    return said
