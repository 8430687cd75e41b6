"""No secret of a channel's config is in any answer, log, error or output; telnet has none, so a test type declares one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import redis

from tests.blackbox.conftest import Channels
from tests.harness import ROOT, Api, Channel, JunebugProcess, WebhookSink
from tests.polling import eventually
from tests.tables import rows

FLAGS = {"channels": "secretive:tests.blackbox.channel_types.SecretiveTransport", "log-file": "junebug.log"}
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
PASSWORD, KEY, TOKEN, USERINFO = "hunter2-hunter2", "key-0f-the-acc0unt", "t0ken-of-the-app", "inf0-0f-the-user"
SECRETS = (PASSWORD, KEY, TOKEN, USERINFO)
CONFIG = {"username": "me", "password": PASSWORD, "account": {"key": KEY, "name": "shown"}}


def assert_no_secret(text: str, where: object) -> None:
    for secret in SECRETS:
        assert secret not in text, (secret, where, text[max(0, text.index(secret) - 300) :][:600])


def everything_written(jb: JunebugProcess) -> dict[str, str]:
    """Every file below the process's directory but the servers' own: outputs, logs of channels, supervisor's logs."""
    paths = (path for path in jb.directory.rglob("*") if path.is_file())
    return {str(path): path.read_text(errors="replace") for path in paths}


async def make_busy(channels: Channels, sink: WebhookSink, **config: Any) -> Channel:
    """A channel with secrets everywhere, whose transport babbles."""
    channel = await channels.create(
        "secretive", {**CONFIG, **config},
        mo_url=sink.url("/mo", f"user:{USERINFO}"), status_url=sink.url("/status", f"user:{USERINFO}"),
        mo_url_auth_token=TOKEN,
    )  # fmt: skip
    return channel


@pytest.fixture
async def busy(channels: Channels, sink: WebhookSink) -> Channel:
    return await make_busy(channels, sink)


async def test_answers_mask_the_secrets_and_show_the_rest(channels: Channels, api: Api, sink: WebhookSink) -> None:
    channel = await make_busy(channels, sink)
    answers = [
        channel.created, await channel.get(), await channel.modify(label="x"),
        (await api.post(channel.path, {"config": {**CONFIG, "username": "you"}})).result,
    ]  # fmt: skip
    for answer in answers:
        text = json.dumps(answer)
        assert PASSWORD not in text
        assert KEY not in text
        assert answer["config"]["account"]["name"] == "shown"
        assert answer["config"]["password"]
    assert answers[-1]["config"]["username"] == "you"


async def test_what_was_read_masked_can_be_sent_back_without_losing_the_secret(
    channels: Channels, sink: WebhookSink, jb: JunebugProcess
) -> None:
    channel = await make_busy(channels, sink)
    shown = (await channel.get())["config"]
    await channel.modify(config={**shown, "username": "changed"})
    with redis.Redis(port=jb.flags["redis-port"], db=jb.flags["redis-db"], decode_responses=True) as client:
        stored = json.loads(str(client.get(f"{channel.id}:properties")))
    assert stored["config"] == {**CONFIG, "username": "changed"}


@rows(
    "config",
    [
        {"username": 5, "password": PASSWORD},
        {"password": PASSWORD},
        {"username": "x", "password": [PASSWORD]},
        {"username": "x", "password": {"a": PASSWORD}},
        {"username": "x", "password": PASSWORD, "account": {"key": [KEY]}},
        {"username": "x", "password": PASSWORD, "account": KEY},
        [PASSWORD],
        PASSWORD,
    ],
)
async def test_a_refused_config_is_not_quoted_with_its_secret(busy: Channel, api: Api, config: Any) -> None:
    for path, body in (("/channels/", {"type": "secretive", "config": config}), (busy.path, {"config": config})):
        answer = await api.post(path, body)
        assert answer.status == 400
        assert_no_secret(json.dumps(answer.envelope), path)


async def test_a_password_that_is_too_short_is_not_quoted(api: Api) -> None:
    answer = await api.post("/channels/", {"type": "secretive", "config": {"username": "x", "password": "s3cr3t"}})
    assert answer.status == 400
    assert "s3cr3t" not in json.dumps(answer.envelope)
    assert "password" in answer.errors[0]["message"]


async def test_a_message_with_its_token_is_not_shown(channels: Channels, api: Api, sink: WebhookSink) -> None:
    channel = await (await make_busy(channels, sink)).running()
    sent = await channel.send("+27", event_url=sink.url("/event", f"user:{USERINFO}"), event_auth_token=TOKEN)
    await channel.event(sent["message_id"], "submitted")
    assert_no_secret(json.dumps([sent, await channel.message(sent["message_id"])]), "message")


async def test_no_secret_is_written_anywhere(jb: JunebugProcess, channels: Channels, sink: WebhookSink) -> None:
    """Through success and every failure: refused logins, exceptions, dead callbacks, crashes."""
    channel = await (await make_busy(channels, sink)).running()
    for content in ("raise", "reject", "log", "fine"):
        sent = await channel.send(
            "+27", content, event_url=sink.url("/event", f"user:{USERINFO}"), event_auth_token=TOKEN
        )
        await channel.event(sent["message_id"], "rejected" if content in ("raise", "reject") else "submitted")
    refused = await make_busy(channels, sink, refuse=True)

    async def is_refused() -> bool:
        components = (await refused.status())["components"]
        assert_no_secret(json.dumps(components), "components")
        return components.get("secretive", {}).get("status") == "down" and "worker" in components

    await eventually(is_refused)
    await channel.modify(mo_url=f"http://user:{USERINFO}@127.0.0.1:9/")
    await channel.modify(status_url=f"http://user:{USERINFO}@127.0.0.1:9/")
    sent = await channel.send("+27", "reject", event_url=f"http://user:{USERINFO}@127.0.0.1:9/")

    async def is_degraded() -> bool:
        component = await channel.component("callbacks")
        assert_no_secret(json.dumps(component), "callbacks")
        return component.get("status") == "degraded"

    await eventually(is_degraded)
    assert_no_secret(json.dumps([await channel.logs(), await refused.logs()]), "logs")
    assert any("refused" in entry["message"] for entry in await channel.logs()), "the line itself must be there"
    written = everything_written(jb)
    assert str(jb.logs_directory / channel.id) in written
    assert str(jb.directory / "junebug.log") in written
    for path, text in written.items():
        assert_no_secret(text, path)
    assert_no_secret(json.dumps([each.body for each in sink.received]), "callbacks")


async def test_a_process_title_tells_a_users_neighbours_nothing(jb: JunebugProcess, channels: Channels) -> None:
    """It is seen by everybody on the machine."""
    channel = await channels.loopback()
    titles = set(jb.children().values()) - {""}  # one that begins or ends at this moment has none
    assert f"junebug: channel:{channel.id}" in titles
    starting = r"\S+ -m junebug\.worker\.callbacks\.drain_server"  # for a channel that a test before this one deleted
    assert {title for title in titles if not re.fullmatch(rf"junebug: [-\w:]+|{starting}", title)} == set()
