"""What a callback's HTTP server may answer, octet for octet: the status line decides, whatever else the answer holds."""

from __future__ import annotations

import asyncio
import gzip
import random
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from junebug.config.declaration import Settings
from junebug.model.templates import expand
from junebug.worker.callbacks import http_client
from junebug.worker.callbacks.answer import LONGEST, Answer
from junebug.worker.callbacks.targets import Targets
from junebug.worker.callbacks.webhook import Webhook
from tests.harness import THOROUGH
from tests.tables import rows

HELD = b"<held>"
"""At the end of an answer: the server leaves the connection open, and says no more."""
OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(b"0" * 10_000_000, 1)
BIG = 1_000_000


class RawServer:
    """Answers each request with octets, and counts its connections and requests."""

    def __init__(self, answer: Callable[[int], bytes] | bytes) -> None:
        self._answer = answer if callable(answer) else lambda _: answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.written = 0
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/app/sms"
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self._answer(len(self.requests))
                for begin in range(0, len(answer.removesuffix(HELD)), 65536):
                    writer.write(answer.removesuffix(HELD)[begin : begin + 65536])
                    await writer.drain()
                    self.written += 65536
                if not answer.endswith(HELD):
                    return writer.close()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    hook = Webhook(timeout=2.0, targets=Targets(Settings()))
    yield hook
    await hook.close()


STATUS_DECIDES: dict[str, tuple[bytes, int]] = {
    "no body": (OK + b"Content-Length: 0\r\n\r\n", 200),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204),
    "204 with a body in chunks": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 204),
    "a body longer than said": (OK + b"Content-Length: 2\r\n\r\nhello, world", 200),
    "a body shorter than said": (OK + b"Content-Length: 200\r\n\r\nhello", 200),
    "a body that never comes": (OK + b"Content-Length: 200\r\n\r\n" + HELD, 200),
    "a body without end": (OK + b"\r\n" + b"x" * 50_000_000, 200),
    "a head without end": (OK + b"X: y\r\n" * BIG, 200),
    "a header without end": (OK + b"X: " + b"y" * BIG, 200),
    "a reason without end": (b"HTTP/1.1 200 " + b"y" * BIG, 200),
    "a head that stops": (OK + b"X: y\r\n" + HELD, 200),
    "a header of 9 KB": (OK + b"X: " + b"y" * 9000 + b"\r\nContent-Length: 0\r\n\r\n", 200),
    "a thousand headers": (OK + b"".join(b"X-%d: y\r\n" % n for n in range(1000)) + b"Content-Length: 0\r\n\r\n", 200),
    "cut off in the body": (OK + b"Content-Length: 10\r\n\r\nhel", 200),
    "cut off in the head": (OK + b"Content-Le", 200),
    "cut off behind the status line": (OK, 200),
    "cut off in the status line": (b"HTTP/1.1 200", 200),
    "gzip that is none": (OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 200),
    "br": (OK + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello", 200),
    "zstd": (OK + b"Content-Encoding: zstd\r\nContent-Length: 5\r\n\r\nhello", 200),
    "an unknown coding": (OK + b"Content-Encoding: rot13, \xff\r\nContent-Length: 5\r\n\r\nhello", 200),
    "a bomb": (OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, 200),
    "an unknown charset": (OK + b"Content-Type: text/plain; charset=klingon\r\nContent-Length: 1\r\n\r\n\xff", 200),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n", 200),
    "chunks cut off": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", 200),
    "no chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\nhello", 200),
    "a chunk of a size that is none": (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", 200),
    "a chunk of a huge size": (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 5000 + b"\r\nhello", 200),
    "an unknown transfer coding": (OK + b"Transfer-Encoding: klingon\r\n\r\nhello", 200),
    "chunks and a length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 200),
    "a length that is none": (OK + b"Content-Length: \xc2\xb2\r\n\r\nhello", 200),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\nhello", 200),
    "a huge length": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello", 200),
    "two lengths": (OK + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello", 200),
    "no header line": (OK + b"nonsense\r\n: x\r\n folded\r\n\0\r\nContent-Length: 0\r\n\r\n", 200),
    "headers above 127": (OK + b"X-\xff\xfe: \xff\r\nContent-Length: 0\r\n\r\n", 200),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 200),
    "blank lines before": (b"\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n", 200),
    "no reason": (b"HTTP/1.1 202\r\nContent-Length: 0\r\n\r\n", 202),
    "a reason above 127": (b"HTTP/1.1 201 \xff\xfe\x00\x1b[31m\r\nContent-Length: 0\r\n\r\n", 201),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200),
    "an odd version": (b"HTTP/3.7 299 OK\r\n\r\n", 299),
    "interim answers": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n", 200),
    "cookies": (OK + b"Set-Cookie: \xff=;;;; expires=Mon, 99999\r\nContent-Length: 0\r\n\r\n", 200),
    "a Location": (b"HTTP/1.1 201 Created\r\nLocation: http://[\r\n\r\n", 201),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n" + HELD, 304),
    "an error with a body cut off": (b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nx", 500),
    "an error with a bomb": (b"HTTP/1.1 503 Oh\r\nContent-Encoding: gzip\r\n\r\n" + BOMB, 503),
    "a redirect to nowhere": (b"HTTP/1.1 302 Found\r\n\r\n", 302),
    "a redirect to what is no URL": (b"HTTP/1.1 307 Found\r\nLocation: http://[::1\r\n\r\n", 307),
    "a redirect to another scheme": (b"HTTP/1.1 307 Found\r\nLocation: file:///etc/passwd\r\n\r\n", 307),
    "a redirect above 127": (b"HTTP/1.1 307 Found\r\nLocation: http://\xff\xfe/\r\n\r\n", 307),
    "switching protocols": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", 101),
    "no such status": (b"HTTP/1.1 999 Oh\r\n\r\n", 999),
    "status 0": (b"HTTP/1.1 000 Oh\r\n\r\n", 0),
}


