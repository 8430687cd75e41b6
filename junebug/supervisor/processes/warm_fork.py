"""Forks of the supervisor that are not followed by an exec: the code is there already, imported and shared (DESIGN §1).

All runs in supervisord's single thread, except `_spawn_as_child`, whose every line runs in the new process: it never
returns, never logs through supervisord's logger (its file is closed there), and always ends in os._exit.
Neighbours: channel.py is one such process; the reconciler and the API are others.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import setproctitle
from supervisor.states import ProcessStates

from junebug.runtime import heartbeat, identity
from junebug.supervisor.liveness import Pulse, SilenceWatch
from junebug.supervisor.processes.respawn import RespawningConfig, RespawningProcess, default_signals, die_with_parent

EXIT_CRASHED = 70
EXIT_ORPHANED = 71
_HIGHEST_DESCRIPTOR = 1 << 20


PIPES = ("stdin", "stdout", "stderr", "child_stdin", "child_stdout", "child_stderr")


class WarmProcess(RespawningProcess):
    """A fork of the supervisor."""

    _watch: SilenceWatch | None = None
    _next_look = 0.0

    def get_execv_args(self) -> tuple[str, list[str]]:
        return self.config.command, [self.config.command]  # shown, never exec'd: there is no file to look up

    def spawn(self) -> int | None:
        if not self.pid:
            self.config.heartbeat.clear()
        return super().spawn()

    def transition(self) -> None:
        super().transition()
        if self.config.silence_timeout and self.state == ProcessStates.RUNNING:
            self._kill_if_silent(time.time())

    def _kill_if_silent(self, now: float) -> None:
        """Who watches the reconciler? supervisord, once a second."""
        if self._watch is None:
            # one that has not shown life yet may be waiting for Redis; it is never taken for hung
            self._watch = SilenceWatch(self.config.silence_timeout, starting_grace=float("inf"))
        if 0 <= self._next_look - now <= 1.0:
            return
        self._next_look = now + 1.0
        pulse = Pulse(self.config.name, self.pid, self.laststart, self.config.heartbeat.at)
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
        heartbeat.adopt(self.config.heartbeat)
        if self.last_exit:
            identity.follow_death()
        os.setpgrp()  # a Ctrl-C in the terminal is the supervisor's affair
        self._take_descriptors()
        message = self.set_uid()
        if message:
            raise SystemExit(f"cannot change user: {message}")
        if not die_with_parent(self._parent, signal.SIGKILL):
            os._exit(EXIT_ORPHANED)
        setproctitle.setproctitle(self.config.title)
        os.environ["SUPERVISOR_PROCESS_NAME"] = self.config.name
        faulthandler.enable()
        signal.set_wakeup_fd(-1)
        default_signals()  # the random module has seeded itself afresh at the fork, uuid and ssl read the system's

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


class WarmConfig(RespawningConfig):
    """A process that is forked from the supervisor and calls `main(process)`, whose result is the exit code.

    `silence_timeout`: seconds that its event loop may be silent, where supervisord itself watches it and nobody else does.
    `kept`: descriptors that stay open in the child.
    """

    process = WarmProcess

    def __init__(
        self,
        options: Any,
        name: str,
        title: str,
        main: Callable[[Any], int | None],
        stop_timeout: float,
        *,
        silence_timeout: float = 0.0,
        kept: Sequence[int] = (),
        **more: Any,
    ) -> None:
        super().__init__(options, name, f"[{title}]", stop_timeout, **more)
        self.title, self.main = title, main
        self.heartbeat = options.heartbeats.add()
        self.silence_timeout, self._kept = silence_timeout, kept

    def make_dispatchers(self, process: Any) -> tuple[dict[int, Any], dict[str, int | None]]:
        """No pipes: the output goes where the supervisor's goes."""
        return {}, dict.fromkeys(PIPES)

    def output_descriptor(self, pipes: Mapping[str, int | None]) -> int | None:
        """What becomes the child's stdout and stderr; None: they stay the supervisor's."""
        return None

    def kept_descriptors(self, pipes: Mapping[str, int | None]) -> Sequence[int]:
        """What else stays open in the child."""
        return self._kept
