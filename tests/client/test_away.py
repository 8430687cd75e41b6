"""What the commands do while Junebug is away, or does not answer as it does: an API that answers by a script."""

from __future__ import annotations

import json
import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from junebug.client import csv_send
from tests.client.running import Cli
from tests.forkserver import forkserver
from tests.harness import clean_environment
from tests.polling import eventually_blocking
from tests.tables import rows

OK = {"status": 201, "code": "Created", "description": "ok"}


def failure(status: int, kind: str, **more: Any) -> tuple[int, Any]:
    errors = [{"type": kind, "message": f"it is {kind}"}]
    return status, {"status": status, "description": "x", "result": {"errors": errors, **more}}


@dataclass
class Scripted:
    """Answers each request with the next of `answers`: status and body (bytes as they are); None: the connection is cut; a
    function: what it returns.
    """

    answers: list[Any]
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def scripted(*answers: Any) -> Iterator[Scripted]:
    script = Scripted(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            script.requests.append((self.path, dict(self.headers), body))
            answer = script.answers.pop(0)
            if callable(answer):
                answer = answer()
            if answer is None:
                self.close_connection = True
                return
            status, content = answer
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            server.shutdown()


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_send, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def taken(*items: Any) -> tuple[int, Any]:
    return 201, {**OK, "result": {"messages": list(items), "accepted": 1, "rejected": 0}}


def test_a_batch_is_asked_for_with_one_key_until_each_message_has_its_outcome(in_haste: None, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("to,content\n1,one\n2,two\n")
    good, later = {"message_id": "a"}, {"errors": [{"type": "BrokerUnavailable", "message": "RabbitMQ is away"}]}
    with scripted(
        failure(503, "StoreUnavailable"), None, failure(409, "RequestInProgress"), (502, b"<html>a proxy</html>"),
        failure(503, "Unavailable", messages=[later, later]), taken(good, later), taken(good, {"message_id": "b"}),
    ) as api:  # fmt: skip
        ran = Cli(api.url)("send", "--channel", "c", "--csv", str(file), "--json").good()
    assert ran.json["accepted"] == 2
    assert ran.err.count("trying again") == 1
    assert api.answers == []
    assert len({headers["Idempotency-Key"] for _, headers, _ in api.requests}) == 1
    assert len({body for _, _, body in api.requests}) == 1


def test_patience_ends_and_the_same_command_goes_on(in_haste: None, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("to,content\n1,one\n2,two\n")
    words = ("send", "--channel", "c", "--csv", str(file), "--batch-size", "1", "--patience", "0")
    with scripted(taken({"message_id": "a"}), *[failure(503, "Unavailable")] * 5) as api:
        ran = Cli(api.url)(*words)
        assert (ran.code, "1 of 2 rows are done, the same command goes on" in ran.err) == (5, True)
        key = api.requests[-1][1]["Idempotency-Key"]
        api.answers = [taken({"message_id": "b"})]
        Cli(api.url)(*words).good()
        assert api.requests[-1][1]["Idempotency-Key"] == key


@rows(
    ["answer", "code", "told"],
    [
        (failure(401, "NotAuthenticated"), 4, "it is NotAuthenticated"),
        (failure(403, "NotAllowed"), 4, "it is NotAllowed"),
        (failure(404, "ChannelNotFound"), 3, "it is ChannelNotFound"),
        (failure(400, "ApiUsageError"), 2, "it is ApiUsageError"),
        (failure(409, "ChannelChanged"), 1, "it is ChannelChanged"),
        (failure(500, "JunebugError"), 1, "it is JunebugError"),
        (failure(503, "StoreUnavailable"), 5, "it is StoreUnavailable"),
        ((200, b"<html>"), 1, "no answer of Junebug's"),
        ((200, b"[]"), 1, "no answer of Junebug's"),
        ((502, b"evil\x1b[2J\nlines"), 5, "no answer of Junebug's"),
        (None, 5, "cannot be reached"),
    ],
)
def test_each_kind_of_answer_has_its_exit_code(in_haste: None, answer: tuple[int, Any] | None, code: int, told: str) -> None:
    with scripted(*[answer] * 6) as api:
        Cli(api.url)("channels", "show", "x").failed(code, told)
        Cli(api.url)("channels", "restart", "x").failed(code, told)


def test_a_type_that_is_installed_there_alone_is_asked_for() -> None:
    described = {"properties": {"level": {"type": "integer"}, "name": {"type": "string"}}}
    document = {"openapi": "3.1.0", "components": {"schemas": {"ChannelConfig.theirs": described}}}
    made = {**OK, "result": {"id": "c", "config": {}, "status": {}}}
    with scripted((200, document), (201, made)) as api:
        words = ("channels", "create", "--type", "theirs", "--config", "level=5", "--config", "name=5", "--id")
        assert Cli(api.url)(*words).good().out == "c\n"
        assert json.loads(api.requests[1][2])["config"] == {"level": 5, "name": "5"}


def stream(*events: tuple[str, dict[str, Any]]) -> tuple[int, bytes]:
    """Server-Sent Events, after which the connection ends."""
    lines = [f"id: {id}\nevent: {data['kind']}\ndata: {json.dumps(data)}\n\n" for id, data in events]
    return 200, "".join([": hello\n\n", *lines]).encode()


def test_tail_goes_on_where_it_was(in_haste: None) -> None:
    of = {"channel_id": "c", "timestamp": 1795464000.25}
    status = {**of, "kind": "status", "component": "smpp", "status": "down", "type": "bind_refused", "reason": "no\x1b[2J"}
    event = {**of, "kind": "event", "event_type": "submitted", "message_id": "m1"}
    message = {**of, "kind": "message", "message_id": "m2", "from_addr": "+27", "to_addr": "123"}
    line = {**of, "kind": "log", "level": 40, "message": "it failed", "code": 8}
    alive = (200, {**OK, "result": {}})
    script = [alive, stream(("1", status), ("2", event)), failure(503, "Overloaded"), None, stream(("3", message), ("4", line))]
    words = ("tail", "--channel", "c", "--kind", "log", "--kind", "event", "--kind", "status", "--kind", "message", "-n", "4")
    with scripted(*script) as api:
        ran = Cli(api.url)(*words, "--json").good()
        assert [json.loads(each)["id"] for each in ran.out.splitlines()] == ["1", "2", "3", "4"]
        assert [headers.get("Last-Event-ID") for _, headers, _ in api.requests[1:]] == [None, "2", "2", "2"]
        assert "channel_id=c" in api.requests[1][0]
        assert "kind=log%2Cevent%2Cstatus%2Cmessage" in api.requests[1][0]
    with scripted(*script) as api:
        shown = Cli(api.url)(*words).good().out.splitlines()
    assert [each.split(" c ")[1] for each in shown] == [
        "down smpp: bind_refused: no\\x1b[2J", "submitted m1 -", "message m2 +27 → 123", "error it failed code=8",
    ]  # fmt: skip
    with scripted(alive, failure(403, "NotAllowed")) as api:
        Cli(api.url)("tail").failed(4, "NotAllowed")


def test_memory_stays_the_same_however_long_the_file_is(tmp_path: Path) -> None:
    """What a batch takes, not what the file has: 20 times as many rows take less than twice as much."""
    import tracemalloc

    def peak(count: int) -> int:
        file = tmp_path / f"{count}.csv"
        file.write_text("to,content\n" + "".join(f"+2782{number},{'x' * 100}\n" for number in range(count)))
        items = [{"message_id": "a"}] * 100
        with scripted(*[taken(*items)] * (count // 100)) as api:
            api.requests = Forgetful()
            tracemalloc.start()
            Cli(api.url)("send", "--channel", "c", "--csv", str(file), "--batch-size", "100").good()
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    peak(100)
    assert peak(4000) < 2 * peak(200)


def test_on_a_terminal_progress_is_drawn_and_ps_shows_no_secret(tmp_path: Path) -> None:
    """A process of its own, whose stderr is a terminal, while the API takes its time with the second batch."""
    file, token, password = tmp_path / "a.csv", "jb-token-that-nobody-may-see", "password-that-nobody-may-see"
    file.write_text("to,content\n1,one\n2,two\n")
    ours, theirs = pty.openpty()
    answered = threading.Event()
    drawn: list[bytes] = []
    threading.Thread(target=_read, args=(ours, drawn), daemon=True).start()  # or it waits for us when the terminal is full
    with scripted(taken({"message_id": "a"}), lambda: answered.wait(30) and taken({"message_id": "b"})) as api:
        url = api.url.replace("http://", f"http://somebody:{password}@")
        words = ("send", "--url", url, f"--token={token}", "--channel", "c", "--csv", str(file), "--batch-size", "1")
        process = forkserver().start(
            "junebug", words, cwd=tmp_path, env=clean_environment(TERM="xterm"), stdout=tmp_path / "out",
            stderr=Path(os.ttyname(theirs)),
        )  # fmt: skip
        eventually_blocking(lambda: len(api.requests) == 2 or process.poll() is not None)
        assert process.poll() is None, b"".join(drawn).decode()
        shown = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert (token in shown, password in shown, "--csv" in shown) == (False, False, True)
        answered.set()
        assert process.wait(30) == 0
    eventually_blocking(lambda: b"2/2" in b"".join(drawn))
    assert b"sending" in b"".join(drawn)
    os.close(theirs)


def _read(descriptor: int, into: list[bytes]) -> None:
    with suppress(OSError):
        while data := os.read(descriptor, 4096):
            into.append(data)
    os.close(descriptor)


class Forgetful(list[Any]):
    def append(self, item: Any) -> None: ...
