"""Dockerfile, .dockerignore, compose.yaml and the wheel, as far as it can be seen without Docker."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from junebug import __version__
from junebug.config.declaration import OPTIONS
from junebug.config.load import load
from tests.harness import ROOT
from tests.test_packaging import entry_points

VARIABLES = {option.variable: option for option in OPTIONS if option.variable} | {"JUNEBUG_CONFIG": None}


def instructions() -> list[tuple[str, str]]:
    """(instruction, what follows) of the Dockerfile, in their order."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def values(instruction: str) -> list[str]:
    return [text for name, text in instructions() if name == instruction]


def copied() -> dict[str, str]:
    """What the build stage copies from here -> where it goes, below /src."""
    found = {}
    for text in values("COPY"):
        if not text.startswith("--from"):
            *sources, target = text.split()
            found |= {source: f"{target}/{source}" if target == "./" else target for source in sources}
    return found


def health_check() -> list[str]:
    """The image's command."""
    return list(json.loads(values("HEALTHCHECK")[0].partition("CMD ")[2]))


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


# --- the files --------------------------------------------------------------------------------------------------------


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == copied().keys()
    for path in kept:
        assert (ROOT / path).exists(), path
    assert not any(fnmatch.fnmatch("junebug/cli.py", line) for line in lines[1:] if not line.startswith("!"))


def test_the_image_runs_as_nobody_special_and_by_tini() -> None:
    assert values("USER") == ["junebug"]
    assert "useradd --system" in values("RUN")[-1]
    assert json.loads(values("ENTRYPOINT")[0]) == ["tini", "--"]
    (command,) = json.loads(values("CMD")[-1])
    assert command in entry_points("console_scripts")
    assert len(values("FROM")) == 2
    assert values("ARG")[0] == "PYTHON=3.11"


def test_the_images_variables_are_settings() -> None:
    given = dict(pair.split("=", 1) for text in values("ENV") for pair in shlex.split(text))
    ours = {name: value for name, value in given.items() if name.startswith("JUNEBUG_")}
    assert ours.keys() <= VARIABLES.keys()
    settings = load({}, ours)
    assert (settings.interface, settings.data_dir, settings.logging_path) == ("0.0.0.0", "/var/lib/junebug", "/var/log/junebug")
    assert str(settings.port) == values("EXPOSE")[0]
    assert json.loads(values("VOLUME")[0]) == [settings.data_dir, settings.logging_path]


def test_the_compose_file_stands_together() -> None:
    stack = compose()
    services = stack["services"]
    assert services.keys() == {"junebug", "redis", "rabbitmq"}
    named = {volume.partition(":")[0] for each in services.values() for volume in each["volumes"]}
    assert named == stack["volumes"].keys()
    for name, service in services.items():
        assert service["restart"] == "unless-stopped"
        assert name == "junebug" or service["healthcheck"]["test"][0] == "CMD"
    assert services["junebug"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("redis", "rabbitmq")}
    assert services["junebug"]["build"] == "."
    assert {volume.partition(":")[2] for volume in services["junebug"]["volumes"]} == {"/var/lib/junebug", "/var/log/junebug"}
    assert services["junebug"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["rabbitmq"]["hostname"]
    redis = services["redis"]["command"]
    for option, value in (("--appendonly", "yes"), ("--maxmemory-policy", "noeviction")):
        assert redis[redis.index(option) + 1] == value


def interpolated(text: str, given: dict[str, str]) -> str:
    """As Compose does; what is required and missing is a KeyError."""

    def value(found: re.Match[str]) -> str:
        name, _, default = found[1].partition(":-")
        name, required, _ = name.partition(":?")
        return given[name] if required else given.get(name, default)

    return re.sub(r"\$\{([^}]+)\}", value, text)


def test_the_compose_files_variables_are_settings_and_its_secrets_are_asked_for() -> None:
    environment = compose()["services"]["junebug"]["environment"]
    assert environment.keys() <= VARIABLES.keys()
    secrets = {"RABBITMQ_PASSWORD": "p", "JUNEBUG_ADMIN_TOKEN": "t" * 20}
    for name in secrets:
        with pytest.raises(KeyError):
            interpolated(" ".join(environment.values()), {key: value for key, value in secrets.items() if key != name})
    settings = load({}, {name: interpolated(text, secrets) for name, text in environment.items()})
    assert (settings.redis.host, settings.amqp.hostname, settings.amqp.username) == ("redis", "rabbitmq", "junebug")
    assert (settings.amqp.password, settings.admin_token, settings.sentry_dsn) == ("p", "t" * 20, None)
    assert compose()["services"]["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_USER"] == settings.amqp.username


# --- the wheel --------------------------------------------------------------------------------------------------------


def pip(*words: str | Path, directory: Path) -> None:
    """Without the network."""
    alone = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_QUIET": "1"}
    subprocess.run([sys.executable, "-m", "pip", *words], cwd=directory, check=True, env=alone)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Made of what the Dockerfile copies, and nothing else."""
    source = tmp_path_factory.mktemp("src")
    for path, target in copied().items():
        (source / target).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, source / target)
    pip("wheel", "--no-build-isolation", "--wheel-dir", "w", ".", directory=source)
    (built,) = (source / "w").glob("junebug-*.whl")
    yield built
    shutil.rmtree(source)


def test_the_wheel_holds_all_that_the_packages_do(wheel: Path) -> None:
    packages = {"junebug": ROOT / "junebug", "junebug_client": ROOT / "clients" / "python" / "junebug_client"}
    files = {
        f"{name}/{path.relative_to(package)}"
        for name, package in packages.items() for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }  # fmt: skip
    assert len(files) > 250
    assert files - {*zipfile.ZipFile(wheel).namelist()} == set()


def test_it_is_installed_into_a_fresh_virtualenv_and_starts(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are this one's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", python, "install", "--no-compile", wheel, directory=tmp_path)
    (packages,) = (tmp_path / "venv").glob("lib/*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    environment = {"PATH": f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(["jb", "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"Junebug {__version__}\n"), done.stderr
    assert all(os.access(python.parent / command, os.X_OK) for command in entry_points("console_scripts"))
    where = "import junebug, junebug_client; print(junebug.__file__, junebug_client.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert all(path.startswith(str(packages)) for path in found)
