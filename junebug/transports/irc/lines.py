"""Lines of IRC, pure: what a text becomes when it is sent, what a line that came means. RFC 1459, RFC 2812, CTCP."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass

from irctokens.line import Line, build, tokenise

LONGEST = 512
"""Octets of a line, with its CR LF and the sender's mask that servers put before it (RFC 2812, 2.3)."""
LONGEST_MASK = 1 + 10 + 1 + 63
"""Octets of !user@host, where ours is not known."""
LONGEST_SASL = 400
CTCP = "\x01"
_UNSENDABLE = str.maketrans("", "", "\x00\x01")
_LINE_ENDS = re.compile(r"[\r\n]+")
_TARGET = re.compile(r"[^\s\x00\x07,:@!\ud800-\udfff][^\s\x00\x07,\ud800-\udfff]{0,199}")
"""One nickname or channel: a comma would make it many, a space or a line end another command."""
_LOWER = str.maketrans(string.ascii_uppercase + "[]\\^", string.ascii_lowercase + "{}|~")


def same(name: str) -> str:
    """Names are the same when these are (RFC 2812, 2.2)."""
    return name.translate(_LOWER)


def is_channel(name: str) -> bool:
    return name.startswith(("#", "&", "+", "!"))


def is_target(name: str) -> bool:
    return bool(_TARGET.fullmatch(name)) and not name.startswith("$")


def line(command: str, *parameters: str) -> bytes:
    """As it is written. Raises ValueError for what would be more than one line, or other parameters."""
    written = build(command, list(parameters)).format()
    if any(control in written for control in "\r\n\0"):
        raise ValueError("a line cannot hold CR, LF or NUL")
    return f"{written}\r\n".encode()


def texts(content: str, room: int) -> Iterator[str]:
    """Its lines, each of at most so many octets of UTF-8 (at least four); broken between words where there are any."""
    for whole in _LINE_ENDS.split(content.translate(_UNSENDABLE)):
        yield from _broken(whole, room)


def _broken(text: str, room: int) -> Iterator[str]:
    octets, begin = text.encode("utf-8", "replace"), 0
    while len(octets) - begin > room:
        end = begin + room
        while octets[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        space = octets.rfind(b" ", begin + 1, end + 1)
        next_begin = space + 1 if space > begin else end
        yield octets[begin : space if space > begin else end].decode()
        begin = next_begin
    if octets[begin:].strip():
        yield octets[begin:].decode()


def room_for_text(mask: str, command: str, target: str) -> int:
    """Octets that a text to this target may have. `mask`: ours, as nick!user@host; what of it is not known has its most."""
    sender = len(mask.encode()) + (0 if "@" in mask else LONGEST_MASK)
    framing = len(f":{'':>{sender}} {command} {target} :\r\n".encode())
    return LONGEST - framing


def sasl_plain(username: str, password: str) -> list[str]:
    """Parameters of AUTHENTICATE, one line each (IRCv3's sasl-3.1; RFC 4616)."""
    encoded = base64.b64encode(f"{username}\0{username}\0{password}".encode()).decode()
    chunks = [encoded[start : start + LONGEST_SASL] for start in range(0, len(encoded), LONGEST_SASL)]
    return [*chunks, "+"] if len(chunks[-1]) == LONGEST_SASL else chunks


def parse(octets: bytes) -> Line | None:
    """None for what is no line. UTF-8, or Latin-1 where it is not that. Tags are nothing to us."""
    if octets.startswith(b"@"):
        octets = octets.partition(b" ")[2].lstrip(b" ")
    octets = octets.strip(b"\r\n")
    try:
        return tokenise(octets) if octets.strip() else None
    except (ValueError, IndexError):  # no command
        return None


@dataclass(frozen=True, slots=True)
class Said:
    """Something that a person wrote. `channel` None: to us alone. `to_us`: that, or it begins with our nickname."""

    sender: str
    channel: str | None
    text: str
    command: str
    """PRIVMSG or ACTION."""
    to_us: bool


def said(parsed: Line, nickname: str) -> Said | None:
    """None for what is no person's message: a notice, another CTCP than ACTION, our own."""
    if parsed.command != "PRIVMSG" or parsed.source is None or len(parsed.params) < 2:
        return None
    sender, (target, text) = parsed.hostmask.nickname, parsed.params[:2]
    if not is_target(sender) or same(sender) == same(nickname):
        return None
    command = "PRIVMSG"
    if text.startswith(CTCP):
        name, _, text = text.strip(CTCP).partition(" ")
        if name != "ACTION":
            return None
        command = "ACTION"
    if not is_channel(target):
        return Said(sender, None, text, command, True)
    addressed = re.match(rf"@?{re.escape(same(nickname))}(?:[:,;]\s*|\s+|$)", same(text))
    return Said(sender, target, text[addressed.end() :] if addressed else text, command, bool(addressed))
