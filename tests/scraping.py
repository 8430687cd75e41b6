"""`GET /metrics` as Prometheus reads it: by the parsers of its own Python client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Series:
    """What one scrape said: (sample, its labels) -> value. `types`: name of a family -> its type."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    types: Mapping[str, str]
    helps: Mapping[str, str]
    text: str

    def value(self, name: str, **labels: str) -> float | None:
        """Of the one series that has exactly these labels; None: there is none."""
        return self.samples.get((name, frozenset(labels.items())))

    def all(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """Those that have these labels, and others."""
        wanted = frozenset(labels.items())
        return {found: value for (each, found), value in self.samples.items() if each == name and wanted <= found}

    def total(self, name: str, **labels: str) -> float:
        return sum(self.all(name, **labels).values())

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def read(text: str, content_type: str) -> Series:
    """Raises ValueError for what is no such page."""
    is_open = content_type.startswith("application/openmetrics-text")
    families = list((open_metrics_families if is_open else text_families)(text))
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"twice: {key}"
            samples[key] = float(sample.value)
    return Series(
        samples, {each.name: each.type for each in families}, {each.name: each.documentation for each in families}, text
    )


async def scrape(url: str, **options: Any) -> Series:
    """Of the API at this URL."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics", **options) as answer:
        text = await answer.text()
        assert answer.status == 200, (answer.status, text[:1000])
        return read(text, answer.headers["Content-Type"])
