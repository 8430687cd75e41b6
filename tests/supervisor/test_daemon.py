"""supervisord as we assemble it, with real processes: start, crash, stop, kill, reload. No Redis, no RabbitMQ."""

from __future__ import annotations

import dataclasses
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import time

import pytest

from junebug.config.declaration import Settings
from junebug.errors import Unavailable
from junebug.supervisor.processes.channel import Outputs
from tests.polling import eventually_blocking
from tests.processes import is_alive
from tests.supervisor.conftest import FakeJunebug

FIRST = {"restarts": 0, "last_exit": None, "fence": 0, "is_shared": False}


def test_each_channel_is_a_process_whose_title_holds_its_id(fake: FakeJunebug) -> None:
    fake.client.start([(f"c{n}", 1) for n in range(30)])  # more than one chunk
    eventually_blocking(lambda: all(fake.launch(f"c{n}") for n in range(30)))
    titles = set(fake.children().values())
    assert {f"junebug: channel:c{n}" for n in range(30)} <= titles
    assert {"junebug: reconciler", "junebug: api:1", "junebug: api:2"} <= titles


def test_a_channel_inherits_no_descriptor_and_is_told_its_launch(fake: FakeJunebug) -> None:
    fake.client.start([("a", 7)])
    told = fake.wait_launch("a")
    assert told == {"pid": told["pid"], "fds": [0, 1, 2], "generation": 7, **FIRST}


def test_a_killed_channel_is_started_again_at_once_and_told_why(fake: FakeJunebug) -> None:
    fake.client.start([("a", 1), ("b", 1)])
    first, other = fake.wait_launch("a")["pid"], fake.wait_launch("b")["pid"]
    eventually_blocking(lambda: fake.running()["a"].state == "RUNNING")
    killed_at = time.monotonic()
    os.kill(first, signal.SIGKILL)
    told = fake.wait_launch("a", other_than=first)
    assert time.monotonic() - killed_at < 0.5
    assert (told["restarts"], told["last_exit"]) == (1, "killed by SIGKILL")
    process = fake.running()["a"]
    assert (process.pid, process.deaths, process.died_pid) == (told["pid"], 1, first)
    assert fake.launch("b")["pid"] == other


def test_a_crash_loop_backs_off_and_never_gives_up(fake: FakeJunebug) -> None:
    fake.client.start([("crash", 1)])
    eventually_blocking(lambda: fake.running()["crash"].deaths >= 4)
    eventually_blocking(lambda: fake.running()["crash"].state == "BACKOFF")
    process = fake.running()["crash"]
    assert process.last_exit == "ended with exit code 70"
    assert process.backoff_until > process.died_at
    assert "RuntimeError: crash crashed on purpose" in (fake.settings.log_dir / "channel-crash.log").read_text()
    assert "entered FATAL" not in fake.log()
    fake.ctl("stop", "channel:crash")
    assert fake.running()["crash"].state == "STOPPED"


def test_what_a_channel_prints_is_kept_apart(fake: FakeJunebug) -> None:
    fake.client.start([("print", 1), ("quiet", 1)])
    fake.wait_launch("quiet")
    eventually_blocking((fake.settings.log_dir / "channel-print.log").exists)
    assert "printed by a channel" in fake.ctl("tail", "channel:print")
    assert not (fake.settings.log_dir / "channel-quiet.log").exists()


def test_what_a_channel_prints_is_for_its_owner_alone(fake: FakeJunebug) -> None:
    crashed = fake.settings.log_dir / "channel-crash.log"
    of_an_older_one = fake.settings.log_dir / "channel-print.log"
    of_an_older_one.touch(0o644)
    fake.client.start([("print", 1), ("crash", 1)])
    eventually_blocking(lambda: crashed.exists() and of_an_older_one.stat().st_size)
    assert stat.S_IMODE(fake.settings.log_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (crashed, of_an_older_one)} == {0o600}


def test_restart_brings_the_new_generation(fake: FakeJunebug) -> None:
    fake.client.start([("a", 1)])
    first = fake.wait_launch("a")["pid"]
    fake.client.restart([("a", 2)])
    told = fake.wait_launch("a", other_than=first)
    assert (told["generation"], told["restarts"], told["last_exit"]) == (2, 0, None)
    assert fake.running()["a"].deaths == 0


