"""ApiClient: one account's requests to X's API, on tweepy, which knows the endpoints and their parameters.

What is not left to it: where the API is, how much of an answer is read, that nothing of a request is logged, and what an
answer other than 2xx means to a channel.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from oauthlib.oauth1 import Client as OAuth1
from tweepy.asynchronous import AsyncClient
from yarl import URL

LARGEST_ANSWER = 4 * 2**20
LONGEST_PAUSE = 86_400.0
PAUSE = 60.0
"""Seconds, where a refusal does not say for how long."""
SHORT_PAUSE = 1.0
LONGEST_TEXT = 300
USER_AGENT = "Junebug"
LIMITS = ("x-rate-limit", "x-app-limit-24hour", "x-user-limit-24hour")
"""Headers begin so: of the last quarter of an hour, and of the day."""
OF_THE_APPLICATION = ("client-forbidden", "client-not-enrolled", "oauth1-permissions", "unsupported-authentication",
                      "usage-capped", "suspended", "locked")  # fmt: skip
"""What a 403 says that is about the account or the application, not about one message."""


class ApiError(Exception):
    """An answer other than 2xx, or none. `detail`: what X says of it."""

    def __init__(self, detail: str, status: int = 0, *, retry_after: float = 0.0, was_sent: bool = True) -> None:
        super().__init__(f"{status} {detail}" if status else detail)
        self.status, self.detail, self.retry_after = status, detail, retry_after
        self.was_sent = was_sent
        """Whether it may have reached X."""

    @property
    def is_of_the_account(self) -> bool:
        """It is about the account or the application: every message would fare so."""
        return self.status == 401 or (self.status == 403 and any(each in self.detail for each in OF_THE_APPLICATION))

    @property
    def is_duplicate(self) -> bool:
        return self.status == 403 and "duplicate" in self.detail.lower()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What tweepy asks an answer for."""

    content: Any

    async def json(self) -> Any:
        return self.content


class ApiClient(AsyncClient):  # type: ignore[misc]  # tweepy has no types
    """Its methods answer the JSON of X's answer, as a dict. They raise ApiError."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        keys = ("bearer_token", "consumer_key", "consumer_secret", "access_token", "access_token_secret")
        super().__init__(*(config.get(key) for key in keys), return_type=dict)
        self.user_auth = "bearer_token" not in config
        self.resume_at: dict[str, float] = {}
        """Endpoint -> when (in seconds since 1970) it may be asked again, where X said so."""
        self._url = config.get("base_url", "https://api.x.com").rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=config.get("request_timeout", 30))
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=10, resolver=aiohttp.ThreadedResolver())
        self._http = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=self._timeout)

    async def close(self) -> None:
        if self._http:
            await self._http.close()

    async def request(
        self, method: str, route: str, params: Any = None, json: Any = None, user_auth: bool = False
    ) -> _Answer:
        """In the place of tweepy's."""
        endpoint = f"{method} {route}"
        wait = self.resume_at.get(endpoint, 0.0) - time.time()
        if wait > 0:
            raise ApiError("too many requests: X said when to go on", 429, retry_after=wait, was_sent=False)
        url, headers = str(URL(self._url + route).with_query(sorted((params or {}).items()))), {"User-Agent": USER_AGENT}
        if user_auth:
            signer = OAuth1(self.consumer_key, self.consumer_secret, self.access_token, self.access_token_secret)
            url, headers, _ = signer.sign(url, method, headers=headers)
        else:
            headers["Authorization"] = f"Bearer {self.bearer_token}"
        status, answered, body = await self._ask(method, url, json, headers)
        self._note_limits(endpoint, status, answered)
        try:
            content = orjson.loads(body) if body else {}
        except ValueError:
            content = None
        if 200 <= status < 300 and isinstance(content, dict):
            return _Answer(content)
        if 200 <= status < 300:
            raise ApiError("the answer is no JSON object", 502)
        retry_after = max(self.resume_at.get(endpoint, 0.0) - time.time(), 0.0)
        raise ApiError(_detail(content) or "no reason given", status, retry_after=retry_after)

    async def _ask(
        self, method: str, url: str, json: Any, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert self._http
        try:
            async with self._http.request(
                method, URL(url, encoded=True), json=json, headers=headers, allow_redirects=False
            ) as answer:
                body = b""
                async for chunk in answer.content.iter_chunked(65_536):
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise ApiError(f"the answer has more than {LARGEST_ANSWER} octets", 502)
                return answer.status, answer.headers, body
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise ApiError(f"cannot connect: {str(error)[:LONGEST_TEXT]}", was_sent=False) from None
        except TimeoutError:
            raise ApiError(f"no answer within {self._timeout.total:g} seconds") from None
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            raise ApiError(f"the connection was lost: {type(error).__name__}") from None

    def _note_limits(self, endpoint: str, status: int, headers: Mapping[str, str]) -> None:
        now = time.time()
        resets = [
            _number(headers.get(f"{each}-reset")) for each in LIMITS
            if _number(headers.get(f"{each}-remaining"), 1) <= 0 or (status == 429 and each == "x-rate-limit")
        ]  # fmt: skip
        if status == 429 and not any(reset > now for reset in resets):  # in whole seconds it may be over already
            resets = [now + (SHORT_PAUSE if any(reset > now - SHORT_PAUSE - 1 for reset in resets) else PAUSE)]
        self.resume_at.pop(endpoint, None)
        if resets and max(resets) > now:
            self.resume_at[endpoint] = min(max(resets), now + LONGEST_PAUSE)


def _number(text: str | None, default: float = 0.0) -> float:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else default


def _detail(content: Any) -> str:
    """What an error's JSON says (RFC 7807 as X has it)."""
    if not isinstance(content, dict):
        return ""
    errors = content.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    said = [content.get("detail") or first.get("message") or first.get("detail") or content.get("title")]
    kind = content.get("type")
    said += [content.get("reason"), kind.rpartition("/")[2] if isinstance(kind, str) and kind != "about:blank" else None]
    return ", ".join(dict.fromkeys(each for each in said if isinstance(each, str)))[:LONGEST_TEXT]
