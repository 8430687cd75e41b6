"""Where one operation's answer leads: what was made has an id, which others take."""

from __future__ import annotations

import re
from typing import Any

from junebug import errors
from junebug.api.openapi.operations import OPERATIONS

_MADE_BY = {
    "channel_id": "create_channel", "router_id": "create_router", "destination_id": "create_destination",
    "token_id": "create_token", "message_id": "send_message",
}  # fmt: skip
"""Parameter -> the operation that makes what it names."""
_NOT_FOUND = {
    "channel_id": errors.ChannelNotFound, "router_id": errors.RouterNotFound, "destination_id": errors.DestinationNotFound,
    "token_id": errors.TokenNotFound,
}  # fmt: skip
_PARAMETER = re.compile(r"\{(\w+)\}")


def _links() -> dict[str, dict[str, Any]]:
    """Operation -> the links of its answer, by name."""
    paths = {operation.id: _PARAMETER.findall(operation.path) for operation in OPERATIONS}
    found: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        names = paths[operation.id]
        maker = _MADE_BY.get(names[-1]) if names else None
        if maker is None or operation.old_name_of or not set(paths[maker]) <= set(names):
            continue
        missing = {each for each in operation.errors if getattr(each, "status", 0) == 404}
        if missing - {_NOT_FOUND.get(name) for name in names}:  # what it is asked for may not be there, although this is
            continue
        parameters = {name: f"$request.path.{name}" for name in names[:-1]}
        parameters[names[-1]] = "$response.body#/result/id"
        if set(names[:-1]) <= set(paths[maker]):
            found.setdefault(maker, {})[operation.id] = {"operationId": operation.id, "parameters": parameters}
    return found


LINKS = _links()
