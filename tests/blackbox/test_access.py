"""Access as an operator sets it up: the commands, and who is let in afterwards (docs/access.md)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.blackbox.conftest import Channels, StartJunebug, server_flags
from tests.harness import ROOT, Channel, WebhookSink, free_port, run_command
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer


def flags_of(redis: RedisServer, flags: dict[str, Any]) -> list[str]:
    return ["--redis-host", "127.0.0.1", "--redis-port", str(redis.port), "--redis-db", str(flags["redis-db"])]


async def asked(port: int, path: str, method: str = "GET", **options: Any) -> int:
    async with aiohttp.ClientSession() as session, session.request(method, f"http://127.0.0.1:{port}{path}", **options) as answer:
        return answer.status


@pytest.mark.parametrize("command", ["jb", "junebug-api"])
def test_off_loopback_nothing_starts_without_a_token(
    short_dir: Path, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer, command: str
) -> None:
    given = {**server_flags(redis_server_shared, rabbitmq), "port": free_port()}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    for more, setting in ((["--interface", "0.0.0.0"], "interface: 0.0.0.0"), (["--require-auth"], "require_auth")):
        done = run_command(command, *words, *more, cwd=short_dir)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        for part in (setting, "junebug tokens create", "JUNEBUG_ADMIN_TOKEN", "--no-auth"):
            assert part in line


def test_embedded_off_loopback_asks_for_the_setting(short_dir: Path) -> None:
    done = run_command("jb", "--embedded", "--interface", "0.0.0.0", "--port", str(free_port()), cwd=short_dir)
    assert done.returncode == 1
    assert "JUNEBUG_ADMIN_TOKEN" in done.stderr
    assert "tokens create" not in done.stderr  # its Redis is not there yet


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--admin-token", "short"], "admin_token: "),
        (["--admin-token", "with blanks in it, and long"], "admin_token: "),
        (["--admin-token", "sha256:" + "g" * 64], "admin_token: "),
        (["--no-auth", "--require-auth"], "no_auth, require_auth: "),
        (["--callback-deny", "10.0.0.0/33"], "--callback-deny: "),
        (["--callback-allow", "localhost"], "--callback-allow: "),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(short_dir: Path, given: list[str], word: str) -> None:
    done = run_command("jb", *given, cwd=short_dir)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, word in line) == (2, True)
    assert "gggg" not in line
    assert "blanks in" not in line


async def test_tokens_are_made_at_the_command_line_and_used_at_once(
    start_junebug: StartJunebug, short_dir: Path, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer, sink: WebhookSink
) -> None:
    flags = server_flags(redis_server_shared, rabbitmq)
    where = flags_of(redis_server_shared, flags)

    def tokens(*words: str) -> str:
        done = run_command("junebug", "tokens", *words, *where, cwd=short_dir)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done
        return str(done.stdout)

    admin = tokens("create", "ops", "--scope", "admin").strip()
    junebug = start_junebug({**flags, "interface": "0.0.0.0"})
    port = junebug.flags["port"]
    assert await asked(port, "/health") == 200
    assert await asked(port, "/health/live") == 200
    for path in ("/channels/", "/routers/", "/tokens/", "/nowhere"):
        assert await asked(port, path) == 401
    assert await asked(port, "/channels/", headers={"Authorization": aiohttp.encode_basic_auth("ops", admin)}) == 200
    known = {"Authorization": f"Bearer {admin}"}
    body = {"type": "loopback", "config": {}, "mo_url": sink.url("/mo")}
    async with aiohttp.ClientSession(headers=known) as session:
        async with session.post(f"http://127.0.0.1:{port}/channels/", json=body) as answer:
            assert answer.status == 201
            channel = (await answer.json())["result"]["id"]
        sender = tokens("create", "an app", "--scope", "messages:send", "--for", channel, "--expires-at", "2999-01-01").strip()
        messages = f"/channels/{channel}/messages/"
        sent = {"json": {"to": "+27", "content": "hi"}, "headers": {"Authorization": f"Token {sender}"}}
        assert await asked(port, messages, "POST", **sent) == 201
        await sink.wait_content("/mo", "hi")
        assert await asked(port, f"/channels/{channel}", headers=sent["headers"]) == 403
        listed = tokens("list").splitlines()[1:]
        assert len(listed) == 2
        assert listed[1].split("\t")[2:] == ["2999-01-01 00:00:00.000000", "messages:send", channel, "an app"]
        assert sender not in "".join(listed)
        assert [each["name"] for each in json.loads(tokens("list", "--json"))] == ["ops", "an app"]
        tokens("revoke", listed[1].split()[0])
    again = run_command("junebug", "tokens", "revoke", listed[1].split()[0], *where, cwd=short_dir)
    assert (again.returncode, "no API token with id" in again.stderr) == (3, True)
    audited = [json.loads(line) for line in (junebug.directory / "v" / "log" / "audit.log").read_text().splitlines()]
    assert [(line["who"], line["action"]) for line in audited] == [("ops", "POST /channels/")]
    assert admin not in junebug.output()


async def test_the_commands_of_the_docs(
    start_junebug: StartJunebug, short_dir: Path, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer
) -> None:
    """docs/access.md: the tokens' two walk-throughs, line by line."""
    flags = server_flags(redis_server_shared, rabbitmq)
    junebug = start_junebug({**flags, "require-auth": True, "admin-token": "a-token-of-the-docs-0123"})
    known = {"CHANNEL_ID": "bc5f2e63-7f53-4996-816d-4f89f45a5842", "$TOKEN": "", "TOKEN_ID": ""}
    text = (ROOT / "docs" / "access.md").read_text()
    commands, requests = (block.partition("```")[0] for block in text.split("```sh\n")[1:])
    for line in commands.splitlines():
        words = shlex.split(line.replace("CHANNEL_ID", known["CHANNEL_ID"]).replace("TOKEN_ID", known["TOKEN_ID"]))
        done = run_command(*words, *flags_of(redis_server_shared, flags), cwd=short_dir)
        assert done.returncode == 0, done
        if words[2:4] == ["create", "ops"]:
            known["$TOKEN"] = done.stdout.strip()
        known["TOKEN_ID"] = done.stdout.split("_")[1] if words[2] == "create" else known["TOKEN_ID"]
    answers = []
    for line in requests.replace("\\\n", "").splitlines():
        for name in ("CHANNEL_ID", "TOKEN_ID", "$TOKEN"):
            line = line.replace(name, known[name])
        words = shlex.split(line.replace("localhost:8080", f"127.0.0.1:{junebug.flags['port']}"))
        answers.append(json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout))
        known["TOKEN_ID"] = answers[0]["result"]["id"]
    assert [answer["description"] for answer in answers] == ["token created", "tokens retrieved", "token revoked"]
    (shown,) = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if "token created" in block]
    assert shown["result"].keys() == answers[0]["result"].keys()
    assert {each["name"] for each in answers[1]["result"]} == {"ops", "reminders"}


