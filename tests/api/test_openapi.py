"""The API's description: it says what there is, all of it, and what it says is true (`/openapi.json`, `/docs`)."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
from openapi_spec_validator import validate

from junebug import errors
from junebug.api.access import access_of
from junebug.api.openapi import examples, problems
from junebug.api.openapi.document import describe
from junebug.api.openapi.operations import OPERATIONS
from junebug.api.openapi.page import page
from junebug.api.openapi.webhooks import KINDS
from junebug.config.declaration import Settings
from tests.api.conftest import OWN_TYPES, Api, running_api
from tests.harness import THOROUGH
from tests.tables import rows
from tests.test_packaging import ROOT

DOCUMENT: dict[str, Any] = json.loads(json.dumps(describe(**OWN_TYPES)))
NEVER_ANSWERED = {
    "PluginError", "InvalidConfig", "Unroutable", "MalformedMessage", "Rejected", "Expired", "NotSent", "UnknownOutcome",
    "ConfigError", "StartupError", "TransportStartError", "HostTaken",
}  # fmt: skip
"""Errors that no client of the API sees."""


@functools.cache
def validator(text: str) -> Any:
    return jsonschema_rs.Draft202012Validator({**json.loads(text), "components": DOCUMENT["components"]})


def fits(value: Any, schema: dict[str, Any]) -> list[str]:
    """What does not."""
    return [error.message for error in validator(json.dumps(schema)).iter_errors(value)]


def operations() -> Iterator[dict[str, Any]]:
    for methods in DOCUMENT["paths"].values():
        yield from methods.values()


# --- what there is ----------------------------------------------------------------------------------------------------


def test_it_is_openapi() -> None:
    validate(DOCUMENT)


async def test_every_route_has_a_row_and_every_row_a_route_with_its_rights(api: Api) -> None:
    found = {}
    for route in api.app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if "/console" in path:  # files for browsers, no API
            continue
        found[(route.method, path)] = access_of(route.method, route.handler)
    for row in OPERATIONS:
        other = row.path.removesuffix("/") if row.path.endswith("/") else f"{row.path}/"
        for prefix in ("", "/jb"):
            there = found.pop((row.method, prefix + row.path))
            assert (set(there.scopes), there.is_open) == (set(row.scopes), row.is_open), row.id
            found.pop((row.method, prefix + other))
            if row.method == "GET":
                found.pop(("HEAD", prefix + row.path))
                found.pop(("HEAD", prefix + other))
    assert found == {}
    assert len({row.id for row in OPERATIONS}) == len(OPERATIONS)


def test_every_error_has_an_example() -> None:
    def below(kind: type[errors.JunebugError]) -> set[str]:
        return {kind.__name__}.union(*map(below, kind.__subclasses__()))

    known = {name for name in below(errors.JunebugError) if hasattr(errors, name)}
    assert {type(error).__name__ for error in problems.EXAMPLES} == known - NEVER_ANSWERED


def test_every_error_of_a_row_is_one_that_may_be_answered() -> None:
    shown = {type(error) for error in problems.EXAMPLES}
    assert {kind for row in OPERATIONS for kind in row.errors} <= shown


def test_the_errors_of_the_docs_are_those_of_the_description() -> None:
    text = (ROOT / "docs" / "http-api.md").read_text().partition("## Errors")[2].partition("## Slashes")[0]
    told = set(re.findall(r"`([A-Z]\w+)`", "".join(line for line in text.splitlines() if line.startswith("|"))))
    described = {
        error["type"] for example in DOCUMENT["components"]["examples"].values() for error in example["value"]["result"]["errors"]
    }
    assert {each for each in described if each.isalpha() and each != "invalid_body"} - {"Unavailable"} <= told | {"Unavailable"}


# --- examples ---------------------------------------------------------------------------------------------------------


def test_every_example_fits_its_schema() -> None:
    contents = []
    hooks = [operation for methods in DOCUMENT["webhooks"].values() for operation in methods.values()]
    for operation in [*operations(), *hooks]:
        contents += operation.get("requestBody", {}).get("content", {}).values()
        for response in operation["responses"].values():
            contents += response.get("content", {}).values()
    problem = {"$ref": "#/components/schemas/Problem"}
    contents += [{"schema": problem, "example": each["value"]} for each in DOCUMENT["components"]["examples"].values()]
    shown = [content for content in contents if "example" in content]
    assert len(shown) > 100
    for content in shown:
        assert fits(content["example"], content["schema"]) == [], content["example"]
    assert set(KINDS) == set(DOCUMENT["webhooks"])


ORDER = [
    "create_channel", "list_channels", "get_channel", "update_channel", "pause_channel", "resume_channel",
    "get_channel_logs", "send_message", "send_message_json", "send_messages", "get_message_status", "get_message_timeline",
    "find_messages", "list_queued_messages",
    "cancel_message", "cancel_messages", "list_dead_letters", "replay_dead_letters", "delete_dead_letter",
    "delete_dead_letters", "restart_channel", "create_token", "list_tokens", "revoke_token", "create_router",
    "list_routers", "get_router", "replace_router", "update_router", "restart_router", "get_router_logs",
    "create_destination", "list_destinations", "get_destination", "replace_destination", "update_destination",
    "get_destination_logs", "send_message_by_destination", "send_message_by_destination_json",
    "get_message_status_of_destination", "get_message_timeline_of_destination",
    "send_message_by_router", "send_message_by_router_json",
    "get_message_status_of_router", "get_message_timeline_of_router",
    "list_router_dead_letters", "replay_router_dead_letters", "delete_router_dead_letter",
    "delete_router_dead_letters", "list_destination_dead_letters", "replay_destination_dead_letters",
    "delete_destination_dead_letter", "delete_destination_dead_letters", "delete_destination", "delete_router",
    "delete_channel", "list_channel_types", "list_router_types", "stream_events", "get_health", "get_liveness", "get_metrics",
    "get_openapi", "get_docs",
]  # fmt: skip
"""In which every example can be sent: what one makes, the next ones use."""
REFUSED = {
    "delete_dead_letter": 404, "delete_router_dead_letter": 404, "delete_destination_dead_letter": 404,
    "get_message_timeline_of_destination": 404, "get_message_timeline_of_router": 404,
    "send_message_by_router": 400, "send_message_by_router_json": 400,
}  # fmt: skip
"""There is no dead letter, what was sent was not sent through the router, and the example's router has destinations that send."""
LISTS = {"list_dead_letters", "list_router_dead_letters", "list_destination_dead_letters"}