def test_remove_is_repeated_until_the_channel_is_gone(fake: FakeJunebug) -> None:
    fake.client.start([("a", 1)])
    pid = fake.wait_launch("a")["pid"]

    def is_removed() -> bool:
        fake.client.remove(["a", "unheard-of"])
        return "a" not in fake.running()

    eventually_blocking(is_removed)
    assert not is_alive(pid)


def test_the_hung_is_killed_and_started_again(fake: FakeJunebug) -> None:
    fake.client.start([("a", 1)])
    first = fake.wait_launch("a")["pid"]
    os.kill(first, signal.SIGSTOP)
    fake.client.kill(["a"])
    assert fake.wait_launch("a", other_than=first)["restarts"] == 1


@pytest.mark.parametrize("channel", ["", "a b", "../a", "a/b", "ü", "*", "a\nb", "-a", "x" * 200])
def test_an_id_that_cannot_name_a_process_is_refused(fake: FakeJunebug, channel: str) -> None:
    with pytest.raises(Unavailable, match="BAD_ARGUMENTS"):
        fake.client.start([("good", 1), (channel, 1)])
    assert fake.running() == {}


def test_odd_but_safe_ids_work(fake: FakeJunebug) -> None:
    ids = ["a.b", "1-2_3", "A" * 128]
    fake.client.start([(channel, 1) for channel in ids])
    eventually_blocking(lambda: all(fake.running()[channel].state == "RUNNING" for channel in ids))
    assert "channel:a.b: stopped" in fake.ctl("stop", "channel:a.b")


def test_supervisorctl_sees_and_drives_channels(fake: FakeJunebug) -> None:
    fake.client.start([("a", 3)])
    first = fake.wait_launch("a")["pid"]
    eventually_blocking(lambda: "RUNNING" in fake.ctl("status", "channel:a"))
    assert "channel:a: started" in fake.ctl("restart", "channel:a")
    second = fake.wait_launch("a", other_than=first)
    assert second["generation"] == 3
    assert "channel:a: stopped" in fake.ctl("stop", "channel:a")
    fake.ctl("update")
    assert fake.running()["a"].state == "STOPPED"
    assert "channel:a: started" in fake.ctl("start", "channel:a")
    assert fake.launch("a")["restarts"] == 0


def test_reload_forgets_no_channel_and_no_socket(fake: FakeJunebug) -> None:
    fake.client.start([("a", 3), ("b", 1)])
    first, api = fake.wait_launch("a")["pid"], fake.ask_api()
    assert fake.process
    fake.process.send_signal(signal.SIGHUP)
    assert fake.wait_launch("a", other_than=first)["generation"] == 3
    eventually_blocking(lambda: {"a", "b"} == fake.running().keys() if fake.answers() else None)
    assert eventually_blocking(fake.ask_api) != api


def test_a_dead_api_process_never_loses_the_port(fake: FakeJunebug) -> None:
    for _ in range(5):
        os.kill(eventually_blocking(fake.ask_api), signal.SIGKILL)
    assert eventually_blocking(fake.ask_api)
    assert "api 1 listens" in fake.out()


def test_sigkill_of_the_supervisor_leaves_no_process(nowhere: Settings) -> None:
    fake = FakeJunebug(nowhere, servers=True).start()
    try:
        fake.client.start([(f"c{n}", 1) for n in range(20)] + [("deaf", 1)])
        eventually_blocking(lambda: all(fake.launch(f"c{n}") for n in range(20)))
        children = fake.children()
        assert "/bin/sleep 1000" in children.values()
        assert len(children) == 25
        os.kill(fake.launch("c0")["pid"], signal.SIGSTOP)
        assert fake.process
        fake.process.kill()
        eventually_blocking(lambda: not any(is_alive(pid) for pid in children), timeout=3)
        fake.process.wait()
        fake.start()  # neither the lock nor the socket that is left over is in the way
        assert fake.terminate() == 0
    finally:
        fake.destroy()


