"""The docs keep up with the code: generated pages, the example config, every JSON example, every link."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import json
import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from junebug import errors
from junebug.config.declaration import OPTIONS, Settings
from junebug.config.load import load
from junebug.plugins.nginx.plugin import Options
from junebug.registry import ChannelType, Registry
from junebug.router_types import RouterType, RouterTypes
from tests.test_packaging import ROOT, declared_channel_types, declared_router_types

PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("README.md")])
CHANNEL_TYPES_PAGE = (ROOT / "docs" / "channel-types.md").read_text()
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    prose = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def uncommented_example() -> str:
    lines = (ROOT / "etc" / "junebug.yaml.example").read_text().splitlines()
    return "\n".join(line.removeprefix("# ") for line in lines)


_FILE = re.compile(r"(?<![\w/.{<-])((?:\w+/)*\w+\.py)\b")


def named_files(text: str) -> set[str]:
    """`sender.py`, `worker/outbound/sender.py`."""
    return set(_FILE.findall(text))


def missing(files: set[str]) -> set[str]:
    """Those of which there is none, at this path below any folder."""
    return {file for file in files if not any(path == file or path.endswith(f"/{file}") for path in python_files())}


@functools.cache
def python_files() -> list[str]:
    rooms = ("junebug", "tests", "bench", "docs")
    return [str(path.relative_to(ROOT)) for room in rooms for path in (ROOT / room).rglob("*.py")]


def docstrings(path: Path) -> str:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Expr)]
    values = [node.value.value for node in nodes if isinstance(node.value, ast.Constant)]
    return "\n".join(value for value in values if isinstance(value, str))


@pytest.mark.parametrize("room", sorted(path.name for path in (ROOT / "junebug").iterdir() if (path / "__init__.py").exists()))
def test_docstrings_name_files_that_there_are(room: str) -> None:
    for path in (ROOT / "junebug" / room).rglob("*.py"):
        assert missing(named_files(docstrings(path))) == set(), path


def test_architecture_and_readme_name_files_that_there_are() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "architecture.md"):
        assert missing(named_files(page.read_text())) == set(), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_import_what_there_is(page: Path) -> None:
    for text in blocks(page, "python"):
        for module, names in re.findall(r"^from (junebug[\w.]*) import (.+)$", text, re.MULTILINE):
            for name in names.split(", "):
                assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_generated_pages_are_up_to_date() -> None:
    check = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_the_example_config_holds_every_setting_with_its_default(tmp_path: Path) -> None:
    path = tmp_path / "junebug.yaml"
    path.write_text(uncommented_example())
    given = yaml.safe_load(path.read_text())
    for option in OPTIONS:
        value = given
        for part in option.path:
            value = value[part]
    assert load(config_path=str(path)) == Settings()


def test_the_example_config_as_it_is_changes_nothing() -> None:
    assert load(config_path=str(ROOT / "etc" / "junebug.yaml.example")) == Settings()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_parse(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)
    for text in blocks(page, "yaml"):
        yaml.safe_load(text)
    for text in blocks(page, "python"):
        compile(text, page.name, "exec")
    for text in re.findall(r"-d '(\{.*?\})'", page.read_text(), re.DOTALL):
        json.loads(text)


def test_example_settings_load(tmp_path: Path) -> None:
    path = tmp_path / "junebug.yaml"
    for text in [
        *blocks(ROOT / "docs" / "configuration.md", "yaml"),
        *blocks(ROOT / "docs" / "channel-types.md", "yaml"),
        *blocks(ROOT / "docs" / "plugins.md", "yaml"),
    ]:
        path.write_text(text)
        load(config_path=str(path))


def test_example_channels_are_valid() -> None:
    registry = Registry(declared_channel_types())
    pages = (ROOT / "docs" / "channel-types.md", ROOT / "docs" / "smpp.md")
    examples = [example for page in pages for text in blocks(page, "json") if "config" in (example := json.loads(text))]
    assert {example["type"] for example in examples} >= {"telnet", "loopback", "smpp", "xmpp", "irc", "twitter"}
    for example in examples:
        registry.validate_config(example["type"], example["config"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("channel_type", declared_channel_types(), ids=lambda each: each.name)
def test_every_option_of_a_channel_type_is_documented(channel_type: ChannelType) -> None:
    _, heading, rest = CHANNEL_TYPES_PAGE.partition(f"\n## {channel_type.name}\n")
    assert heading, f"docs/channel-types.md has no section {channel_type.name}"
    section = rest.partition("\n## ")[0]
    assert f"<!-- generated: type:{channel_type.name} -->" in section
    for name, schema in channel_type.config_schema["properties"].items():
        assert f"| `{name}` |" in section
        assert schema.get("description"), f"{channel_type.name}.{name} says nothing of itself"
    for secret in channel_type.secrets:
        (row,) = (line for line in section.splitlines() if line.startswith(f"| `{secret}` |"))
        assert ", secret |" in row


def test_every_option_of_the_nginx_plugin_is_documented_with_its_default() -> None:
    section = (ROOT / "docs" / "plugins.md").read_text().partition("\n## nginx\n")[2]
    documented = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE))
    defaults = {option.name: str(option.default) for option in dataclasses.fields(Options)}
    assert documented.keys() == defaults.keys()
    for name, default in defaults.items():
        shown = {"None": "none"}.get(default, f"`{Path(default).name if name.endswith('template') else default}`")
        assert documented[name].partition(",")[0] == shown or documented[name].startswith(shown), name


def test_every_status_of_smpp_is_documented() -> None:
    """Those that its transport has in its source, where it tells them."""
    source = (ROOT / "junebug/transports/smpp/transport.py").read_text()
    told = set(re.findall(r"\"(?:ok|degraded|down)\", \"(\w+)\"", source))
    assert told >= {"bound", "bind_refused", "throttled"}
    documented = re.findall(
        r"^\| `(\w+)` \| (?:ok|degraded|down) \|", (ROOT / "docs" / "smpp.md").read_text(), re.MULTILINE
    )
    assert told <= {*documented}


# --- errors -----------------------------------------------------------------------------------------------------------


def documented_errors() -> set[tuple[int, str]]:
    """(status, type) of each that the API's page lists."""
    rows = re.findall(r"^\| ([0-9, ]+) \| (`[^|]+`) \|", (ROOT / "docs" / "http-api.md").read_text(), re.MULTILINE)
    return {(int(s), kind) for statuses, kinds in rows for s in statuses.split(", ") for kind in re.findall("`(.+?)`", kinds)}


