"""The `id` of a live event: where its reader stands in each log that it follows. Pure.

It names the logs that were read in the last seconds, each with its host and place, and a time: in all others what is newer than
that comes next. So it is short however many logs there are, holds after a rotation and a restart, and for every API process.
Neighbours: logs/follow.py says what was read when, handlers/stream.py writes the ids.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping

from junebug.errors import ApiUsageError
from junebug.logs.follow import SETTLED
from junebug.logs.places import Place

VERSION = 1
MOST_NAMED = 64
"""Logs in an id. Of others that are written to at the same moment some lines may come twice after a reconnect."""
LONGEST_ID = 2000
_HEAD, _NAMED, _SUM = struct.Struct(">BQ"), struct.Struct(">5sIQ"), struct.Struct(">I")


class Progress:
    """Of one reader: what it was given."""

    def __init__(self, since: float = 0.0, known: Mapping[bytes, Place] | None = None) -> None:
        """`since` and `known`: what an id said."""
        self._since = since
        self._moved: dict[bytes, tuple[bytes, float]] = {
            short: (_packed(short, place), float("inf")) for short, place in (known or {}).items()
        }
        """The short name of a log -> its part of the id, and when it was read; the latest comes last."""

    def read(self, log: str, place: Place, at: float, host: str = "") -> None:
        """It was given the part of the log that lies on this host up to there, which was read at that time."""
        short = short_of(log, host)
        self._moved.pop(short, None)
        self._moved[short] = (_packed(short, place), at)

    def complete(self, at: float) -> None:
        """It was given all that was in the files at that time."""
        self._since = int((at - SETTLED) * 1000) / 1000  # as it is told
        for short, (part, read_at) in list(self._moved.items()):
            if read_at == float("inf"):
                self._moved[short] = (part, at)
            elif read_at < self._since:
                del self._moved[short]

    @property
    def id(self) -> str:
        named = list(self._moved.values())[-MOST_NAMED:]
        octets = b"".join([_HEAD.pack(VERSION, int(self._since * 1000)), *(part for part, _ in named)])
        return base64.urlsafe_b64encode(octets + _SUM.pack(zlib.crc32(octets))).decode().rstrip("=")


def read_id(text: str) -> tuple[float, dict[bytes, Place]]:
    """(since, short name of a log -> place). Raises ApiUsageError for what is no id of ours."""
    try:
        if len(text) > LONGEST_ID:
            raise ValueError
        octets = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        octets, found = octets[: -_SUM.size], octets[-_SUM.size :]
        version, milliseconds = _HEAD.unpack_from(octets)
        if version != VERSION or found != _SUM.pack(zlib.crc32(octets)):
            raise ValueError
        parts = list(_NAMED.iter_unpack(octets[_HEAD.size :]))
    except (ValueError, binascii.Error, struct.error):
        raise ApiUsageError("Last-Event-ID: this is no id of an event of this stream: leave it out to begin now") from None
    return milliseconds / 1000, {short: Place(mark, offset) for short, mark, offset in parts}


def places_of(known: Mapping[bytes, Place], logs: Iterable[str], host: str = "", *, is_own: bool = True) -> dict[str, Place]:
    """Log -> place in what lies of it on this host, of those that an id names. `is_own`: what an older Junebug's id names lies
    here, too.
    """
    found = {}
    for log in logs:
        place = known.get(short_of(log, host)) or (known.get(short_of(log)) if is_own else None)
        if place is not None:
            found[log] = place
    return found


def short_of(log: str, host: str = "") -> bytes:
    return hashlib.blake2s(f"{log} {host}".strip().encode(), digest_size=5).digest()


def _packed(short: bytes, place: Place) -> bytes:
    return _NAMED.pack(short, place.mark, place.offset)