async def test_every_example_is_sent_and_answered_as_it_says(documented: Api) -> None:
    """Also of the answers: they have the same properties as their examples, but for what is optional."""
    assert sorted(ORDER) == sorted(row.id for row in OPERATIONS)
    ids = {"letter_id": "0d1c7e3ed6a24a7a9d32c1c0d4a1b5f2"}
    rows = {row.id: row for row in OPERATIONS}
    made = {"create_channel": "channel_id", "create_router": "router_id", "create_destination": "destination_id",
            "create_token": "token_id", "send_message": "message_id"}  # fmt: skip
    for id in ORDER:
        row = rows[id]
        described = DOCUMENT["paths"][row.path][row.method.lower()]
        body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
        text = None if body is None else json.dumps(body).replace(examples.CHANNEL, ids.get("channel_id", ""))
        if id == "create_router":  # the channel is to be free for it
            await documented("POST", f"/channels/{ids['channel_id']}", json={"mo_url": None})
        path = re.sub(r"\{(\w+)\}", lambda match: ids[match[1]], row.path)
        async with documented.session.request(row.method, documented.url + path, data=text) as response:
            status, content_type = response.status, response.content_type
            answer = "" if content_type == "text/event-stream" else await response.text()  # that has no end
        wanted = REFUSED.get(id, row.answers[0].status)
        assert status == wanted, (id, answer)
        shown = described["responses"][str(wanted)]
        if "$ref" in shown:
            shown = DOCUMENT["components"]["responses"][shown["$ref"].rpartition("/")[2]]
        content = shown["content"][content_type]
        if content_type != "application/json":
            continue
        value = json.loads(answer)
        assert fits(value, content["schema"]) == [], (id, answer)
        if "200" in described["responses"] and wanted == 201:
            async with documented.session.request(row.method, f"{documented.url}{path}?dry_run=true", data=text) as response:
                assert response.status == 200, (id, await response.text())
                schema = described["responses"]["200"]["content"]["application/json"]["schema"]
                assert fits(await response.json(), schema) == [], (id, await response.text())
        if id in made:
            ids[made[id]] = value["result"]["id"]
        if "example" in content and id not in LISTS:
            assert same_names(value["result"], content["example"]["result"]), (id, value, content["example"])


def same_names(found: Any, shown: Any) -> bool:
    """Whether an object has the properties of its example; a list is asked for its first item, where there is one."""
    if isinstance(found, dict) and isinstance(shown, dict):
        if "properties" in found and "properties" in shown:  # JSON Schemas, whose properties are whatever they are
            return True
        optional = {"label", "plugins", "event_url"}
        return found.keys() - optional == shown.keys() - optional
    return not (isinstance(found, list) and found and shown) or same_names(found[0], shown[0])


