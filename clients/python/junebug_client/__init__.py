"""A client of Junebug's HTTP API: `Client`, and `AsyncClient` for asyncio; `webhooks` checks what Junebug sends.

_methods.py and _async_methods.py have a method for each operation, models.py what goes in and out (_bodies.py, _answers.py),
problems.py an error class for each `type` of error: these are generated from Junebug's OpenAPI document by generate.py.
"""

from junebug_client import models, problems, webhooks
from junebug_client._client import AsyncClient, Client
from junebug_client._events import StreamEvent
from junebug_client._exchange import Retries
from junebug_client._version import VERSION
from junebug_client.errors import ApiError, JunebugError, NoAnswer, UnexpectedAnswer

__version__ = VERSION
__all__ = [
    "ApiError", "AsyncClient", "Client", "JunebugError", "NoAnswer", "Retries", "StreamEvent", "UnexpectedAnswer", "models",
    "problems", "webhooks",
]  # fmt: skip
