"""Junebug from the outside: its commands as processes, and the world around them.

    JunebugProcess   `jb` (or another command) with its output, its API and its children
    Api, Channel     what a user of the REST API does; every answer is checked to be the envelope
    WebhookSink      an application's URLs, which answer as told
    TelnetClient     somebody at a telnet channel
    AppQueues        an application on RabbitMQ, as Vumi's are: queues declared without arguments

Nothing here imports more of Junebug than its ports and the names of its commands: the tests stand where users stand.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aio_pika
import aiohttp
import yaml
from aiohttp import web

from tests import processes
from tests.forkserver import Forked, forkserver
from tests.polling import DEADLINE, POLL, eventually
from tests.servers import free_port

T = TypeVar("T")

START_DEADLINE = 120.0
STOP_DEADLINE = 15.0
"""Seconds within which everything ends at a SIGTERM: a promise (issue 2)."""
LOG_DELAY = 0.1
"""Seconds within which a process surely writes a line of its log."""
THOROUGH = int(os.environ.get("JUNEBUG_TEST_THOROUGH", "1"))
"""How many times as much random and bulk work is to be done: `JUNEBUG_TEST_THOROUGH=10 make test` before a release."""
QUEUE_TYPE = os.environ.get("JUNEBUG_TEST_QUEUE_TYPE", "classic")
"""Kind of queue of every Junebug that a test starts: `JUNEBUG_TEST_QUEUE_TYPE=quorum make test ARGS=tests/blackbox`."""
ROOT = Path(__file__).parent.parent
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
MESSAGE_ID = re.compile(r"[0-9a-f]{32}")
AT_ONCE = {"junebug.worker.callbacks.delay_queues:SETTLING": 0.0}
"""Constants of a Junebug on a RabbitMQ that nobody kills: a new queue for what waits is used at once, not after two seconds."""
LISTENING = re.compile(r"Junebug is listening on (http://\S+)")


# --- waiting ----------------------------------------------------------------------------------------------------------


async def gather_limited(limit: int, work: Iterable[Awaitable[T]]) -> list[T]:
    """All of it, at most `limit` at the same time."""
    slots = asyncio.Semaphore(limit)

    async def one(each: Awaitable[T]) -> T:
        async with slots:
            return await each

    return await asyncio.gather(*(one(each) for each in work))


def is_message_id(text: Any) -> bool:
    """32 hex digits that clients can parse as a UUID of version 4."""
    return isinstance(text, str) and bool(MESSAGE_ID.fullmatch(text)) and uuid.UUID(text).version == 4


def is_timestamp(text: Any) -> bool:
    """`YYYY-MM-DD HH:MM:SS.ffffff`."""
    return isinstance(text, str) and bool(TIMESTAMP.fullmatch(text))


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


# --- the API ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the API said; `envelope` is the whole JSON."""

    status: int
    envelope: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def result(self) -> Any:
        return self.envelope["result"]

    @property
    def description(self) -> str:
        return str(self.envelope["description"])

    @property
    def errors(self) -> list[dict[str, Any]]:
        return list(self.result["errors"])

    @property
    def error_types(self) -> set[str]:
        return {error["type"] for error in self.errors}


