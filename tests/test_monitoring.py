"""The alert rules and the dashboard in etc/ ask for series that there are, by labels that they have; promtool agrees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug.api.metrics import TEXT, Page, owned_by
from junebug.runtime.families import SHOWN, Family
from tests.harness import ROOT

CASES = ROOT / "tests" / "alert_cases.yml"
ALERTS, DASHBOARD = ROOT / "etc" / "prometheus-alerts.yml", ROOT / "etc" / "grafana-dashboard.json"
_SELECTOR = re.compile(r"\b(junebug_[a-z0-9_]+)(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")
_LABEL = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_OF_PROMETHEUS = {"instance", "job"}


def samples() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for family in SHOWN:
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[family.kind]
        found |= {f"{family.name}{suffix}": family for suffix in suffixes}
    return found


def labels_of(family: Family) -> set[str]:
    owner = {"channel_id", *(["router_id"] if family.by_router else [])} if family.owned else set[str]()
    return {*family.labels, *owner, *(["le"] if family.kind == "histogram" else [])}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return list(json.loads(DASHBOARD.read_text())["panels"])


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, the expression)."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def problems(expression: str) -> list[str]:
    known, found, labels = samples(), [], set[str]()
    for name, selector in _SELECTOR.findall(expression):
        if name not in known:
            found.append(f"there is no {name}")
            continue
        own = labels_of(known[name])
        labels |= own
        asked = set(_LABEL.findall(selector))
        found += [f"{name} has no label {label}" for label in asked - own]
        for label, values in (known[name].values or {}).items():
            wanted = re.findall(rf'\b{label}="([^"]*)"', selector)
            found += [f"{name} is never {label}={value}" for value in wanted if value not in values]
    for grouping in _GROUPING.findall(expression):
        found += [f"nothing has a label {each}" for each in re.findall(r"\w+", grouping) if each not in labels | _OF_PROMETHEUS]
    return found


def test_every_expression_asks_for_what_there_is() -> None:
    wrong = [(where, expression, found) for where, expression in expressions() if (found := problems(expression))]
    assert wrong == []
    assert problems('junebug_no_such_total{x="y"}')
    assert problems('sum by (to) (junebug_up{server="mysql", colour="red"})') == [
        "junebug_up has no label colour", "junebug_up is never server=mysql", "nothing has a label to",
    ]  # fmt: skip


def test_every_alert_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["alert"].startswith("Junebug")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {*rule["annotations"]} == {"summary", "description"}
        text = f"{rule['annotations']}"
        used = {name for name, _ in _SELECTOR.findall(rule["expr"])}
        there = set[str]().union(*(labels_of(samples()[name]) for name in used)) | _OF_PROMETHEUS
        assert {*re.findall(r"\$labels\.(\w+)", text)} <= there, rule["alert"]


def test_what_is_to_be_watched_is_watched() -> None:
    """By an alert, and on the dashboard."""
    watched = {
        "junebug_component_status", "junebug_outbound_queue_length", "junebug_callback_attempts_total", "junebug_given_up_total",
        "junebug_smpp_binds", "junebug_smpp_throttled_responses_total", "junebug_up", "junebug_process_restarts_total",
        "junebug_auth_failures_total",
    }  # fmt: skip
    for source in ([rule["expr"] for rule in rules()], [text for _, text in expressions()][len(rules()) :]):
        assert watched <= {name for text in source for name, _ in _SELECTOR.findall(text)}


def test_the_scrape_config_of_the_docs_names_what_there_is() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE | re.DOTALL)
    config = yaml.safe_load(text)
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "junebug", "an alert asks for it"
    assert job["authorization"]["type"] == "Bearer"
    assert "metrics_path" not in job, "/metrics is Prometheus' own default"
    assert config["rule_files"] == [ALERTS.name]


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in panels()}) == len(panels())
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    assert {*re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())} <= variables | {"__rate_interval", "__all"}
    places = [panel["gridPos"] for panel in panels()]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    cells = [(x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
    assert len(cells) == len(set(cells)), "panels lie upon each other"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_takes_rules_and_series(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yml"
    cases.write_text(CASES.read_text().replace("[ALERTS]", f"[{ALERTS}]"))
    for arguments in (("check", "rules", ALERTS), ("test", "rules", cases)):
        checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    page = Page()
    for family in SHOWN:
        values = ["x"] * len(family.labels)
        fields = family.fields(*values) if family.kind == "histogram" else [family.field(*values)]
        page.add_fields(dict.fromkeys(fields, "1"), owned_by("c") if family.owned else "")
    checked = subprocess.run(["promtool", "check", "metrics"], input=page.text(TEXT), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
