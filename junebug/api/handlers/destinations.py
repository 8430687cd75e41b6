"""Endpoints of destinations, the applications behind a router: list, create, read, change, delete (COMPAT §7).

A change is in force when it is answered: the router's process is told, and says that it has it. Where there is none, it reads
all when it starts.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiohttp import web

from junebug.amqp.rpc import RpcClient
from junebug.api import audit, routing_schemas, routing_views
from junebug.api.channel_queues import check_amqp_queue
from junebug.api.http import destination_id, long_work, read_json, reply, router_id
from junebug.api.properties import is_same
from junebug.api.spec_cache import until_unchanged
from junebug.errors import BrokerUnavailable, JunebugError, NotRunning, RouterChanged, StoreUnavailable
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

REFRESH_TIMEOUT = 5.0
"""Seconds for which the router's process is waited for."""
PRESENCE_TIMEOUT, REFRESH_PAUSE = 0.5, 0.05
"""Seconds in which a process that starts says that it is there, and until it is asked again."""


@dataclass(frozen=True)
class Destinations:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    asking: RpcClient

    async def list(self, request: web.Request) -> web.Response:
        ids = await self.stores.routers.destination_ids(router_id(request))
        return reply(200, "destinations retrieved", ids)

    @long_work
    async def create(self, request: web.Request) -> web.Response:
        body = routing_schemas.destination.check(read_json(request))
        router = await self.stores.routers.get(router_id(request))
        spec = routing_views.new_destination(str(uuid.uuid4()), body, router, self.types)
        await check_amqp_queue(self.stores, body)
        words = routing_views.exclusive_words(router, spec, self.types)
        await self.stores.routers.put_destination(router.id, None, spec, words)
        log.info("destination created", router_id=router.id, destination_id=spec.id)
        await self._in_force(router.id, spec.id)
        shown = routing_views.destination_json(spec, router, self.types, {})
        audit.tell(request, destination_id=spec.id, changes=audit.changes({}, spec.to_properties(), {}, shown))
        return reply(201, "destination created", shown)

    async def get(self, request: web.Request) -> web.Response:
        router, spec = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._show(router, spec, "destination found")

    @long_work
    async def replace(self, request: web.Request) -> web.Response:
        return await self._update(request, replaces=True)

    @long_work
    async def update(self, request: web.Request) -> web.Response:
        return await self._update(request, replaces=False)

    async def _update(self, request: web.Request, *, replaces: bool) -> web.Response:
        kind = routing_schemas.destination if replaces else routing_schemas.destination_update
        body, id = kind.check(read_json(request)), destination_id(request)
        await check_amqp_queue(self.stores, body)

        async def attempt() -> tuple[RouterSpec, DestinationSpec, DestinationSpec]:
            router, old = await self.stores.routers.with_destination(router_id(request), id)
            new = routing_views.changed_destination(old, body, router, self.types, replaces=replaces)
            if not is_same(old.to_properties(), new.to_properties()):
                words, former = (routing_views.exclusive_words(router, each, self.types) for each in (new, old))
                await self.stores.routers.put_destination(router.id, old, new, words, former)
            return router, old, new

        router, old, spec = await until_unchanged(attempt, RouterChanged)
        if not is_same(old.to_properties(), spec.to_properties()):
            shown = [routing_views.destination_json(each, router, self.types, {}) for each in (old, spec)]
            audit.tell(request, changes=audit.changes(old.to_properties(), spec.to_properties(), *shown))
            log.info("destination updated", router_id=router.id, destination_id=id, properties=sorted(body))
            await self._in_force(router.id, id)
        return await self._show(router, spec, "destination updated")

    @long_work
    async def delete(self, request: web.Request) -> web.Response:
        async def attempt() -> None:
            router, old = await self.stores.routers.with_destination(router_id(request), destination_id(request))
            known = router.type in self.types.names()
            words = routing_views.exclusive_words(router, old, self.types) if known else None
            await self.stores.routers.delete_destination(router.id, old, words)

        await until_unchanged(attempt, RouterChanged)
        router, destination = router_id(request), destination_id(request)
        log.info("destination deleted", router_id=router, destination_id=destination)
        await self._in_force(router, destination)
        return reply(200, "destination deleted", {})

    async def _in_force(self, router: str, destination: str) -> None:
        """Return when the router's process goes by what is stored, or has been waited for long enough."""
        ends = asyncio.get_running_loop().time() + REFRESH_TIMEOUT
        is_there = True
        while is_there and (left := ends - asyncio.get_running_loop().time()) > 0:
            try:
                await self.asking.ask(router, "refresh", left, destinations=[destination])
                return
            except NotRunning:  # or it is starting, and may have read what was there before
                is_there = await self._is_there(router)
                await asyncio.sleep(REFRESH_PAUSE if is_there else 0)
            except JunebugError as error:
                log.warning("the router's process did not say that it has a change", router_id=router, reason=str(error))
                break
        with suppress(StoreUnavailable):  # it polls, too
            await self.stores.routers.notify_changed(router)

    async def _is_there(self, router: str) -> bool:
        try:
            await self.asking.generation(router, PRESENCE_TIMEOUT)
        except NotRunning:
            return False
        except (TimeoutError, BrokerUnavailable):
            pass
        return True

    async def _show(self, router: RouterSpec, spec: DestinationSpec, description: str) -> web.Response:
        rates = await self.stores.rates.rates(spec.id)
        return reply(200, description, routing_views.destination_json(spec, router, self.types, rates))
