"""A channel's logs (spec 1.7.1, "Logs"): files with rotation, read newest first, followed by message."""

from __future__ import annotations

import json
import logging
import time

import pytest

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import ROOT, Api, JunebugProcess, WebhookSink
from tests.polling import eventually

FLAGS = {
    "max-logs": 30,
    "log-rotate-size": 4000,
    "max-log-files": 3,
    "channels": "broken:tests.blackbox.channel_types.BrokenTransport",
}
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


async def test_an_entry_has_the_documented_fields(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    answer = await api.get(f"{channel.path}/logs")
    assert (answer.status, answer.description) == (200, "logs retrieved")
    assert answer.result
    for entry in answer.result:
        assert entry["logger"] == channel.id
        assert entry["level"] in (logging.INFO, logging.WARNING, logging.ERROR)
        assert isinstance(entry["timestamp"], float)
        assert abs(entry["timestamp"] - time.time()) < 60
        assert isinstance(entry["message"], str)


async def test_the_newest_come_first(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    for n in range(3):
        await channel.send("+27", str(n))
    await sink.wait("/mo", 3)
    entries = await channel.logs()
    stamps = [entry["timestamp"] for entry in entries]
    assert stamps == sorted(stamps, reverse=True)
    assert await channel.logs(n=2) == (await channel.logs())[:2]


async def test_n_is_how_many_and_max_logs_the_most(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    for _ in range(20):
        await channel.send("+27", "fill")
    await sink.wait("/mo", 20)
    found = {n: len(await channel.logs(**({} if n is None else {"n": n}))) for n in (0, 1, 30, 31, 10**12, None)}
    assert found == {0: 0, 1: 1, 30: 30, 31: 30, 10**12: 30, None: 30}


async def test_rotation_keeps_max_log_files_and_the_api_reads_across_them(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback()
    for n in range(40):
        await channel.send("+27", f"filling {n}")
    await sink.wait("/mo", 40)

    def files() -> list[str]:
        return sorted(path.name for path in jb.logs_directory.glob(f"{channel.id}*"))

    await eventually(lambda: files() == [channel.id, f"{channel.id}.1", f"{channel.id}.2"])
    assert all((jb.logs_directory / name).stat().st_size <= 4000 for name in files())
    entries = await channel.logs()
    assert len(entries) == 30
    assert sum(len(json.dumps(entry)) for entry in entries) > 4000
    stamps = [entry["timestamp"] for entry in entries]
    assert stamps == sorted(stamps, reverse=True)


async def test_each_line_of_the_file_is_a_json_object(jb: JunebugProcess, channels: Channels) -> None:
    channel = await channels.loopback()
    lines = (jb.logs_directory / channel.id).read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert lines


async def test_message_id_follows_one_message_through_the_channel(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await client.say("ask")
        question = await sink.wait_content("/mo", "ask")
        sent = await channel.send(client.address, "one")
        other = await channel.send("nobody", "other")
        await channel.event(sent["message_id"], "submitted")
        await channel.event(other["message_id"], "rejected")
    for message_id, words in (
        (sent["message_id"], ["sent"]), (other["message_id"], ["rejected"]),
        (question["message_id"], ["inbound", "forwarded"]),
    ):  # fmt: skip
        entries = await channel.logs(message_id=message_id)
        assert {entry["message_id"] for entry in entries} == {message_id}
        assert all(any(word in entry["message"] for entry in entries) for word in words)
    assert await channel.logs(message_id="0" * 32) == []
    assert len(await channel.logs(message_id=sent["message_id"], n=1)) == 1


async def test_an_exception_is_logged_as_an_object(channels: Channels) -> None:
    channel = await (await channels.create("broken", {})).running()
    sent = await channel.send("+27", "raise")
    await channel.event(sent["message_id"], "rejected")  # after it was tried a few times
    entry = next(entry for entry in await channel.logs() if "exception" in entry)
    assert entry["level"] == logging.ERROR
    assert entry["message_id"] == sent["message_id"]
    assert set(entry["exception"]) == {"class", "instance", "stack"}
    assert entry["exception"]["class"] == "ValueError"
    assert entry["exception"]["instance"] == "ValueError('Bad value')"
    assert isinstance(entry["exception"]["stack"], list)
    assert any("channel_types.py" in line for line in entry["exception"]["stack"])


async def test_a_line_with_arguments_is_logged_formatted(channels: Channels) -> None:
    """As the standard library's loggers do, and as authors of channel types expect."""
    channel = await (await channels.create("broken", {})).running()
    sent = await channel.send("+27", "log")
    await channel.event(sent["message_id"], "submitted")
    assert "one of 2" in {entry["message"] for entry in await channel.logs()}


@pytest.mark.parametrize(("start", "exit_code"), [("raise", 1), ("exit", 3)])
async def test_a_channel_that_dies_at_its_start_says_why(channels: Channels, start: str, exit_code: int) -> None:
    channel = await channels.create("broken", {"start": start})

    async def is_told() -> bool:
        worker = await channel.component("worker")
        return worker.get("status") == "down" and f"exit code {exit_code}" in worker["message"]

    await eventually(is_told)
    if start == "raise":
        assert "RuntimeError" in {entry.get("exception", {}).get("class") for entry in await channel.logs()}


async def test_max_log_files_0_keeps_them_all(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    junebug = start_junebug({"log-rotate-size": 1000, "max-log-files": 0})
    channel = await Channels(junebug.api, sink).loopback()
    for n in range(40):
        await channel.send("+27", str(n))
    await sink.wait("/mo", 40)
    await eventually(lambda: len(list(junebug.logs_directory.glob(f"{channel.id}.*"))) > 8)
    assert len(await channel.logs()) == 100


async def test_logs_outlive_a_restart_of_everything(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    junebug = start_junebug()
    channel = await Channels(junebug.api, sink).loopback()
    sent = await channel.send("+27")
    await channel.event(sent["message_id"], "submitted")
    before = await channel.logs(message_id=sent["message_id"])
    assert junebug.stop() == 0
    junebug.start()
    assert await channel.logs(message_id=sent["message_id"]) == before
