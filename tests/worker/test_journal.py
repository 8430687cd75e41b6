"""What was accepted is not sent again after a SIGKILL, or a lost link to RabbitMQ; and what is said of it keeps its order."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from junebug import names
from junebug.amqp.publisher import Publisher
from junebug.model.messages import UserMessage, format_timestamp
from junebug.transports.base import Accepted, Report, Transport
from junebug.worker.outbound import journal
from junebug.worker.outbound.journal import Journal, Noted
from tests.polling import eventually
from tests.worker.conftest import Bench
from tests.worker.scripted import ScriptedTransport
from tests.worker.test_sender import change, channel_of

WINDOW = 10


def opened(path: Path, window: int = WINDOW) -> Journal:
    """By the process after the last one, which was killed: nothing was closed."""
    return Journal(path, window)


def keys(count: int) -> list[tuple[str, int]]:
    return [(f"message-{number}", number) for number in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "accepted" / "c"


@pytest.mark.parametrize("provider_id", ["17", None, "a,b", "ü", "x" * 500])
@pytest.mark.parametrize("message_id", ["4f1c", "", "ü" * 30, "a,b"])
def test_what_was_noted_is_known_here_and_to_the_next_process(path: Path, message_id: str, provider_id: str | None) -> None:
    first, key = opened(path), (message_id, 1)
    assert first.find(key) is None
    position = first.note(key, provider_id)
    assert first.find(key) == Noted(provider_id, position)
    assert first.find((message_id, 2)) is None
    second = opened(path)
    assert second.find(key) == Noted(provider_id, None, is_left=True)
    assert second.find((message_id, 2)) is None
    assert second.left() == [message_id]


def test_nothing_is_written_before_the_first_note_and_then_nobody_else_may_read_it(path: Path) -> None:
    first = opened(path)
    assert not path.parent.exists()
    first.note(("1", 1), "17")
    assert [each.name for each in path.parent.iterdir()] == ["c"]
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_last_notes_are_kept_however_many_there_are(path: Path) -> None:
    many, process = keys(10_000), opened(path)
    for key in many:
        process.note(key, "17")
    size = path.stat().st_size
    left = opened(path).left()
    assert left == [message_id for message_id, _ in many[-len(left) :]]
    assert size / 2 / 40 < len(left) < size / 20
    assert len(process._known) == journal.MOST_REMEMBERED


def test_a_window_has_room(path: Path) -> None:
    window, process = 2_000, opened(path, 2_000)
    for key in keys(5 * window):
        process.note((key[0].ljust(36, "-"), key[1]), "x" * 65)
    assert len(opened(path, window).left()) > 1.5 * window


def test_it_outlives_several_deaths_and_another_window(path: Path) -> None:
    many = keys(30)
    for number, key in enumerate(many):
        process = opened(path, WINDOW * (1 + 100 * (number % 3)))
        assert all(process.find(each) for each in many[:number])
        process.note(key, str(number))
    last = opened(path)
    assert [noted and noted.provider_id for noted in map(last.find, many)] == [str(number) for number in range(30)]


async def test_of_what_rabbitmq_holds_reports_do_not_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 60.0)
    first = opened(path)
    positions = [first.note(key, "17") for key in keys(4)]
    for position in positions[:2]:
        assert position is not None
        first.told(position)
    for process in (opened(path), opened(path)):
        for number in (0, 1, 99):
            await asyncio.wait_for(process.begun(f"message-{number}"), 1)
        waits = asyncio.create_task(process.begun("message-2"))
        await asyncio.sleep(0)
        process.begin("message-3")
        await asyncio.sleep(0)
        assert not waits.done()
        process.begin("message-2")
        await asyncio.wait_for(waits, 1)
        process.note(("another", 1), None)  # what was left is written anew, as it was


async def test_reports_wait_for_all_that_was_left_together_no_longer_than_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.2)
    first = opened(path)
    for key in keys(50):
        first.note(key, "17")
    process = opened(path)
    await asyncio.wait_for(asyncio.gather(*(process.begun(message_id) for message_id in process.left())), 5)
    assert not process._untold


def test_a_position_of_long_ago_is_nobody_elses(path: Path) -> None:
    process = opened(path)
    old = process.note(("old", 1), "17")
    assert old is not None
    for key in keys(5_000):
        process.note(key, "18")
    before = path.read_bytes()
    process.told(old)
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 2, 3, 8, 13])
def test_of_a_note_that_was_not_written_to_its_end_nothing_is_read(path: Path, cut: int) -> None:
    process = opened(path)
    process.note(("whole", 1), "17")
    start = process._at
    process.note(("torn", 2), "18")
    octets = bytearray(path.read_bytes())
    half = len(octets) // 2  # the first is half number one: the second of the file
    written = octets[half + start + 2 : half + start + cut]  # its length comes last
    octets[half + start : half + process._at] = b"\0\0" + written.ljust(process._at - start - 2, b"\0")
    path.write_bytes(octets)
    assert opened(path).left() == ["whole"]


@pytest.mark.parametrize("octets", [b"", b"x", b"\xff" * 65_536, b"\0" * 10, bytes(range(256)) * 256])
def test_a_file_of_something_else_is_nothing(path: Path, octets: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(octets)
    process = opened(path)
    process.note(("1", 1), "17")
    assert opened(path).find(("1", 1))


def test_where_nothing_can_be_written_it_holds_for_this_process(path: Path) -> None:
    path.parent.write_text("in the way")
    process = opened(path)
    with structlog.testing.capture_logs() as logs:
        assert process.note(("1", 1), "17") is None
        assert process.note(("2", 2), "18") is None
    assert len(logs) == 1
    assert process.find(("1", 1)) == Noted("17", None)


# --- with a channel -------------------------------------------------------------------------------------------------------------


class Held:
    """RabbitMQ takes no events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on, self.bodies = asyncio.Event(), 0
        publish = Publisher.publish_surely

        async def held_up(publisher: Publisher, queue: str, bodies: Sequence[bytes], **options: Any) -> None:
            if names.plain(queue).endswith(".event"):
                self.bodies += 1
                await self.go_on.wait()
            await publish(publisher, queue, bodies, **options)

        monkeypatch.setattr(Publisher, "publish_surely", held_up)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


