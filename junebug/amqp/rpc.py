"""Questions that an API process asks a channel's worker, and their answers: a request and a reply over RabbitMQ.

Neighbours: worker/commands.py answers (`RpcServer`), api/handlers/queue.py asks (`RpcClient`). A worker's control queue
exists only while it is connected: a question that no queue takes tells that nobody is there, so nobody waits for the dead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable, JunebugError, MalformedMessage, NotRunning, Unroutable
from junebug.model.messages import load_object, new_id, reader
from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger("control")

PREFETCH = 20
REPLY_LIFETIME = 60.0
"""Seconds after which an answer that nobody fetched is dropped."""

Arguments = Mapping[str, Any]
Answer = dict[str, Any]


class RpcServer:
    """A worker's side."""

    def __init__(
        self,
        broker: Broker,
        channel: str,
        answers: Mapping[str, Callable[[Arguments], Awaitable[Answer]]],
        on_listening: Callable[[], None] | None = None,
    ) -> None:
        """`answers`: question -> who answers it. What it raises is told to whoever asked. `on_listening` is called when
        questions arrive (again): those that were asked before have found nobody.
        """
        self._broker = broker
        self._channel = channel
        self._answers = answers
        self._on_listening = on_listening
        self._tasks = TaskOwner()
        self._consumer: Consumer | None = None

    def start(self) -> None:
        queue = names.control_queue(self._channel)
        self._consumer = self._broker.consume(
            queue, self._on_question, prefetch=PREFETCH, temporary=True, on_begun=self._on_listening
        )

    async def stop(self) -> None:
        """What is being answered is given up: whoever asked sees that nobody is there."""
        if self._consumer:
            await self._consumer.cancel()
        await self._tasks.end()

    def _on_question(self, delivery: Delivery) -> None:
        delivery.ack()  # an answer after a crash would come too late
        self._tasks.own("answer", self._answer(delivery.body))

    async def _answer(self, body: bytes) -> None:
        try:
            reply_to, number, name, arguments = _read_question(body)
        except MalformedMessage as error:
            log.error("unreadable question", reason=str(error))
            return
        reply: dict[str, Any] = {"id": number}
        try:
            reply["answer"] = await self._answers[name](arguments)
        except JunebugError as error:
            reply["error"] = {"status": error.status, "description": error.description, "message": str(error)}
        except Exception:
            log.exception("no answer to a question", question=name)
            reply["error"] = {"status": 500, "description": "generic error", "message": "See the channel's log"}
        with suppress(BrokerUnavailable, Unroutable):  # whoever asked is gone
            await self._broker.publish(reply_to, orjson.dumps(reply), expiration=REPLY_LIFETIME)


class RpcClient:
    """An API process's side."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._queue = names.reply_queue(f"{os.getpid()}.{new_id()[:12]}")
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._consumer: Consumer | None = None

    def start(self) -> None:
        self._consumer = self._broker.consume(self._queue, self._on_answer, prefetch=100, temporary=True)

    async def stop(self) -> None:
        if self._consumer:
            await self._consumer.cancel()

    async def ask(self, channel: str, question: str, timeout: float, **arguments: Any) -> Answer:
        """The worker's answer.

        Raises NotRunning when the channel has no worker that listens, BrokerUnavailable, and a JunebugError that says
        what the worker's error said.
        """
        number = new_id()
        body = orjson.dumps({"id": number, "reply_to": self._queue, "question": question, "arguments": arguments})
        answer = self._waiting[number] = asyncio.Future()
        try:
            async with asyncio.timeout(timeout):
                try:
                    if self._consumer:
                        await self._consumer.consuming.wait()  # else the answer would find no queue
                    await self._broker.publish(names.control_queue(channel), body, expiration=timeout, timeout=timeout)
                except Unroutable:
                    raise NotRunning(f"Channel {channel!r} has no process that runs") from None
                return await answer
        except TimeoutError:
            raise BrokerUnavailable(f"The process of channel {channel!r} did not answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)

    def _on_answer(self, delivery: Delivery) -> None:
        delivery.ack()
        try:
            number, answer = _read_answer(delivery.body)
        except MalformedMessage as error:
            log.error("unreadable answer", reason=str(error))
            return
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return
        if isinstance(answer, JunebugError):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)


@reader
def _read_question(body: bytes) -> tuple[str, str, str, Arguments]:
    """(reply_to, id, question, arguments)."""
    question = load_object(body)
    reply_to, number, name, arguments = (question[key] for key in ("reply_to", "id", "question", "arguments"))
    if not (isinstance(reply_to, str) and len(reply_to.encode()) < 256 and isinstance(name, str) and isinstance(arguments, dict)):
        raise MalformedMessage("expected reply_to, id, question and arguments")
    return reply_to, str(number), name, arguments


@reader
def _read_answer(body: bytes) -> tuple[str, Answer | JunebugError]:
    reply = load_object(body)
    if not (told := reply.get("error")):
        return str(reply["id"]), dict(reply["answer"])
    error = JunebugError(str(told["message"]))
    error.status, error.description = int(told["status"]), str(told["description"])
    return str(reply["id"]), error
