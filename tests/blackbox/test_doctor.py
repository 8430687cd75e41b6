"""`junebug doctor` beside a Junebug that runs: its exit code, its lines, its JSON."""

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
from tests.test_containers import health_check


def doctor(junebug: JunebugProcess, *words: str) -> subprocess.CompletedProcess[str]:
    """With the same flags, from the same directory."""
    done = run_command("junebug", "doctor", *words, *junebug.command_line(), cwd=junebug.directory)
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
