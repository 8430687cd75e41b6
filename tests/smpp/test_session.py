"""A session over a real TCP connection to a scripted peer; its pure parts by themselves, with a clock of their own."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator

import pytest

from junebug.smpp import constants as c
from junebug.smpp.codec import encode
from junebug.smpp.fields import EncodeError
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import (
    AlertNotification,
    Bind,
    BindResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Pdu,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from junebug.smpp.pending import Liveness, NotWritten, PendingRequests, Request, ResponseLost, Unanswered
from junebug.smpp.session import MAX_UNREAD, SLICE, Session
from tests.harness import THOROUGH
from tests.polling import eventually
from tests.smpp.peer import Log, Peer, connect, frame, response


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as peer:
        yield peer


def submit(number: int = 0) -> SubmitSm:
    return SubmitSm(source_addr="1234", destination_addr="27831234567", short_message=b"number %d" % number)


# --- requests that wait for their answers ---------------------------------------------------------------------------------


def request(pending: PendingRequests, deadline: float = 1.0) -> Request:
    pdu = submit()
    pdu.sequence_number = pending.next_sequence()
    each = Request(pdu, None, None, 1.0, deadline)
    pending[pdu.sequence_number] = each
    return each


def test_sequence_numbers_wrap_after_the_last_and_skip_those_that_wait() -> None:
    pending = PendingRequests()
    first = request(pending)
    pending.last_sequence = c.MAX_SEQUENCE_NUMBER - 1
    assert [request(pending).pdu.sequence_number for _ in range(3)] == [c.MAX_SEQUENCE_NUMBER, 2, 3]
    assert pending.pop(1) is first
    assert sorted(pending) == [2, 3, c.MAX_SEQUENCE_NUMBER]


def test_expired_requests_wait_no_more() -> None:
    pending = PendingRequests()
    early, late = request(pending, deadline=1.0), request(pending, deadline=2.0)
    assert pending.earliest_deadline() == 1.0
    assert pending.pop_expired(0.9) == []
    assert pending.pop_expired(1.0) == [early]
    assert (pending.earliest_deadline(), len(pending)) == (2.0, 1)
    assert pending.pop_expired(9.0) == [late]
    assert pending.earliest_deadline() is None


# --- timers -----------------------------------------------------------------------------------------------------------


def test_a_quiet_peer_is_asked_once_and_dead_when_it_does_not_answer() -> None:
    liveness = Liveness(interval=10, timeout=5, now=100)
    assert liveness.check(109.9) is None
    assert liveness.deadline() == 110
    assert liveness.check(110) == "ask"
    assert liveness.check(114.9) is None
    assert liveness.deadline() == 115
    assert liveness.check(115) == "dead"


def test_anything_heard_counts_as_life() -> None:
    liveness = Liveness(interval=10, timeout=5, now=100)
    liveness.heard(105)
    assert liveness.check(110) is None
    assert liveness.check(115) == "ask"
    liveness.heard(116)
    assert liveness.check(120) is None
    assert liveness.deadline() == 126


@pytest.mark.parametrize("interval", [None, 0])
def test_without_an_interval_nobody_asks(interval: float | None) -> None:
    liveness = Liveness(interval=interval, timeout=5, now=0)
    assert liveness.deadline() is None
    assert liveness.check(1e9) is None


# --- requests and responses -------------------------------------------------------------------------------------------


async def test_a_request_gets_the_response_that_bears_its_number(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = [asyncio.create_task(session.request(submit(number))) for number in range(3)]
    got = [await connection.expect(SubmitSm) for _ in asked]
    assert [pdu.short_message for pdu in got] == [b"number 0", b"number 1", b"number 2"]
    for pdu in reversed(got):
        connection.answer(pdu, message_id=f"id-{pdu.short_message[-1:].decode()}")
    responses = [await task for task in asked]
    assert [each.message_id for each in responses] == ["id-0", "id-1", "id-2"]  # type: ignore[attr-defined]


async def test_refusals_are_responses_too(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    first, second = (asyncio.create_task(session.request(submit())) for _ in range(2))
    connection.answer(await connection.pdu(), c.ESME_RTHROTTLED)
    assert (await first).command_status == c.ESME_RTHROTTLED
    pdu = await connection.pdu()
    connection.send(GenericNack(sequence_number=pdu.sequence_number, command_status=c.ESME_RINVCMDID))
    nack = await second
    assert (type(nack), nack.command_status) == (GenericNack, c.ESME_RINVCMDID)


async def test_a_tag_comes_back_with_the_response(peer: Peer) -> None:
    log = Log()
    session = await connect(peer.port, log=log)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit(), tag="message 1"))
    connection.answer(await connection.pdu())
    await asked
    assert [(direction, type(pdu), tag) for direction, _, pdu, tag in log.pdus] == [
        ("out", SubmitSm, "message 1"),
        ("in", SubmitSmResp, "message 1"),
    ]


async def test_responses_nobody_waits_for_are_ignored(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    pdu = await connection.pdu()
    connection.send(
        SubmitSmResp(sequence_number=4711),
        DeliverSmResp(sequence_number=pdu.sequence_number),
        GenericNack(sequence_number=0, command_status=c.ESME_RINVCMDLEN),
    )
    connection.answer(pdu, message_id="right")
    assert (await asked).message_id == "right"  # type: ignore[attr-defined]


async def test_a_bind_may_be_answered_as_another_kind_of_bind(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(Bind(system_id="me")))
    pdu = await connection.pdu()
    connection.send(BindResp(command_id=c.BIND_TRANSMITTER | c.RESPONSE, sequence_number=pdu.sequence_number))
    assert (await asked).command_status == c.ESME_ROK


async def test_what_may_not_be_sent_is_refused_and_the_next_is_sent(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    for _ in range(3):
        with pytest.raises(EncodeError, match="short_message"):
            await session.request(SubmitSm(short_message=b"x" * 300))
    asked = asyncio.create_task(session.request(submit()))
    connection.answer(await connection.pdu())
    await asked


async def test_requests_of_one_iteration_leave_in_one_write(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    writes: list[bytes] = []
    monkeypatch.setattr(session, "_transport", Recorder(session._transport, writes))
    asked = [asyncio.create_task(session.request(submit(number))) for number in range(20)]
    for _ in asked:
        connection.answer(await connection.pdu())
    await asyncio.gather(*asked)
    assert len(writes) == 1


class Recorder:
    def __init__(self, transport: object, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


async def test_a_missing_response_is_an_unknown_outcome(peer: Peer) -> None:
    session = await connect(peer.port, SessionOptions(response_timeout=0.05, enquire_link_interval=None))
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit(1)))
    late = await connection.expect(SubmitSm)
    with pytest.raises(ResponseLost, match="no response within"):
        await asked
    asked = asyncio.create_task(session.request(submit(2), timeout=30))
    pdu = await connection.expect(SubmitSm)
    connection.answer(late, message_id="late")
    connection.answer(pdu, message_id="in time")
    assert (await asked).message_id == "in time"  # type: ignore[attr-defined]


# --- the connection ends ----------------------------------------------------------------------------------------------


async def test_of_what_was_written_before_the_connection_is_lost_nobody_knows(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = [asyncio.create_task(session.request(submit(number))) for number in range(2)]
    await connection.expect(SubmitSm)
    connection.abort()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in results] == [ResponseLost, ResponseLost]
    assert (await session.closed).kind == "lost"
    with pytest.raises(NotWritten):
        await session.request(submit())
    assert not session.respond(DeliverSmResp(sequence_number=1))


async def test_what_was_only_collected_for_the_next_write_counts_as_not_written(peer: Peer) -> None:
    session = await connect(peer.port)
    await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    await asyncio.sleep(0)
    assert session._transport is not None
    session._transport.abort()  # before the loop came to write it
    with pytest.raises(NotWritten):
        await asked


@pytest.mark.parametrize("seed", range(8))
async def test_cut_at_any_byte_each_request_knows_what_became_of_it(peer: Peer, seed: int) -> None:
    """The peer's side of the conversation, cut at random bytes and in random pieces."""
    chance = random.Random(seed)
    for _ in range(25):
        session = await connect(peer.port)
        connection = await peer.connection()
        asked = [asyncio.create_task(session.request(submit(number))) for number in range(5)]
        got = [await connection.expect(SubmitSm) for _ in asked]
        answers = b"".join(encode(response(pdu, message_id="id")) for pdu in got)
        cut = chance.randrange(len(answers) + 1)
        while answers[:cut]:
            piece = chance.randint(1, 40)
            connection.send(answers[: min(piece, cut)])
            await connection.writer.drain()
            answers, cut = answers[min(piece, cut) :], cut - min(piece, cut)
        connection.close()
        results = await asyncio.gather(*asked, return_exceptions=True)
        kinds = [type(each) for each in results]
        answered = kinds.count(SubmitSmResp)
        assert kinds == [SubmitSmResp] * answered + [ResponseLost] * (5 - answered)
        assert (await session.closed).kind == "lost"


