"""The description put together: pure. Neighbour: handlers/openapi.py answers it."""

from __future__ import annotations

import itertools
import re
from http import HTTPStatus
from typing import Any

import junebug
from junebug.api.bulk_body import LARGEST_BODY
from junebug.api.openapi import answers, examples, problems
from junebug.api.openapi.answers import Schema, ref
from junebug.api.openapi.links import LINKS
from junebug.api.openapi.operations import OPERATIONS
from junebug.api.openapi.requests import request_schemas
from junebug.api.openapi.rows import Answer, Operation, Parameter
from junebug.api.openapi.webhooks import WEBHOOKS
from junebug.names import CHANNEL_ID
from junebug.registry import Registry
from junebug.router_types import RouterTypes

JSON, NDJSON = "application/json", "application/x-ndjson"
TAGS = {
    "channels": "A channel is one connection to a provider, for example an SMPP bind or a telnet port.",
    "messages": "What is sent by a channel, and what waits to be.",
    "dead letters": "What the application did not take, kept until it is replayed or deleted.",
    "routers": "A router brings one channel's messages to several applications, or chooses the channel that sends.",
    "destinations": "The applications behind a router.",
    "tokens": "API tokens: who may do what.",
    "junebug": "Junebug itself.",
}
_OVERVIEW = """A text-messaging gateway: one API in front of SMS, USSD, XMPP, IRC, Twitter and telnet.

Every answer is an envelope of `status`, `code`, `description` and `result`; an error's result holds `errors`, each with a `type`
for programs and a `message` for people. Everything is also served below `/jb`, and with and without a slash at the end.
A property that is optional may also be null, which means that it is not given."""
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer TOKEN`"},
    "basic": {"type": "http", "scheme": "basic", "description": "The token is the password; any name will do."},
    "token": {
        "type": "apiKey", "in": "header", "name": "Authorization", "description": "`Authorization: Token TOKEN`",
    },
}  # fmt: skip
_PARAMETER = re.compile(r"\{(\w+)\}")


def describe(registry: Registry, types: RouterTypes, *, needs_token: bool = True) -> dict[str, Any]:
    """The OpenAPI document of a Junebug with these types. `needs_token`: whether nothing is answered without one."""
    paths: dict[str, dict[str, Any]] = {}
    responses: dict[str, Any] = {}
    """Of several operations, by name."""
    for operation in OPERATIONS:
        described = _operation(operation, responses, needs_token=needs_token)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Junebug", "version": junebug.__version__, "description": _OVERVIEW, "license": {
                "name": "BSD-3-Clause", "identifier": "BSD-3-Clause",
            },
        },
        "servers": [{"url": "/"}, {"url": "/jb", "description": "The same: clients of a Junebug behind a proxy post here."}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "security": _security((), is_needed=needs_token),
        "paths": paths,
        "webhooks": WEBHOOKS,
        "components": {
            "schemas": {**request_schemas(registry, types), **answers.SCHEMAS, **problems.SCHEMAS},
            "responses": responses,
            "securitySchemes": _SCHEMES,
            "examples": problems.examples(),
        },
    }  # fmt: skip


def _security(scopes: tuple[str, ...], *, is_needed: bool) -> list[dict[str, list[str]]]:
    """One of these; one that is empty: none. A scope stands for itself alone: any of them will do."""
    schemes = [{name: [scope]} for name in _SCHEMES for scope in scopes] or [{name: []} for name in _SCHEMES]
    return schemes if is_needed else [{}, *schemes]


def _operation(operation: Operation, shared: dict[str, Any], *, needs_token: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if details := _details(operation):
        described["description"] = details
    if operation.old_name_of:
        described["deprecated"] = True
    parameters = [_path_parameter(name) for name in _PARAMETER.findall(operation.path)]
    parameters += [_parameter(each, "query") for each in operation.query]
    parameters += [_parameter(each, "header") for each in operation.headers]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = _body(operation)
    described["responses"] = _responses(operation, shared)
    if made := LINKS.get(operation.id):
        next(each for status, each in described["responses"].items() if status == "201")["links"] = made
    described["security"] = _security(operation.scopes, is_needed=needs_token and not operation.is_open)
    return described


def _details(operation: Operation) -> str:
    scopes = " or ".join(f"`{scope}`" for scope in operation.scopes)
    needs = f"Needs {scopes}." if scopes else ""
    old = f"The same as {operation.old_name_of}, for old clients." if operation.old_name_of else ""
    return " ".join(filter(None, (operation.details, old, needs)))


def _path_parameter(name: str) -> dict[str, Any]:
    schema: Schema = {"type": "string", "minLength": 1}
    if name in ("channel_id", "router_id", "destination_id"):
        schema = {"type": "string", "pattern": f"^{CHANNEL_ID}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(parameter: Parameter, where: str) -> dict[str, Any]:
    return {"name": parameter.name, "in": where, "schema": parameter.schema, "description": parameter.description}


def _body(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": ref(operation.body), "example": examples.BODIES[operation.body]}}
    if operation.body == "Messages":
        lines = {"type": "string", "description": f"A message a line: {examples.LINE}. {LARGEST_BODY} bytes at the most."}
        content[NDJSON] = {"schema": lines}
    return {"required": not operation.is_body_optional, "content": content}


def _responses(operation: Operation, shared: dict[str, Any]) -> dict[str, Any]:
    several = itertools.chain(
        operation.errors, problems.OF_ANY, problems.OF_CHANGES if operation.method != "GET" else (),
        problems.OF_BODIES if operation.body else (),
    )  # fmt: skip
    wrong = {}
    for status, names in problems.of_status(several).items():
        name = f"{status}.{'.'.join(names)}"
        shared.setdefault(name, problems.response(status, names))
        wrong[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return {**wrong, **{str(each.status): _answer(each) for each in operation.answers}}


def _answer(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": answer.result}
    if not answer.media:
        envelope = {"status": answer.status, "code": HTTPStatus(answer.status).phrase, "description": answer.description}
        properties = {**{name: {"const": value} for name, value in envelope.items()}, "result": answer.result}
        schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        content = {"schema": schema, "example": {**envelope, "result": examples.result_of(answer.result)}}
    described: dict[str, Any] = {"description": answer.description, "content": {answer.media or JSON: content}}
    if answer.headers:
        described["headers"] = {
            name: {"schema": {"type": "string"}, "description": when} for name, when in answer.headers.items()
        }
    return described
