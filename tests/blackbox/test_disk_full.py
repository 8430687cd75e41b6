"""The disk of the log directory is full: channels go on and begin, nothing is lost, and logging resumes afterwards."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import Channel, JunebugProcess, TelnetClient, WebhookSink
from tests.polling import eventually

SIZE = 1_000_000
Full = Callable[[JunebugProcess], AbstractContextManager[None]]


@pytest.fixture(params=["full", "no writing"])
def full(request: pytest.FixtureRequest, logs: Path) -> Iterator[Full]:
    """`with full(junebug)`: its log directory takes nothing more. A small disk that is full, where we may mount one; or
    the kernel refuses every write to a file by the channels' processes.
    """
    if request.param == "no writing":
        yield _no_writing
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "junebug-test", logs], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield _full
    finally:
        subprocess.run(["umount", "--lazy", logs], check=True)


@pytest.fixture
def logs(short_dir: Path) -> Path:
    directory = short_dir / "logs"
    directory.mkdir()
    return directory


@contextmanager
def _full(junebug: JunebugProcess) -> Iterator[None]:
    ballast = junebug.logs_directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    yield
    ballast.unlink()


@contextmanager
def _no_writing(junebug: JunebugProcess) -> Iterator[None]:
    with ExitStack() as stack:
        for pid in junebug.channel_pids().values():
            before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            stack.callback(resource.prlimit, pid, resource.RLIMIT_FSIZE, before)
        yield


async def test_with_a_full_disk_channels_go_on_and_logging_resumes(
    start_junebug: StartJunebug, sink: WebhookSink, logs: Path, full: Full
) -> None:
    junebug = start_junebug({"logging-path": logs, "log-file": logs / "junebug.log"})
    channels = Channels(junebug.api, sink)
    loopback, telnet = await channels.loopback(), await channels.telnet()
    async with await telnet.connect() as client:
        with full(junebug):
            await both_ways(loopback, telnet, client, sink, "full")
            for channel in (loopback, telnet):
                await says_of_its_log(channel, "degraded", "not_written")
            if full is _full:
                await eventually(lambda: "what=logging_path" in junebug.stdout, 15, what="a warning")
        await both_ways(loopback, telnet, client, sink, "free")
        await is_logged(loopback, telnet, sink, "free")
        for channel in (loopback, telnet):
            await says_of_its_log(channel, "ok", "written")
    assert junebug.stop() == 0
    assert "Traceback" not in junebug.output()


def a_file(directory: Path) -> Path:
    (directory / "logs").write_text("")
    return directory / "logs"


UNUSABLE = [a_file, lambda directory: a_file(directory) / "below", lambda _: Path("/proc/logs"), lambda _: Path("/sys")]


@pytest.mark.parametrize("make", UNUSABLE)
async def test_a_logging_path_that_cannot_be_written_is_a_warning_and_a_status(
    start_junebug: StartJunebug, sink: WebhookSink, short_dir: Path, make: Callable[[Path], Path]
) -> None:
    junebug = start_junebug({"logging-path": make(short_dir)})
    (warning,) = [line for line in junebug.stderr.splitlines() if "logging_path" in line]
    assert warning.startswith("warning: ")
    channel = await Channels(junebug.api, sink).loopback()
    await channel.send("+27", "goes on")
    await sink.wait_content("/mo", "goes on")
    await says_of_its_log(channel, "degraded", "not_written")
    assert junebug.stop() == 0
    assert "Traceback" not in junebug.output()


async def says_of_its_log(channel: Channel, status: str, type: str) -> None:
    async def is_told() -> bool:
        told = (await channel.status())["components"].get("log", {})
        return (told.get("status"), told.get("type")) == (status, type)

    await eventually(is_told, what=type)


@pytest.mark.parametrize("full", ["full"], indirect=True)
async def test_with_a_full_disk_channels_begin(
    start_junebug: StartJunebug, sink: WebhookSink, logs: Path, full: Full
) -> None:
    junebug = start_junebug({"logging-path": logs, "log-file": logs / "junebug.log"})
    channels = Channels(junebug.api, sink)
    loopback = await channels.loopback()
    with full(junebug):
        pid = await loopback.pid()
        os.kill(pid, signal.SIGKILL)
        await loopback.running(other_than_pid=pid)
        telnet = await channels.telnet()
        async with await telnet.connect() as client:
            await both_ways(loopback, telnet, client, sink, "full")
    await (await channels.loopback()).send("+27", "made later")
    async with await telnet.connect() as client:
        await both_ways(loopback, telnet, client, sink, "free")
    await is_logged(loopback, telnet, sink, "free")
    assert junebug.stop() == 0
    assert "Traceback" not in junebug.output()


async def both_ways(loopback: Channel, telnet: Channel, client: TelnetClient, sink: WebhookSink, words: str) -> None:
    """Twenty messages each way on both."""
    sent = [await loopback.send("+27", f"{words} {n}", event_url=sink.url("/event")) for n in range(20)]
    for n in range(20):
        await client.say(f"{words} said {n}")
        sent.append(await telnet.send(client.address, f"{words} shown {n}", event_url=sink.url("/event")))
    assert await client.hear_lines(20) == [f"{words} shown {n}" for n in range(20)]
    owed = {f"{words} {n}" for n in range(20)} | {f"{words} said {n}" for n in range(20)}
    await eventually(lambda: owed <= {body["content"] for body in sink.bodies("/mo")}, what="each MO")
    ids = {each["message_id"] for each in sent}
    await eventually(lambda: ids <= {body["message_id"] for body in sink.bodies("/event")}, what="each event")


async def is_logged(loopback: Channel, telnet: Channel, sink: WebhookSink, words: str) -> None:
    """From the very first line on: all that is logged of the last of those messages is logged of the first."""
    for channel, text in ((loopback, words), (telnet, f"{words} said")):

        async def as_much(channel: Channel = channel, text: str = text) -> bool:
            events = []
            for n in (0, 19):
                message_id = (await sink.wait_content("/mo", f"{text} {n}"))["message_id"]
                events.append({entry["message"] for entry in await channel.logs(message_id=message_id)})
            return len(events[1]) > 1 and events[0] == events[1]

        await eventually(as_much, what=f"all of the first message on {channel.id}")
