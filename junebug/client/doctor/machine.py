"""The machine that Junebug runs on: versions, clock, disks, whose files are whose, memory, descriptors."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from collections.abc import Iterator
from importlib import metadata
from itertools import islice
from pathlib import Path

from junebug import __version__, embedded
from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.client.output import plural
from junebug.config.declaration import Settings
from junebug.runtime import merging

OLDEST_PYTHON, OLDEST_SUPERVISOR = (3, 11), (4, 3)
MEGABYTE = 2**20
LITTLE, TOO_LITTLE = 1000 * MEGABYTE, 100 * MEGABYTE
FEW_INODES, TOO_FEW_INODES = 10_000, 1000
FILES_OF_A_CHANNEL, FILES_OF_OURS = 4, 200
"""That the supervisor has open for each of its processes, and besides."""
MOST_FILES = 5000
"""Of a directory, whose owner is looked at."""
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX = 1024
"""Bytes, more than struct timex has anywhere."""


def versions(python: tuple[int, ...], supervisor: str) -> Finding:
    """Pure. `python`: major and minor."""
    shown = f"Junebug {__version__}, Python {platform.python_version()}, supervisor {supervisor or 'none'}"
    if python < OLDEST_PYTHON:
        return failed("versions", shown, "install Python 3.11 or newer, and Junebug with it (make PYTHON=python3.11)")
    if tuple(int(part) for part in supervisor.split(".")[:2] if part.isdigit()) < OLDEST_SUPERVISOR:
        return failed("versions", shown, "install supervisor 4.3 or newer into Junebug's virtualenv (make install)")
    return ok("versions", shown)


def installed_versions() -> Finding:
    try:
        supervisor = metadata.version("supervisor")
    except metadata.PackageNotFoundError:
        supervisor = ""
    return versions(tuple(map(int, platform.python_version_tuple()[:2])), supervisor)


# --- clock ------------------------------------------------------------------------------------------------------------


def clock(state: int) -> Finding:
    """Pure. `state`: what adjtimex(2) returns; -1: it may not be asked."""
    if state == _TIME_ERROR:
        advice = "have NTP set it (`timedatectl set-ntp true`, or chrony): timestamps and TTLs depend on it"
        return warning("clock", "the kernel says that nothing synchronises this machine's clock", advice)
    return ok("clock", "synchronised" if state >= 0 else "whether it is synchronised cannot be told here")


def clock_state() -> int:
    try:
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX)))
    except (OSError, AttributeError):
        return -1


# --- disks ------------------------------------------------------------------------------------------------------------


def disks(settings: Settings) -> Iterator[Finding]:
    for name in ("data_dir", "logging_path"):
        yield _disk(name, Path(getattr(settings, name)).absolute())


def _disk(name: str, directory: Path) -> Finding:
    there = directory
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        stat = os.statvfs(there)
    except OSError as error:
        return failed(f"disk of {name}", f"{there}: {error.strerror}", f"make it usable, or set {name} to another directory")
    free, inodes = stat.f_bavail * stat.f_frsize, stat.f_favail if stat.f_files else None
    shown = f"{directory}: {free // MEGABYTE} MB" + (f" and {inodes} files" if inodes is not None else "") + " may be added"
    if not there.is_dir() or stat.f_flag & os.ST_RDONLY or not os.access(there, os.W_OK | os.X_OK):
        return failed(f"disk of {name}", f"{there} cannot be written by this user", f"chown it to Junebug's user, or set {name}")
    short = free < LITTLE or (inodes is not None and inodes < FEW_INODES)
    if short:
        level = failed if free < TOO_LITTLE or (inodes is not None and inodes < TOO_FEW_INODES) else warning
        lost = "processes that hang are not found out" if name == "data_dir" else "log lines are lost"
        return level(f"disk of {name}", shown, f"free it, or move {name} to a larger one: without room {lost}")
    return ok(f"disk of {name}", shown)


# --- files ------------------------------------------------------------------------------------------------------------

SECRET_FILES = (
    embedded.PASSWORDS_FILE, "redis/redis.conf", "rabbitmq/definitions.json", "rabbitmq/.erlang.cookie", "log/audit.log",
    "run", "log",
)  # fmt: skip


def files(settings: Settings) -> Iterator[Finding]:
    """Who may read them, and whose they are."""
    data = Path(settings.data_dir).absolute()
    open_ones = [str(path) for name in SECRET_FILES if (path := data / name).exists() and _mode(path) & 0o077]
    if open_ones:
        found = f"others may read {', '.join(open_ones)}"
        yield failed("files", found, f"chmod -R go= {' '.join(open_ones)}, and make new passwords if anybody did")
    else:
        yield ok("files", f"what is secret below {data} is for its owner alone")
    if not data.exists():
        return
    owner, user = data.stat().st_uid, os.geteuid()
    places = [data, settings.run_dir.absolute(), settings.log_dir.absolute(), Path(settings.logging_path).absolute()]
    foreign = [path for place in places for path in _entries(place) if _owner(path) not in (owner, None)]
    if foreign:
        found = f"{plural(len(foreign), 'file')} of another user than {data}, as {foreign[0]}"
        yield failed("owner", found, f"chown -R --reference={data} {foreign[0]}: was Junebug once started as another user?")
    elif user != owner:
        yield warning("owner", f"{data} is another user's", "run the doctor as Junebug's user: sudo -u USER junebug doctor ...")
    else:
        yield ok("owner", f"all is this user's below {data}")


def _entries(directory: Path) -> list[Path]:
    try:
        return list(islice(directory.iterdir(), MOST_FILES))
    except OSError:
        return []


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _owner(path: Path) -> int | None:
    try:
        return path.lstat().st_uid
    except OSError:
        return None


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(settings: Settings, switch: Path = merging.SWITCH) -> Finding:
    if not settings.merge_memory:
        return ok("memory", "merge_memory is not set: each process keeps what it has alike with others")
    if trouble := merging.off(switch):
        return warning("memory", trouble, f"`echo 1 > {switch}`, or leave merge_memory out")
    return ok("memory", "Linux keeps once what processes have alike")


# --- descriptors ------------------------------------------------------------------------------------------------------


def descriptors(settings: Settings, processes: int) -> Finding:
    """Those that Junebug's processes may have: of one that runs, else as far as this shell may raise the limit."""
    running = embedded.descriptor_limit(settings.port) if settings.port else None
    limit = running if running is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(FILES_OF_A_CHANNEL * processes, settings.max_connections) + FILES_OF_OURS
    if limit == resource.RLIM_INFINITY:
        return ok("open files", f"any number; Junebug needs about {wanted}")
    shown = f"{limit} at the most; Junebug needs about {wanted} for {plural(processes, 'process')}"
    if limit < wanted:
        advice = "raise the limit (LimitNOFILE=65536 in the unit, `ulimit -Hn 65536` in a shell), or lower max_connections"
        return failed("open files", shown, advice)
    return ok("open files", shown)
