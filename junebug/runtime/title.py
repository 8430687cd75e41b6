"""What `ps` shows of a process: its command line, without the secrets that were given there."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import setproctitle

from junebug.logs.redaction import REDACTED, redact_url


def hide_secrets(secrets: Iterable[str | None]) -> None:
    """Show this process' command line with these values masked, however they were given (apart, behind a `=`, glued to a
    short flag); nothing is changed where there are none.
    """
    known = sorted(filter(None, secrets), key=len, reverse=True)
    shown = [_masked(argument, known) for argument in sys.argv]
    if shown != sys.argv:
        setproctitle.setproctitle(" ".join(shown))


def _masked(argument: str, secrets: list[str]) -> str:
    found = next((secret for secret in secrets if argument.endswith(secret)), "")
    if argument == found or (found and argument.startswith("-")):
        return argument[: -len(found)] + REDACTED
    return redact_url(argument)
