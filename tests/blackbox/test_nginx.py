"""The nginx plugin of a running Junebug: what the world sees of HTTP channels, through a real nginx.

The settings are those of docs/plugins.md, but for paths and ports. `web` has the options that the plugin reads of every HTTP
type: TYPE and CONFIG are all that another one needs here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.blackbox.conftest import Channels, StartJunebug, own_database, running_jb, server_flags
from tests.harness import Api, Channel, JunebugProcess, WebhookSink, free_port, unique
from tests.nginx_server import SERVER_NAME, NginxServer
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer

TYPE, CONFIG = "web", {"name": "here"}
CHANNELS = "web:tests.blackbox.channel_types.WebTransport"
PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
SERVED, BAD_REQUEST, NOT_FOUND, NOBODYS, BAD_GATEWAY = 200, 400, 404, 418, 502


def example(language: str, word: str) -> str:
    """The example of the docs that has this word."""
    return next(text for text in re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S) if word in text)


@pytest.fixture(scope="module")
def nginx() -> Iterator[NginxServer]:
    server = NginxServer()
    server.start()
    yield server
    server.destroy()


def documented_plugin(nginx: NginxServer, **options: Any) -> dict[str, Any]:
    """The plugin's object from the docs, its paths those of this nginx."""
    (documented,) = yaml.safe_load(example("yaml", "NginxPlugin"))["plugins"]
    assert documented["server_name"] == SERVER_NAME
    ours = nginx.plugin_config(**options)
    assert documented["type"] == ours["type"]
    return {**documented, **ours}


@pytest.fixture(scope="module")
def jb(
    redis_server_shared: RedisServer, rabbitmq: RabbitmqServer, nginx: NginxServer
) -> Iterator[JunebugProcess]:
    plugin = json.dumps(documented_plugin(nginx))
    flags = {**server_flags(redis_server_shared, rabbitmq), "channels": CHANNELS, "plugin": plugin}
    with running_jb(flags) as junebug:
        yield junebug
    assert not nginx.vhost_file.exists()
    assert nginx.location_files() == set()


async def get(port: int, path: str, host: str) -> tuple[int, str]:
    """Status and text."""
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Host": host}) as answer:
        return answer.status, await answer.text()


async def ask(nginx: NginxServer, path: str) -> tuple[int, str]:
    """What the world gets there."""
    return await get(nginx.port, path, SERVER_NAME)


async def becomes(nginx: NginxServer, path: str, status: int, text: str | None = None) -> None:
    """And is so for good: no worker of before a reload is left."""

    async def is_so() -> bool:
        workers = nginx.workers()
        found = await ask(nginx, path)
        assert found[0] == status, found
        return text in (None, found[1]) and len(workers) == 1 and nginx.workers() == workers

    await eventually(is_so, what=f"{status} at {path}")


async def web(channels: Channels, path: str, **config: Any) -> Channel:
    """A channel that runs; `public_http` and the like are added to its config."""
    port = free_port()
    return await (await channels.create(TYPE, {"web_path": path, "web_port": port, **CONFIG, **config}, port)).running()


async def plugins(api: Api) -> list[dict[str, Any]]:
    answer = await api.get("/health")
    assert answer.status == 200
    assert "plugins" in answer.result
    return list(answer.result["plugins"])


async def becomes_well(api: Api) -> None:
    async def is_well() -> bool:
        return [each["status"] for each in await plugins(api)] == ["ok"]

    await eventually(is_well, what="no problem in /health")


async def test_channels_are_proxied_changed_and_removed(channels: Channels, nginx: NginxServer, api: Api) -> None:
    first = await web(channels, "/first", name="one")
    second = await web(channels, "no/slash", name="two")
    hidden = await web(channels, "/firstborn", public_http={"enabled": False})
    await becomes(nginx, "/first", SERVED, "one")
    await becomes(nginx, "/no/slash", SERVED, "two")
    assert (await ask(nginx, "/firstborn"))[0] == NOT_FOUND
    await becomes_well(api)
    await first.modify(config={**first.created["config"], "web_path": "/other", "name": "changed"})
    await becomes(nginx, "/other", SERVED, "changed")
    await becomes(nginx, "/first", NOT_FOUND)
    await hidden.modify(config={**hidden.created["config"], "public_http": {"web_path": "/shown"}})
    await becomes(nginx, "/shown", SERVED)
    await hidden.modify(public_http={"enabled": False}, config={**hidden.created["config"], "public_http": None})
    await becomes(nginx, "/shown", NOT_FOUND)
    await hidden.modify(public_http=None)
    await becomes(nginx, "/firstborn", SERVED)
    await second.delete()
    await becomes(nginx, "/no/slash", NOT_FOUND)
    assert nginx.location_files() == {f"{first.id}.conf", f"{hidden.id}.conf"}
    assert (await ask(nginx, "/other"))[0] == SERVED


async def test_a_message_from_outside_is_answered(channels: Channels, nginx: NginxServer, sink: WebhookSink) -> None:
    """The channel of the docs, its port another: dmark, whose provider calls from outside."""
    documented = json.loads(example("json", "web_path"))
    assert documented["type"] == "dmark"
    config = {**documented["config"], "web_port": free_port(), "web_host": "127.0.0.1"}
    channel = await (await channels.create("dmark", config)).running()
    path = documented["config"]["public_http"]["web_path"]
    await becomes(nginx, path, BAD_REQUEST)  # it is dmark that refuses a request without parameters
    query = "transactionId=t&msisdn=27&ussdServiceCode=*1%23&transactionTime=n&ussdRequestString=&creationTime=n&response=false"
    asked = asyncio.create_task(ask(nginx, f"{path}?{query}"))
    received = await sink.wait_for("/mo", lambda body: body["channel_id"] == channel.id)
    assert (received["from"], received["channel_data"]["session_event"]) == ("27", "new")
    await channel.send(content="What now?", reply_to=received["message_id"])
    status, answer = await asked
    assert (status, json.loads(answer)) == (SERVED, {"responseString": "What now?", "action": "request"})


