"""Logs followed as they are written: places that outlive rotations, and the thread that reads on for all (junebug/logs)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from junebug.api.stream_ids import MOST_NAMED, Progress, places_of, read_id, short_of
from junebug.errors import ApiUsageError
from junebug.logs import follow
from junebug.logs.files import LogFile
from junebug.logs.follow import Complete, Follower, Line, Reader, Step
from junebug.logs.places import Piece, Place, behind, end_of, read_on
from tests.polling import eventually_blocking
from tests.tables import rows


def line(n: int, timestamp: float | None = None, more: str = "") -> bytes:
    entry = {"logger": "one", "level": 20, "timestamp": n if timestamp is None else timestamp, "message": f"line {n} {more}"}
    return orjson.dumps(entry) + b"\n"


def number(text: bytes) -> int:
    return int(str(orjson.loads(text)["message"]).split()[1])


def all_from(path: Path, place: Place) -> tuple[list[int], Place]:
    found: list[int] = []
    for _ in range(10_000):
        piece = read_on(path, place)
        found += [number(each) for each, _ in piece.lines if each]
        place = piece.place
        if piece.is_end:
            return found, place
    raise AssertionError("it never ends")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one"


# --- places -----------------------------------------------------------------------------------------------------------


def test_each_line_is_read_once_however_often_the_log_is_rotated(path: Path) -> None:
    """Read at random moments, by a reader whose place is written down and read again each time."""
    chance = random.Random(7)
    log, place, found, n = LogFile(path, rotate_size=2000, max_files=0), Place(), [], 0
    for _ in range(150):
        for _ in range(chance.randrange(30)):
            log.write([line(n, more="x" * chance.randrange(100))])
            n += 1
        some, place = all_from(path, Place(place.mark, place.offset))
        found += some
    assert found == list(range(n))
    assert n > 1000
    assert len(list(path.parent.iterdir())) > 20


def test_every_place_of_a_rotated_log_is_found_again(path: Path) -> None:
    log = LogFile(path, rotate_size=3000, max_files=0)
    kept = [(0, Place())]
    for n in range(200):
        log.write([line(n)])
        kept.append((n + 1, end_of(path)))
    for next_line, place in kept:
        assert all_from(path, place)[0] == list(range(next_line, 200))


def test_what_was_deleted_before_it_was_read_is_told_and_the_rest_comes(path: Path) -> None:
    log = LogFile(path, rotate_size=1000, max_files=3)
    log.write([line(0)])
    place = end_of(path)
    for n in range(1, 100):
        log.write([line(n)])
    piece = read_on(path, place)
    assert piece.is_lost
    found, _ = all_from(path, place)
    assert found == list(range(found[0], 100))
    assert found[0] > 50


def test_a_file_that_takes_the_name_and_the_inode_of_another_is_another(path: Path) -> None:
    """With one file a rotation deletes it, and the next one often gets its inode number."""
    log = LogFile(path, rotate_size=1000, max_files=1)
    log.write([line(0), line(1)])
    place = end_of(path)
    for n in range(2, 60):
        log.write([line(n)])
    piece = read_on(path, place)
    assert piece.is_lost
    assert number(piece.lines[0][0]) > 2


def test_a_line_is_read_when_it_is_whole(path: Path) -> None:
    path.write_bytes(line(0) + line(1)[:20])
    found, place = all_from(path, Place())
    assert found == [0]
    with path.open("ab") as file:
        file.write(line(1)[20:] + line(2))
    assert all_from(path, place)[0] == [1, 2]


def test_a_line_that_a_kill_cut_takes_nothing_with_it(path: Path) -> None:
    path.write_bytes(line(0) + line(1)[:20])
    place = end_of(path)
    LogFile(path).write([line(2)])  # which ends the broken one
    piece = read_on(path, place)
    assert [text for text, _ in piece.lines] == [line(1)[:20], line(2)[:-1]]


def test_a_first_line_that_was_cut_is_no_beginning_yet(path: Path) -> None:
    path.write_bytes(line(0)[:30])
    assert (end_of(path), read_on(path, Place())) == (Place(), Piece([], Place(), True))


def test_what_is_longer_than_any_line_is_passed_over(path: Path) -> None:
    path.write_bytes(line(0) + b"x" * 2_500_000 + b"\n" + line(1))
    piece, found = read_on(path, end_of(path)), []
    place = Place()
    while not (piece := read_on(path, place)).is_end or piece.lines:
        found += [text for text, _ in piece.lines if text.startswith(b"{")]
        place = piece.place
    assert [*map(number, found)] == [0, 1]


def test_a_log_that_was_emptied_in_place_is_read_from_its_beginning(path: Path) -> None:
    """As `copytruncate` does; its copy has the same first line."""
    path.write_bytes(b"".join(map(line, range(50))))
    place = end_of(path)
    path.with_name("one.1").write_bytes(path.read_bytes() + line(50))
    path.write_bytes(line(51))
    assert all_from(path, place)[0] == [50, 51]


def test_a_log_that_there_is_not_yet(path: Path) -> None:
    assert (end_of(path), behind(path, 5), read_on(path, Place()).is_end) == (Place(), Place(), True)
    path.write_bytes(line(0))
    assert all_from(path, Place())[0] == [0]


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 lines of a millisecond each, in five files; some are long, and some were cut."""
    path = tmp_path_factory.mktemp("long") / "one"
    log = LogFile(path, rotate_size=600_000, max_files=0)
    for start in range(0, 20_000, 1000):
        lines = [line(n, n / 1000, "x" * (200_000 if n % 7000 == 6999 else 0)) for n in range(start, start + 1000)]
        lines[500] = lines[500][:40] + b"\n"
        log.write(lines)
    return path


