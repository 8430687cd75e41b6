"""What channel types are tested with: a Redis database for what each keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from junebug.config.declaration import RedisSettings, Settings
from junebug.stores import Stores
from junebug.stores.transport import TransportStore


@pytest.fixture
async def store(redis_settings: RedisSettings) -> AsyncIterator[TransportStore]:
    stores = Stores(Settings(redis=redis_settings))
    yield stores.transport("channel")
    await stores.close()