@rows(
    ("schema", "value", "is_good"),
    [
        ("MessageSend", {"to": "1", "content": "x"}, True),
        ("MessageSend", {"to": "1", "reply_to": None, "content": None, "validity": 5, "expires_at": None}, True),
        ("MessageSend", {"reply_to": "x", "content": "x"}, True),
        ("MessageSend", {"content": "x"}, False),
        ("MessageSend", {"to": "1", "reply_to": "x", "content": "x"}, False),
        ("MessageSend", {"to": "1", "content": "x", "validity": 5, "expires_at": "2099-12-31 00:00"}, False),
        ("MessageSend", {"to": "1", "content": "x", "event_url": "ftp://x"}, False),
        ("ChannelCreate", {"type": "telnet", "config": {"telnet_port": None}}, True),
        ("ChannelCreate", {"type": "telnet", "config": {"telnet_port": "x"}}, False),
        ("ChannelCreate", {"type": "smpp", "config": {"telnet_port": 1}}, False),
        ("ChannelCreate", {"type": "loopback", "config": {}, "callback_secret": "whsec_" + "A" * 32}, True),
        ("ChannelCreate", {"type": "loopback", "config": {}, "callback_secret": "whsec_" + "A" * 31}, False),
        ("RouterCreate", {"type": "from_address", "config": {}}, False),
    ],
)
def test_a_body_is_described_as_it_is_taken(schema: str, value: Any, is_good: bool) -> None:
    assert (fits(value, {"$ref": f"#/components/schemas/{schema}"}) == []) is is_good


# --- schemathesis -----------------------------------------------------------------------------------------------------


async def test_schemathesis_finds_nothing(documented: Api, tmp_path: Path) -> None:
    """No 5xx; statuses, content types, headers and bodies of answers as they are described, and nonsense is refused."""
    channel = await documented.create(type="loopback")
    free = await documented.create(type="loopback", mo_url=None)
    router = await documented.router(channel=free)
    ids = {"channel_id": channel, "router_id": router, "destination_id": await documented.destination(router)}
    cases = ["-n", str(20 * THOROUGH)] if THOROUGH > 1 else ["-n", "3", "--phases", "fuzzing", "--generation-deterministic"]
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "st", "run", f"{documented.url}/openapi.json", *cases, "--continue-on-failure",
        "--no-color", "--warnings", "off", "--exclude-checks", "positive_data_acceptance",
        "--exclude-operation-id", "stream_events",
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks", "PYTHONPATH": str(ROOT),
             "JUNEBUG_TEST_IDS": json.dumps(ids)},
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output[-20_000:]
    assert int(re.findall(r"(\d+) generated", output)[0]) >= 150, output


# --- for people -------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere_and_lets_nothing_else_in() -> None:
    shown = page(DOCUMENT)
    assert re.findall(r"""(?:src|href|action)=["'](?!#)([^"']*)""", shown.html) == ["data:,", "openapi.json"]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", shown.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}';" in shown.policy
        assert "http" not in text
        assert "url(" not in text
    assert shown.policy.startswith("default-src 'none';")


def test_the_page_has_everything_and_its_links_lead_somewhere() -> None:
    html = page(DOCUMENT).html
    anchors = re.findall(r' id="([^"]+)"', html)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(anchors)
    names = [f"schema-{name}" for name in DOCUMENT["components"]["schemas"]]
    names += [f"error-{name}" for name in DOCUMENT["components"]["examples"]]
    assert {*names, *(operation["operationId"] for operation in operations()), *KINDS} <= set(anchors)


def test_what_a_type_says_of_itself_is_no_html() -> None:
    document = {**DOCUMENT, "components": {**DOCUMENT["components"], "schemas": {
        "x": {"type": "object", "description": "<script>", "properties": {"<b>": {"type": "string", "description": "`<i>`"}}},
    }}}  # fmt: skip
    html = page(document).html
    assert "<b>&lt;" not in html
    assert "<code>&lt;i&gt;</code>" in html
    assert html.count("<script>") == 1


async def test_both_need_a_token_where_one_is_needed(settings: Settings) -> None:
    guarded = dataclasses.replace(settings, admin_token="a-token-of-the-settings-0")
    async with running_api(guarded, on_loopback=False) as api:
        for path in ("/openapi.json", "/docs"):
            assert (await api("GET", path)).status == 401
            headers = {"Authorization": "Bearer a-token-of-the-settings-0"}
            async with api.session.get(api.url + path, headers=headers) as answer:
                assert answer.status == 200
                text = await answer.text()
            if path == "/openapi.json":
                assert {} not in json.loads(text)["security"]


async def test_the_page_is_served_with_its_policy_and_no_token_is_asked_for_on_loopback(api: Api) -> None:
    async with api.session.get(f"{api.url}/docs") as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with api.session.get(f"{api.url}/jb/openapi.json") as answer:
        assert {} in (await answer.json())["security"]
