"""One `jb` for each module here that asks a real one: it wants a token."""

from __future__ import annotations

import pytest

from tests.blackbox import conftest as blackbox
from tests.client.running import TOKEN, Cli
from tests.harness import JunebugProcess

jb, sink = blackbox.jb, blackbox.sink


@pytest.fixture
def cli(jb: JunebugProcess) -> Cli:
    return Cli(jb.api.url)


FLAGS = {"require-auth": True, "admin-token": TOKEN}
"""For a module to take."""
