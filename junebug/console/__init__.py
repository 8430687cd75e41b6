"""The console: a page in the browser for those who run Junebug (docs/console.md). Its files, and how they are to be answered.

static/ is plain HTML, CSS and ES modules, served as they are: nothing builds them, and they load nothing from elsewhere. They
hold no data; the page asks the API for that as anybody does. Neighbour: api/handlers/console.py answers with them.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing inline, nothing from elsewhere, in nobody's frame; and no text becomes HTML: a browser with Trusted Types throws."""


@dataclass(frozen=True, slots=True)
class File:
    """`tag`: an entity tag (RFC 9110, 8.8.3), its quotes included."""

    body: bytes
    kind: str
    tag: str


@functools.cache
def files() -> dict[str, File]:
    """Name -> what is there under it; read once."""
    found = {}
    for path in STATIC.iterdir():
        if path.suffix in KINDS:
            body = path.read_bytes()
            found[path.name] = File(body, KINDS[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return found
