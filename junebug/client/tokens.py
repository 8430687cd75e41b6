"""`junebug tokens`: API tokens made, listed and revoked in Redis itself: also before anybody could ask the API for one.

With `--embedded` the Redis is that of a `jb --embedded` that runs on the same data_dir.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click

from junebug import embedded, names
from junebug.cli import command
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, StartupError, StoreUnavailable, TokenNotFound
from junebug.model.access import SCOPES, new_token
from junebug.model.messages import parse_timestamp
from junebug.stores import Stores

TIMEOUT = 10.0
T = TypeVar("T")


@click.group()
def tokens() -> None:
    """API tokens: who may use the API, and for what."""


@command(
    "create",
    "Make a token; its text, which nobody sees again, is all of the output.",
    click.Argument(["name"]),
    click.Option(["--scope", "scopes"], multiple=True, required=True, type=click.Choice(SCOPES), help="What it may do."),
    click.Option(["--for", "ids"], multiple=True, metavar="ID", help="A channel, router or destination; without: for all."),
    click.Option(["--expires-at"], metavar="TIME", help="UTC; without: it does not expire."),
)
def create(settings: Settings, name: str, scopes: Sequence[str], ids: Sequence[str], expires_at: str | None) -> int:
    wrong = [id for id in ids if not names.is_channel_id(id)]
    if wrong or not name.isprintable():
        raise StartupError(f"--for: {wrong[0][:100]!r} is no id" if wrong else "NAME: it must be printable")
    try:
        until = None if expires_at is None else parse_timestamp(expires_at)
    except ValueError:
        raise StartupError(f"--expires-at: expected a time as 2027-01-31 12:00, got {expires_at!r}") from None
    text, token = new_token(name, scopes, ids or None, created_by="command line", expires_at=until)
    _run(settings, lambda stores: stores.tokens.add(token))
    print(text)
    return 0


@command("list", "The tokens that there are, without their texts: a line each.")
def show(settings: Settings) -> int:
    for token in _run(settings, lambda stores: stores.tokens.all()):
        scopes, ids = ",".join(token.shown()["scopes"]), ",".join(sorted(token.channels or ())) or "*"
        print(token.id, token.created_at[:19], token.expires_at or "-", scopes, ids, token.name, sep="  ")
    return 0


@command("revoke", "Make a token good for nothing.", click.Argument(["token_id"]))
def revoke(settings: Settings, token_id: str) -> int:
    _run(settings, lambda stores: stores.tokens.remove(token_id))
    print(f"revoked {token_id}", file=sys.stderr)
    return 0


for each in (create, show, revoke):
    tokens.add_command(each)


def _run(settings: Settings, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Its result. Raises StartupError."""

    async def run() -> T:
        stores = Stores(embedded.running(settings) if settings.embedded else settings, TIMEOUT)
        try:
            return await work(stores)
        finally:
            await stores.close()

    try:
        return asyncio.run(run())
    except (StoreUnavailable, ApiUsageError, TokenNotFound) as error:
        raise StartupError(str(error)) from None
