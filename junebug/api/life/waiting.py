"""What a message waits for, since when, until when and why: to be sent, or to be known to the application. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from junebug.api.life.facts import Components, Facts
from junebug.api.life.outcome import Delivery
from junebug.api.life.step import Step, shortly, text_of

OWN = frozenset((
    "worker", "amqp", "redis", "log", "callbacks", "set_aside", "outbound", "amqp_queue", "routing", "channel",
))  # fmt: skip
"""Components that are no link to a provider."""
TRIED = ("sent_to_provider", "provider_answered", "no_answer", "not_sent", "failed")
_THROTTLED = frozenset(("ESME_RTHROTTLED", "ESME_RMSGQFUL"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """`what`: for programs; `reason`: a part of a sentence. Times in seconds since 1970."""

    what: str
    since: float
    reason: str
    until: float | None = None

    def json(self) -> dict[str, Any]:
        until = None if self.until is None else text_of(self.until)
        return {"for": self.what, "since": text_of(self.since), "until": until, "reason": self.reason}


def to_be_sent(facts: Facts) -> Waiting:
    """Of an MT that nothing has become of yet."""
    accepted, last = facts.last("accepted"), facts.last(*TRIED)
    since = accepted.timestamp if accepted else facts.steps[0].timestamp if facts.steps else facts.now
    down = _provider_down(facts.senders)
    if last and last.kind == "sent_to_provider" and not down:
        return Waiting("answer", last.timestamp, "the provider has not answered yet")
    held = _held(facts, since, down) or _asked_to_wait(facts, last)
    if held:
        return held
    ahead = "" if facts.queue_length is None else f" ({facts.queue_length} wait in the channel's queues)"
    if facts.rate_limit and facts.queue_length:
        count, seconds = facts.rate_limit
        limit = f"the channel's rate limit lets {count} in {seconds} s leave{ahead}"
        return Waiting("rate limit", since, limit, facts.now + facts.queue_length * seconds / count)
    return Waiting("its turn", since, f"its turn has not come{ahead}")


def _held(facts: Facts, since: float, down: tuple[str, str, float] | None) -> Waiting | None:
    """What keeps all of the channel's messages."""
    if facts.paused:
        _, when = facts.senders.get("outbound", ({}, 0.0))
        more = f"; besides, {down[1]}" if down else ""
        return Waiting("paused", when or since, f"the channel is paused until somebody resumes it{more}")
    worker, when = facts.senders.get("worker", ({}, 0.0))
    if not worker:
        return Waiting("process", since, "the channel's process has not started yet: is Junebug's supervisor running?")
    if worker.get("status") == "down":
        more = f"; besides, {down[1]}" if down else ""
        return Waiting("process", when, f"the channel's process does not run: {worker.get('message')}{more}")
    if down:
        name, reason, when = down
        return Waiting("bind down" if name == "smpp" else "provider down", when, reason)
    for name in ("amqp", "redis"):
        body, when = facts.senders.get(name, ({}, 0.0))
        if body.get("status") in ("down", "degraded"):
            return Waiting(name, when, f"the channel has trouble with {name}: {body.get('message')}")
    return None


def _provider_down(components: Components) -> tuple[str, str, float] | None:
    """(component, reason, since)."""
    for name, (body, when) in components.items():
        if name not in OWN and body.get("status") == "down":
            return name, f"the link to the provider is down: {body.get('type')}: {body.get('message')}", when
    return None


def _asked_to_wait(facts: Facts, last: Step | None) -> Waiting | None:
    """By the provider."""
    if last and last.kind == "provider_answered" and last.get("command_status") in _THROTTLED:
        reason = f"the provider answered {last.get('command_status')}, so it is sent again more slowly"
        return Waiting("throttled", last.timestamp, reason)
    if last and last.kind == "not_sent":
        seconds = last.get("retry_after")
        until = last.timestamp + (seconds if isinstance(seconds, int | float) else 0)
        if until > facts.now:
            return Waiting("retry", last.timestamp, f"it could not be sent: {last.get('reason')}", until)
    for name, (body, when) in facts.senders.items():
        if name not in OWN and body.get("type") == "throttled":
            return Waiting("throttled", when, f"the provider says that too much is sent: {body.get('message')}")
    return None


def to_be_told(facts: Facts, deliveries: Sequence[Delivery]) -> Waiting | None:
    """Of what the application does not know yet; None: nothing waits."""
    delivery = next((each for each in deliveries if each.state == "open"), None)
    if delivery is None:
        return None
    host, reason = delivery.recipient.host, delivery.last.get("reason") if delivery.last else None
    watch = facts.circuits.get(host)
    if watch:
        since, due = facts.now - watch.age, facts.now + max(watch.due_in, 0.0)
        reason = reason or watch.reason or "it does not answer"
        return Waiting("circuit open", since, f"{host} fails and is only probed: {reason}", due)
    if delivery.until and delivery.until > facts.now:
        return Waiting("callback retry", delivery.since, f"{host} did not take it: {reason}", delivery.until)
    body, when = (facts.router or facts.components).get("worker", ({}, 0.0))
    if body.get("status") == "down":
        return Waiting("process", when, f"the process that tells your application does not run: {body.get('message')}")
    failed = f", after it failed ({reason})" if reason else ""
    return Waiting("callback", delivery.since, f"{delivery.recipient.to} at {host} is about to be told{failed}")


def sentence(waiting: Waiting) -> str:
    """As a part of one."""
    next = {"rate limit": "about to leave", "retry": "sent again"}.get(waiting.what, "tried again")
    until = f", {next} at {shortly(waiting.until)}" if waiting.until else ""
    return f"{waiting.reason} (since {shortly(waiting.since)}{until})"
