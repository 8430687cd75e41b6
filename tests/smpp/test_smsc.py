"""The simulated SMSC as its users meet it: bound to over TCP, controlled over HTTP, run as a command."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from junebug.smpp import constants as c
from junebug.smpp.fields import DestAddress
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import Bind, CancelSm, DataSm, DeliverSm, Pdu, QuerySm, SubmitMulti, SubmitSm
from junebug.smpp.pending import NotWritten, ResponseLost
from junebug.smpp.session import Session
from junebug.smpp.simulator.command import http_app
from junebug.smpp.simulator.smsc import Smsc, SmscOptions
from tests import harness
from tests.polling import DEADLINE, eventually
from tests.smpp.peer import Log, connect, response
from tests.tables import rows


@pytest.fixture
async def smsc() -> AsyncIterator[Callable[..., Any]]:
    started: list[Smsc] = []

    async def start(**options: Any) -> Smsc:
        defaults: dict[str, Any] = {"port": 0, "receipt_delay": 0.0, "retry_delay": 0.02}
        smsc = Smsc(SmscOptions(**(defaults | options)))
        await smsc.start()
        started.append(smsc)
        return smsc

    yield start
    for each in started:
        await each.stop()


async def bind(smsc: Smsc, log: Log | None = None, command_id: int = c.BIND_TRANSCEIVER, **fields: Any) -> Session:
    session = await connect(smsc.port, SessionOptions(response_timeout=5), log or Log(answer=True))
    response = await session.request(Bind(command_id=command_id, system_id=fields.pop("system_id", "me"), **fields))
    assert response.command_status == c.ESME_ROK
    return session


def submit(number: int = 1, **fields: Any) -> SubmitSm:
    return SubmitSm(source_addr="1234", destination_addr="27831234567", short_message=b"number %d" % number, **fields)


async def statuses(session: Session, count: int) -> list[str]:
    return [c.status_name((await session.request(submit(number))).command_status) for number in range(1, count + 1)]


# --- binds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system_id", "password", "status"),
    [("me", "secret", "ESME_ROK"), ("me", "wrong", "ESME_RINVPASWD"), ("you", "secret", "ESME_RINVSYSID")],
)
async def test_who_is_let_in(smsc: Any, system_id: str, password: str, status: str) -> None:
    session = await connect((await smsc(system_id="me", password="secret")).port)
    response = await session.request(Bind(system_id=system_id, password=password))
    assert response.status_name == status
    assert response.command_id & c.RESPONSE


async def test_without_a_system_id_anybody_is(smsc: Any) -> None:
    response = await (await connect((await smsc()).port)).request(Bind(system_id="x", password="y"))
    assert response.system_id == "junebug-smsc"  # type: ignore[attr-defined]
    assert response.tlvs == {c.SC_INTERFACE_VERSION: b"\x34"}


async def test_what_the_bind_does_not_allow_is_refused(smsc: Any) -> None:
    smsc = await smsc()
    unbound = await connect(smsc.port)
    assert (await unbound.request(submit())).command_status == c.ESME_RINVBNDSTS
    receiver = await bind(smsc, command_id=c.BIND_RECEIVER)
    assert (await receiver.request(submit())).command_status == c.ESME_RINVBNDSTS
    assert (await receiver.request(Bind())).command_status == c.ESME_RALYBND


async def test_who_never_binds_is_hung_up_on(smsc: Any) -> None:
    session = await connect((await smsc(bind_timeout=0.02)).port)
    assert (await asyncio.wait_for(session.closed, DEADLINE)).kind == "lost"


async def test_binds_end_with_unbind_and_are_forgotten(smsc: Any) -> None:
    smsc = await smsc()
    session = await bind(smsc)
    await session.unbind()
    await eventually(lambda: not smsc.clients)


# --- submits ----------------------------------------------------------------------------------------------------------


async def test_messages_are_kept_as_they_were_sent(smsc: Any) -> None:
    smsc = await smsc(message_ids="hex")
    session = await bind(smsc)
    ids = [(await session.request(submit(number))).message_id for number in range(1, 12)]  # type: ignore[attr-defined]
    assert ids[-1] == "b"
    view = smsc.messages["b"].view()
    assert (view["from"], view["to"], view["content"]) == ("1234", "27831234567", "number 11")
    assert (view["system_id"], view["state"], view["user_data"]) == ("me", "DELIVRD", b"number 11".hex())


async def test_content_is_what_a_phone_would_show(smsc: Any) -> None:
    smsc = await smsc()
    session = await bind(smsc)
    await session.request(SubmitSm(destination_addr="1", data_coding=8, short_message="žluť 🐞".encode("utf-16-be")))
    header = b"\x05\0\3\1\2\1"
    await session.request(
        SubmitSm(
            destination_addr="1", esm_class=c.ESM_CLASS_UDHI, tlvs={c.MESSAGE_PAYLOAD: header + b"\0 in a payload"}
        )
    )
    await session.request(SubmitSm(destination_addr="1", data_coding=8, short_message=b"\xd8"))
    assert [each.content for each in smsc.messages.values()] == ["žluť 🐞", "@ in a payload", "d8"]


async def test_only_so_many_are_remembered(smsc: Any) -> None:
    smsc = await smsc(keep=3)
    session = await bind(smsc)
    await statuses(session, 5)
    assert list(smsc.messages) == ["3", "4", "5"]


async def test_other_requests(smsc: Any) -> None:
    smsc = await smsc()
    session = await bind(smsc)
    response: Any = await session.request(DataSm(destination_addr="1", tlvs={c.MESSAGE_PAYLOAD: b"data"}))
    assert smsc.messages[response.message_id].content == "data"
    many = [DestAddress(destination_addr=each) for each in ("1", "2")]
    response = await session.request(SubmitMulti(dest_addresses=many, short_message=b"many"))
    assert smsc.messages[response.message_id].destination_addr == "1,2"
    response = await session.request(QuerySm(message_id=response.message_id))
    assert (response.command_status, response.message_state) == (c.ESME_ROK, 2)
    assert (await session.request(QuerySm(message_id="x"))).command_status == c.ESME_RQUERYFAIL
    assert (await session.request(CancelSm(message_id="x"))).command_status == c.ESME_RINVMSGID
    assert (await session.request(SubmitSm())).command_status == c.ESME_RINVDSTADR


# --- trouble ----------------------------------------------------------------------------------------------------------


async def test_throttling_and_refusing_every_nth(smsc: Any) -> None:
    session = await bind(await smsc(throttle_every=3, refuse_every=4, refuse_status=c.ESME_RINVDSTADR))
    ok, throttled, refused = "ESME_ROK", "ESME_RTHROTTLED", "ESME_RINVDSTADR"
    assert await statuses(session, 8) == [ok, ok, throttled, refused, ok, throttled, ok, refused]


async def test_silence_and_cuts_every_nth(smsc: Any) -> None:
    smsc = await smsc(silent_every=2, drop_every=3)
    session = await bind(smsc)
    await session.request(submit(1))
    with pytest.raises(ResponseLost, match="no response"):
        await session.request(submit(2), timeout=0.05)
    with pytest.raises(ResponseLost, match="lost"):
        await session.request(submit(3))
    assert [each.content for each in smsc.messages.values()] == ["number 1", "number 2", "number 3"]


async def test_latency_is_for_each_not_for_all(smsc: Any) -> None:
    smsc = await smsc(latency=3600)
    session = await bind(smsc)
    slow = [asyncio.create_task(session.request(submit(number))) for number in range(40)]
    await eventually(lambda: len(smsc.messages) == 40)
    smsc.options = dataclasses.replace(smsc.options, latency=0)
    await session.request(submit(40))
    assert not any(each.done() for each in slow)
    session.close()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_options_may_change_while_it_runs(smsc: Any) -> None:
    smsc = await smsc()
    session = await bind(smsc)
    assert await statuses(session, 1) == ["ESME_ROK"]
    smsc.options = replace(smsc.options, throttle_every=1)
    assert await statuses(session, 1) == ["ESME_RTHROTTLED"]


# --- receipts ---------------------------------------------------------------------------------------------------------


class Phone(Log):
    """An ESME that keeps its deliver_sm, and answers with the statuses given, then with ESME_ROK."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)

    def on_request(self, session: Session, pdu: Pdu) -> None:
        self.requests.append(pdu)
        session.respond(response(pdu, self.statuses.pop(0) if self.statuses else 0))

    @property
    def texts(self) -> list[str]:
        return [pdu.short_message.decode() for pdu in self.requests]  # type: ignore[attr-defined]


