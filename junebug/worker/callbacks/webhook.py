"""POST a JSON body to an application's URL: one attempt, one outcome. Whether to repeat is the caller's affair.

The status line of the answer decides; its body is not needed. Neighbours: http_client.py sends, attempts.py expands templates
before, destination.py says how many calls a host gets at a time.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from junebug import __version__
from junebug.logs.redaction import redact_url
from junebug.model import urls
from junebug.model.signing import sign
from junebug.model.trace import headers_of
from junebug.model.urls import HttpUrl
from junebug.runtime.retry_after import seconds_until
from junebug.worker.callbacks.answer import Answer
from junebug.worker.callbacks.http_client import HttpClient
from junebug.worker.callbacks.targets import Targets

MAX_REDIRECTS = 3
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""Ours: what another host writes there is shown to nobody."""
_REDIRECTS = frozenset({301, 302, 307, 308})
_HEADERS = {
    "User-Agent": f"Junebug/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity", "Content-Type": "application/json"
}  # fmt: skip


class Outcome(msgspec.Struct, frozen=True):
    """`status` is None when no answer came; `reason` says what went wrong, without secrets."""

    ok: bool
    status: int | None = None
    reason: str = ""
    retry_after: float | None = None
    is_hopeless: bool = False
    """Nothing was asked, and never will be: the URL, or a header, is none."""


class Webhook:
    """One process's way to applications."""

    def __init__(self, timeout: float, targets: Targets) -> None:
        """`timeout`: seconds for a whole attempt. `targets`: where calls may go."""
        self._timeout = timeout
        self._client = HttpClient(targets)

    async def close(self) -> None:
        self._client.close()

    async def post(
        self, url: str, body: dict[str, Any], auth_token: str | None = None, *, id: str = "", secret: str | None = None,
        trace: str | None = None,
    ) -> Outcome:  # fmt: skip
        """One attempt. Never raises for what the other side does.

        `id`: the same at each attempt (Webhook-Id); `secret`: signs, see signing.py; `trace`: see model/trace.py.
        """
        try:
            target = urls.parse(url)
        except ValueError as error:
            return Outcome(False, None, f"the URL cannot be called: {error}", is_hopeless=True)
        authorization = f"Token {auth_token}" if auth_token else target.authorization
        payload = orjson.dumps(body)
        now = int(time.time())
        headers = dict(_HEADERS)
        if id:
            headers |= {"Webhook-Id": id, "Webhook-Timestamp": str(now)}
        own_headers = {"Authorization": authorization} if authorization else {}
        if id and secret:
            own_headers["Webhook-Signature"] = sign(secret, id, now, payload)
        if trace:
            own_headers |= headers_of(trace)
        try:
            return await self._post(target, payload, headers, own_headers)
        except TimeoutError:
            return Outcome(False, None, f"no answer within {self._timeout:g} s")
        except (OSError, ValueError) as error:
            text = redact_url(" ".join(str(error).split())) or type(error).__name__
            return Outcome(False, None, text, is_hopeless=not isinstance(error, OSError))

    async def _post(self, url: HttpUrl, body: bytes, headers: dict[str, str], own_headers: dict[str, str]) -> Outcome:
        """`own_headers` are for the first host only."""
        ends = asyncio.get_running_loop().time() + self._timeout
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._client.post(url, headers | own_headers, body, ends)
            location = answer.header("location")
            if answer.status not in _REDIRECTS or not location:
                return _outcome(answer)
            try:
                following = url.join(location)
            except ValueError:
                return Outcome(False, answer.status, f"HTTP {answer.status} to what cannot be called")
            if following.origin != url.origin:
                own_headers = {}
            url = following
        return Outcome(False, None, f"more than {MAX_REDIRECTS} redirects")


def _outcome(answer: Answer) -> Outcome:
    assert answer.status is not None
    if 200 <= answer.status < 300:
        return Outcome(True, answer.status)
    retry_after = seconds_until(answer.header("retry-after"), datetime.now(UTC))
    return Outcome(False, answer.status, f"HTTP {answer.status} {_PHRASES.get(answer.status, '')}".strip(), retry_after)
