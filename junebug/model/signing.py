"""Signatures of callbacks after the Standard Webhooks convention (standardwebhooks.com, version 1), pure.

Neighbours: worker/callbacks/webhook.py signs, config/load.py and api/schemas.py check the secrets that users give.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a key."""


def check_secret(secret: str) -> None:
    """Raises ValueError that says what to do, and never shows the secret."""
    _key(secret)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header Webhook-Signature: `v1,` and base64 of an HMAC-SHA256. `timestamp`: seconds since 1970."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    try:
        if not secret.startswith(PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"expected {PREFIX} and {SHORTEST} to {LONGEST} random bytes in base64") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"expected {SHORTEST} to {LONGEST} bytes in base64 after {PREFIX}, got {len(key)}")
    return key