async def test_a_receipt_says_what_became_of_the_message(smsc: Any) -> None:
    phone = Phone()
    smsc = await smsc(receipt_status=("DELIVRD", "UNDELIV"))
    session = await bind(smsc, phone)
    for number in (1, 2):
        await session.request(submit(number, registered_delivery=1))
    await eventually(lambda: len(phone.requests) == 2)
    for pdu, state, delivered, err in zip(phone.requests, ("DELIVRD", "UNDELIV"), (1, 0), (0, 1), strict=True):
        assert isinstance(pdu, DeliverSm)
        assert pdu.esm_class == c.ESM_CLASS_DELIVERY_RECEIPT
        assert (pdu.source_addr, pdu.destination_addr) == ("27831234567", "1234")
        number = 1 if delivered else 2
        assert re.fullmatch(
            rf"id:{number} sub:001 dlvrd:00{delivered} submit date:\d{{10}} done date:\d{{10}} stat:{state} "
            rf"err:00{err} text:number {number}",
            pdu.short_message.decode(),
        )
        assert pdu.tlvs[c.RECEIPTED_MESSAGE_ID] == b"%d\0" % number
        assert pdu.tlvs[c.MESSAGE_STATE] == (b"\2" if delivered else b"\5")
    await eventually(lambda: [each.receipts for each in smsc.messages.values()] == [1, 1])


