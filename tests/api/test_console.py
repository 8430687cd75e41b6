"""The console's files as they are answered, and what stands in them; tests/console has it in a browser."""

from __future__ import annotations

import dataclasses
import re

from junebug import console
from junebug.config.declaration import Settings
from junebug.transports.smpp import CONFIG_SCHEMA
from tests.api.conftest import REGISTRY, ROUTER_TYPES, Api, running_api

LARGEST = 150_000
_IMPORT = re.compile(r'^import .* from "\./([^"]+)";$', re.MULTILINE)


async def test_its_files_are_served_and_kept_by_browsers(api: Api) -> None:
    wanted = {"": console.INDEX} | {name: name for name in console.files()}
    for prefix in ("", "/jb"):
        for path, name in wanted.items():
            async with api.session.get(f"{api.url}{prefix}/console/{path}") as answer:
                assert (answer.status, await answer.read()) == (200, console.files()[name].body)
                assert answer.headers["Content-Type"] == f"{console.files()[name].kind}; charset=utf-8"
                assert console.HEADERS.items() <= answer.headers.items()
                tag = answer.headers["ETag"]
            async with api.session.get(f"{api.url}{prefix}/console/{path}", headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
    redirect = await api("GET", "/console")
    assert (redirect.status, redirect.headers["Location"]) == (301, "/console/")
    for nowhere in ("nothing.js", "..%2f__init__.py", "%2e%2e/__init__.py", "static/app.js", ".hidden"):
        assert (await api("GET", f"/console/{nowhere}")).status == 404


async def test_nothing_inline_is_let_run(api: Api) -> None:
    policy = dict(each.split(" ", 1) for each in console.HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    index = console.files()[console.INDEX].body.decode()
    assert re.findall(r"<style|\bstyle=|\bon\w+=|<script>|https?://|//", index) == []


def test_no_text_becomes_html_and_nothing_comes_from_elsewhere() -> None:
    for name, file in console.files().items():
        text = file.body.decode()
        assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) is None, name
        assert {*re.findall(r"https?://[\w./]*", text)} <= {"http://www.w3.org/2000/svg"}, name


def test_it_is_small_and_whole() -> None:
    files = console.files()
    assert sum(len(file.body) for file in files.values()) < LARGEST
    assert {path.name for path in console.STATIC.iterdir()} == {*files}
    imported = {found for name, file in files.items() if name.endswith(".js") for found in _IMPORT.findall(file.body.decode())}
    linked = {*re.findall(r'(?:href|src)="([\w.]+)"', files[console.INDEX].body.decode())}
    assert imported | linked | {console.INDEX} == {*files}


def test_its_colours_can_be_told_apart() -> None:
    """WCAG 2.2, 1.4.3 and 1.4.11: texts 4.5 to 1, edges of controls 3 to 1, in light and dark."""
    style = console.files()["style.css"].body.decode()
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root[^{]*\{([^}]*)\}", style)]
    assert len(themes) == 3  # light, dark that was chosen, dark of the system
    assert themes[1] == themes[2]
    surfaces = ("back", "surface", "sunken", "hover")
    for theme in themes:
        texts = [(ink, back) for ink in ("text", "muted", "accent", "bad") for back in surfaces]
        texts += [("ok", "ok-back"), ("warm", "warm-back"), ("bad", "bad-back"), ("none", "none-back"), ("accent-text", "accent")]
        low = {pair: contrast(theme[pair[0]], theme[pair[1]]) for pair in texts}
        assert {pair: ratio for pair, ratio in low.items() if ratio < 4.5} == {}
        assert min(contrast(theme["line-strong"], theme[back]) for back in ("back", "surface")) >= 3


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_who_wants_none_has_none(settings: Settings) -> None:
    async with running_api(dataclasses.replace(settings, no_console=True)) as api:
        for path in ("/console", "/console/", "/console/app.js"):
            assert (await api("GET", path)).status == 404


async def test_types_tell_what_a_config_may_be(api: Api) -> None:
    found = (await api("GET", "/channel-types/")).result
    assert [each["name"] for each in found["types"]] == REGISTRY.names()
    smpp = next(each for each in found["types"] if each["name"] == "smpp")
    assert smpp["config_schema"]["properties"].keys() >= CONFIG_SCHEMA["properties"].keys()
    assert "password" in smpp["secrets"]
    assert found["channel"]["required"] == ["type", "config"]
    routers = (await api("GET", "/router-types/")).result
    assert [each["name"] for each in routers["types"]] == ROUTER_TYPES.names()
    assert {each["name"] for each in routers["types"] if each["chooses_channel"]} == {"outbound"}
    assert {*routers} == {"types", "router", "destination"}


async def test_a_page_of_another_name_of_this_machine_gets_nothing(api: Api) -> None:
    answer = await api("GET", "/console/", headers={"Host": "attacker.example"})
    assert (answer.status, answer.errors[0]["type"]) == (403, "HostNotAllowed")
