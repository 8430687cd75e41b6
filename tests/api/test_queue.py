"""What waits to be sent, as a client of the API sees and changes it; a worker is played by the test where one is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.amqp.rpc import RpcServer
from junebug.errors import QueueBusy
from junebug.model.messages import Event, UserMessage, new_id
from junebug.model.presenter import message_body
from tests.api.conftest import Api
from tests.tables import rows

SMPP = {"host": "127.0.0.1", "port": 1, "system_id": "me", "password": "secret"}
NEVER = "2999-01-01 00:00:00.000000"
IDLE = {"paused": False, "held": {}, "sending": {}, "delay_queues": []}


async def send(api: Api, channel: str, to: str, **fields: Any) -> dict[str, Any]:
    answer = await api("POST", f"/channels/{channel}/messages/", json={"to": to, "content": "x", **fields})
    assert answer.status == 201
    return dict(answer.result)


@asynccontextmanager
async def worker(api: Api, channel: str, **answers: Any) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
    """Answers questions as told, and notes them. An answer may be an exception."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def answering(question: str, answer: Any) -> Callable[[Any], Awaitable[dict[str, Any]]]:
        async def reply(arguments: dict[str, Any]) -> dict[str, Any]:
            asked.append((question, arguments))
            found = answer.pop(0) if isinstance(answer, list) else answer
            if isinstance(found, Exception):
                raise found
            return dict(found)

        return reply

    told = {"look": IDLE, **answers}
    running = RpcServer(api.broker, channel, generation=1)
    running.begin({question: answering(question, each) for question, each in told.items()})
    await running.start()
    try:
        yield asked
    finally:
        await running.stop()


async def events(api: Api, channel: str, count: int) -> list[Event]:
    return [Event.from_wire(each.body) for each in await api.taken(names.event_queue(channel), count)]


async def test_what_is_nested_too_deep_to_be_written_is_not_listed_and_harms_no_other(api: Api) -> None:
    channel = await api.create()
    await send(api, channel, "1")
    for depth in (99, 240, 260, 1000):
        body = b'{"to_addr":"2","content":"x","helper_metadata":{"x":' + b"[" * depth + b"]" * depth + b"}}"
        await api.broker.publish(names.outbound_queue(channel), body)
    await send(api, channel, "3")
    answer = await api("GET", f"/channels/{channel}/messages/?state=queued")
    assert (answer.status, [message["to"] for message in answer.result["messages"]]) == (200, ["1", "3"])


@pytest.mark.parametrize(("shards", "queue_type"), [(1, "quorum"), (3, "classic")])
async def test_a_channel_has_the_queues_that_it_is_to_have(api: Api, shards: int, queue_type: str) -> None:
    """Published to one by one and in bulk, counted, listed, cancelled; and made again when RabbitMQ has lost them."""
    api.broker.is_quorum = queue_type == "quorum"
    try:
        channel = await api.create(type="smpp", config={**SMPP, "shards": shards})
        layout = names.Layout(queue_type == "quorum", shards > 1)
        queues = layout.queues(channel)
        assert not await api.broker.queue_exists(names.outbound_queue(channel))
        sent = [(await send(api, channel, str(to)))["message_id"] for to in range(10)]
        await api.broker.delete_queues(queues[-3:])
        numbers = [str(number) for number in range(10, 60)]
        body = b"\n".join(orjson.dumps({"to": to, "content": "x", "priority": 1 + int(to) % 2}) for to in numbers)
        answer = await api("POST", f"/channels/{channel}/messages/bulk", data=body)
        assert (answer.status, answer.result["accepted"]) == (201, 50)
        lengths = await api.broker.queue_lengths(queues)
        shown = (await api("GET", f"/channels/{channel}")).result["status"]["queue"]["queued"]
        assert (shown["2"], sum(lengths.values())) == (25, shown["1"] + 25)
        assert all(lengths[layout.queue(channel, 1 + int(to) % 2, to)] for to in numbers)
        listed = (await api("GET", f"/channels/{channel}/messages/?state=queued&limit=100")).result
        assert listed["total"] == len(listed["messages"]) == sum(lengths.values())
        accepted = {*sent, *(each["message_id"] for each in answer.result["messages"])}
        assert {each["message_id"] for each in listed["messages"]} <= accepted
        answer = await api("DELETE", f"/channels/{channel}/messages/")
        assert answer.result == {"cancelled": sum(lengths.values()), "remaining": 0}
    finally:
        api.broker.is_quorum = False


