"""`?dry_run=true`: what a message would be when it is sent, when it would leave, and what it would cost. Nothing is sent or kept.

The message comes from the code that sends (compose.py), how it is encoded from the channel's type (`ChannelType.plan`).
Neighbours: handlers/messages.py and handlers/routed_messages.py ask; model/plan.py has what a type says.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiohttp import web

from junebug.api.channel_queues import ChannelQueues
from junebug.api.http import read_flag, reply
from junebug.api.spec_cache import SpecCache
from junebug.api.views import QueueCounts
from junebug.errors import ApiUsageError
from junebug.model.messages import UserMessage
from junebug.model.plan import Plan
from junebug.model.presenter import message_body
from junebug.model.routing import ChannelState, Choice, state_of
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.stores import Stores

DRY_RUN = "dry_run"


def is_dry_run(request: web.Request) -> bool:
    """Whether the query asks for one. Raises ApiUsageError."""
    return bool(request.rel_url.raw_query_string) and read_flag(request.query, DRY_RUN)


def refuse(request: web.Request) -> None:
    """Where many are sent at a time there is none. Raises ApiUsageError."""
    if is_dry_run(request):
        raise ApiUsageError("dry_run: of single messages only; many at a time are sent, or not")


@dataclass(frozen=True)
class DryRuns:
    stores: Stores
    registry: Registry
    specs: SpecCache
    queues: ChannelQueues

    async def answer(
        self, message: UserMessage, choice: Choice | None = None, character_limit: int | None = None
    ) -> web.Response:
        """`choice`: of a router's. `character_limit`: of whoever sends. Raises ChannelNotFound, StoreUnavailable."""
        channel = message.transport_name
        spec = await self.specs.get(channel)
        plan = self.registry.plan(spec.type, spec.config, message)
        components, rates, counts = await asyncio.gather(
            self.stores.statuses.components(channel), self.stores.rates.rates(channel), self.queues.counts(spec)
        )
        limit = character_limit or spec.character_limit
        limit = self.registry.character_limit(spec.type) if limit is None else limit
        body = message_body(message, channel)
        del body["message_id"]  # it will not be that of any message
        routed = {"reason": choice.reason, "candidates": choice.candidates} if choice else {}
        return reply(200, "message not sent", {
            "dry_run": True, "channel_id": channel, **routed,
            "to": message.to_addr, "from": message.from_addr, "content": message.content, "message": body,
            "character_limit": limit or None, **plan_json(plan),
            "estimate": estimate(spec, plan, message.priority, state_of(spec, components), counts, rates["outbound_message"]),
            "cost": cost(spec, plan),
        })  # fmt: skip


def plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "encoding": dataclasses.asdict(plan.encoding) if plan.encoding else None,
        "parts": [dataclasses.asdict(part) for part in plan.parts],
        "characters": sum(part.characters for part in plan.parts),
        "octets": sum(part.octets for part in plan.parts),
        "replaced": [dataclasses.asdict(each) for each in plan.replaced],
        "would_replace": [dataclasses.asdict(each) for each in plan.would_replace],
        "rejected": plan.rejected,
    }


def estimate(
    spec: ChannelSpec, plan: Plan, priority: int, state: ChannelState, counts: QueueCounts | None, rate: float
) -> dict[str, Any]:
    """When the last part would leave: in how many `seconds`, null: nobody knows. `rate`: messages that left a second lately."""
    ahead = None
    if counts is not None:
        ahead = sum(counts.sending.values()) + sum(count for each, count in counts.queued.items() if each >= priority)
    seconds, reasons = _seconds(spec, plan, state, ahead, rate)
    return {"seconds": None if seconds is None else round(seconds, 3), "waiting": ahead, "reasons": reasons}


def _seconds(
    spec: ChannelSpec, plan: Plan, state: ChannelState, ahead: int | None, rate: float
) -> tuple[float | None, list[str]]:
    if plan.rejected:
        return None, ["it would be rejected"]
    if not state.is_ready:
        return None, [f"the channel sends nothing at the moment: {state.reason}"]
    if ahead is None:
        return None, ["RabbitMQ does not tell what waits"]
    waits, reasons, parts = [0.0], [], max(1, len(plan.parts))
    if ahead:
        reasons.append(f"{ahead} messages leave before it")
    if spec.rate_limit_count and spec.rate_limit_window:
        count, window = spec.rate_limit_count, spec.rate_limit_window
        reasons.append(f"at most {count} leave in {window} s (rate_limit_count, rate_limit_window)")
        waits.append(max(0, ahead + parts - count) * window / count)
    if plan.pace:
        reasons.append(f"at most {plan.pace:g} parts leave a second")
        waits.append((ahead + parts - 1) / plan.pace)
    if len(waits) > 1 or not ahead:
        return max(waits), reasons
    if not rate:
        return None, [*reasons, "none has left lately"]
    return ahead / rate, [*reasons, f"{rate:g} a second left lately"]


def cost(spec: ChannelSpec, plan: Plan) -> dict[str, Any] | None:
    """None: the channel has no price."""
    price: Mapping[str, Any] | None = spec.price
    if not price:
        return None
    amount = Decimal(str(price["amount"])) * len(plan.parts)
    return {
        "amount": float(amount), "currency": price.get("currency"), "per_part": price["amount"], "parts": len(plan.parts),
    }  # fmt: skip