def answered_errors() -> set[tuple[int, str]]:
    """(status, type) of each error of ours that the API may answer with: those that are nobody's bug have a status."""
    own = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.JunebugError)]
    types = {errors.InvalidBody: "invalid_body", errors.NoSuchMessage: "MessageNotFound"}
    return {(each.status, types.get(each, each.__name__)) for each in own if each.status != 500} | {(500, "JunebugError")}


def test_every_error_that_can_be_answered_is_documented_and_no_other() -> None:
    documented = documented_errors()
    assert answered_errors() - documented == set()
    phrases = {status.phrase for status in HTTPStatus}
    assert {kind for _, kind in documented - answered_errors()} <= phrases


# --- routers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router_type", declared_router_types(), ids=lambda each: each.name)
def test_a_router_type_has_its_section_whose_examples_are_valid(router_type: RouterType) -> None:
    _, heading, rest = (ROOT / "docs" / "routers.md").read_text().partition(f"\n## {router_type.name}\n")
    assert heading, f"docs/routers.md has no section {router_type.name}"
    section = rest.partition("\n## ")[0]
    types = RouterTypes([router_type])
    examples = [json.loads(text) for language, text in _FENCE.findall(section) if language == "json"]
    routers = [each for each in examples if "type" in each]
    destinations = [each for each in examples if "type" not in each]
    assert routers
    assert destinations or router_type.sends_by
    for example in routers:
        assert example["type"] == router_type.name
        types.of_router(router_type.name).validate(example["config"])
    for example in destinations:
        types.of_destination(router_type.name).validate(example["config"])
    for kind, schema in (("router", router_type.config_schema), ("destination", router_type.destination_schema)):
        for name, option in schema.get("properties", {}).items():
            assert f"<!-- generated: {kind}:{router_type.name} -->" in section
            assert f"| `{name}` |" in section
            assert option.get("description"), f"{router_type.name}.{name} says nothing of itself"
