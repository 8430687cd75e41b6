"""supervisord's event listener protocol, as the reconciler speaks it: each event is a hint that it is worth looking."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

MAX_EVENT = 64 * 1024


async def listen(protocol_in: int, protocol_out: int, hear: Callable[[], None]) -> None:
    """supervisord's event listener protocol: take each event as a hint and say so at once."""
    reader = asyncio.StreamReader(MAX_EVENT)
    pipe = os.fdopen(protocol_in, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    os.write(protocol_out, b"READY\n")
    while header := await reader.readline():
        fields = dict(part.split(":", 1) for part in header.decode().split())
        await reader.readexactly(int(fields["len"]))
        hear()
        os.write(protocol_out, b"RESULT 2\nOKREADY\n")
    raise ConnectionError("supervisord has closed the event pipe")
