"""A channel's or a router's process, the one group that all of its kind are in, and what they print.

supervisord's loop looks at every process and at every pipe at each turn. There may be a thousand of us: the group has it look
at those only that are on their way from one state to another, and at one epoll for all pipes.
Neighbours: warm_fork.py is how it is forked; rpc.py makes channels come and go.
"""

from __future__ import annotations

import os
import re
import select
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.dispatchers import PDispatcher
from supervisor.options import ProcessGroupConfig
from supervisor.process import ProcessGroup
from supervisor.states import ProcessStates

from junebug.config.declaration import Settings
from junebug.model.spec import Launch
from junebug.runtime import fence
from junebug.supervisor.processes.warm_fork import PIPES, WarmConfig, WarmProcess

CHANNEL_PRIORITY = 100
CRASH_LOG_SIZE = 100_000

RunChannel = Callable[[Settings, str, Launch], int]


class ChannelProcess(WarmProcess):
    """One channel's."""

    group: ChannelGroup

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        self.group.on_change(self)

    def finish(self, pid: int, sts: int) -> None:
        self.group.outputs.remove(self.dispatchers)  # while their descriptors still are theirs
        super().finish(pid, sts)


class ChannelGroup(ProcessGroup):  # type: ignore[misc]
    """All channels."""

    config: ChannelGroupConfig
    processes: dict[str, ChannelProcess]

    def __init__(self, config: ChannelGroupConfig) -> None:
        self.outputs = Outputs(config.options.logger)
        super().__init__(config)
        self._on_their_way = dict(self.processes)

    def on_change(self, process: ChannelProcess) -> None:
        """It has come to another state."""
        if process.state in (ProcessStates.RUNNING, ProcessStates.STOPPED):
            self._on_their_way.pop(process.config.name, None)
        else:
            self._on_their_way[process.config.name] = process
        if process.state != ProcessStates.STARTING:  # that is done because the reconciler said so, or after a death
            self.config.on_news()

    def transition(self) -> None:
        """Time passes only for those that wait for something."""
        for process in list(self._on_their_way.values()):
            process.transition()

    def get_dispatchers(self) -> dict[int, Any]:
        return {self.outputs.fileno(): self.outputs}


class ChannelConfig(WarmConfig):
    """One channel. What it prints (a crash: it logs to its own file) is kept in a small log."""

    process = ChannelProcess

    def __init__(
        self, options: Any, settings: Settings, channel: str, kept: Kept, run: RunChannel, program: str
    ) -> None:
        def main(process: Any) -> int:
            fence.adopt(self.heartbeat)
            launch = Launch(kept.generation, process.restarts, process.last_exit, kept.fence, kept.is_shared)
            return run(settings, channel, launch)

        super().__init__(
            options,
            channel,
            f"junebug: {program}",
            main,
            settings.stop_timeout,
            stdout_logfile=str(crash_log(settings, channel).absolute()),
        )
        self._lasting = kept
        self.grant(kept.granted)

    @property
    def generation(self) -> int:
        return self._lasting.generation

    @generation.setter
    def generation(self, generation: int) -> None:
        self._lasting.generation = generation

    def grant(self, granted: tuple[float, bool]) -> None:
        """Tell its process until when it may work, and whether only while it is connected to RabbitMQ (runtime/fence.py)."""
        self._lasting.granted = granted
        self.heartbeat.lease(*granted)

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        """One pipe, and no open file until something is printed: there may be a thousand of us."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        pipes = dict.fromkeys(PIPES) | {"stdout": read, "child_stdout": write}
        dispatchers = {read: CrashOutput(process, "stdout", read)}
        process.group.outputs.add(dispatchers)
        return dispatchers, pipes

    def output_descriptor(self, pipes: Mapping[str, int | None]) -> int | None:
        return pipes["child_stdout"]


@dataclass
class Kept:
    """What outlives supervisord's reload: what ran before runs again."""

    generation: int
    fence: int = 0
    is_shared: bool = False
    granted: tuple[float, bool] = (0.0, False)


class ChannelGroupConfig(ProcessGroupConfig):  # type: ignore[misc]
    """The one group of all channels, or of all routers (named `name`); they come and go at run time (rpc.py).

    `kept` (by channel) outlives supervisord's reload. `on_news`: it is worth looking at them.
    """

    def __init__(
        self, options: Any, settings: Settings, name: str, run: RunChannel, kept: dict[str, Kept], on_news: Callable[[], None]
    ) -> None:
        """`run`: what a process of the group does, with the settings and its id."""
        self.on_news = on_news
        self._settings = settings
        self._run = run
        self._kept = kept
        super().__init__(options, name, CHANNEL_PRIORITY, [])
        self.process_configs += [self._config(channel, each) for channel, each in kept.items()]

    def make_group(self) -> ChannelGroup:
        return ChannelGroup(self)

    def add(self, channel: str, generation: int, fence: int = 0, is_shared: bool = False) -> ChannelConfig:
        kept = self._kept[channel] = Kept(generation, fence, is_shared)
        config = self._config(channel, kept)
        self.process_configs.append(config)
        return config

    def _config(self, channel: str, kept: Kept) -> ChannelConfig:
        program = f"{self.name}:{channel}"
        return ChannelConfig(self.options, self._settings, channel, kept, self._run, program)

    def renew(self, config: ChannelConfig, generation: int) -> None:
        config.generation = generation

    def remove(self, config: ChannelConfig) -> None:
        self._kept.pop(config.name, None)
        self.process_configs[:] = [each for each in self.process_configs if each is not config]
        self.options.heartbeats.remove(config.heartbeat)


# --- what they print --------------------------------------------------------------------------------------------------

_CRASH_LOG = re.compile(r"channel-(.+)\.log(?:\.1)?")


def crash_log(settings: Settings, channel: str) -> Path:
    """What a channel's processes printed; the one before it has `.1` appended."""
    return settings.log_dir / f"channel-{channel}.log"


def crash_log_of(name: str) -> str:
    """The unit whose crash log, or the one before it, a file of this name is; empty: it is none."""
    found = _CRASH_LOG.fullmatch(name)
    return found[1] if found else ""


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


class Outputs:
    """All channels' pipes, as one descriptor in supervisord's loop."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._epoll = select.epoll()
        self._dispatchers: dict[int, CrashOutput] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    def add(self, dispatchers: Mapping[int, CrashOutput]) -> None:
        for pipe, dispatcher in dispatchers.items():
            self._dispatchers[pipe] = dispatcher
            self._epoll.register(pipe, select.EPOLLIN)

    def remove(self, pipes: Iterable[int]) -> None:
        for pipe in pipes:
            self._dispatchers.pop(pipe, None)
            with suppress(OSError):  # it is done: the process had closed it
                self._epoll.unregister(pipe)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        for pipe, _ in self._epoll.poll(0):
            dispatcher = self._dispatchers.get(pipe)
            if dispatcher:
                dispatcher.handle_read_event()
            if dispatcher is None or not dispatcher.readable():
                self.remove((pipe,))

    def handle_error(self) -> None:
        self._logger.critical(f"reading what channels print failed: {traceback.format_exc()}")
