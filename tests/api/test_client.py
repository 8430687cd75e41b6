"""clients/python against a real API: what goes in, what comes out, what is repeated."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from junebug_client import AsyncClient, Client, problems, webhooks
from junebug_client._exchange import Retries

from tests.api.conftest import Api
from tests.test_docs import blocks
from tests.test_packaging import ROOT

NOW = Retries(3, 0.0, 5.0)


def test_generated_files_are_up_to_date() -> None:
    command = [sys.executable, ROOT / "clients" / "python" / "generate.py", "--check"]
    check = subprocess.run(command, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


async def test_a_channel_from_its_creation_to_its_end(api: Api) -> None:
    async with AsyncClient(api.url) as client:
        channel = await client.create_channel({"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/mo", "label": "x"})
        assert await client.list_channels() == [channel["id"]]
        changed = await client.update_channel(channel["id"], {"label": None})
        assert changed["label"] is None
        sent = await client.send_message(channel["id"], {"to": "+27", "content": "hello"})
        assert (sent["to"], sent["from"], sent["content"]) == ("+27", None, "hello")
        many = await client.send_messages(channel["id"], [{"to": "+27", "content": "a"}, {"content": "b"}])
        assert (many["accepted"], many["rejected"]) == (1, 1)
        lines = b'{"to": "+27", "content": "c"}\n'
        one = await client.request("POST", f"/channels/{channel['id']}/messages/bulk", content=lines, idempotency_key="k")
        assert one["accepted"] == 1
        waiting = await client.list_queued_messages(channel["id"], limit=1)
        assert (len(waiting["messages"]), waiting["total"]) == (1, 3)
        assert (await client.get_message_status(channel["id"], sent["id"]))["events"] == []
        assert await client.cancel_messages(channel["id"]) == {"cancelled": 3, "remaining": 0}
        assert (await client.list_dead_letters(channel["id"]))["total"] == 0
        assert await client.replay_dead_letters(channel["id"]) == {"replayed": 0, "skipped": 0}
        token = await client.create_token({"name": "me", "scopes": ["messages:send"]})
        assert [each["id"] for each in await client.list_tokens()] == [token["id"]]
        await client.revoke_token(token["id"])
        await client.delete_channel(channel["id"])
        with pytest.raises(problems.ChannelNotFound) as error:
            await client.get_channel(channel["id"])
        assert (error.value.status, error.value.code) == (404, "ChannelNotFound")


async def test_the_blocking_client_does_the_same(api: Api) -> None:
    def work() -> None:
        with Client(api.url) as client:
            channel = client.create_channel({"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/mo"})
            key = "a key"
            sent = [client.send_message(channel["id"], {"to": "+27", "content": "x"}, idempotency_key=key) for _ in range(2)]
            assert sent[0] == sent[1]
            with pytest.raises(problems.InvalidBody) as error:
                client.send_message(channel["id"], {"to": "+27"})  # type: ignore[typeddict-item]
            assert error.value.errors[0]["schema_path"] == ["required"]

    await asyncio.to_thread(work)


async def test_the_examples_of_the_readme_work(documented: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Also that of docs/http-api.md."""
    channel = await documented.create(type="loopback")
    examples = blocks(ROOT / "clients" / "python" / "README.md", "python")
    examples += [text for text in blocks(ROOT / "docs" / "http-api.md", "python") if "junebug_client" in text]
    functions: dict[str, Any] = {}

    def work() -> None:
        for text in examples:
            text = text.replace("http://localhost:8080", documented.url).replace("Client()", f'Client("{documented.url}")')
            exec(text.replace(', token="jb_..."', ""), functions)

    await asyncio.to_thread(work)
    assert await functions["send"](channel, ["+27", "+28"]) == 2
    secret, body = "whsec_bm8gc2VjcmV0LCBhbiBleGFtcGxlIG9ubHk=", b'{"content": "hello"}'
    now = str(int(time.time()))
    signed = {"Webhook-Id": "m", "Webhook-Timestamp": now, "Webhook-Signature": webhooks.sign(secret, "m", now, body)}
    assert functions["received"](signed, body) == "hello"
    told = capsys.readouterr().out
    assert "404 ChannelNotFound There is no channel with id 'nobody'" in told
    assert "{'redis': 'ok', 'amqp': 'ok'}" in told
