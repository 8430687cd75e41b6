"""Frames as RabbitMQ sends them, cut anywhere: each reaches its channel once, whole, in order; what is none ends the link."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pamqp.frame
import pytest
from pamqp import commands as amqp
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from junebug.amqp import reader
from junebug.amqp.frames import Channel, Content, Delivery, DeliveryChannel
from junebug.amqp.reader import FrameReader, OnLink


def frame(content: Any, number: int = 1) -> bytes:
    return pamqp.frame.marshal(content, number)


def message(body: bytes, tag: int = 1, **properties: Any) -> list[bytes]:
    """The frames of a delivery."""
    deliver = amqp.Basic.Deliver("a queue", tag, False, "", "a queue")
    header = ContentHeader(body_size=len(body), properties=amqp.Basic.Properties(**properties))
    parts = [ContentBody(body[at : at + 10]) for at in range(0, len(body), 10)]
    return [frame(deliver), frame(header), *map(frame, parts)]


class FakeLink:
    """What a channel needs of one."""

    def __init__(self) -> None:
        self.written = b""
        self.channel: OnLink | None = None

    def add(self, channel: OnLink) -> int:
        self.channel = channel
        return 1

    def remove(self, number: int, channel: OnLink) -> None:
        self.channel = None

    def write(self, data: bytes) -> None:
        self.written += data


def channel_of(kind: type[Channel]) -> Any:
    return kind(FakeLink())  # type: ignore[arg-type]


async def read(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    """(frames of channels, octets of channel 0) of what comes so."""
    stream = asyncio.StreamReader()
    frames: list[bytes] = []
    own = FrameReader(stream, lambda number, kind, octets: frames.append(octets))
    left = b""
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    try:
        while True:
            left += await own.readexactly(1)
    except asyncio.IncompleteReadError:
        assert own.at_eof()
    return frames, left


FRAMES = [frame(amqp.Channel.OpenOk()), *message(b"x" * 25), frame(amqp.Basic.Ack(3, True), 65535), *message(b"")]
OWN = [frame(Heartbeat(), 0), frame(amqp.Connection.Blocked("disk"), 0)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 50, 10_000])
async def test_frames_are_whole_wherever_they_are_cut(size: int) -> None:
    octets = b"".join(itertools.chain(FRAMES[:3], OWN[:1], FRAMES[3:], OWN[1:]))
    frames, left = await read([octets[at : at + size] for at in range(0, len(octets), size)])
    assert frames == FRAMES
    assert left == b"".join(OWN)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (FRAMES[0][:-1] + b"\0", "without its end"),
        (b"\1\0\1\xff\xff\xff\xff", "frame of 4294967295 octets"),
        (b"\3\0\1" + (reader.LARGEST_FRAME + 1).to_bytes(4, "big"), "frame of 1048577 octets"),
    ],
)
async def test_what_is_no_frame_ends_the_link(octets: bytes, why: str) -> None:
    with pytest.raises(ConnectionError, match=why):
        await read([*FRAMES, octets + b"x" * 100])


@pytest.mark.parametrize("octets", [b"AMQP\0\0\x09\1", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 20])
async def test_another_protocol_is_left_to_aiormq(octets: bytes) -> None:
    assert await read([octets]) == ([], octets)


@pytest.mark.parametrize("priority", [None, 0, 1, 5, 255])
@pytest.mark.parametrize(
    "properties",
    [
        {}, {"content_type": "application/json"}, {"content_encoding": "x" * 255}, {"headers": {"a": 1, "b": [{"c": "d"}]}},
        {"delivery_mode": 2}, {"message_id": "m", "timestamp": None, "expiration": "5", "app_id": "a"},
        {"content_type": "a", "content_encoding": "b", "headers": {}, "delivery_mode": 1, "correlation_id": "c", "reply_to": "d"},
    ],
)  # fmt: skip
def test_the_priority_is_found_among_any_properties(properties: dict[str, Any], priority: int | None) -> None:
    told = amqp.Basic.Properties(**properties, priority=priority)
    content = Content(header=frame(ContentHeader(body_size=3, properties=told)))
    assert content.priority == (priority or 0)
    assert content.properties.message_id == properties.get("message_id")


@pytest.mark.parametrize("body", [b"", b"x", b"0123456789", b"0123456789" * 3 + b"rest"])
async def test_a_delivery_is_what_its_frames_say_and_is_acknowledged(body: bytes) -> None:
    channel = channel_of(DeliveryChannel)
    deliveries: list[Delivery] = []
    channel.on_delivery = deliveries.append
    for tag in (2**40, 2**40 + 1):
        for octets in message(body, tag, priority=3, delivery_mode=2):
            channel.on_frame(octets[0], octets)
    first, second = deliveries
    assert (first.queue, first.tag, first.body, first.redelivered, first.priority) == ("a queue", 2**40, body, False, 3)
    second.ack_now()
    first.ack_now()
    assert channel.link.written == frame(amqp.Basic.Ack(2**40 + 1, False)) + frame(amqp.Basic.Ack(2**40, True))


def test_a_fault_in_a_handler_costs_that_message_only() -> None:
    channel = channel_of(DeliveryChannel)
    bodies: list[bytes] = []

    def handle(delivery: Delivery) -> None:
        bodies.append(delivery.body)
        raise ValueError("a bug")

    channel.on_delivery = handle
    for octets in (*message(b"one"), *message(b"two", 2)):
        channel.on_frame(octets[0], octets)
    assert bodies == [b"one", b"two"]


@pytest.mark.parametrize("content", [ContentHeader(body_size=3, properties=amqp.Basic.Properties()), ContentBody(b"x")])
def test_content_that_belongs_to_nothing_is_passed_over(content: Frame) -> None:
    channel = channel_of(DeliveryChannel)
    channel.on_frame(frame(content)[0], frame(content))
    assert channel.usable
