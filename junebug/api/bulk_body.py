"""The body of a bulk send taken apart: where in it each message is, before anything of it is decoded. Pure.

NDJSON is cut at line feeds. A JSON array is cut between its items without building them: sixteen megabytes of `[{},{},` would
become half a gigabyte of objects, and one item that is no JSON must not spoil the others.

Neighbour: handlers/bulk.py decodes and sends them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

from junebug.errors import ApiUsageError, JsonDecodeError, PayloadTooLarge

LARGEST_BODY = 16 * 1024 * 1024
MOST_MESSAGES = 10_000
TOKENS_AT_ONCE = 5_000
"""Of an array, between two turns of the event loop: about a millisecond."""

Span = tuple[int, int]
"""Where a message begins and ends."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_BEGIN = re.compile(rb"[^ \t\r\n]")
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
_TOKEN = re.compile(rb'"[^"\\]*"|["\[\]{},]')
"""A string without escapes, the beginning of another one, or what nests and separates. Never looks at a byte twice."""


async def spans(body: bytes) -> list[Span]:
    """The messages in the body. The first byte says which form it has, as Content-Type counts nowhere in this API.

    Raises ApiUsageError when there is none, PayloadTooLarge when there are too many, JsonDecodeError for an array without
    an end, or with something behind it.
    """
    begin = _BEGIN.search(body, len(_BOM) if body.startswith(_BOM) else 0)
    found: list[Span] = []
    if begin:
        parts = _items(body, begin.end()) if begin[0] == b"[" else _lines(body, begin.start())
        for part in parts:
            if part is None:
                await asyncio.sleep(0)
            elif len(found) == MOST_MESSAGES:
                raise PayloadTooLarge(f"There are more than {MOST_MESSAGES} messages in the body: nothing was sent")
            else:
                found.append(part)
    if not found:
        raise ApiUsageError("There is no message in the body")
    return found


def _lines(body: bytes, at: int) -> Iterator[Span | None]:
    """Those that are not blank."""
    return (line.span() for line in _LINE.finditer(body, at))


def _items(body: bytes, at: int) -> Iterator[Span | None]:
    """Those of the array that was opened before `at`; None: a good moment to let others have a turn."""
    begin, depth, tokens, is_first = at, 1, 0, True
    while depth:
        scanner = _TOKEN.finditer(body, at)
        at = -1
        for token in scanner:
            tokens += 1
            if tokens % TOKENS_AT_ONCE == 0:
                yield None
            text = token[0]
            if text == b"," and depth == 1:
                yield begin, token.start()
                begin, is_first = token.end(), False
            elif text in b"{[":
                depth += 1
            elif text in b"}]":
                depth -= 1
                if depth == 0:
                    at = token.end()
                    break
            elif text == b'"':
                at = token.end()
                break
        if at < 0:
            raise JsonDecodeError("The body is no JSON: the array has no end")
        if depth:  # in a string with escapes
            while (end := body.find(b'"', at)) >= 0:
                tokens += 1
                if tokens % TOKENS_AT_ONCE == 0:
                    yield None
                text, at = body[at:end], end + 1
                if (len(text) - len(text.rstrip(b"\\"))) % 2 == 0:
                    break
            if end < 0:
                raise JsonDecodeError("The body is no JSON: a string in the array has no end")
    if body[at - 1 : at] != b"]" or _BEGIN.search(body, at):
        raise JsonDecodeError(f"The body is no JSON: the array ends at byte {at}, and more follows")
    if not is_first or body[begin : at - 1].strip(_BLANK):
        yield begin, at - 1