@rows("timestamp", [-1, 0, 0.0005, 0.499, 0.5, 0.501, 1.2345, 6.999, 7, 12.5, 13.37, 18.9999, 19.998, 19.999, 30])
def test_what_is_newer_than_a_time_is_found_by_halving(long_log: Path, timestamp: float) -> None:
    place = behind(long_log, timestamp)
    first = next((text for text, _ in read_on(long_log, place, 300_000).lines if text.endswith(b"}")), None)
    expected = next((n for n in range(20_000) if n / 1000 > timestamp and n % 1000 != 500), None)
    assert (first and number(first)) == expected


# --- the thread -------------------------------------------------------------------------------------------------------


class World:
    """Logs in a directory, and who follows them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.follower = Follower(directory.joinpath, self.show)
        self.shown = 0
        self.readers: list[Reader] = []

    def show(self, log: str, text: bytes) -> Line | None:
        self.shown += 1
        entry = orjson.loads(text)
        kind = "status" if "status" in entry["message"] else "log"
        return Line(kind, entry["timestamp"], lambda: text)

    def reader(self, *logs: str, kinds: str = "log status", **more: object) -> Reader:
        reader = Reader(frozenset(kinds.split()), lambda: None, **more)  # type: ignore[arg-type]
        reader.logs = frozenset(logs)
        self.follower.follow(reader)
        self.readers.append(reader)
        return reader

    def write(self, log: str, *numbers: int, more: str = "") -> None:
        LogFile(self.directory / log, 5000, 0).write([line(n, time.time(), more) for n in numbers])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for each in made.readers:
        made.follower.leave(each)
    eventually_blocking(lambda: not made.follower.is_running)


def is_begun(reader: Reader) -> bool:
    """Whether it is settled from where on it reads."""
    return any(isinstance(each, Complete) for each in reader.take(1))


def taken(reader: Reader, found: list[int], progress: Progress | None = None) -> list[int]:
    for each in reader.take(10**9):
        if isinstance(each, Step) and each.line:
            found.append(number(each.line.data))
        if progress and isinstance(each, Step):
            progress.read(each.log, each.place, each.at)
        elif progress:
            progress.complete(each.at)
    return found


def test_who_begins_now_gets_what_comes(world: World) -> None:
    world.write("one", 1, 2, 3)
    reader = world.reader("one", "two")
    eventually_blocking(lambda: is_begun(reader))
    world.write("one", 4, 5)
    world.write("two", 6)
    found: list[int] = []
    eventually_blocking(lambda: len(taken(reader, found)) >= 3)
    assert sorted(found) == [4, 5, 6]


def test_the_thread_ends_with_the_last_who_follows(world: World) -> None:
    reader = world.reader("one")
    eventually_blocking(lambda: is_begun(reader))
    assert world.follower.is_running
    world.follower.leave(reader)
    eventually_blocking(lambda: not world.follower.is_running)
    again = world.reader("one")
    eventually_blocking(lambda: is_begun(again))


def test_a_log_that_begins_later_is_read_from_its_beginning(world: World) -> None:
    reader = world.reader("one")
    eventually_blocking(lambda: is_begun(reader))
    world.write("two", 1, 2)
    reader.logs = frozenset(("one", "two"))
    world.follower.hurry()
    found: list[int] = []
    eventually_blocking(lambda: len(taken(reader, found)) >= 2)
    assert found == [1, 2]


def test_what_is_not_wanted_costs_no_room_and_is_behind_the_reader_all_the_same(world: World) -> None:
    reader, progress, found = world.reader("one", kinds="status"), Progress(), list[int]()
    eventually_blocking(lambda: is_begun(reader))
    world.write("one", *range(2000))
    world.write("one", 2000, more=" status")
    eventually_blocking(lambda: taken(reader, found, progress))
    assert found == [2000]
    since, known = read_id(progress.id)
    again = world.reader("one", since=since, known=places_of(known, ["one"]))
    world.write("one", 2001)
    found.clear()
    eventually_blocking(lambda: taken(again, found))
    assert found == [2001]


def test_those_at_the_same_place_share_what_is_made_of_a_line(world: World) -> None:
    readers = [world.reader("one") for _ in range(20)]
    for reader in readers:
        eventually_blocking(lambda reader=reader: is_begun(reader))
    world.write("one", *range(100))
    for reader in readers:
        found: list[int] = []
        eventually_blocking(lambda reader=reader, found=found: len(taken(reader, found)) >= 100)
    assert world.shown <= 300  # a look between two writes may come


def test_a_slow_reader_costs_no_memory_and_stops_no_other(world: World) -> None:
    """5 MB are written, of which the slow one takes nothing at first."""
    slow, fast = world.reader("one"), world.reader("one")
    for reader in (slow, fast):
        eventually_blocking(lambda reader=reader: is_begun(reader))
    for start in range(0, 5000, 1000):
        LogFile(world.directory / "one", 1_000_000, 0).write([line(n, more="x" * 1000) for n in range(start, start + 1000)])
    found: list[int] = []

    def all_of(reader: Reader) -> bool:
        world.follower.hurry()
        return len(taken(reader, found)) >= 5000

    eventually_blocking(lambda: all_of(fast))
    assert found == list(range(5000))
    assert 50 < slow.waiting < 1000  # MOST_AHEAD bytes, and a piece
    found.clear()
    eventually_blocking(lambda: all_of(slow))
    assert found == list(range(5000))


@pytest.mark.parametrize("logs", [3, MOST_NAMED])
def test_nothing_is_missed_nor_repeated_by_who_comes_again_and_again(
    world: World, monkeypatch: pytest.MonkeyPatch, logs: int
) -> None:
    """A reader leaves at random moments, amid what it was given, and comes back with the last id; logs are rotated meanwhile."""
    monkeypatch.setattr(follow, "INTERVAL", 0.005)
    monkeypatch.setattr("junebug.api.stream_ids.SETTLED", 0.2)
    chance, names = random.Random(11), [f"log-{n}" for n in range(logs)]
    files = {name: LogFile(world.directory / name, 3000, 0) for name in names}
    reader, n, last = world.reader(*names), 0, ""
    steps: list[Step | Complete] = []
    found: dict[str, list[int]] = {name: [] for name in names}
    progress = Progress()

    def give(most: int) -> None:
        for each in steps[:most]:
            if isinstance(each, Complete):
                progress.complete(each.at)
                continue
            progress.read(each.log, each.place, each.at)
            if each.line:
                found[each.log].append(number(each.line.data))

    eventually_blocking(lambda: steps.extend(reader.take(10**9)) or steps)
    give(len(steps))
    for round in range(60):
        for _ in range(chance.randrange(40)):
            files[chance.choice(names[: 1 + round % logs])].write([line(n, time.time())])
            n += 1
        if chance.random() < 0.5:
            time.sleep(0.02)
        steps = reader.take(10**9)
        give(chance.randrange(len(steps) + 1))
        last = progress.id
        world.follower.leave(reader)
        since, known = read_id(last)
        progress = Progress(since, known)
        reader = world.reader(*names, since=since, known=places_of(known, names))

    def all_of_it() -> bool:
        steps[:] = reader.take(10**9)
        give(len(steps))
        return sum(map(len, found.values())) >= n

    eventually_blocking(all_of_it)
    assert sorted(each for numbers in found.values() for each in numbers) == list(range(n))
    assert all(numbers == sorted(numbers) for numbers in found.values())


def test_of_more_logs_than_an_id_names_nothing_is_missed(world: World) -> None:
    names = [f"log-{n}" for n in range(3 * MOST_NAMED)]
    reader, progress, found = world.reader(*names), Progress(), list[int]()
    eventually_blocking(lambda: is_begun(reader))
    for n, name in enumerate(names):
        world.write(name, n)
    eventually_blocking(lambda: len(taken(reader, found, progress)) >= len(names))
    assert len(progress.id) < 2000
    since, known = read_id(progress.id)
    again = world.reader(*names, since=since, known=places_of(known, names))
    for n, name in enumerate(names):
        world.write(name, 1000 + n)
    found.clear()
    eventually_blocking(lambda: len(set(taken(again, found)) & {*range(1000, 1000 + len(names))}) >= len(names))
    assert len([n for n in found if n < 1000]) == len(names) - MOST_NAMED


async def test_100_mb_of_logs_are_gone_through_while_others_are_served(world: World, tmp_path: Path) -> None:
    """The event loop's pauses stay short meanwhile."""
    text = b"".join(line(n, n / 10_000, "x" * 900) for n in range(1000))
    for index in range(100):
        name = tmp_path / ("big" if index == 99 else f"big.{99 - index}")
        first = line(index, index / 10, " first of a file")
        name.write_bytes(first + text)
    began = time.monotonic()
    reader = world.reader("big", kinds="status", since=-1.0)
    longest, last = 0.0, time.monotonic()
    while not any(isinstance(each, Complete) for each in reader.take(10**9)):
        await asyncio.sleep(0.001)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert last - began < 60
    assert world.shown == 100 * 1001
    assert longest < 0.5


# --- ids --------------------------------------------------------------------------------------------------------------


@rows("text", ["x", "0", "AAAA", "%00", "é", "\ud800", "A" * 5000, "=", "AAAAAAAAAAAAAAAAAA==", "../..", "1", "null", " "])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ApiUsageError, match=r"^Last-Event-ID: "):
        read_id(text)


def test_an_id_that_was_changed_is_refused() -> None:
    progress = Progress()
    progress.read("one", Place(5, 6), 1.0)
    for position in range(len(progress.id)):
        changed = progress.id[:position] + ("A" if progress.id[position] != "A" else "B") + progress.id[position + 1 :]
        with pytest.raises(ApiUsageError):
            read_id(changed)


def test_an_id_says_where_its_reader_stands() -> None:
    progress = Progress()
    progress.read("one", Place(4_000_000_000, 2**40), 100.0)
    progress.read("two", Place(7, 8), 101.0)
    progress.complete(105.0)
    expected = {short_of("one"): Place(4_000_000_000, 2**40), short_of("two"): Place(7, 8)}
    assert read_id(progress.id) == (95.0, expected)
    progress.complete(200.0)
    assert read_id(progress.id) == (190.0, {})
