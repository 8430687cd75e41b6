"""Whether a callback is Junebug's: its signature (Standard Webhooks), as Junebug's docs/callbacks.md describes it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from junebug_client.errors import JunebugError

TOLERANCE = 300.0
"""Seconds that a callback may be old, or ahead."""


class InvalidSignature(JunebugError):
    """It is not Junebug's, somebody changed it, or it is too old. Its text says which, and holds no secret."""


def verify(
    secrets: str | Sequence[str], headers: Mapping[str, str], body: bytes | str, *, tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a callback says: its body, read. `secrets`: the `callback_secret`, or several while it is being changed. `headers`: of
    the request, in any case of letters. Raises InvalidSignature.
    """
    given = {name.lower(): value for name, value in headers.items()}
    id, timestamp, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id and timestamp and signatures):
        raise InvalidSignature("Webhook-Id, Webhook-Timestamp or Webhook-Signature is missing")
    data = body.encode() if isinstance(body, str) else body
    wanted = [sign(secret, id, timestamp, data) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    found = [each.encode(errors="replace") for each in signatures.split()]
    if not any(hmac.compare_digest(ours.encode(), theirs) for ours in wanted for theirs in found):
        raise InvalidSignature("no signature of these secrets fits")
    if not timestamp.isdecimal() or abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        raise InvalidSignature("Webhook-Timestamp is too far from now: an old callback, or a clock that is wrong")
    try:
        return cast("dict[str, Any]", json.loads(data))
    except ValueError:
        raise InvalidSignature("the body is no JSON") from None


def sign(secret: str, id: str, timestamp: str, body: bytes) -> str:
    """The signature that a callback has. Raises ValueError for what is no secret."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("a callback_secret is whsec_ and base64") from None
    digest = hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
