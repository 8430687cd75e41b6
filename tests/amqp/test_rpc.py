"""A question to a channel's worker, and its answer, over a real RabbitMQ."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from junebug import errors
from junebug.amqp import rpc
from junebug.amqp.broker import Broker
from junebug.amqp.rpc import Answer, Arguments, RpcClient, RpcServer
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, ChannelNotFound, JunebugError, NotRunning, QueueBusy


@pytest.fixture
async def asking(broker: Broker) -> AsyncIterator[RpcClient]:
    made = RpcClient(broker)
    made.start()
    yield made
    await made.stop()


async def double(asked: Arguments) -> Answer:
    return {"twice": asked["n"] * 2}


async def refuse(_: Arguments) -> Answer:
    raise QueueBusy("come again")


async def fail(_: Arguments) -> Answer:
    raise ValueError("a bug, with a secret")


@pytest.fixture
async def channel(broker: Broker) -> AsyncIterator[str]:
    made = str(uuid.uuid4())
    stuck = asyncio.Event()

    async def never(_: Arguments) -> Answer:
        await stuck.wait()
        return {}

    answering = RpcServer(broker, made, generation=7)
    answering.begin({"double": double, "refuse": refuse, "fail": fail, "never": never})
    await asyncio.wait_for(answering.start(), 10)
    yield made
    await answering.stop()


async def test_questions_are_answered_each_with_its_own(asking: RpcClient, channel: str) -> None:
    answers = await asyncio.gather(*(asking.ask(channel, "double", 10, n=n) for n in range(50)))
    assert answers == [{"twice": 2 * n} for n in range(50)]


async def test_an_error_is_raised_as_it_was(asking: RpcClient, channel: str) -> None:
    with pytest.raises(QueueBusy, match="come again"):
        await asking.ask(channel, "refuse", 10)


@pytest.mark.parametrize("kind", [QueueBusy, NotRunning, BrokerUnavailable, ChannelNotFound, JunebugError])
def test_an_error_that_another_process_raised_is_known_by_its_name(kind: type[JunebugError]) -> None:
    error = errors.named(kind.__name__, "why")
    assert (type(error), str(error), error.errors()[0]["type"]) == (kind, "why", kind.__name__)


@pytest.mark.parametrize("name", ["InvalidBody", "Rejected", "NotSent", "Exception", "Any", "nonsense", "", "named"])
def test_an_error_that_needs_more_than_a_text_is_a_junebug_error(name: str) -> None:
    assert type(errors.named(name, "why")) is JunebugError


async def test_a_bug_is_told_without_its_text(asking: RpcClient, channel: str) -> None:
    with pytest.raises(JunebugError) as caught:
        await asking.ask(channel, "fail", 10)
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)


async def test_a_worker_tells_its_generation_also_while_it_starts_and_ends(asking: RpcClient, broker: Broker) -> None:
    channel = str(uuid.uuid4())
    with pytest.raises(NotRunning):
        await asking.generation(channel, 60)
    server = RpcServer(broker, channel, generation=7)
    await server.start()
    assert await asking.generation(channel, 10) == 7
    with pytest.raises(NotRunning, match="starting"):
        await asking.ask(channel, "double", 60, n=1)
    server.begin({"double": double})
    assert await asking.ask(channel, "double", 10, n=1) == {"twice": 2}
    await server.end()
    assert await asking.generation(channel, 10) == 7
    with pytest.raises(NotRunning, match="end"):
        await asking.ask(channel, "double", 60, n=1)
    await server.stop()
    with pytest.raises(NotRunning, match="no process"):
        await asking.generation(channel, 60)


async def test_nobody_there_is_told_at_once(asking: RpcClient) -> None:
    with pytest.raises(NotRunning, match="no process"):
        await asking.ask(str(uuid.uuid4()), "double", 60, n=1)


async def test_a_late_answer_is_not_waited_for(asking: RpcClient, channel: str) -> None:
    with pytest.raises(BrokerUnavailable, match="did not answer"):
        await asking.ask(channel, "never", 0.1)
    assert await asking.ask(channel, "double", 10, n=1) == {"twice": 2}


# --- a worker that dies over a question -------------------------------------------------------------------------------

AT_ONCE = 3.0


class Worker:
    """A worker with a connection of its own; `never` is answered by none but the last one."""

    def __init__(self, settings: AmqpSettings, channel: str, answers: bool) -> None:
        self.broker = Broker(settings, "a worker")
        self.asked = asyncio.Event()

        async def never(_: Arguments) -> Answer:
            self.asked.set()
            if not answers:
                await asyncio.Event().wait()
            return {"by": "the next one"}

        self.server = RpcServer(self.broker, channel, generation=1)
        self.server.begin({"never": never})

    async def start(self) -> Worker:
        self.broker.start()
        await asyncio.wait_for(self.server.start(), 10)
        return self

    async def die(self) -> None:
        link = self.broker._connection.link
        link._stream.writer.transport.abort()
        await self.broker.close()

    async def end(self) -> None:
        await self.server.end()  # and is there for a while

    async def stop(self) -> None:
        await self.server.stop()  # and stays connected for a while


WAYS = [Worker.die, Worker.end, Worker.stop]


@pytest.mark.parametrize("way", WAYS)
async def test_the_end_of_whoever_was_asked_is_known_at_once(
    asking: RpcClient, amqp_settings: AmqpSettings, way: Callable[[Worker], Awaitable[None]]
) -> None:
    channel = str(uuid.uuid4())
    worker = await Worker(amqp_settings, channel, answers=False).start()
    question = asyncio.create_task(asking.ask(channel, "never", 60))
    await asyncio.wait_for(worker.asked.wait(), 10)
    await way(worker)
    with pytest.raises(NotRunning):
        await asyncio.wait_for(question, AT_ONCE)
    await worker.broker.close()


@pytest.mark.parametrize("way", [Worker.die, Worker.stop])
async def test_the_next_one_is_asked(
    asking: RpcClient, amqp_settings: AmqpSettings, way: Callable[[Worker], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "LOOK_INTERVAL", 1.0)
    channel = str(uuid.uuid4())
    worker = await Worker(amqp_settings, channel, answers=False).start()
    question = asyncio.create_task(asking.ask(channel, "never", 60))
    await asyncio.wait_for(worker.asked.wait(), 10)
    await way(worker)
    following = await Worker(amqp_settings, channel, answers=True).start()
    assert await asyncio.wait_for(question, AT_ONCE) == {"by": "the next one"}
    await worker.broker.close()
    await following.broker.close()


async def test_whoever_takes_long_is_waited_for(
    asking: RpcClient, amqp_settings: AmqpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "LOOK_INTERVAL", 0.05)
    channel = str(uuid.uuid4())
    calls = 0

    async def slow(_: Arguments) -> Answer:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.7)
        return {"calls": calls}

    worker = await Worker(amqp_settings, channel, answers=False).start()
    worker.server.begin({"slow": slow})
    assert await asking.ask(channel, "slow", 10) == {"calls": 1}
    await worker.broker.close()