@pytest.mark.parametrize(
    ("registered_delivery", "state", "wanted"),
    [
        (0, "DELIVRD", 0),
        (1, "UNDELIV", 1),
        (2, "DELIVRD", 0),
        (2, "UNDELIV", 1),
        (17, "DELIVRD", 1),
        (16, "DELIVRD", 0),
    ],
)
async def test_receipts_are_for_those_who_ask(smsc: Any, registered_delivery: int, state: str, wanted: int) -> None:
    phone = Phone()
    smsc = await smsc(receipt_status=(state,))
    session = await bind(smsc, phone)
    await session.request(submit(registered_delivery=registered_delivery))
    await smsc.deliver(DeliverSm(short_message=b"the end"))
    await eventually(lambda: len(phone.requests) == wanted + 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"receipt_ids": "hex"}, "id:a "),
        ({"receipt_ids": "padded"}, "id:00000000000000000010 "),
        ({"message_ids": "hex", "receipt_ids": "upper"}, "id:A "),
        ({"message_ids": "hex", "receipt_ids": "decimal"}, "id:10 "),
    ],
)
async def test_ids_in_receipts_may_look_different(smsc: Any, options: dict[str, Any], expected: str) -> None:
    phone = Phone()
    session = await bind(await smsc(**options), phone)
    for number in range(1, 11):
        await session.request(submit(number, registered_delivery=1))
    await eventually(lambda: len(phone.requests) == 10)
    assert phone.texts[-1].startswith(expected)


async def test_receipts_may_come_early_and_twice(smsc: Any) -> None:
    phone = Phone()
    session = await bind(await smsc(early_receipts=True, duplicate_receipts=True, latency=0.5), phone)
    asked = asyncio.create_task(session.request(submit(registered_delivery=1)))
    await eventually(lambda: len(phone.requests) == 2)
    assert not asked.done()
    await asked


async def test_receipts_may_come_out_of_order(smsc: Any) -> None:
    phone = Phone()
    session = await bind(await smsc(late_receipts=0.5, receipt_form="text"), phone)
    for number in (1, 2, 3):
        await session.request(submit(number, registered_delivery=1))
    await eventually(lambda: len(phone.requests) == 3)
    assert [text[:4] for text in phone.texts] == ["id:1", "id:3", "id:2"]
    assert not any(pdu.tlvs for pdu in phone.requests)


