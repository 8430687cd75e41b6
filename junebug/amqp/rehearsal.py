"""The frames that a start is made of, made and read without a link. Neighbours: worker/rehearsal.py, which says what for."""

from __future__ import annotations

import pamqp.frame
from pamqp import commands as amqp

_METHODS = (
    amqp.Channel.Open(), amqp.Channel.OpenOk(),
    amqp.Exchange.Declare(exchange="x"), amqp.Exchange.DeclareOk(),
    amqp.Queue.Declare(queue="x", durable=True, arguments={"x-max-length": 1, "x-overflow": "drop-head"}),
    amqp.Queue.DeclareOk(queue="x", message_count=0, consumer_count=0),
    amqp.Basic.Qos(prefetch_count=1), amqp.Basic.QosOk(),
    amqp.Basic.Consume(queue="x", consumer_tag="x"), amqp.Basic.ConsumeOk(consumer_tag="x"),
    amqp.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0), amqp.Channel.CloseOk(),
)  # fmt: skip


def rehearse() -> None:
    """Each once."""
    for method in _METHODS:
        pamqp.frame.unmarshal(pamqp.frame.marshal(method, 1))
