"""Dead letters as the API shows them, as pure functions: what the application would have got, and no secrets.

Neighbour: handlers/dead_letters.py, which does the I/O.
"""

from __future__ import annotations

import re
from typing import Any

from junebug import names
from junebug.errors import MalformedMessage
from junebug.logs.redaction import REDACTED, Redactor
from junebug.model.callbacks import DeadLetter, content_of
from junebug.model.presenter import body_of
from junebug.model.spec import ChannelSpec

LONGEST_BODY = 10_000
"""Characters that are shown of a dead letter which is no message."""

_TOKEN = re.compile(r'("[^"]*(?:token|secret|password)"\s*:\s*")(?:[^"\\]|\\.)*')


def letter_json(letter: DeadLetter, spec: ChannelSpec) -> dict[str, Any]:
    """A dead letter, without secrets: `message` as the application would have got it, or the `body` that is none."""
    callback = letter.callback
    secrets = (spec.callback_secret, spec.mo_url_auth_token, callback.auth_token if callback else None)
    redactor = Redactor(filter(None, secrets))
    shown = {
        "id": letter.id,
        "timestamp": letter.timestamp,
        "reason": letter.reason,
        "error": redactor.text(letter.error),
    }
    if callback is None:
        return {**shown, "queue": letter.queue, "body": _readable(letter.body, redactor)}
    try:
        message = body_of(content_of(callback), spec.id)
    except MalformedMessage:
        return {**shown, "queue": names.callback_queue(spec.id), "body": _readable(callback.wire, redactor)}
    return {**shown, "to": callback.to, "kind": callback.kind, "attempts": callback.attempts, "message": message}


def _readable(body: bytes, redactor: Redactor) -> str:
    text = redactor.text(body[: LONGEST_BODY * 4].decode(errors="replace"))
    return _TOKEN.sub(rf"\1{REDACTED}", text)[:LONGEST_BODY]
