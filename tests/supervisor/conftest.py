"""A supervisor in a process of its own (fake_junebug.py), driven from outside as operators and the reconciler do."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from junebug.errors import Unavailable
from junebug.supervisor.client import SupervisorClient
from junebug.supervisor.reconcile import Running
from tests import processes
from tests.forkserver import ROOT, Forked, forkserver
from tests.polling import DEADLINE, eventually_blocking

T = TypeVar("T")
class FakeJunebug:
    """The supervisor's process and what can be seen of it."""

    def __init__(self, settings: Settings, *, constants: Mapping[str, Any] | None = None, **given: Any) -> None:
        """`constants`: of the modules (see ForkServer.start)."""
        self.settings = settings
        self._constants = constants
        self.data_dir = Path(settings.data_dir)
        self.client = SupervisorClient(settings.supervisor_socket)
        self._given = given
        self.process: Forked | None = None
        self.pids: set[int] = set()

    def start(self, *, wait: bool = True) -> FakeJunebug:
        values = dataclasses.asdict(self.settings)
        given = {"settings": values, **self._given}
        self.data_dir.mkdir(exist_ok=True)
        out = self.data_dir / "out"
        self.process = forkserver().start(
            "tests.supervisor.fake_junebug:main", [json.dumps(given)], cwd=ROOT, env=os.environ, stdout=out, stderr=out,
            constants=self._constants,
        )  # fmt: skip
        if wait:
            eventually_blocking(self.answers)
        if wait and self.settings.redis.port == 1:  # there is no reconciler that would
            self.client.lease(time.time() * 2)
        return self

    def answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.out()
        try:
            self.client.running()
        except Unavailable:
            return False
        return True

    def running(self) -> dict[str, Running]:
        return self.client.running()

    def launch(self, channel: str) -> dict[str, Any]:
        """What the channel's last process was told; empty before the first."""
        try:
            return dict(json.loads((self.data_dir / "launch" / channel).read_text()))
        except (OSError, ValueError):
            return {}

    def wait_launch(self, channel: str, other_than: int = 0) -> dict[str, Any]:
        return eventually_blocking(lambda: ((told := self.launch(channel)).get("pid", 0) not in (0, other_than) and told) or {})

    def children(self) -> dict[int, str]:
        """pid -> title of what the supervisor has forked, zombies apart; they are remembered for the clean-up."""
        assert self.process
        found = processes.children(self.process.pid)
        self.pids |= found.keys()
        return found

    def ctl(self, *arguments: str) -> str:
        """What supervisorctl says."""
        command = [sys.executable, "-m", "supervisor.supervisorctl"]
        config = str(self.settings.run_dir / "supervisor.conf")
        done = subprocess.run([*command, "-c", config, *arguments], capture_output=True, text=True, timeout=30)
        return done.stdout

    def ask_api(self) -> int:
        """The pid of the API process that answers; 0 when it died over it. Refused: ConnectionRefusedError."""
        port = int((self.data_dir / "port").read_text())
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            try:
                return int(connection.recv(100) or 0)
            except ConnectionResetError:
                return 0

    def drains(self) -> list[dict[str, Any]]:
        path = self.data_dir / "drains"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def out(self) -> str:
        return (self.data_dir / "out").read_text()

    def log(self) -> str:
        return (self.settings.log_dir / "supervisor.log").read_text()

    def terminate(self, timeout: float = DEADLINE) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(timeout)

    def destroy(self) -> None:
        if self.process and self.process.poll() is None:
            self.children()
            self.process.kill()
            self.process.wait()
        for pid in self.pids:
            if processes.status(pid).get("Name", "").startswith(("junebug", "sleep")):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def nowhere(short_dir: Path) -> Settings:
    """Settings without Redis and RabbitMQ: what runs is what the test says, the reconciler only waits."""
    return Settings(redis=RedisSettings(port=1), amqp=AmqpSettings(port=1), data_dir=str(short_dir / "v"), workers=2)


@pytest.fixture
def fake(nowhere: Settings) -> Iterator[FakeJunebug]:
    junebug = FakeJunebug(nowhere).start()
    yield junebug
    junebug.destroy()
