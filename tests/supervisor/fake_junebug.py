"""A supervisor as `jb` would start it, with channels and an API that do nothing: `python -m` with the settings as JSON.

A channel's heart beats, it writes what it was told to `<data_dir>/launch/<id>` and lives until SIGTERM: whoever
reads that knows a process that has shown life, and whose silence counts. Ids that begin with a word of BEHAVIOURS behave
badly.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from junebug.amqp.broker import Broker
from junebug.config.declaration import AmqpSettings, HttpTypesSettings, RedisSettings, Settings
from junebug.embedded import ServerProgram
from junebug.model.spec import ChannelSpec, Launch
from junebug.runtime import heartbeat
from junebug.stores import Stores
from junebug.supervisor import daemon

BEHAVIOURS = ("crash", "deaf", "print")


def run_channel(settings: Settings, channel: str, launch: Launch) -> int:
    told = Path(settings.data_dir) / "launch" / channel
    open_files = sorted(int(number) for number in os.listdir("/proc/self/fd"))[:-1]
    heartbeat.beat()
    told.write_text(json.dumps({"pid": os.getpid(), "fds": open_files, **dataclasses.asdict(launch)}))
    if channel.startswith("crash"):
        raise RuntimeError(f"{channel} crashed on purpose")
    if channel.startswith("print"):
        print("printed by a channel", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if channel.startswith("deaf") else lambda *_: os._exit(0))
    while True:
        heartbeat.beat()
        time.sleep(0.2)


def run_api(settings: Settings, number: int) -> int:
    listener = socket.socket(fileno=int(os.environ["FAKE_LISTENER"]))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"api {number} listens", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.sendall(f"{os.getpid()}".encode())
        connection.close()


async def drain(
    settings: Settings, broker: Broker, stores: Stores, spec: ChannelSpec, delayed: Sequence[str], named: Collection[str]
) -> None:
    directory = Path(settings.data_dir)
    with (directory / "drains").open("a") as file:
        file.write(json.dumps({"channel": spec.id, "label": spec.label, "delayed": list(delayed)}) + "\n")
    if spec.id.startswith("crash"):
        raise RuntimeError("a fault in the drain")
    while spec.id.startswith("slow") and not (directory / "go").exists():
        await asyncio.sleep(0.02)


def main() -> int:
    given: dict[str, Any] = json.loads(sys.argv[1])
    values = given.pop("settings")
    groups = {"redis": RedisSettings, "amqp": AmqpSettings, "http_types": HttpTypesSettings}
    settings = Settings(**{**values, **{name: group(**values[name]) for name, group in groups.items()}})
    for directory in (Path(settings.data_dir) / "launch", settings.log_dir, settings.run_dir):
        directory.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server(("127.0.0.1", 0))
    os.environ["FAKE_LISTENER"] = str(listener.fileno())
    (Path(settings.data_dir) / "port").write_text(str(listener.getsockname()[1]))
    servers = (ServerProgram("sleeper", ("/bin/sleep", "1000"), {}, priority=10),) if given.get("servers") else ()
    return daemon.run(
        settings,
        daemon.Programs(
            run_channel=run_channel if given.get("channels", True) else None,
            run_router=run_channel if given.get("channels", True) else None,
            run_api=run_api,
            drain=drain,
            keep_descriptors=(listener.fileno(),),
            servers=servers,
        ),
    )