@pytest.mark.parametrize("name", STATUS_DECIDES)
async def test_the_status_line_decides(webhook: Webhook, name: str) -> None:
    octets, status = STATUS_DECIDES[name]
    server = RawServer(octets)
    async with server.running() as url:
        begun = time.monotonic()
        outcome = await webhook.post(url, {"a": 1})
        assert (outcome.ok, outcome.status) == (200 <= status < 300, status)
        assert outcome.reason.isprintable()
        assert len(server.requests) == 1
        assert time.monotonic() - begun < (2.5 if octets.endswith(HELD) else 1)
    assert server.written < 20_000_000  # what the kernel's buffers hold; the rest was never taken


NO_ANSWER: dict[str, bytes] = {
    "nothing": b"",
    "silence": HELD,
    "text": b"hello\r\n\r\n",
    "a line without end": b"x" * BIG,
    "blank lines without end": b"\r\n" * BIG,
    "interim answers without end": b"HTTP/1.1 102 Processing\r\n\r\n" * BIG,
    "interim answers alone": b"HTTP/1.1 100 Continue\r\n\r\n" + HELD,
    "HTTP/0.9": b"<html>200 OK</html>",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x50",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + HELD,
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status in other digits": "HTTP/1.1 ٢٠٠ OK\r\n\r\n".encode(),
    "a status cut off": b"HTTP/1.1 20",
}


@rows("name", NO_ANSWER)
async def test_what_is_no_answer_is_a_failure_without_a_status(webhook: Webhook, name: str) -> None:
    server = RawServer(NO_ANSWER[name])
    async with server.running() as url:
        outcome = await webhook.post(url, {"a": 1})
        assert (outcome.ok, outcome.status) == (False, None)
        assert outcome.reason
        assert len(server.requests) == 1