class Api:
    """A client of the REST API. `async with api.kept_alive()` shares connections among many requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.request("DELETE", path, **options)

    async def request(self, method: str, path: str, *, allow_redirects: bool = False, **options: Any) -> Answer:
        """Every answer must be the envelope, its `status` and `code` those of the HTTP answer."""
        if self._session is not None:
            return await self._request(self._session, method, path, allow_redirects=allow_redirects, **options)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE + 10)) as session:
            return await self._request(session, method, path, allow_redirects=allow_redirects, **options)

    async def _request(self, session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Answer:
        async with session.request(method, self.url + path, **options) as response:
            body = await response.read()
            assert response.content_type == "application/json", (response.status, body[:500])
            envelope = json.loads(body)
            assert set(envelope) == {"status", "code", "description", "result"}, envelope
            assert envelope["status"] == response.status
            assert envelope["code"] == HTTPStatus(response.status).phrase
            assert envelope["description"]
            if response.status >= 300:
                assert envelope["result"]["errors"], envelope
                assert all(isinstance(error["message"], str) for error in envelope["result"]["errors"])
            return Answer(response.status, envelope, dict(response.headers))

    def kept_alive(self) -> _KeptAlive:
        return _KeptAlive(self)


class _KeptAlive:
    def __init__(self, api: Api) -> None:
        self._api = Api(api.url)

    async def __aenter__(self) -> Api:
        self._api._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE + 10))
        return self._api

    async def __aexit__(self, *_: object) -> None:
        assert self._api._session is not None
        await self._api._session.close()


class Channel:
    """A channel as its user sees it. `port`: where a telnet channel listens."""

    def __init__(self, api: Api, created: Mapping[str, Any], port: int = 0) -> None:
        self.api = api
        self.created = dict(created)
        self.id = str(created["id"])
        self.port = port
        self.path = f"/channels/{self.id}"

    async def get(self) -> dict[str, Any]:
        answer = await self.api.get(self.path)
        assert answer.status == 200, answer
        return dict(answer.result)

    async def status(self) -> dict[str, Any]:
        return dict((await self.get())["status"])

    async def component(self, name: str) -> dict[str, Any]:
        """The component's last status; empty before the first."""
        return dict((await self.status())["components"].get(name, {}))

    async def modify(self, **properties: Any) -> dict[str, Any]:
        answer = await self.api.post(self.path, properties)
        assert answer.status == 200, answer
        return dict(answer.result)

    async def delete(self) -> None:
        answer = await self.api.delete(self.path)
        assert answer.status == 200, answer

    async def send(self, to: str | None = None, content: str | None = "hello", **fields: Any) -> dict[str, Any]:
        """What the 201 says of the message."""
        body = {"content": content, **fields} | ({} if to is None else {"to": to})
        answer = await self.api.post(f"{self.path}/messages/", body)
        assert answer.status == 201, answer
        return dict(answer.result)

    async def message(self, message_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"{self.path}/messages/{message_id}")
        assert answer.status == 200, answer
        return dict(answer.result)

    async def event(self, message_id: str, event_type: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """The message's event of that type, once there is one."""

        async def found() -> dict[str, Any] | None:
            events = (await self.message(message_id))["events"]
            return next((event for event in events if event["event_type"] == event_type), None)

        return dict(await eventually(found, timeout, f"event {event_type}"))

    async def logs(self, **parameters: Any) -> list[dict[str, Any]]:
        """Once they stand still: lines are written a moment after they are said."""
        before = None
        while (answer := await self.api.get(f"{self.path}/logs", params=parameters)).result != before:
            assert answer.status == 200, answer
            before = answer.result
            await asyncio.sleep(LOG_DELAY)
        return list(before)

    async def running(self, other_than_pid: int = 0, timeout: float = START_DEADLINE) -> Self:
        """When the channel's worker runs; with `other_than_pid`: when another process than that one does."""

        async def is_up() -> bool:
            worker = await self.component("worker")
            return worker.get("type") == "running" and worker["details"]["pid"] != other_than_pid

        try:
            await eventually(is_up, timeout, f"channel {self.id} running")
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.status()}, {await self.logs(n=20)}") from None
        return self

    async def restart(self) -> Self:
        """When the process that a POST to /restart asks for runs: the answer may come after it already does."""
        pid = await self.pid()
        answer = await self.api.post(f"{self.path}/restart")
        assert answer.status == 200, answer
        return await self.running(other_than_pid=pid)

    async def pid(self) -> int:
        """The process that the status names."""
        return int((await self.component("worker"))["details"]["pid"])

    async def connect(self, timeout: float = DEADLINE) -> TelnetClient:
        return await TelnetClient.connect(self.port, timeout)


# --- the process ------------------------------------------------------------------------------------------------------


