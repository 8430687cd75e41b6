"""A link against a scripted peer: binds, comes back after losses, says why, backs off; over TLS as well."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from junebug.runtime.tls import TlsError, TlsOptions
from junebug.smpp import constants as c
from junebug.smpp.bind import BindEvent, BindState, PersistentBind
from junebug.smpp.options import BindOptions, SessionOptions
from junebug.smpp.pdu import Bind, DeliverSm, SubmitSm, SubmitSmResp, Unbind
from junebug.smpp.pending import NotWritten, ResponseLost
from tests.polling import eventually
from tests.servers import free_port
from tests.smpp.peer import Connection, Log, Peer, frame


class Watched(PersistentBind):
    """A bind whose events are kept."""

    def __init__(self, port: int, **options: Any) -> None:
        self.events: list[BindEvent] = []
        self.log = Log(answer=True)
        options = {
            "initial_reconnect_delay": 0.1,
            "bind_timeout": 5.0,
            "system_id": "me",
            "password": "secret",
        } | options
        super().__init__(
            BindOptions(host=options.pop("host", "127.0.0.1"), port=port, **options),
            on_state=self.events.append,
            on_request=self.log.on_request,
            on_pdu=self.log.on_pdu,
        )

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.events]

    async def wait_bound(self) -> None:
        await eventually(lambda: self.bound)

    async def state(self, state: BindState, times: int = 1) -> BindEvent:
        await eventually(lambda: self.states.count(state) >= times)
        return [event for event in self.events if event.state == state][times - 1]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def link() -> AsyncIterator[Callable[..., Watched]]:
    links: list[Watched] = []

    def start(port: int, **options: Any) -> Watched:
        link = Watched(port, **options)
        links.append(link)
        link.start()
        return link

    yield start
    for each in links:
        await each.stop(drain_timeout=0, unbind_timeout=0)


async def bound(peer: Peer) -> Connection:
    connection = await peer.connection()
    connection.answer(await connection.expect(Bind), system_id="smsc")
    return connection


# --- binding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "command_id"),
    [
        ("transceiver", c.BIND_TRANSCEIVER),
        ("transmitter", c.BIND_TRANSMITTER),
        ("receiver", c.BIND_RECEIVER),
    ],
)
async def test_it_binds_as_told(peer: Peer, link: Any, mode: str, command_id: int) -> None:
    its = link(
        peer.port,
        bind_mode=mode,
        system_type="vma",
        interface_version=0x50,
        address_range="^27",
        addr_ton=1,
        addr_npi=2,
    )
    connection = await peer.connection()
    bind = await connection.expect(Bind)
    assert (bind.command_id, bind.system_id, bind.password, bind.system_type) == (command_id, "me", "secret", "vma")
    assert (bind.interface_version, bind.address_range, bind.addr_ton, bind.addr_npi) == (0x50, "^27", 1, 2)
    assert not its.bound
    connection.answer(bind)
    await its.wait_bound()
    assert its.states == ["connecting", "binding", "bound"]


async def test_requests_go_out_while_bound_and_never_otherwise(peer: Peer, link: Any) -> None:
    its = link(peer.port)
    connection = await peer.connection()
    bind = await connection.expect(Bind)
    with pytest.raises(NotWritten, match="not bound"):
        await its.request(SubmitSm())
    connection.answer(bind)
    await its.wait_bound()
    asked = asyncio.create_task(its.request(SubmitSm(destination_addr="1"), tag="x"))
    connection.answer(await connection.expect(SubmitSm), message_id="id")
    answer = await asked
    assert isinstance(answer, SubmitSmResp)
    connection.send(DeliverSm(sequence_number=1))
    await connection.pdu()
    assert len(its.log.requests) == 1


async def test_a_message_that_comes_with_the_bind_response_is_taken(peer: Peer, link: Any) -> None:
    its = link(peer.port)
    connection = await peer.connection()
    connection.answer(await connection.expect(Bind))
    connection.send(DeliverSm(sequence_number=1))
    await connection.pdu()
    await its.wait_bound()
    assert len(its.log.requests) == 1


async def test_a_refused_bind_is_told_with_its_status_and_tried_again_ever_later(peer: Peer, link: Any) -> None:
    its = link(peer.port, initial_reconnect_delay=0.12, max_reconnect_delay=0.5)
    for _ in range(4):
        connection = await peer.connection()
        connection.answer(await connection.expect(Bind), c.ESME_RINVPASWD)
        await connection.eof()
    await its.state(BindState.BIND_REFUSED, 4)
    refused = [event for event in its.events if event.state == "bind_refused"]
    assert {event.details["command_status"] for event in refused} == {"ESME_RINVPASWD"}
    assert "ESME_RINVPASWD" in refused[0].message
    assert "secret" not in "".join(map(repr, its.events))
    delays = [event.details["retry_after"] for event in refused]
    assert delays[0] == 0.12
    assert 0.12 < delays[1] < delays[2] < delays[3]


@pytest.mark.parametrize(
    ("command_id", "sequence_number", "status", "said"),
    [
        (c.GENERIC_NACK, 1, 0, "generic_nack"),
        (c.GENERIC_NACK, 0, 0, "generic_nack"),
        (c.GENERIC_NACK, 0, c.ESME_RINVCMDID, "ESME_RINVCMDID"),
        (c.GENERIC_NACK, 1, c.ESME_RSYSERR, "ESME_RSYSERR"),
        (c.GENERIC_NACK, 0xFFFFFFFF, c.ESME_RINVCMDLEN, "ESME_RINVCMDLEN"),
        (c.GENERIC_NACK, 7, 0x400, "0x00000400"),
        (c.BIND_TRANSCEIVER | c.RESPONSE, 0, c.ESME_RBINDFAIL, "ESME_RBINDFAIL"),
        (c.BIND_RECEIVER | c.RESPONSE, 2, c.ESME_RALYBND, "ESME_RALYBND"),
    ],
)
async def test_however_a_bind_is_refused_that_is_told_at_once(
    peer: Peer, link: Any, command_id: int, sequence_number: int, status: int, said: str
) -> None:
    its = link(peer.port, initial_reconnect_delay=3600)
    connection = await peer.connection()
    await connection.expect(Bind)
    connection.send(frame(command_id, sequence_number, status=status))
    event = await its.state(BindState.BIND_REFUSED)
    assert event.details["command_status"] == said
    assert said in event.message
    assert BindState.BOUND not in its.states


@pytest.mark.parametrize("sequence_number", [0, 2, 0xFFFFFFFF])
async def test_a_bind_accepted_under_another_number_is_bound(peer: Peer, link: Any, sequence_number: int) -> None:
    its = link(peer.port)
    connection = await peer.connection()
    await connection.expect(Bind)
    connection.send(frame(c.BIND_TRANSCEIVER | c.RESPONSE, sequence_number, b"smsc\0"))
    await its.wait_bound()


async def test_a_bind_without_answer_times_out(peer: Peer, link: Any) -> None:
    its = link(peer.port, bind_timeout=0.3)
    connection = await peer.connection()
    await connection.expect(Bind)
    event = await its.state(BindState.BIND_TIMEOUT)
    assert event.details["retry_after"] == 0.1
    await connection.eof()
    await bound(peer)
    await its.wait_bound()


async def test_hung_up_during_the_bind_is_a_lost_connection(peer: Peer, link: Any) -> None:
    its = link(peer.port)
    connection = await peer.connection()
    await connection.expect(Bind)
    connection.close()
    assert "before the bind was answered" in (await its.state(BindState.CONNECTION_LOST)).message
    await bound(peer)
    await its.wait_bound()


async def test_a_bind_that_cannot_be_sent_says_which_field(peer: Peer, link: Any) -> None:
    its = link(peer.port, system_id="a system id that is far too long")
    assert "system_id" in (await its.state(BindState.BIND_REFUSED)).message


async def test_nobody_listening_is_told_and_tried_again(link: Any) -> None:
    port = free_port()
    its = link(port)
    event = await its.state(BindState.CONNECT_FAILED, 2)
    assert str(port) in event.message
    assert "efused" in event.message


async def test_it_connects_from_the_address_it_is_told(peer: Peer, link: Any) -> None:
    its = link(peer.port, local_host="127.0.0.2", connect_timeout=4)
    connection = await bound(peer)
    assert connection.writer.get_extra_info("peername")[0] == "127.0.0.2"
    await its.wait_bound()


async def test_an_unknown_host_is_told(link: Any) -> None:
    its = link(2775, host="no-such-host.invalid")
    assert "no-such-host.invalid" in (await its.state(BindState.CONNECT_FAILED)).message


# --- coming back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["refused", "dropped at once", "hung up"])
async def test_without_any_delay_configured_nobody_is_hammered(peer: Peer, link: Any, trouble: str) -> None:
    link(peer.port, initial_reconnect_delay=0, max_reconnect_delay=0)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.3):
            while True:
                connection = await peer.connection()
                if trouble != "hung up":
                    bind = await connection.expect(Bind)
                    connection.answer(bind, c.ESME_RBINDFAIL if trouble == "refused" else c.ESME_ROK)
                connection.close()
    assert 3 <= peer.accepted <= 5


async def test_each_loss_of_a_link_that_lasted_is_followed_by_the_first_delay(
    peer: Peer, link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("junebug.smpp.bind.STEADY", 0.0)
    its = link(peer.port)
    for number in range(1, 6):
        connection = await bound(peer)
        await its.state(BindState.BOUND, number)
        connection.abort()
        event = await its.state(BindState.CONNECTION_LOST, number)
        assert event.details["retry_after"] == 0.1
        assert event.details["kind"] == "lost"
    await bound(peer)
    await its.state(BindState.BOUND, 6)


async def test_what_was_in_flight_at_a_loss_is_unknown_and_the_next_bind_starts_afresh(peer: Peer, link: Any) -> None:
    its = link(peer.port)
    connection = await bound(peer)
    await its.wait_bound()
    asked = asyncio.create_task(its.request(SubmitSm(destination_addr="1")))
    await connection.expect(SubmitSm)
    connection.close()
    with pytest.raises(ResponseLost):
        await asked
    connection = await bound(peer)
    await its.state(BindState.BOUND, 2)
    asked = asyncio.create_task(its.request(SubmitSm(destination_addr="1")))
    connection.answer(await connection.expect(SubmitSm))
    await asked


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(b"\0\0\0\1" + b"x" * 12, "bad_length"), (Unbind(sequence_number=1), "unbound")],
    ids=["bad length", "unbind"],
)
async def test_whatever_ends_a_session_it_is_opened_again(peer: Peer, link: Any, trouble: Any, kind: str) -> None:
    its = link(peer.port)
    connection = await bound(peer)
    await its.wait_bound()
    connection.send(trouble)
    assert (await its.state(BindState.CONNECTION_LOST)).details["kind"] == kind
    await bound(peer)
    await its.state(BindState.BOUND, 2)


async def test_a_silent_peer_is_left_for_a_new_connection(peer: Peer, link: Any) -> None:
    its = link(peer.port, session=SessionOptions(enquire_link_interval=0.2))
    await bound(peer)
    assert (await its.state(BindState.CONNECTION_LOST)).details["kind"] == "silent"
    await bound(peer)
    await its.state(BindState.BOUND, 2)


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_it_unbinds_before_it_leaves(peer: Peer, link: Any) -> None:
    its = link(peer.port)
    connection = await bound(peer)
    await its.wait_bound()
    stopping = asyncio.create_task(its.stop())
    connection.answer(await connection.expect(Unbind))
    await stopping
    await connection.eof()
    assert its.states[-2:] == ["unbinding", "stopped"]
    assert not its.bound
    with pytest.raises(NotWritten):
        await its.request(SubmitSm())


@pytest.mark.parametrize("moment", ["connecting", "binding", "waiting"])
async def test_it_stops_at_any_moment(peer: Peer, link: Any, moment: str) -> None:
    its = link(peer.port, initial_reconnect_delay=3600)
    if moment != "connecting":
        connection = await peer.connection()
        await connection.expect(Bind)
        if moment == "waiting":
            connection.close()
            await its.state(BindState.CONNECTION_LOST)
    async with asyncio.timeout(5):
        await its.stop()
    assert its.states[-1] == "stopped"


async def test_stopping_before_starting_is_nothing() -> None:
    its = Watched(1)
    await its.stop()
    assert its.states == []


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, server.pem/.key (smsc.example), client.pem/.key (passphrase "lock-word 7"), other.pem/.key (another CA)."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make certificates with")
    directory = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    for name in ("ca", "other"):
        openssl("req", "-x509", *key, "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name, secret in (("server", ("-nodes",)), ("client", ("-passout", "pass:lock-word 7"))):
        openssl("req", *key, *secret, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / "names").write_text("subjectAltName=DNS:smsc.example")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-extfile", "names", "-out", f"{name}.pem"),
        )
    return directory


class TlsPeer(Peer):
    """Wants a client certificate of our CA."""

    def __init__(self, certificates: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        self.context.load_verify_locations(certificates / "ca.pem")
        self.names: list[str | None] = []
        self.context.sni_callback = lambda _, name, __: self.names.append(name)

    async def __aenter__(self) -> TlsPeer:
        await super().__aenter__()
        self._server.close()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self


def tls(certificates: Path, **changes: Any) -> TlsOptions:
    return TlsOptions(
        **{
            "server_name": "smsc.example",
            "ca_file": str(certificates / "ca.pem"),
            "certificate_file": str(certificates / "client.pem"),
            "key_file": str(certificates / "client.key"),
            "key_passphrase": "lock-word 7",
        }
        | changes
    )


async def test_tls_with_server_name_and_client_certificate(link: Any, certificates: Path) -> None:
    peer = TlsPeer(certificates)
    peer.context.verify_mode = ssl.CERT_REQUIRED
    async with peer:
        its = link(peer.port, tls=tls(certificates))
        connection = await bound(peer)
        await its.wait_bound()
        assert peer.names == ["smsc.example"]
        subject = dict(pair[0] for pair in connection.writer.get_extra_info("peercert")["subject"])
        assert subject["commonName"] == "client"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"server_name": "another.example"}, "not trusted"), ({"ca_file": None}, "not trusted")],
    ids=["another name", "unknown authority"],
)
async def test_a_certificate_that_does_not_fit_is_told(link: Any, certificates: Path, changes: Any, said: str) -> None:
    async with TlsPeer(certificates) as peer:
        its = link(peer.port, tls=tls(certificates, **changes))
        assert said in (await its.state(BindState.CONNECT_FAILED)).message


async def test_verification_can_be_turned_off(link: Any, certificates: Path) -> None:
    async with TlsPeer(certificates) as peer:
        its = link(peer.port, tls=TlsOptions(verify=False))
        await bound(peer)
        await its.wait_bound()


async def test_tls_to_a_peer_without_it_is_told(peer: Peer, link: Any, certificates: Path) -> None:
    its = link(peer.port, tls=tls(certificates), bind_timeout=2.0)
    (await peer.connection()).send(b"what is this?\r\n" * 10)
    assert "cannot connect" in (await its.state(BindState.CONNECT_FAILED)).message


@pytest.mark.parametrize(
    "changes",
    [
        {"ca_file": "/nonexistent/ca.pem"},
        {"ca_file": "\0"},
        {"certificate_file": "\0"},
        {"certificate_file": "/nonexistent/client.pem"},
        {"key_passphrase": "open barley"},
        {"key_passphrase": None},
        {"key_file": "other.key"},
    ],
    ids=lambda changes: "-".join(changes),
)
async def test_unusable_files_are_named_before_anything_is_connected(certificates: Path, changes: Any) -> None:
    if changes.get("key_file"):
        changes = {"key_file": str(certificates / changes["key_file"])}
    its = Watched(1, tls=tls(certificates, **changes))
    with pytest.raises(TlsError) as raised:
        its.start()
    assert "_file" in str(raised.value)
    assert "lock" not in str(raised.value)
