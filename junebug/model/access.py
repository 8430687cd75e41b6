"""Who may do what: API tokens, their scopes, and what is kept of them. Pure.

A token's text is seen once, by whoever made it; what is kept is its SHA-256, which is enough for 256 bits of chance.
Neighbours: stores/tokens.py keeps them, api/access.py asks each request for one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from junebug.model.messages import timestamp_now

ADMIN, READ, SEND = "admin", "channels:read", "messages:send"
SCOPES = (ADMIN, READ, SEND)
"""All of it; what there is and what became of it; sending messages and asking what became of one."""
SHORTEST_ADMIN_TOKEN, LONGEST_TOKEN = 20, 200

_TOKEN = re.compile(r"jb_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_ADMIN_TOKEN = re.compile(rf"[!-~]{{{SHORTEST_ADMIN_TOKEN},{LONGEST_TOKEN}}}")
_DIGEST = re.compile(r"sha256:[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Token:
    """`channels`: ids of the channels, routers and destinations that it is for; None: of all, and of what is no channel's.
    Times are in our form (messages.py). `digest`: SHA-256 of its text, in hexadecimal.
    """

    id: str
    name: str
    digest: str
    scopes: frozenset[str]
    channels: frozenset[str] | None = None
    created_at: str = ""
    created_by: str = ""
    expires_at: str | None = None

    def may(self, scopes: Iterable[str]) -> bool:
        """Whether it has one of these."""
        return ADMIN in self.scopes or not self.scopes.isdisjoint(scopes)

    def is_for(self, ids: Collection[str]) -> bool:
        """Whether it is for one of these, or for all."""
        return self.channels is None or not self.channels.isdisjoint(ids)

    def is_of(self, text: str) -> bool:
        """In a time that tells nothing of how much of it is right."""
        return hmac.compare_digest(self.digest, digest(text))

    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timestamp_now()

    def shown(self) -> dict[str, Any]:
        shown = {"id": self.id, **self.to_properties()}
        del shown["digest"]
        return shown

    def to_properties(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "name": self.name, "scopes": [scope for scope in SCOPES if scope in self.scopes],
            "channels": None if self.channels is None else sorted(self.channels), "created_at": self.created_at,
            "created_by": self.created_by, "expires_at": self.expires_at, "digest": self.digest,
        }  # fmt: skip

    @classmethod
    def from_properties(cls, id: str, properties: Mapping[str, Any]) -> Self:
        channels = properties.get("channels")
        return cls(
            id, properties["name"], properties["digest"], frozenset(properties["scopes"]),
            None if channels is None else frozenset(channels), properties.get("created_at", ""),
            properties.get("created_by", ""), properties.get("expires_at"),
        )  # fmt: skip


def new_token(
    name: str, scopes: Iterable[str], channels: Iterable[str] | None, *, created_by: str, expires_at: str | None = None
) -> tuple[str, Token]:
    """Its text, and what is kept of it."""
    id = secrets.token_hex(6)
    text = f"jb_{id}_{secrets.token_urlsafe(32)}"
    known = None if channels is None else frozenset(channels)
    return text, Token(id, name, digest(text), frozenset(scopes), known, timestamp_now(), created_by, expires_at)


def id_of(text: str) -> str | None:
    """That of the token whose text it may be; None: it is none of ours."""
    found = _TOKEN.fullmatch(text)
    return found[1] if found else None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def is_admin_token(setting: str) -> bool:
    """Whether it can be the setting `admin_token`."""
    return (_DIGEST if setting.startswith("sha256:") else _ADMIN_TOKEN).fullmatch(setting) is not None


def admin_token(setting: str) -> Token:
    """What the setting `admin_token` stands for."""
    known = setting.removeprefix("sha256:").lower() if setting.startswith("sha256:") else digest(setting)
    return Token("admin_token", "admin_token", known, frozenset((ADMIN,)))
