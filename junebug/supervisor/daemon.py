"""supervisord, assembled in this process: the parent of everything that Junebug runs (DESIGN §1).

    jb (this process, supervisord's loop: one thread, no event loop, no connections)
    ├─ redis, epmd, rabbitmq   exec'd, with --embedded only
    ├─ channel:<id>, router:<id>  forked; added and removed by the reconciler through rpc.py
    ├─ door                    forked; the shared HTTP listener, where there is one
    ├─ reconciler              forked; told over a pipe that it is worth looking at the channels
    └─ api:<n>                 forked; keep the listening sockets that the parent holds

The list is the order of starting, too (the reconciler before channels that a reload keeps); stopping goes the other way round,
within `stop_timeout` + STOP_MARGIN seconds.
supervisord reads no configuration file: its options are set here. `supervisorctl -c <data_dir>/run/supervisor.conf`
talks to it. SIGHUP and `supervisorctl reload` start everything afresh, the channels that ran before included.
Neighbours: cli.py hands over `Programs`; processes/ has the processes, reconciler.py decides about channels.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import setproctitle
from supervisor.loggers import LevelsByName
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ProcessGroupConfig, ServerOptions
from supervisor.rpcinterface import make_main_rpcinterface
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from junebug import names
from junebug.config.declaration import Settings
from junebug.embedded import ServerProgram
from junebug.errors import StartupError
from junebug.runtime.heartbeat import Heartbeats
from junebug.supervisor import reconciler
from junebug.supervisor.cleanup import Drain
from junebug.supervisor.identity import Identity, identity
from junebug.supervisor.processes.channel import ChannelGroupConfig, Kept, RunChannel
from junebug.supervisor.processes.servers import ServerConfig
from junebug.supervisor.processes.warm_fork import WarmConfig
from junebug.supervisor.rpc import ChannelsInterface

API_PRIORITY = 200
"""Stopped first."""
RECONCILER_PRIORITY = 60
"""Stopped after the channels: it lets others have each one whose process is gone."""
DOOR_PRIORITY = 50
"""Stopped after the channels, which still answer through it."""
API_STOP_TIMEOUT = 3.0
STOP_MARGIN = 4.0
"""Seconds beyond the channels' stop_timeout after which whatever is left is killed."""
API_SILENCE, RECONCILER_SILENCE = 30.0, 15.0
LOG_SIZE, LOG_BACKUPS = 5_000_000, 2


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What the supervisor runs; cli.py composes it, so that no package here imports another."""

    run_channel: RunChannel | None = None
    """None: API processes only, no reconciler and no channels."""
    run_router: RunChannel | None = None
    """Beside `run_channel`."""
    run_api: Callable[[Settings, int], int | None] | None = None
    """Blocking; the number counts from 1. None: no API here."""
    run_door: Callable[[Settings], int | None] | None = None
    """The listener that channels of HTTP types share. None: there is none."""
    drain: Drain | None = None
    """Said of each deleted channel before its queues are removed."""
    preload: Callable[[], None] = field(default=lambda: None)
    """Imports what the children need: once, and shared by all."""
    keep_descriptors: tuple[int, ...] = ()
    """Listening sockets of the API and the door."""
    servers: Sequence[ServerProgram] = ()
    check_host: Callable[[Settings, str, str], None] = field(default=lambda settings, host, place: None)
    """Raises StartupError when somebody else runs under this host id."""

    @property
    def name(self) -> str:
        """Of this supervisor's own files in data_dir: one with channels and one without may share it."""
        return "supervisor" if self.run_channel else "api-supervisor"


