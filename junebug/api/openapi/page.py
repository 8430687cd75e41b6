"""The description as one page for people: pure, HTML that needs no script, and nothing from elsewhere.

It is made of the document alone (document.py). docs.css and docs.js are within it; its policy lets in just these.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

Document = Mapping[str, Any]
MOST_VALUES = 12
"""Of an enum that are shown."""


@dataclass(frozen=True, slots=True)
class Page:
    """The page, and its Content-Security-Policy."""

    html: str
    policy: str


@functools.cache
def _file(name: str) -> str:
    return (files(__package__) / name).read_text()


def page(document: Document) -> Page:
    style, script = _file("docs.css"), _file("docs.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
    info = document["info"]
    body = "".join((*_sections(document), _callbacks(document), _schemas(document), _errors(document)))
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(info["title"])}: its API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{style}</style></head><body>"
        f'<a class="skip" href="#main">To the content</a>'
        f"<header><h1>{_text(info['title'])} {_text(info['version'])}</h1>"
        f'<p>This page is made of <a href="openapi.json">openapi.json</a>, OpenAPI {_text(document["openapi"])}.</p>'
        f'<p hidden id="search"><label>Find <input type="search" id="filter" autocomplete="off"></label> '
        f'<span id="found" role="status"></span></p></header>'
        f"<nav aria-label=\"Contents\">{_contents(document)}</nav>"
        f'<main id="main" tabindex="-1">{_prose(info["description"])}{_access(document)}{body}</main>'
        f"<script>{script}</script></body></html>\n"
    )
    return Page(text, policy)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# --- text -------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(str(value))


def _inline(text: str) -> str:
    """A line in which `this` is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)


