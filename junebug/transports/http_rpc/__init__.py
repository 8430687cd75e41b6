"""Channels that a provider calls over HTTP, and that answer in the response: what their types have in common. The light part.

door/server.py listens, transport.py brings each request to the application and its reply back. Not a type by itself: dmark and
http_api are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from junebug.errors import InvalidChannelConfig

SECRETS = ("web_password",)
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]+")

PROPERTIES: dict[str, Any] = {
    "web_path": {
        "type": "string", "minLength": 1, "maxLength": 200,
        "description": "Path of the provider's requests; a slash before it is added where it is missing.",
    },
    "web_port": {
        "type": "integer", "minimum": 1, "maximum": 65535,
        "description": "Port to listen on; without one the channel is behind the listener that all share, where there is one "
                       "(setting http_types.port).",
    },
    "web_host": {"type": "string", "default": "0.0.0.0", "description": "Address to listen on, beside web_port."},
    "web_username": {"type": "string", "description": "With web_password: what requests must bear (HTTP Basic)."},
    "web_password": {"type": "string", "description": "Beside web_username."},
    "web_auth_domain": {"type": "string", "default": "Junebug", "description": "The realm that is named to who bears neither."},
    "health_path": {
        "type": "string", "default": "health",
        "description": 'Path that answers {"pending_requests": n} to anybody; behind the shared listener it is under web_path.',
    },
    "request_timeout": {
        "type": "number", "minimum": 0.1, "maximum": 3600, "default": 240,
        "description": "Seconds in which the application must reply to a request.",
    },
    "request_timeout_status_code": {
        "type": "integer", "minimum": 200, "maximum": 599, "default": 504,
        "description": "HTTP status of the answer when it does not.",
    },
    "request_timeout_body": {"type": "string", "default": "", "description": "Body of that answer."},
    "max_pending_requests": {
        "type": "integer", "minimum": 1, "maximum": 100_000, "default": 1000,
        "description": "Requests that may wait for the application at the same time; one more is answered 503.",
    },
    "response_time_degraded": {
        "type": "number", "minimum": 0, "default": 1.0,
        "description": "Seconds that a response may take before the component `response` is degraded.",
    },
    "response_time_down": {
        "type": "number", "minimum": 0, "default": 10.0,
        "description": "Seconds that a response may take before the component `response` is down.",
    },
    **{
        name: {"description": "Vumi's own; taken and not used."}
        for name in (
            "request_cleanup_interval", "noisy", "transport_name", "redis_manager", "worker_name", "publish_status",
            "metadata_store",
        )
    },
}  # fmt: skip
VALIDATION_MODE: dict[str, Any] = {
    "type": "string", "enum": ["strict", "permissive"], "default": "strict",
    "description": "Whether a request with a parameter that is not the protocol's is refused; permissive: it is taken without.",
}  # fmt: skip


def check(config: dict[str, Any], paths: Sequence[str] = ("web_path", "health_path")) -> None:
    """Raises InvalidChannelConfig for what the schema cannot say. `paths`: the options that name one, each another."""
    problems = []
    for one, other in (("web_username", "web_password"), ("web_password", "web_username")):
        if config.get(one) and not config.get(other):
            problems.append((f"config.{other}", f"is needed beside {one}"))
    seen: dict[str, str] = {}
    for name in paths:
        path = config.get(name, PROPERTIES.get(name, {}).get("default"))
        if path is None:
            continue
        if not _PATH.fullmatch(path) or ".." in path.split("/") or not path.strip("/"):
            problems.append((f"config.{name}", "expected a path of letters, digits and -._~ between slashes"))
        elif (before := seen.setdefault(path.strip("/"), name)) != name:
            problems.append((f"config.{name}", f"is the same path as {before}"))
    if problems:
        raise InvalidChannelConfig(problems)
