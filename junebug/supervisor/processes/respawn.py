"""The restart policy of whatever supervisord runs here: again at once, then ever slower, never given up.

Neighbours: servers.py exec's programs, warm_fork.py forks without an exec; both have this policy.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

from supervisor.datatypes import RestartUnconditionally
from supervisor.options import ProcessConfig, signame
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates

from junebug.runtime.fence import EXIT_FENCED
from junebug.supervisor.reconcile import RAN_WELL, respawn_pause

SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: not in each child


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
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
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
        if self.start_when_stopped and self.config.options.mood == SupervisorStates.RUNNING:
            self.spawn()
        self.transition()

    def change_state(self, new_state: int, expected: bool = True) -> None:
        super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self.failures += 1
            self.backoff = respawn_pause(self.failures)
            self.delay = time.time() + self.backoff if self.backoff else 0


def exit_text(status: int) -> str:
    """How a process ended, from waitpid's status: `killed by SIGKILL`, `ended with exit code 1`."""
    if os.WIFSIGNALED(status):
        return f"killed by {signame(os.WTERMSIG(status))}"
    code = os.waitstatus_to_exitcode(status)
    return "ended as its lease was over" if code == EXIT_FENCED else f"ended with exit code {code}"


class RespawningConfig(ProcessConfig):  # type: ignore[misc]
    """supervisord's settings of one program; `more`: those that differ, named as in its configuration file."""

    process: type[RespawningProcess]

    def __init__(self, options: Any, name: str, command: str, stop_timeout: float, **more: Any) -> None:
        settings = {
            "name": name, "command": command, "uid": None, "directory": None, "umask": None, "environment": {},
            "priority": 999, "autostart": True, "autorestart": RestartUnconditionally, "exitcodes": [0],
            "startsecs": 1, "startretries": sys.maxsize,
            "stopsignal": signal.SIGTERM, "stopwaitsecs": stop_timeout, "stopasgroup": False, "killasgroup": True,
            "redirect_stderr": True,
        }  # fmt: skip
        no_log = {"logfile": None, "logfile_maxbytes": 0, "logfile_backups": 0, "capture_maxbytes": 0,
                  "events_enabled": False, "syslog": False}  # fmt: skip
        no_logs = {f"{stream}_{key}": value for stream in ("stdout", "stderr") for key, value in no_log.items()}
        super().__init__(options, **settings | no_logs | more)

    def make_process(self, group: Any = None) -> Any:
        process = self.process(self)
        process.group = group
        return process


# --- in the child -----------------------------------------------------------------------------------------------------


def die_with_parent(parent: int, death_signal: int) -> bool:
    """Be sent `death_signal` when the parent dies; False when it has died already.

    To be called after setuid, which would clear it.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    return os.getppid() == parent


def default_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