def _json(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<pre><code>{_text(text)}</code></pre>"


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML already."""
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{caption}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


# --- operations -------------------------------------------------------------------------------------------------------


def _by_tag(document: Document) -> Iterator[tuple[str, str, list[tuple[str, str, Mapping[str, Any]]]]]:
    """(tag, what it is, (path, method, operation) of each)."""
    for tag in document["tags"]:
        found = [
            (path, method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
        yield tag["name"], tag["description"], found


def _contents(document: Document) -> str:
    parts = []
    for name, _, operations in _by_tag(document):
        links = "".join(
            f'<li><a href="#{_slug(each["operationId"])}">{_inline(each["summary"])}</a></li>'
            for _, _, each in operations
            if not each.get("deprecated")
        )
        parts.append(f"<details><summary>{_text(name.capitalize())}</summary><ul>{links}</ul></details>")
    sections = ("access", "callbacks", "schemas", "errors")
    others = "".join(f'<li><a href="#{name}">{name.capitalize()}</a></li>' for name in sections)
    return "".join(parts) + f"<ul>{others}</ul>"


def _access(document: Document) -> str:
    schemes = document["components"]["securitySchemes"]
    items = "".join(f"<li>{_text(name)}: {_inline(scheme['description'])}</li>" for name, scheme in schemes.items())
    needed = "An API token is sent in one of these ways" if {} not in document["security"] else (
        "No API token is needed here. Elsewhere it is sent in one of these ways"
    )  # fmt: skip
    return f'<section id="access"><h2>Access</h2><p>{needed}:</p><ul>{items}</ul></section>'


def _sections(document: Document) -> Iterator[str]:
    for name, description, operations in _by_tag(document):
        articles = "".join(_operation(document, *each) for each in operations)
        yield f'<section id="{_slug(name)}"><h2>{_text(name.capitalize())}</h2><p>{_inline(description)}</p>{articles}</section>'


def _operation(document: Document, path: str, method: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<h3>{_inline(operation['summary'])}</h3>"]
    parts.append(f'<p class="path"><b class="{method.lower()}">{method}</b> <code>{_text(path)}</code></p>')
    if "description" in operation:
        parts.append(_prose(operation["description"]))
    parts.append(_parameters(operation.get("parameters", ())))
    if "requestBody" in operation:
        needed = "Body" if operation["requestBody"]["required"] else "Body, which may be missing"
        parts += [_content(needed, each, kind) for kind, each in operation["requestBody"]["content"].items()]
    wrong = []
    for status, response in operation["responses"].items():
        if "$ref" in response:
            shared = response["$ref"].rpartition("/")[2]
            names = document["components"]["responses"][shared]["content"]["application/json"]["examples"]
            wrong.append(f"<li>{status}: {', '.join(_error_link(name) for name in names)}</li>")
        else:
            for kind, each in response.get("content", {}).items():
                parts.append(_content(f"{status} {_text(response['description'])}", each, kind))
    if wrong:
        parts.append(f"<details><summary>Errors</summary><ul>{''.join(wrong)}</ul></details>")
    return f'<article id="{_slug(operation["operationId"])}">{"".join(parts)}</article>'


def _error_link(name: str) -> str:
    return f'<a href="#error-{_slug(name)}">{_text(name)}</a>'


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (f"<code>{_text(each['name'])}</code>", _text(each["in"]), _type(each["schema"]), _inline(each.get("description", "")))
        for each in parameters
    ]
    return _table("Parameters", ("Name", "In", "Type", "Description"), rows) if rows else ""


def _content(title: str, content: Mapping[str, Any], kind: str) -> str:
    schema = content["schema"]
    shown = schema.get("properties", {}).get("result", schema)
    of = "" if shown.get("properties") == {} else f": {_type(shown)}"
    example = f"<details><summary>Example</summary>{_json(content['example'])}</details>" if "example" in content else ""
    return f'<div class="body"><p><b>{title}</b>{of} <small>{_text(kind)}</small></p>{example}</div>'


def _callbacks(document: Document) -> str:
    articles = "".join(
        _operation(document, "your URL", method.upper(), operation)
        for methods in document["webhooks"].values()
        for method, operation in methods.items()
    )
    return f'<section id="callbacks"><h2>Callbacks</h2><p>What Junebug sends to your application.</p>{articles}</section>'


# --- schemas and errors -----------------------------------------------------------------------------------------------


def _type(schema: Any) -> str:
    """In a few words, with links."""
    if not isinstance(schema, Mapping):
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{_slug(name)}">{_text(name)}</a>'
    if "const" in schema:
        return f"<code>{_text(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        shown = [f"<code>{_text(json.dumps(each))}</code>" for each in schema["enum"][:MOST_VALUES]]
        return ", ".join([*shown, *(["..."] if len(schema["enum"]) > MOST_VALUES else [])])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_type(each) for each in schema[word])
    kinds = schema.get("type")
    if kinds is None:
        return "anything"
    words = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if "array" in words and isinstance(schema.get("items"), Mapping):
        words += f" of {_type(schema['items'])}"
    return words + _limits(schema)


def _limits(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "minLength": "characters at least",
             "maxLength": "characters at most", "minItems": "items at least", "maxItems": "items at most", "pattern": "pattern",
             "default": "default"}  # fmt: skip
    told = [f"{word} <code>{_text(json.dumps(schema[key]))}</code>" for key, word in words.items() if key in schema]
    return f", {', '.join(told)}" if told else ""


def _schemas(document: Document) -> str:
    articles = "".join(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return f'<section id="schemas"><h2>Schemas</h2>{articles}</section>'


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    told = _prose(schema["description"]) if "description" in schema else ""
    if not schema.get("properties"):
        told += f"<p>{_type(schema)}</p>"
    by_type = "".join(
        f"<li>{_text(each['title'])}: {_type(each['properties']['config'])}</li>"
        for each in schema.get("oneOf", ())
        if "title" in each
    )
    rows = list(_rows(schema, ""))
    table = _table(f"Properties of {_text(name)}", ("Name", "Type", "Description"), rows) if rows else ""
    types = f"<p>Its <code>config</code>, by its type:</p><ul>{by_type}</ul>" if by_type else ""
    return f'<article id="schema-{_slug(name)}"><h3>{_text(name)}</h3>{told}{table}{types}</article>'


def _rows(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Of objects within it, too."""
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        needed = "" if name not in required else " <small>required</small>"
        told = _inline(each.get("description", "")) if isinstance(each, Mapping) else ""
        yield f"<code>{_text(prefix + name)}</code>{needed}", _type(each), told
        if isinstance(each, Mapping):
            yield from _rows(each, f"{prefix}{name}.")
            if isinstance(each.get("items"), Mapping):
                yield from _rows(each["items"], f"{prefix}{name}[].")


def _errors(document: Document) -> str:
    articles = "".join(
        f'<article id="error-{_slug(name)}"><h3>{_text(name)}</h3><p>{_text(example["value"]["status"])} '
        f'{_text(example["value"]["description"])}</p><details><summary>Example</summary>{_json(example["value"])}</details></article>'
        for name, example in sorted(document["components"]["examples"].items())
    )
    return f'<section id="errors"><h2>Errors</h2>{articles}</section>'
