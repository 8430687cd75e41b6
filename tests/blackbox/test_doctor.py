"""Beside a Junebug that runs: `junebug doctor`, the container's health check, and what Sentry is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.blackbox.conftest import Channels
from tests.harness import ROOT, JunebugProcess, WebhookSink, free_port, run_command
from tests.polling import eventually
from tests.sentry_server import FakeSentry
from tests.test_containers import health_check

SENTRY = FakeSentry()
"""It has its port from now on, and answers in its test."""
FLAGS = {"sentry-dsn": SENTRY.dsn, "channels": "broken:tests.blackbox.channel_types.BrokenTransport"}
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def doctor(junebug: JunebugProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """With the same flags, from the same directory."""
    given = (*words, *junebug.command_line())
    done = run_command("junebug", "doctor", *given, cwd=junebug.directory, environment=junebug.environment)
    assert "Traceback" not in done.stderr, done
    return done


def told(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    answer = json.loads(done.stdout)
    assert answer.keys() == {"result", "findings"}
    assert answer["result"] == ("failed" if done.returncode else "ok")
    return {each["check"]: each for each in answer["findings"]}


async def test_all_is_well_until_a_channel_is_down(jb: JunebugProcess, channels: Channels, sink: WebhookSink) -> None:
    fine = await channels.loopback({}, label="fine")
    done = doctor(jb)
    assert (done.returncode, done.stderr) == (0, ""), done
    documented = (ROOT / "docs" / "operations.md").read_text()
    for check in told(doctor(jb, "--json")):
        assert f"| `{check}` |" in documented
    assert f"{jb.flags['port']} on 127.0.0.1 is Junebug's" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 failed")
    first = await channels.telnet()
    port = first.port
    second = await channels.create("telnet", {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"})

    async def is_down() -> bool:
        return (await second.component("telnet")).get("type") == "cannot_start"

    await eventually(is_down)
    done = doctor(jb, "--json")
    findings = told(done)
    assert done.returncode == 1
    assert {check for check, each in findings.items() if each["level"] == "failed"} == {f"channel {second.id}"}
    assert str(port) in findings[f"channel {second.id}"]["found"] + json.dumps(await second.component("telnet"))
    assert findings[f"channel {second.id}"]["advice"]
    assert f"channel {fine.id}" not in findings
    control = ("-c", str(jb.directory / "v" / "run" / "supervisor.conf"), "stop", f"channel:{fine.id}")
    assert run_command("supervisorctl", *control, cwd=jb.directory).returncode == 0
    stopped = told(doctor(jb, "--json"))[f"channel {fine.id}"]
    assert (stopped["level"], "its process is STOPPED" in stopped["found"]) == ("failed", True)


def test_it_works_when_nothing_does(short_dir: Path) -> None:
    nobody = {"JUNEBUG_REDIS_HOST": "127.0.0.1", "JUNEBUG_PORT": str(free_port())}
    nobody |= {name: str(free_port()) for name in ("JUNEBUG_REDIS_PORT", "JUNEBUG_AMQP_PORT")}
    done = run_command("junebug", "doctor", "--json", cwd=short_dir, environment=nobody)
    findings = told(done)
    assert (done.returncode, done.stderr) == (1, "")
    assert {"redis", "rabbitmq", "channels"} <= {check for check, each in findings.items() if each["level"] == "failed"}
    assert [path.name for path in short_dir.iterdir()] == []  # nothing was made


def test_a_wrong_setting_is_a_finding(short_dir: Path) -> None:
    (short_dir / "j.yaml").write_text("prot: 1\n")
    done = run_command("junebug", "doctor", "--config", "j.yaml", cwd=short_dir)
    assert done.returncode == 1
    assert "prot: unknown setting" in done.stdout


def test_the_health_check_of_the_container(jb: JunebugProcess) -> None:
    python, *words = health_check()
    assert python == "python"
    for port, is_healthy in ((jb.flags["port"], True), (free_port(), False)):
        environment = {**os.environ, "JUNEBUG_PORT": str(port)}
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True)
        assert (done.returncode == 0) == is_healthy


async def test_sentry_is_told_of_an_error_of_a_channel_without_the_message(jb: JunebugProcess, channels: Channels) -> None:
    with SENTRY as sentry:
        channel = await (await channels.create("broken", {})).running()
        message = await channel.send("+27831234567", "raise")
        await eventually(lambda: sentry.events)
        event = sentry.events[0]
        assert event["tags"] == {"process": "channel", "channel_id": channel.id, "message_id": message["message_id"]}
        (raised,) = event["exception"]["values"]
        assert raised["type"] == "ValueError"
        assert "send" in {frame["function"] for frame in raised["stacktrace"]["frames"]}
        assert "+27831234567" not in "".join(sentry.raw)
        assert sentry.dsn not in jb.output() + (jb.logs_directory / channel.id).read_text()
