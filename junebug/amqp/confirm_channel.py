"""The channel that publishes: what is published at the same time is written in one go, as persistent messages, each of which
RabbitMQ confirms, refuses, or returns.

What is given up before it was written never leaves. While RabbitMQ blocks the link everything is refused at once. Neighbours:
publisher.py opens it; frames.py has what all channels have.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pamqp.frame
import structlog
from pamqp import commands as amqp
from pamqp.header import ContentHeader

from junebug.amqp.connection import Link
from junebug.amqp.frames import Channel, Content
from junebug.errors import BrokerUnavailable, Unroutable

log = structlog.stdlib.get_logger(__name__)

MOST_UNWRITTEN = 8 * 1024 * 1024
"""Bytes that wait to be written at which publishers must wait."""
WRITE_SIZE = 256 * 1024
"""Bytes after which a write waits until RabbitMQ has read enough of them."""
OVERHEAD = 100
"""Bytes of a message's frames, about."""

_TAG_DIGITS = 16  # a delivery tag in hex, of fixed width, so that a prepared header can be patched in place
_PLACEHOLDER = "0" * _TAG_DIGITS


@dataclass(slots=True, eq=False)
class _Batch:
    """Messages that are published together."""

    before: bytes
    after: bytes
    bodies: Sequence[bytes]
    size: int
    done: asyncio.Future[None]
    written: int = 0
    first_tag: int = 0
    last_tag: int = 0


class Refused(BrokerUnavailable):
    """RabbitMQ took some of what was published together, and refused (basic.nack) the rest."""

    refused: Sequence[int] = ()
    """The indices of those; none where others came back, besides."""


