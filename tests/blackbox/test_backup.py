"""`junebug backup` and `junebug restore`, as an operator uses them, and what a file that is no backup does."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import redis

from tests.blackbox.conftest import Channels, StartJunebug, server_flags
from tests.blackbox.test_access import flags_of
from tests.harness import WebhookSink, command_path, run_command
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer
from tests.tables import rows

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flags(redis_server_shared: RedisServer, rabbitmq: RabbitmqServer) -> dict[str, Any]:
    return server_flags(redis_server_shared, rabbitmq)


@pytest.fixture
def database(redis_server_shared: RedisServer, flags: dict[str, Any]) -> redis.Redis:
    return redis.Redis(port=redis_server_shared.port, db=flags["redis-db"], decode_responses=True)


@pytest.fixture
def junebug(short_dir: Path, redis_server_shared: RedisServer, flags: dict[str, Any]) -> Run:
    """`junebug(*words)` on that database."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = run_command("junebug", *words, *flags_of(redis_server_shared, flags), cwd=short_dir)
        assert "Traceback" not in done.stderr, done
        return done

    return run


async def test_backed_up_emptied_restored_and_a_message_passes(
    start_junebug: StartJunebug, junebug: Run, flags: dict[str, Any], database: redis.Redis, sink: WebhookSink, short_dir: Path
) -> None:
    token = junebug("tokens", "create", "ops", "--scope", "admin").stdout.strip()
    running = start_junebug(flags)
    channel = await Channels(running.api, sink).loopback({}, label="of the backup")
    message = await channel.send("+27", "before", event_url=sink.url("/event"))
    await sink.wait_content("/mo", "before")
    await channel.event(message["message_id"], "submitted")
    saved = junebug("backup", "b.gz")  # while it runs
    assert saved.returncode == 0, saved
    assert "saved 1 channel, 0 routers, 1 API token" in saved.stderr
    file = short_dir / "b.gz"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in short_dir.iterdir() if path.name.startswith(".")] == []
    assert token not in gzip.decompress(file.read_bytes()).decode()
    assert "there already" in junebug("backup", "b.gz").stderr

    later = await Channels(running.api, sink).loopback({})
    refused = junebug("restore", "b.gz")
    assert refused.returncode == 1
    assert "holds 2 channels and 0 routers already; a Junebug runs on it" in refused.stderr
    assert junebug("restore", "b.gz", "--force").returncode == 0  # under a Junebug that runs
    await eventually(lambda: later.id not in running.channel_pids())
    assert (await running.api.get("/channels/")).result == [channel.id]
    await (await channel.running()).send("+27", "by force")
    await sink.wait_content("/mo", "by force")
    assert running.stop() == 0
    events = database.hgetall(f"{channel.id}:outbound_messages:{message['message_id']}")
    database.flushdb()
    database.set("user:status", "another program's")
    assert junebug("restore", "b.gz", "--dry-run").returncode == 0
    assert database.keys() == ["user:status"]
    restored = junebug("restore", "b.gz")
    assert restored.returncode == 0, restored
    assert database.hgetall(f"{channel.id}:outbound_messages:{message['message_id']}") == events
    assert 0 < database.ttl(f"{channel.id}:outbound_messages:{message['message_id']}") <= 172800

    again = start_junebug({**flags, "require-auth": True})
    known = {"headers": {"Authorization": f"Bearer {token}"}}
    assert (await again.api.get("/channels/")).status == 401
    assert (await again.api.get("/channels/", **known)).result == [channel.id]
    body = {"to": "+27", "content": "after"}
    assert (await again.api.post(f"/channels/{channel.id}/messages/", body, **known)).status == 201
    await sink.wait_content("/mo", "after")


def test_a_file_that_is_no_whole_backup_changes_nothing(junebug: Run, database: redis.Redis, short_dir: Path) -> None:
    """In which ways it can be none: tests/client/test_backup_file.py."""
    database.sadd("channels", "c")
    database.set("c:properties", "{}")
    assert junebug("backup", "x.gz").returncode == 0
    (short_dir / "torn.gz").write_bytes((short_dir / "x.gz").read_bytes()[:-30])
    database.set("c:properties", "changed")
    done = junebug("restore", "torn.gz", "--force")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "its end is missing. Nothing was restored" in line
    assert database.get("c:properties") == "changed"


def test_force_puts_it_in_the_place_of_what_is_there(junebug: Run, database: redis.Redis, short_dir: Path) -> None:
    for id in ("kept", "changed"):
        database.sadd("channels", id)
        database.set(f"{id}:properties", "before")
    assert junebug("backup", "b.gz").returncode == 0
    database.sadd("channels", "later")
    database.mset({"changed:properties": "after", "later:properties": "after", "another": "program's"})
    assert junebug("restore", "b.gz").returncode == 1
    assert database.get("changed:properties") == "after"
    assert junebug("restore", "b.gz", "--force").returncode == 0
    assert database.smembers("channels") == {"kept", "changed"}
    assert (database.get("changed:properties"), database.get("later:properties"), database.get("another")) == (
        "before", None, "program's",
    )  # fmt: skip


def test_to_the_standard_output(junebug: Run, database: redis.Redis, short_dir: Path, flags: dict[str, Any]) -> None:
    """Into a program that encrypts it."""
    database.sadd("channels", "c")
    database.set("c:properties", "{}")
    words = " ".join(f"--{name} {flags[name]}" for name in ("redis-host", "redis-port", "redis-db"))
    told: dict[str, Any] = {"capture_output": True, "text": True}
    subprocess.run(f"{command_path('junebug')} backup - {words} | cat > o.gz", shell=True, cwd=short_dir, check=True)
    done = subprocess.run(f"{command_path('junebug')} backup - {words} > /dev/full", shell=True, cwd=short_dir, **told)
    assert (done.returncode, done.stderr.splitlines()) == (1, [mock.ANY])
    assert "standard output cannot be written" in done.stderr
    database.flushdb()
    assert junebug("restore", "o.gz").returncode == 0
    assert database.smembers("channels") == {"c"}


@rows("words", [("backup", "away.gz"), ("restore", "good.gz")])
def test_while_redis_is_away(short_dir: Path, words: tuple[str, ...]) -> None:
    header = '{"junebug_backup":1,"made_at":"x","junebug":"1.0.0"}\n'
    end = {"end": 1, "sha256": hashlib.sha256(header.encode()).hexdigest()}
    (short_dir / "good.gz").write_bytes(gzip.compress(f"{header}{json.dumps(end)}\n".encode()))
    done = run_command("junebug", *words, "--redis-host", "127.0.0.1", "--redis-port", "1", cwd=short_dir)
    assert done.returncode == 1
    assert "redis.host, redis.port: " in done.stderr
    assert sorted(path.name for path in short_dir.iterdir()) == ["good.gz"]
