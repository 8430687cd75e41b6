"""The body of a bulk send taken apart: where in it each message is, before anything of it is decoded. Pure.

NDJSON is cut at line feeds. A JSON array is cut between its items without building them: sixteen megabytes of `[{},{},` would
become half a gigabyte of objects, and one item that is no JSON must not spoil the others.

Neighbour: handlers/bulk.py decodes and sends them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator, Iterator

from junebug.errors import ApiUsageError, JsonDecodeError, PayloadTooLarge

LARGEST_BODY = 16 * 1024 * 1024
MOST_MESSAGES = 10_000
ITEMS_AT_ONCE, TOKENS_AT_ONCE = 500, 5_000
"""Of an array, between two turns of the event loop: one or two milliseconds."""

Span = tuple[int, int]
"""Where a message begins and ends."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_BEGIN = re.compile(rb"[^ \t\r\n]")
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
_TOKEN = re.compile(rb'"[^"\\]*"|["\[\]{},]')
"""A string without escapes, the beginning of another one, or what nests and separates."""
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*){0,100}"'
_FLAT = re.compile(rb'[ \t\r\n]*\{[^][{}"]*(?:' + _STRING + rb'[^][{}"]*){0,40}\}[ \t\r\n]*[],]')
"""An item as nearly all are, with what follows it: found in one go. Its repeats are counted: each would cost memory."""


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
    items, ends = 0, False
    while not ends:
        flat = _FLAT.match(body, at)
        end = flat.end() - 1 if flat else (yield from _end_of_item(body, at))
        ends = body[end] != ord(",")
        if not (ends and items == 0 and not body[at:end].strip(_BLANK)):
            yield at, end
        at = end + 1
        items += 1
        if items % ITEMS_AT_ONCE == 0:
            yield None
    if body[at - 1] != ord("]") or _BEGIN.search(body, at):
        raise JsonDecodeError(f"The body is no JSON: the array ends at byte {at}, and more follows")


def _end_of_item(body: bytes, at: int) -> Generator[None, None, int]:
    """Where the comma or bracket behind it is."""
    depth = tokens = 0
    while True:
        for token in _TOKEN.finditer(body, at):
            tokens += 1
            if tokens % TOKENS_AT_ONCE == 0:
                yield
            text = token[0]
            if text == b'"':
                at = token.end()
                break
            if depth == 0 and text in b",]}":
                return token.start()
            depth += (text in b"[{") - (text in b"]}")
        else:
            raise JsonDecodeError("The body is no JSON: the array has no end")
        is_open = True
        while is_open:  # a string with escapes
            end = body.find(b'"', at)
            if end < 0:
                raise JsonDecodeError("The body is no JSON: a string in the array has no end")
            tokens += 1
            if tokens % TOKENS_AT_ONCE == 0:
                yield
            text = body[at:end]
            is_open = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
            at = end + 1