async def test_what_is_wrong_is_told_and_stops_no_channel(channels: Channels, nginx: NginxServer, api: Api) -> None:
    good = await web(channels, "/good")
    hostile = await web(channels, "/x { } location /y", name="inside")
    await becomes(nginx, "/good", SERVED)

    async def told() -> bool:
        (plugin,) = await plugins(api)
        assert (plugin["status"], plugin.get("problem_count")) == ("failing", 1)
        (problem,) = plugin["problems"]
        assert (problem["method"], problem["channel_id"]) == ("channel_started", hostile.id)
        return bool(problem["message"].startswith("web_path: ") and problem["since"])

    await eventually(told)
    inside = await get(hostile.port, "/x%20%7B%20%7D%20location%20/y", "localhost")
    assert inside == (SERVED, "inside")  # it runs for all that
    assert nginx.location_files() == {f"{good.id}.conf"}
    await hostile.delete()
    await becomes_well(api)


@pytest.mark.parametrize("value", [{"enabled": "no"}, {"web_port": "x"}, {"hidden": True}, "off"])
async def test_a_public_http_of_a_wrong_form_is_refused_by_the_api(api: Api, value: Any) -> None:
    config = {"web_path": "/a", "web_port": free_port()}
    for body in ({"config": {**config, "public_http": value}}, {"config": config, "public_http": value}):
        answer = await api.post("/channels/", {"type": TYPE, **body})
        assert answer.status == 400
        assert "public_http" in str(answer.errors)


async def test_an_error_in_nginx_config_is_told_and_what_worked_works_on(
    channels: Channels, nginx: NginxServer, api: Api
) -> None:
    await web(channels, "/before")
    await becomes(nginx, "/before", SERVED)
    elsewhere = nginx.vhost_file.with_name("elsewhere.conf")
    elsewhere.write_text("nonsense;\n")
    try:
        later = await web(channels, "/later")

        async def told() -> bool:
            (plugin,) = await plugins(api)
            return plugin["status"] == "failing" and 'unknown directive "nonsense"' in plugin["problems"][0]["message"]

        await eventually(told)
        assert f"{later.id}.conf" not in nginx.location_files()
        assert (await ask(nginx, "/before"))[0] == SERVED
        assert (await later.component("worker"))["status"] == "ok"
    finally:
        elsewhere.unlink()
    await web(channels, "/last")
    await becomes(nginx, "/later", SERVED)
    await becomes(nginx, "/last", SERVED)
    await becomes_well(api)


async def test_a_killed_reconciler_takes_no_channel_off_the_air(
    channels: Channels, nginx: NginxServer, jb: JunebugProcess
) -> None:
    channel = await web(channels, "/steady")
    await becomes(nginx, "/steady", SERVED)
    file = nginx.locations_dir / f"{channel.id}.conf"
    stale = nginx.locations_dir / "stale.conf"
    stale.write_text(file.read_text().replace("/steady", "/stale"))
    pid = jb.pid_titled("junebug: reconciler")
    os.kill(pid, signal.SIGKILL)

    async def stale_is_gone() -> bool:
        assert (await ask(nginx, "/steady"))[0] == SERVED
        return not stale.exists()

    await eventually(stale_is_gone)
    assert file.exists()


async def test_a_restart_writes_anew_what_belongs_to_it(
    start_junebug: StartJunebug, sink: WebhookSink, redis_server_shared: RedisServer, short_dir: Path
) -> None:
    nginx = NginxServer()
    nginx.start()
    try:
        plugin = json.dumps(documented_plugin(nginx))
        flags = {"redis-db": own_database(), "channels": CHANNELS, "plugin": plugin, "lease-ttl": 4}  # the second waits for it
        first = start_junebug(flags)
        channels = Channels(first.api, sink)
        kept = await web(channels, "/kept")
        await becomes(nginx, "/kept", SERVED)
        first.kill()
        await becomes(nginx, "/kept", BAD_GATEWAY)
        left = nginx.locations_dir / f"{unique('gone')}.conf"
        left.write_text((nginx.locations_dir / f"{kept.id}.conf").read_text().replace("/kept", "/gone"))
        nginx.vhost_file.unlink()
        second = start_junebug(flags)
        await becomes(nginx, "/kept", SERVED)
        await becomes(nginx, "/gone", NOT_FOUND)
        await eventually(lambda: not left.exists() and nginx.vhost_file.exists())
        assert second.stop() == 0
        await becomes(nginx, "/kept", NOBODYS)
        assert not nginx.vhost_file.exists()
    finally:
        nginx.destroy()


async def test_without_nginx_all_channels_run_and_health_says_so(
    start_junebug: StartJunebug, sink: WebhookSink, nginx: NginxServer
) -> None:
    plugin: Mapping[str, Any] = documented_plugin(nginx, nginx_command="/no/such/nginx")
    junebug = start_junebug({"channels": CHANNELS, "plugin": json.dumps(plugin)})
    channel = await web(Channels(junebug.api, sink), "/a")

    async def told() -> bool:
        (one,) = await plugins(junebug.api)
        return one["status"] == "failing" and "nginx is not installed" in one["problems"][0]["message"]

    await eventually(told)
    assert (await get(channel.port, "/a", "localhost"))[0] == SERVED
    await eventually(lambda: "nginx is not installed" in junebug.output())  # a thread writes it, a moment later
