"""What is installed and how it is run: dependencies, entry points, units, Procfile, and which way imports point."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from junebug import router_types
from junebug.config.load import load
from junebug.config_schema import load_object
from junebug.registry import ENTRY_POINT_GROUP, ChannelType
from junebug.router_types import RouterType

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted(ROOT.glob("etc/*.service"))


def setup_cfg() -> configparser.ConfigParser:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    return setup


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def entry_points(group: str) -> dict[str, str]:
    return {
        name.strip(): path.strip()
        for name, _, path in (line.partition("=") for line in lines(setup_cfg()["options.entry_points"][group]))
    }


def declared_channel_types() -> list[ChannelType]:
    return [load_object(path, name) for name, path in entry_points(ENTRY_POINT_GROUP).items()]


def declared_router_types() -> list[RouterType]:
    return [load_object(path, name) for name, path in entry_points(router_types.ENTRY_POINT_GROUP).items()]


def distribution(requirement: str) -> str:
    """Its normalised name (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def requirements(extra: str | None = None) -> list[str]:
    setup = setup_cfg()
    return lines(setup["options.extras_require"][extra] if extra else setup["options"]["install_requires"])


def pins(*files: str) -> set[str]:
    found = [line for file in files for line in lines((ROOT / file).read_text())]
    found = [line for line in found if not line.startswith(("#", "-r "))]
    pin = re.compile(r'[A-Za-z0-9._-]+==[0-9][0-9a-z.]*(?:; python_full_version < "[0-9.]+")?')
    assert all(map(pin.fullmatch, found))
    return {distribution(line) for line in found}


# --- dependencies -----------------------------------------------------------------------------------------------------


def test_every_dependency_is_pinned() -> None:
    assert {distribution(each) for each in requirements()} <= pins("requirements.txt")
    assert {distribution(each) for each in requirements("dev")} <= pins("requirements-dev.txt")


def test_every_dependency_has_a_range_with_both_ends() -> None:
    for requirement in [*requirements(), *requirements("dev")]:
        assert re.search(r">=\d[\d.]*,<\d", requirement), requirement


def test_every_dependency_has_its_reason_in_the_readme() -> None:
    table = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")).lower()
    for requirement in requirements():
        name = distribution(requirement)
        assert re.search(rf"\b{name.replace('-', '[-_]')}\b", table), (
            f"README.md's table does not say why we need {name}"
        )


# --- entry points -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "path"), entry_points("console_scripts").items())
def test_commands_lead_to_something_callable(command: str, path: str) -> None:
    assert callable(load_object(path, command))


def test_channel_types_are_declared_under_their_own_names() -> None:
    assert [each.name for each in declared_channel_types()] == list(entry_points(ENTRY_POINT_GROUP))


def test_each_channel_type_folder_is_declared() -> None:
    folders = {path.parent.name for path in ROOT.glob("junebug/transports/*/transport.py")} - {"http_rpc"}
    assert folders == set(entry_points(ENTRY_POINT_GROUP))


def test_each_router_type_folder_is_declared_under_its_name() -> None:
    declared = [*entry_points(router_types.ENTRY_POINT_GROUP)]
    assert [each.name for each in declared_router_types()] == declared
    assert {path.parent.name for path in ROOT.glob("junebug/routers/*/router.py")} == {*declared}


def test_what_the_api_loads_of_router_types_as_it_starts_reaches_no_re2() -> None:
    """By their entry points: it comes with the check of the first expression."""
    light = {path.partition(":")[0] for path in entry_points(router_types.ENTRY_POINT_GROUP).values()}
    importers = {importer for importer, imported in imports() if imported == "re2"}
    assert "junebug.model.expressions" in importers
    assert reach(light) & importers == set()


def test_no_group_is_repeated_possessively() -> None:
    """Python before 3.11.5 (Debian 12 has 3.11.2) goes on where a branch of it that failed had got to (gh-106052, gh-100061)."""
    found = [
        f"{file.name}: {line}"
        for file in ROOT.glob("junebug/**/*.py")
        for line in file.read_text().splitlines()
        if "(?" in line and re.search(r"[)}](?:[*+?]|\{\d*,?\d*\})\+", line)
    ]
    assert found == []


def test_the_version_stands_in_one_place() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: junebug.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", importlib.import_module("junebug").__version__)


# --- how it is run ----------------------------------------------------------------------------------------------------


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert lines(script.read_text())[-1] == "exec make test"


def test_scripts_are_posix_sh() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "etc" / "install-system-packages", ROOT / "etc" / "choose-python"):
        assert os.access(script, os.X_OK)
        subprocess.run(["sh", "-n", script], check=True)


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        pytest.param("'--enable-optimizations' '--with-lto'", "python3", id="optimized"),
        pytest.param("'--prefix=/root/.pyenv'", "/usr/bin/python3", id="not optimized"),
        pytest.param("", "/usr/bin/python3", id="says nothing"),
        pytest.param(None, "/usr/bin/python3", id="not there"),
    ],
)
def test_an_interpreter_without_optimizations_gives_way_to_the_distributions_own(
    tmp_path: Path, said: str | None, chosen: str
) -> None:
    if said is not None:
        stand_in = tmp_path / "python3"
        code = f"import sys, sysconfig; sysconfig.get_config_var = lambda name: {said!r}; exec(sys.argv[-1])"
        stand_in.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} \"$@\"\n")
        stand_in.chmod(0o755)
    own = Path("/usr/bin/python3")
    usable = own.exists() and not subprocess.run([own, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).returncode
    if not usable or (os.getuid() and subprocess.run([own, "-c", "import ensurepip"], capture_output=True).returncode):
        chosen = "python3"  # there is none to give way to
    found = subprocess.run(
        [ROOT / "etc" / "choose-python"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [chosen]


def procfile() -> dict[str, str]:
    """Process -> its command, without the `exec` that keeps the shell from dying in its stead."""
    return dict(re.findall(r"^(\w+): exec (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))


def test_the_procfile_names_existing_commands() -> None:
    assert {name: command.split()[0] for name, command in procfile().items()} == {
        "api": "junebug-api",
        "supervisor": "junebug-supervisor",
    }
    assert {command.split()[0] for command in procfile().values()} <= set(entry_points("console_scripts"))


@pytest.mark.parametrize(("given", "port"), [({}, "8080"), ({"PORT": "5000"}, "5000")])
def test_the_procfile_api_listens_on_port(given: dict[str, str], port: str) -> None:
    shell = subprocess.run(
        ["sh", "-c", f"echo {procfile()['api']}"],
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
    )
    assert shell.stdout.split() == ["junebug-api", "--port", port]


def test_supervisorctl_finds_the_socket_of_make_run() -> None:
    control = configparser.ConfigParser(interpolation=None)
    control.read(ROOT / "etc" / "supervisorctl.conf")
    url = control["supervisorctl"]["serverurl"].replace("%(here)s", str(ROOT / "etc"))
    assert Path(url.removeprefix("unix://")).resolve() == ROOT / "var" / "run" / "supervisor.sock"


@pytest.fixture
def installed_units(tmp_path: Path) -> list[Path]:
    """The units as if Junebug were installed in /opt/junebug: there, each command has to be an executable file."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for command in entry_points("console_scripts"):
        (commands / command).symlink_to("/bin/true")
    copies = []
    for unit in UNITS:
        text = unit.read_text().replace("/opt/junebug/.venv/bin", str(commands)).replace("/opt/junebug", str(ROOT))
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    return copies


def test_there_is_a_unit_for_each_way_to_run_it() -> None:
    assert {unit.stem for unit in UNITS} == {"junebug", "junebug-api", "junebug-supervisor", "junebug@"}
    for unit in UNITS:
        assert "\nExecStart=/opt/junebug/.venv/bin/" in unit.read_text()


def test_the_unit_of_a_fleet_differs_in_what_is_each_hosts_own() -> None:
    one, each = (set((ROOT / "etc" / f"{name}.service").read_text().splitlines()) for name in ("junebug", "junebug@"))
    own = {line for line in each - one if not line.startswith(("#", "Conflicts="))}
    assert all("%i" in line for line in own), own
    assert {line.partition("=")[0] for line in own} == {
        "Description", "Environment", "EnvironmentFile", "WorkingDirectory", "StateDirectory", "LogsDirectory",
    }  # fmt: skip
    given = next(line for line in own if line.startswith("Environment=")).partition("=")[2].split()
    settings = load({}, dict(pair.replace("%i", "north-1").split("=", 1) for pair in given))
    assert (settings.host, settings.data_dir, settings.logging_path) == ("north-1", "%S/junebug/north-1", "%L/junebug/north-1")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_accepts_the_units(installed_units: list[Path]) -> None:
    verify = subprocess.run(["systemd-analyze", "verify", *installed_units], capture_output=True, text=True)
    complaints = [line for line in verify.stderr.splitlines() if any(unit.name in line for unit in installed_units)]
    assert verify.returncode == 0, verify.stderr
    assert complaints == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_the_units_are_hardened(installed_units: list[Path]) -> None:
    """Exposure, by systemd's own reckoning, is at most 2.0 of 10."""
    for unit in installed_units:
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit],
            capture_output=True,
            text=True,
        )
        if "unrecognized option" in rated.stderr:
            pytest.skip("this systemd-analyze is too old to rate a file")
        assert rated.returncode == 0, rated.stdout.splitlines()[-1:] or rated.stderr


# --- which way imports point ------------------------------------------------------------------------------------------

FLOORS = (
    {"errors", "names", "runtime", "logs", "console"},
    {"model", "config"},
    {"amqp", "stores", "smpp", "config_schema", "registry", "router_types", "routers", "embedded", "erlang_modules", "plugin"},
    {"door"},
    {"transports", "plugins", "settings_command"},
    {"api", "worker", "supervisor"},
    {"cli"},
    {"client"},
)
"""DESIGN §2, from the ground up. A room may use those of its own floor and of the floors below."""
CLIENT_LIBRARIES = {
    "aiormq": {"amqp"},
    "pamqp": {"amqp"},
    "redis": {"stores"},
    "hiredis": {"stores"},
    "supervisor": {"supervisor"},
    "click": {"cli", "client", "settings_command"},
    "rich": {"client"},
    "re2": {"model", "transports", "routers"},
    "slixmpp": {"transports"},
    "irctokens": {"transports"},
    "tweepy": {"transports"},
    "sentry_sdk": {"logs"},
}
"""Who alone may import each."""


@functools.cache
def modules() -> dict[str, Path]:
    """Name with dots -> file."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / "junebug").rglob("*.py"))
    }


@functools.cache
def imports() -> list[tuple[str, str]]:
    """(module, module that it imports), both with dots; those in functions and those for type hints count, too."""
    known = modules()
    found = []
    for importer, path in known.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found += [(importer, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{importer}: relative import"
                submodules = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(importer, each if each in known else str(node.module)) for each in submodules]
    return found


@functools.cache
def named_modules() -> list[tuple[str, str]]:
    """(module, module that a text in it names as `module:object`): what `transport=`, `check=` and entry points load."""
    found = []
    for importer, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                module, colon, _ = node.value.partition(":")
                found += [(importer, module)] if colon and module in modules() else []
    return found


def room(module: str) -> str:
    """`junebug.api.views` -> `api`."""
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_room_has_its_floor() -> None:
    rooms = {
        path.stem for path in (ROOT / "junebug").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} <= set.union(*FLOORS)


def test_imports_point_down() -> None:
    wrong = []
    for importer, imported in [*imports(), *named_modules()]:
        if imported.startswith("junebug.") and room(importer) and floor(room(imported)) > floor(room(importer)):
            wrong.append(f"{importer} imports {imported}")
    assert wrong == []


def test_api_worker_and_supervisor_never_import_each_other() -> None:
    apart = {"api", "worker", "supervisor"}
    wrong = [
        f"{importer} imports {imported}"
        for importer, imported in [*imports(), *named_modules()]
        if imported.startswith("junebug.")
        and room(importer) in apart
        and room(imported) in apart
        and room(importer) != room(imported)
    ]
    assert wrong == []


def test_no_circle_among_modules() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported in imports():
        graph.setdefault(importer, set()).add(imported)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("library", CLIENT_LIBRARIES)
def test_client_libraries_have_one_room(library: str) -> None:
    importers = {room(importer) for importer, imported in imports() if imported.split(".")[0] == library}
    assert importers <= CLIENT_LIBRARIES[library]


def test_what_the_api_loads_reaches_no_transport() -> None:
    """By imports, by entry points and by the `check=` texts of channel types: names, schemas and checks only. A
    transport's own code, and whatever opens connections for it, is loaded in the process that runs it.
    """
    types = declared_channel_types()
    checks = {check.partition(":")[0] for each in types for check in (each.check, each.check_message) if check}
    assert {"junebug.transports.smpp.config", "junebug.transports.smpp.mt"} <= checks
    light = {path.partition(":")[0] for path in entry_points(ENTRY_POINT_GROUP).values()}
    start = {"junebug.api.app", *checks, *light}
    reached = reach(start)
    assert "junebug.transports.smpp.receipts" in reached  # else this is no test of much
    transports = {channel_type.transport.partition(":")[0] for channel_type in types}
    assert reached & {"junebug.transports.base", *transports} == set()
    assert [module for module in sorted(reached) if room(module) in ("worker", "supervisor")] == []
    connecting = {
        importer
        for importer, imported in imports()
        if importer in reached and room(importer) in ("transports", "smpp") and imported in ("asyncio", "socket", "ssl")
    }
    assert connecting == set()
    assert (ROOT / "junebug" / "transports" / "__init__.py").read_text() == ""


def test_heavy_libraries_are_loaded_by_the_channels_that_need_them_alone() -> None:
    """Neither by the API nor by the supervisor, from whose memory all else is forked."""
    program = (
        "import sys, junebug.api.app, junebug.supervisor.daemon, junebug.supervisor.reconciler, junebug.worker.process\n"
        "from junebug import cli, registry\n"
        "from junebug.config.declaration import Settings\n"
        "cli._preload(Settings())\n"
        "types = registry.Registry.from_settings({})\n"
        "assert types.names() and 'junebug.transports.smpp.transport' in sys.modules\n"
        "[registry.load_object(check, 'check') for name in types.names() if (check := types.get(name).check)]\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) & {"slixmpp", "tweepy", "requests"} == set()


@pytest.mark.parametrize(("words", "needless"), [
    ("--help", {"httpx", "rich", "aiohttp", "redis", "structlog", "aiormq"}),
    ("channels --help", {"httpx", "jsonschema_rs", "importlib.metadata", "structlog"}),
    ("send --help", {"httpx", "jsonschema_rs", "importlib.metadata"}),
    ("tokens --help", {"httpx", "aiohttp", "junebug.supervisor", "junebug.worker"}),
])  # fmt: skip
def test_a_command_loads_what_it_needs(words: str, needless: set[str]) -> None:
    """Somebody waits at the prompt; and completion runs with each press of Tab."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded', *sys.modules))\n"
        "from junebug.client.main import main\n"
        f"main({words.split()!r})"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(told.rpartition("loaded ")[2].split()) & needless == set()


def reach(start: set[str]) -> set[str]:
    """These modules of ours, and all that they import, whatever the way."""
    graph: dict[str, set[str]] = {}
    for importer, imported in imports():
        if imported in modules():
            graph.setdefault(importer, set()).add(imported)
    reached: set[str] = set()
    new = set(start)
    while new:
        reached |= new
        new = {imported for module in new for imported in graph.get(module, ())} - reached
    return reached
