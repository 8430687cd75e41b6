"""Options that router types have in common: pieces of their schemas."""

from __future__ import annotations

from typing import Any

CHANNEL: dict[str, Any] = {
    "type": "string", "minLength": 1, "maxLength": 255,
    "description": "Id of the channel whose messages are routed. It has neither mo_url nor amqp_queue, and no other router.",
}  # fmt: skip
DEFAULT: dict[str, Any] = {
    "type": ["boolean", "null"], "default": False,
    "description": "Whether it gets what no destination is for. One destination of a router may be so.",
}  # fmt: skip
