"""The table that every channel type is put through. kit.py has what a type adds for that."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import re
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from junebug.config.declaration import Settings
from junebug.errors import InvalidChannelConfig, NotSent, UnknownOutcome
from junebug.logs.redaction import Redactor
from junebug.logs.setup import setup_channel_logging
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.stores.transport import TransportStore
from tests.polling import eventually
from tests.tables import Failures
from tests.transports.kit import QUICKLY, Bench, Provider, Rogue, attacks
from tests.transports.running import message_to

STARTS = 20
FLOOD = 96 * 2**20
"""Octets that a rogue sends, if it is let."""
FLOODING = 1.0
"""Seconds that a channel which listens is flooded."""
PATIENCE = 3.0
"""Seconds that a channel which is flooded waits for something of sense."""
MOST_MEMORY = 48 * 2**20
"""Octets by which a channel may grow over them."""

Case = Callable[[Bench], Awaitable[None]]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


async def table_of(provider: Provider, store: TransportStore, directory: Path) -> None:
    """Every case; what fails is told for all of them. Nothing in the logs of all that may be a secret."""
    bench = Bench(provider, store)
    failures = Failures(len(CASES))
    log = setup_channel_logging(directory / "log", "log", Redactor(), rotate_size=100_000_000, max_files=2)
    try:
        async with provider:
            for each in CASES:
                with failures.of({"case": each.__name__}):
                    await each(bench)
    finally:
        log.close()
    with failures.of({"case": "no secret was told"}):
        text = (directory / "log").read_text() + "\n".join(bench.told)
        secrets = {secret for config in (provider.config(), provider.refused() or {}) for secret in _secrets(provider, config)}
        assert [secret for secret in secrets if secret in text] == []
        assert "Traceback" not in text, re.findall(r"Traceback.{3000}", text)
    failures.tell()


def _secrets(provider: Provider, config: dict[str, Any]) -> list[str]:
    registry, kind = Registry([provider.channel_type]), provider.channel_type.name
    return registry.secret_values(ChannelSpec.from_properties("c", {"type": kind, "config": config}), Settings())


# --- the config -----------------------------------------------------------------------------------------------------------


@case
async def a_config_that_is_wrong_is_refused_and_the_option_named(bench: Bench) -> None:
    kind, right = bench.provider.channel_type, bench.provider.config()
    registry = Registry([kind])
    registry.validate_config(kind.name, right)
    properties: dict[str, Any] = kind.config_schema["properties"]
    wrong = {name: ["no", {"such": "type"}] for name, schema in properties.items() if {"type", "enum"} & schema.keys()}
    wrong |= {"an_option_that_is_none": 1, **bench.provider.wrong}
    for name, value in wrong.items():
        with pytest.raises(InvalidChannelConfig, match=re.escape(name)):
            registry.validate_config(kind.name, {**right, name: value})
    for name in kind.config_schema.get("required", ()):
        with pytest.raises(InvalidChannelConfig, match=re.escape(name)):
            registry.validate_config(kind.name, {option: value for option, value in right.items() if option != name})


@case
async def every_option_is_described_and_no_secret_is_shown(bench: Bench) -> None:
    kind, right = bench.provider.channel_type, bench.provider.config()
    properties = kind.config_schema["properties"]
    assert [name for name, schema in properties.items() if not schema.get("description")] == []
    shown = str(Registry([kind]).redact(kind.name, right))
    assert [secret for secret in _secrets(bench.provider, right) if secret in shown] == []


# --- its life -------------------------------------------------------------------------------------------------------------


@case
async def started_and_stopped_many_times_nothing_is_left(bench: Bench) -> None:
    transports: list[weakref.ref[Any]] = []
    settled: tuple[int, int] | None = None
    for number in range(STARTS):
        running = bench.channel()
        async with running:
            if number % 2 or bench.provider.connects:  # others are stopped before anybody has come
                await bench.met(running)
            await bench.provider.part()
        bench.note(running)
        transports.append(weakref.ref(running.transport))
        del running
        if number == STARTS // 2:
            settled = await _left()
    assert settled
    with suppress(AssertionError):  # what closes a moment later has closed then
        await eventually(lambda: _now() <= settled, 2.0)
    found = await _left()
    assert found <= settled, f"tasks and descriptors: {found}, half-way {settled}"
    gc.collect()
    assert [each() for each in transports[:-1] if each()] == []


async def _left() -> tuple[int, int]:
    await asyncio.sleep(0)
    return _now()


def _now() -> tuple[int, int]:
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))


@case
async def stopped_while_it_connects_it_ends_soon(bench: Bench) -> None:
    if not bench.provider.connects:
        return
    async with Rogue() as rogue:
        running = bench.channel(bench.provider.config_at(rogue.port))
        began = time.monotonic()
        async with running:
            await eventually(lambda: rogue.met, 5.0, "the channel at the rogue")
        assert time.monotonic() - began < QUICKLY
        bench.note(running)


@case
async def a_provider_that_goes_is_a_status_and_comes_back(bench: Bench) -> None:
    if not bench.provider.connects:
        return
    running = bench.channel()
    async with running:
        await bench.met(running)
        before = len(running.statuses)
        await bench.provider.go()
        component, up = bench.provider.is_up
        try:
            def is_down() -> bool:
                return any(each.component == component and each.status == "down" for each in running.statuses[before:])

            await eventually(is_down, 20.0, "a status that says down")
            try:
                async with asyncio.timeout(1):
                    await running.transport.send(message_to(bench.provider.person, "too late"))
            except (NotSent, UnknownOutcome):
                pass
            except TimeoutError:
                pass  # it waits here in its order
            else:
                raise AssertionError("a message was accepted by a provider that is away")
        finally:
            await bench.provider.come_back()
        lost = len(running.statuses)
        with suppress(AssertionError):
            await running.status(component, up, after=before)
        await running.status(component, up, after=min(before + 1, lost))
        await bench.works(running, "it is back")
    bench.note(running)


@case
async def a_secret_that_is_wrong_is_a_status(bench: Bench) -> None:
    config = bench.provider.refused()
    if config is None:
        return
    running = bench.channel(config)
    async with running:
        await eventually(lambda: len([each for each in running.statuses if each.status == "down"]) > 1, 20.0, "a second status")
        assert bench.provider.is_up[1] not in [each.type for each in running.statuses]
        assert running.statuses[-1].message
    bench.note(running)


# --- messages -------------------------------------------------------------------------------------------------------------

TEXTS = ("hello", "Hej ☃ 漢字 😀 é ß ẞ", "<b>&amp;\"'</b> %s {} \\n $HOME", "مرحبا \u200f rtl", "a" * 100)

UNLIKELY_TEXTS = (
    None, "", " ", "\x00", "\x00\x01\x1b[2J\x7f", "\ud800", "\r\n.\r\nQUIT\r\n", "\u2028\ufeff\uffff", "\r" * 1000,
)  # fmt: skip
UNLIKELY_ADDRESSES = (None, "", " ", "\r\n", "\x00", "a" * 10_000, "☃", "a b,c;d:e/f@g#h\\", "\ud800", "../../x")


@case
async def messages_go_both_ways_whatever_they_say(bench: Bench) -> None:
    running = bench.channel()
    async with running:
        await bench.met(running)
        for text in TEXTS:
            await bench.works(running, text)
        bench.note(running)
        await bench.provider.part()


@case
async def what_cannot_be_sent_is_rejected_and_harms_nothing(bench: Bench) -> None:
    """Empty texts, characters that no protocol likes, addresses that are none."""
    running = bench.channel()
    async with running:
        await bench.met(running)
        person = bench.provider.person
        for content in UNLIKELY_TEXTS:
            await bench.outcome(running, person, content)
        for to in (*UNLIKELY_ADDRESSES, person + "\r\nQUIT"):
            await bench.outcome(running, to, "x")
        await bench.works(running, "nothing was harmed")
        bench.note(running)
        await bench.provider.part()


@case
async def a_text_that_is_too_long_is_rejected_and_the_limit_named(bench: Bench) -> None:
    running = bench.channel()
    async with running:
        await bench.met(running)
        largest = bench.provider.largest
        for content in ("x" * 1_000_000, "☃ " * 500_000, "\n" * 1_000_000):
            outcome = await bench.outcome(running, bench.provider.person, content)
            if largest is not None and content[0] != "\n":
                assert outcome != "accepted"
                assert re.search(r"\d", outcome), outcome
        if largest is not None:
            assert await bench.outcome(running, bench.provider.person, "x" * (largest + largest // 50 + 1)) != "accepted"
            assert await bench.outcome(running, bench.provider.person, "x" * largest) == "accepted"
        bench.note(running)
        await bench.provider.part()


@case
async def many_messages_at_once_all_arrive(bench: Bench) -> None:
    running = bench.channel()
    async with running:
        await bench.met(running)
        window = running.transport.window
        texts = [f"number {number}" for number in range(40)]
        for start in range(0, len(texts), window):
            await asyncio.gather(*(bench.send(running, text) for text in texts[start : start + window]))
        async with asyncio.timeout(QUICKLY):
            await bench.provider.hears(texts[-1], running)
            for text in texts:
                await bench.provider.say(f"back: {text}", running)
            await running.heard(f"back: {texts[-1]}")
        got = [each.content for each in running.inbound if (each.content or "").startswith("back: ")]
        assert got == [f"back: {text}" for text in texts]
        bench.note(running)
        await bench.provider.part()


# --- who means no good ----------------------------------------------------------------------------------------------------


@case
async def a_provider_that_talks_nonsense_or_hangs_up_is_a_status(bench: Bench) -> None:
    if not bench.provider.connects:
        return
    for name, octets in {**attacks(bench.provider), "hangs up": []}.items():
        async with Rogue(octets, greeting=bench.provider.greeting, closes=name == "hangs up") as rogue:
            await _is_borne(bench, rogue, name)


@case
async def a_provider_that_is_silent_is_a_status(bench: Bench) -> None:
    if not bench.provider.connects:
        return
    async with Rogue() as rogue:
        await _is_borne(bench, rogue, "silent")


async def _is_borne(bench: Bench, rogue: Rogue, name: str) -> None:
    """The channel says that it is down, and tries again, or still tries."""
    running = bench.channel(bench.provider.config_at(rogue.port))
    async with running:
        def is_down() -> bool:
            told = [each for each in running.statuses if each.component == bench.provider.is_up[0]]
            return len(told) > 1 and told[-1].status == "down"

        await eventually(is_down, 20.0, f"{name}: a status that says down")
    bench.note(running)


@case
async def a_flood_does_not_fill_the_memory(bench: Bench) -> None:
    """Nor an answer without an end."""
    provider = bench.provider
    floods = {"endless": provider.endless, "lines": (b"", b"x y z\r\n" * 9_000), "zeros": (b"", bytes(65_536))}
    for name, (begin, block) in floods.items():
        octets = itertools.chain([begin], itertools.repeat(block, FLOOD // len(block)))
        before = _memory()
        most = before
        if provider.connects:
            async with Rogue(octets, greeting=provider.greeting) as rogue:
                running = bench.channel(provider.config_at(rogue.port, PATIENCE))
                async with running:
                    def is_over() -> bool:
                        nonlocal most
                        most = max(most, _memory())
                        return rogue.met > 1 or rogue.sent >= FLOOD

                    await eventually(is_over, 30.0, f"{name}: the end of it")
                bench.note(running)
        else:
            running = bench.channel()
            async with running:
                await bench.met(running)
                running.keeps = False
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(FLOODING):
                        await provider.attack(octets, running)
                await provider.part()
        grown = max(most, _memory()) - before
        assert grown < MOST_MEMORY, f"{name}: {grown >> 20} MiB more"


@case
async def somebody_who_talks_nonsense_to_a_listener_harms_nobody(bench: Bench) -> None:
    provider = bench.provider
    if provider.connects:
        return
    running = bench.channel()
    async with running:
        await bench.met(running)
        for octets in attacks(provider).values():
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(QUICKLY):
                    await provider.attack(octets, running)
        await bench.works(running, "and yet it works")
        await provider.part()


def _memory() -> int:
    """Octets of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
