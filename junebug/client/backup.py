"""`junebug backup` and `junebug restore`: what Redis holds of Junebug into a file, and back. It talks to Redis itself.

Neighbours: stores/copies.py reads and writes the keys, backup_file.py the file. docs/operations.md says what is in it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from junebug import embedded, names
from junebug.client.backup_file import BackupFile, new_backup
from junebug.client.output import plural
from junebug.config.declaration import Settings
from junebug.errors import StartupError, StoreUnavailable
from junebug.settings_command import command
from junebug.stores import copies
from junebug.stores.client import RedisClient
from junebug.stores.copies import Part

TIMEOUT = 30.0
"""Seconds that Redis may take for a part of it."""
T = TypeVar("T")


@command(
    "backup",
    "Write channels, routers, tokens and what is known of messages to FILE (`-`: standard output). It holds secrets.",
    click.Argument(["file"]),
)
def backup(settings: Settings, file: str) -> int:
    counts: Counter[str] = Counter()

    async def save(_: Settings, redis: RedisClient) -> None:
        with new_backup(file) as write:
            async for part in copies.read(redis):
                write(part)
                _count(counts, part)

    _run(settings, save)
    print(f"saved {_told(counts)} in {file}", file=sys.stderr)
    return 0


@command(
    "restore",
    "Put what FILE holds into Redis: one that holds no channels, while no Junebug runs on it.",
    click.Argument(["file"]),
    click.Option(["--force"], is_flag=True, help="What Redis holds of Junebug is removed before."),
    click.Option(["--dry-run"], is_flag=True, help="Say what would be done; change nothing."),
)
def restore(settings: Settings, file: str, force: bool, dry_run: bool) -> int:
    backup, counts = BackupFile(file), Counter[str]()
    now = time.time()
    for part in backup.parts():  # the whole of it is good before anything is written
        _count(counts, part, now)
    made = f"made {str(backup.header.get('made_at'))[:19]} by Junebug {str(backup.header.get('junebug'))[:20]}"
    print(f"{file}: {made}: {_told(counts)}", file=sys.stderr)
    _run(settings, functools.partial(_restore, backup, force=force, dry_run=dry_run))
    return 0


async def _restore(backup: BackupFile, settings: Settings, redis: RedisClient, *, force: bool, dry_run: bool) -> None:
    channels, routers = await redis.run(("SCARD", names.CHANNELS), ("SCARD", names.ROUTERS))
    where = f"Redis at {settings.redis.where} (database {settings.redis.db})"
    objections = []
    if channels or routers:
        objections.append(f"it holds {plural(channels, 'channel')} and {plural(routers, 'router')} already")
    if not settings.embedded and await copies.is_used(redis, settings.redis.db):  # that of `jb --embedded` is never without it
        objections.append("a Junebug runs on it: stop that first")
    if objections and not force:
        why = "; ".join(objections)
        raise StartupError(f"{where}: {why}. With --force what it holds of Junebug is replaced. Nothing was restored")
    if dry_run:
        would = "would be removed before" if objections else "is empty of channels"
        print(f"{where}: what it holds of Junebug {would}; nothing was changed (--dry-run)", file=sys.stderr)
        return
    removed = await copies.remove_all(redis)
    try:
        await copies.write(redis, backup.parts(), time.time())
        await copies.announce(redis)
    except (StoreUnavailable, StartupError) as error:
        raise StartupError(f"{error}. It is restored in part, and no channel is there yet: do it again") from None
    print(f"{where}: restored" + (f"; {removed} keys were removed before" if removed else ""), file=sys.stderr)


def _count(counts: Counter[str], part: Part, now: float | None = None) -> None:
    if now is not None and part["expires_at"] is not None and part["expires_at"] <= now * 1000:
        counts["expired"] += not part.get("more")
        return
    kinds = {names.CHANNELS: "channel", names.ROUTERS: "router", names.API_TOKENS: "API token"}
    if kind := kinds.get(part["key"]):
        counts[kind] += len(part["value"])
    else:
        counts["other key"] += not part.get("more")


def _told(counts: Counter[str]) -> str:
    told = [plural(counts[kind], kind) for kind in ("channel", "router", "API token", "other key")]
    expired = [f"{counts['expired']} that expired"] if counts["expired"] else []
    return ", ".join([*told, *expired])


def _run(settings: Settings, work: Callable[[Settings, RedisClient], Awaitable[T]]) -> T:
    """Its result, of the settings as they are with embedded servers. Raises StartupError."""
    os.umask(0o077)
    settings = embedded.running(settings) if settings.embedded else settings

    async def run() -> T:
        redis = RedisClient(settings.redis, TIMEOUT)
        try:
            return await work(settings, redis)
        except StoreUnavailable as error:
            raise StartupError(f"{redis.culprit(error)}: {error}") from None
        finally:
            await redis.close()

    return asyncio.run(run())