def run(settings: Settings, programs: Programs) -> int:
    """Run everything until SIGTERM or SIGINT. Returns the exit code. The settings' directories are there already.

    Raises StartupError when another supervisor uses the same data_dir.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopped_early)  # until supervisord takes them over
    lock = _lock(settings, programs)  # held until this process ends
    who = identity(settings, lock)
    if programs.run_channel:
        programs.check_host(settings, who.id, who.place)
    _write_ctl_config(settings, programs)
    setproctitle.setproctitle(f"junebug: {programs.name.replace('-', ' ')}")
    programs.preload()
    _become_forkable()
    _Wake.install()
    kept: dict[str, dict[str, Kept]] = {names.CHANNEL_GROUP: {}, names.ROUTER_GROUP: {}}
    first = True
    try:
        while True:
            options = _Options(settings, programs, kept, first, who)
            options.realize(args=[], doc="", progname="junebug")
            try:
                _Supervisor(options, settings.stop_timeout + STOP_MARGIN).main()
            except asyncore.ExitNow:
                pass
            finally:
                options.close_httpservers()
                options.close_logger()
                options.close_news()
            first = False
            if options.mood < SupervisorStates.RESTARTING:
                return 0
    finally:
        os.close(lock)


# --- before the first fork --------------------------------------------------------------------------------------------


def _stopped_early(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _lock(settings: Settings, programs: Programs) -> int:
    """The lock file's descriptor. Children close it at once, so it never outlives this process."""
    path = settings.run_dir / f"{programs.name}.lock"
    try:
        for directory in (settings.run_dir, settings.log_dir):  # what a crash prints may hold anything
            directory.chmod(0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"data_dir: cannot write {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StartupError(
            f"data_dir: another Junebug is running in {settings.data_dir!r}; stop it, or choose another with --data-dir"
        ) from None
    return descriptor


def _write_ctl_config(settings: Settings, programs: Programs) -> None:
    """For `supervisorctl -c`; supervisord itself does not read it."""
    path = settings.run_dir / f"{programs.name}.conf"
    url = f"unix://{_socket(settings, programs)}".replace("%", "%%")
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"[supervisorctl]\nserverurl = {url}\nprompt = junebug\n")


def _socket(settings: Settings, programs: Programs) -> Path:
    return (settings.supervisor_socket if programs.run_channel else settings.run_dir / f"{programs.name}.sock").absolute()


def _become_forkable() -> None:
    """Nothing that a fork would share: no open logs, no text in a buffer; and memory that it can share for long."""
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
        handler.close()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.collect()
    gc.freeze()  # else each child's first collection would touch, and so copy, every object's page


class _Wake:
    """A pipe in supervisord's loop that each signal writes to: its poll() would sleep on for a second (PEP 475)."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def install(cls) -> None:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        asyncore.socket_map[read] = cls(read)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        try:
            os.read(self._descriptor, 4096)
        except BlockingIOError:
            pass

    def handle_error(self) -> None:
        """Nothing here can fail in a way that the loop could mend."""


class _News:
    """Wakes the reconciler. What is written while it is away, or does not read, is as good as one octet."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._writer, b".")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


# --- supervisord ------------------------------------------------------------------------------------------------------