async def test_receipts_by_tlv_alone(smsc: Any) -> None:
    phone = Phone()
    session = await bind(await smsc(receipt_form="tlv"), phone)
    await session.request(submit(registered_delivery=1))
    await eventually(lambda: phone.requests)
    assert phone.texts == [""]
    assert phone.requests[0].tlvs[c.RECEIPTED_MESSAGE_ID] == b"1\0"


async def test_what_is_refused_for_now_or_not_answered_comes_again(smsc: Any) -> None:
    smsc = await smsc(response_timeout=0.3)
    phone = Phone(c.ESME_RX_T_APPN, c.ESME_RMSGQFUL)
    session = await bind(smsc, phone)
    await smsc.deliver(DeliverSm(short_message=b"patience"))
    assert phone.texts == ["patience"] * 3
    session.abort()
    await eventually(lambda: not smsc.clients)
    delivered = smsc.deliver(DeliverSm(short_message=b"while you were away"))
    mute = Log()
    await bind(smsc, mute)
    await eventually(lambda: len(mute.requests) == 2)  # never answered: tried again
    smsc.drop_connections()
    phone = Phone(c.ESME_RDELIVERYFAILURE)
    await bind(smsc, phone)
    await delivered
    assert phone.texts == ["while you were away"]
    assert smsc.counts["mos_refused"] == 1


# --- MO ---------------------------------------------------------------------------------------------------------------


async def test_an_mo_waits_for_a_receiver_of_its_system_id(smsc: Any) -> None:
    smsc = await smsc()
    others, phone = Phone(), Phone()
    await bind(smsc, others)
    await bind(smsc, Phone(), c.BIND_TRANSMITTER, system_id="you")
    assert smsc.mo("27831234567", "1234", "hello", "you") == 1
    await bind(smsc, phone, c.BIND_RECEIVER, system_id="you")
    await eventually(lambda: phone.requests)
    assert phone.texts == ["hello"]
    pdu = phone.requests[0]
    assert isinstance(pdu, DeliverSm)
    assert (pdu.source_addr, pdu.destination_addr, pdu.esm_class) == ("27831234567", "1234", 0)
    assert not others.requests


async def test_a_long_mo_comes_in_parts(smsc: Any) -> None:
    smsc = await smsc()
    phone = Phone()
    await bind(smsc, phone)
    content = "0123456789" * 30
    assert smsc.mo("1", "2", content) == 2
    await eventually(lambda: len(phone.requests) == 2)
    parts: list[Any] = phone.requests
    assert [each.esm_class for each in parts] == [c.ESM_CLASS_UDHI] * 2
    assert [each.short_message[:6] for each in parts] == [b"\x05\0\3\1\2\1", b"\x05\0\3\1\2\2"]
    assert b"".join(each.short_message[6:] for each in parts).decode() == content


# --- HTTP -------------------------------------------------------------------------------------------------------------


async def test_http_control(smsc: Any) -> None:
    smsc = await smsc()
    phone = Phone()
    session = await bind(smsc, phone)
    await session.request(submit(7))
    async with TestClient(TestServer(http_app(smsc))) as client:
        (message,) = await (await client.get("/messages?to=27831234567")).json()
        assert (message["content"], message["message_id"]) == ("number 7", "1")
        assert await (await client.get("/messages?to=1")).json() == []
        response = await client.post("/mo", data=b'{"from": "1", "to": "2", "content": "grun"}')
        assert (response.status, await response.json()) == (201, {"parts": 1})
        response = await client.post(
            "/mo", json={"from": "1", "to": "2", "user_data": "00ff", "data_coding": 4, "tlvs": {"0x1401": "aa"}}
        )
        assert response.status == 201
        await eventually(lambda: len(phone.requests) == 2)
        raw: Any = phone.requests[1]
        assert (raw.short_message, raw.data_coding, raw.tlvs) == (b"\0\xff", 4, {0x1401: b"\xaa"})
        shown = await (await client.get("/")).json()
        assert shown["binds"][0]["system_id"] == "me"
        assert shown["binds"][0]["bound_as"] == "bind_transceiver"
        assert shown["counts"]["submits"] == 1
        await client.post("/drop")
        assert (await session.closed).kind == "lost"
        session = await bind(smsc)
        await client.post("/unbind")
        assert (await session.closed).kind == "unbound"


