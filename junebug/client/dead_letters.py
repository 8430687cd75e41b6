"""`junebug dead-letters`: what an application did not take, of a channel, a router or a destination."""

from __future__ import annotations

from collections.abc import Sequence

import click

from junebug.client.command import Junebug, api_command, group
from junebug.client.output import plural
from junebug.client.resources import confirmed, yes_option
from junebug.client.targets import ID, target_of, target_parameters


def _ids() -> click.Option:
    return click.Option(["--id", "ids"], multiple=True, metavar="ID", type=ID, help="Only this one. May be repeated.")


@api_command(
    "list", "The dead letters, the oldest first.", *target_parameters(),
    click.Option(["--limit"], type=click.IntRange(1, 1000), help="How many. Default: 100."),
    click.Option(["--offset"], type=click.IntRange(0, 10_000), help="How many to leave out before."),
)  # fmt: skip
def list_letters(
    junebug: Junebug, channel: str | None, router: str | None, destination: str | None, limit: int | None, offset: int | None
) -> None:
    target = target_of(junebug.api, channel, router, destination)
    found = target.dead_letters(*target.ids, limit=limit, offset=offset)
    letters = found["dead_letters"]
    junebug.out.table(
        ["ID", "TIME", "WHAT", "REASON", "ERROR", "ATTEMPTS"],
        [
            (each["id"], each["timestamp"][:19], each.get("kind") or each.get("queue"), each["reason"], each.get("error"),
             each.get("attempts"))
            for each in letters
        ],
        found,
    )  # fmt: skip
    if len(letters) < found["total"] and not junebug.out.as_json:
        junebug.out.note(f"{len(letters)} of {found['total']}; --offset and --limit show others")


@api_command("replay", "Give dead letters to the application again: all, or some.", *target_parameters(), _ids())
def replay(
    junebug: Junebug, channel: str | None, router: str | None, destination: str | None, ids: Sequence[str]
) -> None:
    target = target_of(junebug.api, channel, router, destination)
    done = target.replay(*target.ids, {"ids": list(ids)} if ids else {})
    skipped = f", {done['skipped']} cannot be" if done["skipped"] else ""
    junebug.out.done(f"{done['replayed']} replayed{skipped}", done)


@api_command("delete", "Delete dead letters: all, or some.", *target_parameters(), _ids(), yes_option())
def delete(
    junebug: Junebug, channel: str | None, router: str | None, destination: str | None, ids: Sequence[str], yes: bool
) -> None:
    target = target_of(junebug.api, channel, router, destination)
    confirmed(f"Delete {plural(len(ids), 'dead letter') if ids else 'all dead letters'} of {target}?", yes)
    if ids:
        deleted = sum(target.delete_letter(*target.ids, each)["deleted"] for each in ids)
    else:
        deleted = target.delete_letters(*target.ids)["deleted"]
    junebug.out.done(f"{deleted} deleted", {"deleted": deleted})


dead_letters = group("dead-letters", "What an application did not take.", list_letters, replay, delete)
