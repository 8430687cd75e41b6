"""What this host answers about its logs to the API processes of others (docs/scale-out.md). Neighbours: reconciler.py, in whose
process it lives; logs/questions.py looks; followers.py tells those who follow; amqp/rpc.py carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.rpc import Answer, Arguments, RpcServer
from junebug.config.declaration import Settings
from junebug.errors import MalformedMessage
from junebug.logs.followed import FOLLOW
from junebug.logs.questions import LogAnswers, Question
from junebug.supervisor.followers import Followers

AT_ONCE = 2
"""Questions; others wait. Each has a thread that reads, beside the reconciler's loop."""


class HostLogs:
    def __init__(self, broker: Broker, host: str, settings: Settings) -> None:
        self._server = RpcServer(broker, names.questions_of_host(host), 0)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._answers = LogAnswers(settings.logging_path).answers()
        self._followers = Followers(settings.channel_log_path)

    async def serve(self) -> None:
        """Until cancelled."""
        await self._server.start(patience=None)
        threads = {name: self._in_thread(answer) for name, answer in self._answers.items()}
        self._server.begin({**threads, FOLLOW: self._follow})
        try:
            await asyncio.Event().wait()
        finally:
            await self._server.end()
            self._followers.end()

    def _in_thread(self, answer: Callable[[Question], Answer]) -> Callable[[Arguments], Awaitable[Answer]]:
        async def ask(arguments: Arguments) -> Answer:
            async with self._places:
                with _readable():
                    return await asyncio.to_thread(answer, arguments)

        return ask

    async def _follow(self, arguments: Arguments) -> Answer:
        with _readable():
            return await self._followers.answer(arguments)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage(f"a question about logs that cannot be read: {type(error).__name__}") from None
