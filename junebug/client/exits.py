"""How a command ends: exit codes, and the error that carries one (docs/command-line.md)."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    GOOD = 0
    FAILED = 1
    """It was understood, and did not go well: also of what is in part done."""
    USAGE = 2
    """The command, or what it would have sent, is wrong."""
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    """No token, a wrong one, or one that may not do this."""
    AWAY = 5
    """Junebug cannot be reached, or can not do it at this moment: the same again, later, may work."""
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command: its text is the one line on stderr, without secrets."""

    def __init__(self, message: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
