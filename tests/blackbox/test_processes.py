"""A process for each channel, and what happens when one of them dies (issue 2's promises).

Times are measured and printed (`pytest -s`), never asserted but against generous deadlines.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import aiohttp
import redis

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import (
    START_DEADLINE,
    STOP_DEADLINE,
    Channel,
    JunebugProcess,
    Reply,
    TelnetClient,
    WebhookSink,
    free_port,
    gather_limited,
)
from tests.polling import eventually
from tests.processes import is_alive, is_free


def report(what: str, since: float) -> None:
    print(f"\n{what}: {time.monotonic() - since:.3f} s")


async def test_50_channels_are_50_processes_and_the_death_of_one_is_its_own_affair(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    began = time.monotonic()

    async def create() -> Channel:
        port = free_port()
        config = {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"}
        return await channels.create("telnet", config, port, status_url=sink.url("/status"))

    made = await gather_limited(4, (create() for _ in range(50)))
    clients = {channel.id: await channel.connect(START_DEADLINE) for channel in made}
    report("50 channels listening after", began)
    pids = jb.channel_pids()
    assert pids.keys() >= {channel.id for channel in made}
    assert len({pids[channel.id] for channel in made}) == 50
    await gather_limited(10, (channel.running() for channel in made))
    await sink.wait("/mo", 50)

    victim = made[17]
    killed = pids[victim.id]
    os.kill(killed, signal.SIGKILL)
    began = time.monotonic()
    assert await clients[victim.id].ended()

    async def talks_again() -> bool:
        """The dying process's socket may still take a connection to its grave: then another one."""
        async with await victim.connect() as again:
            try:
                await again.say("back again")
            except OSError:
                return False
            return bool(await sink.wait_content("/mo", "back again", timeout=1))

    await eventually(talks_again)
    report("talked to again after SIGKILL", began)
    await victim.running(other_than_pid=killed)
    worker = await victim.component("worker")
    assert worker["status"] == "ok"
    assert worker["details"]["restarts"] == 1
    assert worker["details"]["last_exit"] == "killed by SIGKILL"
    assert "SIGKILL" in worker["message"]
    told = await sink.wait_for("/status", lambda body: body["component"] == "worker" and "SIGKILL" in body["message"])
    assert told["channel_id"] == victim.id

    others = [channel for channel in made if channel is not victim]
    assert all(clients[channel.id].is_open for channel in others)
    for channel in others:
        await clients[channel.id].say(f"open on {channel.id}")
    for channel in others:
        await sink.wait_content("/mo", f"open on {channel.id}")
    after = jb.channel_pids()
    assert {channel.id: after[channel.id] for channel in others} == {channel.id: pids[channel.id] for channel in others}
    for client in clients.values():
        await client.close()


