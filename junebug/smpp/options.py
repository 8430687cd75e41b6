"""What a bind is told, as frozen dataclasses: light, for whoever only checks a channel's config.

Neighbours: bind.py and session.py do as they say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from junebug.runtime.tls import TlsOptions

BindMode = Literal["transceiver", "transmitter", "receiver"]


@dataclass(frozen=True)
class SessionOptions:
    """Times in seconds."""

    response_timeout: float = 60.0
    enquire_link_interval: float | None = 55.0
    """Silence after which the peer is asked; it then has as long again to say something, response_timeout at most."""
    max_unanswered: int = 1000
    """Inbound requests that the owner may keep unanswered; what comes beyond is refused for now."""


@dataclass(frozen=True)
class BindOptions:
    """Times in seconds; `interface_version` an integer (0x34)."""

    host: str
    port: int
    local_host: str | None = None
    """The address of ours to connect from."""
    system_id: str = ""
    password: str = field(default="", repr=False)
    """As it goes on the wire: at most 8 characters."""
    system_type: str = ""
    interface_version: int = 0x34
    address_range: str = ""
    addr_ton: int = 0
    addr_npi: int = 0
    bind_mode: BindMode = "transceiver"
    bind_timeout: float = 30.0
    """For each of the two: the connection (with TLS), the response to the bind."""
    connect_timeout: float | None = None
    """For the first of the two, where that is not the same."""
    initial_reconnect_delay: float = 5.0
    max_reconnect_delay: float = 60.0
    session: SessionOptions = field(default_factory=SessionOptions)
    tls: TlsOptions | None = None
