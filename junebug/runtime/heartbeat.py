"""A process's sign of life: a file that its event loop touches, so that whoever watches sees a loop that hangs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger(__name__)

INTERVAL = 1.0


async def beat(path: Path) -> None:
    """Touch the file every second, until cancelled. A disk that does not let us is logged once, and tried again."""
    trouble = ""
    while True:
        try:
            _touch(path)
            trouble = ""
        except OSError as error:
            if str(error) != trouble:
                log.warning("no heartbeat", reason=str(error))
            trouble = str(error)
        await asyncio.sleep(INTERVAL)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
