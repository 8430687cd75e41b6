"""W3C Trace Context: what a request says of the trace that it is part of, passed on as it came. Pure.

    https://www.w3.org/TR/trace-context/

Kept as one text: the traceparent, and after a blank the tracestate, where there is one. Junebug adds no span of its own.
Neighbours: api/submit.py takes it from a request, worker/callbacks/webhook.py sends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

MOST_STATE = 512
"""Characters of a tracestate that are passed on (§3.3.1.5); a longer one is left out."""
MOST_MEMBERS = 32
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?")
"""§3.2.2; of a version after 00 there may be more behind it."""
MOST_PARENT = 128
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_MEMBER = re.compile(rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
"""§3.3.1.3"""


class Headers(Protocol):
    """Of a request; names in whatever case."""

    def getall(self, key: str, default: Sequence[str]) -> Sequence[str]: ...

    def __contains__(self, key: object) -> bool: ...


def trace_of(headers: Headers) -> str | None:
    """None: nothing is said, or nothing that can be understood: it is as if nothing was said (§3.2.2, §4.3)."""
    if "traceparent" not in headers:
        return None
    parents = headers.getall("traceparent", ())
    if len(parents) != 1 or not is_parent(parent := parents[0].strip(" \t")):
        return None
    state = combined(headers.getall("tracestate", ()))
    return f"{parent} {state}" if state else parent


def is_parent(text: str) -> bool:
    found = _PARENT.fullmatch(text) if len(text) <= MOST_PARENT else None
    return found is not None and (found[1] != "00" or found[2] is None)


def combined(states: Sequence[str]) -> str:
    """Of several headers one text; empty where it is nothing that can be passed on: the traceparent is, then, alone."""
    members = [member for state in states for each in state.split(",") if (member := each.strip(" \t"))]
    text = ",".join(members)
    keys = {member.partition("=")[0] for member in members}
    if len(text) > MOST_STATE or len(members) > MOST_MEMBERS or len(keys) < len(members):
        return ""
    return text if all(map(_MEMBER.fullmatch, members)) else ""


def headers_of(trace: str) -> dict[str, str]:
    """As it is passed on. Nothing, where what was kept is none (somebody else wrote it)."""
    parent, _, state = trace.partition(" ")
    if not is_parent(parent):
        return {}
    state = combined([state])
    return {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