def command_path(command: str) -> str:
    """A command of ours, installed beside the interpreter."""
    return str(Path(sys.executable).parent / command)


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of Junebug's, but for QUEUE_TYPE."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUNEBUG_")}
    return kept | ({"JUNEBUG_AMQP_QUEUE_TYPE": "quorum"} if QUEUE_TYPE == "quorum" else {}) | more


def own_queue(name: str) -> str:
    """What a queue of ours on the way of a message is called, by its kind."""
    return f"{name}.q" if QUEUE_TYPE == "quorum" else name


def run_command(
    command: str, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """A command that is expected to end by itself: returncode, stdout, stderr."""
    with tempfile.TemporaryDirectory(prefix="jb-") as name:
        out, err = Path(name, "out"), Path(name, "err")
        process = forkserver().start(
            command, arguments, cwd=cwd, env=clean_environment(**(environment or {})), stdout=out, stderr=err
        )
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess([command, *arguments], code, _read(out), _read(err))


class JunebugProcess:
    """One of Junebug's commands, running in `directory`. `config`: the contents of a YAML file it is given."""

    def __init__(
        self,
        directory: Path,
        flags: Mapping[str, Any] | None = None,
        *,
        command: str = "jb",
        arguments: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.command = command
        self.flags: dict[str, Any] = {"port": free_port(), "interface": "127.0.0.1", "data-dir": "v"} | dict(flags or {})
        self.arguments = list(arguments)
        self.config = config
        self.environment = dict(environment or {})
        self.constants = constants
        self.process: Forked | None = None
        self.api = Api(f"http://127.0.0.1:{self.flags['port']}")

    @property
    def logs_directory(self) -> Path:
        return self.directory / str(self.flags.get("logging-path", "logs"))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command_line(self) -> list[str]:
        """Its arguments."""
        line = list(self.arguments)
        if self.config is not None:
            path = self.directory / "junebug.yaml"
            path.write_text(yaml.safe_dump(dict(self.config)))
            line += ["--config", str(path)]
        for name, value in self.flags.items():
            if value is True:
                line.append(f"--{name}")
            elif value is not None:
                line += [f"--{name}", str(value)]
        return line

    def start(self, *, wait: bool = True) -> Self:
        """`wait`: return only when the API listens, or when another command's first process runs."""
        self._skip = len(self.output())
        self.process = forkserver().start(
            self.command,
            self.command_line(),
            cwd=self.directory,
            env=clean_environment(**self.environment),
            stdout=self.directory / "stdout",
            stderr=self.directory / "stderr",
            constants=self.constants,
        )
        if wait:
            self.wait_listening()
        return self

    def wait_listening(self, timeout: float = START_DEADLINE) -> str:
        """The URL that the announcement names."""
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while True:
            found = LISTENING.search(self.output()[self._skip :])
            if found:
                return found[1]
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.command} does not listen (exit code {ended}):\n{self.output()[-3000:]}")
            time.sleep(POLL)

    @property
    def stdout(self) -> str:
        return _read(self.directory / "stdout")

    @property
    def stderr(self) -> str:
        return _read(self.directory / "stderr")

    def output(self) -> str:
        return self.stdout + self.stderr

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = STOP_DEADLINE) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def stop(self, timeout: float = STOP_DEADLINE) -> int:
        """SIGTERM; the exit code. Raises when it takes longer than promised."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def destroy(self) -> None:
        """Leave no process behind, whatever the test did."""
        if self.process is None:
            return
        left = set(self.children())
        self.kill()
        deadline = time.monotonic() + 5
        while (left := {pid for pid in left if processes.is_alive(pid)}) and time.monotonic() < deadline:
            time.sleep(POLL)
        for pid in left:
            os.kill(pid, signal.SIGKILL)

    # --- its children -------------------------------------------------------------------------------------------------

    def children(self) -> dict[int, str]:
        """pid -> title of every living process below this one."""
        return processes.children(self.pid)

    def channel_pids(self) -> dict[str, int]:
        """Channel id -> pid, by the processes' titles."""
        prefix = "junebug: channel:"
        return {title.removeprefix(prefix): pid for pid, title in self.children().items() if title.startswith(prefix)}

    def pid_titled(self, title: str) -> int:
        """The process with exactly this title; 0: there is none."""
        return next((pid for pid, found in self.children().items() if found == title), 0)


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


