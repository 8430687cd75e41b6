"""What was counted, as Prometheus reads it: text format 0.0.4, or OpenMetrics 1.0. Pure.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    https://prometheus.io/docs/specs/om/open_metrics_spec/

Neighbours: handlers/metrics.py gathers it, runtime/families.py declares what there is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from junebug.runtime import families
from junebug.runtime.families import SEPARATOR, SUM, Family
from junebug.runtime.metrics import PRECISION

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPEN = OPEN_METRICS.partition(";")[0]
_LEVELS = {"ok": "1.0", "degraded": "0.5", "down": "0.0"}
MOST_COMPONENTS = 20
"""Of a channel: a type that somebody else wrote may tell of any."""


def content_type(accept: str) -> str:
    """What a request's Accept asks for; text, unless OpenMetrics is wanted more (RFC 9110 12.5.1)."""
    wanted = {"": 0.0}
    for part in accept.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        try:
            wanted[name] = max(wanted.get(name, 0.0), float(quality))
        except ValueError:
            continue
    plain = max(wanted.get(each, 0.0) for each in ("text/plain", "text/*", "*/*"))
    open_metrics = wanted.get(_OPEN, 0.0)
    return OPEN_METRICS if (open_metrics > 0 and open_metrics >= wanted.get("text/plain", 0.0)) or open_metrics > plain else TEXT


class _Field(NamedTuple):
    """What a field of Redis' says. `bound`: of a histogram: le, or SUM."""

    family: Family
    labels: str
    bound: str


class Page:
    """Series, gathered by their families."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {family.name: [] for family in families.SHOWN}

    def add(self, family: Family, value: float | str, *values: str, owner: str = "") -> None:
        """One sample. `values`: of its labels; `owner`: see `owned_by`."""
        self._put(family, _sample(family), _joined(owner, _labels(family, values)), value)

    def _put(self, family: Family, name: str, labels: str, value: float | str) -> None:
        self._lines[family.name].append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")

    def add_fields(self, fields: Mapping[str, str], owner: str = "", *, is_alive: bool = True) -> None:
        """What is kept of a channel, a router or Junebug itself. `is_alive`: else it is no news how much of anything it has."""
        histograms: dict[tuple[str, str], dict[str, int]] = {}
        for name, value in fields.items():
            read = _read(name)
            if read is None:
                continue  # an older or newer Junebug's
            family, labels, bound = read
            if family.kind == "histogram":
                histograms.setdefault((family.name, labels), {})[bound] = int(value)
            elif family.kind == "counter" or is_alive:
                self._put(family, _sample(family), _joined(owner, labels), value)
        for (name, labels), counted in histograms.items():
            self._add_histogram(families.BY_FIELD[name.removeprefix(families.PREFIX)], _joined(owner, labels), counted)

    def _add_histogram(self, family: Family, labels: str, counted: Mapping[str, int]) -> None:
        lines, name, total = self._lines[family.name], family.name, 0
        before = f"{labels}," if labels else ""
        for bound in (*map(repr, family.bounds), "+Inf"):
            total += counted.get(bound, 0)
            lines.append(f'{name}_bucket{{{before}le="{bound}"}} {total}')
        inside = f"{{{labels}}}" if labels else ""
        lines.append(f"{name}_sum{inside} {counted.get(SUM, 0) / PRECISION}")
        lines.append(f"{name}_count{inside} {total}")

    def add_components(self, levels: Mapping[str, str], owner: str) -> None:
        for component, level in sorted(levels.items())[:MOST_COMPONENTS]:
            if level in _LEVELS:
                self.add(families.COMPONENTS, _LEVELS[level], component, owner=owner)

    def text(self, type: str) -> str:
        """The whole page."""
        is_open = type == OPEN_METRICS
        parts: list[str] = []
        for family in families.SHOWN:
            if lines := self._lines[family.name]:
                name = family.name if is_open else _sample(family)
                parts.append(f"# HELP {name} {_escaped(family.help)}")
                parts.append(f"# TYPE {name} {family.kind}")
                if is_open and family.unit:
                    parts.append(f"# UNIT {name} {family.unit}")
                parts += lines
        return "\n".join([*parts, "# EOF" if is_open else "", ""]) if is_open else "\n".join([*parts, ""])


def owned_by(id: str, *, is_router: bool = False) -> str:
    """The label of a channel's, or a router's, series."""
    return f'{"router_id" if is_router else "channel_id"}="{_escaped(id)}"'


def zeros(is_router: bool) -> dict[str, str]:
    return _ZEROS[is_router]


_ZEROS = [dict.fromkeys(families.zeros(is_router), "0") for is_router in (False, True)]


@functools.lru_cache(10_000)
def _read(field: str) -> _Field | None:
    name, *values = field.split(SEPARATOR)
    family = families.BY_FIELD.get(name)
    if family is None or family in families.INTERNAL:
        return None
    bound = values.pop() if family.kind == "histogram" and values else ""
    return _Field(family, _labels(family, values), bound) if len(values) == len(family.labels) else None


def _sample(family: Family) -> str:
    return f"{family.name}_total" if family.kind == "counter" else family.name


def _labels(family: Family, values: Iterable[str]) -> str:
    return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(family.labels, values, strict=True))


def _joined(owner: str, labels: str) -> str:
    return f"{owner},{labels}" if owner and labels else owner or labels


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
