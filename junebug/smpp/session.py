"""Session: one SMPP connection, as ESME or as SMSC: requests matched with responses, timers, flow control.

Composed of pending.py (pure) over the codec. bind.py keeps one connected and bound; the simulator uses the
same class from the other side. Whoever makes requests bounds how many there are (window.py).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import structlog

from junebug.runtime import fence
from junebug.smpp import constants as c
from junebug.smpp.codec import DecodeError, decode, encode
from junebug.smpp.framing import BadLength, PduReader
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import BINDS, EnquireLink, Pdu, Unbind, response_to
from junebug.smpp.pending import Liveness, NotWritten, PendingRequests, Request, ResponseLost, Unanswered

log = structlog.stdlib.get_logger("smpp")

Direction = Literal["in", "out"]
Role = Literal["esme", "smsc"]
Watcher = Callable[[Direction, bytes, Pdu | None, Any], None]
"""on_pdu(direction, raw, pdu, tag) sees everything that comes and goes; `pdu` is None when it could not be decoded."""

CLOSE_TIMEOUT = 2.0
"""Seconds that a peer gets to read what we wrote before we hung up."""
MAX_UNREAD = 1 << 20
"""Bytes that a peer may leave unread: only responses to its own requests are written to a peer that does not read."""
SLICE = 100
"""PDUs that are handled before others have their turn on the event loop: a read may bring 16,000."""
CLOCK_RESOLUTION = 0.002
"""A timer may fire this much early (uvloop counts milliseconds)."""

_DISCARD, _DELIVER = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""SO_LINGER: what the kernel does with unsent octets when the socket is closed, or its process dies."""

_UNANSWERABLE = frozenset((c.ALERT_NOTIFICATION, c.OUTBIND))
_ACCEPTED: dict[Role, frozenset[int]] = {
    "esme": frozenset((c.DELIVER_SM, c.DATA_SM)) | _UNANSWERABLE,
    "smsc": frozenset((c.SUBMIT_SM, c.SUBMIT_MULTI, c.DATA_SM, c.QUERY_SM, c.CANCEL_SM, c.REPLACE_SM, *BINDS)),
}
_BUSY: dict[Role, int] = {"esme": c.ESME_RX_T_APPN, "smsc": c.ESME_RMSGQFUL}
"""What more inbound requests than the owner can keep are answered with: both make the peer try again later."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a session is over. `kind`: `lost` (connection), `unbound` (the peer asked), `closed` (we did),
    `silent` (enquire_link unanswered), `bad_length` (the stream is out of step), `stuffed` (the peer does not read).
    """

    kind: Literal["lost", "unbound", "closed", "silent", "bad_length", "stuffed"]
    message: str