async def left_behind(bench: Bench, held: Held, channel: str) -> None:
    """As by a SIGKILL: RabbitMQ has got no event, and no acknowledgement. What was held up is held up for ever."""
    bench.settings = dataclasses.replace(bench.settings, stop_timeout=1.0)
    bench._workers[channel]._settings = bench.settings
    await bench.stop(channel)
    held.go_on.set()


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_what_was_accepted_is_told_and_not_sent_again(
    bench: Bench, scripted: type[ScriptedTransport], held: Held, queue_type: str
) -> None:
    channel = await channel_of(bench)
    ids = await sent(bench, channel, scripted, 3)
    await eventually(lambda: held.bodies)
    await left_behind(bench, held, channel)
    assert bench.app.received == []
    bench.start(channel)
    await bench.app.wait(3)
    assert told(bench) == [(message_id, "submitted") for message_id in ids]
    assert [each["event_details"]["sent_message_id"] for each in bench.app.received] == ["id-0", "id-1", "id-2"]
    await eventually(lambda: _has_none(bench, channel))
    assert scripted.sent == ["0", "1", "2"]


async def test_what_was_accepted_while_the_link_broke_is_not_sent_again(
    bench: Bench, scripted: type[ScriptedTransport], held: Held
) -> None:
    channel = await channel_of(bench)
    ids = await sent(bench, channel, scripted, 3)
    await eventually(lambda: held.bodies)
    bench._workers[channel]._broker._connection.link._stream.writer.transport.abort()
    held.go_on.set()
    await eventually(lambda: {message_id for message_id, _ in told(bench)} == {*ids})
    await eventually(lambda: _has_none(bench, channel))
    assert scripted.sent == ["0", "1", "2"]


async def _has_none(bench: Bench, channel: str) -> bool:
    sender: Any = bench._workers[channel]._sender
    return not await bench.length(f"{channel}.outbound") and sender._idle.is_set()


