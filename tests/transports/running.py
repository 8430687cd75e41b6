"""A channel's transport in this process, without the rest of its worker; what it tells is kept for the test to see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from junebug.config_schema import load_object
from junebug.errors import NotSent
from junebug.model.messages import Event, Status, UserMessage
from junebug.registry import ChannelType
from junebug.runtime.tasks import TaskOwner
from junebug.stores.transport import TransportStore
from junebug.transports.base import Accepted, Transport, TransportContext
from tests.polling import DEADLINE, eventually

STOP_DEADLINE = 10.0


class Running:
    """`async with` it: the transport runs inside. A bug of its side tasks fails the test."""

    def __init__(self, channel_type: ChannelType, config: dict[str, Any], store: TransportStore) -> None:
        self.inbound: list[UserMessage] = []
        self.events: list[Event] = []
        self.statuses: list[Status] = []
        self.broker_is_there = asyncio.Event()
        """Clear: RabbitMQ is away, and whatever is told waits for it."""
        self.broker_is_there.set()
        self.keeps = True
        """False: what is told now is forgotten: what RabbitMQ would hold is not the channel's memory."""
        self._tasks = TaskOwner()
        publish = (self._keep(self.inbound), self._keep(self.events), self._keep_status)
        context = TransportContext("channel", channel_type.name, config, *publish, store, self._permit)
        context.own = self._tasks.own
        self.transport: Transport = load_object(channel_type.transport, "transport")(context)
        self._failed: asyncio.Task[None] | None = None

    def _keep(self, kept: list[Any]) -> Any:
        async def keep(told: Any) -> None:
            await self.broker_is_there.wait()
            if self.keeps:
                kept.append(told)

        return keep

    async def _keep_status(self, status: Status) -> None:
        self.statuses.append(status)

    async def _permit(self, priority: int) -> None: ...

    async def __aenter__(self) -> Self:
        self._failed = asyncio.create_task(self._tasks.failure())
        try:
            await self.transport.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        await self._end()
        assert self._failed
        if self._failed.done():
            self._failed.result()  # raises
        self._failed.cancel()
        with suppress(asyncio.CancelledError):
            await self._failed

    async def _end(self) -> None:
        self.transport.stop_sending()
        async with asyncio.timeout(STOP_DEADLINE):
            await self.transport.stop()
            await self._tasks.end()

    # --- what it is asked ---------------------------------------------------------------------------------------------

    async def send(self, to: str | None, content: str | None, **fields: Any) -> Accepted | str | None:
        """What `send` says, once it could: what it keeps for later is tried again."""
        message = message_to(to, content, **fields)
        async with asyncio.timeout(DEADLINE):
            while True:
                await self.transport.ready()
                try:
                    return await self.transport.send(message)
                except NotSent as error:
                    await asyncio.sleep(min(error.retry_after, 0.1))

    # --- what it told -------------------------------------------------------------------------------------------------

    async def status(self, component: str, *types: str, after: int = 0) -> Status:
        """The first status of such a type behind the first `after` ones."""

        def told() -> Status | None:
            found = (each for each in self.statuses[after:] if each.component == component and each.type in types)
            return next(found, None)

        with telling(lambda: [(each.type, each.message) for each in self.statuses]):
            found: Status = await eventually(told, what=f"status {types}")
        return found

    async def heard(self, content: str | None) -> UserMessage:
        """The MO with this content."""

        def come() -> UserMessage | None:
            return next((each for each in self.inbound if each.content == content), None)

        with telling(lambda: [each.content for each in self.inbound]):
            found: UserMessage = await eventually(come, what=repr(content))
        return found

    async def report(self, message_id: str, status: str) -> Event:
        def come() -> Event | None:
            found = (each for each in self.events if each.user_message_id == message_id and each.delivery_status == status)
            return next(found, None)

        with telling(lambda: self.events):
            found: Event = await eventually(come, what=status)
        return found


@contextmanager
def telling(what_there_is: Callable[[], object]) -> Iterator[None]:
    """What fails says what has come instead."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}; there is {what_there_is()}") from None


def message_to(to: str | None, content: str | None, **fields: Any) -> UserMessage:
    return UserMessage(to_addr=to, content=content, **{"from_addr": None, "transport_name": "channel", **fields})