class _Options(ServerOptions):  # type: ignore[misc]
    """supervisord's options, from our settings instead of a file."""

    def __init__(
        self, settings: Settings, programs: Programs, kept: dict[str, dict[str, Kept]], first: bool, who: Identity
    ) -> None:
        super().__init__()
        self.first = first
        self.test = False
        self._settings = settings
        self._programs = programs
        self._kept = kept
        self._who = who
        self.heartbeats = Heartbeats()
        self._news = _News()
        self._channels: list[ChannelGroupConfig] = []
        self._groups: list[Any] | None = None

    def default_configfile(self) -> str:
        return str((self._settings.run_dir / f"{self._programs.name}.conf").absolute())

    def read_config(self, fp: Any) -> Any:
        """Also what `supervisorctl update` comes to: always the same groups, so it never drops one."""
        name, log_dir = self._programs.name, self._settings.log_dir.absolute()
        if self._groups is None:
            self._groups = list(self._make_groups())
        section = self.configroot.supervisord
        vars(section).update(
            nodaemon=True, silent=True, user=None, umask=0o022, directory=None, environment={}, identifier="junebug",
            logfile=str(log_dir / f"{name}.log"), logfile_maxbytes=LOG_SIZE, logfile_backups=LOG_BACKUPS,
            loglevel=LevelsByName.INFO, childlogdir=str(log_dir), nocleanup=True, strip_ansi=False,
            pidfile=str((self._settings.run_dir / f"{name}.pid").absolute()),
            minfds=1024, minprocs=1, profile_options=None,
            process_group_configs=self._groups,
            rpcinterface_factories=[("supervisor", make_main_rpcinterface, {})],
            server_configs=[{
                "name": None, "section": "unix_http_server", "username": None, "password": None,
                "family": socket.AF_UNIX, "file": str(_socket(self._settings, self._programs)),
                "chmod": 0o700, "chown": (-1, -1),
            }],
        )  # fmt: skip
        if channels := self._channels:
            section.rpcinterface_factories.append(
                ("channels", lambda supervisord: ChannelsInterface(supervisord, channels), {})
            )
        return section

    def _make_groups(self) -> Any:
        settings, programs = self._settings, self._programs
        for server in programs.servers:
            config = ServerConfig(self, server, settings.log_dir)
            yield ProcessGroupConfig(self, server.name, server.priority, [config])
        if programs.run_channel:
            for name, run in ((names.CHANNEL_GROUP, programs.run_channel), (names.ROUTER_GROUP, programs.run_router)):
                if run:
                    self._channels.append(ChannelGroupConfig(self, settings, name, run, self._kept[name], self._news.tell))
            yield from self._channels
            reconciler = self._watched("reconciler", self._run_reconciler, RECONCILER_SILENCE, (self._news.reader,))
            yield ProcessGroupConfig(self, "reconciler", RECONCILER_PRIORITY, [reconciler])
        if run_door := programs.run_door:
            door = self._watched("door", lambda process: run_door(self._settings), API_SILENCE, programs.keep_descriptors)
            yield ProcessGroupConfig(self, "door", DOOR_PRIORITY, [door])
        if programs.run_api:
            apis = [self._api(programs.run_api, number + 1) for number in range(settings.workers)]
            yield ProcessGroupConfig(self, "api", API_PRIORITY, apis)

    def _api(self, run_api: Callable[[Settings, int], int | None], number: int) -> WarmConfig:
        kept = self._programs.keep_descriptors
        return self._watched(f"api:{number}", lambda process: run_api(self._settings, number), API_SILENCE, kept)

    def _watched(
        self, program: str, main: Callable[[Any], int | None], silence: float, kept: Sequence[int]
    ) -> WarmConfig:
        return WarmConfig(
            self, program.rpartition(":")[2], f"junebug: {program}", main,
            min(API_STOP_TIMEOUT, self._settings.stop_timeout), silence_timeout=silence, kept=kept,
        )  # fmt: skip

    def _run_reconciler(self, process: Any) -> int:
        return reconciler.run(self._settings, self._who, self._programs.drain, self._news.reader)

    def usage(self, msg: Any) -> NoReturn:
        """supervisord cannot go on; for us that is an error like others."""
        raise StartupError(f"data_dir: supervisord cannot start: {' '.join(str(msg).split())}")

    def openhttpservers(self, supervisord: Supervisor) -> None:
        _socket(self._settings, self._programs).unlink(missing_ok=True)  # we hold the lock: whoever left it is dead
        super().openhttpservers(supervisord)

    def set_uid_or_exit(self) -> None:
        """Who we run as is systemd's or the user's business, and no reason for a warning."""

    def set_rlimits_or_exit(self) -> None:
        """Done before, as far as permitted."""

    def close_news(self) -> None:
        self._news.close()

    def cleanup_fds(self) -> None:
        """Would close the API's sockets at a reload; nothing leaks that it would have to close."""


class _Supervisor(Supervisor):  # type: ignore[misc]
    """supervisord's loop, with a stop that is bounded and wastes no turn of the loop on groups that are empty."""

    def __init__(self, options: _Options, stop_within: float) -> None:
        super().__init__(options)
        self._stop_within = stop_within
        self._kill_at: float | None = None

    def ordered_stop_groups_phase_1(self) -> None:
        """Stop the groups of the highest priority number among those that still run."""
        running = [group for group in self.process_groups.values() if group.get_unstopped_processes()]
        last = max((group.config.priority for group in running), default=0)
        for group in running:
            if group.config.priority == last:
                group.stop_all()
        self._kill_when_late(running)

    def ordered_stop_groups_phase_2(self) -> None:
        """The next turn's phase 1 looks at what is left."""

    def _kill_when_late(self, running: list[Any]) -> None:
        now = time.monotonic()
        if self._kill_at is None:
            self._kill_at = now + self._stop_within
        if now < self._kill_at:
            return
        for group in running:
            for process in group.get_unstopped_processes():
                if process.pid:
                    self.options.logger.warn(f"killing {process.config.name} ({process.pid}): the time to stop is over")
                    process.kill(signal.SIGKILL)
