"""What each channel's start runs through, run through in the parent of all.

CPython fits code to what its first calls are about, and writes that into the code's own pages. What the parent has done, a
thousand channels share: each starts with a tenth less of CPU. Neighbours: cli.py has it done before the first fork.
"""

from __future__ import annotations

from junebug.amqp import rehearsal
from junebug.config.declaration import Settings
from junebug.logs.redaction import Redactor
from junebug.model.spec import Launch
from junebug.worker.process import ChannelWorker

TIMES = 16


def rehearse(settings: Settings) -> None:
    """Needs no server, and leaves nothing behind."""
    for _ in range(TIMES):
        ChannelWorker(settings, "rehearsal", Launch(), Redactor())
        rehearsal.rehearse()
