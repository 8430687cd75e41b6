"""`jb --embedded`: a private redis-server and rabbitmq-server on loopback, their data kept under `data_dir`.

Only says which programs to run and how; the supervisor runs them, and the tests do. A private RabbitMQ beside a system
one needs its own node name, ports, epmd, cookie and directories (DESIGN §5).
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from junebug.erlang_modules import boot_environment
from junebug.errors import StartupError

LOOPBACK = "127.0.0.1"
PORTS = (20_000, 32_000)
RABBITMQ_SCRIPT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""The real one: Debian's wrapper in /usr/sbin switches to the user rabbitmq."""
PORTS_FILE, PASSWORDS_FILE = "embedded-ports.json", "embedded-passwords.json"
AMQP_USER = "junebug"
_MISSING = "{program} is missing, which --embedded starts: install it with `apt-get install {package}` (or `make install`)"


@dataclass(frozen=True)
class ServerProgram:
    """A server to be exec'd beside our own processes."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    priority: int
    """Started from low to high, stopped from high to low."""


def embed(settings: Settings) -> tuple[Settings, tuple[ServerProgram, ...]]:
    """The settings as they are with embedded servers, and these. Raises StartupError naming what is not installed."""
    data = Path(settings.data_dir).absolute()
    ports = _ports(data / PORTS_FILE, ("redis", "amqp", "dist", "epmd"))
    passwords = _passwords(data / PASSWORDS_FILE)
    programs = (
        redis_program(data / "redis", ports["redis"], passwords["redis"]),
        *rabbitmq_programs(data / "rabbitmq", ports["amqp"], ports["dist"], ports["epmd"], passwords["amqp"]),
    )
    return _of_embedded(settings, ports, passwords), programs


def running(settings: Settings) -> Settings:
    """The settings as they are with the embedded servers of a `jb` that runs on the same data_dir. Raises StartupError."""
    data = Path(settings.data_dir)
    try:
        found = [json.loads((data / name).read_text()) for name in (PORTS_FILE, PASSWORDS_FILE)]
        return _of_embedded(settings, *found)
    except (OSError, ValueError, KeyError, TypeError):
        raise StartupError(
            f"data_dir: {settings.data_dir!r} is not that of a `jb --embedded` that has run, or is another user's"
        ) from None


def _of_embedded(settings: Settings, ports: Mapping[str, int], passwords: Mapping[str, str]) -> Settings:
    return dataclasses.replace(
        settings,
        redis=RedisSettings(host=LOOPBACK, port=ports["redis"], db=settings.redis.db, password=passwords["redis"]),
        amqp=AmqpSettings(hostname=LOOPBACK, port=ports["amqp"], username=AMQP_USER, password=passwords["amqp"]),
    )


def redis_program(directory: Path, port: int, password: str = "") -> ServerProgram:
    """A Redis that keeps its data in `directory` through restarts and kills. `password`: empty: it asks for none."""
    program = shutil.which("redis-server")
    if program is None:
        raise StartupError(_MISSING.format(program="redis-server", package="redis-server"))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    options = {
        "port": str(port), "bind": LOOPBACK, "dir": str(directory), "daemonize": "no",
        "appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
    }  # fmt: skip
    config = directory / "redis.conf"  # a command line is seen by everybody
    _write(config, f"requirepass {password}\n" if password else "")
    command = [program, str(config), *(part for name, value in options.items() for part in (f"--{name}", value))]
    return ServerProgram("redis", tuple(command), {}, priority=10)


def rabbitmq_programs(
    directory: Path, port: int, dist_port: int, epmd_port: int, password: str = ""
) -> tuple[ServerProgram, ...]:
    """A RabbitMQ node that keeps its data in `directory`, and the epmd (Erlang's name server) it needs. `password`: of
    AMQP_USER, who is its only user; empty: it has guest.
    """
    epmd = shutil.which("epmd")
    if epmd is None or not os.path.exists(RABBITMQ_SCRIPT):
        raise StartupError(_MISSING.format(program="rabbitmq-server", package="rabbitmq-server"))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / "enabled_plugins").write_text("[].\n")
    config = "log.console = false\nlog.file.level = warning\n"
    if password:
        definitions = directory / "definitions.json"
        _write(definitions, json.dumps(_definitions(password, has_guest=(directory / "mnesia").exists())))
        config += f"load_definitions = {definitions}\n"
    _write(directory / "rabbitmq.conf", config)
    erlang = {"ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": LOOPBACK, "HOME": str(directory)}
    erlang["ERL_CRASH_DUMP"] = str(directory / "erl_crash.dump")
    node = {
        **erlang,
        "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the Erlang VM instead of staying its parent
        "RABBITMQ_NODENAME": "junebug@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),  # not there: not the system's
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # it is not alone on this machine: bound to the first core, it waits for others
        # the distribution port would otherwise listen on every interface
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        **boot_environment(RABBITMQ_SCRIPT, directory / "plugins"),
    }
    return (
        ServerProgram("epmd", (epmd, "-port", str(epmd_port), "-address", LOOPBACK), erlang, priority=10),
        ServerProgram("rabbitmq", (RABBITMQ_SCRIPT,), node, priority=20),
    )


def _definitions(password: str, *, has_guest: bool) -> dict[str, Any]:
    """What RabbitMQ imports at each start, instead of making guest. `has_guest`: an older Junebug let it; it may not log in."""
    salt = secrets.token_bytes(4)
    hashed = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    users = [{"name": AMQP_USER, "password_hash": hashed, "tags": "administrator"}]
    if has_guest:
        users.append({"name": "guest", "password_hash": "", "tags": ""})
    for user in users:
        user["hashing_algorithm"] = "rabbit_password_hashing_sha256"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": users, "vhosts": [{"name": "/"}],
        "permissions": [{"user": AMQP_USER, "vhost": "/", **everything}],
    }  # fmt: skip


def descriptor_limit(port: int) -> int | None:
    """How many files the process that listens on this loopback port may open; None when we may not know.

    At its limit RabbitMQ does not refuse a connection, it lets it hang.
    """
    process = listener(port)
    try:
        soft = process and re.search(r"^Max open files\s+(\d+)", (process / "limits").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(soft[1]) if soft else None


def listener(port: int) -> Path | None:
    """The process that listens on this port, as its directory in /proc; None: nobody does, or another user's."""
    inodes = _listening_inodes(port)
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        try:
            if any(os.readlink(each) in inodes for each in (process / "fd").iterdir()):
                return process
        except OSError:
            continue  # it ended, or is another user's
    return None


def _listening_inodes(port: int) -> set[str]:
    listening = "0A"
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def free_ports(count: int, among: tuple[int, int] = PORTS, preferred: Sequence[Any] = ()) -> list[int]:
    """Loopback ports that nobody listens on, below those that the kernel gives to outgoing connections.

    `preferred`: taken where they are free; from a file, so they may be anything.
    """
    found: list[int] = []
    with ExitStack() as stack:
        for port in preferred or [None] * count:
            while True:
                probe = stack.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
                try:
                    probe.bind((LOOPBACK, port or random.randrange(*among)))
                    probe.listen()  # else another could be bound to it as well
                except (OSError, TypeError, OverflowError):
                    port = None
                    continue
                found.append(int(probe.getsockname()[1]))
                break
    return found


def _write(path: Path, text: str) -> None:
    """For nobody else's eyes."""
    path.unlink(missing_ok=True)  # another one's mode would stay
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _passwords(remembered: Path) -> dict[str, str]:
    """Made once: somebody may have looked them up."""
    try:
        found = json.loads(remembered.read_text())
        if all(isinstance(found[name], str) and len(found[name]) >= 32 for name in ("redis", "amqp")):
            return {name: found[name] for name in ("redis", "amqp")}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    passwords = {name: secrets.token_hex(32) for name in ("redis", "amqp")}
    remembered.parent.mkdir(parents=True, exist_ok=True)
    _write(remembered, json.dumps(passwords))
    return passwords


def _ports(remembered: Path, names: tuple[str, ...]) -> dict[str, int]:
    """A port for each name: that of the last run while it is still free."""
    try:
        before = json.loads(remembered.read_text())
    except (OSError, ValueError):
        before = {}
    ports = dict(zip(names, free_ports(len(names), preferred=[before.get(name) for name in names]), strict=True))
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(json.dumps(ports))
    return ports
