"""`junebug hosts`: the hosts that share the channels, in Redis itself (docs/scale-out.md)."""

from __future__ import annotations

import click

from junebug.client.command import group
from junebug.client.exits import Exit, Failure
from junebug.client.output import Output
from junebug.client.tokens import run_on_stores
from junebug.config.declaration import Settings
from junebug.settings_command import command
from junebug.stores.leases import HostEntry

_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


@command("list", "The hosts of the last day.", _JSON)
def show(settings: Settings, as_json: bool) -> int:
    found = run_on_stores(settings, lambda stores: stores.leases.hosts())
    Output(as_json).table(
        ["ID", "STATE", "RUNS", "CAPACITY", "LABELS", "MACHINE"],
        [(each.id, _state(each), each.leases, each.capacity or None, _labels(each), each.name) for each in found],
        [
            {"id": each.id, "state": _state(each), "runs": each.leases, "capacity": each.capacity or None,
             "labels": dict(each.labels), "machine": each.name}
            for each in found
        ],
    )
    return Exit.GOOD


@command("drain", "Have a host hand over all it runs, and take no more.", click.Argument(["host_id"]), _JSON)
def drain(settings: Settings, host_id: str, as_json: bool) -> int:
    return _drain(settings, host_id, as_json, is_drained=True)


@command("undrain", "Let a host that was drained have its share again.", click.Argument(["host_id"]), _JSON)
def undrain(settings: Settings, host_id: str, as_json: bool) -> int:
    return _drain(settings, host_id, as_json, is_drained=False)


hosts = group("hosts", "Hosts that share the channels.", show, drain, undrain)


def _state(host: HostEntry) -> str:
    if not host.is_living:
        return "away"
    return "drained" if host.drained else "no_rabbitmq" if host.has_broker is False else "living"


def _labels(host: HostEntry) -> str:
    return ",".join(f"{name}:{value}" for name, value in sorted(host.labels.items()))


def _drain(settings: Settings, host: str, as_json: bool, *, is_drained: bool) -> int:
    """Raises Failure."""
    if not run_on_stores(settings, lambda stores: stores.leases.drain(host, is_drained=is_drained)):
        raise Failure(f"HOST_ID: there is no host {host[:100]!r}; see `junebug hosts list`", Exit.NOT_FOUND)
    Output(as_json).done(f"{'drained' if is_drained else 'undrained'} {host}", {})
    return Exit.GOOD