class ConfirmChannel(Channel):
    """A channel that publishes."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._unwritten: deque[_Batch] = deque()
        self._unwritten_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._unconfirmed: deque[_Batch] = deque()
        self._tag = 0
        self._confirmed = 0
        self._confirmed_ahead: set[int] = set()
        self._failed: dict[int, Exception] = {}
        self._prepared: dict[tuple[str, str, int | None], tuple[bytes, bytes]] = {}
        self._most_in_frame = link.connection_tune.frame_max - 8

    async def publish(self, exchange: str, routing_key: str, bodies: Sequence[bytes], expiration: int | None) -> None:
        """Write the bodies as persistent, mandatory messages; return when RabbitMQ has confirmed them all.

        `expiration`: milliseconds that a message may wait in a queue. When this is cancelled, what is not written yet
        never is.

        Raises Unroutable if one was returned, Refused if one was refused, BrokerUnavailable if the channel ended.
        """
        while self._unwritten_bytes >= MOST_UNWRITTEN and self.usable and not self.link.blocked:
            self._room.clear()
            await self._room.wait()
        if not self.usable or self.link.blocked:
            raise self._unavailable()
        before, after = self._prepared.get((exchange, routing_key, expiration)) or self._prepare(
            exchange, routing_key, expiration
        )
        size = sum(map(len, bodies)) + OVERHEAD * len(bodies)
        batch = _Batch(before, after, bodies, size, asyncio.get_running_loop().create_future())
        self._unwritten.append(batch)
        self._unwritten_bytes += size
        self._news.set()
        try:
            await batch.done
        except asyncio.CancelledError:
            if batch in self._unwritten:
                self._unwritten.remove(batch)
                self._take_off(batch)
            raise

    def _prepare(self, exchange: str, routing_key: str, expiration: int | None) -> tuple[bytes, bytes]:
        """The frames Basic.Publish and content header: what stands before the body's size, and between it and the tag."""
        publish = amqp.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
        # message_id is the last of these properties on the wire, so the tag is what precedes the frame's end
        properties = amqp.Basic.Properties(
            content_type="application/json",
            delivery_mode=2,
            expiration=None if expiration is None else str(expiration),
            message_id=_PLACEHOLDER,
        )
        header = pamqp.frame.marshal(ContentHeader(body_size=0, properties=properties), self.number)
        size_at = 7 + 4  # frame header, class id and weight; the size has 8 bytes, a frame ends with one
        before = pamqp.frame.marshal(publish, self.number) + header[:size_at]
        prepared = (before, header[size_at + 8 : -_TAG_DIGITS - 1])
        if len(self._prepared) >= 1000:
            self._prepared.clear()
        self._prepared[exchange, routing_key, expiration] = prepared
        return prepared

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write_forever(self) -> None:
        """Write what has gathered, no faster than RabbitMQ reads."""
        try:
            while self.usable:
                await self._news.wait()
                self._news.clear()
                while self._unwritten and self.usable:
                    self.link.write(self._next_frames())
                    await self.link.drain()
        except ConnectionError:
            pass  # the link is lost: that ends the channel

    def _next_frames(self) -> bytes:
        out: list[bytes] = []
        size, tag, limit = 0, self._tag, self._most_in_frame
        number = self.number.to_bytes(2, "big")
        while self._unwritten and size < WRITE_SIZE:
            batch = self._unwritten[0]
            if not batch.written:
                batch.first_tag = tag + 1
            before, after, bodies = batch.before, batch.after, batch.bodies
            at, end = batch.written, len(bodies)
            while at < end and size < WRITE_SIZE:
                body = bodies[at]
                at += 1
                tag += 1
                length = len(body)
                # the tag is the message_id, by which a returned message is known again
                out += (before, length.to_bytes(8, "big"), after, b"%016x\xce" % tag)
                for start in range(0, length, limit):
                    part = body if length <= limit else body[start : start + limit]
                    out += (b"\x03", number, len(part).to_bytes(4, "big"), part, b"\xce")
                size += length + OVERHEAD
            batch.written = at
            if at == end:
                batch.last_tag = tag
                self._unwritten.popleft()
                self._unconfirmed.append(batch)
                self._take_off(batch)
        self._tag = tag
        return b"".join(out)

    def _take_off(self, batch: _Batch) -> None:
        batch.bodies = ()
        self._unwritten_bytes -= batch.size
        if self._unwritten_bytes < MOST_UNWRITTEN:
            self._room.set()

    def refuse_unwritten(self) -> None:
        """Nothing of what waits, here or for room, is written: the link is blocked or the channel over."""
        error = self._unavailable()
        while self._unwritten:
            batch = self._unwritten.popleft()
            self._take_off(batch)
            _fail(batch.done, error)

    def on_end(self) -> None:
        error = self._unavailable()
        self._news.set()
        self._room.set()
        self.refuse_unwritten()
        while self._unconfirmed:
            _fail(self._unconfirmed.popleft().done, error)

    def _unavailable(self) -> BrokerUnavailable:
        if self.usable:
            return BrokerUnavailable(f"RabbitMQ takes no messages at the moment: {self.link.blocked}")
        why = " ".join(str(self.ended_by).split()) if self.ended_by else "the channel was closed"
        return BrokerUnavailable(f"RabbitMQ did not confirm: {why}")

    # --- confirms -----------------------------------------------------------------------------------------------------

    def on_confirm(self, tag: int, *, multiple: bool, refused: bool) -> None:
        first = self._confirmed + 1 if multiple else tag
        if refused:
            for each in range(first, tag + 1):
                self._failed.setdefault(each, Refused("RabbitMQ refused a message"))
        if first == self._confirmed + 1:
            self._confirmed = max(self._confirmed, tag)
        else:
            self._confirmed_ahead.add(tag)
        ahead = self._confirmed_ahead
        while ahead and (self._confirmed + 1) in ahead:
            self._confirmed += 1
            ahead.discard(self._confirmed)
        if multiple and ahead:
            ahead.difference_update([each for each in ahead if each <= self._confirmed])
        while self._unconfirmed and self._unconfirmed[0].last_tag <= self._confirmed:
            batch = self._unconfirmed.popleft()
            failed = [each for each in self._failed if each <= batch.last_tag] if self._failed else []
            errors = [(each, self._failed.pop(each)) for each in failed]
            # those before its first belong to one that was given up half written
            own = [(each - batch.first_tag, error) for each, error in errors if each >= batch.first_tag]
            if own:
                error = next((error for _, error in own if not isinstance(error, Unroutable)), own[0][1])
                if isinstance(error, Unroutable):
                    error.returned = [index for index, _ in own]
                elif isinstance(error, Refused) and all(isinstance(each, Refused) for _, each in own):
                    error.refused = [index for index, _ in own]
                _fail(batch.done, error)
            elif not batch.done.done():
                batch.done.set_result(None)

    def on_content(self, content: Content) -> None:
        """No queue took a mandatory message; its confirm follows."""
        method = content.returned
        try:
            tag = int(content.properties.message_id or "", 16)
        except (TypeError, ValueError):
            log.error("a returned message without our tag", routing_key=method.routing_key)
            return
        where = f"exchange {method.exchange!r} with routing key {method.routing_key!r}"
        self._failed[tag] = Unroutable(f"no queue is bound to {where}")


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waited may be gone (cancelled): then nobody needs to hear of it
