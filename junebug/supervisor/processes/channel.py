"""A channel's process, the one group that all of them are in, and what they print.

Neighbours: warm_fork.py is how it is forked; rpc.py makes channels come and go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.dispatchers import PDispatcher
from supervisor.options import ProcessGroupConfig

from junebug import names
from junebug.config.declaration import Settings
from junebug.model.spec import Launch
from junebug.supervisor.processes.warm_fork import PIPES, WarmConfig

CHANNEL_PRIORITY = 100
CRASH_LOG_SIZE = 100_000

RunChannel = Callable[[Settings, str, Launch], int]


class ChannelConfig(WarmConfig):
    """One channel. What it prints (a crash: it logs to its own file) is kept in a small log."""

    def __init__(self, options: Any, settings: Settings, channel: str, generation: int, run: RunChannel) -> None:
        program = names.channel_program(channel)
        super().__init__(
            options,
            channel,
            f"junebug: {program}",
            lambda process: run(settings, channel, Launch(self.generation, process.restarts, process.last_exit)),
            settings.stop_timeout,
            stdout_logfile=str(crash_log(settings, channel).absolute()),
        )
        self.generation = generation

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        """One pipe, and no open file until something is printed: there may be a thousand of us."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        pipes = dict.fromkeys(PIPES) | {"stdout": read, "child_stdout": write}
        return {read: CrashOutput(process, "stdout", read)}, pipes

    def output_descriptor(self, pipes: Mapping[str, int | None]) -> int | None:
        return pipes["child_stdout"]


class ChannelGroupConfig(ProcessGroupConfig):  # type: ignore[misc]
    """The one group of all channels; they come and go at run time (rpc.py).

    `kept` (channel -> generation) outlives supervisord's reload: what ran before runs again.
    """

    def __init__(self, options: Any, settings: Settings, run: RunChannel, kept: dict[str, int]) -> None:
        self._settings = settings
        self._run = run
        self._kept = kept
        configs = [ChannelConfig(options, settings, channel, kept[channel], run) for channel in kept]
        super().__init__(options, names.CHANNEL_GROUP, CHANNEL_PRIORITY, configs)

    def add(self, channel: str, generation: int) -> ChannelConfig:
        self._kept[channel] = generation
        config = ChannelConfig(self.options, self._settings, channel, generation, self._run)
        self.process_configs.append(config)
        return config

    def renew(self, config: ChannelConfig, generation: int) -> None:
        self._kept[config.name] = config.generation = generation

    def remove(self, config: ChannelConfig) -> None:
        self._kept.pop(config.name, None)
        self.process_configs[:] = [each for each in self.process_configs if each is not config]
        self.options.heartbeats.remove(config.heartbeat)


# --- what they print --------------------------------------------------------------------------------------------------


def crash_log(settings: Settings, channel: str) -> Path:
    """What a channel's processes printed; the one before it has `.1` appended."""
    return settings.log_dir / f"channel-{channel}.log"


class CrashOutput(PDispatcher):  # type: ignore[misc]
    """Appends what comes out of a pipe to the process's log file, opened only then."""

    event_type = events.ProcessLogStdoutEvent

    def readable(self) -> bool:
        return not self.closed

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        data = self.process.config.options.readfd(self.fd)
        if not data:
            self.close()
            return
        try:
            self._append(Path(self.process.config.stdout_logfile), data)
        except OSError as error:  # a full disk loses the text, never the channel
            self.process.config.options.logger.warn(f"cannot write {self.process.config.stdout_logfile}: {error}")

    def _append(self, path: Path, data: bytes) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab") as file:
            os.fchmod(file.fileno(), 0o600)  # one that an older Junebug made
            file.write(data)
            size = file.tell()
        if size > CRASH_LOG_SIZE:
            path.replace(path.with_name(f"{path.name}.1"))

    def removelogs(self) -> None:
        """supervisorctl clear."""
        Path(self.process.config.stdout_logfile).unlink(missing_ok=True)

    def reopenlogs(self) -> None:
        """Nothing is kept open."""
