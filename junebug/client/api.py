"""The API as the commands ask it: what went wrong becomes a Failure with its exit code.

Neighbour: junebug_client (clients/python) is the client for everybody; here is what only the command line needs: a token in
the URL's userinfo, and one line for each error.
"""

from __future__ import annotations

from base64 import b64encode
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx

from junebug.client.exits import Exit, Failure

TIMEOUT = 30.0
EXITS = {400: Exit.USAGE, 401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.NOT_FOUND, 413: Exit.USAGE,
         429: Exit.AWAY, 502: Exit.AWAY, 503: Exit.AWAY, 504: Exit.AWAY}  # fmt: skip


class Refused(Failure):
    """The API answered, and it was an error. `errors`: what its envelope says."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]]) -> None:
        super().__init__(message, EXITS.get(status, Exit.FAILED))
        self.status = status
        self.errors = errors


class Api:
    """The API at `url`, asked by whoever has the `token`. Every call raises Failure."""

    def __init__(self, url: str, token: str | None = None, timeout: float = TIMEOUT, retries: int = 2) -> None:
        self.url, authorization = _connection(url, token)
        self._client = httpx.Client(timeout=timeout, headers={"Authorization": authorization} if authorization else {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._client.close()

    def get(self, *path: str, **parameters: Any) -> Any:
        return self.call("GET", *path, params={name: value for name, value in parameters.items() if value is not None})

    def post(self, *path: str, body: Any = None, **options: Any) -> Any:
        return self.call("POST", *path, json=body, **options)

    def delete(self, *path: str) -> Any:
        return self.call("DELETE", *path)

    def call(self, method: str, *path: str, **options: Any) -> Any:
        """The `result` of the answer. `path`: its parts; a last empty one stands for a slash at the end."""
        url = "/".join([self.url, *(quote(part, safe="") for part in path)])
        try:
            answer = self._client.request(method, url, **options)
        except httpx.TransportError as error:
            raise Failure(f"{self.url} cannot be reached: {error or type(error).__name__}", Exit.AWAY) from None
        try:
            envelope = answer.json()
            result = envelope["result"]
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{self.url} answered {answer.status_code}, but not as Junebug does") from None
        if answer.status_code >= 400:
            errors = result.get("errors") or []
            told = "; ".join(str(each.get("message")) for each in errors) or envelope.get("description", "")
            raise Refused(answer.status_code, told, errors)
        return result


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
        raise Failure("--url: expected http://HOST:PORT or https://HOST:PORT", Exit.USAGE)
    userinfo, _, netloc = parts.netloc.rpartition("@")
    plain = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
    if token is not None and not (token.isascii() and token.isprintable()):
        raise Failure("--token: it has characters that no token has", Exit.USAGE)
    if token or ":" not in userinfo:
        return plain, f"Bearer {token or unquote(userinfo)}" if token or userinfo else ""
    return plain, f"Basic {b64encode(unquote(userinfo).encode()).decode()}"
