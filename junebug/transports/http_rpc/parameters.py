"""What a request says: its query's and its form's parameters, checked against those that the protocol has. Pure."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

MOST_PARAMETERS = 200
FORM = "application/x-www-form-urlencoded"


def read(query: str, body: bytes, content_type: str) -> dict[str, str]:
    """Of a parameter that is given twice the first counts. Raises ValueError for what is not UTF-8, or too many."""
    texts = [query]
    if content_type == FORM:
        texts.append(body.decode())
    found: dict[str, str] = {}
    for text in texts:
        for name, value in parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS):
            (name + value).encode()  # octets of the query that are no text
            found.setdefault(name, value)
    return found


def problems(found: Collection[str], expected: Collection[str], *, strict: bool) -> dict[str, list[str]]:
    """`missing_parameter` and, if `strict`, `unexpected_parameter`; empty when all is well."""
    wrong: dict[str, list[str]] = {}
    if unexpected := sorted(set(found) - set(expected)) if strict else []:
        wrong["unexpected_parameter"] = [name[:100] for name in unexpected[:20]]
    if missing := sorted(set(expected) - set(found)):
        wrong["missing_parameter"] = missing
    return wrong