# --- status -----------------------------------------------------------------------------------------------------------


async def test_the_status_counts_what_waits_by_priority(api: Api) -> None:
    channel = await api.create()
    for priority in (1, 5, 5, 3):
        await send(api, channel, "1", priority=priority)
    status = (await api("GET", f"/channels/{channel}")).result["status"]
    assert status["queue_length"] == 4
    assert list(status["queue"]["queued"].items()) == [("5", 2), ("4", 0), ("3", 1), ("2", 0), ("1", 1)]
    assert status["queue"]["sending"] == dict.fromkeys("54321", 0)


async def test_what_the_worker_holds_counts_as_queued_and_what_it_sends_does_not(api: Api) -> None:
    channel = await api.create()
    await send(api, channel, "1", priority=2)
    look = {**IDLE, "held": {"2": 3, "5": 1}, "sending": {"5": 7}}
    async with worker(api, channel, look=look):
        status = (await api("GET", f"/channels/{channel}")).result["status"]
    assert status["queue_length"] == 5
    assert status["queue"]["queued"] == {"5": 1, "4": 0, "3": 0, "2": 4, "1": 0}
    assert status["queue"]["sending"] == {"5": 7, "4": 0, "3": 0, "2": 0, "1": 0}


@pytest.mark.parametrize("prefers_quorum", [False, True])
@pytest.mark.parametrize("is_quorum", [False, True])
async def test_callbacks_that_wait_anywhere_and_dead_letters_are_counted(
    api: Api, is_quorum: bool, prefers_quorum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which kind the queues are, and which this API process is to prefer."""
    monkeypatch.setattr(api.broker, "is_quorum", is_quorum)
    channel = await api.create()
    monkeypatch.setattr(api.broker, "is_quorum", prefers_quorum)
    await api.stores.channels.forget_layout(channel, 11)
    retry, waiting = names.retry_queue(channel, 1), names.backlog_queue(channel, "mo_url", "http://a")
    await api.broker.declare({retry: {}, waiting: {}}, remember=False)
    own = [names.of_kind(queue(channel), is_quorum) for queue in (names.inbound_queue, names.event_queue, names.callback_queue)]
    for queue in (*own, retry, waiting):
        await api.broker.publish(queue, b"{}")
    await api.broker.publish(names.of_kind(names.dead_queue(channel), is_quorum), b"{}")
    try:
        look = {**IDLE, "delay_queues": [retry, waiting, names.retry_queue(channel, 30)], "callbacks": 3}
        async with worker(api, channel, look=look):
            status = (await api("GET", f"/channels/{channel}")).result["status"]
        assert (status["callbacks_waiting"], status["dead_letters"]) == (8, 1)
        await api.stores.delay_queues.note(channel, retry, "", 60)  # by a worker that does not run any more
        status = (await api("GET", f"/channels/{channel}")).result["status"]
        assert status["callbacks_waiting"] == 4
    finally:
        await api.broker.delete_queues([retry, waiting])


async def test_a_worker_that_hangs_hides_nothing_that_rabbitmq_tells(api: Api) -> None:
    channel = await api.create()
    await send(api, channel, "1")
    never = asyncio.Event()

    async def hang(_: Any) -> dict[str, Any]:
        await never.wait()
        return {}

    hung = RpcServer(api.broker, channel, generation=1)
    hung.begin({"look": hang})
    await hung.start()
    try:
        assert (await api("GET", f"/channels/{channel}")).result["status"]["queue_length"] == 1
    finally:
        await hung.stop()


async def test_what_waits_under_the_applications_name_is_counted(api: Api) -> None:
    name = f"app-{new_id()}"
    channel = await api.create(amqp_queue=name)
    await api.broker.declare({f"{name}.outbound": {}}, remember=False)
    try:
        await api.broker.publish(f"{name}.outbound", b"{}")
        assert (await api("GET", f"/channels/{channel}")).result["status"]["queue_length"] == 1
    finally:
        await api.broker.delete_queues([f"{name}.outbound"])


# --- pause ------------------------------------------------------------------------------------------------------------


async def test_pause_and_resume_are_kept_shown_in_the_status_and_no_restart(api: Api) -> None:
    channel = await api.create(label="x")
    before = await api.stores.channels.get(channel)
    for path, paused, description in (
        ("pause", True, "sending paused"),
        ("pause/", True, "sending paused"),
        ("resume", False, "sending resumed"),
        ("resume", False, "sending resumed"),
    ):
        answer = await api("POST", f"/channels/{channel}/{path}")
        assert (answer.status, answer.description) == (200, description)
        assert answer.result == {"paused": paused, **{name: dict.fromkeys("54321", 0) for name in ("queued", "sending")}}
        found = (await api("GET", f"/channels/{channel}")).result
        assert found["status"]["queue"] == answer.result
        assert "paused" not in found
        spec = await api.stores.channels.get(channel)
        assert (bool(spec.paused), spec.generation) == (paused, before.generation)
    assert orjson.loads(spec.stored) == orjson.loads(before.stored)


async def test_a_paused_channel_that_was_read_can_be_sent_back_and_stays_paused(api: Api) -> None:
    channel = await api.create()
    await api("POST", f"/channels/{channel}/pause")
    found = (await api("GET", f"/channels/{channel}")).result
    assert (await api("POST", f"/channels/{channel}", json={**found, "label": "new"})).status == 200
    spec = await api.stores.channels.get(channel)
    assert (spec.paused, spec.label) == (True, "new")


async def test_paused_is_no_property(api: Api) -> None:
    channel = await api.create()
    assert (await api("POST", f"/channels/{channel}", json={"paused": True})).status == 400


# --- looking ----------------------------------------------------------------------------------------------------------


async def test_without_a_worker_what_waits_is_listed_from_the_queues(api: Api) -> None:
    channel = await api.create()
    low = [await send(api, channel, f"low{n}") for n in range(3)]
    high = await send(api, channel, "high", priority=5)
    answer = await api("GET", f"/channels/{channel}/messages/")
    assert (answer.status, answer.description) == (200, "messages listed")
    expected = [{**high, "priority": 5, "state": "queued"}, *({**each, "priority": 1, "state": "queued"} for each in low)]
    assert answer.result == {"messages": expected, "limit": 100, "offset": 0, "total": 4}
    page = await api("GET", f"/channels/{channel}/messages/?state=queued&limit=2&offset=1")
    assert page.result == {"messages": expected[1:3], "limit": 2, "offset": 1, "total": 4}
    assert (await api("GET", f"/channels/{channel}/messages/?offset=4")).result["messages"] == []
    lengths = await api.broker.queue_lengths(names.PLAIN.queues(channel))
    assert sum(lengths.values()) == 4  # they are all still there


async def test_a_running_worker_is_asked_for_the_page(api: Api) -> None:
    channel = await api.create()
    message = UserMessage(to_addr="1", from_addr=None, content="é", transport_name=channel, expires_at=NEVER)
    told = {"messages": [{"priority": 4, "message": orjson.loads(message.to_wire())}]}
    async with worker(api, channel, list=told, look={**IDLE, "held": {"4": 4}}) as asked:
        answer = await api("GET", f"/channels/{channel}/messages/?limit=7&offset=3")
    assert ("list", {"offset": 3, "limit": 7}) in asked
    (entry,) = answer.result["messages"]
    assert entry == {"id": message.message_id, **message_body(message, channel), "priority": 4, "state": "queued"}
    assert answer.result["total"] == 4


async def test_the_total_is_not_less_than_what_is_listed_where_the_worker_could_not_be_counted(api: Api) -> None:
    channel = await api.create()
    message = UserMessage(to_addr="1", from_addr=None, content="é", transport_name=channel, expires_at=NEVER)
    told = {"messages": [{"priority": 4, "message": orjson.loads(message.to_wire())}]}
    async with worker(api, channel, list=told, look=IDLE):
        answer = await api("GET", f"/channels/{channel}/messages/?offset=3")
    assert (len(answer.result["messages"]), answer.result["total"]) == (1, 4)


@rows(
    "query",
    [
        *("state=sent", "state=", "limit=0", "limit=1001", "limit=x", "limit="),
        *("offset=-1", "offset=1.5", "offset=10001", "offset=65436", "offset=%C2%B2"),
    ],
)
async def test_a_wrong_query_is_400_naming_the_parameter(api: Api, plain: str, query: str) -> None:
    answer = await api("GET", f"/channels/{plain}/messages/?{query}")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert query.partition("=")[0] in answer.errors[0]["message"]


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/jb"])
async def test_without_a_worker_all_that_waits_is_cancelled_with_an_event_each(api: Api, prefix: str) -> None:
    channel = await api.create()
    ids = [(await send(api, channel, str(n), priority=n % 5 + 1))["id"] for n in range(7)]
    answer = await api("DELETE", f"{prefix}/channels/{channel}/messages/")
    assert (answer.status, answer.description) == (200, "messages cancelled")
    assert answer.result == {"cancelled": 7, "remaining": 0}
    told = await events(api, channel, 7)
    assert {event.user_message_id for event in told} == set(ids)
    assert {(event.api_type, event.nack_reason) for event in told} == {("rejected", "cancelled")}
    assert (await api("GET", f"/channels/{channel}/messages/")).result["total"] == 0
    assert (await api("DELETE", f"/channels/{channel}/messages")).result == {"cancelled": 0, "remaining": 0}


async def test_without_a_worker_one_message_is_noted_as_cancelled_and_not_listed(api: Api) -> None:
    channel = await api.create()
    ids = [(await send(api, channel, str(n)))["id"] for n in range(5)]
    answer = await api("DELETE", f"/channels/{channel}/messages/{ids[2]}")
    assert (answer.status, answer.result) == (200, {"cancelled": 1, "remaining": 0})
    assert await api.stores.cancellations.ids(channel) == {ids[2]}
    left = (await api("GET", f"/channels/{channel}/messages/")).result["messages"]
    assert [each["id"] for each in left] == ids[:2] + ids[3:]
    again = await api("DELETE", f"/channels/{channel}/messages/{ids[2]}")
    assert (again.status, again.errors[0]["type"]) == (404, "MessageNotQueued")


async def test_what_has_become_of_a_message_cannot_be_cancelled(api: Api) -> None:
    channel = await api.create()
    message = await send(api, channel, "1")
    event = Event(event_type="ack", user_message_id=message["id"], sent_message_id="x", transport_name=channel)
    await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    assert (await api("DELETE", f"/channels/{channel}/messages/{message['id']}")).status == 404
    assert await api.stores.cancellations.ids(channel) == set()


@pytest.mark.parametrize("message_id", ["unknown", "a%2Fb", "%00", "%E2%82%AC", "%FF", "x" * 5000, "*"])
async def test_a_message_that_does_not_wait_is_404(api: Api, message_id: str) -> None:
    channel = await api.create()
    await send(api, channel, "1")
    answer = await api("DELETE", f"/channels/{channel}/messages/{message_id}")
    assert (answer.status, answer.description) == (404, "message not queued")
    assert answer.errors[0]["type"] == "MessageNotQueued"


async def test_a_running_worker_is_asked_to_cancel(api: Api) -> None:
    channel = await api.create()
    one, begun = [(await send(api, channel, str(n)))["id"] for n in range(2)]
    everything = {"cancelled": 5, "sending": 1, "remaining": 2}
    async with worker(api, channel, cancel_all=everything, cancel=[{"cancelled": True}, {"cancelled": False}]) as asked:
        assert (await api("DELETE", f"/channels/{channel}/messages/")).result == {"cancelled": 5, "remaining": 2}
        assert (await api("DELETE", f"/channels/{channel}/messages/{one}")).result == {"cancelled": 1, "remaining": 0}
        assert (await api("DELETE", f"/channels/{channel}/messages/{begun}")).status == 404
    asked_to_cancel = [entry for entry in asked if entry[0] != "look"]
    assert asked_to_cancel == [("cancel_all", {}), ("cancel", {"message_id": one}), ("cancel", {"message_id": begun})]
    assert await api.stores.cancellations.ids(channel) == {one}


async def test_a_worker_that_does_not_answer_leaves_the_message_uncancelled(api: Api) -> None:
    channel = await api.create()
    message = await send(api, channel, "1")
    async with worker(api, channel, cancel=QueueBusy("busy")):
        assert (await api("DELETE", f"/channels/{channel}/messages/{message['id']}")).status == 409
    assert await api.stores.cancellations.ids(channel) == set()


async def test_no_more_are_noted_than_a_worker_can_bear(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.api.handlers.queue.MOST", 2)
    channel = await api.create()
    ids = [(await send(api, channel, str(n)))["id"] for n in range(3)]
    statuses = [(await api("DELETE", f"/channels/{channel}/messages/{each}")).status for each in ids]
    assert statuses == [200, 200, 409]


async def test_a_queue_that_is_busy_for_a_moment_is_tried_again(api: Api) -> None:
    channel = await api.create()
    told: list[Any] = [QueueBusy("busy"), {"cancelled": 1, "sending": 0, "remaining": 0}]
    async with worker(api, channel, cancel_all=told):
        assert (await api("DELETE", f"/channels/{channel}/messages/")).status == 200


async def test_a_queue_that_stays_busy_is_409(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.api.handlers.queue.BUSY_PATIENCE", 0.2)
    channel = await api.create()
    await send(api, channel, "1")
    consumer = api.broker.consume(names.outbound_queue(channel), lambda _: None, prefetch=1, exclusive=True)
    await consumer.consuming.wait()
    try:
        for method in ("GET", "DELETE"):
            answer = await api(method, f"/channels/{channel}/messages/")
            assert (answer.status, answer.description) == (409, "queue busy")
    finally:
        await consumer.cancel()


async def test_the_api_answers_others_while_much_is_cancelled(api: Api) -> None:
    channel = await api.create()
    body = UserMessage(to_addr="1", from_addr=None, content="x" * 100, transport_name=channel).to_wire()
    await api.broker.publish_many(names.outbound_queue(channel), [body] * 10_000)
    cancelling = asyncio.create_task(api("DELETE", f"/channels/{channel}/messages/"))
    answered = 0
    while not cancelling.done():
        assert (await api("GET", "/channels/")).status == 200
        answered += 1
    assert (await cancelling).result == {"cancelled": 10_000, "remaining": 0}
    assert answered > 3


@pytest.mark.parametrize("question", ["list", "cancel_all"])
async def test_a_worker_that_dies_over_a_question_is_not_waited_for(api: Api, question: str) -> None:
    channel = await api.create()
    await send(api, channel, "1")
    asked = asyncio.Event()

    async def hang(_: Any) -> dict[str, Any]:
        asked.set()
        await asyncio.Event().wait()
        return {}

    dying = RpcServer(api.broker, channel, generation=1)
    dying.begin({question: hang, "look": answered_at_once})
    await dying.start()
    method = "GET" if question == "list" else "DELETE"
    request = asyncio.create_task(api(method, f"/channels/{channel}/messages/"))
    await asyncio.wait_for(asked.wait(), 10)
    await dying.stop()
    answer = await asyncio.wait_for(request, 5)
    assert (answer.status, answer.result.get("total", answer.result.get("cancelled"))) == (200, 1)


async def answered_at_once(_: Any) -> dict[str, Any]:
    return dict(IDLE)
