"""What kills a channel's process twice is set aside, so that nothing kills it for ever (issue 10, D15)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.model import event_batch
from junebug.model.callbacks import Callback
from junebug.model.messages import Status, event_of
from junebug.worker.suspects import Suspects
from tests.polling import eventually
from tests.worker.conftest import Bench
from tests.worker.test_foreign_messages import letters
from tests.worker.test_forwarder import loopback, mo


def opened(path: Path) -> Suspects:
    suspects = Suspects()
    suspects.open(path)
    return suspects


def dies(path: Path, octets: bytes, kind: str = "delivery") -> bool:
    """Over these: its loop does not go on. Whether it had begun."""
    process = opened(path)
    began = process.begin(kind, octets)
    if process._going:
        process._going.cancel()
    return began


async def test_what_two_processes_died_of_is_not_begun_a_third_time(tmp_path: Path) -> None:
    path = tmp_path / "suspects" / "c"
    for _ in range(2):
        process = opened(path)
        assert process.begin("delivery", b"harmless")
        await asyncio.sleep(0)
        assert dies(path, b"deadly")
    process = opened(path)
    assert not process.begin("delivery", b"deadly")
    assert process.begin("delivery", b"harmless")
    assert process.begin("callback", b"deadly"), "it is something else that is done with the same"
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


async def test_what_the_loop_went_on_after_is_no_suspect(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for _ in range(5):  # killed while it waits
        process = opened(path)
        assert process.begin("delivery", b"waits for a slow provider")
        await asyncio.sleep(0)


async def test_who_survives_once_is_no_suspect_any_more(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for survives in (False, True, False, True, False):
        if survives:
            assert opened(path).begin("delivery", b"unlucky")
            await asyncio.sleep(0)
        else:
            assert dies(path, b"unlucky")


async def test_who_survives_its_first_half_is_still_suspected(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for _ in range(2):
        process = opened(path)
        assert process.begin("delivery", b"deadly", is_half=True)
        await asyncio.sleep(0)
        assert process.begin("delivery", b"deadly")
        assert process._going
        process._going.cancel()
    assert not opened(path).begin("delivery", b"deadly", is_half=True)


async def test_an_end_in_good_order_blames_nobody(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for _ in range(3):
        process = opened(path)
        assert process.begin("delivery", b"the last one")
        process.close()
        assert process.begin("delivery", b"too late")


async def test_of_many_those_who_died_twice_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "c"
    for _ in range(2):
        dies(path, b"deadly")
    for number in range(500):
        dies(path, b"%d" % number)
    assert not opened(path).begin("delivery", b"deadly")


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 16, b"\xff" * 10_000])
async def test_whatever_is_in_the_file_is_borne(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    assert opened(path).begin("delivery", b"x")


async def test_without_a_file_nobody_is_suspected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    process = opened(tmp_path / "file" / "c")
    assert process.begin("delivery", b"x")
    process.close()


MESSAGE = mo("deadly", "+1")
CASES: dict[str, tuple[Any, bytes]] = {
    "outbound": (names.outbound_queue, MESSAGE.to_wire()),
    "inbound": (names.inbound_queue, MESSAGE.to_wire()),
    "event": (names.event_queue, event_of(MESSAGE, "c", "ack", sent_message_id="s").to_wire()),
    "callback": (names.callback_queue, Callback(to="mo_url", kind="inbound", id="1", wire=MESSAGE.to_wire()).to_wire()),
    "status": (
        names.status_queue, Status(channel_id="c", component="x", status="ok", type="deadly", message="m").to_wire(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest.mark.parametrize("case", CASES)
async def test_a_deadly_delivery_is_a_dead_letter_and_a_status(bench: Bench, case: str) -> None:
    queue_of, body = CASES[case]
    channel = await loopback(bench, mo_url=bench.app.url("/mo"))
    queue = bench.name(queue_of(channel))
    await bench.running(channel)
    await bench.stop(channel)
    for _ in range(2):
        dies(bench.settings.suspects_dir / channel, body)
    await bench.broker.publish(queue, body)
    bench.start(channel)

    async def is_told() -> bool:
        return (await bench.component(channel, "set_aside")).get("status") == "degraded"

    await eventually(is_told)
    (letter,) = await letters(bench, channel)
    assert (letter.reason, letter.queue, letter.body) == ("failed", queue, body)
    await bench.send(channel, "1", "goes on")
    await bench.app.wait(1)
    assert [body["content"] for body in bench.app.received] == ["goes on"]
    assert await bench.broker.queue_length(queue) == 0


async def test_of_a_deadly_batch_of_events_each_is_begun_alone(bench: Bench) -> None:
    events = [replace(event_of(mo(str(n)), "c", "ack", sent_message_id="s"), event_url=bench.app.url()) for n in range(3)]
    deadly, batch = events[1].to_wire(), event_batch.together([event.to_wire() for event in events])
    channel = await loopback(bench)
    await bench.running(channel)
    await bench.stop(channel)
    for octets in (deadly, *batch):
        for _ in range(2):
            dies(bench.settings.suspects_dir / channel, octets)
    await bench.put(names.event_queue(channel), *batch)
    bench.start(channel)
    await bench.app.wait(2)
    assert {body["message_id"] for body in bench.app.received} == {events[n].user_message_id for n in (0, 2)}
    (letter,) = await letters(bench, channel)
    assert letter.body == deadly


async def test_a_deadly_callback_is_not_called_again(bench: Bench) -> None:
    channel = await loopback(bench, mo_url=bench.app.url("/mo"))
    await bench.running(channel)
    await bench.stop(channel)
    for _ in range(2):
        dies(bench.settings.suspects_dir / channel, MESSAGE.to_wire(), "callback")
    await bench.put(names.inbound_queue(channel), MESSAGE.to_wire())
    bench.start(channel)

    async def is_dead() -> bool:
        return [letter.callback.wire for letter in await letters(bench, channel) if letter.callback] == [MESSAGE.to_wire()]

    await eventually(is_dead)
    assert bench.app.received == []
