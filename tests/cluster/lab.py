"""A laboratory: machines with a net between them that can be cut, for as long as a test lasts.

    Net       the wires: a router, and a network namespace for each machine; or loopback alone, where there is no right to those
    Machine   an address, and what runs there: kill, pause, resume, cut, heal
    Host      a Junebug (`jb`) on a machine
    Redis, Rabbitmq, Sentinel   servers on machines; several Rabbitmqs make a cluster, a Redis may follow another

A namespace lives as long as the process that holds it, which the fork server kills when the test process ends, in whatever way:
there are no names, mounts, links or routes to be tidied up.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from junebug.embedded import LOOPBACK, ServerProgram
from tests import processes
from tests.forkserver import Forked, forkserver
from tests.harness import Api, JunebugProcess, command_path, free_port
from tests.polling import eventually_blocking
from tests.servers import RabbitmqServer, RedisServer, Server

BLOCK = "198.18"
"""For tests of networks (RFC 2544): each Net takes a /24 of it that this machine knows no way to."""
HOME, ROUTER = 1, 254
ESTABLISHED = "01"
REDIS_PORT, SENTINEL_PORT, RABBITMQ_PORTS, API_PORT = 6379, 26379, (5672, 25672, 4369), 8080


@functools.cache
def why_not() -> str:
    """What keeps this machine from namespaces; empty: nothing does."""
    if not (shutil.which("ip") and shutil.which("nsenter") and shutil.which("unshare")):
        return "iproute2 and util-linux are not installed"
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link add a0 type veth peer name b0 && ip rule add pref 10 from 192.0.2.1 blackhole"],
        capture_output=True, text=True,
    )  # fmt: skip
    return f"no network namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class Net:
    """`home`: the address of this process, which machines reach. `is_cuttable`: else its machines share loopback."""

    def __init__(self, *, is_cuttable: bool | None = None) -> None:
        self.is_cuttable = not why_not() if is_cuttable is None else is_cuttable
        self.home = LOOPBACK
        self._numbers = itertools.count(HOME + 1)
        self._machines: list[Machine] = []
        if self.is_cuttable:
            taken = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout
            self._block = next(block for n in range(256) if f"{(block := f'{BLOCK}.{n}')}." not in taken)
            self.home = f"{self._block}.{HOME}"
            self._router = _namespace()
            run(_inside(self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"))
            ip(f"addr add {self._block}.{ROUTER}/32 dev lo", "link set dev lo up", within=self._router)
            self._wire(self.home, None, f"jb-{os.getpid()}-{self._block.rpartition('.')[2]}", f"{self._block}.0/24")

    def machine(self) -> Machine:
        number = next(self._numbers)
        if not self.is_cuttable:
            made = Machine(self, f"127.0.{os.getpid() % 250 + 1}.{number}")
        else:
            made = Machine(self, f"{self._block}.{number}", _namespace())
            ip("link set dev lo up", within=made.namespace)
            self._wire(made.address, made.namespace, "e0", "default")
        self._machines.append(made)
        return made

    def _wire(self, address: str, end: Forked | None, device: str, reached: str) -> None:
        """`reached`: where all goes by it."""
        port, router = f"p{address.rpartition('.')[2]}", f"{self._block}.{ROUTER}"
        ip(
            f"link add {device} type veth peer name {port} netns {self._router.pid}", f"addr add {address}/32 dev {device}",
            f"link set dev {device} up", f"route add {router} dev {device}", f"route add {reached} via {router} src {address}",
            within=end,
        )  # fmt: skip
        ip(f"link set dev {port} up", f"route add {address} dev {port}", within=self._router)

    def rule(self, verb: str, rule: str) -> None:
        """What the router throws away, without a word to anybody."""
        ip(f"rule {verb} pref 10 {rule} blackhole", within=self._router)

    def close(self) -> None:
        for machine in self._machines:
            machine.kill()
        if self.is_cuttable:
            for holder in (self._router, *(each.namespace for each in self._machines)):
                assert holder
                holder.kill()
                holder.wait(10)


class Machine:
    def __init__(self, net: Net, address: str, namespace: Forked | None = None) -> None:
        self.net = net
        self.address = address
        self.namespace = namespace
        self._rules: list[str] = []

    def command(self, path: str, *arguments: str) -> tuple[str, ...]:
        """To be run here."""
        return _inside(self.namespace, path, *arguments) if self.namespace else (path, *arguments)

    def pids(self) -> set[int]:
        """Of what runs here."""
        if not self.namespace:
            return set()
        here = _net_of(self.namespace.pid)
        found = {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _net_of(pid) == here}
        return {pid for pid in found - {self.namespace.pid} if processes.is_alive(pid)}

    def signal(self, number: int) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """All that runs here, at once."""
        self.signal(signal.SIGSTOP)  # nobody sees another's end, and tidies up
        self.signal(signal.SIGKILL)
        eventually_blocking(lambda: not self.pids(), what=f"the end of {self.address}")

    def pause(self) -> None:
        """Every process stands still when this returns."""

        def stands() -> bool:
            self.signal(signal.SIGSTOP)
            return all(processes.status(pid).get("State", "T")[0] in "TZX" for pid in self.pids())

        eventually_blocking(stands, what=f"the pause of {self.address}")

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def cut(self, *, inward: bool = True, outward: bool = True, peers: Iterable[str] = ("all",)) -> None:
        """What comes, or goes, is lost from now on: nobody is told. `peers`: of these machines alone."""
        for peer in peers:
            self._rules += [f"from {peer} to {self.address}"] * inward + [f"from {self.address} to {peer}"] * outward
        for rule in self._rules:
            self.net.rule("add", rule)

    def heal(self) -> None:
        while self._rules:
            self.net.rule("del", self._rules.pop())

    def has_open(self, port: int) -> bool:
        """Whether a connection from this port of it is open, as the machine sees it."""
        if not self.namespace:
            return False
        lines = Path(f"/proc/{self.namespace.pid}/net/tcp").read_text().splitlines()[1:]
        fields = map(str.split, lines)
        return any(each[3] == ESTABLISHED and int(each[1].rpartition(":")[2], 16) == port for each in fields)


class Host(Machine):
    """A Junebug on a machine. `flags`: of all that share Redis and RabbitMQ."""

    def __init__(self, machine: Machine, id: str, flags: dict[str, Any]) -> None:
        super().__init__(machine.net, machine.address, machine.namespace)
        self.id = id
        path, *arguments = self.command(command_path("jb"))
        port = API_PORT if machine.namespace else free_port()
        own = {"host": id, "interface": self.address, "port": port, "no-auth": True}
        self.junebug = JunebugProcess(Path(tempfile.mkdtemp(prefix="jb-")), {**flags, **own}, command=path, arguments=arguments)
        if not arguments:
            self.junebug.command = "jb"  # forked, not started: a second less of CPU
        self.junebug.api = self.api = Api(f"http://{self.address}:{port}")

    def start(self, *, wait: bool = True) -> Host:
        self.junebug.start(wait=wait)
        return self

    def pids(self) -> set[int]:
        if self.namespace:
            return super().pids()
        process = self.junebug.process
        return {process.pid, *self.junebug.children()} if process and process.poll() is None else set()

    def channels(self) -> dict[str, int]:
        """Id -> pid of what it runs."""
        return self.junebug.channel_pids() if self.junebug.process else {}

    def stop(self) -> None:
        """SIGTERM, as at a shutdown."""
        assert self.junebug.stop() == 0

    def drain(self, *, off: bool = False) -> None:
        self._hosts("undrain" if off else "drain", self.id)

    def leases(self) -> int:
        """Of all hosts: what runs, and what was deleted and is not cleaned up yet."""
        return sum(each["runs"] for each in json.loads(self._hosts("list", "--json")))

    def _hosts(self, command: str, *words: str) -> str:
        """`junebug hosts`, run here."""
        where = [f"--{name}={value}" for name, value in self.junebug.flags.items() if name.startswith("redis-")]
        return run(self.command(command_path("junebug"), "hosts", command, *where, *words))

    def destroy(self) -> None:
        self.resume()
        self.junebug.destroy()
        self.kill()
        shutil.rmtree(self.junebug.directory, ignore_errors=True)


# --- servers ----------------------------------------------------------------------------------------------------------


class _Placed(Server):
    """On a machine that is a namespace: there the usual ports are free."""

    machine: Machine

    def _placed(self, program: ServerProgram, *arguments: str, **environment: str) -> ServerProgram:
        command = self.machine.command(*program.command, *arguments)
        return dataclasses.replace(program, command=command, environment={**program.environment, **environment})


class Redis(RedisServer, _Placed):
    """`follows`: the address of the one of which it is a replica."""

    def __init__(self, machine: Machine, follows: str = "") -> None:
        super().__init__(REDIS_PORT)
        self.machine, self.host = machine, machine.address
        self._follows = ("--replicaof", f"{follows} {REDIS_PORT}") if follows else ()

    def programs(self) -> tuple[ServerProgram, ...]:
        (program,) = super().programs()
        return (self._placed(program, "--bind", self.host, "--protected-mode", "no", *self._follows),)


class Sentinel(_Placed):
    """One of those that watch the Redis at `primary`, and agree by `quorum`. It writes into its configuration."""

    def __init__(self, machine: Machine, primary: str, quorum: int = 2, *, down_after: int = 3000) -> None:
        super().__init__(SENTINEL_PORT)
        self.machine, self.host = machine, machine.address
        (self.directory / "sentinel.conf").write_text(
            f"port {SENTINEL_PORT}\nbind {self.host}\nprotected-mode no\ndir {self.directory}\n"
            f"sentinel monitor junebug {primary} {REDIS_PORT} {quorum}\n"
            f"sentinel down-after-milliseconds junebug {down_after}\nsentinel failover-timeout junebug {3 * down_after}\n"
        )

    def programs(self) -> tuple[ServerProgram, ...]:
        program = shutil.which("redis-server")
        assert program
        command = (program, str(self.directory / "sentinel.conf"), "--sentinel")
        return (self._placed(ServerProgram("sentinel", command, {}, priority=0)),)

    answers = RedisServer.answers


class Rabbitmq(RabbitmqServer, _Placed):
    """`peers`: the addresses of all nodes of its cluster, itself among them."""

    def __init__(self, machine: Machine, peers: Sequence[str] = ()) -> None:
        super().__init__(RABBITMQ_PORTS)
        self.machine, self.host = machine, machine.address
        self._peers = peers

    def programs(self) -> tuple[ServerProgram, ...]:
        epmd, node = super().programs()
        home = self.directory / "rabbitmq"
        cookie, config = home / ".erlang.cookie", home / "rabbitmq.conf"
        if not cookie.exists():
            cookie.write_text("LABORATORY")
            cookie.chmod(0o400)
        lines = ["loopback_users = none", "cluster_partition_handling = pause_minority"]
        if self._peers:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines += [f"cluster_formation.classic_config.nodes.{n} = junebug@{peer}" for n, peer in enumerate(self._peers, 1)]
        with config.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        (path, *arguments) = ("" if each == LOOPBACK else each for each in epmd.command)
        here = {
            "ERL_EPMD_ADDRESS": self.host, "RABBITMQ_NODENAME": f"junebug@{self.host}", "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel net_ticktime 8",
        }  # fmt: skip
        epmd = dataclasses.replace(epmd, command=(path, *(each or self.host for each in arguments)))
        return self._placed(epmd, ERL_EPMD_ADDRESS=self.host), self._placed(node, **here)

    def erlang(self, expression: str) -> str:
        """Its value there; empty: nobody answers."""
        cookie, port = "LABORATORY", str(RABBITMQ_PORTS[2])
        call = ("erl_call", "-c", cookie, "-name", f"junebug@{self.host}", "-e")
        done = subprocess.run(
            self.machine.command(*call), env={**os.environ, "ERL_EPMD_PORT": port}, input=f"{expression}.\n",
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout


# --- what it is made of -----------------------------------------------------------------------------------------------


def run(command: Sequence[str], input: str = "") -> str:
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (command, input, done.stderr)
    return done.stdout


def ip(*lines: str, within: Forked | None) -> None:
    """Of ip(8), in a namespace, or here."""
    run(_inside(within, "ip", "-batch", "-") if within else ("ip", "-batch", "-"), "\n".join(lines))


def _inside(holder: Forked, *command: str) -> tuple[str, ...]:
    return (str(shutil.which("nsenter")), f"--net=/proc/{holder.pid}/ns/net", "--", *command)


def _namespace() -> Forked:
    """The process that holds a new one."""
    nowhere = Path(os.devnull)
    command = (str(shutil.which("unshare")), ["--net", "sleep", "infinity"])
    holder = forkserver().start(*command, cwd=Path("/"), env=dict(os.environ), stdout=nowhere, stderr=nowhere)
    eventually_blocking(lambda: _net_of(holder.pid) not in (_net_of(os.getpid()), ""), what="a namespace")
    return holder


def _net_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""
