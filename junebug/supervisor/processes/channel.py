"""Processes as supervisord runs them: warm forks of the supervisor itself, and exec'd servers.

    RespawningProcess   the restart policy: at once, then ever slower, never given up
    ├─ ServerProcess    exec'd: redis, epmd, rabbitmq of --embedded
    └─ WarmProcess      forked and not exec'd: the code is there already, imported and shared (DESIGN §1)
         made by ChannelConfig, ApiConfig, ReconcilerConfig, which differ in what becomes of the child's descriptors

All run in supervisord's single thread, except `_spawn_as_child`, whose every line runs in the new process: it never
returns, never logs through supervisord's logger (its file is closed there), and always ends in os._exit.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import setproctitle
from supervisor import events
from supervisor.datatypes import RestartUnconditionally
from supervisor.dispatchers import PDispatcher, PEventListenerDispatcher, PInputDispatcher
from supervisor.options import ProcessConfig, ProcessGroupConfig, signame
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates

from junebug import names
from junebug.config.declaration import Settings
from junebug.embedded import ServerProgram
from junebug.model.spec import Launch
from junebug.supervisor.reconcile import RAN_WELL, Pulse, SilenceWatch, respawn_pause

CRASH_LOG_SIZE = 100_000
SERVER_LOG_SIZE = 5_000_000
SERVER_LOG_BACKUPS = 2
CHANNEL_PRIORITY = 100
EXIT_CRASHED = 70
EXIT_ORPHANED = 71

_SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_PR_SET_PDEATHSIG = 1
_HIGHEST_DESCRIPTOR = 1 << 20
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: not in each child


# --- the restart policy -----------------------------------------------------------------------------------------------


class RespawningProcess(Subprocess):  # type: ignore[misc]
    """A process that is to run until somebody stops it on purpose.

    BACKOFF is the state of whatever died unasked, however long it ran, and of whatever could not be forked: a stop then
    ends the waiting. supervisord's own FATAL is never reached (startretries is endless).
    """

    failures = 0
    """In a row, each soon after the one before."""
    restarts = 0
    """Unexpected deaths since it was started on purpose."""
    deaths = 0
    last_exit: str | None = None
    died_pid = 0
    died_at = 0.0
    dispatchers: dict[int, Any]
    pipes: dict[str, int | None]
    start_when_stopped = False
    """It is being stopped in order to be started afresh."""
    _parent = 0

    def spawn(self) -> int | None:
        """Fork; None when that failed (it is tried again, like any death)."""
        if self.pid:
            return None
        if self.state != ProcessStates.BACKOFF:  # on purpose
            self.failures = self.restarts = 0
            self.last_exit = None
        self.start_when_stopped = False
        self._parent = os.getpid()
        # a signal that comes before the child has reset its handlers must wait: ours would only note it down
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid: int | None = super().spawn()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not pid:
            self.dispatchers, self.pipes = {}, {}  # closed already; poll() would stumble over them for ever
        return pid

    def restart(self) -> None:
        """Start it afresh; it is stopped first where it runs. Returns at once."""
        if self.pid:
            self.start_when_stopped = True
            if self.state in (ProcessStates.STARTING, ProcessStates.RUNNING):
                self.stop()
        else:
            if self.state == ProcessStates.BACKOFF:
                self.stop()
            self.spawn()

    def finish(self, pid: int, sts: int) -> None:
        """The process was reaped. Respawn now, not at the next turn of the loop up to a second later."""
        if not self.killing:
            now = time.time()
            if now - self.laststart >= RAN_WELL:
                self.failures = 0
            self.restarts += 1
            self.deaths += 1
            self.last_exit, self.died_pid, self.died_at = exit_text(sts), pid, now
        super().finish(pid, sts)
        if self.state == ProcessStates.EXITED:
            self.change_state(ProcessStates.BACKOFF)
        if self.start_when_stopped and self._may_start():
            self.spawn()
        self.transition()

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self.failures += 1
            self.backoff = respawn_pause(self.failures)
            self.delay = time.time() + self.backoff if self.backoff else 0

    def _may_start(self) -> bool:
        return bool(self.config.options.mood == SupervisorStates.RUNNING)


def exit_text(status: int) -> str:
    """How a process ended, from waitpid's status: `killed by SIGKILL`, `ended with exit code 1`."""
    if os.WIFSIGNALED(status):
        return f"killed by {signame(os.WTERMSIG(status))}"
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def _config_fields(name: str, command: str, stop_timeout: float, **more: Any) -> dict[str, Any]:
    """supervisord's settings of one program, as its configuration file would have them."""
    return {
        "name": name,
        "command": command,
        "uid": None,
        "directory": None,
        "umask": None,
        "priority": 999,
        "autostart": True,
        "autorestart": RestartUnconditionally,
        "startsecs": 1,
        "startretries": sys.maxsize,
        "stopsignal": signal.SIGTERM,
        "stopwaitsecs": stop_timeout,
        "stopasgroup": False,
        "killasgroup": True,
        "exitcodes": [0],
        "redirect_stderr": True,
        "environment": {},
        **{f"{stream}_{key}": value for stream in ("stdout", "stderr") for key, value in _NO_LOG.items()},
        **more,
    }


