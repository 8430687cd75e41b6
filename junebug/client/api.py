"""The API as the commands ask it: junebug_client, whose errors become a Failure with its exit code."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx
from junebug_client import ApiError, Client, NoAnswer, StreamEvent, UnexpectedAnswer

from junebug.client.exits import Exit, Failure

RETRIES = 1
"""Of what may be repeated: somebody waits."""
AWAY = (429, 502, 503, 504)
EXITS = {
    400: Exit.USAGE, 413: Exit.USAGE, 401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND,
    **dict.fromkeys(AWAY, Exit.AWAY),
}  # fmt: skip


NO_URL = "--url: expected http://HOST:PORT or https://HOST:PORT"


class Refused(Failure):
    """The API answered, and it was an error: `error`."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(_told(error), EXITS.get(error.status, Exit.FAILED))
        self.error = error


class Api(Client):
    """The API at `url`, asked by whoever has the `token`; `options`: more of Client's. Every method raises Failure."""

    def __init__(self, url: str, token: str | None = None, retries: int = RETRIES, **options: Any) -> None:
        self.url, authorization = _connection(url, token)
        headers = {"Authorization": authorization} if authorization else {}
        is_tls = self.url.startswith("https:")  # its certificates take longer to load than a request
        try:
            super().__init__(self.url, retries=retries, headers=headers, verify=is_tls, **options)
        except (httpx.InvalidURL, ValueError):
            raise Failure(NO_URL, Exit.USAGE) from None

    def _call(self, call: Any) -> Any:
        try:
            return super()._call(call)
        except (ApiError, NoAnswer, UnexpectedAnswer) as error:
            raise self._failure(error) from None
        except ValueError as error:  # what no request can have: half a surrogate pair, a number that is none
            told = "what was given is not UTF-8" if isinstance(error, UnicodeError) else str(error)
            raise Failure(told, Exit.USAGE) from None

    def stream_events(
        self, channels: Sequence[str] = (), kinds: Sequence[str] = (), *, last_event_id: str = ""
    ) -> Iterator[StreamEvent]:
        try:
            yield from super().stream_events(channels, kinds, last_event_id=last_event_id)
        except (ApiError, NoAnswer, UnexpectedAnswer) as error:
            raise self._failure(error) from None

    def _failure(self, error: ApiError | NoAnswer | UnexpectedAnswer) -> Failure:
        if isinstance(error, ApiError):
            return Refused(error)
        if isinstance(error, NoAnswer):
            return Failure(f"{self.url} cannot be reached: {error}", Exit.AWAY)
        return Failure(f"{self.url}: {error}", Exit.AWAY if error.status in AWAY else Exit.FAILED)


def _told(error: ApiError) -> str:
    hint = {401: "; give one with JUNEBUG_TOKEN or --token"}.get(error.status, "")
    return f"{error}{hint}"


def _connection(url: str, token: str | None) -> tuple[str, str]:
    """The URL without userinfo and slash at the end, and the header Authorization (empty: none). A token comes before the
    userinfo, which is sent as it is: it may be for a proxy.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise Failure(NO_URL, Exit.USAGE)
    userinfo, _, netloc = parts.netloc.rpartition("@")
    plain = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
    if ":" not in userinfo:
        token = token or unquote(userinfo)
    if token and not (token.isascii() and token.isprintable()):
        raise Failure("--token: it has characters that no token has", Exit.USAGE)
    if token or not userinfo:
        return plain, f"Bearer {token}" if token else ""
    return plain, f"Basic {b64encode(unquote(userinfo).encode()).decode()}"
