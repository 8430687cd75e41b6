"""Whether a message that comes is one that came: its id alone does not tell, as an application may use it for two."""

from __future__ import annotations

import zlib
from typing import TypeAlias

from junebug.model.messages import UserMessage

Identity: TypeAlias = tuple[str, int]
"""A message's id, and the sum of what else makes it that message. The same in any process."""


def identity_of(message: UserMessage) -> Identity:
    parts = f"{message.to_addr}\0{message.from_addr}\0{message.helper_metadata or None}\0{message.content}"
    return message.message_id, zlib.crc32(parts.encode(errors="surrogatepass"))
