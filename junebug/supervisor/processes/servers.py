"""Servers that are exec'd beside our own processes: redis, epmd, rabbitmq of --embedded."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Any

from junebug.embedded import ServerProgram
from junebug.supervisor.processes.respawn import RespawningConfig, RespawningProcess, default_signals, die_with_parent

LOG_SIZE, LOG_BACKUPS = 5_000_000, 2
SERVER_STOP_TIMEOUT = 10.0


class ServerProcess(RespawningProcess):
    def set_uid(self) -> str | None:
        """supervisord calls this in the child, shortly before the exec: the last moment to say what becomes of it."""
        message: str | None = super().set_uid()
        # both servers keep what they confirmed through a kill
        if message is None and not die_with_parent(self._parent, signal.SIGKILL):
            message = "the supervisor is gone"
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an exec'd program would inherit that
        default_signals()
        return message


class ServerConfig(RespawningConfig):
    """A program that is exec'd, its output kept in a rotated file."""

    process = ServerProcess

    def __init__(self, options: Any, program: ServerProgram, log_dir: Path) -> None:
        super().__init__(
            options, program.name, shlex.join(program.command), SERVER_STOP_TIMEOUT,
            environment=dict(program.environment), stdout_logfile=str(log_dir.absolute() / f"{program.name}.log"),
            stdout_logfile_maxbytes=LOG_SIZE, stdout_logfile_backups=LOG_BACKUPS,
        )  # fmt: skip
