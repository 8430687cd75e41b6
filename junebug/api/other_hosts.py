"""OtherHosts: has other hosts look into the parts of logs that they have. A channel's log lies where it ran.

They are asked over RabbitMQ, so no host needs to reach another. Neighbours: supervisor/host_logs.py answers, logs/questions.py
has the questions; handlers/logs.py, life/reader.py and life/search.py ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from junebug import names
from junebug.amqp.rpc import Answer, RpcClient
from junebug.errors import JunebugError, NotRunning
from junebug.runtime.identity import kept_host
from junebug.stores.leases import LeaseStore

PATIENCE = 3.0
"""Seconds beyond what the question itself may take."""


class Told(NamedTuple):
    """Answers, each of one host; and why something may be missing, a text for each host that has not answered."""

    answers: list[Answer]
    missing: list[str]


@dataclass(frozen=True)
class OtherHosts:
    leases: LeaseStore
    rpc: RpcClient
    host: str
    """Whose logs this process reads for itself; empty: none."""

    @classmethod
    def of(cls, host: str | None, data_dir: str, leases: LeaseStore, rpc: RpcClient) -> OtherHosts:
        return cls(leases, rpc, host or kept_host(data_dir))

    async def ask(self, owners: Sequence[str], question: str, seconds: float, **about: Any) -> Told:
        """Those that ran one of these channels (or shards) or routers. Raises StoreUnavailable."""
        hosts = await self.leases.hosts_of(owners)
        hosts.pop(self.host, None)
        gone = [f"host {host} is away: its part of the log is not shown" for host, lives in hosts.items() if not lives]
        told = await self._ask_each([host for host, lives in hosts.items() if lives], question, seconds, about)
        return Told(told.answers, gone + told.missing)

    async def _ask_each(self, hosts: Sequence[str], question: str, seconds: float, about: dict[str, Any]) -> Told:
        told = await asyncio.gather(*(self._ask(host, question, seconds + PATIENCE, about) for host in hosts))
        answers = [answer for answer in told if not isinstance(answer, str)]
        return Told(answers, [answer for answer in told if isinstance(answer, str)])

    async def _ask(self, host: str, question: str, timeout: float, about: dict[str, Any]) -> Answer | str:
        try:
            return await self.rpc.ask(names.questions_of_host(host), question, timeout, **about)
        except NotRunning:
            return f"host {host} does not listen: its part of the log is not shown"
        except JunebugError as error:
            return f"host {host} did not tell its part of the log: {error}"
