"""A body that asks for a message becomes the message that is sent, or an error that says why not.

Neighbours: handlers/messages.py, bulk.py and routed_messages.py, which send it; schemas.py and views.py, which decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from junebug.api import schemas, views
from junebug.config.declaration import Settings
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry


@dataclass(frozen=True)
class Composer:
    settings: Settings
    registry: Registry

    def check(self, loaded: Any) -> dict[str, Any]:
        """What was decoded, if it can be a message for any channel. Raises InvalidBody, ApiUsageError."""
        body = schemas.message_send.check(loaded)
        views.check_addressing(body, self.settings.allow_expired_replies)
        return body

    def compose(
        self, body: Mapping[str, Any], spec: ChannelSpec, now: datetime, inbound: UserMessage | None, *,
        character_limit: int | None = None, **own: Any,
    ) -> UserMessage:  # fmt: skip
        """What is to be sent. `inbound`: what it replies to, None where that is unknown. `character_limit`: that of whoever
        sends, where it has one. `own`: message_id, timestamp, trace.

        Raises ApiUsageError, InvalidBody, MessageTooLong, and MessageNotFound when what it replies to is unknown or expired.
        """
        limit = character_limit or spec.character_limit
        views.check_length(body, self.registry.character_limit(spec.type) if limit is None else limit)
        expires_at = views.expiry(body, now)
        if inbound is not None:
            message = views.new_reply(body, spec.id, inbound, expires_at, **own)
        elif body.get("to") is None:  # beside a reply_to it is there only where allow_expired_replies lets both be given
            raise views.not_replyable(body["reply_to"])
        else:
            message = views.new_message(body, spec.id, expires_at, **own)
        self.registry.check_message(spec.type, spec.config, message)
        return views.with_event_url(message)