# --- an application on HTTP -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Received:
    """One request that the sink got. `at`: seconds of the monotonic clock."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    at: float
    octets: bytes = b""
    """The body as it came."""


@dataclass(frozen=True)
class Reply:
    """How the sink answers. `cut`: it closes the connection instead; `hang`: it never answers."""

    status: int = 200
    delay: float = 0.0
    hang: bool = False
    cut: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class WebhookSink:
    """An application's HTTP server: it keeps what it is sent, per path, and answers as told (200 by default)."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.received: list[Received] = []
        self.next_replies: dict[str, deque[Reply]] = {}
        self.always: dict[str, Reply] = {}
        self._for_content: dict[str, deque[Reply]] = {}
        self._release = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        self._release.clear()
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def close(self) -> None:
        self._release.set()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def url(self, path: str, userinfo: str = "") -> str:
        return f"http://{userinfo + '@' if userinfo else ''}127.0.0.1:{self.port}{path}"

    def reply(self, path: str, *replies: Reply | int) -> None:
        """What the next requests for `path` are answered; afterwards 200 again (or what `always` says)."""
        queue = self.next_replies.setdefault(path, deque())
        queue.extend(Reply(each) if isinstance(each, int) else each for each in replies)

    def reply_to_content(self, content: str, *replies: Reply | int) -> None:
        """What the next requests with this content are answered, whatever their path."""
        self._for_content[content] = deque(Reply(each) if isinstance(each, int) else each for each in replies)

    def requests(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [each.body for each in self.requests(path)]

    async def wait(self, path: str, count: int = 1, timeout: float = DEADLINE) -> list[Received]:
        """The requests for `path`, once there are at least `count`."""
        await eventually(lambda: len(self.requests(path)) >= count, timeout, f"request {count} for {path}")
        return self.requests(path)

    async def wait_for(
        self, path: str, wanted: Callable[[dict[str, Any]], bool], timeout: float = DEADLINE
    ) -> dict[str, Any]:
        """The first body for `path` that fits."""
        return dict(
            await eventually(
                lambda: next((body for body in self.bodies(path) if wanted(body)), None),
                timeout,
                f"the wanted request for {path}",
            )
        )

    async def wait_content(self, path: str, content: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """The first body for `path` with this content."""
        return await self.wait_for(path, lambda body: body["content"] == content, timeout)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.read()
        try:
            body = json.loads(text)
        except ValueError:
            body = {"not JSON": text.decode(errors="replace")}
        self.received.append(
            Received(
                request.method, request.path, request.rel_url.raw_query_string, request.headers, body, time.monotonic(), text
            )
        )
        waiting = self._for_content.get(str(body.get("content"))) or self.next_replies.get(request.path)
        reply = waiting.popleft() if waiting else self.always.get(request.path, Reply())
        if reply.hang:
            await self._release.wait()
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.cut or reply.hang:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.Response(status=reply.status, headers=dict(reply.headers), body=reply.body)


def basic_authorization(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# --- somebody at a telnet channel -------------------------------------------------------------------------------------


class TelnetClient:
    """A TCP line client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        host, port = writer.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"

    @classmethod
    async def connect(cls, port: int, timeout: float = DEADLINE) -> Self:
        """As soon as somebody listens there."""

        async def attempt() -> Self | None:
            try:
                return cls(*await asyncio.open_connection("127.0.0.1", port))
            except OSError:
                return None

        client: Self = await eventually(attempt, timeout, f"a listener on port {port}")
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def say(self, line: str) -> None:
        await self.write(line.encode() + b"\r\n")

    async def hear(self, timeout: float = DEADLINE) -> str:
        """The next line; empty when the other side has closed."""
        async with asyncio.timeout(timeout):
            return (await self._reader.readline()).decode().rstrip("\r\n")

    async def hear_lines(self, count: int, timeout: float = DEADLINE) -> list[str]:
        return [await self.hear(timeout) for _ in range(count)]

    async def ended(self, timeout: float = DEADLINE) -> bool:
        """True when the other side closes (what it still said is dropped)."""
        async with asyncio.timeout(timeout):
            try:
                await self._reader.read()
            except ConnectionError:
                pass
        return True

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and self._reader.exception() is None

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(2):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            pass


# --- an application on RabbitMQ ---------------------------------------------------------------------------------------


class AppQueues:
    """An application that talks to `amqp_queue` the way Vumi's do (COMPAT §3): durable queues, no arguments."""

    def __init__(self, port: int, name: str, vhost: str = "/") -> None:
        self.name = name
        self.port = port
        self.vhost = vhost
        self._link: Any = None
        self._channel: Any = None
        self._exchange: Any = None

    async def __aenter__(self) -> Self:
        self._link = await aio_pika.connect(host="127.0.0.1", port=self.port, virtualhost=self.vhost)
        self._channel = await self._link.channel(publisher_confirms=True)
        self._exchange = await self._channel.declare_exchange("vumi", "direct", durable=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.close()

    async def declare(self, *kinds: str) -> None:
        """`inbound`, `event` or `outbound` as an application declares them."""
        for kind in kinds:
            queue = await self._channel.declare_queue(f"{self.name}.{kind}", durable=True)
            await queue.bind(self._exchange, f"{self.name}.{kind}")

    async def next(self, kind: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """The next message of `{name}.{kind}`."""
        body, _ = await self.next_raw(f"{self.name}.{kind}", timeout)
        return dict(json.loads(body))

    async def next_raw(self, queue: str, timeout: float = DEADLINE) -> tuple[bytes, Any]:
        """Body and properties of the next message of any queue."""
        link = await self._channel.get_queue(queue, ensure=False)

        async def take() -> Any:
            return await link.get(no_ack=True, fail=False)

        message = await eventually(take, timeout, f"a message in {queue}")
        return message.body, message

    async def send(self, body: Mapping[str, Any] | bytes, queue: str | None = None) -> None:
        """To `{name}.outbound` (or another queue); it is there when this returns."""
        data = body if isinstance(body, bytes) else json.dumps(dict(body)).encode()
        message = aio_pika.Message(data, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await self._channel.default_exchange.publish(message, queue or f"{self.name}.outbound", mandatory=True)

    async def send_to_exchange(self, body: Mapping[str, Any], kind: str) -> None:
        """By way of the exchange, as Vumi's own workers do."""
        await self._exchange.publish(aio_pika.Message(json.dumps(dict(body)).encode()), f"{self.name}.{kind}")

    async def count(self, queue: str) -> int | None:
        """Messages that wait in the queue; None when there is no such queue."""
        channel = await self._link.channel(publisher_confirms=False)
        try:
            declared = await channel.declare_queue(queue, passive=True)
            return int(declared.declaration_result.message_count or 0)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return None
        finally:
            if not channel.is_closed:
                await channel.close()


def vumi_message(**fields: Any) -> dict[str, Any]:
    """An outbound user_message as a Vumi application writes it."""
    return {
        "message_type": "user_message",
        "message_version": "20110921",
        "message_id": uuid.uuid4().hex,
        "timestamp": "2016-03-18 11:49:36.830534",
        "to_addr": None,
        "from_addr": None,
        "group": None,
        "in_reply_to": None,
        "provider": None,
        "session_event": None,
        "content": "hello",
        "transport_name": None,
        "transport_type": "telnet",
        "transport_metadata": {},
        "helper_metadata": {},
        "routing_metadata": {},
        "to_addr_type": None,
        "from_addr_type": None,
        **fields,
    }