@rows(
    "body",
    [
        b"{",
        b"[]",
        b'{"from": "1", "to": "2"}',
        b'{"from": "1", "to": 2, "content": "x"}',
        b'{"from": "1", "to": "2", "content": "x", "colour": "red"}',
        b'{"from": "1", "to": "2", "user_data": "xyz"}',
        b'{"from": "1", "to": "2", "user_data": "00", "esm_class": 1000}',
        b'{"from": "1", "to": "2", "user_data": "00", "esm_class": "4"}',
        b'{"from": "1", "to": "2", "user_data": "00", "tlvs": {"no_such_tag": "00"}}',
        b'{"from": "1", "to": "2", "user_data": "00", "tlvs": {"0x1401": 7}}',
        b'{"from": "a source address that is too long", "to": "2", "content": "x"}',
    ],
)
async def test_http_says_what_is_wrong_with_an_mo(smsc: Any, body: bytes) -> None:
    async with TestClient(TestServer(http_app(await smsc()))) as client:
        response = await client.post("/mo", data=body)
        assert response.status == 400
        assert (await response.json())["error"]


# --- the command ------------------------------------------------------------------------------------------------------


async def run_command(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "junebug.smpp.simulator.command", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


async def line_with(stream: asyncio.StreamReader, text: str) -> str:
    async with asyncio.timeout(30):
        while line := (await stream.readline()).decode():
            if text in line:
                return line
    raise AssertionError(f"no line with {text!r}")


async def test_the_command_listens_takes_lines_and_ends_when_asked() -> None:
    process = await run_command("--port", "0", "--http-port", "0", "--system-id", "me", "--password", "pass", "--pdus")
    assert process.stdout
    assert process.stdin
    try:
        port = int((await line_with(process.stdout, "is listening on")).rpartition(":")[2])
        control = (await line_with(process.stdout, "HTTP control")).rpartition(" ")[2].strip()
        phone = Phone()
        session = await connect(port, log=phone)
        assert (await session.request(Bind(system_id="me", password="pass"))).command_status == c.ESME_ROK
        process.stdin.write(b"27831234567 1234 hello, everybody\nonly one\n")
        await line_with(process.stdout, "FROM TO TEXT")
        await eventually(lambda: phone.requests)
        assert phone.texts == ["hello, everybody"]
        await session.request(submit())
        await line_with(process.stdout, "1234 -> 27831234567: 'number 1'")
        async with aiohttp.ClientSession() as client, client.get(f"{control}/messages") as response:
            assert len(await response.json()) == 1
        process.send_signal(signal.SIGTERM)
        assert (await session.closed).kind == "unbound"
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("source", ["/dev/null", __file__], ids=["nothing", "a file"])
async def test_the_command_runs_without_anybody_typing(source: str) -> None:
    command = f"exec {sys.executable} -m junebug.smpp.simulator.command --port 0 <{source}"
    process = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    await line_with(process.stdout, "is listening on")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 10) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--receipt-status", "DELIVRD,GONE"], 2, "GONE"),
        (["--refuse-status", "ESME_NONSENSE"], 2, "ESME_NONSENSE"),
        (["--receipt-ids", "hex", "--message-ids", "uuid"], 2, "does not go with"),
        (["--host", "192.0.2.1", "--port", "0"], 1, "junebug-smsc: "),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = harness.run_command("junebug-smsc", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_stopped_smsc_may_start_again_where_it_was(smsc: Any) -> None:
    smsc = await smsc()
    session = await bind(smsc)
    await smsc.stop()
    assert (await session.closed).kind == "lost"
    with pytest.raises(NotWritten):
        await session.request(submit())
    port = smsc.port
    await smsc.start()
    assert smsc.port == port
    await bind(smsc)
