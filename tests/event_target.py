"""Where an MT's events go, as the store has it."""

from __future__ import annotations

from junebug import names
from junebug.stores import Stores
from junebug.stores.outbound import EventTarget


async def event_target(stores: Stores, channel: str, message_id: str) -> EventTarget:
    key = names.outbound_message(channel, message_id)
    (found,) = await stores._redis.run(("HMGET", key, "event_url", "event_auth_token"))
    return EventTarget(*found)
