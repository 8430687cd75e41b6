"""Channel types of a user's own, as `--channels type:python.Class` loads them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any, ClassVar

from aiohttp import web

from junebug.errors import Rejected, TransportStartError
from junebug.model.messages import UserMessage
from junebug.transports.base import Transport


class SecretiveTransport(Transport):
    """Has a password and babbles: it puts it wherever a careless author may. `content` says where."""

    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "username": {"type": "string"},
            "password": {"type": "string", "minLength": 8},
            "account": {"type": "object", "properties": {"key": {"type": "string"}}},
            "refuse": {"type": "boolean"},
        },
        "required": ["username", "password"],
    }
    secrets = ("password", "account.key")

    async def start(self) -> None:
        self.context.log.info(f"logging in with {self.config['password']}", config=self.config)
        print("printed", self.config["password"].upper(), flush=True)  # what is printed is kept apart, but kept
        if self.config.get("refuse"):
            raise TransportStartError(f"the provider refuses {self.config['password']!r}")

    async def send(self, message: UserMessage) -> str | None:
        secret = self.config["password"]
        match message.content:
            case "raise":
                raise RuntimeError(f"login with {secret} failed", {"account": self.config.get("account")})
            case "reject":
                raise Rejected("no such subscriber")
            case "log":
                url = f"http://user:{secret}@provider/"
                self.context.log.error(f"refused {secret}", url=url, nested=[{"k": secret}])
                self.context.log.error("refused %s", secret)
                return None
        return f"id of {message.message_id}"


class BrokenTransport(Transport):
    """Fails in each way a transport can; `content` of the message, or `start` of the config, says which."""

    async def start(self) -> None:
        if self.config.get("start") == "raise":
            raise RuntimeError("cannot start, unforeseen")
        if self.config.get("start") == "hang":
            await asyncio.sleep(3600)
        if self.config.get("start") == "exit":
            sys.exit(3)

    async def send(self, message: UserMessage) -> str | None:
        if message.content == "raise":
            raise ValueError("Bad value")
        if message.content == "log":
            self.context.log.warning("%s of %d", "one", 2)
        return None


class ReportingTransport(Transport):
    """Reports on each message what its `content` says: `pending failed` is two delivery reports, after the ack."""

    async def send(self, message: UserMessage) -> str | None:
        self._later = asyncio.create_task(self._report(message.message_id, (message.content or "").split()))
        return f"provider-{message.message_id}"

    async def _report(self, message_id: str, statuses: list[str]) -> None:
        for status in statuses:
            await self.context.delivery_report(message_id, status, {"error_code": 17})


class DeadlyTransport(Transport):
    """A fault that nobody has found yet: `content` says whether it kills the process, ends it, or hangs its event loop."""

    async def send(self, message: UserMessage) -> str | None:
        match message.content:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(70)
            case "hang":
                time.sleep(3600)
        return message.message_id


class WebTransport(Transport):
    """HTTP at `web_path` on `web_port`: a request with `content` is a message whose reply is the answer, any other says `name`.

    Its config is what the nginx plugin reads of dmark and the like.
    """

    config_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "web_path": {"type": "string"},
            "web_port": {"type": "integer"},
            "name": {"type": "string"},
        },
        "required": ["web_path", "web_port"],
        "additionalProperties": False,
    }

    async def start(self) -> None:
        self._answers: dict[str | None, asyncio.Future[str]] = {}
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.config["web_port"], reuse_address=True).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        content = request.query.get("content")
        if request.path.lstrip("/") != self.config["web_path"].lstrip("/"):
            return web.Response(status=410)
        if content is None:
            return web.Response(text=self.config.get("name", ""))
        answer = asyncio.get_running_loop().create_future()
        message = await self.context.inbound(to_addr="*120#", from_addr="+2771", content=content)
        self._answers[message.message_id] = answer
        async with asyncio.timeout(30):
            return web.Response(text=await answer)

    async def send(self, message: UserMessage) -> str | None:
        self._answers.pop(message.in_reply_to).set_result(message.content or "")
        return None
