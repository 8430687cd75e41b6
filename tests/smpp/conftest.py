"""A channel's worker between real servers and a simulated SMSC."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import pytest

from junebug.config.declaration import Settings
from junebug.stores import Stores
from junebug.stores.transport import TransportStore
from tests.worker.conftest import bench, queue_type  # noqa: F401 - fixtures


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the channel type, whether or not its entry point is installed."""
    return dataclasses.replace(settings, channels={"smpp": "junebug.transports.smpp:CHANNEL_TYPE"})


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[TransportStore]:
    """What a transport keeps, in a Redis database of this test's own."""
    stores = Stores(settings)
    yield stores.transport("channel")
    await stores.close()
