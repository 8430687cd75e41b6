"""What a message would be when it leaves: how it is encoded and why, and in which parts. Pure.

Neighbours: a channel type makes a Plan (`ChannelType.plan`; transports/smpp/plan.py), api/dry_run.py shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Header = Literal["udh", "sar", "payload"]

MOST_TOLD = 20
"""Different characters that are told of; and positions of each."""


@dataclass(frozen=True, slots=True)
class Forcing:
    """A character that the shorter alphabet has not; `position`: of the first one in the content, from 0."""

    character: str
    code_point: str
    position: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """`extended`: characters that take two places each."""

    name: str
    data_coding: int
    reason: str
    forced_by: tuple[Forcing, ...] = ()
    extended: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """`octets`: with its header. `header`: what says that it is a part; None: nothing does, or need do."""

    content: str
    characters: int
    octets: int
    header: Header | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """Of a character; positions in the content as it was given."""

    character: str
    by: str
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`replaced`: what is; `would_replace`: what an option that is off would. `rejected`: why it will not be sent, although it
    is taken. `pace`: parts a second that the channel's config allows; None: any number.
    """

    encoding: Encoding | None = None
    parts: tuple[Part, ...] = ()
    replaced: tuple[Replacement, ...] = ()
    would_replace: tuple[Replacement, ...] = ()
    rejected: str | None = None
    pace: float | None = None


def plain(content: str | None) -> Plan:
    """Of a type that says nothing: as it is, in one."""
    text = content or ""
    return Plan(parts=(Part(text, len(text), len(text.encode("utf-8", "surrogatepass"))),))