async def test_a_hung_channel_is_noticed_told_and_replaced(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    # one of its own: 50 processes that start on a busy machine may each be silent for three seconds without hanging
    channels = Channels(start_junebug({"worker-timeout": 3}).api, sink)
    channel = await channels.telnet(status_url=sink.url("/status"))
    pid = await channel.pid()
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    told = await sink.wait_for("/status", lambda body: body["type"] == "hung", timeout=40)
    report("noticed after", began)
    assert (told["component"], told["status"]) == ("worker", "down")
    await channel.running(other_than_pid=pid)
    report("replaced after", began)
    assert not is_alive(pid)
    async with await channel.connect() as client:
        await client.say("replaced")
        await sink.wait_content("/mo", "replaced")


async def test_a_message_in_hand_of_a_killed_channel_is_sent_by_the_next(
    channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    pid = await channel.pid()
    os.kill(pid, signal.SIGSTOP)
    sent = {(await channel.send("+27", str(n)))["content"] for n in range(20)}
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: {body["content"] for body in sink.bodies("/mo")} == sent)


async def test_a_crash_loop_is_told_and_disturbs_no_other(channels: Channels, sink: WebhookSink) -> None:
    good, first = await channels.telnet(), await channels.telnet()
    bad = await channels.create("telnet", {"twisted_endpoint": f"tcp:{first.port}:interface=127.0.0.1"})

    async def backs_off() -> bool:
        return (await bad.component("worker")).get("type") == "backoff"

    async with await good.connect() as client:
        await eventually(backs_off)
        await client.say("undisturbed")
        await sink.wait_content("/mo", "undisturbed")
    assert (await bad.status())["status"] == "down"


async def test_a_channel_of_an_unknown_type_says_so_and_disturbs_no_other(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    good = await channels.loopback()
    unknown = await channels.create("loopback", {})
    await unknown.running()
    with redis.Redis(port=jb.flags["redis-port"], db=jb.flags["redis-db"]) as client:
        client.set(f"{unknown.id}:properties", '{"type": "of_a_later_version", "config": {"a": 1}}')
        client.hincrby("channel_generations", unknown.id, 1)

    async def is_told() -> bool:
        worker = await unknown.component("worker")
        return worker.get("status") == "down" and "of_a_later_version" in worker["message"]

    await eventually(is_told)
    await eventually(lambda: unknown.id not in jb.channel_pids())
    await good.send("+27", "undisturbed")
    await sink.wait_content("/mo", "undisturbed")
    assert (await unknown.get())["type"] == "of_a_later_version"
    await unknown.modify(type="loopback", config={})
    await unknown.running()


async def _replaced(jb: JunebugProcess, title: str, pid: int) -> None:
    await eventually(lambda: jb.pid_titled(title) not in (0, pid), what=f"another {title}")


async def test_dead_api_and_reconciler_processes_come_back(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        for title in ("junebug: api:1", "junebug: reconciler"):
            pid = jb.pid_titled(title)
            assert pid
            os.kill(pid, signal.SIGKILL)
            await _replaced(jb, title, pid)
        await client.say("undisturbed")
        await sink.wait_content("/mo", "undisturbed")
    another = await channels.loopback()  # both work again
    await another.delete()


async def test_requests_wait_while_the_api_process_is_replaced(jb: JunebugProcess, channels: Channels) -> None:
    """The parent holds the port: nobody is refused, and nothing that got its 201 is lost."""
    channel = await channels.loopback({"delivery_reports": False})
    os.kill(jb.pid_titled("junebug: api:1"), signal.SIGKILL)
    sent = [await channel.send("+27", str(n)) for n in range(5)]
    for each in sent:
        await channel.event(each["message_id"], "submitted")


async def test_sigkill_of_the_supervisor_ends_every_process_and_all_come_back(
    start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    junebug = start_junebug()
    made = Channels(junebug.api, sink)
    channels = [await made.telnet() for _ in range(8)]
    stopped = await made.loopback()
    os.kill(await stopped.pid(), signal.SIGSTOP)
    children = junebug.children()
    assert len(children) >= 11
    began = time.monotonic()
    junebug.kill()
    await eventually(lambda: not [pid for pid in children if is_alive(pid)], timeout=3)
    report("the last process gone after", began)
    await eventually(lambda: is_free(int(junebug.flags["port"])), timeout=3)
    began = time.monotonic()
    junebug.start()
    for channel in channels:
        async with await channel.connect(START_DEADLINE) as client:
            await client.say(f"back on {channel.id}")
            await sink.wait_content("/mo", f"back on {channel.id}")
    report("all back after", began)
    assert set(junebug.channel_pids()) == {channel.id for channel in [*channels, stopped]}


async def test_sigterm_ends_everything_in_time_and_loses_no_message(
    start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    junebug = start_junebug()
    made = Channels(junebug.api, sink)
    telnet = await made.telnet()
    loops = [await made.loopback({"delivery_reports": False}) for _ in range(4)]
    clients = [await telnet.connect() for _ in range(5)]
    await sink.wait("/mo", 5)
    accepted: set[str] = set()
    stopping = asyncio.Event()

    async def send_until_refused(channel: Channel) -> None:
        async with junebug.api.kept_alive() as api:
            for n in range(10_000):
                text = f"{channel.id} {n}"
                body = {"to": "+27", "content": text, "event_url": sink.url("/event")}
                try:
                    answer = await api.post(f"{channel.path}/messages/", body)
                except (OSError, aiohttp.ClientError):
                    if stopping.is_set():
                        return
                    raise
                if answer.status == 201:
                    accepted.add(text)
                elif stopping.is_set():
                    return

    senders = [asyncio.create_task(send_until_refused(channel)) for channel in loops]
    await eventually(lambda: len(accepted) > 300)
    children = junebug.children()
    stopping.set()
    began = time.monotonic()
    junebug.signal(signal.SIGTERM)
    code = await asyncio.to_thread(junebug.wait, STOP_DEADLINE)
    report("ended after", began)
    assert code == 0
    assert [pid for pid in children if is_alive(pid)] == []
    await asyncio.gather(*senders)
    assert all([await client.ended() for client in clients])
    assert "Traceback" not in junebug.output()
    junebug.start()
    await eventually(
        lambda: accepted <= {body["content"] for body in sink.bodies("/mo")}, what="each message that got a 201"
    )

    def closed() -> set[str]:
        return {body["from"] for body in sink.bodies("/mo") if body["channel_data"].get("session_event") == "close"}

    await eventually(lambda: closed() == {client.address for client in clients}, what="each session's close")
    assert junebug.stop() == 0


async def test_sigterm_with_a_hanging_application_ends_in_time_too(
    start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    junebug = start_junebug({"callback-timeout": 60})
    channel = await Channels(junebug.api, sink).loopback()
    sink.always["/mo"] = sink.always["/event"] = Reply(hang=True)
    for n in range(20):
        await channel.send("+27", str(n), event_url=sink.url("/event"))
    await sink.wait("/mo")
    assert await asyncio.to_thread(junebug.stop) == 0
    sink.always.clear()
    before = len(sink.received)
    junebug.start()

    def heard() -> set[Any]:
        return {each.body["content"] for each in sink.received[before:] if each.path == "/mo"}

    await eventually(lambda: heard() == {str(n) for n in range(20)})


async def test_a_stopped_junebug_leaves_no_port_open(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    junebug = start_junebug()
    channel = await Channels(junebug.api, sink).telnet()
    assert junebug.stop() == 0
    for port in (channel.port, junebug.flags["port"]):
        try:
            await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            continue
        raise AssertionError(f"somebody still listens on {port}")
    junebug.start()
    async with await TelnetClient.connect(channel.port):
        pass
