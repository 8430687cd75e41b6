"""Giving a message to the provider over HTTP, as the config's `outbound` says.

Nothing that the provider answers can hold, fill or break the channel: an answer is read to a limit, in bounded time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson
from yarl import URL

from junebug.errors import NotSent, Rejected, UnknownOutcome
from junebug.model import templates, urls
from junebug.model.messages import UserMessage
from junebug.transports.http_api import OUTBOUND, mapping

LARGEST_ANSWER = 64 * 1024
CONNECT_TIMEOUT = 10.0
LONGEST_REASON = 200
LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: URL
    headers: dict[str, str]
    body: bytes | None


class Outbound:
    """One provider."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._secrets: dict[str, str] = config.get("secrets") or {}
        patterns = ("success_pattern", "reject_pattern", "id_pattern")
        self._patterns = {name: mapping.pattern_of(config[name]) for name in patterns if name in config}
        self._session: aiohttp.ClientSession | None = None

    def option(self, name: str) -> Any:
        return self._config.get(name, OUTBOUND["properties"][name].get("default"))

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def send(self, message: UserMessage, session_id: str | None) -> str | None:
        """The provider's id of it. Raises Rejected, NotSent, UnknownOutcome."""
        request = self.request(message, session_id)
        status, headers, body = await self._exchange(request)
        return self.understood(status, headers, body)

    def request(self, message: UserMessage, session_id: str | None) -> Request:
        """Raises Rejected for a message that no request can carry."""
        values: dict[str, str | None] = {
            **self._secrets, "to": message.to_addr, "from": message.from_addr, "content": message.content,
            "group": message.group, "message_id": message.message_id, "reply_to": message.in_reply_to, "session_id": session_id,
        }  # fmt: skip
        headers = {name: mapping.filled(text, values) or "" for name, text in self._config.get("headers", {}).items()}
        if bad := next((name for name, text in headers.items() if urls.CONTROL.search(text)), None):
            raise Rejected(f"Cannot be sent: header {bad} would hold a control character")
        if self._config.get("username"):
            headers["Authorization"] = aiohttp.encode_basic_auth(self._config["username"], self._config["password"], "utf-8")
        body: bytes | None = None
        if "form" in self._config:
            fields = {name: mapping.filled(text, values) for name, text in self._config["form"].items()}
            form = aiohttp.FormData({name: text for name, text in fields.items() if text is not None})
            body = form()._value
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        elif "json" in self._config:
            body = orjson.dumps(mapping.filled_json(self._config["json"], values))
            headers.setdefault("Content-Type", "application/json")
        elif "xml" in self._config:
            body = mapping.filled_xml(self._config["xml"], values).encode()
            headers.setdefault("Content-Type", "text/xml; charset=utf-8")
        try:
            url = urls.parse(templates.expand(self._config["url"], values))
        except ValueError as error:
            raise Rejected(f"Cannot be sent: {error}") from None
        return Request(self.option("method"), URL(f"{url.origin}{url.target}", encoded=True), headers, body)

    async def _exchange(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        timeout = aiohttp.ClientTimeout(total=self.option("timeout"), sock_connect=min(CONNECT_TIMEOUT, self.option("timeout")))
        has_left = False
        try:
            async with self._session.request(
                request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False, timeout=timeout
            ) as answer:
                has_left = True
                return answer.status, answer.headers, await _bounded(answer.content)
        except aiohttp.ClientConnectorError as error:
            raise NotSent(f"cannot connect: {type(error).__name__}", self.option("retry_delay")) from None
        except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError) as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise NotSent("cannot connect in time", self.option("retry_delay")) from None
            raise UnknownOutcome("no answer in time") from None
        except TimeoutError:
            raise UnknownOutcome("the answer did not end in time" if has_left else "no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnknownOutcome(f"the connection failed: {type(error).__name__}") from None

    def understood(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """The provider's id of a message that it took. Raises Rejected, NotSent."""
        text = body.decode("utf-8", "replace")
        said = " ".join(text.split())[:LONGEST_REASON]
        reject, success = self._patterns.get("reject_pattern"), self._patterns.get("success_pattern")
        if status in self.option("reject_status") or (reject and reject.search(text)):
            raise Rejected(f"HTTP {status} {said}".strip())
        if not 200 <= status < 300 or (success and not success.search(text)):
            pause = _seconds(headers.get("Retry-After", ""))
            raise NotSent(f"HTTP {status} {said}".strip(), self.option("retry_delay") if pause is None else pause)
        return self._id(body, text)

    def _id(self, body: bytes, text: str) -> str | None:
        if pattern := self._patterns.get("id_pattern"):
            found = pattern.search(text)
            return found[1] if found else None
        if path := self._config.get("id_path"):
            try:
                return mapping.value_at(orjson.loads(body), path)
            except ValueError:
                return None
        return None


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """The first LARGEST_ANSWER octets."""
    body = bytearray()
    while len(body) < LARGEST_ANSWER and (part := await content.read(LARGEST_ANSWER - len(body))):
        body += part
    return bytes(body)


def _seconds(retry_after: str) -> float | None:
    """What a Retry-After header says (RFC 9110 10.2.3)."""
    if retry_after.strip().isdigit():
        return min(float(retry_after.strip()[:10]), LONGEST_PAUSE)
    try:
        when = parsedate_to_datetime(retry_after[:100])
        return min(max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()), LONGEST_PAUSE)
    except Exception:  # a foreign text, and a parser that raises what it likes
        return None
