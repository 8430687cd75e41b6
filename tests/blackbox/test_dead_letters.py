"""Dead letters: what an application refuses or what gets too old is kept, shown, replayed and deleted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import Api, AppQueues, Channel, Reply, WebhookSink, is_timestamp
from tests.polling import eventually

FLAGS = {"callback-retry-delays": "0.1,0.2", "callback-max-age": 15}


async def letters(channel: Channel, count: int = 1, query: str = "") -> list[dict[str, Any]]:
    """The dead letters, once there are so many."""

    async def found() -> list[dict[str, Any]] | None:
        answer = await channel.api.get(f"{channel.path}/dead-letters/{query}")
        assert (answer.status, answer.description) == (200, "dead letters listed")
        shown = list(answer.result["dead_letters"])
        return shown if len(shown) >= count else None

    try:
        return list(await eventually(found, what=f"{count} dead letters"))
    except AssertionError as error:
        raise AssertionError(f"{error}: {await channel.status()}, {await channel.logs(n=20)}") from None


async def replay(channel: Channel, *ids: str) -> dict[str, int]:
    answer = await channel.api.post(f"{channel.path}/dead-letters/replay", {"ids": list(ids)} if ids else {})
    assert (answer.status, answer.description) == (200, "dead letters replayed"), answer
    return dict(answer.result)


async def dead(channel: Channel, count: int) -> None:
    async def are() -> bool:
        return bool((await channel.status())["dead_letters"] == count)

    await eventually(are, what=f"{count} dead letters in the status")


async def test_what_an_application_refuses_for_good_is_kept_and_can_be_replayed(
    channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sink.reply_to_content("refused", *[400] * 5)
    await channel.send("+27", "refused")
    (letter,) = await letters(channel)
    tries = [body for body in sink.bodies("/mo") if body["content"] == "refused"]
    assert len(tries) == 5
    assert (letter["to"], letter["kind"], letter["reason"], letter["attempts"]) == ("mo_url", "inbound", "refused", 5)
    assert "400" in letter["error"]
    assert is_timestamp(letter["timestamp"])
    assert letter["message"] == tries[0]
    await dead(channel, 1)
    assert await replay(channel, letter["id"]) == {"replayed": 1, "skipped": 0}
    await sink.wait("/mo", 6)
    assert sink.bodies("/mo")[-1] == tries[0]
    assert sink.requests("/mo")[-1].headers["Webhook-Id"] == sink.requests("/mo")[0].headers["Webhook-Id"]
    await dead(channel, 0)


async def test_what_gets_too_old_is_kept_and_all_can_be_replayed(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sink.always["/mo"] = Reply(500)
    for n in range(3):
        await channel.send("+27", str(n))
    found = await letters(channel, 3)
    assert {letter["reason"] for letter in found} == {"too_old"}
    sink.always.clear()
    before = len(sink.received)
    assert await replay(channel) == {"replayed": 3, "skipped": 0}
    await sink.wait("/mo", before + 3)
    assert {body["content"] for body in sink.bodies("/mo")[before:]} == {"0", "1", "2"}
    await dead(channel, 0)


async def test_an_event_that_is_refused_is_a_dead_letter(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sink.reply("/event", *[410] * 5)
    sent = await channel.send("+27", event_url=sink.url("/event", "user:hunter2"), event_auth_token="t0ken")
    (letter,) = await letters(channel)
    assert (letter["to"], letter["kind"]) == ("event_url", "event")
    assert letter["message"] == sink.bodies("/event")[0]
    assert letter["message"]["message_id"] == sent["message_id"]
    assert "hunter2" not in str(letter)
    assert "t0ken" not in str(letter)
    await replay(channel)
    await sink.wait("/event", 6)
    assert sink.requests("/event")[-1].headers["Authorization"] == "Token t0ken"


async def test_what_is_no_message_is_shown_as_it_is_and_skipped_by_a_replay(
    channels: Channels, app: AppQueues
) -> None:
    channel = await channels.loopback(amqp_queue=app.name)

    async def is_there() -> bool:
        return await app.count(f"{app.name}.outbound") is not None

    await eventually(is_there)
    await app.send(b'{"to_addr": oops')
    (letter,) = await letters(channel)
    assert (letter["reason"], letter["queue"], letter["body"]) == ("unreadable", f"{app.name}.outbound", '{"to_addr": oops')
    assert await replay(channel) == {"replayed": 0, "skipped": 1}
    await dead(channel, 1)
    answer = await channel.api.delete(f"{channel.path}/dead-letters/{letter['id']}")
    assert (answer.status, answer.description, answer.result) == (200, "dead letters deleted", {"deleted": 1})
    await dead(channel, 0)


async def test_some_are_replayed_the_oldest_is_listed_first_and_the_rest_deleted(
    channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    for n in range(3):
        sink.reply_to_content(str(n), *[404] * 5)
        await channel.send("+27", str(n))
        await letters(channel, n + 1)
    found = await letters(channel, 3)
    assert [letter["message"]["content"] for letter in found] == ["0", "1", "2"]
    assert [letter["id"] for letter in await letters(channel, 1, "?limit=1&offset=1")] == [found[1]["id"]]
    await replay(channel, found[1]["id"])
    assert [letter["id"] for letter in await letters(channel, 2)] == [found[0]["id"], found[2]["id"]]
    assert (await channel.api.delete(f"{channel.path}/dead-letters")).result == {"deleted": 2}
    await dead(channel, 0)


async def test_dead_letters_outlive_a_restart_of_the_channel(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sink.reply_to_content("refused", *[400] * 5)
    await channel.send("+27", "refused")
    (letter,) = await letters(channel)
    await channel.restart()
    assert await letters(channel) == [letter]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "replay"), ("DELETE", ""), ("DELETE", "x")]
)
async def test_an_unknown_channel_has_no_dead_letters(api: Api, method: str, path: str) -> None:
    answer = await api.request(method, f"/channels/00000000-0000-4000-8000-000000000000/dead-letters/{path}")
    assert (answer.status, answer.error_types) == (404, {"ChannelNotFound"})


async def test_an_unknown_dead_letter_is_404(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {})
    assert (await api.delete(f"{channel.path}/dead-letters/x")).status == 404
    assert (await api.post(f"{channel.path}/dead-letters/replay", {"ids": ["x"]})).status == 404
