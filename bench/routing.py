"""What a router's decisions cost: ten thousand destinations, messages whose addresses are all different.

`python -m bench.routing` prints the figures. `make bench` takes `measure()`.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from typing import Any

from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState
from junebug.routers.base import Router
from junebug.routers.from_address.router import FromAddressRouter
from junebug.routers.keyword.router import KeywordRouter
from junebug.routers.outbound.choice import choose

DESTINATIONS = 10_000
CHANGES = 500
SECONDS = 1.5
EXPRESSIONS: dict[str, Callable[[int], str]] = {
    "one number each": lambda number: rf"^\+?2771{number:06}$",
    "a range of numbers each": lambda number: rf"^\+?27\d{{2}}{number:04}\d*$",
    "digits anywhere": lambda number: f"{number:05}",
    "three pieces with .* between": lambda number: f"{number // 1000}.*{number // 10 % 100}.*{number % 10}",
}


def message(number: int, content: str | None = None) -> UserMessage:
    return UserMessage(to_addr=f"+27{number:09}", from_addr=None, content=content, transport_name="bench")


def rate(decide: Callable[[UserMessage], object], messages: list[UserMessage]) -> int:
    """Decisions a second."""
    begun = time.perf_counter()
    for done, each in enumerate(itertools.cycle(messages), 1):
        decide(each)
        if (elapsed := time.perf_counter() - begun) > SECONDS:
            return round(done / elapsed)
    raise AssertionError("there are no messages")


def of_router(
    what: str, router: Router, configs: dict[str, dict[str, Any]], messages: list[UserMessage]
) -> dict[str, Any]:
    begun = time.perf_counter()
    router.set_all(configs)
    router.route(messages[0])
    ready = time.perf_counter() - begun
    decided = rate(router.route, messages)
    begun = time.perf_counter()
    for (destination, config), each in zip(itertools.islice(configs.items(), CHANGES), messages, strict=False):
        router.change({}, [destination])
        router.route(each)
        router.change({destination: config}, ())
        router.route(each)
    change = (time.perf_counter() - begun) / CHANGES / 2
    return {"what": what, "ready_s": round(ready, 3), "messages_per_s": decided, "change_ms": round(change * 1000, 2)}


def one_by_one(messages: list[UserMessage]) -> dict[str, Any]:
    """Each destination is added on its own, and a message routed after it."""
    router = FromAddressRouter({"channel": "c"})
    expression = EXPRESSIONS["a range of numbers each"]
    begun = time.perf_counter()
    for number, each in zip(range(DESTINATIONS), messages, strict=False):
        router.change({f"d{number}": {"regular_expression": expression(number)}}, ())
        router.route(each)
    return {"what": "from_address: added one by one", "ready_s": round(time.perf_counter() - begun, 3)}


def measure() -> list[dict[str, Any]]:
    numbers = random.Random(1).sample(range(10**9), 50_000)
    messages = [message(number) for number in numbers]
    rows = []
    for what, expression in EXPRESSIONS.items():
        configs: dict[str, dict[str, Any]] = {
            f"d{number}": {"regular_expression": expression(number)} for number in range(DESTINATIONS)
        }
        rows.append(of_router(f"from_address: {what}", FromAddressRouter({"channel": "c"}), configs, messages))
    rows.append(one_by_one(messages))
    configs = {f"d{number}": {"keyword": f"word{number}", "aliases": [f"w{number}"]} for number in range(DESTINATIONS)}
    texts = [message(number, f" Word{number % (2 * DESTINATIONS)}! please") for number in numbers]
    rows.append(of_router("keyword", KeywordRouter({"channel": "c"}), configs, texts))
    channels = [{"channel": f"c{each}", "prefixes": [f"+27{each}{more}" for more in range(10)]} for each in range(9)]
    config = {"channels": [*channels, {"channel": "c9"}], "sticky": True}
    states = {f"c{each}": ChannelState(True, "ok") for each in range(10)}
    rows.append(
        {"what": "outbound: ten channels", "messages_per_s": rate(lambda each: choose(config, each, states), messages)}
    )
    return rows


if __name__ == "__main__":
    print(*map(json.dumps, measure()), sep="\n")
