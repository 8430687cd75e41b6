"""Questions that an API process asks a channel's worker, and their answers: a request and a reply over RabbitMQ.

Neighbours: worker/commands.py answers (`RpcServer`), api/handlers/queue.py asks (`RpcClient`). A worker's control queue
exists only while it is connected: a question that no queue takes tells that nobody is there. While an answer takes its time, it
is asked whether there is still somebody at it; a question that died with its worker is asked of the next one. So every question
must bear to be asked twice.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
import structlog

from junebug import errors, names
from junebug.amqp.broker import Broker
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable, JunebugError, NotRunning, Unroutable
from junebug.model.messages import new_id
from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger("control")

PREFETCH = 20
REPLY_LIFETIME = 60.0
"""Seconds after which an answer that nobody fetched is dropped."""

LOOK_INTERVAL = 0.5
"""Seconds after which it is asked whether there is still somebody at a question."""
LOOK_TIMEOUT = 2.0
STILL = "still"
"""The question for that."""

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
        self._answering: set[str] = set()
        self._queue = names.control_queue(channel)
        self._consumer: Consumer | None = None

    def start(self) -> None:
        self._consumer = self._broker.consume(
            self._queue, self._on_question, prefetch=PREFETCH, temporary=True, on_begun=self._on_listening
        )

    async def stop(self) -> None:
        """What is being answered is given up: whoever asked sees that nobody is there."""
        if self._consumer:
            await self._consumer.cancel()
        await self._tasks.end()
        with suppress(BrokerUnavailable):  # then it is gone with the connection
            await self._broker.delete_queues([self._queue])

    def _on_question(self, delivery: Delivery) -> None:
        delivery.ack()  # an answer after a crash would come too late
        self._tasks.own("answer", self._answer(delivery.body))

    async def _answer(self, body: bytes) -> None:
        try:
            question = orjson.loads(body)
            reply_to, number, name = question["reply_to"], question["id"], question["question"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            log.error("unreadable question")
            return
        if name == STILL:
            return await self._reply(reply_to, {"id": number, "answer": {"is_answering": question["about"] in self._answering}})
        reply: dict[str, Any] = {"id": number}
        self._answering.add(number)
        try:
            reply["answer"] = await self._answers[name](question.get("arguments") or {})
        except JunebugError as error:
            reply["error"] = {"type": type(error).__name__, "message": str(error)}
        except Exception:
            log.exception("no answer to a question", question=name)
            reply["error"] = {"type": JunebugError.__name__, "message": "See the channel's log"}
        await self._reply(reply_to, reply)
        self._answering.discard(number)

    async def _reply(self, reply_to: str, reply: dict[str, Any]) -> None:
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
        """The worker's answer; of the next one's when it died over it.

        Raises NotRunning when the channel has no worker that listens, BrokerUnavailable, and what the worker raised.
        """
        number, about = new_id(), {"question": question, "arguments": arguments}
        try:
            async with asyncio.timeout(timeout):
                answer = await self._put(channel, number, about, timeout)
                while not answer.done():
                    await asyncio.wait([answer], timeout=LOOK_INTERVAL)
                    if not answer.done() and not await self._is_answering(channel, number) and not answer.done():
                        answer = await self._put(channel, number, about, timeout)
                return answer.result()
        except TimeoutError:
            raise BrokerUnavailable(f"The process of channel {channel!r} did not answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)

    async def _is_answering(self, channel: str, number: str) -> bool:
        """Whether the worker that was asked is still at it; so is one that says nothing. Raises NotRunning."""
        own = new_id()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT):
                told = await (await self._put(channel, own, {"question": STILL, "about": number}, LOOK_TIMEOUT))
            return bool(told["is_answering"])
        except (TimeoutError, BrokerUnavailable):
            return True
        finally:
            self._waiting.pop(own, None)

    async def _put(self, channel: str, number: str, about: Mapping[str, Any], timeout: float) -> asyncio.Future[Answer]:
        """Ask; what will be the answer. Raises NotRunning, BrokerUnavailable."""
        answer = self._waiting[number] = asyncio.Future()
        if self._consumer:
            await self._consumer.consuming.wait()  # else the answer would find no queue
        body = orjson.dumps({"id": number, "reply_to": self._queue, **about})
        try:
            await self._broker.publish(names.control_queue(channel), body, expiration=timeout, timeout=timeout)
        except Unroutable:
            raise NotRunning(f"Channel {channel!r} has no process that runs") from None
        return answer

    def _on_answer(self, delivery: Delivery) -> None:
        delivery.ack()
        reply = orjson.loads(delivery.body)
        waiting = self._waiting.get(reply["id"])
        if waiting is None or waiting.done():
            return
        if told := reply.get("error"):
            waiting.set_exception(errors.named(str(told.get("type")), str(told["message"])))
            waiting.exception()  # whoever asked may be gone
        else:
            waiting.set_result(reply["answer"])