async def test_a_peer_that_unbinds_is_answered_and_the_session_is_over(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    await connection.expect(SubmitSm)
    connection.send(Unbind(sequence_number=7))
    answer = await connection.expect(UnbindResp)
    assert answer.sequence_number == 7
    await connection.eof()
    assert (await session.closed).kind == "unbound"
    with pytest.raises(ResponseLost):
        await asked


async def test_unbinding_waits_for_what_is_in_flight(peer: Peer) -> None:
    log = Log()
    session = await connect(peer.port, log=log)
    connection = await peer.connection()
    written = asyncio.create_task(session.request(submit()))
    pdu = await connection.expect(SubmitSm)
    connection.send(DeliverSm(sequence_number=5))
    await eventually(lambda: log.requests)
    ending = asyncio.create_task(session.unbind())
    await asyncio.sleep(0)
    with pytest.raises(NotWritten):
        await session.request(submit())
    connection.answer(pdu, message_id="in time")
    assert (await written).message_id == "in time"  # type: ignore[attr-defined]
    session.respond(DeliverSmResp(sequence_number=5))
    await connection.expect(DeliverSmResp)
    connection.answer(await connection.expect(Unbind))
    await ending
    assert (await session.closed).kind == "closed"
    assert await connection.reader.read() == b""  # in good order: no reset


async def test_unbinding_from_a_peer_that_says_nothing_is_bounded(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    await connection.expect(SubmitSm)
    async with asyncio.timeout(5):
        await session.unbind(drain_timeout=0.05, timeout=0.05)
    with pytest.raises(ResponseLost):
        await asked
    assert session.closed.done()
    await connection.expect(Unbind)
    with pytest.raises(ConnectionResetError):  # whatever the kernel still had of it is thrown away
        await connection.reader.read()


async def test_what_a_process_leaves_unsent_is_thrown_away_by_the_kernel(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    assert session._transport
    session._transport.abort()  # as its end does
    with pytest.raises(ConnectionResetError):
        await connection.reader.read()


# --- inbound ----------------------------------------------------------------------------------------------------------


async def test_inbound_requests_are_answered_when_their_owner_does(peer: Peer) -> None:
    log = Log()
    session = await connect(peer.port, log=log)
    connection = await peer.connection()
    connection.send(DeliverSm(sequence_number=5, short_message=b"hello"), EnquireLink(sequence_number=6))
    assert (await connection.expect(EnquireLinkResp)).sequence_number == 6  # nobody waits for the owner
    assert [pdu.short_message for pdu in log.requests] == [b"hello"]  # type: ignore[attr-defined]
    assert session.respond(DeliverSmResp(sequence_number=5, command_status=c.ESME_RDELIVERYFAILURE))
    answer = await connection.expect(DeliverSmResp)
    assert (answer.sequence_number, answer.command_status) == (5, c.ESME_RDELIVERYFAILURE)


async def test_what_no_esme_is_asked_is_refused(peer: Peer) -> None:
    await connect(peer.port)
    connection = await peer.connection()
    connection.send(SubmitSm(sequence_number=3, destination_addr="1"), frame(0x00001234, 4, b"body"))
    answers = [await connection.pdu() for _ in range(2)]
    assert [(each.sequence_number, each.command_status) for each in answers] == [
        (3, c.ESME_RINVCMDID),
        (4, c.ESME_RINVCMDID),
    ]
    assert type(answers[1]) is GenericNack


async def test_an_alert_needs_no_answer(peer: Peer) -> None:
    log = Log()
    await connect(peer.port, SessionOptions(max_unanswered=1), log)
    connection = await peer.connection()
    connection.send(*(AlertNotification(sequence_number=number, source_addr="1") for number in (1, 2)))
    connection.send(DeliverSm(sequence_number=3))
    await eventually(lambda: len(log.requests) == 3)


async def test_more_than_the_owner_can_keep_is_to_come_again(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unanswered, "PATIENCE", 0.02)
    log = Log()
    session = await connect(peer.port, SessionOptions(max_unanswered=2), log)
    connection = await peer.connection()
    connection.send(*(DeliverSm(sequence_number=number) for number in (1, 2, 3)))
    answer = await connection.expect(DeliverSmResp)
    assert (answer.sequence_number, answer.command_status) == (3, c.ESME_RX_T_APPN)
    session.respond(DeliverSmResp(sequence_number=1))
    await connection.expect(DeliverSmResp)
    connection.send(DeliverSm(sequence_number=4))
    await eventually(lambda: len(log.requests) == 3)


async def test_an_undecodable_body_is_answered_and_the_session_lives(peer: Peer) -> None:
    log = Log(answer=True)
    await connect(peer.port, log=log)
    connection = await peer.connection()
    broken = frame(c.DELIVER_SM, 8, b"\0\1\1" + b"7" * 5)  # ends inside source_addr
    connection.send(broken, DeliverSm(sequence_number=9))
    answer = await connection.expect(DeliverSmResp)
    assert answer.sequence_number == 8
    assert answer.command_status != c.ESME_ROK
    answer = await connection.expect(DeliverSmResp)
    assert (answer.sequence_number, answer.command_status) == (9, c.ESME_ROK)
    assert ("in", broken, None, None) in log.pdus


async def test_a_response_whose_body_makes_no_sense_still_is_the_response(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    pdu = await connection.expect(SubmitSm)
    body = b"id\0" + b"\x04\x24\xff\xff" + b"short"  # a message_payload that ends before its length
    connection.send(frame(c.RESPONSE | c.SUBMIT_SM, pdu.sequence_number, body))
    answer = await asked
    assert (type(answer), answer.command_status) == (SubmitSmResp, c.ESME_ROK)


@pytest.mark.parametrize("length", [0, 15, 70_001, 0xFFFFFFFF])
async def test_a_bad_length_ends_the_session_after_what_came_before_it(peer: Peer, length: int) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    pdu = await connection.expect(SubmitSm)
    connection.send(response(pdu, message_id="before"), length.to_bytes(4, "big") + b"x" * 60)
    assert (await asked).message_id == "before"  # type: ignore[attr-defined]
    assert (await connection.expect(GenericNack)).command_status == c.ESME_RINVCMDLEN
    await connection.eof()
    assert (await session.closed).kind == "bad_length"


async def test_a_handler_that_fails_costs_one_pdu(peer: Peer) -> None:
    class Failing(Log):
        def on_request(self, session: Session, pdu: object) -> None:
            raise RuntimeError("a bug")

        def on_pdu(self, *_: object) -> None:
            raise RuntimeError("another")

    await connect(peer.port, log=Failing())
    connection = await peer.connection()
    connection.send(DeliverSm(sequence_number=5), EnquireLink(sequence_number=6))
    assert (await connection.expect(DeliverSmResp)).command_status == c.ESME_RSYSERR
    await connection.expect(EnquireLinkResp)


# --- life -------------------------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_asked_and_then_left(peer: Peer) -> None:
    session = await connect(peer.port, SessionOptions(enquire_link_interval=0.2))
    connection = await peer.connection()
    first = await connection.expect(EnquireLink)
    connection.answer(first)
    second = await connection.expect(EnquireLink)
    assert second.sequence_number == first.sequence_number + 1
    reason = await asyncio.wait_for(session.closed, 5)
    assert reason.kind == "silent"
    await connection.eof()


async def test_any_pdu_counts_as_life(peer: Peer) -> None:
    session = await connect(peer.port, SessionOptions(enquire_link_interval=0.3), Log(answer=True))
    connection = await peer.connection()
    await connection.expect(EnquireLink)
    connection.send(DeliverSm(sequence_number=1))  # no answer, but something
    await connection.expect(DeliverSmResp)
    await connection.expect(EnquireLink)
    assert not session.closed.done()


async def test_a_peer_that_does_not_read_holds_requests_back(peer: Peer) -> None:
    options = SessionOptions(enquire_link_interval=None)
    session = await connect(peer.port, options)
    connection = await peer.connection()
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    payload = SubmitSm(destination_addr="1", tlvs={c.MESSAGE_PAYLOAD: b"x" * 60_000})
    asked: list[asyncio.Task[object]] = []
    while not session._paused:
        asked.append(asyncio.create_task(session.request(payload)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(NotWritten, match="does not read"):
        await session.request(submit())
    assert not session.closed.done()
    connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in asked:
        connection.answer(await connection.expect(SubmitSm))
    await asyncio.gather(*asked)


async def test_a_peer_that_asks_much_and_reads_nothing_is_cut_off(peer: Peer) -> None:
    session = await connect(peer.port, SessionOptions(enquire_link_interval=None), Log(answer=True))
    connection = await peer.connection()
    connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert session._transport is not None
    session._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    many = b"".join(encode(EnquireLink(sequence_number=number)) for number in range(1, 5001))
    async with asyncio.timeout(30):
        while not session.closed.done():
            connection.send(many)
            try:
                await connection.writer.drain()
            except ConnectionError:
                break
    reason = await session.closed
    assert reason.kind == "stuffed"
    assert str(MAX_UNREAD) in reason.message


# --- many at once -----------------------------------------------------------------------------------------------------


def read_of(*pdus: Pdu, size: int = 256 * 1024) -> bytes:
    """What one read of the socket may bring at the most."""
    once = b"".join(map(encode, pdus))
    return once * (size // len(once))


@pytest.mark.parametrize(
    "data",
    [
        read_of(EnquireLink(sequence_number=1)),
        read_of(DeliverSm(sequence_number=1, source_addr="1", short_message=b"x")),
        read_of(SubmitSmResp(sequence_number=1, message_id="1")),
        read_of(EnquireLink(sequence_number=1), DeliverSm(sequence_number=2)),
        frame(c.GENERIC_NACK, 0) * 5_000,
        frame(0x77777777, 1) * 5_000,
        frame(c.DELIVER_SM, 1) * 5_000,
    ],
    ids=["enquire_link", "deliver_sm", "submit_sm_resp", "mixed", "generic_nack", "unknown", "undecodable"],
)
async def test_what_one_read_brings_is_handled_in_slices_and_in_order(data: bytes) -> None:
    transport, log = Memory(), Log(answer=True)
    session = Session("esme", SessionOptions(), on_request=log.on_request, on_pdu=log.on_pdu)
    session.connection_made(transport)  # type: ignore[arg-type]
    handled, most = 0, 0
    session.data_received(data)
    assert not transport.reading
    while not transport.reading:
        now = len([None for direction, *_ in log.pdus if direction == "in"])
        handled, most = now, max(most, now - handled)
        await asyncio.sleep(0)
    assert most <= SLICE
    assert b"".join(raw for direction, raw, *_ in log.pdus if direction == "in") == data
    session.abort()


async def test_who_sends_all_at_once_waits_and_is_not_refused() -> None:
    transport, waiting, most = Memory(), list[Pdu](), 0
    session = Session("esme", SessionOptions(max_unanswered=1000), on_request=lambda _, pdu: waiting.append(pdu))
    session.connection_made(transport)  # type: ignore[arg-type]
    session.data_received(b"".join(encode(DeliverSm(sequence_number=number)) for number in range(1, 3001)))
    answered = list[int]()
    while len(answered) < 3000:
        async with asyncio.timeout(10):
            while not waiting:
                await asyncio.sleep(0)
        most = max(most, len(waiting))
        for pdu in [waiting.pop(0) for _ in waiting[:30]]:
            assert session.respond(DeliverSmResp(sequence_number=pdu.sequence_number))
            answered.append(pdu.sequence_number)
        await asyncio.sleep(0)
    assert answered == [*range(1, 3001)]
    assert 500 <= most < 500 + SLICE
    assert b"".join(transport.written) == b"".join(encode(DeliverSmResp(sequence_number=each)) for each in answered)
    assert transport.reading
    session.abort()


async def test_responses_behind_what_nobody_answers_are_read_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unanswered, "PATIENCE", 0.05)
    transport, log = Memory(), Log()
    session = Session("esme", SessionOptions(max_unanswered=200), on_request=log.on_request)
    session.connection_made(transport)  # type: ignore[arg-type]
    asked = asyncio.create_task(session.request(submit()))
    await asyncio.sleep(0)
    session.data_received(read_of(DeliverSm(sequence_number=9), size=16_000) + encode(SubmitSmResp(sequence_number=1)))
    assert not transport.reading
    assert not asked.done()
    async with asyncio.timeout(5):
        assert (await asked).command_status == 0
    assert len(log.requests) == 200
    refused = encode(DeliverSmResp(sequence_number=9, command_status=c.ESME_RX_T_APPN))
    assert b"".join(transport.written).count(refused) == 16_000 // len(encode(DeliverSm(sequence_number=9))) - 200
    session.abort()


async def test_what_was_received_before_the_end_counts(peer: Peer) -> None:
    session = await connect(peer.port)
    connection = await peer.connection()
    asked = asyncio.create_task(session.request(submit()))
    pdu = await connection.pdu()
    connection.send(read_of(EnquireLink(sequence_number=7), size=64_000), response(pdu))
    connection.close()
    assert (await asked).command_status == 0
    assert (await session.closed).kind == "lost"


async def test_what_comes_after_an_unbind_in_one_read_is_not_handled() -> None:
    log = Log(answer=True)
    session = Session("esme", SessionOptions(), on_request=log.on_request, on_pdu=log.on_pdu)
    session.connection_made(Memory())  # type: ignore[arg-type]
    before, after = read_of(EnquireLink(sequence_number=1), size=16 * 150), read_of(DeliverSm(sequence_number=3), size=9000)
    session.data_received(before + encode(Unbind(sequence_number=2)) + after)
    for _ in range(20):
        await asyncio.sleep(0)
    assert log.requests == []


# --- fuzz -------------------------------------------------------------------------------------------------------------


def mutated(chance: random.Random) -> bytes:
    """A PDU of any kind with a few octets changed, cut or added; its length is right, so that the stream stays in step."""
    command_id = chance.choice([*COMMAND_IDS, chance.getrandbits(32)])
    body = bytearray(chance.choice(BODIES))
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(body))
        what = chance.random()
        if what < 0.5:
            body[at : at + 1] = bytes([chance.getrandbits(8)])
        elif what < 0.7:
            del body[at : at + chance.randint(1, 20)]
        elif what < 0.9:
            body[at:at] = chance.randbytes(chance.randint(1, 20))
        else:
            del body[at:]
    sequence = chance.choice([0, 1, 2, 3, c.MAX_SEQUENCE_NUMBER, 0xFFFFFFFF, chance.getrandbits(32)])
    return frame(command_id, sequence, bytes(body), chance.choice([0, 0, 0x58, chance.getrandbits(32)]))


COMMAND_IDS = [command_id for command_id in c.COMMAND_NAMES if command_id != c.UNBIND]
BODIES = [
    b"",
    encode(SubmitSm(sequence_number=1, destination_addr="27831234567", short_message=b"x" * 20))[16:],
    encode(DeliverSm(sequence_number=1, source_addr="1", tlvs={0x1E: b"id\0", 0x427: b"\2", 0x1401: b"vendor"}))[16:],
    encode(Bind(sequence_number=1, system_id="system", password="password"))[16:],
    b"message-id\0",
]


async def test_mutated_pdus_never_hurt_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is taken, answered or ignored; requests of ours go on; nothing is kept, nothing raises."""
    failures: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        "junebug.smpp.session.log.exception", lambda *said, **_: failures.append(said)
    )
    transport = Memory()
    session = Session("esme", SessionOptions(max_unanswered=50), on_request=Log(answer=True).on_request)
    session.connection_made(transport)  # type: ignore[arg-type]
    chance = random.Random(3)
    asked: set[asyncio.Task[object]] = set()
    for _ in range(100 * THOROUGH):
        # some requests wait, which a mutated response may answer by chance
        while len(asked) < 50:
            asked.add(asyncio.create_task(session.request(submit())))
            await asyncio.sleep(0)
        stream = b"".join(mutated(chance) for _ in range(100))
        while stream:
            size = chance.choice([1, 7, 100, 5000])
            session.data_received(stream[:size])
            stream = stream[size:]
        await asyncio.sleep(0)
        asked = {task for task in asked if not task.done()}
        transport.written.clear()
    assert failures == []
    assert not transport.closed
    assert (len(session._pending), session._unanswered.count) == (len(asked), 0)
    session.connection_lost(None)
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(each) for each in results} <= {ResponseLost}


class Memory:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    abort = close
