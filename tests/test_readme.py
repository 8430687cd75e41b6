"""The README's walk-through, command by command, against a `jb --embedded` as `make run` starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import command_path
from tests.servers import free_port

README = Path(__file__).parents[1] / "README.md"
DEADLINE = 90.0


def blocks(language: str, section: str = "Getting started") -> list[str]:
    """The walk-through's code blocks of that language."""
    text = README.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """What a reader types: each begins with `$ `; the lines that follow belong to it."""
    return [command.strip() for command in re.split(r"^\$ ", block, flags=re.MULTILINE) if command.strip()]


class Terminal:
    """A command that runs on, its output line by line."""

    def __init__(self, command: list[str] | str, directory: Path) -> None:
        self._output = (directory / f"terminal-{id(self)}").open("w+")
        self._seen = ""
        self.process = subprocess.Popen(
            command, shell=isinstance(command, str), cwd=directory, stdin=subprocess.PIPE, stdout=self._output,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
            executable="/bin/bash" if isinstance(command, str) else None,
        )  # fmt: skip

    def output(self) -> str:
        return Path(self._output.name).read_text()

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, found: Callable[[str], Any], timeout: float = DEADLINE) -> Any:
        deadline = time.monotonic() + timeout
        while not (result := found(self.output())):
            assert time.monotonic() < deadline, self.output()
            assert self.process.poll() is None, self.output()
            time.sleep(0.05)
        return result

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        code = self.process.wait(DEADLINE)
        self._output.close()
        if self.process.stdin:
            self.process.stdin.close()
        return code


@pytest.fixture(scope="module")
def documented_junebug() -> Iterator[dict[str, int]]:
    """It runs. The README's ports, and those used in their place: the walk-through must run beside anything."""
    ports = {documented: free_port() for documented in ("8080", "8001", "9001", "2775")}
    with tempfile.TemporaryDirectory(prefix="jb-") as directory:
        jb = Terminal([command_path("jb"), "--embedded", "--port", str(ports["8080"])], Path(directory))
        try:
            jb.wait_for(lambda text: f"Junebug is listening on http://localhost:{ports['8080']}" in text)
            yield ports
            jb.process.send_signal(signal.SIGTERM)
            assert jb.process.wait(DEADLINE) == 0
        finally:
            jb.end(signal.SIGKILL)
            print(*(log.read_text()[-5000:] for log in Path(directory, "logs").glob("*.log*")), sep="\n")


def as_run(text: str, ports: dict[str, int]) -> str:
    for documented, used in ports.items():
        text = re.sub(rf"\b{documented}\b", str(used), text)
    return text


def shape(value: Any) -> Any:
    """Which keys there are and of what kind their values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return type(value).__name__


@pytest.mark.timeout(240)
def test_the_walk_through_works_as_written(documented_junebug: dict[str, int], short_dir: Path) -> None:
    ports = documented_junebug
    typed = [as_run(command, ports) for block in blocks("console") for command in commands(block)]
    shown = [json.loads(as_run(block, ports)) for block in blocks("json")]
    sink_command, create, set_channel, telnet, set_address, send, set_message, reply, look, logs = typed
    created, session, submitted, inbound = shown

    sink = Terminal(sink_command, short_dir)
    _connect(ports["8001"]).close()
    variables: dict[str, str] = {}

    def run(command: str) -> Any:
        done = subprocess.run(
            ["bash", "-c", command], env={**os.environ, **variables}, capture_output=True, text=True, timeout=DEADLINE
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def received(wanted: Callable[[dict[str, Any]], bool]) -> Any:
        def find(text: str) -> Any:
            bodies = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            return next(filter(wanted, bodies), None)

        return sink.wait_for(find)

    answer = run(create)
    assert shape(answer) == shape(created)
    assert answer["description"] == created["description"]
    assert set_channel.startswith("CHANNEL=")
    variables["CHANNEL"] = answer["result"]["id"]

    assert telnet == f"telnet localhost {ports['9001']}"
    client = _connect(ports["9001"]).makefile("rwb", buffering=0)
    body = received(lambda body: body.get("channel_data") == {"session_event": "new"})
    assert shape(body) == shape(session)
    assert body["to"] == session["to"]

    assert set_address.startswith("ADDRESS=")
    variables["ADDRESS"] = body["from"]
    message_id = run(send)["result"]["message_id"]
    assert client.readline() == b"hello\n"
    event = received(lambda body: body.get("event_type") == "submitted")
    assert shape(event) == shape(submitted)
    assert event["message_id"] == message_id

    client.write(b"Hi there\r\n")
    body = received(lambda body: body.get("content") == "Hi there")
    assert shape(body) == shape(inbound)

    assert set_message.startswith("MESSAGE=")
    variables["MESSAGE"] = body["message_id"]
    assert run(reply)["result"]["reply_to"] == body["message_id"]
    assert client.readline() == b"hello again\n"

    status = run(look)["result"]["status"]
    assert status["status"] == "ok"
    assert set(status["components"]) >= {"telnet", "worker", "amqp", "redis"}
    assert len(run(logs)["result"]) == 3

    sink.end()


@pytest.mark.timeout(240)
def test_smpp_without_an_smsc_works_as_written(documented_junebug: dict[str, int], short_dir: Path) -> None:
    ports = documented_junebug
    sink_command = as_run(commands(blocks("console")[0])[0], ports)
    section = blocks("console", "SMPP without an SMSC")
    demo, smsc_command, create, set_channel, send = (command for block in section for command in commands(block))
    assert demo == "make demo"  # tests/test_demo.py
    program, _, options = smsc_command.partition(" ")
    assert program == ".venv/bin/junebug-smsc"
    sink = Terminal(sink_command, short_dir)
    smsc = Terminal([command_path("junebug-smsc"), *as_run(options, ports).split()], short_dir)
    _connect(ports["8001"]).close()
    _connect(ports["2775"]).close()

    def run(command: str, **variables: str) -> Any:
        done = subprocess.run(
            ["bash", "-c", as_run(command, ports)], env={**os.environ, **variables}, capture_output=True, text=True,
            timeout=DEADLINE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    channel = run(create)["result"]["id"]

    def bodies(text: str) -> list[dict[str, Any]]:
        """Of this channel: the walk-through's telnet session may have ended only now."""
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [body for body in found if body["channel_id"] == channel]

    assert set_channel.startswith("CHANNEL=")
    message_id = run(send, CHANNEL=channel)["result"]["message_id"]
    sink.wait_for(lambda text: len(bodies(text)) == 2)
    events = [(body["event_type"], body["message_id"]) for body in bodies(sink.output())]
    assert events == [("submitted", message_id), ("delivery_succeeded", message_id)]

    (typed,) = re.findall(r"Type `(\+.+?)` into", README.read_text())
    smsc.type(typed)
    sink.wait_for(lambda text: len(bodies(text)) == 3)
    inbound = bodies(sink.output())[2]
    assert [inbound["from"], inbound["to"], inbound["content"]] == typed.split(maxsplit=2)

    smsc.end()
    sink.end()


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return socket.create_connection(("localhost", port), DEADLINE)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
