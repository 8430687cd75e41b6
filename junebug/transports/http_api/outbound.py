"""Giving a message to the provider over HTTP, as the config's `outbound` says.

Nothing that the provider answers can hold, fill or break the channel: an answer is read to a limit, in bounded time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import aiohttp
import orjson
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from multidict import CIMultiDict
from yarl import URL

from junebug.errors import NotSent, Rejected, UnknownOutcome
from junebug.logs.redaction import Redactor
from junebug.model import templates, urls
from junebug.model.messages import UserMessage
from junebug.runtime.http_server import first_octets
from junebug.runtime.retry_after import seconds_until
from junebug.transports.http_api import OUTBOUND, mapping
from junebug.transports.http_rpc.parameters import is_text

LARGEST_ANSWER = 64 * 1024
CONNECT_TIMEOUT = 10.0
KEEP_ALIVE = 4.0
"""Seconds for which a connection is kept that nobody uses: less than the five after which many servers close it."""
LONGEST_REASON = 200
LONGEST_ID = 200
"""Characters; what is longer is none."""
LONGEST_PAUSE = 3600.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None


class Outbound:
    """One provider."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._secrets: dict[str, str] = config.get("secrets") or {}
        self._patterns = {name: mapping.pattern_of(config[name]) for name in mapping.PATTERNS if name in config}
        self._session: aiohttp.ClientSession | None = None
        told = [*self._secrets.values(), *filter(None, [config.get("password")])]
        self._redactor = Redactor(form for each in told for form in (each, quote(each, safe=""), quote_plus(each)))

    def option(self, name: str) -> Any:
        return self._config.get(name, OUTBOUND["properties"][name].get("default"))

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def send(self, message: UserMessage, session_id: str | None) -> str | None:
        """The provider's id of it. Raises Rejected, NotSent, UnknownOutcome."""
        status, headers, body = await self._exchange(self.request(message, session_id))
        return self.understood(status, headers, body)

    # --- what is asked ------------------------------------------------------------------------------------------------

    def request(self, message: UserMessage, session_id: str | None) -> Request:
        """Raises Rejected for a message that no request can carry."""
        values: dict[str, str | None] = {
            **self._secrets, "to": message.to_addr, "from": message.from_addr, "content": message.content,
            "group": message.group, "message_id": message.message_id, "reply_to": message.in_reply_to, "session_id": session_id,
        }  # fmt: skip
        if bad := next((name for name, value in values.items() if value and not is_text(value)), None):
            raise Rejected(f"Cannot be sent: {bad} is no Unicode text")
        headers = CIMultiDict({"Accept-Encoding": "identity", "User-Agent": "Junebug"})
        for name, text in self._config.get("headers", {}).items():
            headers[name] = mapping.filled(text, values) or ""
            if urls.CONTROL.search(headers[name]):
                raise Rejected(f"Cannot be sent: the header {name} would hold a control character")
        if self._config.get("username"):
            headers["Authorization"] = aiohttp.encode_basic_auth(self._config["username"], self._config["password"], "utf-8")
        content_type, body = self._body(values)
        if content_type:
            headers.setdefault("Content-Type", content_type)
        try:
            url = urls.parse(templates.expand(self._config["url"], values))
        except ValueError as error:
            raise Rejected(f"Cannot be sent: {error}") from None
        return Request(self.option("method"), URL(f"{url.origin}{url.target}", encoded=True), headers, body)

    def _body(self, values: Mapping[str, str | None]) -> tuple[str, bytes | None]:
        """(its type, its octets)"""
        if "form" in self._config:
            fields = {name: mapping.filled(text, values) for name, text in self._config["form"].items()}
            form = urlencode({name: text for name, text in fields.items() if text is not None})
            return "application/x-www-form-urlencoded", form.encode()
        if "json" in self._config:
            return "application/json", orjson.dumps(mapping.filled_json(self._config["json"], values))
        if "xml" in self._config:
            return "text/xml; charset=utf-8", mapping.filled_xml(self._config["xml"], values).encode()
        return "", None

    async def _exchange(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers, body) of the answer. Raises NotSent, UnknownOutcome."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )
        total = self.option("timeout")
        timeout = aiohttp.ClientTimeout(total=total, connect=min(CONNECT_TIMEOUT, 0.9 * total), ceil_threshold=total + 1)
        try:
            async with self._session.request(
                request.method, request.url, headers=request.headers, data=request.body, timeout=timeout,
                allow_redirects=False, middlewares=(_Once(),),
            ) as answer:  # fmt: skip
                return answer.status, answer.headers, await first_octets(answer.content, LARGEST_ANSWER)
        except aiohttp.ConnectionTimeoutError:
            raise NotSent("cannot connect in time", self.option("retry_delay")) from None
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or type(error.os_error).__name__
            raise NotSent(f"cannot connect: {why}", self.option("retry_delay")) from None
        except TimeoutError:
            raise UnknownOutcome("no whole answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnknownOutcome(f"the connection failed: {type(error).__name__}") from None

    # --- what is answered ---------------------------------------------------------------------------------------------

    def understood(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """The provider's id of a message that it took. Raises Rejected, NotSent, UnknownOutcome."""
        text = body.decode("utf-8", "replace")
        said = f"HTTP {status} {self._redactor.text(' '.join(text.split()))[:LONGEST_REASON]}".strip()
        if self._holds("retry_pattern", text):
            raise NotSent(said, self._pause(headers))
        if status in self.option("reject_status") or self._holds("reject_pattern", text):
            raise Rejected(said)
        if status >= 500 and status != 503:
            raise UnknownOutcome(said)
        if not 200 <= status < 300:
            raise NotSent(said, self._pause(headers))
        loaded = _loaded(body) if self._config.keys() & {"success_path", "id_path"} else None
        if not self._is_success(text, loaded):
            raise UnknownOutcome(said) if len(body) >= LARGEST_ANSWER else Rejected(said)
        found = self._id(text, loaded)
        return found if found and len(found) <= LONGEST_ID else None

    def _holds(self, name: str, text: str) -> bool:
        return name in self._patterns and self._patterns[name].search(text) is not None

    def _is_success(self, text: str, loaded: Any) -> bool:
        path = self._config.get("success_path")
        if path and mapping.value_at(loaded, path) not in self._config["success_values"]:
            return False
        return "success_pattern" not in self._patterns or self._holds("success_pattern", text)

    def _id(self, text: str, loaded: Any) -> str | None:
        if path := self._config.get("id_path"):
            return mapping.value_at(loaded, path)
        found = self._patterns["id_pattern"].search(text) if "id_pattern" in self._patterns else None
        return found[1] if found else None

    def _pause(self, headers: Mapping[str, str]) -> float:
        pause = seconds_until(headers.get("Retry-After", ""), datetime.now(UTC))
        return float(self.option("retry_delay")) if pause is None else min(pause, LONGEST_PAUSE)


class _Once:
    """aiohttp repeats a GET or PUT itself when a connection that was kept breaks: for a provider that is one message more."""

    def __init__(self) -> None:
        self._has_left = False

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if self._has_left:
            raise UnknownOutcome("the connection broke")
        self._has_left = True
        return await handler(request)


def _loaded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except ValueError:
        return None
