"""PduLog: each PDU that comes or goes as one line of the channel's log: its octets in hexadecimal, without secrets.

A password never shows; texts do unless the channel's config says `redact_content`. Neighbour: pdu_line.py shows the lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from junebug.logs.redaction import REDACTED
from junebug.smpp import constants as c
from junebug.smpp.pdu import BINDS, Pdu
from junebug.smpp.session import Direction
from junebug.transports.smpp.pdu_line import MESSAGE, describe

_WITH_PASSWORD = (*BINDS, c.OUTBIND)
_WITH_CONTENT = (c.SUBMIT_SM, c.DELIVER_SM, c.DATA_SM, c.SUBMIT_MULTI, c.REPLACE_SM)


_COUNTED = (c.ENQUIRE_LINK, c.ENQUIRE_LINK | c.RESPONSE)
COUNTED_FOR = 30.0
"""Seconds after one of these in which the next are only counted: some peers ask a thousand times a second."""


class PduLog:
    """One channel's."""

    def __init__(self, redact_content: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._redact = redact_content
        self._clock = clock
        self._repeated: dict[tuple[str, int], list[float]] = {}
        """(direction, command_id) of those that are counted -> [when one was logged, how many were not since]."""
        self._log = structlog.stdlib.get_logger("smpp").bind()  # bound once: each line is on the hot path

    def __call__(self, direction: Direction, raw: bytes, pdu: Pdu | None, message_id: str | None) -> None:
        """`pdu` is None for what could not be decoded."""
        command_id = int.from_bytes(raw[4:8], "big")
        entry: dict[str, Any] = {"direction": direction}
        if message_id is not None:
            entry["message_id"] = message_id
        if pdu is None:
            entry["pdu"] = c.command_name(command_id)
            self._log.warning("undecodable PDU", **entry, hex=self._hex(raw, command_id))
            return
        if command_id in _COUNTED:
            counted = self._repeated.get((direction, command_id))
            if counted and self._clock() - counted[0] < COUNTED_FOR:
                counted[1] += 1
                return
            self._repeated[direction, command_id] = [self._clock(), 0]
            if counted and counted[1]:
                entry["not_logged_before"] = int(counted[1])
        if self._redact and command_id in _WITH_CONTENT:  # what its octets say cannot be told from them later
            entry |= describe(pdu, {}, redact=True)
        self._log.info(MESSAGE, **entry, hex=self._hex(raw, command_id))

    def _hex(self, raw: bytes, command_id: int) -> str:
        if command_id in _WITH_CONTENT and self._redact:
            return REDACTED
        if command_id in _WITH_PASSWORD:
            return without_password(raw).hex()
        return raw.hex()


def without_password(raw: bytes) -> bytes:
    """A bind or outbind with stars for its password."""
    system_id, _, rest = raw[16:].partition(b"\0")
    password, end, rest = rest.partition(b"\0")
    return raw[:16] + system_id + b"\0" + b"*" * len(password) + end + rest
