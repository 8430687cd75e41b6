"""One channel's process: what it is made of, in which order it starts and stops, and that it is seen to live.

    phone <-> Transport -> <id>.inbound -> Forwarder -> mo_url / {amqp_queue}.inbound
                        -> <id>.event   -> Forwarder -> event_url / {amqp_queue}.event
                        -> <id>.status  -> StatusReceiver -> Redis, status_url
              Transport <- Sender <- <id>.outbound, {amqp_queue}.outbound

A channel with shards has several such processes: each has a transport and a sender, and the first one all the rest.
The supervisor forks into `run` (or `junebug-worker` calls it). Redis or RabbitMQ away: it waits, and says so. A side task
that dies ends the process: the supervisor starts it afresh, which is better than half a channel.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from typing import Any

import msgspec
import structlog

from junebug import names
from junebug.amqp.rpc import Answer, Arguments, RpcServer
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, ChannelNotFound, JunebugError, StoreUnavailable
from junebug.logs.channel_log import ChannelLog
from junebug.logs.redaction import Redactor
from junebug.model.messages import Event, Status, StatusLevel, UserMessage
from junebug.model.spec import ChannelSpec, Launch
from junebug.registry import Registry
from junebug.runtime.families import MESSAGES
from junebug.runtime.service import EXIT_FAILED, bounded
from junebug.stores.statuses import trouble
from junebug.transports.base import Transport, TransportContext
from junebug.worker.base import Left, Worker, run_worker
from junebug.worker.commands import Commands
from junebug.worker.outbound.journal import Journal
from junebug.worker.outbound.priorities import PriorityQueues
from junebug.worker.outbound.rate_limit import RateLimit, shared
from junebug.worker.outbound.sender import PAUSED, Sender
from junebug.worker.take_over import TakeOver

log = structlog.stdlib.get_logger("worker")

Components = dict[str, dict[str, Any]]
"""Component -> body of its last status."""

TRANSPORT_START_TIMEOUT = 30.0
_RECEIVED = MESSAGES.field("inbound", "received")


def run(settings: Settings, unit: str, launch: Launch) -> int:
    """Run the channel in this process until SIGTERM or SIGINT; blocking. Returns the exit code: 0 = asked to stop."""
    return run_worker(settings, unit, lambda redactor, log: ChannelWorker(settings, unit, launch, redactor, log))


class ChannelWorker(Worker):
    """Composes one channel."""

    def __init__(
        self, settings: Settings, unit: str, launch: Launch, redactor: Redactor, channel_log: ChannelLog | None = None
    ) -> None:
        self._channel = names.channel_of(unit)
        self._registry = Registry.from_settings(settings.channels, settings.replace_channels)
        self._spec = self._begun_with = ChannelSpec(id=self._channel, type="", config={})
        super().__init__(settings, unit, names.channel_program(unit), launch, redactor, channel_log)
        self._priorities = PriorityQueues(self._context)
        self._rate_limit = RateLimit()
        self._transport: Transport | None = None
        self._sender: Sender | None = None
        self._journal: Journal | None = None
        self._answers: RpcServer | None = None
        self._applying = asyncio.Lock()

    def _present_spec(self) -> ChannelSpec:
        return self._spec

    def _shards(self) -> int:
        return self._begun_with.shards

    # --- starting -----------------------------------------------------------------------------------------------------

    async def _start(self) -> int | None:
        """In this order, so that nothing arrives before there is somebody to take it. An exit code ends the worker."""
        try:
            spec, known = await self._until_read(self._read_stored)
        except ChannelNotFound:
            log.error("there is no such channel")
            return EXIT_FAILED
        if self._shard >= spec.shards:
            log.error("the channel has no such shard", shards=spec.shards)
            return EXIT_FAILED
        if self._shard == 0:
            await self._until_read(lambda: self._stores.statuses.forget_shards(self._channel, spec.shards))
        await self._come_after(known)
        self._begun_with = spec
        self._use(spec)
        priorities, layout = await self._priorities.find()
        queues = names.sending_queues(self._channel, priorities, layout, self._context.shard, self._context.shards)
        ours = {} if self._shard else await self._queues_to_application(spec)
        # before the transport: it tells whether a process may hold the port or bind
        self._answers = await self._open({**queues, **ours}, spec.generation, {"follow": self._follow_now})
        if ours:
            await self._take_over(spec)
        try:
            transport_class = self._registry.load_transport(spec.type)
            config = self._registry.without_unknown(spec.type, spec.config)
            if left_out := sorted(option for option in spec.config.keys() - config.keys() if spec.config[option] is not None):
                log.warning("unknown options left out", options=left_out)
            self._registry.validate_config(spec.type, config)
            publish = (self._publish_inbound, self._publish_event, self._publish_status)
            store = self._stores.transport(self._channel)
            context = TransportContext(self._channel, spec.type, config, *publish, store, self._rate_limit.permit)
            context.shard, context.shards = self._shard, spec.shards
            context.own = self._life.tasks.own
            context.may_begin = functools.partial(self._context.suspects.begin, "provider")
            context.door = self._settings.door
            context.metrics = self._metrics
            context.set_aside = functools.partial(self._context.bury, names.inbound_queue(self._channel))
            self._transport = transport_class(context)
            self._journal = Journal(self._settings.accepted_dir / self._unit, self._transport.window)
            async with asyncio.timeout(TRANSPORT_START_TIMEOUT):
                await self._transport.start()
        except (JunebugError, TimeoutError, OSError) as error:
            reason = str(error) or f"it did not start within {TRANSPORT_START_TIMEOUT:g} s"
            log.error("cannot start", reason=reason)
            self._tell(spec.type or "transport", "down", "cannot_start", self._redactor.text(reason))
            return EXIT_FAILED
        if not context.has_reported(spec.type):
            await context.status(spec.type, "ok", "started", "The channel's transport is running")
        if self._shard == 0:
            failing = trouble(known, "callbacks")
            self._attempts.health.inherit(failing)
            self._forwarder.start(failing)
        check = functools.partial(self._registry.validate_channel_data, spec.type)
        async with self._applying:
            was_paused = await self._until_read(self._read_pause)
            self._sender = Sender(self._context, self._transport, self._journal, self._counts, check)
            self._metrics.gauges.append(self._sender.gauges)
            self._priorities.consume(self._sender)
            self._life.tasks.own("sender", self._sender.run())
            await self._consume_app_queue(None, spec.amqp_queue)
            await self._apply_pause(was_paused=was_paused)
        commands = Commands(self._context, self._sender, self._look_at_callbacks)
        self._answers.begin(commands.answers(), self._sender.cancellations.may_have_missed_some)
        self._follow_spec(self._stores.channels.changes(self._channel))
        self._say_running(known)
        return None

    async def _queues_to_application(self, spec: ChannelSpec) -> names.Queues:
        """For what is on its way there. While the channel is routed it is its router that decides of which kind some are."""
        is_quorum, kinds = self._broker.is_quorum, self._broker.kinds
        incoming = names.incoming_queues(self._channel, is_quorum)
        if spec.router and self._may_have_others(spec):
            find = functools.partial(kinds.find, names.event_queue(self._channel), is_quorum)
            found, _ = await self._broker.surely(find)
            incoming = incoming if found in incoming else {}
        return {**incoming, **names.callback_queues(self._channel, is_quorum)}

    async def _take_over(self, spec: ChannelSpec) -> None:
        is_quorum = self._broker.is_quorum
        queues = names.callback_queues(self._channel, is_quorum)
        if not spec.router:
            queues |= names.incoming_queues(self._channel, is_quorum)
        await TakeOver(self._context, queues, is_quorum=is_quorum).run(is_likely=self._may_have_others(spec))

    def _may_have_others(self, spec: ChannelSpec) -> bool:
        """Of the other kind."""
        return self._broker.is_quorum or any(names.layout_of(number).is_quorum for number in spec.layouts)

    async def _read_stored(self) -> tuple[ChannelSpec, Components]:
        """Raises ChannelNotFound: it was deleted (the reconciler stops us), or Redis was emptied (it writes the spec back)."""
        return await self._stores.channels.get(self._channel), await self._stores.statuses.components(self._channel)

    async def _read_pause(self) -> bool:
        """Whether the channel is paused: who paused it before we could be asked was told that we read it. Returns whether the
        last process said so, which may since have been resumed.
        """
        try:
            spec, known = await self._read_stored()
        except ChannelNotFound:
            return False
        self._spec = dataclasses.replace(self._spec, paused=spec.paused)
        return known.get("outbound", {}).get("type") == "paused"

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def _stop_parts(self, left: Left) -> None:
        if self._transport:
            share = left(0.4)
            await bounded("requests", self._transport.finish(share), share + 0.5)
        self._rate_limit.close()
        if self._answers:
            await bounded("answers", self._answers.end(), left(0.2))
        if self._sender:
            await bounded("sender", self._sender.stop(left(0.5)), left(0.6))
        if self._transport:
            await bounded("transport", self._transport.stop(), left(0.5))
        if self._answers:
            await bounded("presence", self._answers.stop(), left(0.2))
        await bounded("forwarder", self._forwarder.stop(left(0.6)), left(0.7))

    # --- the spec, live -----------------------------------------------------------------------------------------------

    async def _follow_now(self, _: Arguments) -> Answer:
        """What is wanted now is applied when this is answered; while the process starts, whether it is paused."""
        await self._refresh_spec()
        return {"paused": bool(self._spec.paused)}

    async def _refresh_spec(self) -> None:
        async with self._applying:
            await self._apply_stored()

    async def _apply_stored(self) -> None:
        try:
            spec, known = await self._read_stored()
        except ChannelNotFound:
            return
        except StoreUnavailable as error:
            self._poll_soon(1)
            return self._tell("redis", "down", "connection_lost", str(error))
        if self._sender is None:  # the rest is applied when it is read next
            self._spec = dataclasses.replace(self._spec, paused=spec.paused)
            return
        self._say_redis_works()
        if self._is_forgotten(known):
            self._say_again()
        if spec != self._spec:
            before = self._spec
            self._use(spec)
            await self._priorities.follow()
            if dataclasses.replace(before, noted_priorities=spec.noted_priorities) == spec:
                return
            log.info("changed settings applied")
            if self._shard == 0:
                self._dispatcher.on_changed_spec()
                await self._forwarder.follow()
            await self._consume_app_queue(before.amqp_queue, spec.amqp_queue)
            await self._apply_pause(was_paused=bool(before.paused))

    def _use(self, spec: ChannelSpec) -> None:
        self._spec = spec
        self._rate_limit.set(*shared(spec.rate_limit_count, spec.rate_limit_window, self._shard, self._shards()))
        self._redactor.replace(self._registry.secret_values(spec, self._settings))

    async def _consume_app_queue(self, before: str | None, now: str | None) -> None:
        """Take outbound messages from `{amqp_queue}.outbound` too (COMPAT §3): the first shard alone, which keeps their order."""
        if before == now or self._sender is None or self._shard:
            return
        if now and not names.is_amqp_queue(now):  # stored by a Junebug that took any
            self._tell("amqp_queue", "down", "invalid", f"No queue can have this name: {now}. Change the channel's amqp_queue.")
            now = None
        elif before and not names.is_amqp_queue(before):
            self._tell("amqp_queue", "ok", "valid", "The channel's amqp_queue can be used")
            before = None
        if before:
            await self._sender.release(names.outbound_queue(before))
            self._broker.forget([names.outbound_queue(before)])
        if now:
            queue = names.outbound_queue(now)
            try:
                await self._broker.declare({queue: {}}, bind=True)
            except BrokerUnavailable:
                pass  # it is remembered, and declared at the next connection
            self._sender.consume([queue], exclusive=False)

    async def _apply_pause(self, *, was_paused: bool) -> None:
        assert self._sender is not None
        if self._spec.paused:
            await self._sender.hold(PAUSED)
            told: tuple[StatusLevel, str, str] = "degraded", "paused", "Paused: messages wait until somebody resumes the channel"
        elif was_paused:
            await self._sender.let_go(PAUSED)
            told = "ok", "resumed", "Messages are sent again"
        else:
            return
        if self._shard == 0:
            self._tell("outbound", *told)

    # --- what the transport says --------------------------------------------------------------------------------------

    async def _publish_inbound(self, message: UserMessage) -> None:
        await self._context.publish(names.inbound_queue(self._channel), (message.to_wire(),))
        self._metrics.counts[_RECEIVED] += 1

    async def _publish_event(self, event: Event) -> None:
        if self._journal and not self._sender:
            await self._journal.begun(event.user_message_id)
        if self._sender:
            return await self._sender.report(event)
        await self._context.publish(names.event_queue(event.transport_name), (event.to_wire(),))

    async def _publish_status(self, status: Status) -> None:
        status = msgspec.structs.replace(status, fence=self._launch.fence)
        if self._sender is None or self._shard:  # it starts, and would say so again: no reason to open the link that publishes
            return self._statuses.receive(status)
        try:
            await self._broker.publish(names.status_queue(self._channel), status.to_wire())
        except JunebugError:
            self._statuses.receive(status)  # RabbitMQ is away: it need not come by there