async def test_what_was_accepted_has_neither_expired_since_nor_can_it_be_cancelled(
    bench: Bench, scripted: type[ScriptedTransport], held: Held
) -> None:
    channel = await channel_of(bench)
    ends = datetime.now(UTC) + timedelta(seconds=1)
    message_id = await bench.send(channel, "1", "x", bench.app.url(), expires_at=format_timestamp(ends))
    await eventually(lambda: scripted.sent)
    await eventually(lambda: held.bodies)
    await left_behind(bench, held, channel)
    await change(bench, channel, paused=True)
    await eventually(lambda: datetime.now(UTC) > ends)
    bench.start(channel)
    await eventually(lambda: bench._workers[channel]._sender)
    assert await bench.asking.ask(channel, "cancel", 5, message_id=message_id) == {"cancelled": False}
    await change(bench, channel, paused=False)
    await bench.app.wait(1)
    assert told(bench) == [(message_id, "submitted")]
    assert scripted.sent == ["x"]


@pytest.mark.parametrize("fails", [False, True])
async def test_the_transport_makes_up_for_what_it_had_not_done_yet(
    bench: Bench, scripted: type[ScriptedTransport], held: Held, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It had told that the message was accepted, and was killed before `send` returned."""

    async def accept_and_hang(transport: Transport, message: UserMessage) -> None:
        transport.on_accepted(message, "early id")
        hung.set()
        await asyncio.sleep(3600)

    async def accepted_before(transport: Transport, message: UserMessage, provider_id: str | None) -> Accepted:
        if fails:
            raise ValueError(provider_id)
        return Accepted(provider_id, (Report("delivered"),))

    hung = asyncio.Event()
    monkeypatch.setattr(scripted, "accepted_before", accepted_before)
    scripted.outcomes.append(accept_and_hang)
    channel = await channel_of(bench)
    message_id = await bench.send(channel, "1", "x", bench.app.url())
    await hung.wait()
    await left_behind(bench, held, channel)
    bench.start(channel)
    wanted = ["submitted"] if fails else ["submitted", "delivery_succeeded"]
    await bench.app.wait(len(wanted))
    assert told(bench) == [(message_id, event) for event in wanted]
    assert bench.app.received[0]["event_details"] == {"sent_message_id": "early id"}
    assert scripted.sent == []


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_report_that_comes_as_soon_as_the_process_is_there_again_waits_for_submitted(
    bench: Bench, scripted: type[ScriptedTransport], held: Held, monkeypatch: pytest.MonkeyPatch, is_paused: bool
) -> None:
    """From before there is a sender. Where what is left is not told of again for long, it does not wait for that."""
    reports: list[asyncio.Task[None]] = []

    async def start(transport: Transport) -> None:
        reports.extend(
            asyncio.create_task(transport.context.delivery_report(message_id, "delivered")) for message_id in ids
        )
        await asyncio.sleep(0.05)

    channel = await channel_of(bench)
    ids = await sent(bench, channel, scripted, 3)
    await eventually(lambda: held.bodies)
    await left_behind(bench, held, channel)
    monkeypatch.setattr(scripted, "start", start)
    if is_paused:
        monkeypatch.setattr(journal, "PATIENCE", 0.3)
        await change(bench, channel, paused=True)
    bench.start(channel)
    wanted = [(message_id, event) for message_id in ids for event in ("submitted", "delivery_succeeded")]
    if is_paused:
        await bench.app.wait(3)
        assert sorted(told(bench)) == sorted(each for each in wanted if each[1] == "delivery_succeeded")
        await change(bench, channel, paused=False)
    await bench.app.wait(6)
    assert sorted(told(bench)) == sorted(wanted)
    if not is_paused:
        for message_id in ids:
            assert [event for about, event in told(bench) if about == message_id] == ["submitted", "delivery_succeeded"]
    await asyncio.gather(*reports)


async def sent(bench: Bench, channel: str, scripted: type[ScriptedTransport], count: int) -> list[str]:
    ids = [await bench.send(channel, "1", str(number), bench.app.url()) for number in range(count)]
    await eventually(lambda: len(scripted.sent) == count)
    return ids


def told(bench: Bench) -> list[tuple[str, str]]:
    return [(each["message_id"], each["event_type"]) for each in bench.app.received]
