"""The reconciler's decisions, as tables; time is an argument."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.supervisor.cleanup import _remove
from junebug.supervisor.liveness import CONFIRM, LONGEST_GAP, STARTING_GRACE, Pulse, SilenceWatch
from junebug.supervisor.placement import Need
from junebug.supervisor.processes.respawn import exit_text
from junebug.supervisor.reconcile import LONGEST_PAUSE, Notice, Plan, Running, needs, notice, plan, respawn_pause, units


def spec(channel: str, generation: int = 1, type: str = "telnet", shards: int = 1) -> ChannelSpec:
    return ChannelSpec(id=channel, type=type, config={"shards": shards} if shards > 1 else {}, generation=generation)


def up(generation: int = 1, state: str = "RUNNING") -> Running:
    return Running(state, pid=10, generation=generation)


PLANS = {
    "nothing wanted, nothing there": ({}, (), {}, (), Plan()),
    "as it should be": ({"a": spec("a")}, (), {"a": up()}, ("a",), Plan()),
    "a new one is started": ({"a": spec("a", 3)}, (), {}, (), Plan(start=(("a", 3),))),
    "another generation restarts": ({"a": spec("a", 2)}, (), {"a": up(1)}, ("a",), Plan(restart=(("a", 2),))),
    "a restart revives the stopped": ({"a": spec("a", 2)}, (), {"a": up(1, "STOPPED")}, (), Plan(restart=(("a", 2),))),
    "an operator's stop is respected": ({"a": spec("a")}, (), {"a": up(state="STOPPED")}, ("a",), Plan()),
    "who waits to be respawned is left alone": ({"a": spec("a")}, (), {"a": up(state="BACKOFF")}, ("a",), Plan()),
    "a deleted one goes": ({}, ("a",), {"a": up()}, (), Plan(remove=("a",))),
    "a deleted one goes even when stopped": ({}, ("a",), {"a": up(state="STOPPED")}, (), Plan(remove=("a",))),
    "one that we saw and that vanished goes": ({}, (), {"a": up()}, ("a",), Plan(remove=("a",))),
    "one whose spec nobody saw runs on": ({}, (), {"a": up()}, (), Plan(orphans=("a",))),
    "deleted and created again": ({"a": spec("a", 5)}, ("a",), {"a": up()}, (), Plan(restart=(("a", 5),))),
}


@pytest.mark.parametrize(("wanted", "deleted", "running", "seen", "expected"), PLANS.values(), ids=PLANS.keys())
def test_plan(wanted: dict, deleted: tuple, running: dict, seen: tuple, expected: Plan) -> None:
    assert plan(wanted, deleted, running, {"telnet"}, seen) == expected


A3, A2 = (units({"a": spec("a", 2, shards=shards)}) for shards in (3, 2))
SHARDED = {
    "each shard is started": (A3, (), {}, (), (), Plan(start=(("a", 2), ("a~1", 2), ("a~2", 2)))),
    "one that is too many goes": (A2, (), {"a": up(2), "a~1": up(1), "a~2": up(1)}, (), (),
                                  Plan(restart=(("a~1", 2),), remove=("a~2",))),
    "also where the first one is elsewhere": ({"a~1": A2["a~1"]}, (), {"a~1": up(2), "a~2": up(2)}, (), ("a",),
                                              Plan(remove=("a~2",))),
    "what is another host's goes": ({"a": A2["a"]}, (), {"a": up(2), "a~1": up(2)}, (), ("a~1",), Plan(remove=("a~1",))),
    "with the channel all go": ({}, ("a",), {"a": up(2), "a~1": up(2)}, (), (), Plan(remove=("a", "a~1"))),
    "and with one that we saw": ({}, (), {"a~1": up(2)}, ("a",), (), Plan(remove=("a~1",))),
    "but not of one that nobody saw": ({}, (), {"a~1": up(2)}, (), (), Plan(orphans=("a~1",))),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "deleted", "running", "seen", "elsewhere", "expected"), SHARDED.values(), ids=SHARDED.keys()
)
def test_plan_of_shards(wanted: dict, deleted: tuple, running: dict, seen: tuple, elsewhere: tuple, expected: Plan) -> None:
    assert plan(wanted, deleted, running, {"telnet"}, seen, (), elsewhere) == expected


def test_each_shard_needs_what_the_channel_needs() -> None:
    labels = {"site": "north"}
    sharded = ChannelSpec(id="a", type="smpp", config={"shards": 2, "placement": {"labels": labels}})
    found = needs(units({"a": sharded, "b": spec("b")}), ["gone"], ["telnet"])
    assert found == {"gone": Need(), "a": Need(labels), "a~1": Need(labels), "b": Need(host_bound=True)}


def test_a_type_that_is_not_here_is_refused_and_the_others_start() -> None:
    found = plan({"a": spec("a", type="fax"), "b": spec("b")}, (), {}, ["telnet", "smpp"], ())
    assert found.start == (("b", 1),)
    assert found.refused == {
        "a": ("unknown_type", "There is no channel type 'fax' here; known are smpp, telnet"),
    }


def test_a_router_is_looked_for_among_the_router_types() -> None:
    wanted = {id: RouterSpec(id=id, type=type, config={}, generation=4) for id, type in (("a", "telnet"), ("b", "keyword"))}
    found = plan(wanted, (), {}, ["telnet"], (), ["keyword"])
    assert found.start == (("b", 4),)
    assert found.refused == {"a": ("unknown_type", "There is no router type 'telnet' here; known are keyword")}


def test_an_id_that_cannot_name_a_process_is_refused() -> None:
    found = plan({"../a": spec("../a")}, (), {}, ["telnet"], ())
    assert found.start == ()
    assert found.refused["../a"][0] == "invalid_id"


def test_no_file_is_removed_by_what_can_be_no_channels_id(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for channel, is_left in (("../a", True), ("a", False)):
        file.touch()
        _remove(channel, [file])
        assert file.exists() is is_left


def test_a_running_channel_that_became_unknown_is_stopped() -> None:
    assert plan({"a": spec("a", type="fax")}, (), {"a": up()}, ["telnet"], ()).remove == ("a",)


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, LONGEST_PAUSE), (10_000, LONGEST_PAUSE)],
)
def test_respawn_pause(failures: int, pause: float) -> None:
    assert respawn_pause(failures) == pause


@pytest.mark.parametrize(
    ("status", "text"), [(9, "killed by SIGKILL"), (0x100, "ended with exit code 1"), (0, "ended with exit code 0")]
)
def test_exit_text(status: int, text: str) -> None:
    assert exit_text(status) == text


# --- silence ----------------------------------------------------------------------------------------------------------

TIMEOUT = 10.0


def looks(*steps: tuple[float, Pulse]) -> list[float]:
    """The moments at which the process is called hung, looking at each (now, pulse)."""
    watch = SilenceWatch(TIMEOUT)
    return [now for now, pulse in steps if watch.look(now, [pulse])]


SILENT = Pulse("a", 1, spawned_at=0.0, beaten_at=100.0)


def test_the_silent_is_hung_once_that_is_confirmed() -> None:
    assert looks((109, SILENT), (111, SILENT), (112, SILENT), (113.5, SILENT)) == [113.5]


def test_a_look_right_after_the_first_confirms_nothing() -> None:
    assert looks((111, SILENT), (111.01, SILENT), (111 + CONFIRM / 2, SILENT)) == []


def test_after_we_slept_ourselves_everybody_gets_another_chance() -> None:
    later = 100 + 3600
    awake = dataclasses.replace(SILENT, beaten_at=later + 1.0)
    assert looks((101, SILENT), (later, SILENT), (later + 2, awake), (later + 4, awake)) == []
    assert looks((101, SILENT), (later, SILENT), (later + CONFIRM, SILENT)) == [later + CONFIRM]
    assert looks((111, SILENT), (111 + LONGEST_GAP + 1, SILENT)) == []


def test_a_suspect_that_beats_again_is_none_any_more() -> None:
    assert looks((111, SILENT), (112, dataclasses.replace(SILENT, beaten_at=112.0)), (114, SILENT)) == []


def test_another_process_under_the_same_name_starts_afresh() -> None:
    assert looks((111, SILENT), (114, dataclasses.replace(SILENT, pid=2))) == []


def test_a_process_that_starts_has_more_time_for_its_first_beat() -> None:
    starting = Pulse("a", 1, spawned_at=100.0, beaten_at=50.0)
    never = Pulse("a", 1, spawned_at=100.0, beaten_at=0.0)
    for pulse in (starting, never):
        assert looks((100 + TIMEOUT + 1, pulse), (100 + TIMEOUT + 4, pulse)) == []
        late = 100 + STARTING_GRACE + 1
        assert looks((late, pulse), (late + CONFIRM, pulse)) == [late + CONFIRM]


# --- what is told -----------------------------------------------------------------------------------------------------

RUNS = Running("RUNNING", pid=1, deaths=0)
DIED = Running(
    "STARTING", pid=2, deaths=1, restarts=1, last_exit="killed by SIGKILL", died_pid=1, died_at=50.0
)
WAITS = dataclasses.replace(DIED, state="BACKOFF", pid=0, backoff_until=58.0)


def test_a_death_is_told_with_its_time() -> None:
    assert notice(RUNS, DIED) == Notice(
        "down", "died", "Killed by SIGKILL, started again", {"pid": 1, "exit": "killed by SIGKILL", "restarts": 1}, 50.0
    )


def test_a_death_while_waiting_is_told_as_backoff() -> None:
    found = notice(RUNS, WAITS)
    assert found
    assert (found.type, found.message) == ("backoff", "Killed by SIGKILL; it is started again in 8 s")
    assert found.details["backoff"] == 8


QUIET = {
    "nothing happened": (RUNS, RUNS, 0),
    "seen for the first time": (None, DIED, 0),
    "it became ready": (DIED, dataclasses.replace(DIED, state="RUNNING"), 0),
    "killed for its silence: told before": (RUNS, DIED, 1),
    "still waiting": (WAITS, WAITS, 0),
    "started again": (WAITS, dataclasses.replace(WAITS, state="STARTING"), 0),
    "still stopped": (Running("STOPPED"), Running("STOPPED"), 0),
}


@pytest.mark.parametrize(("before", "now", "killed"), QUIET.values(), ids=QUIET.keys())
def test_only_changes_are_told(before: Running | None, now: Running, killed: int) -> None:
    assert notice(before, now, killed) is None


def test_a_stop_is_told_once() -> None:
    found = notice(RUNS, Running("STOPPED"))
    assert found
    assert (found.status, found.type) == ("down", "stopped")
