"""What the parts of one channel's worker have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores


@dataclass(frozen=True, slots=True)
class ChannelContext:
    channel: str
    settings: Settings
    broker: Broker
    stores: Stores
    spec: Callable[[], ChannelSpec]
    """The channel's spec as it is now: a changed mo_url holds from the next attempt on."""
    own: Callable[[str, Coroutine[Any, Any, Any]], asyncio.Task[Any]]
    """Runs a side task (its name, its work) that the worker lives and dies with."""
