"""POST a JSON body to an application's URL: one attempt, one outcome. Whether to repeat is the caller's affair.

Neighbours: target.py calls it and expands templates before, destination.py says how many calls a host gets at a time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from junebug.logs.redaction import redact_url
from junebug.model.signing import sign

MAX_REDIRECTS = 3
MAX_DRAINED_BODY = 64 * 1024
"""An answer's body is read up to here so that the connection can be used again; of a larger one it is closed."""
_REDIRECTS = frozenset({301, 302, 307, 308})


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status` is None when no answer came; `reason` says what went wrong, without secrets."""

    ok: bool
    status: int | None = None
    reason: str = ""
    retry_after: float | None = None


class Webhook:
    """The HTTP client of one process."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds for a whole attempt."""
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()
            self._session = None

    async def post(
        self, url: str, body: dict[str, Any], auth_token: str | None = None, *, id: str = "", secret: str | None = None
    ) -> Outcome:
        """One attempt. Never raises for what the other side does.

        `id`: the same at each attempt (Webhook-Id); `secret`: signs, see signing.py.
        """
        try:
            target, authorization = split_userinfo(url)
        except ValueError as error:
            return Outcome(False, None, f"{redact_url(url)} is no URL: {error}")
        if auth_token:
            authorization = f"Token {auth_token}"
        payload = orjson.dumps(body)
        now = int(time.time())
        headers = {"Content-Type": "application/json"}
        if id:
            headers |= {"Webhook-Id": id, "Webhook-Timestamp": str(now)}
        own_headers = {"Authorization": authorization} if authorization else {}
        if id and secret:
            own_headers["Webhook-Signature"] = sign(secret, id, now, payload)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(target, payload, headers, own_headers)
        except TimeoutError:
            return Outcome(False, None, f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(False, None, _reason(error))

    async def _post(self, url: URL, body: bytes, headers: dict[str, str], own_headers: dict[str, str]) -> Outcome:
        """`own_headers` are for the first host only."""
        for _ in range(MAX_REDIRECTS + 1):
            all_headers = headers | own_headers
            async with self._client().post(url, data=body, headers=all_headers, allow_redirects=False) as answer:
                location = answer.headers.get("Location")
                await _drain(answer)
                if answer.status in _REDIRECTS and location:
                    following = url.join(URL(location))
                    if following.origin() != url.origin():
                        own_headers = {}
                    url = following.with_user(None)
                    continue
                return _outcome(answer)
        return Outcome(False, None, f"more than {MAX_REDIRECTS} redirects")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # aiohttp would take aiodns where it is installed, which costs each process three threads
            connector = aiohttp.TCPConnector(resolver=ThreadedResolver(), limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
            )
        return self._session


def split_userinfo(url: str) -> tuple[URL, str | None]:
    """The URL without its userinfo, and that as a Basic Authorization header value. Raises ValueError."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("expected http://host/... or https://host/...")
    if parsed.user is None and parsed.password is None:
        return parsed, None
    authorization = aiohttp.encode_basic_auth(parsed.user or "", parsed.password or "")
    return parsed.with_user(None), authorization


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    return redact_url(" ".join(str(error).split())) or type(error).__name__


def _outcome(answer: aiohttp.ClientResponse) -> Outcome:
    if 200 <= answer.status < 300:
        return Outcome(True, answer.status)
    retry_after = seconds_until(answer.headers.get("Retry-After", ""), datetime.now(UTC))
    return Outcome(False, answer.status, f"HTTP {answer.status} {answer.reason or ''}".strip(), retry_after)


def seconds_until(retry_after: str, now: datetime) -> float | None:
    """What a Retry-After header says, in seconds or as an HTTP date (RFC 9110 10.2.3); None when it says nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:10])
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read a small body so that the connection lives on; give up on a large one."""
    length = answer.content_length
    if length is not None and length <= MAX_DRAINED_BODY:
        await answer.read()
    elif await answer.content.read(MAX_DRAINED_BODY) and not answer.content.at_eof():
        answer.close()
