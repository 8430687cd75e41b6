"""`make demo`: a message's way to a phone and back, with a Junebug and a simulated SMSC that end with this script.

    python docs/demo.py

Everything is real but the SMSC: `jb --embedded` and `junebug-smsc` as processes, on free ports, their data in a temporary
directory. Exit code 0 when all that should come has come.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import textwrap
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web

BIN = Path(sys.executable).parent
START_TIMEOUT = 120.0
"""Seconds: an embedded RabbitMQ takes its time on a small machine."""
TIMEOUT = 30.0
POLL = 0.1
KEPT_LINES = 30

HOW_TO_GO_ON = """\
That was it. To go on by hand, in three terminals:

  .venv/bin/jb --embedded                                   (or: make run)
  .venv/bin/junebug-smsc --port 2775 --http-port 8002
  curl -X POST -d '{"type": "smpp", "mo_url": "http://localhost:8001/mo", "config": {"host": "localhost", "port": 2775,
    "system_id": "demo", "password": "secret"}}' http://localhost:8080/channels/

README.md has the rest of it ("SMPP without an SMSC"), docs/smpp.md all that a channel of SMPP can do."""


class DemoError(Exception):
    """What should have come has not."""


class Sink:
    """An application's URLs: what Junebug POSTs to /mo and /event is printed, and can be waited for."""

    def __init__(self) -> None:
        self._received: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.url = ""

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        say(f"Junebug POSTs to {request.path}:", body)
        self._received.put_nowait((request.path, body))
        return web.Response()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        app = web.Application()
        app.add_routes([web.post("/mo", self._take), web.post("/event", self._take)])
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()

    async def wait_for(self, path: str, key: str, value: str) -> None:
        """Until a body came to that path in which `key` is `value`."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    came_to, body = await self._received.get()
                    if came_to == path and body[key] == value:
                        return
        except TimeoutError:
            raise DemoError(f"No {value!r} came to {path} within {TIMEOUT:g} seconds") from None


class Program:
    """A command that runs; its newest lines are kept, for when it fails."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    async def wait_for(self, said: str, timeout: float) -> str:
        """What follows `said` in a line that it prints."""
        assert self._process.stdout
        try:
            async with asyncio.timeout(timeout):
                async for line in self._process.stdout:
                    self._lines.append(line.decode(errors="replace").rstrip())
                    _, found, rest = self._lines[-1].partition(said)
                    if found:
                        return rest.strip()
        except TimeoutError:
            pass
        raise DemoError(f"{self._name} does not say {said!r}. It said:\n" + "\n".join(self._lines))

    async def read_on(self, tell: Callable[[str], None] | None = None) -> None:
        """Until it ends: a pipe that nobody reads would stop it."""
        assert self._process.stdout
        async for line in self._process.stdout:
            self._lines.append(line.decode(errors="replace").rstrip())
            if tell:
                tell(self._lines[-1])


@asynccontextmanager
async def program(name: str, *arguments: str, directory: str) -> AsyncIterator[Program]:
    """A command of Junebug's, told to stop at the end, and waited for."""
    command = str(BIN / name)
    process = await asyncio.create_subprocess_exec(
        command, *arguments, cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT,
        start_new_session=True,  # the terminal's Ctrl-C is for us: we stop it in good order
    )  # fmt: skip
    try:
        running = Program(name, process)
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        reading = asyncio.create_task(running.read_on())
        try:
            await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
        reading.cancel()