class Session(asyncio.Protocol):
    """One connection.

    `on_request(session, pdu)` gets each inbound request other than enquire_link and unbind, and answers it, now or
    later, with `respond`. The `tag` that `on_pdu` sees is what `request` or `respond` was given, and again with the response.
    `closed` is done when the connection is over.
    """

    def __init__(
        self, role: Role, options: SessionOptions, *, on_request: Callable[[Session, Pdu], None], on_pdu: Watcher | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[CloseReason] = self._loop.create_future()
        self.peer = ""
        """The other end, `host:port`, once connected."""
        self._is_esme = role == "esme"
        self._accepted = _ACCEPTED[role]
        self._busy_status = _BUSY[role]
        self._options = options
        self._on_request = on_request
        self._on_pdu = on_pdu
        self._transport: asyncio.Transport | None = None
        self._reader = PduReader()
        self._pending = PendingRequests()
        self._unanswered = Unanswered(options.max_unanswered)
        interval, timeout = options.enquire_link_interval, options.response_timeout
        self._liveness = Liveness(interval, min(interval or timeout, timeout), self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._unflushed: list[bytes] = []
        self._unflushed_requests: list[Request] = []
        self._paused = False
        self._frames: deque[bytes | BadLength] = deque()
        """Received, and not handled yet."""
        self._reading_paused = False
        self._next_slice: asyncio.TimerHandle | None = None
        """There while inbound requests are to be answered first."""
        self._ending = False
        self._reason: CloseReason | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- for the owner ------------------------------------------------------------------------------------------------

    async def request(self, pdu: Pdu, *, tag: Any = None, timeout: float | None = None) -> Pdu:
        """Write it; its response (of any command_status; a GenericNack likewise).

        Requests are written in the order of the calls. `sequence_number` is set here. `timeout` stands in for the
        response_timeout. Raises NotWritten, ResponseLost, EncodeError.
        """
        if self._ending or self._transport is None:
            raise NotWritten(self._reason.message if self._reason else "the session is not open")
        if self._paused:
            raise NotWritten("the peer does not read")
        answer: asyncio.Future[Pdu] = self._loop.create_future()
        limit = self._options.response_timeout if timeout is None else timeout
        self._write_request(Request(pdu, tag, answer, limit))
        return await answer

    def respond(self, pdu: Pdu, *, tag: Any = None) -> bool:
        """Answer an inbound request; `sequence_number` is that of the request. False: too late, the session is over.

        Raises EncodeError.
        """
        if self._reason is not None or self._transport is None:
            return False
        self._write_pdu(pdu, encode(pdu), tag)
        self._count_answered()
        return True

    async def unbind(self, *, drain_timeout: float = 5.0, timeout: float = 2.0) -> None:
        """End in good order: no new requests, those in flight get their responses, unbind, close. Bounded by the times.

        A peer that does not answer the unbind gets no more of what was written either.
        """
        if self._transport is None or self._ending:
            return self.close()
        self._ending = True
        self._drained = self._loop.create_future()
        self._check_drained()
        await self._first_of(self._drained, drain_timeout)
        is_silent = False
        if self._reason is None:
            answer: asyncio.Future[Pdu] = self._loop.create_future()
            self._write_request(Request(Unbind(), None, answer, timeout + 1))
            await self._first_of(answer, timeout)
            if is_silent := answer.cancel():
                self.abort("unbound")
            elif not answer.cancelled():
                answer.exception()  # seen: the connection is over, as it should be
        if not is_silent:
            self.close("unbound")
        await asyncio.wait([self.closed], timeout=CLOSE_TIMEOUT + 1)

    def close(self, message: str = "closed") -> None:
        """Write what is there, then close. Whoever waits gets ResponseLost or NotWritten."""
        self._end(CloseReason("closed", message))

    def abort(self, message: str = "aborted") -> None:
        """Close now, whatever was not written yet."""
        self._end(CloseReason("closed", message), at_once=True)

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = "{}:{}".format(*peer[:2]) if peer else ""
        self._on_close(_DISCARD)
        self._liveness.heard(self._loop.time())
        self._wake_at(self._liveness.deadline())

    def connection_lost(self, error: Exception | None) -> None:
        self._read_frames(len(self._frames))  # responses among them count
        if self._reason is None:
            detail = f": {error.strerror or error}" if isinstance(error, OSError) else f": {error}" if error else ""
            self._reason = CloseReason("lost", f"the connection was lost{detail}")
        self._ending = True
        self._transport = None
        if self._timer:
            self._timer.cancel()
        message = self._reason.message
        unflushed = set(map(id, self._unflushed_requests))
        self._unflushed.clear()
        self._unflushed_requests.clear()
        for request in self._pending.values():
            request.fail(NotWritten(message) if id(request) in unflushed else ResponseLost(message))
        self._pending.clear()
        if not self.closed.done():
            self.closed.set_result(self._reason)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def data_received(self, data: bytes) -> None:
        if self._reason is not None:
            return
        begun = bool(self._frames)
        try:
            self._frames.extend(self._reader.feed(data))
        except BadLength as error:
            self._frames.extend((*error.frames, error))
        if self._frames:
            self._liveness.heard(self._loop.time())
        if not begun:
            self._read_slice()

    # --- in -----------------------------------------------------------------------------------------------------------

    def _read_slice(self) -> None:
        """The next ones of what has come; with more of them left, nothing is read from the socket meanwhile."""
        transport, self._next_slice = self._transport, None
        if not (pause := self._unanswered.pause(self._loop.time())):
            self._read_frames(SLICE)
        if self._frames and pause:
            self._next_slice = self._loop.call_later(pause, self._read_slice)
        elif self._frames:
            self._loop.call_soon(self._read_slice)
        if transport is not None and bool(self._frames) != self._reading_paused and not transport.is_closing():
            self._reading_paused = bool(self._frames)
            (transport.pause_reading if self._reading_paused else transport.resume_reading)()

    def _read_frames(self, most: int) -> None:
        for _ in range(min(most, len(self._frames))):
            frame = self._frames.popleft()
            if self._reason is not None:
                return self._frames.clear()
            if isinstance(frame, BadLength):
                # where the next PDU begins is anybody's guess: say so and hang up
                self._answer(0, 0, c.ESME_RINVCMDLEN)
                self._end(CloseReason("bad_length", str(frame)))
                continue
            try:
                self._read_frame(frame)
            except Exception:  # a bug of ours, or of the owner's: this PDU is lost, the bind is not
                log.exception("a PDU could not be handled", pdu=frame.hex())

    def _read_frame(self, frame: bytes) -> None:
        try:
            pdu = decode(frame)
        except DecodeError as error:
            return self._on_undecodable(frame, error)
        if pdu.command_id & c.RESPONSE:
            self._on_response(frame, pdu)
        else:
            self._on_inbound_request(frame, pdu)

    def _on_response(self, frame: bytes, pdu: Pdu) -> None:
        request = self._pending.pop_answered(pdu)
        self._tell("in", frame, pdu, request and request.tag)
        if request is None:
            return  # it came too late, or was never asked for: the log has it
        if request.answer and not request.answer.done():
            request.answer.set_result(pdu)
        self._check_drained()

    def _on_inbound_request(self, frame: bytes, pdu: Pdu) -> None:
        self._tell("in", frame, pdu, None)
        command_id, sequence = pdu.command_id, pdu.sequence_number
        if command_id == c.ENQUIRE_LINK:
            self._answer(command_id, sequence, c.ESME_ROK)
        elif command_id == c.UNBIND:
            self._answer(command_id, sequence, c.ESME_ROK)
            self._end(CloseReason("unbound", "the peer unbound"))
        elif command_id not in self._accepted:
            self._answer(command_id, sequence, c.ESME_RINVCMDID)
        elif command_id in _UNANSWERABLE:
            self._on_request(self, pdu)
        elif self._unanswered.is_full:
            self._answer(command_id, sequence, self._busy_status)
        else:
            self._unanswered.count += 1
            try:
                self._on_request(self, pdu)
            except Exception:
                self._count_answered()
                self._answer(command_id, sequence, c.ESME_RSYSERR)
                raise

    def _count_answered(self) -> None:
        """One inbound request less to answer; an owner that answers one twice must not make the count a debt."""
        self._unanswered.count = max(0, self._unanswered.count - 1)
        if self._next_slice and not self._unanswered.are_many:
            self._next_slice.cancel()
            self._next_slice = None
            self._loop.call_soon(self._read_slice)
        self._check_drained()

    def _on_undecodable(self, frame: bytes, error: DecodeError) -> None:
        """Its length was right, so the stream is in step: this PDU is answered with what is wrong, the session lives."""
        if error.command_id & c.RESPONSE:
            return self._on_response(frame, decode(b"\0\0\0\x10" + frame[4:16]))  # without its body
        self._tell("in", frame, None, None)
        self._answer(error.command_id, error.sequence_number, error.command_status)

    def _answer(self, command_id: int, sequence: int, status: int) -> None:
        pdu = response_to(command_id, sequence, status)
        self._write_pdu(pdu, encode(pdu), None)

    # --- out ----------------------------------------------------------------------------------------------------------

    def _write_request(self, request: Request) -> None:
        """Raises EncodeError, and nothing has happened then."""
        pdu = request.pdu
        pdu.sequence_number = self._pending.next_sequence()
        raw = encode(pdu)
        request.deadline = self._loop.time() + request.timeout
        self._pending[pdu.sequence_number] = request
        self._unflushed_requests.append(request)
        self._wake_at(request.deadline)
        self._write_pdu(pdu, raw, request.tag)

    def _write_pdu(self, pdu: Pdu, raw: bytes, tag: Any) -> None:
        if not self._unflushed:
            self._loop.call_soon(self._flush)  # one write for all that this iteration of the loop brings: a third of the cost
        self._unflushed.append(raw)
        self._tell("out", raw, pdu, tag)

    def _tell(self, direction: Direction, raw: bytes, pdu: Pdu | None, tag: Any) -> None:
        if self._on_pdu:
            try:
                self._on_pdu(direction, raw, pdu, tag)
            except Exception:  # who only watches must not cost a PDU
                log.exception("a PDU could not be logged", direction=direction)

    def _flush(self) -> None:
        if not self._unflushed or self._transport is None or self._transport.is_closing():
            return  # connection_lost follows, and tells those whose request was not written
        fence.check()
        self._transport.write(b"".join(self._unflushed))
        self._unflushed.clear()
        self._unflushed_requests.clear()
        if self._paused and self._transport.get_write_buffer_size() > MAX_UNREAD:
            self._end(CloseReason("stuffed", f"the peer left {MAX_UNREAD} bytes unread"), at_once=True)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _wake_at(self, when: float | None) -> None:
        """One timer for everything: it is set to the earliest of what is due."""
        if when is None or (self._timer and self._timer.when() <= when):
            return
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time() + CLOCK_RESOLUTION
        for request in self._pending.pop_expired(now):
            request.fail(ResponseLost(f"no response within {request.timeout:g} seconds"))
        self._check_drained()
        due = self._liveness.check(now)
        if due == "dead":
            return self._end(CloseReason("silent", "the peer did not answer enquire_link"), at_once=True)
        if due == "ask":
            self._write_request(Request(EnquireLink(), None, None, self._options.response_timeout))
        self._wake_at(self._liveness.deadline())
        self._wake_at(self._pending.earliest_deadline())

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _first_of(self, awaited: asyncio.Future[Any], timeout: float) -> None:
        """Wait for it, for the end of the connection or for the timeout."""
        ends: list[asyncio.Future[Any]] = [awaited, self.closed]
        await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _end(self, reason: CloseReason, *, at_once: bool = False) -> None:
        transport = self._transport
        if self._reason is None:
            self._reason = reason
            self._ending = True
            self._flush()
        if transport is None:
            if not self.closed.done():
                self.closed.set_result(self._reason)
        elif at_once:
            transport.abort()
        else:
            if not transport.is_closing():
                self._on_close(_DELIVER)
            transport.close()
            if self._timer:
                self._timer.cancel()
            # close() waits for a peer that may never read again
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)

    def _on_close(self, linger: bytes) -> None:
        """An ESME's octets that wait behind a cut net would arrive when it is healed: by then its bind may be somebody else's."""
        link = self._transport.get_extra_info("socket") if self._is_esme and self._transport else None
        if link is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _check_drained(self) -> None:
        if self._drained and not self._drained.done() and not self._pending.awaited and not self._unanswered.count:
            self._drained.set_result(None)