def test_sigterm_ends_everything_in_order_with_exit_code_0(nowhere: Settings) -> None:
    fake = FakeJunebug(nowhere, servers=True).start()
    try:
        fake.client.start([("a", 1), ("b", 1), ("crash", 1)])
        fake.wait_launch("b")
        children = fake.children()
        began = time.monotonic()
        assert fake.terminate() == 0
        assert time.monotonic() - began < 3
        assert not any(is_alive(pid) for pid in children)
        stopped = [line.split("stopped: ")[1].split()[0] for line in fake.log().splitlines() if "stopped: " in line]
        assert set(stopped[:2]) == {"1", "2"}
        assert set(stopped[2:-2]) >= {"a", "b"}
        assert stopped[-2:] == ["reconciler", "sleeper"]
        assert not fake.settings.supervisor_socket.exists()
        assert "Traceback" not in fake.out()
    finally:
        fake.destroy()


def test_a_deaf_channel_does_not_hold_up_the_end(nowhere: Settings) -> None:
    fake = FakeJunebug(dataclasses.replace(nowhere, stop_timeout=1.0)).start()
    try:
        fake.client.start([("deaf", 1)])
        pid = fake.wait_launch("deaf")["pid"]
        began = time.monotonic()
        assert fake.terminate() == 0
        assert time.monotonic() - began < 5
        assert not is_alive(pid)
    finally:
        fake.destroy()


def test_a_second_one_in_the_same_data_dir_is_refused(fake: FakeJunebug) -> None:
    second = FakeJunebug(fake.settings).start(wait=False)
    assert second.process
    assert second.process.wait(10) == 1
    assert f"data_dir: another Junebug is running in '{fake.settings.data_dir}'" in fake.out()
    assert fake.answers()
    api_only = FakeJunebug(fake.settings, channels=False).start(wait=False)
    try:
        eventually_blocking(lambda: sorted(api_only.children().values()) == ["junebug: api:1", "junebug: api:2"])
        assert api_only.terminate() == 0
    finally:
        api_only.destroy()


def test_limits_that_may_not_be_raised_are_no_obstacle(nowhere: Settings) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 300))\n"
        "resource.setrlimit = lambda *_: (_ for _ in ()).throw(ValueError('not permitted'))\n"
        "from junebug.cli import _raise_descriptor_limit; _raise_descriptor_limit(); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "goes on\n"


def test_a_reconciler_that_hangs_is_replaced_by_supervisord(nowhere: Settings) -> None:
    fake = FakeJunebug(nowhere, constants={"junebug.supervisor.daemon:RECONCILER_SILENCE": 5.0}).start()

    def reconciler() -> int:
        return next((pid for pid, title in fake.children().items() if title == "junebug: reconciler"), 0)

    try:
        hung = reconciler()
        eventually_blocking(lambda: "what=redis" in fake.out() or '"what": "redis"' in fake.out())  # its event loop runs
        os.kill(hung, signal.SIGSTOP)
        assert eventually_blocking(lambda: (pid := reconciler()) not in (0, hung) and pid)
    finally:
        fake.destroy()


def test_a_pipe_at_its_end_is_looked_at_no_more_and_the_others_go_on() -> None:
    class Output:
        is_open, heard = True, b""

        def __init__(self) -> None:
            self.pipe, self.writer = os.pipe()

        def readable(self) -> bool:
            return self.is_open

        def handle_read_event(self) -> None:
            data = os.read(self.pipe, 100)
            self.heard += data
            self.is_open = bool(data)

    ended, other = Output(), Output()
    outputs = Outputs(logging.getLogger())
    outputs.add({ended.pipe: ended, other.pipe: other})  # type: ignore[dict-item]
    os.close(ended.writer)
    os.write(other.writer, b"heard")
    for _ in range(2):  # which of the two comes first is epoll's affair
        outputs.handle_read_event()
    assert (ended.is_open, other.heard) == (False, b"heard")
    assert select.select([outputs], [], [], 0) == ([], [], [])
    outputs.remove([ended.pipe, other.pipe])
    os.write(other.writer, b"not heard")
    assert select.select([outputs], [], [], 0) == ([], [], [])
    for descriptor in (ended.pipe, other.pipe, other.writer):
        os.close(descriptor)
