"""`GET /metrics` against real processes: two API processes, channels that are killed, an SMSC, applications that fail."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import SmscCommand
from tests.harness import ROOT, Channel, JunebugProcess, Reply, WebhookSink
from tests.polling import eventually
from tests.scraping import OPEN_METRICS, Series, read, scrape

FLAGS = {"workers": 2, "metric-window": 60}

Wanted = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def of(channel: Channel, name: str, value: float, **labels: str) -> dict[Any, float]:
    return {(name, (("channel_id", channel.id), *labels.items())): value}


async def until(jb: JunebugProcess, *wanted: dict[Any, float]) -> Series:
    """The first scrape that says all of this."""
    every = {key: value for each in wanted for key, value in each.items()}
    found: dict[Any, float | None] = {}

    async def is_said() -> Series | None:
        series = await scrape(jb.api.url)
        found.update({(name, labels): series.value(name, **dict(labels)) for name, labels in every})
        return series if found == every else None

    try:
        return await eventually(is_said, what="what is counted")  # type: ignore[no-any-return]
    except AssertionError as error:
        wrong = {key: (found.get(key), value) for key, value in every.items() if found.get(key) != value}
        raise AssertionError(f"{error}: found, wanted: {wrong}") from None


def messages(channel: Channel, direction: str, **outcomes: float) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for outcome, value in outcomes.items():
        found |= of(channel, "junebug_messages_total", value, direction=direction, outcome=outcome)
    return found


async def test_messages_events_and_callbacks_are_counted_and_outlive_their_process(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback()
    for n in range(5):
        await channel.send("+27", f"{n}", event_url=sink.url("/event"))
    await channel.api.post(f"{channel.path}/pause")
    answers = await channel.api.post(f"{channel.path}/messages/bulk", [{"to": "+27", "content": "held"}] * 2)
    assert answers.result["accepted"] == 2
    await channel.send("+27", "never", event_url=sink.url("/event"))
    assert (await channel.api.delete(f"{channel.path}/messages/")).result["cancelled"] == 3
    await channel.api.post(f"{channel.path}/resume")
    counted = {
        **messages(channel, "outbound", accepted=8, submitted=5, cancelled=3, expired=0, rejected=0),
        **messages(channel, "inbound", received=5, delivered=5, dropped=0),
        **of(channel, "junebug_delivery_reports_total", 5, status="delivered"),
        **of(channel, "junebug_delivery_reports_total", 0, status="failed"),
        **of(channel, "junebug_callback_attempts_total", 11, to="event_url", result="ok"),
        **of(channel, "junebug_callback_attempts_total", 5, to="mo_url", result="ok"),
        **of(channel, "junebug_callback_duration_seconds_count", 5, to="mo_url"),
        **of(channel, "junebug_callback_duration_seconds_bucket", 5, to="mo_url", le="+Inf"),
        **of(channel, "junebug_process_restarts_total", 0, process="worker"),
        **of(channel, "junebug_channel_info", 1, type="loopback"),
        **of(channel, "junebug_component_status", 1, component="worker"),
        **of(channel, "junebug_channel_paused", 0),
        **{key: value for n in range(1, 6)
           for key, value in of(channel, "junebug_outbound_queue_length", 0, priority=str(n)).items()},
        **of(channel, "junebug_callbacks_waiting", 0),
        **of(channel, "junebug_callbacks_delayed", 0),
        **of(channel, "junebug_dead_letter_queue_length", 0),
    }  # fmt: skip
    await until(jb, counted)

    pid = await channel.pid()
    os.kill(pid, signal.SIGKILL)
    await channel.running(other_than_pid=pid)
    restarted = of(channel, "junebug_process_restarts_total", 1, process="worker")
    await until(jb, {**counted, **restarted})
    await channel.send("+27", "and on", event_url=sink.url("/event"))
    more = messages(channel, "outbound", accepted=9, submitted=6) | messages(channel, "inbound", received=6, delivered=6)
    await until(jb, {**counted, **restarted, **of(channel, "junebug_delivery_reports_total", 6, status="delivered"),
                     **of(channel, "junebug_callback_attempts_total", 13, to="event_url", result="ok"),
                     **of(channel, "junebug_callback_attempts_total", 6, to="mo_url", result="ok"),
                     **of(channel, "junebug_callback_duration_seconds_count", 6, to="mo_url"),
                     **of(channel, "junebug_callback_duration_seconds_bucket", 6, to="mo_url", le="+Inf"), **more})  # fmt: skip

    await channel.delete()

    async def is_gone() -> bool:
        return channel.id not in (await scrape(jb.api.url)).text

    await eventually(is_gone)


async def test_an_application_that_fails(jb: JunebugProcess, channels: Channels, sink: WebhookSink) -> None:
    sink.always["/mo"] = Reply(status=503)
    sink.always["/event"] = Reply(status=404)
    channel = await channels.telnet()
    async with await channel.connect() as client:
        for n in range(6):
            await client.say(str(n))
        await channel.send(client.address, "x", event_url=sink.url("/event"))
        await until(
            jb, messages(channel, "inbound", received=7, delivered=0), messages(channel, "outbound", submitted=1),
            of(channel, "junebug_circuits_open", 1, to="mo_url"),
        )  # fmt: skip
        series = await scrape(jb.api.url)
        for to, result in (("mo_url", "5xx"), ("event_url", "4xx")):
            assert series.total("junebug_callback_attempts_total", channel_id=channel.id, to=to, result=result) >= 1
        sink.always.clear()
        await until(
            jb, messages(channel, "inbound", received=7, delivered=7), of(channel, "junebug_circuits_open", 0, to="mo_url")
        )


async def test_an_smsc(jb: JunebugProcess, channels: Channels, short_dir: Path) -> None:
    faults = ("--throttle-every", "4", "--refuse-every", "5", "--receipt-delay", "0.1")
    async with SmscCommand(short_dir, *faults) as smsc:
        config = {"host": "127.0.0.1", "port": smsc.port, "system_id": "x", "password": "secret", "throttle_delay": 0.1}
        channel = await (await channels.create("smpp", config)).running()
        await until(
            jb, of(channel, "junebug_smpp_binds", 1, state="bound"), of(channel, "junebug_smpp_binds", 0, state="missing")
        )
        for n in range(8):
            await channel.send("+27820001111", f"{n}")
        wanted = messages(channel, "outbound", accepted=8, submitted=6, rejected=2)
        series = await until(jb, wanted, of(channel, "junebug_delivery_reports_total", 6, status="delivered"))
        answered = series.all("junebug_smpp_submit_sm_resp_total", channel_id=channel.id)
        by_status = {dict(labels)["status"]: count for labels, count in answered.items()}
        assert {*by_status} == {"ESME_ROK", "ESME_RTHROTTLED", "ESME_RSUBMITFAIL"}
        assert (by_status["ESME_ROK"], by_status["ESME_RSUBMITFAIL"]) == (6, 2)
        throttled = series.value("junebug_smpp_throttled_responses_total", channel_id=channel.id)
        assert throttled == by_status["ESME_RTHROTTLED"]
        seconds = "junebug_smpp_submit_sm_resp_duration_seconds"
        assert series.value(f"{seconds}_count", channel_id=channel.id) == sum(by_status.values())
        took = series.value(f"{seconds}_sum", channel_id=channel.id)
        assert took
        assert 0 < took < 40
        await until(jb, of(channel, "junebug_smpp_throttled", 0))
    await until(
        jb, of(channel, "junebug_smpp_binds", 0, state="bound"), of(channel, "junebug_component_status", 0, component="smpp")
    )


async def test_api_processes_are_summed_and_processes_measured(jb: JunebugProcess, channels: Channels) -> None:
    channel = await channels.loopback()
    labels = {"route": "/channels/{channel_id}/messages/{message_id}", "method": "GET", "status": "200"}
    asked = 40
    for _ in range(asked):  # a connection each: both processes get some
        assert (await channel.api.get(f"{channel.path}/messages/none")).status == 200
    assert (await channel.api.get("/channels/nowhere")).status == 404
    assert (await channel.api.get("/nothing/here")).status == 404
    wanted = {("junebug_http_requests_total", tuple(labels.items())): float(asked)}

    async def has_404s() -> bool:
        """Each process' counts come within some seconds, but of the one that is asked at once."""
        series = await scrape(jb.api.url)
        return all(
            series.total("junebug_http_requests_total", route=route, status="404") >= 1
            for route in ("/channels/{channel_id}", "none")
        )

    async def is_said() -> Series | None:
        series = await scrape(jb.api.url)
        processes = {dict(each)["process"] for each in series.all("junebug_process_resident_memory_bytes")}
        here = {"api:1", "api:2", "reconciler", "supervisor", f"channel:{channel.id}"}
        return series if here <= processes else None

    series = await until(jb, wanted)
    await eventually(has_404s, what="what was not found")
    assert series.total("junebug_http_request_duration_seconds_count", route=labels["route"]) >= asked
    series = await eventually(is_said, what="each process's memory")
    for name in ("resident_memory_bytes", "start_time_seconds"):
        assert all(value > 1e6 for value in series.all(f"junebug_process_{name}").values()), name
    assert series.total("junebug_process_cpu_seconds_total") > 0
    assert series.total("junebug_process_proportional_memory_bytes") < series.total("junebug_process_resident_memory_bytes")
    assert series.value("junebug_process_restarts_total", process="api:1") == 0
    assert series.value("junebug_process_restarts_total", process="reconciler") == 0
    assert series.total("junebug_event_loop_lag_seconds_count", process="api:2") > 0

    os.kill(jb.pid_titled("junebug: api:1"), signal.SIGKILL)

    async def is_counted() -> bool:
        series = await scrape(jb.api.url)
        return series.value("junebug_process_restarts_total", process="api:1") == 1

    await eventually(is_counted, what="the API's restart")
    series = await until(jb, wanted)  # nothing of it is lost
    assert series.value("junebug_up", server="redis") == series.value("junebug_up", server="rabbitmq") == 1


async def test_the_commands_of_the_docs(jb: JunebugProcess, channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", "").splitlines() if line.startswith("curl")]
    assert len(commands) == 3
    said = []
    for command in commands:
        text = command.replace("localhost:8080", jb.api.url).replace("CHANNEL_ID", channel.id)
        text = text.replace("http://localhost:8001", sink.url("")).replace("curl ", "curl -sS ", 1)
        done = await asyncio.to_thread(subprocess.run, text, shell=True, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert read(said[0], "text/plain").value("junebug_up", server="redis") == 1
    assert read(said[1], OPEN_METRICS).value("junebug_up", server="redis") == 1
    assert json.loads(said[2])["status"] == 201
    traced = (await sink.wait("/event"))[0].headers["traceparent"]
    assert traced in commands[2]
