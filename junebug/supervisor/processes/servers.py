"""Servers that are exec'd beside our own processes: redis, epmd, rabbitmq of --embedded."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import Any

from supervisor.options import ProcessConfig

from junebug.embedded import ServerProgram
from junebug.supervisor.processes.respawn import RespawningProcess, config_fields, default_signals, die_with_parent

LOG_SIZE = 5_000_000
LOG_BACKUPS = 2


class ServerConfig(ProcessConfig):  # type: ignore[misc]
    """A program that is exec'd, its output kept in a rotated file."""

    def __init__(self, options: Any, program: ServerProgram, log_dir: Path) -> None:
        super().__init__(
            options,
            **config_fields(
                program.name,
                shlex.join(program.command),
                program.stop_timeout,
                stopsignal=program.stop_signal,
                environment=dict(program.environment),
                stdout_logfile=str(log_dir.absolute() / f"{program.name}.log"),
                stdout_logfile_maxbytes=LOG_SIZE,
                stdout_logfile_backups=LOG_BACKUPS,
            ),
        )
        self.parent_death_signal = program.parent_death_signal

    def make_process(self, group: Any = None) -> ServerProcess:
        process = ServerProcess(self)
        process.group = group
        return process


class ServerProcess(RespawningProcess):
    def set_uid(self) -> str | None:
        """supervisord calls this in the child, shortly before the exec: the last moment to say what becomes of it."""
        message: str | None = super().set_uid()
        if message is None and not die_with_parent(self._parent, self.config.parent_death_signal):
            message = "the supervisor is gone"
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an exec'd program would inherit that
        default_signals()
        return message
