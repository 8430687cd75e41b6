"""What an SMSC accepted from the channel's last process, which was killed: its receipts are told as ever."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from junebug.model.messages import UserMessage
from junebug.smpp.simulator.smsc import Smsc
from junebug.transports.smpp.receipts import Receipt
from junebug.transports.smpp.transport import SmppTransport
from tests.smpp.test_transport import LONG, TO, channel, smsc  # noqa: F401 - a fixture
from tests.worker.conftest import Bench


@pytest.mark.parametrize("options", [{}, {"registered_delivery": False}], ids=["asked", "not asked"])
@pytest.mark.parametrize(
    ("content", "provider_id", "ids"),
    [
        ("Hi", "17", ["17"]),
        ("Hi", "1,7", ["1,7"]),
        ("Hi", None, []),
        (LONG, "17,18,19", ["17", "18", "19"]),
        (LONG, "17,18", []),  # one part has none: of which the others are nobody knows
    ],
)
async def test_its_receipts_are_known(
    bench: Bench,
    smsc: Smsc,  # noqa: F811
    content: str,
    provider_id: str | None,
    ids: list[str],
    options: dict[str, bool],
) -> None:
    created = await channel(bench, smsc, **options)
    transport = bench._workers[created]._transport  # type: ignore[attr-defined]
    assert isinstance(transport, SmppTransport)
    message = UserMessage(to_addr=TO, from_addr=None, content=content, transport_name=created)
    await bench.stores.outbound.put(created, replace(message, event_url=bench.app.url()))
    accepted = await transport.accepted_before(message, provider_id)
    assert (accepted.provider_id, accepted.reports) == (provider_id, ())
    assert len(smsc.messages) == 0
    receipt = Receipt("", "DELIVRD", "delivered", addresses=(TO, "8110"))
    received = [await transport._correlation.received(dataclasses.replace(receipt, provider_id=each)) for each in ids]
    assert received == [message.message_id] * len(ids)
    assert await transport._correlation.received(dataclasses.replace(receipt, provider_id="20")) is None
    told = [(each["event_type"], each["message_id"]) for each in await bench.app.wait(1)] if ids else []
    assert told == [("delivery_succeeded", message.message_id)][: len(ids)]
