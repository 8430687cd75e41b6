"""Events that travel together on a channel's own event queue, pure: one JSON object a line, so that none is encoded twice.

An application's own queue (`{amqp_queue}.event`) gets each as a message of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST = 20
"""Events in a message: they are acknowledged together, so a crash repeats so many of them at the most for one of them."""
LARGEST = 64 * 1024
"""Octets of a message of several."""


def together(wires: Iterable[bytes]) -> list[bytes]:
    """As few messages as may be, in their order."""
    messages: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for wire in wires:
        if batch and (len(batch) >= MOST or size + len(wire) > LARGEST):
            messages.append(b"\n".join(batch))
            batch, size = [], 0
        batch.append(wire)
        size += len(wire)
    if batch:
        messages.append(b"\n".join(batch))
    return messages


def apart(body: bytes) -> list[bytes]:
    """The events in a message, each as it was given; a message of one that others wrote may have line ends within."""
    return body.split(b"\n") if b"}\n{" in body else [body]
