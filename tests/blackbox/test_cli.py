"""The commands: flags over environment over file, clear errors, the parts apart (spec 1.3, 1.4, issue 2)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import aiormq
import pytest
import redis
import yaml

from junebug import __version__
from tests.blackbox.conftest import Channels, StartJunebug, server_flags
from tests.harness import (
    ROOT,
    Api,
    AppQueues,
    Channel,
    JunebugProcess,
    TelnetClient,
    WebhookSink,
    free_port,
    run_command,
    vumi_message,
)
from tests.polling import eventually
from tests.processes import is_alive
from tests.servers import RabbitmqServer, RedisServer
from tests.tables import rows
from tests.test_packaging import entry_points

SPEC_FLAGS = {
    "--config": "-c", "--interface": "-i", "--port": "-p", "--log-file": "-l", "--redis-host": "-redish",
    "--redis-port": "-redisp", "--redis-db": "-redisdb", "--redis-password": "-redispass", "--amqp-host": "-amqph",
    "--amqp-vhost": "-amqpvh", "--amqp-port": "-amqpp", "--amqp-user": "-amqpu", "--amqp-password": "-amqppass",
    "--inbound-message-ttl": "-ittl", "--outbound-message-ttl": "-ottl", "--channels": "-ch",
    "--replace-channels": "-rch", "--plugin": "-pl", "--metric-window": "-mw", "--logging-path": "-lp",
    "--log-rotate-size": "-lrs", "--max-log-files": "-mlf", "--max-logs": "-ml",
}  # fmt: skip
COMMANDS = ("jb", "junebug-api", "junebug-supervisor", "junebug-worker")


def assert_one_clear_line(done: Any, code: int, *words: str) -> None:
    """Exactly one line on stderr, which holds the words; no traceback, nothing on stdout."""
    assert done.returncode == code, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], (word, lines[0])
    assert "Traceback" not in done.stdout + done.stderr


# --- help and flags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_flag_of_the_specification(short_dir: Path, command: str, flag: str) -> None:
    done = run_command(command, flag, cwd=short_dir)
    assert done.returncode == 0
    for long, short in SPEC_FLAGS.items():
        assert re.search(rf"(?<![-\w]){re.escape(long)}(?![-\w])", done.stdout), long
        assert re.search(rf"(?<![-\w]){re.escape(short)}(?![-\w])", done.stdout), short


async def test_every_short_flag_works(
    start_junebug: StartJunebug, sink: WebhookSink, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer
) -> None:
    where = server_flags(redis_server_shared, rabbitmq)
    port = free_port()
    arguments = [
        "-i", "127.0.0.1", "-p", port, "-l", "all.log", "-redish", "127.0.0.1", "-redisp", where["redis-port"],
        "-redisdb", where["redis-db"], "-amqph", "127.0.0.1", "-amqpvh", "/", "-amqpp", where["amqp-port"],
        "-amqpu", "guest", "-amqppass", "guest", "-ittl", 100, "-ottl", 200, "-mw", 1, "-lp", "own-logs",
        "-lrs", 5000, "-mlf", 2, "-ml", 3, "-rch", "False",
    ]  # fmt: skip
    none = dict.fromkeys([*where, "port", "interface", "metric-window"])
    junebug = start_junebug(none, arguments=map(str, arguments), wait=False)
    junebug.api = Api(f"http://127.0.0.1:{port}")
    assert junebug.wait_listening() == junebug.api.url
    channel = await Channels(junebug.api, sink).loopback()
    await channel.send("+27")
    await sink.wait("/mo")
    assert len(await channel.logs()) == 3
    assert (junebug.directory / "own-logs" / channel.id).is_file()
    for line in (junebug.directory / "all.log").read_text().splitlines():
        assert isinstance(json.loads(line), dict)


async def test_flags_beat_the_environment_beats_the_file(
    start_junebug: StartJunebug, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer
) -> None:
    flag, environment, file = free_port(), free_port(), free_port()
    where = server_flags(redis_server_shared, rabbitmq)
    config = {
        "interface": "127.0.0.1",
        "port": file,
        "redis": {"host": "127.0.0.1", "port": where["redis-port"], "db": where["redis-db"]},
        "amqp": {"hostname": "127.0.0.1", "port": where["amqp-port"]},
        "data_dir": "v",
    }
    absent = dict.fromkeys([*where, "interface", "port", "data-dir"])
    for flags, variables, expected in (
        ({"port": flag}, {"JUNEBUG_PORT": str(environment)}, flag),
        ({"port": None}, {"JUNEBUG_PORT": str(environment)}, environment),
        ({"port": None}, {}, file),
    ):
        junebug = start_junebug({**absent, **flags}, config=config, environment=variables, wait=False)
        assert junebug.wait_listening() == f"http://127.0.0.1:{expected}"
        assert (await Api(f"http://127.0.0.1:{expected}").get("/health")).status == 200
        assert junebug.stop() == 0


@rows("command", [*entry_points("console_scripts"), "junebug backup"])
def test_every_command_tells_its_version(short_dir: Path, command: str) -> None:
    name, *words = command.split()
    done = run_command(name, *words, "--version", cwd=short_dir)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Junebug {__version__}\n", "")


async def test_port_0_takes_a_free_one_and_localhost_both_families(start_junebug: StartJunebug) -> None:
    junebug = start_junebug({"port": 0, "interface": "localhost"}, wait=False)
    url = junebug.wait_listening()
    port = int(url.rpartition(":")[2])
    assert url == f"http://localhost:{port}"
    hosts = ["127.0.0.1"]
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
            hosts.append("[::1]")
        except OSError:
            pass  # a machine without IPv6
    for host in hosts:
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/health") as answer:
            assert answer.status == 200


async def test_several_workers_share_the_port(start_junebug: StartJunebug) -> None:
    junebug = start_junebug({"workers": 3})
    assert [title for title in sorted(junebug.children().values()) if "api" in title] == [
        "junebug: api:1", "junebug: api:2", "junebug: api:3"
    ]  # fmt: skip
    assert junebug.stdout.count("Junebug is listening on ") == 1
    for _ in range(20):
        assert (await junebug.api.get("/channels/")).status == 200


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"prot": 8000}, ["prot", "unknown"]),
        ({"redis": {"hots": "x"}}, ["redis.hots", "unknown"]),
        ({"port": "eighty"}, ["port", "number"]),
        ({"port": 70000}, ["port", "65535"]),
        ({"redis": {"port": "x"}}, ["redis.port"]),
        ({"redis": 5}, ["redis"]),
        ({"amqp": {"db": "x"}}, ["amqp.db"]),
        ({"replace_channels": "perhaps"}, ["replace_channels"]),
        ({"channels": ["telnet"]}, ["channels"]),
        ({"plugins": [{"no": "type"}]}, ["plugins", "type"]),
        ({"metric_window": 0}, ["metric_window"]),
        (["a list"], ["config"]),
    ],
)
@pytest.mark.parametrize("command", ["jb", "junebug-worker"])
def test_a_wrong_setting_in_the_file_is_one_line_that_names_it(
    short_dir: Path, command: str, config: Any, words: list[str]
) -> None:
    (short_dir / "junebug.yaml").write_text(yaml.safe_dump(config))
    arguments = ["some-channel"] if command == "junebug-worker" else []
    done = run_command(command, *arguments, "-c", "junebug.yaml", cwd=short_dir)
    assert_one_clear_line(done, 2, *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", ["junebug.yaml", "YAML"]), ("password: 'x", ["junebug.yaml", "YAML"]), (None, ["junebug.yaml"])],
)
def test_a_file_that_cannot_be_read_is_one_line(short_dir: Path, text: str | None, words: list[str]) -> None:
    if text is not None:
        (short_dir / "junebug.yaml").write_text(text)
    assert_one_clear_line(run_command("jb", "-c", "junebug.yaml", cwd=short_dir), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--port", "eighty"], {}, ["--port"]),
        (["--port", "-5"], {}, ["--port"]),
        ([], {"JUNEBUG_PORT": "eighty"}, ["JUNEBUG_PORT"]),
        (["--channels", "no-colon"], {}, ["--channels"]),
        (["--channels", "x:no.such.Class"], {}, ["channels.x", "no.such.Class"]),
        (["--plugin", "{no json"], {}, ["--plugin"]),
        (["--plugin", '{"type": "no.such.Plugin"}'], {}, ["plugins", "no.such.Plugin"]),
        (["--metric-window", "0"], {}, ["--metric-window"]),
        (["--redis-db", "x"], {}, ["--redis-db"]),
    ],
)
def test_a_wrong_flag_or_variable_is_one_line_that_names_it(
    short_dir: Path,
    redis_server_shared: RedisServer,
    rabbitmq: RabbitmqServer,
    arguments: list[str],
    environment: dict[str, str],
    words: list[str],
) -> None:
    where = server_flags(redis_server_shared, rabbitmq)
    given = [f"--{name}={value}" for name, value in where.items() if f"--{name}" not in arguments]
    port = [] if "--port" in arguments or environment else ["--port", str(free_port())]
    done = run_command("jb", *given, *port, *arguments, cwd=short_dir, environment=environment)
    assert_one_clear_line(done, 2, *words)


def test_what_can_be_no_channels_id_is_one_line(short_dir: Path) -> None:
    assert_one_clear_line(run_command("junebug-worker", "../a", cwd=short_dir), 1, "CHANNEL_ID", "../a")


def test_an_unknown_flag_is_told_and_exits_2(short_dir: Path) -> None:
    done = run_command("jb", "--prot", "8000", cwd=short_dir)
    assert done.returncode == 2
    assert "--prot" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_secret_of_a_wrong_type_is_not_quoted(short_dir: Path) -> None:
    (short_dir / "junebug.yaml").write_text("redis: {password: [hunter2]}\n")
    done = run_command("jb", "-c", "junebug.yaml", cwd=short_dir)
    assert_one_clear_line(done, 2, "redis.password")
    assert "hunter2" not in done.stderr


@pytest.fixture
def fine(redis_server_shared: RedisServer, rabbitmq: RabbitmqServer) -> dict[str, Any]:
    """Flags of a `jb` that would start."""
    where = server_flags(redis_server_shared, rabbitmq)
    return {**where, "port": free_port(), "interface": "127.0.0.1"}


def as_arguments(flags: dict[str, Any]) -> list[str]:
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


@pytest.mark.parametrize("command", ["jb", "junebug-api"])
def test_a_port_in_use_is_one_line(short_dir: Path, fine: dict[str, Any], command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_command(command, *as_arguments({**fine, "port": port}), cwd=short_dir)
    assert_one_clear_line(done, 1, "port", str(port))


@pytest.mark.parametrize("command", ["jb", "junebug-api", "junebug-supervisor", "junebug-worker"])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"redis-port": "free"}, ["redis.port"]),
        ({"redis-db": 99_999_999}, ["redis.db"]),
        ({"amqp-port": "free"}, ["amqp.port"]),
        ({"amqp-password": "wr0ng-pass"}, ["amqp.password"]),
        ({"amqp-user": "n0body"}, ["amqp.username"]),
        ({"amqp-vhost": "no-such-vhost"}, ["amqp.vhost"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_server_that_refuses_is_one_line_that_names_the_setting(
    short_dir: Path, fine: dict[str, Any], command: str, wrong: dict[str, Any], words: list[str]
) -> None:
    wrong = {name: free_port() if value == "free" else value for name, value in wrong.items()}
    arguments = ["some-channel"] if command == "junebug-worker" else []
    done = run_command(command, *arguments, *as_arguments({**fine, **wrong}), cwd=short_dir)
    assert_one_clear_line(done, 1, *words)
    assert "wr0ng-pass" not in done.stderr + done.stdout


@pytest.mark.parametrize("password", [None, "wr0ng-pass"])
def test_a_redis_that_wants_another_password_is_one_line(
    short_dir: Path, fine: dict[str, Any], own_redis: RedisServer, password: str | None
) -> None:
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("requirepass", "right-pass")
    given = {"redis-password": password} if password else {}
    done = run_command("jb", *as_arguments({**fine, "redis-port": own_redis.port, "redis-db": 0, **given}), cwd=short_dir)
    assert_one_clear_line(done, 1, "redis.password")
    assert "wr0ng-pass" not in done.stderr + done.stdout


async def test_a_redis_with_a_password_works(
    start_junebug: StartJunebug, own_redis: RedisServer, sink: WebhookSink
) -> None:
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("requirepass", "right-pass")
    junebug = start_junebug({"redis-db": 0}, redis=own_redis, environment={"JUNEBUG_REDIS_PASSWORD": "right-pass"})
    channel = await Channels(junebug.api, sink).loopback()
    await channel.send("+27")
    await sink.wait("/mo")
    assert junebug.stop() == 0
    assert "right-pass" not in junebug.output()


def test_an_interface_that_is_not_ours_is_one_line(short_dir: Path, fine: dict[str, Any]) -> None:
    done = run_command("jb", *as_arguments({**fine, "interface": "192.0.2.1"}), cwd=short_dir)
    assert_one_clear_line(done, 1, "interface", "192.0.2.1")


def test_a_data_dir_that_cannot_be_made_is_one_line(short_dir: Path, fine: dict[str, Any]) -> None:
    (short_dir / "file").write_text("")
    done = run_command("jb", *as_arguments({**fine, "data-dir": "file/var"}), cwd=short_dir)
    assert_one_clear_line(done, 1, "data_dir")


# --- environment variables of the original ----------------------------------------------------------------------------


def test_junebug_disable_logging_leaves_the_announcement_only(start_junebug: StartJunebug) -> None:
    junebug = start_junebug(environment={"JUNEBUG_DISABLE_LOGGING": "true"})
    assert junebug.stop() == 0
    assert junebug.output().splitlines() == [f"Junebug is listening on {junebug.api.url}"]


def test_without_it_jb_logs_to_the_command_line(start_junebug: StartJunebug) -> None:
    junebug = start_junebug()
    assert junebug.stop() == 0
    assert len(junebug.output().splitlines()) > 1


def test_junebug_reactor_is_accepted_with_a_notice(start_junebug: StartJunebug) -> None:
    junebug = start_junebug(environment={"JUNEBUG_REACTOR": "EPOLL"})
    assert "JUNEBUG_REACTOR" in junebug.stderr
    assert junebug.stop() == 0


# --- the parts apart --------------------------------------------------------------------------------------------------


async def test_api_and_supervisor_work_apart(
    start_junebug: StartJunebug, sink: WebhookSink, fine: dict[str, Any]
) -> None:
    """Each in a directory of its own, as two systemd units or two lines of a Procfile."""
    api = start_junebug(fine, command="junebug-api")
    created = await api.api.post(
        "/channels/", {"type": "loopback", "config": {}, "mo_url": sink.url("/mo")}
    )
    channel = Channel(api.api, created.result)
    await channel.send("+27", "waits for the supervisor")
    flags = {**fine, "port": None, "interface": None}
    supervisor = start_junebug(flags, command="junebug-supervisor", wait=False)
    await sink.wait_content("/mo", "waits for the supervisor")
    assert channel.id in supervisor.channel_pids()
    assert not any("api" in title for title in supervisor.children().values())
    assert supervisor.stop() == 0
    await channel.send("+27", "waits again")
    assert api.stop() == 0
    api.start()
    supervisor.start(wait=False)
    await sink.wait_content("/mo", "waits again")
    assert (supervisor.stop(), api.stop()) == (0, 0)
    assert "Traceback" not in supervisor.output() + api.output()


async def test_junebug_worker_runs_one_channel_in_the_foreground(
    start_junebug: StartJunebug, sink: WebhookSink, fine: dict[str, Any]
) -> None:
    api = start_junebug(fine, command="junebug-api")
    port = free_port()
    config = {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"}
    body = {"type": "telnet", "config": config, "mo_url": sink.url("/mo")}
    channel = Channel(api.api, (await api.api.post("/channels/", body)).result, port)
    flags = {**fine, "port": None, "interface": None}
    worker = start_junebug(flags, command="junebug-worker", arguments=[channel.id], wait=False)
    async with await channel.connect() as client:
        await client.say("one process is enough")
        await sink.wait_content("/mo", "one process is enough")
    assert await channel.pid() == worker.pid
    assert worker.stop() == 0


def test_junebug_worker_of_an_unknown_channel_ends(short_dir: Path, fine: dict[str, Any]) -> None:
    flags = {name: value for name, value in fine.items() if name not in ("port", "interface")}
    done = run_command("junebug-worker", "no-such-channel", *as_arguments(flags), cwd=short_dir)
    assert done.returncode == 1
    assert "no-such-channel" in done.stdout + done.stderr + "".join(
        path.read_text() for path in (short_dir / "logs").glob("*")
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["file", "environment", "flag"])
async def test_channel_types_can_be_added_in_each_way(start_junebug: StartJunebug, where: str) -> None:
    path = "tests.blackbox.channel_types.BrokenTransport"
    environment = {"PYTHONPATH": str(ROOT)}
    if where == "environment":
        environment["JUNEBUG_CHANNELS"] = f"mine:{path},other:{path}"
    junebug = start_junebug(
        config={"channels": {"mine": path, "other": path}} if where == "file" else None,
        arguments=["--channels", f"mine:{path}", "--channels", f"other:{path}"] if where == "flag" else [],
        environment=environment,
    )
    for name in ("mine", "other", "loopback"):
        assert (await junebug.api.post("/channels/", {"type": name, "config": {}})).status == 201


async def test_replace_channels_drops_the_defaults(start_junebug: StartJunebug) -> None:
    junebug = start_junebug(
        {"channels": "mine:tests.blackbox.channel_types.BrokenTransport", "replace-channels": "True"},
        environment={"PYTHONPATH": str(ROOT)},
    )
    assert (await junebug.api.post("/channels/", {"type": "mine", "config": {}})).status == 201
    refused = await junebug.api.post("/channels/", {"type": "telnet", "config": {"telnet_port": 9001}})
    assert (refused.status, refused.error_types) == (400, {"InvalidChannelType"})
    assert "mine" in refused.errors[0]["message"]
    assert "telnet," not in refused.errors[0]["message"]


# --- all in one -------------------------------------------------------------------------------------------------------


async def test_embedded_keeps_channels_and_messages_between_runs(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    none = dict.fromkeys(["redis-host", "redis-port", "redis-db", "amqp-port", "amqp-vhost"])
    junebug = start_junebug({**none, "embedded": True}, wait=False)
    junebug.wait_listening(timeout=90)
    channel = await Channels(junebug.api, sink).telnet(status_url=sink.url("/status"))
    unheard = await Channels(junebug.api, sink).create("loopback", {}, mo_url="http://127.0.0.1:9/")
    await (await unheard.running()).send("+27", "not yet heard")
    async with await channel.connect() as client:
        await client.say("first run")
        await sink.wait_content("/mo", "first run")
    children = junebug.children()
    assert any("redis-server" in title for title in children.values())
    await _others_get_nothing(junebug)
    listening = await asyncio.to_thread(_listening_addresses, list(children))
    channel_address = f"127.0.0.1:{channel.port}"
    assert channel_address in listening
    assert {address.rpartition(":")[0] for address in listening} <= {"127.0.0.1", "::1"}, "it is open to everybody"
    await unheard.modify(mo_url=sink.url("/mo"))
    os.kill(junebug.pid, signal.SIGKILL)  # its servers, too, keep what they confirmed
    await eventually(lambda: not [pid for pid in children if is_alive(pid)])
    junebug.wait()
    junebug.start(wait=False)
    junebug.wait_listening(timeout=90)
    await sink.wait_content("/mo", "not yet heard")
    async with await TelnetClient.connect(channel.port) as client:
        await client.say("second run")
        await sink.wait_content("/mo", "second run")
    children = junebug.children()
    assert set((await junebug.api.get("/channels/")).result) == {channel.id, unheard.id}
    assert junebug.stop() == 0
    assert [pid for pid in children if is_alive(pid)] == []
    assert "Traceback" not in junebug.output()


async def _others_get_nothing(junebug: JunebugProcess) -> None:
    """Another user of this machine, who may connect to loopback and look at files."""
    data = junebug.directory / "v"
    ports = json.loads((data / "embedded-ports.json").read_text())
    reader, writer = await asyncio.open_connection("127.0.0.1", ports["redis"])
    writer.write(b"KEYS *\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.close()
    with pytest.raises(aiormq.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{ports['amqp']}/", timeout=10)
    open_to_others = [
        path for path in [*data.rglob("*"), *junebug.logs_directory.rglob("*")]
        if not path.is_symlink() and path.stat().st_mode & 0o077
    ]  # fmt: skip
    assert open_to_others == []


def _listening_addresses(pids: list[int]) -> set[str]:
    """host:port of every TCP socket on which one of these processes listens."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(descriptor).removeprefix("socket:[").rstrip("]"))
            except OSError:
                continue
    found = set()
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                words = (bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8))
                found.add(f"{socket.inet_ntop(family, b''.join(words))}:{int(port, 16)}")
    return found


@pytest.mark.parametrize("missing", ["redis-server", "rabbitmq-server"])
def test_embedded_says_what_is_missing_and_how_to_get_it(short_dir: Path, missing: str) -> None:
    """A PATH without the binary is a machine without it (of RabbitMQ's, epmd is on the PATH)."""
    path = short_dir / "bin"
    path.mkdir()
    if missing == "rabbitmq-server":
        (path / "redis-server").symlink_to("/bin/true")
    port = str(free_port())
    done = run_command("jb", "--embedded", "--port", port, cwd=short_dir, environment={"PATH": str(path)})
    assert_one_clear_line(done, 1, missing, "apt-get install")


async def test_an_app_that_was_there_first_keeps_its_queues(
    start_junebug: StartJunebug, app: AppQueues, sink: WebhookSink, fine: dict[str, Any]
) -> None:
    """jb starts on a RabbitMQ on which an application has declared everything, and outbound messages wait."""
    await app.declare("inbound", "event", "outbound")
    await app.send(vumi_message(to_addr="+27", content="was first"))
    junebug = start_junebug(fine)
    await Channels(junebug.api, sink).loopback(amqp_queue=app.name, mo_url=None)
    assert (await app.next("inbound"))["content"] == "was first"
