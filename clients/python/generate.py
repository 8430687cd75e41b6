#!/usr/bin/env python3
"""Writes what of junebug_client is made of Junebug's OpenAPI document: models, methods, and a class for each error.

    generate.py             of the Junebug that is installed beside it
    generate.py FILE        of a document that was saved: curl localhost:8080/openapi.json
    generate.py --check     writes nothing; fails when a file is not up to date
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent / "junebug_client"
HEAD = '"""{}. Written by generate.py: change that, or Junebug\'s own description, instead."""\n\n'
WIDTH = 130
JSON_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "dict[str, Any]"}
NOT_GENERATED = ("ChannelConfig.", "RouterConfig.", "DestinationConfig.")
"""What an installation's own types make of a `config`: any object here."""

Document = dict[str, Any]


# --- types ------------------------------------------------------------------------------------------------------------


def type_of(schema: Any) -> str:
    """Of Python, for a JSON Schema."""
    if not isinstance(schema, dict):
        return "Any"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return "dict[str, Any]" if name.startswith(NOT_GENERATED) else name
    if "const" in schema:
        return f"Literal[{schema['const']!r}]"
    if "enum" in schema:
        values = [each for each in schema["enum"] if each is not None]
        literal = f"Literal[{', '.join(map(literal_of, values))}]"
        return literal if len(values) == len(schema["enum"]) else f"{literal} | None"
    if "anyOf" in schema:
        return union(kind for each in schema["anyOf"] if (kind := type_of(each)) != "Any")
    kinds = schema.get("type")
    if kinds is None:
        return "Any"
    return union(one_type(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def one_type(kind: str, schema: dict[str, Any]) -> str:
    if kind == "array":
        return f"list[{type_of(schema.get('items'))}]"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"dict[str, {type_of(schema['additionalProperties'])}]"
    if kind == "object" and schema.get("properties"):
        kinds = {type_of(each) for each in schema["properties"].values()}
        if len(kinds) == 1 and not schema.get("additionalProperties", True):
            return f"dict[str, {kinds.pop()}]"
    return JSON_TYPES[kind]


def union(types: Iterator[str]) -> str:
    found = list(dict.fromkeys(types))
    return "Any" if "Any" in found else " | ".join(found)


def literal_of(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


# --- files ------------------------------------------------------------------------------------------------------------


def schemas(document: Document, *, of_bodies: bool) -> dict[str, Any]:
    """Those of requests' bodies, or of what is answered."""
    bodies = {
        body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for verbs in document["paths"].values()
        for operation in verbs.values()
        if (body := operation.get("requestBody"))
    }
    found = document["components"]["schemas"]
    return {name: found[name] for name in sorted(found) if (name in bodies) is of_bodies and not name.startswith(NOT_GENERATED)}


def models(document: Document, *, of_bodies: bool) -> str:
    parts = [model(name, schema) for name, schema in schemas(document, of_bodies=of_bodies).items()]
    names = sorted({name for name in ("Any", "Literal", "NotRequired", "TypedDict") if re.search(rf"\b{name}\b", "".join(parts))})
    imports = f"from __future__ import annotations\n\nfrom typing import {', '.join(names)}\n\n"
    return HEAD.format(f"What {'goes into' if of_bodies else 'comes out of'} Junebug's API") + imports + "".join(parts)


def all_models(document: Document) -> str:
    names = {name: sorted(schemas(document, of_bodies=name == "bodies")) for name in ("answers", "bodies")}
    imports = "".join(f"from junebug_client._{name} import (\n{listed(each)})  # fmt: skip\n" for name, each in names.items())
    told = listed([json.dumps(name) for name in sorted({*names["answers"], *names["bodies"]})])
    return HEAD.format("What goes in and out of Junebug's API") + imports + f"\n__all__ = [\n{told}]  # fmt: skip\n"


def listed(names: list[str]) -> str:
    return "".join(f"    {line}\n" for line in textwrap.wrap(", ".join(names) + ",", WIDTH - 4))


def model(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        if schema.get("type") != "object":
            return f"\n{name} = {type_of(schema)}\n"
        return f"\nclass {name}(TypedDict):\n{doc(schema.get('description', 'Nothing.'), 4)}"
    required = schema.get("required", ())
    properties = schema["properties"]
    if "oneOf" in schema:  # the types of an installation are its own
        properties = {**properties, "type": {"type": "string", "description": properties["type"]["description"]}}
    types = {key: type_of(each) if key in required else f"NotRequired[{type_of(each)}]" for key, each in properties.items()}
    if all(key.isidentifier() and not keyword.iskeyword(key) for key in types):
        lines = [f"\nclass {name}(TypedDict):\n", doc(schema["description"], 4) if "description" in schema else ""]
        for key, each in properties.items():
            lines.append(field(f"    {key}: {types[key]}", each))
        return "".join(lines)
    items = "".join(f"    {json.dumps(key)}: {json.dumps(text)},\n" for key, text in types.items())
    told = doc(schema["description"], 0) if "description" in schema else ""
    return f"\n{name} = TypedDict({json.dumps(name)}, {{\n{items}}})  # fmt: skip\n{told}"


def field(line: str, schema: Any) -> str:
    if len(line) > WIDTH and line.endswith("]") and "Literal[" in line:
        head, _, values = line.removesuffix("]").partition("Literal[")
        wrapped = "".join(f"        {each}\n" for each in textwrap.wrap(f"{values},", WIDTH - 8))
        line = f"{head}Literal[\n{wrapped}    ]"
    told = schema.get("description", "").replace("\n", " ") if isinstance(schema, dict) else ""
    if not told:
        return f"{line}\n"
    fits = len(line) + len(told) + 4 <= WIDTH and "\n" not in line
    return f"{line}  # {told}\n" if fits else f"    # {told}\n{line}\n"


def problems(document: Document) -> str:
    """A class for each error, by the first of its name; those of HTTP itself are found by their status."""
    found: dict[str, tuple[str, int, str]] = {}
    codes = set()
    for name, example in document["components"]["examples"].items():
        error = example["value"]["result"]["errors"][0]
        if "code" not in error and "status" in example["value"] and error["type"] not in codes:
            codes.add(error["type"])
            found[name] = (error["type"], example["value"]["status"], example["value"]["description"])
    classes = [
        f'\n\nclass {name}(ApiError):\n    """{status}: {description}."""\n'
        for name, (_, status, description) in sorted(found.items())
    ]
    table = [f'    "{code}": {name},\n' for name, (code, *_) in sorted(found.items())]
    top = "from __future__ import annotations\n\nfrom junebug_client.errors import ApiError\n"
    told = '"""The `type` that the first error of an answer has -> its class."""\n'
    return HEAD.format("An error class for each `code`") + top + "".join(classes) + (
        f"\n\nBY_CODE: dict[str, type[ApiError]] = {{\n{''.join(table)}}}\n{told}"
    )


def methods(document: Document, *, is_async: bool) -> str:
    operations = [
        method(path, verb.upper(), each, is_async=is_async)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if not operation.get("deprecated") and is_json(operation)
        for each in split(operation)
    ]
    body = "".join(operations)
    used = sorted({name for name in document["components"]["schemas"] if re.search(rf"\b{name}\b", body)})
    names = "Any, Literal" if "Literal[" in body else "Any"
    name = "AsyncMethods" if is_async else "Methods"
    asynchronous = "async " if is_async else ""
    return (
        HEAD.format("A method for each operation" + (", for asyncio" if is_async else ""))
        + f"from __future__ import annotations\n\nimport uuid\nfrom typing import {names}\n\n"
        + "from junebug_client._exchange import Call, segment\n"
        + f"from junebug_client.models import (\n{listed(used)})  # fmt: skip\n\n\n"
        + f"class {name}:\n    {asynchronous}def _call(self, call: Call) -> Any:\n        raise NotImplementedError\n{body}"
    )


def is_json(operation: dict[str, Any]) -> bool:
    """Whether its good answers are JSON."""
    good = [response for status, response in operation["responses"].items() if status.startswith("2")]
    return all("application/json" in response.get("content", {}) for response in good)


def split(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One that can be a dry run is two methods: each has one kind of result."""
    parameters = operation.get("parameters", [])
    flags = [each for each in parameters if each["name"] == "dry_run"]
    if not flags:
        yield operation
        return
    rest = [each for each in parameters if each["name"] != "dry_run"]
    responses = operation["responses"]
    yield {**operation, "parameters": rest, "responses": {status: each for status, each in responses.items() if status != "200"}}
    yield {
        **operation, "operationId": operation["operationId"].replace("send_", "dry_run_", 1),
        "summary": f"{operation['summary']}: a dry run, which sends nothing",
        "parameters": [each for each in rest if each["in"] == "path"], "fixed": {"dry_run": True},
        "responses": {status: each for status, each in responses.items() if status != "201"},
    }  # fmt: skip


def method(path: str, verb: str, operation: dict[str, Any], *, is_async: bool) -> str:
    parameters = operation.get("parameters", ())
    in_path = [each["name"] for each in parameters if each["in"] == "path"]
    query = [each for each in parameters if each["in"] == "query" and len(each["schema"].get("enum", "  ")) > 1]
    has_key = any(each["name"] == "Idempotency-Key" for each in parameters)
    signature = ["self", *(f"{name}: str" for name in in_path)]
    arguments = [json.dumps(verb), path_text(path, in_path)]
    named = [f"{argument(each['name'])}: {type_of({**each['schema'], 'default': None})} | None = None" for each in query]
    if query:
        arguments.append("query={" + ", ".join(f'"{each["name"]}": {argument(each["name"])}' for each in query) + "}")
    if "fixed" in operation:
        arguments.append(f"query={operation['fixed']!r}".replace("'", '"'))
    if body := operation.get("requestBody"):
        kind = type_of(body["content"]["application/json"]["schema"])
        signature.append(f"body: {kind}" if body["required"] else f"body: {kind} | None = None")
        arguments.append("body=body")
    if has_key:
        named.append("idempotency_key: str | None = None")
        arguments.append("key=idempotency_key or str(uuid.uuid4())")
    if named:
        signature += ["*", *named]
    result = result_type(operation)
    call = f"Call({', '.join(arguments)})"
    waits = "await self" if is_async else "self"
    done = f"{waits}._call({call})"
    if result != "None":
        done = f"return {done}"
    if len(done) > WIDTH - 8:
        wrapped = "\n            ".join(textwrap.wrap(f"{', '.join(arguments)},", WIDTH - 12, break_on_hyphens=False))
        done = f"{done.partition('Call(')[0]}Call(\n            {wrapped}\n        ))  # fmt: skip"
    head = f"    {'async ' if is_async else ''}def {operation['operationId']}({', '.join(signature)}) -> {result}:"
    if len(head) > WIDTH:
        wrapped = "\n        ".join(textwrap.wrap(f"{', '.join(signature)},", WIDTH - 8))
        head = f"{head.partition('(')[0]}(\n        {wrapped}\n    ) -> {result}:  # fmt: skip"
    told = ". ".join(filter(None, (operation["summary"], operation.get("description", ""))))
    return f"\n{head}\n{doc(told, 8)}        {done}\n"


def argument(name: str) -> str:
    """What a parameter is called in Python, some of whose words are the language's."""
    return f"{name}_" if keyword.iskeyword(name) else name


def result_type(operation: dict[str, Any]) -> str:
    """Of what the method returns: the `result` of its good answers' envelopes."""
    found = []
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            schema = response["content"]["application/json"]["schema"]
            envelope = schema.get("properties", {})
            result = envelope.get("result", schema)
            is_nothing = result.get("properties") == {} and "$ref" not in result
            found.append("None" if is_nothing else type_of(result))
    return union(iter(found))


def path_text(path: str, names: list[str]) -> str:
    for name in names:
        path = path.replace(f"{{{name}}}", f"{{segment({name})}}")
    return f'f"{path}"' if names else f'"{path}"'


def doc(text: str, indent: int) -> str:
    """A docstring."""
    text = text.replace("\\", "\\\\").rstrip()
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    blank = " " * indent
    lines = textwrap.wrap(text, WIDTH - indent - 6)
    if len(lines) == 1:
        return f'{blank}"""{lines[0]}"""\n'
    return f'{blank}"""' + f"\n{blank}".join(lines) + f'\n{blank}"""\n'


# --- all of it --------------------------------------------------------------------------------------------------------


def files(document: Document) -> dict[Path, str]:
    return {
        PACKAGE / "_answers.py": models(document, of_bodies=False),
        PACKAGE / "_bodies.py": models(document, of_bodies=True),
        PACKAGE / "models.py": all_models(document),
        PACKAGE / "problems.py": problems(document),
        PACKAGE / "_methods.py": methods(document, is_async=False),
        PACKAGE / "_async_methods.py": methods(document, is_async=True),
    }


def own_document() -> Document:
    from junebug.api.openapi.document import describe
    from junebug.registry import Registry
    from junebug.router_types import RouterTypes

    return describe(Registry.from_settings({}), RouterTypes.from_settings({}))


def main(arguments: list[str]) -> int:
    check = "--check" in arguments
    given = [each for each in arguments if each != "--check"]
    document = json.loads(Path(given[0]).read_text()) if given else own_document()
    stale = [path for path, text in files(document).items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.name} is not up to date: run clients/python/generate.py", file=sys.stderr)
        else:
            path.write_text(files(document)[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
