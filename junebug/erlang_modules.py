"""How an embedded RabbitMQ starts with three fifths of the CPU.

Left alone it looks for each of its modules in every directory that it knows, plugins that nobody enabled among them, and loads
its 900 modules one by one. Here it is given a directory with the applications that it needs, and loads all of their modules at
once before it starts. Where RabbitMQ or Erlang is not laid out as Debian does it, nothing of this is done.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

_NEEDED = ("rabbit", "rabbitmq_prelaunch")
_LOADED_LATER = {"asn1"}
"""Of it RabbitMQ needs one module of thirty."""


def boot_environment(script: str, directory: Path) -> dict[str, str]:
    """Variables for RabbitMQ's own `script`; `directory` is made, with links to its applications. Empty: it starts as it does."""
    applications, modules = _needed_applications(script), _modules(script)
    if not modules:
        return {}
    directory.mkdir(exist_ok=True)
    for old in set(directory.iterdir()) - {directory / each.name for each in applications}:
        old.unlink()  # of another version
    for each in applications:
        link = directory / each.name
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(each)
    first = f"code ensure_modules_loaded {' '.join(modules)} -s rabbit"  # two of erl's -s, where the script has one
    return {"RABBITMQ_PLUGINS_DIR": str(directory), "RABBITMQ_BOOT_MODULE": first}


@functools.cache
def _needed_applications(script: str) -> tuple[Path, ...]:
    """Directories of the Erlang applications that come with RabbitMQ and that it needs itself."""
    found = {path.stem: path for path in Path(script).parents[1].glob("lib/*/plugins/*/ebin/*.app")}
    if not found.keys() >= set(_NEEDED):
        return ()
    return tuple(found[name].parents[1] for name in sorted(_with_those_below(found)))


@functools.cache
def _modules(script: str) -> tuple[str, ...]:
    """What a RabbitMQ that has started has loaded: all of its applications, and of those of Erlang's that they need."""
    applications = _needed_applications(script)
    erlang = Path(shutil.which("erl") or "/nowhere/at/all").resolve().parents[1]
    found = {path.stem: path for path in erlang.glob("lib/*/ebin/*.app")}
    if not applications or "kernel" not in found:
        return ()
    found |= {path.stem: path for each in applications for path in each.glob("ebin/*.app")}
    needed = _with_those_below(found, "mnesia") - _LOADED_LATER
    return tuple(sorted(beam.stem for name in needed for beam in found[name].parent.glob("*.beam")))


def _with_those_below(found: Mapping[str, Path], *more: str) -> set[str]:
    """Names of the needed applications, and of all that these name in their files: those among `found`."""
    wanted, needed = [*_NEEDED, *more], set[str]()
    while wanted:
        name = wanted.pop()
        if name in found and name not in needed:
            needed.add(name)
            listed = re.search(r"\{applications,\s*\[(.*?)\]", found[name].read_text(), re.DOTALL)
            wanted += re.findall(r"\w+", listed[1]) if listed else []
    return needed
