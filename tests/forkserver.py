"""Commands of ours as processes of their own, forked from one that has imported them: Python's start and the imports cost
a second of CPU, and the suite needs some hundred of these processes. It starts other programs, too: none of them outlives
the test process.

    ForkServer.start(...)   a Forked, with what the tests use of subprocess.Popen
    forkserver()            the one of this test process, started when first needed

What a child sees is what a shell would give it: its own directory, environment, streams, arguments and session. Some tests
start the installed scripts themselves (`python -m` and all), so those are known to work, too.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import setproctitle

from junebug.worker.callbacks.http_client import tls_context

ROOT = Path(__file__).parent.parent
POLL = 0.01
PRELOADED = (
    "junebug.cli", "junebug.api.app", "junebug.worker.process", "junebug.supervisor.daemon", "junebug.supervisor.reconciler",
    "junebug.transports.smpp.transport", "junebug.transports.telnet.transport", "junebug.transports.loopback.transport",
    "junebug.smpp.simulator.command",
)  # fmt: skip


class Forked:
    """A child of the fork server."""

    def __init__(self, server: ForkServer, pid: int, arguments: Sequence[str]) -> None:
        self.pid = pid
        self.args = arguments
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
            time.sleep(POLL)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is polled its pid is nobody else's
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver"],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("JUNEBUG_")},
                stdin=theirs,
                stdout=theirs,
                start_new_session=True,
            )
        self._stream = ours.makefile("rwb")
        ours.close()

    def ask(self, question: Mapping[str, Any]) -> Any:
        with self._lock:
            self._stream.write(json.dumps(question).encode() + b"\n")
            self._stream.flush()
            return json.loads(self._stream.readline())

    def start(
        self,
        command: str,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        constants: Mapping[str, Any] | None = None,
    ) -> Forked:
        """`command`: one of ours, `module:function`, or the path of any other. What it writes is appended to the files.
        `constants`: what `module:NAME` is to be in one of ours, and in what that forks.

        It is killed when this test process ends, in whatever way.
        """
        given = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}
        given["constants"] = dict(constants or {})
        streams = {"stdout": str(stdout), "stderr": str(stderr)}
        return Forked(self, self.ask({"command": command, **given, **streams}), [command, *arguments])

    def close(self) -> None:
        """Ends it, and what it has started and still runs."""
        self._stream.close()
        self._process.wait(10)


@functools.cache
def forkserver() -> ForkServer:
    server = ForkServer()
    atexit.register(server.close)
    return server


# --- the server's side ------------------------------------------------------------------------------------------------


def serve() -> Callable[[], Any] | None:
    """Answers on fd 1 what fd 0 asks. Returns at the end; and in each child, with the function that it is to run."""
    children: set[int] = set()
    while line := _read_line():
        question = json.loads(line)
        answer = None
        if "command" in question:
            answer = os.fork()
            if answer == 0:
                return _become(**question)
            children.add(answer)
        else:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            if pid:
                children.discard(pid)
                answer = os.waitstatus_to_exitcode(status)
        os.write(1, json.dumps(answer).encode() + b"\n")
    for pid in children:
        os.killpg(pid, signal.SIGKILL)  # each has a session of its own: nginx's workers do not end with it
    return None


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 65536)):
        line += more
    return line


def _become(
    command: str, arguments: list[str], cwd: str, env: dict[str, str], constants: dict[str, Any], stdout: str, stderr: str
) -> Callable[[], Any]:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    opened = [os.open(os.devnull, os.O_RDONLY)]
    opened += (os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in (stdout, stderr))
    for number, each in enumerate(opened):
        os.dup2(each, number)
        os.close(each)
    vars(sys.modules["__main__"]).update(__package__=None, __spec__=None)  # no `python -m`: click would tell
    sys.argv = [str(Path(sys.executable).parent / command), *arguments]
    if command.startswith("/"):
        os.execve(command, [command, *arguments], env)
    for constant, value in constants.items():
        module, _, name = constant.partition(":")
        setattr(importlib.import_module(module), name, value)
    if ":" in command:
        module, _, name = command.partition(":")
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    (entry,) = entry_points(group="console_scripts", name=command)
    return entry.load()  # type: ignore[no-any-return]


if __name__ == "__main__":
    setproctitle.getproctitle()  # it finds its place now: in a child the environment has moved
    for preloaded in PRELOADED:
        importlib.import_module(preloaded)
    tls_context()  # certificates of the system's, which each `jb` reads once
    gc.collect()
    gc.freeze()  # no child need go through all this again
    main = serve()
    if main:
        sys.exit(main())
