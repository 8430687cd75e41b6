"""supervisord's XML-RPC namespace `channels`: channels come and go at run time, told compactly as JSON.

Runs inside supervisord's loop: no call ever waits. Neighbours: client.py calls it, processes/channel.py has the
processes. supervisorctl's own commands (status, start, stop, restart, tail of `channel:<id>`) work beside it.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from typing import Any

from supervisor.states import STOPPED_STATES, ProcessStates, SupervisorStates, getProcessStateDescription
from supervisor.supervisord import Supervisor
from supervisor.xmlrpc import Faults, RPCError

from junebug import names
from junebug.supervisor.processes.channel import ChannelGroupConfig, ChannelProcess


class ChannelsInterface:
    """Each method takes and gives JSON text. Ids that are not there are passed over: callers are level-triggered."""

    def __init__(self, supervisord: Supervisor, config: ChannelGroupConfig) -> None:
        self._supervisord = supervisord
        self._config = config

    def running(self) -> str:
        """All channels, whatever their state, as {id: fields of reconcile.Running}

        @return string json
        """
        return json.dumps({channel: _describe(process) for channel, process in self._processes().items()})

    def start(self, channels: str) -> str:
        """Add and start channels

        @param string channels  JSON list of {id, generation}
        @return string json     How many there are now
        """
        self._refuse_when_stopping()
        processes = self._processes()
        for channel, generation in _with_generations(channels):
            if channel in processes:
                self._start_again(processes[channel], generation)
                continue
            config = self._config.add(channel, generation)
            processes[channel] = process = config.make_process(self._supervisord.process_groups[names.CHANNEL_GROUP])
            process.spawn()
        return json.dumps(len(processes))

    def restart(self, channels: str) -> str:
        """Stop channels and start them in the given generation

        @param string channels  JSON list of {id, generation}
        @return string json     How many there are now
        """
        self._refuse_when_stopping()
        processes = self._processes()
        for channel, generation in _with_generations(channels):
            if channel in processes:
                self._config.renew(processes[channel].config, generation)
                processes[channel].restart()
        return json.dumps(len(processes))

    def stop(self, channels: str) -> str:
        """Stop channels; they stay stopped until somebody starts them

        @param string channels  JSON list of ids
        @return string json     How many there are now
        """
        for process in self._named(channels):
            _stop(process)
        return json.dumps(len(self._processes()))

    def kill(self, channels: str) -> str:
        """Send SIGKILL to the processes of channels; they are started again as after a crash

        @param string channels  JSON list of ids
        @return string json     How many there are now
        """
        for process in self._named(channels):
            if process.pid:
                process.signal(signal.SIGKILL)
        return json.dumps(len(self._processes()))

    def remove(self, channels: str) -> str:
        """Stop channels that run, forget those that are stopped: to be called until they are gone

        @param string channels  JSON list of ids
        @return string json     How many there are now
        """
        processes = self._processes()
        for process in self._named(channels):
            _stop(process)
            if process.get_state() in STOPPED_STATES:
                del processes[process.config.name]
                self._config.remove(process.config)
        return json.dumps(len(processes))

    def _processes(self) -> dict[str, ChannelProcess]:
        """The live group's; an operator's `supervisorctl remove channel` is undone."""
        group = self._supervisord.process_groups.get(names.CHANNEL_GROUP)
        if group is None:
            self._supervisord.add_process_group(self._config)
            group = self._supervisord.process_groups[names.CHANNEL_GROUP]
        processes: dict[str, ChannelProcess] = group.processes
        return processes

    def _named(self, channels: str) -> Iterable[ChannelProcess]:
        processes = self._processes()
        ids = _parsed(channels)
        if not all(isinstance(channel, str) for channel in ids):
            raise RPCError(Faults.BAD_ARGUMENTS, "expected a JSON list of ids")
        return [processes[channel] for channel in ids if channel in processes]

    def _start_again(self, process: ChannelProcess, generation: int) -> None:
        if process.config.generation != generation:
            self._config.renew(process.config, generation)
            process.restart()
        elif not process.pid:
            process.restart()

    def _refuse_when_stopping(self) -> None:
        if self._supervisord.options.mood < SupervisorStates.RUNNING:
            raise RPCError(Faults.SHUTDOWN_STATE)


def _stop(process: ChannelProcess) -> None:
    process.start_when_stopped = False
    if process.get_state() in (ProcessStates.STARTING, ProcessStates.RUNNING, ProcessStates.BACKOFF):
        process.stop()


def _describe(process: ChannelProcess) -> dict[str, Any]:
    return {
        "state": getProcessStateDescription(process.get_state()),
        "pid": process.pid,
        "generation": process.config.generation,
        "restarts": process.restarts,
        "deaths": process.deaths,
        "last_exit": process.last_exit,
        "died_pid": process.died_pid,
        "died_at": process.died_at,
        "spawned_at": process.laststart,
        "backoff_until": process.delay if process.get_state() == ProcessStates.BACKOFF else 0.0,
    }


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
            case {"id": str(channel), "generation": int(generation)} if names.is_channel_id(channel):
                found.append((channel, generation))
            case _:
                raise RPCError(Faults.BAD_ARGUMENTS, "expected {id, generation}, the id fit to name a process")
    return found
