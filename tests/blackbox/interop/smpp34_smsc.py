"""An SMSC of smpp34 (PyPI). See ../test_smpp_interop.py for what these SMSCs do."""

import asyncio
import itertools
import sys

import smpp34


async def main(port: int) -> None:
    server = smpp34.Server("127.0.0.1", port, system_id="smpp34")
    await server.start()
    print("ready", flush=True)
    numbers = itertools.count(1)
    esme = None
    tasks = set()
    while True:
        event = await server.next()
        if isinstance(event, smpp34.Esme):
            esme = event
        elif isinstance(event, smpp34.SubmitSmEvent):
            if event.short_message.startswith(b"refuse"):
                event.reject(smpp34.ESME_RINVDSTADR)
                continue
            message_id = f"id{next(numbers)}x"
            event.accept(message_id)
            assert esme
            tasks.add(asyncio.create_task(after(esme, event, message_id)))


async def after(esme: smpp34.Esme, event: smpp34.SubmitSmEvent, message_id: str) -> None:
    text = f"id:{message_id} sub:001 dlvrd:001 submit date:1611232145 done date:1611232146 stat:DELIVRD err:000 text:"
    await esme.deliver_sm(event.source_addr, text.encode(), source_addr=event.destination_addr, esm_class=4)
    await esme.deliver_sm(
        event.source_addr,
        event.short_message,
        source_addr=event.destination_addr,
        esm_class=event.esm_class,
        data_coding=event.data_coding,
        tlvs=event.tlvs,
    )


asyncio.run(main(int(sys.argv[1])))
