"""Inbound: each deliver_sm and data_sm is a receipt or a message; it is answered when RabbitMQ (or Redis) holds it.

    receipts.py -> correlation.py -> delivery event, or mo.py -> reassembly.py -> inbound message -> deliver_sm_resp

Neighbour: transport.py owns one and hands the PDUs over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from junebug.errors import StoreUnavailable
from junebug.model.messages import new_id
from junebug.runtime.loop import end_task
from junebug.smpp import constants as c
from junebug.smpp.pdu import DataSm, DeliverSm, response_to
from junebug.smpp.session import Session
from junebug.smpp.text.codecs import UndecodableText
from junebug.transports.base import TransportContext
from junebug.transports.smpp import mo
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.correlation import NotItsMessages, ReceiptCorrelation
from junebug.transports.smpp.pdu_log import PduLog
from junebug.transports.smpp.reassembly import Reassembly, Whole
from junebug.transports.smpp.receipts import Receipt, ReceiptReader, UnreadableReceipt

STORE_PATIENCE = 10.0
"""Seconds that an inbound PDU waits for Redis before the SMSC is told to send it again later."""
STORE_PAUSE = 0.2
SWEEP_INTERVAL = 5.0


class Inbound:
    """One channel's. The session bounds how many PDUs are under way at once."""

    def __init__(
        self, context: TransportContext, config: SmppConfig, correlation: ReceiptCorrelation, pdu_log: PduLog
    ) -> None:
        self._context = context
        self._config = config
        self._correlation = correlation
        self._pdu_log = pdu_log
        self._receipts = ReceiptReader(
            config.receipt_expression, config.receipt_statuses, config.receipt_use_esm_class, config.receipt_without_flag
        )
        is_shared, timeout = config.shards > 1, config.mo_multipart_timeout
        self._reassembly = Reassembly(context.store, timeout, self._deliver_whole, is_shared=is_shared)
        self._tasks: set[asyncio.Task[None]] = set()

    def on_pdu(self, session: Session, pdu: DeliverSm | DataSm) -> None:
        task = asyncio.create_task(self._handle(session, pdu))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """What was not answered by now is the SMSC's to send again."""
        for task in list(self._tasks):
            await end_task(task)

    async def sweep_forever(self) -> None:
        """Deliver what waits for its missing parts for too long."""
        interval = min(SWEEP_INTERVAL, self._config.mo_multipart_timeout)
        while True:
            try:
                await self._reassembly.sweep()
            except StoreUnavailable:
                pass
            except Exception:
                self._context.log.exception("incomplete inbound messages could not be looked through")
            await asyncio.sleep(interval)

    async def _handle(self, session: Session, pdu: DeliverSm | DataSm) -> None:
        if not self._context.may_begin(pdu.raw[c.MIN_PDU_LENGTH :]):  # the same when it comes under another sequence_number
            await self._context.set_aside(pdu.raw)
            session.respond(response_to(pdu.command_id, pdu.sequence_number, c.ESME_ROK))
            return
        entry = _Entry(lambda message_id: self._pdu_log("in", pdu.raw, pdu, message_id))
        status = c.ESME_ROK
        try:
            inbound = mo.read(pdu)
            addresses = (pdu.source_addr, pdu.destination_addr)
            receipt = self._receipts.read(pdu.esm_class, pdu.tlvs, mo.receipt_text(inbound), addresses)
            if receipt is None or not await self._match(receipt, entry):
                await self._deliver(inbound, entry)
        except UnreadableReceipt as error:
            self._context.log.warning("receipt left out", reason=str(error))
        except UndecodableText as error:
            self._context.log.warning("inbound message refused", reason=str(error), from_addr=pdu.source_addr)
            status = self._config.decoding_error
        except StoreUnavailable as error:
            self._context.log.warning("inbound PDU refused for now", reason=str(error))
            status = c.ESME_RX_T_APPN
        except Exception:
            self._context.log.exception("inbound PDU failed")
            status = c.ESME_RX_T_APPN
        finally:
            entry.write(None)
        session.respond(response_to(pdu.command_id, pdu.sequence_number, status), tag=entry.message_id)

    async def _match(self, receipt: Receipt, entry: _Entry) -> bool:
        """False: it is a message that only looks like a receipt."""
        try:
            message_id = await self._with_store(lambda: self._correlation.received(receipt))
        except NotItsMessages:
            return False
        entry.write(message_id)
        return message_id is not None or receipt.certain

    async def _deliver(self, inbound: mo.Inbound, entry: _Entry) -> None:
        content, part = mo.decode([inbound.octets], self._config.codecs_of_data_codings), inbound.part
        if mo.is_unreadable(content, is_part=part is not None):
            raise UndecodableText(f"no character of it is of data_coding 0x{inbound.octets.data_coding:02x}")
        if part:
            return entry.write(await self._with_store(lambda: self._reassembly.add(inbound, part)))
        if not content and not self._config.allow_empty_messages:
            raise UndecodableText("it is empty, and allow_empty_messages is off")
        message_id, parameters = new_id(), inbound.parameters()
        entry.write(message_id)
        await self._context.inbound(
            to_addr=inbound.destination_addr, from_addr=inbound.source_addr, content=content,
            transport_type=self._config.transport_type, message_id=message_id,
            helper_metadata={"smpp": {"tlvs": parameters}} if parameters else {},
        )  # fmt: skip

    async def _deliver_whole(self, whole: Whole) -> None:
        told: dict[str, Any] = {"tlvs": whole.parameters} if whole.parameters else {}
        if whole.missing:
            told |= {"parts": whole.parts, "missing_parts": list(whole.missing)}
        metadata: dict[str, Any] = {"smpp": told} if told else {}
        if whole.missing:
            metadata["incomplete"] = True
        await self._context.inbound(
            to_addr=whole.destination_addr, from_addr=whole.source_addr,
            content=mo.decode_anyway(whole.texts, self._config.codecs_of_data_codings),
            transport_type=self._config.transport_type, message_id=whole.message_id, helper_metadata=metadata,
        )  # fmt: skip

    @staticmethod
    async def _with_store(call: Callable[[], Awaitable[str | None]]) -> str | None:
        """Its result; tried again for a while when Redis is away. Raises StoreUnavailable."""
        ends = asyncio.get_running_loop().time() + STORE_PATIENCE
        while True:
            try:
                return await call()
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > ends:
                    raise
            await asyncio.sleep(STORE_PAUSE)


class _Entry:
    """The log line of an inbound PDU: written once, when its message's id is known or will not be."""

    def __init__(self, write: Callable[[str | None], None]) -> None:
        self._write: Callable[[str | None], None] | None = write
        self.message_id: str | None = None

    def write(self, message_id: str | None) -> None:
        if self._write:
            write, self._write = self._write, None
            self.message_id = message_id
            write(message_id)
