"""Which channel takes a message that is to be sent: by longest prefix, among those ready by cost or weight. Pure.

A channel of weight 0 stands in for the others of its prefix. Where none of the longest prefix is ready the next shorter one is
looked at; where none is at all, the message waits for one of the longest.
"""

from __future__ import annotations

import functools
import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from junebug.errors import InvalidRouterConfig, NoChannel
from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState, Choice
from junebug.routers.outbound import LONGEST_PREFIX

_NO_STATE: Final = ChannelState(False, "there is no such channel")
_LEFT_OUT: Final = re.compile(r"[\s().\-/]+")
_SHOWN: Final = 6
"""Digits of a number that an error shows: enough to see which prefix is missing."""


def check(config: dict[str, Any]) -> None:
    """Raises InvalidRouterConfig for a channel named twice, or a prefix that no number begins with."""
    problems, seen = [], set()
    for index, entry in enumerate(config["channels"]):
        if entry["channel"] in seen:
            problems.append((f"config.channels.{index}.channel", "is there twice: say all of it in one entry"))
        seen.add(entry["channel"])
        for number, prefix in enumerate(entry.get("prefixes", ())):
            digits = normalised(prefix)
            if not (digits.isascii() and digits.isdigit()) or len(digits) > LONGEST_PREFIX:
                what = f"expected 1 to {LONGEST_PREFIX} digits, country code first, as 2782 or +2782"
                problems.append((f"config.channels.{index}.prefixes.{number}", what))
    if problems:
        raise InvalidRouterConfig(problems)


def normalised(number: str) -> str:
    """A number as its digits in international form, without a + or 00 before them; an address that is none: nearly as it is."""
    bare = _LEFT_OUT.sub("", number)
    return bare[1:] if bare.startswith("+") else bare[2:] if bare.startswith("00") else bare


@dataclass(frozen=True, slots=True)
class _Candidate:
    channel: str
    prefix: str | None
    weight: float
    cost: float | None
    state: ChannelState

    @property
    def length(self) -> int:
        return -1 if self.prefix is None else len(self.prefix)


def choose(
    config: dict[str, Any],
    message: UserMessage,
    states: Mapping[str, ChannelState],
    rng: Callable[[], float] = random.random,
) -> Choice:
    """The channel that takes the message, and how the others fared. `rng`: 0 to 1, 1 excluded. Raises NoChannel."""
    number = normalised(message.to_addr or "")
    candidates = [_candidate(entry, number, states) for entry in config["channels"]]
    takers = [each for each in candidates if each.prefix is not None]
    if not takers:
        begins = f"begin like {number[:_SHOWN]}" if number else "are empty"
        raise NoChannel(
            f"no channel of this router takes numbers that {begins}: add the prefix, or a channel without prefixes"
        )
    longest = max(each.length for each in takers)
    ready = [each for each in takers if each.state.is_ready]
    length = max((each.length for each in ready), default=longest)
    tier = [each for each in ready or takers if each.length == length]
    pool = _pool(tier, by_cost=config.get("prefer") == "cost")
    shares = _shares(pool)
    is_sticky = bool(config.get("sticky"))
    chosen = _sticky(pool, shares, number) if is_sticky else _at_random(pool, shares, rng())
    if is_sticky:
        shares = {chosen.channel: 1.0}
    reason = _reason(chosen, pool, config, is_ready=bool(ready), is_shorter=length < longest)
    return Choice(chosen.channel, reason, tuple(_told(each, shares) for each in candidates))


def _candidate(entry: Mapping[str, Any], number: str, states: Mapping[str, ChannelState]) -> _Candidate:
    channel, given, weight = entry["channel"], entry.get("prefixes"), entry.get("weight")
    prefix: str | None = ""
    if given:
        prefixes = _prefixes(tuple(given))
        lengths = range(min(len(number), LONGEST_PREFIX), 0, -1)
        prefix = next((number[:length] for length in lengths if number[:length] in prefixes), None)
    return _Candidate(
        channel, prefix, 1 if weight is None else weight, entry.get("cost"), states.get(channel, _NO_STATE)
    )


@functools.lru_cache(maxsize=1000)
def _prefixes(given: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normalised, given))


def _pool(tier: Sequence[_Candidate], *, by_cost: bool) -> list[_Candidate]:
    """Those among whom weights decide."""
    pool = [each for each in tier if each.weight > 0] or [*tier]
    if by_cost:
        cheapest = min(_cost(each) for each in pool)
        pool = [each for each in pool if _cost(each) == cheapest]
    return pool


def _cost(candidate: _Candidate) -> float:
    return math.inf if candidate.cost is None else candidate.cost


def _shares(pool: Sequence[_Candidate]) -> dict[str, float]:
    """Channel -> its part of 1; where all weights are 0, equal ones."""
    weights = {each.channel: each.weight or 1.0 for each in pool}
    total = sum(weights.values())
    return {channel: weight / total for channel, weight in weights.items()}


def _at_random(pool: Sequence[_Candidate], shares: Mapping[str, float], point: float) -> _Candidate:
    for each in pool:
        point -= shares[each.channel]
        if point < 0:
            return each
    return pool[-1]  # what rounding left


def _sticky(pool: Sequence[_Candidate], shares: Mapping[str, float], number: str) -> _Candidate:
    """Weighted rendezvous hashing: what a channel that goes away had is spread, and all else stays where it is."""

    def score(each: _Candidate) -> float:
        digest = hashlib.blake2b(f"{each.channel}\0{number}".encode("utf-8", "replace"), digest_size=8).digest()
        return (each.weight or 1.0) / -math.log((int.from_bytes(digest, "big") + 0.5) / 2**64 * (1 - 2**-53))

    return max(pool, key=lambda each: (score(each), each.channel))


def _reason(
    chosen: _Candidate, pool: Sequence[_Candidate], config: Mapping[str, Any], *, is_ready: bool, is_shorter: bool
) -> str:
    """For people."""
    prefix = f"prefix {chosen.prefix}" if chosen.prefix else "any number"
    if not is_ready:
        return f"{prefix}: no channel is ready, so the message waits for this one ({chosen.state.reason})"
    why = ["none of a longer prefix is ready"] if is_shorter else []
    if config.get("prefer") == "cost" and chosen.cost is not None:
        why.append("the cheapest that is ready")
    if not chosen.weight:
        why.append("none of those with a weight is ready")
    if len(pool) > 1:
        why.append(f"one of {len(pool)}, by {'address' if config.get('sticky') else 'weight'}")
    return f"{prefix}: {', '.join(why or ['the only one that is ready'])}"


def _told(candidate: _Candidate, shares: Mapping[str, float]) -> dict[str, Any]:
    return {
        "channel": candidate.channel,
        "prefix": candidate.prefix,
        "weight": candidate.weight,
        "cost": candidate.cost,
        "ready": candidate.state.is_ready,
        "reason": candidate.state.reason,
        "share": round(shares.get(candidate.channel, 0.0), 6),
    }
