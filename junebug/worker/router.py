"""One router's process: its channel's messages and events, brought to its destinations.

    <channel>.inbound -> Router.route -> Forwarder -> mo_url / {amqp_queue}.inbound of each destination
    <channel>.event   ---------------> Forwarder -> event_url / {amqp_queue}.event of the one that it was sent through
    {amqp_queue}.outbound of each destination -> <channel>.outbound

The channel's own worker leaves these queues alone while the channel is the router's; what comes while there is no process of
the router waits in them. Callbacks, their repeats and the dead letters are those of worker/callbacks, by queues of the router.
A destination that changes is in force when the API that changed it is answered (`refresh`).

Neighbours: base.py is what a channel's process has, too; destination_queues.py takes what destinations send over RabbitMQ;
failover.py is for routers that send through several channels.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from junebug import names
from junebug.amqp.rpc import Answer, Answers, Arguments, RpcServer
from junebug.config.declaration import Settings
from junebug.errors import ChannelNotFound, JunebugError, RouterNotFound, StoreUnavailable
from junebug.logs.channel_log import ChannelLog
from junebug.logs.redaction import Redactor
from junebug.model.messages import Event, UserMessage
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.model.spec import ChannelSpec, Launch
from junebug.router_types import RouterTypes
from junebug.routers.base import Router
from junebug.runtime.service import EXIT_FAILED, bounded
from junebug.stores.statuses import trouble
from junebug.worker.base import Left, Worker, run_worker
from junebug.worker.callbacks.forwarder import Forwarder
from junebug.worker.destination_queues import DestinationQueues
from junebug.worker.failover import FailOver
from junebug.worker.take_over import TakeOver

log = structlog.stdlib.get_logger("router")

SESSION_TIMEOUT = 600
"""Seconds for which a session is remembered after its last message, where the config does not say."""
DROPS_TOLD_EVERY, DROPS_FORGOTTEN_AFTER = 30.0, 600.0
"""Seconds between two statuses that count what was dropped, and after the last one until it is well again."""
MOST_TOLD = 10


def run(settings: Settings, router: str, launch: Launch) -> int:
    """Run the router in this process until SIGTERM or SIGINT; blocking. Returns the exit code: 0 = asked to stop."""
    return run_worker(settings, router, lambda redactor, log: RouterWorker(settings, router, launch, redactor, log))


class RouterWorker(Worker):
    """Composes one router."""

    def __init__(
        self, settings: Settings, router: str, launch: Launch, redactor: Redactor, log_file: ChannelLog | None = None
    ) -> None:
        self._types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
        self._spec = RouterSpec(id=router, type="", config={})
        self._destinations: dict[str, DestinationSpec] = {}
        self.channel = ""
        """Whose messages and events are the router's alone; "": it sends through several."""
        super().__init__(settings, router, names.router_program(router), launch, redactor, log_file)
        self._router = Router({})
        self._queues: DestinationQueues | None = None
        self._failover: FailOver | None = None
        self._answers: RpcServer | None = None
        self._refreshing = asyncio.Lock()
        self._of_destinations: Counter[tuple[str, str]] = Counter()
        """(destination, rate label) -> how many, since they were last saved."""
        self._drops = 0
        self._dropped_at = self._drops_told_at = 0.0
        self._drops_told = 0

    def _present_spec(self) -> RouterSpec:
        return self._spec

    def _make_forwarder(self) -> Forwarder:
        return Forwarder(self._context, self._attempts, self._dispatcher, self._counts, routing=self)

    def _present_destinations(self) -> Mapping[str, DestinationSpec]:
        return self._destinations

    # --- starting and stopping ----------------------------------------------------------------------------------------

    async def _start(self) -> int | None:
        try:
            self._spec = spec = await self._until_read(lambda: self._stores.routers.get(self._id))
            known = await self._until_read(lambda: self._stores.statuses.components(self._id))
            await self._come_after(known)
        except RouterNotFound:
            log.error("there is no such router")
            return EXIT_FAILED
        is_quorum = self._broker.is_quorum
        self._answers = await self._open(names.router_queues(self._id, is_quorum), spec.generation)
        await TakeOver(self._context, names.callback_queues(self._id, is_quorum), is_quorum=is_quorum).run(is_likely=True)
        try:
            self._types.of_router(spec.type).validate(spec.config)
            self._router = self._types.load_router(spec)
        except JunebugError as error:
            log.error("cannot start", reason=str(error))
            self._tell("routing", "down", "cannot_start", self._redactor.text(str(error)))
            return EXIT_FAILED
        self._apply(await self._until_read(lambda: self._stores.routers.destinations(self._id)))
        self._attempts.health.inherit(trouble(known, "callbacks"))
        self._forwarder.channel = self.channel = self._types.own_channel(spec) or ""
        channel = await self._until_read(self._look_at_channel)
        if channel and channel.router == self._id:
            queues = names.incoming_queues(channel.id, is_quorum)
            await self._broker.surely(lambda: self._broker.declare(queues, remember=False))
            await TakeOver(self._context, queues, is_quorum=is_quorum).run(is_likely=True)
        self._forwarder.start()
        if self.channel:
            self._queues = DestinationQueues(self._context, self.channel)
            await self._queues.follow(self._destinations)
        else:
            self._failover = FailOver(self._context, self._types)
            self._life.tasks.own("fail-over", self._failover.run())
        self._answers.begin(self._commands(), lambda: None)
        self._follow_spec(self._stores.routers.changes(self._id))
        self._tell_routing()
        self._say_running(known)
        return None

    async def _stop_parts(self, left: Left) -> None:
        if self._answers:
            await bounded("answers", self._answers.end(), left(0.2))
        if self._queues:
            await bounded("outbound", self._queues.stop(), left(0.4))
        if self._failover:
            await bounded("fail-over", self._failover.stop(), left(0.4))
        await bounded("forwarder", self._forwarder.stop(left(0.5)), left(0.6))
        if self._answers:
            await bounded("presence", self._answers.stop(), left(0.2))  # it tells whether a process still takes messages

    # --- its destinations, live ---------------------------------------------------------------------------------------

    def _commands(self) -> Answers:
        return {"look": self._look, "refresh": self._refresh}

    async def _look(self, _: Arguments) -> Answer:
        return {"paused": False, "held": {}, "sending": {}, **self._look_at_callbacks()}

    async def _refresh(self, asked: Arguments) -> Answer:
        """These `destinations` have changed, or are new or gone: in force when this is answered."""
        async with self._refreshing:
            found = await self._stores.routers.some_destinations(self._id, list(map(str, asked["destinations"])))
            await self._change(
                {id: each for id, each in found.items() if each}, [id for id, each in found.items() if not each]
            )
        return {}

    async def _refresh_spec(self) -> None:
        """All that may have changed, or was lost with Redis."""
        routers = self._stores.routers
        async with self._refreshing:
            try:
                stored = await routers.destinations(self._id)  # before what shows whether Redis was emptied before
                self._spec = await routers.get(self._id)
                known = await self._stores.statuses.components(self._id)
                if self._is_forgotten(known):
                    await routers.claim_again(self._id, self.channel, self._destinations)
                    self._say_again()
                    stored = await routers.destinations(self._id)
                await self._look_at_channel()
            except RouterNotFound:
                return  # deleted (the reconciler stops us), or Redis was emptied (it writes the spec back)
            except StoreUnavailable as error:
                self._poll_soon(1)
                return self._tell("redis", "down", "connection_lost", str(error))
            self._say_redis_works()
            before = self._destinations
            changed = {id: each for id, each in stored.items() if id not in before or before[id].stored != each.stored}
            await self._change(changed, before.keys() - stored.keys())

    async def _change(self, changed: Mapping[str, DestinationSpec], removed: Sequence[str] | set[str]) -> None:
        if not changed and not removed:
            return
        before = [self._destinations.pop(id, None) for id in (*removed, *changed)]
        self._destinations.update(changed)
        self._router.change(self._configs(changed), removed)
        self._redactor.add(self._types.secret_values(self._spec, changed.values(), self._settings))
        log.info("destinations changed", changed=sorted(changed)[:MOST_TOLD], removed=sorted(removed)[:MOST_TOLD])
        self._dispatcher.on_changed_spec()
        if self._queues and any(each.amqp_queue for each in (*before, *changed.values()) if each):
            await self._queues.follow(self._destinations)
        self._tell_routing()

    def _apply(self, destinations: dict[str, DestinationSpec]) -> None:
        self._destinations = destinations
        self._router.set_all(self._configs(destinations))
        self._redactor.replace(self._types.secret_values(self._spec, destinations.values(), self._settings))

    def _configs(self, destinations: Mapping[str, DestinationSpec]) -> dict[str, dict[str, object]]:
        schema = self._types.of_destination(self._spec.type)
        return {id: schema.without_unknown(each.config) for id, each in destinations.items()}

    async def _look_at_channel(self) -> ChannelSpec | None:
        if not self.channel:
            return None
        try:
            channel = await self._stores.channels.get(self.channel)
        except ChannelNotFound:
            self._tell("channel", "down", "missing", f"Channel {self.channel} does not exist (any more)")
            return None
        if channel.router == self._id:
            self._tell("channel", "ok", "routed", f"Channel {self.channel} is routed")
        else:
            self._tell(
                "channel", "down", "not_routed", f"Channel {self.channel} is routed by {channel.router or 'nobody'}"
            )
        return channel

    # --- Routing (worker/callbacks/forwarder.py) ----------------------------------------------------------------------

    async def route(self, messages: Sequence[UserMessage]) -> list[Sequence[str] | None]:
        """Of each message the ids of its destinations; None where the type failed. Raises StoreUnavailable: it is asked again."""
        sessions = {}
        if self._router.keeps_sessions:
            sessions = await self._stores.routers.sessions(
                self._id, {_session(each) for each in messages if each.session_event}
            )
        known: dict[str, list[str]] = dict(sessions)
        changed: dict[str, list[str] | None] = {}
        routes: list[Sequence[str] | None] = []
        for message in messages:
            session = _session(message) if self._router.keeps_sessions and message.session_event else ""
            kept = (
                []
                if message.session_event == "new"
                else [id for id in known.get(session, ()) if id in self._destinations]
            )
            destinations = kept or self._decided(message)
            routes.append(destinations)
            if session and message.session_event == "close":
                known.pop(session, None)
                changed[session] = None
            elif session and destinations:
                known[session] = changed[session] = list(destinations)
        await self._stores.routers.put_sessions(
            self._id, changed, int(self._spec.config.get("session_timeout") or SESSION_TIMEOUT)
        )
        for message, destinations in zip(messages, routes, strict=True):
            if destinations is None:
                continue
            if destinations:
                self._of_destinations.update((destination, "inbound_message") for destination in destinations)
            else:
                self._drop(message)
        return routes

    def _decided(self, message: UserMessage) -> Sequence[str] | None:
        try:
            return self._router.route(message)
        except Exception:  # a fault of the type's costs this message its way, and no other one
            log.exception("the router failed over a message: with the dead letters", message_id=message.message_id)
            return None

    def on_event(self, destination: str, event: Event) -> None:
        """It counts for this destination."""
        if event.event_type != "delivery_report":
            self._counts["outbound_message"] += 1
        if destination:
            self._of_destinations[destination, event.api_type] += 1
            if event.event_type != "delivery_report":
                self._of_destinations[destination, "outbound_message"] += 1

    def _drop(self, message: UserMessage) -> None:
        log.warning(
            "inbound message dropped: it is for no destination", message_id=message.message_id, to_addr=message.to_addr
        )
        self._counts["dropped_message"] += 1
        self._drops += 1
        self._dropped_at = time.monotonic()
        if self._drops_told_at + DROPS_TOLD_EVERY < self._dropped_at or not self._drops_told:
            self._tell_routing()

    # --- what it says of itself ---------------------------------------------------------------------------------------

    def _tell_routing(self) -> None:
        """Component `routing`: destinations that cannot be routed to, messages that were for nobody."""
        faults, now = self._router.faults, time.monotonic()
        if faults:
            some = dict(sorted(faults.items())[:MOST_TOLD])
            message = f"{len(faults)} destinations cannot be routed to: change their config"
            self._tell(
                "routing", "degraded", "faulty_destinations", message, {"destinations": some, "dropped": self._drops}
            )
        elif self._drops and self._dropped_at + DROPS_FORGOTTEN_AFTER > now:
            if self._drops != self._drops_told:
                self._levels.pop("routing", None)
                self._drops_told, self._drops_told_at = self._drops, now
            message = "Messages came that were for no destination: they were dropped"
            self._tell("routing", "degraded", "dropped", message, {"dropped": self._drops})
        else:
            self._tell("routing", "ok", "routing", "Routing")

    def _go_by_the_clock(self) -> float:
        now = time.monotonic()
        if self._drops_told and self._dropped_at + DROPS_FORGOTTEN_AFTER < now:
            self._drops_told = self._drops = 0
            self._tell_routing()
        elif self._drops != self._drops_told and self._drops_told_at + DROPS_TOLD_EVERY < now:
            self._tell_routing()
        return super()._go_by_the_clock()

    async def _flush_counts(self) -> None:
        counted, self._of_destinations = self._of_destinations, Counter()
        await super()._flush_counts()
        by_destination: dict[str, dict[str, int]] = {}
        for (destination, label), count in counted.items():
            by_destination.setdefault(destination, {})[label] = count
        try:
            await self._stores.rates.add_many(by_destination, time.time())
        except StoreUnavailable:
            pass  # rates, no messages


def _session(message: UserMessage) -> str:
    """Of whose session it is: a key that shows no number."""
    return hashlib.blake2s(f"{message.from_addr}".encode(), digest_size=12).hexdigest()
