"""A Sentry at the wire: it takes envelopes (https://develop.sentry.dev/sdk/envelopes/) and keeps what is in them."""

from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self


class FakeSentry:
    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw: list[str] = []
        """All that came, as text."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                text = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                fake.raw.append(f"{self.path}\n{self.headers}\n{text.decode()}")
                _, *items = text.split(b"\n")
                fake.events += [
                    json.loads(item) for head, item in zip(items[::2], items[1::2], strict=False)
                    if json.loads(head or b"{}").get("type") == "event"
                ]  # fmt: skip
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://0123456789abcdef@127.0.0.1:{self._server.server_port}/42"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
