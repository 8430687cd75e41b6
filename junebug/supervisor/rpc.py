"""supervisord's XML-RPC namespace `channels`: channels and routers come and go at run time, told compactly as JSON.

Runs inside supervisord's loop: no call ever waits. Neighbours: client.py calls it, processes/channel.py has
the processes. supervisorctl's own commands (status, start, stop, restart, tail of `channel:<id>`) work beside it.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Container, Iterable, Sequence
from typing import Any

from supervisor.states import STOPPED_STATES, ProcessStates, SupervisorStates, getProcessStateDescription
from supervisor.supervisord import Supervisor
from supervisor.xmlrpc import Faults, RPCError

from junebug import names
from junebug.supervisor.processes.channel import ChannelGroupConfig
from junebug.supervisor.processes.warm_fork import WarmProcess


class ChannelsInterface:
    """Each method takes JSON text. Ids that are not there are passed over: callers are level-triggered."""

    def __init__(self, supervisord: Supervisor, configs: Sequence[ChannelGroupConfig]) -> None:
        self._supervisord = supervisord
        self._configs = {config.name: config for config in configs}
        self._granted = 0.0, False

    def running(self) -> str:
        """All channels and routers, whatever their state: [whether all is ending, {id: fields of reconcile.Running}]"""
        ending = self._supervisord.options.mood < SupervisorStates.RESTARTING
        return json.dumps([ending, {channel: _describe(process) for channel, process in self._processes().items()}])

    def lease(self, told: str) -> bool:
        """Until when all may work but some: [seconds of fence.now, whether RabbitMQ alone guards them, ids of the others]

        Those keep what they were told before.
        """
        match _parsed(told):
            case [float(until), bool(alone), list(others)]:
                lost = {*map(str, others)}
            case _:
                raise RPCError(Faults.BAD_ARGUMENTS, "expected [until, alone, ids]")
        for channel, process in self._processes().items():
            if channel not in lost:
                process.config.grant((until, alone))
        self._granted = until, alone
        return True

    def start(self, channels: str) -> bool:
        """Add and start channels, which may work as `lease` said last: a list of [id, generation, group, fence, is_shared]"""
        self._refuse_when_stopping()
        processes = self._processes()
        for channel, generation, name, fence, is_shared in _parsed_starts(channels, self._configs):
            process = processes.get(channel)
            if process is None:
                config, group = self._configs[name].add(channel, generation, fence, is_shared), self._group(name)
                config.grant(self._granted)
                group.processes[channel] = process = config.make_process(group)
                process.spawn()
            elif process.config.generation != generation or not process.pid:
                self._renew(process, generation)
        return True

    def restart(self, channels: str) -> bool:
        """Stop channels and start them in the given generation: a list of [id, generation]"""
        self._refuse_when_stopping()
        processes = self._processes()
        for channel, generation in _with_generations(channels):
            if channel in processes:
                self._renew(processes[channel], generation)
        return True

    def kill(self, channels: str) -> bool:
        """Send SIGKILL to the processes of channels, a list of ids; they are started again as after a crash"""
        for process in self._named(channels):
            if process.pid:
                process.signal(signal.SIGKILL)
        return True

    def remove(self, channels: str) -> bool:
        """Stop the channels that run, forget the stopped: a list of ids; to be called until they are gone"""
        for process in self._named(channels):
            process.start_when_stopped = False
            if process.get_state() in (ProcessStates.STARTING, ProcessStates.RUNNING, ProcessStates.BACKOFF):
                process.stop()
            if process.get_state() in STOPPED_STATES:
                del process.group.processes[process.config.name]
                self._configs[process.group.config.name].remove(process.config)
        return True

    def _processes(self) -> dict[str, WarmProcess]:
        """The live groups'; an operator's `supervisorctl remove channel` is undone."""
        processes: dict[str, WarmProcess] = {}
        for name, config in self._configs.items():
            if name not in self._supervisord.process_groups:
                self._supervisord.add_process_group(config)
            processes |= self._supervisord.process_groups[name].processes
        return processes

    def _group(self, name: str) -> Any:
        return self._supervisord.process_groups[name]

    def _named(self, channels: str) -> Iterable[WarmProcess]:
        processes = self._processes()
        return [processes[channel] for channel in map(str, _parsed(channels)) if channel in processes]

    def _renew(self, process: WarmProcess, generation: int) -> None:
        self._configs[process.group.config.name].renew(process.config, generation)
        process.restart()

    def _refuse_when_stopping(self) -> None:
        if self._supervisord.options.mood < SupervisorStates.RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE)


def _describe(process: WarmProcess) -> dict[str, Any]:
    return {
        "state": getProcessStateDescription(process.get_state()), "pid": process.pid,
        "generation": process.config.generation, "restarts": process.restarts, "deaths": process.deaths,
        "last_exit": process.last_exit, "died_pid": process.died_pid, "died_at": process.died_at,
        "spawned_at": process.laststart, "beaten_at": process.config.heartbeat.at,
        "backoff_until": process.delay if process.get_state() == ProcessStates.BACKOFF else 0.0,
    }  # fmt: skip


def _parsed(text: str) -> list[Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        raise RPCError(Faults.BAD_ARGUMENTS, "no JSON") from None
    if not isinstance(parsed, list):
        raise RPCError(Faults.BAD_ARGUMENTS, "expected a JSON list")
    return parsed


def _with_generations(text: str) -> list[tuple[str, int]]:
    """Parsed and checked as a whole before anything is done."""
    found = []
    for entry in _parsed(text):
        match entry:
            case [str(channel), int(generation)] if names.is_unit(channel):
                found.append((channel, generation))
            case _:
                raise RPCError(Faults.BAD_ARGUMENTS, "expected [id, generation], the id fit to name a process")
    return found


def _parsed_starts(text: str, groups: Container[str]) -> list[tuple[str, int, str, int, bool]]:
    """Likewise."""
    found = []
    for entry in _parsed(text):
        match entry:
            case [str(channel), int(generation), str(group), int(fence), bool(shared)] if (
                names.is_unit(channel) and group in groups
            ):
                found.append((channel, generation, group, fence, shared))
            case _:
                form = "[id, generation, group, fence, is_shared]"
                raise RPCError(Faults.BAD_ARGUMENTS, f"expected {form}, the id fit to name a process")
    return found
