"""Settings that let in, or out, more than is meant (docs/access.md)."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from junebug.api.access import are_loopback, asks_for_token
from junebug.api.sockets import addresses
from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.config.declaration import DENIED_NETWORKS, OPTIONS, Settings
from junebug.errors import StartupError

_SECRETS = {option.name for option in OPTIONS if option.secret}


def check(settings: Settings, tokens: int | None) -> Iterator[Finding]:
    """`tokens`: how many Redis has; None: nobody knows."""
    yield _access(settings, tokens)
    yield _callbacks(settings)
    if "*" in settings.allowed_hosts:
        advice = "name the hosts by which the API is called: with `*` any page can have a browser use it"
        yield warning("allowed_hosts", "any", advice)


def _access(settings: Settings, tokens: int | None) -> Finding:
    is_open = not is_loopback(settings.interface)
    if settings.no_auth and is_open:
        advice = "leave no_auth out and make tokens (junebug tokens create), unless nobody but an authenticating proxy gets there"
        return warning("access", f"no_auth: whoever reaches {settings.interface}:{settings.port} may do everything", advice)
    if not asks_for_token(settings, on_loopback=not is_open):
        return ok("access", f"{settings.interface}: no token is needed, and this machine alone reaches it")
    if not settings.admin_token and tokens == 0:
        advice = "junebug tokens create --scope admin NAME, or set admin_token (JUNEBUG_ADMIN_TOKEN)"
        return failed("access", f"{settings.interface} needs an API token, and there is none: Junebug does not start", advice)
    return ok("access", f"{settings.interface}: each request needs an API token")


def is_loopback(interface: str) -> bool:
    """Whether nobody but this machine reaches the API there; of what is none of its addresses that cannot be said."""
    try:
        return are_loopback(address for _, address in addresses(interface))
    except StartupError:
        return False


def _callbacks(settings: Settings) -> Finding:
    allowed = [ipaddress.ip_network(text) for text in settings.callback_allow]
    denied = [ipaddress.ip_network(text) for text in settings.callback_deny]
    usually = [ipaddress.ip_network(text) for text in DENIED_NETWORKS]
    everything = [str(network) for network in allowed if network.prefixlen == 0]
    usual = ", ".join(DENIED_NETWORKS)
    advice = f"name the networks of your applications alone, and leave {usual} denied: metadata services are there"
    if everything:
        return warning("callbacks", f"callback_allow has {', '.join(everything)}: callback_deny counts for nothing", advice)
    for network in usually:
        is_denied = any(network.version == each.version and network.subnet_of(each) for each in denied)  # type: ignore[arg-type]
        excepted = [each for each in allowed if each.version == network.version and each.overlaps(network)]
        if not is_denied or excepted:
            return warning("callbacks", f"whoever sends a message can have {network} called", advice)
    return ok("callbacks", "link-local and metadata addresses are never called")


def config_file(path: str | None, in_file: Mapping[str, Any]) -> Iterator[Finding]:
    """Who may read it, where it holds secrets; it may be a link."""
    if not path:
        return
    held = sorted(name for name in _SECRETS.intersection(in_file) if in_file[name] not in (None, "", "guest"))
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if held and mode & 0o007:
        advice = f"chmod o= {Path(path).absolute()}, and change what it holds if others have accounts here"
        yield failed("config file", f"{path} holds {', '.join(held)}, and everybody on this machine may read it", advice)
    else:
        yield ok("config file", f"{path}: " + ("its secrets are for its owner and group" if held else "it holds no secrets"))