async def run() -> None:
    """The demonstration. Raises DemoError."""
    sink = Sink()
    with tempfile.TemporaryDirectory(prefix="jb-demo-", ignore_cleanup_errors=True) as directory:
        print(f"Starting Junebug with a Redis and a RabbitMQ of its own, data in {directory} ...", flush=True)
        async with (
            sink.listening(),
            program("jb", "--embedded", "--port", "0", directory=directory) as junebug,
            program("junebug-smsc", "--port", "0", "--http-port", "0", directory=directory) as smsc,
            ClientSession() as http,
        ):
            smpp_port = (await smsc.wait_for("junebug-smsc is listening on ", TIMEOUT)).rpartition(":")[2]
            control = await smsc.wait_for("HTTP control on ", TIMEOUT)
            api = await junebug.wait_for("Junebug is listening on ", START_TIMEOUT)
            say(
                f"Junebug is listening on {api}, the simulated SMSC on port {smpp_port}, its HTTP control on {control}."
            )
            reading = [asyncio.create_task(junebug.read_on()), asyncio.create_task(smsc.read_on(print_smsc))]
            try:
                await show(http, api, control, int(smpp_port), sink)
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.wait(reading)
            say("Stopping everything ...")
    say(HOW_TO_GO_ON)


async def show(http: ClientSession, api: str, control: str, smpp_port: int, sink: Sink) -> None:
    """A channel; a message out, with its events; a message in."""
    config = {"host": "127.0.0.1", "port": smpp_port, "system_id": "demo", "password": "secret"}
    channel = await post(http, f"{api}/channels/", {"type": "smpp", "mo_url": f"{sink.url}/mo", "config": config})
    url = f"{api}/channels/{channel['result']['id']}"
    await bound(http, url)
    message = {"to": "+27820001111", "from": "12345", "content": "Hello from Junebug", "event_url": f"{sink.url}/event"}
    sent = await post(http, f"{url}/messages/", message)
    await sink.wait_for("/event", "event_type", "submitted")
    await sink.wait_for("/event", "event_type", "delivery_succeeded")
    await post(http, f"{control}/mo", {"from": "+27820001111", "to": "12345", "content": "Hello from a phone"})
    await sink.wait_for("/mo", "content", "Hello from a phone")
    await show_logs(http, f"{url}/logs?message_id={sent['result']['message_id']}")


async def show_logs(http: ClientSession, url: str) -> None:
    """The message's PDUs, once the log has been written as far as the answer to its receipt."""
    told: list[str] = []
    for _ in range(int(TIMEOUT / POLL)):
        async with http.get(url) as answer:
            entries = (await answer.json())["result"]
        told = [f"{entry['direction']:3} {entry['pdu']}" for entry in reversed(entries) if "pdu" in entry]
        if "out deliver_sm_resp" in told:
            return say(f"GET {url}\ntells of the message's life, PDU by PDU:\n  " + "\n  ".join(told))
        await asyncio.sleep(POLL)
    raise DemoError(f"The log does not tell of a receipt, but only of {told}")


async def post(http: ClientSession, url: str, body: dict[str, Any]) -> Any:
    """What the answer holds. Raises DemoError when it is no 201."""
    say(f"POST {url}", body)
    async with http.post(url, json=body) as answer:
        if answer.status != 201:
            raise DemoError(f"{answer.status}: {await answer.text()}")
        return await answer.json()


async def bound(http: ClientSession, channel_url: str) -> None:
    """Return when the SMSC has let the channel in."""
    component: dict[str, Any] = {}
    for _ in range(int(TIMEOUT / POLL)):
        async with http.get(channel_url) as answer:
            component = (await answer.json())["result"]["status"]["components"].get("smpp", {})
        if component.get("type") == "bound":
            return say(f"The channel's status says: {component['message']}")
        await asyncio.sleep(POLL)
    raise DemoError(f"The channel did not bind within {TIMEOUT:g} seconds: {component}")


def say(text: str, body: dict[str, Any] | None = None) -> None:
    print(f"\n{text}", flush=True)
    if body is not None:
        print(textwrap.indent(json.dumps(body, indent=2), "  "), flush=True)


def print_smsc(line: str) -> None:
    print(f"\n[junebug-smsc] {line}", flush=True)


async def main() -> int:
    demonstration = asyncio.ensure_future(run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, demonstration.cancel)
    try:
        await demonstration
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
