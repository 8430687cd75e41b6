"""What schemathesis does in our test besides its own checks (test_openapi.py): loaded into its process."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import schemathesis

from junebug.names import CHANNEL_ID

IDS: dict[str, str] = json.loads(os.environ.get("JUNEBUG_TEST_IDS", "{}"))
"""Path parameter -> an id that there is."""


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every other id is one that there is, but where that would be deleted."""
    last = context.operation.path.rpartition("/")[2].strip("{}")
    for name, value in (path_parameters or {}).items():
        is_spared = context.operation.method == "delete" and name == last
        if name in IDS and not is_spared and re.fullmatch(CHANNEL_ID, str(value)) and sum(map(ord, str(value))) % 2:
            path_parameters[name] = IDS[name]  # type: ignore[index]
    return path_parameters


@schemathesis.check
def errors_are_described(ctx: Any, response: Any, case: Any) -> None:
    """Each type of error that an operation answers stands in its own description."""
    if response.status_code < 400:
        return
    document = case.operation.schema.raw_schema
    described = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    name = described.get("$ref", "").rpartition("/")[2]
    shown = document["components"]["responses"].get(name, {}).get("content", {}).get("application/json", {}).get("examples")
    if shown is None or case.method not in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        return
    values = [document["components"]["examples"][each]["value"] for each in shown]
    known = {error["type"] for value in values for error in value["result"]["errors"]}
    found = {error["type"] for error in response.json()["result"]["errors"]}
    assert found <= known, f"{case.operation.label} answers {response.status_code} {found - known}, which it does not describe"
