"""Signatures as the reference implementation of Standard Webhooks makes and verifies them."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from junebug.model import signing

keys = st.binary(min_size=signing.SHORTEST, max_size=signing.LONGEST)


@given(keys, st.text(st.characters(categories=("L", "N")), min_size=1), st.integers(0, 2**40), st.text())
def test_it_is_the_reference_implementations_signature(key: bytes, message_id: str, timestamp: int, body: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    signing.check_secret(secret)
    when = datetime.fromtimestamp(timestamp % 2**33, tz=UTC)
    assert signing.sign(secret, message_id, timestamp % 2**33, body.encode()) == standardwebhooks.Webhook(secret).sign(
        message_id, when, body
    )


@pytest.mark.parametrize(
    "secret",
    [
        "", "whsec_", "sesame", "whsec_sesame!", "whsec_AAAA", "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(), "whsec_é", "whsec_" + base64.b64encode(bytes(32)).decode().rstrip("="),
    ],
)  # fmt: skip
def test_a_malformed_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match=re.escape("whsec_")) as raised:
        signing.check_secret(secret)
    key = secret.removeprefix("whsec_")
    assert not key or key not in str(raised.value)
