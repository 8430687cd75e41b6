"""`junebug tokens`: API tokens made, listed and revoked: in Redis itself, also before anybody could ask the API for one; over
the API where `--url` (JUNEBUG_URL) says where that is.

With `--embedded` the Redis is that of a `jb --embedded` that runs on the same data_dir.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from junebug import embedded, names
from junebug.client.command import connection_options, group
from junebug.client.exits import Exit, Failure
from junebug.client.output import Output
from junebug.client.targets import ID
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, StoreUnavailable, TokenNotFound
from junebug.model.access import SCOPES, new_token
from junebug.model.messages import parse_timestamp
from junebug.runtime.title import hide_secrets
from junebug.settings_command import command
from junebug.stores import Stores

if TYPE_CHECKING:
    from junebug.client.api import Api

TIMEOUT = 10.0
T = TypeVar("T")


@command(
    "create",
    "Make a token; its text, which nobody sees again, is all of the output.",
    click.Argument(["name"]),
    click.Option(["--scope", "scopes"], multiple=True, required=True, type=click.Choice(SCOPES), help="What it may do."),
    click.Option(["--for", "ids"], multiple=True, metavar="ID", help="A channel, router or destination; without: for all."),
    click.Option(["--expires-at"], metavar="TIME", help="UTC; without: it does not expire."),
    *connection_options(None),
)
def create(
    settings: Settings, name: str, scopes: Sequence[str], ids: Sequence[str], expires_at: str | None, url: str | None,
    token: str | None, as_json: bool,
) -> int:  # fmt: skip
    wrong = [id for id in ids if not names.is_channel_id(id)]
    if wrong or not name.isprintable():
        raise Failure(f"--for: {wrong[0][:100]!r} is no id" if wrong else "NAME: it must be printable", Exit.USAGE)
    try:
        until = None if expires_at is None else parse_timestamp(expires_at)
    except (ValueError, OverflowError):
        raise Failure(f"--expires-at: expected a time as 2027-01-31 12:00, got {expires_at!r}", Exit.USAGE) from None
    if url:
        body: Any = {"name": name, "scopes": list(scopes), "channels": list(ids) or None, "expires_at": until}
        made: Mapping[str, Any] = _over_api(url, token, lambda api: api.create_token(body))
    else:
        text, new = new_token(name, scopes, ids or None, created_by="command line", expires_at=until)
        run_on_stores(settings, lambda stores: stores.tokens.add(new))
        made = {**new.shown(), "token": text}
    if as_json:
        Output(True).document(made)
    else:
        print(made["token"])
    return Exit.GOOD


@command("list", "The tokens that there are, without their texts.", *connection_options(None))
def show(settings: Settings, url: str | None, token: str | None, as_json: bool) -> int:
    if url:
        found: Sequence[Mapping[str, Any]] = _over_api(url, token, lambda api: api.list_tokens())
    else:
        found = [each.shown() for each in run_on_stores(settings, lambda stores: stores.tokens.all())]
    Output(as_json).table(
        ["ID", "CREATED", "EXPIRES", "SCOPES", "FOR", "NAME"],
        [
            (each["id"], each["created_at"][:19], each["expires_at"], ",".join(each["scopes"]), ",".join(each["channels"] or "*"),
             each["name"])
            for each in found
        ],
        found,
    )  # fmt: skip
    return Exit.GOOD


@command("revoke", "Make a token good for nothing.", click.Argument(["token_id"], type=ID), *connection_options(None))
def revoke(settings: Settings, token_id: str, url: str | None, token: str | None, as_json: bool) -> int:
    if url:
        _over_api(url, token, lambda api: api.revoke_token(token_id))
    else:
        run_on_stores(settings, lambda stores: stores.tokens.remove(token_id))
    Output(as_json).done(f"revoked {token_id}", {})
    return Exit.GOOD


tokens = group("tokens", "API tokens: who may use the API, and for what.", create, show, revoke)


def _over_api(url: str, token: str | None, ask: Callable[[Api], T]) -> T:
    """Raises Failure."""
    from junebug.client.api import Api

    hide_secrets([token])
    with Api(url, token) as api:
        return ask(api)


def run_on_stores(settings: Settings, work: Callable[[Stores], Awaitable[T]]) -> T:
    """Its result, of what Redis holds. Raises Failure."""

    async def run() -> T:
        stores = Stores(embedded.running(settings) if settings.embedded else settings, TIMEOUT)
        try:
            return await work(stores)
        finally:
            await stores.close()

    try:
        return asyncio.run(run())
    except TokenNotFound as error:
        raise Failure(str(error), Exit.NOT_FOUND) from None
    except StoreUnavailable as error:
        raise Failure(str(error), Exit.AWAY) from None
    except ApiUsageError as error:
        raise Failure(str(error)) from None
