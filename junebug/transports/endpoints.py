r"""Twisted's descriptions of endpoints, as the original's configs have them: `tcp:9001:interface=127.0.0.1`. Pure.

Arguments stand between colons, by name or in their order; a backslash takes what follows as it is (`interface=\:\:1`). We
take IPv6 addresses in brackets, too (`interface=[::1]`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

_PIECE = re.compile(r"\\.|\[[0-9a-fA-F:.]+(?:%[^\]\\:=]*)?\]|[:=]|[^\\\[:=]+|.", re.DOTALL)
LONGEST = 500


def parse(description: str, kinds: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, str]]:
    """(kind, arguments by name). `kinds`: kind -> its arguments, in their order. Raises ValueError, which says what is wrong."""
    if len(description) > LONGEST:
        raise ValueError(f"expected at most {LONGEST} characters")
    (_, kind), *parts = _parts(description)
    known = kinds.get(kind.lower())
    if known is None:
        raise ValueError(f"expected {' or '.join(f'{each}:...' for each in kinds)}, got {description!r}")
    arguments: dict[str, str] = {}
    for name, value in parts:
        if name is None:
            continue
        if name not in known:
            raise ValueError(f"there is no argument {name!r} of {kind}: there are {', '.join(known)}")
        if name in arguments:
            raise ValueError(f"{name} is given twice")
        arguments[name] = value
    unnamed = [value for name, value in parts if name is None]
    free = [name for name in known if name not in arguments]
    if len(unnamed) > len(free):
        raise ValueError(f"too many arguments (is a colon within one not escaped?): {description!r}")
    return kind.lower(), arguments | dict(zip(free, unnamed, strict=False))


def _parts(description: str) -> list[tuple[str | None, str]]:
    """(name, value) of what stands between colons; a name is what stands before an equals sign."""
    parts: list[tuple[str | None, str]] = []
    name, text = None, ""
    for piece in _PIECE.findall(description.strip()):
        if piece == ":":
            parts.append((name, text))
            name, text = None, ""
        elif piece == "=" and name is None:
            name, text = text, ""
        else:
            text += piece[1:] if piece[0] == "\\" and piece[1:] else piece
    return [*parts, (name, text)]


def host(arguments: Mapping[str, str], name: str, default: str = "") -> str:
    """A host's name or address, without brackets. Raises ValueError."""
    text = arguments.get(name, "").removeprefix("[").removesuffix("]") or default
    try:
        if not text.isprintable() or re.search(r"[\s/@\[\]\\]", text) or not text:
            raise ValueError
        ipaddress.IPv6Address(text) if ":" in text else text.encode("idna")  # as a resolver will, which may raise anything
    except ValueError:
        raise ValueError(f"{name}: expected a host's name or address") from None
    return text


def number(arguments: Mapping[str, str], name: str, least: int, most: int, default: int | None = None) -> int:
    """Raises ValueError."""
    text = arguments.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"expected a {name} from {least} to {most}, got {arguments.get(name, 'none')!r}")
    return int(text)