async def test_no_auth_leaves_it_to_a_proxy(start_junebug: StartJunebug) -> None:
    junebug = start_junebug({"interface": "0.0.0.0", "no-auth": True})
    assert await asked(junebug.flags["port"], "/channels/") == 200
    assert await asked(junebug.flags["port"], "/channels/", headers={"Host": "gateway.example"}) == 200


async def test_a_callback_to_our_own_servers_is_refused_and_kept(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    junebug = start_junebug()
    api = junebug.api
    for port in (junebug.flags["port"], junebug.flags["redis-port"], junebug.flags["amqp-port"]):
        url = f"http://127.0.0.1:{port}/channels/"
        channel = await Channels(api, sink).create("loopback", {}, mo_url=url)
        await (await channel.running()).send("+27", "to ourselves", event_url=url)

        async def letters(path: str = channel.path) -> Any:
            return (await api.get(f"{path}/dead-letters/")).result["dead_letters"]

        for letter in await eventually(letters):  # an event_url cannot be corrected
            assert (letter["to"], "own" in letter["error"]) == ("event_url", True)

        async def status(one: Channel = channel) -> Any:
            return (await one.get())["status"]["components"].get("callbacks")

        assert "own" in (await eventually(status))["details"]["mo_url"]  # a mo_url can: it waits
    assert len((await api.get("/channels/")).result) == 3