REUSED: dict[str, tuple[bytes, bool]] = {
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", True),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
    "HTTP/1.0 that keeps it": (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", True),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
    "close": (OK + b"Connection: foo, Close\r\nContent-Length: 0\r\n\r\n", False),
    "more than said": (OK + b"Content-Length: 5\r\n\r\nhello, world", False),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\n\r\nhello", False),
    "two lengths": (OK + b"Content-Length: 0\r\nContent-Length: 1\r\n\r\n", False),
    "chunks and a length": (OK + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", False),
}


@pytest.mark.parametrize("name", REUSED)
async def test_a_connection_is_used_again_only_where_the_answer_ended_as_it_said(webhook: Webhook, name: str) -> None:
    octets, again = REUSED[name]
    server = RawServer(octets + HELD)
    async with server.running() as url:
        for _ in range(3):
            assert (await webhook.post(url, {})).ok
        assert (server.connections, len(server.requests)) == (1 if again else 3, 3)


async def test_a_connection_that_died_meanwhile_costs_no_attempt(webhook: Webhook) -> None:
    server = RawServer(lambda n: b"" if n == 2 else OK + b"Content-Length: 0\r\n\r\n" + HELD)
    async with server.running() as url:
        assert (await webhook.post(url, {})).ok
        assert (await webhook.post(url, {})).ok
        assert (server.connections, len(server.requests)) == (2, 3)


async def test_a_request_that_kills_its_server_is_made_twice_at_the_most(webhook: Webhook) -> None:
    server = RawServer(lambda n: OK + b"Content-Length: 0\r\n\r\n" + HELD if n <= 10 else b"")
    async with server.running() as url:
        await asyncio.gather(*(webhook.post(url, {}) for _ in range(10)))
        assert not (await webhook.post(url, {})).ok
        assert (server.connections, len(server.requests)) == (11, 12)


async def test_an_idle_connection_is_closed(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "IDLE_TIMEOUT", 0.05)
    server = RawServer(OK + b"Content-Length: 0\r\n\r\n" + HELD)
    async with server.running() as url:
        assert (await webhook.post(url, {})).ok
        await asyncio.sleep(0.2)
        assert (await webhook.post(url, {})).ok
        assert server.connections == 2


@rows("octets", [1, 7, 100_000])
@rows("name", STATUS_DECIDES)
def test_an_answer_is_the_same_however_it_is_cut(name: str, octets: int) -> None:
    data, status = STATUS_DECIDES[name]
    answer, fed = Answer(), 0
    while fed < len(data) and not answer.is_over:
        answer.feed(data[fed : fed + octets])
        fed += octets
    answer.end()
    assert answer.status == status
    assert fed <= LONGEST + octets


def test_a_head_that_is_read_at_one_go_says_what_it_says_line_by_line() -> None:
    chance = random.Random(7)
    tables = [octets[:2000].removesuffix(HELD) for octets, _ in (*STATUS_DECIDES.values(), *REUSED.values())]
    usual = [octets for octets in tables if octets.startswith(b"HTTP/1") and b"\r\n\r\n" in octets[:300]]
    pieces = (b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"\0", b"\x0b", b"\xa0", b"1", b"Connection : close\r\n")
    for _ in range(100 * THOROUGH):
        octets = bytearray(chance.choice(usual))
        for _ in range(chance.randrange(3)):
            at = chance.randrange(min(len(octets), 120))
            octets[at : at + chance.randrange(2)] = chance.choice(pieces)
        tables.append(bytes(octets))
    for octets in tables:
        at_once, by_octets = Answer(), Answer()
        at_once.feed(octets)
        for octet in octets:
            by_octets.feed(bytes((octet,)))
        for name in ("status", "is_head_over", "is_over", "can_go_on", "_headers"):
            assert getattr(at_once, name) == getattr(by_octets, name), (name, octets)


@pytest.mark.parametrize(
    ("template", "text", "target"),
    [
        ("/sms/{content}/new", "..", "/sms/%252E%252E/new"),
        ("/sms/{content}/new", "a/../..", "/sms/a%2F%252E%252E%2F%252E%252E/new"),
        ("/sms/{+content}/new", "%2e%2e", "/sms/%252E%252E/new"),
        ("/sms/{content}?x={content}", "%2F ü+", "/sms/%252F%20%C3%BC%2B?x=%252F%20%C3%BC%2B"),
        ("/a/../%2e/%41/b//c", "", "/a/../%2e/%41/b//c"),
    ],
)
async def test_a_url_arrives_as_it_is_written(webhook: Webhook, template: str, text: str, target: str) -> None:
    server = RawServer(OK + b"Content-Length: 0\r\n\r\n")
    async with server.running() as url:
        assert (await webhook.post(expand(url.removesuffix("/app/sms") + template, {"content": text}), {})).ok
        assert server.requests[0].startswith(f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:".encode())


async def test_no_header_is_made_of_a_token(webhook: Webhook) -> None:
    server = RawServer(OK + b"Content-Length: 0\r\n\r\n")
    async with server.running() as url:
        for token in ("a\r\nX: y", "a\nb", "a\0", "\ud800"):
            outcome = await webhook.post(url, {}, token)
            assert (outcome.ok, outcome.status) == (False, None)
        assert not server.requests
        assert (await webhook.post(url, {}, "é")).ok
        assert "Authorization: Token é\r\n".encode() in server.requests[0]




@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
async def test_a_certificate_is_checked(webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -newkey rsa:2048 -nodes -days 2 -keyout key -out cert"
    subprocess.run(["openssl", "req", "-x509", *what.split()], check=True, capture_output=True, cwd=tmp_path)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = RawServer(OK + b"Content-Length: 0\r\n\r\n" + HELD)
    async with server.running(theirs) as url:
        outcome = await webhook.post(url.replace("127.0.0.1", "localhost"), {})
        assert (outcome.ok, outcome.status) == (False, None)
        assert "self-signed certificate" in outcome.reason
        ours = ssl.create_default_context(cafile=str(tmp_path / "cert"))
        monkeypatch.setattr(http_client, "tls_context", lambda: ours)
        for _ in range(2):
            assert (await webhook.post(url.replace("127.0.0.1", "localhost"), {})).ok
        assert not (await webhook.post(url, {})).ok  # the certificate is another host's
        assert len(server.requests) == 2
