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
from junebug.errors import BrokerUnavailable, JunebugError, MalformedMessage, NotRunning, Unroutable
from junebug.model.messages import new_id
from junebug.model.reading import load_object, reader
from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger("control")

PREFETCH = 20
START_TIMEOUT = 5.0
REPLY_LIFETIME = 60.0
"""Seconds after which an answer that nobody fetched is dropped."""

LOOK_INTERVAL = 0.5
"""Seconds after which it is asked whether there is still somebody at a question that is not one to be waited over."""
LOOK_TIMEOUT = 1.0
PRESENCE = "presence"
"""The question who is there, and whether it is at another question."""

Arguments = Mapping[str, Any]
Answer = dict[str, Any]
Answers = Mapping[str, Callable[[Arguments], Awaitable[Answer]]]


def _nothing() -> None: ...


class RpcServer:
    """A worker's side."""

    def __init__(self, broker: Broker, channel: str, generation: int, answers: Answers | None = None) -> None:
        """`generation`: the one of the channel that this worker was started for. `answers`: those that it has at once."""
        self._broker = broker
        self._generation = generation
        self._answers: Answers = answers or {}
        self._on_listening: Callable[[], None] = _nothing
        self._tasks = TaskOwner()
        self._answering: set[str] = set()
        self._queue = names.control_queue(channel)
        self._consumer: Consumer | None = None

    async def start(self, patience: float | None = START_TIMEOUT) -> None:
        """It tells that it is there, and that no other is, when this returns (or `patience` is over); questions get NotRunning
        until `begin`, but those that it has answers for.
        """
        self._consumer = self._broker.consume(
            self._queue, self._on_question, prefetch=PREFETCH, temporary=True, on_begun=lambda: self._on_listening()
        )
        with suppress(TimeoutError):  # RabbitMQ holds a lost worker's queue for a while; this one is not to wait for it
            async with asyncio.timeout(patience):
                await self._consumer.consuming.wait()

    def begin(self, answers: Answers, on_listening: Callable[[], None] = _nothing) -> None:
        """`answers`: question -> who answers it. What it raises is told to whoever asked. `on_listening` is called now,
        and whenever questions arrive again: those that were asked before have found nobody.
        """
        self._answers, self._on_listening = {**self._answers, **answers}, on_listening
        on_listening()

    async def end(self) -> None:
        """What is being answered is given up, and questions get NotRunning."""
        self._answers = {}
        await self._tasks.end()
        self._answering.clear()

    async def stop(self) -> None:
        """From now on nobody is there: all that this worker held of its provider's or of this machine's is let go."""
        await self.end()
        if self._consumer:
            await self._consumer.cancel()
        with suppress(BrokerUnavailable):  # then it is gone with the connection
            await self._broker.delete_queues([self._queue])

    def _on_question(self, delivery: Delivery) -> None:
        delivery.ack()  # an answer after a crash would come too late
        self._tasks.own("answer", self._answer(delivery.body))

    async def _answer(self, body: bytes) -> None:
        try:
            question = _read_question(body)
        except MalformedMessage as error:
            log.error("unreadable question", reason=str(error))
            return
        reply_to, number, name = question["reply_to"], question["id"], question["question"]
        if name == PRESENCE:
            told = {"generation": self._generation, "is_answering": question.get("about") in self._answering}
            return await self._reply(reply_to, {"id": number, "answer": told})
        reply: dict[str, Any] = {"id": number}
        self._answering.add(number)
        try:
            if name not in self._answers:
                raise NotRunning("The channel's process is starting, or about to end")
            reply["answer"] = await self._answers[name](question["arguments"])
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

    async def ask(
        self, channel: str, question: str, timeout: float, *, look_interval: float = LOOK_INTERVAL, **arguments: Any
    ) -> Answer:
        """The worker's answer; of the next one's when it died over it, which is looked for every `look_interval`.

        Raises NotRunning when the channel has no worker that listens, BrokerUnavailable, and what the worker raised.
        """
        number, about = new_id(), {"question": question, "arguments": arguments}
        try:
            async with asyncio.timeout(timeout):
                answer = await self._put(channel, number, about, timeout)
                while not answer.done():
                    await asyncio.wait([answer], timeout=look_interval)
                    if not answer.done() and not await self._is_answering(channel, number) and not answer.done():
                        answer = await self._put(channel, number, about, timeout)
                return answer.result()
        except TimeoutError:
            raise BrokerUnavailable(f"The process of channel {channel!r} did not answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)

    async def generation(self, channel: str, timeout: float) -> int:
        """That which the channel's worker was started for. Raises NotRunning when there is none, BrokerUnavailable, and
        TimeoutError: it hangs, or died over the question.
        """
        return int((await self._presence(channel, "", timeout))["generation"])

    async def _is_answering(self, channel: str, number: str) -> bool:
        """Whether the worker that was asked is still at it; so is one that says nothing. Raises NotRunning."""
        try:
            return bool((await self._presence(channel, number, LOOK_TIMEOUT))["is_answering"])
        except (BrokerUnavailable, TimeoutError):
            return True

    async def _presence(self, channel: str, about: str, timeout: float) -> Answer:
        number = new_id()
        try:
            async with asyncio.timeout(timeout):
                return await (await self._put(channel, number, {"question": PRESENCE, "about": about}, timeout))
        finally:
            self._waiting.pop(number, None)

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
            waiting.exception()  # whoever asked may be gone
        else:
            waiting.set_result(answer)


@reader
def _read_question(body: bytes) -> dict[str, Any]:
    """With a reply_to, an id, a question and its arguments."""
    question = load_object(body)
    reply_to, arguments = question["reply_to"], question.setdefault("arguments", {})
    texts = (reply_to, question["id"], question["question"])
    if not all(isinstance(text, str) for text in texts) or len(reply_to.encode()) > names.LONGEST_AMQP_NAME:
        raise MalformedMessage("reply_to, id, question: expected strings, reply_to the name of a queue")
    if not isinstance(arguments, dict):
        raise MalformedMessage("arguments: expected an object")
    return question


@reader
def _read_answer(body: bytes) -> tuple[str, Answer | JunebugError]:
    """(id of the question, the answer or what went wrong)."""
    reply = load_object(body)
    if told := reply.get("error"):
        return str(reply["id"]), errors.named(str(told.get("type")), str(told["message"]))
    return str(reply["id"]), dict(reply["answer"])
