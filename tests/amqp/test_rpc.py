"""A question to a channel's worker, and its answer, over a real RabbitMQ."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from junebug.amqp.broker import Broker
from junebug.amqp.rpc import Answer, Arguments, RpcClient, RpcServer
from junebug.errors import BrokerUnavailable, JunebugError, NotRunning, QueueBusy


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

    answering = RpcServer(broker, made, {"double": double, "refuse": refuse, "fail": fail, "never": never})
    answering.start()
    assert answering._consumer is not None
    await asyncio.wait_for(answering._consumer.consuming.wait(), 10)
    yield made
    await answering.stop()


async def test_questions_are_answered_each_with_its_own(asking: RpcClient, channel: str) -> None:
    answers = await asyncio.gather(*(asking.ask(channel, "double", 10, n=n) for n in range(50)))
    assert answers == [{"twice": 2 * n} for n in range(50)]


async def test_an_error_keeps_its_status_and_text(asking: RpcClient, channel: str) -> None:
    with pytest.raises(JunebugError, match="come again") as caught:
        await asking.ask(channel, "refuse", 10)
    assert (caught.value.status, caught.value.description) == (QueueBusy.status, QueueBusy.description)


async def test_a_bug_is_told_without_its_text(asking: RpcClient, channel: str) -> None:
    with pytest.raises(JunebugError) as caught:
        await asking.ask(channel, "fail", 10)
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)


async def test_nobody_there_is_told_at_once(asking: RpcClient) -> None:
    with pytest.raises(NotRunning, match="no process"):
        await asking.ask(str(uuid.uuid4()), "double", 60, n=1)


async def test_a_late_answer_is_not_waited_for(asking: RpcClient, channel: str) -> None:
    with pytest.raises(BrokerUnavailable, match="did not answer"):
        await asking.ask(channel, "never", 0.1)
    assert await asking.ask(channel, "double", 10, n=1) == {"twice": 2}
