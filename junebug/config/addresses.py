"""Where a server is: `host`, `host:port`, `[IPv6]:port`, a unix socket's path, as the settings say it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s\[\]:/@]+))(?::(\d{1,5}))?", re.ASCII)


class Address(NamedTuple):
    """`host` with a `/` is the path of a unix socket; its port means nothing."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        return "/" in self.host

    @property
    def is_at_home(self) -> bool:
        """Whether it is on this machine."""
        return self.is_socket or bool(re.fullmatch(r"localhost|127\..*|::1", self.host, re.IGNORECASE))

    def __str__(self) -> str:
        if self.is_socket:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, port: int) -> Address:
    """`port`: where the text names none. Raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if not found or not 0 < int(found[3] or port) < 65536:
        raise ValueError("expected host, host:port or [IPv6]:port")
    return Address(found[1] or found[2], int(found[3] or port))
