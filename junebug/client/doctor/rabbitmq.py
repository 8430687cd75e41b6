"""RabbitMQ's facts judged. Pure. Neighbour: amqp/probe.py finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from junebug.amqp.connection import address
from junebug.amqp.probe import BrokerFacts
from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.config.declaration import AmqpSettings

OLDEST = (3, 10)
FEW_CHANNELS, TOO_FEW_CHANNELS = 128, 16
"""That a connection may have: the API opens one for each request that looks at a queue."""
SMALL_FRAMES = 16_384
CONNECTIONS, USABLE = 2, 0.8
"""Of each process; the share of RabbitMQ's files that may be connections."""


def judge(facts: BrokerFacts, settings: AmqpSettings, processes: int, files: int | None) -> Iterator[Finding]:
    """`files`: that it may open, where that is known."""
    version = tuple(map(int, re.findall(r"\d+", facts.version)[:2]))
    if "rabbit" in facts.product.lower() and version < OLDEST:
        found = f"{address(settings)} is RabbitMQ {facts.version}"
        yield failed("rabbitmq", found, f"install RabbitMQ {'.'.join(map(str, OLDEST))} or newer")
    else:
        yield ok("rabbitmq", f"{facts.product} {facts.version} answers at {address(settings)}, vhost {settings.vhost}")
    yield _use(facts, settings)
    yield _fence(facts)
    yield _alarms(facts)
    yield _limits(facts)
    if files is not None:
        yield _files(files, processes)


def _use(facts: BrokerFacts, settings: AmqpSettings) -> Finding:
    check = "rabbitmq use"
    for step, why in facts.refused.items():
        if "ACCESS_REFUSED" in why or "access to" in why:
            advice = (
                f"rabbitmqctl set_permissions -p {settings.vhost} {settings.username} '.*' '.*' '.*': Junebug makes and deletes"
                " queues, and the exchange `vumi`"
            )
        elif "limit" in why:
            advice = f"rabbitmqctl list_vhost_limits -p {settings.vhost}, and list_user_limits: raise or clear what is reached"
        else:
            advice = "look at RabbitMQ's log, and at `rabbitmq-diagnostics status`"
        return failed(check, f"cannot {step}: {why}", advice)
    if facts.blocked:
        return warning(check, "not tried: it takes no messages", "see the next line")
    return ok(check, "a queue was made, a message went through the exchange vumi and came back")


def _fence(facts: BrokerFacts) -> Finding:
    check = "rabbitmq fence"
    if facts.is_fence:
        return ok(check, "nobody can consume a queue beside its owner" if not facts.refused else "not tried")
    advice = "set the vhost's default_queue_type to classic, and have Junebug's queues made anew (docs/scale-out.md#limits)"
    return failed(check, "two may consume a queue exclusively at the same time: it is no classic queue", advice)


def _alarms(facts: BrokerFacts) -> Finding:
    if facts.blocked:
        advice = "free its disk or memory (`rabbitmq-diagnostics alarms`): until then nothing can be sent, and nothing is lost"
        return failed("rabbitmq alarms", f"it takes no messages: {facts.blocked}", advice)
    return ok("rabbitmq alarms", "none" if not facts.refused else "none that was seen")


def _limits(facts: BrokerFacts) -> Finding:
    check = "rabbitmq limits"
    shown = f"channel_max {facts.channel_max}, frame_max {facts.frame_max or 'none'}, heartbeat {facts.heartbeat} s"
    if facts.channel_max < FEW_CHANNELS:
        level = failed if facts.channel_max < TOO_FEW_CHANNELS else warning
        return level(check, shown, f"set channel_max in rabbitmq.conf to {FEW_CHANNELS} or more (its own default is 2047)")
    if 0 < facts.frame_max < SMALL_FRAMES:
        return warning(check, shown, "leave frame_max in rabbitmq.conf at its default, 131072: small frames cost time")
    return ok(check, shown)


def _files(files: int, processes: int) -> Finding:
    most, wanted = int(files * USABLE), CONNECTIONS * processes
    shown = f"it may open {files} files, so about {most} connections; Junebug needs {wanted}"
    if wanted > most:
        advice = "`systemctl edit rabbitmq-server`: [Service] LimitNOFILE=65536. Beyond its limit it lets connections hang"
        return failed("rabbitmq files", shown, advice)
    return ok("rabbitmq files", shown)