_NO_LOG = {
    "logfile": None,
    "logfile_maxbytes": 0,
    "logfile_backups": 0,
    "capture_maxbytes": 0,
    "events_enabled": False,
    "syslog": False,
}


# --- exec'd servers ---------------------------------------------------------------------------------------------------


class ServerConfig(ProcessConfig):  # type: ignore[misc]
    """A program that is exec'd, its output kept in a rotated file."""

    def __init__(self, options: Any, program: ServerProgram, log_dir: Path) -> None:
        super().__init__(
            options,
            **_config_fields(
                program.name,
                shlex.join(program.command),
                program.stop_timeout,
                stopsignal=program.stop_signal,
                environment=dict(program.environment),
                stdout_logfile=str(log_dir.absolute() / f"{program.name}.log"),
                stdout_logfile_maxbytes=SERVER_LOG_SIZE,
                stdout_logfile_backups=SERVER_LOG_BACKUPS,
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
        if message is None and not _die_with_parent(self._parent, self.config.parent_death_signal):
            message = "the supervisor is gone"
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an exec'd program would inherit that
        _default_signals()
        return message


# --- warm forks -------------------------------------------------------------------------------------------------------


class WarmConfig(ProcessConfig):  # type: ignore[misc]
    """A process that is forked from the supervisor and calls `main(process)`, whose result is the exit code."""

    def __init__(
        self, options: Any, name: str, title: str, main: Callable[[Any], int | None], stop_timeout: float, **more: Any
    ) -> None:
        super().__init__(options, **_config_fields(name, f"[{title}]", stop_timeout, **more))
        self.title = title
        self.main = main
        self.heartbeat: Path | None = None
        """Watched by supervisord itself, where nobody else does."""
        self.silence_timeout = 0.0

    def make_process(self, group: Any = None) -> WarmProcess:
        process = WarmProcess(self)
        process.group = group
        return process

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        """No pipes: the output goes where the supervisor's goes."""
        return {}, dict.fromkeys(_PIPES)

    def output_descriptor(self, pipes: Mapping[str, int | None]) -> int | None:
        """What becomes the child's stdout and stderr; None: they stay the supervisor's."""
        return None

    def kept_descriptors(self, pipes: Mapping[str, int | None]) -> Sequence[int]:
        """What else stays open in the child."""
        return ()


_PIPES = ("stdin", "stdout", "stderr", "child_stdin", "child_stdout", "child_stderr")


class WarmProcess(RespawningProcess):
    """A fork of the supervisor."""

    _watch: SilenceWatch | None = None
    _next_look = 0.0

    def get_execv_args(self) -> tuple[str, list[str]]:
        return self.config.command, [self.config.command]  # shown, never exec'd: there is no file to look up

    def transition(self) -> None:
        super().transition()
        if self.config.heartbeat is not None and self.state == ProcessStates.RUNNING:
            self._kill_if_silent(time.time())

    def _kill_if_silent(self, now: float) -> None:
        """Who watches the reconciler? supervisord, which needs one stat a second for it."""
        if self._watch is None:
            # one that has not touched its file yet may be waiting for Redis; it is never taken for hung
            self._watch = SilenceWatch(self.config.silence_timeout, starting_grace=float("inf"))
        if 0 <= self._next_look - now <= 1.0:
            return
        self._next_look = now + 1.0
        pulse = Pulse(self.config.name, self.pid, self.laststart, touched_at(self.config.heartbeat))
        if self._watch.look(now, [pulse]):
            self.config.options.logger.warn(f"{self.config.title}: its event loop is silent, killing pid {self.pid}")
            self.signal(signal.SIGKILL)

    def _spawn_as_child(self, filename: str, argv: list[str]) -> NoReturn:
        """The one private method of supervisor's that is overridden. Everything here runs in the new process."""
        code: int | None = EXIT_CRASHED
        try:
            self._settle()
            code = self.config.main(self)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else EXIT_CRASHED if error.code else 0
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code or 0)

    def _settle(self) -> None:
        """Become a process of one's own: nothing of the supervisor's but its memory is left."""
        gc.freeze()  # what was made since the supervisor's own freeze: collecting would copy its pages
        os.setpgrp()  # a Ctrl-C in the terminal is the supervisor's affair
        self._take_descriptors()
        message = self.set_uid()
        if message:
            raise SystemExit(f"cannot change user: {message}")
        if not _die_with_parent(self._parent, signal.SIGKILL):
            os._exit(EXIT_ORPHANED)
        setproctitle.setproctitle(self.config.title)
        os.environ["SUPERVISOR_PROCESS_NAME"] = self.config.name
        faulthandler.enable()
        signal.set_wakeup_fd(-1)
        _default_signals()  # the random module has seeded itself afresh at the fork, uuid and ssl read the system's

    def _take_descriptors(self) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        output = self.config.output_descriptor(self.pipes)
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        low = 3
        for kept in sorted(set(self.config.kept_descriptors(self.pipes))):
            if kept >= low:
                os.closerange(low, kept)
                low = kept + 1
        os.closerange(low, _HIGHEST_DESCRIPTOR)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = (
            open(number, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
            for number in (1, 2)
        )


def _die_with_parent(parent: int, death_signal: int) -> bool:
    """Be sent `death_signal` when the parent dies; False when it has died already.

    To be called after setuid, which would clear it.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    return os.getppid() == parent


def _default_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def touched_at(heartbeat: Path) -> float | None:
    """When the file was last touched; None when it is not there."""
    try:
        return heartbeat.stat().st_mtime
    except OSError:
        return None


class ApiConfig(WarmConfig):
    """An API process: keeps the listening sockets open."""

    def __init__(self, options: Any, *, kept: Sequence[int], **common: Any) -> None:
        super().__init__(options, **common)
        self._kept = kept

    def kept_descriptors(self, pipes: Mapping[str, int | None]) -> Sequence[int]:
        return self._kept


class ReconcilerConfig(WarmConfig):
    """The event listener. Its two pipes are the listener protocol; stdout stays the supervisor's, for its log."""

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        pipes = self.options.make_pipes(stderr=False)
        dispatchers = {
            pipes["stdout"]: PEventListenerDispatcher(process, "stdout", pipes["stdout"]),
            pipes["stdin"]: PInputDispatcher(process, "stdin", pipes["stdin"]),
        }
        return dispatchers, pipes

    def kept_descriptors(self, pipes: Mapping[str, int | None]) -> Sequence[int]:
        return [fd for fd in (pipes["child_stdin"], pipes["child_stdout"]) if fd is not None]


# --- channels ---------------------------------------------------------------------------------------------------------

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
        pipes = dict.fromkeys(_PIPES) | {"stdout": read, "child_stdout": write}
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
        with path.open("ab") as file:
            file.write(data)
            size = file.tell()
        if size > CRASH_LOG_SIZE:
            path.replace(path.with_name(f"{path.name}.1"))

    def removelogs(self) -> None:
        """supervisorctl clear."""
        Path(self.process.config.stdout_logfile).unlink(missing_ok=True)

    def reopenlogs(self) -> None:
        """Nothing is kept open."""
