"""A channel's process, and the one group that all of them are in.

Neighbours: warm_fork.py is how it is forked, crash_log.py where its output goes; rpc.py makes channels come and go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.options import ProcessGroupConfig

from junebug import names
from junebug.config.declaration import Settings
from junebug.model.spec import Launch
from junebug.supervisor.processes.crash_log import CrashOutput, crash_log
from junebug.supervisor.processes.warm_fork import PIPES, WarmConfig, WarmProcess

CHANNEL_PRIORITY = 100

RunChannel = Callable[[Settings, str, Launch], int]


class ChannelConfig(WarmConfig):
    """One channel. What it prints (a crash: it logs to its own file) is kept in a small log."""

    def __init__(self, options: Any, settings: Settings, channel: str, generation: int, run: RunChannel) -> None:
        program = names.channel_program(channel)
        super().__init__(
            options,
            channel,
            f"junebug: {program}",
            lambda process: run(settings, channel, process.launch),
            settings.stop_timeout,
            stdout_logfile=str(crash_log(settings, channel).absolute()),
        )
        self.generation = generation

    def make_process(self, group: Any = None) -> ChannelProcess:
        process = ChannelProcess(self)
        process.group = group
        return process

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        """One pipe, and no open file until something is printed: there may be a thousand of us."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        pipes = dict.fromkeys(PIPES) | {"stdout": read, "child_stdout": write}
        return {read: CrashOutput(process, "stdout", read)}, pipes

    def output_descriptor(self, pipes: Mapping[str, int | None]) -> int | None:
        return pipes["child_stdout"]


class ChannelProcess(WarmProcess):
    @property
    def launch(self) -> Launch:
        """What the new process is told of itself."""
        return Launch(self.config.generation, self.restarts, self.last_exit)


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
